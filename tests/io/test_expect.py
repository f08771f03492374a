"""``Expect: 100-continue`` (RFC 9110 section 10.1.1): the body waits for the server's word, a second at most."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from anyio_client import (
    APIStatusError,
    AuthenticationError,
    ContentTooLargeError,
    omit,
)
from anyio_client._io import exchange
from tests.kit.h2peer import CANCEL, NO_ERROR, Signal, again
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


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "EXPECT_TIME", 0.02)


BODIES: dict[str, tuple[Callable[[], Any], bytes]] = {
    "small": (lambda: b"small", b"small"),
    "text": (lambda: "text", b"text"),
    "large": (lambda: DATA, DATA),
    "list": (lambda: [DATA[:1000], DATA[1000:]], DATA),
    "file": (lambda: io.BytesIO(DATA), DATA),
    "generator": (lambda: (piece for piece in [b"a", b"b"]), b"ab"),
    "async": (lambda: Body(DATA[:5], DATA[5:]), DATA),
    "callable": (lambda: lambda: Body(DATA), DATA),
}


@pytest.mark.parametrize("kind", BODIES)
async def test_the_body_goes_out_once_100_has_come(protocol: Protocol, kind: str) -> None:
    make, data = BODIES[kind]

    def script(side: Side) -> None:
        for _ in range(2):
            head = side.head()
            assert head.get("expect") == "100-continue"
            assert side.silent(MOMENT)
            side.interim(100)
            assert side.body() == data
            side.answer()
        side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            for _ in range(2):
                assert await client.post("/", cast_to=int, content=make(), options=EXPECT) == 1
            await again(client)
            assert peer.connections == 1


async def test_a_body_of_json_or_of_a_form_waits_too(protocol: Protocol) -> None:
    def script(side: Side) -> None:
        for _ in range(3):
            assert side.head().get("expect") == "100-continue"
            assert side.silent(MOMENT)
            side.interim(100)
            assert side.body()
            side.answer()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            for body in ({"body": {"a": 1}}, {"form": {"a": 1}}, {"files": {"a": b"b"}}):
                assert await client.post("/", cast_to=int, **body, options=EXPECT) == 1


async def test_the_body_goes_out_after_a_second_without_100(
    protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    waited: list[float] = []

    def script(side: Side) -> None:
        side.head()
        began = time.monotonic()
        side.piece()
        waited.append(time.monotonic() - began)
        side.interim(100)  # too late, which is no fault
        assert side.body() == DATA
        side.answer()
        side.serve()

    content = DATA if protocol == "h1" else Body(DATA)
    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            assert await client.post("/", cast_to=int, content=content, options=EXPECT) == 1
            await again(client)
            assert peer.connections == 1
    assert 0.9 <= waited[0] <= 4.0


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("kind", BODIES)
async def test_a_server_that_says_nothing_gets_any_body(protocol: Protocol, kind: str) -> None:
    make, data = BODIES[kind]

    def script(side: Side) -> None:
        side.head()
        assert side.body() == data
        side.answer()
        side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            assert await client.post("/", cast_to=int, content=make(), options=EXPECT) == 1
            await again(client)
            assert peer.connections == 1


# --- the answer comes first ------------------------------------------------------------------------------------------

ERRORS: dict[int, type[APIStatusError]] = {401: AuthenticationError, 413: ContentTooLargeError, 410: APIStatusError}


@pytest.mark.parametrize("body", ["large", "once", "open"])
@pytest.mark.parametrize("status", [200, 401, 410, 413])
async def test_a_final_status_leaves_the_body_unasked(protocol: Protocol, status: int, body: str) -> None:
    content = Body(DATA)
    over = Signal()

    def script(side: Side) -> None:
        if side.number == 2:
            side.serve()
        side.head()
        side.answer(b"7", status=status)
        assert side.given_up()
        assert not side.received
        if isinstance(side, H2Side):
            assert side.stream.reset in (NO_ERROR, CANCEL)  # what came is whole, nothing more is to be sent
            over.set()
            side.serve()
        over.set()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:

            async def post() -> Any:
                if body == "open":
                    async with client.open("POST", "/", content=content, options=EXPECT) as response:
                        return await response.json()
                sent = DATA if body == "large" else content
                return await client.post("/", cast_to=int, content=sent, options=EXPECT)

            if status == 200:
                assert await post() == 7
            else:
                with pytest.raises(ERRORS[status]) as caught:
                    await post()
                assert caught.value.body == 7
                assert len(caught.value.attempts) == 1
            await over.seen()
            assert content.asked == 0
            await again(client)
            assert peer.connections == (2 if protocol == "h1" else 1)


async def test_a_final_status_whose_body_comes_late_is_read_whole(protocol: Protocol) -> None:
    content = Body(DATA)

    def script(side: Side) -> None:
        side.head()
        side.begin()
        side.peer.server.pause(MOMENT)
        side.data(b"1")
        assert side.silent(MOMENT)
        side.data(b"2")
        side.end()
        assert side.given_up()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            assert await client.post("/", cast_to=int, content=content, options=EXPECT) == 12
            assert content.asked == 0


async def test_417_leads_to_the_same_request_without_expect(protocol: Protocol) -> None:
    content = Body(DATA)
    seen: list[str | None] = []

    def script(side: Side) -> None:
        while True:
            seen.append(side.head().get("expect"))
            if seen[-1]:
                side.answer(status=417)
                if protocol == "h1":
                    assert side.given_up()
                    return
            else:
                assert side.body() == DATA
                side.answer()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer, max_retries=0) as client:
            async with client.open("POST", "/", content=content, options=EXPECT) as response:
                assert await response.json() == 1
                assert response.retries_taken == 0
            assert seen == ["100-continue", None]
            assert peer.connections == (2 if protocol == "h1" else 1)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("kind", ["once", "callable", "always"])
async def test_417_after_the_body_repeats_only_what_can_be_repeated(protocol: Protocol, kind: str) -> None:
    seen: list[str | None] = []

    def script(side: Side) -> None:
        while True:
            seen.append(side.head().get("expect"))
            assert side.body() == DATA
            side.answer(status=417 if seen[-1] or kind == "always" else 200)

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            content: Any = Body(DATA) if kind == "once" else lambda: Body(DATA)
            call = client.post("/", cast_to=int, content=content, options=EXPECT)
            if kind == "callable":
                assert await call == 1
            else:
                with pytest.raises(APIStatusError) as caught:
                    await call
                assert caught.value.status_code == 417
                assert len(caught.value.attempts) == 1
            assert seen == (["100-continue"] if kind == "once" else ["100-continue", None])


async def test_other_interim_answers_give_no_permission(protocol: Protocol) -> None:
    told: list[int] = []

    def script(side: Side) -> None:
        side.head()
        for status in (102, 103, 199):
            side.interim(status)
            assert side.silent(MOMENT)
        side.interim(100)
        side.interim(100)
        assert side.body() == DATA
        side.answer()
        side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            options = {**EXPECT, "on_informational": lambda status, headers: told.append(status)}
            assert await client.post("/", cast_to=int, content=DATA, options=options) == 1
            assert told == [102, 103, 199, 100, 100]
            await again(client)


async def test_a_redirect_that_comes_first_takes_even_a_one_shot_body_along(protocol: Protocol) -> None:
    content = Body(DATA)

    def script(side: Side) -> None:
        while True:
            if side.head().path == "/":
                side.answer(status=307, fields=[("Location", "/there")])
                if protocol == "h1":
                    return
            else:
                assert side.silent(MOMENT)
                side.interim(100)
                assert side.body() == DATA
                side.answer()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            assert await client.post("/", cast_to=int, content=content, options=EXPECT) == 1


# --- who asks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["100-continue", "100-Continue"])
async def test_the_field_set_by_the_caller_counts_like_the_option(protocol: Protocol, value: str) -> None:
    def script(side: Side) -> None:
        assert side.head().get("expect") == value
        assert side.silent(MOMENT)
        side.interim(100)
        assert side.body() == b"x"
        side.answer()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            assert await client.post("/", cast_to=int, content=b"x", options={"headers": {"Expect": value}}) == 1


async def test_an_omitted_field_is_not_sent(protocol: Protocol) -> None:
    def script(side: Side) -> None:
        assert side.head().get("expect") is None
        assert side.body() == b"x"
        side.answer()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            options = {**EXPECT, "headers": {"Expect": omit}}
            assert await client.post("/", cast_to=int, content=b"x", options=options) == 1


@pytest.mark.parametrize("content", [None, b"", "", [], "file"], ids=["none", "bytes", "text", "list", "file"])
async def test_a_request_without_content_expects_nothing(protocol: Protocol, content: Any) -> None:
    """RFC 9110 section 10.1.1: a client MUST NOT generate the expectation in a request that does not include content."""
    seen: list[str | None] = []

    def script(side: Side) -> None:
        while True:
            seen.append(side.head().get("expect"))
            assert side.body() == b""
            side.answer()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            given = io.BytesIO() if content == "file" else content
            with anyio.fail_after(3):
                assert await client.post("/", cast_to=int, content=given, options=EXPECT) == 1
                assert await client.get("/", cast_to=int, options=EXPECT) == 1
    assert seen == [None, None]
