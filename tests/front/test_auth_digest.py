"""Digest over real sockets, against a server that checks every answer and takes no count twice."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from anyio_client import AsyncAPIClient, AuthenticationError, DigestAuth
from tests.core.test_digest import is_right, pairs_of, unquoted
from tests.kit.peers import Peer, ScriptedServer, answer_each, ok, serve
from tests.kit.tokens import field_of, path_of

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]


class Checking:
    """Knows Mufasa. ``nonce`` may be changed; ``counts`` are those that were taken, of each nonce."""

    def __init__(self, more: str = 'qop="auth"', nonce: str = "n1") -> None:
        self.more = more
        self.nonce = nonce
        self.counts: dict[str, list[int]] = {}
        self.targets: list[str] = []
        self.lock = threading.Lock()

    def __call__(self, peer: Peer) -> None:
        while request := peer.read_request():
            with self.lock:
                answer = self.answer(request)
            peer.send(answer)

    def answer(self, request: bytes) -> bytes:
        value = field_of(request, "authorization")
        method, target = request.split()[0].decode(), path_of(request)
        body = request.partition(b"\r\n\r\n")[2]
        stale = ""
        if value is not None and is_right(value, "Mufasa", "Circle of Life", method, target, body):
            given = {name: unquoted(shown) for name, shown in pairs_of(value).items()}
            taken = self.counts.setdefault(given["nonce"], [])
            count = int(given.get("nc", "0"), 16)
            if given["nonce"] == self.nonce and count not in taken:
                taken.append(count)
                self.targets.append(target)
                if target == "/from":
                    return ok(status="302 Go", headers="Location: /to?a=%20b\r\n")
                return ok(b"1")
            stale = ", stale=true"
        field = f'WWW-Authenticate: Basic realm="r", Digest realm="r", nonce="{self.nonce}", {self.more}{stale}\r\n'
        return ok(status="401 No", headers=field)


def client_of(server: ScriptedServer, **options: Any) -> AsyncAPIClient:
    return AsyncAPIClient(base_url=server.url, auth=DigestAuth("Mufasa", "Circle of Life"), **options)


@pytest.mark.parametrize("qop", ['qop="auth"', 'qop="auth-int"', 'qop="auth-int,auth"', "opaque=x"])
@pytest.mark.parametrize("algorithm", ["", ", algorithm=MD5-sess", ", algorithm=SHA-256", ", algorithm=SHA-256-sess"])
@pytest.mark.spread
async def test_every_kind_of_challenge(qop: str, algorithm: str) -> None:
    script = Checking(qop + algorithm + ", userhash=true")
    with serve(script) as server:
        async with client_of(server, max_retries=0) as client:
            assert await client.post("/a?b=%2F&c=d", cast_to=int, body={"e": "f"}) == 1
    assert len(server.requests) == 2
    assert server.requests[1].endswith(b'{"e":"f"}')


async def test_later_requests_answer_the_last_challenge_and_count() -> None:
    script = Checking()
    with serve(script) as server:
        async with client_of(server, max_retries=0) as client:
            for _ in range(3):
                await client.get("/a", cast_to=int)
            assert len(server.requests) == 4
            script.nonce = "n2"
            for _ in range(2):
                await client.get("/a", cast_to=int)
    assert script.counts == {"n1": [1, 2, 3], "n2": [1, 2]}
    assert len(server.requests) == 7
    cnonces = [pairs_of(value)["cnonce"] for r in server.requests if (value := field_of(r, "authorization"))]
    assert len(set(cnonces)) == len(cnonces) == 6


async def test_many_calls_at_once_after_the_first() -> None:
    script = Checking()
    with serve(script) as server:
        async with client_of(server, max_retries=0) as client:
            await client.get("/a", cast_to=int)
            async with anyio.create_task_group() as tasks:
                for _ in range(30):
                    tasks.start_soon(lambda: client.get("/a", cast_to=int))
    assert sorted(script.counts["n1"]) == list(range(1, 32))
    assert len(server.requests) == 32


async def test_a_redirect_is_signed_anew() -> None:
    script = Checking()
    with serve(script) as server:
        async with client_of(server, max_retries=0) as client:
            assert await client.get("/from", cast_to=int) == 1
    assert script.targets == ["/from", "/to?a=%20b"]
    assert len(server.requests) == 3


async def test_a_wrong_password_costs_one_more_request() -> None:
    with serve(Checking()) as server:
        async with AsyncAPIClient(base_url=server.url, auth=DigestAuth("Mufasa", "circle")) as client:
            for requests in (2, 4):
                with pytest.raises(AuthenticationError) as caught:
                    await client.get("/a", cast_to=int)
                assert len(server.requests) == requests
                assert len(caught.value.attempts) == 1
    assert not any(b"circle" in request for request in server.requests)


async def test_a_streamed_body_has_no_auth_int() -> None:
    """Its hash would have to be known before it is sent."""
    with serve(Checking('qop="auth-int"')) as server:
        async with client_of(server) as client:
            with pytest.raises(AuthenticationError):
                await client.post("/a", cast_to=int, content=lambda: iter([b"x"]))
            assert await client.post("/a", cast_to=int, content=b"x") == 1
            with pytest.raises(AuthenticationError):
                await client.post("/a", cast_to=int, content=lambda: iter([b"x"]))
    streamed = [request for request in server.requests if b"chunked" in request]
    assert len(streamed) == 4
    assert all(field_of(request, "authorization") is None for request in streamed)
    with serve(Checking('qop="auth,auth-int"')) as server:
        async with client_of(server) as client:
            assert await client.post("/a", cast_to=int, content=lambda: iter([b"x"])) == 1


@pytest.mark.parametrize(
    "field",
    [b"", b'WWW-Authenticate: Basic realm="r"\r\n', b'WWW-Authenticate: Digest realm="r", nonce="n", algorithm=X\r\n'],
    ids=["none", "basic", "algorithm"],
)
async def test_no_challenge_that_can_be_answered(field: bytes) -> None:
    answer = ok(status="401 No", headers=field.decode())
    with serve(answer_each(answer)) as server:
        async with client_of(server) as client:
            with pytest.raises(AuthenticationError):
                await client.get("/a", cast_to=int)
    assert all(field_of(request, "authorization") is None for request in server.requests)


@pytest.mark.parametrize(
    "realm", [b"\xff\xfe", "ü".encode(), b'\\"\\\\', b"a" * 20_000], ids=["latin", "utf-8", "escapes", "long"]
)
async def test_an_odd_realm_leads_to_an_answer(realm: bytes) -> None:
    challenge = ok(status="401 No", headers='WWW-Authenticate: Digest realm="?", nonce="n", qop="auth"\r\n')
    with serve(answer_each(challenge.replace(b"?", realm), ok(b"1"))) as server:
        async with client_of(server) as client:
            assert await client.get("/a", cast_to=int) == 1
    assert b"Digest username=" in server.requests[1]


def test_nothing_secret_is_shown() -> None:
    auth = DigestAuth("Mufasa", "s3cret")
    client = AsyncAPIClient(base_url="http://h", auth=auth)
    assert "s3cret" not in f"{auth!r} {auth} {client!r} {client.__dict__}"
