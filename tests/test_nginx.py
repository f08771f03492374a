"""A server that is not ours: nginx, which closes connections after 100 requests, and after a second of silence."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

import anyio
import pytest

from anyio_client import AsyncAPIClient, AsyncAPIResponse, HTTPTransport, Limits
from tests.kit import servers

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.nginx,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed: make servers"),
]

SERVER = """
        keepalive_requests 100;
        keepalive_timeout 1s;
        location / {{ default_type application/json; return 200 '{{"ok": true}}'; }}
        location /big {{ alias {folder}/big; }}
"""


@contextlib.contextmanager
def nginx(folder: pathlib.Path) -> Iterator[str]:
    (folder / "big").write_bytes(os.urandom(5_000_000))
    with servers.nginx(folder, SERVER.format(folder=folder)) as server:
        yield server.url


async def test_ten_thousand_gets_of_which_none_fails(tmp_path: pathlib.Path, anyio_backend: object) -> None:
    """In the main 100 connections are used up; some waits end just when nginx closes the idle connection.

    On asyncio; the other loops have a quarter of that, unless ALL_LOOPS is set.
    """
    whole = os.environ.get("ALL_LOOPS") or anyio_backend == ("asyncio", {"use_uvloop": False})
    with nginx(tmp_path) as url:
        transport = HTTPTransport(limits=Limits(max_connections=1))
        async with AsyncAPIClient(base_url=url, http_client=transport, max_retries=0) as client:
            for number in range(1, 10_001 if whole else 2_501):
                assert await client.get("/", cast_to=dict) == {"ok": True}
                if number % 1250 == 0:
                    # The promise of nginx is 1 s: ask again around that moment.
                    await anyio.sleep(0.996 + (number // 1250 % 5) * 0.002)


async def test_connections_that_die_while_idle_are_replaced_for_post_too(tmp_path: pathlib.Path) -> None:
    with nginx(tmp_path) as url:
        transport = HTTPTransport(limits=Limits(keepalive_expiry=None))  # type: ignore[arg-type]
        async with AsyncAPIClient(base_url=url, http_client=transport, max_retries=0) as client:
            for _ in range(2):
                assert await client.post("/", cast_to=dict, body={}) == {"ok": True}
                await anyio.sleep(1.3)


async def test_a_large_file_and_a_hundred_at_once(tmp_path: pathlib.Path) -> None:
    with nginx(tmp_path) as url:
        async with AsyncAPIClient(base_url=url) as client:
            assert await client.get("/big", cast_to=bytes) == (tmp_path / "big").read_bytes()
            response = await client.get("/", cast_to=AsyncAPIResponse)
            assert response.headers["server"].startswith("nginx")
            results: list[object] = []

            async def call() -> None:
                results.append(await client.get("/", cast_to=object))

            async with anyio.create_task_group() as group:
                for _ in range(100):
                    group.start_soon(call)
            assert results == [{"ok": True}] * 100
