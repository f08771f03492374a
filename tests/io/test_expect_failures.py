"""``Expect: 100-continue`` while something fails: limits, lost connections, refusals."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from anyio_client import (
    ConnectionLostError,
    DeadlineExceededError,
    Outcome,
    ReadTimeoutError,
    Timeout,
)
from anyio_client._io import exchange
from tests.kit import frames
from tests.kit.h2peer import REFUSED_STREAM, again, begin, check_nothing_is_left, pool_of
from tests.kit.peers import serve
from tests.kit.sides import PROTOCOLS, Body, H2Side, Protocol, Side, client_for, speaking

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.spread,
    pytest.mark.usefixtures("no_socket_is_left"),
    pytest.mark.parametrize("protocol", PROTOCOLS),
]

DATA = bytes(range(256)) * 1200  # five pieces
EXPECT: dict[str, Any] = {"expect_continue": True}
MOMENT = 0.04  # seconds that a server listens for what must not come


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the server's word lets the body go, where a test says nothing else."""
    monkeypatch.setattr(exchange, "EXPECT_TIME", 30.0)


LIMITS: dict[str, dict[str, Any]] = {
    "deadline": {"deadline": 0.12},
    "read": {"timeout": Timeout(5, read=0.12)},
    "cancelled": {},
}


@pytest.mark.parametrize("how", ["deadline", "read", "cancelled"])
async def test_the_wait_for_100_is_limited(protocol: Protocol, how: str) -> None:
    content = Body(DATA)

    def script(side: Side) -> None:
        if side.number == 2:
            side.serve()
        side.head()
        assert side.given_up()
        assert not side.received
        if protocol == "h2":
            side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client, anyio.create_task_group() as group:
            await_it = client.post("/", cast_to=int, content=content, options={**EXPECT, **LIMITS[how]})
            if how == "cancelled":
                call = begin(group, await_it)
                with anyio.fail_after(5):
                    while not client.snapshot().connections or client.snapshot().connections[0].streams == 0:  # noqa: ASYNC110
                        await anyio.sleep(0.002)
                await anyio.sleep(0.02)
                await call.cancel()
            else:
                began = anyio.current_time()
                expected = DeadlineExceededError if how == "deadline" else ReadTimeoutError
                with pytest.raises(expected) as caught:
                    await await_it
                assert 0.1 <= anyio.current_time() - began < 3
                assert caught.value.outcome is Outcome.UNKNOWN
            assert content.asked == 0
            check_nothing_is_left(pool_of(client))
            await again(client)


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_connection_lost_in_the_wait_leaves_a_one_shot_body_unused(protocol: Protocol, method: str) -> None:
    """So a PUT is sent again; a POST is not, since the server has seen its head (BEHAVIOUR 6.3)."""
    content = Body(DATA)

    def script(side: Side) -> None:
        side.head()
        if side.number == 1:
            side.lose()
        side.interim(100)
        assert side.body() == DATA
        side.answer()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            if method == "PUT":
                assert await client.put("/", cast_to=int, content=content, options=EXPECT) == 1
                assert peer.connections == 2
            else:
                with pytest.raises(ConnectionLostError) as caught:
                    await client.post("/", cast_to=int, content=content, options=EXPECT)
                assert caught.value.outcome is Outcome.UNKNOWN
                assert content.asked == 0
                assert peer.connections == 1


@pytest.mark.parametrize("how", ["status", "reset", "goaway"])
async def test_a_post_that_was_refused_in_the_wait_is_sent_again(protocol: Protocol, how: str) -> None:
    """HTTP/1.1 refuses by a status only."""
    content = Body(DATA)
    refused: list[bool] = []

    def script(side: Side) -> None:
        side.head()
        if not refused:
            refused.append(True)
            if how == "status" or protocol == "h1":
                side.answer(status=503, fields=[("Retry-After-Ms", "1")])
            elif isinstance(side, H2Side):
                answer = frames.goaway(0) if how == "goaway" else frames.rst(side.stream.stream, REFUSED_STREAM)
                side.wire.send(answer)
            if protocol == "h1" or how == "goaway":
                return
            side.head()
        side.interim(100)
        assert side.body() == DATA
        side.answer()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            assert await client.post("/", cast_to=int, content=content, options=EXPECT) == 1
            assert peer.connections == (1 if protocol == "h2" and how != "goaway" else 2)


async def test_an_idle_connection_that_died_is_replaced_and_the_body_asked_once(protocol: Protocol) -> None:
    content = Body(DATA)

    def script(side: Side) -> None:
        if side.number == 1:
            side.head()
            side.answer()
            side.head()
            side.lose()
        side.head()
        side.interim(100)
        assert side.body() == DATA
        side.answer()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer, max_retries=0) as client:
            await again(client)
            assert await client.put("/", cast_to=int, content=content, options=EXPECT) == 1
            assert content.asked == 2
