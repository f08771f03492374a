"""The limits of whole calls: what each wait is allowed, whose time counts, and who keeps whose limit on one connection."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from anyio_client import (
    AsyncAPIClient,
    ConnectionLostError,
    DeadlineExceededError,
    HTTPTransport,
    Outcome,
    Phase,
    ReadTimeoutError,
    Timeout,
    WriteTimeoutError,
)
from tests.kit import frames
from tests.kit.frames import ACK
from tests.kit.h2peer import H2Peer, Signal, again, answer, begin, client_of, head, scripted
from tests.kit.peers import serve
from tests.kit.sides import PROTOCOLS, Protocol, Side, client_for, speaking

pytestmark = [pytest.mark.anyio, pytest.mark.spread, pytest.mark.usefixtures("no_socket_is_left")]

protocols = pytest.mark.parametrize("protocol", PROTOCOLS)
ONCE = {"max_retries": 0}
LATE = 2.5  # seconds that a limit may pass after its time, on a machine that does other things too


def reading(seconds: float, **others: Any) -> dict[str, Any]:
    return {"timeout": Timeout(20, read=seconds), **ONCE, **others}


class Stopwatch:
    """How long it took, by the clock that limits are kept on."""

    def __init__(self) -> None:
        self._began = anyio.current_time()

    @property
    def seconds(self) -> float:
        return anyio.current_time() - self._began

    def check(self, limit: float) -> None:
        """The limit has passed, just now. (uvloop's clock has ticks of a millisecond.)"""
        assert limit - 0.002 <= self.seconds < limit + LATE


# --- the head and the body -------------------------------------------------------------------------------------------


@protocols
async def test_a_call_that_is_not_answered_ends_at_its_limit(protocol: Protocol) -> None:
    def script(side: Side) -> None:
        side.head()
        side.given_up()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            watch = Stopwatch()
            with pytest.raises(ReadTimeoutError, match=r"0\.15 s") as caught:
                await client.get("/", cast_to=int, options=reading(0.15))
            watch.check(0.15)
            assert (caught.value.phase, caught.value.outcome) == (Phase.RECEIVE, Outcome.UNKNOWN)


@protocols
async def test_each_piece_of_a_body_begins_the_limit_anew(protocol: Protocol) -> None:
    def script(side: Side) -> None:
        side.head()
        side.begin()
        for _ in range(6):
            side.peer.server.pause(0.08)
            side.data(b"x" * 2000)
        side.given_up()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            async with client.open("GET", "/", options=reading(0.4)) as response:
                watch = Stopwatch()
                size = 0
                with pytest.raises(ReadTimeoutError) as caught:
                    async for piece in response.iter_bytes():
                        size += len(piece)
                        watch_of_last = Stopwatch()
                assert size == 12_000
                assert watch.seconds > 0.48
                watch_of_last.check(0.4)
                assert (caught.value.phase, caught.value.outcome) == (Phase.BODY, Outcome.ANSWERED)


@pytest.mark.parametrize(("when", "protocol"), [("meanwhile", "h2"), ("later", "h1"), ("later", "h2")])
async def test_the_time_that_the_caller_takes_between_two_pieces_does_not_count(protocol: Protocol, when: str) -> None:
    """Whether the next piece has come while the caller was busy, or comes only when it is waited for."""
    wanted = Signal()

    def script(side: Side) -> None:
        side.head()
        side.begin()
        side.data(b"x" * 2000)
        if when == "later":
            wanted.wait()
            side.peer.server.pause(0.02)
        side.data(b"y" * 2000)
        side.end()
        side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            async with client.open("GET", "/", options=reading(0.2)) as response:
                pieces = response.iter_bytes()
                got = await anext(pieces)
                await anyio.sleep(0.25)
                wanted.set()
                async for piece in pieces:
                    got += piece
            assert got == b"x" * 2000 + b"y" * 2000
            await again(client)
            assert peer.connections == 1


@protocols
async def test_a_caller_who_took_long_gets_the_whole_limit_then(protocol: Protocol) -> None:
    def script(side: Side) -> None:
        side.head()
        side.begin()
        side.data(b"x" * 2000)
        side.given_up()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            async with client.open("GET", "/", options=reading(0.2)) as response:
                pieces = response.iter_bytes()
                await anext(pieces)
                await anyio.sleep(0.25)
                watch = Stopwatch()
                with pytest.raises(ReadTimeoutError):
                    await anext(pieces)
                watch.check(0.2)


@pytest.mark.parametrize(
    ("where", "protocol"), [("head", "h1"), ("head", "h2"), ("body", "h1"), ("body", "h2"), ("caller", "h1")]
)
async def test_the_deadline_is_over_all_of_it(protocol: Protocol, where: str) -> None:
    """However often the read limit begins anew, and though the caller's own time counts for no other limit."""

    def script(side: Side) -> None:
        side.head()
        if where == "head":
            for _ in range(30):
                side.interim(102)
                side.peer.server.pause(0.05)
        side.begin()
        for _ in range(30):
            side.data(b"x" * 2000)
            side.peer.server.pause(0.05)
        side.given_up()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            watch = Stopwatch()
            with pytest.raises(DeadlineExceededError):
                async with client.open("GET", "/", options=reading(0.5, deadline=0.3)) as response:
                    async for _ in response.iter_bytes():
                        if where == "caller":
                            await anyio.sleep(0.35)
            watch.check(0.3)


# --- one connection after another's limits ---------------------------------------------------------------------------


@protocols
async def test_calls_of_one_connection_have_each_its_own_limit(protocol: Protocol) -> None:
    """A limit that was not needed limits nobody after it, and a long one does not stretch the next."""
    pauses = [0.0, 0.35, 0.0, 0.0, 0.1]

    def script(side: Side) -> None:
        for pause in pauses:
            side.head()
            side.peer.server.pause(pause)
            side.answer()
        side.head()
        side.given_up()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            for limit in (0.3, 15.0, 15.0, 0.3, None):
                assert await client.get("/", cast_to=int, options={"timeout": Timeout(20, read=limit), **ONCE}) == 1
            watch = Stopwatch()
            with pytest.raises(ReadTimeoutError):
                await client.get("/", cast_to=int, options=reading(0.2))
            watch.check(0.2)
            assert peer.connections == 1


# --- siblings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [(0.15, 0.35, 10), (0.35, 0.15, 10), (10, 0.35, 0.15), (10, 0.15, 0.35)], ids=str)
async def test_siblings_keep_their_own_limits(limits: tuple[float, ...]) -> None:
    """The first reads for the others. Nobody's limit moves another's, and the patient one gets its answer."""
    over = Signal()
    patient = limits.index(10)

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = {one.path: one for one in peer.asks(3)}
        peer.answers_pings = True
        peer.given_up(*[one for path, one in asked.items() if path != f"/{patient}"])
        over.wait()
        peer.answer(asked[f"/{patient}"])
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            await again(client)
            watches, calls = [], []
            for number, limit in enumerate(limits):
                watches.append(Stopwatch())
                calls.append(begin(group, client.get(f"/{number}", cast_to=int, options=reading(limit))))
                await anyio.wait_all_tasks_blocked()
            for limit in (0.15, 0.35):
                number = limits.index(limit)
                with pytest.raises(ReadTimeoutError, match=f"{limit} s"):
                    await calls[number].end()
                watches[number].check(limit)
                assert not calls[patient].is_over
            over.set()
            assert await calls[patient].end() == 1
            await again(client)
            assert peer.connections == 1


@pytest.mark.parametrize("first", ["dripping", "silent"])
async def test_what_comes_for_one_sibling_moves_only_its_own_limit(first: str) -> None:
    """0.3 s for both; one of them gets a byte every 0.06 s, and the other nothing."""

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = {one.path: one for one in peer.asks(2)}
        dripping = asked["/dripping"]
        peer.send(head(dripping))
        for _ in range(8):
            peer.send(frames.data(dripping.stream, b"1"))
            peer.peer.server.pause(0.06)
        peer.given_up(asked["/silent"])
        peer.send(frames.data(dripping.stream, b"1", end=True))
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            await again(client)
            calls, watches = {}, {}
            for path in sorted(["dripping", "silent"], key=lambda path: path != first):
                watches[path] = Stopwatch()
                calls[path] = begin(group, client.get(f"/{path}", cast_to=bytes, options=reading(0.3)))
                await anyio.wait_all_tasks_blocked()
            with pytest.raises(ReadTimeoutError):
                await calls["silent"].end()
            watches["silent"].check(0.3)
            assert await calls["dripping"].end() == b"1" * 9
            assert watches["dripping"].seconds > 0.4
            await again(client)
            assert peer.connections == 1


async def test_many_siblings_with_many_limits() -> None:
    """Each passes at its time, whoever reads by then."""
    limits = [0.4, 0.2, 0.5, 0.1, 0.3]

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        peer.answers_pings = True
        peer.given_up(*peer.asks(len(limits)))
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            await again(client)

            async def ask(limit: float) -> None:
                watch = Stopwatch()
                with pytest.raises(ReadTimeoutError):
                    await client.get("/", cast_to=int, options=reading(limit))
                watch.check(limit)

            calls = [begin(group, ask(limit)) for limit in limits]
            for call in calls:
                await call.end()
            await again(client)
            assert peer.connections == 1


# --- uploads ---------------------------------------------------------------------------------------------------------


class Blocking:
    """A plain iterator that stops the event loop while it makes a piece."""

    def __init__(self, pieces: int, size: int, seconds: float) -> None:
        self.left = pieces
        self._piece = b"x" * size
        self._seconds = seconds

    def __iter__(self) -> Iterator[bytes]:
        while self.left:
            time.sleep(self._seconds)
            self.left -= 1
            yield self._piece


@pytest.mark.parametrize(("size", "protocol"), [(10, "h1"), (400_000, "h1"), (400_000, "h2")])
async def test_a_blocking_iterator_slower_than_the_write_limit_is_no_timeout(protocol: Protocol, size: int) -> None:
    """The caller's own time does not count, also where the piece before had to wait for the kernel."""

    def script(side: Side) -> None:
        side.head()
        assert len(side.body()) == 2 * size
        side.answer()
        side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            body = Blocking(2, size, 0.25)
            options = {"timeout": Timeout(20, write=0.2, read=5), **ONCE}
            assert await client.post("/", cast_to=int, content=iter(body), options=options) == 1
            assert body.left == 0
            await again(client)
            assert peer.connections == 1


@protocols
async def test_after_a_slow_iterator_the_write_limit_still_holds(protocol: Protocol) -> None:
    gone = Signal()

    def script(side: Side) -> None:
        side.head()
        gone.wait()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            body = Blocking(3, 8_000_000, 0.2)
            watch = Stopwatch()
            with pytest.raises(WriteTimeoutError) as caught:
                await client.post(
                    "/", cast_to=int, content=iter(body), options={"timeout": Timeout(20, write=0.3), **ONCE}
                )
            watch.check(0.5)
            gone.set()
            assert caught.value.phase is Phase.SEND
            assert body.left == 2


@protocols
async def test_the_read_limit_begins_when_the_upload_is_complete(protocol: Protocol) -> None:
    def script(side: Side) -> None:
        side.head()
        side.body()
        side.given_up()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            watch = Stopwatch()
            with pytest.raises(ReadTimeoutError):
                await client.post("/", cast_to=int, content=iter(Blocking(2, 10, 0.2)), options=reading(0.2))
            watch.check(0.4 + 0.2)


# --- asking whether the peer is alive --------------------------------------------------------------------------------


def asking(interval: float, timeout: float | None) -> HTTPTransport:
    return HTTPTransport(http1=False, ping_interval=interval, ping_timeout=timeout)


async def test_a_peer_that_answers_pings_and_no_call_passes_the_read_limit() -> None:
    """The PONGs are no progress of the call."""
    pings: list[int] = []

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = peer.ask()
        peer.answers_pings = True
        while asked.reset is None:
            pings.append(peer.read().kind == frames.PING)
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer, asking(0.1, 5)) as client:
            await client.get("/", cast_to=int, options=ONCE)
            watch = Stopwatch()
            with pytest.raises(ReadTimeoutError):
                await client.get("/", cast_to=int, options=reading(0.4))
            watch.check(0.4)
            await again(client)
            assert peer.connections == 1
    assert sum(pings) >= 2


@pytest.mark.parametrize("interval", [0.1, 6])
async def test_asking_does_not_stretch_the_read_limit(interval: float) -> None:
    """Whether the limit passes before anybody is asked, or while a PING has no answer."""

    def script(peer: H2Peer) -> None:
        if peer.peer.number > 1:
            peer.serve()
        peer.answer(peer.ask())
        peer.until_gone()

    with serve(scripted(script)) as peer:
        async with client_of(peer, asking(interval, 6)) as client:
            await client.get("/", cast_to=int, options=ONCE)
            watch = Stopwatch()
            with pytest.raises(ReadTimeoutError):
                await client.get("/", cast_to=int, options=reading(0.25))
            watch.check(0.25)


async def test_a_read_limit_that_passes_while_a_ping_is_out_is_the_calls_own() -> None:
    """Its sibling hears, a little later, that the connection is dead."""

    def script(peer: H2Peer) -> None:
        if peer.peer.number > 1:
            peer.serve()
        peer.answer(peer.ask())
        peer.asks(2)
        peer.until_gone()

    with serve(scripted(script)) as peer:
        async with client_of(peer, asking(0.2, 0.5)) as client, anyio.create_task_group() as group:
            await client.get("/", cast_to=int, options=ONCE)
            watch = Stopwatch()
            short = begin(group, client.post("/", cast_to=int, options=reading(0.4)))
            await anyio.wait_all_tasks_blocked()
            long = begin(group, client.post("/", cast_to=int, options=reading(30)))
            with pytest.raises(ReadTimeoutError):
                await short.end()
            watch.check(0.4)
            with pytest.raises(ConnectionLostError, match="PING"):
                await long.end()
            assert watch.seconds < 5


async def test_who_sleeps_beside_one_that_asks_keeps_its_own_limit() -> None:
    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = {one.path: one for one in peer.asks(2)}
        for _ in range(5):
            frame = peer.wait(frames.PING)
            assert not frame.flags & ACK
            peer.send(frames.ping(frame.payload, ack=True))
        peer.answers_pings = True
        peer.given_up(asked["/short"])
        peer.send(*answer(asked["/long"]))
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer, asking(0.05, 5)) as client, anyio.create_task_group() as group:
            await client.get("/", cast_to=int, options=ONCE)
            long = begin(group, client.get("/long", cast_to=int, options=reading(8)))
            await anyio.wait_all_tasks_blocked()
            watch = Stopwatch()
            with pytest.raises(ReadTimeoutError):
                await client.get("/short", cast_to=int, options=reading(0.6))
            watch.check(0.6)
            assert await long.end() == 1
            assert peer.connections == 1


# --- no limit at all -------------------------------------------------------------------------------------------------


@protocols
async def test_without_limits_a_call_waits_and_can_be_cancelled(protocol: Protocol) -> None:
    def script(side: Side) -> None:
        side.head()
        side.peer.server.pause(0.1)
        side.answer()
        side.head()
        side.given_up()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            unlimited: AsyncAPIClient = client.with_options(timeout=None, max_retries=0)
            assert await unlimited.get("/", cast_to=int) == 1
            with anyio.move_on_after(0.1) as scope:
                await unlimited.get("/", cast_to=int)
            assert scope.cancelled_caught
