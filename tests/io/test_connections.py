"""Scripted peers: what the client makes of every way in which a connection can go wrong (or right)."""

from __future__ import annotations

import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
import trustme

from anyio_client import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AsyncAPIClient,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    ContentDecodingError,
    ContentTooLargeError,
    DeadlineExceededError,
    HTTPTransport,
    InternalServerError,
    Limits,
    LocalProtocolError,
    Outcome,
    Phase,
    PoolTimeoutError,
    ReadTimeoutError,
    RemoteProtocolError,
    Request,
    RetryPolicy,
    Timeout,
    TLSError,
    WriteTimeoutError,
)
from tests.kit.peers import Peer, Script, ScriptedServer, answer_each, ok, serve

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]

QUICK = RetryPolicy(wait_initial=0.001)


def client_of(peer: ScriptedServer, **options: Any) -> AsyncAPIClient:
    return AsyncAPIClient(base_url=peer.url, retry=QUICK, **options)


# --- one connection, many requests ---------------------------------------------------------------------------------


async def test_a_connection_is_used_again() -> None:
    with serve(answer_each(ok(b"1"))) as peer:
        async with client_of(peer) as client:
            assert [await client.get("/", cast_to=int) for _ in range(5)] == [1] * 5
            assert peer.connections == 1
            await client.post("/", cast_to=int, body={"a": 1})
            assert peer.requests[-1].endswith(b'{"a":1}')
            assert peer.connections == 1


async def test_a_small_request_leaves_in_one_write() -> None:
    writes: list[bytes] = []

    def script(peer: Peer) -> None:
        writes.append(peer.receive())
        peer.send(ok(b"1"))
        peer.wait_closed()

    with serve(script) as peer:
        async with client_of(peer) as client:
            await client.post("/", cast_to=int, body={"a": "b" * 1000})
    assert len(writes) == 1
    assert writes[0].endswith(b'"}')


@pytest.mark.parametrize("closing", ["fin", "reset", "stray", "stray and fin"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_connection_that_died_while_idle_is_replaced_for_every_method(closing: str, method: str) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(ok(b"1"))
        if peer.number == 1:
            if "stray" in closing:
                peer.server.pause(0.05)
                peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
            if closing == "reset":
                peer.reset()
            if "fin" not in closing:
                peer.server.pause(0.4)
        else:
            peer.read_request()

    with serve(script) as peer:
        async with client_of(peer, max_retries=0) as client:
            await client.get("/", cast_to=int)
            await anyio.sleep(0.2)
            assert await client.request(int, {"method": method}) == 1
            assert peer.connections == 2
            assert b"x-stainless-retry-count: 0" in peer.requests[-1]


async def test_a_connection_that_dies_under_the_request_is_replaced_where_that_is_safe() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        if peer.number == 1:
            peer.send(ok(b"1"))
            peer.read_request()  # the second request arrives, the server has closed its mind
        else:
            peer.send(ok(b"2"))
            peer.read_request()

    for method, works in (("GET", True), ("POST", False)):
        with serve(script) as peer:
            async with client_of(peer, max_retries=0) as client:
                assert await client.get("/", cast_to=int) == 1
                if works:
                    response = await client.request(Any, {"method": method})
                    assert response == 2
                    assert b"x-stainless-retry-count: 0" in peer.requests[-1]
                else:
                    with pytest.raises(ConnectionLostError) as caught:
                        await client.request(int, {"method": method})
                    assert caught.value.outcome is Outcome.UNKNOWN
                    assert len(caught.value.attempts) == 1
                    assert len(peer.requests) == 2


async def test_a_post_with_a_key_is_sent_again_with_the_same_key() -> None:
    class Safe(AsyncAPIClient):
        idempotency_header = "Idempotency-Key"

    def script(peer: Peer) -> None:
        peer.read_request()
        if peer.number > 1:
            peer.send(ok(b"2"))
            peer.read_request()

    with serve(script) as peer:
        async with Safe(base_url=peer.url, retry=QUICK) as client:
            assert await client.post("/", cast_to=int, body={}) == 2
        keys = [line for r in peer.requests for line in r.split(b"\r\n") if line.startswith(b"Idempotency-Key")]
        assert len(keys) == 2
        assert keys[0] == keys[1]


async def test_a_post_without_a_key_is_sent_once() -> None:
    with serve(lambda peer: peer.read_request() and None) as peer:  # type: ignore[func-returns-value]
        async with client_of(peer) as client:
            with pytest.raises(ConnectionLostError) as caught:
                await client.post("/", cast_to=int, body={})
            assert (caught.value.phase, caught.value.outcome) == (Phase.RECEIVE, Outcome.UNKNOWN)
            assert len(peer.requests) == 1


# --- bad bytes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error", "outcome"),
    [
        (b"", ConnectionLostError, Outcome.UNKNOWN),
        (b"HTTP/1.1 200 OK\r\nConte", ConnectionLostError, Outcome.UNKNOWN),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12", ConnectionLostError, Outcome.ANSWERED),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n", ConnectionLostError, Outcome.ANSWERED),
        (b"garbage\r\n\r\n", RemoteProtocolError, Outcome.UNKNOWN),
        (b"\x16\x03\x01\x00\x01\r\n\r\n", RemoteProtocolError, Outcome.UNKNOWN),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000 + b"\r\n", RemoteProtocolError, Outcome.UNKNOWN),
        (b"HTTP/1.1 100 C\r\n\r\n" * 101, RemoteProtocolError, Outcome.UNKNOWN),
        (b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", RemoteProtocolError, Outcome.UNKNOWN),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", RemoteProtocolError, Outcome.ANSWERED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n1", RemoteProtocolError, Outcome.UNKNOWN),
    ],
)
async def test_bad_bytes_are_an_error_with_facts_and_harm_nothing_else(
    answer: bytes, error: type[APIConnectionError], outcome: Outcome
) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer if peer.number == 1 else ok(b"1"))
        if answer and peer.number == 1 and error is RemoteProtocolError:
            peer.wait_closed()
        elif peer.number > 1:
            peer.read_request()

    with serve(script) as peer:
        async with client_of(peer, max_retries=0) as client:
            with pytest.raises(error) as caught:
                await client.get("/", cast_to=int)
            assert caught.value.outcome is outcome
            assert caught.value.phase is (Phase.BODY if outcome is Outcome.ANSWERED else Phase.RECEIVE)
            assert caught.value.request is not None
            assert await client.get("/", cast_to=int) == 1
            assert client._transport.pool.open_count == 1  # type: ignore[attr-defined]


async def test_more_than_the_response_is_never_read_as_the_next_one() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        if peer.number == 1:
            peer.send(ok(b"1") + ok(b"666"))
            peer.read_request()
        else:
            peer.send(ok(b"2"))
            peer.read_request()

    with serve(script) as peer:
        async with client_of(peer) as client:
            assert await client.get("/", cast_to=int) == 1
            assert await client.get("/", cast_to=int) == 2


async def test_a_body_without_a_length_that_is_reset_is_lost() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[1")
        peer.server.pause(0.05)
        peer.reset()

    with serve(script) as peer:
        async with client_of(peer, max_retries=0) as client:
            with pytest.raises(ConnectionLostError) as caught:
                await client.get("/", cast_to=list)
            assert (caught.value.phase, caught.value.outcome) == (Phase.BODY, Outcome.ANSWERED)


async def test_a_get_whose_body_is_lost_is_sent_again() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        if peer.number == 1:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12")
        else:
            peer.send(ok(b"12345"))
            peer.read_request()

    with serve(script) as peer:
        async with client_of(peer) as client:
            assert await client.get("/", cast_to=int) == 12345
            assert len(peer.requests) == 2


# --- no connection ---------------------------------------------------------------------------------------------------


async def test_nobody_listens() -> None:
    async with AsyncAPIClient(base_url="http://127.0.0.1:1", retry=QUICK) as client:
        with pytest.raises(ConnectError) as caught:
            await client.post("/", cast_to=int)
    assert (caught.value.phase, caught.value.outcome) == (Phase.CONNECT, Outcome.NOT_SENT)
    assert len(caught.value.attempts) == 3
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


async def test_a_name_that_does_not_exist() -> None:
    async with AsyncAPIClient(base_url="http://nothing.invalid", max_retries=0) as client:
        with pytest.raises(ConnectError) as caught:
            await client.get("/", cast_to=int)
    assert caught.value.outcome is Outcome.NOT_SENT


async def test_localhost_is_found_on_whichever_family_it_listens() -> None:
    with serve(answer_each(ok(b"1"))) as peer:
        async with AsyncAPIClient(base_url=f"http://localhost:{peer.port}") as client:
            assert await client.get("/", cast_to=int) == 1


# --- timeouts --------------------------------------------------------------------------------------------------------


def silent(peer: Peer) -> None:
    peer.read_request()
    peer.wait_closed()


async def test_a_server_that_says_nothing() -> None:
    with serve(silent) as peer:
        async with client_of(peer, timeout=Timeout(30, read=0.1), max_retries=0) as client:
            with pytest.raises(ReadTimeoutError, match=r"sent nothing for 0\.1 s") as caught:
                await client.get("/", cast_to=int)
            assert (caught.value.phase, caught.value.outcome) == (Phase.RECEIVE, Outcome.UNKNOWN)
        assert peer.wait_for_open(0) == 0


async def test_a_server_that_stops_in_the_middle() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12")
        peer.wait_closed()

    with serve(script) as peer:
        async with client_of(peer, timeout=Timeout(30, read=0.1), max_retries=0) as client:
            with pytest.raises(ReadTimeoutError) as caught:
                await client.get("/", cast_to=int)
            assert (caught.value.phase, caught.value.outcome) == (Phase.BODY, Outcome.ANSWERED)


async def test_each_byte_of_progress_starts_the_read_limit_again() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        for byte in ok(b"12345")[-8:] and [ok(b"12345")[i : i + 1] for i in range(len(ok(b"12345")))]:
            peer.send(byte)
            peer.server.pause(0.01)
        peer.read_request()

    with serve(script) as peer:
        async with client_of(peer, timeout=Timeout(30, read=0.5), max_retries=0) as client:
            started = anyio.current_time()
            assert await client.get("/", cast_to=int) == 12345
            assert anyio.current_time() - started > 0.5


async def test_a_server_that_takes_nothing() -> None:
    def script(peer: Peer) -> None:
        peer.server.pause(2)

    with serve(script) as peer:
        async with client_of(peer, timeout=Timeout(30, write=0.2), max_retries=0) as client:
            with pytest.raises(WriteTimeoutError) as caught:
                await client.post("/", cast_to=int, content=b"x" * 20_000_000)
            assert (caught.value.phase, caught.value.outcome) == (Phase.SEND, Outcome.UNKNOWN)


async def test_no_connection_is_free() -> None:
    with serve(silent) as peer:
        transport = HTTPTransport(limits=Limits(max_connections=1))
        async with (
            client_of(peer, http_client=transport, timeout=Timeout(30, pool=0.1), max_retries=0) as client,
            anyio.create_task_group() as group,
        ):

            async def first() -> None:
                with anyio.move_on_after(5):
                    await client.get("/", cast_to=int)

            group.start_soon(first)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(PoolTimeoutError) as caught:
                await client.get("/", cast_to=int)
            assert (caught.value.phase, caught.value.outcome) == (Phase.POOL, Outcome.NOT_SENT)
            group.cancel_scope.cancel()


async def test_a_tls_handshake_that_hangs_is_a_connect_timeout() -> None:
    with serve(lambda peer: peer.wait_closed() and None) as peer:  # type: ignore[func-returns-value]
        url = peer.url.replace("http:", "https:")
        async with AsyncAPIClient(base_url=url, timeout=Timeout(30, connect=0.2), max_retries=0) as client:
            with pytest.raises(ConnectTimeoutError) as caught:
                await client.get("/", cast_to=int)
            assert (caught.value.phase, caught.value.outcome) == (Phase.TLS, Outcome.NOT_SENT)


async def test_the_callers_own_time_does_not_count() -> None:
    class Slow:
        def __init__(self) -> None:
            self.left = 3

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self

        async def __anext__(self) -> bytes:
            await anyio.sleep(0.15)
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return b"x"

    with serve(answer_each(ok(b"1"))) as peer:
        async with client_of(peer, timeout=Timeout(30, read=0.1, write=0.1), max_retries=0) as client:
            assert await client.post("/", cast_to=int, content=Slow()) == 1
    assert peer.requests[0].endswith(b"1\r\nx\r\n1\r\nx\r\n1\r\nx\r\n0\r\n\r\n")


async def test_a_timeout_is_retried_for_get_and_not_for_post() -> None:
    with serve(silent) as peer:
        async with client_of(peer, timeout=Timeout(30, read=0.05), max_retries=1) as client:
            with pytest.raises(ReadTimeoutError):
                await client.get("/", cast_to=int)
            assert len(peer.requests) == 2
            with pytest.raises(ReadTimeoutError):
                await client.post("/", cast_to=int)
            assert len(peer.requests) == 3


# --- the deadline ------------------------------------------------------------------------------------------------------


async def test_a_server_that_drips_does_not_stretch_the_deadline() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        while True:
            peer.send(b"x")
            peer.server.pause(0.25)

    with serve(script) as peer:
        async with client_of(peer, deadline=1.5) as client:
            started = time.monotonic()
            with pytest.raises(DeadlineExceededError) as caught:
                await client.get("/", cast_to=bytes)
            assert 1.5 <= time.monotonic() - started < 3
            error = caught.value
            assert (error.phase, error.outcome) == (Phase.BODY, Outcome.ANSWERED)
            assert len(error.attempts) == 1
            for word in ("deadline of 1.5 s", "phase body", "attempt 1", "waits 0 s", "connect", "bytes of the body"):
                assert word in error.message


async def test_the_deadline_ends_the_body_of_an_open_response_too() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        peer.wait_closed()

    with serve(script) as peer:
        async with client_of(peer, deadline=0.3) as client, client.open("GET", "/") as response:
            started = time.monotonic()
            with pytest.raises(DeadlineExceededError):
                await response.read()
            assert time.monotonic() - started < 3


@pytest.mark.parametrize("where", ["_prepare_options", "_prepare_request", "_sleep_for_retry"])
async def test_the_deadline_cuts_hooks_too(where: str) -> None:
    async def slow(self: Any, *args: Any, **kwargs: Any) -> Any:
        await anyio.sleep(30)

    cls: Any = type("Slow", (AsyncAPIClient,), {where: slow})
    with serve(answer_each(ok(status="500 X"))) as peer:
        async with cls(base_url=peer.url, deadline=1.0) as client:
            started = time.monotonic()
            with pytest.raises(DeadlineExceededError):
                await client.get("/", cast_to=int)
            assert time.monotonic() - started < 5


# --- bodies ------------------------------------------------------------------------------------------------------------


class Pieces:
    """An async iterable that makes a fresh iterator each time it is called."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def __call__(self) -> _Iterator:
        return _Iterator(list(self.pieces))


class _Iterator:
    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def __aiter__(self) -> _Iterator:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        if not self.pieces:
            raise StopAsyncIteration
        return self.pieces.pop(0)


CONTENTS: list[tuple[Callable[[], Any], bytes]] = [
    (lambda: b"abc", b"Content-Length: 3\r\n"),
    (lambda: "äbc", b"Content-Length: 4\r\n"),
    (lambda: bytearray(b"abc"), b"Content-Length: 3\r\n"),
    (lambda: [b"a", b"", b"bc"], b"Content-Length: 3\r\n"),
    (lambda: (piece for piece in (b"a", b"bc")), b"Transfer-Encoding: chunked\r\n"),
    (lambda: _Iterator([b"a", b"bc"]), b"Transfer-Encoding: chunked\r\n"),
    (lambda: Pieces(b"a", b"bc"), b"Transfer-Encoding: chunked\r\n"),
]


@pytest.mark.parametrize(("content", "framing"), CONTENTS)
async def test_content_of_every_kind(content: Callable[[], Any], framing: bytes) -> None:
    with serve(answer_each(ok(b"1"))) as peer:
        async with client_of(peer) as client:
            assert await client.post("/", cast_to=int, content=content()) == 1
    assert framing in peer.requests[0]
    assert b"Content-Type" not in peer.requests[0]


@pytest.mark.parametrize(
    ("content", "requests"),
    [
        (lambda: b"abc", 3),
        (lambda: [b"a", b"bc"], 3),
        (lambda: Pieces(b"a", b"bc"), 3),
        (lambda: _Iterator([b"abc"]), 1),
    ],
)
async def test_only_bodies_that_can_be_made_again_are_sent_again(content: Callable[[], Any], requests: int) -> None:
    with serve(answer_each(ok(status="500 X"))) as peer:
        async with client_of(peer) as client:
            with pytest.raises(InternalServerError):
                await client.put("/", cast_to=int, content=content())
        assert len(peer.requests) == requests
        assert len({request.partition(b"\r\n\r\n")[2] for request in peer.requests}) == 1


async def test_one_megabyte_and_more_goes_out_whole() -> None:
    body = bytes(range(256)) * 20_000
    with serve(answer_each(ok(b"1"))) as peer:
        async with client_of(peer) as client:
            assert await client.post("/", cast_to=int, content=body) == 1
            assert await client.post("/", cast_to=int, content=Pieces(body, body)) == 1
    assert peer.requests[0].endswith(body)
    assert len(peer.requests[1]) > 2 * len(body)


@pytest.mark.parametrize("content", [b"x" * 20_000_000, Pieces(*[b"x" * 100_000] * 200)], ids=["bytes", "pieces"])
@pytest.mark.parametrize("then", ["close", "wait", "reset"])
async def test_an_early_answer_is_delivered(content: Any, then: str) -> None:
    def script(peer: Peer) -> None:
        if peer.number > 1:
            peer.read_request()
            peer.send(ok(b"1"))
            return
        peer.receive()
        peer.send(ok(b'{"message":"too large"}', status="413 Too Large"))
        if then == "wait":
            peer.wait_closed()
        elif then == "close":
            peer.server.pause(0.1)

    with serve(script) as peer:
        async with client_of(peer) as client:
            with pytest.raises(
                (ContentTooLargeError, ConnectionLostError) if then == "reset" else ContentTooLargeError
            ):
                await client.put("/", cast_to=int, content=content, options={"max_retries": 0})
            assert await client.get("/", cast_to=int) == 1


async def test_an_early_answer_whose_body_stalls_is_bounded_by_the_read_limit() -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 50\r\n\r\npartial")
        peer.wait_closed()

    with serve(script) as peer:
        async with client_of(peer, timeout=Timeout(30, read=0.1)) as client:
            with anyio.fail_after(5), pytest.raises(ContentTooLargeError) as caught:
                await client.put("/", cast_to=int, content=b"x" * 20_000_000)
            assert caught.value.body == "partial"


async def test_a_good_early_answer_does_not_stop_the_upload() -> None:
    """A server that answers as it reads (an echo) gets all of the body."""
    got: list[int] = []

    def script(peer: Peer) -> None:
        data = peer.receive()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")
        while not data.endswith(b"0\r\n\r\n"):
            data += peer.receive()
        got.append(len(data))
        peer.send(b"1")
        peer.read_request()

    with serve(script) as peer:
        async with client_of(peer) as client:
            assert await client.post("/", cast_to=int, content=Pieces(*[b"x" * 50_000] * 40)) == 1
    assert got[0] > 2_000_000


async def test_an_exception_of_the_callers_iterator_comes_out_as_it_is() -> None:
    error = ZeroDivisionError("mine")

    class Bad(_Iterator):
        async def __anext__(self) -> bytes:
            if not self.pieces:
                raise error
            return await super().__anext__()

    with serve(answer_each(ok(b"1"))) as peer:
        async with client_of(peer) as client:
            with pytest.raises(ZeroDivisionError) as caught:
                await client.post("/", cast_to=int, content=Bad([b"a"]))
            assert caught.value is error
            assert await client.get("/", cast_to=int) == 1
            assert client._transport.pool.open_count == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("piece", ["text", 1, None])
async def test_pieces_that_are_no_bytes_are_a_type_error(piece: Any) -> None:
    with serve(answer_each(ok(b"1"))) as peer:
        async with client_of(peer) as client:
            with pytest.raises(TypeError, match="a body is made of bytes"):
                await client.post("/", cast_to=int, content=_Iterator([b"a", piece]))
            assert await client.get("/", cast_to=int) == 1


@pytest.mark.parametrize("pieces", [[b"abcd"], [b"a"]])
async def test_a_body_that_does_not_fit_its_length(pieces: list[bytes]) -> None:
    with serve(answer_each(ok(b"1"))) as peer:
        async with client_of(peer) as client:
            with pytest.raises(LocalProtocolError):
                await client.post(
                    "/", cast_to=int, content=Pieces(*pieces), options={"headers": {"Content-Length": "3"}}
                )
            assert await client.get("/", cast_to=int) == 1
            with pytest.raises(ValueError, match="Content-Length is 3, the body has 4 bytes"):
                await client.post("/", cast_to=int, content=b"abcd", options={"headers": {"Content-Length": "3"}})


async def test_an_async_generator_that_is_not_read_to_its_end_is_closed() -> None:
    closed: list[bool] = []

    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 100_000
        finally:
            closed.append(True)

    def script(peer: Peer) -> None:
        peer.receive()
        peer.send(ok(status="413 Too Large"))
        peer.wait_closed()

    with serve(script) as peer:
        async with client_of(peer) as client:
            with pytest.raises(ContentTooLargeError):
                await client.post("/", cast_to=int, content=pieces())
    assert closed == [True]


# --- leaving early -----------------------------------------------------------------------------------------------------


def two_megabytes(peer: Peer) -> None:
    while request := peer.read_request():
        size = 2_000_000 if b"GET /big" in request else 1000
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)


async def test_a_short_rest_is_read_and_the_connection_used_again() -> None:
    with serve(two_megabytes) as peer:
        async with client_of(peer) as client:
            for _ in range(3):
                async with client.open("GET", "/small"):
                    pass
            assert peer.connections == 1


async def test_a_long_rest_is_left_and_the_connection_closed() -> None:
    with serve(two_megabytes) as peer:
        async with client_of(peer) as client:
            async with client.open("GET", "/big") as response:
                await anext(response.iter_bytes())
            assert client._transport.pool.open_count == 0  # type: ignore[attr-defined]
            await client.get("/small", cast_to=bytes)
            assert peer.connections == 2


async def test_a_response_that_is_dropped_gives_its_connection_back() -> None:
    with serve(two_megabytes) as peer:
        transport = HTTPTransport(limits=Limits(max_connections=1))
        async with client_of(peer, http_client=transport) as client:
            for _ in range(3):
                request = Request("GET", f"{peer.url}/big")
                response = await transport.send(request, timeout=Timeout(5), deadline=None)
                assert response.status_code == 200
                del response
            assert await client.get("/small", cast_to=bytes)


async def test_an_error_body_that_stalls_does_not_change_the_error() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 400 Bad\r\nContent-Type: text/plain\r\nContent-Length: 50\r\n\r\npartial")
        peer.wait_closed()

    with serve(script) as peer:
        async with client_of(peer, timeout=Timeout(30, read=0.1)) as client:
            with pytest.raises(APIStatusError) as caught:
                await client.get("/", cast_to=int)
            assert caught.value.status_code == 400
            assert caught.value.body == "partial"


# --- the end -----------------------------------------------------------------------------------------------------------


async def test_closing_ends_what_is_under_way_and_is_not_retried() -> None:
    with serve(silent) as peer:
        errors: list[BaseException] = []
        client = client_of(peer)

        async def call() -> None:
            try:
                await client.get("/", cast_to=int)
            except BaseException as exc:
                errors.append(exc)
                raise

        started = time.monotonic()
        with pytest.raises(BaseExceptionGroup):
            async with anyio.create_task_group() as group:
                group.start_soon(call)
                await anyio.to_thread.run_sync(peer.wait_for_requests, 1)
                await client.close()
                await client.close()
        assert time.monotonic() - started < 5
        assert type(errors[0]) is APIConnectionError
        assert len(peer.requests) == 1
        with pytest.raises(RuntimeError, match="closed"):
            await client.get("/", cast_to=int)
        assert client.is_closed()


async def test_a_dropped_client_warns_once_and_closes_its_sockets() -> None:
    with serve(answer_each(ok(b"1"))) as peer:
        client = client_of(peer)
        await client.get("/", cast_to=int)
        with pytest.warns(ResourceWarning, match="without aclose") as caught:
            del client
        assert len(caught) == 1
        assert peer.wait_for_open(0) == 0


# --- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def tls_server(authority: trustme.CA, script: Script) -> Any:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return serve(script, context)


def tls_client(authority: trustme.CA, peer: ScriptedServer, **options: Any) -> AsyncAPIClient:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    base_url = f"https://localhost:{peer.port}"
    return AsyncAPIClient(base_url=base_url, http_client=HTTPTransport(tls=context), retry=QUICK, **options)


async def test_calls_over_tls(authority: trustme.CA) -> None:
    big = b'"' + b"x" * 3_000_000 + b'"'
    with tls_server(authority, answer_each(ok(b"1"), ok(big))) as peer:
        async with tls_client(authority, peer) as client:
            assert await client.get("/", cast_to=int) == 1
            assert len(await client.post("/", cast_to=str, content=b"y" * 3_000_000)) == len(big)
            assert peer.connections == 1
            assert peer.requests[1].endswith(b"y" * 1000)


async def test_a_certificate_that_nobody_trusts_is_not_retried(authority: trustme.CA) -> None:
    with tls_server(authority, answer_each(ok(b"1"))) as peer:
        async with AsyncAPIClient(base_url=f"https://localhost:{peer.port}", retry=QUICK) as client:
            with pytest.raises(TLSError) as caught:
                await client.get("/", cast_to=int)
        assert caught.value.outcome is Outcome.NOT_SENT
        assert len(caught.value.attempts) == 1
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert peer.requests == []


async def test_plain_http_where_tls_is_expected() -> None:
    with serve(answer_each(ok(b"1"))) as peer:
        async with AsyncAPIClient(base_url=peer.url.replace("http:", "https:"), max_retries=0) as client:
            with pytest.raises((TLSError, APITimeoutError)):
                await client.get("/", cast_to=int, options={"timeout": 2.0})


async def test_an_end_without_close_notify_is_a_loss(authority: trustme.CA) -> None:
    def cut(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[1]")
        peer.sock.shutdown(2)  # FIN, and no close_notify

    with tls_server(authority, cut) as peer:
        async with tls_client(authority, peer, max_retries=0) as client:
            with pytest.raises(ConnectionLostError) as caught:
                await client.get("/", cast_to=list)
            assert caught.value.outcome is Outcome.ANSWERED


async def test_an_end_with_close_notify_is_an_end(authority: trustme.CA) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[1]")
        assert isinstance(peer.sock, ssl.SSLSocket)
        peer.sock.unwrap()

    with tls_server(authority, script) as peer:
        async with tls_client(authority, peer, max_retries=0) as client:
            assert await client.get("/", cast_to=list) == [1]


async def test_an_idle_tls_connection_that_was_closed_is_replaced(authority: trustme.CA) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(ok(b"1"))
        if peer.number == 1:
            assert isinstance(peer.sock, ssl.SSLSocket)
            try:
                peer.sock.settimeout(0.2)
                peer.sock.unwrap()
            except OSError:
                pass
        else:
            peer.read_request()

    with tls_server(authority, script) as peer:
        async with tls_client(authority, peer, max_retries=0) as client:
            assert await client.get("/", cast_to=int) == 1
            await anyio.sleep(0.4)
            assert await client.post("/", cast_to=int) == 1
            assert peer.connections == 2


# --- many --------------------------------------------------------------------------------------------------------------


async def test_a_thousand_calls_through_a_hundred_connections() -> None:
    from anyio_client._core.pool import Open, Use, Wanted

    asked: list[int] = []
    opened: list[int] = []
    used: list[int] = []

    def record(event: Any, commands: list[Any]) -> None:
        if isinstance(event, Wanted):
            asked.append(event.ticket)
        for command in commands:
            if isinstance(command, Open):
                opened.append(command.ticket)
            if isinstance(command, Use):
                used.append(command.ticket)

    with serve(answer_each(ok(b"1"))) as peer:
        transport = HTTPTransport(limits=Limits(max_connections=100))
        transport.pool.record = record
        async with client_of(peer, http_client=transport) as client:
            results: list[int] = []

            async def call() -> None:
                results.append(await client.get("/", cast_to=int))

            async with anyio.create_task_group() as group:
                for _ in range(1000):
                    group.start_soon(call)
            assert results == [1] * 1000
        assert peer.connections <= 100
        assert peer.most_open <= 100
    # A ticket's turn is when it is told to open a connection, or to use one: turns come in the order of asking.
    waited = [ticket for ticket in used if ticket not in set(opened)]
    assert opened == sorted(opened)
    assert waited == sorted(waited)
    assert sorted(used) == sorted(asked)
    assert opened == asked[: len(opened)]


async def test_what_one_call_meets_does_not_harm_another() -> None:
    def script(peer: Peer) -> None:
        while request := peer.read_request():
            if b"/bad" in request:
                peer.send(b"garbage\r\n\r\n")
                return
            peer.send(ok(b"1"))

    with serve(script) as peer:
        async with client_of(peer, max_retries=0) as client:
            good: list[int] = []
            bad: list[APIError] = []

            async def one(path: str) -> None:
                try:
                    good.append(await client.get(path, cast_to=int))
                except APIError as exc:
                    bad.append(exc)

            async with anyio.create_task_group() as group:
                for n in range(100):
                    group.start_soon(one, "/bad" if n % 2 else "/good")
            assert len(good) == len(bad) == 50
            assert {type(error) for error in bad} == {RemoteProtocolError}


# --- what a hostile server tried -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [b"1\r\n1\r\n" * 20_000, b"%x\r\n%s\r\n" % (60_000, b"x" * 60_000)])
async def test_a_server_that_never_pauses_does_not_pass_the_deadline(chunk: bytes) -> None:
    """On uvloop a cancellation is not delivered to a task whose wait is over each time it is looked at."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            peer.send(chunk)

    with serve(script) as peer:
        async with client_of(peer, max_retries=0) as client:
            started = time.monotonic()
            with pytest.raises(DeadlineExceededError):
                await client.get("/", cast_to=bytes, options={"deadline": 0.4})
            async with client.open("GET", "/", options={"deadline": 0.4}) as response:
                with pytest.raises(DeadlineExceededError):
                    async for _ in response.iter_bytes():
                        pass
            assert time.monotonic() - started < 8
            with anyio.move_on_after(0.3) as scope:
                await client.get("/", cast_to=bytes)
            assert scope.cancelled_caught


async def test_a_gzip_bomb_is_stopped_while_it_arrives() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b"\0" * 2**20) for _ in range(300)) + packer.flush()

    with serve(answer_each(ok(bomb, headers="Content-Encoding: gzip\r\n"))) as peer:
        async with client_of(peer) as client:
            with pytest.raises(ContentDecodingError) as caught:
                await client.get("/", cast_to=bytes)
            assert len(caught.value.attempts) == 1
            assert client._transport.pool.open_count == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("closing", [True, False])
async def test_bytes_that_come_before_the_request_are_not_its_answer(closing: bool) -> None:
    def script(peer: Peer) -> None:
        if peer.number == 1:
            peer.send(ok(b"666"))
            if closing:
                return
            peer.wait_closed()
        elif peer.read_request():
            peer.send(ok(b"1"))
            peer.read_request()

    with serve(script) as peer:
        async with client_of(peer) as client:
            pool = client._transport.pool  # type: ignore[attr-defined]
            connect = pool._connector.connect

            async def slow(*args: Any) -> Any:
                """Gives the server time to speak first."""
                stream = await connect(*args)
                await anyio.sleep(0.1)
                return stream

            pool._connector.connect = slow
            assert await client.post("/", cast_to=int) == 1
            assert peer.connections == 2
