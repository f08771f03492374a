"""A socket as a stream of bytes, on each event loop: what is read, when a wait ends, and that nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import math
import select
import socket
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing

from anyio_client._io.event_loop import EventLoop
from anyio_client._io.stream import (
    MAX_READ_SIZE,
    READ_SIZE,
    LimitPassed,
    Nudged,
    SocketStream,
    StreamClosed,
    make_stream,
)
from tests.conftest import BACKENDS
from tests.kit.h2peer import Call, begin
from tests.kit.leaks import open_sockets, settled_sockets, task_count
from tests.kit.peers import Peer, serve

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]

LATE = 3.0  # seconds that a wait may end after its limit, on a machine that does other things too

# A socket that stays registered is what asyncio and uvloop have; the other stream works there too (asyncio on Windows).
registered = pytest.mark.parametrize("anyio_backend", [loop for loop in BACKENDS if loop.id != "trio"])
_EITHER = [
    *[pytest.param(loop.values[0], make_stream, id=f"{loop.id}-usual") for loop in BACKENDS],
    pytest.param(BACKENDS[0].values[0], SocketStream, id="asyncio-plain"),
]
both = pytest.mark.parametrize(("anyio_backend", "make"), _EITHER)
both_registered = pytest.mark.parametrize(("anyio_backend", "make"), [row for row in _EITHER if "trio" not in row.id])


class Watched:
    """An event loop of asyncio's kind, whose timers and callbacks are counted."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self.timers: list[Any] = []
        self._rung: list[Any] = []
        self.callbacks = 0
        self.after_read: Callable[[], object] | None = None  # right after the callback, before anybody wakes up

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    def call_at(self, when: float, callback: Callable[[], object]) -> Any:
        def ring() -> None:
            self._rung.append(handle)
            callback()

        handle = self._native.call_at(when, ring)
        self.timers.append(handle)
        return handle

    def add_reader(self, fd: int, callback: Callable[[], object]) -> None:
        def read() -> None:
            self.callbacks += 1
            callback()
            if self.after_read is not None:
                self.after_read()

        self._native.add_reader(fd, read)

    @property
    def armed(self) -> int:
        """Timers that are still to ring."""
        return sum(handle not in self._rung and not handle.cancelled() for handle in self.timers)


class Recorded(socket.socket):
    """Notes how much each read asked for, and how much it got."""

    asked: list[int]
    got: list[int]

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        data = super().recv(size, flags)
        self.asked.append(size)
        self.got.append(len(data))
        return data


class Pair:
    """A stream, and the other end of its connection: a blocking socket in the test's own hands."""

    def __init__(self, stream: SocketStream, theirs: socket.socket, loop: EventLoop, watched: Watched) -> None:
        self.stream = stream
        self.theirs = theirs
        self.now = loop.now
        self.watched = watched

    @property
    def ours(self) -> socket.socket:
        return self.stream.socket

    def send(self, data: bytes) -> None:
        """Send this; once this returns it has arrived."""
        self.theirs.sendall(data)
        assert select.select([self.ours], [], [], 10)[0]

    def reset(self, data: bytes = b"") -> None:
        """Send this, and end the connection with RST at once; once this returns both have arrived."""
        poll = select.poll()
        poll.register(self.ours, 0)  # errors only
        self.theirs.sendall(data)
        self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.theirs.close()
        assert poll.poll(10_000)


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs = listener.accept()[0]
    theirs.settimeout(10)
    theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ours.setblocking(False)
    return ours, theirs


@contextlib.contextmanager
def pair(make: Callable[[socket.socket, EventLoop], SocketStream] = make_stream, wrap: Any = None) -> Iterator[Pair]:
    """At the end nothing may be left of it: no reader, no timer."""
    loop = EventLoop()
    native: Any = loop.token
    watched = Watched(native)
    if hasattr(native, "add_reader"):
        loop.token, loop.find = watched, lambda: watched
    ours, theirs = connected()
    if wrap is not None:
        ours = wrap(fileno=ours.detach())
        ours.asked, ours.got = [], []
    fd = ours.fileno()
    stream = make(ours, loop)
    try:
        yield Pair(stream, theirs, loop, watched)
    finally:
        stream.close()
        theirs.close()
        if hasattr(native, "remove_reader"):
            assert not native.remove_reader(fd), "still registered"
            assert not native.remove_writer(fd), "still registered"
    assert not watched.armed
    assert ours.fileno() == -1


async def receive_all(stream: SocketStream) -> bytes:
    """To the end."""
    pieces = bytearray()
    while data := await stream.receive():
        pieces += data
    return bytes(pieces)


async def waiting(group: Any, work: Awaitable[Any]) -> Call:
    """*work* is begun, and waits."""
    call = begin(group, work)
    await anyio.wait_all_tasks_blocked()
    assert not call.is_over
    return call


# --- what comes ------------------------------------------------------------------------------------------------------


@both
async def test_bytes_then_the_end(make: Any) -> None:
    with pair(make) as made:
        made.send(b"one")
        assert await made.stream.receive() == b"one"
        async with anyio.create_task_group() as group:
            call = await waiting(group, made.stream.receive())
            made.send(b"two")
            assert await call.end() == b"two"
            call = await waiting(group, made.stream.receive(made.now() + 30))
            made.theirs.close()
            assert await call.end() == b""
        for _ in range(3):
            with anyio.fail_after(5):
                assert await made.stream.receive() == b""
            assert made.stream.receive_nowait() == b""


@both
@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_a_reset_is_an_error(make: Any, when: str) -> None:
    with pair(make) as made:
        async with anyio.create_task_group() as group:
            if when == "before":
                made.reset()
                call = begin(group, made.stream.receive())
            else:
                call = await waiting(group, made.stream.receive())
                made.reset()
            with pytest.raises(ConnectionResetError):
                await call.end()
        assert made.stream.receive_nowait() == b""  # an error is said once


@both
async def test_what_has_arrived_is_read_without_waiting(make: Any) -> None:
    with pair(make) as made:
        assert made.stream.receive_nowait() is None
        made.send(b"1")
        assert made.stream.receive_nowait() == b"1"
        assert made.stream.receive_nowait() is None
        made.send(b"2")
        assert await made.stream.receive() == b"2"
        assert made.stream.receive_nowait() is None
        made.reset(b"3")
        assert made.stream.receive_nowait() == b"3"
        with pytest.raises(ConnectionResetError):
            made.stream.receive_nowait()


@both
async def test_receive_nowait_beside_somebody_who_waits_takes_each_byte_once(make: Any) -> None:
    """At each moment between the arrival of the bytes and the end of the wait for them."""
    with pair(make) as made:
        for turns in range(6):
            async with anyio.create_task_group() as group:
                call = await waiting(group, made.stream.receive())
                made.send(b"1")
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                taken = made.stream.receive_nowait() or b""
                await anyio.wait_all_tasks_blocked()
                made.send(b"2")
                try:
                    taken += await call.end()
                except Nudged:
                    pass
            if len(taken) < 2:
                taken += await made.stream.receive()
            assert taken == b"12"


@registered
async def test_what_the_callback_has_read_may_be_taken_by_another() -> None:
    with pair() as made:
        taken = []
        made.watched.after_read = lambda: taken.append(made.stream.receive_nowait())
        made.send(b"1")
        with anyio.fail_after(5), pytest.raises(Nudged):
            await made.stream.receive()
        made.watched.after_read = None
        assert taken == [b"1"]
        made.send(b"2")
        assert await made.stream.receive() == b"2"


@both
@pytest.mark.parametrize("limit", [math.inf, 30.0])
async def test_where_nobody_waits_nothing_is_read_and_nothing_turns(make: Any, limit: float) -> None:
    with pair(make) as made:
        made.send(b"1")
        assert await made.stream.receive(made.now() + limit) == b"1"
        made.send(b"2")
        calls = made.watched.callbacks
        for _ in range(20):
            await anyio.sleep(0.002)
        assert made.watched.callbacks <= calls + 1
        assert made.ours.recv(1, socket.MSG_PEEK) == b"2"
        assert await made.stream.receive() == b"2"


async def test_a_wait_is_a_checkpoint_though_the_bytes_are_there() -> None:
    with pair() as made:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            group.start_soon(turn)
            for _ in range(50):
                made.send(b"1")
                assert await made.stream.receive() == b"1"
            group.cancel_scope.cancel()
        assert turns >= 40


# --- closing ---------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("limit", [math.inf, 30.0])
async def test_closing_ends_a_wait(make: Any, limit: float) -> None:
    with pair(make) as made:
        async with anyio.create_task_group() as group:
            call = await waiting(group, made.stream.receive(made.now() + limit))
            made.stream.close()
            with pytest.raises(StreamClosed):
                await call.end()
        assert made.theirs.recv(1) == b""


@both
async def test_closing_while_the_bytes_of_a_wait_are_there(make: Any) -> None:
    with pair(make) as made:
        async with anyio.create_task_group() as group:
            call = await waiting(group, made.stream.receive())
            made.send(b"1")
            made.stream.close()
            with pytest.raises(StreamClosed):
                await call.end()


@registered
async def test_closing_between_the_callback_and_the_end_of_the_wait() -> None:
    with pair() as made:
        made.watched.after_read = made.stream.close
        made.send(b"1")
        with anyio.fail_after(5), pytest.raises(StreamClosed):
            await made.stream.receive()


@both
async def test_a_closed_stream_says_so(make: Any) -> None:
    with pair(make) as made:
        made.stream.close()
        made.stream.close()
        made.stream.nudge()
        for limit in (math.inf, made.now() + 30, made.now() - 1):
            with pytest.raises(StreamClosed):
                await made.stream.receive(limit)
        with pytest.raises(StreamClosed):
            made.stream.receive_nowait()
        with pytest.raises(StreamClosed):
            made.stream.send_nowait(b"1")
        with pytest.raises(StreamClosed):
            await made.stream.flush()


def fill(stream: SocketStream) -> int:
    """Send until the kernel takes no more; how much it was."""
    piece = bytes(2**20)
    size = 0
    while not stream.unsent:
        stream.send_nowait(piece)
        size += len(piece)
    return size


@both
async def test_closing_ends_a_flush_beside_a_wait(make: Any) -> None:
    with pair(make) as made:
        fill(made.stream)
        async with anyio.create_task_group() as group:
            calls = [await waiting(group, made.stream.receive()), await waiting(group, made.stream.flush())]
            made.stream.close()
            for call in calls:
                with pytest.raises(StreamClosed):
                    await call.end()
        assert made.stream.unsent == 0
        assert made.ours.fileno() == -1


@pytest.mark.parametrize("loop", BACKENDS)
@pytest.mark.parametrize("waits", [True, False])
def test_a_stream_is_closed_after_its_loop(loop: Any, waits: bool) -> None:
    """Its holder was collected late."""

    async def main() -> tuple[SocketStream, socket.socket]:
        ours, theirs = connected()
        stream = make_stream(ours, EventLoop())
        if waits:
            with anyio.move_on_after(0.01):
                await stream.receive(anyio.current_time() + 30)
        return stream, theirs

    backend, options = loop if isinstance(loop, tuple) else loop.values[0]
    stream, theirs = anyio.run(main, backend=backend, backend_options=options)
    stream.close()
    assert theirs.recv(1) == b""
    theirs.close()


# --- nudging ---------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("limit", [math.inf, 30.0])
async def test_a_nudge_ends_a_wait_and_loses_nothing(make: Any, limit: float) -> None:
    with pair(make) as made, anyio.fail_after(10):
        for turns in range(5):
            async with anyio.create_task_group() as group:
                call = await waiting(group, made.stream.receive(made.now() + limit))
                made.stream.nudge()
                with pytest.raises(Nudged):
                    await call.end()
                call = await waiting(group, made.stream.receive(made.now() + limit))
                made.send(b"1")
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                made.stream.nudge()
                try:
                    data = await call.end()
                except Nudged:
                    data = await made.stream.receive()
                assert data == b"1"


@both
async def test_a_nudge_without_a_wait_is_nothing(make: Any) -> None:
    with pair(make) as made:
        made.stream.nudge()
        async with anyio.create_task_group() as group:
            call = await waiting(group, made.stream.receive())
            made.send(b"1")
            assert await call.end() == b"1"
            made.stream.nudge()
            call = await waiting(group, made.stream.receive())
            made.send(b"2")
            assert await call.end() == b"2"


@both
async def test_a_nudge_is_not_for_who_flushes(make: Any) -> None:
    with pair(make) as made:
        size = fill(made.stream)
        async with anyio.create_task_group() as group:
            flush = await waiting(group, made.stream.flush())
            made.stream.nudge()
            await anyio.wait_all_tasks_blocked()
            assert not flush.is_over
            seen = 0
            while not flush.is_over:
                seen += len(made.theirs.recv(2**20))
                await anyio.lowlevel.checkpoint()
            await flush.end()
            assert made.stream.sent + made.stream.unsent == size
            while made.stream.unsent:
                call = begin(group, made.stream.flush())
                while not call.is_over:
                    made.theirs.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        seen += len(made.theirs.recv(2**20))
                    await anyio.lowlevel.checkpoint()
            made.theirs.settimeout(10)
            while seen < size:
                seen += len(made.theirs.recv(2**20))
        assert made.stream.sent == size


# --- cancelling ------------------------------------------------------------------------------------------------------


class Reader:
    """Receives until it is cancelled; ``taken`` is what it got, ``task`` asyncio's name for it."""

    def __init__(self, stream: SocketStream, limit: float) -> None:
        self._stream = stream
        self._limit = limit
        self.taken = bytearray()
        self.scope = anyio.CancelScope()
        self.over = False
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        with self.scope:
            while True:
                self.taken += await self._stream.receive(self._limit)

    def start(self) -> None:
        self.task = asyncio.ensure_future(self.run())


@both
@pytest.mark.parametrize("limit", [math.inf, 30.0])
async def test_a_scope_that_is_cancelled_as_the_bytes_arrive_loses_none(make: Any, limit: float) -> None:
    for turns in range(8):
        with pair(make) as made, anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                reader = Reader(made.stream, made.now() + limit)
                group.start_soon(reader.run)
                await anyio.wait_all_tasks_blocked()
                made.send(b"1")
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                reader.scope.cancel()
            made.send(b"2")
            made.theirs.shutdown(socket.SHUT_WR)
            assert bytes(reader.taken) + await receive_all(made.stream) == b"12"


@both_registered
async def test_a_task_that_is_cancelled_as_the_bytes_arrive_loses_none(make: Any) -> None:
    for turns in range(8):
        with pair(make) as made, anyio.fail_after(10):
            reader = Reader(made.stream, math.inf)
            reader.start()
            await anyio.wait_all_tasks_blocked()
            made.send(b"1")
            for _ in range(turns):
                await asyncio.sleep(0)
            assert reader.task is not None
            reader.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader.task
            made.send(b"2")
            made.theirs.shutdown(socket.SHUT_WR)
            assert bytes(reader.taken) + await receive_all(made.stream) == b"12"


@registered
@pytest.mark.parametrize("what", ["bytes", "the end", "reset"])
@pytest.mark.parametrize("how", ["scope", "native"])
async def test_what_the_callback_has_read_is_kept_from_a_cancellation(how: str, what: str) -> None:
    """It is asked for after the socket was read, before the task that waited runs."""
    with pair() as made, anyio.fail_after(10):
        reader = Reader(made.stream, made.now() + 30)
        error: BaseException | None = None

        async def run() -> None:
            nonlocal error
            try:
                await reader.run()
            except (OSError, asyncio.CancelledError) as exc:
                error = exc

        task = asyncio.ensure_future(run())
        await anyio.wait_all_tasks_blocked()
        made.watched.after_read = reader.scope.cancel if how == "scope" else lambda: task.cancel() and None
        if what == "bytes":
            made.send(b"1")
        elif what == "the end":
            made.theirs.shutdown(socket.SHUT_WR)
        else:
            made.reset()
        await task
        made.watched.after_read = None
        if how == "native":
            assert isinstance(error, asyncio.CancelledError)
            assert not reader.taken
        if what == "reset":
            if how == "native" or error is None:
                with pytest.raises(ConnectionResetError):
                    await made.stream.receive()
            else:
                assert isinstance(error, ConnectionResetError)
        else:
            if what == "bytes":
                made.theirs.close()
            expected = b"1" if what == "bytes" else b""
            assert bytes(reader.taken) + await receive_all(made.stream) == expected


@both
async def test_a_cancelled_wait_leaves_nothing_behind(make: Any) -> None:
    tasks = task_count()
    with pair(make) as made:
        for limit in (math.inf, made.now() + 30):
            for _ in range(20):
                with anyio.move_on_after(0.001) as scope:
                    await made.stream.receive(limit)
                assert scope.cancelled_caught
        assert len(made.watched.timers) <= 1
        made.send(b"1")
        assert await made.stream.receive() == b"1"
        assert task_count() == tasks


@pytest.mark.parametrize("ends", ["deadline", "another", "itself"])
@both
async def test_a_flood_does_not_keep_a_cancellation_away_nor_the_others(make: Any, ends: str) -> None:
    """There is always something to read before the next wait begins."""
    with pair(make) as made, anyio.fail_after(10):
        ticks = received = 0
        scope = anyio.CancelScope()

        async def tick() -> None:
            nonlocal ticks
            while True:
                await anyio.sleep(0.001)
                ticks += 1
                if ticks == 20 and ends == "another":
                    scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            with scope:
                if ends == "deadline":
                    scope.deadline = made.now() + 0.1
                started = time.monotonic()
                made.send(b"x" * 100)
                made.watched.after_read = lambda: made.send(b"x" * 100)
                while time.monotonic() < started + LATE:
                    received += len(await made.stream.receive(made.now() + 30))
                    made.send(b"x" * 100)
                    if ticks >= 20 and ends == "itself":
                        scope.cancel()
            group.cancel_scope.cancel()
        made.watched.after_read = None
        assert scope.cancelled_caught
        assert time.monotonic() < started + LATE
        assert ticks >= 5
        assert received >= 1000


@pytest.mark.parametrize("size", [100, 256 * 1024])
async def test_a_flood_from_a_thread_is_cancelled_too(size: int) -> None:
    def script(peer: Peer) -> None:
        piece = b"x" * size
        while True:
            peer.send(piece)

    with serve(script) as peer:
        loop = EventLoop()
        ours = socket.create_connection(("127.0.0.1", peer.port))
        ours.setblocking(False)
        stream = make_stream(ours, loop)
        started = time.monotonic()
        received = 0
        with anyio.move_on_after(0.2) as scope:
            while time.monotonic() < started + LATE:
                received += len(await stream.receive(loop.now() + 30))
        assert scope.cancelled_caught
        assert received
        stream.close()


# --- limits ----------------------------------------------------------------------------------------------------------


async def expect_limit(made: Pair, until: float) -> None:
    with anyio.fail_after(LATE + max(until - made.now(), 0)), pytest.raises(LimitPassed):
        await made.stream.receive(until)
    assert made.now() >= until


@both
async def test_a_limit_passes_at_its_time_and_not_before(make: Any) -> None:
    with pair(make) as made:
        for seconds in (0.02, 0.0301, 0.0007, 0.05, 0.01):
            await expect_limit(made, made.now() + seconds)
        made.send(b"1")
        assert await made.stream.receive(made.now() + 30) == b"1"


@both
async def test_a_limit_that_has_passed_passes_at_once(make: Any) -> None:
    with pair(make) as made:
        for until in (made.now(), made.now() - 1, 0.0):
            await expect_limit(made, until)
        made.send(b"1")
        try:
            data: bytes | None = await made.stream.receive(made.now() - 1)
        except LimitPassed:
            data = made.stream.receive_nowait()
        assert data == b"1"


@both
async def test_a_later_limit_after_an_earlier_one(make: Any) -> None:
    """The timer of the first is still there when the second waits."""
    with pair(make) as made:
        made.send(b"1")
        assert await made.stream.receive(made.now() + 0.05) == b"1"
        await expect_limit(made, made.now() + 0.2)
        await expect_limit(made, made.now() + 0.02)
        await expect_limit(made, made.now() + 0.1)


@both
async def test_an_earlier_limit_after_a_later_one(make: Any) -> None:
    with pair(make) as made:
        made.send(b"1")
        assert await made.stream.receive(made.now() + 60) == b"1"
        await expect_limit(made, made.now() + 0.05)
        made.send(b"1")
        assert await made.stream.receive(made.now() + 0.5) == b"1"
        await expect_limit(made, made.now() + 0.05)


@both
async def test_a_wait_without_a_limit_after_one_with(make: Any) -> None:
    with pair(make) as made, anyio.fail_after(10):
        made.send(b"1")
        assert await made.stream.receive(made.now() + 0.03) == b"1"
        async with anyio.create_task_group() as group:
            call = await waiting(group, made.stream.receive())
            await anyio.sleep(0.1)
            assert not call.is_over
            made.send(b"2")
            assert await call.end() == b"2"


@both
async def test_a_timer_that_rings_while_nobody_waits_is_no_ones(make: Any) -> None:
    with pair(make) as made, anyio.fail_after(10):
        made.send(b"1")
        assert await made.stream.receive(made.now() + 0.02) == b"1"
        await anyio.sleep(0.06)
        assert not made.watched.armed
        await expect_limit(made, made.now() + 0.02)  # a timer is set again


@both
async def test_bytes_begin_the_limit_of_the_next_wait(make: Any) -> None:
    with pair(make) as made, anyio.fail_after(20):
        async with anyio.create_task_group() as group:

            async def drip() -> None:
                for _ in range(6):
                    await anyio.sleep(0.1)
                    made.send(b"1")

            group.start_soon(drip)
            for _ in range(6):
                assert await made.stream.receive(made.now() + 0.5) == b"1"
        await expect_limit(made, made.now() + 0.05)


@both
async def test_a_nudge_before_the_limit_is_a_nudge(make: Any) -> None:
    with pair(make) as made:
        async with anyio.create_task_group() as group:
            call = await waiting(group, made.stream.receive(made.now() + 30))
            made.stream.nudge()
            with pytest.raises(Nudged):
                await call.end()
        await expect_limit(made, made.now() + 0.03)


async def answered(made: Pair, limit: float) -> None:
    """A wait for something that comes when it is waited for."""
    asyncio.get_running_loop().call_soon(made.send, b"1")
    assert await made.stream.receive(made.now() + limit) == b"1"
    assert made.stream.receive_nowait() is None


@registered
async def test_many_waits_set_one_timer() -> None:
    with pair() as made:
        for _ in range(500):
            await answered(made, 60)
        assert len(made.watched.timers) == made.watched.armed == 1
        for _ in range(50):
            await answered(made, math.inf)
        assert len(made.watched.timers) == 1
        made.stream.close()
        assert made.watched.armed == 0


@registered
async def test_timers_are_few_however_short_the_limits() -> None:
    with pair() as made:
        await answered(made, 30)
        started, count = time.monotonic(), 0
        while (seconds := time.monotonic() - started) < 0.5 or count < 50:
            try:
                await answered(made, 0.1 if count % 2 else 0.2)
            except LimitPassed:  # the machine has slept
                assert await made.stream.receive() == b"1"
            count += 1
        # One each time that one has rung, and one where the shorter limit comes before what is set.
        assert 2 <= len(made.watched.timers) <= 2 * seconds / 0.1 + 3
        assert made.watched.armed <= 1


@registered
@pytest.mark.parametrize("limit", [0.03, 60])
async def test_closing_takes_the_timer_along(limit: float) -> None:
    with pair() as made:
        async with anyio.create_task_group() as group:
            call = await waiting(group, made.stream.receive(made.now() + 60))
            made.send(b"1")
            await call.end()
            begin(group, made.stream.receive(made.now() + limit))
            await anyio.wait_all_tasks_blocked()
            made.stream.close()
            assert made.watched.armed == 0
        await anyio.sleep(0.05)


def test_a_limit_counts_on_the_clock_of_a_test() -> None:
    """Trio's clock that jumps ahead when nobody runs."""

    async def main() -> None:
        with pair() as made:
            until = made.now() + 1000
            with pytest.raises(LimitPassed):
                await made.stream.receive(until)
            assert until <= trio.current_time() < until + 1

    started = time.monotonic()
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))
    assert time.monotonic() - started < 10


# --- a peer that resets ----------------------------------------------------------------------------------------------


async def to_the_end(stream: SocketStream, until: float = math.inf) -> bytes:
    """All bytes, until the end or an error; fails where neither comes."""
    got = bytearray()
    with anyio.fail_after(5):
        while True:
            try:
                data = await stream.receive(until)
            except ConnectionResetError:
                return bytes(got)
            if not data:
                return bytes(got)
            got += data


@both
@pytest.mark.parametrize("limit", [math.inf, 30.0])
@pytest.mark.parametrize("when", ["before", "meanwhile", "after a wait", "after a nudge", "after a look"])
async def test_the_last_bytes_and_a_reset_that_came_with_them(make: Any, when: str, limit: float) -> None:
    """libuv takes the socket out after such an event, says so once, and to nobody else."""
    with pair(make) as made:
        until = made.now() + limit
        async with anyio.create_task_group() as group:
            if when == "after a wait":
                made.send(b"0")
                assert await made.stream.receive(until) == b"0"
            elif when == "after a nudge":
                call = await waiting(group, made.stream.receive(until))
                made.stream.nudge()
                with pytest.raises(Nudged):
                    await call.end()
            elif when == "after a look":
                made.send(b"0")
                assert made.stream.receive_nowait() == b"0"
            if when == "before":
                made.reset(b"x" * 1000)
                call = begin(group, to_the_end(made.stream, until))
            else:
                call = await waiting(group, to_the_end(made.stream, until))
                made.reset(b"x" * 1000)
            assert await call.end() == b"x" * 1000


@both
async def test_more_than_one_read_before_a_reset(make: Any) -> None:
    with pair(make) as made:
        made.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        async with anyio.create_task_group() as group:
            call = await waiting(group, to_the_end(made.stream))
            made.reset(b"x" * 100_000)
            assert await call.end() == b"x" * 100_000


@both
async def test_a_reset_while_bytes_are_flushed(make: Any) -> None:
    with pair(make) as made:
        fill(made.stream)
        async with anyio.create_task_group() as group:
            calls = [await waiting(group, to_the_end(made.stream)), await waiting(group, made.stream.flush())]
            made.reset(b"1")
            assert await calls[0].end() == b"1"
            with contextlib.suppress(OSError):
                await calls[1].end()


async def test_hundreds_of_peers_that_send_and_reset() -> None:
    """A few at a time, at all distances from each other, while the loop has other things to do."""
    rounds, lanes = 60, 4
    answer = b"y" * 3000

    def script(peer: Peer) -> None:
        if peer.number % 3:
            peer.receive()
        if peer.number % 5 == 0:
            peer.send(answer)
            peer.reset()
            return
        peer.send(answer[:1000])
        peer.send(answer[1000:])
        peer.reset()

    with serve(script) as peer:
        lost = 0

        async def lane() -> None:
            nonlocal lost
            for _ in range(rounds):
                loop = EventLoop()
                ours = socket.create_connection(("127.0.0.1", peer.port))
                ours.setblocking(False)
                stream = make_stream(ours, loop)
                try:
                    stream.send_nowait(b"hello")
                    got = await to_the_end(stream, loop.now() + 60)
                    assert answer.startswith(got)
                    lost += got != answer
                except (BrokenPipeError, ConnectionResetError):
                    lost += 1
                finally:
                    stream.close()

        async def busy() -> None:
            while True:
                until = time.monotonic() + 0.001
                while time.monotonic() < until:
                    pass
                await anyio.sleep(0.001)

        async with anyio.create_task_group() as group:
            group.start_soon(busy)
            async with anyio.create_task_group() as lanes_group:
                for _ in range(lanes):
                    lanes_group.start_soon(lane)
            group.cancel_scope.cancel()
        assert peer.connections == rounds * lanes
        assert lost < rounds * lanes / 2  # those whose hello came too late


# --- one number, many sockets ----------------------------------------------------------------------------------------


@both
async def test_the_number_of_a_closed_socket_is_used_again(make: Any) -> None:
    numbers = set()
    with anyio.fail_after(15):
        for turn in range(300):
            with pair(make) as made:
                numbers.add(made.ours.fileno())
                kind = turn % 4
                if kind == 0:  # closed while it is registered, and nothing has come
                    made.send(b"1")
                    assert await made.stream.receive(made.now() + 30) == b"1"
                elif kind == 1:  # closed with a wait
                    async with anyio.create_task_group() as group:
                        call = begin(group, made.stream.receive())
                        await anyio.lowlevel.checkpoint()
                        made.stream.close()
                    assert isinstance(call.error, StreamClosed)
                elif kind == 2:  # closed with unread bytes that the loop has heard of
                    made.send(b"1")
                    assert await made.stream.receive() == b"1"
                    made.send(b"2")
                    await anyio.lowlevel.checkpoint()
                else:  # closed after an error
                    made.reset(b"1")
                    assert await to_the_end(made.stream) == b"1"
    assert len(numbers) < 20


async def test_a_number_that_is_used_again_at_once_hears_nothing_of_the_old_socket() -> None:
    """Both have something in the same turn of the loop; who runs first closes the other, and connects again."""
    with anyio.fail_after(15):
        for _ in range(30):
            with pair() as one, pair() as other:
                again: list[bytes] = []

                async def first(one: Pair = one, other: Pair = other, again: list[bytes] = again) -> None:
                    await one.stream.receive()
                    other.stream.close()
                    with pair() as new:
                        with anyio.move_on_after(0.001):
                            again.append(await new.stream.receive())
                        assert not again
                        new.send(b"new")
                        again.append(await new.stream.receive())

                async with anyio.create_task_group() as group:
                    begin_first = begin(group, first())
                    second = begin(group, other.stream.receive())
                    await anyio.lowlevel.checkpoint()
                    one.send(b"1")
                    other.send(b"2")
                assert begin_first.error is None
                assert again == [b"new"]
                assert isinstance(second.error, StreamClosed) or second._value == b"2"


# --- much ------------------------------------------------------------------------------------------------------------


@both
async def test_twenty_megabytes_arrive_whole_and_in_order(make: Any) -> None:
    block = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(32_768))  # 1 MiB
    size = 20
    with pair(make, wrap=Recorded) as made, anyio.fail_after(15):

        def send() -> None:
            for n in range(size):
                made.theirs.sendall(b"%08d" % n + block)
            made.theirs.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        digest, count = hashlib.sha256(), 0
        while data := await made.stream.receive(made.now() + 10):
            assert len(data) <= MAX_READ_SIZE
            digest.update(data)
            count += len(data)
        thread.join()
        expected = hashlib.sha256()
        for n in range(size):
            expected.update(b"%08d" % n + block)
        assert count == size * (8 + len(block))
        assert digest.digest() == expected.digest()
        sock: Any = made.ours
        for asked, before, got in zip(sock.asked[1:], sock.asked, sock.got, strict=False):
            assert asked == (MAX_READ_SIZE if got == before else READ_SIZE)


@both
async def test_reads_grow_where_there_is_more_and_shrink_again(make: Any) -> None:
    with pair(make, wrap=Recorded) as made, anyio.fail_after(10):
        sock: Any = made.ours
        data = b"x" * (READ_SIZE + MAX_READ_SIZE)

        async def take(size: int) -> None:
            """Once all of it is there, so that reads are as large as they may be."""
            made.theirs.sendall(data[:size])
            while len(sock.recv(size, socket.MSG_PEEK)) < size:  # noqa: ASYNC110 - the kernel is asked
                await anyio.sleep(0.001)
            sock.asked.clear()
            left = size
            while left:
                left -= len(await made.stream.receive())

        made.ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        await take(READ_SIZE - 1)
        assert sock.asked == [READ_SIZE]
        await take(READ_SIZE)
        assert sock.asked[0] == READ_SIZE
        await take(READ_SIZE // 2)
        assert sock.asked[0] == MAX_READ_SIZE
        await take(100)
        assert sock.asked[0] == READ_SIZE


async def test_a_large_transfer_needs_little_memory() -> None:
    with pair() as made, anyio.fail_after(20):
        block = bytes(2**20)

        def send() -> None:
            for _ in range(20):
                made.theirs.sendall(block)
            made.theirs.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        tracemalloc.start()
        try:
            thread.start()
            await made.stream.receive()
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            while await made.stream.receive():
                pass
            now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            thread.join()
        assert peak - before < 5 * MAX_READ_SIZE
        assert now - before < MAX_READ_SIZE


async def test_what_nobody_reads_stays_in_the_kernel() -> None:
    with pair() as made:
        made.send(b"1")
        assert await made.stream.receive() == b"1"
        made.theirs.setblocking(False)
        sent = 0
        with pytest.raises(BlockingIOError):
            while True:
                sent += made.theirs.send(bytes(2**16))
                await anyio.lowlevel.checkpoint()
        for _ in range(10):
            await anyio.sleep(0.001)
        with contextlib.suppress(BlockingIOError):
            while sent < 2**28:  # the kernel may have made room a little later
                sent += made.theirs.send(bytes(2**16))
        assert sent < 2**28
        made.theirs.close()
        assert len(await receive_all(made.stream)) == sent


# --- nothing is left -------------------------------------------------------------------------------------------------


@registered
async def test_nothing_is_left_of_hundreds_of_streams(anyio_backend: Any) -> None:
    native: Any = asyncio.get_running_loop()

    def left() -> tuple[int, ...]:
        """Readers and timers of the loop, where it lets us look."""
        if anyio_backend[1]["use_uvloop"]:
            return ()
        return (len(native._selector.get_map()), sum(not handle.cancelled() for handle in native._scheduled))

    sockets, tasks, before = open_sockets(), task_count(), left()
    for turn in range(200):
        with pair() as made:
            made.send(b"1")
            assert await made.stream.receive(made.now() + 60) == b"1"
            if turn % 2:
                with anyio.move_on_after(0):
                    await made.stream.receive(made.now() + 60)
    assert left() == before
    assert task_count() == tasks
    assert settled_sockets(sockets) == sockets


# --- sending ---------------------------------------------------------------------------------------------------------


@both
async def test_what_the_kernel_took_is_known_to_the_byte(make: Any) -> None:
    with pair(make) as made, anyio.fail_after(15):
        made.stream.send_nowait(b"1234")
        assert (made.stream.sent, made.stream.unsent) == (4, 0)
        size = 4 + fill(made.stream)
        made.stream.send_nowait(b"last")
        size += 4
        assert made.stream.sent + made.stream.unsent == size
        got: list[bytes] = []

        def drain() -> None:
            left = size
            while left:
                got.append(made.theirs.recv(2**20))
                left -= len(got[-1])

        thread = threading.Thread(target=drain)
        thread.start()
        while made.stream.unsent:
            before = made.stream.sent
            await made.stream.flush()
            assert made.stream.sent > before
            assert made.stream.sent + made.stream.unsent == size
        thread.join()
        data = b"".join(got)
        assert data.startswith(b"1234") and data.endswith(b"last")


@both
async def test_sending_to_a_peer_that_has_gone_is_an_error_and_its_last_words_are_read(make: Any) -> None:
    with pair(make) as made, anyio.fail_after(10):
        made.reset(b"bye")
        with pytest.raises(OSError) as caught:
            for _ in range(3):
                made.stream.send_nowait(b"1")
        assert caught.value.errno in (errno.ECONNRESET, errno.EPIPE)
        assert await to_the_end(made.stream) == b"bye"
