"""The running event loop, whichever it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel

__all__ = ["EventLoop"]


class _FutureEvent:
    """asyncio's Event, without what one waiter does not need."""

    __slots__ = ("_future",)

    def __init__(self, loop: Any) -> None:
        self._future: Any = loop.create_future()

    def set(self) -> None:
        if not self._future.done():
            try:
                self._future.set_result(None)
            except RuntimeError:
                pass  # the loop is closed: nobody waits

    async def wait(self) -> None:
        await self._future


class EventLoop:
    """What is asked of the running event loop again and again, looked for once.

    ``now``: what ``anyio.current_time`` says. ``make_scope(deadline=...)``: a cancel scope. ``find``: gives the token of the loop
    that runs, which is ``token`` in this one; RuntimeError in a loop of another kind. ``backend``: anyio's. ``is_plain_asyncio``: one
    of asyncio's own. ``make_event()``: something that one task waits for, once: ``set()``, ``await wait()``.
    """

    __slots__ = ("backend", "find", "is_plain_asyncio", "make_event", "make_scope", "now", "registers", "token")

    def __init__(self) -> None:
        token = anyio.lowlevel.current_token()
        loop: Any = token.native_token
        self.token: object = loop
        self.backend: Any = token.backend_class
        self.is_plain_asyncio: bool = False
        self.registers: bool | None = None  # it has add_reader(); None: not tried yet
        self.now: Callable[[], float]
        self.make_scope: Callable[..., Any]
        self.make_event: Callable[[], Any] = anyio.Event
        self.find: Callable[[], object]
        if hasattr(loop, "create_task"):
            # asyncio's own loops say what time.monotonic says; another one, of a test perhaps, may say something else.
            asyncio = sys.modules["asyncio"]
            self.is_plain_asyncio = isinstance(loop, asyncio.BaseEventLoop)
            usual: object = asyncio.BaseEventLoop.time
            self.now = time.monotonic if getattr(loop.time, "__func__", None) is usual else loop.time
            self.make_scope = token.backend_class.create_cancel_scope
            self.make_event = lambda: _FutureEvent(loop)
            self.find = asyncio.get_running_loop
        elif (trio := sys.modules.get("trio")) is not None and isinstance(loop, trio.lowlevel.TrioToken):
            self.now = trio.lowlevel.current_clock().current_time
            self.make_scope = trio.CancelScope  # anyio's own wraps it, at ten calls for each
            self.make_event = trio.Event
            self.find = trio.lowlevel.current_trio_token
        else:
            self.now = token.backend_class.current_time
            self.make_scope = token.backend_class.create_cancel_scope
            self.find = lambda: anyio.lowlevel.current_token().native_token

    @property
    def is_running(self) -> bool:
        """Whether it is this loop that runs here."""
        try:
            return self.find() is self.token
        except RuntimeError:  # none, or one of another kind
            return False
