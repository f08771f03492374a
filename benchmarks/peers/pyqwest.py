"""pyqwest, which runs on threads of its own, and on trio too; msgspec makes the classes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec
import pyqwest
from shapes import AT_ONCE, SENT, Item

from peers import Operation, Operations, Where, pieces, together


def of_items(client: pyqwest.Client, base: str) -> tuple[Operation, Operation]:
    decoder = msgspec.json.Decoder(Item)

    async def get() -> bytes:
        return (await client.get(f"{base}/item")).content

    async def typed() -> Item:
        return decoder.decode((await client.post(f"{base}/item", content=SENT)).content)

    return get, typed


@contextlib.asynccontextmanager
async def operations(where: Where) -> AsyncIterator[Operations]:
    ca = where.authority()
    async with (
        pyqwest.HTTPTransport() as first,
        pyqwest.HTTPTransport(pool_max_idle_per_host=AT_ONCE) as many,
        pyqwest.HTTPTransport(tls_ca_cert=ca, http_version=pyqwest.HTTPVersion.HTTP2) as second,
        pyqwest.HTTPTransport(tls_ca_cert=ca, pool_max_idle_per_host=0) as leaving,
    ):
        client, shared, once = pyqwest.Client(first), pyqwest.Client(second), pyqwest.Client(leaving)
        get, typed = of_items(client, where.plain)
        get_too, typed_too = of_items(pyqwest.Client(many), where.plain)

        async def download() -> int:
            size = 0
            async with client.stream("GET", f"{where.plain}/file") as response:
                async for piece in response.content:
                    size += len(piece)
            return size

        async def upload() -> bytes:
            return (await client.post(f"{where.plain}/sink", content=pieces())).content

        async def stream() -> bytes:
            return (await shared.get(f"{where.h2}/item")).content

        async def connect() -> bytes:
            return (await once.get(f"{where.tls}/item")).content

        await stream()
        yield {
            "get": get,
            "get100": together(get_too),
            "typed": typed,
            "typed100": together(typed_too),
            "h2": together(stream),
            "download": download,
            "upload": upload,
            "connect": connect,
        }
