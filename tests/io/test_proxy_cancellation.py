"""Cancelled at every checkpoint of a way through a proxy: no socket, place or task is left."""

from __future__ import annotations

import itertools
from typing import Any

import anyio
import pytest

from anyio_client import AsyncAPIClient, Limits, ProxyError
from tests.io.test_cancellation import SETTINGS
from tests.kit.cancel import How, cancelled_at
from tests.kit.leaks import open_sockets, settled_sockets, task_count
from tests.kit.peers import answer_each, ok, serve
from tests.kit.scripted_proxies import client_of, connect_proxy, origin_context, refuse, socks_proxy

pytestmark = pytest.mark.anyio

ONE = answer_each(ok(b"1"))


@pytest.fixture(params=SETTINGS)
def setting(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def anyio_backend(setting: Any) -> Any:
    return setting[0]


@pytest.fixture
def how(setting: Any) -> How:
    found: How = setting[1]
    return found


WAYS = {
    "forwarded": (connect_proxy(), False, "http", "http"),
    "forwarded by tls": (connect_proxy(), True, "https", "http"),
    "tunnel": (connect_proxy(ONE, origin_context()), False, "http", "https"),
    "tls in tls": (connect_proxy(ONE, origin_context()), True, "https", "https"),
    "refused": (refuse, False, "http", "https"),
    "socks5": (socks_proxy(credentials=True), False, "socks5", "http"),
    "socks5h": (socks_proxy(ONE, origin_context()), False, "socks5h", "https"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_cancelled_at_every_checkpoint_of_a_way_through_a_proxy(way: str, how: How) -> None:
    script, encrypted, proxy_scheme, scheme = WAYS[way]
    with serve(script, origin_context() if encrypted else None) as proxy:

        async def get(client: AsyncAPIClient) -> None:
            try:
                assert await client.get("/", cast_to=int) == 1
            except ProxyError as exc:
                assert (way, exc.status_code) == ("refused", 403)

        sockets = open_sockets()
        for n in itertools.count(1):
            options = {"limits": Limits(max_connections=1)}
            client = client_of(
                proxy,
                f"{scheme}://localhost:81",
                scheme=proxy_scheme,
                userinfo="u:p@",
                transport=options,
                max_retries=0,
            )
            pool: Any = client._transport.pool  # type: ignore[attr-defined]
            tasks = task_count()
            reached = await cancelled_at(n, how, lambda client=client: get(client))  # type: ignore[misc]
            assert task_count() == tasks
            with anyio.fail_after(10):
                await get(client)
            assert (pool.open_count, pool._machine.waiting_count) == (way != "refused", 0)
            assert not pool._waiters
            await client.close()
            assert settled_sockets(sockets) == sockets
            if not reached:
                break
        assert n > 3
