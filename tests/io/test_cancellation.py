"""Cancelled at every checkpoint of everything: the next call is served, and nothing is left behind."""

from __future__ import annotations

import itertools
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest
import trustme

from anyio_client import (
    APIError,
    AsyncAPIClient,
    AsyncAPIResponse,
    HTTPTransport,
    Limits,
    ServerSentEvent,
    Timeout,
)
from tests.conftest import BACKENDS
from tests.kit.cancel import How, cancelled_at
from tests.kit.leaks import open_sockets, settled_sockets, task_count
from tests.kit.peers import Peer, ok, serve

pytestmark = pytest.mark.anyio

Operation = Callable[[AsyncAPIClient], Awaitable[Any]]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


# trio has no cancellation but by scopes.
SETTINGS = [
    pytest.param((backend.values[0], how), id=f"{backend.id}-{how}")
    for backend in BACKENDS
    for how in ("scope", "native")
    if backend.id != "trio" or how == "scope"
]


@pytest.fixture(params=SETTINGS)
def setting(request: pytest.FixtureRequest) -> tuple[Any, How]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def anyio_backend(setting: tuple[Any, How]) -> Any:
    return setting[0]


@pytest.fixture
def how(setting: tuple[Any, How]) -> How:
    return setting[1]


def server(peer: Peer) -> None:
    """Answers by path: slowly, in pieces, with an error, as a stream."""
    while request := peer.read_request():
        path = request.split()[1]
        if path == b"/pieces":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n")
            for piece in (b'"', b"abcdefg", b'"'):
                peer.server.pause(0.002)
                peer.send(piece)
        elif path == b"/error":
            peer.send(ok(b'{"error": {"message": "no"}}', status="500 No", headers="retry-after-ms: 1\r\n"))
        elif path == b"/events":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(3):
                peer.server.pause(0.002)
                peer.send(b"9\r\ndata: 1\n\n\r\n")
            peer.send(b"0\r\n\r\n")
        else:
            peer.server.pause(0.002)
            peer.send(ok(b'"fine"'))


async def get(client: AsyncAPIClient) -> None:
    await client.get("/", cast_to=str)


async def pieces(client: AsyncAPIClient) -> None:
    await client.get("/pieces", cast_to=str)


async def retried(client: AsyncAPIClient) -> None:
    with pytest.raises(APIError):
        await client.get("/error", cast_to=str)


async def stream(client: AsyncAPIClient) -> None:
    async with client.stream("GET", "/events", cast_to=ServerSentEvent) as events:
        async for event in events:
            assert event.data == "1"


async def stream_left_early(client: AsyncAPIClient) -> None:
    async with client.stream("GET", "/events", cast_to=ServerSentEvent) as events:
        async for _ in events:
            break


async def opened(client: AsyncAPIClient) -> None:
    async with client.open("GET", "/pieces") as response:
        async for _ in response.iter_bytes():
            pass


async def opened_and_closed(client: AsyncAPIClient) -> None:
    async with client.open("GET", "/pieces") as response:
        assert isinstance(response, AsyncAPIResponse)


class Upload:
    """Three pieces, each after a checkpoint; an object, so that nothing is left suspended when it is dropped."""

    def __init__(self) -> None:
        self.left = 3

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return b"x" * 1000


async def upload(client: AsyncAPIClient) -> None:
    await client.post("/", cast_to=str, content=Upload)


async def large_upload(client: AsyncAPIClient) -> None:
    await client.post("/", cast_to=str, content=b"x" * 3_000_000)


async def two_that_wait_for_one(client: AsyncAPIClient) -> None:
    """With one connection: the second waits in the pool."""
    async with anyio.create_task_group() as group:
        group.start_soon(get, client)
        group.start_soon(get, client)


async def close(client: AsyncAPIClient) -> None:
    other = AsyncAPIClient(base_url=client.base_url)
    try:
        await get(other)
    finally:
        await other.close()


OPERATIONS: list[Operation] = [
    get, pieces, retried, stream, stream_left_early, opened, opened_and_closed, upload, large_upload,
    two_that_wait_for_one, close,
]  # fmt: skip


async def cancel_everywhere(operation: Operation, how: How, make: Callable[[], AsyncAPIClient], warm: bool) -> int:
    """Cancel at the first, second, ... checkpoint until there is none left; how many there were."""
    sockets = open_sockets()
    for n in itertools.count(1):
        client = make()
        pool = client._transport.pool  # type: ignore[attr-defined]
        if warm:
            await get(client)
        tasks = task_count()
        reached = await cancelled_at(n, how, lambda client=client: operation(client))  # type: ignore[misc]
        assert task_count() == tasks
        with anyio.fail_after(10):
            assert await client.get("/", cast_to=str) == '"fine"'
        assert pool.open_count == 1
        assert pool._machine.idle_count == 1
        assert pool._machine.waiting_count == 0
        assert not pool._waiters
        await client.close()
        assert pool.open_count == 0
        assert settled_sockets(sockets) <= sockets
        if not reached:
            return n - 1
    raise AssertionError


@pytest.mark.parametrize("warm", [False, True], ids=["connecting", "connected"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda f: f.__name__)
async def test_cancelled_at_every_checkpoint(operation: Operation, how: How, warm: bool) -> None:
    with serve(server) as peer:

        def make() -> AsyncAPIClient:
            transport = HTTPTransport(limits=Limits(max_connections=1))
            return AsyncAPIClient(base_url=peer.url, http_client=transport)

        assert await cancel_everywhere(operation, how, make, warm) >= 1


@pytest.mark.parametrize("operation", [get, pieces, large_upload], ids=lambda f: f.__name__)
async def test_cancelled_at_every_checkpoint_of_tls(operation: Operation, how: How, authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    with serve(server, context) as peer:

        def make() -> AsyncAPIClient:
            transport = HTTPTransport(limits=Limits(max_connections=1), tls=ours)
            return AsyncAPIClient(base_url=f"https://localhost:{peer.port}", http_client=transport)

        assert await cancel_everywhere(operation, how, make, warm=False) >= 4


async def test_2400_calls_cancelled_at_random_times_leave_thirty_of_thirty(how: How) -> None:
    chance = random.Random(7)
    sockets = open_sockets()
    with serve(server) as peer:
        transport = HTTPTransport(limits=Limits(max_connections=10))
        async with AsyncAPIClient(base_url=peer.url, http_client=transport, timeout=Timeout(20)) as client:
            tasks = task_count()

            async def one() -> None:
                operation = chance.choice([get, pieces, stream, stream_left_early, upload])
                if how == "scope":
                    with anyio.move_on_after(chance.uniform(0, 0.05)):
                        await operation(client)
                else:
                    import asyncio

                    task = asyncio.ensure_future(operation(client))
                    asyncio.get_running_loop().call_later(chance.uniform(0, 0.05), task.cancel)
                    try:
                        await task
                    except asyncio.CancelledError:
                        pass

            for _ in range(12):
                async with anyio.create_task_group() as group:
                    for _ in range(200):
                        group.start_soon(one)
            served = 0
            with anyio.fail_after(20):
                for _ in range(30):
                    served += await client.get("/", cast_to=str) == '"fine"'
            assert served == 30
            assert task_count() == tasks
            assert transport.pool.open_count <= 10
            assert not transport.pool._waiters
            assert transport.pool._machine.idle_count == transport.pool.open_count
    assert settled_sockets(sockets) == sockets
