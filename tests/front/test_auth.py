"""Credentials over real sockets: every kind, what a 401 leads to, who gets them, and who does not."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import pytest

from anyio_client import (
    AsyncAPIClient,
    Auth,
    AuthenticationError,
    BasicAuth,
    BearerAuth,
    ConnectError,
    DeadlineExceededError,
    DigestAuth,
    HeaderAuth,
    HTTPTransport,
    Limits,
    OAuth2ClientCredentials,
    Request,
    Response,
    RetryPolicy,
    Timeout,
    omit,
)
from tests.kit.peers import Peer, ScriptedServer, answer_each, ok, serve
from tests.kit.tokens import Guarded, field_of, path_of, token

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]

NO = ok(b'{"error": "who are you?"}', status="401 Unauthorized")
QUICK = RetryPolicy(wait_initial=0)


def client_of(server: ScriptedServer, auth: Any, **options: Any) -> AsyncAPIClient:
    return AsyncAPIClient(**{"base_url": server.url, "auth": auth, "retry": QUICK, **options})


class Provider:
    """Gives k1, k2, ... up to *most*; or always k."""

    def __init__(self, most: int = 99) -> None:
        self.count = 0
        self.most = most

    def __call__(self) -> str:
        self.count += self.count < self.most
        return f"k{self.count or ''}"


class AsyncProvider(Provider):
    async def __call__(self) -> str:  # type: ignore[override]
        await anyio.sleep(0.001)
        return super().__call__()


def sent(server: ScriptedServer, name: str = "authorization") -> list[str | None]:
    return [field_of(request, name) for request in server.requests]


# --- the kinds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        ("t", "Authorization", "Bearer t"),
        (BearerAuth("t"), "Authorization", "Bearer t"),
        (("Aladdin", "open sesame"), "Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        (BasicAuth("test", "123£"), "Authorization", "Basic dGVzdDoxMjPCow=="),
        (BasicAuth("", "a:b"), "Authorization", "Basic OmE6Yg=="),
        (HeaderAuth("X-Api-Key", "k"), "X-Api-Key", "k"),
        (HeaderAuth("X-Api-Key", lambda: "k"), "X-Api-Key", "k"),
        (BearerAuth(AsyncProvider(0)), "Authorization", "Bearer k"),
        (None, "Authorization", None),
    ],
)
async def test_every_kind(auth: Any, name: str, value: str | None) -> None:
    with serve(answer_each(ok())) as server:
        async with client_of(server, auth) as client:
            await client.get("/a", cast_to=object)
    assert sent(server, name) == [value]


@pytest.mark.parametrize("auth", ["t", ("u", "p"), HeaderAuth("X-Api-Key", "k"), BearerAuth("t")])
async def test_what_is_always_the_same_is_not_asked_for_again(auth: Any) -> None:
    with serve(answer_each(NO)) as server:
        async with client_of(server, auth) as client:
            with pytest.raises(AuthenticationError, match="401 - who are you?") as caught:
                await client.get("/a", cast_to=object)
    assert len(server.requests) == len(caught.value.attempts) == 1


@pytest.mark.parametrize("make", [Provider, AsyncProvider])
async def test_a_401_asks_once_more_and_is_no_retry(make: type[Provider]) -> None:
    provider = make()
    with serve(answer_each(NO, ok())) as server:
        async with client_of(server, BearerAuth(provider), max_retries=0) as client:
            async with client.open("POST", "/a", body={"b": 1}) as raw:
                await raw.read()
    assert sent(server) == ["Bearer k1", "Bearer k2"]
    assert [request.endswith(b'{"b":1}') for request in server.requests] == [True, True]
    assert sent(server, "x-stainless-retry-count") == ["0", "0"]
    assert len(raw.http_response.attempts) == 1
    assert raw.retries_taken == 0
    assert server.connections == 1


async def test_a_second_401_is_the_answer() -> None:
    with serve(answer_each(NO)) as server:
        async with client_of(server, BearerAuth(Provider())) as client:
            with pytest.raises(AuthenticationError) as caught:
                await client.get("/a", cast_to=object)
            with pytest.raises(AuthenticationError):
                await client.get("/a", cast_to=object)
    assert len(caught.value.attempts) == 1
    assert sent(server) == [f"Bearer k{n}" for n in (1, 2, 3, 4)]


async def test_a_function_is_asked_before_each_attempt_and_a_call_refreshes_once() -> None:
    wrong = ok(status="500 No")
    with serve(answer_each(NO, wrong, NO)) as server:
        async with client_of(server, BearerAuth(Provider()), max_retries=1) as client:
            with pytest.raises(AuthenticationError) as caught:
                await client.get("/a", cast_to=object)
    assert [attempt.status_code for attempt in caught.value.attempts] == [500, 401]
    assert sent(server) == ["Bearer k1", "Bearer k2", "Bearer k3"]


@pytest.mark.parametrize(
    ("content", "requests"),
    [(b"abc", 2), ([b"a", b"bc"], 2), (lambda: iter([b"abc"]), 2), (iter([b"abc"]), 1)],
    ids=["bytes", "list", "callable", "iterator"],
)
async def test_a_body_that_cannot_be_sent_again_is_not(content: Any, requests: int) -> None:
    with serve(answer_each(NO, ok())) as server:
        async with client_of(server, BearerAuth(Provider())) as client:
            if requests == 1:
                with pytest.raises(AuthenticationError):
                    await client.post("/a", cast_to=object, content=iter([b"abc"]))
            else:
                await client.post("/a", cast_to=object, content=content)
    assert len(server.requests) == requests
    assert all(b"abc" in request.replace(b"\r\n2\r\n", b"") for request in server.requests)


# --- functions that do wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (KeyError("mine"), KeyError, "mine"),
        (None, TypeError, "the function for Authorization must give a str, not NoneType"),
        (b"s3cret", TypeError, "must give a str, not bytes"),
        (5, TypeError, "must give a str, not int"),
        ("", ValueError, "gave an empty text"),
        (" \t", ValueError, "gave an empty text"),
        ("s3cret\r\nX: y", ValueError, "control character"),
    ],
)
@pytest.mark.spread
async def test_a_function_that_does_wrong(is_async: bool, given: Any, error: type[Exception], message: str) -> None:
    calls = 0

    def give() -> Any:
        nonlocal calls
        calls += 1
        if isinstance(given, Exception):
            raise given
        return given

    async def give_later() -> Any:
        return give()

    with serve(answer_each(ok())) as server:
        async with client_of(server, BearerAuth(give_later if is_async else give)) as client:
            with pytest.raises(error, match=message) as caught:
                await client.get("/a", cast_to=object)
            assert "s3cret" not in f"{caught.value} {caught.value!r}"
    assert (calls, server.requests) == (1, [])


async def test_our_errors_of_a_function_are_the_calls() -> None:
    async def refused() -> str:
        raise ConnectError("the vault is away")

    with serve(answer_each(ok())) as server:
        async with client_of(server, BearerAuth(refused), max_retries=1) as client:
            with pytest.raises(ConnectError, match="The request has no credentials: the vault is away") as caught:
                await client.post("/a", cast_to=object)
    assert len(caught.value.attempts) == 2
    assert server.requests == []


async def test_the_deadline_holds_while_a_function_is_awaited() -> None:
    async def stalls() -> str:
        await anyio.sleep(20)
        raise AssertionError

    with serve(answer_each(ok())) as server:
        async with client_of(server, BearerAuth(stalls), deadline=0.05) as client:
            with anyio.fail_after(5), pytest.raises(DeadlineExceededError, match="getting credentials") as caught:
                await client.get("/a", cast_to=object)
    assert caught.value.outcome == "not_sent"
    assert server.requests == []


@pytest.mark.parametrize(
    ("auth", "error", "message"),
    [
        (5, TypeError, "not a int"),
        (b"s3cret", TypeError, "not a bytes"),
        (["s3cret"], TypeError, "not a list"),
        (("u", "s3cret", "x"), TypeError, "not a tuple"),
        (("u", None), TypeError, "not a tuple"),
        ("", ValueError, "the bearer token is empty"),
        (" ", ValueError, "the bearer token is empty"),
        (("s3:cret", "p"), ValueError, "user name with a colon"),
        ("s3cret\n", ValueError, "control character"),
        (BearerAuth, TypeError, "not the class BearerAuth"),
        (lambda: "s3cret", TypeError, "must not be a function"),
        (object(), TypeError, "not a object"),
    ],
)
@pytest.mark.parametrize("way", ["constructor", "with_options"])
def test_what_is_no_auth_is_refused_at_once(auth: Any, error: type[Exception], message: str, way: str) -> None:
    with pytest.raises(error, match=message) as caught:
        if way == "constructor":
            AsyncAPIClient(base_url="http://h", auth=auth)
        else:
            AsyncAPIClient(base_url="http://h").with_options(auth=auth)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: HeaderAuth("X Y", "k"),
        lambda: HeaderAuth("", "k"),
        lambda: HeaderAuth("X-K", "s3cret\r\n"),
        lambda: HeaderAuth("X-K", 5),  # type: ignore[arg-type]
        lambda: BearerAuth(None),  # type: ignore[arg-type]
        lambda: BearerAuth(" "),
        lambda: BasicAuth("a:s3cret", "p"),
        lambda: DigestAuth("u", None),  # type: ignore[arg-type]
        lambda: DigestAuth(b"u", "s3cret"),  # type: ignore[arg-type]
        lambda: DigestAuth("s3cret\n", "p"),
        lambda: OAuth2ClientCredentials("/token", "i", "s3cret"),
        lambda: OAuth2ClientCredentials("ftp://h/token", "i", "s3cret"),
        lambda: OAuth2ClientCredentials("http://u:s3cret@h/token", "i", "s"),
        lambda: OAuth2ClientCredentials("http://h", "i", "s3cret", scopes="a b"),
        lambda: OAuth2ClientCredentials("http://h", "i", "s3cret", scopes=[5]),  # type: ignore[list-item]
        lambda: OAuth2ClientCredentials("http://h", "i", "s3cret", client_auth="jwt"),
        lambda: OAuth2ClientCredentials("http://h", "i", "s3cret", timeout=0),
        lambda: OAuth2ClientCredentials("http://h", "i", "s3cret", timeout=None),  # type: ignore[arg-type]
        lambda: OAuth2ClientCredentials("http://h", "i", "s3cret", timeout=float("nan")),
        lambda: OAuth2ClientCredentials("http://h", "i", "s3cret", timeout="5"),  # type: ignore[arg-type]
    ],
)
def test_wrong_arguments(make: Callable[[], Any]) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert "s3cret" not in f"{caught.value} {caught.value!r}"


# --- kinds of one's own -----------------------------------------------------------------------------------------------


class Signer:
    """Two fields, made for method and target; ``refresh`` gets the key from the server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.key: str | None = None
        self.refused: list[int | None] = []

    def headers_for(self, request: Request) -> Mapping[str, str] | None:
        if self.key is None:
            return None
        return {"X-Signature": f"{self.key} {request.method} {request.url.target}", "X-Key-Id": "7"}

    async def refresh(self, send: Callable[[Request], Awaitable[Response]], response: Response | None) -> None:
        self.refused.append(None if response is None else response.status_code)
        if response is not None:
            assert response.json() == {"error": "who are you?"}
        answer = await send(Request("POST", f"{self.url}/token", content=b"q"))
        self.key = json.loads(await answer.read())["access_token"]


async def test_a_kind_of_ones_own() -> None:
    """One connection for all: no answer is held while another is asked for."""
    script = Guarded(token("k1"), token("k2"))

    def signed(peer: Peer, request: bytes) -> bytes | None:
        if path_of(request) == "/token":
            assert field_of(request, "x-signature") is None
            return Guarded.answer(script, peer, request)
        if path_of(request) == "/a":
            return ok(status="302 Go", headers="Location: /b?c\r\n")
        return ok(b"1") if (field_of(request, "x-signature") or "").startswith("k2") else NO

    script.answer = signed  # type: ignore[method-assign]
    with serve(script) as server:
        auth = Signer(server.url)
        assert isinstance(auth, Auth)
        transport = HTTPTransport(limits=Limits(max_connections=1))
        async with client_of(server, auth, http_client=transport, timeout=Timeout(5, pool=0.5)) as client:
            assert await client.get("/a", cast_to=int) == 1
    assert auth.refused == [None, 401]
    assert sent(server, "x-signature") == [None, "k1 GET /a", "k1 GET /b?c", None, "k2 GET /b?c"]
    assert sent(server, "x-key-id") == [None, "7", "7", None, "7"]
    assert server.connections == 1


class Changing:
    """Another field after each refresh, which leaves unread what it was answered."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.count = 1

    def headers_for(self, request: Request) -> Mapping[str, str] | None:
        return {f"X-{self.count}": "k"}

    async def refresh(self, send: Callable[[Request], Awaitable[Response]], response: Response | None) -> None:
        self.kept = await send(Request("GET", f"{self.url}/large"))  # what is collected is closed anyway
        self.count += 1


async def test_fields_of_the_earlier_credentials_go_and_answers_are_closed() -> None:
    def script(peer: Peer) -> None:
        while request := peer.read_request():
            peer.send(ok(b"x" * 300_000) if path_of(request) == "/large" else ok(b"1") if b"X-2" in request else NO)

    with serve(script) as server:
        transport = HTTPTransport(limits=Limits(max_connections=1))
        async with client_of(server, Changing(server.url), http_client=transport, timeout=Timeout(5, pool=1)) as client:
            assert await client.get("/a", cast_to=int) == 1
    assert [(field_of(r, "x-1"), field_of(r, "x-2")) for r in server.requests] == [
        ("k", None),
        (None, None),
        (None, "k"),
    ]


class Never:
    def headers_for(self, request: Request) -> Mapping[str, str] | None:
        return None

    async def refresh(self, send: Any, response: Response | None) -> None:
        pass


async def test_a_kind_that_never_has_any_is_told_so() -> None:
    with serve(answer_each(ok())) as server:
        async with client_of(server, Never()) as client:
            with pytest.raises(RuntimeError, match=r"Never\.headers_for gave None, also after refresh\(\)"):
                await client.get("/a", cast_to=object)
    assert server.requests == []


# --- layers and origins -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["mine", omit])
@pytest.mark.parametrize("layer", ["client", "request"])
@pytest.mark.parametrize(
    ("make", "name"),
    [(lambda: BearerAuth(Provider()), "AUTHORIZATION"), (lambda: HeaderAuth("X-Api-Key", Provider()), "x-api-KEY")],
)
async def test_a_field_that_a_layer_has_set_or_omitted_is_left_alone(
    make: Callable[[], Any], name: str, layer: str, value: Any
) -> None:
    fields = {name: value}
    with serve(answer_each(NO, ok())) as server:
        client = client_of(server, make(), custom_headers=fields if layer == "client" else None)
        async with client:
            with pytest.raises(AuthenticationError):
                await client.get("/a", cast_to=object, options={"headers": fields if layer == "request" else {}})
    assert sent(server, name) == [None if value is omit else "mine"]


async def test_userinfo_of_a_request_url_goes_before() -> None:
    with serve(answer_each(NO, ok())) as server:
        async with client_of(server, BearerAuth(Provider())) as client:
            with pytest.raises(AuthenticationError):
                await client.get(server.url.replace("//", "//u:p@") + "/a", cast_to=object)
    assert sent(server) == ["Basic " + base64.b64encode(b"u:p").decode()]


@pytest.mark.parametrize("auth", [BearerAuth(lambda: "k"), "k", HeaderAuth("Accept-Key", lambda: "k")])
@pytest.mark.parametrize("way", ["absolute", "redirect"])
async def test_another_origin_gets_nothing(auth: Any, way: str) -> None:
    with serve(answer_each(NO)) as other, serve(Guarded(b"", valid=None)) as server:
        url = f"{other.url}/a" if way == "absolute" else f"/redirect?{other.url}/a"
        async with client_of(server, auth) as client:
            with pytest.raises(AuthenticationError):
                await client.get(url, cast_to=object)
    assert len(other.requests) == 1  # and its 401 asks for nothing
    assert b"k\r\n" not in other.requests[0].replace(b"Accept: */*", b"")
    assert len(server.requests) == (way == "redirect")


async def test_the_way_back_from_another_origin_has_none_either() -> None:
    with serve(answer_each(ok())) as home:
        location = f"Location: {home.url}/back\r\n"
        with serve(answer_each(ok(status="307 Go", headers=location))) as other:
            home.script = answer_each(ok(status="307 Go", headers=f"Location: {other.url}/\r\n"), ok())
            async with client_of(home, BearerAuth(Provider())) as client:
                await client.get("/a", cast_to=object)
    assert sent(home) == ["Bearer k1", None]
    assert sent(other) == [None]


async def test_copies_with_other_credentials() -> None:
    with serve(answer_each(ok())) as server:
        async with client_of(server, BearerAuth(Provider())) as client:
            for copy in (
                client,
                client.with_options(auth="t"),
                client.with_options(auth=None),
                client.with_options(auth=HeaderAuth("X-Key", lambda: "k")),
                client.with_options(timeout=5),
                client.with_options(auth="t").with_options(auth=BearerAuth(lambda: "x")),
            ):
                await copy.get("/a", cast_to=object)
    assert sent(server) == ["Bearer k1", "Bearer t", None, None, "Bearer k2", "Bearer x"]
    assert sent(server, "x-key") == [None, None, None, "k", None, None]
