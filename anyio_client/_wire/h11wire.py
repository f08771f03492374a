"""HTTP/1.1 (RFC 9112), over h11.

h11 parses and checks; this file adds what h11 leaves to its user: one exchange after the other, limits that do not
depend on how the bytes were split, and whether the connection may carry another exchange.

Limits are counted here and not by h11, whose own limit is looked at only when a read happens to end inside a head.
What is counted: the bytes of a head, and the bytes between two pieces of chunked data (sizes, extensions, trailers).
h11's leniency stands: a bare LF ends a line, white space may follow a chunk size.
"""

from __future__ import annotations

from typing import Final

import h11

from .._model.head import ResponseHead
from .._model.headers import Headers
from .._model.request import Request
from .one_exchange import MAX_HEAD_SIZE, MAX_INTERIM_RESPONSES, OneExchange, parse_keepalive
from .protocol import DataReceived, Ended, InterimReceived, ResponseReceived, WireEvent, WireMisuse

__all__ = ["H11Wire"]

# After each event of a chunked body we look at what h11 has left, which costs a copy of it: so it gets little at a time.
CHUNKED_SLICE: Final = 16 * 1024

# h11's own limit is switched off by a number that no buffer reaches.
_NO_LIMIT: Final = 2**62


class H11Wire(OneExchange):
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
        last_exchange: int = 0,
    ) -> None:
        super().__init__(max_head_size, forwarded, proxy_authorization, last_exchange)
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=_NO_LIMIT)
        # Of the current exchange, from open() on:
        self._left: int  # bytes that h11 got and that no event has used
        self._slice: int  # how many bytes h11 is given at a time

    # -- sending

    def open(self, request: Request, end: bool) -> int:
        if self.capacity() == 0 or self._busy:
            raise RuntimeError("this connection cannot carry a further exchange now")
        if self._h11.our_state is not h11.IDLE:
            self._h11.start_next_cycle()
        headers = request.headers.raw
        if not end and "content-length" not in request.headers:
            headers.append((b"Transfer-Encoding", b"chunked"))  # RFC 9112 section 6.1
        target = request.url.target
        if self._forwarded:
            target = request.url.origin + target
            if self._proxy_authorization is not None and "proxy-authorization" not in request.headers:
                headers.append((b"Proxy-Authorization", self._proxy_authorization.encode("ascii")))
        try:
            event = h11.Request(method=request.method, target=target, headers=headers)
        except h11.LocalProtocolError as exc:
            self.closing = True
            raise WireMisuse(str(exc)) from exc
        self._exchange += 1
        self._busy = True
        self._finished = self._answered = False
        self._interim = self._left = 0
        self._slice = _NO_LIMIT
        self._keepalive = None
        self._send(event)
        if end:
            self.finish(self._exchange)
        return self._exchange

    def send(self, exchange: int, data: bytes | bytearray | memoryview) -> int:
        if exchange == self._exchange and self._busy:
            self._send(h11.Data(data=bytes(data)))
        return len(data)

    def finish(self, exchange: int, trailers: Headers | None = None) -> None:
        if exchange == self._exchange and self._busy and not self._finished:
            self._send(h11.EndOfMessage(headers=trailers.raw if trailers else []))
            self._finished = True

    def _send(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        try:
            data = self._h11.send(event)
        except h11.LocalProtocolError as exc:
            self.closing = True
            raise WireMisuse(str(exc)) from exc
        if data:
            self._out.append(data)

    def take_over(self, request: Request, declared: int | None, sent: int, finished: bool, interim: int) -> None:
        """Go on with an exchange that another codec has begun: *sent* bytes of the body, and *interim* responses came.

        *declared*: the Content-Length of the body, None for chunks.
        """
        empty = declared == 0 and "content-length" not in request.headers
        self.open(request, end=empty)
        if sent:
            self._h11.send_with_data_passthrough(h11.Data(data=_Sent(sent)))  # type: ignore[arg-type]
        if finished:
            self.finish(self._exchange)
        self._interim = interim
        self._out.clear()

    def count(self, size: int) -> None:
        """*size* bytes of framing that were read by another codec count against the limit."""
        self._left += size

    @property
    def is_busy(self) -> bool:
        return self._busy

    # -- receiving

    def receive(self, data: bytes) -> list[WireEvent]:
        events: list[WireEvent] = []
        if not data:
            self.closing = True
        if not self._busy:
            # Between exchanges a peer has nothing to say but goodbye: stray bytes must never become an answer.
            self.closing = True
            return events
        place = 0
        try:
            while self._busy:
                # h11 is given no more than the limit allows, so that it never judges what is too large: whether it
                # gets the bytes at once or one by one, it sees the same ones.
                room = self._max_head_size - self._left
                if room <= 0 and data:
                    self._too_much(events)
                    break
                piece = data[place : place + min(room, self._slice)]
                place += len(piece)
                self._h11.receive_data(piece)
                self._left += len(piece)
                self._read_events(events, place < len(data))
                if place >= len(data):
                    break
        except h11.ProtocolError:
            # h11's text is not passed on: it may quote a line that holds a cookie.
            part = "chunked body" if self._answered else "head"
            reason = f"the response's {part} is malformed" if data else "the connection ended before the answer did"
            self._fail(events, reason, lost=not data)
        return events

    def _read_events(self, events: list[WireEvent], more: bool) -> None:
        """Everything that h11 makes of the bytes it has. *more*: further bytes have come."""
        while self._busy:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                return
            self._left = len(self._h11.trailing_data[0])
            match event:
                case h11.Data(data=data):
                    events.append(DataReceived(self._exchange, bytes(data)))
                case h11.InformationalResponse():
                    self._interim += 1
                    if self._interim > MAX_INTERIM_RESPONSES:
                        self._fail(events, f"more than {MAX_INTERIM_RESPONSES} interim responses", lost=False)
                        return
                    events.append(InterimReceived(self._exchange, self._head(event)))
                case h11.Response():
                    self._answered = True
                    head = self._head(event)
                    if "transfer-encoding" in head.headers:
                        self._slice = CHUNKED_SLICE
                        if "content-length" in head.headers:
                            self.closing = True  # RFC 9112 section 6.3: it may be an attempt at smuggling
                    options = head.headers.get("connection", "").lower().split(",")
                    if head.http_version != "HTTP/1.1" or "close" in [option.strip(" \t") for option in options]:
                        self.closing = True  # RFC 9112 section 9.6; h11 says so at the end
                    self._keepalive = parse_keepalive(head.headers.get("keep-alive"))
                    events.append(ResponseReceived(self._exchange, head))
                case h11.EndOfMessage(headers=trailers):
                    self._end(events, Headers.from_wire(trailers) if trailers else None, more or self._left > 0)
                case _:  # PAUSED: the peer would switch protocols, which nobody asked for
                    self._fail(events, "the peer switched protocols without being asked", lost=False)

    def _too_much(self, events: list[WireEvent]) -> None:
        part = "chunk framing or trailers" if self._answered else "head"
        self._fail(events, f"the response's {part} took more than {self._max_head_size} bytes", lost=False)

    def _head(self, event: h11.Response | h11.InformationalResponse) -> ResponseHead:
        version = "HTTP/" + event.http_version.decode("ascii")
        return ResponseHead(event.status_code, Headers.from_wire(event.headers.raw_items()), version)

    def _end(self, events: list[WireEvent], trailers: Headers | None, stray: bool) -> None:
        self._busy = False
        both_done = self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE
        if stray or not both_done:
            self.closing = True
        events.append(Ended(self._exchange, trailers))


class _Sent:
    """Bytes of a body that have left: h11 needs their number only."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size
