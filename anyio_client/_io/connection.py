"""One connection: the stream to an origin, the codec of its bytes, and the exchanges under way on it."""

from __future__ import annotations

from typing import Protocol

from .._wire.protocol import Wire, WireEvent
from .stream import Stream

__all__ = ["Connection", "Owner"]


class Owner(Protocol):
    """Whoever carries an exchange on a connection: takes its events, and can give it up."""

    number: int

    def take(self, event: WireEvent) -> None: ...


class _Pool(Protocol):
    """What a connection needs of its pool."""

    def freed(self, connection: Connection) -> None: ...
    def broke(self, connection: Connection) -> None: ...


class Connection:
    """A stream to an origin, the codec of its bytes, and the exchanges under way on it."""

    __slots__ = ("_pool", "began", "exchanges", "number", "origin", "received", "stream", "used", "wire")

    def __init__(self, number: int, origin: str, stream: Stream, wire: Wire, pool: _Pool, began: float) -> None:
        self.number: int = number
        self.origin: str = origin
        self.stream: Stream = stream
        self.wire: Wire = wire
        self.began: float = began
        self.used: bool = False  # it has carried an exchange
        self.received: int = 0  # bytes, decrypted
        self.exchanges: dict[int, Owner] = {}
        self._pool = pool

    def is_alive(self) -> bool:
        """Read what has arrived on the idle connection, without waiting; whether it can carry another exchange."""
        try:
            while True:
                data = self.stream.receive_nowait()
                if data is None:
                    return self.wire.capacity() > 0
                self.wire.receive(data)
                if not data or self.wire.capacity() == 0:
                    return False
        except OSError:
            return False

    async def receive(self) -> None:
        """Read once, hand the events to their owners. OSError where the connection is lost. Always a checkpoint."""
        data = await self.stream.receive()
        self.received += len(data)
        for event in self.wire.receive(data):
            owner = self.exchanges.get(event.exchange)
            if owner is not None:
                owner.take(event)

    def push(self) -> None:
        """Hand the codec's output to the stream. OSError where the connection is lost."""
        output = self.wire.take_output()
        if output:
            self.stream.send_nowait(output)

    def release(self, exchange: Owner) -> None:
        """The exchange is over: the pool may use its place, if the connection can carry more."""
        self.exchanges.pop(exchange.number, None)
        if self.wire.capacity() > 0:
            self._pool.freed(self)
        else:
            self._pool.broke(self)

    def close(self) -> None:
        self.stream.close()
