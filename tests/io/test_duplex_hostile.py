"""What a hostile, broken or merely odd server does to uploads that wait, tell and go both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio
import anyio.lowlevel
import pytest

from anyio_client import APIConnectionError, ConnectionLostError, RemoteProtocolError
from anyio_client._io import exchange
from tests.kit import frames
from tests.kit.h2peer import CANCEL, INTERNAL_ERROR, NO_ERROR, Signal, again, check_nothing_is_left, pool_of
from tests.kit.peers import serve
from tests.kit.sides import PROTOCOLS, Body, H1Side, H2Side, Protocol, Side, client_for, speaking

pytestmark = [pytest.mark.anyio, pytest.mark.spread, pytest.mark.usefixtures("no_socket_is_left")]

both = pytest.mark.parametrize("protocol", PROTOCOLS)


def endless() -> Body:
    return Body(b"piece", held=anyio.sleep_forever)


Attack = Callable[[Side], None]


def many_interim(side: Side) -> None:
    for _ in range(101):
        side.interim(103)


def stray_bytes(side: Side) -> None:
    if isinstance(side, H2Side):
        side.wire.send_raw(b"\0\0\x01\x08\0\0\0\0\0\x01")  # WINDOW_UPDATE of one byte
    else:
        side.peer.send(b"nonsense\r\n\r\n")


def half_closed(side: Side) -> None:
    import socket

    side.peer.sock.shutdown(socket.SHUT_WR)


def switched(side: Side) -> None:
    side.interim(101)


def malformed_head(side: Side) -> None:
    side.interim(103, [("X-Large", "x" * 200_000)] if isinstance(side, H1Side) else [("Connection", "x")])


def reset(side: Side) -> None:
    if isinstance(side, H2Side):
        side.wire.send(frames.rst(side.stream.stream, INTERNAL_ERROR))
    else:
        side.peer.reset()


ATTACKS: list[Attack] = [many_interim, stray_bytes, half_closed, switched, malformed_head, reset]


@both
@pytest.mark.parametrize("way", ["open", "plain", "expect"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda f: f.__name__)
async def test_a_broken_answer_ends_the_upload(protocol: Protocol, attack: Attack, way: str) -> None:
    content = endless()

    def script(side: Side) -> None:
        if side.number > 1:
            side.serve()
        while True:
            if side.head().path == "/again":
                side.answer()
                continue
            if way != "expect":
                side.piece()
            attack(side)
            if attack is reset and protocol == "h2":
                continue  # what the server has reset, nobody resets again
            try:
                assert side.given_up()
            except ConnectionError:
                return
            if protocol == "h1":
                return

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer, max_retries=0, seconds=4) as client:
            with pytest.raises((RemoteProtocolError, ConnectionLostError)):
                if way == "open":
                    async with client.open("POST", "/", content=content):
                        raise AssertionError("the block is not entered")
                options = {"expect_continue": way == "expect"}
                await client.post("/", cast_to=int, content=content, options=options)
            assert bool(content.asked) is (way != "expect")
            assert content.closed is (way != "expect")
            check_nothing_is_left(pool_of(client))
            await again(client)


@both
async def test_permission_and_refusal_in_one_write(protocol: Protocol) -> None:
    """The upload may begin, and ends with the answer."""
    content = endless()

    def script(side: Side) -> None:
        if side.number > 1:
            side.serve()
        side.head()
        if isinstance(side, H2Side):
            number = side.stream.stream
            end = frames.headers(number, [(b":status", b"413")], end=True)
            side.wire.send(frames.headers(number, [(b":status", b"100")]) + end)
        else:
            side.peer.send(b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
        assert side.given_up()
        if protocol == "h2":
            side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer, max_retries=0, seconds=4) as client:
            from anyio_client import ContentTooLargeError

            with pytest.raises(ContentTooLargeError):
                await client.post("/", cast_to=int, content=content, options={"expect_continue": True})
            assert content.closed or not content.asked
            await again(client)


@both
async def test_a_drip_of_interim_answers_does_not_hold_the_body_back(
    protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second that the body waits is one second, however often the server says that it is at work."""
    monkeypatch.setattr(exchange, "EXPECT_TIME", 0.15)
    sent: list[int] = []

    def script(side: Side) -> None:
        side.head()
        while side.silent(0.01):
            sent.append(1)
            assert len(sent) < 80, "the body is held back"
            side.interim(102)
        assert side.body() == b"x" or bytes(side.received) == b"x"
        side.answer()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer, seconds=4) as client:
            assert await client.post("/", cast_to=int, content=Body(b"x"), options={"expect_continue": True}) == 1
    assert len(sent) >= 2


@both
async def test_permission_that_nobody_asked_for_is_nothing(protocol: Protocol) -> None:
    def script(side: Side) -> None:
        side.head()
        side.interim(100)
        side.piece()
        side.interim(100)
        side.begin()
        side.body()
        side.data(b"1")
        side.end()
        side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer, seconds=4) as client:
            async with client.open("POST", "/", content=Body(b"a", b"b")) as response:
                assert await response.json() == 1
            await again(client)
            assert peer.connections == 1


@both
async def test_a_block_that_waited_for_permission_goes_both_ways(protocol: Protocol) -> None:
    def script(side: Side) -> None:
        side.head()
        assert side.silent(0.03)
        side.interim(100)
        side.begin()
        while data := side.piece():
            side.data(data)
        side.end([("x-a", "b")])
        side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer, seconds=4) as client:
            send, receive = anyio.create_memory_object_stream[bytes](1)
            with send, receive:
                async with client.open("POST", "/", content=receive, options={"expect_continue": True}) as response:
                    answers = response.iter_bytes()
                    for _ in range(5):
                        await send.send(b"ping")
                        assert await anext(answers) == b"ping"
                    send.close()
                    assert [piece async for piece in answers] == []
                    assert response.trailers == {"x-a": "b"}
                    timings = response.timings
                    assert timings is not None
                    assert timings.send is None or timings.send >= 0  # the answer may end before that is noted
                    assert timings.first_byte is not None
                    assert timings.first_byte >= 0
            await again(client)
            assert peer.connections == 1


@both
async def test_a_redirect_in_the_middle_begins_a_fresh_body(protocol: Protocol) -> None:
    bodies: list[Body] = []

    def make() -> Body:
        bodies.append(Body(b"a", b"b") if bodies else endless())
        return bodies[-1]

    def script(side: Side) -> None:
        while True:
            if side.head().path == "/":
                side.piece()
                side.answer(status=307, fields=[("Location", "/there")])
                assert side.given_up()
                if protocol == "h1":
                    return
            else:
                assert side.body() == b"ab"
                side.answer()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer, seconds=4) as client:
            async with client.open("POST", "/", content=make) as response:
                assert await response.json() == 1
            assert [body.closed for body in bodies] == [True, False]


@both
@pytest.mark.parametrize("anyio_backend", [("asyncio", {})], ids=["asyncio"])
async def test_an_iterator_that_was_cancelled_from_inside_hangs_nobody(protocol: Protocol) -> None:
    """A task of asyncio that the iterator waits for may be cancelled natively; so is then the call."""
    import asyncio

    with serve(speaking(protocol, silent_to_uploads)) as peer:
        async with client_for(protocol, peer, seconds=4) as client:
            content = Body(b"a", error=asyncio.CancelledError())

            async def call() -> None:
                async with client.open("POST", "/", content=content) as response:
                    await response.read()

            task = asyncio.ensure_future(call())
            done, _ = await asyncio.wait([task], timeout=1.0)
            if not done:
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert done, "nobody was told"
            await again(client)


class Base(BaseException):
    """What no `except Exception` sees."""


@both
async def test_a_base_exception_of_the_iterator_comes_out_without_a_group(protocol: Protocol) -> None:
    with serve(speaking(protocol, silent_to_uploads)) as peer:
        async with client_for(protocol, peer, seconds=4) as client:
            raised = Base()
            with pytest.raises(Base) as caught:
                async with client.open("POST", "/", content=Body(b"a", error=raised)) as response:
                    await response.read()
            assert caught.value is raised
            await again(client)


def silent_to_uploads(side: Side) -> None:
    while True:
        if side.head().path == "/again":
            side.answer()
            continue
        side.begin()
        assert side.given_up()
        if isinstance(side, H1Side):
            return


# --- HTTP/2 only -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [NO_ERROR, CANCEL])
async def test_a_reset_after_a_whole_answer_is_no_failure(code: int) -> None:
    """RFC 9113 section 8.1: a server may ask for no more of the request, by RST_STREAM after its answer."""

    def script(side: Side) -> None:
        assert isinstance(side, H2Side)
        side.head()
        side.piece()
        number = side.stream.stream
        end = frames.data(number, b"5", end=True)
        side.wire.send(frames.headers(number, [(b":status", b"200")]) + end + frames.rst(number, code))
        side.serve()

    content = endless()
    with serve(speaking("h2", script)) as peer:
        async with client_for("h2", peer, seconds=4) as client:
            async with client.open("POST", "/", content=content) as response:
                assert await response.read() == b"5"
            assert content.closed
            await again(client)
            assert peer.connections == 1


async def test_a_window_that_closes_in_the_middle_holds_only_the_upload() -> None:
    """The answer goes on, and a sibling too; then the window opens again."""
    closed = Signal()

    def script(side: Side) -> None:
        assert isinstance(side, H2Side)
        side.head()
        side.begin()
        side.data(b"a")
        upload = side.stream
        side.wire.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
        side.wire.sync()
        closed.set()
        side.wire.answer(side.wire.ask())
        side.asked = upload
        side.data(b"b")
        assert side.silent(0.05) or side.received
        side.wire.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 2**20}))
        while side.piece():
            pass
        side.data(b"c")
        side.end()
        side.serve()

    async def pieces() -> AsyncIterator[bytes]:
        await closed.seen()
        for _ in range(20):
            yield bytes(10_000)

    with serve(speaking("h2", script)) as peer:
        async with client_for("h2", peer, seconds=6) as client:
            async with client.open("POST", "/", content=pieces()) as response:
                answers = response.iter_bytes()
                assert await anext(answers) == b"a"
                await again(client)
                rest = b"".join([piece async for piece in answers])
                assert rest == b"bc"
            await again(client)
            assert peer.connections == 1


async def test_a_goaway_in_the_middle_lets_both_ways_finish() -> None:
    def script(side: Side) -> None:
        if side.number == 2:
            side.serve()
        assert isinstance(side, H2Side)
        side.head()
        side.begin()
        side.data(side.piece())
        side.wire.send(frames.goaway(side.stream.stream))
        while data := side.piece():
            side.data(data)
        side.end()
        side.wire.until_gone()

    with serve(speaking("h2", script)) as peer:
        async with client_for("h2", peer, seconds=6) as client:
            async with client.open("POST", "/", content=Body(*[b"x" * 100] * 50)) as response:
                assert len(await response.read()) == 5000
            await again(client)
            assert peer.connections == 2


# --- what leads to another protocol ----------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("how", ["upgrade", "connect"])
async def test_what_leads_to_another_protocol_is_refused_before_anything_is_sent(protocol: Protocol, how: str) -> None:
    with serve(speaking(protocol, Side.serve)) as peer:
        async with client_for(protocol, peer) as client:
            headers = {"Upgrade": "websocket", "Connection": "Upgrade"} if how == "upgrade" else {}
            with pytest.raises(ValueError, match="which this client does not speak") as caught:
                method = "GET" if how == "upgrade" else "CONNECT"
                async with client.open(method, "/", options={"headers": headers}):
                    raise AssertionError
            assert not isinstance(caught.value, APIConnectionError)
            assert peer.connections == 0
            await again(client)
