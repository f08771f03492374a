"""Redirects over real sockets: what is followed and what is not, what the call's parts see of it, and what is left behind."""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from anyio_client import (
    APIStatusError,
    AsyncAPIClient,
    AsyncAPIResponse,
    AsyncStream,
    BearerAuth,
    LinkPage,
    Middleware,
    MockTransport,
    Request,
    RequestOptions,
    Response,
    RetryPolicy,
    ServerSentEvent,
    TooManyRedirectsError,
)
from tests.kit.origins import Answer, Seen, by_path, moved, seen_by
from tests.kit.peers import Peer, ScriptedServer, ok, serve

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]

CallNext = Callable[[Request], Awaitable[Any]]
DONE = ok(b"done")
QUICK = RetryPolicy(wait_initial=0)


def client_at(server: ScriptedServer, cls: type[AsyncAPIClient] = AsyncAPIClient, **options: Any) -> AsyncAPIClient:
    return cls(**{"base_url": server.url, "retry": QUICK, **options})


def targets(server: ScriptedServer) -> list[str]:
    return [seen.target for seen in seen_by(server)]


async def failure(client: AsyncAPIClient, path: str = "/", **options: Any) -> APIStatusError:
    with pytest.raises(APIStatusError) as caught:
        await client.get(path, cast_to=str, options=options)
    return caught.value


# --- what is followed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("x", "/a/x"),
        ("/x", "/x"),
        ("../x?y=%2F#z", "/x?y=%2F"),
        ("?y", "/a/b?y"),
        ("//{netloc}/x", "/x"),
        ("HTTP://{netloc}", "/"),
        ("/ü", "/%C3%BC"),
        ("/" + "x" * 10_000, "/" + "x" * 10_000),
    ],
    ids=lambda value: value[:12],
)
async def test_locations_of_all_kinds(location: str, target: str) -> None:
    answers: dict[str, Answer] = {target.partition("?")[0]: lambda seen: moved("?y") if seen.target == "/a/b" else DONE}
    with serve(by_path(answers)) as server:
        answers.setdefault("/a/b", moved(location.format(netloc=server.url.partition("//")[2])))
        async with client_at(server) as client:
            assert await client.get("/a/b", cast_to=str) == "done"
    assert targets(server) == ["/a/b", target]


NOT_FOLLOWED = {
    "no location": (moved(), "a redirect without Location"),
    "an empty location": (moved(""), "a redirect without Location"),
    "two locations": (moved("/x", "/y"), "a redirect with more than one Location"),
    "another scheme": (moved("ftp://h:21/x"), "the Location has the scheme 'ftp'"),
    "no URL": (moved("http://h:x/"), "the Location is no URL: the URL has a malformed host or port"),
    "no host": (moved("javascript:alert(1)"), "the Location is no URL"),
    "300": (moved("/x", status=300), "status 300 is not followed"),
    "305": (moved("/x", status=305), "status 305 is not followed"),
    "304": (b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", "not modified"),
}


@pytest.mark.parametrize("kind", NOT_FOLLOWED)
async def test_what_is_not_followed_is_a_status_error_with_the_reason(kind: str) -> None:
    answer, reason = NOT_FOLLOWED[kind]
    with serve(by_path({"/": moved("/here"), "/here": answer})) as server:
        async with client_at(server, max_retries=2) as client:
            error = await failure(client)
    assert reason in error.message
    assert error.message.startswith(f"Error code: {error.status_code} (")
    assert len(error.attempts) == 1
    assert [response.status_code for response in error.response.history] == [302]  # type: ignore[attr-defined]
    assert targets(server) == ["/", "/here"]


async def test_the_body_of_what_is_not_followed_can_be_read() -> None:
    with serve(by_path({"/": moved(body=b'{"message": "go away"}')})) as server:
        async with client_at(server) as client:
            error = await failure(client)
    assert error.message == "Error code: 302 - go away (a redirect without Location)"
    assert error.body == {"message": "go away"}


async def test_switched_off_at_each_place() -> None:
    class ByHook(AsyncAPIClient):
        async def _prepare_options(self, options: RequestOptions) -> RequestOptions:
            options.follow_redirects = False
            return options

    with serve(by_path({"/": moved("/x"), "/x": DONE})) as server:
        cases: list[tuple[AsyncAPIClient, dict[str, Any]]] = [
            (client_at(server, follow_redirects=False), {}),
            (client_at(server).with_options(follow_redirects=False), {}),
            (client_at(server), {"follow_redirects": False}),
            (client_at(server, ByHook), {}),
            (client_at(server, ByHook), {"follow_redirects": True}),
        ]
        for client, options in cases:
            async with client:
                error = await failure(client, **options)
                assert error.message == "Error code: 302 (redirects are not followed: follow_redirects=False)"
                assert error.response.headers["location"] == "/x"
                assert error.response.text == "moved"
                assert (len(error.attempts), error.response.history) == (1, ())  # type: ignore[attr-defined]
            await client._transport.aclose()
        assert targets(server) == ["/"] * 5
        async with client_at(server, follow_redirects=False) as client:
            assert await client.get("/", cast_to=str, options={"follow_redirects": True}) == "done"
            assert await client.with_options(follow_redirects=True).get("/", cast_to=str) == "done"
        assert targets(server)[5:] == ["/", "/x"] * 2


async def test_20_are_followed_and_not_21() -> None:
    def script(peer: Peer) -> None:
        while raw := peer.read_request():
            number = int(raw.split(b" ")[1][1:])
            peer.send(DONE if number == 0 else moved(f"/{number - 1}"))

    with serve(script) as server:
        async with client_at(server) as client:
            assert await client.get("/20", cast_to=str) == "done"
            with pytest.raises(TooManyRedirectsError, match="More than 20 redirects were followed") as caught:
                await client.get("/21", cast_to=str)
            error = caught.value
    assert len(server.requests) == 21 * 2
    assert (len(error.attempts), error.retryable) == (1, False)
    assert error.request is not None
    assert str(error.request.url) == f"{server.url}/1"
    assert server.connections == 1


async def test_bodies_go_along_with_307_and_308_and_no_other() -> None:
    answers: dict[str, Answer] = {"/x": DONE}
    with serve(by_path(answers)) as server:
        async with client_at(server) as client:
            for status in (301, 302, 303, 307, 308):
                answers["/"] = moved("/x", status=status)
                server.requests.clear()
                await client.post("/", cast_to=str, files={"a": b"1"}, body={"b": 2})
                first, second = seen_by(server)
                keeps = status > 303
                assert (second.method, second.body) == (("POST", first.body) if keeps else ("GET", b""))
                assert second.get("content-type") == (first.get("content-type") if keeps else None)
                assert second.names & {"transfer-encoding", "content-length"} == (
                    first.names & {"transfer-encoding", "content-length"} if keeps else set()
                )


async def test_streamed_bodies_go_along_if_they_can_be_made_again() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"a"
        yield b"b"

    with serve(by_path({"/": moved("/x", status=307), "/see": moved("/x", status=303), "/x": DONE})) as server:
        async with client_at(server) as client:
            assert await client.post("/", cast_to=str, content=pieces) == "done"
            first, second = seen_by(server)
            assert first.body == second.body == b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
            with pytest.raises(APIStatusError) as caught:
                await client.post("/", cast_to=str, content=pieces())
            assert caught.value.message.endswith("(the body was sent and cannot be made again)")
            assert (caught.value.status_code, len(server.requests)) == (307, 3)
            assert await client.post("/see", cast_to=str, content=pieces()) == "done"
    assert [seen.method for seen in seen_by(server)] == ["POST"] * 4 + ["GET"]


async def test_head_stays_head() -> None:
    with serve(by_path({"/": b"HTTP/1.1 303 See\r\nLocation: /x\r\n\r\n", "/x": b"HTTP/1.1 200 OK\r\n\r\n"})) as server:
        async with client_at(server) as client:
            response = await client.head("/", cast_to=AsyncAPIResponse)
            assert (response.method, response.status_code) == ("HEAD", 200)
    assert [seen.method for seen in seen_by(server)] == ["HEAD", "HEAD"]


async def test_417_is_sent_again_without_expect() -> None:
    expected: list[bool] = []

    def script(peer: Peer) -> None:
        while b"\r\n\r\n" not in peer.buffer:
            peer.buffer += peer.receive()
        expected.append(b"Expect: 100-continue" in peer.buffer)
        if expected[-1]:
            peer.send(ok(status="417 Expectation Failed"))
            peer.wait_closed()
        elif peer.read_request():
            peer.send(DONE)

    with serve(script) as server:
        async with client_at(server) as client:
            options = {"headers": {"Expect": "100-continue"}}
            response = await client.post("/", cast_to=AsyncAPIResponse[str], body=1, options=options)
            assert (await response.parse(to=str), response.retries_taken, response.history) == ("done", 0, ())
    assert expected == [True, False]
    assert [seen.body for seen in seen_by(server)] == [b"1"]


# --- what is seen of it ------------------------------------------------------------------------------------------------


async def test_the_history_has_the_responses_that_redirected_in_order() -> None:
    with serve(by_path({"/b": DONE})) as other:
        start = moved("/a", status=301, fields="X-Step: 1\r\n", body=b"long gone")
        with serve(by_path({"/": start, "/a": moved(f"{other.url}/b", status=307, fields="X-Step: 2\r\n")})) as server:
            async with client_at(server) as client:
                response = await client.get("/", cast_to=AsyncAPIResponse[str])
                history = response.history
                assert [step.status_code for step in history] == [301, 307]
                assert [step.headers["x-step"] for step in history] == ["1", "2"]
                assert [step.headers["location"] for step in history] == ["/a", f"{other.url}/b"]
                assert [str(step.url) for step in history] == [f"{server.url}/", f"{server.url}/a"]
                assert [step.content for step in history] == [b"", b""]
                assert all(isinstance(step, Response) for step in history)
                assert str(response.url) == f"{other.url}/b"
                assert await response.parse(to=str) == "done"
                assert response.retries_taken == 0
                assert pickle.loads(pickle.dumps(history[0])).status_code == 301
                assert [step.status_code for step in (await client.get("/", cast_to=Response)).history] == [301, 307]
                assert (await client.get(f"{other.url}/b", cast_to=Response)).history == ()


async def test_the_history_is_on_the_response_of_an_error_and_is_that_of_the_last_attempt() -> None:
    with serve(by_path({"/": moved("/a"), "/a": moved("/b"), "/b": ok(status="500 No")})) as server:
        async with client_at(server) as client:
            error = await failure(client)
    assert [step.headers["location"] for step in error.response.history] == ["/a", "/b"]  # type: ignore[attr-defined]
    assert len(error.attempts) == 3
    assert targets(server) == ["/", "/a", "/b"] * 3


async def test_hooks_see_each_send_and_the_rings_see_none_of_them() -> None:
    log: list[str] = []

    class Hooked(AsyncAPIClient):
        async def _prepare_options(self, options: RequestOptions) -> RequestOptions:
            log.append("options")
            return options

        async def _prepare_request(self, request: Request) -> None:
            log.append(f"request {request.method} {request.url.path}")
            request.headers["X-Signed"] = request.url.path

        async def _process_response(self, **facts: Any) -> Any:
            log.append("process")
            return await super()._process_response(**facts)

    async def ring(request: Request, call_next: CallNext) -> Any:
        log.append(f"[ {request.url.path}")
        response = await call_next(request)
        log.append(f"] {response.status_code} {response.url.path} {len(response.history)}")
        return response

    busy = iter([ok(status="503 No"), DONE])
    with serve(by_path({"/": moved("/a", status=303), "/a": moved("/b"), "/b": lambda seen: next(busy)})) as server:
        async with client_at(server, Hooked, middleware=[ring]) as client:
            assert await client.put("/", cast_to=str, body=1) == "done"
    attempt = ["options", "[ /", "request PUT /", "request GET /a", "request GET /b"]
    assert log == [*attempt, "] 503 /b 2", *attempt, "] 200 /b 2", "process"]
    assert [seen.get_list("x-signed") for seen in seen_by(server)] == [["/"], ["/a"], ["/b"]] * 2
    assert [seen.get("x-stainless-retry-count") for seen in seen_by(server)] == ["0"] * 3 + ["1"] * 3


@pytest.mark.parametrize("ring", ["around_call", "around_attempt"])
async def test_a_middleware_may_call_again_after_redirects(ring: str) -> None:
    histories: list[int] = []

    async def twice(self: Any, request: Request, call_next: CallNext) -> Any:
        histories.append(len((await call_next(request)).history))
        response = await call_next(request)
        histories.append(len(response.history))
        return response

    middleware = type("Twice", (Middleware,), {ring: twice})()
    with serve(by_path({"/": moved("/a"), "/a": DONE})) as server:
        async with client_at(server, middleware=[middleware]) as client:
            assert await client.get("/", cast_to=str) == "done"
    assert histories == [1, 1]
    assert targets(server) == ["/", "/a"] * 2


async def test_each_run_of_a_call_has_20_redirects_of_its_own() -> None:
    async def often(request: Request, call_next: CallNext) -> Any:
        for _ in range(24):
            await call_next(request)
        return await call_next(request)

    with serve(by_path({"/": moved("/a"), "/a": DONE})) as server:
        async with client_at(server, middleware=[often]) as client:
            assert await client.get("/", cast_to=str) == "done"


async def test_a_middleware_that_calls_again_has_fresh_credentials_again() -> None:
    tokens = iter(["old", "new"])

    async def twice(request: Request, call_next: CallNext) -> Any:
        await call_next(request)
        return await call_next(request)

    def judge(seen: Seen) -> bytes:
        if not other.requests:
            return moved(f"{other.url}/")
        return DONE if seen.get("authorization") == "Bearer new" else ok(status="401 Unauthorized")

    with serve(by_path({"/": DONE})) as other, serve(by_path({"/": judge})) as server:
        async with client_at(server, middleware=[twice], auth=BearerAuth(lambda: next(tokens))) as client:
            assert await client.get("/", cast_to=str) == "done"
    assert [seen.get("authorization") for seen in seen_by(server)] == ["Bearer old", "Bearer old", "Bearer new"]
    assert [seen.get("authorization") for seen in seen_by(other)] == [None]


async def test_the_hooks_word_holds_when_a_middleware_runs_the_call_again() -> None:
    class Off(AsyncAPIClient):
        async def _prepare_options(self, options: RequestOptions) -> RequestOptions:
            options.follow_redirects = False
            return options

    class Twice(Middleware):
        async def around_call(self, request: Request, call_next: CallNext) -> Any:
            await call_next(request)
            return await call_next(request)

    with serve(by_path({"/": moved("/a"), "/a": DONE})) as server:
        async with client_at(server, Off, middleware=[Twice()]) as client:
            assert (await failure(client)).status_code == 302
    assert targets(server) == ["/", "/"]


@pytest.mark.parametrize("ring", ["around_call", "around_attempt"])
@pytest.mark.parametrize("status", [302, 304, 417])
async def test_a_redirect_of_a_middlewares_own_is_judged_like_a_servers(ring: str, status: int) -> None:
    """BEHAVIOUR 11: in the attempt ring it is judged like a server's; in the call ring too, without further attempts."""

    async def own(self: Any, request: Request, call_next: CallNext) -> Any:
        if request.url.path == "/x":
            return await call_next(request)
        return Response(status, headers={"Location": "/x"} if status == 302 else {})

    middleware = type("Own", (Middleware,), {ring: own})()
    with serve(by_path({"/x": DONE})) as server:
        async with client_at(server, middleware=[middleware]) as client:
            options = {"headers": {"Expect": "100-continue"}}
            if (ring, status) == ("around_attempt", 302):
                assert await client.post("/", cast_to=str, body=1) == "done"
                return
            with pytest.raises(APIStatusError) as caught:
                await client.post("/", cast_to=str, body=1, options=options)
    assert caught.value.status_code == status
    assert server.requests == []


async def test_open_and_stream_follow() -> None:
    event = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\ndata: 1\n\n"
    with serve(by_path({"/": moved("/x"), "/x": DONE, "/s": moved("/e", status=307), "/e": event})) as server:
        async with client_at(server) as client:
            async with client.open("GET", "/") as response:
                assert (await response.read(), len(response.history)) == (b"done", 1)
            async with client.stream("POST", "/s", cast_to=ServerSentEvent, body=[1]) as stream:
                assert [item.data async for item in stream] == ["1"]
            stream = await client.post("/s", cast_to=int, body=[1], stream=True, stream_cls=AsyncStream[int])
            assert [item async for item in stream] == [1]
            async with client.open("GET", "/s", options={"follow_redirects": True}) as response:
                assert response.url.path == "/e"
            with pytest.raises(APIStatusError, match="follow_redirects=False"):
                async with client.open("GET", "/", options={"follow_redirects": False}):
                    pass
    assert server.connections == 1


async def test_a_page_that_has_moved_is_followed() -> None:
    pages = {"/": moved("/one"), "/one": ok(b'{"data": [1]}', headers='Link: </two>; rel="next"\r\n'), "/two": moved("/three"),
             "/three": ok(b'{"data": [2]}')}  # fmt: skip
    with serve(by_path(pages)) as server:
        async with client_at(server) as client:
            assert [item async for item in client.get_api_list("/", model=int, page=LinkPage[int])] == [1, 2]


async def test_other_transports_are_followed_too() -> None:
    def handler(request: Request) -> Response:
        if request.url.path == "/":
            return Response(307, headers={"Location": "//other/x"}, content=b"moved")
        return Response(200, json=[request.url.origin, request.headers["host"], request.json()])

    client = AsyncAPIClient(base_url="http://h", http_client=MockTransport(handler), auth="t")
    assert await client.post("/", cast_to=list, body="b") == ["http://other", "other", "b"]
