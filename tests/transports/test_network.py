"""HTTPTransport in event loops that come and go, and in such that lack what asyncio's own have."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Iterator

import anyio
import pytest
import trio

from anyio_client import AsyncAPIClient, HTTPTransport, Request, Timeout
from tests.kit.leaks import open_sockets, settled_sockets
from tests.kit.peers import Peer, ok, serve


@pytest.fixture
def no_socket_is_left() -> Iterator[None]:
    before = open_sockets()
    yield
    assert settled_sockets(before) == before


def answers(peer: Peer) -> None:
    while request := peer.read_request():
        if request.startswith(b"GET /never"):
            peer.wait_closed()
            return
        peer.send(ok(b"1"))


async def get(transport: HTTPTransport, url: str, limit: float | None = None) -> int:
    deadline = None if limit is None else anyio.current_time() + limit
    response = await transport.send(Request("GET", url), timeout=Timeout(10), deadline=deadline)
    await response.read()
    return response.status_code


@pytest.mark.usefixtures("no_socket_is_left")
@pytest.mark.parametrize("run", [asyncio.run, lambda coroutine: anyio.run(lambda: coroutine, backend="trio")])
def test_a_transport_may_be_used_in_one_loop_after_the_other(run: object) -> None:
    assert callable(run)
    with serve(answers) as server:
        transport = HTTPTransport()
        for limit in (None, 10, 10):
            assert run(get(transport, server.url, limit)) == 200
        asyncio.run(transport.aclose())


@pytest.mark.usefixtures("no_socket_is_left")
def test_a_transport_that_is_in_use_in_another_loop_says_so() -> None:
    with serve(answers) as server:
        transport = HTTPTransport()
        told: list[str] = []

        async def main() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(get, transport, server.url + "/never")
                while not server.requests:  # noqa: ASYNC110
                    await anyio.sleep(0.01)

                def elsewhere() -> None:
                    try:
                        trio.run(get, transport, server.url)
                    except RuntimeError as exc:
                        told.append(str(exc))

                thread = threading.Thread(target=elsewhere)
                thread.start()
                await anyio.to_thread.run_sync(thread.join)
                group.cancel_scope.cancel()
            await transport.aclose()

        asyncio.run(main())
    assert told == ["this HTTPTransport is in use in another event loop (or thread): make one for each"]


class NoReaders(asyncio.SelectorEventLoop):
    """As the loops of some toolkits, and asyncio's own for Windows."""

    def add_reader(self, *args: object) -> None:
        raise NotImplementedError

    def remove_reader(self, *args: object) -> bool:
        raise NotImplementedError


def test_a_loop_without_readers() -> None:
    """anyio waits for its sockets in a thread, which keeps two sockets of its own."""
    with serve(answers) as server:
        loop = NoReaders()

        async def main() -> None:
            async with AsyncAPIClient(base_url=server.url) as client:
                for _ in range(3):
                    assert await client.get("/", cast_to=int) == 1

        try:
            loop.run_until_complete(main())
        finally:
            loop.close()


@pytest.mark.usefixtures("no_socket_is_left")
def test_the_context_of_the_first_caller_is_not_kept_by_the_connection() -> None:
    class Session:
        pass

    held: contextvars.ContextVar[Session] = contextvars.ContextVar("held")

    async def main(url: str) -> None:
        async with AsyncAPIClient(base_url=url) as client:
            kept: list[weakref.ref[Session]] = []

            async def first() -> None:
                session = Session()
                held.set(session)
                kept.append(weakref.ref(session))
                await client.get("/", cast_to=int)

            await asyncio.create_task(first())
            await client.get("/", cast_to=int)
            await asyncio.sleep(0)
            gc.collect()
            assert kept[0]() is None

    with serve(answers) as server:
        asyncio.run(main(server.url))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.usefixtures("no_socket_is_left")
def test_a_loop_that_was_closed_under_waiting_calls() -> None:
    with serve(answers) as server:
        loop = asyncio.new_event_loop()
        transport = HTTPTransport()

        async def begin() -> list[asyncio.Task[int]]:
            tasks = [asyncio.ensure_future(get(transport, server.url + "/never")) for _ in range(3)]
            while len(server.requests) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            return tasks

        tasks = loop.run_until_complete(begin())
        loop.close()
        transport.pool.close()
        assert transport.pool.open_count == 0
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        del tasks, task
        gc.collect()
