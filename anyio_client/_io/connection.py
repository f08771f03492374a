"""One connection: the stream to an origin, the codec of its bytes, and the exchanges under way on it.

Nothing runs in the background. Whoever waits for something that comes over the connection, and finds nobody reading,
takes the *baton*: it reads, hands what comes to those whom it concerns, and passes the baton on when it leaves, also
when it is cancelled. On HTTP/1.1 there is one who waits, and it always reads.

What was queued is the stream's to keep until the kernel takes it, so a caller who is cancelled tears no frame: the rest
leaves with the next flush. Who reads while bytes are kept and nobody flushes them does that too, else two peers who
both wait to write would face each other for ever.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.lowlevel

from .._model.head import ResponseHead
from .._model.snapshot import ConnectionInfo
from .._wire.protocol import Wire, WireEvent
from .event_loop import EventLoop
from .stream import LimitPassed, Nudged, Stream, StreamClosed
from .tls_alerts import is_alert

if TYPE_CHECKING:
    import ssl

__all__ = ["Connection", "KeepAlive", "Owner", "Waiter"]

# How many reads at most are made of what has arrived, before a connection is used: a flood must not hold its next user.
MAX_CHECK_READS = 16
PROBE_TIME = 1.0  # seconds for the answer to a PING, where the user has named none


class Waiter:
    """Somebody who waits for what comes over a connection. ``ready`` is what it waits for, ``until`` when it must end."""

    __slots__ = ("_wake",)

    def __init__(self) -> None:
        self._wake: Any = None

    @property
    def ready(self) -> bool:
        """Never, unless a subclass says otherwise: such a waiter reads for others."""
        return False

    @property
    def until(self) -> float:
        return math.inf

    def heard(self) -> None:
        """Something has come that did not make it ready. Whoever has a time limit looks at it here."""

    def notify(self) -> None:
        """Something has come that may make it ready."""
        if self._wake is not None:
            self._wake.set()

    async def sleep(self, loop: EventLoop) -> None:
        """Until it is notified."""
        self._wake = loop.make_event()
        try:
            await self._wake.wait()
        finally:
            self._wake = None


class Owner(Protocol):
    """Whoever carries an exchange on a connection: takes its events. ``title`` says which, for a message."""

    number: int

    @property
    def began(self) -> float: ...
    @property
    def title(self) -> str: ...

    def take(self, event: WireEvent) -> None: ...
    def take_answer(self, head: ResponseHead, content: bytes) -> None: ...
    def progress(self) -> None: ...


class _Pool(Protocol):
    """What a connection needs of its pool."""

    def freed(self, connection: Connection, now: float) -> None: ...
    def broke(self, connection: Connection) -> None: ...
    def capacity_changed(self, connection: Connection) -> None: ...


class KeepAlive:
    """When to ask a silent HTTP/2 connection whether it is alive (RFC 9113 section 6.7). Seconds."""

    __slots__ = ("interval", "timeout")

    def __init__(self, interval: float, timeout: float | None) -> None:
        self.interval: float = interval
        self.timeout: float | None = timeout


class Connection:
    """A stream to an origin, the codec of its bytes, and the exchanges under way on it."""

    __slots__ = (
        "_answer",
        "_capacity",
        "_doubted",
        "_flushing",
        "_keepalive",
        "_lost",
        "_pool",
        "_probing",
        "_reading",
        "_reads_until",
        "_retired",
        "_settled",
        "_soonest",
        "_unpushed",
        "_waiters",
        "began",
        "exchanges",
        "idle_since",
        "loop",
        "now",
        "number",
        "origin",
        "received",
        "shared",
        "stream",
        "used",
        "wire",
    )

    def __init__(
        self,
        number: int,
        origin: str,
        stream: Stream,
        wire: Wire,
        pool: _Pool,
        loop: EventLoop,
        keepalive: KeepAlive | None = None,
    ) -> None:
        self.number: int = number
        self.origin: str = origin
        self.stream: Stream = stream
        self.wire: Wire = wire
        self.shared: bool = wire.http_version == "HTTP/2"  # it may carry several exchanges at once
        self.loop: EventLoop = loop
        self.now: Callable[[], float] = loop.now
        self.began: float = loop.now()
        self.idle_since: float = self.began
        self.used: bool = False  # it has carried an exchange
        self.received: int = 0  # bytes, decrypted
        self.exchanges: dict[int, Owner] = {}
        self._pool = pool
        self._keepalive = keepalive if self.shared else None
        self._capacity = wire.capacity()  # as the pool knows it
        self._settled: bool = wire.settled
        self._lost: OSError | None = None  # why nothing can be read any more
        self._retired = False
        self._doubted = False
        self._reading = False  # somebody has the baton
        self._unpushed = False  # something is queued that somebody is about to push
        self._probing: anyio.Event | None = None  # set when it is known whether it still answers
        self._answer: Waiter | None = None  # the one who has asked
        self._waiters: dict[Waiter, None] = {}  # those who sleep, the longest first
        self._soonest = math.inf  # no limit of theirs passes before; it may be too early, which costs one look
        self._reads_until = math.inf  # the limit with which it is read now
        self._flushing: anyio.Event | None = None  # set when whoever flushes has flushed some

    # -- reading

    async def wait(self, waiter: Waiter) -> None:
        """Wait until *waiter* is ready; read for everybody if nobody does. OSError where the connection is lost,
        :class:`LimitPassed` where the waiter's limit has passed.

        Always a checkpoint.
        """
        try:
            while True:
                if self._lost is not None:
                    await anyio.lowlevel.checkpoint()
                    raise self._lost
                if self._reading:
                    self._waiters[waiter] = None
                    if waiter.until < self._soonest:
                        self._soonest = waiter.until
                        if self._soonest < self._reads_until:
                            self.stream.nudge()  # whoever reads looks after the limits of all
                    try:
                        await waiter.sleep(self.loop)
                    finally:
                        self._waiters.pop(waiter, None)
                else:
                    self._reading = True
                    until = waiter.until
                    if not self._waiters:
                        self._soonest = math.inf
                    elif self._soonest < until:
                        until = self._soonest
                    self._reads_until = until
                    try:
                        if self.stream.unsent and self._flushing is None:
                            await self._read_while_flushing(until)
                        elif self._keepalive is not None:
                            self.take(await self._receive(until))
                        else:
                            self.take(await self.stream.receive(until))
                    except Nudged:
                        pass  # somebody has left bytes to flush, or has a limit, or has made the waiter ready
                    except LimitPassed:
                        self._notify_late()
                        if self.now() >= waiter.until:
                            raise
                    except OSError as exc:
                        self._lose(exc)
                        raise
                    finally:
                        self._reading = False
                if waiter.ready:
                    return
                waiter.heard()
        finally:
            if self._waiters and not self._reading:
                self._pass_baton()

    def _notify_late(self) -> None:
        """Those who sleep, and whose limit has passed, find out; when is the next one's?"""
        now = self.now()
        self._soonest = math.inf
        for waiter in self._waiters:
            until = waiter.until
            if until <= now:
                waiter.notify()
            elif until < self._soonest:
                self._soonest = until

    def _pass_baton(self) -> None:
        waiter = next(iter(self._waiters))
        del self._waiters[waiter]
        waiter.notify()

    async def _receive(self, until: float) -> bytes:
        """Wait for bytes; where the user wants it, ask a silent peer whether it is alive."""
        keepalive = self._keepalive
        if keepalive is None or (asks := self.now() + keepalive.interval) >= until:
            return await self.stream.receive(until)
        try:
            return await self.stream.receive(asks)
        except LimitPassed:
            self.wire.ping()
            self.push()
        ends = math.inf if keepalive.timeout is None else self.now() + keepalive.timeout
        try:
            return await self.stream.receive(min(ends, until))
        except LimitPassed:
            if until <= ends:
                raise
            raise OSError(errno.ETIMEDOUT, f"no answer to a PING for {keepalive.timeout:g} s") from None

    async def _read_while_flushing(self, until: float) -> None:
        """Somebody was cancelled, or the peer makes us answer: what is kept would stay there."""
        error: OSError | Nudged | LimitPassed | None = None

        async def flush() -> None:
            try:
                await self.drain(self.position)
            except OSError:
                pass  # reading will tell

        async with anyio.create_task_group() as group:
            group.start_soon(flush)
            try:
                self.take(await self._receive(until))  # in here: leaving the block may end by a cancellation
            except (OSError, Nudged, LimitPassed) as exc:
                error = exc
            group.cancel_scope.cancel()
        if error is not None:
            raise error

    def take(self, data: bytes) -> None:
        """What was read: hand the events to their owners, and what the codec answers to the stream."""
        self.received += len(data)
        if self.shared:
            self._take_shared(data)
            return
        answer = self.wire.receive_folded(data)
        for owner in self.exchanges.values():  # there is one, or none any more
            if isinstance(answer, tuple):
                owner.take_answer(*answer)
            elif not answer:
                owner.progress()
            else:
                for event in answer:
                    owner.take(event)
            return

    def _take_shared(self, data: bytes) -> None:
        self._doubted = False
        if self._answer is not None:
            self._answer.notify()
        events = self.wire.receive(data)
        self._report_capacity()  # first: what the events free is not to be used where there is no room any more
        for event in events:
            owner = self.exchanges.get(event.exchange)
            if owner is not None:
                owner.take(event)
        owner = self.exchanges.get(self.wire.receiving)
        if owner is not None:
            owner.progress()
        if self.closing and not self.exchanges and self._lost is None:
            self._pool.broke(self)
        self.push_quietly()

    @property
    def closing(self) -> bool:
        """Takes no further exchanges, ever; those under way may still complete."""
        return self._retired or self.wire.closing

    @property
    def capacity(self) -> int:
        return 0 if self._retired else self.wire.capacity()

    def doubt(self, *, was_silent: bool) -> None:
        """Somebody has waited for the peer to the limit. HTTP/1.1 is closed then; here others use the connection.

        If the kernel takes no bytes, it gets no further exchanges; if it was silent altogether, it is asked before.
        """
        if self.shared:
            self._doubted |= was_silent
            if self.stream.unsent:
                self._retire()

    def _retire(self) -> None:
        self._retired = True
        self._report_capacity()

    @property
    def settled(self) -> bool:
        """Whether the pool need not wait to hear how many exchanges it carries."""
        return self._settled

    def settle(self) -> None:
        """The peer has not said its limit for long enough: whoever waits for that waits no more."""
        if not self._settled:
            self._settled = True
            self._pool.capacity_changed(self)

    def _report_capacity(self) -> None:
        capacity, settled = self.capacity, self._settled or self.wire.settled
        if capacity != self._capacity or settled != self._settled:
            self._capacity, self._settled = capacity, settled
            self._pool.capacity_changed(self)

    def read_arrived(self, reads: int = 1) -> None:
        """Read what has arrived, without waiting, unless somebody reads anyway."""
        if self._reading or self._lost is not None:
            return
        try:
            for _ in range(reads):
                data = self.stream.receive_nowait()
                if data is None:
                    return
                self.take(data)
                if not data or self._lost is not None:
                    return
        except OSError as exc:
            self._lose(exc)

    def is_alive(self) -> bool:
        """Whether the connection takes exchanges, as far as can be known without waiting."""
        if not self.shared and not self._reading and self._lost is None:
            try:
                data = self.stream.receive_nowait()
                if data is None:
                    return not self.wire.closing
                self.take(data)  # a goodbye, or worse (RFC 9112 section 9.2): the codec is of no use any more
            except OSError as exc:
                self._lose(exc)
            return False
        self.read_arrived(MAX_CHECK_READS)
        return self._lost is None and not self.closing

    @property
    def alert(self) -> ssl.SSLError | None:
        """What the peer said as it ended the TLS session, if it did."""
        return self._lost if is_alert(self._lost) else None

    @property
    def has_room(self) -> bool:
        return len(self.exchanges) < self.capacity

    @property
    def in_doubt(self) -> bool:
        """Whether it should be asked before it is used: silent to somebody's limit, or idle for long."""
        keepalive = self._keepalive
        idle = keepalive is not None and not self.exchanges and self.now() - self.idle_since >= keepalive.interval
        return self._doubted or idle or self._probing is not None

    async def probe(self) -> bool:
        """Whether the connection still answers. Who comes meanwhile waits for the same answer."""
        while self._probing is not None:
            await self._probing.wait()
        if not self.in_doubt:
            return self.is_alive()
        self._probing = anyio.Event()
        answer = self._answer = _Answer(self)
        try:
            self.wire.ping()
            self.push()
            with anyio.move_on_after(PROBE_TIME if self._keepalive is None else self._keepalive.timeout):
                await self.wait(answer)
        except OSError:
            return False
        finally:
            probing, self._probing, self._answer = self._probing, None, None
            probing.set()
        if answer.ready:
            self.idle_since = self.now()
            return self.is_alive()
        if self.exchanges:
            self._retire()  # they have limits of their own
        else:
            self._lose(OSError(errno.ETIMEDOUT, "no answer to a PING"))
        return False

    def wake(self, waiter: Waiter) -> None:
        """*waiter* has become ready by itself; it sleeps, or reads."""
        waiter.notify()
        if self._reading:
            self.stream.nudge()

    async def serve(self) -> None:
        """Read for others until the connection is lost: for who waits for a place on it."""
        try:
            await self.wait(Waiter())
        except OSError:
            pass

    # -- writing

    def push(self) -> None:
        """Hand the codec's output to the stream. OSError where the connection is lost."""
        self._unpushed = False
        output = self.wire.take_output()
        if output:
            self.stream.send_nowait(output)

    async def push_with_others(self) -> None:
        """The same, in one write with what tasks that run now are about to send; for a connection where somebody reads.

        Costs a turn of the event loop, which a write and a record of TLS for each of many requests cost several times.
        """
        self._unpushed = True
        await anyio.lowlevel.checkpoint()
        if self._unpushed:
            self.push()

    @property
    def has_reader(self) -> bool:
        return self._reading

    def push_quietly(self) -> None:
        """The same where nobody is there to hear of a failure: reading will tell."""
        try:
            self.push()
        except OSError:
            pass
        self._leave_flushing()

    def _leave_flushing(self) -> None:
        """Nobody flushes what is kept any more: whoever reads does both from now on."""
        if self.stream.unsent and self._reading and self._flushing is None:
            self.stream.nudge()

    @property
    def position(self) -> int:
        """How many bytes were handed to the stream, as :attr:`Stream.sent` counts."""
        return self.stream.sent + self.stream.unsent

    async def drain(self, position: int, before: Callable[[], None] | None = None) -> None:
        """Wait until the kernel has taken everything up to *position*; *before* is called before each wait."""
        stream = self.stream
        while stream.unsent and stream.sent < position:
            if before is not None:
                before()
            if self._flushing is not None:
                await self._flushing.wait()
                continue
            self._flushing = anyio.Event()
            try:
                await stream.flush()
            except BaseException:
                self._flushed()
                self._leave_flushing()
                raise
            self._flushed()
        self._leave_flushing()  # others may have queued more meanwhile

    def _flushed(self) -> None:
        if self._flushing is not None:
            self._flushing.set()
            self._flushing = None

    def info(self, now: float) -> ConnectionInfo:
        """What it is doing."""
        state = "closing" if self.closing else "active" if self.exchanges else "idle"
        idle = None if self.exchanges else now - self.idle_since
        version = self.wire.http_version
        return ConnectionInfo(self.origin, version, state, len(self.exchanges), now - self.began, idle)

    # -- the end

    def release(self, exchange: Owner) -> None:
        """The exchange is over: the pool may use its place, if the connection can carry more."""
        self.exchanges.pop(exchange.number, None)
        if self._lost is not None:
            return
        if self.closing and not self.exchanges:
            self._pool.broke(self)
            return
        now = self.now()
        if not self.exchanges:
            self.idle_since = now
        self._pool.freed(self, now)

    def _lose(self, exc: OSError) -> None:
        """Nothing can be read any more. Everybody who waits hears of it, and the pool."""
        if self._lost is None:
            self._lost = exc
            self._pool.broke(self)

    def close(self) -> None:
        """Say goodbye if that needs no wait, close the stream, tell those who wait. May be called twice."""
        if self._lost is None:
            self._lost = StreamClosed("the connection was closed")
        if self.shared:
            self.wire.close()
            self._drop_arrived()
            self.push_quietly()
        self.stream.close()
        while self._waiters:
            self._pass_baton()

    def _drop_arrived(self) -> None:
        """A socket that is closed with unread bytes is reset, and the peer may never read our goodbye."""
        try:
            for _ in range(MAX_CHECK_READS):
                if not self.stream.receive_nowait():
                    return
        except OSError:
            pass


class _Answer(Waiter):
    """Waits for any byte from the peer."""

    __slots__ = ("_connection", "_received")

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self._received = connection.received

    @property
    def ready(self) -> bool:
        return self._connection.received > self._received
