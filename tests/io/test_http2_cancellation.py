"""Cancelled at every checkpoint over HTTP/2: those who share the connection hear nothing of it, and nothing is left."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest
import trustme

from anyio_client import (
    APIConnectionError,
    AsyncAPIClient,
    HTTPTransport,
    Limits,
    Request,
    RetryPolicy,
    ServerSentEvent,
    Timeout,
)
from anyio_client._io.connection import Connection
from anyio_client._io.event_loop import EventLoop
from anyio_client._io.stream import Nudged, SocketStream
from anyio_client._wire.h2 import CONNECTION_WINDOW, STREAM_WINDOW, H2Wire
from tests.conftest import BACKENDS
from tests.kit.h2cancel import (
    EXTRA,
    HELD,
    H2Server,
    Means,
    Where,
    cancelled_at,
    connection_of,
    credit,
    digest,
    nothing_under_way,
    pool_of,
    serving,
    until,
)
from tests.kit.leaks import open_sockets, settled_sockets, task_count

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]

Operation = Callable[[AsyncAPIClient], Coroutine[Any, Any, None]]

# trio has no cancellation but by scopes.
SETTINGS = [
    pytest.param((backend.values[0], means), id=f"{backend.id}-{means}")
    for backend in BACKENDS
    for means in ("scope", "native", "timeout")
    if backend.id != "trio" or means == "scope"
]
# For tests in which nobody is cancelled, or everybody by any means.
each_loop = pytest.mark.parametrize("setting", [p for p in SETTINGS if str(p.id).endswith("scope")], indirect=True)


@pytest.fixture(params=SETTINGS)
def setting(request: pytest.FixtureRequest) -> tuple[Any, Means]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def anyio_backend(setting: tuple[Any, Means]) -> Any:
    return setting[0]


@pytest.fixture
def means(setting: tuple[Any, Means]) -> Means:
    return setting[1]


def client_of(server: H2Server, **options: Any) -> AsyncAPIClient:
    options = {"http1": False, "limits": Limits(max_connections=1), **options}
    return AsyncAPIClient(
        base_url=options.pop("base_url", server.url),
        http_client=HTTPTransport(**options),
        retry=RetryPolicy(wait_initial=0.0005, wait_jitter=0),
        timeout=Timeout(20),
    )


@contextlib.asynccontextmanager
async def warm(server: H2Server, **options: Any) -> AsyncIterator[AsyncAPIClient]:
    """A client with one connection that has carried a call."""
    client = client_of(server, **options)
    try:
        await get(client)
        yield client
    finally:
        server.open_gate()
        await client.close()


# --- operations --------------------------------------------------------------------------------------------------


async def get(client: AsyncAPIClient) -> None:
    assert await client.get("/", cast_to=str) == '"fine"'


async def post(client: AsyncAPIClient) -> None:
    assert await client.post("/upload", cast_to=str, content=b"x" * 1000) == digest(b"x" * 1000)


async def pieces(client: AsyncAPIClient) -> None:
    assert await client.get("/pieces", cast_to=str) == '"abcdefg"'


async def streamed(client: AsyncAPIClient) -> None:
    async with client.stream("GET", "/events", cast_to=ServerSentEvent) as events:
        assert [event.data async for event in events] == ["1"] * 3


async def streamed_and_left(client: AsyncAPIClient) -> None:
    async with client.stream("GET", "/events", cast_to=ServerSentEvent) as events:
        async for _ in events:
            break


async def opened(client: AsyncAPIClient) -> None:
    async with client.open("GET", "/pieces") as response:
        assert b"".join([piece async for piece in response.iter_bytes()]) == b'"abcdefg"'


async def opened_and_left(client: AsyncAPIClient) -> None:
    async with client.open("GET", "/big") as response:
        assert response.status_code == 200


async def begun_and_left(client: AsyncAPIClient) -> None:
    async with client.open("GET", "/big") as response:
        async for piece in response.iter_bytes(1000):
            assert piece == bytes(1000)
            break


async def dropped(client: AsyncAPIClient) -> None:
    transport: Any = client._transport
    request = Request("GET", f"{client.base_url}big")
    response = await transport.send(request, timeout=Timeout(5), deadline=None)
    assert response.status_code == 200


_numbers = itertools.count()


async def refused(client: AsyncAPIClient) -> None:
    """The server refuses it once: it is repeated after a moment."""
    assert await client.post(f"/refused/n/{next(_numbers)}", cast_to=str, content=b"x") == '"fine"'


SMALL = random.Random(1).randbytes(150_000)
LARGE = random.Random(2).randbytes(3_000_000)
LARGER = random.Random(4).randbytes(1_500_000)


def cut(data: bytes) -> Iterator[bytes]:
    return (data[place : place + 50_000] for place in range(0, len(data), 50_000))


class Pieces:
    """An object, so that nothing is left suspended when it is dropped."""

    def __init__(self, data: bytes) -> None:
        self._pieces = cut(data)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


def upload(data: bytes, path: str, kind: str) -> Operation:
    content: Any = {"bytes": data, "iterator": lambda: cut(data), "async_iterator": lambda: Pieces(data)}[kind]
    expected = digest(data)

    async def operation(client: AsyncAPIClient) -> None:
        assert await client.post(path, cast_to=str, content=content) == expected

    return operation


# --- siblings ----------------------------------------------------------------------------------------------------


async def held(client: AsyncAPIClient) -> None:
    """Half of its answer comes before the gate opens, half after that."""
    assert await client.get("/hold", cast_to=bytes) == HELD


HELD_UP = random.Random(3).randbytes(65_535 + EXTRA)


async def held_up(client: AsyncAPIClient) -> None:
    """It waits for window until the gate opens."""
    assert await client.post("/hold/up", cast_to=str, content=HELD_UP) == digest(HELD_UP)


# --- the rule ----------------------------------------------------------------------------------------------------


def every(n: int) -> int:
    return n + 1


def many(n: int) -> int:
    """The first ones, and a tenth of those beyond."""
    return n + 1 + n // 4


async def settle(server: H2Server, client: AsyncAPIClient) -> None:
    """The next call is served, on the same connection; nothing is left of what came before."""
    await get(client)
    nothing_under_way(client)
    [line] = server.lines
    await until(lambda: not server.live, "no request is left")
    await until(lambda: credit(client, line) == CONNECTION_WINDOW, "the window is given back")
    assert line.h2.open_inbound_streams == 0
    assert not line.ledger.rest


async def cancel_everywhere(
    server: H2Server,
    client: AsyncAPIClient,
    operation: Operation,
    means: Means,
    where: Where,
    *,
    reads: bool,
    siblings: tuple[Operation, ...] = (held, held_up),
    following: Callable[[int], int] = every,
    before: Callable[[AsyncAPIClient], None] = lambda client: None,
) -> int:
    """Cancel at the first, second, ... place until there is none left; how many there were.

    ``reads``: the operation is there first and reads for its siblings, who come at its first checkpoint; otherwise
    they are there and read for it.
    """
    tasks = task_count()
    n = 1
    while True:
        server.gate = server.listening = False
        before(client)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:

                def start() -> None:
                    for sibling in siblings:
                        group.start_soon(sibling, client)

                if not reads:
                    start()
                    await until(lambda: server.holding == len(siblings), "the siblings are under way")
                began = start if reads else lambda: None
                outcome = await cancelled_at(n, means, where, lambda: operation(client), began)
                if operation is not dropped:  # which the next call finds
                    await until(lambda: server.live <= len(siblings), "the server hears of it at once")
                server.open_gate()
            assert task_count() == tasks
            if where == "checkpoint" and means != "scope":
                assert outcome.ended == outcome.reached, "a cancellation was swallowed"
            await settle(server, client)
        if not outcome.reached:
            return n - 1
        n = following(n)


async def cancel_in_every_way(
    server: H2Server,
    operation: Operation,
    means: Means,
    least: int,
    ways: list[tuple[Where, bool]],
    *,
    transport: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    async with warm(server, **(transport or {})) as client:
        for where, reads in ways:
            count = await cancel_everywhere(server, client, operation, means, where, reads=reads, **options)
            if where == "checkpoint":
                assert count >= least


WAYS: list[tuple[Where, bool]] = [
    ("checkpoint", True),
    ("checkpoint", False),
    ("arrival", True),
    ("arrival", False),
]


@pytest.mark.parametrize(
    ("operation", "least"),
    [
        (get, 1), (post, 1), (pieces, 1), (streamed, 1), (streamed_and_left, 1), (opened, 1), (opened_and_left, 1),
        (begun_and_left, 1), (dropped, 1), (refused, 3),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
async def test_siblings_hear_nothing_of_it(operation: Operation, least: int, means: Means) -> None:
    with serving(H2Server()) as server:
        await cancel_in_every_way(server, operation, means, least, WAYS)
        assert len(server.used) == 1


@pytest.mark.parametrize("kind", ["bytes", "iterator", "async_iterator"])
async def test_an_upload_through_a_small_window(kind: str, means: Means) -> None:
    operation = upload(SMALL, "/upload?20000", kind)
    with serving(H2Server()) as server:
        await cancel_in_every_way(server, operation, means, 8, WAYS[:3], following=many)
        assert len(server.used) == 1


@pytest.mark.parametrize(
    ("kind", "narrow"),
    [("bytes", "stream"), ("iterator", "stream"), ("async_iterator", "stream"), ("async_iterator", "connection")],
)
async def test_a_large_upload_through_a_small_window(kind: str, narrow: str, means: Means) -> None:
    if narrow == "stream":
        server = H2Server()
        operation = upload(LARGE, "/upload?60000", kind)
    else:
        server = H2Server(window=8 * 2**20, connection_step=60_000)
        operation = upload(LARGE, "/upload", kind)
    with serving(server):
        way: list[tuple[Where, bool]] = [("checkpoint", kind == "iterator")]
        await cancel_in_every_way(server, operation, means, 30, way, following=lambda n: n * 2 + 3)
        assert len(server.used) == 1


# --- a peer that does not read -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and ours."""
    authority = trustme.CA()
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.set_alpn_protocols(["h2"])
    authority.issue_cert("localhost").configure_cert(theirs)
    ours = ssl.create_default_context()
    ours.set_alpn_protocols(["h2"])
    authority.configure_trust(ours)
    return theirs, ours


def over_tls(server: H2Server, context: ssl.SSLContext) -> dict[str, Any]:
    return {"tls": context, "base_url": f"https://localhost:{server.port}"}


def deaf_server(deaf_for: float = 5.0, gives_credit: bool = True) -> H2Server:
    """Gives so much window that only the kernel's buffers end it."""
    return H2Server(window=16 * 2**20, receive_buffer=2**17, deaf_for=deaf_for, gives_credit=gives_credit)


def shrink(client: AsyncAPIClient) -> None:
    """Let the kernel keep little."""
    stream: Any = connection_of(client).stream
    getattr(stream, "_below", stream).socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)


@pytest.fixture
def waits_for_the_kernel(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each wait for the kernel began with."""
    waits: list[int] = []
    flush = SocketStream.flush

    async def counting(self: SocketStream) -> None:
        waits.append(self.unsent)
        await flush(self)

    monkeypatch.setattr(SocketStream, "flush", counting)
    return waits


@pytest.mark.parametrize("kind", ["bytes", "async_iterator"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_an_upload_to_a_peer_that_does_not_read(
    secure: bool,
    kind: str,
    means: Means,
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    waits_for_the_kernel: list[int],
) -> None:
    operation = upload(LARGER, "/deaf", kind)
    with serving(deaf_server(0.004), contexts[0] if secure else None) as server:
        transport = over_tls(server, contexts[1]) if secure else {}
        ways: list[tuple[Where, bool]] = [("checkpoint", kind == "bytes")]
        await cancel_in_every_way(
            server, operation, means, 1, ways, following=lambda n: n * 3, transport=transport, before=shrink
        )
        assert len(server.used) == 1
    assert waits_for_the_kernel


class Flood:
    """A small piece, then, when it is told to go, more than the kernels keep."""

    def __init__(self) -> None:
        self.go = anyio.Event()
        self._left = len(LARGER)
        self._begun = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._begun:
            self._begun = True
            await anyio.lowlevel.checkpoint()
            return b"x"
        await self.go.wait()
        self._left -= 60_000
        if self._left < 0:
            raise StopAsyncIteration
        return bytes(60_000)


@contextlib.asynccontextmanager
async def flooding(server: H2Server, client: AsyncAPIClient) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """An upload is under way; what is given fills the kernel's buffers and cancels it, so that bytes are left over."""
    flood = Flood()
    scope = anyio.CancelScope()
    ended = anyio.Event()
    connection = connection_of(client)

    async def run() -> None:
        with scope:
            await client.post("/flood", cast_to=str, content=lambda: flood)
        ended.set()

    async def fill() -> None:
        flood.go.set()
        await until(lambda: server.is_deaf and connection.stream.unsent, "the kernel's buffers are full")
        left = 0
        while left != connection.stream.unsent:
            left = connection.stream.unsent
            await anyio.sleep(0.002)
        scope.cancel()
        await ended.wait()
        assert connection.stream.unsent >= left

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await until(lambda: connection.exchanges and connection._reading, "the upload is under way")
        yield fill
        scope.cancel()


async def silent(client: AsyncAPIClient) -> None:
    """Nothing comes before the gate opens."""
    assert await client.get("/silent", cast_to=str) == '"fine"'


async def test_who_reads_and_flushes_for_others_loses_nothing_when_cancelled(means: Means) -> None:
    """An upload was cancelled and left half a frame. Who reads now sends that too; then it is cancelled itself."""
    with serving(deaf_server()) as server:
        async with warm(server) as client:
            shrink(client)
            for n in itertools.count(1):
                server.gate = server.listening = False
                over = False
                with anyio.fail_after(5):
                    async with flooding(server, client) as fill, anyio.create_task_group() as group:

                        async def direct() -> None:
                            await until(lambda: server.holding == 3 or (over and server.holding == 2), "all wait")
                            await fill()
                            await anyio.sleep(0.001)
                            server.open_gate()

                        def start() -> None:
                            group.start_soon(held, client)
                            group.start_soon(held, client)

                        group.start_soon(direct)
                        outcome = await cancelled_at(n, means, "checkpoint", lambda: silent(client), start)
                        over = True
                    await settle(server, client)
                if not outcome.reached:
                    break
            assert n > 3


@each_loop
async def test_what_a_cancelled_upload_leaves_is_sent_although_somebody_reads_already() -> None:
    """Behind the half frame that it leaves stands the window that another one waits to be used."""
    with serving(deaf_server(gives_credit=False)) as server:
        async with warm(server) as client:
            shrink(client)
            server.gate = server.listening = False
            with anyio.fail_after(5):
                async with anyio.create_task_group() as group:
                    group.start_soon(silent, client)
                    await until(lambda: server.holding == 1, "somebody reads")
                    async with client.open("GET", "/long") as response:
                        wire: Any = connection_of(client).wire
                        _, answer = wire._streams.values()
                        await until(lambda: answer.received == STREAM_WINDOW, "its window is used up")
                        async with flooding(server, client) as fill:
                            await fill()
                        size = len(await anext(response.iter_bytes()))
                        assert size == STREAM_WINDOW
                        assert connection_of(client).stream.unsent
                        server.listening = True
                        with anyio.fail_after(1):
                            await until(lambda: answer.received == 3 * 2**20, "the rest has come")
                    server.open_gate()
                await settle(server, client)


class Kernel:
    """A stream whose kernel takes what the test says."""

    def __init__(self) -> None:
        self.sent = self.unsent = 0
        self.takes: list[int] = []
        self._changed = anyio.Event()

    def allow(self, size: int) -> None:
        self.takes.append(size)
        self._changed.set()

    def send_nowait(self, data: bytes) -> None:
        self.unsent += len(data)

    async def flush(self) -> None:
        while not self.takes:
            self._changed = anyio.Event()
            await self._changed.wait()
        taken = min(self.takes.pop(0), self.unsent)
        self.sent += taken
        self.unsent -= taken

    async def receive(self, until: float = math.inf) -> bytes:
        self._nudged = anyio.Event()
        await self._nudged.wait()
        raise Nudged

    def nudge(self) -> None:
        self._nudged.set()


@each_loop
async def test_what_was_queued_while_an_upload_is_flushed_does_not_stay_behind_it() -> None:
    """The kernel takes the upload and a part of the frame behind it, which nobody waits to be sent."""
    kernel, wire = Kernel(), H2Wire()
    wire.take_output()
    connection = Connection(1, "", cast("Any", kernel), wire, cast("Any", None), EventLoop())
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(connection.serve)
            await until(lambda: connection._reading, "somebody reads")
            kernel.send_nowait(bytes(100))
            group.start_soon(connection.drain, 100)
            await until(lambda: connection._flushing, "the upload is being flushed")
            wire.ping()
            connection.push_quietly()
            kernel.allow(105)
            await until(lambda: kernel.sent == 105, "the kernel has taken the upload")
            kernel.allow(1000)
            await until(lambda: not kernel.unsent, "the rest has left too", seconds=1)
            group.cancel_scope.cancel()


# --- connecting --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("where", ["checkpoint", "arrival"])
async def test_the_others_are_served_over_one_connection_when_its_opener_is_cancelled(
    secure: bool, where: Where, means: Means, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    sockets = open_sockets()
    for n in itertools.count(1):
        with serving(H2Server(slow_settings=0.001), contexts[0] if secure else None) as server:
            options = over_tls(server, contexts[1]) if secure else {}
            client = client_of(server, **options, limits=Limits(max_connections=10))
            tasks = task_count()
            with anyio.fail_after(5):
                async with anyio.create_task_group() as group:

                    def start() -> None:
                        for _ in range(5):
                            group.start_soon(get, client)

                    outcome = await cancelled_at(n, means, where, lambda: get(client), start)
                assert task_count() == tasks
                await get(client)
            nothing_under_way(client)
            assert len(server.used) == 1
            [line] = server.used
            await until(lambda: not server.live, "no request is left")
            await until(lambda: credit(client, line) == CONNECTION_WINDOW, "the window is given back")
            await client.close()
            assert pool_of(client).open_count == 0
        assert settled_sockets(sockets) == sockets
        if not outcome.reached:
            break
    assert n > (4 if secure and where == "checkpoint" else 1)


# --- the pool ----------------------------------------------------------------------------------------------------


async def open_soon(server: H2Server) -> None:
    await anyio.sleep(0.002)
    server.open_gate()


@pytest.mark.parametrize("where", ["checkpoint", "arrival"])
async def test_a_call_that_waits_for_a_place_while_others_read(where: Where, means: Means) -> None:
    async def operation(client: AsyncAPIClient) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(open_soon, server)
            assert pool_of(client)._machine._connections
            await get(client)

    with serving(H2Server(streams=2)) as server:
        await cancel_in_every_way(server, operation, means, 2, [(where, False)])
        assert len(server.used) == 1


@pytest.mark.parametrize("where", ["checkpoint", "arrival"])
async def test_a_call_that_waits_for_a_place_and_reads_for_others(where: Where, means: Means) -> None:
    """Nobody reads the two answers that fill the connection, so the call that waits does."""
    with serving(H2Server(streams=2)) as server:
        async with warm(server) as client:
            tasks = task_count()
            for n in itertools.count(1):
                server.gate = False
                with anyio.fail_after(5):
                    async with client.open("GET", "/hold") as first, client.open("GET", "/hold") as second:
                        async with anyio.create_task_group() as group:
                            group.start_soon(open_soon, server)
                            outcome = await cancelled_at(n, means, where, lambda: get(client))
                        assert pool_of(client)._machine.waiting_count == 0
                        assert not pool_of(client)._waiters
                        assert b"".join([piece async for piece in first.iter_bytes()]) == HELD
                        assert b"".join([piece async for piece in second.iter_bytes()]) == HELD
                    assert task_count() == tasks
                    await settle(server, client)
                if not outcome.reached:
                    break
            assert n > 1


@each_loop
async def test_a_call_that_came_before_the_connection_reads_on_it_too() -> None:
    """It waited for another one to connect; the answer that then fills the connection is read by nobody."""
    with serving(H2Server(streams=1)) as server:
        client = client_of(server, base_url=f"http://localhost:{server.port}")  # a name takes a moment
        server.gate = False
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(get, client, name="late")
                async with client.open("GET", "/hold") as response:
                    await until(lambda: pool_of(client)._machine.waiting_count, "the other one waits")
                    server.open_gate()
                    with anyio.move_on_after(1):
                        await until(lambda: not pool_of(client)._waiters, "the other one has a place")
                    waits = pool_of(client)._machine.waiting_count
                    assert b"".join([piece async for piece in response.iter_bytes()]) == HELD
        await client.close()
        assert not waits


@each_loop
async def test_a_dropped_answer_gives_its_place_to_the_next_call() -> None:
    with serving(H2Server(streams=1)) as server:
        async with warm(server) as client:
            for _ in range(3):
                await dropped(client)
                await settle(server, client)


# --- PING --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [get, pieces], ids=lambda f: f.__name__)
async def test_a_connection_that_is_asked_whether_it_is_alive(operation: Operation, means: Means) -> None:
    def age(client: AsyncAPIClient) -> None:
        connection_of(client).idle_since -= 100

    with serving(H2Server()) as server:
        options: dict[str, Any] = {"transport": {"ping_interval": 0.5}, "before": age}
        await cancel_in_every_way(server, operation, means, 2, [("checkpoint", True), ("arrival", True)], **options)
        [line] = server.used
        assert line.ledger.pings >= 3


async def test_pings_while_all_wait(means: Means) -> None:
    with serving(H2Server()) as server:
        options: dict[str, Any] = {"transport": {"ping_interval": 0.0005}}
        await cancel_in_every_way(server, pieces, means, 1, WAYS[:3], **options)
        [line] = server.used
        assert line.ledger.pings


# --- the end -----------------------------------------------------------------------------------------------------


async def test_closing_ends_everybody_who_waits_although_it_is_cancelled(means: Means) -> None:
    sockets = open_sockets()
    for n in itertools.count(1):
        with serving(H2Server(streams=4)) as server:
            tasks = task_count()
            client = client_of(server)
            await get(client)
            server.gate = False
            ended: list[str] = []

            async def ends(operation: Operation, name: str) -> None:
                with pytest.raises(APIConnectionError):
                    await operation(client)
                ended.append(name)

            with anyio.fail_after(5):
                async with anyio.create_task_group() as group:
                    group.start_soon(ends, held, "held")
                    group.start_soon(ends, held_up, "held_up")
                    group.start_soon(ends, silent, "silent")
                    async with client.open("GET", "/hold") as response:
                        await until(lambda: server.holding == 4, "all are under way")
                        group.start_soon(ends, get, "get")
                        await until(lambda: pool_of(client)._machine.waiting_count, "one waits for a place")
                        outcome = await cancelled_at(n, means, "checkpoint", client.close)
                        with pytest.raises(APIConnectionError):
                            await response.read()
            assert sorted(ended) == ["get", "held", "held_up", "silent"]
            assert task_count() == tasks
            assert pool_of(client).open_count == 0
            assert not pool_of(client)._waiters
            assert not pool_of(client)._connections
            [line] = server.lines
            await until(lambda: line.over, "the connection is over")
            assert line.ledger.farewell
        assert settled_sockets(sockets) == sockets
        if not outcome.reached:
            break
    assert n > 1


# --- at random ---------------------------------------------------------------------------------------------------


STORM: list[Operation] = [
    get, get, post, pieces, streamed, streamed_and_left, opened, begun_and_left, refused,
    upload(SMALL, "/upload?30000", "async_iterator"),
]  # fmt: skip


@each_loop
async def test_2000_calls_cancelled_at_random_leave_thirty_of_thirty(setting: tuple[Any, Means]) -> None:
    chance = random.Random(11)
    ways: list[Means] = ["scope"]
    if setting[0][0] != "trio":
        ways += ["native", "timeout"]
    with serving(H2Server(streams=20)) as server:
        async with warm(server) as client:
            tasks = task_count()
            cancelled = 0
            rounds = 40 if setting[0][0] == "trio" or os.environ.get("ALL_LOOPS") else 15

            async def one() -> None:
                nonlocal cancelled
                operation = chance.choices(STORM, [8, 8, 4, 2, 2, 2, 2, 1, 2, 1])[0]
                n = chance.choice([1, 1, 2, 2, 3, 4, 6])
                outcome = await cancelled_at(n, chance.choice(ways), "checkpoint", lambda: operation(client))
                cancelled += outcome.ended

            with anyio.fail_after(60):
                for _ in range(rounds):
                    async with anyio.create_task_group() as group:
                        for _ in range(50):
                            group.start_soon(one)
            with anyio.fail_after(5):
                for _ in range(30):
                    await get(client)
            assert cancelled > rounds * 12
            assert task_count() == tasks
            await settle(server, client)
            assert len(server.lines) == 1
