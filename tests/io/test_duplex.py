"""Full duplex: in the blocks ``client.open()`` and ``client.stream()`` a body goes on being sent while the answer is read."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from anyio_client import ServerSentEvent
from tests.kit.h2peer import Signal, again, connection_of
from tests.kit.peers import serve
from tests.kit.sides import PROTOCOLS, Body, H2Side, Protocol, Side, client_for, speaking

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.spread,
    pytest.mark.usefixtures("no_socket_is_left"),
    pytest.mark.parametrize("protocol", PROTOCOLS),
]


def echo(side: Side) -> None:
    """Gives each piece back as it comes; /again gets an ordinary answer."""
    while True:
        if side.head().path == "/again":
            side.body()
            side.answer()
            continue
        side.begin()
        while data := side.piece():
            side.data(data)
        side.end()


# --- there and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory stream", "async generator", "object"])
async def test_a_hundred_pings_get_a_hundred_pongs(protocol: Protocol, kind: str) -> None:
    """Each ping is made only when the pong before it was read."""
    with serve(speaking(protocol, echo)) as peer:
        async with client_for(protocol, peer) as client:
            send, receive = anyio.create_memory_object_stream[bytes](1)

            async def generate() -> AsyncIterator[bytes]:
                async for piece in receive:
                    yield piece

            class Pieces:
                def __aiter__(self) -> AsyncIterator[bytes]:
                    return self

                async def __anext__(self) -> bytes:
                    return await anext(receive)

            content: Any = {"memory stream": receive, "async generator": generate(), "object": Pieces()}[kind]
            with send, receive:
                async with client.open("POST", "/", content=content) as response:
                    answers = response.iter_bytes()
                    for number in range(100):
                        ping = b"%d." % number
                        await send.send(ping)
                        pong = b""
                        while len(pong) < len(ping):
                            pong += await anext(answers)
                        assert pong == ping
                    send.close()
                    with pytest.raises(StopAsyncIteration):
                        await anext(answers)
            await again(client)
            assert peer.connections == 1


async def test_the_head_may_come_after_some_of_the_body(protocol: Protocol) -> None:
    def script(side: Side) -> None:
        side.head()
        while len(side.received) < 2000:
            side.piece()
        side.begin()
        side.data(b"[1,")
        side.body()
        side.data(b"2]")
        side.end()
        side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            async with client.open("POST", "/", content=Body(*[b"x" * 1000] * 4)) as response:
                assert await response.json() == [1, 2]
            await again(client)
            assert peer.connections == 1


def echo_and_forget(side: Side) -> None:
    """As ``echo``, but the server's notes do not grow with what comes."""
    side.head()
    side.begin()
    while data := side.piece():
        side.received.clear()
        if isinstance(side, H2Side):
            del side.judge.frames[1:]
        side.data(data)
    side.end()
    side.serve()


async def test_fifty_megabytes_come_back_in_constant_memory(protocol: Protocol) -> None:
    """More than an early answer is ever read ahead. While nobody reads, the server comes to a stop, and so do we."""
    piece = bytes(range(256)) * 1024
    count, made = 200, 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal made
        for made in range(1, count + 1):  # noqa: B007 - it is looked at from outside
            yield piece

    with serve(speaking(protocol, echo_and_forget)) as peer:
        async with client_for(protocol, peer, seconds=20) as client:
            async with client.open("POST", "/", content=pieces()) as response:
                tracemalloc.start()
                try:
                    before = -1
                    while before < made:
                        before = made
                        await anyio.sleep(0.1)
                    assert 0 < made < count / 2
                    size = 0
                    async for data in response.iter_bytes():
                        size += len(data)
                    _, most = tracemalloc.get_traced_memory()
                finally:
                    tracemalloc.stop()
            assert size == count * len(piece) == 52_428_800
            assert most < 16 * 2**20
            await again(client)
            assert peer.connections == 1


async def test_two_at_once_on_one_connection(protocol: Protocol) -> None:
    """On HTTP/2; HTTP/1.1 takes a connection for each."""
    opened = Signal()

    def script(side: Side) -> None:
        if not isinstance(side, H2Side):
            echo(side)
            return
        first = side.wire.ask(whole=False)
        second = side.wire.ask(whole=False)
        opened.set()
        side.asked = first
        side.begin()
        side.asked = second
        side.begin()
        done: set[int] = set()
        while len(done) < 2:
            for asked in (first, second):
                side.asked = asked
                side.complete = False
                if data := side._take():
                    side.data(data)
                if side.complete and asked.stream not in done:
                    done.add(asked.stream)
                    side.end()
            if len(done) < 2:
                side.wire.poll()
        side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            if protocol == "h1":
                opened.set()
            answers: dict[int, bytes] = {}

            async def talk(number: int) -> None:
                pieces = [b"%d" % number * 1000] * 30
                body = Body(*pieces, held=opened.seen)
                async with client.open("POST", "/", content=body) as response:
                    answers[number] = await response.read()

            async with anyio.create_task_group() as group:
                group.start_soon(talk, 1)
                group.start_soon(talk, 2)
            assert answers == {1: b"1" * 30_000, 2: b"2" * 30_000}
            assert peer.connections == (1 if protocol == "h2" else 2)


async def test_events_are_read_while_the_upload_goes_on(protocol: Protocol) -> None:
    def script(side: Side) -> None:
        side.head()
        side.begin(kind="text/event-stream")
        while data := side.piece():
            side.data(b"data: %b\n\n" % data)
        side.data(b"data: end\n\n")
        side.end()
        side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            send, receive = anyio.create_memory_object_stream[bytes](1)
            with send, receive:
                await send.send(b"0")
                async with client.stream("POST", "/", cast_to=ServerSentEvent, content=receive) as events:
                    for number in range(1, 20):
                        assert (await anext(events)).data == str(number - 1)
                        await send.send(b"%d" % number)
                    send.close()
                    assert [event.data async for event in events] == ["19", "end"]
            await again(client)
            assert peer.connections == 1


async def test_a_body_of_bytes_needs_no_task(protocol: Protocol) -> None:
    """And goes on as with the verbs: it is sent while the answer is read ahead."""
    with serve(speaking(protocol, echo)) as peer:
        async with client_for(protocol, peer) as client:
            async with client.open("POST", "/", content=bytes(3_000_000)) as response:
                assert len(await response.read()) == 3_000_000
            assert connection_of(client)
            await again(client)
