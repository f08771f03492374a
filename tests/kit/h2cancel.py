"""For cancellation over HTTP/2: a server that answers by path and watches every frame, and ways to cancel."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import heapq
import itertools
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any, Literal, TypeAlias

import anyio
import h2.config
import h2.connection
import h2.events
import h2.settings

from anyio_client import AsyncAPIClient
from anyio_client._io.connection import Connection
from tests.kit import frames
from tests.kit.cancel import _Counted
from tests.kit.peers import Peer, ScriptedServer, serve

# --- the server --------------------------------------------------------------------------------------------------

Pause: TypeAlias = "float | Callable[[], object] | None"
Handler: TypeAlias = "Callable[[Stream], Generator[Pause, None, None]]"

HELD = bytes(range(256)) * 160  # what /hold gives: 40 KiB, half of it before the gate opens
EXTRA = 40_000  # what /hold/up takes beyond its window, once the gate is open


class Ledger:
    """Every frame that the client sends, as raw as it comes: whole, and none where none may be."""

    def __init__(self) -> None:
        self.rest = b""
        self.greeted = False
        self.opened = 0  # the last stream
        self.block_of = 0  # the stream whose field block is not complete
        self.done: dict[int, str] = {}  # streams on which the client may send no body any more, and why
        self.resets: dict[int, int] = {}
        self.farewell = False
        self.pings = 0
        self.bytes = 0

    def feed(self, data: bytes) -> None:
        self.bytes += len(data)
        self.rest += data
        if not self.greeted:
            if len(self.rest) < len(frames.PREFACE):
                return
            assert self.rest.startswith(frames.PREFACE)
            self.rest = self.rest[len(frames.PREFACE) :]
            self.greeted = True
        place = 0
        while len(self.rest) - place >= 9:
            size = int.from_bytes(self.rest[place : place + 3], "big")
            assert size <= 16_384, f"a frame that is too long, or no frame at all: {self.rest[place : place + 100]!r}"
            if len(self.rest) - place < 9 + size:
                break
            kind, flags = self.rest[place + 3], self.rest[place + 4]
            stream = int.from_bytes(self.rest[place + 5 : place + 9], "big")
            self.frame(kind, flags, stream, size, self.rest[place + 9 : place + 9 + size])
            place += 9 + size
        self.rest = self.rest[place:]

    def frame(self, kind: int, flags: int, stream: int, size: int, payload: bytes) -> None:
        assert kind <= frames.CONTINUATION, f"no kind of frame: {kind}"
        assert not self.farewell, f"a frame of kind {kind} after GOAWAY"
        if self.block_of:
            assert kind == frames.CONTINUATION and stream == self.block_of, "a field block was interrupted"
        assert stream not in self.resets, f"a frame of kind {kind} after RST_STREAM on stream {stream}"
        if kind == frames.HEADERS:
            assert stream > self.opened and stream % 2, "streams out of order"
            self.opened = stream
            self.block_of = 0 if flags & frames.END_HEADERS else stream
        elif kind == frames.CONTINUATION:
            self.block_of = 0 if flags & frames.END_HEADERS else stream
        elif kind == frames.RST_STREAM:
            assert size == 4 and stream <= self.opened
            self.resets[stream] = int.from_bytes(payload, "big")
        elif kind == frames.GOAWAY:
            self.farewell = True
        elif kind == frames.PING:
            assert size == 8
            self.pings += 1
        elif kind == frames.WINDOW_UPDATE:
            assert size == 4 and stream <= self.opened
        if kind in (frames.DATA, frames.HEADERS):
            assert stream <= self.opened and stream not in self.done, "more of a request that was complete"
            if flags & frames.END_STREAM:
                self.done[stream] = "complete"


class Stream:
    """One request, from the server's side."""

    def __init__(self, line: Line, number: int, path: str, fields: dict[bytes, bytes]) -> None:
        self.line = line
        self.number = number
        self.path = path
        self.fields = fields
        self.received = 0
        self.granted = line.server.window
        self.digest = hashlib.sha256()
        self.ended = False

    def body(self, step: int = 0) -> Generator[Pause, None, None]:
        """Wait for the end of the request. *step*: how much window is given each time it is used up, 0 for plenty."""
        while not self.ended:
            if step and self.received == self.granted:
                self.grant(step)
            elif not step and self.granted - self.received < 2**18:
                self.grant(2**20)
            yield lambda seen=self.received: self.ended or self.received > seen  # type: ignore[misc]

    def grant(self, size: int) -> None:
        self.granted += size
        self.line.h2.increment_flow_control_window(size, self.number)

    def headers(self, fields: dict[str, str], end: bool = False) -> None:
        block = [(":status", "200"), *fields.items()]
        self.line.h2.send_headers(self.number, block, end_stream=end)

    def data(self, data: bytes, end: bool = False) -> Generator[Pause, None, None]:
        place = 0
        while place < len(data):
            size = min(self.line.h2.local_flow_control_window(self.number), 16_384, len(data) - place)
            if size <= 0:
                yield lambda: self.line.h2.local_flow_control_window(self.number) > 0
                continue
            self.line.h2.send_data(self.number, data[place : place + size])
            place += size
        if end:
            self.line.h2.end_stream(self.number)

    def answer(self, body: bytes) -> Generator[Pause, None, None]:
        self.headers({"content-type": "application/json", "content-length": str(len(body))})
        yield from self.data(body, end=True)

    def digested(self) -> Generator[Pause, None, None]:
        yield from self.answer(b'"%d %s"' % (self.received, self.digest.hexdigest().encode()))


def digest(data: bytes) -> str:
    """What the server answers to an upload of *data*."""
    return f'"{len(data)} {hashlib.sha256(data).hexdigest()}"'


def _fine(stream: Stream) -> Generator[Pause, None, None]:
    yield from stream.body()
    yield from stream.answer(b'"fine"')


def _pieces(stream: Stream) -> Generator[Pause, None, None]:
    stream.headers({"content-type": "application/json", "content-length": "9"})
    stream.line.tear()
    for piece in (b'"', b"abcdefg"):
        yield 0.0003
        yield from stream.data(piece)
        stream.line.tear()
    yield from stream.data(b'"', end=True)


def _upload(stream: Stream) -> Generator[Pause, None, None]:
    step = stream.path.partition("?")[2]
    yield from stream.body(int(step) if step else 0)
    yield from stream.digested()


def _deaf(stream: Stream) -> Generator[Pause, None, None]:
    """After the first bytes nothing is read until the server is told to listen, or a moment has passed."""
    line = stream.line
    yield lambda: stream.received
    line.deaf = True
    until = time.monotonic() + line.server.deaf_for
    yield 0.0
    while not line.server.listening and time.monotonic() < until:
        yield 0.0005
    line.deaf = False
    yield from stream.body()
    yield from stream.digested()


def _flood(stream: Stream) -> Generator[Pause, None, None]:
    """Reads the first bytes, and nothing more before it is told to listen."""
    line = stream.line
    yield lambda: stream.received > 1
    line.deaf = True
    while not line.server.listening:
        yield 0.0005
    line.deaf = False
    yield from stream.body()
    yield from stream.digested()


def _hold(stream: Stream) -> Generator[Pause, None, None]:
    server = stream.line.server
    stream.headers({"content-type": "text/plain", "content-length": str(len(HELD))})
    yield from stream.data(HELD[: len(HELD) // 2])
    server.holding += 1
    try:
        yield lambda: server.gate
        yield from stream.data(HELD[len(HELD) // 2 :], end=True)
    finally:
        server.holding -= 1


def _hold_up(stream: Stream) -> Generator[Pause, None, None]:
    """An upload that runs into the end of its window, and waits there for the gate."""
    server = stream.line.server
    yield lambda: stream.ended or stream.received >= stream.granted
    server.holding += 1
    try:
        yield lambda: server.gate
    finally:
        server.holding -= 1
    yield from stream.body(step=16_384)
    yield from stream.digested()


def _events(stream: Stream) -> Generator[Pause, None, None]:
    stream.headers({"content-type": "text/event-stream"})
    for _ in range(3):
        yield 0.0003
        yield from stream.data(b"data: 1\n\n")
    stream.line.h2.end_stream(stream.number)


def _big(stream: Stream) -> Generator[Pause, None, None]:
    """More than is worth reading to its end, and no end."""
    stream.headers({"content-type": "application/octet-stream"})
    yield from stream.data(bytes(200_000))
    yield lambda: False


def _long(stream: Stream) -> Generator[Pause, None, None]:
    """Three times the client's window."""
    stream.headers({"content-type": "application/octet-stream"})
    yield from stream.data(bytes(3 * 2**20), end=True)


def _silent(stream: Stream) -> Generator[Pause, None, None]:
    server = stream.line.server
    server.holding += 1
    try:
        yield lambda: server.gate
        yield from stream.answer(b'"fine"')
    finally:
        server.holding -= 1


def _refused(stream: Stream) -> Generator[Pause, None, None]:
    yield from stream.body()
    if stream.path not in stream.line.server.refused:
        stream.line.server.refused.add(stream.path)
        stream.line.h2.reset_stream(stream.number, 7)
    else:
        yield from stream.answer(b'"fine"')


HANDLERS: dict[str, Handler] = {
    "/": _fine,
    "/pieces": _pieces,
    "/upload": _upload,
    "/deaf": _deaf,
    "/flood": _flood,
    "/hold": _hold,
    "/hold/up": _hold_up,
    "/events": _events,
    "/big": _big,
    "/long": _long,
    "/silent": _silent,
    "/refused": _refused,
}


class H2Server:
    """What all connections of one server share. Written by the server's threads and by the test, one word at a time."""

    def __init__(
        self,
        *,
        streams: int = 100,
        window: int = 65_535,
        connection_step: int = 0,
        gives_credit: bool = True,
        receive_buffer: int = 0,
        slow_settings: float = 0.0,
        deaf_for: float = 0.004,
    ) -> None:
        self.streams = streams
        self.window = window
        self.connection_step = connection_step
        self.gives_credit = gives_credit  # as soon as anything comes; otherwise what it gives at first must do
        self.receive_buffer = receive_buffer
        self.slow_settings = slow_settings
        self.deaf_for = deaf_for
        self.gate = True
        self.listening = True
        self.closed = False
        self.holding = 0  # requests that wait for the gate
        self.refused: set[str] = set()
        self.lines: list[Line] = []
        self.listener: ScriptedServer | None = None

    def __call__(self, peer: Peer) -> None:
        line = Line(self, peer)
        self.lines.append(line)
        try:
            line.run()
        finally:
            line.close()

    @property
    def url(self) -> str:
        assert self.listener is not None
        return self.listener.url

    @property
    def port(self) -> int:
        assert self.listener is not None
        return self.listener.port

    @property
    def is_deaf(self) -> bool:
        return any(line.deaf for line in self.lines)

    @property
    def used(self) -> list[Line]:
        """The connections on which a request came."""
        return [line for line in self.lines if line.ledger.opened]

    @property
    def live(self) -> int:
        """Requests that the server has not done with."""
        return sum(len(line.streams) for line in self.lines if not line.over)

    def open_gate(self) -> None:
        self.gate = self.listening = True
        for line in list(self.lines):
            line.wake()


class Line:
    """One connection, from the server's side."""

    def __init__(self, server: H2Server, peer: Peer) -> None:
        self.server = server
        self.peer = peer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        codes = h2.settings.SettingCodes
        self.h2.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                codes.MAX_CONCURRENT_STREAMS: server.streams,
                codes.INITIAL_WINDOW_SIZE: server.window,
                codes.MAX_HEADER_LIST_SIZE: 65_536,
            },
        )
        self.ledger = Ledger()
        self.streams: dict[int, Stream] = {}
        self.tasks: dict[int, Generator[Pause, None, None]] = {}
        self.waiting: dict[int, Callable[[], object]] = {}
        self.timers: list[tuple[float, int]] = []
        self.deaf = False
        self.over = False
        self.connection_granted = 65_535
        self.connection_received = 0
        self.pipe = os.pipe()
        self.lock = threading.Lock()

    def wake(self) -> None:
        with self.lock:
            if not self.over:
                os.write(self.pipe[1], b"x")

    def close(self) -> None:
        with self.lock:
            self.over = True
            for end in self.pipe:
                os.close(end)
        for task in self.tasks.values():
            task.close()

    def run(self) -> None:
        sock = self.peer.sock
        if self.server.receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.server.receive_buffer)
        if self.server.slow_settings:
            time.sleep(self.server.slow_settings)
        self.h2.initiate_connection()
        if self.server.window > 65_535 and not self.server.connection_step:
            self.connection_granted = 16 * 2**20
            self.h2.increment_flow_control_window(16 * 2**20 - 65_535)
        while True:
            self.work()
            self.flush()
            if not self.wait():
                return

    def wait(self) -> bool:
        """Take in what comes; False at the client's end."""
        sock = self.peer.sock
        left = max(0.0, self.timers[0][0] - time.monotonic()) if self.timers else 15.0
        pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        if not pending or self.deaf:
            watched: list[Any] = [self.pipe[0]] if self.deaf else [self.pipe[0], sock]
            readable, _, _ = select.select(watched, [], [], left)
            if self.pipe[0] in readable:
                os.read(self.pipe[0], 1000)
            if sock not in readable:
                return True
        data = sock.recv(65_536)
        if self.server.closed:  # what is left may be records of TLS, which nobody decrypts any more
            return False
        if not data:
            assert not self.ledger.rest or not self.ledger.farewell, "half a frame after GOAWAY"
            return False
        self.ledger.feed(data)
        credit = 0
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.open(event)
            elif isinstance(event, h2.events.DataReceived):
                credit += event.flow_controlled_length or 0
                stream = self.streams.get(event.stream_id or 0)
                if stream is not None:
                    stream.received += len(event.data or b"")
                    stream.digest.update(event.data or b"")
            elif isinstance(event, h2.events.StreamEnded):
                if event.stream_id in self.streams:
                    self.streams[event.stream_id].ended = True
            elif isinstance(event, h2.events.StreamReset):
                self.forget(event.stream_id or 0)
        self.connection_received += credit
        step = self.server.connection_step
        if step and self.connection_received == self.connection_granted:
            self.connection_granted += step
            self.h2.increment_flow_control_window(step)
        elif credit and not step and self.server.gives_credit:
            self.connection_granted += credit
            self.h2.increment_flow_control_window(credit)
        return True

    def open(self, event: h2.events.RequestReceived) -> None:
        fields = dict(event.headers or [])
        path = fields[b":path"].decode()
        number = event.stream_id or 0
        self.streams[number] = stream = Stream(self, number, path, fields)
        self.tasks[number] = HANDLERS["/" + path.partition("?")[0].strip("/").partition("/n/")[0]](stream)
        self.waiting[number] = lambda: True

    def forget(self, number: int) -> None:
        self.streams.pop(number, None)
        self.waiting.pop(number, None)
        task = self.tasks.pop(number, None)
        if task is not None:
            task.close()

    def work(self) -> None:
        now = time.monotonic()
        while self.timers and self.timers[0][0] <= now:
            _, number = heapq.heappop(self.timers)
            if number in self.tasks:
                self.waiting[number] = lambda: True
        for number in [number for number, ready in self.waiting.items() if ready()]:
            del self.waiting[number]
            try:
                pause = next(self.tasks[number])
            except StopIteration:
                self.forget(number)
                continue
            if callable(pause):
                self.waiting[number] = pause
                if pause():
                    self.timers.append((0.0, number))
                    heapq.heapify(self.timers)
            else:
                heapq.heappush(self.timers, (now + (pause or 0.0), number))

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            self.peer.send(data)

    def tear(self) -> None:
        """Send what is queued in two pieces, the cut inside of the last frame."""
        data = self.h2.data_to_send()
        self.peer.send(data[:-3])
        time.sleep(0.0003)
        self.peer.send(data[-3:])


@contextlib.contextmanager
def serving(server: H2Server, context: ssl.SSLContext | None = None) -> Iterator[H2Server]:
    with serve(server, context) as listener:
        server.listener = listener
        try:
            yield server
        finally:
            server.closed = True
            server.open_gate()


# --- cancelling --------------------------------------------------------------------------------------------------

Means: TypeAlias = Literal["scope", "native", "timeout"]
Where: TypeAlias = Literal["checkpoint", "arrival"]


class Cancelled:
    """What became of an operation: ``reached`` where the cancellation was asked for, ``ended`` where it came out."""

    def __init__(self) -> None:
        self.reached = False
        self.ended = False


async def cancelled_at(
    n: int,
    means: Means,
    where: Where,
    operation: Callable[[], Awaitable[Any]],
    began: Callable[[], None] = lambda: None,
) -> Cancelled:
    """Run *operation* and cancel it at its n-th checkpoint, or as soon as anything has come from a peer n times.

    ``began`` is called at the first checkpoint. Exceptions of the operation that are no cancellation come out.
    """
    outcome = Cancelled()
    done = False
    cancel: Callable[[], object]

    def hit() -> None:
        if not outcome.reached and not done:
            outcome.reached = True
            cancel()

    def at_suspension(count: int) -> None:
        if count == 1:
            began()
        if where == "checkpoint" and count == n:
            hit()

    async def body() -> None:
        await operation()

    async def run() -> None:
        nonlocal done
        try:
            await _Counted(body(), at_suspension)
        finally:
            done = True

    with contextlib.ExitStack() as stack:
        if where == "arrival":
            stack.enter_context(_at_arrival(n, hit))
        if means == "scope":
            with anyio.CancelScope() as scope:
                cancel = scope.cancel
                await run()
            outcome.ended = scope.cancelled_caught
            return outcome

        import asyncio

        loop = asyncio.get_running_loop()
        if means == "timeout":
            task = asyncio.current_task()
            assert task is not None
            limit = asyncio.timeout(None)
            cancel = lambda: limit.reschedule(loop.time())  # noqa: E731
            try:
                async with limit:
                    await run()
            except TimeoutError:
                if not limit.expired():
                    raise
                outcome.ended = True
            assert task.cancelling() == 0
            return outcome

        inner = asyncio.ensure_future(run())
        cancel = functools.partial(loop.call_soon, inner.cancel) if where == "checkpoint" else inner.cancel
        try:
            await inner
        except asyncio.CancelledError:
            if not outcome.reached:
                inner.cancel()
                raise
            outcome.ended = True
        return outcome


@contextlib.contextmanager
def _at_arrival(n: int, hit: Callable[[], None]) -> Iterator[None]:
    """Call *hit* when a connection has taken in what came for the n-th time, before those who wait for it run."""
    take = Connection.take
    arrivals = itertools.count(1)

    def counting(self: Connection, data: bytes) -> None:
        take(self, data)
        if next(arrivals) == n:
            hit()

    Connection.take = counting  # type: ignore[method-assign]
    try:
        yield
    finally:
        Connection.take = take  # type: ignore[method-assign]


# --- what is left ------------------------------------------------------------------------------------------------


async def until(condition: Callable[[], object], what: str, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"still not: {what}"
        await anyio.sleep(0.0003)


def pool_of(client: AsyncAPIClient) -> Any:
    return client._transport.pool  # type: ignore[attr-defined]


def connection_of(client: AsyncAPIClient) -> Connection:
    """The only connection of the client."""
    [connection] = pool_of(client)._connections.values()
    assert isinstance(connection, Connection)
    return connection


def nothing_under_way(client: AsyncAPIClient) -> None:
    """One connection is open, idle, and as good as new."""
    pool = pool_of(client)
    assert pool.open_count == 1
    assert pool._machine.idle_count == 1
    assert pool._machine.waiting_count == 0
    assert not pool._waiters
    assert not pool.collected
    assert not pool._machine._openers and not pool._machine._opening
    [place] = pool._machine._connections.values()
    assert place.used == 0
    connection = connection_of(client)
    wire: Any = connection.wire
    assert connection._lost is None
    assert not connection.exchanges
    assert not connection._waiters
    assert not connection._reading
    assert connection._flushing is None
    assert connection.stream.unsent == 0
    assert not wire._streams
    assert not wire._blocked
    assert not wire._h2.streams


def credit(client: AsyncAPIClient, line: Line) -> int:
    """The window that the server has for the whole connection, with what the client has kept back to give at once."""
    wire: Any = connection_of(client).wire
    late = wire._h2._inbound_flow_control_window_manager._bytes_processed
    return line.h2.outbound_flow_control_window + int(wire._credit) + int(late)
