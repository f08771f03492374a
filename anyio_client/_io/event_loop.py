"""The running event loop, whichever it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import anyio.lowlevel

__all__ = ["EventLoop"]


class EventLoop:
    """What is asked of the running event loop again and again, looked for once.

    ``now``: what ``anyio.current_time`` says. ``make_scope(deadline=...)``: a cancel scope. ``find``: gives the token of the loop
    that runs, which is ``token`` in this one; RuntimeError in a loop of another kind. ``backend``: anyio's.
    """

    __slots__ = ("backend", "find", "make_scope", "now", "token")

    def __init__(self) -> None:
        token = anyio.lowlevel.current_token()
        loop: Any = token.native_token
        self.token: object = loop
        self.backend: Any = token.backend_class
        self.now: Callable[[], float]
        self.make_scope: Callable[..., Any]
        self.find: Callable[[], object]
        if hasattr(loop, "create_task"):
            # asyncio's own loops say what time.monotonic says; another one, of a test perhaps, may say something else.
            asyncio = sys.modules["asyncio"]
            usual: object = asyncio.BaseEventLoop.time
            self.now = time.monotonic if getattr(loop.time, "__func__", None) is usual else loop.time
            self.make_scope = token.backend_class.create_cancel_scope
            self.find = asyncio.get_running_loop
        elif (trio := sys.modules.get("trio")) is not None and isinstance(loop, trio.lowlevel.TrioToken):
            self.now = trio.lowlevel.current_clock().current_time
            self.make_scope = trio.CancelScope  # anyio's own wraps it, at ten calls for each
            self.find = trio.lowlevel.current_trio_token
        else:
            self.now = token.backend_class.current_time
            self.make_scope = token.backend_class.create_cancel_scope
            self.find = lambda: anyio.lowlevel.current_token().native_token
