"""Uploads that wait, tell, end in trailers or go both ways, cancelled at every checkpoint; then as before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from anyio_client import AsyncAPIClient, ContentTooLargeError, HTTPTransport, Limits, RetryPolicy
from tests.io.test_cancellation import SETTINGS, cancel_everywhere
from tests.kit.cancel import How
from tests.kit.peers import serve
from tests.kit.sides import PROTOCOLS, Body, Protocol, Side, speaking

pytestmark = [pytest.mark.anyio, pytest.mark.spread]

Operation = Callable[[AsyncAPIClient], Awaitable[Any]]


@pytest.fixture(params=SETTINGS)
def setting(request: pytest.FixtureRequest) -> tuple[Any, How]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def anyio_backend(setting: tuple[Any, How]) -> Any:
    return setting[0]


@pytest.fixture
def how(setting: tuple[Any, How]) -> How:
    return setting[1]


def server(side: Side) -> None:
    """Answers by path. A stream that the client resets is over, and the connection goes on."""
    while True:
        path = side.head().path
        try:
            _answer(side, path)
        except ConnectionError:
            if getattr(getattr(side, "asked", None), "reset", None) is None:
                raise


def _answer(side: Side, path: str) -> None:
    if path == "/early":
        side.answer(status=413)
        side.given_up()
        raise ConnectionError
    if path == "/expect":
        side.peer.server.pause(0.002)
        side.interim(103)
        side.peer.server.pause(0.002)
        side.interim(100)
    if path == "/echo":
        side.begin()
        while data := side.piece():
            side.data(data)
        side.end([("x-end", "1")])
        return
    if path == "/hold":
        side.begin()
        side.data(side.piece())
        side.given_up()
        raise ConnectionError
    side.body()
    side.peer.server.pause(0.002)
    side.interim(102)
    side.answer(b'"fine"')


class Generated:
    """Pieces of a generator, which must not be left suspended, and whoever began it must have closed it."""

    def __init__(self, *, endless: bool = False) -> None:
        self.endless = endless
        self.begun = self.closed = 0

    async def __call__(self) -> AsyncIterator[bytes]:
        self.begun += 1
        try:
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
                yield b"x" * 1000
            if self.endless:
                await anyio.sleep_forever()
        finally:
            self.closed += 1


async def expect(client: AsyncAPIClient) -> None:
    await client.post("/expect", cast_to=str, content=b"x" * 1000, options={"expect_continue": True})


async def expect_and_stream(client: AsyncAPIClient) -> None:
    body = Generated()
    try:
        await client.post("/expect", cast_to=str, content=body, options={"expect_continue": True})
    finally:
        assert body.begun == body.closed


async def expect_in_vain(client: AsyncAPIClient) -> None:
    body = Body(b"x")
    with pytest.raises(ContentTooLargeError):
        await client.post("/early", cast_to=str, content=body, options={"expect_continue": True})
    assert not body.asked


async def trailers(client: AsyncAPIClient) -> None:
    told: list[int] = []
    options = {"trailers": lambda: {"x": "1"}, "on_informational": lambda status, headers: told.append(status)}
    await client.post("/", cast_to=str, content=Body(b"x" * 1000, b"y"), options=options)
    assert told == [102]


async def both_ways(client: AsyncAPIClient) -> None:
    body = Generated()
    try:
        async with client.open("POST", "/echo", content=body, options={"trailers": lambda: {"x": "1"}}) as response:
            assert len(await response.read()) == 3000
            assert response.trailers
    finally:
        assert body.begun == body.closed


async def ping_pong(client: AsyncAPIClient) -> None:
    send, receive = anyio.create_memory_object_stream[bytes](1)
    with send, receive:
        async with client.open("POST", "/echo", content=receive) as response:
            answers = response.iter_bytes()
            for _ in range(3):
                await send.send(b"ping")
                assert await anext(answers) == b"ping"
            send.close()
            async for _ in answers:
                raise AssertionError


async def left_early(client: AsyncAPIClient) -> None:
    body = Generated(endless=True)
    try:
        async with client.open("POST", "/hold", content=body) as response:
            await anext(response.iter_bytes())
    finally:
        assert body.begun == body.closed


async def stopped_by_the_answer(client: AsyncAPIClient) -> None:
    body = Generated(endless=True)
    try:
        with pytest.raises(ContentTooLargeError):
            async with client.open("POST", "/early", content=body):
                raise AssertionError
    finally:
        assert body.begun == body.closed


async def failing(client: AsyncAPIClient) -> None:
    body = Body(b"x", error=KeyError("mine"))
    with pytest.raises(KeyError):
        async with client.open("POST", "/hold", content=body) as response:
            async for _ in response.iter_bytes():
                pass
    assert body.closed


OPERATIONS: list[Operation] = [
    expect, expect_and_stream, expect_in_vain, trailers, both_ways, ping_pong, left_early, stopped_by_the_answer,
    failing,
]  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda f: f.__name__)
async def test_cancelled_at_every_checkpoint(operation: Operation, how: How, protocol: Protocol) -> None:
    with serve(speaking(protocol, server)) as peer:

        def make() -> AsyncAPIClient:
            transport = HTTPTransport(http1=protocol == "h1", http2=protocol == "h2", limits=Limits(max_connections=1))
            policy = RetryPolicy(wait_initial=0.001)
            return AsyncAPIClient(base_url=peer.url, http_client=transport, retry=policy, max_retries=0)

        assert await cancel_everywhere(operation, how, make, warm=True) >= 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_blocks_cancelled_at_random_times_leave_nothing(how: How, protocol: Protocol) -> None:
    operations = [expect, both_ways, ping_pong, left_early, trailers]
    with serve(speaking(protocol, server)) as peer:
        transport = HTTPTransport(http1=protocol == "h1", http2=protocol == "h2", limits=Limits(max_connections=10))
        async with AsyncAPIClient(base_url=peer.url, http_client=transport, max_retries=0) as client:

            async def one(number: int) -> None:
                operation = operations[number % len(operations)]
                if how == "scope":
                    with anyio.move_on_after(number * 0.0003):
                        await operation(client)
                    return
                task = asyncio.ensure_future(operation(client))
                asyncio.get_running_loop().call_later(number * 0.0003, task.cancel)
                try:
                    await task
                except asyncio.CancelledError:
                    pass

            with anyio.fail_after(20):
                async with anyio.create_task_group() as group:
                    for number in range(100):
                        group.start_soon(one, number)
                for _ in range(10):
                    assert await client.get("/", cast_to=str) == '"fine"'
            assert transport.pool._machine.idle_count == transport.pool.open_count
            assert not transport.pool._waiters
