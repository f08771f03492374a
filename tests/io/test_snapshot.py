"""``client.snapshot()``: what each connection and each waiter is doing; and a pool timeout that says who holds them."""

from __future__ import annotations

import copy
import pickle
import re
import socket
from typing import Any

import anyio
import attrs
import pytest

from anyio_client import (
    ASGITransport,
    AsyncAPIClient,
    ConnectionInfo,
    ConnectTimeoutError,
    HTTPTransport,
    Limits,
    MockTransport,
    PoolTimeoutError,
    Response,
    Snapshot,
    Timeout,
    WaiterInfo,
)
from tests.kit import frames
from tests.kit.h2peer import Signal, again, begin
from tests.kit.peers import serve
from tests.kit.sides import PROTOCOLS, H2Side, Protocol, Side, client_for, speaking

pytestmark = [pytest.mark.anyio, pytest.mark.spread, pytest.mark.usefixtures("no_socket_is_left")]

both = pytest.mark.parametrize("protocol", PROTOCOLS)
NAMES = {"h1": "HTTP/1.1", "h2": "HTTP/2"}


def limited(protocol: Protocol, count: int = 1) -> HTTPTransport:
    return HTTPTransport(http1=protocol == "h1", http2=protocol == "h2", limits=Limits(max_connections=count))


def held(gate: Signal, arrived: Signal) -> Any:
    def script(side: Side) -> None:
        while True:
            path = side.head().path
            side.body()
            if path.startswith("/held"):
                arrived.set()
                gate.wait()
            side.answer()

    return script


async def until_there_are(client: AsyncAPIClient, *, waiters: int) -> Snapshot:
    with anyio.fail_after(5):
        while len((found := client.snapshot()).waiters) != waiters:  # noqa: ASYNC110
            await anyio.sleep(0.002)
    return found


@both
async def test_a_connection_is_active_then_idle(protocol: Protocol) -> None:
    gate, arrived = Signal(), Signal()
    with serve(speaking(protocol, held(gate, arrived))) as peer:
        async with client_for(protocol, peer) as client, anyio.create_task_group() as group:
            assert client.snapshot() == Snapshot()
            call = begin(group, client.get("/held", cast_to=int))
            await arrived.seen()
            (first,) = client.snapshot().connections
            assert first == ConnectionInfo(peer.url, NAMES[protocol], "active", 1, first.age, None)
            assert 0 < first.age < 5
            await anyio.sleep(0.05)
            (second,) = client.snapshot().connections
            assert second.age >= first.age + 0.04
            gate.set()
            await call.end()
            (third,) = client.snapshot().connections
            assert (third.state, third.streams) == ("idle", 0)
            assert third.idle is not None
            assert 0 <= third.idle < third.age - 0.04
            await anyio.sleep(0.05)
            (fourth,) = client.snapshot().connections
            assert fourth.idle is not None
            assert fourth.idle >= third.idle + 0.04
            await again(client)
            (fifth,) = client.snapshot().connections
            assert fifth.idle is not None
            assert fifth.idle < fourth.idle + 0.04
            assert client.snapshot().waiters == ()
        assert client.snapshot() == Snapshot()


@both
async def test_a_body_that_is_not_read_keeps_it_active(protocol: Protocol) -> None:
    def script(side: Side) -> None:
        side.head()
        side.begin()
        side.data(b"1")
        side.body()
        side.given_up()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            async with client.open("GET", "/"):
                (info,) = client.snapshot().connections
                assert (info.state, info.streams, info.idle) == ("active", 1, None)
            assert [info.state for info in client.snapshot().connections] == ([] if protocol == "h1" else ["idle"])


async def test_streams_of_one_connection_are_counted() -> None:
    gate = Signal()
    three = Signal()

    def script(side: Side) -> None:
        assert isinstance(side, H2Side)
        side.wire.answer(side.wire.ask())
        asked = side.wire.asks(3)
        three.set()
        gate.wait()
        for one in asked:
            side.wire.answer(one)

    with serve(speaking("h2", script)) as peer:
        async with client_for("h2", peer) as client, anyio.create_task_group() as group:
            await again(client)
            calls = [begin(group, client.get("/", cast_to=int)) for _ in range(3)]
            await three.seen()
            (info,) = client.snapshot().connections
            assert (info.protocol, info.state, info.streams) == ("HTTP/2", "active", 3)
            gate.set()
            for call in calls:
                await call.end()
            (info,) = client.snapshot().connections
            assert (info.state, info.streams) == ("idle", 0)


async def test_a_connection_that_takes_no_more_is_closing() -> None:
    gate, arrived, told = Signal(), Signal(), Signal()

    def script(side: Side) -> None:
        assert isinstance(side, H2Side)
        asked = side.wire.ask()
        arrived.set()
        gate.wait()
        side.wire.send(frames.goaway(asked.stream))
        side.wire.sync()
        told.set()
        side.wire.answer(asked)

    with serve(speaking("h2", script)) as peer:
        async with client_for("h2", peer) as client, anyio.create_task_group() as group:
            call = begin(group, client.get("/", cast_to=int))
            await arrived.seen()
            assert [info.state for info in client.snapshot().connections] == ["active"]
            gate.set()
            states: set[str] = set()
            with anyio.fail_after(5):
                while not call.is_over:
                    states |= {info.state for info in client.snapshot().connections}
                    await anyio.lowlevel.checkpoint()
            assert states <= {"active", "closing"}
            assert "closing" in states
            assert await call.end() == 1
            assert client.snapshot() == Snapshot()


async def test_a_connection_that_is_being_made_is_connecting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # which shakes no hands
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        async with AsyncAPIClient(base_url=url, http_client=HTTPTransport(), max_retries=0) as client:
            async with anyio.create_task_group() as group:
                call = begin(group, client.get("/", cast_to=int, options={"timeout": Timeout(5, connect=0.4)}))
                await anyio.sleep(0.05)
                (info,) = client.snapshot().connections
                assert info == ConnectionInfo(url, None, "connecting", 0, info.age, None)
                await anyio.sleep(0.05)
                assert client.snapshot().connections[0].age >= info.age + 0.04
                with pytest.raises(ConnectTimeoutError):
                    await call.end()
            assert client.snapshot() == Snapshot()


@both
async def test_waiters_are_named_with_their_time(protocol: Protocol) -> None:
    gate, arrived = Signal(), Signal()
    with (
        serve(speaking(protocol, held(gate, arrived))) as peer,
        serve(speaking(protocol, Side.serve)) as other,
    ):
        async with client_for(protocol, peer, transport=limited(protocol)) as client:
            async with anyio.create_task_group() as group:
                first = begin(group, client.get("/held", cast_to=int))
                await arrived.seen()
                second = begin(group, client.get(f"{other.url}/?key=secret", cast_to=int))
                snapshot = await until_there_are(client, waiters=1)
                (waiter,) = snapshot.waiters
                assert waiter == WaiterInfo(other.url, waiter.waited)
                await anyio.sleep(0.05)
                assert client.snapshot().waiters[0].waited >= waiter.waited + 0.04
                assert [info.origin for info in snapshot.connections] == [peer.url]
                assert "secret" not in str(snapshot) + repr(snapshot)
                gate.set()
                assert await first.end() == await second.end() == 1
            assert client.snapshot().waiters == ()


@both
async def test_a_waiter_that_is_cancelled_is_gone(protocol: Protocol) -> None:
    gate, arrived = Signal(), Signal()
    with serve(speaking(protocol, held(gate, arrived))) as peer:
        async with client_for(protocol, peer, transport=limited(protocol)) as client:
            async with anyio.create_task_group() as group:
                first = begin(group, client.get("/held", cast_to=int))
                await arrived.seen()
                with serve(speaking(protocol, Side.serve)) as other:
                    second = begin(group, client.get(other.url, cast_to=int))
                    await until_there_are(client, waiters=1)
                    await second.cancel()
                    assert client.snapshot().waiters == ()
                gate.set()
                await first.end()


# --- the text --------------------------------------------------------------------------------------------------------


async def test_it_prints_a_table() -> None:
    snapshot = Snapshot(
        (
            ConnectionInfo("https://api.example.com", "HTTP/2", "active", 12, 3.25),
            ConnectionInfo("http://a:8080", "HTTP/1.1", "idle", 0, 61.5, 0.125),
            ConnectionInfo("http://b", None, "connecting", 0, 0.01),
        ),
        (WaiterInfo("http://b", 0.5),),
    )
    assert str(snapshot).splitlines() == [
        "origin                   protocol  state       streams  age       idle",
        "https://api.example.com  HTTP/2    active      12       3.250 s",
        "http://a:8080            HTTP/1.1  idle        0        61.500 s  0.125 s",
        "http://b                           connecting  0        0.010 s",
        "waiting for http://b: 0.500 s",
    ]
    assert str(Snapshot()) == "no connections"
    assert str(Snapshot((), (WaiterInfo("http://b", 0.5),))) == "no connections\nwaiting for http://b: 0.500 s"
    assert pickle.loads(pickle.dumps(snapshot)) == copy.deepcopy(snapshot) == snapshot
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        snapshot.waiters = ()  # type: ignore[misc]


# --- who holds the connections ---------------------------------------------------------------------------------------


def shown(error: PoolTimeoutError) -> str:
    assert "secret" not in str(error)
    assert "secret" not in repr(error)
    return str(error)


@both
async def test_a_pool_timeout_names_the_holders(protocol: Protocol) -> None:
    gate, arrived = Signal(), Signal()
    with serve(speaking(protocol, held(gate, arrived))) as peer, serve(speaking(protocol, Side.serve)) as other:
        async with client_for(protocol, peer, transport=limited(protocol), max_retries=0) as client:
            async with anyio.create_task_group() as group:
                first = begin(group, client.post("/held/one", cast_to=int, options={"params": {"key": "secret"}}))
                await arrived.seen()
                with pytest.raises(PoolTimeoutError) as caught:
                    await client.get(f"{other.url}/two", cast_to=int, options={"timeout": Timeout(5, pool=0.1)})
                text = shown(caught.value)
                assert re.search(
                    rf"for 0\.1 s \(Timeout pool\)\. 1 of 1 connections are open; they are held by: "
                    rf"POST {re.escape(peer.url)}/held/one for \d\S* s\.$",
                    text,
                ), text
                gate.set()
                await first.end()


async def test_the_five_that_hold_longest_are_named_first() -> None:
    gate = Signal()
    began: list[Signal] = [Signal() for _ in range(8)]

    def script(side: Side) -> None:
        number = int(side.head().path.rpartition("/")[2])
        began[number].set()
        gate.wait()
        side.answer()

    with serve(speaking("h1", script)) as peer:
        async with client_for("h1", peer, transport=limited("h1", 8), max_retries=0) as client:
            async with anyio.create_task_group() as group:
                calls = []
                for number in range(8):
                    calls.append(begin(group, client.get(f"/held/{number}", cast_to=int)))
                    await began[number].seen()
                with pytest.raises(PoolTimeoutError) as caught:
                    await client.get("/9", cast_to=int, options={"timeout": Timeout(5, pool=0.05)})
                named = re.findall(r"GET \S+/held/(\d) for \S+ s", shown(caught.value))
                assert named == ["0", "1", "2", "3", "4"]
                assert "; and 3 more." in str(caught.value)
                assert "8 of 8 connections" in str(caught.value)
                gate.set()
                for call in calls:
                    await call.end()


async def test_a_connection_that_is_being_made_holds_its_place_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        transport = HTTPTransport(http2=False, limits=Limits(max_connections=1))
        async with AsyncAPIClient(base_url=url, http_client=transport, max_retries=0) as client:
            async with anyio.create_task_group() as group:
                first = begin(group, client.get("/", cast_to=int, options={"timeout": Timeout(5, connect=0.5)}))
                await anyio.sleep(0.05)
                with pytest.raises(PoolTimeoutError, match="held by: 1 being made") as caught:
                    await client.get("/", cast_to=int, options={"timeout": Timeout(5, pool=0.05)})
                shown(caught.value)
                with pytest.raises(ConnectTimeoutError):
                    await first.end()


@both
async def test_an_answer_that_nobody_reads_is_a_holder(protocol: Protocol) -> None:
    """The usual mistake: a response that was opened and not closed."""

    def script(side: Side) -> None:
        side.head()
        side.begin()
        side.data(b"1")
        side.body()
        side.given_up()

    with serve(speaking(protocol, script)) as peer, serve(speaking(protocol, Side.serve)) as other:
        async with client_for(protocol, peer, transport=limited(protocol), max_retries=0) as client:
            async with client.open("GET", "/forgotten", options={"params": {"key": "secret"}}):
                with pytest.raises(PoolTimeoutError, match="GET http://127.0.0.1:[0-9]+/forgotten for ") as caught:
                    await client.get(other.url, cast_to=int, options={"timeout": Timeout(5, pool=0.05)})
                shown(caught.value)


# --- other transports ------------------------------------------------------------------------------------------------


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b"1"})


class OneOfMine:
    async def send(self, request: Any, *, timeout: Timeout, deadline: float | None) -> Response:
        return Response(200, json=1)

    async def aclose(self) -> None: ...


@pytest.mark.parametrize("kind", ["mock", "asgi", "mine"])
async def test_transports_without_connections_give_an_empty_one(kind: str) -> None:
    made: dict[str, Any] = {
        "mock": lambda: MockTransport(lambda request: Response(200, json=1)),
        "asgi": lambda: ASGITransport(app),
        "mine": OneOfMine,
    }
    async with AsyncAPIClient(base_url="http://test", http_client=made[kind]()) as client:
        assert client.snapshot() == Snapshot()
        assert await client.get("/", cast_to=int) == 1
        assert client.snapshot() == Snapshot((), ())
        assert client.with_options(max_retries=0).snapshot() == Snapshot()


async def test_a_copy_sees_the_same_connections() -> None:
    with serve(speaking("h1", Side.serve)) as peer:
        async with client_for("h1", peer) as client:
            await again(client)
            copy_of = client.with_options(max_retries=0)
            assert [info.origin for info in copy_of.snapshot().connections] == [peer.url]


def test_it_needs_no_event_loop_before_the_first_call() -> None:
    client = AsyncAPIClient(base_url="http://test", http_client=HTTPTransport())
    assert client.snapshot() == Snapshot()
