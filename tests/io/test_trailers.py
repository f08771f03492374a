"""Trailer fields both ways (RFC 9110 section 6.5), as the server's bytes show them."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import anyio
import pytest

from anyio_client import APIStatusError, AsyncAPIClient, ConnectionLostError, ContentTooLargeError, Headers
from tests.kit.h2peer import Signal, again
from tests.kit.peers import serve
from tests.kit.sides import PROTOCOLS, Body, H1Side, Protocol, Side, client_for, speaking

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.spread,
    pytest.mark.usefixtures("no_socket_is_left"),
    pytest.mark.parametrize("protocol", PROTOCOLS),
]

DATA = bytes(range(256)) * 1200

BODIES: dict[str, tuple[Callable[[], Any], bytes]] = {
    "small": (lambda: b"small", b"small"),
    "large": (lambda: DATA, DATA),
    "empty": (lambda: b"", b""),
    "none": (lambda: None, b""),
    "list": (lambda: [DATA[:1000], DATA[1000:]], DATA),
    "empty list": (list, b""),
    "file": (lambda: io.BytesIO(DATA), DATA),
    "generator": (lambda: iter([b"a", b"b"]), b"ab"),
    "async": (lambda: Body(DATA[:5], DATA[5:]), DATA),
    "callable": (lambda: lambda: Body(DATA), DATA),
    "async without a piece": (lambda: Body(), b""),
}


@pytest.mark.parametrize("way", ["plain", "open"])
@pytest.mark.parametrize("kind", BODIES)
async def test_they_follow_every_kind_of_body(protocol: Protocol, kind: str, way: str) -> None:
    make, data = BODIES[kind]

    def script(side: Side) -> None:
        head = side.head()
        assert head.get("content-length") is None
        assert side.body() == data
        assert side.complete
        if protocol == "h1":
            assert side.trailers == [("X-Sum", "1"), ("x-other", "a, b")]
        else:
            assert side.trailers == [("x-sum", "1"), ("x-other", "a, b")]
        side.answer()
        side.serve()

    calls: list[int] = []

    def trailers() -> dict[str, str]:
        calls.append(1)
        return {"X-Sum": "1", "x-other": "a, b"}

    options = {"trailers": trailers}
    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            if way == "open":
                async with client.open("POST", "/", content=make(), options=options) as response:
                    assert await response.json() == 1
            else:
                assert await client.post("/", cast_to=int, content=make(), options=options) == 1
            assert len(calls) == 1
            await again(client)
            assert peer.connections == 1


@pytest.mark.parametrize("body", ["json", "form", "files", "get"])
async def test_they_follow_the_other_bodies_too(protocol: Protocol, body: str) -> None:
    def script(side: Side) -> None:
        side.head()
        assert bool(side.body()) is (body != "get")
        assert [(name.lower(), value) for name, value in side.trailers] == [("a", "b")]
        side.answer()

    options = {"trailers": lambda: Headers({"a": "b"})}
    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            if body == "get":
                assert await client.get("/", cast_to=int, options=options) == 1
            else:
                given: Any = {"files": {"files": {"a": b"b"}}, "form": {"form": {"a": 1}}, "json": {"body": [1]}}[body]
                assert await client.post("/", cast_to=int, **given, options=options) == 1


@pytest.mark.parametrize("compress", [None, "gzip"])
async def test_the_function_sees_all_that_the_body_counted(protocol: Protocol, compress: str | None) -> None:
    """The use that they were made for: a digest of what was made while it was sent."""
    digest = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        for place in range(0, len(DATA), 10_000):
            piece = DATA[place : place + 10_000]
            digest.update(piece)
            yield piece

    def script(side: Side) -> None:
        side.head()
        body = side.body()
        if compress:
            body = gzip.decompress(body)
        assert body == DATA
        ((_, value),) = side.trailers
        assert value == hashlib.sha256(DATA).hexdigest()
        side.answer()

    options = {"trailers": lambda: {"X-Digest": digest.hexdigest()}, "compress": compress}
    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            assert await client.post("/", cast_to=int, content=pieces(), options=options) == 1


async def test_no_fields_are_no_trailers(protocol: Protocol) -> None:
    def script(side: Side) -> None:
        side.head()
        assert side.body() == b"abc"
        assert side.trailers == []
        side.answer()
        side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            assert await client.post("/", cast_to=int, content=b"abc", options={"trailers": dict}) == 1
            await again(client)
            assert peer.connections == 1


BAD: list[tuple[str, object, type[Exception]]] = [
    ("length", {"Content-Length": "3"}, ValueError),
    ("coding", {"transfer-encoding": "chunked"}, ValueError),
    ("host", {"Host": "a"}, ValueError),
    ("credentials", {"AUTHORIZATION": "a"}, ValueError),
    ("content type", {"content-type": "a/b"}, ValueError),
    ("trailer", {"Trailer": "a"}, ValueError),
    ("te", {"TE": "trailers"}, ValueError),
    ("connection", {"Connection": "close"}, ValueError),
    ("among others", {"x-a": "1", "Set-Cookie": "a=b"}, ValueError),
    ("pseudo", {":path": "/"}, ValueError),
    ("a name with a space", {"a b": "1"}, ValueError),
    ("no name", {"": "1"}, ValueError),
    ("a value with an end of line", {"a": "1\r\nb: 2"}, ValueError),
    ("a value with NUL", {"a": "1\0"}, ValueError),
    ("a number", {"a": 1}, TypeError),
    ("nothing", None, TypeError),
    ("pairs", [("a", "b")], TypeError),
    ("text", "a: b", TypeError),
]


@pytest.mark.parametrize("content", [b"small", "streamed"], ids=["small", "streamed"])
@pytest.mark.parametrize(("name", "given", "error"), BAD, ids=[row[0] for row in BAD])
async def test_what_can_be_no_trailer_is_refused(
    protocol: Protocol, name: str, given: Any, error: type[Exception], content: Any
) -> None:
    """After the body: so the request is given up, and the server never takes it for a whole one."""
    complete: list[bool] = []

    def script(side: Side) -> None:
        try:
            while side.head().path == "/again":
                side.body()
                side.answer()
            side.body()
            complete.append(side.complete)
        except ConnectionError:
            if protocol == "h2" and side.stream.reset is not None:  # type: ignore[attr-defined]
                script(side)

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            with pytest.raises(error):
                sent = Body(b"a", b"b") if content == "streamed" else content
                await client.put("/", cast_to=int, content=sent, options={"trailers": lambda: given})
            await again(client)
    assert not complete


class Mine(Exception):
    pass


@pytest.mark.parametrize("way", ["plain", "streamed", "open"])
@pytest.mark.parametrize(
    "make", [Mine, OSError, lambda: ConnectionLostError("another call's")], ids=["own", "os", "our"]
)
async def test_what_the_function_raises_comes_out_as_it_is(protocol: Protocol, make: Any, way: str) -> None:
    raised: list[Exception] = []

    def trailers() -> Mapping[str, str]:
        raised.append(make())
        raise raised[-1]

    def script(side: Side) -> None:
        if side.number == 2:
            side.serve()
        while True:
            try:
                side.head()
                side.body()
                side.answer()
            except ConnectionError:
                if protocol == "h1" or side.stream.reset is None:  # type: ignore[attr-defined]
                    return

    options = {"trailers": trailers}
    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            with pytest.raises(Exception) as caught:
                if way == "open":
                    async with client.open("PUT", "/", content=lambda: Body(b"abc"), options=options) as response:
                        await response.read()
                else:
                    content: Any = b"abc" if way == "plain" else lambda: Body(b"abc")
                    await client.put("/", cast_to=int, content=content, options=options)
            assert caught.value is raised[0]
            assert len(raised) == 1
            await again(client)


@pytest.mark.parametrize("content", [b"abc", "streamed"], ids=["bytes", "streamed"])
async def test_a_declared_length_excludes_them_before_anything_is_sent(protocol: Protocol, content: Any) -> None:
    body = Body(b"abc")
    with serve(speaking(protocol, Side.serve)) as peer:
        async with client_for(protocol, peer) as client:
            with pytest.raises(ValueError, match="leave Content-Length out"):
                await client.post(
                    "/",
                    cast_to=int,
                    content=body if content == "streamed" else content,
                    options={"headers": {"Content-Length": "3"}, "trailers": dict},
                )
            assert peer.connections == 0
            assert body.asked == 0


async def test_the_function_must_be_a_plain_one(protocol: Protocol) -> None:
    async def wrong() -> dict[str, str]:
        await asyncio.sleep(0)
        return {}

    with serve(speaking(protocol, Side.serve)) as peer:
        async with client_for(protocol, peer) as client:
            for value in (wrong, {"a": "b"}):
                with pytest.raises(TypeError, match="trailers must be"):
                    await client.post("/", cast_to=int, content=b"", options={"trailers": value})
            assert peer.connections == 0


async def test_each_send_asks_again(protocol: Protocol) -> None:
    calls: list[int] = []
    seen: list[str] = []

    def trailers() -> dict[str, str]:
        calls.append(len(calls))
        return {"x-attempt": str(len(calls))}

    def script(side: Side) -> None:
        for status in (500, 307, 200):
            side.head()
            assert side.body() == DATA
            seen.extend(value for _, value in side.trailers)
            side.answer(status=status, fields=[("Retry-After-Ms", "1"), ("Location", "/there")])

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            options = {"trailers": trailers}
            assert await client.post("/", cast_to=int, content=lambda: Body(DATA), options=options) == 1
    assert seen == ["1", "2", "3"]
    assert len(calls) == 3


@pytest.mark.parametrize("content", ["bytes", "streamed"])
async def test_an_early_answer_leaves_the_function_unasked(protocol: Protocol, content: str) -> None:
    calls: list[int] = []
    over = Signal()

    def script(side: Side) -> None:
        if side.number == 2:
            side.serve()
        side.head()
        assert side.piece()
        side.answer(status=413)
        over.set()
        if isinstance(side, H1Side):
            assert side.given_up()
            return
        assert side.given_up()
        side.serve()

    def trailers() -> dict[str, str]:
        calls.append(1)
        return {}

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            given: Any = bytes(30_000_000) if content == "bytes" else Body(b"x", held=over_and_more(over))
            with pytest.raises(ContentTooLargeError):
                await client.post("/", cast_to=int, content=given, options={"trailers": trailers})
            assert not calls
            await again(client)


def over_and_more(over: Signal) -> Callable[[], Any]:
    async def wait() -> None:
        await over.seen()
        await anyio.sleep(5)

    return wait


async def test_they_wait_for_the_function_until_the_last_piece_has_left(protocol: Protocol) -> None:
    """A body larger than every window and buffer: the function is asked when all of it is on its way."""
    sent: list[int] = []
    asked: list[int] = []

    def pieces() -> Iterator[bytes]:
        for _ in range(60):
            sent.append(1)
            yield bytes(50_000)

    def trailers() -> dict[str, str]:
        asked.append(len(sent))
        return {"x": str(len(sent))}

    def script(side: Side) -> None:
        side.head()
        assert len(side.body()) == 3_000_000
        assert side.trailers == [("x", "60")]
        side.answer()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            assert await client.post("/", cast_to=int, content=pieces(), options={"trailers": trailers}) == 1
    assert asked == [60]


# --- of the answer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upload", [False, True])
async def test_those_of_an_answer_stand_on_the_response(protocol: Protocol, upload: bool) -> None:
    def script(side: Side) -> None:
        for trailers in ([("X-Sum", "1"), ("X-Sum", "2")], []):
            side.head()
            side.body()
            side.begin()
            side.data(b"[1]")
            side.end(trailers)
        side.serve()

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            for expected in (["1", "2"], None):
                content = Body(b"x") if upload else None
                async with client.open("POST", "/", content=content) as response:
                    assert response.trailers is None
                    assert await response.json() == [1]
                    if expected is None:
                        assert response.trailers is None
                    else:
                        assert response.trailers is not None
                        assert response.trailers.get_list("x-sum") == expected
            await again(client)


async def test_those_of_an_error_stand_on_its_response(protocol: Protocol) -> None:
    def script(side: Side) -> None:
        side.head()
        side.begin(418)
        side.data(b"{}")
        side.end([("grpc-status", "13")])

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            with pytest.raises(APIStatusError) as caught:
                await client.get("/", cast_to=int)
            response: Any = caught.value.response
            assert response.trailers["grpc-status"] == "13"


async def test_both_ways_at_once(protocol: Protocol) -> None:
    def script(side: Side) -> None:
        side.head()
        side.begin()
        while data := side.piece():
            side.data(data)
        side.end([("back-" + name, value) for name, value in side.trailers])

    async def echo(client: AsyncAPIClient) -> bytes:
        async with client.open(
            "POST", "/", content=Body(b"a", b"b", b"c"), options={"trailers": lambda: {"x": "1"}}
        ) as response:
            got = await response.read()
            assert response.trailers is not None
            assert response.trailers["back-x"] == "1"
            return got

    with serve(speaking(protocol, script)) as peer:
        async with client_for(protocol, peer) as client:
            assert await echo(client) == b"abc"
