"""ASGITransport: what the application sees, and what the caller gets of what it sends."""

from __future__ import annotations

import contextvars
import pathlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.routing import Route

from anyio_client import (
    APIStatusError,
    ASGITransport,
    AsyncAPIClient,
    AsyncStream,
    DeadlineExceededError,
    InternalServerError,
    RemoteProtocolError,
    Request,
    Response,
    ServerSentEvent,
    Timeout,
    Transport,
)
from tests.transports.apps import (
    JSON,
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

SEEN: contextvars.ContextVar[str] = contextvars.ContextVar("SEEN", default="nothing")


class Recorder:
    """Answers 1 and keeps the scopes and the bodies."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.bodies: list[list[bytes]] = []

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.bodies.append(await read_all(receive))
        await answer(send)


# --- the request ---------------------------------------------------------------------------------------------------


async def test_the_scope_is_that_of_a_server() -> None:
    app = Recorder()
    async with client_of(app, base_url="http://app:8080/v1") as client:
        headers = {"X-Twice": "é".encode().decode("latin-1"), "X-UPPER": "Kept"}
        await client.post(
            "/a%2Fb/%C3%A9%20x?beta=true&beta=%20", body={"a": 1}, options={"headers": headers}, cast_to=object
        )
    (scope,) = app.scopes
    assert scope["type"] == "http" and scope["asgi"]["version"] == "3.0" and scope["http_version"] == "1.1"
    assert (scope["method"], scope["scheme"]) == ("POST", "http")
    assert (scope["path"], scope["raw_path"]) == ("/v1/a/b/é x", b"/v1/a%2Fb/%C3%A9%20x")
    assert scope["query_string"] == b"beta=true&beta=%20"
    assert (scope["root_path"], scope["client"], scope["server"]) == ("", ("127.0.0.1", 50000), ("app", 8080))
    assert "state" not in scope
    names = [name for name, _ in scope["headers"]]
    assert names == [name.lower() for name in names] and all(type(name) is bytes for name in names)
    found = dict(scope["headers"])
    assert len(found) == len(names)
    assert (found[b"host"], found[b"content-length"], found[b"x-upper"]) == (b"app:8080", b"7", b"Kept")
    assert app.bodies == [[b'{"a":1}']]


@pytest.mark.parametrize(
    ("base", "server", "scheme"),
    [
        ("http://app", ("app", 80), "http"),
        ("https://app", ("app", 443), "https"),
        ("https://[::1]:8443", ("::1", 8443), "https"),
    ],
)
@pytest.mark.spread
async def test_scope_of_other_origins(base: str, server: tuple[str, int], scheme: str) -> None:
    app = Recorder()
    places = {"root_path": "/sub", "client": ("203.0.113.9", 1)}
    async with client_of(app, transport=places, base_url=base) as client:
        await client.get("/", cast_to=object)
    (scope,) = app.scopes
    assert (scope["server"], scope["scheme"], scope["root_path"]) == (server, scheme, "/sub")
    assert scope["client"] == ("203.0.113.9", 1) and scope["query_string"] == b"" and scope["raw_path"] == b"/"


async def test_repeated_fields_stay_apart() -> None:
    app = Recorder()
    async with ASGITransport(app) as transport:
        request = Request("GET", "http://app/", headers=[("X-A", "1"), ("X-B", "2"), ("X-A", "3")])
        response = await transport.send(request, timeout=Timeout(5), deadline=None)
        assert await response.read() == b"1"
    assert [pair for pair in app.scopes[0]["headers"] if pair[0].startswith(b"x-")] == [
        (b"x-a", b"1"),
        (b"x-b", b"2"),
        (b"x-a", b"3"),
    ]


@pytest.mark.spread
@pytest.mark.parametrize("kind", ["bytes", "list", "async", "sync", "callable", "file", "empty"])
async def test_bodies_arrive_in_their_pieces(kind: str, tmp_path: pathlib.Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one", b"", b"two"):
            yield piece

    def plain() -> Iterator[bytes]:
        yield from (b"one", b"two")

    path = tmp_path / "file"
    path.write_bytes(b"onetwo")
    app = Recorder()
    async with client_of(app) as client:
        with open(path, "rb") as file:  # noqa: ASYNC230 - a file of seven bytes
            contents: dict[str, Any] = {
                "bytes": b"onetwo",
                "list": [b"one", b"two"],
                "async": pieces(),
                "sync": plain(),
                "callable": lambda: pieces(),
                "file": file,
                "empty": b"",
            }
            await client.post("/", content=contents[kind], cast_to=object)
    assert b"".join(app.bodies[0]) == (b"" if kind == "empty" else b"onetwo")
    if kind in ("async", "sync"):
        assert [piece for piece in app.bodies[0] if piece] == [b"one", b"two"]
        assert "content-length" not in dict(app.scopes[0]["headers"])
    if kind == "list":
        assert dict(app.scopes[0]["headers"])[b"content-length"] == b"6"


async def test_a_body_and_its_answer_go_at_the_same_time() -> None:
    """The application answers piece by piece while the caller still makes the next piece of the upload."""
    answered = [anyio.Event() for _ in range(3)]

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d" % number
            await answered[number].wait()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start())
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send(body(message["body"], more=more))

    async with nothing_left_running(), client_of(app) as client:
        got = []
        async with client.open("POST", "/", content=pieces()) as response:
            async for piece in response.iter_bytes():
                got.append(piece)
                answered[len(got) - 1].set()
    assert got == [b"0", b"1", b"2"]


async def test_the_application_sees_the_context_of_the_call() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        SEEN.get()
        await answer(send, b'"%s"' % SEEN.get().encode())
        SEEN.set("changed by the application")

    async with client_of(app) as client:
        SEEN.set("mine")
        assert await client.get("/", cast_to=str) == '"mine"'
        assert SEEN.get() == "mine"


# --- the response --------------------------------------------------------------------------------------------------


async def events(request: StarletteRequest) -> StreamingResponse:
    gate: anyio.Event = request.app.state.gate

    async def stream() -> AsyncIterator[str]:
        yield "data: 1\n\n"
        await gate.wait()
        yield "data: 2\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


async def echo(request: StarletteRequest) -> JSONResponse:
    return JSONResponse(
        {"path": request.url.path, "body": (await request.body()).decode(), "q": request.query_params["q"]}
    )


async def later(request: StarletteRequest) -> PlainTextResponse:
    async def work() -> None:
        await request.app.state.gate.wait()
        request.app.state.worked.set()

    return PlainTextResponse("now", background=BackgroundTask(work))


async def form(request: StarletteRequest) -> JSONResponse:
    async with request.form() as fields:
        upload: Any = fields["file"]
        return JSONResponse({"name": upload.filename, "content": (await upload.read()).decode(), "a": fields["a"]})


async def moved(request: StarletteRequest) -> RedirectResponse:
    return RedirectResponse("/echo?q=moved", status_code=307)


def starlette() -> Any:
    routes = [
        Route("/events", events),
        Route("/echo", echo, methods=["POST"]),
        Route("/later", later),
        Route("/form", form, methods=["POST"]),
        Route("/moved", moved, methods=["POST"]),
    ]
    app = Starlette(routes=routes)
    app.state.gate, app.state.worked = anyio.Event(), anyio.Event()
    return app


async def test_starlette_json_forms_redirects_and_its_404() -> None:
    async with nothing_left_running(), client_of(starlette()) as client:
        got = await client.post("/echo", content=b"body", options={"params": {"q": "ü"}}, cast_to=object)
        assert got == {"path": "/echo", "body": "body", "q": "ü"}
        got = await client.post("/form", files={"file": ("f.txt", b"content")}, body={"a": "b"}, cast_to=object)
        assert got == {"name": "f.txt", "content": "content", "a": "b"}
        got = await client.post("/moved", content=b"again", cast_to=object)
        assert got == {"path": "/echo", "body": "again", "q": "moved"}
        with pytest.raises(APIStatusError) as missing:
            await client.get("/nothing", cast_to=object)
        assert (missing.value.status_code, missing.value.body) == (404, "Not Found")


async def test_starlettes_first_event_is_there_before_its_last_is_made() -> None:
    app = starlette()
    async with nothing_left_running(), client_of(app) as client:
        async with await client.get(
            "/events", stream=True, stream_cls=AsyncStream[ServerSentEvent], cast_to=object
        ) as stream:
            assert (await anext(stream)).data == "1"
            app.state.gate.set()
            assert [event.data async for event in stream] == ["2"]


async def test_background_work_goes_on_after_the_response() -> None:
    app = starlette()
    async with nothing_left_running(), client_of(app) as client:
        assert await client.get("/later", cast_to=str) == "now"
        assert not app.state.worked.is_set()
        app.state.gate.set()
        await app.state.worked.wait()


@pytest.mark.parametrize("status", [200, 201, 299])
@pytest.mark.spread
async def test_status_and_fields_come_as_they_were_sent(status: int) -> None:
    fields = [(b"X-One", b"1"), (b"x-two", "é".encode("latin-1")), (b"x-one", b"3"), *JSON]

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await answer(send, b"[]", status, fields)

    async with client_of(app) as client, client.open("GET", "/") as response:
        assert (response.status_code, response.http_version) == (status, "HTTP/1.1")
        assert response.headers.get_list("x-one") == ["1", "3"]
        assert response.headers["x-two"] == "é"


async def test_head_and_204_have_no_body() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        status = 204 if scope["path"] == "/204" else 200
        await answer(send, b"a body", status, [(b"content-length", b"6"), *JSON])

    async with nothing_left_running(), client_of(app) as client:
        async with client.open("HEAD", "/") as response:
            assert await response.read() == b""
            assert response.headers["content-length"] == "6"
        async with client.open("GET", "/204") as response:
            assert await response.read() == b""
        await client.get("/204", cast_to=None)


@pytest.mark.spread
@pytest.mark.parametrize("method_and_status", [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_without_a_body_the_head_is_all_that_is_waited_for(method_and_status: tuple[str, int]) -> None:
    """As under a server: whatever the application still sends, a response to HEAD ends with its head (RFC 9110 9.3.2)."""
    method, status = method_and_status

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start(status))
        while True:
            await send(body(b"endless", more=True))

    async with ASGITransport(app) as transport:
        response = await transport.send(Request(method, "http://app/"), timeout=Timeout(5), deadline=None)
        with anyio.fail_after(1):
            assert await response.read() == b""


@pytest.mark.parametrize("declared", [b"2", b"4", b"x", b"3, 3"])
@pytest.mark.spread
async def test_a_content_length_that_does_not_fit_is_an_error(declared: bytes) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await answer(send, b"123", 200, [(b"content-length", declared), *JSON])

    async with client_of(app, max_retries=0) as client:
        with pytest.raises(RemoteProtocolError) as caught:
            await client.get("/", cast_to=object)
    assert (caught.value.phase, caught.value.outcome) == ("body", "answered")


async def test_http_as_the_client_knows_it_works_over_it() -> None:
    """Retries, the deadline, redirects to another origin: they are the client's."""
    statuses = [503, 503, 200]
    gate = anyio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            await gate.wait()
        if scope["path"] == "/drip":
            await send(start())
            await send(body(b"1", more=True))
            await gate.wait()
        await answer(send, b"7", statuses.pop(0))

    async with nothing_left_running(), client_of(app) as client:
        assert await client.post("/", content=b"x", cast_to=int) == 7
        for path in ("/slow", "/drip"):
            with pytest.raises(DeadlineExceededError):
                await client.get(path, options={"deadline": 0.05}, cast_to=object)
        statuses[:] = [500]
        with pytest.raises(InternalServerError):
            await client.get("/", options={"max_retries": 0}, cast_to=object)
        statuses[:] = [200, 200]
        gate.set()


async def test_a_hundred_calls_at_once_do_not_mix() -> None:
    most = running = 0
    arrived = anyio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        if running == 100:
            arrived.set()
        await arrived.wait()
        data = b"".join(await read_all(receive))
        await send(start())
        for byte in data:
            await send(body(bytes([byte]), more=True))
        await send(body())
        running -= 1

    got: dict[int, object] = {}

    async def call(client: AsyncAPIClient, number: int) -> None:
        got[number] = await client.post("/", body=number, cast_to=int)

    async with nothing_left_running(), client_of(app) as client:
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(call, client, number)
    assert got == {number: number for number in range(100)} and most == 100


async def test_two_clients_share_a_transport() -> None:
    app = Recorder()
    transport = ASGITransport(app)
    assert isinstance(transport, Transport)
    first = AsyncAPIClient(base_url="http://one", http_client=transport)
    second = AsyncAPIClient(base_url="http://two/v2", http_client=transport)
    await first.get("/a", cast_to=object)
    await second.get("/b", cast_to=object)
    assert [(scope["server"][0], scope["path"]) for scope in app.scopes] == [("one", "/a"), ("two", "/v2/b")]
    await first.close()
    with pytest.raises(RuntimeError, match="closed"):
        await second.get("/b", cast_to=object)
    await second.close()


async def test_gzip_of_the_application_is_undone() -> None:
    import gzip

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await answer(send, gzip.compress(b"[1]"), 200, [(b"content-encoding", b"gzip"), *JSON])

    async with client_of(app) as client:
        assert await client.get("/", cast_to=list[int]) == [1]


async def test_events_of_a_bare_application_in_any_pieces() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(start(headers=SSE))
        for byte in b"data: one\r\n\r\ndata: two\n\n":
            await send(body(bytes([byte]), more=True))
        await send({"type": "http.response.body"})  # both have defaults

    async with nothing_left_running(), client_of(app) as client:
        stream: Any = await client.get("/", stream=True, stream_cls=AsyncStream[ServerSentEvent], cast_to=object)
        assert [event.data async for event in stream] == ["one", "two"]


def test_what_is_no_application_is_refused() -> None:
    with pytest.raises(TypeError, match="ASGI application, not str"):
        ASGITransport("myapp:app")  # type: ignore[arg-type]
    assert "closed" not in repr(ASGITransport(Recorder()))


async def test_other_schemes_are_refused() -> None:
    async with client_of(Recorder()) as client:
        with pytest.raises(ValueError, match="ftp"):
            await client.get("ftp://app/x", cast_to=object)


async def test_a_response_is_read_once() -> None:
    async with ASGITransport(Recorder()) as transport:
        response: Response = await transport.send(Request("GET", "http://app/"), timeout=Timeout(5), deadline=None)
        assert await response.read() == await response.read() == b"1"
        assert [piece async for piece in response.iter_bytes()] == [b"1"]
