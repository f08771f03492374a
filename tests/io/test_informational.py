"""Interim answers (1xx, RFC 9110 section 15.2): the callback ``on_informational``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from anyio_client import (
    AsyncAPIClient,
    ConnectionLostError,
    DeadlineExceededError,
    Headers,
    HTTPTransport,
    Limits,
    ReadTimeoutError,
    RemoteProtocolError,
    Timeout,
)
from tests.kit.h2peer import QUICK, again
from tests.kit.peers import serve
from tests.kit.sides import PROTOCOLS, Body, Protocol, Side, client_for, speaking

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.spread,
    pytest.mark.usefixtures("no_socket_is_left"),
    pytest.mark.parametrize("protocol", PROTOCOLS),
]

Told = list[tuple[int, Headers]]


def collecting() -> tuple[Told, dict[str, Any]]:
    told: Told = []
    return told, {"on_informational": lambda status, headers: told.append((status, headers))}


async def test_early_hints_are_told_with_all_their_fields(protocol: Protocol) -> None:
    links = [("Link", "</style.css>; rel=preload; as=style"), ("Link", "</script.js>; rel=preload")]

    def script(side: Side) -> None:
        side.head()
        side.interim(103, [*links, ("X-One", "1")])
        side.interim(102)
        side.interim(103, [("Link", "</more>; rel=preload")])
        side.answer(b"5")
        side.serve()

    told, options = collecting()
    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            assert await client.get("/", cast_to=int, options=options) == 5
            assert [status for status, _ in told] == [103, 102, 103]
            first = told[0][1]
            assert isinstance(first, Headers)
            assert first.get_list("link") == [value for _, value in links]
            assert first["x-one"] == "1"
            assert told[2][1]["Link"] == "</more>; rel=preload"
            await again(client)
            assert len(told) == 3
            assert peer.connections == 1


async def test_nobody_needs_to_listen(protocol: Protocol) -> None:
    def script(side: Side) -> None:
        side.head()
        for status in (100, 102, 103, 199):
            side.interim(status, [("Link", "x")])
        side.answer(b"5")
        side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            assert await client.get("/", cast_to=int) == 5
            await again(client)
            assert peer.connections == 1


async def test_the_callback_runs_before_the_final_answer_is_there(protocol: Protocol) -> None:
    told, options = collecting()

    def script(side: Side) -> None:
        side.head()
        side.interim(103)
        for _ in range(1000):  # the server waits for what only the callback does
            if told:
                break
            side.peer.server.pause(0.002)
        side.answer(b"%d" % len(told))

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            assert await client.get("/", cast_to=int, options=options) == 1


@pytest.mark.parametrize("how", ["plain", "open", "bytes"])
async def test_progress_is_told_while_the_body_is_sent(protocol: Protocol, how: str) -> None:
    told, options = collecting()
    size = 600_000

    class Asking(Body):
        """Gives a piece only after the server has told of the one before."""

        async def __anext__(self) -> bytes:
            with anyio.fail_after(5):
                while len(told) < self.asked:  # noqa: ASYNC110
                    await anyio.sleep(0.001)
            return await super().__anext__()

    def script(side: Side) -> None:
        side.head()
        for _ in range(3):
            if how == "bytes":
                while len(side.received) < (len(told) + 1) * 1000:
                    assert side.piece()
            else:
                assert side.piece()
            side.interim(102, [("Progress", str(len(side.received)))])
        side.body()
        side.answer(b"%d" % len(side.received))

    content: Any = bytes(size) if how == "bytes" else Asking(b"a" * 10, b"b" * 10, b"c" * 10)
    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            if how == "open":
                async with client.open("POST", "/", content=content, options=options) as response:
                    got = await response.json()
            else:
                got = await client.post("/", cast_to=int, content=content, options=options)
    assert got == (size if how == "bytes" else 30)
    assert [status for status, _ in told] == [102, 102, 102]
    if how != "bytes":
        assert [headers["progress"] for _, headers in told] == ["10", "20", "30"]


class Mine(Exception):
    pass


ERRORS: dict[str, Callable[[], Exception]] = {
    "its own": Mine,
    "OSError": lambda: OSError("mine"),
    "ours": lambda: ConnectionLostError("of another call"),
    "a limit": lambda: ReadTimeoutError("of another call"),
    "StopAsyncIteration": StopAsyncIteration,
}
WAYS: dict[str, Callable[[AsyncAPIClient, dict[str, Any]], Any]] = {
    "get": lambda client, options: client.get("/", cast_to=int, options=options),
    "upload": lambda client, options: client.put("/", cast_to=int, content=lambda: Endless(), options=options),
    "expect": lambda client, options: client.put(
        "/", cast_to=int, content=b"x" * 9, options={**options, "expect_continue": True}
    ),
    "open": lambda client, options: opened(client, options),
}


class Endless(Body):
    async def __anext__(self) -> bytes:
        await anyio.sleep(0.001)
        return b"x" * 100


async def opened(client: AsyncAPIClient, options: dict[str, Any]) -> None:
    async with client.open("PUT", "/", content=lambda: Endless(), options=options):
        raise AssertionError("the block is not entered")


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("way", WAYS)
async def test_what_the_callback_raises_comes_out_as_it_is(protocol: Protocol, way: str, error: str) -> None:
    """And is not retried, whatever its class."""
    raised: list[Exception] = []

    def fail(status: int, headers: Headers) -> None:
        raised.append(ERRORS[error]())
        raise raised[-1]

    def script(side: Side) -> None:
        while True:
            if side.head().path == "/again":
                side.answer()
                continue
            side.interim(103)
            assert side.given_up()
            if protocol == "h1":
                return

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            with pytest.raises(Exception) as caught:
                await WAYS[way](client, {"on_informational": fail})
            assert caught.value is raised[0]
            assert len(raised) == 1
            await again(client)
            assert peer.connections == (2 if protocol == "h1" else 1)


@pytest.mark.parametrize("count", [100, 101])
async def test_a_hundred_may_come_and_not_one_more(protocol: Protocol, count: int) -> None:
    told, options = collecting()

    def script(side: Side) -> None:
        if side.number == 2:
            side.serve()
        side.head()
        for _ in range(count):
            side.interim(103)
        if count == 100:
            side.answer()
        side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer, max_retries=0) as client:
            if count == 100:
                assert await client.get("/", cast_to=int, options=options) == 1
            else:
                with pytest.raises(RemoteProtocolError, match="interim"):
                    await client.get("/", cast_to=int, options=options)
            assert len(told) == 100
            await again(client)


async def test_the_limit_counts_for_each_request(protocol: Protocol) -> None:
    told, options = collecting()

    def script(side: Side) -> None:
        while True:
            side.head()
            for _ in range(60):
                side.interim(103)
            side.answer()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            for _ in range(3):
                assert await client.get("/", cast_to=int, options=options) == 1
            assert len(told) == 180
            assert peer.connections == 1


async def test_each_attempt_tells(protocol: Protocol) -> None:
    told, options = collecting()
    statuses = [500, 503, 200]

    def script(side: Side) -> None:
        for status in statuses:
            side.head()
            side.interim(103, [("Attempt", str(status))])
            side.answer(status=status, fields=[("Retry-After-Ms", "1")])

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            assert await client.get("/", cast_to=int, options=options) == 1
    assert [headers["attempt"] for _, headers in told] == ["500", "503", "200"]


async def test_switching_protocols_unasked_is_a_broken_answer(protocol: Protocol) -> None:
    """RFC 9110 section 15.2.2; there is no 101 in HTTP/2 at all (RFC 9113 section 8.6)."""
    told, options = collecting()

    def script(side: Side) -> None:
        if side.head().path == "/again":
            side.answer()
            return
        side.interim(101, [] if protocol == "h2" else [("Upgrade", "websocket"), ("Connection", "Upgrade")])
        if protocol == "h2":
            if side.silent(0.3) and side.stream.reset is None:  # type: ignore[attr-defined]
                side.answer()  # a client that has taken it goes on to read an answer
            side.serve()
        assert side.given_up()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer, max_retries=0) as client:
            with pytest.raises(RemoteProtocolError):
                await client.get("/", cast_to=int, options=options)
            assert told == []
            await again(client)


async def test_interim_answers_are_bytes_from_the_server_for_the_read_timeout(protocol: Protocol) -> None:
    """Each of them shows that the server is at work, so the whole may take longer than the timeout."""

    def script(side: Side) -> None:
        side.head()
        for _ in range(6):
            side.peer.server.pause(0.1)
            side.interim(102)
        side.answer()

    told, options = collecting()
    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            assert await client.get("/", cast_to=int, options={**options, "timeout": Timeout(5, read=0.4)}) == 1
            assert len(told) == 6


async def test_a_slow_drip_of_interim_answers_does_not_pass_the_deadline(protocol: Protocol) -> None:
    def script(side: Side) -> None:
        side.head()
        for _ in range(90):
            side.peer.server.pause(0.01)
            side.interim(102)

    told, options = collecting()
    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            began = anyio.current_time()
            with pytest.raises(DeadlineExceededError):
                await client.get("/", cast_to=int, options={**options, "deadline": 0.2})
            assert anyio.current_time() - began < 0.6
            assert told


async def test_a_callback_must_be_a_plain_function(protocol: Protocol) -> None:
    async def wrong(status: int, headers: Headers) -> None: ...

    transport = HTTPTransport(limits=Limits(max_connections=1))
    async with AsyncAPIClient(base_url="http://127.0.0.1:9", http_client=transport, retry=QUICK) as client:
        for value in (wrong, 1):
            with pytest.raises(TypeError, match="on_informational must be"):
                await client.get("/", cast_to=int, options={"on_informational": value})
