"""What is asked of the running event loop, looked for once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing

from anyio_client._io.event_loop import EventLoop
from tests.conftest import BACKENDS


def run(backend: Any, main: Any) -> Any:
    name, options = backend
    return anyio.run(main, backend=name, backend_options=options)


backends = pytest.mark.parametrize("backend", [loop.values[0] for loop in BACKENDS], ids=[loop.id for loop in BACKENDS])


@pytest.mark.anyio
async def test_now_is_the_loops_own_time() -> None:
    loop = EventLoop()
    for _ in range(5):
        before, now, after = anyio.current_time(), loop.now(), anyio.current_time()
        assert before <= now <= after
        await anyio.sleep(0.01)
    assert loop.now() > before


@pytest.mark.anyio
async def test_find_gives_the_token_in_its_own_loop() -> None:
    loop = EventLoop()
    assert loop.find() is loop.token
    assert loop.token is EventLoop().token
    async with anyio.create_task_group() as group:
        found: list[object] = []

        async def child() -> None:
            found.append(loop.find())

        group.start_soon(child)
    assert found == [loop.token]


@backends
def test_find_says_so_where_no_loop_runs(backend: Any) -> None:
    async def main() -> EventLoop:
        return EventLoop()

    loop = run(backend, main)
    with pytest.raises(RuntimeError):
        loop.find()


@pytest.mark.parametrize("other", [loop.values[0] for loop in BACKENDS], ids=[f"in-{loop.id}" for loop in BACKENDS])
@backends
def test_another_loop_is_known_as_another(backend: Any, other: Any) -> None:
    async def main() -> EventLoop:
        return EventLoop()

    loop = run(backend, main)

    async def later() -> object:
        try:
            return loop.find()
        except RuntimeError:
            return None

    assert run(other, later) is not loop.token
    if backend[0] != other[0]:
        assert run(other, later) is None


@backends
def test_plain_asyncio_is_told_from_uvloop(backend: Any) -> None:
    async def main() -> bool:
        return EventLoop().is_plain_asyncio

    assert run(backend, main) is (backend == ("asyncio", {"use_uvloop": False}))


@pytest.mark.anyio
async def test_a_scope_ends_at_its_deadline() -> None:
    loop = EventLoop()
    until = loop.now() + 0.03
    with anyio.fail_after(10):
        with loop.make_scope(deadline=until) as scope:
            await anyio.sleep(30)
        assert scope.cancelled_caught
        assert loop.now() >= until
        with loop.make_scope(deadline=loop.now() + 0.03) as scope:
            scope.deadline = loop.now() + 60
            await anyio.sleep(0.1)
        assert not scope.cancelled_caught
        with loop.make_scope() as scope:
            scope.cancel()
            await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught


@pytest.mark.anyio
async def test_an_event_is_waited_for_once() -> None:
    loop = EventLoop()
    for early in (True, False):
        event = loop.make_event()
        if early:
            event.set()
            event.set()
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(event.wait)
                await anyio.wait_all_tasks_blocked()
                event.set()
    event = loop.make_event()
    with anyio.move_on_after(0.01) as scope:
        await event.wait()
    assert scope.cancelled_caught
    event.set()  # nobody is there any more


def test_trios_clock_may_be_that_of_a_test() -> None:
    async def main() -> None:
        loop = EventLoop()
        assert loop.now() == trio.current_time() == anyio.current_time()
        before = loop.now()
        clock.jump(1000)
        assert loop.now() == before + 1000 == anyio.current_time()
        with loop.make_scope(deadline=loop.now() + 500) as scope:
            await trio.sleep(1000)
        assert scope.cancelled_caught
        assert loop.now() == before + 1500

    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(main, clock=clock)


def test_asyncios_clock_may_be_that_of_a_test() -> None:
    class Loop(asyncio.SelectorEventLoop):
        ahead = 0.0

        def time(self) -> float:
            return super().time() + self.ahead

    async def main() -> None:
        loop = EventLoop()
        assert loop.is_plain_asyncio
        native: Any = loop.token
        native.ahead = 1000
        assert loop.now() >= time.monotonic() + 999
        assert anyio.current_time() - loop.now() < 100

    anyio.run(main, backend_options={"loop_factory": Loop})
