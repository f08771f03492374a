"""Cancel at every checkpoint.

A run of an operation is driven by hand, one resumption after another, so that "the n-th checkpoint" is exact. We wrap
the operation's coroutine: each time it suspends counts one; at the n-th suspension the cancellation is asked for, by a
scope or natively, from the very task that suspends: it arrives at that suspension and at no other.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Literal

import anyio
import anyio.lowlevel

How = Literal["scope", "native"]


class _Counted:
    """Awaits *coroutine*; calls *at_suspension* with the number of each suspension, from 1."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at_suspension: Callable[[int], None]) -> None:
        self._coroutine = coroutine
        self._at_suspension = at_suspension

    def __await__(self) -> Generator[Any, Any, Any]:
        count = 0
        send: Callable[[], Any] = lambda: self._coroutine.send(None)  # noqa: E731
        while True:
            try:
                yielded = send()
            except StopIteration as stop:
                return stop.value
            count += 1
            self._at_suspension(count)
            try:
                value = yield yielded
            except GeneratorExit:
                self._coroutine.close()
                raise
            except BaseException as exc:
                send = types.MethodType(lambda self, e=exc: self._coroutine.throw(e), self)
            else:
                send = types.MethodType(lambda self, v=value: self._coroutine.send(v), self)


async def cancelled_at(n: int, how: How, operation: Callable[[], Awaitable[Any]]) -> bool:
    """Run *operation*, cancel it at its n-th suspension; whether it had that many.

    Exceptions of the operation that are no cancellation come out.
    """
    reached = False

    async def body() -> None:
        await operation()

    if how == "scope":
        with anyio.CancelScope() as scope:

            def at_suspension(count: int) -> None:
                nonlocal reached
                if count == n:
                    reached = True
                    scope.cancel()

            await _Counted(body(), at_suspension)
        return reached

    import asyncio

    def at_native(count: int) -> None:
        nonlocal reached
        if count == n:
            reached = True
            loop.call_soon(task.cancel)

    async def wrapped() -> None:
        await _Counted(body(), at_native)

    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(wrapped())
    try:
        await task
    except asyncio.CancelledError:
        if not reached:
            task.cancel()
            raise
    return reached
