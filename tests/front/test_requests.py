"""The request that a plain call led to is remembered, and the next one like it gets a copy.

It must not be seen: whatever came before on a client, each request is the one that a fresh client makes for the call.
"""

from __future__ import annotations

import itertools
import pickle
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anyio_client import (
    URL,
    AsyncAPIClient,
    AsyncJSONLStream,
    AsyncStream,
    Auth,
    Headers,
    Middleware,
    MockTransport,
    Omit,
    Querystring,
    Request,
    RequestOptions,
    Response,
    RetryPolicy,
    Timeout,
    not_given,
    omit,
)
from anyio_client import _requests as module
from anyio_client._core import build
from anyio_client._model.headers import make_field
from anyio_client._wire.h1 import H1Wire
from anyio_client._wire.h11wire import H11Wire
from tests.kit.dialogues import run
from tests.kit.fuzz import examples

SECRET = "s3cret"  # in everything that belongs to the client's origin


class Wiretap:
    """A transport that keeps what it was asked: what a request was, and the request itself."""

    def __init__(self, keeps_deadline: bool = True) -> None:
        self.keeps_deadline = keeps_deadline  # ours are called with less ado than other people's
        self.answers: list[Response] = []
        self.seen: list[Any] = []
        self.requests: list[Request] = []

    async def send(self, request: Request, *, timeout: Timeout, deadline: float | None) -> Response:
        self.requests.append(request)
        self.seen.append(shown(request))
        answer = self.answers.pop(0) if self.answers else Response(200, json=1)
        return answer.unread(request)

    async def aclose(self) -> None: ...


def shown(request: Request) -> dict[str, Any]:
    """Everything about a request that a transport may look at."""
    url = request.url
    return {
        "method": request.method,
        "url": (url.origin, url.target, url.userinfo),
        "fields": list(request.headers.fields),
        "body": request.body if isinstance(request.body, bytes) else type(request.body),
        "credentials": request.credentials,
        "functions": (request.on_informational, request.trailers, request.carrier, request.server_name),
    }


def spoil(request: Request) -> None:
    """What a careless reader of ``response.request`` may do."""
    request.headers["X-Spoiled"] = "1"
    request.headers.pop("accept", None)
    request.headers.fields.reverse()
    request.method, request.url = "SPOILED", URL("https://spoiled")
    request.credentials |= {"spoiled"}


# --- any calls ------------------------------------------------------------------------------------------------------


class Signs(Auth):
    def headers_for(self, request: Request) -> dict[str, str]:
        return {"Authorization": f"{SECRET} {request.method} {request.url.path}"}


class Lines(AsyncJSONLStream[Any]):
    accept = "application/x-ndjson"


async def around_attempt(request: Request, call_next: Any) -> Any:
    request.headers["X-Attempt"] = str(len(request.headers.fields))
    request.headers.pop("user-agent", None)
    return await call_next(request)


class Elsewhere(Middleware):
    """Around the call: another request altogether."""

    async def around_call(self, request: Request, call_next: Any) -> Any:
        changed = request.copy()
        changed.headers["Accept"] = "text/changed"
        changed.headers.add("X-Call", "1")
        changed.headers.add("X-Call", "2")
        return await call_next(changed)

    async def around_attempt(self, request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        spoil(response.http_response.request)
        return response


BASES = [URL("https://h/v1"), URL("https://h/v1?k=base"), URL("https://other/v2")]


def usual_class(state: dict[str, Any]) -> type[AsyncAPIClient]:
    """One in which no subclass has a say."""
    return type("Usual", (AsyncAPIClient,), {})


def own_class(state: dict[str, Any]) -> type[AsyncAPIClient]:
    """One that says everything itself, and something else from call to call."""

    class Own(AsyncAPIClient):
        @property
        def base_url(self) -> URL:
            return state.get("base_url") or super().base_url

        @property
        def auth_headers(self) -> Mapping[str, str]:
            return state.get("auth_headers", super().auth_headers)

        @property
        def default_headers(self) -> Mapping[str, str | Omit]:
            return {**super().default_headers, **state.get("default_headers", {})}

        @property
        def default_query(self) -> Mapping[str, object]:
            return {**super().default_query, **state.get("default_query", {})}

        @property
        def user_agent(self) -> str:
            return state.get("user_agent") or super().user_agent

        @property
        def qs(self) -> Querystring:
            return state.get("qs") or super().qs

        def platform_headers(self) -> dict[str, str]:
            return {**super().platform_headers(), **state.get("platform_headers", {})}

    return Own


def hooked_class(state: dict[str, Any]) -> type[AsyncAPIClient]:
    """One whose hooks change each attempt."""

    class Hooked(AsyncAPIClient):
        async def _prepare_options(self, options: RequestOptions) -> RequestOptions:
            for name, value in state.get("options", {}).items():
                setattr(options, name, value)
            return RequestOptions(method=options.method, url=options.url) if state.get("others") else options

        async def _prepare_request(self, request: Request) -> None:
            request.headers["X-Signed"] = f"{request.method} {request.url.path} {len(request.headers.fields)}"
            request.headers.pop("x-stainless-lang", None)

    return Hooked


CLASSES = [usual_class, own_class, hooked_class]
CONSTRUCTION: dict[str, list[Any]] = {
    "base_url": ["https://h/v1", "https://h/v1/?k=base", f"https://user:{SECRET}@h/v1"],
    "custom_headers": [None, {"X-Key": SECRET}, {"Accept": omit, "Accept-Language": "en"}, {"User-Agent": "mine"}],
    "custom_query": [None, {"key": SECRET}, {"a": [1, 2]}],
    "auth": [None, SECRET, ("user", SECRET), Signs()],
    "middleware": [(), (), (), [around_attempt], [Elsewhere()]],
}
STATE: dict[str, list[Any]] = {
    "base_url": [None, *BASES],
    "auth_headers": [{}, {"X-Key": SECRET}, {"X-Key": f"{SECRET}-2"}, {"Authorization": SECRET, "X-Other": SECRET}],
    "default_headers": [{}, {"X-Default": SECRET}, {"Accept": "text/x"}, {"Accept": omit}, {"X-Key": omit}],
    "default_query": [{}, {"q": SECRET}, {"q": [1, 2]}, {"q": [1, 2], "z": {"a": 1}}, {"q": "1"}],
    "user_agent": [None, "one", "two"],
    "qs": [None, Querystring("repeat"), Querystring("comma", "dots")],
    "platform_headers": [{}, {"X-Platform": SECRET}],
    "options": [{}, {"headers": {"X-Option": "1"}}, {"url": "/option"}, {"max_retries": 0}, {"params": {"o": 1}}],
    "others": [False, True],
}
ATTRIBUTES: dict[str, list[Any]] = {
    "retry_count_header": [None, "x-stainless-retry-count", "X-Count", "accept"],
    "idempotency_header": [None, "Idempotency-Key", "X-Idem"],
}


def needs_x_key(self: Any, headers: Headers, omitted: frozenset[str]) -> None:
    if "x-key" not in headers and "x-key" not in omitted:
        raise ValueError("no X-Key")
    headers["X-Validated"] = "1"


async def signs(self: Any, request: Request) -> None:
    request.headers["X-Patched"] = "1"


PATCHES: dict[str, Any] = {
    "_validate_headers": needs_x_key,
    "_prepare_request": signs,
    "default_headers": property(lambda self: {**AsyncAPIClient.default_headers.__get__(self), "X-Patched": SECRET}),
    "user_agent": property(lambda self: "patched"),
    "platform_headers": lambda self: {},
}

PLAIN = st.fixed_dictionaries(
    {
        "url": st.sampled_from(["/a", "/b", "/a?x=1", "https://h/v1/a", "https://other/a", f"https://u:{SECRET}@h/a"]),
        "method": st.sampled_from(["GET", "GET", "get", "POST", "PATCH", "DELETE"]),
    }
)
BODIES: list[dict[str, Any]] = [
    {},
    {"json_data": None},
    {"json_data": {"a": 1}},
    {"json_data": []},
    {"json_data": "ü"},
    {"extra_json": {"a": 1}},
    {"content": b""},
    {"content": b"bytes"},
    {"form": {"a": "b"}},
    {"files": {"f": b"file"}, "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
    {"json_data": {"a": 1}, "compress": "gzip"},
]
OPTIONS: dict[str, list[Any]] = {
    "url": [URL("https://other/a"), "https://H:443/v1/a", "https://u:mine@other/a", "", "/a/../b?y#z"],
    "headers": [
        {}, {"X-Own": "1"}, {"Authorization": "mine"}, {"accept": "text/own"}, {"Accept": omit}, {"x-key": omit},
        {"X-Stainless-Retry-Count": omit}, {"X-Count": "mine"}, {"Content-Type": "text/own"}, {"content-type": omit},
        {"idempotency-key": omit}, {"Host": "mine"}, {"Content-Length": "99"}, {"X-Bad": "\n"},
    ],
    "params": [{}, {"p": 1}, {"k": omit, "key": omit}, {"a": [True, None]}],
    "idempotency_key": [None, "mine"],
    "expect_continue": [True],
    "max_retries": [0, 1],
    "follow_redirects": [False],
    "on_informational": [print],
    "trailers": [dict],
}  # fmt: skip


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any], Any]:
    """The options of a call, and the class of its stream: most are plain."""
    options: dict[str, Any] = {**draw(PLAIN), **draw(st.sampled_from(BODIES[:4] + BODIES))}
    for name in draw(st.lists(st.sampled_from(sorted(OPTIONS)), max_size=2) if draw(st.booleans()) else st.just([])):
        options.setdefault(name, None)
        options[name] = draw(st.sampled_from(OPTIONS[name]))
    kind = draw(st.sampled_from(["", "", "", "failing", "moved", "moved far"]))
    return kind, options, draw(st.sampled_from([None, None, None, AsyncStream, Lines]))


def choice(table: dict[str, list[Any]]) -> st.SearchStrategy[tuple[str, Any]]:
    pairs = [(name, value) for name, values in sorted(table.items()) for value in values]
    return st.sampled_from(pairs)


KINDS = ["", "failing", "moved", "moved far"]
STREAMS = [None, AsyncStream, Lines]
# What happens between two calls that are the same; or a call that differs from them in one thing.
CHANGES: list[tuple[str, st.SearchStrategy[Any]]] = [
    ("varied", choice(OPTIONS)),
    ("varied", st.tuples(st.just("body"), st.sampled_from(BODIES))),
    ("varied", st.tuples(st.just("method"), st.sampled_from(["GET", "post", "PATCH", "DELETE"]))),
    ("varied", st.tuples(st.just("stream"), st.sampled_from(STREAMS))),
    ("varied", st.tuples(st.just("answers"), st.sampled_from(KINDS))),
    ("state", choice(STATE)),
    ("of the class", choice(ATTRIBUTES)),
    ("of the instance", choice(ATTRIBUTES)),
    ("with_options", choice({**CONSTRUCTION, "version": ["2"], "max_retries": [0]})),
    ("patch", st.sampled_from(sorted(PATCHES))),
    ("call", calls()),  # from here on it is another one that is repeated
]
STEPS = st.one_of([st.tuples(st.just(kind), values) for kind, values in CHANGES])


def varied(call: tuple[str, dict[str, Any], Any], name: str, value: Any) -> tuple[str, dict[str, Any], Any]:
    answers, options, stream_cls = call
    match name:
        case "body":
            return answers, {**options, **value}, stream_cls
        case "stream":
            return answers, options, value
        case "answers":
            return value, options, stream_cls
        case _:
            return answers, {**options, name: value}, stream_cls


def answers_of(kind: str) -> list[Response]:
    match kind:
        case "failing":
            return [Response(500), Response(500), Response(200, json=1)]
        case "moved":
            return [Response(307, headers={"Location": "/moved"})]
        case "moved far":
            return [Response(307, headers={"Location": "https://far/moved"}), Response(200, json=1)]
        case _:
            return []


async def outcome(
    client: AsyncAPIClient, tap: Wiretap, call: tuple[str, dict[str, Any], Any]
) -> tuple[list[Any], list[Request], Any]:
    """What the transport saw in one call, the requests themselves, and what came of it."""
    answers, options, stream_cls = call
    tap.answers, tap.seen, tap.requests = answers_of(answers), [], []
    if stream_cls is not None:
        tap.answers = tap.answers or [Response(200, headers={"Content-Type": "text/event-stream"}, content=b"")]
    end: Any = None
    try:
        made = client._make_call(object, RequestOptions(**options), stream_cls is not None, stream_cls)
        result = await made.result()
        if stream_cls is not None:
            await result.close()
        end = made.retries_taken
        if made.response is not None:
            spoil(made.response.request)
    except Exception as exc:
        end = (type(exc), str(exc))
    return tap.seen, tap.requests, end


@given(
    st.sampled_from(CLASSES),
    st.booleans(),
    st.lists(choice(CONSTRUCTION), max_size=2),
    calls(),
    st.lists(STEPS, max_size=9),
)
@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_each_request_is_the_one_that_a_fresh_client_makes(
    class_of: Callable[[dict[str, Any]], type[AsyncAPIClient]],
    keeps_deadline: bool,
    construction: list[tuple[str, Any]],
    first: tuple[str, dict[str, Any], Any],
    steps: list[tuple[str, Any]],
) -> None:
    state: dict[str, Any] = {}
    cls = class_of(state)
    tap = Wiretap(keeps_deadline)
    given: dict[str, Any] = {
        "base_url": "https://h/v1",
        "http_client": tap,
        "retry": RetryPolicy(wait_initial=0),
        **dict(construction),
    }
    history: list[Callable[[AsyncAPIClient], AsyncAPIClient]] = []  # what was done to the client since
    sent: list[Request] = []

    def fresh() -> AsyncAPIClient:
        client = cls(**given)
        for change in history:
            client = change(client)
        return client

    async def compare(client: AsyncAPIClient, call: tuple[str, dict[str, Any], Any]) -> None:
        seen, requests, end = await outcome(client, tap, call)
        expected, _, end_of_fresh = await outcome(fresh(), tap, call)
        assert (seen, end) == (expected, end_of_fresh)
        check_secrets(seen, client.base_url.origin)
        check_apart(requests, sent)
        for request in requests:
            spoil(request)
        sent.extend(requests)

    async def run() -> None:
        client, repeated = fresh(), first
        await compare(client, repeated)
        for kind, value in steps:
            match kind, value:
                case "varied", (name, new):
                    await compare(client, varied(repeated, name, new))
                case "call", _:
                    repeated = value
                case "state", (name, new):
                    state[name] = new
                case "of the class", (name, new):
                    setattr(cls, name, new)
                case "of the instance", (name, new):
                    setattr(client, name, new)
                    history.append(lambda made, name=name, new=new: setattr(made, name, new) or made)
                case "with_options", (name, new):
                    client = client.with_options(**{name: new})
                    history.append(lambda made, name=name, new=new: made.with_options(**{name: new}))
                case _:
                    if vars(cls).get(value) is PATCHES[value]:
                        delattr(cls, value)
                    elif value not in vars(cls):
                        setattr(cls, value, PATCHES[value])
            await compare(client, repeated)

    with mock.patch.object(uuid, "uuid4", lambda: "a key"):
        anyio.run(run)


def check_secrets(seen: list[Any], origin: str) -> None:
    """To another origin goes nothing that belongs to the client's."""
    for one in seen:
        if one["url"][0] != origin:
            written = [field for field in one["fields"] if not field[0].startswith("x-signed")]
            assert SECRET not in repr((written, one["url"]))


def check_apart(requests: list[Request], before: list[Request]) -> None:
    """No two calls share their fields."""
    known = {id(request.headers) for request in before} | {id(request.headers.fields) for request in before}
    for request in requests:
        assert id(request.headers) not in known
        assert id(request.headers.fields) not in known


# --- single cases ---------------------------------------------------------------------------------------------------


def client_of(cls: type[AsyncAPIClient] = AsyncAPIClient, **options: Any) -> AsyncAPIClient:
    transport = MockTransport(lambda request: Response(200, json=1))
    return cls(**{"base_url": "https://h/v1", "http_client": transport, **options})


def prepare(client: AsyncAPIClient, **options: Any) -> Request:
    """The request that a call of this client would send."""
    made: list[Request | None] = []

    async def run() -> None:
        client._home = type(client._home)()  # each run has a loop of its own
        made.append(client._make_call(object, RequestOptions(**options), False, None)._prepare_nowait())

    anyio.run(run)
    assert made[0] is not None
    return made[0]


def test_a_request_is_remembered_and_what_becomes_of_a_copy_changes_no_later_one() -> None:
    client = client_of(auth="token")
    first = shown(request := prepare(client, url="/a"))
    assert len(client._known_requests._known) == 1
    for _ in range(3):
        spoil(request)
        request = prepare(client, url="/a")
        assert shown(request) == first
    assert len(client._known_requests._known) == 1


def test_what_is_remembered_is_bounded() -> None:
    client = client_of()
    known = client._known_requests._known

    async def run() -> None:
        for n in range(2 * module.MAX_KNOWN + 10):
            for _ in range(2):
                call = client._make_call(object, RequestOptions(url=f"/{n}"), False, None)
                request = call._prepare_nowait()
                assert request is not None
                assert request.url.target == f"/v1/{n}"
            assert len(client._known_requests._known) <= module.MAX_KNOWN

    anyio.run(run)
    assert client._known_requests._known is known
    assert module.MAX_KNOWN == 500


def test_copies_of_a_client_remember_on_their_own() -> None:
    client = client_of(auth="token")
    assert prepare(client, url="/a").headers["authorization"] == "Bearer token"
    other = client.with_options(auth="other", base_url="https://o")
    assert prepare(other, url="/a").headers["authorization"] == "Bearer other"
    assert prepare(other, url="/a").url == URL("https://o/a")
    assert prepare(client, url="/a").headers["authorization"] == "Bearer token"
    assert prepare(client, url="/a").url == URL("https://h/v1/a")


def test_credentials_stay_at_home_whatever_came_before() -> None:
    class Own(AsyncAPIClient):
        home = URL("https://h/v1")
        key = SECRET

        @property
        def base_url(self) -> URL:
            return self.home

        @property
        def auth_headers(self) -> Mapping[str, str]:
            return {"X-Key": self.key, "Accept-Key": self.key}  # one has a name that may pass

    client = client_of(Own, custom_query={"key": SECRET})
    for _ in range(2):
        assert SECRET in repr(prepare(client, url="https://h/v1/a").headers.fields)
        assert SECRET not in repr(shown(prepare(client, url="https://other/a")))
    Own.home = URL("https://other")  # who was foreign is at home, and the other way round
    for _ in range(2):
        assert SECRET not in repr(shown(prepare(client, url="https://h/v1/a")))
        assert prepare(client, url="https://other/a").headers["x-key"] == SECRET
    Own.key = "new"
    assert prepare(client, url="https://other/a").headers["x-key"] == "new"
    Own.home = URL("https://h/v1")
    for _ in range(2):
        assert "new" not in repr(shown(prepare(client, url="https://other/a")))


def test_userinfo_of_one_url_is_no_other_ones() -> None:
    client = client_of(auth="token")
    for _ in range(2):
        assert prepare(client, url="https://a:b@h/v1/x").headers["authorization"] == "Basic YTpi"
        assert prepare(client, url="https://h/v1/x").headers["authorization"] == "Bearer token"
        assert prepare(client, url="https://a:c@h/v1/x").headers["authorization"] == "Basic YTpj"
        assert prepare(client, url="https://a:b@h/v1/x").url.userinfo is None


@pytest.mark.anyio
@pytest.mark.parametrize("count_header", ["x-stainless-retry-count", "X-Count"])
async def test_each_attempt_says_which_one_it_is(count_header: str) -> None:
    tap = Wiretap()
    client = AsyncAPIClient(base_url="https://h", http_client=tap, retry=RetryPolicy(wait_initial=0))
    client.retry_count_header = count_header
    for _ in range(2):
        tap.answers = [Response(500), Response(500), Response(200, json=1)]
        assert await client.get("/a", cast_to=object) == 1
    assert [request.headers[count_header] for request in tap.requests] == ["0", "1", "2"] * 2
    assert len({id(request.headers) for request in tap.requests}) == 6


def test_a_query_that_is_written_in_another_way() -> None:
    class Own(AsyncAPIClient):
        how = Querystring("brackets")

        @property
        def qs(self) -> Querystring:
            return self.how

    client = client_of(Own, custom_query={"a": [1, 2]})
    assert prepare(client, url="/a").url.target == "/v1/a?a%5B%5D=1&a%5B%5D=2"
    Own.how = Querystring("repeat")
    assert prepare(client, url="/a").url.target == "/v1/a?a=1&a=2"


def test_a_get_with_a_body_and_one_without_are_two() -> None:
    client = client_of()
    for _ in range(2):
        assert "content-type" not in prepare(client, method="DELETE", url="/a").headers
        assert prepare(client, method="DELETE", url="/a", json_data=[]).headers["content-type"] == "application/json"


def test_a_query_of_equal_values_that_are_written_differently() -> None:
    class Own(AsyncAPIClient):
        query: Mapping[str, object] = {}

        @property
        def default_query(self) -> Mapping[str, object]:
            return self.query

    client = client_of(Own)
    written = []
    for value in (1, True, 1.0):
        Own.query = {"a": value}
        written.append(prepare(client, url="/a").url.target)
    assert written == ["/v1/a?a=1", "/v1/a?a=true", "/v1/a?a=1.0"]


def test_a_query_whose_order_changes() -> None:
    class Own(AsyncAPIClient):
        query: Mapping[str, object] = {}

        @property
        def default_query(self) -> Mapping[str, object]:
            return self.query

    client = client_of(Own)
    Own.query = {"a": 1, "b": 2}
    assert prepare(client, url="/a").url.target == "/v1/a?a=1&b=2"
    Own.query = {"b": 2, "a": 1}
    assert prepare(client, url="/a").url.target == "/v1/a?b=2&a=1"


@pytest.mark.parametrize("own", [False, True])
def test_a_list_of_the_query_that_grows(own: bool) -> None:
    tags = ["x"]

    class Own(AsyncAPIClient):
        @property
        def default_query(self) -> Mapping[str, object]:
            return {"t": tags}

    client = client_of(Own) if own else client_of(custom_query={"t": tags})
    assert prepare(client, url="/a").url.target == "/v1/a?t%5B%5D=x"
    tags.append("y")
    assert prepare(client, url="/b").url.target == "/v1/b?t%5B%5D=x&t%5B%5D=y"
    assert prepare(client, url="/a").url.target == "/v1/a?t%5B%5D=x&t%5B%5D=y"


def test_fields_go_out_in_the_order_that_they_have_now() -> None:
    class Own(AsyncAPIClient):
        fields: Mapping[str, str | Omit] = {}

        @property
        def default_headers(self) -> Mapping[str, str | Omit]:
            return self.fields

    client = client_of(Own)
    Own.fields = {"A": "1", "B": "2"}
    assert list(prepare(client, url="/a").headers)[:2] == ["A", "B"]
    Own.fields = {"B": "2", "A": "1"}
    assert list(prepare(client, url="/a").headers)[:2] == ["B", "A"]


@pytest.mark.parametrize("name", ["default_headers", "auth_headers", "default_query"])
def test_a_mapping_of_a_subclass_that_is_changed_in_place(name: str) -> None:
    said = {"X-Key": "old"}
    client = client_of(type("Own", (AsyncAPIClient,), {name: property(lambda self: said)}))
    for value in ("old", "new", "old"):
        said["X-Key"] = value
        request = prepare(client, url="/a")
        assert value in (request.headers.get("x-key"), request.url.query.removeprefix("X-Key="))
    said["X-More"] = "more"
    assert "more" in repr(shown(prepare(client, url="/a")))
    said.clear()
    assert "more" not in repr(shown(prepare(client, url="/a")))


@pytest.mark.parametrize("count", [2, 3])
def test_keys_that_take_turns(count: int) -> None:
    """One key a call: looked at as often, and remembered as what it was made of."""

    class Own(AsyncAPIClient):
        keys = itertools.cycle("ABC"[:count])

        @property
        def auth_headers(self) -> Mapping[str, str]:
            return {"X-Key": next(self.keys)}

    client = client_of(Own)
    sent = "".join(prepare(client, url="/a").headers["x-key"] for _ in range(2 * count))
    assert sent == 2 * "ABC"[:count]


def test_a_key_that_changes_while_a_request_is_made_is_not_mixed_up_with_the_next() -> None:
    """Each call has the key that holds when it asks last, as one whose time runs out between two looks does."""

    class Own(AsyncAPIClient):
        given: list[str] = ["old", "new", "new", "new", "new", "new"]

        @property
        def auth_headers(self) -> Mapping[str, str]:
            return {"X-Key": self.given.pop(0)}

    client = client_of(Own)
    assert prepare(client, url="/a").headers["x-key"] == "old"
    assert prepare(client, url="/a").headers["x-key"] == "new"


PATCHED: list[tuple[str, Any, str]] = [
    ("user_agent", "patched", "user-agent"),
    ("platform_headers", lambda self: {"X-P": "patched"}, "x-p"),
    ("auth_headers", {"X-P": "patched"}, "x-p"),
    ("default_headers", {"X-P": "patched"}, "x-p"),
    ("_validate_headers", lambda self, headers, omitted: headers.update({"X-P": "patched"}), "x-p"),
]


@pytest.mark.parametrize(("name", "new", "field"), PATCHED)
def test_a_patch_of_a_class_holds_for_what_was_called_before(name: str, new: Any, field: str) -> None:
    mine = type("Mine", (AsyncAPIClient,), {})
    client = client_of(mine)
    prepare(client, url="/a")
    with mock.patch.object(mine, name, new):
        assert prepare(client, url="/b").headers[field] == "patched"
        assert prepare(client, url="/a").headers[field] == "patched"


@pytest.mark.parametrize(("name", "new", "field"), PATCHED)
def test_a_patch_of_the_librarys_class_holds_for_what_was_called_before(name: str, new: Any, field: str) -> None:
    client = client_of()
    prepare(client, url="/a")
    with mock.patch.object(AsyncAPIClient, name, new):
        assert prepare(client, url="/b").headers[field] == "patched"
        assert prepare(client, url="/a").headers[field] == "patched"


@pytest.mark.parametrize(("name", "new", "field"), PATCHED)
def test_a_patch_that_is_taken_back_leaves_nothing_behind(name: str, new: Any, field: str) -> None:
    mine = type("Mine", (AsyncAPIClient,), {})
    client = client_of(mine)
    with mock.patch.object(mine, name, new):
        assert prepare(client, url="/a").headers[field] == "patched"
    assert shown(prepare(client, url="/a")) == shown(prepare(client_of(mine), url="/a"))


def test_a_field_that_the_request_gives_is_not_remembered() -> None:
    client = client_of()
    for headers in (not_given, {"X-Own": "1"}, {"Accept": omit}, not_given, {}):
        request = prepare(client, url="/a", headers=headers)
        assert request.headers.get("x-own") == ("1" if headers and "X-Own" in headers else None)
        assert ("accept" in request.headers) is not (bool(headers) and "Accept" in headers)


EDITS = st.tuples(
    st.sampled_from(["set", "add", "delete", "default", "append", "copy", "clear", "frame", "pickle", "update"]),
    st.sampled_from(
        ["Accept", "accept", "X-Stainless-OS", "x-stainless-retry-count", "X-New", "Host", "Content-Length", "TE"]
    ),
    st.sampled_from(["1", "ü", "", "0"]),
)


@given(st.lists(EDITS, max_size=6), st.booleans())
@settings(max_examples=examples(300))
def test_what_is_changed_in_a_copy_is_what_is_written(edits: list[tuple[str, str, str]], forwarded: bool) -> None:
    """The codec that remembers lines, and h11, which does not, write the same; and each time the same as before."""
    request = remembered()
    for how, name, value in edits:
        headers = request.headers
        match how:
            case "set":
                headers[name] = value
            case "add":
                headers.add(name, value)
            case "delete":
                headers.pop(name, None)
            case "default":
                headers.setdefault(name, value)
            case "append":
                headers.fields.append(make_field(name, value))
            case "copy":
                request = request.copy()
            case "clear":
                headers.clear()
            case "update":
                headers.update({name: value, "X-More": value})
            case "pickle":
                request.headers = pickle.loads(pickle.dumps(headers))
            case _:
                try:
                    build.frame(request)
                except ValueError:
                    return
    request.headers.setdefault("Host", "h")
    steps = [("open", request, True)]
    options: dict[str, Any] = {"forwarded": forwarded, "proxy_authorization": "Basic eA==" if forwarded else None}
    assert run(H1Wire(**options), steps) == run(H11Wire(**options), steps)
    assert shown(remembered()) == AS_FIRST


REMEMBERING_CLIENT = client_of()
AS_FIRST = shown(prepare(REMEMBERING_CLIENT, url="/a"))


def remembered() -> Request:
    """The copy of a request that was remembered."""
    return prepare(REMEMBERING_CLIENT, url="/a")
