"""The hooks that SDK authors override: how often each is called, what it may do, and what happens when it fails."""

from __future__ import annotations

import copy
import functools
import unittest.mock
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import anyio
import pytest

from anyio_client import (
    APIError,
    APIStatusError,
    AsyncAPIClient,
    AsyncAPIResponse,
    AsyncStream,
    ConnectionLostError,
    Headers,
    InternalServerError,
    MockTransport,
    Omit,
    OverloadedError,
    Request,
    RequestOptions,
    Response,
    RetryPolicy,
    omit,
)
from anyio_client.sansio import SSEDecoder
from tests.kit.leaks import open_sockets, settled_sockets
from tests.kit.peers import Peer, ok, serve

pytestmark = pytest.mark.anyio

QUICK = RetryPolicy(wait_initial=0)
SSE = {"Content-Type": "text/event-stream"}
OVERLOADED = b'event: error\ndata: {"error": {"type": "overloaded_error", "message": "busy"}}\n\n'


class Counting(AsyncAPIClient):
    """Counts the calls of every hook, and does what the default does."""

    def __init__(self, handler: Callable[[Request], Response], **options: Any) -> None:
        self.calls: list[str] = []
        self.retries: list[tuple[int, int, int | None]] = []
        super().__init__(base_url="http://h", http_client=MockTransport(handler), **{"retry": QUICK, **options})

    def count(self, name: str) -> int:
        return self.calls.count(name)

    async def _prepare_options(self, options: RequestOptions) -> RequestOptions:
        self.calls.append("prepare_options")
        return await super()._prepare_options(options)

    async def _prepare_request(self, request: Request) -> None:
        self.calls.append("prepare_request")
        await super()._prepare_request(request)

    async def _process_response(self, **kwargs: Any) -> Any:
        self.calls.append("process_response")
        return await super()._process_response(**kwargs)

    async def _sleep_for_retry(
        self, *, retries_taken: int, max_retries: int, options: RequestOptions, response: Response | None
    ) -> None:
        self.calls.append("sleep_for_retry")
        self.retries.append((retries_taken, max_retries, None if response is None else response.status_code))
        await super()._sleep_for_retry(
            retries_taken=retries_taken, max_retries=max_retries, options=options, response=response
        )

    def _should_retry(self, response: Response) -> bool:
        self.calls.append("should_retry")
        return super()._should_retry(response)

    def _make_status_error(self, err_msg: str, *, body: object, response: Any) -> APIStatusError:
        self.calls.append("make_status_error")
        return super()._make_status_error(err_msg, body=body, response=response)

    def _validate_headers(self, headers: Headers, omitted: frozenset[str]) -> None:
        self.calls.append("validate_headers")

    def _make_sse_decoder(self) -> Any:
        self.calls.append("make_sse_decoder")
        return super()._make_sse_decoder()

    @property
    def auth_headers(self) -> Mapping[str, str]:
        self.calls.append("auth_headers")
        return {"Authorization": "Bearer t"}


def answers(*given: Response | Exception) -> Callable[[Request], Response]:
    left = list(given)

    def handler(request: Request) -> Response:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handler


EVERY_ATTEMPT = ("prepare_options", "validate_headers", "auth_headers", "prepare_request")


def expect(client: Counting, attempts: int, **others: int) -> None:
    wanted = dict.fromkeys(EVERY_ATTEMPT, attempts) | others
    assert {name: client.count(name) for name in set(client.calls)} == {n: c for n, c in wanted.items() if c}


# --- how often -----------------------------------------------------------------------------------------------------


async def test_a_call_that_succeeds_at_once() -> None:
    client = Counting(answers(Response(200, json=1)))
    assert await client.get("/", cast_to=int) == 1
    expect(client, 1, process_response=1)


async def test_a_call_with_two_retries() -> None:
    client = Counting(answers(Response(500), Response(429), Response(200, json=1)))
    assert await client.get("/", cast_to=int) == 1
    expect(client, 3, should_retry=2, sleep_for_retry=2, process_response=1)
    assert client.retries == [(0, 2, 500), (1, 2, 429)]


async def test_a_call_that_fails_after_all_retries() -> None:
    client = Counting(answers(Response(500), Response(500), Response(500)))
    with pytest.raises(InternalServerError):
        await client.get("/", cast_to=int)
    # No retry is left for the third answer: nobody asks.
    expect(client, 3, should_retry=2, sleep_for_retry=2, make_status_error=1)


async def test_a_status_that_is_not_retried() -> None:
    client = Counting(answers(Response(400)))
    with pytest.raises(APIStatusError):
        await client.get("/", cast_to=int)
    expect(client, 1, should_retry=1, make_status_error=1)


async def test_connection_errors_ask_no_rule_and_have_no_response() -> None:
    client = Counting(answers(ConnectionLostError(), Response(200, json=1)))
    assert await client.get("/", cast_to=int) == 1
    expect(client, 2, sleep_for_retry=1, process_response=1)
    assert client.retries == [(0, 2, None)]


async def test_a_body_that_was_lost_is_a_connection_error_without_a_response() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"1"
        raise ConnectionLostError("lost", outcome="answered")  # type: ignore[arg-type]

    client = Counting(answers(Response(200, content=broken()), Response(200, json=1)))
    assert await client.get("/", cast_to=int) == 1
    assert client.retries == [(0, 2, None)]


async def test_a_stream_has_one_decoder_an_attempt_that_reaches_it() -> None:
    client = Counting(answers(Response(500), Response(200, headers=SSE, content=b"data: 1\n\n")))
    stream = await client.get("/", cast_to=int, stream=True, stream_cls=AsyncStream[int])
    assert [item async for item in stream] == [1]
    expect(client, 2, should_retry=1, sleep_for_retry=1, make_sse_decoder=1, process_response=1)


class First(AsyncStream[int]):
    wait_first_event = True


async def test_an_error_as_the_first_event_makes_an_error_object_only_when_it_is_raised() -> None:
    bad = Response(200, headers=SSE, content=OVERLOADED)
    client = Counting(answers(bad, Response(200, headers=SSE, content=b"data: 1\n\n")))
    stream = await client.get("/", cast_to=int, stream=True, stream_cls=First)
    assert [item async for item in stream] == [1]
    expect(client, 2, sleep_for_retry=1, make_sse_decoder=2, process_response=1)

    client = Counting(answers(*(Response(200, headers=SSE, content=OVERLOADED) for _ in range(3))))
    with pytest.raises(OverloadedError) as caught:
        await client.get("/", cast_to=int, stream=True, stream_cls=First)
    expect(client, 3, sleep_for_retry=2, make_sse_decoder=3, make_status_error=1)
    assert [attempt.status_code for attempt in caught.value.attempts] == [529] * 3


async def test_open_processes_once_and_makes_no_decoder() -> None:
    client = Counting(answers(Response(200, json=1)))
    async with client.open("GET", "/", cast_to=int) as response:
        assert await response.parse() == 1
        assert await response.parse() == 1
    expect(client, 1, process_response=1)


# --- what they may do ----------------------------------------------------------------------------------------------


async def test_changes_of_prepare_options_hold_for_one_attempt() -> None:
    seen: list[tuple[str | None, str, object]] = []

    class Client(AsyncAPIClient):
        attempt = 0

        async def _prepare_options(self, options: RequestOptions) -> RequestOptions:
            self.attempt += 1
            assert isinstance(options.headers, dict) and isinstance(options.params, dict)
            data: Any = options.json_data
            extra: Any = options.extra_json
            assert (options.headers, options.params) == ({"a": "1"}, {"q": [1]})
            assert (data, extra) == ({"list": [1]}, {"deep": {"x": 1}})
            if self.attempt == 1:
                options.headers["once"] = "yes"
                options.params["q"].append(2)
                data["list"].append(2)
                extra["deep"]["x"] = 2
                options.idempotency_key = "first"
            return options

    def handler(request: Request) -> Response:
        seen.append((request.headers.get("once"), request.url.query, request.json()))
        keys.append(request.headers.get("Idempotency-Key"))
        return Response(500 if len(seen) == 1 else 200, json=1)

    keys: list[str | None] = []
    body = {"list": [1]}
    client = Client(base_url="http://h", http_client=MockTransport(handler), retry=QUICK)
    options = {"headers": {"a": "1"}, "params": {"q": [1]}, "extra_json": {"deep": {"x": 1}}}
    await client.post("/", cast_to=int, body=body, options=options)
    assert seen == [
        ("yes", "q%5B%5D=1&q%5B%5D=2", {"list": [1, 2], "deep": {"x": 2}}),
        (None, "q%5B%5D=1", {"list": [1], "deep": {"x": 1}}),
    ]
    assert keys == ["first", None]
    assert body == {"list": [1]}
    assert options == {"headers": {"a": "1"}, "params": {"q": [1]}, "extra_json": {"deep": {"x": 1}}}


async def test_prepare_options_may_return_a_mapping_and_the_raw_mode_survives() -> None:
    class Client(AsyncAPIClient):
        async def _prepare_options(self, options: RequestOptions) -> Any:
            return {"method": options.method, "url": "/changed"}

    client = Client(
        base_url="http://h", http_client=MockTransport(lambda request: Response(200, json=request.url.path))
    )
    assert await client.get("/", cast_to=str) == '"/changed"'
    async with client.open("GET", "/", cast_to=str) as response:
        assert await response.json() == "/changed"


async def test_prepare_options_that_returns_nothing_is_a_type_error() -> None:
    class Client(AsyncAPIClient):
        async def _prepare_options(self, options: RequestOptions) -> Any:
            return None

    client = Client(base_url="http://h", http_client=MockTransport(lambda request: Response()))
    with pytest.raises(TypeError, match="NoneType"):
        await client.get("/", cast_to=None)


async def test_prepare_request_changes_what_is_sent() -> None:
    class Client(AsyncAPIClient):
        async def _prepare_request(self, request: Request) -> None:
            request.headers["X-Signature"] = f"{request.method} {request.url.target} {len(request.content)}"

    client = Client(
        base_url="http://h", http_client=MockTransport(lambda r: Response(200, json=r.headers["x-signature"]))
    )
    assert await client.post("/a", cast_to=object, body=1, options={"params": {"b": 1}}) == "POST /a?b=1 1"


async def test_an_own_retry_rule_decides() -> None:
    class Client(Counting):
        def _should_retry(self, response: Response) -> bool:
            return response.status_code == 418

    client = Client(answers(Response(418), Response(500)))
    with pytest.raises(InternalServerError) as caught:
        await client.get("/", cast_to=int)
    assert [attempt.status_code for attempt in caught.value.attempts] == [418, 500]


async def test_an_own_sleep_replaces_the_wait_and_the_deadline_cuts_it() -> None:
    class Client(AsyncAPIClient):
        async def _sleep_for_retry(self, **facts: Any) -> None:
            waits.append(facts["retries_taken"])
            await anyio.sleep(30 if len(waits) > 2 else 0)

    waits: list[int] = []
    transport = MockTransport(lambda request: Response(503, headers={"Retry-After": "0.05"}))
    client = Client(base_url="http://h", http_client=transport, max_retries=2)
    began = anyio.current_time()
    with pytest.raises(APIStatusError):
        await client.get("/", cast_to=int)
    assert waits == [0, 1]
    with pytest.raises(APIError, match="between two attempts"):
        await client.with_options(deadline=0.1).get("/", cast_to=int)
    assert anyio.current_time() - began < 5


async def test_an_own_status_error_is_the_one_that_is_raised() -> None:
    class Mine(APIStatusError):
        def __init__(self, code: object, response: Any) -> None:
            super().__init__("mine", response=response, body=None)
            self.code = code

    class Client(AsyncAPIClient):
        def _make_status_error(self, err_msg: str, *, body: Any, response: Any) -> APIStatusError:
            return Mine(body["code"], response)

    client = Client(
        base_url="http://h", http_client=MockTransport(lambda r: Response(404, json={"code": 7})), max_retries=0
    )
    with pytest.raises(Mine) as caught:
        await client.get("/", cast_to=int)
    assert (caught.value.code, len(caught.value.attempts)) == (7, 1)


async def test_an_own_sse_decoder_is_used() -> None:
    class Shouting(SSEDecoder):
        def feed(self, chunk: bytes) -> Any:
            return super().feed(chunk.upper().replace(b"DATA", b"data"))

    class Client(AsyncAPIClient):
        def _make_sse_decoder(self) -> Any:
            return Shouting()

    client = Client(
        base_url="http://h", http_client=MockTransport(lambda r: Response(headers=SSE, content=b"data: a\n\n"))
    )
    async with client.stream("GET", "/", cast_to=str) as stream:
        assert [item async for item in stream] == ["A"]


async def test_validate_headers_sees_what_is_sent_and_what_was_left_out_on_purpose() -> None:
    seen: list[tuple[bool, frozenset[str]]] = []

    class Client(AsyncAPIClient):
        def _validate_headers(self, headers: Headers, omitted: frozenset[str]) -> None:
            seen.append(("x-key" in headers, omitted))
            if "x-key" not in headers and "x-key" not in omitted:
                raise ValueError("no key")

    def client(headers: dict[str, str | Omit]) -> Client:
        transport = MockTransport(lambda r: Response(200, json=1))
        return Client(base_url="http://h", http_client=transport, custom_headers=headers)

    await client({"X-Key": "1"}).get("/", cast_to=int)
    await client({"X-Key": "1"}).get("/", cast_to=int, options={"headers": {"x-KEY": omit}})
    with pytest.raises(ValueError, match="no key"):
        await client({}).get("/", cast_to=int)
    assert seen == [(True, frozenset()), (False, frozenset({"x-key"})), (False, frozenset())]


# --- the wrong colour ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["_prepare_options", "_prepare_request", "_process_response", "_sleep_for_retry"])
async def test_a_plain_method_where_an_async_one_belongs(name: str) -> None:
    wrong = type("Wrong", (AsyncAPIClient,), {name: lambda self, *args, **kwargs: None})
    with pytest.raises(TypeError, match=f"Wrong.{name} must be an async method"):
        wrong(base_url="http://h")


@pytest.mark.parametrize(
    "name",
    [
        "_request_api_list",
        "_should_retry",
        "_make_status_error",
        "_validate_headers",
        "_make_sse_decoder",
        "platform_headers",
    ],
)
async def test_an_async_method_where_a_plain_one_belongs(name: str) -> None:
    async def hook(self: object, *args: object, **kwargs: object) -> None: ...

    wrong = type("Wrong", (AsyncAPIClient,), {name: hook})
    with pytest.raises(TypeError, match=f"Wrong.{name} must be a plain method"):
        wrong(base_url="http://h")


@pytest.mark.parametrize("name", ["auth_headers", "default_headers", "default_query", "user_agent", "qs"])
async def test_a_method_where_a_property_belongs(name: str) -> None:
    wrong = type("Wrong", (AsyncAPIClient,), {name: lambda self: {}})
    with pytest.raises(TypeError, match=f"Wrong.{name} must be a property"):
        wrong(base_url="http://h")


async def test_a_subclass_of_a_checked_class_is_checked_too() -> None:
    class Good(AsyncAPIClient): ...

    Good(base_url="http://h", http_client=MockTransport(lambda r: Response()))

    class Bad(Good):
        def _prepare_request(self, request: Request) -> Any: ...

    with pytest.raises(TypeError, match="Bad._prepare_request"):
        Bad(base_url="http://h")


# --- when they fail ------------------------------------------------------------------------------------------------


class Boom(Exception):
    """Nothing of ours."""


FAILING = {
    "_prepare_options": 200,
    "_prepare_request": 200,
    "_process_response": 200,
    "_validate_headers": 200,
    "_sleep_for_retry": 500,
    "_should_retry": 500,
    "_make_status_error": 500,
    "_make_sse_decoder": 200,
}


def failing(name: str, error: BaseException) -> type[AsyncAPIClient]:
    def plain(self: object, *args: object, **kwargs: object) -> None:
        raise error

    async def awaited(self: object, *args: object, **kwargs: object) -> None:
        raise error

    is_async = name in ("_prepare_options", "_prepare_request", "_process_response", "_sleep_for_retry")
    return type("Failing", (AsyncAPIClient,), {name: awaited if is_async else plain})


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.parametrize("error", [Boom("mine"), OSError("mine"), TimeoutError("mine"), ValueError("mine")], ids=repr)
async def test_what_a_hook_raises_comes_out_unretried_and_nothing_leaks(name: str, error: Exception) -> None:
    status = FAILING[name]

    def script(peer: Peer) -> None:
        while peer.read_request():
            body = b"data: 1\n\n"
            peer.send(
                f"HTTP/1.1 {status} S\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body) + (status == 200)}\r\n\r\n".encode()
                + body
            )

    before = open_sockets()
    with serve(script) as peer:
        retries = 0 if name == "_make_status_error" else 2
        async with failing(name, error)(base_url=peer.url, retry=QUICK, max_retries=retries) as client:
            with pytest.raises(type(error)) as caught:
                async with client.stream("GET", "/", cast_to=int):
                    pass
            assert caught.value is error
            if status == 200:  # there is more of the body to come
                assert peer.wait_for_open(0) == 0
            assert len(peer.requests) == (0 if name in EVERY_REQUEST else 1)
    assert settled_sockets(before) <= before


EVERY_REQUEST = ("_prepare_options", "_prepare_request", "_validate_headers")


@pytest.mark.parametrize("name", ["auth_headers", "default_headers", "default_query", "user_agent", "qs"])
async def test_what_a_property_raises_comes_out(name: str) -> None:
    error = Boom()

    def fail(self: object) -> object:
        raise error

    client = type("Failing", (AsyncAPIClient,), {name: property(fail)})(
        base_url="http://h", http_client=MockTransport(lambda r: Response())
    )
    with pytest.raises(Boom) as caught:
        await client.get("/", cast_to=None)
    assert caught.value is error


async def test_what_the_decoder_or_the_stream_class_raises_comes_out_and_closes_the_stream() -> None:
    error = Boom()

    class Decoder:
        def feed(self, chunk: bytes) -> Any:
            raise error

    class Client(AsyncAPIClient):
        def _make_sse_decoder(self) -> Any:
            return Decoder()

    class Terminal(AsyncStream[int]):
        def is_terminal(self, event: Any) -> bool:
            raise error

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        peer.wait_closed()

    with serve(script) as peer:
        for cls, stream_cls in ((Client, AsyncStream[int]), (AsyncAPIClient, Terminal)):
            async with cls(base_url=peer.url) as client:
                stream = await client.get("/", cast_to=int, stream=True, stream_cls=stream_cls)
                with pytest.raises(Boom) as caught:
                    await anext(stream)
                assert caught.value is error
                assert peer.wait_for_open(0) == 0
                with pytest.raises(StopAsyncIteration):
                    await anext(stream)


async def test_an_error_of_ours_from_process_response_knows_the_attempts() -> None:
    class Client(Counting):
        async def _process_response(self, **kwargs: Any) -> Any:
            raise error

    error = APIError("mine")
    client = Client(answers(Response(500), Response(200)))
    with pytest.raises(APIError) as caught:
        await client.get("/", cast_to=None)
    assert caught.value is error
    assert [attempt.status_code for attempt in error.attempts] == [500, 200]


async def test_a_one_shot_body_that_a_hook_has_read_is_sent_again_as_it_was_read() -> None:
    class Signing(AsyncAPIClient):
        async def _prepare_request(self, request: Request) -> None:
            request.headers["X-Size"] = str(len(await request.read()))

    bodies: list[bytes] = []

    def handler(request: Request) -> Response:
        bodies.append(request.content)
        return Response(500 if len(bodies) < 3 else 200, headers={"retry-after-ms": "1"}, json=1)

    async with Signing(base_url="http://h", http_client=MockTransport(handler)) as client:
        assert await client.put("/", cast_to=int, content=(piece for piece in (b"a", b"b"))) == 1
    assert bodies == [b"ab"] * 3


async def test_a_credential_never_goes_to_another_origin_whatever_its_name() -> None:
    class Odd(AsyncAPIClient):
        @property
        def auth_headers(self) -> dict[str, str]:
            return {"Content-Token": "secret"}

    seen: list[Request] = []

    def handler(request: Request) -> Response:
        seen.append(request)
        return Response(json=1)

    async with Odd(base_url="http://h", http_client=MockTransport(handler)) as client:
        await client.get("/", cast_to=int)
        await client.get("http://other/", cast_to=int)
    assert seen[0].headers["content-token"] == "secret"
    assert "content-token" not in seen[1].headers


async def test_a_hook_that_is_put_on_an_instance_or_patched_into_the_class_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The hooks that do nothing are not called, and whatever stands in their place is."""
    seen: list[Any] = []

    async def sign(request: Any) -> None:
        request.headers["X-Signed"] = "1"

    class Vendor(AsyncAPIClient):
        pass

    def handler(request: Request) -> Response:
        seen.append({name.lower(): value for name, value in request.headers.items()})
        return Response(json=1)

    async with Vendor(base_url="http://h", http_client=MockTransport(handler)) as client:
        await client.get("/", cast_to=int)
        monkeypatch.setattr(client, "_prepare_request", sign)
        monkeypatch.setattr(client, "_validate_headers", lambda headers, omitted: seen.append("validated"))
        monkeypatch.setattr(Vendor, "user_agent", property(lambda self: "patched"))
        await client.get("/", cast_to=int)
    first, validated, second = seen
    assert "x-signed" not in first
    assert validated == "validated"
    assert (second["x-signed"], second["user-agent"]) == ("1", "patched")


async def test_what_looks_like_the_hook_is_no_default() -> None:
    """functools.wraps copies the attributes of a function, and a mock has any attribute."""

    class Signed(AsyncAPIClient):
        @functools.wraps(AsyncAPIClient._prepare_request)
        async def _prepare_request(self, request: Request) -> None:
            request.headers["X-Signed"] = "1"

    seen: list[Request] = []
    with serve(lambda peer: [peer.send(ok(b"1")) for _ in iter(peer.read_request, b"")]) as server:
        async with Signed(base_url=server.url) as client:
            client._validate_headers = unittest.mock.MagicMock()  # type: ignore[method-assign]
            response = await client.get("/", cast_to=AsyncAPIResponse)
            seen.append(response.http_request)
            client._validate_headers.assert_called_once()
            client._process_response = unittest.mock.AsyncMock(return_value=7)  # type: ignore[method-assign]
            assert await client.get("/", cast_to=int) == 7
    assert seen[0].headers["x-signed"] == "1"


def test_a_client_can_be_copied_deeply() -> None:
    client = AsyncAPIClient(base_url="http://h", http_client=MockTransport(lambda request: Response(json=1)))
    assert copy.deepcopy(client).base_url == client.base_url
