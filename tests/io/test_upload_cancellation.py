"""Uploads cancelled at every checkpoint: sockets, tasks, places in the pool and open files are as before."""

# ruff: noqa: ASYNC230, ASYNC240, SIM115  (the files of these tests are opened as a caller might)

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from anyio_client import AsyncAPIClient, ContentTooLargeError, HTTPTransport, Limits, RetryPolicy
from tests.io.test_cancellation import SETTINGS, cancel_everywhere
from tests.kit.cancel import How
from tests.kit.peers import Peer, ok, serve

pytestmark = pytest.mark.anyio

Upload = Callable[[AsyncAPIClient, pathlib.Path], Awaitable[Any]]

DATA = bytes(range(256)) * 1500  # a piece and a half


@pytest.fixture(params=SETTINGS)
def setting(request: pytest.FixtureRequest) -> tuple[Any, How]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def anyio_backend(setting: tuple[Any, How]) -> Any:
    return setting[0]


@pytest.fixture
def how(setting: tuple[Any, How]) -> How:
    return setting[1]


def readers_of(path: pathlib.Path) -> int:
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{name}") == str(path)
    return count


def settled_readers(path: pathlib.Path) -> int:
    """How many have *path* open, once there are none or five seconds are over: threads need a moment."""
    until = time.monotonic() + 5
    while readers_of(path) and time.monotonic() < until:
        time.sleep(0.002)
    return readers_of(path)


@pytest.fixture
def file(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    path = tmp_path.resolve() / "data.bin"
    path.write_bytes(DATA)
    yield path
    assert settled_readers(path) == 0


def server(peer: Peer) -> None:
    """Takes an upload whole, except below /early and /retried."""
    refused = False
    while True:
        head = peer.buffer
        while b"\r\n\r\n" not in head:
            data = peer.receive()
            if not data:
                return
            head += data
        peer.buffer = head
        path = head.split()[1]
        if path == b"/early":
            peer.send(ok(status="413 No"))
            peer.wait_closed()
            return
        peer.read_request()
        if path == b"/retried" and not refused:
            refused = True
            peer.send(ok(status="500 No", headers="Retry-After-Ms: 1\r\n"))
        else:
            peer.send(ok(b'"fine"'))


async def a_path(client: AsyncAPIClient, path: pathlib.Path) -> None:
    await client.post("/", cast_to=str, content=path)


async def a_file_of_a_callable(client: AsyncAPIClient, path: pathlib.Path) -> None:
    await client.post("/", cast_to=str, content=lambda: open(path, "rb"))


async def a_file(client: AsyncAPIClient, path: pathlib.Path) -> None:
    with open(path, "rb") as file:
        try:
            await client.post("/", cast_to=str, content=file)
        finally:
            assert not file.closed


async def a_form(client: AsyncAPIClient, path: pathlib.Path) -> None:
    await client.post("/", cast_to=str, files={"a": path, "b": io.BytesIO(b"b"), "c": path}, body={"d": 1})


async def compressed(client: AsyncAPIClient, path: pathlib.Path) -> None:
    await client.post(
        "/", cast_to=str, content=path, options={"compress": "gzip", "progress": lambda sent, total: None}
    )


async def retried(client: AsyncAPIClient, path: pathlib.Path) -> None:
    await client.post("/retried", cast_to=str, content=path)


async def answered_early(client: AsyncAPIClient, path: pathlib.Path) -> None:
    with pytest.raises(ContentTooLargeError):
        await client.post("/early", cast_to=str, content=lambda: iter([DATA] * 200))


async def an_async_generator(client: AsyncAPIClient, path: pathlib.Path) -> None:
    begun, closed = [], []

    async def pieces() -> AsyncIterator[bytes]:
        begun.append(True)
        try:
            with open(path, "rb") as file:
                while piece := file.read(100_000):
                    await anyio.lowlevel.checkpoint()
                    yield piece
        finally:
            closed.append(True)

    try:
        await client.post("/", cast_to=str, content=pieces)
    finally:
        assert begun == closed


UPLOADS: list[Upload] = [
    a_path, a_file_of_a_callable, a_file, a_form, compressed, retried, answered_early, an_async_generator,
]  # fmt: skip


@pytest.mark.parametrize("upload", UPLOADS, ids=lambda f: f.__name__)
async def test_an_upload_cancelled_at_every_checkpoint_leaves_nothing(
    upload: Upload, how: How, file: pathlib.Path
) -> None:
    with serve(server) as peer:

        def make() -> AsyncAPIClient:
            transport = HTTPTransport(limits=Limits(max_connections=1))
            return AsyncAPIClient(base_url=peer.url, http_client=transport, retry=RetryPolicy(wait_initial=0.001))

        async def operation(client: AsyncAPIClient) -> None:
            await upload(client, file)

        assert await cancel_everywhere(operation, how, make, warm=False) >= 4
    assert settled_readers(file) == 0
    assert file.read_bytes() == DATA


async def test_uploads_cancelled_at_random_times_leave_no_file_open(how: How, file: pathlib.Path) -> None:
    with serve(server) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:

            async def one(number: int) -> None:
                upload = UPLOADS[number % 5]
                if how == "scope":
                    with anyio.move_on_after(number * 0.0002):
                        await upload(client, file)
                    return
                import asyncio

                task = asyncio.ensure_future(upload(client, file))
                asyncio.get_running_loop().call_later(number * 0.0002, task.cancel)
                with contextlib.suppress(asyncio.CancelledError):
                    await task

            async with anyio.create_task_group() as group:
                for number in range(200):
                    group.start_soon(one, number)
            with anyio.fail_after(10):
                assert await client.get("/", cast_to=str) == '"fine"'
    assert settled_readers(file) == 0
