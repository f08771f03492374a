"""The client: its arguments, which layer wins, what goes to which origin, and its life."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import anyio
import anyio.from_thread
import pytest

from anyio_client import (
    URL,
    APIConnectionError,
    APIStatusError,
    AsyncAPIClient,
    AsyncAPIResource,
    AsyncAPIResponse,
    CursorPage,
    DeadlineExceededError,
    HTTPTransport,
    MockTransport,
    Omit,
    Querystring,
    Request,
    RequestOptions,
    Response,
    RetryPolicy,
    Timeout,
    Transport,
    not_given,
    omit,
)
from tests.kit.peers import Peer, serve

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]


class Recording:
    """A transport of one's own: it answers 200, and keeps what it was asked."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.requests: list[Request] = []
        self.timeouts: list[Timeout] = []
        self.deadlines: list[float | None] = []
        self.closed = 0

    async def send(self, request: Request, *, timeout: Timeout, deadline: float | None) -> Response:
        self.requests.append(request)
        self.timeouts.append(timeout)
        self.deadlines.append(deadline)
        return Response(self.statuses.pop(0) if self.statuses else 200, json=1)

    async def aclose(self) -> None:
        self.closed += 1

    @property
    def last(self) -> Request:
        return self.requests[-1]


def client_of(transport: Recording, **options: Any) -> AsyncAPIClient:
    return AsyncAPIClient(**{"base_url": "https://h/v1", "http_client": transport, **options})


# --- wrong arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"base_url": "/v1"}, ValueError, "absolute"),
        ({"base_url": "ftp://h:21"}, ValueError, "'ftp' is not supported"),
        ({"base_url": None}, TypeError, "URL"),
        ({"base_url": "http://h\r\n/"}, ValueError, "control"),
        ({"max_retries": None}, TypeError, "max_retries must be an int"),
        ({"max_retries": True}, TypeError, "max_retries"),
        ({"max_retries": 1.5}, TypeError, "max_retries"),
        ({"max_retries": -1}, ValueError, "at least 0"),
        ({"timeout": 0}, ValueError, "more than 0"),
        ({"timeout": -1}, ValueError, "more than 0"),
        ({"timeout": float("nan")}, ValueError, "more than 0"),
        ({"timeout": "1"}, TypeError, "seconds"),
        ({"deadline": 0}, ValueError, "deadline"),
        ({"deadline": float("nan")}, ValueError, "deadline"),
        ({"deadline": "1"}, TypeError, "deadline"),
        ({"custom_headers": {"a b": "c"}}, ValueError, "'a b'"),
        ({"custom_headers": {"a": "b\r\nc: d"}}, ValueError, "control character"),
        ({"custom_headers": {"a": 1}}, TypeError, "'a'"),
        ({"custom_headers": [("a", "b")]}, TypeError, "mapping"),
        ({"custom_query": "a=1"}, TypeError, "mapping"),
        ({"auth": 1}, TypeError, "int"),
        ({"auth": ("a", "b", "c")}, TypeError, "pair.*not a tuple"),
        ({"auth": ("a:b", "c")}, ValueError, "colon"),
        (
            {"auth": lambda: "token"},
            TypeError,
            r"auth must (be a bearer token, a \(user, password\) pair, or an Auth \(|not be a function)",
        ),
        ({"retry": 3}, TypeError, "RetryPolicy"),
        ({"converter": dict}, TypeError, "cattrs.Converter"),
        ({"middleware": [lambda request, call_next: None]}, TypeError, "a middleware is an `async def"),
        ({"http_client": HTTPTransport}, TypeError, "takes a Transport.*not the class HTTPTransport"),
        ({"http_client": "http://user:pass@proxy"}, TypeError, "takes a Transport.*not a str"),
        ({"http_client": object()}, TypeError, "MockTransport"),
    ],
)
async def test_wrong_arguments_are_refused_at_construction(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text) as caught:
        AsyncAPIClient(**{"base_url": "http://h", **options})
    assert "pass@" not in str(caught.value)
    if "base_url" not in options and "http_client" not in options:
        with pytest.raises(error, match=text):
            AsyncAPIClient(base_url="http://h", http_client=Recording()).with_options(**options)


@pytest.mark.parametrize(
    ("module", "name", "text"),
    [
        ("httpx", "AsyncClient", r"anyio_client.contrib.httpx.HTTPXTransport\(client\)"),
        ("httpx._client", "AsyncClient", r"anyio_client.contrib.httpx.HTTPXTransport\(client\)"),
        ("httpx", "Client", "contrib.httpx"),
        ("httpx2", "AsyncClient", r"anyio_client.contrib.httpx2.HTTPXTransport\(client\)"),
        ("aiohttp.client", "ClientSession", "no adapter for aiohttp"),
    ],
)
async def test_the_clients_of_others_are_told_by_their_class(module: str, name: str, text: str) -> None:
    async def method(self: object, *args: object, **kwargs: object) -> None: ...

    # They have methods of our Protocol's names.
    theirs = type(name, (), {"__module__": module, "send": method, "aclose": method})
    mine = type("Mine", (theirs,), {})
    assert isinstance(theirs(), Transport)
    for look_alike in (theirs(), mine()):
        with pytest.raises(TypeError, match=text):
            AsyncAPIClient(base_url="http://h", http_client=look_alike)


async def test_with_options_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="unknown option 'colour'.*base_url"):
        client_of(Recording()).with_options(colour="red")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_retries": None}, TypeError, "max_retries must be an int"),
        ({"max_retries": -1}, ValueError, "at least 0"),
        ({"timeout": 0}, ValueError, "more than 0"),
        ({"deadline": -1}, ValueError, "deadline"),
        ({"headers": None}, TypeError, "headers must be a mapping"),
        ({"params": "a=1"}, TypeError, "params must be a mapping"),
        ({"headers": {"a": "\n"}}, ValueError, "control"),
        ({"headers": {"a": 1}}, TypeError, "'a'"),
        ({"params": {"a": b"b"}}, TypeError, "'a'"),
        ({"colour": "red"}, TypeError, "unknown option 'colour'"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, ValueError, "Transfer-Encoding"),
        ({"headers": {"Content-Length": "7"}}, ValueError, "Content-Length is 7"),
        ({"files": b"abc"}, TypeError, "files= takes a mapping"),
        ({"compress": "br"}, ValueError, "compress must be 'gzip' or 'zstd'"),
        ({"progress": 1}, TypeError, "progress must be callable"),
    ],
)
async def test_wrong_options_of_a_request_are_refused_before_anything_is_sent(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    transport = Recording()
    with pytest.raises(error, match=text):
        await client_of(transport).post("/", cast_to=object, options=options)
    assert transport.requests == []


async def test_wrong_arguments_of_verbs_are_refused_before_anything_is_sent() -> None:
    transport = Recording()
    client = client_of(transport)
    with pytest.raises(TypeError, match="body= or content="):
        await client.post("/", cast_to=object, body={}, content=b"")
    with pytest.raises(TypeError, match="a path or a content"):
        await client.post("/", cast_to=object, files={"a": "b"})
    with pytest.raises(TypeError, match="body= or form="):
        await client.put("/", cast_to=object, body={}, form={"a": "b"})
    with pytest.raises(ValueError, match="GET requests have no body"):
        await client.request(object, {"method": "get", "json_data": {}})
    with pytest.raises(ValueError, match="HEAD requests have no body"):
        await client.request(object, {"method": "head", "extra_json": {"a": 1}})
    with pytest.raises(ValueError, match="climbs out"):
        await client.get("/%2e%2e/x", cast_to=object)
    with pytest.raises(ValueError, match="scheme 'file'|no host"):
        await client.get("file:///etc/passwd", cast_to=object)
    with pytest.raises(ValueError, match="no token"):
        await client.request(object, {"method": "G ET"})
    with pytest.raises(TypeError, match="RequestOptions or a mapping"):
        await client.request(object, [("method", "get")])  # type: ignore[arg-type]
    assert transport.requests == []


async def test_a_transport_that_returns_no_response_is_a_type_error() -> None:
    class Bad(Recording):
        async def send(self, request: Request, **others: Any) -> Any:
            return 200

    with pytest.raises(TypeError, match=r"send\(\) must return a Response, not int"):
        await client_of(Bad()).get("/", cast_to=int)


# --- which layer wins ----------------------------------------------------------------------------------------------


async def test_headers_come_in_layers() -> None:
    class SDK(AsyncAPIClient):
        @property
        def default_headers(self) -> Mapping[str, str | Omit]:
            return {**super().default_headers, "X-SDK": "sdk", "x-layer": "sdk"}

        @property
        def auth_headers(self) -> Mapping[str, str]:
            return {"X-Api-Key": "key"}

    transport = Recording()
    plain = AsyncAPIClient(base_url="http://h", http_client=transport, version="1.2")
    await plain.post("/", cast_to=int, body={})
    sent = transport.last.headers
    assert sent["accept"] == sent["content-type"] == "application/json"
    assert sent["user-agent"] == "AsyncAPIClient/Python 1.2"
    assert sent["x-stainless-package-version"] == "1.2"
    assert sent["x-stainless-retry-count"] == "0"
    assert "authorization" not in sent
    assert "idempotency-key" not in sent

    client = SDK(
        base_url="http://h",
        http_client=transport,
        custom_headers={"ACCEPT": "client", "X-Client": "client", "X-Stainless-Lang": omit},
    )
    await client.get("/", cast_to=int)
    sent = transport.last.headers
    assert (sent["accept"], sent["x-client"], sent["x-sdk"], sent["x-api-key"]) == ("client", "client", "sdk", "key")
    assert "x-stainless-lang" not in sent
    assert "content-type" not in sent
    assert sent.get_list("accept") == ["client"]

    copy = client.with_options(custom_headers={"x-client": "copy", "X-Copy": "copy"})
    await copy.get("/", cast_to=int)
    sent = transport.last.headers
    assert (sent["accept"], sent["x-client"], sent["x-copy"]) == ("client", "copy", "copy")

    own = {"x-copy": omit, "accept": "request", "X-STAINLESS-LANG": "back", "x-api-key": omit, "User-Agent": omit}
    await copy.get("/", cast_to=int, options={"headers": own})
    sent = transport.last.headers
    assert (sent["accept"], sent["x-stainless-lang"], sent["x-client"]) == ("request", "back", "copy")
    assert not {"x-copy", "x-api-key", "user-agent"} & {name.lower() for name in sent}

    await client.get("/", cast_to=int)
    assert transport.last.headers["x-client"] == "client"  # the copy changed nothing here


@pytest.mark.parametrize("given", [Omit(), omit])
async def test_omit_takes_away_what_the_library_sets_itself(given: Omit) -> None:
    class SDK(AsyncAPIClient):
        idempotency_header = "Idempotency-Key"

    transport = Recording()
    client = SDK(base_url="http://h", http_client=transport)
    names = ("Content-Type", "x-stainless-retry-count", "accept-encoding", "idempotency-key")
    await client.post("/", cast_to=int, body={}, options={"headers": dict.fromkeys(names, given)})
    assert not set(names) & {name.lower() for name in transport.last.headers}
    assert "Content-Type" not in transport.last.headers


async def test_changing_the_platform_headers_changes_no_other_client() -> None:
    class SDK(AsyncAPIClient):
        def platform_headers(self) -> dict[str, str]:
            headers = super().platform_headers()
            headers["X-Stainless-Async"] = "anyio"
            del headers["X-Stainless-Arch"]
            return headers

    transport = Recording()
    await SDK(base_url="http://h", http_client=transport).get("/", cast_to=int)
    assert transport.last.headers["x-stainless-async"] == "anyio"
    await client_of(transport).get("/", cast_to=int)
    assert "x-stainless-async" not in transport.last.headers
    assert "x-stainless-arch" in transport.last.headers


async def test_queries_come_in_layers() -> None:
    transport = Recording()
    client = client_of(transport, base_url="https://h/v1?base=1&both=base", custom_query={"both": "client", "c": [1]})
    await client.get("/a?path=1&c%5B%5D=2", cast_to=int)
    assert transport.last.url.target == "/v1/a?base=1&both=client&path=1&c%5B%5D=2"
    copy = client.with_options(custom_query={"c": "copy"})
    await copy.get("/a", cast_to=int)
    assert transport.last.url.query == "base=1&both=client&c=copy"
    await copy.get("/a", cast_to=int, options={"params": {"c": "request", "base": omit, "both": None}})
    assert transport.last.url.query == "both=client&c=request"


async def test_how_parameters_are_written_is_the_sdks_choice() -> None:
    class SDK(AsyncAPIClient):
        @property
        def qs(self) -> Querystring:
            return Querystring(array_format="comma", nested_format="dots")

    transport = Recording()
    await SDK(base_url="http://h", http_client=transport).get(
        "/", cast_to=int, options={"params": {"a": [1, 2], "b": {"c": True}}}
    )
    assert transport.last.url.query == "a=1%2C2&b.c=true"


class WithTimeout(Recording):
    def __init__(self, timeout: Timeout) -> None:
        super().__init__()
        self.timeout = timeout


async def test_timeouts_come_in_layers() -> None:
    transport = Recording()
    client = client_of(transport)
    assert client.timeout == Timeout(600, connect=5)
    await client.get("/", cast_to=int)
    copy = client.with_options(timeout=7)
    assert (client.timeout, copy.timeout) == (Timeout(600, connect=5), Timeout(7))
    await copy.get("/", cast_to=int)
    await copy.get("/", cast_to=int, options={"timeout": Timeout(1, read=2)})
    await copy.get("/", cast_to=int, options={"timeout": None})
    await copy.get("/", cast_to=int, options={"timeout": not_given})
    assert transport.timeouts == [
        Timeout(600, connect=5),
        Timeout(7),
        Timeout(1, read=2),
        Timeout(None),
        Timeout(7),
    ]
    assert client.with_options(timeout=None).timeout == Timeout(None)
    assert copy.with_options(timeout=not_given).timeout == Timeout(7)


async def test_the_timeout_of_a_transport_counts_where_the_client_says_nothing() -> None:
    transport = WithTimeout(Timeout(3))
    assert client_of(transport).timeout == Timeout(3)
    assert client_of(transport, timeout=None).timeout == Timeout(None)
    assert client_of(transport, timeout=600).timeout == Timeout(600)
    assert client_of(WithTimeout(Timeout(600, connect=5))).timeout == Timeout(600, connect=5)


async def test_deadlines_come_in_layers() -> None:
    transport = Recording()
    client = client_of(transport)
    assert client.deadline is None
    await client.get("/", cast_to=int)
    copy = client.with_options(deadline=50)
    for deadline in (not_given, 20, None):
        await copy.get("/", cast_to=int, options={"deadline": deadline})
    now = anyio.current_time()
    left = [None if deadline is None else round((deadline - now) / 10) for deadline in transport.deadlines]
    assert left == [None, 5, 2, None]
    assert copy.with_options(deadline=None).deadline is None


async def test_retries_come_in_layers() -> None:
    transport = Recording(*[500] * 100)
    client = client_of(transport, retry=RetryPolicy(wait_initial=0))
    assert client.max_retries == 2

    async def attempts(client: AsyncAPIClient, **options: Any) -> int:
        with pytest.raises(APIStatusError) as caught:
            await client.get("/", cast_to=int, options=options)
        return len(caught.value.attempts)

    assert await attempts(client) == 3
    copy = client.with_options(max_retries=0)
    assert await attempts(copy) == 1
    assert await attempts(copy, max_retries=1) == 2
    assert await attempts(client, max_retries=0) == 1
    assert await attempts(client.with_options(retry=RetryPolicy(statuses=()))) == 1


async def test_everything_else_is_replaced_by_with_options() -> None:
    transport, other = Recording(), Recording()
    client = client_of(transport, auth="t", version="1")
    copy = client.with_options(base_url="http://other", auth=("u", "p"), http_client=other, version="2")
    await copy.get("/a", cast_to=int)
    sent = other.last.headers
    assert str(other.last.url) == "http://other/a"
    assert (sent["authorization"], sent["user-agent"]) == ("Basic dTpw", "AsyncAPIClient/Python 2")
    assert sent["x-stainless-package-version"] == "2"
    await client.get("/a", cast_to=int)
    assert transport.last.headers["authorization"] == "Bearer t"
    assert transport.last.headers["x-stainless-package-version"] == "1"
    await client.with_options(auth=None).get("/a", cast_to=int)
    assert "authorization" not in transport.last.headers


# --- credentials and origins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"auth": "t"}, "Bearer t"),
        ({"auth": ("u", "p")}, "Basic dTpw"),
        ({"base_url": "https://u:p@h"}, "Basic dTpw"),
        ({"base_url": "https://u%40:p@h"}, "Basic dUA6cA=="),
        ({"base_url": "https://u:p@h", "auth": "t"}, "Bearer t"),
        ({"auth": "t", "custom_headers": {"authorization": "mine"}}, "mine"),
    ],
)
async def test_credentials(options: dict[str, Any], expected: str) -> None:
    transport = Recording()
    client = client_of(transport, **options)
    await client.get("/", cast_to=int)
    assert transport.last.headers.get_list("authorization") == [expected]
    assert transport.last.url.userinfo is None
    # The order of keywords means nothing.
    copy = client_of(transport).with_options(**dict(reversed(options.items())))
    await copy.get("/", cast_to=int)
    assert transport.last.headers.get_list("authorization") == [expected]


async def test_userinfo_of_a_request_is_that_requests_header() -> None:
    transport = Recording()
    client = client_of(transport, auth="t")
    await client.get("https://u:p@h/x", cast_to=int)
    assert transport.last.headers["authorization"] == "Basic dTpw"
    assert str(transport.last.url) == "https://h/x"
    await client.get("https://u:p@h/x", cast_to=int, options={"headers": {"authorization": "own"}})
    assert transport.last.headers["authorization"] == "own"


@pytest.mark.parametrize(
    "url", ["https://other/x?q=1", "http://h/x?q=1", "https://h:444/x?q=1", URL("https://other/x?q=1")], ids=str
)
async def test_another_origin_gets_no_credentials(url: str | URL) -> None:
    class SDK(AsyncAPIClient):
        @property
        def auth_headers(self) -> Mapping[str, str]:
            return {"X-Api-Key": "secret"}

    transport = Recording()
    client = SDK(
        base_url="https://h/v1",
        http_client=transport,
        custom_headers={"Cookie": "c", "X-Mine": "m", "Authorization": "a", "Accept-Language": "eo", "If-Match": "x"},
        custom_query={"key": "secret"},
    )
    await client.get(url, cast_to=int, options={"headers": {"X-Own": "1", "Cookie": "own"}, "params": {"p": 2}})
    sent = transport.last
    assert sent.url.query == "q=1&p=2"
    assert sent.url.origin != "https://h"
    names = {name.lower() for name in sent.headers}
    assert not names & {"x-api-key", "authorization", "x-mine"}
    assert {"accept", "user-agent", "accept-language", "if-match", "x-own"} <= names
    assert sent.headers["cookie"] == "own"


async def test_an_absolute_url_of_the_same_origin_is_ours() -> None:
    transport = Recording()
    client = client_of(transport, auth="t", custom_query={"key": "k"}, custom_headers={"X-Mine": "m"})
    await client.get("HTTPS://H:443/other?q=1", cast_to=int)
    assert str(transport.last.url) == "https://h/other?key=k&q=1"
    assert transport.last.headers["authorization"] == "Bearer t"
    assert transport.last.headers["x-mine"] == "m"


@pytest.mark.parametrize(
    ("follow", "location", "reason"),
    [
        (False, "https://other/", "redirects are not followed: follow_redirects=False"),
        (True, "http://h/", "it leads from https to http, which allow_insecure_redirects would allow"),
    ],
)
async def test_redirects_that_are_not_followed_are_errors_that_say_so(follow: bool, location: str, reason: str) -> None:
    client = AsyncAPIClient(
        base_url="https://h",
        http_client=MockTransport(lambda request: Response(302, headers={"Location": location})),
        follow_redirects=follow,
    )
    with pytest.raises(APIStatusError) as caught:
        await client.get("/", cast_to=int)
    assert caught.value.message == f"Error code: 302 ({reason})"
    assert caught.value.status_code == 302
    assert caught.value.response.headers["location"] == location
    assert len(caught.value.attempts) == 1


# --- bodies --------------------------------------------------------------------------------------------------------


async def test_bodies_and_their_types() -> None:
    transport = Recording()
    client = client_of(transport)
    await client.post("/", cast_to=int, body={"a": "é"})
    assert transport.last.content == '{"a":"é"}'.encode()
    await client.post("/", cast_to=int, content=b"raw")
    assert (transport.last.content, "content-type" in transport.last.headers) == (b"raw", False)
    await client.post("/", cast_to=int, content=b"")
    assert (transport.last.content, transport.last.headers["content-length"]) == (b"", "0")
    await client.request(int, {"method": "get", "content": b"odd"})
    assert transport.last.content == b"odd"
    await client.patch("/", cast_to=int, body={"a": 1, "b": 2}, options={"extra_json": {"b": omit, "c": 3}})
    assert transport.last.json() == {"a": 1, "c": 3}
    await client.delete("/", cast_to=int, options={"extra_json": {"c": 3}})
    assert transport.last.json() == {"c": 3}
    await client.put("/", cast_to=int, body=[], options={"headers": {"content-type": "application/x"}})
    assert transport.last.headers.get_list("content-type") == ["application/x"]
    with pytest.raises(TypeError, match="extra_json merges into a JSON object"):
        await client.put("/", cast_to=int, body=[], options={"extra_json": {"a": 1}})


async def test_iterators_in_bodies_survive_retries_and_hooks() -> None:
    class Client(AsyncAPIClient):
        async def _prepare_options(self, options: RequestOptions) -> RequestOptions:
            assert isinstance(options.json_data, dict)
            options.json_data["more"] = True
            return options

    for cls, more in ((AsyncAPIClient, {}), (Client, {"more": True})):
        transport = Recording(500, 500)
        client = cls(base_url="http://h", http_client=transport, retry=RetryPolicy(wait_initial=0))
        body = {"a": (n for n in range(2))}
        await client.post("/", cast_to=int, body=body, options={"extra_json": {"b": iter([3])}})
        assert [request.json() for request in transport.requests] == [{"a": [0, 1], "b": [3], **more}] * 3


# --- life ----------------------------------------------------------------------------------------------------------


async def test_close_closes_the_transport_and_ends_the_client() -> None:
    transport = Recording()
    client = client_of(transport)
    assert not client.is_closed()
    await client.close()
    await client.aclose()
    assert client.is_closed()
    assert transport.closed >= 1
    for call in (client.get("/", cast_to=int), client.get_api_list("/", model=int, page=CursorPage)):
        with pytest.raises(RuntimeError, match="closed"):
            await call
    with pytest.raises(RuntimeError, match="closed"):
        async with client.open("GET", "/"):
            pass
    assert transport.requests == []


async def test_async_with_closes() -> None:
    transport = Recording()
    async with client_of(transport) as client:
        assert await client.get("/", cast_to=int) == 1
        assert transport.closed == 0
    assert transport.closed == 1


async def test_copies_share_the_transport_and_do_not_close_it() -> None:
    transport = Recording()
    client = client_of(transport)
    async with client.with_options(max_retries=0) as copy:
        assert await copy.get("/", cast_to=int) == 1
    assert copy.is_closed()
    assert transport.closed == 0
    assert await client.get("/", cast_to=int) == 1
    await client.close()
    assert transport.closed == 1


async def test_close_is_bounded() -> None:
    class Slow(Recording):
        async def aclose(self) -> None:
            await anyio.sleep(60)

    client = client_of(Slow())
    with anyio.fail_after(5):
        await client.close()
    assert client.is_closed()


async def test_requests_under_way_end_when_the_client_is_closed() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.wait_closed()

    errors: list[APIConnectionError] = []

    async def call() -> None:
        try:
            await client.get("/", cast_to=int)
        except APIConnectionError as exc:
            errors.append(exc)

    with serve(script) as peer:
        client = AsyncAPIClient(base_url=peer.url)
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            with anyio.fail_after(5):
                await anyio.to_thread.run_sync(peer.wait_for_requests, 1)
                await client.close()
    assert [len(error.attempts) for error in errors] == [1]


async def test_a_second_event_loop_is_refused() -> None:
    transport = Recording()
    client = client_of(transport)
    await client.get("/", cast_to=int)
    found: list[BaseException] = []

    def other_thread() -> None:
        for one in (client, client.with_options(max_retries=0)):
            try:
                anyio.run(lambda one=one: one.get("/", cast_to=int))
            except BaseException as exc:
                found.append(exc)

    thread = threading.Thread(target=other_thread)
    thread.start()
    await anyio.to_thread.run_sync(thread.join)
    assert [type(exc) for exc in found] == [RuntimeError, RuntimeError]
    assert "another event loop" in str(found[0])
    assert len(transport.requests) == 1
    assert await client.get("/", cast_to=int) == 1


async def test_a_client_may_be_made_in_another_thread_than_it_is_used() -> None:
    transport = Recording()
    client = await anyio.to_thread.run_sync(lambda: client_of(transport))
    assert await client.get("/", cast_to=int) == 1


async def test_resources_of_copies_use_the_copy() -> None:
    class Things(AsyncAPIResource):
        async def get(self) -> int:
            return await self._get("/things", cast_to=int)

    class SDK(AsyncAPIClient):
        @cached_property
        def things(self) -> Things:
            return Things(self)

    class Sub(SDK): ...

    transport = Recording()
    client = Sub(base_url="http://h", http_client=transport)
    assert client.things is client.things
    copy = client.with_options(custom_headers={"X-Copy": "yes"})
    assert copy.things is not client.things
    assert copy.things._client is copy
    await copy.things.get()
    assert transport.last.headers["x-copy"] == "yes"
    await client.things.get()
    assert "x-copy" not in transport.last.headers


async def test_the_deadline_ends_a_body_of_any_transport() -> None:
    async def drip() -> Any:
        while True:
            yield b"x"
            await anyio.sleep(0.02)

    client = AsyncAPIClient(
        base_url="http://h", http_client=MockTransport(lambda r: Response(content=drip())), deadline=0.1
    )
    with anyio.fail_after(5):
        with pytest.raises(DeadlineExceededError):
            await client.get("/", cast_to=bytes)
        with pytest.raises(DeadlineExceededError):
            async with client.open("GET", "/") as response:
                async for _ in response.iter_bytes():
                    pass


async def test_what_a_response_knows() -> None:
    transport = Recording(500)
    client = client_of(transport, retry=RetryPolicy(wait_initial=0))
    response = await client.get("/a?secret=1", cast_to=AsyncAPIResponse[int])
    assert (response.status_code, response.retries_taken, response.method) == (200, 1, "GET")
    assert str(response.url) == "https://h/v1/a?secret=1"
    assert response.http_version == "HTTP/1.1"
    assert response.history == ()
    assert response.is_closed in (True, False)
    assert await response.parse(to=int) == 1
    assert repr(response) == "<AsyncAPIResponse [200] GET https://h/v1/a?secret=***>"
