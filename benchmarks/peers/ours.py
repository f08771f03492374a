"""anyio_client."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator

from shapes import SENT, Event, Item

import anyio_client
from anyio_client import AsyncAPIClient, AsyncStream, HTTPTransport, Limits
from peers import Operation, Operations, Where, pieces, together


def of_items(client: AsyncAPIClient) -> tuple[Operation, Operation]:
    async def get() -> bytes:
        return await client.get("/item", cast_to=bytes)

    async def typed() -> Item:
        return await client.post("/item", body=SENT, cast_to=Item)

    return get, typed


@contextlib.asynccontextmanager
async def operations(where: Where) -> AsyncIterator[Operations]:
    context = ssl.create_default_context(cafile=where.ca)
    context2 = ssl.create_default_context(cafile=where.ca)
    context2.set_alpn_protocols(["h2"])
    shared = AsyncAPIClient(base_url=where.h2, http_client=HTTPTransport(tls=context2))
    leaving = HTTPTransport(tls=context, limits=Limits(max_keepalive_connections=0))
    once = AsyncAPIClient(base_url=where.tls, http_client=leaving)
    crowd = AsyncAPIClient(base_url=where.plain)
    async with AsyncAPIClient(base_url=where.plain) as client, crowd, shared, once:
        get, typed = of_items(client)
        get_too, typed_too = of_items(crowd)

        async def sse() -> Event | None:
            last = None
            async with await client.get("/events", cast_to=Event, stream=True, stream_cls=AsyncStream[Event]) as events:
                async for event in events:
                    last = event
            return last

        async def download() -> int:
            size = 0
            async with client.open("GET", "/file") as response:
                async for piece in response.iter_bytes():
                    size += len(piece)
            return size

        async def upload() -> bytes:
            return await client.post("/sink", cast_to=bytes, content=pieces())

        async def stream() -> bytes:
            return await shared.get("/item", cast_to=bytes)

        async def connect() -> bytes:
            return await once.get("/item", cast_to=bytes)

        yield {
            "get": get,
            "get100": together(get_too),
            "typed": typed,
            "typed100": together(typed_too),
            "h2": together(stream),
            "sse": sse,
            "download": download,
            "upload": upload,
            "connect": connect,
        }


@contextlib.asynccontextmanager
async def idle(where: Where, count: int) -> AsyncIterator[Operations]:
    """For the memory of idle connections: ``one`` GET, and ``all`` at once on as many connections."""
    limits = Limits(max_connections=count, max_keepalive_connections=count, keepalive_expiry=600)
    transport = anyio_client.HTTPTransport(limits=limits)
    async with AsyncAPIClient(base_url=where.plain, http_client=transport) as client:

        async def of(path: str) -> bytes:
            return await client.get(path, cast_to=bytes)

        yield {"one": lambda: of("/item"), "all": together(lambda: of(f"/together/{count}"), count)}
