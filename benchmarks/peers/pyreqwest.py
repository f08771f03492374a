"""pyreqwest, which runs on a thread of its own and on asyncio only; msgspec makes the classes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec
from pyreqwest.client import Client, ClientBuilder
from shapes import AT_ONCE, SENT, Item

from peers import Operation, Operations, Where, pieces, together


def of_items(client: Client) -> tuple[Operation, Operation]:
    decoder = msgspec.json.Decoder(Item)

    async def get() -> bytes:
        return bytes(await (await client.get("/item").build().send()).bytes())

    async def typed() -> Item:
        return decoder.decode(await (await client.post("/item").body_json(SENT).build().send()).bytes())

    return get, typed


@contextlib.asynccontextmanager
async def operations(where: Where) -> AsyncIterator[Operations]:
    ca = where.authority()
    async with (
        ClientBuilder().base_url(where.plain).build() as client,
        ClientBuilder().base_url(where.plain).pool_max_idle_per_host(AT_ONCE).build() as crowd,
        ClientBuilder().base_url(where.h2).add_root_certificate_pem(ca).http2(True).build() as shared,
        ClientBuilder().base_url(where.tls).add_root_certificate_pem(ca).pool_max_idle_per_host(0).build() as once,
    ):
        get, typed = of_items(client)
        get_too, typed_too = of_items(crowd)

        async def download() -> int:
            size = 0
            async with client.get("/file").build_streamed() as response:
                while piece := await response.body_reader.read_chunk():
                    size += len(piece)
            return size

        async def upload() -> bytes:
            return bytes(await (await client.post("/sink").body_stream(pieces()).build().send()).bytes())

        async def stream() -> bytes:
            return bytes(await (await shared.get("/item").build().send()).bytes())

        async def connect() -> bytes:
            return bytes(await (await once.get("/item").build().send()).bytes())

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
