"""The sending half of an exchange: the head and the body of a request, under the limits of a clock."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping

import anyio
import anyio.lowlevel

from .._core.build import check_trailers
from .._model.errors import APIConnectionError, LocalProtocolError, Outcome, Phase
from .._model.headers import Headers
from .._model.request import Request, StreamedBody, check_piece
from .._wire.protocol import WireMisuse
from .clock import Clock
from .connection import Connection, Waiter
from .stream import StreamClosed

__all__ = ["Rest", "Sending"]

SMALL_BODY = 64 * 1024  # a body up to this size is sent in one piece with the head
PIECE_SIZE = 64 * 1024  # a larger one in pieces of this size

Rest = bytes | memoryview | StreamedBody  # what is left of a body to send


class _Window(Waiter):
    """Waits until more of the body may be sent."""

    __slots__ = ("_sending", "is_open")

    def __init__(self, sending: Sending) -> None:
        super().__init__()
        self.is_open = True
        self._sending = sending

    def heard(self) -> None:
        self._sending.clock.check()

    @property
    def ready(self) -> bool:
        return self.is_open

    def set_open(self) -> None:
        self.is_open = True
        self.notify()


class Sending:
    """Sends one request. ``clock`` limits its waits: that of the exchange, or one of its own where another task sends.

    ``complete``: the codec has all of the request. ``given_up``: nobody wants the rest, so that what fails is not told.
    """

    __slots__ = (
        "_begins",
        "_connection",
        "_facts",
        "_request",
        "clock",
        "complete",
        "given_up",
        "number",
        "window",
    )

    def __init__(self, connection: Connection, clock: Clock, request: Request) -> None:
        self.clock: Clock = clock
        self.complete: bool = False
        self.given_up: bool = False
        self.window: _Window | None = None  # once there was more to send than could be
        self._facts = clock  # of the exchange: its outcome, its timings
        self._connection = connection
        self._request = request
        stream = connection.stream
        self._begins = stream.sent + stream.unsent  # where the request begins
        self.number: int = 0  # of the exchange, once it is open

    def give_up(self) -> None:
        """Nobody wants the rest; whoever waits to send it goes on, and finds out."""
        self.given_up = True
        if self.window is not None:
            self.window.set_open()

    # -- the head

    @property
    def expects_permission(self) -> bool:
        """Whether the body waits for 100 (Continue), RFC 9110 section 10.1.1."""
        headers = self._request.headers
        return "expect" in headers and headers["expect"].lower() == "100-continue" and self._request.has_content

    def open(self) -> None:
        """Queue the head. LocalProtocolError where HTTP does not allow it."""
        request = self._request
        self.complete = not request.body and request.trailers is None
        try:
            self.number = self._connection.wire.open(request, end=self.complete)
        except WireMisuse as exc:
            raise self._cannot(exc) from exc

    def queue_small(self) -> Rest | None:
        """Queue a small body behind the head; what is left to send, None for nothing."""
        body = self._request.body
        if not isinstance(body, bytes) or len(body) > SMALL_BODY or self.expects_permission:
            return body
        try:
            accepted = self._offer(body) if body else 0
            if accepted < len(body):
                return memoryview(body)[accepted:]
            self._finish()
        except WireMisuse as exc:
            raise self._cannot(exc) from exc
        except _CallersError as exc:
            raise exc.error from exc.error.__cause__
        return None

    def _cannot(self, exc: WireMisuse) -> LocalProtocolError:
        return self._facts.error(LocalProtocolError, f"The request cannot be sent: {exc}")

    def push(self) -> OSError | None:
        """Hand what is queued to the stream; what has gone wrong, for the server may have answered before it closed."""
        stream = self._connection.stream
        try:
            self._connection.push()
        except StreamClosed:
            raise
        except OSError as exc:
            return exc
        finally:
            if stream.sent > self._begins:
                self._facts.outcome = Outcome.UNKNOWN
        return None

    async def push_with_others(self) -> OSError | None:
        """The same on a connection where somebody reads: in one write with what other tasks are about to send."""
        try:
            await self._connection.push_with_others()
        except StreamClosed:
            raise
        except OSError as exc:
            return exc
        finally:
            self._note_sent()
        return None

    def _note_sent(self) -> None:
        if self._connection.stream.sent > self._begins:
            self._facts.outcome = Outcome.UNKNOWN

    # -- the body

    async def send(self, rest: Rest | None) -> None:
        """Send what the stream still keeps, and *rest*. Errors of the caller's own body come out as they are.

        StreamClosed where the connection was closed on our side; that the server reads no more is no error here: it may
        have said why, and whoever reads finds out.
        """
        began = self.clock.now()
        try:
            try:
                await self._drain()
                if isinstance(rest, StreamedBody):
                    await self._send_pieces(rest)
                elif rest:
                    view = memoryview(rest)
                    for place in range(0, len(rest), PIECE_SIZE):
                        last = place + PIECE_SIZE >= len(rest)
                        await self._send_piece(view[place : place + PIECE_SIZE], last=last)
                self._finish()
                if self.given_up:
                    return  # the connection may carry another exchange by now
                self._connection.push()
                await self._drain()
            except StreamClosed:
                raise
            except WireMisuse as exc:
                message = f"The body does not fit its declared length: {exc}"
                raise self._facts.error(LocalProtocolError, message) from exc
        except _CallersError as exc:
            raise exc.error from exc.error.__cause__
        except OSError as exc:
            if isinstance(exc, StreamClosed) and not self.given_up:
                raise
        self._facts.timings.send = self.clock.now() - began

    async def _send_pieces(self, body: StreamedBody) -> None:
        left = body.length if body.exact and body.length is not None else -1
        try:
            pieces = body.open()
        except (OSError, APIConnectionError) as exc:
            raise _caller_raised(exc) from None
        if not isinstance(pieces, AsyncIterable):
            with contextlib.closing(_own_errors(pieces)) as checked:
                while True:
                    self.clock.allow(Phase.SEND, None)  # the caller's own time does not count
                    try:
                        piece = next(checked)
                    except StopIteration:
                        break
                    left -= memoryview(check_piece(piece)).nbytes
                    await self._send_piece(piece, last=left == 0)
            return
        iterator: AsyncIterator[bytes] = aiter(pieces)
        complete = False
        try:
            while True:
                self.clock.allow(Phase.SEND, None)  # the caller's own time does not count
                try:
                    piece = await anext(iterator)
                except StopAsyncIteration:
                    complete = True
                    return
                except (OSError, APIConnectionError) as exc:
                    raise _caller_raised(exc) from None
                left -= memoryview(check_piece(piece)).nbytes
                await self._send_piece(piece, last=left == 0)
        finally:
            if not complete:
                await _close_iterator(iterator)

    async def _send_piece(self, piece: bytes | bytearray | memoryview, *, last: bool) -> None:
        """Send one piece. *last*: nothing follows, which the codec is told at once, since the answer may come at once."""
        view = memoryview(piece).cast("B")
        while len(view):
            view = view[self._offer(view) :]
            if last and not len(view):
                self._finish()
            self._connection.push()
            await self._drain()
            if len(view):
                self._allow_write()
                if self.window is not None and not self.window.is_open:
                    await self._connection.wait(self.window)

    def _offer(self, data: bytes | memoryview) -> int:
        """Queue what the windows allow of *data*; the window opens again with the codec's word for it."""
        accepted = self._connection.wire.send(self.number, data)
        if accepted < len(data):
            if self.window is None:
                self.window = _Window(self)
            self.window.is_open = False
        return accepted

    def _finish(self) -> None:
        if self.complete:
            return
        trailers = None if self._request.trailers is None else self._make_trailers()
        self.complete = True
        self._connection.wire.finish(self.number, trailers)

    def _make_trailers(self) -> Headers | None:
        make: Callable[[], Mapping[str, str]] | None = self._request.trailers
        if make is None:
            return None
        try:
            return check_trailers(make())
        except (OSError, APIConnectionError) as exc:
            raise _caller_raised(exc) from None

    async def _drain(self) -> None:
        """Wait until the kernel has taken everything, under the write limit. Always a checkpoint."""
        if self._connection.stream.unsent:
            await self._connection.drain(self._connection.position, self._allow_write)
        else:
            await anyio.lowlevel.checkpoint()
        self._note_sent()

    def _allow_write(self) -> None:
        self.clock.allow(Phase.SEND, self.clock.timeout.write)


class _CallersError(Exception):
    """An error of the caller's own body, which says nothing about the connection."""

    def __init__(self, error: OSError | APIConnectionError) -> None:
        super().__init__("the body failed")
        self.error = error


def _caller_raised(exc: OSError | APIConnectionError) -> _CallersError:
    if isinstance(exc, APIConnectionError):  # of another call of theirs: it says nothing about this one
        exc.retryable = False
    return _CallersError(exc)


def _own_errors(pieces: Iterable[bytes]) -> Generator[bytes]:
    iterator = iter(pieces)
    try:
        while True:
            try:
                piece = next(iterator)
            except StopIteration:
                return
            except (OSError, APIConnectionError) as exc:
                raise _caller_raised(exc) from None
            yield piece
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


async def _close_iterator(iterator: object) -> None:
    """Close the caller's iterator after sending stopped early, if it can be closed (async generators must be)."""
    aclose: Callable[[], Awaitable[None]] | None = getattr(iterator, "aclose", None)
    if aclose is not None:
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + 1.0):
            await aclose()
