"""What is measured, on which clients and loops, and what we want of it.

A figure has a key: the workload, the event loop, and the client, with its decoder where that is not its usual one.
"""

from __future__ import annotations

from typing import NamedTuple

import attrs
from shapes import AT_ONCE, EVENTS

LOOPS = ("asyncio", "uvloop", "trio")
PEERS = ("ours", "httpx2", "aiohttp", "pyqwest", "pyreqwest", "anthropic", "openai", "h11", "raw")
SHORT_PEERS = ("ours", "httpx2", "aiohttp", "raw")
ASYNCIO_ONLY = ("aiohttp", "pyreqwest")
BASELINE = "httpx2"
NAMES = {
    "ours": "anyio_client",
    "h11": "floor: h11 over anyio",
    "raw": "floor: bytes over anyio",
}
# What makes classes of their answers; after a "+" in the name of a client it is another one.
DECODERS = {"httpx2": {"typed": "pydantic", "sse": "msgspec"}, "pyqwest": {"typed": "msgspec"}}
DECODERS |= {"aiohttp": {"typed": "msgspec", "sse": "msgspec"}, "pyreqwest": {"typed": "msgspec"}}


def name_of(workload: str, client: str) -> str:
    """A client as a reader knows it, with its decoder where the workload has one."""
    if client in NAMES:
        return NAMES[client]
    name, _, decoder = client.partition("+")
    decoder = decoder or DECODERS.get(name, {}).get(workload.removesuffix("100"), "")
    return f"{name} and {decoder}" if decoder else name


class Key(NamedTuple):
    workload: str
    loop: str
    client: str


@attrs.frozen
class Timed:
    """Client CPU: *each* is how many operations one call is, *times* how often it is called in a slice of a round: some
    tens of milliseconds, so that it counts little that another process has used the core in between."""

    title: str
    times: int
    each: int = 1


TIMED = {
    "get": Timed("GET, one after another", 400),
    "get100": Timed("GET, 100 at once", 5, AT_ONCE),
    "typed": Timed("POST of JSON, the answer as a class, one after another", 250),
    "typed100": Timed("POST of JSON, the answer as a class, 100 at once", 3, AT_ONCE),
    "h2": Timed("GET over HTTP/2 and TLS, 100 streams of one connection", 5, AT_ONCE),
    "sse": Timed("server-sent event, as a class", 15, EVENTS),
    "download": Timed("download of 100 MiB", 1),
    "upload": Timed("upload of 100 MiB from an async iterator", 1),
    "connect": Timed("TLS connection, GET, close", 15),
}
SLICES = 3  # of a round: each client in turn, three times
LARGE = ("download", "upload")  # in milliseconds, and warmed up once
CALLS = {"get": "calls of a GET", "typed": "calls of a typed POST"}
COUNTED = 30  # operations under the profile hook: enough to see whether they are all alike
IDLE = 500  # connections opened at once
IDLE_PEERS = ("ours", "httpx2", "aiohttp", "raw")
RESIDENT, IN_USE = "resident memory of an idle connection", "memory in use of an idle connection"
IMPORT = "import"
IMPORTS = {
    "ours": "from anyio_client import AsyncAPIClient",
    "httpx2": "from httpx2 import AsyncClient",
    "aiohttp": "from aiohttp import ClientSession",
    "pyqwest": "from pyqwest import Client",
    "pyreqwest": "from pyreqwest.client import ClientBuilder",
    "anthropic": "from anthropic import AsyncAnthropic",
    "openai": "from openai import AsyncOpenAI",
    "raw": "from anyio import connect_tcp",
}
ANY = "any loop"
CONNECTIONS, WAITERS, STREAMS, HELD = "idle connections", "waiters", "busy streams", "held streams"
GROWTH = {
    CONNECTIONS: (1, 10, 100, 1000),
    WAITERS: (1, 10, 100, 1000, 10000),
    STREAMS: (1, 4, 16, 64, 256),
    HELD: (1, 4, 16, 64, 256),
}
PARTS = (*TIMED, "calls", "import", "memory", "growth")
SHORT_PARTS = ("get", "get100", "typed", "h2", "sse", "download", "calls", "import")


def at(curve: str, count: int) -> str:
    """The workload that is one point of a curve of growth."""
    return f"{count} {curve}"


@attrs.frozen
class Target:
    """At most *limit* (by loop where a mapping): our figure, or its ratio to another one of the same round."""

    workload: str
    limit: float | dict[str, float]
    of: str = ""  # the other client
    than: str = ""  # or our other workload
    loops: tuple[str, ...] = LOOPS
    of_loop: dict[str, str] = attrs.field(factory=dict)  # where the other client does not run on this loop
    title: str = ""
    digits: int = 2

    def limit_on(self, loop: str) -> float:
        return self.limit[loop] if isinstance(self.limit, dict) else self.limit

    def keys(self, loop: str) -> tuple[Key, Key | None]:
        """Our figure, and what it is divided by."""
        mine = Key(self.workload, loop, "ours")
        if self.than:
            return mine, Key(self.than, loop, "ours")
        return mine, Key(self.workload, self.of_loop.get(loop, loop), self.of) if self.of else None


BOTH = ("asyncio", "uvloop")
TARGETS = [
    Target("get", 0.22, "httpx2"),
    Target("get", 1.0, "aiohttp", loops=BOTH),
    Target("get100", {"asyncio": 0.10, "uvloop": 0.10, "trio": 0.13}, "httpx2"),
    Target("get100", 1.0, "aiohttp", loops=BOTH),
    Target("typed", 0.22, "httpx2"),
    Target("typed", 0.12, "anthropic"),
    Target("typed", 1.0, "aiohttp", loops=BOTH),
    Target("typed100", {"asyncio": 0.11, "uvloop": 0.11, "trio": 0.15}, "httpx2"),
    Target("h2", 0.35, "httpx2"),
    Target("sse", 0.30, "httpx2"),
    Target("sse", 0.5, "aiohttp+cattrs", loops=BOTH),
    Target("download", 1.1, "aiohttp", of_loop={"trio": "asyncio"}),
    Target("upload", 1.3, "aiohttp", of_loop={"trio": "asyncio"}),
    Target(IMPORT, 60, loops=(ANY,), title="import, ms of CPU above the bare interpreter", digits=0),
    Target(RESIDENT, 20, title="idle connection, KiB resident", digits=1),
    Target(IN_USE, 8, title="idle connection, KiB in use", digits=1),
    Target(
        CALLS["get"], {"asyncio": 220, "uvloop": 170, "trio": 200}, title="Python function calls of a GET", digits=0
    ),
    # Growth has no figure of its own to reach: a quarter is above what caches and the collector of garbage do.
    Target(at(CONNECTIONS, 1000), 1.25, than=at(CONNECTIONS, 1), title="a call beside 1,000 idle connections, to 1"),
    Target(at(WAITERS, 10000), 1.25, than=at(WAITERS, 1), title="a call among 10,000 waiters, to 1"),
    Target(at(STREAMS, 256), 1.25, than=at(STREAMS, 1), title="a call among 256 busy streams, to 1"),
    Target(at(HELD, 256), 1.25, than=at(HELD, 1), title="a call beside 256 held streams, to 1"),
]
