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
from itertools import islice
from typing import TYPE_CHECKING, Final

from .._model.head import ResponseHead
from .._model.headers import Field, Headers
from .._model.request import Request
from .one_exchange import MAX_HEAD_SIZE, MAX_INTERIM_RESPONSES, OneExchange, parse_keepalive
from .protocol import DataReceived, Ended, InterimReceived, ResponseReceived, WireEvent, WireMisuse

if TYPE_CHECKING:
    from .h11wire import H11Wire

__all__ = ["MAX_HEAD_SIZE", "MAX_INTERIM_RESPONSES", "H1Wire"]

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE: Final = r"(?:[!-~](?:[ -~\t]*[!-~])?)?"
_STATUS: Final = re.compile(r"HTTP/1\.1 ([1-5][0-9][0-9])(?: [ -~]*)?")
_FIELD: Final = re.compile(rf"({_TOKEN}): ?({_VALUE})")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
# What may still become one of these, and is kept.
_PART_OF_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{0,15}\r?")
_PART_OF_LAST: Final = re.compile(rb"0+\r\n\r?")

_OF_THE_BODY: Final = ("content-length", "transfer-encoding")  # which an interim response has not
# Fields of a request that are looked at; but for the first two they are h11's to judge.
_LOOKED_AT: Final = frozenset(("host", "content-length", "connection", "transfer-encoding", "upgrade"))

_OF_THE_FRAMING: Final = frozenset(("content-length", "transfer-encoding", "connection", "keep-alive"))

# Servers say the same in each answer: lines that were read are remembered, by those names that hold no secrets.
_REMEMBERED: Final = frozenset(
    [
        "accept-ranges",
        "access-control-allow-origin",
        "alt-svc",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "keep-alive",
        "server",
        "strict-transport-security",
        "transfer-encoding",
        "vary",
        "via",
        "x-content-type-options",
    ]
)
_MAX_REMEMBERED: Final = 500
_MAX_LINE: Final = 120
_fields: dict[str, Field] = {}
_statuses: dict[str, int] = {}

ONLY_H11: Final = bool(os.environ.get("ANYIO_CLIENT_H11"))

# What we are reading of the response.
_HEADS, _LENGTH_BODY, _CHUNK_SIZE, _CHUNK_DATA, _CHUNK_END = range(5)


class H1Wire(OneExchange):
    """One HTTP/1.1 connection, client side. See :class:`~anyio_client._wire.protocol.Wire`.

    ``forwarded``: the peer is a proxy, which is sent requests in absolute form (RFC 9112 section 3.2.2), with
    ``proxy_authorization`` where they bring no credentials for it themselves.
    """

    closing: bool

    def __init__(
        self,
        *,
        max_head_size: int = MAX_HEAD_SIZE,
        forwarded: bool = False,
        proxy_authorization: str | None = None,
    ) -> None:
        super().__init__(max_head_size, forwarded, proxy_authorization)
        self._slow: H11Wire | None = None  # carries the current exchange
        self._folded: tuple[ResponseHead, bytes] | None = None
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
        if self.closing or self._busy:
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
                self._busy, self.closing = False, True
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
        headers = request.headers
        fields, block = headers.fields, headers.block
        lines: list[bytes] = []
        if block is not None:
            lines.append(block.lines)
            fields = fields[block.size :]
        for lower, name, value, raw, line in fields:
            if not line:
                line = b"%b: %b\r\n" % (name.encode("ascii"), raw)
            if lower in _LOOKED_AT:
                if lower == "host":
                    hosts += 1
                    host = line
                    continue
                if lower != "content-length" or not _LENGTH.fullmatch(value):
                    return None
                lengths += 1
                declared = int(value)
            lines.append(line)
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
            self.closing = True
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
            self.closing = True
            too_little = self._sent < self._declared
            raise WireMisuse(
                "Too little data for declared Content-Length" if too_little else "Content-Length and trailers don't mix"
            )
        self._finished = True

    # -- receiving

    def receive(self, data: bytes) -> list[WireEvent]:
        answer = self.receive_folded(data)
        if isinstance(answer, list):
            return answer
        head, content = answer
        whole: list[WireEvent] = [ResponseReceived(self._exchange, head)]
        if content:
            whole.append(DataReceived(self._exchange, content))
        whole.append(Ended(self._exchange))
        return whole

    def receive_folded(self, data: bytes) -> list[WireEvent] | tuple[ResponseHead, bytes]:
        """The same; a final response that came whole, and nothing with it, is not three events but its head and body."""
        events: list[WireEvent] = []
        if not self._busy:
            # Between exchanges a peer has nothing to say but goodbye: stray bytes must never become an answer.
            self.closing = True
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
            if self._folded is not None:
                folded, self._folded = self._folded, None
                return folded
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
                lines = data[place:end].decode("ascii").split("\r\n")
            except UnicodeDecodeError:
                return self._hand_over(data[place:], events)
            status = _statuses.get(lines[0]) or _read_status(lines[0])
            fields: list[Field] = []
            for line in islice(lines, 1, None):
                field = _fields.get(line) or _read_field(line)
                if field is None:
                    return self._hand_over(data[place:], events)
                fields.append(field)
            if status == 101 or not status:
                return self._hand_over(data[place:], events)
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
        fields: list[Field],
        events: list[WireEvent],
    ) -> int:
        length: str | None = None
        chunked = closes = False
        for lower, _, value, _, _ in fields:
            if lower not in _OF_THE_FRAMING:
                continue
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
            elif self._keepalive is None:
                self._keepalive = parse_keepalive(value)
        empty = status in (204, 304) or self._request.method == "HEAD"
        if (chunked and length is not None) or not (chunked or length or empty):
            return self._hand_over(data[place:], events)
        if closes:
            self.closing = True
        self._answered = True
        response = ResponseHead(status, Headers.of_fields(fields))
        left = 0 if empty else int(length or "0")
        if self._finished and not events and len(data) - end == left and (empty or not chunked):
            self._busy = False
            self._folded = (response, data[end:])
            return -1
        events.append(ResponseReceived(self._exchange, response))
        if chunked and not empty:
            self._head = data[place:end]
            self._state = _CHUNK_SIZE
        elif not left:
            self._end(events, end < len(data))
            return -1
        else:
            self._state = _LENGTH_BODY
            self._left = left
        return end if end < len(data) else -1

    def _read_chunks(self, data: bytes, place: int, events: list[WireEvent]) -> None:
        pieces: list[bytes] = []
        place = self._take_chunks(data, place, pieces)
        if pieces:  # one event for each read, whatever the size of the chunks
            events.append(DataReceived(self._exchange, pieces[0] if len(pieces) == 1 else b"".join(pieces)))
        if place == len(data):
            return
        rest = data[place:]
        if self._state == _CHUNK_END:
            if rest == b"\r":
                self._rest = rest
            else:
                self._fail(events, "the response's chunked body is malformed", lost=False)
        elif (match := _CHUNK.match(rest)) is None:
            self._keep_or_hand_over(rest, _PART_OF_SIZE, events)
        elif rest[match.end() : match.end() + 2] == b"\r\n":
            self._end(events, match.end() + 2 < len(rest))
        else:  # trailers, or not all there
            self._keep_or_hand_over(rest, _PART_OF_LAST, events)

    def _take_chunks(self, data: bytes, place: int, pieces: list[bytes]) -> int:
        """What there is of chunks with data; where that ends: at the end of *data*, at the last chunk, or where something
        is not canonical."""
        size = len(data)
        while place < size:
            if self._state == _CHUNK_SIZE:
                match = _CHUNK.match(data, place)
                if match is None:
                    return place
                left = int(match[1], 16)
                if not left:
                    return place
                self._any_chunks = True
                place = match.end()
                end = place + left
                if end + 2 <= size and data[end] == 13 and data[end + 1] == 10:  # nearly always all of it is there
                    pieces.append(data[place:end])
                    place = end + 2
                    continue
                self._left = left
                self._state = _CHUNK_DATA
            elif self._state == _CHUNK_DATA:
                piece = data[place : place + self._left]
                pieces.append(piece)
                place += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _CHUNK_END
            elif data[place : place + 2] == b"\r\n":
                place += 2
                self._state = _CHUNK_SIZE
            else:
                return place
        return place

    def _keep_or_hand_over(self, rest: bytes, canonical: re.Pattern[bytes], events: list[WireEvent]) -> None:
        if canonical.fullmatch(rest):
            self._rest = rest
        else:
            self._hand_over(rest, events)

    def _end(self, events: list[WireEvent], stray: bool) -> None:
        self._busy = False
        if stray or not self._finished:
            self.closing = True
        events.append(Ended(self._exchange, None))

    # -- h11

    def _make_slow(self) -> H11Wire:
        from .h11wire import H11Wire  # a leaf: most connections never need h11

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
        self.closing = self.closing or slow.closing
        self._busy = slow.is_busy
        self._keepalive = slow.keepalive()


def _read_status(line: str) -> int:
    """The status of a status line, 0 where the line is not canonical."""
    match = _STATUS.fullmatch(line)
    if match is None:
        return 0
    status = int(match[1])
    if len(line) <= _MAX_LINE:
        if len(_statuses) >= _MAX_REMEMBERED:
            _statuses.clear()
        _statuses[line] = status
    return status


def _read_field(line: str) -> Field | None:
    """The field of a field line, None where the line is not canonical."""
    match = _FIELD.fullmatch(line)
    if match is None:
        return None
    name, value = match.groups()
    field = (name.lower(), name, value, value.encode(), b"")
    if field[0] in _REMEMBERED and len(line) <= _MAX_LINE:
        if len(_fields) >= _MAX_REMEMBERED:
            _fields.clear()
        _fields[line] = field
    return field
