"""Bodies of responses as they come, before any content coding is undone: off our connections, or from elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.lowlevel

from .._model.errors import APIConnectionError, APITimeoutError, DeadlineExceededError, Outcome, Phase
from .._model.headers import Headers
from .._model.request import Pieces, Request, check_piece

if TYPE_CHECKING:
    from .clock import Clock
    from .exchange import Exchange
    from .pool import ConnectionPool

__all__ = ["AsyncPieces", "BodyStream", "LimitedBody", "RawBody", "ReadBody", "UserBody", "make_body"]

DRAIN_SIZE = 64 * 1024  # a rest of a body up to this size ...
DRAIN_TIME = 0.1  # ... that comes within this time (seconds) is read, so that the connection can be used again


class RawBody(Protocol):
    """A body as it comes from the wire, before any content coding is undone."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def __anext__(self) -> bytes: ...
    async def aclose(self) -> None: ...


def make_body(exchange: Exchange, clock: Clock, pool: ConnectionPool, now: float) -> RawBody:
    """The body of a response whose head has come *now*."""
    if exchange.content is None:
        return BodyStream(exchange, clock, pool, now)
    timings = clock.timings  # it came with the head: nothing is to be waited for, or given up
    timings.body, timings.total = 0.0, now - clock.began
    return ReadBody(exchange.content)


class BodyStream:
    """The body of a response on our own connection; whoever holds it reads it to its end or closes it.

    A wait that is cancelled loses nothing. A dropped stream gives its exchange back at the pool's next event.
    """

    __slots__ = ("_began", "_clock", "_done", "_exchange", "_pool")

    def __init__(self, exchange: Exchange, clock: Clock, pool: ConnectionPool, began: float) -> None:
        self._exchange = exchange
        self._clock = clock
        self._pool = pool
        self._done = False
        self._began = began

    def __aiter__(self) -> BodyStream:
        return self

    async def __anext__(self) -> bytes:
        if self._done:
            raise StopAsyncIteration
        if self._exchange.has_events:
            await anyio.lowlevel.checkpoint()
        data = await self._next()
        if data is None:
            raise StopAsyncIteration
        return data

    async def read(self) -> bytes:
        """All of it."""
        pieces: list[bytes] = []
        while not self._done and (data := await self._next()) is not None:
            pieces.append(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _next(self) -> bytes | None:
        self._clock.phase = Phase.BODY
        try:
            data = await self._exchange.next_data()
        except APIConnectionError as exc:
            self._finish(timed_out=isinstance(exc, APITimeoutError))
            raise
        if data is None:
            self._finish()
        return data

    def _finish(self, *, timed_out: bool = False) -> None:
        self._done = True
        self._exchange.abandon(timed_out=timed_out)
        timings = self._clock.timings
        if timings.body is None:
            now = self._clock.now()
            timings.body = now - self._began
            timings.total = now - self._clock.began

    @property
    def trailers(self) -> Headers | None:
        return self._exchange.trailers

    def abandon(self) -> None:
        """Take in what has arrived, and give up the rest. Never waits."""
        if not self._done:
            if not self._exchange.over:
                self._exchange.read_arrived()
            self._finish()

    async def aclose(self) -> None:
        """Read a short rest if it comes soon, else give it up. Nothing is waited for when cancelled."""
        if self._done:
            return
        exchange = self._exchange
        try:
            if not exchange.over:
                exchange.read_arrived()
            if not exchange.over:
                with anyio.move_on_after(DRAIN_TIME):
                    size = 0
                    while size <= DRAIN_SIZE and (data := await exchange.next_data()) is not None:
                        size += len(data)
        except APIConnectionError as exc:
            if exc is exchange.raised and exc.request is not self._clock.request:
                raise  # the caller's own body has failed, and nobody has heard of it
        finally:
            self._finish()

    def __del__(self) -> None:
        # Any thread may collect, with or without a loop: only leave a note, the pool frees it at its next event.
        if not self._done and not self._exchange.over:
            self._pool.collected.append(self._exchange)


class UserBody:
    """An iterable of a user's Response (``MockTransport``) as a raw body."""

    __slots__ = ("_iterator",)

    def __init__(self, source: AsyncIterable[bytes]) -> None:
        self._iterator = aiter(source)

    def __aiter__(self) -> UserBody:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()  # whatever the user's iterator does
        return await anext(self._iterator)

    async def aclose(self) -> None:
        aclose = getattr(self._iterator, "aclose", None)
        if aclose is not None:
            await aclose()


class LimitedBody:
    """The body of a transport that keeps no deadline, under the call's deadline."""

    __slots__ = ("_deadline", "_raw", "_request")

    def __init__(self, raw: RawBody, deadline: float, request: Request | None) -> None:
        self._raw = raw
        self._deadline = deadline
        self._request = request

    def __aiter__(self) -> LimitedBody:
        return self

    async def __anext__(self) -> bytes:
        with anyio.CancelScope(deadline=self._deadline):
            return await anext(self._raw)
        message = "The deadline passed while the body was read."
        raise DeadlineExceededError(message, request=self._request, phase=Phase.BODY, outcome=Outcome.ANSWERED)

    async def aclose(self) -> None:
        await self._raw.aclose()

    @property
    def trailers(self) -> Headers | None:
        return getattr(self._raw, "trailers", None)


class AsyncPieces:
    """The pieces of a request's body for ``async for``, whether they come from an async iterable or a plain one."""

    __slots__ = ("_asynchronous", "_plain")

    def __init__(self, pieces: Pieces) -> None:
        self._asynchronous: AsyncIterator[bytes] | None = None
        self._plain: Iterator[bytes] | None = None
        if isinstance(pieces, AsyncIterable):
            self._asynchronous = aiter(pieces)
        else:
            self._plain = iter(pieces)

    def __aiter__(self) -> AsyncPieces:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        if self._asynchronous is not None:
            return bytes(check_piece(await anext(self._asynchronous)))
        for piece in self._plain or ():
            return bytes(check_piece(piece))
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close what can be closed: a generator that nobody reads to its end."""
        close: Any = getattr(self._asynchronous, "aclose", None)
        if close is not None:
            await close()
        close = getattr(self._plain, "close", None)
        if close is not None:
            close()


class ReadBody:
    """A body that has been read, as a raw body of one piece."""

    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        self._content = content

    def take(self) -> bytes:
        """All of it, without a wait."""
        content, self._content = self._content, b""
        return content

    def __aiter__(self) -> ReadBody:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        content = self.take()
        if not content:
            raise StopAsyncIteration
        return content

    async def aclose(self) -> None:
        self._content = b""


# Codecs of Python's own, which no server means ("Python Specific Encodings" in the docs of the module codecs); some
# refuse the error handler "replace", some warn.
