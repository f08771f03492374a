"""ASGITransport where something goes wrong: applications that fail or break the rules, callers that leave."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from anyio_client import (
    APIConnectionError,
    ASGITransport,
    AsyncAPIClient,
    ConnectError,
    ConnectionLostError,
    InternalServerError,
    Outcome,
    Phase,
    Request,
    Response,
    Timeout,
)
from tests.transports.apps import (
    App,
    Receive,
    Send,
    answer,
    body,
    client_of,
    nothing_left_running,
    start,
)

pytestmark = [pytest.mark.anyio, pytest.mark.spread]

TIMEOUT = Timeout(5)


class Broken(Exception):
    pass


def failing(where: str, error: Exception) -> App:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if where != "before":
            await send(start())
        if where in ("middle", "after"):
            await send(body(b"1", more=where == "middle"))
        raise error

    return app


async def sent(transport: ASGITransport, method: str = "GET", content: Any = None) -> Response:
    request = Request(method, "http://app/", content=content)
    return await transport.send(request, timeout=TIMEOUT, deadline=None)


# --- the application fails -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["before", "at the head", "middle"])
async def test_an_exception_of_the_application_comes_out_as_the_same_object(where: str) -> None:
    error = Broken("mine")
    async with nothing_left_running(), client_of(failing(where, error)) as client:
        with pytest.raises(Broken) as caught:
            await client.get("/", cast_to=object)
        assert caught.value is error


async def test_an_exception_after_the_response_does_not_undo_it() -> None:
    async with nothing_left_running(), client_of(failing("after", Broken())) as client:
        assert await client.get("/", cast_to=int) == 1


@pytest.mark.parametrize("where", ["before", "at the head", "middle", "after"])
async def test_as_under_a_server_exceptions_stay_inside(where: str) -> None:
    calls = 0
    inner = failing(where, Broken())

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        await inner(scope, receive, send)

    async with nothing_left_running(), client_of(app, transport={"raise_app_exceptions": False}) as client:
        if where == "after":
            assert await client.get("/", cast_to=int) == 1
        elif where == "before":
            with pytest.raises(InternalServerError) as status:
                await client.get("/", cast_to=int)
            assert (status.value.status_code, len(status.value.attempts), calls) == (500, 3, 3)
        else:
            with pytest.raises(ConnectionLostError) as lost:
                await client.post("/", content=b"x", cast_to=int)
            assert (lost.value.phase, lost.value.outcome, calls) == (Phase.BODY, Outcome.ANSWERED, 1)


@pytest.mark.parametrize(
    "where",
    [
        "before",
        "middle",
    ],
)
async def test_the_cause_of_an_exception_is_kept(where: str) -> None:
    error = Broken()
    error.__cause__ = cause = KeyError("why")
    async with client_of(failing(where, error)) as client:
        with pytest.raises(Broken):
            await client.get("/", cast_to=object)
    assert error.__cause__ is cause


@pytest.mark.parametrize("begun", [False, True])
async def test_an_application_that_returns_early_lost_the_connection(begun: bool) -> None:
    calls = 0

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        if begun:
            await send(start())
            await send(body(b"1", more=True))

    async with nothing_left_running(), client_of(app) as client:
        with pytest.raises(ConnectionLostError, match="returned before") as lost:
            await client.post("/", content=b"x", cast_to=int)
        facts = (Phase.BODY, Outcome.ANSWERED) if begun else (Phase.RECEIVE, Outcome.UNKNOWN)
        assert ((lost.value.phase, lost.value.outcome), calls) == (facts, 1)
        with pytest.raises(ConnectionLostError):
            await client.get("/", cast_to=int)
        assert calls == 4  # a GET may be tried again


# Each with what the caller must see: the application's own error, raised where it sent the wrong thing.
WRONG: dict[str, list[Any]] = {
    "body first": [body()],
    "two heads": [start(), start()],
    "after the end": [start(), body(), body()],
    "unknown": [{"type": "http.response.what"}],
    "websocket": [{"type": "websocket.accept"}],
    "no type": [{}],
    "no message": [None],
    "no status": [{"type": "http.response.start"}],
    "status of text": [{"type": "http.response.start", "status": "200"}, body()],
    "status too small": [start(7), body()],
    "fields of text": [start(headers=[("a", "b")]), body()],  # type: ignore[list-item]
    "fields of numbers": [start(headers=[(3, 4)]), body()],  # type: ignore[list-item]
    "line end in a field": [start(headers=[(b"a", b"b\r\nc: d")]), body()],
    "body of text": [start(), {"type": "http.response.body", "body": "text"}],
    "body of a number": [start(), {"type": "http.response.body", "body": 5}],
    "body of None": [start(), {"type": "http.response.body", "body": None}],
}
SEEN_TOO_LATE = {
    "no status",
    "status of text",
    "status too small",
    "fields of text",
    "fields of numbers",
    "line end in a field",
    "body of a number",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name if name in SEEN_TOO_LATE else (),
        )
        for name in WRONG
    ],
)
async def test_wrong_messages_are_refused_where_they_are_sent(name: str) -> None:
    refused: list[Exception] = []
    over = anyio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        try:
            for message in WRONG[name]:
                await send(message)
        except Exception as exc:
            refused.append(exc)
            raise
        finally:
            over.set()

    async with nothing_left_running(), ASGITransport(app) as transport:
        try:
            response = await sent(transport)
            await response.read()
        except Exception as exc:
            assert refused == [exc]
        await over.wait()
    assert len(refused) == 1
    assert isinstance(refused[0], RuntimeError | TypeError | KeyError | ValueError)


# --- the caller's own failures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("head_first", [False, True])
@pytest.mark.parametrize("error", [Broken("mine"), ConnectError(outcome=Outcome.NOT_SENT)], ids=["foreign", "ours"])
async def test_a_failing_upload_is_the_callers_own_exception(error: Exception, head_first: bool) -> None:
    messages: list[str] = []
    calls = 0

    async def pieces() -> AsyncIterator[bytes]:
        yield b"1"
        raise error

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        if head_first:
            await send(start())
        while not messages or messages[-1] != "http.disconnect":
            messages.append((await receive())["type"])

    async with nothing_left_running(), client_of(app) as client:
        with pytest.raises(type(error)) as caught:
            await client.put("/", content=lambda: pieces(), cast_to=object)
        assert caught.value is error
    assert (messages, calls) == (["http.request", "http.disconnect"], 1)


async def test_an_application_that_does_not_read_leaves_the_upload_closed() -> None:
    closed = []

    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"1"
        finally:
            await anyio.lowlevel.checkpoint()
            closed.append(True)

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        assert (await receive())["body"] == b"1"
        await answer(send, b"5")

    async with nothing_left_running(), client_of(app) as client:
        assert await client.post("/", content=pieces(), cast_to=int) == 5
    assert closed == [True]


async def test_an_application_that_waits_for_the_upload_sees_the_caller_leave() -> None:
    seen = anyio.Event()
    closed = anyio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        try:
            yield b"1"
            await anyio.sleep_forever()
        finally:
            closed.set()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        seen.set()

    async with client_of(app) as client:
        with anyio.move_on_after(0.05):
            await client.post("/", content=pieces(), cast_to=object)
        with anyio.fail_after(0.5):
            await seen.wait()
            await closed.wait()


async def test_asynchronous_debugging_has_nothing_to_say(
    monkeypatch: pytest.MonkeyPatch, anyio_backend_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    if anyio_backend_name == "asyncio":
        import asyncio

        asyncio.get_running_loop().set_debug(True)
    async with nothing_left_running(), client_of(failing("middle", Broken())) as client:
        with pytest.raises(Broken):
            await client.get("/", cast_to=object)
        gc.collect()
        await anyio.wait_all_tasks_blocked()
    assert [record.message for record in caplog.records if record.name in ("asyncio", "trio")] == []


async def test_our_errors_of_an_inner_client_pass() -> None:
    """An application that is a client itself: the error of its call is an exception of the application's."""
    inner = ConnectError("inner", outcome=Outcome.NOT_SENT)
    async with client_of(failing("before", inner)) as client:
        with pytest.raises(APIConnectionError) as caught:
            await client.get("/", cast_to=object)
        assert caught.value is inner


async def test_an_error_page_gives_way_to_the_exception_that_made_it() -> None:
    """As Starlette does it: its error middleware answers 500, and then raises."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    asked = 0

    async def boom(request: Any) -> None:
        nonlocal asked
        asked += 1
        raise KeyError("x")

    app: Any = Starlette(routes=[Route("/boom", boom)])
    async with AsyncAPIClient(base_url="http://app", http_client=ASGITransport(app)) as client:
        with pytest.raises(KeyError):
            await client.get("/boom", cast_to=object)
    assert asked == 1
    quiet = ASGITransport(app, raise_app_exceptions=False)
    async with AsyncAPIClient(base_url="http://app", http_client=quiet, max_retries=0) as client:
        with pytest.raises(InternalServerError):
            await client.get("/boom", cast_to=object)
