"""Where the client CPU of one GET goes, by room: ``where.py [asyncio|uvloop|trio]``. The picture in docs/design.md.

A timer of the process's CPU time looks, each millisecond, at which line runs; what C code does counts for the line that
called it.
"""

from __future__ import annotations

import asyncio
import collections
import json
import linecache
import logging
import pathlib
import re
import signal
import sys
import time
from types import FrameType

from processes import Child, cores, pin

import anyio_client

SECONDS = 8.0  # of CPU
WIDTH = 56  # of the longest bar
PACKAGE = str(pathlib.Path(anyio_client.__file__).parent)
ROOMS = {
    "_core": "_core: the call, the pool, the fields",
    "_wire": "_wire: bytes to send, bytes received",
    "_io": "_io: connection, exchange, clock, stream",
    "_model": "_model: options, headers, request",
    "transports": "transports: the door",
}


def room_of(frame: FrameType) -> str:
    path = frame.f_code.co_filename
    line = linecache.getline(path, frame.f_lineno or 0)
    if re.search(r"sock\w*\.(send|recv)\(|_selector\.poll\(|epoll\.poll\(", line):
        return "the kernel: send, recv, poll"
    if path.startswith(PACKAGE):
        parts = pathlib.Path(path).relative_to(PACKAGE).parts
        return ROOMS.get(parts[0], "front rooms: from options to result")
    if "attrs generated" in path:
        return "classes made (attrs)"
    return "the event loop, and anyio"


async def sample(url: str) -> tuple[float, collections.Counter[str]]:
    """Microseconds for one GET, and how many looks met each room."""
    found: collections.Counter[str] = collections.Counter()

    def look(number: int, frame: FrameType | None) -> None:
        if frame is not None:
            found[room_of(frame)] += 1

    async with anyio_client.AsyncAPIClient(base_url=url) as client:
        for _ in range(500):
            await client.get("/item", cast_to=bytes)
        signal.signal(signal.SIGPROF, look)
        signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
        began, count = time.process_time(), 0
        while time.process_time() - began < SECONDS:
            for _ in range(100):
                await client.get("/item", cast_to=bytes)
            count += 100
        signal.setitimer(signal.ITIMER_PROF, 0)
        return (time.process_time() - began) / count * 1e6, found


def main() -> None:
    loop = sys.argv[1] if len(sys.argv) > 1 else "asyncio"
    logging.disable(logging.CRITICAL)
    places = cores()
    if places is not None:
        pin(places[0])
    with Child("benchmarks/serve.py") as server:
        url = json.loads(server.read())["plain"]
        if places is not None:
            pin(places[1])
        if loop == "trio":
            import trio

            each, found = trio.run(sample, url)
        elif loop == "uvloop":
            import uvloop

            each, found = uvloop.run(sample(url))
        else:
            each, found = asyncio.run(sample(url))
    print(f"one GET on {loop}: {each:.0f} µs of client CPU")
    most = max(found.values())
    for room, looks in found.most_common():
        share = looks / found.total()
        print(f"{room:42} {share * each:5.1f} µs {share:4.0%} {'#' * max(1, round(looks / most * WIDTH))}")


if __name__ == "__main__":
    main()
