"""aiohttp: with cattrs, and with msgspec straight into the same classes, which is the cheapest."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator

import aiohttp
import cattrs
import msgspec
from shapes import SENT, Event, Item

from peers import Events, Operation, Operations, Where, pieces, together


def of_items(session: aiohttp.ClientSession) -> tuple[Operation, Operation]:
    decoder = msgspec.json.Decoder(Item)

    async def get() -> bytes:
        async with session.get("/item") as response:
            return await response.read()

    async def typed() -> Item:
        async with session.post("/item", json=SENT) as response:
            return decoder.decode(await response.read())

    return get, typed


@contextlib.asynccontextmanager
async def operations(where: Where) -> AsyncIterator[Operations]:
    context = ssl.create_default_context(cafile=where.ca)
    structure = cattrs.Converter().structure
    decoder = msgspec.json.Decoder(Event)
    leaving = aiohttp.TCPConnector(force_close=True, ssl=context)
    async with (
        aiohttp.ClientSession(where.plain) as session,
        aiohttp.ClientSession(where.plain) as crowd,  # a hundred connections, and all of them kept
        aiohttp.ClientSession(where.tls, connector=leaving) as once,
    ):
        get, typed = of_items(session)
        get_too, typed_too = of_items(crowd)

        async def typed_cattrs() -> Item:
            async with session.post("/item", json=SENT) as response:
                return structure(await response.json(), Item)

        async def sse() -> Event | None:
            last, events = None, Events()
            async with session.get("/events") as response:
                async for line in response.content:
                    if (data := events.feed(line.decode().rstrip("\r\n"))) is not None:
                        last = decoder.decode(data)
            return last

        async def sse_cattrs() -> Event | None:
            last, events = None, Events()
            async with session.get("/events") as response:
                async for line in response.content:
                    if (data := events.feed(line.decode().rstrip("\r\n"))) is not None:
                        last = structure(msgspec.json.decode(data), Event)
            return last

        async def download() -> int:
            size = 0
            async with session.get("/file") as response:
                async for piece in response.content.iter_any():
                    size += len(piece)
            return size

        async def upload() -> bytes:
            async with session.post("/sink", data=pieces()) as response:
                return await response.read()

        async def connect() -> bytes:
            async with once.get("/item") as response:
                return await response.read()

        yield {
            "get": get,
            "get100": together(get_too),
            "typed": typed,
            "typed+cattrs": typed_cattrs,
            "typed100": together(typed_too),
            "sse": sse,
            "sse+cattrs": sse_cattrs,
            "download": download,
            "upload": upload,
            "connect": connect,
        }


@contextlib.asynccontextmanager
async def idle(where: Where, count: int) -> AsyncIterator[Operations]:
    connector = aiohttp.TCPConnector(limit=count, keepalive_timeout=600)
    async with aiohttp.ClientSession(where.plain, connector=connector) as session:

        async def of(path: str) -> bytes:
            async with session.get(path) as response:
                return await response.read()

        yield {"one": lambda: of("/item"), "all": together(lambda: of(f"/together/{count}"), count)}
