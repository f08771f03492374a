"""HTTP/2 over real sockets: what the client makes of scripted peers, frame by frame.

Every client here is checked at its end: no slot, stream, baton, task or socket may be left (``client_of``).
"""

from __future__ import annotations

import functools
import random
import socket
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from hpack import Encoder

from anyio_client import (
    APIConnectionError,
    AsyncAPIClient,
    ConnectionLostError,
    ContentTooLargeError,
    DeadlineExceededError,
    HTTPTransport,
    Limits,
    Outcome,
    ReadTimeoutError,
    RemoteProtocolError,
    Request,
    Timeout,
    WriteTimeoutError,
)
from anyio_client._wire import h2 as wire
from tests.kit import frames
from tests.kit.cancel import cancelled_at
from tests.kit.frames import ACK
from tests.kit.h2peer import (
    CANCEL,
    INTERNAL_ERROR,
    JSON,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Asked,
    Call,
    H2Peer,
    Signal,
    again,
    answer,
    at_once,
    begin,
    client_of,
    connection_of,
    head,
    pool_of,
    scripted,
    serving,
)
from tests.kit.peers import serve

pytestmark = [pytest.mark.anyio, pytest.mark.spread, pytest.mark.usefixtures("no_socket_is_left")]

ONCE = {"max_retries": 0}


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a leak of credit shows after kilobytes."""
    monkeypatch.setattr(wire, "STREAM_WINDOW", 2**16)
    monkeypatch.setattr(wire, "_Stream", functools.partial(wire._Stream, window=2**16, left=2**16))
    monkeypatch.setattr(wire, "MAX_STREAM_WINDOW", 2**17)
    monkeypatch.setattr(wire, "CONNECTION_WINDOW", 2**18)


def by_path(asked: list[Asked]) -> dict[str, Asked]:
    return {one.path: one for one in asked}


class Pieces:
    """A body that can be made again, and says no length."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def __call__(self) -> Pieces:
        return Pieces(*self.pieces)

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        if not self.pieces:
            raise StopAsyncIteration
        piece, *rest = self.pieces
        self.pieces = tuple(rest)
        return piece


# --- one connection, many exchanges --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7])
async def test_answers_are_interleaved_in_small_frames(size: int) -> None:
    bodies = {f"/{n}": b'"' + b"%d" % n * (40 + n) + b'"' for n in range(8)}

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = peer.asks(8)
        peer.send(*[head(one, length=len(bodies[one.path])) for one in reversed(asked)])
        for place in range(0, 50, size):
            pieces = [
                frames.data(one.stream, piece, end=place + size >= len(bodies[one.path]))
                for one in asked
                if (piece := bodies[one.path][place : place + size])
            ]
            peer.send(*pieces)
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            await again(client)
            answers = await at_once(*[client.get(path, cast_to=bytes) for path in bodies])
            assert answers == list(bodies.values())
            await again(client)
            assert peer.connections == 1


async def test_a_call_is_answered_while_another_waits() -> None:
    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = by_path(peer.asks(2))
        peer.answer(asked["/second"], b"2")
        last = peer.ask()  # the client goes on with the second, although the first waits
        peer.answer(asked["/first"], b"11")
        peer.answer(last, b"3")
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            await again(client)
            first = begin(group, client.get("/first", cast_to=int))
            await anyio.wait_all_tasks_blocked()
            assert await client.get("/second", cast_to=int) == 2
            assert not first.is_over
            assert await client.get("/third", cast_to=int) == 3
            assert await first.end() == 11
            await again(client)
            assert peer.connections == 1


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("how", ["held", "left", "cancelled", "collected", "deadline"])
async def test_credit_is_given_back_for_what_nobody_reads(how: str) -> None:
    """Twice the connection's window comes for answers that nobody reads, then a sibling gets as much again."""

    def script(peer: H2Peer) -> None:
        peer.answers_pings = True  # which a call that ended by its deadline leads to
        peer.answer(peer.ask())
        for _ in range(8):
            asked = peer.ask()
            peer.send(head(asked))
            peer.pour(asked, bytes(2**16), end=False)  # all that its window allows
        asked = peer.ask()
        peer.send(head(asked))
        peer.pour(asked, bytes(2**19))
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            await again(client)
            held: list[Any] = []

            async def read() -> None:
                await client.get("/", cast_to=bytes, options={"deadline": 0.05} if how == "deadline" else {})

            async with anyio.create_task_group() as group:
                for _ in range(8):
                    request = Request("GET", f"{peer.url}/unread")
                    if how == "cancelled":
                        with anyio.move_on_after(0.05):
                            await read()
                    elif how == "deadline":
                        with pytest.raises(DeadlineExceededError):
                            await read()
                    else:
                        transport = client._transport
                        response = await transport.send(request, timeout=Timeout(5), deadline=None)
                        if how == "held":
                            held.append(response)
                        elif how == "left":
                            await response.aclose()
                        del response
                assert await client.get("/", cast_to=bytes) == bytes(2**19)
                group.cancel_scope.cancel()
            for response in held:
                await response.dispose()
            held.clear()
            await again(client)
            assert peer.connections == 1


@pytest.mark.usefixtures("small_windows")
async def test_padding_is_credited_too() -> None:
    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = peer.ask()
        peer.send(frames.headers(asked.stream, [(b":status", b"200")], pad=99))
        peer.pour(asked, b"x" * 4000, pad=255, size=1)
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            await again(client)
            assert await client.get("/", cast_to=bytes) == b"x" * 4000  # 1 MB with its padding
            await again(client)
            assert peer.connections == 1


# --- uploads -------------------------------------------------------------------------------------------------------

BODY = random.Random(1).randbytes(300_000)
BODIES: dict[str, Callable[[], Any]] = {
    "bytes": lambda: BODY,
    "pieces": lambda: Pieces(*[BODY[at : at + 7001] for at in range(0, len(BODY), 7001)]),
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("which", ["stream", "connection", "settings"])
async def test_an_upload_larger_than_the_windows(which: str, body: str) -> None:
    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        if which != "connection":
            peer.send(frames.window(0, 2**20))
        asked = peer.ask(whole=False)
        size = 1000
        while not asked.complete:
            peer.read()
            left = peer.judge.window if which == "connection" else peer.judge._streams[asked.stream].window
            if left or asked.complete or peer.judge._unacked:
                continue
            size += 9001
            if which == "settings":
                peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: size}))
            else:
                peer.send(frames.window(0 if which == "connection" else asked.stream, 9001))
        assert bytes(asked.body) == BODY
        peer.answer(asked)
        peer.send(frames.window(0, 2**20))
        peer.serve()

    values = {frames.INITIAL_WINDOW_SIZE: 2**20 if which == "connection" else 1000}
    with serve(scripted(script, values)) as peer:
        async with client_of(peer) as client:
            await again(client)
            assert await client.post("/up", cast_to=int, content=BODIES[body]()) == 1
            await again(client)
            assert peer.connections == 1


async def test_uploads_share_the_connections_window() -> None:
    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        uploads = peer.asks(5, whole=False)
        while not all(one.complete for one in uploads):
            peer.read()
            if peer.judge.window == 0:
                peer.send(frames.window(0, 50_000))
        for one in uploads:
            assert bytes(one.body) == BODY[: len(BODY) - int(one.path[1:])]
            peer.answer(one)
        peer.send(frames.window(0, 2**20))
        peer.serve()

    with serve(scripted(script, {frames.INITIAL_WINDOW_SIZE: 2**20})) as peer:
        async with client_of(peer) as client:
            await again(client)
            works = [client.post(f"/{n}", cast_to=int, content=BODY[: len(BODY) - n]) for n in range(5)]
            assert await at_once(*works) == [1] * 5
            await again(client)
            assert peer.connections == 1


async def test_a_smaller_window_by_settings_is_kept() -> None:
    """The window may become negative (RFC 9113 section 6.9.2)."""

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = peer.ask(whole=False)
        peer.until(lambda: len(asked.body) == 65_535)
        peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 10}), frames.window(0, 2**20))
        peer.sync()
        assert peer.judge._streams[asked.stream].window == 10 - 65_535
        peer.send(frames.window(asked.stream, 65_525))  # to 0
        peer.sync()
        assert len(asked.body) == 65_535
        peer.send(frames.window(asked.stream, 2**20))
        peer.until(lambda: asked.complete)
        peer.answer(asked)
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            await again(client)
            assert await client.post("/", cast_to=int, content=BODY) == 1
            await again(client)
            assert peer.connections == 1


async def test_a_window_that_stays_shut_is_a_write_timeout() -> None:
    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = peer.ask(whole=False)
        frame = peer.wait(frames.RST_STREAM, asked.stream)
        assert frame.number() == CANCEL
        peer.send(frames.window(0, 2**20))
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            await again(client)
            with pytest.raises(WriteTimeoutError) as caught:
                timeout = Timeout(10, write=0.2)
                await client.post("/", cast_to=int, content=BODY, options={"timeout": timeout, **ONCE})
            assert caught.value.outcome is Outcome.UNKNOWN
            await again(client)
            assert peer.connections == 1


EARLY = {
    "413": 413,
    "413 and reset": 413,
    "200": 200,
    "200 and reset": 200,
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("kind", EARLY)
async def test_an_early_answer_is_delivered_and_the_rest_not_sent(kind: str, body: str) -> None:
    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = peer.ask(whole=False)
        peer.until(lambda: len(asked.body) == 65_535)
        reset = [frames.rst(asked.stream, NO_ERROR)] if "reset" in kind else []
        peer.send(*answer(asked, status=EARLY[kind]), *reset)
        if not reset:
            assert peer.wait(frames.RST_STREAM, asked.stream).number() in (NO_ERROR, CANCEL)
        peer.send(frames.window(0, 2**20))
        peer.serve()
        assert len(asked.body) == 65_535

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            await again(client)
            if EARLY[kind] == 413:
                with pytest.raises(ContentTooLargeError):
                    await client.post("/", cast_to=int, content=BODIES[body]())
            else:
                assert await client.post("/", cast_to=int, content=BODIES[body]()) == 1
            await again(client)
            assert peer.connections == 1


async def test_an_echo_gets_all_of_a_body_while_it_answers() -> None:
    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = peer.ask(whole=False)
        peer.send(head(asked))
        done = 0
        while not asked.complete:
            peer.read()
            fresh = bytes(asked.body[done:])
            done += len(fresh)
            if fresh:
                peer.send(frames.window(0, len(fresh)), frames.window(asked.stream, len(fresh)))
                peer.pour(asked, fresh, end=False)
        peer.send(frames.data(asked.stream, end=True))
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            await again(client)
            assert await client.post("/", cast_to=bytes, content=BODIES["pieces"]()) == BODY
            await again(client)
            assert peer.connections == 1


# --- streams that are given up ---------------------------------------------------------------------------------------


async def cancel_the_wait(client: AsyncAPIClient, peer_has_it: Signal) -> None:
    async with anyio.create_task_group() as group:
        call = begin(group, client.get("/slow", cast_to=int))
        await peer_has_it.seen()
        await call.cancel()


async def cancel_the_body(client: AsyncAPIClient, peer_has_it: Signal) -> None:
    got = anyio.Event()

    async def read() -> None:
        async with client.open("GET", "/slow") as response:
            async for _ in response.iter_bytes():
                got.set()

    async with anyio.create_task_group() as group:
        call = begin(group, read())
        await got.wait()
        await call.cancel()


async def leave_early(client: AsyncAPIClient, peer_has_it: Signal) -> None:
    async with client.open("GET", "/slow") as response:
        assert await anext(response.iter_bytes()) == b"some"


async def pass_the_deadline(client: AsyncAPIClient, peer_has_it: Signal) -> None:
    with pytest.raises(DeadlineExceededError):
        await client.get("/slow", cast_to=bytes, options={"deadline": 0.3})


async def pass_the_read_limit(client: AsyncAPIClient, peer_has_it: Signal) -> None:
    with pytest.raises(ReadTimeoutError):
        await client.get("/slow", cast_to=bytes, options={"timeout": Timeout(10, read=0.2), **ONCE})


async def cancel_an_upload(client: AsyncAPIClient, peer_has_it: Signal) -> None:
    async with anyio.create_task_group() as group:
        call = begin(group, client.post("/slow", cast_to=int, content=BODY))
        await peer_has_it.seen()
        await call.cancel()


@pytest.mark.parametrize(
    ("way", "has_head"),
    [
        (cancel_the_wait, False),
        (cancel_the_body, True),
        (leave_early, True),
        (pass_the_deadline, False),
        (pass_the_read_limit, True),
        (cancel_an_upload, False),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_stream_that_nobody_wants_is_reset(
    way: Callable[[AsyncAPIClient, Signal], Awaitable[None]], has_head: bool
) -> None:
    signal = Signal()

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = peer.ask(whole=False)
        if has_head:
            peer.send(head(asked), frames.data(asked.stream, b"some"))
        peer.sync()
        signal.set()
        peer.given_up(asked)
        assert asked.reset == CANCEL
        late = [head(asked)] if not has_head else []
        peer.send(*late, frames.data(asked.stream, b"late"), frames.window(asked.stream, 9))  # was in flight
        peer.send(frames.window(0, 2**20))
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            await again(client)
            await way(client, signal)
            await again(client)
            await again(client)
            assert peer.connections == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_refused_stream_is_sent_again_whatever_the_method(method: str) -> None:
    def script(peer: H2Peer) -> None:
        peer.send(frames.rst(peer.ask().stream, REFUSED_STREAM))
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            assert await client.request(int, {"method": method, "url": "/"}) == 1
            await again(client)
            assert peer.connections == 1


async def test_a_refused_stream_without_a_retry_says_so() -> None:
    def script(peer: H2Peer) -> None:
        peer.send(frames.rst(peer.ask().stream, REFUSED_STREAM))
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            with pytest.raises(ConnectionLostError, match="REFUSED_STREAM") as caught:
                await client.get("/", cast_to=int, options=ONCE)
            assert caught.value.outcome is Outcome.REFUSED
            await again(client)
            assert peer.connections == 1


@pytest.mark.parametrize("headed", [False, True], ids=["waiting", "headed"])
@pytest.mark.parametrize("code", [NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, CANCEL, REFUSED_STREAM, 11, 13, 0xDEAD])
async def test_a_reset_is_retried_where_that_is_safe(code: int, headed: bool) -> None:
    if code == REFUSED_STREAM and not headed:
        pytest.skip("has a test of its own")

    def script(peer: H2Peer) -> None:
        for _ in range(2):
            asked = peer.ask()
            begun = [head(asked), frames.data(asked.stream, b"1")] if headed else []
            peer.send(*begun, frames.rst(asked.stream, code))
            if asked.method == "GET":
                peer.answer(peer.ask())
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            assert await client.get("/", cast_to=int) == 1
            with pytest.raises(ConnectionLostError) as caught:
                await client.post("/", cast_to=int)
            assert caught.value.outcome is (Outcome.ANSWERED if headed else Outcome.UNKNOWN)
            assert len(caught.value.attempts) == 1
            await again(client)
            assert peer.connections == 1


# --- answers -------------------------------------------------------------------------------------------------------


async def test_interim_answers_trailers_and_padding() -> None:
    def script(peer: H2Peer) -> None:
        asked = peer.ask()
        peer.send(
            frames.headers(asked.stream, [(b":status", b"103"), (b"link", b"</x>")]),
            frames.headers(asked.stream, [(b":status", b"102")], pad=3),
            frames.headers(asked.stream, [(b":status", b"200"), JSON, (b"x-head", b"yes")], pad=0, priority=bytes(5)),
            frames.data(asked.stream, b"[1", pad=10),
            frames.data(asked.stream, b"", pad=255),
            frames.data(asked.stream, b",2]", pad=0),
        )
        block = frames.block([(b"x-checksum", b"42")])
        peer.send(
            frames.headers(asked.stream, block[:3], end=True, end_headers=False),
            frames.continuation(asked.stream, b"", end_headers=False),
            frames.continuation(asked.stream, block[3:]),
        )
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            async with client.open("GET", "/") as response:
                assert response.status_code == 200
                assert response.http_version == "HTTP/2"
                assert response.headers["x-head"] == "yes"
                assert await response.read() == b"[1,2]"
                assert response.trailers is not None
                assert response.trailers["x-checksum"] == "42"
            await again(client)
            assert peer.connections == 1


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_answers_that_have_no_body(method: str, status: int) -> None:
    def script(peer: H2Peer) -> None:
        asked = peer.ask()
        fields = [(b":status", b"%d" % status), (b"content-length", b"77")]
        peer.send(frames.headers(asked.stream, fields[: 1 if status == 204 else 2], end=status != 304))
        if status == 304:
            peer.send(frames.data(asked.stream, end=True))
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            transport = client._transport
            response = await transport.send(Request(method, f"{peer.url}/"), timeout=Timeout(5), deadline=None)
            assert response.status_code == status
            assert await response.read() == b""
            await again(client)
            assert peer.connections == 1


OK = (b":status", b"200")
FLOW_CONTROL_ERROR = 3
MALFORMED: dict[str, Callable[[int], bytes]] = {
    "data first": lambda n: frames.data(n, b"1"),
    "no status": lambda n: frames.headers(n, [JSON]),
    "bad status": lambda n: frames.headers(n, [(b":status", b"2OO"), JSON]),
    "two statuses": lambda n: frames.headers(n, [OK, OK]),
    "unknown pseudo-field": lambda n: frames.headers(n, [OK, (b":path", b"/")]),
    "pseudo-field behind": lambda n: frames.headers(n, [JSON, OK]),
    "upper case": lambda n: frames.headers(n, [OK, (b"X-Y", b"1")]),
    "line feed": lambda n: frames.headers(n, [OK, (b"x", b"1\n2")]),
    "space around": lambda n: frames.headers(n, [OK, (b"x", b" 1")]),
    "of a connection": lambda n: frames.headers(n, [OK, (b"transfer-encoding", b"chunked")]),
    "two lengths": lambda n: frames.headers(n, [OK, (b"content-length", b"1"), (b"content-length", b"2")]),
    "no length": lambda n: frames.headers(n, [OK, (b"content-length", b"one")]),
    "body too short": lambda n: (
        frames.headers(n, [OK, (b"content-length", b"3")]) + frames.data(n, b"1") + frames.data(n, b"2", end=True)
    ),
    "body too long": lambda n: frames.headers(n, [OK, (b"content-length", b"3")]) + frames.data(n, b"1234"),
    "no body": lambda n: frames.headers(n, [OK, (b"content-length", b"3")], end=True),
    "trailers that end nothing": lambda n: frames.headers(n, [OK]) + frames.headers(n, [(b"x", b"y")]),
    "trailers with a status": lambda n: frames.headers(n, [OK]) + frames.headers(n, [OK], end=True),
    "101": lambda n: frames.headers(n, [(b":status", b"101")]),
    "1xx that ends": lambda n: frames.headers(n, [(b":status", b"103")], end=True),
    "101 times 1xx": lambda n: frames.headers(n, [(b":status", b"103")]) * 101,
    "window of nothing": lambda n: frames.window(n, 0),
    "window too large": lambda n: frames.window(n, 2**31 - 1),
}


@pytest.mark.parametrize("kind", MALFORMED)
async def test_a_malformed_answer_ends_its_stream_only(kind: str) -> None:
    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = by_path(peer.asks(2))
        good, bad = asked["/good"], asked["/bad"]
        peer.send(head(good), frames.data(good.stream, b"1"), MALFORMED[kind](bad.stream))
        if kind not in ("no body", "trailers with a status", "1xx that ends"):  # these have ended
            peer.given_up(bad)
            assert bad.reset in (PROTOCOL_ERROR, FLOW_CONTROL_ERROR)
        peer.send(frames.data(good.stream, b"2", end=True))
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            await again(client)
            good, bad = await at_once(
                client.get("/good", cast_to=int),
                client.get("/bad", cast_to=bytes, options=ONCE),
            )
            assert good == 12
            assert type(bad) is RemoteProtocolError
            await again(client)
            assert peer.connections == 1


# --- who reads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["silent", "busy"])
async def test_a_silent_stream_times_out_although_its_sibling_gets_data(first: str) -> None:
    """The first of them reads for both."""
    timed_out = Signal()

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = by_path(peer.asks(2))
        busy, silent = asked["/busy"], asked["/silent"]
        peer.send(head(busy))
        until = time.monotonic() + 8
        while not timed_out.is_set and time.monotonic() < until:
            peer.send(frames.data(busy.stream, b"1"))
            peer.peer.server.pause(0.01)
            while _has_frame(peer):
                peer.read()
        peer.given_up(silent)
        assert silent.reset == CANCEL
        peer.send(frames.data(busy.stream, b"2", end=True))
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            await again(client)
            calls = {}
            for path in sorted(["busy", "silent"], key=lambda path: path != first):
                timeout = Timeout(10, read=0.25 if path == "silent" else 10)
                work = client.get(f"/{path}", cast_to=bytes, options={"timeout": timeout, **ONCE})
                calls[path] = begin(group, work)
                await anyio.wait_all_tasks_blocked()
            with pytest.raises(ReadTimeoutError, match=r"0\.25 s"):
                await calls["silent"].end()
            assert not calls["busy"].is_over
            timed_out.set()
            assert (await calls["busy"].end()).endswith(b"12")
            await again(client)
            assert peer.connections == 1


def _has_frame(peer: H2Peer) -> bool:
    import select

    return bool(peer._heard) or bool(select.select([peer.peer.sock], [], [], 0)[0])


@pytest.mark.parametrize("reads", ["itself", "another"])
async def test_a_frame_that_comes_slowly_is_progress(reads: str) -> None:
    """16 KB may take longer than the read limit, as long as bytes come."""

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = by_path(peer.asks(2))
        slow = asked["/slow"]
        peer.send(head(slow))
        frame = frames.data(slow.stream, b"1" * 14, end=True)
        peer.judge.sent(frame)
        for place in range(len(frame)):
            peer.send_raw(frame[place : place + 1])
            peer.peer.server.pause(0.04)
        peer.answer(asked["/other"])
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            await again(client)
            order = ["slow", "other"] if reads == "itself" else ["other", "slow"]
            calls = {}
            for path in order:
                timeout = Timeout(10, read=0.5 if path == "slow" else 10)
                work = client.get(f"/{path}", cast_to=bytes, options={"timeout": timeout, **ONCE})
                calls[path] = begin(group, work)
                await anyio.wait_all_tasks_blocked()
            assert await calls["slow"].end() == b"1" * 14
            assert await calls["other"].end() == b"1"
            await again(client)


async def test_an_unread_answer_of_20_mb_beside_a_hundred_calls() -> None:
    large = bytes(20_000_000)

    def app(asked: Asked) -> bytes:
        return large if asked.path == "/large" else b"1"

    with serve(serving(app)) as peer:
        async with client_of(peer) as client:
            await again(client)
            async with client.open("GET", "/large") as response:
                pieces = response.iter_bytes()
                size = len(await anext(pieces))
                for _ in range(10):
                    assert await at_once(*[client.get("/small", cast_to=int) for _ in range(10)]) == [1] * 10
                assert sum([len(piece) async for piece in pieces]) + size == len(large)
            await again(client)
            assert peer.connections == 1


async def test_a_large_upload_beside_small_calls() -> None:
    """The upload waits for window all the while."""
    stuck = Signal()

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        upload = peer.ask(whole=False)
        peer.until(lambda: len(upload.body) == 65_535)
        peer.send(frames.window(0, 2**20))
        stuck.set()
        for _ in range(20):
            peer.answer(peer.ask())
        assert len(upload.body) == 65_535
        peer.send(frames.window(upload.stream, 2**20))
        peer.until(lambda: upload.complete)
        assert bytes(upload.body) == BODY
        peer.answer(upload, b"2")
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            await again(client)
            upload = begin(group, client.post("/up", cast_to=int, content=BODY))
            await stuck.seen()
            for _ in range(10):
                assert await at_once(*[client.post("/", cast_to=int, content=b"12") for _ in range(2)]) == [1, 1]
            assert await upload.end() == 2
            await again(client)
            assert peer.connections == 1


async def test_ping_and_settings_are_answered_while_somebody_waits() -> None:
    def script(peer: H2Peer) -> None:
        asked = peer.ask()
        peer.sync()
        peer.send(frames.settings({frames.HEADER_TABLE_SIZE: 0}))
        peer.wait(frames.SETTINGS, flags=ACK)
        peer.sync()
        peer.answer(asked)
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            assert await client.get("/", cast_to=int) == 1
            await again(client)
            assert peer.connections == 1


async def test_a_cancelled_reader_passes_the_baton_on() -> None:
    started = Signal()

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = by_path(peer.asks(3))
        peer.sync()
        started.set()
        peer.given_up(asked["/0"])
        peer.sync()  # somebody reads
        peer.given_up(asked["/1"])
        peer.sync()
        peer.answer(asked["/2"], b"2")
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            await again(client)
            calls = []
            for n in range(3):
                calls.append(begin(group, client.get(f"/{n}", cast_to=int)))
                await anyio.wait_all_tasks_blocked()
            await started.seen()
            await calls[0].cancel()
            await calls[1].cancel()
            assert await calls[2].end() == 2
            await again(client)
            assert peer.connections == 1


async def test_reader_and_next_reader_cancelled_at_once() -> None:
    started = Signal()

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = by_path(peer.asks(5))
        peer.sync()
        started.set()
        peer.given_up(*[asked[f"/{n}"] for n in range(4)])
        peer.sync()
        peer.answer(asked["/4"], b"4")
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            await again(client)
            calls = []
            for n in range(5):
                calls.append(begin(group, client.get(f"/{n}", cast_to=int)))
                await anyio.wait_all_tasks_blocked()
            await started.seen()
            for call in calls[:4]:
                call._scope.cancel()
            assert await calls[4].end() == 4
            await again(client)
            assert peer.connections == 1


@pytest.mark.parametrize("end", [True, False], ids=["answered", "headed"])
async def test_a_reader_that_has_its_own_answer_passes_the_baton_on(end: bool) -> None:
    """Also where its body is held unread after that."""

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        first, second, third = peer.asks(3)
        peer.send(head(first), frames.data(first.stream, b"1", end=end))
        peer.sync()
        peer.answer(second, b"2")
        peer.sync()
        peer.answer(third, b"3")
        if not end:
            peer.send(frames.data(first.stream, b"1", end=True))
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            await again(client)
            release = anyio.Event()

            async def hold() -> bytes:
                async with client.open("GET", "/held") as response:
                    await release.wait()
                    return await response.read()

            held = begin(group, hold())
            await anyio.wait_all_tasks_blocked()
            others = [begin(group, client.get("/", cast_to=int)) for _ in range(2)]
            assert sorted([await call.end() for call in others]) == [2, 3]
            await again(client)
            release.set()
            assert await held.end() == (b"1" if end else b"11")
            await again(client)
            assert peer.connections == 1


@pytest.mark.parametrize("how", ["scope", "native"])
@pytest.mark.parametrize("kind", ["get", "upload", "left"])
async def test_cancelled_at_every_checkpoint_beside_a_sibling(kind: str, how: Any, anyio_backend_name: str) -> None:
    """The sibling waits from before and is answered afterwards; nothing of either is torn."""
    if how == "native" and anyio_backend_name == "trio":
        pytest.skip("trio has no cancellation but by scopes")

    def script(peer: H2Peer) -> None:
        peer.send(frames.window(0, 2**30))
        waiting: list[Asked] = []
        while True:
            asked = peer.ask(whole=False)
            if asked.path == "/sibling":
                waiting.append(asked)
            elif asked.path == "/now":
                for one in waiting:
                    peer.answer(one, b"7")
                waiting.clear()
                peer.answer(asked)
            else:
                peer.until(lambda asked=asked: asked.complete or asked.reset is not None or len(asked.body) == 65_535)
                if not asked.complete:
                    peer.send(frames.window(asked.stream, 100_000))
                    peer.until(lambda asked=asked: asked.complete or asked.reset is not None)
                peer.send(head(asked), frames.data(asked.stream, b"4"))
                peer.send(frames.data(asked.stream, b"2", end=True))

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            await client.get("/now", cast_to=int)

            async def operation() -> None:
                if kind == "upload":
                    assert await client.put("/", cast_to=int, content=BODY[:90_000]) == 42
                elif kind == "left":
                    async with client.open("GET", "/") as response:
                        await anext(response.iter_bytes())
                else:
                    assert await client.get("/", cast_to=int) == 42

            reached, n = True, 0
            while reached:
                n += 1
                assert n < 200
                async with anyio.create_task_group() as group:
                    sibling = begin(group, client.get("/sibling", cast_to=int, options=ONCE))
                    await anyio.wait_all_tasks_blocked()
                    reached = await cancelled_at(n, how, operation)
                    assert await client.get("/now", cast_to=int, options=ONCE) == 1
                    assert await sibling.end() == 7
            assert n > 1
            assert peer.connections == 1


# --- frames in the kernel ------------------------------------------------------------------------------------------


class Stuck:
    """A peer that does not read for a while: what the client has sent stays in the kernel, and in the stream.

    First it takes requests that wait (``siblings`` of them), then one with a large body.
    """

    def __init__(self, then: Callable[[H2Peer, list[Asked]], None] | None = None, siblings: int = 0) -> None:
        self.go = Signal()
        self.then = then
        self.siblings = siblings
        self.upload: Asked | None = None

    def __call__(self, peer: H2Peer) -> None:
        peer.peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        peer.answer(peer.ask())
        peer.send(frames.window(0, 2**30))
        siblings = peer.asks(self.siblings)
        self.upload = peer.ask(whole=False)
        self.go.wait()
        try:
            if self.then is not None:
                self.then(peer, siblings)
            peer.serve()
        finally:
            assert peer.judge.rest == b""
            assert self.upload.reset == CANCEL


LARGE = bytes(30_000_000)


async def fill(client: AsyncAPIClient, group: TaskGroup) -> Call:
    """Send until nothing more is taken."""
    connection = connection_of(client)
    call = begin(group, client.post("/up", cast_to=int, content=LARGE))
    sent = -1
    while not connection.stream.unsent or sent != connection.stream.sent:
        sent = connection.stream.sent
        await anyio.sleep(0.02)
    return call


def stuck_server(stuck: Stuck) -> Any:
    return serve(scripted(stuck, {frames.INITIAL_WINDOW_SIZE: 2**30}))


@pytest.mark.parametrize("then", ["get", "upload", "get, after one that is cancelled too"])
async def test_no_frame_is_torn_where_half_of_it_is_in_the_kernel(then: str) -> None:
    stuck = Stuck()
    with stuck_server(stuck) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            await again(client)
            upload = await fill(client, group)
            await upload.cancel()
            assert connection_of(client).stream.unsent
            if "cancelled" in then:
                call = begin(group, client.get("/", cast_to=int))
                await anyio.wait_all_tasks_blocked()
                await call.cancel()
            if then == "upload":
                call = begin(group, client.post("/next", cast_to=int, content=BODY))
            else:
                call = begin(group, client.get("/next", cast_to=int))
            await anyio.wait_all_tasks_blocked()
            stuck.go.set()
            assert await call.end() == 1
            await again(client)
            assert peer.connections == 1


async def test_who_reads_sends_what_a_cancelled_sibling_left() -> None:
    """Nobody else sends: without it the server would wait for the rest of a frame for ever."""

    def then(peer: H2Peer, siblings: list[Asked]) -> None:
        assert stuck.upload is not None
        peer.given_up(stuck.upload)
        peer.answer(siblings[0], b"5")

    stuck = Stuck(then, siblings=1)
    with stuck_server(stuck) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            await again(client)
            sibling = begin(group, client.get("/sibling", cast_to=int, options=ONCE))
            await anyio.wait_all_tasks_blocked()
            upload = await fill(client, group)
            await upload.cancel()
            assert connection_of(client).stream.unsent
            stuck.go.set()
            assert await sibling.end() == 5
            await again(client)
            assert peer.connections == 1


async def test_a_reader_that_sends_what_is_kept_loses_nothing_when_cancelled() -> None:
    """It is cancelled in the very moment when an answer has come, which is its sibling's."""
    flushing = Signal()

    def then(peer: H2Peer, siblings: list[Asked]) -> None:
        peer.send(frames.ping())  # now the reader looks at what is kept
        flushing.wait()
        peer.answer(by_path(siblings)["/sibling"], b"77")
        peer.peer.server.pause(0.05)

    stuck = Stuck(then, siblings=2)
    with stuck_server(stuck) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            await again(client)
            reader = begin(group, client.get("/reader", cast_to=int, options=ONCE))
            await anyio.wait_all_tasks_blocked()
            sibling = begin(group, client.get("/sibling", cast_to=int, options=ONCE))
            await anyio.wait_all_tasks_blocked()
            upload = await fill(client, group)
            await upload.cancel()
            connection = connection_of(client)
            assert connection.stream.unsent
            receive = type(connection.stream).receive

            async def cancelled_meanwhile(stream: Any) -> bytes:
                data: bytes = await receive(stream)
                reader._scope.cancel()  # by somebody who runs in the same turn of the loop
                return data

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(connection.stream), "receive", cancelled_meanwhile)
                stuck.go.set()  # the ping still comes to the old one
                while connection._flushing is None:  # noqa: ASYNC110 - nobody tells
                    await anyio.sleep(0.01)
                flushing.set()
                assert await sibling.end() == 77
            await again(client)
            assert peer.connections == 1


# --- asking whether the peer is alive --------------------------------------------------------------------------------


def asking(interval: float, timeout: float | None, **options: Any) -> HTTPTransport:
    return HTTPTransport(http1=False, ping_interval=interval, ping_timeout=timeout, **options)


async def test_a_silent_connection_is_asked() -> None:
    def script(peer: H2Peer) -> None:
        asked = peer.ask()
        for _ in range(3):
            frame = peer.wait(frames.PING)
            assert not frame.flags & ACK
            peer.send(frames.ping(frame.payload, ack=True))
        peer.answer(asked)
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer, asking(0.1, 10)) as client:
            assert await client.get("/", cast_to=int, options=ONCE) == 1
            await again(client)
            assert peer.connections == 1


async def test_a_connection_that_does_not_answer_is_lost_for_all_on_it() -> None:
    def script(peer: H2Peer) -> None:
        if peer.number > 1:
            peer.serve()
        asked = peer.asks(2)
        peer.send(head(by_path(asked)["/1"]))
        peer.wait(frames.PING)
        peer.until_gone()

    with serve(scripted(script)) as peer:
        async with client_of(peer, asking(0.2, 0.2)) as client:
            works = [client.post(f"/{n}", cast_to=int) for n in range(2)]
            lost = await at_once(*works)
            assert [type(one) for one in lost] == [ConnectionLostError] * 2
            assert "PING" in str(lost[0])
            assert [one.outcome for one in lost] == [Outcome.UNKNOWN, Outcome.ANSWERED]
            assert pool_of(client).open_count == 0
            await again(client)
            assert peer.connections == 2


@pytest.mark.parametrize("calls", [1, 3])
@pytest.mark.parametrize("alive", [True, False])
async def test_an_idle_connection_is_asked_before_it_is_used_again(alive: bool, calls: int) -> None:
    def script(peer: H2Peer) -> None:
        if peer.number > 1:
            peer.serve()
        peer.answer(peer.ask())
        frame = peer.wait(frames.PING)
        assert len(peer.judge.asked) == 1, "a request was sent before the answer came"
        if not alive:
            peer.until_gone()
        peer.peer.server.pause(0.05)
        peer.send(frames.ping(frame.payload, ack=True))
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer, asking(0.2, 10 if alive else 0.3), max_retries=0) as client:
            await again(client)
            await anyio.sleep(0.3)
            assert await at_once(*[client.post("/", cast_to=int) for _ in range(calls)]) == [1] * calls
            assert peer.connections == (1 if alive else 2)
            await again(client)


async def test_a_connection_that_was_used_just_now_is_not_asked() -> None:
    def script(peer: H2Peer) -> None:
        try:
            peer.serve()
        finally:
            assert frames.PING not in {frame.kind for frame in peer.judge.frames}

    with serve(scripted(script)) as peer:
        async with client_of(peer, asking(30, 10)) as client:
            await again(client)
            await again(client)
            assert peer.connections == 1


async def test_a_dead_connection_with_kept_bytes_is_found_too() -> None:
    """Half a frame of a cancelled upload is kept, the peer reads no more: who waits asks all the same."""
    gone = Signal()

    def script(peer: H2Peer) -> None:
        if peer.number > 1:
            peer.serve()
        peer.peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        asked = peer.ask()
        peer.send(frames.window(0, 2**30))  # before the answer, so that nothing comes to the calls that follow
        peer.answer(asked)
        peer.asks(2)
        peer.ask(whole=False)
        gone.wait()

    with serve(scripted(script, {frames.INITIAL_WINDOW_SIZE: 2**30})) as peer:
        async with client_of(peer, asking(1.0, 0.3)) as client, anyio.create_task_group() as group:
            await again(client)
            waiting = [begin(group, client.get("/", cast_to=int, options=ONCE)) for _ in range(2)]
            await anyio.wait_all_tasks_blocked()
            upload = await fill(client, group)
            await upload.cancel()
            await waiting[0].cancel()  # the other begins to read where bytes are kept
            # It is found dead before any byte of an answer came: a call that may be repeated is, once, on another one.
            with anyio.fail_after(5):
                assert await waiting[1].end() == 1
            gone.set()
            await again(client)
            assert peer.connections == 2


# --- the end -----------------------------------------------------------------------------------------------------------


async def test_closing_ends_what_is_under_way() -> None:
    ready = Signal()
    goodbye: list[int] = []

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = by_path(peer.asks(4, whole=False))
        peer.send(head(asked["/body"]), head(asked["/held"]))
        peer.until(lambda: len(asked["/upload"].body) == 65_535)
        peer.sync()
        ready.set()
        goodbye.append(peer.wait(frames.GOAWAY).number(4))
        assert peer.until_gone() == b""

    with serve(scripted(script, {frames.MAX_CONCURRENT_STREAMS: 4})) as peer:
        transport = HTTPTransport(http1=False, limits=Limits(max_connections=1))
        async with client_of(peer, transport) as client, anyio.create_task_group() as group:
            await again(client)

            async def hold() -> None:
                async with client.open("GET", "/held") as response:
                    await anyio.sleep(0.3)
                    await response.read()

            calls = [
                begin(group, client.get("/head", cast_to=int)),
                begin(group, client.get("/body", cast_to=int)),
                begin(group, client.post("/upload", cast_to=int, content=BODY)),
                begin(group, hold()),
            ]
            await ready.seen()
            calls.append(begin(group, client.get("/queued", cast_to=int)))
            await anyio.wait_all_tasks_blocked()
            await client.close()
            for call in calls:
                with pytest.raises(APIConnectionError) as caught:
                    await call.end()
                assert type(caught.value) is APIConnectionError
                assert len(caught.value.attempts) <= 1
    assert goodbye == [NO_ERROR]
    with serve(scripted(H2Peer.serve)) as peer:
        async with client_of(peer) as client:
            await again(client)


async def test_closing_while_a_frame_is_half_in_the_kernel() -> None:
    done = Signal()

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        peer.send(frames.window(0, 2**30))
        peer.ask(whole=False)
        done.wait()

    with serve(scripted(script, {frames.INITIAL_WINDOW_SIZE: 2**30})) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            await again(client)
            upload = await fill(client, group)
            await client.close()
            with pytest.raises(APIConnectionError) as caught:
                await upload.end()
            assert type(caught.value) is APIConnectionError
            done.set()


async def test_closing_while_nothing_is_under_way_says_goodbye() -> None:
    goodbye: list[int] = []

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        goodbye.append(peer.wait(frames.GOAWAY).number(4))
        peer.until_gone()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            await again(client)
        peer.wait_for_open(0)  # before the server is closed under the script
    assert goodbye == [NO_ERROR]


# --- what a hostile server tries ---------------------------------------------------------------------------------------

FLOOD = 1500


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a flood is one sooner."""
    monkeypatch.setattr(wire, "MAX_IDLE_FRAMES", 1000)


def bomb(stream: int) -> bytes:
    """A field of 4000 bytes, once in the table and then named by a byte each time: 20 MB of fields."""
    big = frames.block([OK], Encoder()) + b"\x40\x01x" + b"\x7f" + bytes([0xA1, 0x1E]) + b"y" * 4000
    return frames.headers(stream, big, end_headers=False) + frames.continuation(stream, b"\xbe" * 5000)


def chain(stream: int) -> Iterator[bytes]:
    yield frames.headers(stream, frames.block([OK]), end_headers=False)
    while True:
        yield frames.continuation(stream, frames.block([(b"a", b"b" * 1000)]), end_headers=False)


def empty_chain(stream: int) -> Iterator[bytes]:
    yield frames.headers(stream, frames.block([OK]), end_headers=False)
    yield from [frames.continuation(stream, b"", end_headers=False)] * FLOOD


def noise(seed: int) -> bytes:
    return random.Random(seed).randbytes(100_000)


# What comes, by the stream of the call that waits; that of the call that has its head is two less.
HOSTILE: dict[str, Callable[[int], bytes | Iterator[bytes]]] = {
    "CONTINUATION without end": chain,
    "empty CONTINUATION": empty_chain,
    "SETTINGS": lambda n: frames.settings({frames.HEADER_TABLE_SIZE: 100}) * FLOOD,
    "empty SETTINGS": lambda n: frames.settings() * FLOOD,
    "PING": lambda n: frames.ping() * FLOOD,
    "PING answers": lambda n: frames.ping(ack=True) * FLOOD,
    "RST_STREAM": lambda n: frames.rst(1, CANCEL) * FLOOD,
    "WINDOW_UPDATE": lambda n: frames.window(0, 1) * FLOOD,
    "WINDOW_UPDATE of a stream": lambda n: frames.window(n, 1) * FLOOD,
    "empty DATA": lambda n: frames.data(n - 2) * FLOOD,
    "padding": lambda n: frames.data(n - 2, pad=9) * FLOOD,
    "PRIORITY": lambda n: frames.priority(n) * FLOOD,
    "unknown": lambda n: frames.raw(0xEE, 0, 0, b"x") * FLOOD,
    "unknown of a stream": lambda n: frames.raw(0xEE, 0, n, b"x") * FLOOD,
    "GOAWAY": lambda n: frames.goaway(n + 2) * FLOOD,
    "header bomb": bomb,
    "connection's window": lambda n: frames.window(0, 2**31 - 1),
    "window by SETTINGS": lambda n: frames.window(n, 2**30) + frames.settings({frames.INITIAL_WINDOW_SIZE: 2**31 - 1}),
    "connection's window by nothing": lambda n: frames.window(0, 0),
    "bad window in SETTINGS": lambda n: frames.settings({frames.INITIAL_WINDOW_SIZE: 2**31}),
    "bad frame size in SETTINGS": lambda n: frames.settings({frames.MAX_FRAME_SIZE: 1}),
    "bad size of SETTINGS": lambda n: frames.raw(frames.SETTINGS, 0, 0, b"12345"),
    "SETTINGS of a stream": lambda n: frames.raw(frames.SETTINGS, 0, n),
    "DATA of no stream": lambda n: frames.data(0, b"1"),
    "push": lambda n: frames.push_promise(n, 2, [(b":method", b"GET")]),
    "even stream": lambda n: frames.headers(2, [OK]),
    "stream of the future": lambda n: frames.headers(n + 2, [OK]),
    "stream of the past": lambda n: frames.headers(1, [OK]),
    "data of the past": lambda n: frames.data(1, b"1"),
    "frame too large": lambda n: frames.raw(frames.DATA, 0, n - 2, bytes(16_385)),
    "padding longer than the frame": lambda n: frames.raw(frames.DATA, frames.PADDED, n - 2, b"\x09123"),
    "interrupted block": lambda n: frames.headers(n, frames.block([OK]), end_headers=False) + frames.ping(),
    "CONTINUATION of nothing": lambda n: frames.continuation(n, frames.block([OK])),
    "bad field block": lambda n: frames.headers(n, b"\xff" * 20),
    "noise 1": lambda n: noise(1),
    "noise 2": lambda n: noise(2),
    "zeros": lambda n: bytes(100_000),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", HOSTILE)
async def test_what_breaks_a_connection_fails_its_calls_and_nothing_else(kind: str) -> None:
    goodbyes: list[int] = []

    def script(peer: H2Peer) -> None:
        if peer.number > 1:
            peer.serve()
        peer.answer(peer.ask())
        first, second = peer.asks(2)
        peer.send(head(first), frames.data(first.stream, b"1"))
        peer.sync()
        made = HOSTILE[kind](second.stream)
        if "SETTINGS" in kind and isinstance(made, bytes):
            peer.judge.sent(made)
        try:
            for piece in [made] if isinstance(made, bytes) else made:
                peer.send_raw(piece)
        except OSError:  # closed meanwhile
            return
        try:
            goodbyes.append(peer.wait(frames.GOAWAY).number(4))
            peer.until_gone()
        except OSError:
            pass

    with serve(scripted(script)) as peer:
        async with client_of(peer, max_retries=0) as client, anyio.create_task_group() as group:
            await again(client)
            calls = []
            for path in ("/headed", "/waiting"):
                calls.append(begin(group, client.get(path, cast_to=bytes)))
                await anyio.wait_all_tasks_blocked()
            for call, outcome in zip(calls, (Outcome.ANSWERED, Outcome.UNKNOWN), strict=True):
                with pytest.raises(RemoteProtocolError) as caught:
                    await call.end()
                assert caught.value.outcome is outcome
            assert pool_of(client).open_count == 0
            await again(client)
            assert peer.connections == 2
    assert all(goodbyes)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("whose", ["stream", "reset stream"])
async def test_more_data_than_a_window_allows(whose: str) -> None:
    go = Signal()

    def script(peer: H2Peer) -> None:
        if peer.number > 1:
            peer.serve()
        peer.answer(peer.ask())
        asked = by_path(peer.asks(2))["/large"]
        peer.send(head(asked))
        if whose == "reset stream":
            peer.given_up(asked)
        go.wait()
        peer.send(*[frames.data(asked.stream, bytes(1000))] * 70)
        peer.until_gone()

    with serve(scripted(script)) as peer:
        async with client_of(peer, max_retries=0) as client, anyio.create_task_group() as group:
            await again(client)
            sibling = begin(group, client.post("/sibling", cast_to=int))
            async with client.open("GET", "/large") as response:
                if whose == "stream":
                    go.set()
                    with pytest.raises(RemoteProtocolError):
                        await sibling.end()
                    with pytest.raises(RemoteProtocolError):
                        await response.read()
            go.set()
            with pytest.raises(RemoteProtocolError):
                await sibling.end()
            await again(client)
            assert peer.connections == 2


@pytest.mark.parametrize("kind", ["PING", "CONTINUATION", "unknown"])
async def test_a_flood_without_end_takes_little_memory(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer never reads what it makes us answer."""
    monkeypatch.setattr(wire, "MAX_IDLE_FRAMES", 3000)

    def script(peer: H2Peer) -> None:
        if peer.number > 1:
            peer.serve()
        asked = peer.ask()
        if kind == "CONTINUATION":
            peer.send_raw(frames.headers(asked.stream, frames.block([OK]), end_headers=False))
            piece = frames.continuation(asked.stream, bytes(16_000), end_headers=False)
        else:
            piece = (frames.ping() if kind == "PING" else frames.raw(0xEE, 0, 0, b"x" * 50)) * 1000
        while True:
            peer.send_raw(piece)

    with serve(scripted(script)) as peer:
        async with client_of(peer, max_retries=0) as client:
            tracemalloc.start()
            try:
                with pytest.raises(RemoteProtocolError):
                    await client.get("/", cast_to=bytes)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak < 8_000_000
            await again(client)
            assert peer.connections == 2


@pytest.mark.parametrize("size", [1, 16_000])
async def test_a_peer_that_never_pauses_does_not_pass_the_deadline(size: int) -> None:
    """Nor keeps a sibling, or a cancellation, waiting."""

    def script(peer: H2Peer) -> None:
        peer.peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        asked = peer.ask()
        peer.send(head(asked))
        count = 1000 if size == 1 else 1
        piece = frames.data(asked.stream, bytes(size)) * count
        while asked.reset is None:
            if peer.judge.room(asked.stream) >= count * size:
                peer.judge.sent(piece)
                peer.send_raw(piece)
                if not _has_frame(peer):
                    continue
            peer.read()
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            began = time.monotonic()
            with pytest.raises(DeadlineExceededError):
                await client.get("/", cast_to=bytes, options={"deadline": 0.3})
            assert time.monotonic() - began < 5
            await again(client)
            assert peer.connections == 1
