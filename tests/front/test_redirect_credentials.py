"""Redirects and credentials: which field reaches which server, as the servers saw it.

BEHAVIOUR 7: no credential of any name crosses an origin. Origins are servers on ports of their own, one of them with TLS, and
one server under two names.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import attrs
import pytest

from anyio_client import (
    TLS,
    APIStatusError,
    AsyncAPIClient,
    BearerAuth,
    DigestAuth,
    HeaderAuth,
    HTTPTransport,
    Middleware,
    Omit,
    Request,
    RetryPolicy,
)
from tests.kit.certs import made, server_context
from tests.kit.origins import Answer, Seen, by_path, moved, seen_by
from tests.kit.peers import ScriptedServer, ok, serve

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]

STATUSES = (301, 302, 303, 307, 308)
SECRET = "s3cret"
USERINFO = f"user:{SECRET}"
BASIC = base64.b64encode(USERINFO.encode()).decode()
# What the wire sets, and what BEHAVIOUR 7 lets go along.
OF_THE_WIRE = {"host", "content-length"}
LIST = re.compile(r"accept.*|content-.*|user-agent|range|if-.*|prefer|expect|traceparent|tracestate")

CallNext = Callable[[Request], Awaitable[Any]]


class Insecure(AsyncAPIClient):
    allow_insecure_redirects = True


class WithProperty(Insecure):
    @property
    def auth_headers(self) -> Mapping[str, str]:
        return {"X-Property": SECRET, "Accept-Property": SECRET, "If-Property": SECRET}


class WithDefaults(Insecure):
    @property
    def default_headers(self) -> Mapping[str, str | Omit]:
        return {**super().default_headers, "X-Default": SECRET}


async def signing(request: Request, call_next: CallNext) -> Any:
    request.headers["X-Signature"] = SECRET
    return await call_next(request)


async def copying(request: Request, call_next: CallNext) -> Any:
    return await call_next(copy.copy(request))


async def rebuilding(request: Request, call_next: CallNext) -> Any:
    return await call_next(Request(request.method, request.url, headers=request.headers, content=request.content))


class Copying(Middleware):
    async def around_call(self, request: Request, call_next: CallNext) -> Any:
        return await call_next(copy.copy(request))


async def provider() -> str:
    return SECRET


FIELDS = {
    "Authorization": SECRET,
    "Cookie": f"a={SECRET}",
    "X-Api-Key": SECRET,
    "Proxy-Authorization": f"Basic {SECRET}",
}


@attrs.frozen(kw_only=True)
class Kind:
    """Credentials of one kind: how they are given, and the fields (lower-case names) that the first origin sees."""

    names: tuple[str, ...]
    value: str = SECRET
    cls: type[AsyncAPIClient] = Insecure
    client: dict[str, Any] = attrs.field(factory=dict)
    options: dict[str, Any] = attrs.field(factory=dict)
    userinfo: str = ""  # where it stands: "base", "request" or "location"


KINDS = {
    "bearer": Kind(names=("authorization",), client={"auth": SECRET}),
    "pair": Kind(names=("authorization",), value=BASIC, client={"auth": ("user", SECRET)}),
    "callable": Kind(names=("authorization",), client={"auth": BearerAuth(provider)}),
    "header": Kind(names=("x-api-key",), client={"auth": HeaderAuth("X-Api-Key", SECRET)}),
    "header that the list would let pass": Kind(
        names=("accept-secret",), client={"auth": HeaderAuth("Accept-Secret", SECRET)}
    ),
    "callable that the list would let pass": Kind(
        names=("if-secret",), client={"auth": HeaderAuth("If-Secret", provider)}
    ),
    "copied by a middleware": Kind(
        names=("accept-secret",), client={"auth": HeaderAuth("Accept-Secret", SECRET), "middleware": [copying]}
    ),
    "rebuilt by a middleware": Kind(
        names=("accept-secret",), client={"auth": HeaderAuth("Accept-Secret", provider), "middleware": [rebuilding]}
    ),
    "copied around the call": Kind(
        names=("accept-secret",), client={"auth": HeaderAuth("Accept-Secret", SECRET), "middleware": [Copying()]}
    ),
    "own field over a provider's": Kind(
        names=("authorization",),
        client={"auth": BearerAuth(lambda: "x")},
        options={"headers": {"Authorization": SECRET}},
    ),
    "digest": Kind(names=("authorization",), value="Digest ", client={"auth": DigestAuth("user", SECRET)}),
    "property": Kind(names=("x-property", "accept-property", "if-property"), cls=WithProperty),
    "default headers": Kind(names=("x-default",), cls=WithDefaults),
    "custom headers": Kind(names=tuple(map(str.lower, FIELDS)), client={"custom_headers": FIELDS}),
    "headers of the request": Kind(names=tuple(map(str.lower, FIELDS)), options={"headers": FIELDS}),
    "middleware": Kind(names=("x-signature",), client={"middleware": [signing]}),
    "userinfo of the base": Kind(names=("authorization",), value=BASIC, userinfo="base"),
    "userinfo of the request": Kind(names=("authorization",), value=BASIC, userinfo="request"),
    "userinfo of the location": Kind(names=(), value=BASIC, userinfo="location"),
    "userinfo of the location beside a token": Kind(
        names=("authorization",), client={"auth": SECRET}, userinfo="location"
    ),
    "idempotency key": Kind(names=("idempotency-key",), options={"idempotency_key": SECRET}),
}


def challenge(answer: bytes, request: Seen) -> bytes:
    if (request.get("authorization") or "").startswith("Digest "):
        return answer
    fields = 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256\r\n'
    return ok(status="401 Unauthorized", headers=fields)


@attrs.frozen
class Place:
    """The first origin, where it redirects to, and the servers behind: ``first`` is asked for /start, then /next is elsewhere."""

    base: str
    next_base: str
    first: ScriptedServer
    second: ScriptedServer
    answers: dict[str, Answer]


WHERE = ("same", "other port", "other host", "insecure", "there and back")


@contextlib.contextmanager
def a_place(where: str) -> Iterator[Place]:
    context = server_context(made().good) if where == "insecure" else None
    answers: dict[str, Answer] = {}
    second_answers: dict[str, Answer] = {"/next": ok(b'"done"')}
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(serve(by_path(answers), context))
        second = first
        if where in ("other port", "insecure", "there and back"):
            second = stack.enter_context(serve(by_path(second_answers)))
        answers["/next"] = answers["/end"] = ok(b'"done"')
        next_base = second.url
        if where == "other host":
            next_base = first.url.replace("127.0.0.1", "localhost")
        if where == "there and back":
            second_answers["/next"] = moved(first.url + "/end", status=307)
        yield Place(first.url, next_base, first, second, answers)


def with_userinfo(url: str, put: bool) -> str:
    return url.replace("://", f"://{USERINFO}@") if put else url


@contextlib.asynccontextmanager
async def client_at(place: Place, kind: Kind, **options: Any) -> AsyncIterator[AsyncAPIClient]:
    transport = HTTPTransport(tls=TLS(ca=made().authority.cert_pem.bytes()))
    base = with_userinfo(place.base, kind.userinfo == "base")
    # A copy: credentials may remember what a server said.
    async with kind.cls(base_url=base, http_client=transport, **copy.deepcopy(kind.client), **options) as client:
        yield client


@pytest.mark.spread
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("kind", KINDS)
async def test_which_field_reaches_which_server(kind: str, where: str) -> None:
    given = KINDS[kind]
    with a_place(where) as place:
        async with client_at(place, given) as client:
            for status in STATUSES:
                redirect = moved(with_userinfo(f"{place.next_base}/next", given.userinfo == "location"), status=status)
                is_digest = kind == "digest"
                place.answers["/start"] = (lambda seen, r=redirect: challenge(r, seen)) if is_digest else redirect
                url = with_userinfo(f"{place.base}/start", True) if given.userinfo == "request" else "/start"
                await check(client, given, where, place, status, url)


async def check(client: AsyncAPIClient, given: Kind, where: str, place: Place, status: int, url: str) -> None:
    place.first.requests.clear()
    place.second.requests.clear()
    options = {**given.options, "headers": {**given.options.get("headers", {}), "If-Match": "x", "X-Own": "1"}}
    assert await client.post(url, cast_to=str, body={"a": 1}, options=options) == '"done"'

    everything = seen_by(place.first)
    first = [request for request in everything if request.target == "/start"][-1]
    others = [request for request in everything if request.target != "/start"]
    if place.second is not place.first:
        others = seen_by(place.second) + others
    follow, *back = others
    # What was planted is there, once each.
    for name in given.names:
        assert [given.value in value for value in first.get_list(name)] == [True], name
    assert {"x-own", "if-match", "x-stainless-lang"} <= first.names
    # The request that follows.
    keeps = status in (307, 308)
    assert (follow.method, follow.target) == ("POST" if keeps else "GET", "/next")
    assert follow.body == (b'{"a":1}' if keeps else b"")
    assert follow.get("content-type") == ("application/json" if keeps else None)
    assert follow.get_list("host") == [place.next_base.partition("//")[2]]
    assert follow.get("if-match") == "x"
    assert [request.target for request in back] == (["/end"] if where == "there and back" else [])
    if where == "same":
        for name in given.names:
            assert [given.value in value for value in follow.get_list(name)] == [True], name
        assert follow.get("x-own") == "1"
        assert keeps or follow.names == first.names - {"content-length", "content-type"}
        if "userinfo" in given.userinfo or not given.names:
            assert "authorization" not in follow.names
        return
    for request in (follow, *back):
        for name in request.names - OF_THE_WIRE:
            assert LIST.fullmatch(name), name
        assert not request.names.intersection(given.names)
        for secret in (SECRET, BASIC, "Digest"):
            assert secret.encode() not in request.raw


async def test_a_digest_covers_the_url_that_it_is_sent_to() -> None:
    with a_place("same") as place:
        place.answers["/start"] = lambda seen: challenge(moved("/next?a=b"), seen)
        async with client_at(place, KINDS["digest"]) as client:
            assert await client.get("/start", cast_to=str) == '"done"'
        uris = [re.findall(r'uri="([^"]*)"', seen.get("authorization") or "") for seen in seen_by(place.first)]
        assert uris == [[], ["/start"], ["/next?a=b"]]


@pytest.mark.parametrize("status", STATUSES)
async def test_from_https_to_http_is_refused_by_default(status: int) -> None:
    with a_place("insecure") as place:
        place.answers["/start"] = moved(f"{place.next_base}/next", status=status)
        given = Kind(names=(), cls=AsyncAPIClient, client={"auth": SECRET})
        async with client_at(place, given) as client:
            with pytest.raises(APIStatusError, match="it leads from https to http, which allow_insecure") as caught:
                await client.get("/start", cast_to=str)
        assert caught.value.status_code == status
        assert caught.value.response.headers["location"] == f"{place.next_base}/next"
        assert (len(place.first.requests), place.second.connections) == (1, 0)


async def test_a_401_elsewhere_does_not_bring_the_credentials_there() -> None:
    asked: list[str] = []

    def token() -> str:
        asked.append("")
        return SECRET

    with a_place("other port") as place, serve(by_path({"/next": ok(status="401 Unauthorized")})) as stranger:
        place.answers["/start"] = moved(f"{stranger.url}/next")
        given = Kind(names=(), client={"auth": BearerAuth(token)})
        async with client_at(place, given) as client:
            with pytest.raises(APIStatusError) as caught:
                await client.get("/start", cast_to=str)
        assert caught.value.status_code == 401
        assert [request.names & {"authorization"} for request in seen_by(stranger)] == [set()]
        assert len(asked) == 1


async def test_a_stranger_that_leads_here_gets_no_credentials_put_on() -> None:
    with a_place("other port") as place, serve(by_path({})) as stranger:
        stranger.script = by_path({"/x": moved(f"{place.base}/next")})
        for auth in (SECRET, BearerAuth(provider), HeaderAuth("Accept-Secret", provider)):
            given = Kind(names=(), client={"auth": auth, "custom_headers": FIELDS})
            async with client_at(place, given) as client:
                assert await client.get(f"{stranger.url}/x", cast_to=str) == '"done"'
        for server in (stranger, place.first):
            assert len(server.requests) == 3
            assert all(SECRET.encode() not in raw for raw in server.requests)


async def test_a_retry_after_redirects_has_its_credentials_again() -> None:
    with a_place("other port") as place, serve(by_path({"/next": ok(status="503 No")})) as busy:
        place.answers["/start"] = moved(f"{busy.url}/next")
        given = Kind(names=(), client={"auth": BearerAuth(provider)})
        async with client_at(place, given, max_retries=1, retry=RetryPolicy(wait_initial=0)) as client:
            with pytest.raises(APIStatusError) as caught:
                await client.get("/start", cast_to=str)
        assert (caught.value.status_code, len(caught.value.attempts)) == (503, 2)
        assert [request.get("authorization") for request in seen_by(place.first)] == [f"Bearer {SECRET}"] * 2
        assert [request.get("authorization") for request in seen_by(busy)] == [None] * 2


async def test_no_text_shows_the_credentials_of_a_location(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="anyio_client")
    with a_place("same") as place:
        location = with_userinfo(f"{place.base}/gone", True) + f"?key={SECRET}"
        place.answers["/start"] = moved(location)
        async with client_at(place, Kind(names=())) as client:
            with pytest.raises(APIStatusError) as caught:
                await client.get("/start", cast_to=str)
            error = caught.value
            for text in (repr(error), str(error), error.story, repr(error.request), repr(error.response), caplog.text):
                assert SECRET not in text
            for refused in (
                f"ftp://{USERINFO}@h:21/?{SECRET}",
                f"http://{USERINFO}@h:x/?{SECRET}",
                f"http://{USERINFO}@/",
            ):
                place.answers["/start"] = moved(refused)
                with pytest.raises(APIStatusError, match="Location") as caught:
                    await client.get("/start", cast_to=str)
                assert SECRET not in repr(caught.value) + str(caught.value) + caplog.text
