"""The clients, one module each, used as their documentation shows and with their defaults, but that a hundred
connections may stay open. A hundred calls at once have a client of their own: to some pools it matters, also for
calls one after another, how many connections they hold.

``operations(where)`` of a module is an async context manager around a mapping: the name of a workload to the coroutine
function that does it once. ``workload+decoder`` is the same with another way to make classes of the answer. No module
imports another's client, so that no client carries another's memory or patches.
"""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeAlias

import anyio
import attrs
from shapes import AT_ONCE, PIECE, PIECES

Operation: TypeAlias = Callable[[], Coroutine[Any, Any, Any]]
Operations: TypeAlias = dict[str, Operation]


@attrs.frozen
class Where:
    """Base URLs of the servers: HTTP/1.1, the same over TLS, HTTP/2 over TLS; and the file of their authority."""

    plain: str
    tls: str
    h2: str
    ca: str

    def authority(self) -> bytes:
        return pathlib.Path(self.ca).read_bytes()


def together(operation: Operation, count: int = AT_ONCE) -> Operation:
    """The operation that does *count* of another at once, in one task group: the same for every client and loop."""

    async def all_of_them() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(operation)

    return all_of_them


async def pieces() -> AsyncIterator[bytes]:
    """The body of an upload, of a length that nobody knows beforehand."""
    for _ in range(PIECES):
        yield PIECE


class Events:
    """The least that decodes a stream of events: lines without their ends in, the data of whole events out."""

    def __init__(self) -> None:
        self.data: list[str] = []

    def feed(self, line: str) -> str | None:
        if not line:
            whole, self.data = "\n".join(self.data), []
            return whole or None
        name, _, value = line.partition(":")
        if name == "data":
            self.data.append(value.removeprefix(" "))
        return None
