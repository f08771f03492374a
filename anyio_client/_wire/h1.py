"""HTTP/1.1 (RFC 9112): the strict path, which hands over to h11 whatever is not strictly canonical.

Nearly every exchange looks the same: ``HTTP/1.1 200 OK``, fields as ``Name: value`` with CRLF, a Content-Length or plain
chunks. Such answers are read here, by a few regular expressions. At the first byte that looks otherwise, and before
anything of it was delivered, h11 (:mod:`.h11wire`) takes over: the head is read by it from its beginning, a chunked body
from the beginning of a chunk. So what is accepted, and what is an error, is h11's to say; a differential test holds the
two against each other. ``ANYIO_CLIENT_H11=1`` in the environment switches the strict path off.

What is canonical: version 1.1, a status from 200 to 599 (or an interim one but 101), field lines without obsolete folding or white
space in odd places, in visible ASCII; one Content-Length of digits, or one ``Transfer-Encoding: chunked``, not both;
``Connection`` absent, ``keep-alive`` or ``close``; chunk sizes of hexadecimal digits, no extensions, no trailers.
"""

from __future__ import annotations

import os
import re
from typing import Final

from .._model.head import ResponseHead
from .._model.headers import Headers
from .._model.request import Request
from .h11wire import MAX_HEAD_SIZE, MAX_INTERIM_RESPONSES, H11Wire, OneExchange, parse_keepalive
from .protocol import DataReceived, Ended, InterimReceived, ResponseReceived, WireEvent, WireMisuse

__all__ = ["MAX_HEAD_SIZE", "MAX_INTERIM_RESPONSES", "H1Wire"]

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE: Final = r"(?:[!-~](?:[ -~\t]*[!-~])?)?"
# The blank line at the end is not part of what is matched.
_HEAD: Final = re.compile(rf"HTTP/1\.1 ([1-5][0-9][0-9])(?: [ -~]*)?\r\n((?>{_TOKEN}: ?{_VALUE}\r\n)*)")
_FIELD: Final = re.compile(rf"({_TOKEN}): ?({_VALUE})\r\n")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
# What may still become one of these, and is kept.
_PART_OF_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{0,15}\r?")
_PART_OF_LAST: Final = re.compile(rb"0+\r\n\r?")

_OF_THE_BODY: Final = ("content-length", "transfer-encoding")  # which an interim response has not
_ODD: Final = frozenset(("connection", "transfer-encoding", "upgrade"))  # fields of a request that are h11's to judge

ONLY_H11: Final = bool(os.environ.get("ANYIO_CLIENT_H11"))

# What we are reading of the response.
_HEADS, _LENGTH_BODY, _CHUNK_SIZE, _CHUNK_DATA, _CHUNK_END = range(5)


class H1Wire(OneExchange):
    """One HTTP/1.1 connection, client side. See :class:`~anyio_client._wire.protocol.Wire`.

    ``forwarded``: the peer is a proxy, which is sent requests in absolute form (RFC 9112 section 3.2.2), with
    ``proxy_authorization`` where they bring no credentials for it themselves.
    """

    def __init__(
        self,
        *,
        max_head_size: int = MAX_HEAD_SIZE,
        forwarded: bool = False,
        proxy_authorization: str | None = None,
    ) -> None:
        super().__init__(max_head_size, forwarded, proxy_authorization)
        self._slow: H11Wire | None = None  # carries the current exchange
        # Of the current exchange, from open() on:
        self._request: Request
        self._declared: int | None  # the request's Content-Length; None for chunks
        self._sent: int
        self._head: bytes  # of a chunked response, for h11
        self._any_chunks: bool
        self._state: int
        self._left: int  # bytes of the body, or of the chunk, that are still to come
        self._rest: bytes  # what came and could not be used yet: a part of a chunk's framing

    # -- sending

    def open(self, request: Request, end: bool) -> int:
        if not self._usable or self._busy:
            raise RuntimeError("this connection cannot carry a further exchange now")
        self._slow = None
        self._request = request
        self._sent = self._interim = 0
        self._finished = self._answered = self._any_chunks = False
        self._state = _HEADS
        self._rest = b""
        self._keepalive = None
        head = None if ONLY_H11 else self._write_head(request, end)
        self._exchange += 1
        self._busy = True
        if head is None:
            slow = self._slow = self._make_slow()
            try:
                slow.open(request, end)
            except WireMisuse:
                self._usable = self._busy = False
                raise
            self._out.append(slow.take_output())
        else:
            self._out.append(head)
        self._finished = end
        return self._exchange

    def _write_head(self, request: Request, end: bool) -> bytes | None:
        """The head as h11 writes it, None where it should look at the request itself."""
        lengths = hosts = 0
        declared: int | None = None
        host = b""
        lines: list[bytes] = []
        for lower, name, value, raw in request.headers.fields:
            if lower == "host":
                hosts += 1
                host = b"%b: %b\r\n" % (name.encode("ascii"), raw)
                continue
            if lower == "content-length":
                lengths += 1
                if not _LENGTH.fullmatch(value):
                    return None
                declared = int(value)
            elif lower in _ODD:
                return None
            lines.append(b"%b: %b\r\n" % (name.encode("ascii"), raw))
        if hosts != 1 or lengths > 1 or (end and declared):
            return None
        if declared is None:
            if end:
                declared = 0
            else:
                lines.append(b"Transfer-Encoding: chunked\r\n")  # RFC 9112 section 6.1
        target = request.url.target
        if self._forwarded:
            target = request.url.origin + target
            if self._proxy_authorization is not None and "proxy-authorization" not in request.headers:
                lines.append(b"Proxy-Authorization: %b\r\n" % self._proxy_authorization.encode("ascii"))
        self._declared = declared
        return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (
            request.method.encode("ascii"),
            target.encode("ascii"),
            host,
            b"".join(lines),
        )

    def send(self, exchange: int, data: bytes | bytearray | memoryview) -> int:
        if exchange != self._exchange or not self._busy:
            return len(data)
        if self._slow is not None:
            try:
                return self._slow.send(exchange, data)
            finally:
                self._take_from(self._slow)
        size = len(data)
        self._sent += size
        if self._declared is None:
            if size:
                self._out += (b"%x\r\n" % size, bytes(data), b"\r\n")
        elif self._sent > self._declared:
            self._usable = False
            raise WireMisuse("Too much data for declared Content-Length")
        else:
            self._out.append(bytes(data))
        return size

    def finish(self, exchange: int, trailers: Headers | None = None) -> None:
        if exchange != self._exchange or not self._busy or self._finished:
            return
        if self._slow is not None:
            try:
                self._slow.finish(exchange, trailers)
            finally:
                self._take_from(self._slow)
        elif self._declared is None:
            lines = b"".join(b"%b: %b\r\n" % field for field in trailers.raw) if trailers else b""
            self._out.append(b"0\r\n%b\r\n" % lines)
        elif trailers or self._sent < self._declared:
            self._usable = False
            too_little = self._sent < self._declared
            raise WireMisuse(
                "Too little data for declared Content-Length" if too_little else "Content-Length and trailers don't mix"
            )
        self._finished = True

    # -- receiving

    def receive(self, data: bytes) -> list[WireEvent]:
        events: list[WireEvent] = []
        if not self._busy:
            # Between exchanges a peer has nothing to say but goodbye: stray bytes must never become an answer.
            self._usable = False
        elif self._slow is not None:
            events = self._slow.receive(data)
            self._take_from(self._slow)
        elif not data:
            self._fail(events, "the connection ended before the answer did", lost=True)
        else:
            if self._rest:
                data = self._rest + data
                self._rest = b""
            self._read(data, events)
        return events

    def _read(self, data: bytes, events: list[WireEvent]) -> None:
        place = 0
        if self._state == _HEADS:
            place = self._read_heads(data, events)
            if place < 0:
                return
        if self._state == _LENGTH_BODY:
            piece = data[place : place + self._left] if place or len(data) > self._left else data
            self._left -= len(piece)
            if piece:
                events.append(DataReceived(self._exchange, piece))
            if not self._left:
                self._end(events, place + len(piece) < len(data))
            return
        self._read_chunks(data, place, events)

    def _read_heads(self, data: bytes, events: list[WireEvent]) -> int:
        """Interim heads and the final one; where its body begins, or -1 where there is no more to do here."""
        place = 0
        while True:
            end = data.find(b"\r\n\r\n", place)
            # A head that comes in pieces is h11's, which knows what may still become of it.
            if end < 0 or end + 4 - place > self._max_head_size:
                return self._hand_over(data[place:], events)
            try:
                text = data[place : end + 2].decode("ascii")
            except UnicodeDecodeError:
                return self._hand_over(data[place:], events)
            match = _HEAD.fullmatch(text)
            if match is None:
                return self._hand_over(data[place:], events)
            status = int(match[1])
            if status == 101:
                return self._hand_over(data[place:], events)
            fields = [(name.lower(), name, value, value.encode()) for name, value in _FIELD.findall(match[2])]
            if status >= 200:
                return self._take_head(data, place, end + 4, status, fields, events)
            if any(field[0] in _OF_THE_BODY for field in fields):
                return self._hand_over(data[place:], events)
            self._interim += 1
            if self._interim > MAX_INTERIM_RESPONSES:
                self._fail(events, f"more than {MAX_INTERIM_RESPONSES} interim responses", lost=False)
                return -1
            events.append(InterimReceived(self._exchange, ResponseHead(status, Headers.of_fields(fields))))
            place = end + 4
            if place == len(data):
                return -1

    def _take_head(
        self,
        data: bytes,
        place: int,
        end: int,
        status: int,
        fields: list[tuple[str, str, str, bytes]],
        events: list[WireEvent],
    ) -> int:
        length: str | None = None
        chunked = closes = False
        for lower, _, value, _ in fields:
            if lower == "content-length":
                if length is not None or not _LENGTH.fullmatch(value):
                    return self._hand_over(data[place:], events)
                length = value
            elif lower == "transfer-encoding":
                if chunked or value != "chunked":
                    return self._hand_over(data[place:], events)
                chunked = True
            elif lower == "connection":
                if value.lower() == "close":
                    closes = True
                elif value.lower() != "keep-alive":
                    return self._hand_over(data[place:], events)
            elif lower == "keep-alive" and self._keepalive is None:
                self._keepalive = parse_keepalive(value)
        empty = status in (204, 304) or self._request.method == "HEAD"
        if (chunked and length is not None) or not (chunked or length or empty):
            return self._hand_over(data[place:], events)
        if closes:
            self._usable = False
        self._answered = True
        events.append(ResponseReceived(self._exchange, ResponseHead(status, Headers.of_fields(fields))))
        if chunked and not empty:
            self._head = data[place:end]
            self._state = _CHUNK_SIZE
        elif empty or not (left := int(length or "0")):
            self._end(events, end < len(data))
            return -1
        else:
            self._state = _LENGTH_BODY
            self._left = left
        return end if end < len(data) else -1

    def _read_chunks(self, data: bytes, place: int, events: list[WireEvent]) -> None:
        size = len(data)
        while place < size:
            if self._state == _CHUNK_DATA:
                piece = data[place : place + self._left]
                events.append(DataReceived(self._exchange, piece))
                place += len(piece)
                self._left -= len(piece)
                if self._left:
                    return
                self._state = _CHUNK_END
            elif self._state == _CHUNK_END:
                if data[place : place + 2] == b"\r\n":
                    place += 2
                    self._state = _CHUNK_SIZE
                elif data[place:] == b"\r":
                    self._rest = b"\r"
                    return
                else:
                    self._fail(events, "the response's chunked body is malformed", lost=False)
                    return
            else:
                match = _CHUNK.match(data, place)
                if match is None:
                    self._keep_or_hand_over(data[place:], _PART_OF_SIZE, events)
                    return
                self._left = int(match[1], 16)
                if self._left:
                    place = match.end()
                    self._state = _CHUNK_DATA
                    self._any_chunks = True
                elif data[match.end() : match.end() + 2] == b"\r\n":
                    self._end(events, match.end() + 2 < size)
                    return
                else:  # trailers, or not all there
                    self._keep_or_hand_over(data[place:], _PART_OF_LAST, events)
                    return

    def _keep_or_hand_over(self, rest: bytes, canonical: re.Pattern[bytes], events: list[WireEvent]) -> None:
        if canonical.fullmatch(rest):
            self._rest = rest
        else:
            self._hand_over(rest, events)

    def _end(self, events: list[WireEvent], stray: bool) -> None:
        self._busy = False
        if stray or not self._finished:
            self._usable = False
        events.append(Ended(self._exchange, None))

    # -- h11

    def _make_slow(self) -> H11Wire:
        return H11Wire(
            max_head_size=self._max_head_size,
            forwarded=self._forwarded,
            proxy_authorization=self._proxy_authorization,
            last_exchange=self._exchange - 1,
        )

    def _hand_over(self, data: bytes, events: list[WireEvent]) -> int:
        """Let h11 read on from *data*, the beginning of a head or of a chunk. Always -1: there is no more to do here."""
        slow = self._slow = self._make_slow()
        slow.take_over(self._request, self._declared, self._sent, self._finished, self._interim)
        if self._answered:
            slow.receive(self._head)  # what it says of the head was delivered
            slow.count(2 * self._any_chunks)  # the end of the last chunk
        events += slow.receive(data)
        self._take_from(slow)
        return -1

    def _take_from(self, slow: H11Wire) -> None:
        """What h11 has found out counts here too."""
        if output := slow.take_output():
            self._out.append(output)
        self._usable = self._usable and slow.capacity() > 0
        self._busy = slow.is_busy
        self._keepalive = slow.keepalive()
