"""What our client must be able to do with every server of tests/kit/interop.py, through its public API.

``CHECKS`` are the columns of the table that tests/interop.py prints; tests/test_interop.py runs most of them in a short
form. A check takes a :class:`Place`, raises where something is wrong, and returns what is worth a note, or nothing. Where
no retries are said to be allowed there are none, so that no failure hides behind one.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import hashlib
import json
import os
import pathlib
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any

import anyio
import anyio.to_thread
import attrs

from anyio_client import (
    AsyncAPIClient,
    AsyncAPIResponse,
    ContentTooLargeError,
    HTTPTransport,
    RemoteProtocolError,
    RequestOptions,
)
from tests.kit.interop import BIG_BYTES, BIG_SHA256, SERVERS, SMALL, Server

__all__ = ["BACKENDS", "BROKEN", "CHECKS", "FULL", "LIMIT", "SHORT", "Check", "Place", "Sizes", "run"]

BACKENDS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
LIMIT = 100  # requests per connection, for the check "limit"
# Answers that break HTTP/2, the server's own fault: see the notes at SERVERS in interop.py.
BROKEN: Mapping[str, Collection[str]] = {"nginx": ["/hints"], "lighttpd": ["/hints", "/trailers"]}
# How many streams a connection may have, where these are few.
STREAMS = {"lighttpd": 8}
# HAProxy 2.6 may be silent for ever after it has filled its buffers with a few large answers, even with one, if the
# window of that is opened and the stream reset at the same time, as who leaves a download early does. All windows are
# open then, and its backends have bytes for it. (Frames written by hand to it show the same.)
STALLS = ["haproxy"]
# Who bears no uploads while streams are reset: Apache 2.4 may then end the connection with GOAWAY, code -902 and "The
# user callback function failed", an error inside its own library. (Frames written by hand to it show the same.)
FAILS_UPLOADS = ["apache"]
# How many calls at once, of which half are cancelled. Granian closes a connection on which about 20 streams were reset
# before it looked at them (GOAWAY with ENHANCE_YOUR_CALM).
CANCELLED = {"granian": 20}
PIECE = 50_000  # of what an iterator sends
MAX_GROWTH = 4_000_000  # bytes of memory, between the first fifth of a soak and its end


@attrs.frozen
class Sizes:
    """How much of everything."""

    body: int  # bytes, of uploads and echoes
    reload_seconds: float
    limit_alone: int  # calls one after the other
    limit_bursts: int  # of 20
    soak: int
    left: int  # downloads that are left early
    cancelled: int  # calls, of which half are cancelled


FULL = Sizes(body=20_000_000, reload_seconds=4, limit_alone=1_000, limit_bursts=25, soak=10_000, left=12, cancelled=200)
SHORT = Sizes(body=1_000_000, reload_seconds=0.6, limit_alone=105, limit_bursts=6, soak=500, left=4, cancelled=32)


@attrs.frozen
class Place:
    """Where a check runs. ``limited``: the same server with LIMIT requests per connection, if it can do that."""

    server: Server
    limited: Server | None
    sizes: Sizes
    random: random.Random = attrs.field(factory=lambda: random.Random(0))

    @property
    def body(self) -> bytes:
        return random.Random(1).randbytes(self.sizes.body)


@attrs.frozen
class Check:
    """``seconds``: its time limit, in the full form."""

    run: Callable[[Place], Awaitable[str | None]]
    seconds: float
    is_offered: Callable[[Server], bool]


async def run(check: Check, place: Place) -> str | None:
    """Run *check* under its time limit. What is worth a note."""
    with anyio.fail_after(check.seconds):
        return await check.run(place)


# --- calls ---------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def client_of(server: Server, **options: Any) -> AsyncIterator[AsyncAPIClient]:
    """A client with connections of its own, which at its end hold nothing. It does not retry, unless *options* say so."""
    trust = ssl.create_default_context(cafile=server.ca)
    trust.set_alpn_protocols(["h2", "http/1.1"])
    transport = HTTPTransport(tls=trust)
    settings: dict[str, Any] = {"max_retries": 0, "timeout": 20.0, **options}
    async with AsyncAPIClient(base_url=server.url, http_client=transport, **settings) as client:
        yield client
        _check_nothing_is_held(transport)


def _check_nothing_is_held(transport: HTTPTransport) -> None:
    """No call is under way, and none left anything on a connection."""
    pool = transport.pool
    pool.bury()
    assert not pool._waiters, "somebody waits for a connection"
    assert not pool._machine.waiting_count, "somebody waits for a connection"
    for number, connection in pool._connections.items():
        assert not pool._machine._connections[number].used, "a place is held"
        assert not connection.exchanges, "an exchange is held"
        assert not connection._waiters and not connection._reading, "somebody reads"


class Calls:
    """Calls of one client: checks every answer, and counts."""

    def __init__(self, client: AsyncAPIClient) -> None:
        self.client = client
        self.made = 0
        self.connections = 0
        self.retried = 0

    async def send(self, method: str, path: str, content: Any = None, **options: Any) -> AsyncAPIResponse[Any]:
        """The answer, its body read."""
        made = RequestOptions(method=method, url=path, content=content, **options)
        response: AsyncAPIResponse[Any] = await self.client.request(AsyncAPIResponse, made)
        await response.read()
        self.count(response)
        return response

    def count(self, response: AsyncAPIResponse[Any]) -> None:
        assert response.http_version == "HTTP/2", f"the answer is {response.http_version}"
        assert response.timings is not None
        self.made += 1
        self.connections += not response.timings.reused
        self.retried += response.retries_taken > 0

    async def small(self) -> None:
        await self.get("/small")

    async def get(self, path: str) -> None:
        content = (await self.send("GET", path)).http_response.content
        assert content == SMALL, f"{path} gave {content[:50]!r}"

    async def echo(self, body: bytes, path: str = "/echo", *, content: Any = None) -> None:
        """*content*: what makes *body*, if it is not sent as it stands."""
        # Apart from a body without a length, which only PUT may have at one of the servers, it is a POST.
        response = await self.send("POST" if content is None else "PUT", path, body if content is None else content)
        answer = response.http_response.content
        assert answer == body, f"an echo of {len(body)} bytes gave {len(answer)} bytes, {answer[:50]!r}"

    def one_connection(self) -> None:
        assert self.connections == 1, f"{self.connections} connections"


async def at_once(count: int, call: Callable[[int], Awaitable[None]], most: int = 1000) -> None:
    """``call(0)`` to ``call(count - 1)``, *most* at once. AssertionError that says what went wrong, and how often."""
    errors: list[Exception] = []

    async def one(number: int) -> None:
        try:
            await call(number)
        except Exception as exc:
            errors.append(exc)

    for begin in range(0, count, most):
        async with anyio.create_task_group() as group:
            for number in range(begin, min(begin + most, count)):
                group.start_soon(one, number)
    if errors:
        kinds = collections.Counter(f"{type(exc).__name__}: {exc}" for exc in errors)
        said = "; ".join(f"{text} ({times} times)" for text, times in kinds.most_common(3))
        raise AssertionError(f"{len(errors)} of {count} calls failed: {said}") from errors[0]


async def pieces_of(body: bytes) -> AsyncIterator[bytes]:
    for place in range(0, len(body), PIECE):
        yield body[place : place + PIECE]


# --- the checks ----------------------------------------------------------------------------------------------------


async def small(place: Place) -> None:
    async with client_of(place.server) as client:
        calls = Calls(client)
        for _ in range(10):
            await calls.small()
        calls.one_connection()


async def a_hundred_at_once(place: Place) -> str | None:
    async with client_of(place.server) as client:
        calls = Calls(client)

        async def call(number: int) -> None:
            # Half of them with answers that no other call has.
            await (calls.echo(b"call %d" % number) if number % 2 else calls.small())

        await at_once(100, call)
        return f"{calls.connections} connections" if calls.connections > 1 else None


async def big(place: Place) -> None:
    async with client_of(place.server) as client:
        calls = Calls(client)
        content = (await calls.send("GET", "/big")).http_response.content
        assert len(content) == BIG_BYTES
        assert hashlib.sha256(content).hexdigest() == BIG_SHA256
        await calls.small()
        calls.one_connection()


async def upload(place: Place) -> None:
    body = place.body
    expected = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    async with client_of(place.server) as client:
        calls = Calls(client)
        for content in (body, pieces_of(body)):
            response = await calls.send("PUT", "/upload", content)
            assert json.loads(response.http_response.content) == expected
        await calls.small()
        calls.one_connection()


async def echo(place: Place) -> None:
    body = place.body
    async with client_of(place.server) as client:
        calls = Calls(client)
        await calls.echo(body)
        await calls.small()
        calls.one_connection()


async def echo_stream(place: Place) -> None:
    body = place.body
    async with client_of(place.server) as client:
        calls = Calls(client)
        await calls.echo(body, "/echo-stream")
        await calls.echo(body, "/echo-stream", content=pieces_of(body))
        await calls.small()
        calls.one_connection()


async def early_413(place: Place) -> str | None:
    body = place.body
    async with client_of(place.server) as client:
        calls = Calls(client)
        await calls.small()
        announced = {"content-length": str(len(body))}  # which the server may answer before it has seen any of it
        for content in (body, pieces_of(body), body):
            try:
                await calls.send("PUT", "/early413", content, headers=announced)
            except ContentTooLargeError as exc:
                assert exc.status_code == 413
                assert exc.response.http_version == "HTTP/2"
            else:
                raise AssertionError("the upload was not refused")
            await calls.small()
        return f"{calls.connections} connections" if calls.connections > 1 else None


async def trailers(place: Place) -> None:
    async with client_of(place.server) as client:
        calls = Calls(client)
        for _ in range(2):
            response = await calls.send("GET", "/trailers", headers={"te": "trailers"})
            assert response.http_response.content == SMALL
            assert response.trailers is not None, "no trailers"
            assert response.trailers["x-checksum"] == "42"
        await calls.small()
        calls.one_connection()


async def hints(place: Place) -> None:
    async with client_of(place.server) as client:
        calls = Calls(client)
        for _ in range(2):
            await calls.get("/hints")
        await calls.small()
        calls.one_connection()


async def broken(place: Place) -> None:
    """The answer is no HTTP/2: the call says so, and the connection goes on."""
    async with client_of(place.server) as client:
        calls = Calls(client)
        await calls.small()
        for path in BROKEN[place.server.name]:
            try:
                await calls.send("GET", path)
            except RemoteProtocolError:
                pass
            else:
                raise AssertionError(f"the answer of {path} was taken")
            await calls.small()
        calls.one_connection()


async def reload(place: Place) -> str | None:
    """Fifty calls a second, while the server reloads twice: it ends its connections, and none of the calls."""
    reload_server = place.server.reload
    assert reload_server is not None
    seconds = place.sizes.reload_seconds
    async with client_of(place.server, max_retries=2) as client:
        calls = Calls(client)
        count = int(50 * seconds)

        async def reload_at(share: float) -> None:
            await anyio.sleep(seconds * share)
            await anyio.to_thread.run_sync(reload_server)

        async def call(number: int) -> None:
            await anyio.sleep(number / 50)
            await calls.small()

        async with anyio.create_task_group() as group:
            group.start_soon(reload_at, 1 / 3)
            group.start_soon(reload_at, 2 / 3)
            await at_once(count, call)
        assert calls.made == count
        return f"{calls.connections} connections, {calls.retried} of {count} calls retried"


async def limit(place: Place) -> str | None:
    """The server ends every connection after LIMIT requests: no call may notice."""
    assert place.limited is not None
    sizes = place.sizes
    async with client_of(place.limited, max_retries=2) as client:
        calls = Calls(client)
        for _ in range(sizes.limit_alone):
            await calls.small()
        for _ in range(sizes.limit_bursts):
            await at_once(20, lambda number: calls.small())
        assert calls.connections >= calls.made // LIMIT, f"{calls.connections} connections: the limit did not work"
        return f"{calls.connections} connections, {calls.retried} of {calls.made} calls retried"


async def soak(place: Place) -> str | None:
    """Many calls, 50 at a time. Memory may not grow with their number."""
    async with client_of(place.server, max_retries=2) as client:
        calls = Calls(client)
        began = time.monotonic()

        async def worker(number: int) -> None:
            for turn in range(share):
                await (calls.echo(b"%d %d" % (number, turn)) if turn % 10 == 9 else calls.small())

        memory: list[int] = []
        for part in (1, 4):
            share = place.sizes.soak // 250 * part
            await at_once(50, worker)
            memory.append(_memory())
        growth = memory[1] - memory[0]
        assert growth < MAX_GROWTH, f"memory grew by {growth} bytes"
        return (
            f"{calls.made} calls, {calls.made / (time.monotonic() - began):.0f}/s, {calls.connections} connections, "
            f"{calls.retried} calls retried, memory {growth / 1e6:+.1f} MB"
        )


async def left(place: Place) -> None:
    """Downloads that are left early cost the others on the connection nothing."""
    async with client_of(place.server) as client:
        calls = Calls(client)
        await calls.small()

        async def leave(number: int) -> None:
            async with client.open("GET", "/big") as response:
                calls.count(response)
                async for piece in response.iter_bytes():
                    if number % 3 == 0:
                        return
                    number += len(piece) // 1000  # some are left later, with a larger window

        most = STREAMS.get(place.server.name, 100)
        await at_once(place.sizes.left, leave, most)
        for _ in range(25):
            await calls.small()
        await at_once(25, lambda number: calls.small(), most)
        calls.one_connection()


async def cancelled(place: Place) -> str | None:
    """Half of the calls are cancelled at any moment: the others are answered.

    With retries, because a server may count a stream that was reset until it has taken its frames out of its queue
    (nginx does), and meanwhile refuse another one (RFC 9113 section 5.1.2): that is retried whatever the method.
    """
    chance = place.random
    large = place.server.name not in STALLS
    bodies = [chance.randbytes(size) for size in (100, 10_000, 200_000 if large else 20_000)]
    async with client_of(place.server, max_retries=2) as client:
        calls = Calls(client)
        await calls.small()
        began = time.monotonic()
        most = CANCELLED.get(place.server.name, 1000)
        await at_once(place.sizes.cancelled, lambda number: _one_of(calls, bodies, number, big=False), most)
        longest = 1.2 * (time.monotonic() - began) * min(1.0, most / place.sizes.cancelled)
        uploads = [] if place.server.name in FAILS_UPLOADS else bodies
        given_up = 0

        async def call(number: int) -> None:
            nonlocal given_up
            if number % 2:
                await _one_of(calls, uploads, number // 2, big=False)
                return
            with anyio.move_on_after(chance.uniform(0, longest)) as scope:
                await _one_of(calls, uploads, number // 2, big=large)
            given_up += scope.cancelled_caught

        for _ in range(2):
            await at_once(place.sizes.cancelled, call, most)
        await at_once(30, lambda number: calls.small())
        return f"{given_up} calls cancelled, {calls.retried} of the others retried, {calls.connections} connections"


async def _one_of(calls: Calls, bodies: list[bytes], number: int, *, big: bool) -> None:
    kind = number % 8
    if kind < len(bodies):
        await calls.echo(bodies[kind])
    elif kind == 7 and big:
        content = (await calls.send("GET", "/big")).http_response.content
        assert len(content) == BIG_BYTES
    else:
        await calls.small()


def _memory() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _offers(name: str) -> Callable[[Server], bool]:
    return lambda server: name in server.offers


def _limits_requests(server: Server) -> bool:
    return SERVERS[server.name].limits_requests


CHECKS: Mapping[str, Check] = {
    "small": Check(small, 10, _offers("small")),
    "at once": Check(a_hundred_at_once, 20, _offers("echo")),
    "big": Check(big, 20, _offers("big")),
    "upload": Check(upload, 40, _offers("upload")),
    "echo": Check(echo, 30, _offers("echo")),
    "echo-stream": Check(echo_stream, 40, _offers("echo-stream")),
    "early413": Check(early_413, 20, _offers("early413")),
    "trailers": Check(trailers, 10, _offers("trailers")),
    "hints": Check(hints, 10, _offers("hints")),
    "broken": Check(broken, 10, lambda server: server.name in BROKEN),
    "reload": Check(reload, 30, lambda server: server.reload is not None),
    "limit": Check(limit, 60, _limits_requests),
    "left": Check(left, 30, lambda server: "big" in server.offers and server.name not in STALLS),
    "cancelled": Check(cancelled, 60, _offers("echo")),
    "soak": Check(soak, 120, _offers("echo")),
}
