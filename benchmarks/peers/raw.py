"""A floor: bytes made beforehand over streams of anyio, read until the known answer is there. No client at all."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import anyio
import anyio.abc
import msgspec
from servers.http1 import FILE_HEAD, ITEM, STREAM
from shapes import BODY, SIZE, Event

from peers import Operations, Where, pieces, together

REQUEST = b"%b HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: raw\r\naccept: */*\r\n"
GET = REQUEST % b"GET /item" + b"\r\n"
GET_EVENTS = REQUEST % b"GET /events" + b"\r\n"
GET_FILE = REQUEST % b"GET /file" + b"\r\n"
POST_SINK = REQUEST % b"POST /sink" + b"transfer-encoding: chunked\r\n\r\n"
READ = 256 * 1024  # as much as asyncio reads at once: with less, anyio cuts and copies
HEAD_END = b"\r\n\r\n"


def address(url: str) -> tuple[str, int]:
    host, _, port = url.partition("://")[2].partition(":")
    return host, int(port)


@contextlib.asynccontextmanager
async def operations(where: Where) -> AsyncIterator[Operations]:
    events = msgspec.json.Decoder(Event)
    free: list[anyio.abc.ByteStream] = []
    made: list[anyio.abc.ByteStream] = []

    async def take() -> anyio.abc.ByteStream:
        if free:
            return free.pop()
        stream = await anyio.connect_tcp(*address(where.plain))
        made.append(stream)
        return stream

    async def read(stream: anyio.abc.ByteStream, length: int) -> bytes:
        data = await stream.receive()
        while len(data) < length:
            data += await stream.receive()
        return data

    async def get() -> bytes:
        stream = await take()
        await stream.send(GET)
        data = await read(stream, len(ITEM))
        free.append(stream)
        return data[-len(BODY) :]

    async def sse() -> Event | None:
        last = None
        stream = await take()
        await stream.send(GET_EVENTS)
        data = await read(stream, len(STREAM))
        for line in data.split(b"\n"):
            if line.startswith(b"data: "):
                last = events.decode(line[6:])
        free.append(stream)
        return last

    async def download() -> int:
        stream = await take()
        await stream.send(GET_FILE)
        size = -len(FILE_HEAD)
        while size < SIZE:
            size += len(await stream.receive(READ))
        free.append(stream)
        return size

    async def upload() -> bytes:
        stream = await take()
        await stream.send(POST_SINK)
        async for piece in pieces():
            await stream.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await stream.send(b"0\r\n\r\n")
        data = await stream.receive()
        free.append(stream)
        return data.partition(HEAD_END)[2]

    yield {"get": get, "get100": together(get), "sse": sse, "download": download, "upload": upload}
    for stream in made:
        await stream.aclose()


@contextlib.asynccontextmanager
async def idle(where: Where, count: int) -> AsyncIterator[Operations]:
    streams: list[anyio.abc.ByteStream] = []

    async def of(path: bytes) -> None:
        stream = await anyio.connect_tcp(*address(where.plain))
        streams.append(stream)
        await stream.send(REQUEST % (b"GET " + path) + b"\r\n")
        await stream.receive()

    yield {"one": lambda: of(b"/item"), "all": together(lambda: of(b"/together/%d" % count), count)}
    for stream in streams:
        await stream.aclose()
