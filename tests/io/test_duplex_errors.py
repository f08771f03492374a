"""Full duplex that fails: the caller's iterator, the limits, the peer, the block itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from anyio_client import (
    APIConnectionError,
    AsyncAPIClient,
    ConnectionLostError,
    DeadlineExceededError,
    HTTPTransport,
    Phase,
    ReadTimeoutError,
    Timeout,
    WriteTimeoutError,
)
from tests.kit.h2peer import Signal, again, check_nothing_is_left, pool_of
from tests.kit.peers import serve
from tests.kit.sides import PROTOCOLS, Body, H1Side, H2Side, Protocol, Side, client_for, speaking

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.spread,
    pytest.mark.usefixtures("no_socket_is_left"),
    pytest.mark.parametrize("protocol", PROTOCOLS),
]


class Mine(Exception):
    pass


ERRORS: dict[str, type[Exception]] = {
    "own": Mine,
    "os": OSError,
    "connection": ConnectionResetError,
    "our": ConnectionLostError,
}


def talking(side: Side) -> None:
    """Answers with what comes, and then waits."""
    if side.number == 2:
        side.serve()
    while True:
        path = side.head().path
        if path == "/again":
            side.answer()
            continue
        side.begin(kind="text/event-stream" if path == "/events" else "application/json")
        try:
            while data := side.piece():
                side.data(data)
            raise AssertionError("the request was made complete")
        except ConnectionError:
            if isinstance(side, H1Side):
                raise


def silent(side: Side) -> None:
    """Says nothing, and on HTTP/2 takes the body without any answer to it."""
    if side.number == 2:
        side.serve()
    while True:
        if side.head().path == "/again":
            side.answer()
            continue
        if isinstance(side, H2Side):
            side.wire.given_up(side.stream)
        else:
            assert side.given_up()
            return


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("error", ERRORS)
async def test_an_iterator_that_raises_while_the_head_is_waited_for(protocol: Protocol, error: str, kind: str) -> None:
    """Although the server is silent, and nothing else would ever wake whoever reads."""
    raised = ERRORS[error]("mine")

    def plain() -> Any:
        yield b"piece"
        raise raised

    content = Body(b"piece", error=raised) if kind == "async" else plain()
    with serve(speaking(protocol, silent)) as peer:
        async with client_for(protocol, peer, seconds=4) as client:
            with pytest.raises(ERRORS[error]) as caught:
                async with client.open("PUT", "/", content=content):
                    raise AssertionError("the block is not entered")
            assert caught.value is raised
            check_nothing_is_left(pool_of(client))
            await again(client)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", ["reading", "before reading", "leaving", "stream"])
async def test_an_iterator_that_raises_in_the_middle(protocol: Protocol, where: str, error: str) -> None:
    """The same object comes out where the answer is read, or at leaving the block; without a group."""
    raised = ERRORS[error]("mine")
    gate = anyio.Event()
    content = Body(b"piece", held=gate.wait, error=raised)

    async def fail() -> None:
        gate.set()
        for _ in range(50):
            await anyio.lowlevel.checkpoint()

    with serve(speaking(protocol, talking)) as peer:
        async with client_for(protocol, peer, seconds=4) as client:
            came: list[bytes] = []
            with pytest.raises(ERRORS[error]) as caught:
                if where == "stream":
                    async with client.stream("PUT", "/events", cast_to=object, content=content) as events:
                        gate.set()
                        await anext(events)
                else:
                    async with client.open("PUT", "/", content=content) as response:
                        if where == "leaving":
                            await fail()
                        else:
                            if where == "before reading":
                                await fail()
                            async for data in response.iter_bytes():
                                came.append(data)
                                gate.set()
                raise AssertionError("nothing came out")
            assert caught.value is raised
            assert content.closed
            check_nothing_is_left(pool_of(client))
            await again(client)
            assert peer.connections == (1 if protocol == "h2" else 2)


async def test_an_exception_of_the_block_wins_over_the_iterators(protocol: Protocol) -> None:
    gate = anyio.Event()
    content = Body(b"piece", held=gate.wait, error=OSError("the iterator's"))
    error = Mine("the block's")
    with serve(speaking(protocol, talking)) as peer:
        async with client_for(protocol, peer, seconds=4) as client:
            with pytest.raises(Mine) as caught:
                async with client.open("PUT", "/", content=content) as response:
                    gate.set()
                    with pytest.raises(OSError, match="the iterator's"):
                        await response.read()
                    raise error
            assert caught.value is error
            await again(client)


async def test_a_block_that_fails_is_not_talked_over_by_an_iterator_that_failed_unnoticed(protocol: Protocol) -> None:
    gate = anyio.Event()
    content = Body(b"piece", held=gate.wait, error=OSError("the iterator's"))
    error = Mine("the block's")
    with serve(speaking(protocol, talking)) as peer:
        async with client_for(protocol, peer, seconds=4) as client:
            with pytest.raises(Mine) as caught:
                async with client.open("PUT", "/", content=content):
                    gate.set()
                    for _ in range(50):
                        await anyio.lowlevel.checkpoint()
                    raise error
            assert caught.value is error
            await again(client)


@pytest.mark.parametrize("piece", ["text", None, 1])
async def test_pieces_that_are_no_bytes_are_a_type_error(protocol: Protocol, piece: Any) -> None:
    with serve(speaking(protocol, silent)) as peer:
        async with client_for(protocol, peer, seconds=4) as client:
            with pytest.raises(TypeError, match="a body is made of bytes"):
                async with client.open("PUT", "/", content=Body(b"a", piece)):
                    raise AssertionError("the block is not entered")
            await again(client)


async def test_blocks_leave_no_cancellation_behind(protocol: Protocol) -> None:
    """On asyncio a task counts the cancellations that it was asked for; a group that is left must count none."""

    def script(side: Side) -> None:
        while True:
            if side.head().path == "/again":
                side.answer()
                continue
            side.begin()
            assert side.given_up()
            if protocol == "h1":
                return

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            for _ in range(3):
                async with client.open("PUT", "/", content=Body(b"a", held=anyio.sleep_forever)):
                    pass
                if not _is_trio():
                    task = asyncio.current_task()
                    assert task is not None
                    assert task.cancelling() == 0
                await anyio.lowlevel.checkpoint()
            await again(client)


def _is_trio() -> bool:
    return (
        "Trio" in type(anyio.lowlevel.current_token()).__name__
        or anyio.lowlevel.current_token().backend_class.__name__ == "TrioBackend"
    )


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["head", "body"])
async def test_the_read_timeout_does_not_run_while_we_send_and_does_afterwards(protocol: Protocol, when: str) -> None:
    """A caller may take all the time for the next piece; once the request is complete, the server may not."""
    times: list[float] = []

    class Slow(Body):
        async def __anext__(self) -> bytes:
            await anyio.sleep(0.15)
            if not self.left:
                times.append(anyio.current_time())
            return await super().__anext__()

    def script(side: Side) -> None:
        if side.number == 2:
            side.serve()
        while True:
            if side.head().path == "/again":
                side.answer()
                continue
            if when == "body":
                side.begin()
            side.body()
            assert side.given_up()
            if protocol == "h1":
                return

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer, max_retries=0, seconds=6) as client:
            options = {"timeout": Timeout(5, read=0.1)}
            entered = False
            with pytest.raises(ReadTimeoutError, match=r"for 0\.1 s") as caught:
                async with client.open("PUT", "/", content=Slow(b"a", b"b"), options=options) as response:
                    entered = True
                    await response.read()
            ended = anyio.current_time()
            assert entered is (when == "body")
            assert caught.value.phase is (Phase.BODY if when == "body" else Phase.RECEIVE)
            assert 0.08 <= ended - times[-1] < 2.0
            check_nothing_is_left(pool_of(client))
            await again(client)


async def test_the_write_timeout_is_the_senders(protocol: Protocol) -> None:
    """A server that takes nothing, although it talks all the time."""
    over = Signal()

    def script(side: Side) -> None:
        if side.number == 2:
            side.serve()
        side.head()
        side.begin()
        try:
            while not over.is_set:
                side.data(b"x")
                side.peer.server.pause(0.02)
        except OSError:
            pass
        over.wait()

    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield bytes(2**20)

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer, max_retries=0, seconds=6) as client:
            options = {"timeout": Timeout(5, write=0.15)}
            with pytest.raises(WriteTimeoutError, match=r"for 0\.15 s"):
                async with client.open("PUT", "/", content=pieces(), options=options) as response:
                    async for _ in response.iter_bytes():
                        pass
            over.set()
            check_nothing_is_left(pool_of(client))


@pytest.mark.parametrize("where", ["head", "reading", "iterator", "leaving"])
async def test_the_deadline_ends_all_of_it(protocol: Protocol, where: str) -> None:
    content = Body(b"piece", held=anyio.sleep_forever)

    def script(side: Side) -> None:
        if side.number == 2:
            side.serve()
        while True:
            if side.head().path == "/again":
                side.answer()
                continue
            if where != "head":
                side.begin()
            assert side.given_up()
            if protocol == "h1":
                return

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer, seconds=6) as client:
            began = anyio.current_time()

            async def run() -> None:
                async with client.open("PUT", "/", content=content, options={"deadline": 0.15}) as response:
                    if where == "leaving":
                        await anyio.sleep(0.4)  # nobody reads, so nobody hears of it
                        assert content.closed
                        return
                    await response.read()

            if where == "leaving":
                await run()
            else:
                with pytest.raises(DeadlineExceededError):
                    await run()
            assert 0.1 <= anyio.current_time() - began < 2.0
            assert content.closed
            check_nothing_is_left(pool_of(client))
            await again(client)


# --- the peer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before the head", "in the body"])
async def test_a_connection_that_is_lost_ends_the_upload(protocol: Protocol, when: str) -> None:
    content = Body(b"piece", held=anyio.sleep_forever)

    def script(side: Side) -> None:
        if side.number == 2:
            side.serve()
        side.head()
        side.piece()
        if when == "in the body":
            side.begin()
            side.data(b"x")
            side.peer.server.pause(0.02)
        side.lose()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer, seconds=6) as client:
            with pytest.raises(ConnectionLostError):
                async with client.open("PUT", "/", content=content) as response:
                    await response.read()
            assert content.closed
            check_nothing_is_left(pool_of(client))
            await again(client)


async def test_closing_the_client_ends_the_block_and_the_upload(protocol: Protocol) -> None:
    content = Body(b"piece", held=anyio.sleep_forever)
    with serve(speaking(protocol, talking)) as peer:
        with anyio.fail_after(6):
            transport = HTTPTransport(http1=protocol == "h1", http2=protocol == "h2")
            client = AsyncAPIClient(base_url=peer.url, http_client=transport)
            with pytest.raises(APIConnectionError, match="closed"):
                async with client.open("PUT", "/", content=content) as response:
                    answers = response.iter_bytes()
                    assert await anext(answers) == b"piece"
                    await client.close()
                    await anext(answers)
            assert content.closed


async def test_an_iterator_that_ignores_being_closed_holds_nobody_for_long(protocol: Protocol) -> None:
    """Closing it is bounded by a second (DESIGN 3.4: closing is shielded and bounded)."""

    class Stubborn(Body):
        async def aclose(self) -> None:
            await anyio.sleep(60)

    content = Stubborn(b"piece", held=anyio.sleep_forever)
    with serve(speaking(protocol, talking)) as peer:
        async with client_for(protocol, peer, seconds=5) as client:
            began = anyio.current_time()
            async with client.open("PUT", "/", content=content):
                pass
            assert anyio.current_time() - began < 2.0
            await again(client)
