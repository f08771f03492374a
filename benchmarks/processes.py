"""The processes of a run: all with the same environment, the server on one core and the clients on another."""

from __future__ import annotations

import json
import os
import subprocess
import sys

LIMIT = 120.0  # seconds for one process that is not asked step by step, far above what it takes
# glibc moves its thresholds with the allocations that it happens to see: fixed, no client is lucky.
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "4194304", "MALLOC_TRIM_THRESHOLD_": "268435456"}


def environment(**more: str) -> dict[str, str]:
    """This environment without what changes a client's path: proxies, log levels, Python's debug modes."""
    dropped = ("PYTHON", "MALLOC_", "ANYIO_CLIENT_", "HTTPX", "ANTHROPIC_", "OPENAI_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(dropped) and not name.lower().endswith("_proxy")
    }
    return kept | MALLOC | more


def cores() -> tuple[int, int] | None:
    """One core for the server and another for the clients, where there are two and pinning is allowed."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[-1]) if len(allowed) > 1 else None


def pin(core: int) -> bool:
    """Move this process, and with it what it starts from now on, to *core*."""
    try:
        os.sched_setaffinity(0, {core})
    except OSError:
        return False
    return True


class Child:
    """A process that answers lines of its stdin with lines of JSON, and ends with it."""

    def __init__(self, *command: str) -> None:
        self.command = command
        self.process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), text=True
        )

    def read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"it ended too early: {' '.join(self.command)}")
        return line

    def ask(self, *words: object) -> object:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return json.loads(self.read())

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait(5)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.process.kill()
            self.process.wait()


def printed(*command: str, **more: str) -> str:
    """What a process that is asked once prints."""
    done = subprocess.run(
        [sys.executable, *command], stdout=subprocess.PIPE, env=environment(**more), timeout=LIMIT, check=True
    )
    return done.stdout.decode()
