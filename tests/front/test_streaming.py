"""Event streams: what an event becomes, what ends them, and how they fail."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable
from typing import Any
from unittest import mock

import anyio
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyio_client import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    AsyncAPIClient,
    AsyncStream,
    AuthenticationError,
    BadRequestError,
    ConnectionLostError,
    ContentDecodingError,
    ContentTooLargeError,
    DeadlineExceededError,
    DecodeError,
    InternalServerError,
    MockTransport,
    NotFoundError,
    Outcome,
    OverloadedError,
    PermissionDeniedError,
    Phase,
    RateLimitError,
    ReadTimeoutError,
    Request,
    Response,
    RetryPolicy,
    ServerSentEvent,
    StreamTruncatedError,
    async_to_raw_response_wrapper,
)
from tests.kit.fuzz import examples
from tests.kit.peers import Peer, chunk, ok, serve

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]

SSE = {"Content-Type": "text/event-stream; charset=utf-8"}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@attrs.define
class Item:
    n: int


class Done(AsyncStream[Item]):
    terminator = "[DONE]"


class Stop(AsyncStream[Any]):
    def is_terminal(self, event: ServerSentEvent) -> bool:
        return event.event == "stop"


class First(AsyncStream[Item]):
    wait_first_event = True


def client_of(*answers: Response | Exception, **options: Any) -> AsyncAPIClient:
    left = list(answers)

    def handler(request: Request) -> Response:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return AsyncAPIClient(
        base_url="http://h", http_client=MockTransport(handler), retry=RetryPolicy(wait_initial=0), **options
    )


async def pieces(*given: bytes | Exception) -> AsyncIterator[bytes]:
    for piece in given:
        if isinstance(piece, Exception):
            raise piece
        yield piece


def sse(*given: bytes | Exception, status: int = 200) -> Response:
    return Response(status, headers=SSE, content=pieces(*given))


async def open_stream(client: AsyncAPIClient, stream_cls: Any = None, cast_to: Any = Item, **options: Any) -> Any:
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


# --- items ---------------------------------------------------------------------------------------------------------


async def test_every_event_becomes_an_item_whatever_its_name() -> None:
    body = b': hello\ndata: {"n": 1}\n\nevent: x\ndata: {"n": 2}\n\ndata: {"n":\ndata: 3}\n\ndata: {"n": 4}'
    stream = await open_stream(client_of(sse(body)))
    assert await collect(stream) == ([Item(1), Item(2), Item(3)], None)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_the_type_of_items() -> None:
    body = b'id: 7\ndata: {"n": 1}\n\n'
    for stream_cls, cast_to, expected in [
        (None, Item, Item(1)),
        (AsyncStream, Item, Item(1)),
        (AsyncStream[Item], object, Item(1)),
        (Done, object, Item(1)),
        (None, object, {"n": 1}),
        (None, dict[str, int], {"n": 1}),
        (None, str, '{"n": 1}'),
        (None, ServerSentEvent, ServerSentEvent(None, '{"n": 1}', "7", None)),
    ]:
        stream = await open_stream(client_of(sse(body)), stream_cls, cast_to)
        assert await anext(stream) == expected
        await stream.close()


async def test_any_split_gives_the_same_items() -> None:
    body = '\ufeffdata: {"n": 1}\r\n\r\n: c\rdata: "\u2028é"\r\revent: x\ndata: 3\n\n'.encode()
    for size in range(1, len(body)):
        parts = [body[i : i + size] for i in range(0, len(body), size)]
        stream = await open_stream(client_of(sse(*parts)), cast_to=object)
        assert await collect(stream) == ([{"n": 1}, "\u2028é", 3], None)


async def test_an_event_that_is_no_json_or_no_item() -> None:
    items, error = await collect(await open_stream(client_of(sse(b'data: {"n": 1}\n\ndata: {secret\n\n'))))
    assert items == [Item(1)]
    assert isinstance(error, APIResponseValidationError)
    assert error.body == "{secret"
    assert "secret" not in str(error)

    items, error = await collect(await open_stream(client_of(sse(b'data: {"m": 1}\n\ndata: {"n": 1}\n\n'))))
    assert items == []
    assert isinstance(error, DecodeError)
    assert error.problems == ["$.n: missing"]
    assert error.body == {"m": 1}


async def test_strictness_holds_for_items() -> None:
    body = b'data: {"n": "x"}\n\n'
    assert (await collect(await open_stream(client_of(sse(body)))))[0] == [Item("x")]  # type: ignore[arg-type]
    for client, options in ((client_of(sse(body)), {"strict": True}), (_strict(sse(body)), {})):
        items, error = await collect(await open_stream(client, **options))
        assert isinstance(error, DecodeError)
        assert items == []
        assert error.problems == ["$.n: expected an integer, got a string"]


def _strict(answer: Response) -> AsyncAPIClient:
    return client_of(answer, _strict_response_validation=True)


async def test_content_codings_are_undone() -> None:
    import gzip

    data = gzip.compress(b'data: {"n": 1}\n\n')
    answer = Response(200, headers={**SSE, "Content-Encoding": "gzip"}, content=pieces(data[:5], data[5:]))
    assert await collect(await open_stream(client_of(answer))) == ([Item(1)], None)

    answer = Response(200, headers={**SSE, "Content-Encoding": "gzip"}, content=pieces(data[:-9]))
    items, error = await collect(await open_stream(client_of(answer)))
    assert isinstance(error, ContentDecodingError)


# --- ends ----------------------------------------------------------------------------------------------------------


async def test_a_terminator_ends_the_stream_and_is_no_item() -> None:
    body = b'data: {"n": 1}\n\ndata: [DONE]\n\ndata: {"n": 2}\n\n'
    assert await collect(await open_stream(client_of(sse(body)), Done)) == ([Item(1)], None)
    assert await collect(await open_stream(client_of(sse(b"data: 1\n\nevent: stop\ndata: 2\n\n")), Stop)) == ([1], None)


async def test_an_end_before_the_terminator_is_an_error_after_the_items() -> None:
    for stream_cls in (Done, Stop):
        for body in (b'data: {"n": 1}\n\n', b'data: {"n": 1}\n\ndata: [DONE]', b'data: {"n": 1}\n\nevent: stop\n'):
            stream = await open_stream(client_of(sse(body)), stream_cls)
            items, error = await collect(stream)
            assert len(items) == 1
            assert isinstance(error, StreamTruncatedError)
            assert (error.phase, error.outcome) == (Phase.BODY, Outcome.ANSWERED)
            assert error.request is not None
            with pytest.raises(StopAsyncIteration):
                await anext(stream)


async def test_without_a_terminator_the_end_of_the_body_is_the_end() -> None:
    assert await collect(await open_stream(client_of(sse()))) == ([], None)


async def test_a_connection_that_is_lost_is_an_error_after_the_items_and_never_retried() -> None:
    lost = ConnectionLostError("lost", phase=Phase.BODY, outcome=Outcome.ANSWERED)
    for stream_cls in (None, Done, First):
        stream = await open_stream(client_of(sse(b'data: {"n": 1}\n\n', lost)), stream_cls)
        items, error = await collect(stream)
        assert (items, error) == ([Item(1)], lost)
        assert await collect(stream) == ([], None)


async def test_no_content_is_an_empty_stream() -> None:
    for stream_cls in (None, Done, First):
        for answer in (Response(204), Response(204, content=pieces()), Response(205)):
            assert await collect(await open_stream(client_of(answer), stream_cls)) == ([], None)


# --- errors as events ----------------------------------------------------------------------------------------------

BY_TYPE = {
    "invalid_request_error": (BadRequestError, 400),
    "authentication_error": (AuthenticationError, 401),
    "permission_error": (PermissionDeniedError, 403),
    "not_found_error": (NotFoundError, 404),
    "request_too_large": (ContentTooLargeError, 413),
    "rate_limit_error": (RateLimitError, 429),
    "api_error": (InternalServerError, 500),
    "server_error": (InternalServerError, 500),
    "overloaded_error": (OverloadedError, 529),
}


@pytest.mark.parametrize("kind", BY_TYPE)
@pytest.mark.parametrize("prefix", ["event: error\n", ""])
async def test_an_error_event_is_the_status_error_that_its_type_names(kind: str, prefix: str) -> None:
    body = (
        f'data: {{"n": 1}}\n\n{prefix}data: {{"error": {{"type": "{kind}", "message": "why"}}}}\n\ndata: {{"n": 2}}\n\n'
    )
    items, error = await collect(await open_stream(client_of(sse(body.encode()))))
    assert items == [Item(1)]
    cls, status = BY_TYPE[kind]
    assert type(error) is cls
    assert isinstance(error, APIStatusError)
    assert error.status_code == status
    assert error.message == f"Error code: {status} - why"
    assert error.body == {"error": {"type": kind, "message": "why"}}


@pytest.mark.parametrize(
    ("event", "body"),
    [
        ('event: error\ndata: {"error": {"type": "new_error"}}', {"error": {"type": "new_error"}}),
        ('event: error\ndata: {"error": {"type": ["x"]}}', {"error": {"type": ["x"]}}),
        ("event: error\ndata: plain text", "plain text"),
        ("event: error\ndata: [1]", [1]),
        ("event: error\ndata: {}", {}),
        ('data: {"error": "text"}', {"error": "text"}),
        ('data: {"error": false}', {"error": False}),
        ("event: error\ndata: " + "[" * 100_000, "[" * 100_000),
    ],
)
async def test_any_other_error_event_is_an_api_error(event: str, body: object) -> None:
    items, error = await collect(await open_stream(client_of(sse(f"{event}\n\n".encode()))))
    assert items == []
    assert type(error) is APIError
    assert error.body == body


async def test_what_is_no_error_event() -> None:
    body = b'data: {"error": null}\n\ndata: {"x": "\\"error\\""}\n\ndata: "error"\n\nevent: errors\ndata: 1\n\n'
    items, error = await collect(await open_stream(client_of(sse(body)), cast_to=object))
    assert (items, error) == ([{"error": None}, {"x": '"error"'}, "error", 1], None)


# --- the first event -----------------------------------------------------------------------------------------------

BUSY = b'event: error\ndata: {"error": {"type": "overloaded_error", "message": "busy"}}\n\n'
WRONG = b'event: error\ndata: {"error": {"type": "invalid_request_error"}}\n\n'
GOOD = b'data: {"n": 1}\n\ndata: {"n": 2}\n\n'


async def test_an_error_as_the_first_event_is_retried_where_the_class_asks() -> None:
    client = client_of(sse(BUSY), sse(BUSY, status=503), sse(b": c\n\n", GOOD))
    assert await collect(await open_stream(client, First)) == ([Item(1), Item(2)], None)


async def test_it_is_raised_by_the_call_with_all_attempts_when_retries_end() -> None:
    with pytest.raises(OverloadedError) as caught:
        await open_stream(client_of(sse(BUSY), sse(BUSY), sse(BUSY)), First)
    assert [attempt.status_code for attempt in caught.value.attempts] == [529] * 3
    assert "busy" in str(caught.value)
    with pytest.raises(BadRequestError) as wrong:
        await open_stream(client_of(sse(WRONG)), First)
    assert len(wrong.value.attempts) == 1
    with pytest.raises(APIError):
        await open_stream(client_of(sse(b"event: error\ndata: x\n\n")), First)


async def test_it_is_not_retried_where_the_class_does_not_ask_nor_later() -> None:
    items, error = await collect(await open_stream(client_of(sse(BUSY))))
    assert (items, type(error)) == ([], OverloadedError)
    items, error = await collect(await open_stream(client_of(sse(GOOD, BUSY)), First))
    assert (items, type(error)) == ([Item(1), Item(2)], OverloadedError)


async def test_a_connection_lost_before_the_first_event_is_retried_by_the_rules_of_bodies() -> None:
    lost = ConnectionLostError("lost", phase=Phase.BODY, outcome=Outcome.ANSWERED)
    assert await collect(await open_stream(client_of(sse(lost), sse(GOOD)), First)) == ([Item(1), Item(2)], None)
    with pytest.raises(ConnectionLostError):
        await client_of(sse(lost)).post("/", cast_to=Item, stream=True, stream_cls=First)
    _, error = await collect(await open_stream(client_of(sse(lost))))
    assert error is lost


async def test_a_first_event_that_is_the_terminator_is_no_error() -> None:
    class Terminal(First):
        terminator = '{"error": 1}'

    assert await collect(await open_stream(client_of(sse(b'data: {"error": 1}\n\n')), Terminal)) == ([], None)


async def test_a_wrong_answer_to_a_waiting_class_knows_its_attempt() -> None:
    with pytest.raises(APIResponseValidationError) as caught:
        await open_stream(client_of(Response(500), Response(200, json={"a": 1})), First)
    assert [attempt.status_code for attempt in caught.value.attempts] == [500, 200]


# --- what is no stream ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (lambda: Response(200, json={"a": 1}), {"a": 1}),
        (lambda: Response(200, headers={"Content-Type": "text/html"}, content=b"<html>"), "<html>"),
        (lambda: Response(200, headers={"Content-Type": "application/json"}, content=pieces(b"{")), "{"),
        (
            lambda: Response(
                200, headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}, content=b"no"
            ),
            "",
        ),
    ],
)
async def test_an_answer_of_another_type_is_an_error_with_its_body(
    answer: Callable[[], Response], body: object
) -> None:
    with pytest.raises(APIResponseValidationError) as caught:
        await open_stream(client_of(answer()))
    assert caught.value.body == body
    assert caught.value.status_code == 200
    assert len(caught.value.attempts) == 1


async def test_a_missing_type_passes() -> None:
    assert await collect(await open_stream(client_of(Response(200, content=pieces(GOOD))))) == (
        [Item(1), Item(2)],
        None,
    )
    answer = Response(200, headers={"Content-Type": "Text/Event-Stream;x=y"}, content=GOOD)
    assert len((await collect(await open_stream(client_of(answer))))[0]) == 2


async def test_an_error_status_is_raised_by_the_call() -> None:
    with pytest.raises(NotFoundError) as caught:
        await open_stream(client_of(Response(404, json={"message": "no"})))
    assert str(caught.value) == "Error code: 404 - no"


# --- limits --------------------------------------------------------------------------------------------------------


class Small(AsyncAPIClient):
    max_event_size = 100


@pytest.mark.parametrize("big", [b"data: " + b"x" * 200, b"data: x\n" * 50, b"x" * 200])
async def test_an_event_that_is_too_large_is_an_error_after_the_items(big: bytes) -> None:
    closed = []

    async def body() -> AsyncIterator[bytes]:
        try:
            yield b'data: {"n": 1}\n\n' + big
            yield b"\n\n"
        finally:
            closed.append(True)

    client = Small(base_url="http://h", http_client=MockTransport(lambda r: Response(200, headers=SSE, content=body())))
    items, error = await collect(await open_stream(client))
    assert items == [Item(1)]
    assert isinstance(error, APIResponseValidationError)
    assert "100 bytes" in str(error)
    assert closed == [True]


async def endless(first: bytes, then: bytes, every: float = 0.02) -> AsyncIterator[bytes]:
    yield first
    while True:
        await anyio.sleep(every)
        yield then


async def test_event_timeout_counts_items_and_no_comments() -> None:
    answer = Response(200, headers=SSE, content=endless(b'data: {"n": 1}\n\n', b": still here\n\n"))
    stream = await open_stream(client_of(answer), event_timeout=0.15)
    with anyio.fail_after(5):
        items, error = await collect(stream)
    assert items == [Item(1)]
    assert isinstance(error, ReadTimeoutError)
    assert "event_timeout" in str(error)

    answer = Response(200, headers=SSE, content=endless(b"", b'data: {"n": 1}\n\n'))
    stream = await open_stream(client_of(answer), event_timeout=2)
    assert [await anext(stream) for _ in range(5)] == [Item(1)] * 5
    await stream.close()


async def test_the_event_timeout_before_the_first_event_is_retried() -> None:
    silent = Response(200, headers=SSE, content=endless(b"", b": c\n"))
    assert await collect(await open_stream(client_of(silent, sse(GOOD)), First, event_timeout=0.1)) == (
        [Item(1), Item(2)],
        None,
    )


async def test_the_deadline_ends_a_stream() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD + chunk(GOOD))
        peer.wait_closed()

    with serve(script) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            stream = await open_stream(client, deadline=0.2)
            with anyio.fail_after(5):
                items, error = await collect(stream)
            assert items == [Item(1), Item(2)]
            assert isinstance(error, DeadlineExceededError)
            assert len(peer.requests) == 1


async def test_a_wait_that_is_cancelled_loses_nothing() -> None:
    send, receive = anyio.create_memory_object_stream[bytes](10)

    class Body:
        def __aiter__(self) -> Body:
            return self

        async def __anext__(self) -> bytes:
            return await receive.receive()

    answer = Response(200, headers=SSE, content=Body())
    stream = await open_stream(client_of(answer))
    await send.send(b'data: {"n"')
    with anyio.move_on_after(0.05):
        await anext(stream)
    await send.send(b": 1}\n\n")
    assert await anext(stream) == Item(1)
    send.close()
    receive.close()


# --- connections ---------------------------------------------------------------------------------------------------


def streaming(peer: Peer) -> None:
    """Streams to the odd connections for as long as they are open; others get an answer each."""
    while peer.read_request():
        if peer.number > 1:
            peer.send(ok(b"1"))
            continue
        peer.send(HEAD + chunk(GOOD))
        try:
            while True:
                peer.send(chunk(b": c\n"))
                peer.server.pause(0.01)
        except OSError:
            return


async def leave_by_with(client: AsyncAPIClient) -> None:
    async with client.stream("GET", "/", cast_to=Item) as stream:
        async for _ in stream:
            break


async def leave_by_close(client: AsyncAPIClient) -> None:
    stream = await open_stream(client)
    await anext(stream)
    await stream.close()
    await stream.aclose()


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


async def leave_unread(client: AsyncAPIClient) -> None:
    async with client.stream("GET", "/", cast_to=Item):
        pass


async def leave_after_first(client: AsyncAPIClient) -> None:
    stream = await open_stream(client, First)
    await stream.close()


async def leave_by_decode_error(client: AsyncAPIClient) -> None:
    _, error = await collect(await open_stream(client, AsyncStream[int]))
    assert isinstance(error, DecodeError)


@pytest.mark.parametrize(
    "leave",
    [
        leave_by_with,
        leave_by_close,
        leave_by_error,
        leave_by_cancellation,
        leave_unread,
        leave_after_first,
        leave_by_decode_error,
    ],
)
async def test_leaving_early_frees_the_connection_at_once(leave: Callable[[AsyncAPIClient], Any]) -> None:
    with serve(streaming) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            began = anyio.current_time()
            await leave(client)
            assert peer.wait_for_open(0) == 0
            assert anyio.current_time() - began < 2
            assert await client.get("/", cast_to=int) == 1


@pytest.mark.parametrize("stream_cls", [AsyncStream, First])
async def test_a_dropped_stream_is_collected_at_once(stream_cls: Any) -> None:
    with serve(streaming) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            gc.disable()
            try:
                async for _ in await open_stream(client, stream_cls):
                    break
                await client.get("/", cast_to=int)  # the pool's next event
                assert peer.wait_for_open(1) == 1
            finally:
                gc.enable()


async def test_after_the_terminator_the_connection_is_used_again() -> None:
    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(HEAD + chunk(b'data: {"n": 1}\n\ndata: [DONE]\n\n'))
            peer.server.pause(0.01)
            peer.send(b"0\r\n\r\n")

    with serve(script) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            for _ in range(3):
                assert await collect(await open_stream(client, Done)) == ([Item(1)], None)
        assert peer.connections == 1


async def test_a_server_that_does_not_end_after_the_terminator_is_waited_for_a_moment_only() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD + chunk(b"data: [DONE]\n\n"))
        peer.wait_closed()

    with serve(script) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            began = anyio.current_time()
            assert await collect(await open_stream(client, Done)) == ([], None)
            assert anyio.current_time() - began < 1


async def test_a_chunked_stream_that_breaks_off_is_an_error() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD + chunk(GOOD))

    with serve(script) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            items, error = await collect(await open_stream(client))
    assert items == [Item(1), Item(2)]
    assert isinstance(error, APIConnectionError)


async def test_a_raw_response_of_a_stream_opens_it_once() -> None:
    client = client_of(sse(GOOD))

    async def create(*, extra_headers: Any = None) -> Any:
        return await client.get("/", cast_to=Item, stream=True, options={"headers": extra_headers or {}})

    response = await async_to_raw_response_wrapper(create)()
    stream = await response.parse()
    assert await response.parse() is stream
    assert await collect(stream) == ([Item(1), Item(2)], None)


# --- most events are items at once: nobody who looks at each of them is passed over -----------------------------------

LOOKS = ["is_terminal", "is_last", "is_skipped", "error_of", "value_of"]
THREE = b'data: {"n": 1}\n\nevent: x\ndata: {"n": 2}\n\ndata: {"n": 3}\n\n'
DATA = ['{"n": 1}', '{"n": 2}', '{"n": 3}']


@pytest.mark.parametrize("name", LOOKS)
async def test_a_subclass_that_looks_at_events_sees_each_of_them_once(name: str) -> None:
    seen: list[str] = []

    def look(self: Any, event: ServerSentEvent) -> Any:
        seen.append(event.data)
        return getattr(AsyncStream, name)(self, event)

    cls = type("Looking", (AsyncStream,), {name: look, "terminator": "[DONE]"})
    for sub in (cls, type("Below", (cls,), {})):
        stream = await open_stream(client_of(sse(THREE + b"data: [DONE]\n\n")), sub)
        assert await collect(stream) == ([Item(1), Item(2), Item(3)], None)
        asked_of_the_end = ["[DONE]"] if name in ("is_terminal", "is_skipped") else []
        assert seen == DATA + asked_of_the_end
        seen.clear()


@pytest.mark.parametrize(
    ("name", "said", "items", "ends"),
    [
        ("is_terminal", lambda event: event.event == "x", [1], True),
        ("is_last", lambda event: event.event == "x", [1, 2], True),
        ("is_skipped", lambda event: event.event == "x", [1, 3], True),
        ("error_of", lambda event: {"message": "no"} if event.event == "x" else None, [1], False),
        ("value_of", lambda event: {"n": len(event.data)}, [8, 8, 8], True),
    ],
)
@pytest.mark.parametrize(
    "place",
    [
        "subclass",
        "below a subclass",
        "instance",
        "patch of the library's class",
    ],
)
async def test_what_is_said_of_an_event_in_the_middle_holds(
    place: str, name: str, said: Callable[[Any], Any], items: list[int], ends: bool
) -> None:
    def of_class(self: Any, event: ServerSentEvent) -> Any:
        return said(event)

    def of_instance(self: Any, **given: Any) -> None:
        AsyncStream.__init__(self, **given)
        setattr(self, name, said)

    cls = type("Says", (AsyncStream,), {"__init__": of_instance} if place == "instance" else {})
    if place == "below a subclass":
        cls = type("Below", (type("Says", (AsyncStream,), {name: of_class}),), {})
    patched = {"subclass": cls, "patch of the library's class": AsyncStream}.get(place, type("Nobody", (cls,), {}))
    with mock.patch.object(patched, name, of_class):
        stream = await open_stream(client_of(sse(THREE)), cls)
        found, error = await collect(stream)
    assert [item.n for item in found] == items
    assert (error is None) is ends


async def test_a_fold_sees_each_item() -> None:
    class Sums(AsyncStream[Item]):
        def fold(self, state: Any, item: Item) -> Any:
            return [*(state or []), item.n]

    stream = await open_stream(client_of(sse(THREE)), Sums)
    states = []
    async for _ in stream:
        states.append(list(stream.state))  # noqa: PERF401
    assert states == [[1], [1, 2], [1, 2, 3]]
    assert await (await open_stream(client_of(sse(THREE)), Sums)).get_final() == [1, 2, 3]


async def test_a_terminator_that_an_instance_is_given_later_holds() -> None:
    stream = await open_stream(client_of(sse(THREE)))
    assert await anext(stream) == Item(1)
    stream.terminator = DATA[2]
    assert await collect(stream) == ([Item(2)], None)


async def test_a_decoder_of_ones_own_may_give_events_of_another_kind() -> None:
    @attrs.define
    class Line:
        data: str

        def json(self) -> object:
            return {"n": int(self.data)}

    class Decoder:
        def feed(self, data: bytes) -> list[Line]:
            return [Line(line) for line in data.decode().split()]

    class Client(AsyncAPIClient):
        def _make_sse_decoder(self) -> Any:
            return Decoder()

    transport = MockTransport(lambda request: sse(b"1 2 3"))
    stream = await open_stream(Client(base_url="http://h", http_client=transport))
    assert await collect(stream) == ([Item(1), Item(2), Item(3)], None)


async def test_events_that_have_come_are_items_however_late_they_are_asked_for() -> None:
    stream = await open_stream(client_of(sse(THREE)), event_timeout=0.01)
    found = []
    for _ in range(3):
        found.append(await anext(stream))
        await anyio.sleep(0.03)
    assert found == [Item(1), Item(2), Item(3)]
    await stream.close()


@pytest.mark.parametrize("size", [1, 7, 20, 1000])
async def test_a_loop_that_is_cancelled_again_and_again_misses_no_item(size: int) -> None:
    body = THREE * 4 + b"data: [DONE]\n\n"
    stream = await open_stream(client_of(sse(*(body[i : i + size] for i in range(0, len(body), size)))), Done)
    found: list[Item] = []
    with anyio.fail_after(5):
        for _ in range(200):
            try:
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    found.append(await anext(stream))
                if scope.cancelled_caught:
                    found.append(await anext(stream))
            except StopAsyncIteration:
                break
    assert [item.n for item in found] == [1, 2, 3] * 4


async def test_an_error_in_the_middle_ends_the_stream_and_frees_what_came_after_it() -> None:
    for wrong in (b"event: error\ndata: {}\n\n", b'data: {"error": "no"}\n\n', b"data: {\n\n", b"data: {}\n\n"):
        stream = await open_stream(client_of(sse(THREE + wrong + THREE)), Done)
        found, error = await collect(stream)
        assert [item.n for item in found] == [1, 2, 3]
        assert isinstance(error, APIError)
        assert len(error.attempts) == 1
        assert await collect(stream) == ([], None)
        with pytest.raises(RuntimeError, match="closed before, or failed|failed|closed"):
            await stream.until_done()


class Quick(AsyncStream):  # type: ignore[type-arg]  # the items are of the type that the call says
    """Says nothing of its own about an event."""

    def fold(self, state: Any, item: Any) -> Any:
        return (state or 0) + 1


class Slow(Quick):
    """The same, but it looks at each event, and says of it what the library does."""

    def is_skipped(self, event: Any) -> bool:
        return super().is_skipped(event)


EVENTS = [
    *[b'data: {"n": 1}\n\n', b'id: 5\ndata: {"n": 2}\n\n', b'event: x\ndata: {"n": 3}\n\n'] * 4,
    b"event: error\ndata: {}\n\n", b'event: error\ndata: {"error": {"type": "overloaded_error"}}\n\n', b"event: error\ndata: {\n\n",
    b'data: {"error": null, "n": 1}\n\n', b'data: {"error": "no"}\n\n', b'data: {"n": 1, "m": {"error": 1}}\n\n', b'data: "error"\n\n',
    b"data: [DONE]\n\n", b"data: [DONE] \n\n", b'data: {"n": "x"}\n\n', b'data: {"m": 1}\n\n', b"data: {\n\n", b"data\n\n", b"id: 6\n\n",
    b"id\ndata: 1\n\n", b": c\n\n", b"data: [\ndata: 1]\n\n", b"data: " + b"x" * 200 + b"\n\n",
]  # fmt: skip


async def told(
    base: type[AsyncStream[Any]],
    answers: list[tuple[bytes, list[int], bool]],
    how: dict[str, Any],
    cast_to: Any,
    strict: bool,
) -> list[Any]:
    """Everything that can be seen of a stream, up to its end."""
    left = list(answers)
    asked: list[str | None] = []

    def handler(request: Request) -> Response:
        asked.append(request.headers.get("last-event-id"))
        if not left:
            return Response(204)
        body, cuts, cut = left.pop(0)
        places = [0, *cuts, len(body)]
        parts: list[Any] = [body[a:b] for a, b in zip(places, places[1:], strict=False)]
        if cut:
            parts.append(ConnectionLostError("lost", phase=Phase.BODY, outcome=Outcome.ANSWERED))
        return sse(*parts)

    class Client(AsyncAPIClient):
        max_event_size = 150

    client = Client(base_url="http://h", http_client=MockTransport(handler), retry=RetryPolicy(wait_initial=0))
    seen: list[Any] = []
    try:
        stream = await open_stream(client, type("Given", (base,), how), cast_to, strict=strict)
        async for item in stream:
            seen.append((repr(item), stream.last_event_id, stream.state))  # noqa: PERF401
        seen.append(("end", stream.last_event_id))
        await stream.until_done()
    except Exception as exc:
        seen.append((type(exc), str(exc), getattr(exc, "body", None), len(getattr(exc, "attempts", ()))))
    return [*seen, asked]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("cast_to", [Item, object, str, ServerSentEvent, dict[str, int]])
async def test_each_kind_of_event_in_the_middle_is_the_same_both_ways(cast_to: Any, strict: bool) -> None:
    for event in EVENTS:
        answers: list[tuple[bytes, list[int], bool]] = [(THREE + event + THREE, [], False)]
        for terminator in (None, "[DONE]", DATA[0]):
            how = {"terminator": terminator}
            shown = await told(Quick, answers, how, cast_to, strict)
            assert shown == await told(Slow, answers, how, cast_to, strict)
            assert len(shown) > 3 or terminator == DATA[0]


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, list[int], bool]:
    body = b"".join(draw(st.lists(st.sampled_from(EVENTS), max_size=7)))
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
    return body, cuts, draw(st.sampled_from([False, False, True]))


@given(
    st.lists(bodies(), min_size=1, max_size=3),
    st.sampled_from([None, None, "[DONE]", '{"n": 1}', ""]),
    st.sampled_from([0, 0, 1, 3]),
    st.booleans(),
    st.sampled_from([Item, object, str, ServerSentEvent, dict[str, int]]),
    st.booleans(),
)
@settings(max_examples=examples(200))
def test_the_short_way_and_the_long_one_show_the_same(
    answers: list[tuple[bytes, list[int], bool]],
    terminator: str | None,
    max_resumes: int,
    wait_first_event: bool,
    cast_to: Any,
    strict: bool,
) -> None:
    how = {"terminator": terminator, "max_resumes": max_resumes, "wait_first_event": wait_first_event}

    async def run() -> None:
        assert await told(Quick, answers, how, cast_to, strict) == await told(Slow, answers, how, cast_to, strict)

    anyio.run(run)
