"""One request and its response on a connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice

import anyio
import anyio.lowlevel

from .._model.errors import (
    APIConnectionError,
    ConnectionLostError,
    Outcome,
    Phase,
    RemoteProtocolError,
    client_closed,
)
from .._model.head import ResponseHead
from .._model.headers import Headers
from .._model.request import Carrier, Request, StreamedBody
from .._wire.protocol import (
    DataReceived,
    Ended,
    Failed,
    InterimReceived,
    ResponseReceived,
    SendAllowed,
    WireEvent,
)
from .clock import Clock
from .connection import Connection, Waiter
from .sending import Rest, Sending
from .stream import LimitPassed, StreamClosed
from .tls_alerts import is_alert, session_ended

__all__ = ["Exchange"]

PIECE_SIZE = 64 * 1024  # small pieces of an answer are put together up to this size
EXPECT_TIME = 1.0  # seconds that a body waits for 100 (Continue), which not every server sends
SMALL_PIECE = 1024  # pieces of an answer below this size are put together as they come
# While we still send, this much of an early good answer is read ahead; a server that echoes as it reads needs it.
READ_AHEAD = 32 * 2**20


class Exchange(Waiter):
    """One request and its response on a connection: sends, and reads the head; then gives the body piece by piece.

    ``over`` once nothing more will come and the connection is the pool's again. Whoever holds the exchange and does not
    read it to its end calls :meth:`abandon`, which never waits.
    """

    __slots__ = (
        "_ahead",
        "_answer",
        "_began",
        "_body_sent",
        "_carrying",
        "_clock",
        "_connection",
        "_events",
        "_heard",
        "_known",
        "_lost",
        "_on_informational",
        "_pushed",
        "_received_before",
        "_rest",
        "_reused",
        "_sending",
        "_sending_error",
        "content",
        "number",
        "over",
        "raised",
        "trailers",
    )

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._wake = None
        self.number: int = 0
        self.over: bool = False
        self.content: bytes | None = None  # the whole body, where the answer came whole
        self.trailers: Headers | None = None
        self._connection = connection
        self._clock = clock
        self._answer: ResponseHead | None = None  # of the same
        self._events: deque[WireEvent] = deque()
        self._known = 0  # how many of the events have been looked at: only further ones end a wait
        self._ahead = 0  # bytes of the body that were credited to the peer before they were used
        self._sending: Sending | None = None
        self._carrying: anyio.CancelScope | None = None  # around the task that sends beside the one that reads
        self._sending_error: BaseException | None = None  # what has ended that task
        self.raised: BaseException | None = None  # the same, once it was raised where the answer is read
        self._on_informational: Callable[[int, Headers], object] | None = None
        self._reused = connection.used
        self._received_before = self._heard = connection.received  # _heard: as the last wait began
        self._rest: Rest | None = None  # what is left to send of the body
        self._pushed = False  # what was queued is with the stream
        self._lost: OSError | None = None  # why the stream took no more
        self._body_sent = False
        self._began = clock.began  # when the request was begun

    @property
    def began(self) -> float:
        return self._clock.began

    @property
    def title(self) -> str:
        request = self._clock.request
        return f"{request.method} {request.url.origin}{request.url.path}"

    # -- events from the wire

    @property
    def ready(self) -> bool:
        return self.over or len(self._events) > self._known or self._sending_error is not None

    @property
    def until(self) -> float:
        return self._clock.until

    def progress(self) -> None:
        """Bytes of this exchange have come, though nothing complete."""
        if self._body_sent:
            self._clock.extend(self._clock.timeout.read)

    def heard(self) -> None:
        # A peer that always has something ready can keep a cancellation from being delivered.
        self._clock.check()

    def take(self, event: WireEvent) -> None:
        if type(event) is SendAllowed:
            if self._sending is not None and self._sending.window is not None:
                self._sending.window.set_open()
            return
        if type(event) is DataReceived and len(event.data) < SMALL_PIECE:
            self._take_small(event)
        else:
            self._events.append(event)
        if self._wake is not None:
            self.notify()
        if type(event) is Ended or type(event) is Failed:
            self._finish()

    def take_answer(self, head: ResponseHead, content: bytes) -> None:
        """The whole answer, at once."""
        self._answer = head
        self.content = content
        if self._wake is not None:
            self.notify()
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
            sending = self._sending
            if sending is not None:
                if not sending.complete:
                    sending.give_up()
                if self._carrying is not None:
                    self._carrying.cancel()
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

    def begin(self, request: Request, at: float) -> None:
        """Send what leaves without a wait. *at*: now. Our errors where that fails; then the exchange is over."""
        connection, clock = self._connection, self._clock
        connection.used = True
        clock.phase = Phase.SEND  # what the kernel takes at once needs no limit
        self._began = at
        self._on_informational = request.on_informational
        sending = self._sending = Sending(connection, clock, request)
        try:
            if at >= clock.deadline:
                raise clock.timeout_error()
            sending.open()
            self.number = sending.number
            connection.exchanges[self.number] = self
            if not sending.complete:
                self._rest = sending.queue_small()
            if connection.shared and connection.has_reader:
                return
            self._pushed = True
            self._lost = sending.push()
            if self._lost is not None or (self._rest is None and not connection.stream.unsent):
                self._body_sent = True  # or there is nobody to send it to
                clock.timings.send = clock.allow(Phase.RECEIVE, clock.timeout.read) - at
        except StreamClosed as exc:
            self.abandon()
            raise self._closed() from exc
        except BaseException:
            self.abandon()
            raise

    def head(self) -> Awaitable[ResponseHead]:
        """Send the rest, wait for the head of the response. Our errors where that fails; then the exchange is over."""
        return self._read_head() if self._body_sent else self._send_and_read_head(self._rest)

    def note_answer(self, now: float) -> None:
        """The head is here."""
        clock = self._clock
        timings = clock.timings
        timings.first_byte = now - self._began - (timings.send or 0.0)
        clock.outcome = Outcome.ANSWERED
        clock.phase = Phase.BODY
        clock.body_size = 0

    async def _send_and_read_head(self, rest: Rest | None) -> ResponseHead:
        connection, clock, sending = self._connection, self._clock, self._sending
        assert sending is not None  # begin() makes it
        try:
            lost = self._lost
            if not self._pushed:
                try:
                    lost = await sending.push_with_others()
                except StreamClosed as exc:
                    raise self._closed() from exc
            if lost is not None or (rest is None and not connection.stream.unsent):
                self._body_sent = True
                clock.timings.send = clock.allow(Phase.RECEIVE, clock.timeout.read) - self._began
                return await self._read_head()
            if rest is not None and sending.expects_permission:
                head = await self._wait_for_permission()
                if head is not None:
                    sending.give_up()
                    self._body_sent = True
                    return head
            if isinstance(rest, StreamedBody) and clock.request.carrier is not None:
                return await self._send_beside(sending, rest, clock.request.carrier)
            with clock:
                clock.allow(Phase.SEND, clock.timeout.write)
                head = await self._send_while_reading(sending, rest)
            self._body_sent = True  # or given up: from here on we wait for the server only
            return head
        except BaseException:
            self.abandon(timed_out=clock.has_passed)
            raise

    async def _read_head(self) -> ResponseHead:
        """The head of the final response. The limit of the first wait is set."""
        clock, connection = self._clock, self._connection
        try:
            head = self._queued_head()
            while head is None or head.status_code < 200:
                if head is None:
                    self._heard = connection.received
                    try:
                        await connection.wait(self)
                    except LimitPassed:
                        raise clock.timeout_error() from None
                    except OSError as exc:
                        raise self._broken(exc) from exc
                head = self._queued_head()
                if head is None and self._body_sent:
                    clock.allow(clock.phase, clock.timeout.read)
            return head
        except BaseException:
            self.abandon(timed_out=clock.has_passed)
            raise

    def _queued_head(self) -> ResponseHead | None:
        """The next head that has come, interim ones (1xx) included."""
        if self._answer is not None:
            return self._answer
        while self._events:
            event = self._events.popleft()
            match event:
                case ResponseReceived():
                    return event.head
                case Failed():
                    raise self._failure(event)
                case InterimReceived():
                    self._tell(event.head)
                    return event.head
                case DataReceived() | Ended() | SendAllowed():
                    pass
        if self._sending_error is not None:
            self._raise_sending_error()
        return None

    def _tell(self, head: ResponseHead) -> None:
        if self._on_informational is not None:
            try:
                self._on_informational(head.status_code, head.headers)
            except APIConnectionError as exc:  # of the caller's own: it says nothing about this exchange
                exc.retryable = False
                raise

    async def _receive(self) -> None:
        """Wait for more of this exchange. Our errors where the connection is lost."""
        if self._body_sent:
            self._clock.allow(self._clock.phase, self._clock.timeout.read)
        self._heard = self._connection.received
        try:
            await self._connection.wait(self)
        except LimitPassed:
            raise self._clock.timeout_error() from None
        except OSError as exc:
            raise self._broken(exc) from exc

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

    def _broken(self, exc: OSError) -> APIConnectionError:
        """The error for a connection that is lost, or closed on our side."""
        if isinstance(exc, StreamClosed):
            return self._closed()
        self._finish()
        if is_alert(exc):
            return session_ended(self._clock, exc)
        lost = self._clock.error(ConnectionLostError, f"The connection was lost: {exc}")
        lost.reused = self._died_idle
        return lost

    @property
    def _died_idle(self) -> bool:
        """Whether a used connection ended without a byte of an answer: it may well have been closed while idle."""
        return self._reused and self._connection.received == self._received_before

    def _closed(self) -> APIConnectionError:
        return client_closed(self._clock.request, self._clock.phase, self._clock.outcome)

    # -- bodies that do not leave at once

    async def _wait_for_permission(self) -> ResponseHead | None:
        """Wait for 100 (Continue), or for so long; the head of the answer, where the server has enough without the body."""
        self._clock.allow(Phase.RECEIVE, self._clock.timeout.read)
        with anyio.move_on_after(EXPECT_TIME):
            while True:
                head = self._queued_head()
                if head is None:
                    await self._receive()
                elif head.status_code == 100:
                    return None
                elif head.status_code >= 200:
                    return head
        return None

    async def _send_while_reading(self, sending: Sending, rest: Rest | None) -> ResponseHead:
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
                    if not self.over or (sending.complete and not self._connection.stream.unsent):
                        return  # there is more to send, or nothing any more
            except cancelled:
                raise
            except BaseException as exc:
                error = exc
            scope.cancel()

        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                group.start_soon(read)
                try:
                    await self._send(sending, rest)
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

    async def _send(self, sending: Sending, rest: Rest | None) -> None:
        try:
            await sending.send(rest)
        except StreamClosed as exc:
            raise self._closed() from exc
        self._body_sent = True
        sending.clock.allow(Phase.RECEIVE, sending.clock.timeout.read)

    async def _send_beside(self, sending: Sending, rest: Rest | None, carrier: Carrier) -> ResponseHead:
        """A task of the caller's own block sends the rest, also while the caller reads the answer (full duplex)."""
        self._clock.allow(Phase.RECEIVE, None)  # the limit for reading begins when the request is complete
        carrier(self._carry, sending, rest)
        head = await self._read_head()
        if not head.is_success and self._carrying is not None:
            sending.give_up()
            self._carrying.cancel()
        return head

    async def _carry(self, sending: Sending, rest: Rest | None) -> None:
        clock = sending.clock = Clock(self._clock.request, self._clock.timeout, self._clock.deadline, self._clock.loop)
        with anyio.CancelScope() as scope:
            self._carrying = scope
            if sending.given_up:
                return
            try:
                with clock:
                    await self._send(sending, rest)
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as exc:
                # Whoever reads has it raised there, so that it does not end the block from outside, in a group.
                self._sending_error = exc
                self._connection.wake(self)
                return
            self._clock.extend(self._clock.timeout.read)
            self._connection.wake(self)  # it is waited for with another limit now

    def _raise_sending_error(self) -> None:
        """What has ended the sending task is raised once: where the answer is read, or given up."""
        error, self._sending_error = self._sending_error, None
        if error is not None:
            self.raised = error
            self.abandon()
            raise error

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

    # -- the body of the response

    async def next_data(self) -> bytes | None:
        """What has come of the body, None after its end. Each wait has the read limit and the deadline of the clock."""
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
            self._raise_sending_error()
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
