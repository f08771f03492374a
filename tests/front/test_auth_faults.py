"""Faults of the credentials that were found by attack, and mended; each test says the rule that was broken."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from anyio_client import (
    URL,
    APIConnectionError,
    APIError,
    APIStatusError,
    AsyncAPIClient,
    AuthenticationError,
    BasicAuth,
    BearerAuth,
    ConnectError,
    ConnectionLostError,
    DeadlineExceededError,
    HeaderAuth,
    HTTPTransport,
    Limits,
    Middleware,
    MockTransport,
    OAuth2ClientCredentials,
    Outcome,
    Request,
    Response,
    Timeout,
)
from tests.front.test_auth import Provider, Signer
from tests.front.test_auth_digest import Checking
from tests.front.test_auth_digest import client_of as digest_client
from tests.front.test_auth_rings import Failing
from tests.front.test_tokens import QUICK, Clock, Gate, client_of, credentials, get
from tests.kit.peers import Peer, ok, serve
from tests.kit.tokens import Guarded, path_of, token

pytestmark = pytest.mark.anyio


def mocked(handler: Callable[[Request], Any], auth: Any, **options: Any) -> AsyncAPIClient:
    return AsyncAPIClient(
        **{"base_url": "http://h", "http_client": MockTransport(handler), "auth": auth, "retry": QUICK, **options}
    )


async def test_a_late_401_while_the_new_token_is_old_enough_to_be_renewed() -> None:
    """A slow call is refused for t1; t2 was fetched meanwhile, and its time has come. RuntimeError "headers_for gave None"."""
    gate = Gate(ok(status="401 No"))
    script = Guarded(token("t1", expires_in=100), token("t2", expires_in=100), token("t3"), valid={"t2", "t3"})
    guarded = script.answer
    script.answer = lambda peer, request: gate(peer) if path_of(request) == "/slow" and not gate.opened.is_set() else guarded(peer, request)  # type: ignore[method-assign]  # fmt: skip
    with serve(script) as server:
        auth = credentials(server)
        clock = Clock(auth)
        async with client_of(server, auth) as client:
            results: list[Any] = []

            async def slow() -> None:
                try:
                    results.append(await get(client, "/slow"))
                except RuntimeError as exc:
                    results.append(exc)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(slow)
                await gate.wait_reached()
                clock.now += 101
                assert await get(client) == "Bearer t2"
                clock.now += 95
                gate.opened.set()
    assert results in (["Bearer t2"], ["Bearer t3"])


async def test_a_token_that_ends_at_once() -> None:
    """expires_in is positive, and over before the request is made: RuntimeError of a kind that blames headers_for."""
    with serve(Guarded(token("t", expires_in=1e-9))) as server:
        async with client_of(server, credentials(server), max_retries=0) as client:
            try:
                await get(client)
            except APIError:
                pass


async def test_a_body_that_ends_early_holds_no_token() -> None:
    """BEHAVIOUR 8.3: truncated data is an error, never a short success. Here it is a token. read_at_most hides the error."""
    answer = token("t").replace(b"Content-Length: ", b"Content-Length: 9")

    def script(peer: Peer) -> None:
        while request := peer.read_request():
            if path_of(request) == "/token":
                peer.send(answer)
                return
            peer.send(ok(b'"authorized"'))

    with serve(script) as server:
        async with client_of(server, credentials(server), max_retries=0) as client:
            with pytest.raises(APIConnectionError):
                await get(client)


@pytest.mark.spread
async def test_the_read_timeout_of_one_call_does_not_limit_what_others_wait_for() -> None:
    """The limits of a request for a token are the transport's own, and the auth's."""

    class Asked(MockTransport):
        async def send(self, request: Request, *, timeout: Timeout, deadline: float | None) -> Response:
            limits.append((request.url.path, timeout.read))
            return await super().send(request, timeout=timeout, deadline=deadline)

    limits: list[tuple[str, float | None]] = []
    transport = Asked(lambda request: Response(200, json={"access_token": "t"}))
    auth = OAuth2ClientCredentials("http://h/token", "id", "s3cret")
    async with AsyncAPIClient(base_url="http://h", http_client=transport, auth=auth, timeout=7) as client:
        await client.with_options(timeout=0.5).get("/a", cast_to=object, options={"timeout": 0.3})
    assert limits == [("/token", 600), ("/a", 0.3)]


class EachTime(Signer):
    def headers_for(self, request: Request) -> Any:
        fields, self.key = super().headers_for(request), None
        return fields


async def test_a_redirect_whose_body_is_unread_does_not_keep_the_only_connection() -> None:
    """ "must not deadlock": _authorize asks for credentials while the redirect is still held."""

    def script(peer: Peer) -> None:
        while request := peer.read_request():
            path = path_of(request)
            redirect = ok(b"x" * 300_000, status="302 Go", headers="Location: /b\r\n")
            peer.send(token("k") if path == "/token" else redirect if path == "/a" else ok(b"1"))

    with serve(script) as server:
        transport = HTTPTransport(limits=Limits(max_connections=1))
        options: dict[str, Any] = {"http_client": transport, "timeout": Timeout(5, pool=0.2), "max_retries": 0}
        async with client_of(server, EachTime(server.url), **options) as client:
            assert await client.get("/a", cast_to=int) == 1


async def test_a_401_of_another_origin_is_not_lost() -> None:
    """A middleware (or _prepare_request) sent the request elsewhere: the 401 is never closed, nor its connection given back,
    and the request is sent to that origin again."""
    big = ok(b"x" * 300_000, status="401 No")

    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(big)

    with serve(script) as other, serve(script) as server:

        async def elsewhere(request: Request, call_next: Any) -> Any:
            request.url = URL(f"{other.url}/")
            return await call_next(request)

        transport = HTTPTransport(limits=Limits(max_connections=1))
        options: dict[str, Any] = {"http_client": transport, "timeout": Timeout(5, pool=0.2), "max_retries": 0}
        async with client_of(server, BearerAuth(Provider()), middleware=[elsewhere], **options) as client:
            for _ in range(2):
                with pytest.raises(AuthenticationError):
                    await get(client)
        assert len(other.requests) == 2


class Body:
    """A foreign transport's body, whose closing takes a checkpoint."""

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    async def aclose(self) -> None:
        await anyio.sleep(0.01)


async def test_two_calls_do_not_take_each_others_value() -> None:
    """ "no other task runs between refresh() and this": dispose() of the refused answer awaits. One call gets RuntimeError."""

    def handler(request: Request) -> Response:
        value = int(request.headers["authorization"].removeprefix("Bearer k"))
        return Response(200, json=value) if value > 2 else Response(401, content=Body())

    async with mocked(handler, BearerAuth(Provider())) as client:
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(lambda: client.get("/", cast_to=int))


async def test_a_nonce_is_counted_once() -> None:
    """RFC 7616 section 3.4, nc: requests sent with this nonce. Two first calls at once both send 1; a strict server refuses."""
    script = Checking()
    with serve(script) as server:
        async with digest_client(server, max_retries=0) as client:
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(lambda: client.get("/a", cast_to=int))
    assert sorted(script.counts["n1"]) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "make",
    [
        lambda: BasicAuth("u", None),  # type: ignore[arg-type]  # sends u:None
        lambda: BasicAuth("u", b"p"),  # type: ignore[arg-type]  # sends u:b'p'
        lambda: BasicAuth("u\n", "p"),  # RFC 7617 section 2: no control characters
        lambda: OAuth2ClientCredentials("http://h", "i", None, client_auth="post"),  # type: ignore[arg-type]
        lambda: OAuth2ClientCredentials("http://h", "i", "s", params={"audience": None}),  # type: ignore[dict-item]
        lambda: HeaderAuth("X-Api-Key", ""),
    ],
    ids=["None", "bytes", "control", "secret", "params", "empty"],
)
def test_what_is_no_credential_is_refused_at_once(make: Callable[[], Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        make()


def test_a_netrc_error_does_not_quote_the_password(tmp_path: pathlib.Path) -> None:
    """BEHAVIOUR 13. A password with a space in it: "bad follower token 'horse'"."""
    (tmp_path / "rc").write_text("machine h login u password correct horse\n")
    with pytest.raises(ValueError) as caught:
        BasicAuth.from_netrc("h", tmp_path / "rc")
    assert "horse" not in str(caught.value)


def test_a_netrc_that_is_no_text_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "rc").write_bytes(b"machine h login u password \xff\n")
    with pytest.raises(ValueError) as caught:
        BasicAuth.from_netrc("h", tmp_path / "rc")
    assert "rc" in str(caught.value)


async def test_a_middleware_sees_our_error() -> None:
    """BEHAVIOUR 11: around attempts, what failed is there to be caught as what it is; it is a private exception."""
    seen: list[Exception] = []

    async def look(request: Request, call_next: Any) -> Any:
        try:
            return await call_next(request)
        except Exception as exc:
            seen.append(exc)
            raise

    async with mocked(lambda r: Response(401), Failing(ConnectError("x")), middleware=[look], max_retries=0) as client:
        with pytest.raises(ConnectError):
            await client.get("/", cast_to=int)
    assert isinstance(seen[0], ConnectError)


async def test_a_post_is_not_repeated_after_it_may_have_been_processed() -> None:
    """BEHAVIOUR 6.3. A middleware swallows the failed refresh and sends again itself; the machine is still AUTHORIZING,
    where an outcome "unknown" is retried for every method."""
    posts = 0

    def handler(request: Request) -> Response:
        nonlocal posts
        posts += 1
        if posts == 2:
            raise ConnectionLostError("lost", outcome=Outcome.UNKNOWN)
        return Response(401 if posts == 1 else 200, json=posts)

    async def again(request: Request, call_next: Any) -> Any:
        try:
            return await call_next(request)
        except Exception:
            return await call_next(request)

    async with mocked(handler, Failing(ConnectError("x")), middleware=[again]) as client:
        with pytest.raises(ConnectionLostError):
            await client.post("/", cast_to=int)
    assert posts == 2


async def test_the_endpoints_retry_after_is_on_the_error() -> None:
    """BEHAVIOUR 6.5: "as on every status error whose response carries valid advice"; nor is it waited for."""
    with serve(Guarded(ok(status="503 No", headers="Retry-After: 7\r\n"))) as server:
        async with client_of(server, credentials(server), max_retries=0) as client:
            with pytest.raises(APIStatusError) as caught:
                await get(client)
    assert caught.value.retry_after == 7


async def test_a_deadline_inside_a_function_is_not_the_calls() -> None:
    """The function uses a client of its own: "The deadline of 3e-05 s passed", where this call has none; not retried."""

    async def inner() -> str:
        raise DeadlineExceededError("the vault's deadline passed")

    async with mocked(lambda request: Response(200, json=1), BearerAuth(inner)) as client:
        with pytest.raises(APIError, match="the vault's deadline passed"):
            await client.get("/", cast_to=int)


@pytest.mark.parametrize("auth", [pytest.param(BearerAuth(lambda: "t"), id="function")])  # with "t" it passes
async def test_what_a_call_ring_sets_stays(auth: Any) -> None:
    class Sets(Middleware):
        async def around_call(self, request: Request, call_next: Any) -> Any:
            request.headers["Authorization"] = "mine"
            return await call_next(request)

    async with mocked(lambda r: Response(200, json=r.headers["authorization"]), auth, middleware=[Sets()]) as client:
        assert await client.get("/", cast_to=object) == "mine"


async def test_credentials_lie_above_the_librarys_own_fields() -> None:
    """BEHAVIOUR 3.1: library, platform, auth, client, request. With a constant value it does."""
    auth = HeaderAuth("User-Agent", lambda: "mine")
    async with mocked(lambda request: Response(200, json=request.headers["user-agent"]), auth) as client:
        assert await client.get("/", cast_to=object) == "mine"


def test_an_async_headers_for_is_refused() -> None:
    """BEHAVIOUR 14: the wrong colour, either way, is a TypeError at construction."""

    class Wrong:
        async def headers_for(self, request: Request) -> dict[str, str]:
            return {}

        async def refresh(self, send: Any, response: Response | None) -> None: ...

    with pytest.raises(TypeError):
        AsyncAPIClient(base_url="http://h", auth=Wrong())  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", ["abc", [("A", "b")], {5: "x"}], ids=["text", "pairs", "number"])
async def test_rubbish_of_headers_for_is_named(fields: Any) -> None:
    class Rubbish(Failing):
        def headers_for(self, request: Request) -> Any:
            return fields

    async with mocked(lambda request: Response(200), Rubbish(KeyError())) as client:
        with pytest.raises(TypeError, match="headers_for"):
            await client.get("/", cast_to=object)


async def test_a_token_that_was_refused_is_not_used_for_the_next_upload() -> None:
    """A body that cannot be sent again: rightly no re-send, but the token stays, and every upload gets 401 until it ends."""
    script = Guarded(token("t1"), token("t2"), valid={"t2"})
    with serve(script) as server:
        async with client_of(server, credentials(server)) as client:
            with pytest.raises(AuthenticationError):
                await client.post("/a", cast_to=object, content=iter([b"x"]))
            assert await client.post("/a", cast_to=object, content=iter([b"x"])) == "Bearer t2"


async def test_a_subclass_of_headerauth_is_asked() -> None:
    """With a constant value, an overridden headers_for is never called, and nothing says so."""

    class Signed(HeaderAuth):
        def headers_for(self, request: Request) -> dict[str, str]:
            return {"X-Key": "signed"}

    async with mocked(lambda request: Response(200, json=request.headers["x-key"]), Signed("X-Key", "raw")) as client:
        assert await client.get("/", cast_to=object) == "signed"


async def test_a_closed_client_does_not_fail_the_calls_of_another() -> None:
    """Two clients share the object; the one that fetches is closed. The other's calls get "the client was closed"."""
    gate = Gate(token("t"))
    with serve(Guarded(gate, token("t"))) as server:
        auth = credentials(server)
        one, two = client_of(server, auth), client_of(server, auth)
        results: list[Any] = []

        async def call(client: AsyncAPIClient) -> None:
            try:
                results.append(await get(client))
            except APIError as exc:
                results.append(type(exc))

        async with two, anyio.create_task_group() as tasks:
            tasks.start_soon(call, one)
            await gate.wait_reached()
            tasks.start_soon(call, two)
            await anyio.wait_all_tasks_blocked()
            with anyio.move_on_after(5):
                await one.close()
            gate.opened.set()
    assert "Bearer t" in results
