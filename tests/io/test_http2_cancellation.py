"""Cancelled at every checkpoint over HTTP/2: those who share the connection hear nothing of it, and nothing is left."""

from __future__ import annotations

import contextlib
import itertools
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

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
from anyio_client._wire.h2 import CONNECTION_WINDOW
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

Operation = Callable[[AsyncAPIClient], Awaitable[Any]]

# trio has no cancellation but by scopes.
SETTINGS = [
    pytest.param((backend.values[0], means), id=f"{backend.id}-{means}")
    for backend in BACKENDS
    for means in ("scope", "native", "timeout")
    if backend.id != "trio" or means == "scope"
]


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
) -> int:
    """Cancel at the first, second, ... place until there is none left; how many there were.

    ``reads``: the operation is there first and reads for its siblings, who come at its first checkpoint; otherwise
    they are there and read for it.
    """
    tasks = task_count()
    n = 1
    while True:
        server.gate = server.listening = False
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:

                def start() -> None:
                    for sibling in siblings:
                        group.start_soon(sibling, client)

                if not reads:
                    start()
                    await until(lambda: server.holding == len(siblings), "the siblings are under way")
                began = start if reads else lambda: None
                outcome = await cancelled_at(n, means, where, lambda: operation(client), began)
                server.open_gate()
            assert task_count() == tasks
            if where == "checkpoint" and means != "scope":
                assert outcome.ended == outcome.reached, "a cancellation was swallowed"
            await settle(server, client)
        if not outcome.reached:
            return n - 1
        n = following(n)


async def cancel_in_every_way(
    server: H2Server, operation: Operation, means: Means, least: int, ways: list[tuple[Where, bool]], **options: Any
) -> None:
    async with warm(server) as client:
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
