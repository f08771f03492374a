"""httpx2: with pydantic for typed calls; with a line decoder and msgspec, into our classes, for events."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator

import cattrs
import httpx2
import msgspec
import pydantic
from shapes import AT_ONCE, SENT, Event

from peers import Events, Operation, Operations, Where, pieces, together


class Model(pydantic.BaseModel):
    id: int
    name: str
    price: float
    tags: list[str]
    available: bool


def of_items(client: httpx2.AsyncClient) -> tuple[Operation, Operation]:
    async def get() -> bytes:
        return (await client.get("/item")).content

    async def typed() -> Model:
        return Model.model_validate_json((await client.post("/item", json=SENT)).content)

    return get, typed


@contextlib.asynccontextmanager
async def operations(where: Where) -> AsyncIterator[Operations]:
    context = ssl.create_default_context(cafile=where.ca)
    limits = httpx2.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    crowd = httpx2.AsyncClient(base_url=where.plain, limits=limits)
    shared = httpx2.AsyncClient(base_url=where.h2, http1=False, http2=True, verify=context)
    once = httpx2.AsyncClient(base_url=where.tls, verify=context, limits=httpx2.Limits(max_keepalive_connections=0))
    decoder = msgspec.json.Decoder(Event)
    structure = cattrs.Converter().structure
    async with httpx2.AsyncClient(base_url=where.plain) as client, crowd, shared, once:
        get, typed = of_items(client)
        get_too, typed_too = of_items(crowd)

        async def sse() -> Event | None:
            last, events = None, Events()
            async with client.stream("GET", "/events") as response:
                async for line in response.aiter_lines():
                    if (data := events.feed(line)) is not None:
                        last = decoder.decode(data)
            return last

        async def sse_cattrs() -> Event | None:
            last, events = None, Events()
            async with client.stream("GET", "/events") as response:
                async for line in response.aiter_lines():
                    if (data := events.feed(line)) is not None:
                        last = structure(msgspec.json.decode(data), Event)
            return last

        async def download() -> int:
            size = 0
            async with client.stream("GET", "/file") as response:
                async for piece in response.aiter_bytes():
                    size += len(piece)
            return size

        async def upload() -> bytes:
            return (await client.post("/sink", content=pieces())).content

        async def stream() -> bytes:
            return (await shared.get("/item")).content

        async def connect() -> bytes:
            return (await once.get("/item")).content

        await stream()  # it opens a connection for each of many that start at once
        yield {
            "get": get,
            "get100": together(get_too),
            "typed": typed,
            "typed100": together(typed_too),
            "h2": together(stream),
            "sse": sse,
            "sse+cattrs": sse_cattrs,
            "download": download,
            "upload": upload,
            "connect": connect,
        }


@contextlib.asynccontextmanager
async def idle(where: Where, count: int) -> AsyncIterator[Operations]:
    limits = httpx2.Limits(max_connections=count, max_keepalive_connections=count, keepalive_expiry=600)
    async with httpx2.AsyncClient(base_url=where.plain, limits=limits) as client:

        async def of(path: str) -> bytes:
            return (await client.get(path)).content

        yield {"one": lambda: of("/item"), "all": together(lambda: of(f"/together/{count}"), count)}
