"""Streams of JSON lines: what a line becomes, what its errors say, and how the stream ends."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import attrs
import pytest

from anyio_client import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    AsyncAPIClient,
    AsyncJSONLStream,
    ConnectionLostError,
    ContentDecodingError,
    DeadlineExceededError,
    DecodeError,
    MockTransport,
    NotFoundError,
    Outcome,
    OverloadedError,
    Phase,
    ReadTimeoutError,
    Request,
    Response,
    RetryPolicy,
    StreamTruncatedError,
)
from tests.kit.peers import Peer, chunk, ok, serve

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"


@attrs.define
class Item:
    n: int


class Items(AsyncJSONLStream[Item]): ...


class First(AsyncJSONLStream[Item]):
    wait_first_event = True


class UntilDone(AsyncJSONLStream[Any]):
    def is_terminal(self, event: Any) -> bool:
        return bool(event.data == '"done"')


async def pieces(*given: bytes | Exception) -> AsyncIterator[bytes]:
    for piece in given:
        if isinstance(piece, Exception):
            raise piece
        yield piece


def lines(*given: bytes | Exception, status: int = 200, media_type: str = "application/x-ndjson") -> Response:
    return Response(status, headers={"Content-Type": media_type}, content=pieces(*given))


def client_of(*answers: Response | Exception, cls: type[AsyncAPIClient] = AsyncAPIClient) -> AsyncAPIClient:
    left = list(answers)

    def handler(request: Request) -> Response:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return cls(base_url="http://h", http_client=MockTransport(handler), retry=RetryPolicy(wait_initial=0))


async def open_stream(client: AsyncAPIClient, stream_cls: Any = Items, cast_to: Any = object, **options: Any) -> Any:
    return await client.get("/", cast_to=cast_to, stream=True, stream_cls=stream_cls, options=options)


async def collect(stream: Any) -> tuple[list[Any], BaseException | None]:
    """The items, and the error that ended the stream."""
    items = []
    try:
        async for item in stream:
            items.append(item)  # noqa: PERF401 (what came before an error counts)
    except Exception as exc:
        return items, exc
    return items, None


async def read(*given: bytes | Exception, stream_cls: Any = Items, **options: Any) -> tuple[list[Any], Any]:
    return await collect(await open_stream(client_of(lines(*given)), stream_cls, **options))


# --- items -----------------------------------------------------------------------------------------------------------


async def test_each_line_becomes_an_item_of_the_type() -> None:
    for stream_cls, cast_to, expected in [
        (Items, object, Item(1)),
        (AsyncJSONLStream[Item], object, Item(1)),
        (AsyncJSONLStream, Item, Item(1)),
        (AsyncJSONLStream, object, {"n": 1}),
        (AsyncJSONLStream, dict[str, int], {"n": 1}),
        (AsyncJSONLStream, str, '{"n": 1}'),
    ]:
        stream = await open_stream(client_of(lines(b'{"n": 1}\n')), stream_cls, cast_to)
        assert isinstance(stream, AsyncJSONLStream)
        assert await collect(stream) == ([expected], None)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_every_kind_of_json_is_an_item() -> None:
    body = b'1\n"a"\nnull\n[1, 2]\n{"event": "x", "data": 1}\ntrue\n1.5'
    stream = await open_stream(client_of(lines(body)), AsyncJSONLStream)
    assert await collect(stream) == ([1, "a", None, [1, 2], {"event": "x", "data": 1}, True, 1.5], None)


async def test_any_split_gives_the_same_items() -> None:
    body = '\n{"n": 1}\r\n \n{"n": 2}\n\r\n{"n":\t3, "m": "\u2028é"}\n{"n": 4}'.encode()
    for size in range(1, len(body) + 1):
        parts = [body[i : i + size] for i in range(0, len(body), size)]
        assert await read(*parts) == ([Item(1), Item(2), Item(3), Item(4)], None)


@pytest.mark.parametrize(
    "media_type",
    ["application/x-ndjson", "application/jsonl", "application/json", "text/plain; charset=latin-1", "text/html"]
    + ["application/octet-stream", "text/event-stream", ""],
)
async def test_any_media_type_is_taken(media_type: str) -> None:
    answer = lines(b'{"n": 1}\n{"n": 2}', media_type=media_type)
    assert await collect(await open_stream(client_of(answer))) == ([Item(1), Item(2)], None)
    answer = Response(200, content=pieces(b'{"n": 1}'))
    assert await collect(await open_stream(client_of(answer))) == ([Item(1)], None)


async def test_a_body_that_is_one_line_and_an_empty_one() -> None:
    assert await read(b'{"n": 1}') == ([Item(1)], None)
    assert await read(b'{"n": 1}\r') == ([Item(1)], None)
    assert await read() == ([], None)
    assert await read(b"\n\n \r\n") == ([], None)


async def test_no_content_is_an_empty_stream() -> None:
    for stream_cls in (Items, First, UntilDone):
        for answer in (Response(204), Response(204, content=pieces()), Response(205)):
            stream = await open_stream(client_of(answer), stream_cls)
            assert await collect(stream) == ([], None)
            await stream.until_done()


async def test_content_codings_are_undone() -> None:
    data = gzip.compress(b'{"n": 1}\n{"n": 2}')
    headers = {"Content-Encoding": "gzip"}
    answer = Response(200, headers=headers, content=pieces(data[:5], data[5:]))
    assert await collect(await open_stream(client_of(answer))) == ([Item(1), Item(2)], None)
    answer = Response(200, headers=headers, content=pieces(data[:-9]))
    _, error = await collect(await open_stream(client_of(answer)))
    assert isinstance(error, ContentDecodingError)


# --- ends ------------------------------------------------------------------------------------------------------------


async def test_a_line_may_be_what_ends_the_stream() -> None:
    assert await read(b'1\n"done"\n2\n', stream_cls=UntilDone) == ([1], None)
    items, error = await read(b"1\n2\n", stream_cls=UntilDone)
    assert (items, type(error)) == ([1, 2], StreamTruncatedError)


@pytest.mark.parametrize("stream_cls", [Items, First, UntilDone])
@pytest.mark.parametrize("unfinished", [b"", b'{"n": 2', b'{"n": 2}'])
async def test_a_lost_connection_is_an_error_after_the_items_and_never_a_silent_end(
    stream_cls: Any, unfinished: bytes
) -> None:
    lost = ConnectionLostError("lost", phase=Phase.BODY, outcome=Outcome.ANSWERED)
    stream = await open_stream(client_of(lines(b'{"n": 1}\n' + unfinished, lost)), stream_cls)
    items, error = await collect(stream)
    assert (len(items), error) == (1, lost)  # the line that is not complete is no item
    with pytest.raises(RuntimeError, match="before its end"):
        await stream.until_done()


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "number", "why"),
    [
        (b"{secret\n", 1, "Expecting property name"),
        (b'{"n": 1}\n{secret\n{"n": 3}', 2, "Expecting property name"),
        (b'\n\n{"n": 1}\n \n{secret', 5, "Expecting property name"),
        (b'{"n": 1}\r\n\r\n{secret\r\n', 3, "Expecting property name"),
        (b'{"n": 1}\n{"n": 2} {"n": 3}\n', 2, "Extra data"),
        (b'{"n": NaN}\n', 1, "NaN is no JSON"),
        (b'{"n": 1}\n"\xff"\n', 2, "invalid UTF-8"),
        (b'{"n": 1}\nsecret', 2, "Expecting value"),
        (b"[" * 50_000, 1, "the JSON is nested too deeply"),
    ],
)
async def test_a_line_that_is_no_json_is_an_error_with_its_number(bad: bytes, number: int, why: str) -> None:
    for cut in (len(bad), len(bad) // 2, 1):
        stream = await open_stream(client_of(lines(bad[:cut], bad[cut:])))
        items, error = await collect(stream)
        assert items == ([Item(1)] if number > 1 else [])
        assert type(error) is APIResponseValidationError
        assert str(error).startswith(f"Line {number} of the stream is not JSON: {why}")
        assert "secret" not in str(error)
        assert isinstance(error.body, str) and error.body
        assert error.response is not None
        assert [attempt.status_code for attempt in error.attempts] == [200]
        assert await collect(stream) == ([], None)


async def test_a_line_that_is_no_item_is_a_decode_error() -> None:
    items, error = await read(b'{"n": 1}\n{"m": 1}\n')
    assert items == [Item(1)]
    assert isinstance(error, DecodeError)
    assert (error.problems, error.body) == (["$.n: missing"], {"m": 1})


async def test_strictness_holds_for_items() -> None:
    body = b'{"n": "x"}\n'
    assert (await read(body))[0] == [Item("x")]  # type: ignore[arg-type]
    items, error = await read(body, strict=True)
    assert (items, type(error)) == ([], DecodeError)


@pytest.mark.parametrize(
    ("line", "cls", "status"),
    [
        (b'{"error": {"type": "overloaded_error", "message": "busy"}}', OverloadedError, 529),
        (b'{"error": {"type": "not_found_error"}}', NotFoundError, 404),
        (b'{"error": {"type": "new_error"}}', APIError, None),
        (b'{"error": "text"}', APIError, None),
        (b'{"error": false, "n": 2}', APIError, None),
    ],
)
async def test_a_line_with_an_error_is_raised(line: bytes, cls: type, status: int | None) -> None:
    items, error = await read(b'{"n": 1}\n' + line + b'\n{"n": 3}\n')
    assert items == [Item(1)]
    assert type(error) is cls
    assert getattr(error, "status_code", None) == status
    assert isinstance(error.body, dict) and "error" in error.body


async def test_a_line_without_an_error_is_none() -> None:
    assert await read(b'{"n": 1, "error": null}\n{"n": 2, "m": {"error": 1}}\n') == ([Item(1), Item(2)], None)


async def test_an_error_in_the_first_line_is_retried_where_the_class_asks() -> None:
    busy = b'\n{"error": {"type": "overloaded_error"}}\n'
    client = client_of(lines(busy), lines(b"\n", b'{"n": 1}\n{"n": 2}'))
    assert await collect(await open_stream(client, First)) == ([Item(1), Item(2)], None)
    with pytest.raises(OverloadedError) as caught:
        await open_stream(client_of(*(lines(busy) for _ in range(3))), First)
    assert [attempt.status_code for attempt in caught.value.attempts] == [529] * 3
    assert await collect(await open_stream(client_of(lines(b'{"n": 1}')), First)) == ([Item(1)], None)


async def test_an_error_status_is_raised_by_the_call() -> None:
    with pytest.raises(NotFoundError, match="^Error code: 404 - no$"):
        await open_stream(client_of(Response(404, json={"message": "no"})))


# --- limits ----------------------------------------------------------------------------------------------------------


class Small(AsyncAPIClient):
    max_event_size = 100


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
async def test_a_line_that_is_too_large_is_an_error_after_the_items(end: bytes) -> None:
    closed = []

    async def body(size: int) -> AsyncIterator[bytes]:
        try:
            yield b'{"n": 1}\n\n{"n": ' + b"2" * (size - 7)
            yield b"}" + end
        finally:
            closed.append(True)

    def client(size: int) -> AsyncAPIClient:
        return client_of(Response(200, content=body(size)), cls=Small)

    assert await collect(await open_stream(client(100))) == ([Item(1), Item(int("2" * 93))], None)
    items, error = await collect(await open_stream(client(101)))
    assert items == [Item(1)]
    assert type(error) is APIResponseValidationError
    assert str(error) == "line 3 took more than 100 bytes."
    assert closed == [True, True]


async def test_a_line_without_end_is_not_kept() -> None:
    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b" " * 30

    items, error = await collect(await open_stream(client_of(Response(200, content=body()), cls=Small)))
    assert (items, type(error)) == ([], APIResponseValidationError)
    assert taken <= 5


async def endless(first: bytes, then: bytes, every: float = 0.02) -> AsyncIterator[bytes]:
    yield first
    while True:
        await anyio.sleep(every)
        yield then


async def test_event_timeout_counts_items_and_no_heartbeats() -> None:
    stream = await open_stream(
        client_of(Response(200, content=endless(b'{"n": 1}\n', b"\n"))), stream_cls=Items, event_timeout=0.15
    )
    with anyio.fail_after(5):
        items, error = await collect(stream)
    assert items == [Item(1)]
    assert isinstance(error, ReadTimeoutError)
    assert "0.15 s (event_timeout)" in str(error)

    stream = await open_stream(client_of(Response(200, content=endless(b"", b'\n{"n": 1}\n'))), event_timeout=2)
    assert [await anext(stream) for _ in range(5)] == [Item(1)] * 5
    await stream.close()


async def test_time_that_the_caller_takes_does_not_count_for_the_event_timeout() -> None:
    stream = await open_stream(client_of(lines(b'{"n": 1}\n', b'{"n": 2}\n')), event_timeout=0.05)
    items = []
    async for item in stream:
        items.append(item)
        await anyio.sleep(0.1)
    assert items == [Item(1), Item(2)]


# --- connections -----------------------------------------------------------------------------------------------------


async def test_items_come_one_by_one_as_the_server_sends_them() -> None:
    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(HEAD)
            for n in (1, 2, 3):
                peer.send(chunk(b'\r\n{"n": %d}\r' % n))
                peer.server.pause(0.005)
                peer.send(chunk(b"\n"))
            peer.send(b"0\r\n\r\n")

    with serve(script) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            for _ in range(2):
                assert await collect(await open_stream(client)) == ([Item(1), Item(2), Item(3)], None)
        assert peer.connections == 1


HEADS = {
    "chunked": HEAD + chunk(b'{"n": 1}\n{"n": 2}\n'),
    "chunked, in a line": HEAD + chunk(b'{"n": 1}\n{"n": 2}\n{"n"'),
    "chunked, in a chunk": HEAD + b'30\r\n{"n": 1}\n{"n": 2}\n',
    "with a length": b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"n": 1}\n{"n": 2}\n{"n": 3}',
}


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("name", HEADS)
async def test_a_body_that_breaks_off_is_a_connection_error(name: str, how: str) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEADS[name])
        if how == "reset":
            peer.server.pause(0.05)
            peer.reset()

    with serve(script) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            stream = await open_stream(client)
            items, error = await collect(stream)
            with pytest.raises(RuntimeError, match="before its end"):
                await stream.until_done()
    assert items == [Item(1), Item(2)]
    assert isinstance(error, APIConnectionError)
    assert (error.phase, error.outcome) == (Phase.BODY, Outcome.ANSWERED)
    assert len(peer.requests) == 1


async def test_the_deadline_and_the_read_timeout_end_a_stream() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD + chunk(b'{"n": 1}\n'))
        peer.wait_closed()

    with serve(script) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            for options, cls in (({"deadline": 0.15}, DeadlineExceededError), ({"timeout": 0.1}, ReadTimeoutError)):
                with anyio.fail_after(5):
                    items, error = await collect(await open_stream(client, **options))
                assert (items, type(error)) == ([Item(1)], cls)


def streaming(peer: Peer) -> None:
    """Streams to the first connection for as long as it is open; others get an answer each."""
    while peer.read_request():
        if peer.number > 1:
            peer.send(ok(b"1"))
            continue
        peer.send(HEAD + chunk(b'{"n": 1}\n{"n": 2}\n'))
        try:
            while True:
                peer.send(chunk(b"\n"))
                peer.server.pause(0.01)
        except OSError:
            return


async def leave_by_with(client: AsyncAPIClient) -> None:
    async with client.stream("GET", "/", cast_to=Item, stream_cls=Items) as stream:
        async for _ in stream:
            break


async def leave_by_close(client: AsyncAPIClient) -> None:
    stream = await open_stream(client)
    await anext(stream)
    await stream.close()
    await stream.aclose()
    assert await collect(stream) == ([], None)
    with pytest.raises(RuntimeError, match="before its end"):
        await stream.until_done()


async def leave_by_error(client: AsyncAPIClient) -> None:
    with pytest.raises(ZeroDivisionError):
        async with await open_stream(client) as stream:
            async for _ in stream:
                raise ZeroDivisionError


async def leave_by_cancellation(client: AsyncAPIClient) -> None:
    with anyio.move_on_after(0.1):
        async with await open_stream(client) as stream:
            async for _ in stream:
                pass


async def leave_by_decode_error(client: AsyncAPIClient) -> None:
    _, error = await collect(await open_stream(client, AsyncJSONLStream[int]))
    assert isinstance(error, DecodeError)


async def leave_unread(client: AsyncAPIClient) -> None:
    async with client.stream("GET", "/", cast_to=Item, stream_cls=Items):
        pass


@pytest.mark.parametrize(
    "leave",
    [leave_by_with, leave_by_close, leave_by_error, leave_by_cancellation, leave_by_decode_error, leave_unread],
)
async def test_leaving_early_frees_the_connection_at_once(leave: Callable[[AsyncAPIClient], Awaitable[None]]) -> None:
    with serve(streaming) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            began = anyio.current_time()
            await leave(client)
            assert peer.wait_for_open(0) == 0
            assert anyio.current_time() - began < 2
            assert await client.get("/", cast_to=int) == 1
