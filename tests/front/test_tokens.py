"""OAuth 2.0 client credentials over real sockets: one request for all, whatever the endpoint does, whoever is cancelled."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from anyio_client import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    AsyncAPIClient,
    AuthenticationError,
    BadRequestError,
    DeadlineExceededError,
    HTTPTransport,
    InternalServerError,
    Limits,
    OAuth2ClientCredentials,
    ReadTimeoutError,
    RetryPolicy,
    ServiceUnavailableError,
)
from tests.kit.peers import Peer, ScriptedServer, answer_each, ok, serve
from tests.kit.tokens import Guarded, field_of, path_of, token

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]

QUICK = RetryPolicy(wait_initial=0)
SECRETS = ("s3cret", "czNjcmV0", "OnMzY3JldA", "aWQ6czNjcmV0", "t0ken")


def credentials(server: ScriptedServer, **options: Any) -> OAuth2ClientCredentials:
    return OAuth2ClientCredentials(f"{server.url}/token", "id", "s3cret", **options)


def client_of(server: ScriptedServer, auth: Any, **options: Any) -> AsyncAPIClient:
    return AsyncAPIClient(**{"base_url": server.url, "auth": auth, "retry": QUICK, **options})


class Clock:
    def __init__(self, *auths: OAuth2ClientCredentials) -> None:
        self.now = 1000.0
        for auth in auths:
            auth._now = lambda: self.now


async def get(client: AsyncAPIClient, path: str = "/a") -> str:
    return str(await client.get(path, cast_to=object))


async def together(count: int, client: AsyncAPIClient) -> list[str | Exception]:
    """What *count* calls at once come to."""
    results: list[str | Exception] = []

    async def one() -> None:
        try:
            results.append(await get(client))
        except Exception as exc:
            results.append(exc)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(one)
    return results


class Gate:
    """A token answer that comes when the test says so."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, peer: Peer) -> bytes:
        self.reached.set()
        assert self.opened.wait(10)
        return self.answer

    async def wait_reached(self) -> None:
        with anyio.fail_after(10):
            while not self.reached.is_set():  # noqa: ASYNC110 (it is set in a thread)
                await anyio.sleep(0.001)


# --- one request for all ----------------------------------------------------------------------------------------------


async def test_a_hundred_calls_make_one_request_for_a_token() -> None:
    script = Guarded(token("t1", expires_in=100), token("t2", expires_in=100), token("t3"))
    with serve(script) as server:
        auth = credentials(server)
        clock = Clock(auth)
        async with client_of(server, auth) as client:
            assert await together(100, client) == ["Bearer t1"] * 100
            assert len(script.asked) == 1
            clock.now += 100  # it has ended
            assert await together(100, client) == ["Bearer t2"] * 100
            assert len(script.asked) == 2
            clock.now += 89.9
            assert await get(client) == "Bearer t2"
    assert len(script.asked) == 2
    assert len(set(script.asked)) == 1
    assert script.asked[0].endswith(b"\r\n\r\ngrant_type=client_credentials")
    assert field_of(script.asked[0], "authorization") == "Basic aWQ6czNjcmV0"


async def test_a_hundred_calls_with_a_revoked_token_make_one_request() -> None:
    script = Guarded(token("t1"), token("t2"), valid={"t1"})
    with serve(script) as server:
        async with client_of(server, credentials(server), max_retries=0) as client:
            assert await get(client) == "Bearer t1"
            script.valid = {"t2"}
            assert await together(100, client) == ["Bearer t2"] * 100
    assert len(script.asked) == 2
    assert script.calls.count("Bearer t2") == 100


async def test_a_token_that_is_refused_again_is_asked_for_once_a_call() -> None:
    script = Guarded(token("bad"), valid={"good"})
    with serve(script) as server:
        async with client_of(server, credentials(server)) as client:
            for asked in (2, 3):
                with pytest.raises(AuthenticationError, match="401 - who are you"):
                    await get(client)
                assert len(script.asked) == asked
    assert len(script.calls) == 4


async def test_a_late_401_does_not_ask_again_for_what_another_call_has_fetched() -> None:
    gate = Gate(ok(status="401 No"))
    script = Guarded(token("t1"), token("t2"), valid={"t1"})
    guarded = script.answer

    def answer(peer: Peer, request: bytes) -> bytes | None:
        first = path_of(request) == "/slow" and not gate.opened.is_set()
        return gate(peer) if first else guarded(peer, request)

    script.answer = answer  # type: ignore[method-assign]
    with serve(script) as server:
        async with client_of(server, credentials(server)) as client:
            await get(client)
            results: list[str] = []

            async def slow() -> None:
                results.append(await get(client, "/slow"))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(slow)
                await gate.wait_reached()
                script.valid = {"t2"}
                assert await get(client) == "Bearer t2"
                gate.opened.set()
    assert results == ["Bearer t2"]
    assert len(script.asked) == 2


async def test_a_token_that_was_refused_is_not_used_again_where_no_other_comes() -> None:
    script = Guarded(token("t1", expires_in=1000), ok(status="400 No"), token("t2"), valid={"t1"})
    with serve(script) as server:
        async with client_of(server, credentials(server)) as client:
            await get(client)
            script.valid = {"t2"}
            with pytest.raises(BadRequestError, match="/token answered 400"):
                await get(client)
            assert await get(client) == "Bearer t2"
    assert script.calls == ["Bearer t1", "Bearer t1", "Bearer t2"]


async def test_scopes_parameters_and_credentials_in_the_body() -> None:
    script = Guarded(token("t"))
    with serve(script) as server:
        auth = credentials(server, scopes=["a", "b"], params={"audience": "x"}, client_auth="post")
        async with client_of(server, auth, custom_headers={"X-Own": "o", "Cookie": "c=1"}) as client:
            assert await get(client) == "Bearer t"
    (asked,) = script.asked
    assert asked.endswith(
        b"grant_type=client_credentials&scope=a+b&audience=x&client_id=id&client_secret=s3cret"
    )  # fmt: skip
    for name in ("authorization", "x-own", "cookie", "x-stainless-retry-count", "idempotency-key"):
        assert field_of(asked, name) is None
    assert b"s3cret" not in b"".join(script.requests)


async def test_one_connection_is_enough() -> None:
    """The endpoint is on the same origin, and the answer 401 is large."""
    script = Guarded(token("t1"), token("t2"), valid={"t1"})
    with serve(script) as server:
        transport = HTTPTransport(limits=Limits(max_connections=1))
        options = {"http_client": transport, "timeout": 5, "max_retries": 0}
        async with client_of(server, credentials(server), **options) as client:
            assert await together(5, client) == ["Bearer t1"] * 5
            script.valid = {"t2"}
            assert await together(5, client) == ["Bearer t2"] * 5
    assert server.connections == 1
    assert len(script.asked) == 2


# --- an endpoint that fails, stalls or lies ---------------------------------------------------------------------------


def closes(peer: Peer) -> None:
    return None


def resets(peer: Peer) -> None:
    peer.reset()


def garbage(peer: Peer) -> bytes:
    return b"\x16\x03\x01 no HTTP\r\n\r\n"


HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (ok(b'{"error": "invalid_client"}', status="400 No"), BadRequestError, "answered 400: invalid_client"),
        (ok(b'{"error": "x", "error_description": "y"}', status="401 No"), AuthenticationError, "answered 401: x - y"),
        (ok(b"<html>", status="500 No"), InternalServerError, "answered 500$"),
        (ok(b"{}", status="503 No"), ServiceUnavailableError, "answered 503$"),
        (ok(status="304 No"), APIStatusError, "answered 304"),
        (HTML, APIResponseValidationError, "it is no JSON object"),
        (ok(b""), APIResponseValidationError, "it is no JSON object"),
        (ok(b"{}"), APIResponseValidationError, "it has no access_token"),
        (ok(b"[" * 100_000), APIResponseValidationError, "it is no JSON object"),
        (ok(b'{"access_token": "t0ken", "a": "' + b"x" * 2**20 + b'"}'), APIResponseValidationError, "no JSON object"),
        (token("t0ken\nX: y"), APIResponseValidationError, "it has no access_token"),
        (token("t0ken", expires_in=0), APIResponseValidationError, "expires_in"),
        (token("t0ken", token_type="mac"), APIResponseValidationError, "token_type"),
        (ok(status="204 No Content").replace(b"{}", b""), APIResponseValidationError, "no token"),
        (closes, APIConnectionError, "The request has no credentials: "),
        (resets, APIConnectionError, "The request has no credentials: "),
        (garbage, APIConnectionError, "The request has no credentials: "),
    ],
    ids=[
        "400",
        "401",
        "500",
        "503",
        "304",
        "html",
        "empty",
        "nothing",
        "deep",
        "long",
        "newline",
        "expires_in",
        "token_type",
        "204",
        "closes",
        "resets",
        "garbage",
    ],
)
@pytest.mark.spread
async def test_each_waiting_call_gets_a_clear_error_and_the_next_tries_again(
    answer: Any, error: type[APIError], message: str
) -> None:
    script = Guarded(answer, token("t"))
    with serve(script) as server:
        async with client_of(server, credentials(server), max_retries=0) as client:
            results = await together(20, client)
            assert await get(client) == "Bearer t"
    assert len(script.asked) == 2
    assert script.calls == ["Bearer t"]
    assert len({id(result) for result in results}) == 20  # each an object of its own
    for result in results:
        assert isinstance(result, error)
        assert re.search(message, str(result))
        assert len(result.attempts) == 1
        shown = f"{result} {result!r} {result.attempts} {result.body}"
        assert not any(secret in shown for secret in SECRETS)


async def test_a_redirect_of_the_endpoint_is_not_followed() -> None:
    """It would take the client's secret along."""
    with serve(answer_each(token("t"))) as other:
        for status in ("301 Go", "302 Go", "307 Go", "308 Go"):
            script = Guarded(ok(status=status, headers=f"Location: {other.url}/token\r\n"))
            with serve(script) as server:
                async with client_of(server, credentials(server), max_retries=0) as client:
                    with pytest.raises(APIStatusError, match=f"/token answered {status[:3]}"):
                        await get(client)
            assert len(script.asked) == 1
    assert other.requests == []


async def test_what_may_pass_is_retried() -> None:
    script = Guarded(ok(status="503 No"), closes, token("t"))
    with serve(script) as server:
        async with client_of(server, credentials(server)) as client:
            async with client.open("POST", "/a") as response:
                await response.read()
    assert [attempt.status_code for attempt in response.http_response.attempts] == [503, None, 200]
    assert len(script.calls) == 1
    assert field_of(script.requests[0], "x-stainless-retry-count") == "2"


async def test_what_does_not_pass_is_not_retried() -> None:
    for answer in (ok(status="401 No"), HTML):
        script = Guarded(answer)
        with serve(script) as server:
            async with client_of(server, credentials(server)) as client:
                with pytest.raises(APIError):
                    await get(client)
        assert len(script.asked) == 1
        assert script.calls == []


@pytest.mark.parametrize(
    "start",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"],
    ids=["at once", "in the body"],
)
@pytest.mark.spread
async def test_an_endpoint_that_stalls(start: bytes) -> None:
    def stalls(peer: Peer) -> None:
        peer.send(start)
        peer.wait_closed()

    script = Guarded(stalls, token("t"))
    with serve(script) as server:
        async with client_of(server, credentials(server, timeout=0.5), max_retries=0) as client:
            results = await together(20, client)
            assert await get(client) == "Bearer t"
    assert len(script.asked) == 2
    for result in results:
        assert isinstance(result, ReadTimeoutError)
        assert "/token did not answer within 0.5 s." in str(result)


@pytest.mark.spread
async def test_the_deadline_of_one_call_is_its_own() -> None:
    """Whoever fetches the token runs out of time; the others do not, and one of them fetches it."""
    gate = Gate(token("late"))
    script = Guarded(gate, token("t"))
    with serve(script) as server:
        async with client_of(server, credentials(server)) as client:
            results: list[Any] = []

            async def hurried() -> None:
                with pytest.raises(DeadlineExceededError, match="getting credentials") as caught:
                    await get(client.with_options(deadline=0.5))
                results.append(caught.value.outcome)

            async def patient() -> None:
                results.append(await get(client))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hurried)
                await gate.wait_reached()
                for _ in range(5):
                    tasks.start_soon(patient)
            gate.opened.set()
    assert results == ["not_sent"] + ["Bearer t"] * 5
    assert len(script.asked) == 2


async def test_the_deadline_of_one_that_waits_is_its_own() -> None:
    gate = Gate(token("t"))
    script = Guarded(gate)
    with serve(script) as server:
        async with client_of(server, credentials(server)) as client:
            results: list[str] = []

            async def patient() -> None:
                results.append(await get(client))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(patient)
                await gate.wait_reached()
                with pytest.raises(DeadlineExceededError):
                    await get(client.with_options(deadline=0.05))
                gate.opened.set()
    assert results == ["Bearer t"]
    assert len(script.asked) == 1


# --- renewing early ---------------------------------------------------------------------------------------------------


async def test_one_call_renews_early_while_the_others_use_the_old_token() -> None:
    gate = Gate(token("t2", expires_in=100))
    script = Guarded(token("t1", expires_in=100), gate)
    with serve(script) as server:
        auth = credentials(server)
        clock = Clock(auth)
        async with client_of(server, auth) as client:
            await get(client)
            clock.now += 89
            assert await get(client) == "Bearer t1"
            clock.now += 2
            results: list[str] = []

            async def one() -> None:
                results.append(await get(client))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one)
                await gate.wait_reached()
                assert await together(10, client) == ["Bearer t1"] * 10
                assert results == []
                gate.opened.set()
            assert results == ["Bearer t2"]
            assert await get(client) == "Bearer t2"
    assert len(script.asked) == 2


async def test_a_401_while_the_token_is_renewed_early_waits_for_the_same_request() -> None:
    gate = Gate(token("t2"))
    script = Guarded(token("t1", expires_in=100), gate, valid={"t1"})
    with serve(script) as server:
        auth = credentials(server)
        clock = Clock(auth)
        async with client_of(server, auth) as client:
            await get(client)
            clock.now += 91
            script.valid = {"t2"}
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(get, client)
                await gate.wait_reached()
                for _ in range(5):
                    tasks.start_soon(get, client)
                with anyio.fail_after(10):
                    while script.calls.count("Bearer t1") < 6:  # noqa: ASYNC110
                        await anyio.sleep(0.001)
                gate.opened.set()
    assert script.calls[6:] == ["Bearer t2"] * 6
    assert len(script.asked) == 2


@pytest.mark.parametrize(
    "answer", [ok(status="400 No"), closes, HTML, "stalls"], ids=["400", "closes", "html", "stalls"]
)
@pytest.mark.spread
async def test_a_token_that_holds_is_kept_when_renewing_fails(answer: Any) -> None:
    def stalls(peer: Peer) -> None:
        peer.wait_closed()

    failing = stalls if answer == "stalls" else answer
    script = Guarded(token("t1", expires_in=1000), failing, failing, ok(status="500 No"), token("t2"))
    with serve(script) as server:
        auth = credentials(server, timeout=0.5 if answer == "stalls" else 5)
        clock = Clock(auth)
        async with client_of(server, auth, max_retries=0) as client:
            assert await get(client) == "Bearer t1"
            clock.now += 941
            for asked in (2, 2, 2):
                assert await get(client) == "Bearer t1"
                assert len(script.asked) == asked
                clock.now += 4.9
            clock.now += 5
            assert await get(client) == "Bearer t1"
            assert len(script.asked) == 3
            clock.now = 2000  # it has ended
            with pytest.raises(InternalServerError, match="answered 500"):
                await get(client)
            assert await get(client) == "Bearer t2"
    assert "Bearer t1" not in script.calls[-1:]


# --- secrets ----------------------------------------------------------------------------------------------------------


async def test_nothing_secret_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    script = Guarded(token("t0ken", expires_in=5), ok(b'{"error": "no"}', status="400 No"), valid={"other"})
    shown: list[Callable[[], str]] = []
    with caplog.at_level(logging.DEBUG), serve(script) as server:
        for client_auth in ("basic", "post"):
            auth = credentials(server, client_auth=client_auth)
            async with client_of(server, auth) as client:
                for _ in range(2):
                    with pytest.raises(APIError) as caught:
                        await get(client)
                    error = caught.value
                    shown.append(f"{error} {error!r} {error.attempts} {error.request!r} {error.__dict__}".__str__)
                shown.append(f"{auth!r} {auth} {auth._token!r} {client!r} {client.__dict__}".__str__)
    texts = "\n".join([*(show() for show in shown), caplog.text])
    assert len(script.asked) >= 4
    assert "send GET" in caplog.text
    for secret in SECRETS:
        assert secret not in texts
