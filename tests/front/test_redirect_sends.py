"""Redirects and what they hold: connections, time, what was done already, and cancellation."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import pytest

from anyio_client import (
    APIStatusError,
    AsyncAPIClient,
    AsyncAPIResponse,
    ConnectionLostError,
    DeadlineExceededError,
    HTTPTransport,
    Limits,
    Outcome,
    Request,
    Response,
    RetryPolicy,
)
from tests.conftest import BACKENDS
from tests.kit.cancel import How, cancelled_at
from tests.kit.leaks import open_sockets, settled_sockets, task_count
from tests.kit.origins import Seen, by_path, moved, seen_by
from tests.kit.peers import Peer, ScriptedServer, answer_each, ok, serve

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


# --- connections and time ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 5, 60_000])
async def test_the_connection_is_used_again_over_a_redirect(size: int) -> None:
    def script(peer: Peer) -> None:
        while raw := peer.read_request():
            if raw.startswith(b"GET /x "):
                peer.send(DONE)
            else:
                head, body = moved("/x", body=b"x" * size).split(b"\r\n\r\n")
                peer.send(head + b"\r\n\r\n")
                peer.server.pause(0.01)  # so that the body is waited for
                peer.send(body)

    with serve(script) as server:
        async with client_at(server) as client:
            response = await client.get("/", cast_to=AsyncAPIResponse[str])
            assert response.timings is not None and response.timings.reused
    assert server.connections == 1


@pytest.mark.parametrize("kind", ["big", "endless", "silent", "chunks"])
async def test_a_body_that_does_not_end_holds_nothing_up(kind: str) -> None:
    def script(peer: Peer) -> None:
        raw = peer.read_request()
        if raw.startswith(b"GET /x"):
            peer.send(DONE)
            peer.wait_closed()
            return
        head = b"HTTP/1.1 302 Found\r\nLocation: /x\r\n"
        if kind == "big":
            peer.send(head + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000)
        elif kind == "silent":
            peer.send(head + b"Content-Length: 5\r\n\r\n123")
        elif kind == "chunks":
            peer.send(head + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        else:
            peer.send(head + b"\r\n")
            while True:
                peer.send(b"x" * 100_000)
        peer.wait_closed()

    with serve(script) as server:
        transport = HTTPTransport(limits=Limits(max_connections=1))
        async with client_at(server, http_client=transport) as client:
            with anyio.fail_after(5):
                assert await client.get("/", cast_to=str) == "done"
    assert server.connections == 2


async def test_fresh_credentials_after_a_redirect_find_a_connection() -> None:
    """Whoever asks for a token between two sends may need the only connection, which the redirect's body still holds."""

    class Tokens:
        def __init__(self, url: str) -> None:
            self.url = url
            self.token: str | None = None

        def headers_for(self, request: Request) -> Mapping[str, str] | None:
            token, self.token = self.token, None  # for one request only
            return None if token is None else {"Authorization": token}

        async def refresh(self, send: Callable[[Request], Awaitable[Response]], response: Response | None) -> None:
            answer = await send(Request("POST", self.url))
            self.token = (await answer.read()).decode()

    def script(peer: Peer) -> None:
        while raw := peer.read_request():
            if raw.startswith(b"GET / "):
                peer.send(moved("/x", body=b"").replace(b"Content-Length: 0", b"Content-Length: 5"))
                peer.server.pause(0.03)  # so that the body is not there when its head is
                peer.send(b"moved")
            else:
                peer.send(ok(b"t") if raw.startswith(b"POST /token ") else DONE)

    with serve(script) as server:
        transport = HTTPTransport(limits=Limits(max_connections=1))
        auth: Any = Tokens(f"{server.url}/token")
        async with client_at(server, http_client=transport, auth=auth, deadline=2) as client:
            assert await client.get("/", cast_to=str) == "done"
    assert targets(server) == ["/token", "/", "/token", "/x"]


async def test_the_deadline_goes_over_all_hops() -> None:
    def script(peer: Peer) -> None:
        while raw := peer.read_request():
            peer.server.pause(0.04)
            peer.send(moved(f"/{int(raw.split(b' ')[1][1:]) + 1}"))

    with serve(script) as server:
        async with client_at(server) as client:
            with anyio.fail_after(5), pytest.raises(DeadlineExceededError) as caught:
                await client.get("/0", cast_to=str, options={"deadline": 0.4})
    error = caught.value
    # Each hop takes 0.04 s: were the deadline that of a hop, it would never pass.
    assert len(server.requests) <= 20
    assert (len(error.attempts), error.attempts[0].error) == (1, "DeadlineExceededError")
    assert error.request is not None
    assert 1 <= int(error.request.url.path[1:]) <= len(server.requests)


async def test_a_hop_that_is_lost_is_the_attempts_failure() -> None:
    def script(peer: Peer) -> None:
        while raw := peer.read_request():
            if b" /x " in raw:
                return
            peer.send(moved("/x", status=307 if b" /same " in raw else 303))

    with serve(script) as server:
        async with client_at(server) as client:
            for path, key, sends in (("/", None, 2), ("/", "k", 6), ("/same", None, 2), ("/same", "k", 6)):
                server.requests.clear()
                with pytest.raises(ConnectionLostError) as caught:
                    await client.post(path, cast_to=str, body=1, options={"idempotency_key": key})
                found = targets(server)
                assert len(caught.value.attempts) == sends // 2, (path, key)
                assert found.count(path) == sends // 2
                assert caught.value.outcome is Outcome.UNKNOWN


async def test_a_post_that_was_done_is_not_done_again() -> None:
    """303 after POST: the server has done it, and what fails then is only the way to the result. (Our own decision.)"""
    with serve(by_path({"/": moved("/x", status=303), "/x": ok(status="503 No")})) as server:
        async with client_at(server) as client:
            for options, client_options, posts in (
                ({}, {}, 1),
                ({"idempotency_key": "k"}, {}, 3),
                ({}, {"retry": RetryPolicy(wait_initial=0, retry_unsafe=True)}, 3),
            ):
                server.requests.clear()
                with pytest.raises(APIStatusError) as caught:
                    await client.with_options(**client_options).post("/", cast_to=str, body=1, options=options)
                assert (caught.value.status_code, len(caught.value.attempts)) == (503, posts)
                assert targets(server) == ["/", "/x"] * posts


async def test_a_post_that_was_done_is_never_said_to_be_unsent() -> None:
    with serve(answer_each(b"")) as gone:
        pass
    with serve(by_path({"/": moved(f"{gone.url}/", status=303)})) as server:
        async with client_at(server) as client:
            with pytest.raises(Exception) as caught:
                await client.post("/", cast_to=str, body=1)
    assert caught.value.outcome is Outcome.UNKNOWN  # type: ignore[attr-defined]
    assert targets(server) == ["/"]


# --- cancellation --------------------------------------------------------------------------------------------------------

SETTINGS = [
    pytest.param((backend.values[0], how), id=f"{backend.id}-{how}")
    for backend in BACKENDS
    for how in ("scope", "native")
    if backend.id != "trio" or how == "scope"
]


class TestCancellation:
    @pytest.fixture(params=SETTINGS)
    def setting(self, request: pytest.FixtureRequest) -> tuple[Any, How]:
        return request.param  # type: ignore[no-any-return]

    @pytest.fixture
    def anyio_backend(self, setting: tuple[Any, How]) -> Any:
        return setting[0]

    async def test_cancelled_at_every_checkpoint_of_a_redirected_call(self, setting: tuple[Any, How]) -> None:
        def slowly(seen: Seen) -> bytes:
            ScriptedServer.pause(0.002)
            return moved(f"{other.url}/b", body=b"x" * 3000, status=307)

        with contextlib.ExitStack() as stack:
            other = stack.enter_context(serve(by_path({"/b": DONE})))
            server = stack.enter_context(serve(by_path({"/": slowly})))
            tasks = task_count()
            before = open_sockets()
            for n in itertools.count(1):
                async with client_at(server) as client:
                    reached = await cancelled_at(n, setting[1], lambda: client.post("/", cast_to=str, body=1))
                    assert await client.post("/", cast_to=str, body=2) == "done"
                assert settled_sockets(before) <= before
                assert task_count() == tasks
                if not reached:
                    break
            assert n > 4
