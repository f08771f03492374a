"""ASGITransport where the caller leaves before the end: what the application hears, and what is left."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from anyio_client import (
    ASGITransport,
    AsyncStream,
    Request,
    Response,
    ServerSentEvent,
    Timeout,
)
from tests.conftest import BACKENDS
from tests.kit.cancel import How, cancelled_at
from tests.transports.apps import (
    SSE,
    Receive,
    Send,
    answer,
    body,
    client_of,
    nothing_left_running,
    read_all,
    start,
)

pytestmark = pytest.mark.anyio

TIMEOUT = Timeout(5)


async def sent(transport: ASGITransport, method: str = "GET", content: Any = None) -> Response:
    request = Request(method, "http://app/", content=content)
    return await transport.send(request, timeout=TIMEOUT, deadline=None)


# --- the caller leaves -----------------------------------------------------------------------------------------------


async def test_an_application_hears_that_the_caller_left() -> None:
    heard: list[Any] = []
    over = anyio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await read_all(receive)
        await send(start())
        await send(body(b"1", more=True))
        heard.append(await receive())
        heard.append(await receive())  # and again, as often as it asks
        try:
            await send(body(b"2", more=True))
        except OSError as exc:
            heard.append(exc)
        over.set()

    async with nothing_left_running(), client_of(app) as client:
        async with client.open("GET", "/") as response:
            assert await anext(response.iter_bytes()) == b"1"
            assert not heard
        await over.wait()
    assert heard[:2] == [{"type": "http.disconnect"}] * 2
    assert type(heard[2]) is OSError and "disconnected" in str(heard[2])


async def test_after_the_response_receive_says_disconnect() -> None:
    heard: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await read_all(receive)
        await answer(send)
        heard.append(await receive())

    async with nothing_left_running(), client_of(app) as client:
        await client.get("/", cast_to=int)
    assert heard == [{"type": "http.disconnect"}]


async def test_a_caller_that_is_cancelled_before_the_head_has_left() -> None:
    waiting, over = anyio.Event(), anyio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await read_all(receive)
        waiting.set()
        assert await receive() == {"type": "http.disconnect"}
        over.set()

    async with nothing_left_running(), client_of(app) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: client.get("/", cast_to=int))
            await waiting.wait()
            group.cancel_scope.cancel()
        await over.wait()


async def test_an_endless_application_is_held_back_by_its_reader() -> None:
    made = 0
    over = anyio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        nonlocal made
        await send(start())
        try:
            while True:
                made += 1
                await send(body(bytes(65536), more=True))
        finally:
            over.set()

    async with nothing_left_running(), client_of(app, transport={"raise_app_exceptions": False}) as client:
        async with client.open("GET", "/") as response:
            pieces = response.iter_bytes()
            for _ in range(3):
                await anext(pieces)
                await anyio.wait_all_tasks_blocked()
            assert made <= 5
        with anyio.fail_after(5):
            await over.wait()
    assert made <= 7  # closing reads a short rest


@pytest.mark.parametrize("pieces", [1, 0])
async def test_a_stream_that_is_dropped_says_nothing_of_anyios(pieces: int) -> None:
    """A bare ``break``, the commonest of faults, and the client closed behind it: no warning about a memory stream."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start(headers=SSE))
        while True:
            await send(body(b"data: 1\n\n", more=True))

    async with nothing_left_running(), client_of(app) as client:
        stream: Any = await client.get("/", stream=True, stream_cls=AsyncStream[ServerSentEvent], cast_to=object)
        for _ in range(pieces):
            await anext(stream)
        del stream
        gc.collect()
    gc.collect()


async def test_nothing_keeps_a_response_after_it_was_read() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await answer(send, bytes(1000))

    async with nothing_left_running(), ASGITransport(app) as transport:
        response = await sent(transport)
        await response.read()
        await anyio.wait_all_tasks_blocked()
        reference = weakref.ref(response)
        del response
        gc.collect()
        assert reference() is None


@pytest.mark.parametrize("how", ["scope", "native"])
@pytest.mark.parametrize("anyio_backend", BACKENDS)
async def test_cancelled_at_every_checkpoint(anyio_backend_name: str, how: How) -> None:
    if how == "native" and anyio_backend_name == "trio":
        pytest.skip("trio has scopes only")
    started = ended = 0

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        nonlocal started, ended
        started += 1
        try:
            async with anyio.create_task_group() as group:

                async def stop_at_disconnect() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    group.cancel_scope.cancel()

                group.start_soon(stop_at_disconnect)
                await send(start())
                for _ in range(3):
                    await send(body(b"1", more=True))
                await send(body(b"1"))
        finally:
            ended += 1

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"1"

    async with nothing_left_running():
        async with client_of(app, transport={"lifespan": False}) as client:

            async def call() -> None:
                async with client.open("POST", "/", content=pieces()) as response:
                    assert [piece async for piece in response.iter_bytes()] == [b"1"] * 4

            n = 1
            while await cancelled_at(n, how, call):
                n += 1
            assert n > 6
            while ended < started:  # noqa: ASYNC110 - nobody ends them: they have heard
                await anyio.sleep(0.001)
            await call()
