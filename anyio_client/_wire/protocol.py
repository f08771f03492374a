"""One connection's bytes, whatever the version of HTTP.

A codec turns requests into bytes to send, and bytes received into events. One connection carries *exchanges* (a
request and its response), each with an id that is never reused. The driver's part::

    exchange = wire.open(request, end=False)      # queue the head
    accepted = wire.send(exchange, data)          # queue body bytes: as many as flow control allows; more after SendAllowed
    wire.finish(exchange)                         # the body is complete
    stream.sendall(wire.take_output())
    events = wire.receive(stream.recv(65536))     # b"" means: the peer has closed

Contract of every codec:

* any bytes lead to events; a peer that breaks the protocol leads to :class:`Failed` for each exchange that it harms (and
  to ``closing``, where that is the whole connection), never to an exception;
* every exchange ends in exactly one of :class:`Ended`, :class:`Failed` or its own ``abandon``;
* any split of the same bytes gives the same events, once adjacent :class:`DataReceived` are joined.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

import attrs

from .._model.errors import Outcome
from .._model.head import ResponseHead
from .._model.headers import Headers
from .._model.request import Request

__all__ = [
    "DataReceived",
    "Ended",
    "Failed",
    "InterimReceived",
    "ResponseReceived",
    "SendAllowed",
    "Wire",
    "WireEvent",
    "WireMisuse",
]


class WireMisuse(ValueError):
    """The caller's request or body breaks HTTP, for example a body that does not fit its declared length."""


@attrs.frozen
class InterimReceived:
    """A 1xx response (RFC 9110 section 15.2). The final one is still to come."""

    exchange: int
    head: ResponseHead


@attrs.frozen
class ResponseReceived:
    """The head of the final response."""

    exchange: int
    head: ResponseHead


@attrs.frozen
class DataReceived:
    """Bytes of the body, never empty. They count against flow control until ``consumed`` is called."""

    exchange: int
    data: bytes | bytearray = attrs.field(repr=lambda data: f"<{len(data)} bytes>")


@attrs.frozen
class Ended:
    """The response is complete."""

    exchange: int
    trailers: Headers | None = None


@attrs.frozen
class SendAllowed:
    """``send``, which did not accept all of its data, accepts more."""

    exchange: int


@attrs.frozen
class Failed:
    """The exchange will not complete.

    ``lost``: the peer ended the connection or the exchange early; otherwise it broke the protocol. ``outcome`` is what the wire knows:
    ``answered`` once the head of a final response came, ``refused`` where the peer said so, else ``unknown``.
    """

    exchange: int
    reason: str
    lost: bool
    outcome: Outcome


WireEvent: TypeAlias = InterimReceived | ResponseReceived | DataReceived | Ended | SendAllowed | Failed


class Wire(Protocol):
    """A codec for one connection."""

    http_version: str

    def open(self, request: Request, end: bool) -> int:
        """Queue the request's head; ``end``: it has no body. :class:`WireMisuse` if HTTP does not allow it."""
        ...

    def send(self, exchange: int, data: bytes | bytearray | memoryview) -> int:
        """Queue bytes of the body; how many were accepted (the rest when the peer has given more window)."""
        ...

    def finish(self, exchange: int, trailers: Headers | None = None) -> None:
        """The body is complete. :class:`WireMisuse` if it is shorter than declared, or cannot have trailers."""
        ...

    def abandon(self, exchange: int) -> None:
        """Nobody wants the rest of this exchange. On HTTP/1.1 the connection can carry nothing more."""
        ...

    def ping(self) -> bool:
        """Queue what any peer answers at once; False where the protocol has no such thing (HTTP/1.1)."""
        ...

    def close(self) -> None:
        """Nobody will use the connection any more: queue the goodbye, where there is one."""
        ...

    def consumed(self, exchange: int, size: int) -> None:
        """*size* bytes of the body have been used: the peer may send as many more."""
        ...

    def receive(self, data: bytes) -> list[WireEvent]:
        """Bytes from the peer, ``b""`` for the end of them; what they mean."""
        ...

    def receive_folded(self, data: bytes) -> list[WireEvent] | tuple[ResponseHead, bytes]:
        """The same; where a final response came whole, and nothing with it, a codec may give its head and its body in
        place of the three events."""
        ...

    def take_output(self) -> bytes:
        """The bytes to send now."""
        ...

    def capacity(self) -> int:
        """How many exchanges may be under way at once; 0 for a connection that takes no further ones now."""
        ...

    @property
    def receiving(self) -> int:
        """The exchange to which the last byte belongs that has come and is in no event yet; 0 for none."""
        ...

    @property
    def settled(self) -> bool:
        """Whether ``capacity`` is what the peer has said, and not a careful guess."""
        ...

    @property
    def closing(self) -> bool:
        """Takes no further exchanges, ever; those under way may still complete."""
        ...

    def keepalive(self) -> float | None:
        """Seconds that the peer promises to keep the idle connection, or None."""
        ...
