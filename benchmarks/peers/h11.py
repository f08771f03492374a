"""A floor: h11 over streams of anyio, as the shortest correct client of one's own would be."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import anyio
import anyio.abc
import h11
import msgspec
from shapes import Event

from peers import Events, Operations, Where, together
from peers.raw import address

READ = 65536
HEADERS = [("host", "127.0.0.1"), ("user-agent", "h11"), ("accept", "*/*")]


class Connection:
    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self.stream = stream
        self.h11 = h11.Connection(our_role=h11.CLIENT)

    async def ask(self, target: str) -> None:
        head = self.h11.send(h11.Request(method="GET", target=target, headers=HEADERS)) or b""
        await self.stream.send(head + (self.h11.send(h11.EndOfMessage()) or b""))

    async def event(self) -> object:
        while (event := self.h11.next_event()) is h11.NEED_DATA:
            self.h11.receive_data(await self.stream.receive(READ))
        return event


@contextlib.asynccontextmanager
async def operations(where: Where) -> AsyncIterator[Operations]:
    decoder = msgspec.json.Decoder(Event)
    free: list[Connection] = []
    made: list[Connection] = []

    async def take() -> Connection:
        if free:
            return free.pop()
        made.append(Connection(await anyio.connect_tcp(*address(where.plain))))
        return made[-1]

    def give_back(connection: Connection) -> None:
        connection.h11.start_next_cycle()
        free.append(connection)

    async def get() -> bytes:
        connection = await take()
        await connection.ask("/item")
        body = []
        while not isinstance(event := await connection.event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                body.append(event.data)
        give_back(connection)
        return b"".join(body)

    async def sse() -> Event | None:
        last, events, rest = None, Events(), b""
        connection = await take()
        await connection.ask("/events")
        while not isinstance(event := await connection.event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                *lines, rest = (rest + event.data).split(b"\n")
                for line in lines:
                    if (data := events.feed(line.decode())) is not None:
                        last = decoder.decode(data)
        give_back(connection)
        return last

    yield {"get": get, "get100": together(get), "sse": sse}
    for connection in made:
        await connection.stream.aclose()
