"""One client on one event loop, in a process of its own: ``peers.py PEER LOOP PORT PORT2 CA OPERATIONS``; prints JSON.

Each peer is used as its documentation shows, with its defaults. The modules of the others are not even imported, so
that no peer carries another's memory or patches.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import json
import logging
import os
import resource
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from types import CodeType, FrameType
from typing import Any, TypeAlias

import anyio
import attrs

Operation: TypeAlias = Callable[[], Awaitable[Any]]
Operations: TypeAlias = dict[str, Operation]

PEERS = ("ours", "httpx2", "aiohttp")
LOOPS = ("asyncio", "uvloop", "trio")
OPERATIONS = ("get", "typed", "streams")
STREAMS = 100  # requests at once over one HTTP/2 connection: one operation is one of them
SENT = {"name": "a small item", "price": 12.5, "tags": ["red", "round"]}
COUNTED = 50  # operations under the profile hook: enough to see whether they are all alike


@attrs.define
class Item:
    id: int
    name: str
    price: float
    tags: list[str]
    available: bool


EXPECTED = Item(id=7, name="a small item", price=12.5, tags=["red", "round"], available=True)


async def at_once(operation: Operation) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(STREAMS):
            group.start_soon(operation)


@contextlib.asynccontextmanager
async def ours(base: str, base2: str, ca: str) -> AsyncIterator[Operations]:
    import anyio_client

    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    shared = anyio_client.AsyncAPIClient(base_url=base2, http_client=anyio_client.HTTPTransport(tls=context))
    async with anyio_client.AsyncAPIClient(base_url=base) as client, shared:

        async def get() -> bytes:
            return await client.get("/item", cast_to=bytes)

        async def typed() -> Item:
            return await client.post("/item", body=SENT, cast_to=Item)

        async def stream() -> None:
            assert len(await shared.get("/item", cast_to=bytes)) > 10

        yield {"get": get, "typed": typed, "streams": lambda: at_once(stream)}


@contextlib.asynccontextmanager
async def httpx2(base: str, base2: str, ca: str) -> AsyncIterator[Operations]:
    import httpx2
    import pydantic

    class Model(pydantic.BaseModel):
        id: int
        name: str
        price: float
        tags: list[str]
        available: bool

    shared = httpx2.AsyncClient(base_url=base2, http1=False, http2=True, verify=ssl.create_default_context(cafile=ca))
    async with httpx2.AsyncClient(base_url=base) as client, shared:

        async def get() -> bytes:
            return (await client.get("/item")).content

        async def typed() -> Model:
            return Model.model_validate_json((await client.post("/item", json=SENT)).content)

        async def stream() -> None:
            assert len((await shared.get("/item")).content) > 10

        await stream()  # it opens a connection for each of many that start at once
        yield {"get": get, "typed": typed, "streams": lambda: at_once(stream)}


@contextlib.asynccontextmanager
async def aiohttp(base: str, base2: str, ca: str) -> AsyncIterator[Operations]:
    import aiohttp
    import cattrs

    converter = cattrs.Converter()
    async with aiohttp.ClientSession(base) as session:

        async def get() -> bytes:
            async with session.get("/item") as response:
                return await response.read()

        async def typed() -> Item:
            async with session.post("/item", json=SENT) as response:
                return converter.structure(await response.json(), Item)

        yield {"get": get, "typed": typed}


async def check(operations: Operations) -> None:
    """A fast wrong answer is no result: look at one of each before anything is measured."""
    body = await operations["get"]()
    assert Item(**json.loads(body)) == EXPECTED, body
    item = await operations["typed"]()
    assert Item(**{name: getattr(item, name) for name in attrs.fields_dict(Item)}) == EXPECTED, item


async def cpu_of(operation: Operation, times: int) -> float:
    """Microseconds of user and system time for one operation, all threads of this process together."""
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(times):
        await operation()
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds / times * 1e6


async def calls_of(operation: Operation, times: int) -> list[collections.Counter[CodeType]]:
    """For each of some operations, how often each function was entered, the event loop's own included.

    "call" events, which are also sent when a coroutine is resumed; the frames of this file do not count.
    """
    counters: list[collections.Counter[CodeType]] = []
    for _ in range(times):
        counter: collections.Counter[CodeType] = collections.Counter()

        def hook(frame: FrameType, event: str, arg: object, counter: collections.Counter[CodeType] = counter) -> None:
            if event == "call" and frame.f_code.co_filename != __file__:
                counter[frame.f_code] += 1

        sys.setprofile(hook)
        try:
            await operation()
        finally:
            sys.setprofile(None)
        counters.append(counter)
    return counters


def name_of(code: CodeType) -> str:
    """``package/module.py:function``, without where it is installed."""
    path = code.co_filename
    for root in sorted(filter(None, sys.path), key=len, reverse=True):
        path = path.removeprefix(root.rstrip(os.sep) + os.sep)
    return f"{path}:{code.co_qualname}"


async def measure(peer: str, base: str, base2: str, ca: str, times: int) -> dict[str, Any]:
    clients = {"ours": ours, "httpx2": httpx2, "aiohttp": aiohttp}
    found: dict[str, Any] = {}
    async with clients[peer](base, base2, ca) as operations:
        await check(operations)
        for name, operation in operations.items():
            each = STREAMS if name == "streams" else 1
            # warm: caches, specialised bytecode, the heap
            await cpu_of(operation, max(100 // each, times // each // 5))
            found[name] = {"us": await cpu_of(operation, max(3, times // each)) / each}
        for name, operation in operations.items():  # after all timing, which the hook must not slow
            each = STREAMS if name == "streams" else 1
            counters = await calls_of(operation, max(3, COUNTED // each))
            middle = sorted(counters, key=lambda counter: counter.total())[len(counters) // 2]
            found[name]["calls"] = [round(counter.total() / each) for counter in counters]
            found[name]["functions"] = [(name_of(code), count) for code, count in middle.most_common()]
    return found


def main() -> None:
    peer, loop, port, port2, ca, times = *sys.argv[1:6], int(sys.argv[6])
    logging.disable(logging.CRITICAL)
    bases = (f"http://127.0.0.1:{port}", f"https://localhost:{port2}", ca)
    match loop:
        case "asyncio":
            found = asyncio.run(measure(peer, *bases, times))
        case "uvloop":
            import uvloop

            found = uvloop.run(measure(peer, *bases, times))
        case "trio":
            import trio

            found = trio.run(measure, peer, *bases, times)
        case _:
            raise SystemExit(f"no such loop: {loop}")
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
