"""Middleware: two rings, what they see, what they may do, and what becomes of what they return."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest

from anyio_client import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    AsyncAPIClient,
    AsyncAPIResponse,
    AsyncJSONLStream,
    AsyncStream,
    ConnectError,
    ConnectionLostError,
    CursorPage,
    DeadlineExceededError,
    InternalServerError,
    Middleware,
    MockTransport,
    NotFoundError,
    Outcome,
    OverloadedError,
    Phase,
    RateLimitError,
    Request,
    RequestOptions,
    Response,
    RetryPolicy,
    ServerSentEvent,
    async_to_raw_response_wrapper,
)
from tests.conftest import BACKENDS
from tests.front.test_hooks import Counting, answers, expect
from tests.kit.cancel import How, cancelled_at
from tests.kit.leaks import task_count
from tests.kit.peers import Peer, ok, serve

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]

QUICK = RetryPolicy(wait_initial=0)
SSE = {"Content-Type": "text/event-stream"}
CallNext = Callable[[Request], Awaitable[Any]]
Function = Callable[[Request, CallNext], Awaitable[Any]]


class Call(Middleware):
    """A function around calls."""

    def __init__(self, function: Function) -> None:
        self.function = function

    async def around_call(self, request: Request, call_next: CallNext) -> Any:
        return await self.function(request, call_next)


def attempt(function: Function) -> Function:
    """A function around attempts."""
    return function


BOTH_RINGS = pytest.mark.parametrize("ring", [attempt, Call], ids=["attempt", "call"])


class Server:
    """Gives these answers one after the other, the last one for ever; keeps the requests, their bodies read."""

    def __init__(self, *given: Any) -> None:
        self.answers = list(given) or [{}]
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Response) else Response(200, json=answer)

    def client(self, *middleware: Any, cls: type[AsyncAPIClient] = AsyncAPIClient, **options: Any) -> AsyncAPIClient:
        defaults: dict[str, Any] = {"base_url": "http://h", "http_client": MockTransport(self), "retry": QUICK}
        return cls(middleware=middleware, **{**defaults, **options})


async def pass_on(request: Request, call_next: CallNext) -> Any:
    return await call_next(request)


async def pieces(*given: bytes | Exception) -> AsyncIterator[bytes]:
    for piece in given:
        if isinstance(piece, Exception):
            raise piece
        yield piece


def lost(outcome: Outcome = Outcome.UNKNOWN) -> ConnectionLostError:
    return ConnectionLostError("lost", outcome=outcome)


# --- two rings, in order ---------------------------------------------------------------------------------------------


class Named(Middleware):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def around_call(self, request: Request, call_next: CallNext) -> Any:
        self.log.append(f"{self.name}(")
        response = await call_next(request)
        self.log.append(f"){self.name}")
        return response

    async def around_attempt(self, request: Request, call_next: CallNext) -> Any:
        self.log.append(f"{self.name.upper()}[")
        response = await call_next(request)
        self.log.append(f"]{self.name.upper()}={response.status_code}")
        return response


async def test_the_first_is_the_outermost_and_calls_stand_around_attempts() -> None:
    log: list[str] = []

    async def x(request: Request, call_next: CallNext) -> Any:
        log.append("X[")
        response = await call_next(request)
        log.append("]X")
        return response

    server = Server(Response(500), 1)
    client = server.client(Named("a", log), x, Named("b", log))
    assert await client.get("/", cast_to=int) == 1
    one_attempt = "A[ X[ B[ ]B={0} ]X ]A={0}"
    assert " ".join(log) == f"a( b( {one_attempt.format(500)} {one_attempt.format(200)} )b )a"


async def test_every_kind_of_middleware_that_there_is() -> None:
    log: list[str] = []

    async def function(request: Request, call_next: CallNext) -> Any:
        log.append("function")
        return await call_next(request)

    async def with_argument(argument: str, request: Request, call_next: CallNext) -> Any:
        log.append(argument)
        return await call_next(request)

    class Callable_:
        async def __call__(self, request: Request, call_next: CallNext) -> Any:
            log.append("callable")
            return await call_next(request)

        async def method(self, request: Request, call_next: CallNext) -> Any:
            log.append("method")
            return await call_next(request)

    class Duck:
        async def around_attempt(self, request: Request, call_next: CallNext) -> Any:
            log.append("duck")
            return await call_next(request)

    class CallDuck:
        async def around_call(self, request: Request, call_next: CallNext) -> Any:
            log.append("call duck")
            return await call_next(request)

    class Static(Middleware):
        @staticmethod
        async def around_attempt(request: Request, call_next: CallNext) -> Any:  # type: ignore[override]
            log.append("static")
            return await call_next(request)

    class Heir(Named):
        pass

    given = [
        function,
        functools.partial(with_argument, "partial"),
        Callable_(),
        Callable_().method,
        Duck(),
        CallDuck(),
        Static(),
        Middleware(),
    ]
    assert await Server(1).client(*given).get("/", cast_to=int) == 1
    assert log == ["call duck", "function", "partial", "callable", "method", "duck", "static"]
    log.clear()
    assert await Server(1).client(Heir("h", log)).get("/", cast_to=int) == 1
    assert log == ["h(", "H[", "]H=200", ")h"]


async def test_it_is_composed_once() -> None:
    log: list[str] = []
    given: list[Any] = [Named("a", log)]
    server = Server(1)
    client = AsyncAPIClient(base_url="http://h", http_client=MockTransport(server), middleware=given)
    given.append(Named("b", log))

    class Counted(Named):
        looked_up = 0

        def __getattribute__(self, name: str) -> Any:
            if name.startswith("around_"):
                type(self).looked_up += 1
            return super().__getattribute__(name)

    other = server.client(Counted("c", log), Counted("d", log))
    looked_up = Counted.looked_up
    for _ in range(2):
        await client.get("/", cast_to=int)
        await other.get("/", cast_to=int)
    assert log.count("a(") == 2
    assert "b(" not in log
    assert log.count("c(") == log.count("d(") == 2
    assert Counted.looked_up == looked_up


async def test_with_options_replaces_all_of_it() -> None:
    log: list[str] = []
    client = Server(1).client(Named("a", log))
    other = client.with_options(middleware=[Named("b", log)])
    none = client.with_options(middleware=())
    same = client.with_options(timeout=5)
    for one, expected in (
        (other, "b( B[ ]B=200 )b"),
        (none, ""),
        (same, "a( A[ ]A=200 )a"),
        (client, "a( A[ ]A=200 )a"),
    ):
        log.clear()
        await one.get("/", cast_to=int)
        assert " ".join(log) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "takes a list, not NoneType"),
        (pass_on, "takes a list, not function"),
        (Middleware(), "takes a list, not Middleware"),
        ("abc", "takes a list, not str"),
        ({pass_on}, "takes a list, not set"),
        ([lambda request, call_next: call_next(request)], "not function"),
        ([Middleware], "not the class Middleware: make an instance"),
        ([Named], "not the class Named: make an instance"),
        ([7], "not int"),
        ([None], "not NoneType"),
        ([pass_on, "x"], "not str"),
    ],
)
async def test_what_is_no_middleware_is_a_type_error_at_once(given: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        AsyncAPIClient(base_url="http://h", http_client=MockTransport(Server()), middleware=given)
    client = Server(1).client()
    with pytest.raises(TypeError, match=message):
        client.with_options(middleware=given)
    assert await client.get("/", cast_to=int) == 1


@pytest.mark.parametrize("name", ["around_call", "around_attempt"])
async def test_a_plain_method_is_a_type_error_that_names_it(name: str) -> None:
    one = type("Mine", (Middleware,), {name: lambda self, request, call_next: call_next(request)})()
    with pytest.raises(TypeError, match=f"Mine.{name} must be an async method"):
        Server().client(one)


# --- what they see ---------------------------------------------------------------------------------------------------


@BOTH_RINGS
async def test_the_request_is_the_one_that_is_sent(ring: Any) -> None:
    seen: list[Any] = []

    async def look(request: Request, call_next: CallNext) -> Any:
        names = ("authorization", "x-own", "content-type", "idempotency-key", "x-stainless-retry-count")
        seen.append((request.method, str(request.url), request.json(), [request.headers.get(name) for name in names]))
        return await call_next(request)

    options = {"params": {"q": 1}, "headers": {"X-Own": "o"}, "idempotency_key": "k"}
    await Server(1).client(ring(look), auth="t").post("/a", cast_to=int, body={"b": 1}, options=options)
    fields = ["Bearer t", "o", "application/json", "k", "0"]
    assert seen == [("POST", "http://h/a?q=1", {"b": 1}, fields)]


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_error_statuses_are_responses(status: int) -> None:
    seen: list[Any] = []

    def look(name: str) -> Function:
        async def layer(request: Request, call_next: CallNext) -> Any:
            response = await call_next(request)
            assert isinstance(response, AsyncAPIResponse)
            seen.append((name, response.status_code, response.retries_taken, await response.json()))
            return response

        return layer

    server = Server(*(Response(status, json={"message": "no"}) for _ in range(3)))
    with pytest.raises(APIStatusError) as caught:
        await server.client(Call(look("call")), look("attempt")).get("/", cast_to=int)
    tries = 3 if status in (429, 500, 503) else 1
    body = {"message": "no"}
    assert seen == [*(("attempt", status, n, body) for n in range(tries)), ("call", status, tries - 1, body)]
    assert caught.value.status_code == status
    assert caught.value.message == f"Error code: {status} - no"
    assert [one.status_code for one in caught.value.attempts] == [status] * tries
    assert caught.value.body == body


@BOTH_RINGS
async def test_the_body_is_not_read_unless_somebody_reads_it(ring: Any) -> None:
    async def look(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        if ring is attempt:
            with pytest.raises(RuntimeError, match="not been read"):
                _ = response.http_response.content
        if reads:
            assert await response.read() == b'{"n": 1}'
            assert await response.json() == {"n": 1}
            assert await response.parse() == {"n": 1}
        return response

    for reads in (False, True):  # noqa: B007 (the function above reads it)
        client = Server(Response(200, content=pieces(b'{"n":', b" 1}"))).client(ring(look))
        assert await client.get("/", cast_to=dict) == {"n": 1}


@BOTH_RINGS
async def test_what_call_next_gave_goes_on_as_usual(ring: Any) -> None:
    client = Server({"n": 1}).client(ring(pass_on))
    assert await client.get("/", cast_to=dict[str, int]) == {"n": 1}
    response = await client.get("/", cast_to=AsyncAPIResponse)
    assert await response.json() == {"n": 1}
    assert (await client.get("/", cast_to=Response)).json() == {"n": 1}
    with pytest.raises(NotFoundError):
        await Server(Response(404)).client(ring(pass_on)).get("/", cast_to=int)


@BOTH_RINGS
async def test_the_transports_response_itself_may_be_returned(ring: Any) -> None:
    async def unwrap(request: Request, call_next: CallNext) -> Any:
        return (await call_next(request)).http_response

    client = Server({"n": 1}).client(ring(unwrap))
    assert await client.get("/", cast_to=dict[str, int]) == {"n": 1}


@BOTH_RINGS
async def test_headers_of_the_answer_may_be_changed(ring: Any) -> None:
    async def force(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        response.headers["x-should-retry"] = "true"
        return response

    server = Server(Response(400), Response(400), 1)
    client = server.client(ring(force))
    if ring is Call:  # too late for a retry
        with pytest.raises(APIStatusError):
            await client.get("/", cast_to=int)
        assert len(server.requests) == 1
    else:
        assert await client.get("/", cast_to=int) == 1


# --- a response of one's own -----------------------------------------------------------------------------------------


@BOTH_RINGS
async def test_a_response_of_ones_own_is_decoded_as_a_servers(ring: Any) -> None:
    async def mine(request: Request, call_next: CallNext) -> Any:
        return Response(200, json={"n": 1})

    @attrs.define
    class Item:
        n: int

    server = Server()
    client = server.client(ring(mine))
    assert await client.get("/", cast_to=Item) == Item(1)
    response = await client.post("/x", cast_to=AsyncAPIResponse, body=1)
    assert (response.method, response.url.path, await response.json()) == ("POST", "/x", {"n": 1})
    async with client.open("GET", "/") as opened:
        assert await opened.json() == {"n": 1}
    assert server.requests == []


@BOTH_RINGS
async def test_it_is_judged_as_a_servers(ring: Any) -> None:
    async def mine(request: Request, call_next: CallNext) -> Any:
        return response

    client = Server().client(ring(mine))
    for response, cls in (
        (Response(404, json={"message": "no"}), NotFoundError),
        (Response(400), APIStatusError),
        (Response(200, content=b"<html>"), APIResponseValidationError),
        (Response(200, content=pieces(b"1", lost(Outcome.ANSWERED))), ConnectionLostError),
    ):
        with pytest.raises(cls) as caught:
            await client.with_options(max_retries=0).get("/", cast_to=int)
        if isinstance(caught.value, APIStatusError):
            assert len(caught.value.attempts) == 1
            assert caught.value.status_code == response.status_code
            assert caught.value.request is not None


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
async def test_around_attempts_it_is_retried_as_a_servers(status: int) -> None:
    count = 0

    async def mine(request: Request, call_next: CallNext) -> Any:
        nonlocal count
        count += 1
        return Response(status) if count < 3 else Response(200, json=count)

    assert await Server().client(attempt(mine)).post("/", cast_to=int) == 3
    count = -9
    with pytest.raises(APIStatusError) as caught:
        await Server().client(attempt(mine)).post("/", cast_to=int)
    assert [one.status_code for one in caught.value.attempts] == [status] * 3
    assert count == -6


async def test_around_calls_it_is_not_retried() -> None:
    count = 0

    async def mine(request: Request, call_next: CallNext) -> Any:
        nonlocal count
        count += 1
        return Response(status, headers={"Retry-After": "7"})

    for status, cls in ((500, InternalServerError), (429, RateLimitError)):  # noqa: B007 (the function above reads it)
        with pytest.raises(cls) as caught:
            await Server().client(Call(mine)).get("/", cast_to=int)
        assert caught.value.retry_after == 7
    assert count == 2


@BOTH_RINGS
async def test_a_bad_answer_may_be_replaced_and_is_closed(ring: Any) -> None:
    given: list[Any] = []

    async def mend(request: Request, call_next: CallNext) -> Any:
        given.append(await call_next(request))
        return Response(200, json=7)

    server = Server(Response(404, content=pieces(b"x")))
    assert await server.client(ring(mend)).get("/", cast_to=int) == 7
    assert given[0].is_closed
    assert len(server.requests) == 1


@BOTH_RINGS
async def test_a_good_answer_may_be_refused(ring: Any) -> None:
    async def refuse(request: Request, call_next: CallNext) -> Any:
        await call_next(request)
        return Response(418)

    with pytest.raises(APIStatusError, match="418"):
        await Server(1).client(ring(refuse)).get("/", cast_to=int)


@BOTH_RINGS
async def test_a_stream_of_ones_own(ring: Any) -> None:
    async def mine(request: Request, call_next: CallNext) -> Any:
        return Response(200, headers=SSE, content=pieces(b"data: 1\n\n", b"data: 2\n\n"))

    class First(AsyncStream[int]):
        wait_first_event = True

    client = Server().client(ring(mine))
    for stream_cls in (AsyncStream[int], First):
        async with client.stream("GET", "/", cast_to=int, stream_cls=stream_cls) as stream:  # type: ignore[type-abstract]
            assert [item async for item in stream] == [1, 2]


# --- any other value -------------------------------------------------------------------------------------------------

VALUES = [None, 0, False, "text", b"", [1], {"a": 1}, object(), (1, 2), NotFoundError]


@BOTH_RINGS
@pytest.mark.parametrize("stream", [False, True])
async def test_any_other_value_is_the_result_as_it_is(ring: Any, stream: bool) -> None:
    async def mine(request: Request, call_next: CallNext) -> Any:
        if asks:
            await call_next(request)
        return value

    class First(AsyncStream[int]):
        wait_first_event = True

    classes: tuple[Any, ...] = (None, First, AsyncJSONLStream) if stream else (None,)
    for asks in (False, True):
        for value in VALUES:
            for stream_cls in classes:
                server = Server(Response(200, headers=SSE, content=b"data: 1\n\n"))
                result = await server.client(ring(mine)).get("/", cast_to=int, stream=stream, stream_cls=stream_cls)
                assert result is value
                assert len(server.requests) == asks


@BOTH_RINGS
@pytest.mark.parametrize("stream", [False, True])
async def test_any_other_value_is_the_result_of_a_block_as_well(ring: Any, stream: bool) -> None:
    async def mine(request: Request, call_next: CallNext) -> Any:
        return value

    client = Server().client(ring(mine))
    for value in (None, 7, {"a": 1}):
        block: Any = client.stream("GET", "/", cast_to=int) if stream else client.open("GET", "/")
        async with block as result:
            assert result is value


@BOTH_RINGS
async def test_any_other_value_is_the_result_in_place_of_a_page(ring: Any) -> None:
    async def mine(request: Request, call_next: CallNext) -> Any:
        return value

    client = Server().client(ring(mine))
    for value in (None, 7, {"data": []}, [1]):
        result: Any = await client.get_api_list("/", model=int, page=CursorPage)
        assert result is value


@BOTH_RINGS
async def test_a_value_after_an_error_status_or_a_retry(ring: Any) -> None:
    async def mine(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        return None if response.status_code == 404 else response

    assert await Server(Response(404)).client(ring(mine)).get("/", cast_to=int) is None
    server = Server(Response(500), Response(404))
    assert await server.client(ring(mine)).get("/", cast_to=int) is None
    assert len(server.requests) == 2
    assert await Server(3).client(ring(mine)).get("/", cast_to=int) == 3


@BOTH_RINGS
async def test_what_was_parsed_may_be_returned(ring: Any) -> None:
    async def doubled(request: Request, call_next: CallNext) -> Any:
        return 2 * await (await call_next(request)).parse()

    assert await Server(21).client(ring(doubled)).get("/", cast_to=int) == 42


@BOTH_RINGS
@pytest.mark.parametrize("wait_first", [False, True])
async def test_a_stream_that_was_opened_may_be_returned(ring: Any, wait_first: bool) -> None:
    class Numbers(AsyncStream[int]):
        wait_first_event = wait_first

    class Doubled:
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        async def __aiter__(self) -> AsyncIterator[int]:
            async for item in self.stream:
                yield 2 * item

    async def open_it(request: Request, call_next: CallNext) -> Any:
        stream = await (await call_next(request)).parse()
        return Doubled(stream) if wraps else stream

    for wraps in (False, True):
        server = Server(Response(200, headers=SSE, content=pieces(b"data: 1\n\n", b"data: 2\n\n")))
        stream: Any = await server.client(ring(open_it)).get("/", cast_to=int, stream=True, stream_cls=Numbers)
        assert [item async for item in stream] == ([2, 4] if wraps else [1, 2])


# --- call_next again -------------------------------------------------------------------------------------------------


@BOTH_RINGS
async def test_calling_again_closes_the_first_response(ring: Any) -> None:
    async def again(request: Request, call_next: CallNext) -> Any:
        first = await call_next(request)
        assert not first.is_closed or ring is Call
        second = await call_next(request)
        assert first.is_closed
        third = await call_next(request)
        assert second.is_closed
        closed.append((first, second))
        return third

    closed: list[Any] = []
    server = Server(*(Response(200, content=pieces(b"%d" % n)) for n in (1, 2, 3)))
    assert await server.client(ring(again)).get("/", cast_to=int) == 3
    assert len(server.requests) == 3
    assert len(closed) == 1


async def test_asking_again_inside_an_attempt_is_one_attempt() -> None:
    async def again(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        return await call_next(request) if response.status_code == 401 else response

    server = Server(Response(401), Response(500), Response(401), Response(404))
    with pytest.raises(NotFoundError) as caught:
        await server.client(attempt(again)).get("/", cast_to=int)
    assert [one.status_code for one in caught.value.attempts] == [500, 404]
    assert len(server.requests) == 4


async def test_asking_again_around_a_call_has_all_its_retries() -> None:
    async def again(request: Request, call_next: CallNext) -> Any:
        first = await call_next(request)
        seen.append((first.status_code, first.retries_taken))
        second = await call_next(request)
        seen.append((second.status_code, second.retries_taken))
        return second

    seen: list[Any] = []
    server = Server(*(Response(500) for _ in range(4)), 1)
    assert await server.client(Call(again)).get("/", cast_to=int) == 1
    assert seen == [(500, 2), (200, 1)]
    assert [request.headers["x-stainless-retry-count"] for request in server.requests] == ["0", "1", "2", "0", "1"]


async def test_asking_again_after_an_error_around_a_call() -> None:
    async def again(request: Request, call_next: CallNext) -> Any:
        try:
            return await call_next(request)
        except APIConnectionError as exc:
            seen.append(len(exc.attempts))
            return await call_next(request)

    seen: list[int] = []
    server = Server(*(lost() for _ in range(4)), 1)
    assert await server.client(Call(again)).get("/", cast_to=int) == 1
    assert seen == [3]
    assert len(server.requests) == 5


async def test_changes_of_an_attempt_do_not_leak_where_a_call_is_made_again() -> None:
    async def again(request: Request, call_next: CallNext) -> Any:
        await call_next(request)
        return await call_next(request)

    async def mark(request: Request, call_next: CallNext) -> Any:
        marks.append(request.headers.get("x-mark"))
        request.headers["X-Mark"] = str(len(marks))
        return await call_next(request)

    marks: list[str | None] = []
    server = Server(Response(500), 1, Response(500), 2)
    assert await server.client(Call(again), mark).get("/", cast_to=int) == 2
    assert marks == [None] * 4


async def test_the_first_response_on_a_real_connection_frees_it() -> None:
    async def again(request: Request, call_next: CallNext) -> Any:
        await call_next(request)
        return await call_next(request)

    def script(peer: Peer) -> None:
        while peer.read_request():
            if len(peer.server.requests) == 1:
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n12")
                peer.wait_closed()
                return
            peer.send(ok(b"7"))

    for ring in (attempt, Call):
        with serve(script) as peer:
            async with AsyncAPIClient(base_url=peer.url, middleware=[ring(again)]) as client:
                if ring is Call:  # whose responses of plain calls are read whole
                    async with client.open("GET", "/") as response:
                        assert await response.json() == 7
                else:
                    assert await client.get("/", cast_to=int) == 7
                assert peer.wait_for_open(1) == 1


# --- changes to the request ------------------------------------------------------------------------------------------


def change_everything(request: Request) -> None:
    request.method = "PUT"
    request.url = request.url.replace(path="/changed", query="c=1")
    request.headers["X-New"] = "n"
    request.headers["X-Own"] = "changed"
    request.headers.add("X-Twice", "1")
    request.headers.add("X-Twice", "2")
    del request.headers["X-Gone"]
    request.body = b"changed"


def told(request: Request) -> tuple[Any, ...]:
    headers = request.headers
    fields = [headers.get_list(name) for name in ("x-new", "x-own", "x-twice", "x-gone", "content-length")]
    return request.method, request.url.target, request.content, fields


PLAIN = ("POST", "/a?q=1", b"1", [[], ["o"], [], ["g"], ["1"]])
CHANGED = ("PUT", "/changed?c=1", b"changed", [["n"], ["changed"], ["1", "2"], [], ["7"]])
OPTIONS = {"params": {"q": 1}, "headers": {"X-Own": "o", "X-Gone": "g"}}


async def test_changes_hold_for_one_attempt() -> None:
    seen: list[Any] = []

    async def change(request: Request, call_next: CallNext) -> Any:
        before = told(request)
        seen.append((before[:3], before[3][:4]))
        if len(seen) == 1:
            change_everything(request)
        return await call_next(request)

    server = Server(Response(500), Response(500), 1)
    await server.client(change).post("/a", cast_to=int, body=1, options=OPTIONS)
    assert seen == [(PLAIN[:3], PLAIN[3][:4])] * 3
    assert [told(request) for request in server.requests] == [CHANGED, PLAIN, PLAIN]


async def test_changes_around_the_call_hold_for_all_attempts() -> None:
    async def change(request: Request, call_next: CallNext) -> Any:
        change_everything(request)
        return await call_next(request)

    async def look(request: Request, call_next: CallNext) -> Any:
        seen.append((request.method, request.headers.get_list("x-twice")))
        return await call_next(request)

    seen: list[Any] = []
    server = Server(Response(500), Response(500), 1)
    await server.client(Call(change), look).post("/a", cast_to=int, body=1, options=OPTIONS)
    assert [told(request) for request in server.requests] == [CHANGED] * 3
    assert [request.headers["x-stainless-retry-count"] for request in server.requests] == ["0", "1", "2"]
    assert seen == [("PUT", ["1", "2"])] * 3
    # The next call knows nothing of them.
    other = Server(1)
    client = server.client(Call(change), http_client=MockTransport(other))
    await client.with_options(middleware=()).post("/a", cast_to=int, body=1, options=OPTIONS)
    assert [told(request) for request in other.requests] == [PLAIN]


@BOTH_RINGS
async def test_another_request_may_be_passed_on(ring: Any) -> None:
    async def another(request: Request, call_next: CallNext) -> Any:
        headers = {"X-New": "n", "X-Own": "changed"}
        return await call_next(Request("PUT", "http://h/changed?c=1", headers=headers, content=b"changed"))

    server = Server(Response(500), 1)
    client = server.client(ring(another))
    response = await client.post("/a", cast_to=AsyncAPIResponse, body=1, options=OPTIONS)
    for request in server.requests:
        assert told(request) == ("PUT", "/changed?c=1", b"changed", [["n"], ["changed"], [], [], ["7"]])
    assert len(server.requests) == 2
    assert response.http_request.method == "PUT"


async def test_changes_are_seen_by_the_inner_ones_only() -> None:
    async def outer(request: Request, call_next: CallNext) -> Any:
        request.headers["X-Outer"] = "1"
        assert "x-inner" not in request.headers
        return await call_next(request)

    async def inner(request: Request, call_next: CallNext) -> Any:
        seen.append(request.headers.get("x-outer"))
        request.headers["X-Inner"] = "1"
        return await call_next(request)

    seen: list[str | None] = []
    server = Server(Response(500), 1)
    await server.client(outer, inner).get("/", cast_to=int)
    assert seen == ["1", "1"]


@pytest.mark.parametrize("makes", [lambda: iter([b"a", b"b"]), lambda: pieces(b"a", b"b"), lambda: [b"a", b"b"]])
@BOTH_RINGS
async def test_a_body_that_a_middleware_reads_stays_sendable(ring: Any, makes: Callable[[], Any]) -> None:
    async def read(request: Request, call_next: CallNext) -> Any:
        seen.append(await request.read())
        assert request.content == b"ab"
        request.headers["X-Digest"] = str(len(request.content))
        return await call_next(request)

    seen: list[bytes] = []
    server = Server(Response(500), Response(500), 1)
    assert await server.client(ring(read)).post("/", cast_to=int, content=makes()) == 1
    assert [request.content for request in server.requests] == [b"ab"] * 3  # also if it could be read only once
    assert [request.headers["x-digest"] for request in server.requests] == ["2"] * 3
    assert seen == [b"ab"] * (1 if ring is Call else 3)


@BOTH_RINGS
async def test_a_body_that_nobody_read_can_be_sent_once(ring: Any) -> None:
    server = Server(Response(500), 1)
    with pytest.raises(InternalServerError):
        await server.client(ring(pass_on)).post("/", cast_to=int, content=pieces(b"a"))
    assert len(server.requests) == 1


@BOTH_RINGS
async def test_a_request_that_cannot_be_sent_is_the_middlewares_mistake(ring: Any) -> None:
    async def wrong(request: Request, call_next: CallNext) -> Any:
        request.headers["Content-Length"] = "99"
        return await call_next(request)

    server = Server(1)
    with pytest.raises(ValueError, match="Content-Length is 99"):
        await server.client(ring(wrong)).post("/", cast_to=int, body=1)
    assert server.requests == []


# --- exceptions ------------------------------------------------------------------------------------------------------


@BOTH_RINGS
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), KeyError("x"), NotFoundError("x", response=Response(404), body=1)]
)
async def test_exceptions_come_out_as_they_are_and_are_not_retried(ring: Any, when: str, error: Exception) -> None:
    async def broken(request: Request, call_next: CallNext) -> Any:
        if when == "after":
            given.append(await call_next(request))
        raise error

    given: list[Any] = []
    server = Server(Response(500, content=pieces(b"x")), 1)
    with pytest.raises(type(error)) as caught:
        await server.client(ring(broken), max_retries=0 if ring is Call else 2).get("/", cast_to=int)
    assert caught.value is error
    assert len(server.requests) == (when == "after")
    assert all(response.is_closed for response in given)


@BOTH_RINGS
async def test_an_exception_of_an_inner_one_reaches_the_outer_one(ring: Any) -> None:
    async def outer(request: Request, call_next: CallNext) -> Any:
        try:
            return await call_next(request)
        except ZeroDivisionError:
            return 7

    async def inner(request: Request, call_next: CallNext) -> Any:
        raise ZeroDivisionError

    assert await Server().client(ring(outer), ring(inner)).get("/", cast_to=int) == 7
    assert await Server().client(Call(outer), attempt(inner)).get("/", cast_to=int) == 7


@pytest.mark.parametrize(
    ("method", "outcome", "tries"),
    [
        ("GET", Outcome.UNKNOWN, 3),
        ("GET", Outcome.NOT_SENT, 3),
        ("POST", Outcome.UNKNOWN, 1),
        ("POST", Outcome.NOT_SENT, 3),
        ("POST", Outcome.REFUSED, 3),
    ],
)
@pytest.mark.parametrize("whose", ["transport", "middleware"])
async def test_connection_errors_are_judged_by_their_facts(
    method: str, outcome: Outcome, tries: int, whose: str
) -> None:
    async def watch(request: Request, call_next: CallNext) -> Any:
        if whose == "middleware":
            given.append(lost(outcome))
            raise given[-1]
        try:
            return await call_next(request)
        except APIConnectionError as exc:
            given.append(exc)
            raise

    given: list[Any] = []
    server = Server(*(lost(outcome) for _ in range(4)))
    options = RequestOptions(method=method, url="/")
    with pytest.raises(ConnectionLostError) as caught:
        await server.client(watch).request(int, options)
    assert len(given) == tries
    assert caught.value is given[-1]
    assert [one.outcome for one in caught.value.attempts] == [outcome] * tries
    assert caught.value.request is not None


async def test_around_calls_a_connection_error_is_the_last_one() -> None:
    async def watch(request: Request, call_next: CallNext) -> Any:
        try:
            return await call_next(request)
        except APIConnectionError as exc:
            given.append((exc, len(exc.attempts)))
            raise

    async def mine(request: Request, call_next: CallNext) -> Any:
        nonlocal count
        count += 1
        raise error

    given: list[Any] = []
    server = Server(lost())
    with pytest.raises(ConnectionLostError) as caught:
        await server.client(Call(watch)).get("/", cast_to=int)
    assert given == [(caught.value, 3)]
    error, count = lost(Outcome.NOT_SENT), 0
    with pytest.raises(ConnectionLostError) as caught:
        await server.client(Call(mine)).get("/", cast_to=int)
    assert caught.value is error
    assert count == 1


@BOTH_RINGS
async def test_an_error_may_be_swallowed(ring: Any) -> None:
    async def swallow(request: Request, call_next: CallNext) -> Any:
        try:
            return await call_next(request)
        except APIConnectionError:
            return instead

    server = Server(lost())
    for instead in (None, 7, Response(200, json=7), Response(404)):
        client = server.client(ring(swallow))
        if isinstance(instead, Response) and instead.status_code == 404:
            with pytest.raises(NotFoundError):
                await client.get("/", cast_to=int)
        else:
            assert await client.get("/", cast_to=int) == (7 if instead else None)
    assert len(server.requests) == (12 if ring is Call else 4)


async def test_an_error_may_be_swallowed_and_asked_again_in_the_same_attempt() -> None:
    async def again(request: Request, call_next: CallNext) -> Any:
        try:
            return await call_next(request)
        except APIConnectionError:
            return await call_next(request)

    server = Server(lost(), 1)
    response = await server.client(attempt(again)).post("/", cast_to=AsyncAPIResponse)
    assert (await response.json(), response.retries_taken) == (1, 0)


async def test_retries_are_judged_by_the_request_that_was_really_sent() -> None:
    def passing(method: str, **headers: str) -> Function:
        async def another(request: Request, call_next: CallNext) -> Any:
            return await call_next(Request(method, request.url, headers={**request.headers, **headers}))

        return another

    for method, middleware, tries in (
        ("GET", passing("POST"), 1),  # it may have been carried out: not repeated
        ("POST", passing("GET"), 3),
        ("POST", passing("POST", **{"Idempotency-Key": "k"}), 3),
        ("POST", passing("POST"), 1),
    ):
        for answer in (lost(), Response(200, content=pieces(lost(Outcome.ANSWERED)))):
            server = Server(*([answer] if isinstance(answer, Exception) else [answer, lost()]))
            with pytest.raises(ConnectionLostError):
                await server.client(middleware).request(int, {"method": method, "url": "/"})
            assert (method, len(server.requests)) == (method, tries)

    async def key(request: Request, call_next: CallNext) -> Any:
        request.headers["Idempotency-Key"] = "k"
        return await call_next(request)

    server = Server(lost(), 1)
    assert await server.client(key).post("/", cast_to=int) == 1


# --- time ------------------------------------------------------------------------------------------------------------


@BOTH_RINGS
@pytest.mark.parametrize("when", ["before", "after", "instead"])
async def test_the_deadline_passes_while_a_middleware_is_at_work(ring: Any, when: str) -> None:
    async def slow(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request) if when == "after" else None
        await anyio.sleep(30)
        return response or await call_next(request)

    server = Server(1)
    client = server.client(ring(slow), deadline=0.1)
    began = anyio.current_time()
    with anyio.fail_after(5):
        with pytest.raises(DeadlineExceededError) as caught:
            await client.get("/", cast_to=int)
    assert 0.05 < anyio.current_time() - began < 1
    assert len(server.requests) == (when == "after")
    assert "while a middleware was at work" in str(caught.value) or ring is attempt


@BOTH_RINGS
async def test_the_deadline_passes_while_a_middleware_waits_for_the_answer(ring: Any) -> None:
    # The error tells what it tells without a middleware: what each attempt met, and where the time went.
    def script(peer: Peer) -> None:
        while peer.read_request():
            if len(peer.server.requests) == 1:
                peer.send(ok(b"{}", status="500 No", headers="retry-after-ms: 1\r\n"))
            else:
                peer.wait_closed()
                return

    seen: list[BaseException] = []

    async def watch(request: Request, call_next: CallNext) -> Any:
        try:
            return await call_next(request)
        except BaseException as exc:
            seen.append(exc)
            raise

    told = []
    for middleware in ([], [ring(watch)]):
        with serve(script) as peer:
            async with AsyncAPIClient(base_url=peer.url, middleware=middleware) as client:
                with anyio.fail_after(5):
                    with pytest.raises(DeadlineExceededError) as caught:
                        await client.get("/", cast_to=int, options={"deadline": 0.2})
                error = caught.value
                told.append((error.phase, error.outcome, [one.status_code for one in error.attempts]))
                assert peer.wait_for_open(0) == 0
    assert told == [(Phase.RECEIVE, Outcome.UNKNOWN, [500, None])] * 2
    assert len(seen) == 1


@BOTH_RINGS
async def test_a_deadline_before_anything_was_sent_says_so(ring: Any) -> None:
    async def slow(request: Request, call_next: CallNext) -> Any:
        await anyio.sleep(30)

    with anyio.fail_after(5):
        with pytest.raises(DeadlineExceededError) as caught:
            await Server(1).client(ring(slow), deadline=0.05).get("/", cast_to=int)
    assert caught.value.outcome is Outcome.NOT_SENT


# --- connections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PUT", b"x")])
@pytest.mark.parametrize("kind", ["attempt", "both", "another request"])
async def test_a_dead_idle_connection_is_replaced_inside_one_attempt(
    kind: str, method: str, body: bytes | None
) -> None:
    def script(peer: Peer) -> None:
        while peer.read_request():
            if len(peer.server.requests) == 2:  # the second on this connection: it was dead, as it turns out
                return
            peer.send(ok(b"7"))

    calls: list[str] = []

    async def mark(request: Request, call_next: CallNext) -> Any:
        calls.append("attempt")
        request.headers["X-Mark"] = "m"
        return await call_next(request)

    async def another(request: Request, call_next: CallNext) -> Any:
        headers = {**request.headers, "X-Other": "o"}
        return await call_next(Request(request.method, request.url, headers=headers, content=request.body))

    class Client(AsyncAPIClient):
        async def _prepare_request(self, request: Request) -> None:
            calls.append("send")

    middleware = {"attempt": [mark], "both": [Call(pass_on), mark], "another request": [mark, another]}[kind]
    with serve(script) as peer:
        async with Client(base_url=peer.url, middleware=middleware, max_retries=0) as client:
            assert await client.get("/", cast_to=int) == 7
            calls.clear()
            made = RequestOptions(method=method, url="/", content=body)
            response = await client.request(AsyncAPIResponse, made)
            assert (await response.json(), response.retries_taken) == (7, 0)
        assert calls == ["attempt", "send", "send"]
        assert (peer.connections, len(peer.requests)) == (2, 3)
        for request in peer.requests[1:]:
            assert request.count(b"X-Mark: m\r\n") == 1
            assert request.startswith(method.encode())
            assert (b"X-Other: o\r\n" in request) is (kind == "another request")  # what was sent is sent again
            assert request.endswith(b"\r\n\r\n" + (body or b""))


async def test_a_connection_that_cannot_be_made() -> None:
    with serve(lambda peer: None) as peer:
        url = peer.url
    seen: list[BaseException] = []

    async def watch(request: Request, call_next: CallNext) -> Any:
        try:
            return await call_next(request)
        except APIConnectionError as exc:
            seen.append(exc)
            raise

    async with AsyncAPIClient(base_url=url, middleware=[Call(watch), watch], retry=QUICK) as client:
        with pytest.raises(ConnectError) as caught:
            await client.post("/", cast_to=int)
    assert len(seen) == 4  # three attempts, one call
    assert seen[-1] is seen[-2] is caught.value
    assert caught.value.outcome is Outcome.NOT_SENT


# --- hooks -----------------------------------------------------------------------------------------------------------

RINGS = [(), (pass_on,), (Call(pass_on),), (pass_on, Middleware(), Call(pass_on), pass_on)]
LAYERS = pytest.mark.parametrize("middleware", RINGS, ids=["none", "attempt", "call", "both"])


def bad_stream() -> Response:
    return Response(200, headers=SSE, content=b'event: error\ndata: {"error": {"type": "overloaded_error"}}\n\n')


def good_stream() -> Response:
    return Response(200, headers=SSE, content=b"data: 1\n\ndata: 2\n\n")


class First(AsyncStream[int]):
    wait_first_event = True


@LAYERS
async def test_how_often_hooks_are_called(middleware: Any) -> None:
    """The table of DESIGN 4, with retries."""

    def client(*given: Any) -> Counting:
        return Counting(answers(*given), middleware=middleware)

    one = client(Response(200, json=1))
    assert await one.get("/", cast_to=int) == 1
    expect(one, 1, process_response=1)

    one = client(Response(500), Response(429), Response(200, json=1))
    assert await one.get("/", cast_to=int) == 1
    expect(one, 3, should_retry=2, sleep_for_retry=2, process_response=1)
    assert one.retries == [(0, 2, 500), (1, 2, 429)]

    one = client(Response(500), Response(500), Response(500))
    with pytest.raises(InternalServerError):
        await one.get("/", cast_to=int)
    expect(one, 3, should_retry=2, sleep_for_retry=2, make_status_error=1)

    one = client(Response(400))
    with pytest.raises(APIStatusError):
        await one.get("/", cast_to=int)
    expect(one, 1, should_retry=1, make_status_error=1)

    one = client(lost(), Response(500), Response(200, json=1))
    assert await one.get("/", cast_to=int) == 1
    expect(one, 3, should_retry=1, sleep_for_retry=2, process_response=1)
    assert one.retries == [(0, 2, None), (1, 2, 500)]


@LAYERS
async def test_how_often_hooks_are_called_for_streams(middleware: Any) -> None:
    def client(*given: Any) -> Counting:
        return Counting(answers(*given), middleware=middleware)

    async def read(one: Counting, stream_cls: Any) -> list[int]:
        stream: Any = await one.get("/", cast_to=int, stream=True, stream_cls=stream_cls)
        return [item async for item in stream]

    one = client(Response(500), lost(), good_stream())
    assert await read(one, AsyncStream[int]) == [1, 2]
    expect(one, 3, should_retry=1, sleep_for_retry=2, make_sse_decoder=1, process_response=1)

    one = client(bad_stream(), Response(500), good_stream())
    assert await read(one, First) == [1, 2]
    expect(one, 3, should_retry=1, sleep_for_retry=2, make_sse_decoder=2, process_response=1)

    one = client(bad_stream(), bad_stream(), bad_stream())
    with pytest.raises(OverloadedError) as caught:
        await read(one, First)
    expect(one, 3, sleep_for_retry=2, make_sse_decoder=3, make_status_error=1)
    assert [attempt.status_code for attempt in caught.value.attempts] == [529] * 3

    one = client(bad_stream())
    with pytest.raises(OverloadedError):
        await read(one, AsyncStream[int])
    expect(one, 1, make_sse_decoder=1, process_response=1, make_status_error=1)

    one = client(Response(500), Response(200, content=pieces(b"1\n")))
    assert await read(one, AsyncJSONLStream[int]) == [1]
    expect(one, 2, should_retry=1, sleep_for_retry=1, process_response=1)

    one = client(Response(500), Response(200, json=1))
    async with one.open("GET", "/", cast_to=int) as response:
        assert await response.parse() == 1
    expect(one, 2, should_retry=1, sleep_for_retry=1, process_response=1)


async def test_a_request_is_prepared_once_for_each_send() -> None:
    async def again(request: Request, call_next: CallNext) -> Any:
        await call_next(request)
        return await call_next(request)

    client = Counting(answers(Response(404), Response(500), Response(404), Response(200, json=1)), middleware=[again])
    assert await client.get("/", cast_to=int) == 1
    expect(client, 2, prepare_request=4, should_retry=1, sleep_for_retry=1, process_response=1)


async def test_a_request_that_is_not_sent_is_not_prepared_for_it() -> None:
    async def mine(request: Request, call_next: CallNext) -> Any:
        return Response(500)

    client = Counting(answers(), middleware=[mine])
    with pytest.raises(InternalServerError):
        await client.get("/", cast_to=int)
    expect(client, 3, prepare_request=0, should_retry=2, sleep_for_retry=2, make_status_error=1)


async def test_a_hook_signs_what_middleware_made_of_the_request() -> None:
    class Signing(AsyncAPIClient):
        async def _prepare_request(self, request: Request) -> None:
            request.headers["X-Signature"] = f"{request.url.path} {request.headers.get('x-mine')}"

    async def change(request: Request, call_next: CallNext) -> Any:
        request.headers["X-Mine"] = "m"
        request.url = request.url.replace(path="/changed")
        return await call_next(request)

    for ring in (attempt, Call):
        server = Server(Response(500), 1)
        assert await server.client(ring(change), cls=Signing).get("/", cast_to=int) == 1
        assert [request.headers.get_list("x-signature") for request in server.requests] == [["/changed m"]] * 2


# --- streams, open, raw responses, pages -----------------------------------------------------------------------------


@BOTH_RINGS
async def test_streams_pass_unread(ring: Any) -> None:
    async def look(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        seen.append((response.status_code, response.headers["content-type"], taken))
        return response

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        for n in (1, 2):
            taken = n
            yield b"data: %d\n\n" % n

    seen: list[Any] = []
    for stream_cls, first in ((AsyncStream[int], 0), (First, 0 if ring is attempt else 1)):
        taken = 0
        seen.clear()
        client = Server(Response(200, headers=SSE, content=body())).client(ring(look))
        stream: Any = await client.get("/", cast_to=int, stream=True, stream_cls=stream_cls)
        assert [item async for item in stream] == [1, 2]
        assert seen == [(200, "text/event-stream", first)]


@BOTH_RINGS
async def test_a_stream_whose_body_was_read_by_middleware(ring: Any) -> None:
    async def read(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        assert await response.read() == b"data: 1\n\ndata: 2\n\n"
        return response

    client = Server(Response(200, headers=SSE, content=pieces(b"data: 1\n\n", b"data: 2\n\n"))).client(ring(read))
    stream: Any = await client.get("/", cast_to=int, stream=True, stream_cls=AsyncStream[int])
    assert [item async for item in stream] == [1, 2]


async def test_an_error_as_the_first_event_is_an_attempt_that_failed() -> None:
    log: list[str] = []
    server = Server(bad_stream(), good_stream())
    stream: Any = await server.client(Named("a", log)).get("/", cast_to=int, stream=True, stream_cls=First)
    assert [item async for item in stream] == [1, 2]
    assert " ".join(log) == "a( A[ ]A=200 A[ ]A=200 )a"


@BOTH_RINGS
async def test_open_and_raw_responses_pass(ring: Any) -> None:
    seen: list[int] = []

    async def look(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        seen.append(response.status_code)
        assert "x-stainless-raw-response" not in {name.lower() for name in request.headers}
        return response

    server = Server(Response(200, content=pieces(b"1", b"2")))
    client = server.client(ring(look))
    async with client.open("GET", "/") as opened:
        assert [piece async for piece in opened.iter_bytes()] == [b"1", b"2"]

    async def retrieve(*, extra_headers: Any = None) -> Any:
        return await client.get("/", cast_to=int, options={"headers": extra_headers or {}})

    server.answers = [Response(200, json=7)]
    response = await async_to_raw_response_wrapper(retrieve)()
    assert await response.parse() == 7
    assert seen == [200, 200]


@BOTH_RINGS
async def test_each_page_is_a_call(ring: Any) -> None:
    async def count(request: Request, call_next: CallNext) -> Any:
        request.headers["X-Count"] = str(len(server.requests))
        return await call_next(request)

    server = Server({"data": [1, 2], "next_cursor": "a"}, {"data": [3]})
    numbers: Any = server.client(ring(count)).get_api_list("/", model=int, page=CursorPage)
    assert [number async for number in numbers] == [1, 2, 3]
    assert [(request.url.query, request.headers["x-count"]) for request in server.requests] == [
        ("", "0"),
        ("cursor=a", "1"),
    ]


@BOTH_RINGS
async def test_a_page_from_a_response_of_ones_own_goes_on(ring: Any) -> None:
    async def cached(request: Request, call_next: CallNext) -> Any:
        if not request.url.query:
            return Response(200, json={"data": [1], "next_cursor": "a"})
        return await call_next(request)

    server = Server({"data": [2]})
    numbers: Any = server.client(ring(cached)).get_api_list("/", model=int, page=CursorPage)
    assert [number async for number in numbers] == [1, 2]
    assert [request.url.query for request in server.requests] == ["cursor=a"]


async def test_a_middleware_may_make_calls_of_its_own() -> None:
    async def renew(request: Request, call_next: CallNext) -> Any:
        response = await call_next(request)
        if response.status_code == 401:
            request.headers["Authorization"] = "Bearer " + await plain.post("/token", cast_to=str)
            response = await call_next(request)
        return response

    def handler(request: Request) -> Response:
        if request.url.path == "/token":
            return Response(200, content=b"fresh")
        return Response(200 if request.headers.get("authorization") == "Bearer fresh" else 401, json=1)

    plain = AsyncAPIClient(base_url="http://h", http_client=MockTransport(handler))
    client = plain.with_options(middleware=[renew])
    assert await client.get("/", cast_to=int) == 1


async def test_calls_at_the_same_time_do_not_disturb_each_other() -> None:
    async def mark(request: Request, call_next: CallNext) -> Any:
        request.headers["X-Mark"] = request.url.path
        await anyio.sleep(0.001)
        response = await call_next(request)
        await anyio.sleep(0.001)
        return response

    async def handler(request: Request) -> Response:
        await anyio.sleep(0.001)
        count[request.url.path] = count.get(request.url.path, 0) + 1
        return Response(500) if count[request.url.path] == 1 else Response(200, json=request.headers["x-mark"])

    count: dict[str, int] = {}
    results: dict[int, Any] = {}
    client = AsyncAPIClient(
        base_url="http://h", http_client=MockTransport(handler), middleware=[Call(mark), mark], retry=QUICK
    )

    async def one(n: int) -> None:
        results[n] = await client.get(f"/{n}", cast_to=object)

    async with anyio.create_task_group() as group:
        for n in range(20):
            group.start_soon(one, n)
    assert results == {n: f"/{n}" for n in range(20)}


# --- cancelled, leaks ------------------------------------------------------------------------------------------------


def slowly(peer: Peer) -> None:
    """Answers by path: in pieces, with an error first, as a stream."""
    while request := peer.read_request():
        path = request.split()[1]
        peer.server.pause(0.002)
        if path == b"/error":
            peer.send(ok(b"{}", status="500 No", headers="retry-after-ms: 1\r\n"))
        elif path == b"/events":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(2):
                peer.server.pause(0.002)
                peer.send(b"9\r\ndata: 1\n\n\r\n")
            peer.send(b"0\r\n\r\n")
        else:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n")
            peer.server.pause(0.002)
            peer.send(b"123")


async def twice(request: Request, call_next: CallNext) -> Any:
    await anyio.lowlevel.checkpoint()
    first = await call_next(request)
    await anyio.lowlevel.checkpoint()
    response = await call_next(request)
    assert first.is_closed
    return response


async def plain(client: AsyncAPIClient) -> None:
    assert await client.get("/", cast_to=int) == 123


async def retried(client: AsyncAPIClient) -> None:
    with pytest.raises(InternalServerError):
        await client.get("/error", cast_to=int, options={"max_retries": 1})


async def streamed(client: AsyncAPIClient) -> None:
    async with client.stream("GET", "/events", cast_to=ServerSentEvent) as stream:
        assert len([event async for event in stream]) == 2


# trio has no cancellation but by scopes.
SETTINGS = [
    pytest.param(backend.values[0], how, id=f"{backend.id}-{how}")
    for backend in BACKENDS
    for how in ("scope", "native")
    if backend.id != "trio" or how == "scope"
]


@pytest.mark.parametrize("operation", [plain, retried, streamed])
@pytest.mark.parametrize("middleware", [[pass_on], [twice], [Call(pass_on), twice], [Call(twice)]])
@pytest.mark.parametrize(("anyio_backend", "how"), SETTINGS)
async def test_cancelled_at_every_checkpoint_nothing_is_left(
    anyio_backend: Any, how: How, middleware: list[Any], operation: Any
) -> None:
    with serve(slowly) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            tasks = task_count()
            n = 1
            with_middleware = client.with_options(middleware=middleware)
            while await cancelled_at(n, how, lambda: operation(with_middleware)):
                assert task_count() == tasks
                assert peer.wait_for_open(1) <= 1
                n += 1 if n < 8 else 2
            assert n >= 2  # the connect may need no wait
            assert await client.get("/", cast_to=int) == 123


async def never(request: Request, call_next: CallNext) -> Any:
    await call_next(request)
    raise ZeroDivisionError


async def kept(request: Request, call_next: CallNext) -> Any:
    await call_next(request)
    return 123


async def replaced(request: Request, call_next: CallNext) -> Any:
    await call_next(request)
    return Response(200, json=123)


@BOTH_RINGS
@pytest.mark.parametrize("function", [never, kept, replaced, twice])
async def test_a_response_that_is_not_passed_on_frees_its_connection(ring: Any, function: Any) -> None:
    def endless(peer: Peer) -> None:
        while peer.read_request():
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n1")
            if peer.wait_closed():
                return

    with serve(endless) as peer:
        async with AsyncAPIClient(base_url=peer.url, middleware=[ring(function)]) as client:
            with anyio.fail_after(5):
                try:
                    async with client.open("GET", "/", cast_to=int) as response:
                        if function is replaced:
                            assert await response.json() == 123
                except (ZeroDivisionError, AttributeError):
                    assert function in (never, kept)
            assert peer.wait_for_open(0) == 0


@pytest.mark.parametrize("where", ["transport", "hook"])
async def test_the_deadline_inside_call_next_is_an_error_that_a_middleware_knows(where: str) -> None:
    """Also where it is the client that keeps the deadline, around a transport or a hook that does not."""
    seen: list[Exception] = []

    async def watch(request: Request, call_next: CallNext) -> Any:
        try:
            return await call_next(request)
        except Exception as exc:
            seen.append(exc)
            raise

    class Client(AsyncAPIClient):
        async def _prepare_request(self, request: Request) -> None:
            await anyio.sleep(30 if where == "hook" else 0)

    async def server(request: Request) -> Response:
        await anyio.sleep(30)
        return Response(200)

    client = Client(base_url="http://h", http_client=MockTransport(server), middleware=[watch], deadline=0.05)
    with pytest.raises(DeadlineExceededError) as caught:
        await client.get("/", cast_to=object)
    assert [type(exc) for exc in seen] == [DeadlineExceededError]
    assert len(caught.value.attempts) == 1
