"""ASGITransport: startup, shutdown and close."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route

from anyio_client import APIConnectionError, ASGITransport, Request, Timeout
from tests.transports.apps import App, Receive, Send, answer, body, client_of, nothing_left_running, start

pytestmark = pytest.mark.anyio

LIFESPAN: dict[str, Any] = {"lifespan": True}
TIMEOUT = Timeout(5)


class Living:
    """Keeps a log of what happens. ``gates``: what is waited for, by name."""

    def __init__(self, **gates: anyio.Event) -> None:
        self.log: list[str] = []
        self.gates = gates

    async def pass_gate(self, name: str) -> None:
        if name in self.gates:
            await self.gates[name].wait()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.respond(scope, receive, send)
            return
        assert (await receive())["type"] == "lifespan.startup"
        self.log.append("startup")
        await self.pass_gate("startup")
        scope["state"]["made"] = [1]
        await send({"type": "lifespan.startup.complete"})
        self.log.append("started")
        assert (await receive())["type"] == "lifespan.shutdown"
        self.log.append("shutdown")
        await self.pass_gate("shutdown")
        await send({"type": "lifespan.shutdown.complete"})
        self.log.append("over")

    async def respond(self, scope: Any, receive: Receive, send: Send) -> None:
        self.log.append("request")
        try:
            await self.pass_gate("request")
            await answer(send, b"%d" % len(scope["state"]["made"]))
        finally:
            self.log.append("responded")


async def test_twenty_calls_at_once_start_the_application_once() -> None:
    app = Living(startup=anyio.Event())
    async with nothing_left_running():
        async with client_of(app, transport=LIFESPAN) as client:
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(lambda: client.get("/", cast_to=int))
                await anyio.wait_all_tasks_blocked()
                assert app.log == ["startup"]
                app.gates["startup"].set()
            assert app.log.count("startup") == 1 and app.log.count("responded") == 20
        assert app.log[-2:] == ["shutdown", "over"]


async def test_state_is_copied_for_each_request() -> None:
    class Greedy(Living):
        async def respond(self, scope: Any, receive: Receive, send: Send) -> None:
            assert "mine" not in scope["state"]
            scope["state"]["mine"] = 1
            scope["state"]["made"].append(1)  # a shallow copy: what is in it is shared
            await super().respond(scope, receive, send)

    async with client_of(Greedy(), transport=LIFESPAN) as client:
        assert [await client.get("/", cast_to=int) for _ in range(3)] == [2, 3, 4]


async def test_starlettes_lifespan() -> None:
    log = []

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, Any]]:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            log.append("in")
            yield {"answer": 42}
            log.append("out")
            group.cancel_scope.cancel()

    async def state(request: StarletteRequest) -> JSONResponse:
        return JSONResponse(request.state.answer)

    app = Starlette(routes=[Route("/", state)], lifespan=lifespan)
    async with nothing_left_running():
        async with client_of(app, transport=LIFESPAN) as client:
            assert await client.get("/", cast_to=int) == 42
        assert log == ["in", "out"]


async def test_as_a_block_it_starts_at_once() -> None:
    app = Living()
    async with ASGITransport(app, lifespan=True) as transport:
        assert app.log[0] == "startup"
    assert app.log[-1] == "over"
    with pytest.raises(RuntimeError, match="closed"):
        await transport.send(Request("GET", "http://app/"), timeout=TIMEOUT, deadline=None)
    await transport.aclose()
    assert app.log.count("over") == 1 and "closed" in repr(transport)


async def test_never_started_is_never_shut_down() -> None:
    app = Living()
    await ASGITransport(app, lifespan=True).aclose()
    async with client_of(app):
        pass
    assert app.log == []


@pytest.mark.parametrize("how", ["failed", "raising"])
async def test_a_startup_that_fails_is_told_and_tried_again(how: str) -> None:
    error = ZeroDivisionError("mine")
    starts = 0

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        nonlocal starts
        if scope["type"] == "http":
            await answer(send)
            return
        starts += 1
        await receive()
        if starts < 3:
            if how == "raising":
                raise error
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async with nothing_left_running(), client_of(app, transport=LIFESPAN) as client:
        for _ in range(2):
            with pytest.raises((RuntimeError, ZeroDivisionError)) as caught:
                await client.get("/", cast_to=int)
            assert caught.value is error if how == "raising" else "no database" in str(caught.value)
        assert await client.get("/", cast_to=int) == 1
    assert starts == 3


async def test_an_application_that_ignores_the_lifespan_works() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(send)

    async with nothing_left_running(), client_of(app, transport=LIFESPAN) as client:
        assert await client.get("/", cast_to=int) == 1


async def test_without_lifespan_there_is_none() -> None:
    seen = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])
        await answer(send)

    async with client_of(app) as client:
        await client.get("/", cast_to=int)
    assert seen == ["http"]


async def test_a_startup_whose_caller_leaves_is_not_taken_for_the_next_one() -> None:
    class Slow(Living):
        async def pass_gate(self, name: str) -> None:
            try:
                await super().pass_gate(name)
            finally:
                with anyio.CancelScope(shield=True):
                    for _ in range(10):  # it takes its time to end
                        await anyio.lowlevel.checkpoint()

    app = Slow(startup=anyio.Event())
    got: list[int] = []
    async with client_of(app, transport=LIFESPAN) as client:
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()

            async def first() -> None:
                with scope:
                    await client.get("/", cast_to=int)

            async def second() -> None:
                got.append(await client.get("/", cast_to=int))

            group.start_soon(first)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(second)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            await anyio.wait_all_tasks_blocked()
            before = list(app.log)
            app.gates["startup"].set()
    assert before == ["startup", "startup"]  # no request before it has started
    assert got == [1]


# --- close -----------------------------------------------------------------------------------------------------------


async def test_closing_ends_what_still_runs() -> None:
    ended = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"1", more=scope["path"] != "/background"))
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(scope["path"])

    async with nothing_left_running():
        client = client_of(app)
        assert await client.get("/background", cast_to=int) == 1
        async with anyio.create_task_group() as group:

            async def wait_for_the_rest() -> None:
                with pytest.raises(APIConnectionError):
                    await client.get("/middle", cast_to=int, options={"max_retries": 0})

            group.start_soon(wait_for_the_rest)
            await anyio.wait_all_tasks_blocked()
            assert ended == []
            await client.close()
        assert sorted(ended) == ["/background", "/middle"]


async def test_a_call_that_close_ends_is_not_tried_again() -> None:
    calls = 0

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        await anyio.sleep_forever()

    async with nothing_left_running():
        client = client_of(app)
        async with anyio.create_task_group() as group:

            async def call() -> None:
                with pytest.raises(APIConnectionError):
                    await client.get("/", cast_to=int)

            group.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            await client.close()
    assert calls == 1


async def test_the_shutdown_comes_after_the_last_request() -> None:
    app = Living(request=anyio.Event())
    async with nothing_left_running():
        client = client_of(app, transport=LIFESPAN, max_retries=0)
        async with anyio.create_task_group() as group:

            async def call() -> None:
                with pytest.raises(APIConnectionError):
                    await client.get("/", cast_to=int)

            group.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            await client.close()
    assert app.log[2:] == ["request", "responded", "shutdown", "over"]


async def test_a_call_that_waits_for_the_startup_ends_when_closed() -> None:
    app = Living(startup=anyio.Event())
    errors: list[BaseException] = []
    async with nothing_left_running():
        transport = ASGITransport(app, lifespan=True)
        async with anyio.create_task_group() as group:

            async def call() -> None:
                try:
                    with anyio.fail_after(0.5):
                        await transport.send(Request("GET", "http://app/"), timeout=TIMEOUT, deadline=None)
                except Exception as exc:
                    errors.append(exc)

            group.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            await transport.aclose()
    assert app.log == ["startup"]
    assert [type(error).__name__ for error in errors] in (["RuntimeError"], ["APIConnectionError"])


async def test_a_shutdown_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anyio_client.transports._asgi.CLOSE_TIME", 0.05)
    app = Living(shutdown=anyio.Event())
    async with nothing_left_running():
        async with client_of(app, transport=LIFESPAN) as client:
            await client.get("/", cast_to=int)
        assert app.log[-1] == "shutdown"


async def test_an_application_that_will_not_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anyio_client.transports._asgi.CLOSE_TIME", 0.05)
    stop = anyio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await answer(send)
        with anyio.CancelScope(shield=True):
            await stop.wait()

    async with nothing_left_running():
        async with client_of(app) as client:
            await client.get("/", cast_to=int)
        stop.set()


@pytest.mark.parametrize("kind", ["failed", "raising"])
async def test_a_shutdown_that_fails_still_closes_and_is_heard_of(kind: str) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if kind == "raising":
            raise ZeroDivisionError
        await send({"type": "lifespan.shutdown.failed", "message": "no"})

    inner: App = app
    async with nothing_left_running():
        client = client_of(inner, transport=LIFESPAN)
        await client.get("/", cast_to=int)
        with pytest.raises(ZeroDivisionError if kind == "raising" else RuntimeError):
            await client.close()
        assert client.is_closed()
