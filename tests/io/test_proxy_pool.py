"""Connections through proxies: time limits, limits of the pool, and what is used again."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

from anyio_client import (
    AsyncAPIClient,
    ConnectTimeoutError,
    Limits,
    Outcome,
    Phase,
    PoolTimeoutError,
    ProxyError,
    Timeout,
)
from tests.kit.peers import Peer, Script, answer_each, ok, serve
from tests.kit.scripted_proxies import ESTABLISHED, client_of, connect_proxy, origin_context, refuse

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]

ONE = answer_each(ok(b"1"))


def pool_of(client: AsyncAPIClient) -> Any:
    return client._transport.pool  # type: ignore[attr-defined]


# --- time --------------------------------------------------------------------------------------------------------------


def hang(peer: Peer) -> None:
    peer.wait_closed(10)


def hang_after_the_request(peer: Peer) -> None:
    peer.read_request()
    peer.wait_closed(10)


def hang_in_the_head(peer: Peer) -> None:
    peer.read_request()
    peer.send(ESTABLISHED[:20])
    peer.wait_closed(10)


def hang_in_tls(peer: Peer) -> None:
    peer.read_request()
    peer.send(ESTABLISHED)
    peer.wait_closed(10)


def hang_step_by_step(peer: Peer) -> None:
    """Each step takes less than the limit, all of them more."""
    for _ in range(3):
        peer.server.pause(0.12)
        peer.send(b"HTTP/1.1 100 C\r\n\r\n")
    peer.wait_closed(10)


@pytest.mark.parametrize(
    ("script", "scheme", "phase"),
    [
        (hang, "https", Phase.TLS),
        (hang_after_the_request, "http", Phase.PROXY),
        (hang, "socks5h", Phase.PROXY),
        (hang_in_the_head, "http", Phase.PROXY),
        (hang_in_tls, "http", Phase.TLS),
        (hang_step_by_step, "http", Phase.PROXY),
    ],
)
async def test_one_limit_for_the_whole_way(script: Script, scheme: str, phase: Phase) -> None:
    with serve(script) as proxy:
        limit = Timeout(10.0, connect=0.3)
        async with client_of(proxy, scheme=scheme, timeout=limit, max_retries=0) as client:
            began = time.monotonic()
            with pytest.raises(ConnectTimeoutError) as caught:
                await client.get("/", cast_to=int)
            assert 0.25 < time.monotonic() - began < 5.0
            assert pool_of(client).open_count == 0
        assert (caught.value.phase, caught.value.outcome) == (phase, Outcome.NOT_SENT)
        assert proxy.connections == 1


async def test_a_refusal_that_is_known_is_said_though_its_body_takes_longer_than_the_limit() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 407 Auth\r\nContent-Length: 9\r\n\r\nwho")
        peer.wait_closed(10)

    with serve(script) as proxy:
        async with client_of(proxy, timeout=Timeout(10.0, connect=0.3), max_retries=2) as client:
            with pytest.raises(ProxyError) as caught:
                await client.get("/", cast_to=int)
        assert (caught.value.status_code, proxy.connections) == (407, 1)


# --- limits and reuse --------------------------------------------------------------------------------------------------


async def test_a_tunnel_is_used_again_for_its_origin_and_no_other() -> None:
    with serve(connect_proxy(ONE, origin_context())) as proxy:
        async with client_of(proxy, transport={"http2": False}) as client:
            for url in ("/1", "/2", "https://127.0.0.1/3", "https://localhost:444/4", "/5", "http://localhost/6", "/7"):
                assert await client.get(url, cast_to=int) == 1
        targets = [request.split()[1] for request in proxy.requests]
        assert targets == [
            b"localhost:443", b"/1", b"/2", b"127.0.0.1:443", b"/3", b"localhost:444", b"/4", b"/5", b"http://localhost/6", b"/7",
        ]  # fmt: skip
        assert proxy.connections == 4


async def test_the_limit_counts_connections_through_proxies() -> None:
    def slow(peer: Peer) -> None:
        while peer.read_request():
            peer.server.pause(0.01)
            peer.send(ok(b"1"))

    with serve(connect_proxy(slow, origin_context())) as proxy:
        options = {"limits": Limits(max_connections=2), "http2": False}
        async with client_of(proxy, transport=options) as client:
            pool: Any = client._transport.pool  # type: ignore[attr-defined]
            counts: list[int] = []
            pool.record = lambda event, commands: counts.append(pool.open_count)

            async def call(url: str) -> None:
                assert await client.get(url, cast_to=int) == 1

            async with anyio.create_task_group() as group:
                for number in range(4):
                    group.start_soon(call, f"/{number}")
                    group.start_soon(call, f"http://h{number}.test/")
        assert max(counts) == 2


async def test_who_waits_for_a_tunnel_that_is_refused_gets_an_error_of_its_own() -> None:
    with serve(refuse) as proxy:
        options = {"limits": Limits(max_connections=1)}
        async with client_of(proxy, transport=options, max_retries=0) as client:
            errors: list[ProxyError] = []

            async def call() -> None:
                with pytest.raises(ProxyError) as caught:
                    await client.get("/", cast_to=int)
                errors.append(caught.value)

            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(call)
        assert len({id(error) for error in errors}) == len({id(error.request) for error in errors}) == 4
        for error in errors:
            assert error.response is not None
            assert (error.status_code, error.response.text, error.outcome) == (403, "because", Outcome.NOT_SENT)


async def test_a_tunnel_that_hangs_holds_its_place_and_is_named() -> None:
    with serve(hang_after_the_request) as proxy:
        options = {"limits": Limits(max_connections=1)}
        limits = Timeout(5.0, pool=0.1)
        async with client_of(proxy, transport=options, max_retries=0, timeout=limits) as client:
            async with anyio.create_task_group() as group:

                async def call() -> None:
                    await client.get("/", cast_to=int)

                group.start_soon(call)
                await anyio.to_thread.run_sync(proxy.wait_for_requests, 1)
                with pytest.raises(PoolTimeoutError):
                    await client.get("/", cast_to=int)
                group.cancel_scope.cancel()
            assert pool_of(client).open_count == 0


async def test_a_proxy_that_has_closed_its_idle_connection_is_asked_again() -> None:
    def script(peer: Peer) -> None:
        request = peer.read_request()
        peer.send(ok(b"1"))
        assert request.startswith(b"POST http://h.test/")

    with serve(script) as proxy:
        async with client_of(proxy, "http://h.test", max_retries=0) as client:
            for number in (1, 2, 3):
                assert await client.post("/", cast_to=int) == 1
                assert proxy.wait_for_open(0) == 0
                assert proxy.connections == number
