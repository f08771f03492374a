"""Counters: sockets and tasks, before and after."""

from __future__ import annotations

import gc
import os
import time


def open_sockets() -> int:
    """Sockets that this process has open, whoever holds them (Linux)."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                count += 1
        except OSError:
            continue
    return count


def settled_sockets(expected: int, seconds: float = 5.0) -> int:
    """The number of sockets, once it is *expected* or the time is over (server threads need a moment to close)."""
    until = time.monotonic() + seconds
    while open_sockets() > expected and time.monotonic() < until:
        gc.collect()
        time.sleep(0.005)
    return open_sockets()


def task_count() -> int:
    """Tasks of the running event loop, those that wait in it included."""
    import anyio

    return len(anyio.get_running_tasks())
