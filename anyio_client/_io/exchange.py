"""One request and its response on a connection."""

from __future__ import annotations

import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from itertools import islice

import anyio
import anyio.lowlevel

from .._model.errors import (
    APIConnectionError,
    ConnectionLostError,
    LocalProtocolError,
    Outcome,
    Phase,
    RemoteProtocolError,
    TLSError,
)
from .._model.head import ResponseHead
from .._model.headers import Headers
from .._model.request import Request, StreamedBody, check_piece
from .._wire.protocol import (
    DataReceived,
    Ended,
    Failed,
    InterimReceived,
    ResponseReceived,
    SendAllowed,
    WireEvent,
    WireMisuse,
)
from .clock import Clock
from .connection import Connection, Waiter
from .stream import StreamClosed

__all__ = ["Exchange"]

SMALL_BODY = 64 * 1024  # a body up to this size is sent in one piece with the head
PIECE_SIZE = 64 * 1024  # a larger one in pieces of this size
SMALL_PIECE = 1024  # pieces of an answer below this size are put together as they come
# While we still send, this much of an early good answer is read ahead; a server that echoes as it reads needs it.
READ_AHEAD = 32 * 2**20


class _Window(Waiter):
    """Waits until more of the body may be sent."""

    __slots__ = ("_clock", "is_open")

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.is_open = True
        self._clock = clock

    def heard(self) -> None:
        self._clock.check()

    @property
    def ready(self) -> bool:
        return self.is_open

    def set_open(self) -> None:
        self.is_open = True
        self.notify()


class Exchange(Waiter):
    """One request and its response on a connection: sends, and reads the head; then gives the body piece by piece.

    ``over`` once nothing more will come and the connection is the pool's again. Whoever holds the exchange and does not
    read it to its end calls :meth:`abandon`, which never waits.
    """

    __slots__ = (
        "_ahead",
        "_begins",
        "_body_sent",
        "_clock",
        "_connection",
        "_events",
        "_finished",
        "_heard",
        "_known",
        "_received_before",
        "_reused",
        "_window",
        "number",
        "over",
        "trailers",
    )

    def __init__(self, connection: Connection, clock: Clock) -> None:
        super().__init__()
        self.number: int = 0
        self.over: bool = False
        self.trailers: Headers | None = None
        self._connection = connection
        self._clock = clock
        self._events: deque[WireEvent] = deque()
        self._known = 0  # how many of the events have been looked at: only further ones end a wait
        self._ahead = 0  # bytes of the body that were credited to the peer before they were used
        self._begins = 0  # the connection's position where the request begins
        self._window = _Window(clock)
        self._reused = connection.used
        self._received_before = self._heard = connection.received  # _heard: as the last wait began
        self._body_sent = False
        self._finished = False  # the codec knows that the body is complete

    # -- events from the wire

    @property
    def ready(self) -> bool:
        return self.over or len(self._events) > self._known

    def progress(self) -> None:
        """Bytes of this exchange have come, though nothing complete."""
        if self._body_sent:
            self._clock.extend(self._clock.timeout.read)

    def heard(self) -> None:
        # A peer that always has something ready can keep a cancellation from being delivered.
        self._clock.check()

    def take(self, event: WireEvent) -> None:
        if type(event) is SendAllowed:
            self._window.set_open()
            return
        if type(event) is DataReceived and len(event.data) < SMALL_PIECE:
            self._take_small(event)
        else:
            self._events.append(event)
        self.notify()
        if type(event) is Ended or type(event) is Failed:
            self._finish()

    def _take_small(self, event: DataReceived) -> None:
        """A piece costs a hundred bytes besides its own: small ones that nobody takes are put together."""
        last = self._events[-1] if len(self._events) > self._known else None
        if type(last) is not DataReceived or len(last.data) >= PIECE_SIZE:
            self._events.append(event)
        elif isinstance(last.data, bytearray):
            last.data.extend(event.data)
        elif len(last.data) < SMALL_PIECE:
            self._events[-1] = DataReceived(event.exchange, bytearray(last.data + event.data))
        else:
            self._events.append(event)

    def _finish(self) -> None:
        if not self.over:
            self.over = True
            self._window.set_open()
            self._connection.release(self)

    def abandon(self, *, timed_out: bool = False) -> None:
        """Nobody wants the rest: the stream is reset (HTTP/2), or the connection closed, unless the exchange is over.

        *timed_out*: a limit on waiting for the peer has passed.
        """
        if not self.over:
            if timed_out:
                self._connection.doubt(was_silent=self._connection.received == self._heard)
            self._connection.wire.abandon(self.number)
            if self._connection.shared:
                self._connection.push_quietly()
            self._finish()

    # -- the request and the head

    async def start(self, request: Request) -> ResponseHead:
        """Send *request*, return the head of its response. Our errors where that fails; then the exchange is over."""
        try:
            return await self._start(request)
        except BaseException:
            self.abandon(timed_out=self._clock.has_passed)
            raise

    async def _start(self, request: Request) -> ResponseHead:
        connection, clock = self._connection, self._clock
        connection.used = True
        wire, stream = connection.wire, connection.stream
        began = clock.now()
        clock.allow(Phase.SEND, clock.timeout.write)
        body = request.body
        self._begins = connection.position
        try:
            self.number = wire.open(request, end=not body)
            connection.exchanges[self.number] = self
            rest = self._queue_small(body)
        except WireMisuse as exc:
            raise clock.error(LocalProtocolError, f"The request cannot be sent: {exc}") from exc
        lost: OSError | None = None
        try:
            if connection.shared and connection.has_reader:
                await connection.push_with_others()
            else:
                connection.push()
        except StreamClosed as exc:
            raise self._closed() from exc
        except OSError as exc:
            lost = exc  # the server may have answered before it closed: look at what has arrived
        self._note_sent()
        if lost is not None or (not rest and not stream.unsent):
            self._body_sent = True
            clock.timings.send = clock.now() - began
            clock.allow(Phase.RECEIVE, clock.timeout.read)
            head = await self._read_head()
        else:
            head = await self._send_while_reading(rest)
        self._body_sent = True  # or given up: from here on we wait for the server only
        clock.timings.first_byte = clock.now() - began - (clock.timings.send or 0.0)
        clock.outcome = Outcome.ANSWERED
        clock.phase = Phase.BODY
        clock.body_size = 0
        return head

    def _queue_small(self, body: bytes | StreamedBody) -> bytes | memoryview | StreamedBody:
        """Queue a small body with the head; what is left to send."""
        if not isinstance(body, bytes) or len(body) > SMALL_BODY:
            return body
        if body:
            accepted = self._offer(body)
            if accepted < len(body):
                return memoryview(body)[accepted:]
            self._finish_sending()
        return b""

    def _offer(self, data: bytes | memoryview) -> int:
        """Queue what the windows allow of *data*; the window opens again with the codec's word for it."""
        self._window.is_open = False
        return self._connection.wire.send(self.number, data)

    def _note_sent(self) -> None:
        if self._connection.stream.sent > self._begins:
            self._clock.outcome = Outcome.UNKNOWN

    async def _read_head(self) -> ResponseHead:
        while True:
            while self._events:
                event = self._events.popleft()
                match event:
                    case ResponseReceived():
                        return event.head
                    case Failed():
                        raise self._failure(event)
                    case InterimReceived() | DataReceived() | Ended() | SendAllowed():
                        pass
            await self._receive()

    async def _receive(self) -> None:
        """Wait for more of this exchange. Our errors where the connection is lost."""
        if self._body_sent:
            self._clock.allow(self._clock.phase, self._clock.timeout.read)
        self._heard = self._connection.received
        try:
            await self._connection.wait(self)
        except StreamClosed as exc:
            raise self._closed() from exc
        except OSError as exc:
            self._finish()
            raise self._lost(exc) from exc

    # -- errors

    def _failure(self, event: Failed) -> APIConnectionError:
        error = self._clock.error(
            ConnectionLostError if event.lost else RemoteProtocolError,
            f"The server ended the exchange: {event.reason}."
            if event.lost
            else f"The server broke HTTP: {event.reason}.",
        )
        if event.outcome is not Outcome.UNKNOWN:
            error.outcome = event.outcome
        # A server that closes the connection and did not process the request is as good as one that had closed it.
        refused = self._reused and event.outcome is Outcome.REFUSED and self._connection.wire.closing
        error.reused = event.lost and (self._died_idle or refused)
        return error

    def _lost(self, exc: OSError) -> APIConnectionError:
        if isinstance(exc, ssl.SSLError) and not isinstance(exc, ssl.SSLEOFError):
            return self._clock.error(TLSError, f"The server ended the TLS session: {exc}")
        error = self._clock.error(ConnectionLostError, f"The connection was lost: {exc}")
        error.reused = self._died_idle
        return error

    @property
    def _died_idle(self) -> bool:
        """Whether a used connection ended without a byte of an answer: it may well have been closed while idle."""
        return self._reused and self._connection.received == self._received_before

    def _closed(self) -> APIConnectionError:
        error = self._clock.error(APIConnectionError, "The client was closed while the request was under way.")
        error.retryable = False
        return error

    # -- bodies that do not leave at once

    async def _send_while_reading(self, body: bytes | memoryview | StreamedBody) -> ResponseHead:
        """Send the rest in this task while a child reads: a server may answer before it has read all.

        Neither lets an exception out of the task group, so that none comes out wrapped in a group.
        """
        head: ResponseHead | None = None
        error: BaseException | None = None
        cancelled = anyio.get_cancelled_exc_class()

        async def read() -> None:
            nonlocal head, error
            try:
                head = await self._read_head()
                if head.is_success:
                    await self._read_ahead()
                    if not self.over or (self._finished and not self._connection.stream.unsent):
                        return  # there is more to send, or nothing any more
            except cancelled:
                raise
            except BaseException as exc:
                error = exc
            sending.cancel()

        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as sending:
                group.start_soon(read)
                try:
                    await self._send_body(body)
                    if head is not None:
                        group.cancel_scope.cancel()  # the child is reading ahead, which loses nothing when cancelled
                except cancelled:
                    raise
                except BaseException as exc:
                    error = exc
                    group.cancel_scope.cancel()
        if error is not None:
            raise error
        if head is None:  # the child was cancelled, and the group ended before this task noticed
            await anyio.lowlevel.checkpoint()
        assert head is not None  # else the child ends with a head or an error
        return head

    async def _read_ahead(self) -> None:
        """A good answer has begun before the request was complete: read on, up to a bound, while the rest is sent."""
        connection = self._connection
        try:
            while not self.over and self._ahead < READ_AHEAD:
                self._known = len(self._events)
                await self._receive()
                new = islice(self._events, self._known, None)
                size = sum(len(event.data) for event in new if isinstance(event, DataReceived))
                self._ahead += size
                connection.wire.consumed(self.number, size)
                connection.push_quietly()
        finally:
            self._known = 0

    async def _send_body(self, body: bytes | memoryview | StreamedBody) -> None:
        """Send what the stream still keeps, then the body, then wait for the child's answer under the read limit."""
        clock = self._clock
        began = clock.now()
        try:
            try:
                await self._drain()
                if isinstance(body, StreamedBody):
                    await self._send_pieces(body)
                else:
                    view = memoryview(body)
                    for place in range(0, len(body), PIECE_SIZE):
                        last = place + PIECE_SIZE >= len(body)
                        await self._send_piece(view[place : place + PIECE_SIZE], last=last)
                self._finish_sending()
                if self.over:
                    return  # the connection may carry another exchange by now
                self._connection.push()
                await self._drain()
            except StreamClosed:
                raise
            except WireMisuse as exc:
                raise clock.error(LocalProtocolError, f"The body does not fit its declared length: {exc}") from exc
        except _CallersError as exc:
            raise exc.error from exc.error.__cause__
        except OSError as exc:
            if self.over:
                return  # the answer is complete, which closed the connection
            if isinstance(exc, StreamClosed):
                raise self._closed() from exc
            # The server reads no more; it may have said why. The child will find out.
        self._body_sent = True
        clock.timings.send = clock.now() - began
        clock.allow(Phase.RECEIVE, clock.timeout.read)

    async def _send_pieces(self, body: StreamedBody) -> None:
        left = body.length if body.exact and body.length is not None else -1
        try:
            pieces = body.open()
        except (OSError, APIConnectionError) as exc:
            raise _caller_raised(exc) from None
        if not isinstance(pieces, AsyncIterable):
            with contextlib.closing(_own_errors(pieces)) as checked:
                for piece in checked:
                    left -= memoryview(check_piece(piece)).nbytes
                    await self._send_piece(piece, last=left == 0)
            return
        iterator: AsyncIterator[bytes] = aiter(pieces)
        complete = False
        try:
            while True:
                self._clock.allow(Phase.SEND, None)  # the caller's own time does not count
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
                self._finish_sending()
            self._connection.push()
            await self._drain()
            if len(view):
                self._clock.allow(Phase.SEND, self._clock.timeout.write)
                if not self._window.is_open:
                    await self._connection.wait(self._window)

    def _finish_sending(self) -> None:
        if not self._finished:
            self._finished = True
            self._connection.wire.finish(self.number)

    async def _drain(self) -> None:
        """Wait until the kernel has taken everything, under the write limit. Always a checkpoint."""
        if self._connection.stream.unsent:
            await self._connection.drain(self._connection.position, self._allow_write)
        else:
            await anyio.lowlevel.checkpoint()
        self._note_sent()

    def _allow_write(self) -> None:
        self._clock.allow(Phase.SEND, self._clock.timeout.write)

    # -- the body of the response

    async def next_data(self) -> bytes | None:
        """What has come of the body, None after its end. Waits are limited by the clock that is entered."""
        while True:
            pieces: list[bytes | bytearray] = []
            while self._events:
                event = self._events[0]
                if type(event) is DataReceived:
                    pieces.append(event.data)
                elif pieces:
                    break  # first what came before the end or the failure
                elif type(event) is Ended:
                    self.trailers = event.trailers
                    return None
                elif type(event) is Failed:
                    raise self._failure(event)
                self._events.popleft()
            if pieces:
                data = bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
                self._use(len(data))
                self._clock.body_size = (self._clock.body_size or 0) + len(data)
                return data
            if self.over:
                raise self._closed()
            await self._receive()

    def _use(self, size: int) -> None:
        """*size* bytes of the body are the caller's now: the peer may send as many more."""
        if self._ahead:
            known = min(size, self._ahead)
            self._ahead -= known
            size -= known
        if not self.over:
            self._connection.wire.consumed(self.number, size)
            if self._connection.shared:
                self._connection.push_quietly()

    @property
    def has_events(self) -> bool:
        """Whether :meth:`next_data` would return without waiting."""
        return bool(self._events) or self.over

    def read_arrived(self) -> None:
        """Take in what has already arrived, without waiting."""
        self._connection.read_arrived()


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
