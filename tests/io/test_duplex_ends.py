"""Full duplex where one side ends before the other: the block is left, the answer is complete, or says no."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from anyio_client import AsyncAPIClient, ContentTooLargeError
from tests.kit.h2peer import Signal, again, check_nothing_is_left, pool_of
from tests.kit.peers import serve
from tests.kit.sides import PROTOCOLS, Body, Protocol, Side, client_for, speaking

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.spread,
    pytest.mark.usefixtures("no_socket_is_left"),
    pytest.mark.parametrize("protocol", PROTOCOLS),
]


async def settled(client: AsyncAPIClient) -> None:
    """Nothing is held any more."""
    check_nothing_is_left(pool_of(client))


class Held(Body):
    """A piece, then a wait that only closing ends; ``closed`` once it was given up."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__(*pieces, held=anyio.sleep_forever)


def pieces_of(body: str, notes: list[str]) -> Any:
    """A body that never ends, as an object or as a generator; closing it is noted."""
    if body == "object":
        made = Held(b"piece")

        async def aclose() -> None:
            notes.append("closed")

        made.aclose = aclose  # type: ignore[method-assign]
        return made

    async def generate() -> AsyncIterator[bytes]:
        try:
            yield b"piece"
            await anyio.sleep_forever()
        finally:
            notes.append("closed")

    return generate()


@pytest.mark.parametrize("body", ["object", "generator"])
@pytest.mark.parametrize("how", ["at once", "after a pong", "by an exception"])
async def test_leaving_the_block_early_ends_the_upload(protocol: Protocol, how: str, body: str) -> None:
    notes: list[str] = []
    over = Signal()

    def script(side: Side) -> None:
        if side.number == 2:
            side.serve()
        side.head()
        side.begin()
        if how == "at once":
            pass
        else:
            side.data(side.piece())
        assert side.given_up()
        over.set()
        if protocol == "h2":
            side.serve()

    error = KeyError("mine")
    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            try:
                async with client.open("POST", "/", content=pieces_of(body, notes)) as response:
                    if how == "after a pong":
                        assert await anext(response.iter_bytes()) == b"piece"
                    if how == "by an exception":
                        raise error
            except KeyError as exc:
                assert exc is error
                assert exc.__context__ is None
            else:
                assert how != "by an exception"
            assert notes == ["closed"]
            await settled(client)
            await over.seen()
            await again(client)
            assert peer.connections == (1 if protocol == "h2" else 2)


@pytest.mark.parametrize("body", ["object", "generator"])
async def test_an_error_status_in_the_middle_stops_the_upload(protocol: Protocol, body: str) -> None:
    notes: list[str] = []

    def script(side: Side) -> None:
        if side.number == 2:
            side.serve()
        side.head()
        assert side.piece()
        side.answer(b'{"error": {"message": "too much"}}', status=413)
        assert side.given_up()
        if protocol == "h2":
            side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            with pytest.raises(ContentTooLargeError, match="too much"):
                async with client.open("POST", "/", content=pieces_of(body, notes)):
                    raise AssertionError("the block is not entered")
            assert notes == ["closed"]
            await settled(client)
            await again(client)
            assert peer.connections == (1 if protocol == "h2" else 2)


async def test_an_error_status_stops_the_upload_before_its_body_has_come(protocol: Protocol) -> None:
    """An upload that nobody wants does not go on for as long as the server explains why."""
    closed = Signal()
    content = Held(b"piece")

    async def aclose() -> None:
        closed.set()

    content.aclose = aclose  # type: ignore[method-assign]

    def script(side: Side) -> None:
        if side.number == 2:
            side.serve()
        side.head()
        assert side.piece()
        side.begin(413)
        closed.wait()
        side.data(b"too much")
        side.end()
        assert side.given_up()
        if protocol == "h2":
            side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            with pytest.raises(ContentTooLargeError) as caught:
                async with client.open("POST", "/", content=content):
                    raise AssertionError("the block is not entered")
            assert caught.value.body == "too much"
            await again(client)


async def test_a_block_whose_response_a_middleware_kept_to_itself_ends_the_upload_too(protocol: Protocol) -> None:
    """What the middleware gave instead is nobody's to close, and closes nothing."""
    kept: list[Any] = []
    content = Held(b"piece")

    async def middleware(request: Any, call_next: Any) -> Any:
        kept.append(await call_next(request))
        return 42 if len(kept) == 1 else kept[-1]

    def script(side: Side) -> None:
        while True:
            if side.head().path == "/again":
                side.answer()
                continue
            assert side.piece()
            side.begin()
            assert side.given_up()
            if protocol == "h1":
                return

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer, middleware=[middleware]) as client:
            async with client.open("POST", "/", content=content) as value:
                given: Any = value
                assert given == 42
            assert content.closed
            await kept[0].close()
            await again(client)


@pytest.mark.parametrize("body", ["object", "generator"])
async def test_an_answer_that_is_complete_ends_the_upload(protocol: Protocol, body: str) -> None:
    notes: list[str] = []

    def script(side: Side) -> None:
        if side.number == 2:
            side.serve()
        side.head()
        assert side.piece()
        side.answer(b"[1]")
        assert side.given_up()
        if protocol == "h2":
            side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            async with client.open("POST", "/", content=pieces_of(body, notes)) as response:
                assert await response.json() == [1]
                for _ in range(100):
                    await anyio.lowlevel.checkpoint()
                assert notes == ["closed"]
                await settled(client)
            await again(client)
            assert notes == ["closed"]
            assert peer.connections == (1 if protocol == "h2" else 2)


async def test_a_body_that_is_complete_first_is_not_closed_twice(protocol: Protocol) -> None:
    body = Body(b"a", b"b")

    def script(side: Side) -> None:
        side.head()
        assert side.body() == b"ab"
        side.begin()
        side.data(b"1")
        side.end()
        side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            async with client.open("POST", "/", content=body) as response:
                assert await response.json() == 1
            assert body.asked == 3
            assert not body.closed  # it is the caller's; whoever came to its end closes nothing
            await again(client)
            assert peer.connections == 1


async def test_a_replayable_body_is_sent_again_after_an_error(protocol: Protocol) -> None:
    bodies: list[Body] = []
    statuses = iter([500, 503])

    def make() -> Body:
        bodies.append(Body(b"a", b"b") if len(bodies) == 2 else Held(b"a"))
        return bodies[-1]

    def script(side: Side) -> None:
        while True:
            if side.head().path == "/again":
                side.answer()
                continue
            status = next(statuses, 200)
            assert side.piece()
            if status == 200:
                assert side.body() == b"ab"
            side.answer(status=status, fields=[("Retry-After-Ms", "1")])
            if status != 200:
                assert side.given_up()
                if protocol == "h1":
                    return

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            async with client.open("POST", "/", content=make) as response:
                assert await response.json() == 1
                assert response.retries_taken == 2
            assert [body.closed for body in bodies] == [True, True, False]
            await again(client)
