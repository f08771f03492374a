"""HTTP/2 and the pool, over real sockets: who waits for which connection, GOAWAY, losses, ALPN, many calls at once."""

from __future__ import annotations

import pathlib
import random
import socket
import ssl
import threading
from collections.abc import Awaitable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trustme
from anyio.abc import TaskGroup

from anyio_client import (
    APIConnectionError,
    AsyncAPIClient,
    ConnectionLostError,
    HTTPTransport,
    Limits,
    Outcome,
    PoolTimeoutError,
    ReadTimeoutError,
    RemoteProtocolError,
    Timeout,
    TLSError,
    WriteTimeoutError,
)
from anyio_client._io.connection import PROBE_TIME
from tests.kit import frames
from tests.kit.h2peer import (
    REFUSED_STREAM,
    Asked,
    Call,
    H2Peer,
    Served,
    Signal,
    again,
    answer,
    at_once,
    begin,
    client_of,
    head,
    pool_of,
    scripted,
    serving,
)
from tests.kit.peers import Peer, Script, ScriptedServer, answer_each, ok, serve

pytestmark = [pytest.mark.anyio, pytest.mark.spread, pytest.mark.usefixtures("no_socket_is_left")]

ONCE = {"max_retries": 0}
MAX = frames.MAX_CONCURRENT_STREAMS


def one_connection() -> HTTPTransport:
    return HTTPTransport(http1=False, limits=Limits(max_connections=1))


def slow_down(client: AsyncAPIClient) -> None:
    """Connecting takes a moment longer."""
    connector = pool_of(client)._connector
    connect = connector.connect

    async def slow(*args: Any) -> Any:
        stream = await connect(*args)
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.02)
        return stream

    connector.connect = slow


async def begin_opening(client: AsyncAPIClient, group: TaskGroup, work: Awaitable[Any]) -> Call:
    """Begin the call that opens the connection."""
    call = begin(group, work)
    while pool_of(client).open_count == 0:
        await anyio.lowlevel.checkpoint()
    return call


def by_path(asked: list[Asked]) -> dict[str, Asked]:
    return {one.path: one for one in asked}


# --- room ------------------------------------------------------------------------------------------------------------


async def test_the_limit_is_raised_and_lowered_while_calls_wait() -> None:
    """The peer's judge counts the streams by the SETTINGS that were acknowledged."""

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = peer.asks(2)
        peer.sync()
        assert peer.judge.open_count == 2
        peer.send(frames.settings({MAX: 4}))
        asked += peer.asks(2)
        peer.sync()
        assert peer.judge.open_count == 4
        peer.send(frames.settings({MAX: 1}))
        peer.sync()
        for one in asked:
            peer.answer(one)
        for _ in range(3):
            one = peer.ask()
            peer.sync()
            assert peer.judge.open_count == 1
            peer.answer(one)
        peer.serve()

    with serve(scripted(script, {MAX: 2})) as peer:
        async with client_of(peer, one_connection()) as client:
            await again(client)
            assert await at_once(*[client.get("/", cast_to=int) for _ in range(7)]) == [1] * 7
            await again(client)
            assert peer.connections == 1


@pytest.mark.parametrize("held", [True, False], ids=["held", "waiting"])
async def test_a_limit_of_nothing_is_waited_out(held: bool) -> None:
    go = Signal()

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        first = peer.ask()
        peer.send(head(first))
        go.wait()
        peer.send(frames.settings({MAX: 0}))
        peer.sync()
        assert len(peer.judge.asked) == 2
        peer.send(frames.settings({MAX: 3}))
        for one in peer.asks(2):
            peer.answer(one)
        peer.send(frames.data(first.stream, b"1", end=True))
        peer.serve()

    with serve(scripted(script, {MAX: 1})) as peer:
        async with client_of(peer, one_connection()) as client, anyio.create_task_group() as group:
            await again(client)
            there = anyio.Event()
            release = anyio.Event()

            async def first() -> bytes:
                async with client.open("GET", "/first") as response:
                    there.set()
                    if held:
                        await release.wait()
                    return await response.read()

            under_way = begin(group, first())
            await there.wait()
            waiting = [begin(group, client.get("/", cast_to=int)) for _ in range(4)]
            await anyio.wait_all_tasks_blocked()
            go.set()
            assert [await call.end() for call in waiting] == [1] * 4
            release.set()
            assert await under_way.end() == b"1"
            await again(client)
            assert peer.connections == 1


async def test_where_the_limit_is_reached_further_connections_are_opened() -> None:
    peers: list[H2Peer] = []

    def script(peer: H2Peer) -> None:
        peers.append(peer)
        while sum(len(one.judge.asked) for one in peers) < 5:
            peer.poll()
        peer.serve()

    with serve(scripted(script, {MAX: 2})) as peer:
        async with client_of(peer) as client:
            assert await at_once(*[client.get("/", cast_to=int) for _ in range(5)]) == [1] * 5
            assert peer.connections == 3
            assert pool_of(client).open_count == 3
            assert await at_once(*[client.get("/", cast_to=int) for _ in range(6)]) == [1] * 6
            assert peer.connections == 3


async def test_with_one_connection_they_wait_and_are_served_in_order() -> None:
    order: list[str] = []

    def script(peer: H2Peer) -> None:
        while True:
            asked = peer.ask()
            order.append(asked.path)
            peer.answer(asked)

    with serve(scripted(script, {MAX: 1})) as peer:
        async with client_of(peer, one_connection()) as client, anyio.create_task_group() as group:
            await again(client)
            calls = []
            for n in range(20):
                calls.append(begin(group, client.get(f"/{n}", cast_to=int)))
                await anyio.lowlevel.checkpoint()
            assert [await call.end() for call in calls] == [1] * 20
            assert order[1:] == [f"/{n}" for n in range(20)]
            assert peer.connections == 1


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["settings", "end", "reset"])
async def test_who_waits_for_a_place_reads_where_nobody_does(how: str, when: str) -> None:
    """All answers are held unread. *when* the second call asked: before or after the connection was there."""
    go = Signal()

    def script(peer: H2Peer) -> None:
        asked = peer.ask()
        peer.send(head(asked))
        go.wait()
        if how == "settings":
            peer.send(frames.settings({MAX: 2}))
            peer.answer(peer.ask())
            peer.send(frames.data(asked.stream, b"7", end=True))
        elif how == "end":
            peer.send(frames.data(asked.stream, b"7", end=True))
        else:
            peer.send(frames.rst(asked.stream, 2))
        peer.serve()

    with serve(scripted(script, {MAX: 1})) as peer:
        async with client_of(peer, one_connection()) as client, anyio.create_task_group() as group:
            release = anyio.Event()

            async def hold() -> bytes:
                async with client.open("GET", "/held") as response:
                    release_soon.set()
                    await release.wait()
                    return await response.read()

            release_soon = anyio.Event()
            slow_down(client)
            held = await begin_opening(client, group, hold())
            if when == "after":
                await release_soon.wait()
            second = begin(group, client.get("/second", cast_to=int, options=ONCE))
            await release_soon.wait()
            await anyio.wait_all_tasks_blocked()
            go.set()
            assert await second.end() == 1
            release.set()
            if how == "reset":
                with pytest.raises(ConnectionLostError):
                    await held.end()
            else:
                assert await held.end() == b"7"
            await again(client)
            assert peer.connections == 1


async def test_who_waits_for_a_place_and_is_cancelled_passes_the_baton_on() -> None:
    go = Signal()

    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = peer.ask()
        peer.send(head(asked))
        go.wait()
        peer.sync()
        peer.send(frames.data(asked.stream, b"7", end=True))
        peer.serve()

    with serve(scripted(script, {MAX: 1})) as peer:
        async with client_of(peer, one_connection()) as client, anyio.create_task_group() as group:
            await again(client)
            async with client.open("GET", "/held") as response:
                waiting = []
                for _ in range(3):
                    waiting.append(begin(group, client.get("/", cast_to=int)))
                    await anyio.wait_all_tasks_blocked()
                await waiting[0].cancel()
                go.set()
                assert await waiting[1].end() == 1
                assert await waiting[2].end() == 1
                assert await response.read() == b"7"
            await again(client)
            assert peer.connections == 1


async def test_a_place_that_does_not_come_is_a_pool_timeout() -> None:
    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        peer.send(head(peer.ask()))
        peer.serve()

    with serve(scripted(script, {MAX: 1})) as peer:
        async with client_of(peer, one_connection()) as client:
            await again(client)
            async with client.open("GET", "/held"):
                with pytest.raises(PoolTimeoutError):
                    await client.get("/", cast_to=int, options={"timeout": Timeout(10, pool=0.2), **ONCE})
            await again(client)
            assert peer.connections == 1


async def test_a_server_that_begins_with_a_limit_of_nothing_gets_no_storm_of_connections() -> None:
    """A connection whose limit is 0 counts as full; one waiting call opens no second further one because of it."""
    go = Signal()

    def script(peer: H2Peer) -> None:
        if peer.number == 1:
            go.wait()
            peer.send(frames.settings({MAX: 5}))
        peer.serve()

    with serve(scripted(script, {MAX: 0})) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            slow_down(client)  # so that the SETTINGS arrive first
            call = begin(group, client.get("/", cast_to=int, options=ONCE))
            await anyio.sleep(0.4)
            connections = peer.connections
            go.set()
            assert connections <= 2
            assert await call.end() == 1
            await again(client)


async def test_a_stream_that_is_refused_for_a_limit_of_nothing_goes_elsewhere() -> None:
    """The limit comes too late for the first request."""

    def script(peer: H2Peer) -> None:
        asked = peer.ask()
        peer.send(frames.settings({MAX: 0 if peer.number == 1 else 5}))
        if peer.number == 1:
            peer.send(frames.rst(asked.stream, REFUSED_STREAM))
        else:
            peer.answer(asked)
        peer.serve()

    with serve(scripted(script, greet=False)) as peer:
        async with client_of(peer) as client:
            assert await client.post("/", cast_to=int) == 1
            assert peer.connections == 2
            await again(client)
            assert peer.connections == 2


# --- GOAWAY ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
async def test_goaway_lets_the_first_end_and_sends_the_others_elsewhere(twice: bool) -> None:
    warned = Signal()
    go = Signal()

    def script(peer: H2Peer) -> None:
        if peer.number > 1:
            peer.serve(b"2")
        peer.answer(peer.ask())
        asked = peer.asks(3)
        assert [one.path for one in asked] == ["/0", "/1", "/2"]
        peer.send(head(asked[0]))
        if twice:
            peer.send(frames.goaway(2**31 - 1))
            peer.sync()
            warned.set()
            go.wait()
        peer.send(frames.goaway(asked[1].stream))
        peer.sync()
        assert asked[2].reset in (None, 8)
        peer.answer(asked[1], b"11")
        peer.send(frames.data(asked[0].stream, b"11", end=True))
        assert peer.until_gone() == b""
        assert len(peer.judge.asked) == 4

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            await again(client)
            calls = []
            for n in range(3):
                calls.append(begin(group, client.post(f"/{n}", cast_to=int)))
                await anyio.wait_all_tasks_blocked()
            if twice:
                await warned.seen()
                assert await client.get("/new", cast_to=int) == 2
                assert not any(call.is_over for call in calls)
                go.set()
            assert [await call.end() for call in calls] == [11, 11, 2]
            assert await client.get("/new", cast_to=int) == 2
            assert peer.connections == 2
            assert pool_of(client).open_count == 1


async def test_goaway_with_one_connection_allowed() -> None:
    """The new call waits until the old connection is done with."""
    go = Signal()

    def script(peer: H2Peer) -> None:
        if peer.number > 1:
            peer.serve(b"2")
        peer.answer(peer.ask())
        asked = peer.ask()
        peer.send(frames.goaway(asked.stream))
        go.wait()
        peer.answer(asked)
        peer.until_gone()

    with serve(scripted(script)) as peer:
        async with client_of(peer, one_connection()) as client, anyio.create_task_group() as group:
            await again(client)
            first = begin(group, client.get("/", cast_to=int))
            await anyio.wait_all_tasks_blocked()
            second = begin(group, client.post("/", cast_to=int))
            await anyio.wait_all_tasks_blocked()
            go.set()
            assert await first.end() == 1
            assert await second.end() == 2
            assert peer.connections == 2


@pytest.mark.parametrize("calls", [1, 2])
async def test_goaway_that_a_new_call_finds_does_not_harm_answers_that_are_held(calls: int) -> None:
    held, sent, go = Signal(), Signal(), Signal()

    def script(peer: H2Peer) -> None:
        if peer.number > 1:
            peer.serve(b"2")
        peer.answer(peer.ask())
        asked = peer.ask()
        peer.send(head(asked), frames.data(asked.stream, b"[1"))
        held.wait()
        peer.send(frames.goaway(asked.stream))
        sent.set()
        go.wait()
        peer.send(frames.data(asked.stream, b"]", end=True))
        assert peer.until_gone() == b""

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            await again(client)
            async with client.open("GET", "/held") as response:
                held.set()
                await sent.seen()
                await anyio.sleep(0.05)
                works = [client.post("/", cast_to=int, options=ONCE) for _ in range(calls)]
                assert await at_once(*works) == [2] * calls
                go.set()
                assert await response.read() == b"[1]"
            assert await client.get("/", cast_to=int) == 2
            assert peer.connections == 2


@pytest.mark.parametrize("then", ["open", "eof", "reset"])
async def test_goaway_while_idle_is_no_failure(then: str) -> None:
    gone = Signal()

    def script(peer: H2Peer) -> None:
        if peer.number == 1:
            peer.answer(peer.ask())
            peer.until(lambda: peer.judge.acks)
            peer.send(frames.goaway(1))
            if then == "reset":
                peer.peer.reset()
            elif then == "eof":
                peer.peer.sock.shutdown(1)
            gone.set()
            if then != "reset":
                peer.until_gone()
        else:
            peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer, max_retries=0) as client:
            await again(client)
            await gone.seen()
            await anyio.sleep(0.05)
            assert await client.post("/", cast_to=int) == 1
            assert peer.connections == 2
            assert pool_of(client).open_count == 1
            await again(client)


@pytest.mark.parametrize("count", [1, 3])
async def test_goaway_that_crosses_with_a_request_is_no_failure(count: int) -> None:
    """A server that closes an idle connection gracefully costs no retry."""

    def script(peer: H2Peer) -> None:
        if peer.number > 1:
            peer.serve()
        peer.answer(peer.ask())
        peer.asks(count)
        peer.send(frames.goaway(1))
        peer.until_gone()

    with serve(scripted(script)) as peer:
        async with client_of(peer, max_retries=0) as client:
            await again(client)
            assert await at_once(*[client.post("/", cast_to=int) for _ in range(count)]) == [1] * count
            assert peer.connections == 2
            await again(client)


# --- losses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["eof", "reset", "half a frame"])
async def test_a_connection_that_is_lost_under_three_calls(how: str) -> None:
    def script(peer: H2Peer) -> None:
        if peer.number > 1:
            peer.serve(b"2")
        peer.answer(peer.ask())
        asked = by_path(peer.asks(3))
        peer.send(head(asked["/headed"]), frames.data(asked["/headed"].stream, b"1"))
        peer.sync()
        if how == "half a frame":
            peer.send_raw(answer(asked["/post"])[0][:11])
        if how == "reset":
            peer.peer.reset()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client:
            await again(client)
            headed, post, got = await at_once(
                client.post("/headed", cast_to=int),
                client.post("/post", cast_to=int),
                client.get("/get", cast_to=int),
            )
            for error, outcome in ((headed, Outcome.ANSWERED), (post, Outcome.UNKNOWN)):
                assert type(error) is ConnectionLostError
                assert error.outcome is outcome
                assert len(error.attempts) == 1
            assert got == 2
            assert pool_of(client).open_count == 1
            assert await client.post("/", cast_to=int) == 2
            assert peer.connections == 2


async def test_a_connection_that_died_while_idle_is_replaced_for_calls_that_can_be_repeated() -> None:
    """The end comes when the requests have been sent, without a byte of an answer."""

    def script(peer: H2Peer) -> None:
        if peer.number > 1:
            peer.serve(b"2")
        peer.until(lambda: peer.judge.acks)
        peer.answer(peer.ask())
        peer.asks(2)

    with serve(scripted(script)) as peer:
        async with client_of(peer, max_retries=0) as client:
            await again(client)
            got, error = await at_once(client.get("/", cast_to=int), client.post("/", cast_to=int))
            assert got == 2
            assert type(error) is ConnectionLostError
            assert error.outcome is Outcome.UNKNOWN
            assert await client.post("/", cast_to=int) == 2
            assert peer.connections == 2


@pytest.mark.parametrize("fault", ["garbage", "eof", "goaway and eof"])
async def test_a_lost_connection_fails_only_what_it_carried(fault: str) -> None:
    both = threading.Barrier(2, timeout=10)
    broken = Signal()

    def script(peer: H2Peer) -> None:
        if peer.number > 2:
            peer.serve()
        asked = peer.ask()
        peer.send(head(asked))
        both.wait()
        if asked.path == "/bad":
            if fault == "garbage":
                peer.send_raw(frames.data(0, b"?"))
                peer.until_gone()
            elif "goaway" in fault:
                peer.send(frames.goaway(asked.stream))
            broken.set()
            return
        broken.wait()
        peer.send(frames.data(asked.stream, b"5", end=True))
        peer.serve()

    with serve(scripted(script, {MAX: 1})) as peer:
        async with client_of(peer, max_retries=0) as client:
            good, bad = await at_once(client.get("/good", cast_to=int), client.post("/bad", cast_to=int))
            assert good == 5
            assert type(bad) is (RemoteProtocolError if fault == "garbage" else ConnectionLostError)
            assert bad.outcome is Outcome.ANSWERED
            assert pool_of(client).open_count == 1
            await again(client)
            assert peer.connections == 2


# --- what is spoken ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform's trust store trusts it, so that contexts of our own do."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


def server_context(authority: trustme.CA, alpn: list[str] | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    if alpn is not None:
        context.set_alpn_protocols(alpn)
    return context


def both_versions(peer: Peer) -> None:
    """Speaks what was agreed on."""
    assert isinstance(peer.sock, ssl.SSLSocket)
    if peer.sock.selected_alpn_protocol() == "h2":
        H2Peer(peer).serve()
    answer_each(ok(b"1"))(peer)


def tls_server(authority: trustme.CA, alpn: list[str] | None, script: Script = both_versions) -> Any:
    return serve(script, server_context(authority, alpn))


def tls_client(peer: ScriptedServer, transport: HTTPTransport, **options: Any) -> Any:
    return client_of(peer, transport, base_url=f"https://localhost:{peer.port}", **options)


BOTH = ["h2", "http/1.1"]


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("offered", "options", "version"),
    [
        (BOTH, {}, "HTTP/2"),
        (["http/1.1", "h2"], {}, "HTTP/1.1"),
        (["http/1.1"], {}, "HTTP/1.1"),
        (None, {}, "HTTP/1.1"),
        (["h2"], {}, "HTTP/2"),
        (BOTH, {"http2": False}, "HTTP/1.1"),
        (BOTH, {"http1": False}, "HTTP/2"),
        (None, {"http2": False}, "HTTP/1.1"),
        (["h2"], {"http2": False}, "HTTP/1.1"),  # no agreement
        (["http/1.1"], {"http1": False}, None),
        (None, {"http1": False}, None),
    ],
)
async def test_what_alpn_chooses_is_spoken(
    authority: trustme.CA, offered: list[str] | None, options: dict[str, bool], version: str | None
) -> None:
    with tls_server(authority, offered) as peer:
        async with tls_client(peer, HTTPTransport(**options)) as client:  # type: ignore[arg-type]
            if version is None:
                with pytest.raises(TLSError, match=r"did not agree to HTTP/2 \(ALPN\), and http1=False") as caught:
                    await client.get("/", cast_to=int)
                assert caught.value.outcome is Outcome.NOT_SENT
                assert len(caught.value.attempts) == 1
                assert pool_of(client).open_count == 0
                assert peer.connections == 1
                return
            async with client.open("GET", "/") as response:
                assert response.http_version == version
                assert await response.read() == b"1"
            assert await at_once(*[client.get("/", cast_to=int) for _ in range(3)]) == [1] * 3
            assert peer.connections == (1 if version == "HTTP/2" else 3)


class Watched(ssl.SSLContext):
    """A user's context that must not be changed."""

    locked = False

    def set_alpn_protocols(self, alpn_protocols: Any) -> None:
        assert not self.locked
        super().set_alpn_protocols(alpn_protocols)

    def __setattr__(self, name: str, value: object) -> None:
        assert not self.locked
        super().__setattr__(name, value)


@pytest.mark.parametrize(
    ("own", "options", "result"),
    [
        (None, {}, "HTTP/1.1"),
        (["h2"], {}, "HTTP/2"),
        (BOTH, {}, "HTTP/2"),
        (["http/1.1"], {}, "HTTP/1.1"),
        (BOTH, {"http2": False}, "chose 'h2', which the SSLContext offers and http1= or http2= switches off"),
        (["http/1.1"], {"http1": False}, "chose 'http/1.1', which the SSLContext offers"),
        (["foo"], {}, "chose the protocol 'foo', which the SSLContext offers and we do not speak"),
        (None, {"http1": False}, "did not agree to HTTP/2"),
    ],
)
async def test_the_users_context_is_not_changed(
    authority: trustme.CA, own: list[str] | None, options: dict[str, bool], result: str
) -> None:
    context = Watched(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    if own is not None:
        context.set_alpn_protocols(own)
    context.locked = True
    with tls_server(authority, [*BOTH, "foo"]) as peer:
        async with tls_client(peer, HTTPTransport(tls=context, **options)) as client:  # type: ignore[arg-type]
            if not result.startswith("HTTP"):
                with pytest.raises(TLSError) as caught:
                    await client.get("/", cast_to=int)
                assert result in str(caught.value)
                assert len(caught.value.attempts) == 1
                assert pool_of(client).open_count == 0
            else:
                async with client.open("GET", "/") as response:
                    assert response.http_version == result
                await again(client)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(BOTH)
    return context


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
async def test_fifty_calls_to_an_unknown_origin_make_one_connection(authority: trustme.CA, late: bool) -> None:
    def script(peer: Peer) -> None:
        h2 = H2Peer(peer, greet=not late)
        if late:
            h2.ask()  # one only, as the judge sees to, until the limit is known
            peer.server.pause(0.1)
            h2.send(frames.settings({MAX: 100}))
            h2.sync()
            h2.answer(1)
        h2.serve()

    with tls_server(authority, BOTH, script) as peer:
        async with tls_client(peer, HTTPTransport(tls=trusting(authority))) as client:
            assert await at_once(*[client.get("/", cast_to=int) for _ in range(50)]) == [1] * 50
            assert peer.connections == 1
            await again(client)


@pytest.mark.parametrize("kind", ["cancelled", "timed out"])
async def test_another_opens_where_the_opener_gives_up_in_the_handshake(authority: trustme.CA, kind: str) -> None:
    context = server_context(authority, BOTH)
    tried = Signal()

    def script(peer: Peer) -> None:
        if peer.number == 1:  # never answers the hello
            tried.set()
            peer.wait_closed()
            return
        peer.sock = context.wrap_socket(peer.sock, server_side=True)
        try:
            H2Peer(peer).serve()
        finally:
            peer.sock.close()

    with serve(script) as peer:
        async with (
            tls_client(peer, HTTPTransport(tls=trusting(authority)), max_retries=0) as client,
            anyio.create_task_group() as group,
        ):
            deadline = {"deadline": 0.5} if kind == "timed out" else {}
            opener = begin(group, client.get("/", cast_to=int, options=deadline))
            await tried.seen()
            others = [begin(group, client.get("/", cast_to=int)) for _ in range(49)]
            await anyio.wait_all_tasks_blocked()
            if kind == "cancelled":
                await opener.cancel()
            else:
                with pytest.raises(APIConnectionError):
                    await opener.end()
            assert [await call.end() for call in others] == [1] * 49
            assert peer.connections == 2
            await again(client)


async def test_an_opener_that_is_cancelled_before_the_settings_come_leaves_its_connection_to_the_others() -> None:
    waiting = Signal()
    go = Signal()

    def script(peer: H2Peer) -> None:
        peer.ask()
        waiting.set()
        go.wait()
        peer.send(frames.settings({MAX: 10}))
        peer.serve()

    with serve(scripted(script, greet=False)) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            opener = await begin_opening(client, group, client.get("/", cast_to=int))
            others = [begin(group, client.get("/", cast_to=int)) for _ in range(9)]
            await waiting.seen()
            await opener.cancel()
            await anyio.wait_all_tasks_blocked()
            go.set()
            assert [await call.end() for call in others] == [1] * 9
            assert peer.connections == 1
            await again(client)


@pytest.mark.parametrize("most", [10, 1000])
async def test_fifty_calls_open_their_own_where_it_turns_out_to_be_http_1(authority: trustme.CA, most: int) -> None:
    together = threading.Barrier(min(most, 50), timeout=10)
    first = threading.local()

    def script(peer: Peer) -> None:
        """The first requests are answered when as many connections as may be are there."""
        while peer.read_request():
            if not getattr(first, "done", False):
                first.done = True
                together.wait()
            peer.send(ok(b"1"))

    with tls_server(authority, ["http/1.1"], script) as peer:
        transport = HTTPTransport(tls=trusting(authority), limits=Limits(max_connections=most))
        async with tls_client(peer, transport) as client:
            assert await at_once(*[client.get("/", cast_to=int) for _ in range(50)]) == [1] * 50
            assert peer.connections == min(most, 50)
            await again(client)


@pytest.mark.parametrize("text", [ok(b"1"), b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"])
async def test_a_server_that_answers_in_http_1(text: bytes) -> None:
    def script(peer: Peer) -> None:
        if peer.number > 1:
            H2Peer(peer).serve()
        peer.receive()
        peer.send(text)
        peer.wait_closed()

    with serve(script) as peer:
        async with client_of(peer) as client:
            with pytest.raises(RemoteProtocolError, match="does not begin as HTTP/2 does") as caught:
                await client.post("/", cast_to=int)
            assert caught.value.outcome is Outcome.UNKNOWN
            await again(client)
            assert peer.connections == 2


# --- many --------------------------------------------------------------------------------------------------------------


async def test_twelve_downloads_left_early_and_then_fifty_calls() -> None:
    seen = Served()
    download = bytes(2_000_000)

    def app(asked: Asked) -> bytes:
        return download if asked.path == "/download" else b"1"

    with serve(serving(app, seen=seen)) as peer:
        async with client_of(peer, max_retries=0) as client:

            async def leave() -> int:
                async with client.open("GET", "/download") as response:
                    return len(await anext(response.iter_bytes()))

            assert all(await at_once(*[leave() for _ in range(12)]))
            assert await at_once(*[client.get("/", cast_to=int) for _ in range(50)]) == [1] * 50
            assert peer.connections == 1
    assert seen.torn == 0
    assert len(seen.asked) == 62


async def test_two_hundred_calls_half_of_which_are_cancelled() -> None:
    limit = 40
    seen = Served()
    chance = random.Random(20)

    def size(number: int) -> int:
        return number * 977 % 20_000

    def app(asked: Asked) -> bytes | None:
        number = int(asked.path[1:])
        assert len(asked.body) == (size(number) if asked.method == "POST" else 0)
        return None if number % 8 == 1 else b"%d" % number + b"x" * size(number)

    with serve(serving(app, {MAX: limit}, seen)) as peer:
        async with client_of(peer, one_connection(), max_retries=0, seconds=30) as client:

            async def call(number: int) -> None:
                content = {"content": b"y" * size(number)} if number % 3 == 0 else {}
                method = client.post if content else client.get
                assert await method(f"/{number}", cast_to=str, **content) == f"{number}" + "x" * size(number)

            for _ in range(2):
                cancelled: list[Any] = []
                async with anyio.create_task_group() as group:
                    kept = []
                    for number in range(200):
                        (cancelled if number % 2 else kept).append(begin(group, call(number)))
                    while cancelled:
                        cancelled.pop(chance.randrange(len(cancelled)))._scope.cancel()
                        await anyio.sleep(chance.random() * 0.002)
                    for one in kept:
                        await one.end()
            assert await at_once(*[client.get(f"/{n}", cast_to=str) for n in range(0, 60, 2)]) == [
                f"{n}" + "x" * size(n) for n in range(0, 60, 2)
            ]
            assert peer.connections == 1
    assert seen.torn == 0
    assert 1 < seen.most_open <= limit
    assert seen.reset


async def test_a_hundred_calls_over_few_streams_open_what_they_need() -> None:
    with serve(serving(lambda asked: b"1", {MAX: 10})) as peer:
        transport = HTTPTransport(http1=False, limits=Limits(max_connections=5))
        async with client_of(peer, transport) as client:
            assert await at_once(*[client.get("/", cast_to=int) for _ in range(100)]) == [1] * 100
            assert 1 <= peer.connections <= 5
            await again(client)


# --- connections that say nothing --------------------------------------------------------------------------------------


async def test_calls_do_not_wait_for_settings_that_never_come() -> None:
    def script(peer: H2Peer) -> None:
        if peer.number == 1:
            peer.until_gone()
        peer.serve()

    def silent_or_not(peer: Peer) -> None:
        script(H2Peer(peer, greet=peer.number > 1))

    with serve(silent_or_not) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            first = begin(group, client.get("/", cast_to=int, options=ONCE))
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(8):  # of a read limit of 600 s
                assert await at_once(*[client.get("/", cast_to=int) for _ in range(5)]) == [1] * 5
            assert not first.is_over
            await first.cancel()


@pytest.mark.parametrize("reads", [True, False])
async def test_a_connection_that_was_silent_for_a_whole_limit_gets_no_more_calls(reads: bool) -> None:
    """It says nothing any more, or takes nothing: the retry goes elsewhere, and so does the next call."""
    go = Signal()

    def script(peer: H2Peer) -> None:
        if peer.number > 1:
            peer.serve()
        if not reads:
            peer.peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        peer.answer(peer.ask())
        peer.send(frames.window(0, 2**30))
        peer.asks(1, whole=False)
        if reads:
            peer.until_gone()
        else:
            go.wait()

    with serve(scripted(script, {frames.INITIAL_WINDOW_SIZE: 2**30})) as peer:
        async with client_of(peer) as client:
            await again(client)
            body = b"x" if reads else bytes(20_000_000)
            timeout = Timeout(10, read=0.4, write=0.4)
            options = {"timeout": timeout, **ONCE}
            with pytest.raises(ReadTimeoutError if reads else WriteTimeoutError):
                await client.post("/", content=body, cast_to=int, options=options)
            assert await client.post("/", content=b"x", cast_to=int, options=ONCE) == 1
            assert peer.connections == 2
            go.set()


async def test_the_answer_to_a_doubt_is_heard_at_once_although_another_call_reads() -> None:
    asked: list[Asked] = []

    def script(peer: H2Peer) -> None:
        peer.answers_pings = True
        peer.answer(peer.ask())
        asked.extend(peer.asks(2))
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            await again(client)
            reader = begin(group, client.get("/reader", cast_to=int, options=ONCE))
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(ReadTimeoutError):
                await client.post("/", content=b"x", cast_to=int, options={"timeout": Timeout(10, read=0.3), **ONCE})
            began = anyio.current_time()
            await again(client)
            assert anyio.current_time() - began < PROBE_TIME * 0.8
            assert peer.connections == 1
            assert not reader.is_over
            await reader.cancel()


async def test_unread_data_in_tiny_frames_takes_no_more_memory_than_it_has() -> None:
    def script(peer: H2Peer) -> None:
        peer.answer(peer.ask())
        asked = by_path(peer.asks(2))
        peer.send(head(asked["/held"]))
        for _ in range(20):
            peer.send(frames.data(asked["/held"].stream, b"ab") * 1000)
        peer.answer(asked["/other"])
        peer.send(frames.data(asked["/held"].stream, end=True))
        peer.serve()

    with serve(scripted(script)) as peer:
        async with client_of(peer) as client, anyio.create_task_group() as group:
            await again(client)
            other = begin(group, client.get("/other", cast_to=int))
            await anyio.wait_all_tasks_blocked()
            async with client.open("GET", "/held") as response:
                assert await other.end() == 1
                (exchange,) = [o for c in pool_of(client)._connections.values() for o in c.exchanges.values()] or [None]
                if exchange is not None:
                    assert len(exchange._events) <= 3  # type: ignore[attr-defined]
                assert await response.read() == b"ab" * 20_000
