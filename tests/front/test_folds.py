"""What the items of a stream make together, and which of its events are items."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import attrs
import pytest

from anyio_client import (
    APIResponseValidationError,
    AsyncAPIClient,
    AsyncJSONLStream,
    AsyncStream,
    ConnectionLostError,
    DecodeError,
    MockTransport,
    OverloadedError,
    ReadTimeoutError,
    Response,
    RetryPolicy,
    ServerSentEvent,
    StreamTruncatedError,
)
from tests.kit.cancel import How, cancelled_at
from tests.kit.peers import Peer, chunk, serve

pytestmark = pytest.mark.anyio

SSE = {"Content-Type": "text/event-stream"}
DONE = b"data: [DONE]\n\n"


class Words(AsyncStream[str]):
    terminator = "[DONE]"
    max_resumes = 3

    def fold(self, state: str | None, item: str) -> str:
        return (state or "") + item


class Plain(AsyncStream[str]):
    terminator = "[DONE]"


async def pieces(*given: bytes | Exception) -> AsyncIterator[bytes]:
    for piece in given:
        if isinstance(piece, Exception):
            raise piece
        yield piece


def words(*given: str, end: bytes | Exception = DONE) -> Response:
    body = b"".join(b"id: %d\nretry: 0\ndata: %b\n\n" % (n, word.encode()) for n, word in enumerate(given, 1))
    return Response(200, headers=SSE, content=pieces(body, end))


def client_of(*answers: Response) -> AsyncAPIClient:
    left = list(answers)
    transport = MockTransport(lambda request: left.pop(0))
    return AsyncAPIClient(base_url="http://h", http_client=transport, retry=RetryPolicy(wait_initial=0))


async def open_stream(answer: Response, stream_cls: Any = Words, *more: Response, **options: Any) -> Any:
    client = client_of(answer, *more)
    return await client.get("/", cast_to=object, stream=True, stream_cls=stream_cls, options=options)


# --- fold, state, get_final, until_done ------------------------------------------------------------------------------


async def test_the_state_is_what_fold_has_made_so_far() -> None:
    stream = await open_stream(words("a", "b", "c"))
    assert stream.state is None
    seen = [(item, stream.state) async for item in stream]
    assert seen == [("a", "a"), ("b", "ab"), ("c", "abc")]
    assert stream.state == "abc"


async def test_get_final_reads_to_the_end_and_gives_the_state() -> None:
    stream = await open_stream(words("a", "b", "c"))
    assert await stream.get_final() == "abc"
    assert await stream.get_final() == "abc"  # what it made stays
    assert [item async for item in stream] == []


async def test_items_that_were_taken_before_count_too() -> None:
    stream = await open_stream(words("a", "b", "c"))
    assert await anext(stream) == "a"
    assert await stream.get_final() == "abc"


async def test_get_final_after_the_end() -> None:
    stream = await open_stream(words("a", "b"))
    assert [item async for item in stream] == ["a", "b"]
    assert await stream.get_final() == "ab"


async def test_a_stream_without_items_has_the_state_none() -> None:
    assert await (await open_stream(words())).get_final() is None
    assert await (await open_stream(Response(204))).get_final() is None
    assert await (await open_stream(words(), Plain)).get_final(lambda state, item: 1, initial=7) == 7


async def test_a_fold_that_was_given_sees_all_items() -> None:
    for stream_cls in (Plain, Words):
        stream = await open_stream(words("a", "b", "c"), stream_cls)
        assert await stream.get_final(lambda state, item: [*state, item.upper()], []) == ["A", "B", "C"]
        stream = await open_stream(words("a", "b"), stream_cls)
        assert await stream.get_final(lambda state, item: (state, item)) == ((None, "a"), "b")


async def test_a_fold_that_was_given_too_late_is_refused() -> None:
    for taken in (1, 3):
        stream = await open_stream(words("a", "b", "c"), Plain)
        for _ in range(taken):
            await anext(stream)
        with pytest.raises(RuntimeError, match="items were taken before"):
            await stream.get_final(lambda state, item: item)
        await stream.close()


async def test_without_a_fold_it_is_a_type_error_that_says_so_and_nothing_is_read() -> None:
    stream = await open_stream(words("a"), Plain)
    with pytest.raises(TypeError, match=r"Plain must define fold\(self, state, item\)"):
        await stream.get_final()
    assert [item async for item in stream] == ["a"]
    assert stream.state is None


async def test_until_done_reads_to_the_end() -> None:
    for stream_cls in (Plain, Words):
        stream = await open_stream(words("a", "b"), stream_cls)
        await anext(stream)
        await stream.until_done()
        await stream.until_done()
        assert [item async for item in stream] == []


async def test_of_a_stream_that_was_closed_nothing_final_is_known() -> None:
    stream = await open_stream(words("a", "b"))
    await anext(stream)
    await stream.close()
    for wait in (stream.until_done, stream.get_final):
        with pytest.raises(RuntimeError, match="before its end"):
            await wait()
    assert stream.state == "a"
    stream = await open_stream(words("a", "b"), Plain)
    await stream.close()
    with pytest.raises(RuntimeError, match="before its end"):
        await stream.get_final(lambda state, item: item)


@pytest.mark.parametrize(
    ("end", "cls"),
    [
        (b"", StreamTruncatedError),
        (ConnectionLostError("lost"), ConnectionLostError),
        (b'event: error\ndata: {"error": {"type": "overloaded_error"}}\n\n', OverloadedError),
        (b"data: {\n\n", APIResponseValidationError),
    ],
)
async def test_a_stream_that_fails_has_no_final_state(end: Any, cls: type) -> None:
    class Joined(AsyncStream[object]):
        terminator = "[DONE]"

        def fold(self, state: str | None, item: object) -> str:
            return f"{state or ''}{item}"

    for method in ("get_final", "until_done"):
        stream = await open_stream(words('"a"', '"b"', end=end), Joined)
        with pytest.raises(cls) as caught:
            await getattr(stream, method)()
        assert type(caught.value) is cls
        assert stream.state == "ab"  # what came before stays
        with pytest.raises(RuntimeError, match="before its end"):
            await getattr(stream, method)()


async def test_a_fold_goes_on_over_a_resume() -> None:
    lost = ConnectionLostError("lost")
    answers = (words("a", "b", end=lost), words("c", end=b""), words("d"))
    stream = await open_stream(answers[0], Words, *answers[1:])
    assert await stream.get_final() == "abcd"
    answers = (words("a", "b", end=lost), words("c"))
    stream = await open_stream(answers[0], Words, *answers[1:])
    assert await stream.get_final(lambda state, item: [*state, item], []) == ["a", "b", "c"]


async def test_an_exception_of_fold_comes_out_as_it_is_and_frees_the_connection() -> None:
    class Broken(Words):
        def fold(self, state: Any, item: str) -> Any:
            raise error

    error = ZeroDivisionError()

    def script(peer: Peer) -> None:
        peer.read_request()
        body = b"data: a\n\n"
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 999\r\n\r\n" + body)
        peer.wait_closed()

    with serve(script) as server:
        async with AsyncAPIClient(base_url=server.url) as client:
            stream: Any = await client.get("/", cast_to=object, stream=True, stream_cls=Broken)
            with pytest.raises(ZeroDivisionError) as caught:
                await anext(stream)
            assert caught.value is error
            assert server.wait_for_open(0) == 0

    stream = await open_stream(words("a", "b"), Plain)
    with pytest.raises(ZeroDivisionError):
        await stream.get_final(lambda state, item: 1 // 0)
    await stream.close()


async def test_a_state_may_be_of_any_kind() -> None:
    @attrs.define
    class Message:
        text: str = ""
        count: int = 0

    class Messages(AsyncStream[dict[str, str]]):
        def fold(self, state: Message | None, item: dict[str, str]) -> Message:
            state = state or Message()
            state.text += item["delta"]
            state.count += 1
            return state

    stream = await open_stream(words('{"delta": "a"}', '{"delta": "b"}', end=b""), Messages)
    assert await stream.get_final() == Message("ab", 2)


async def test_json_lines_fold_as_well() -> None:
    class Sum(AsyncJSONLStream[int]):
        def fold(self, state: int | None, item: int) -> int:
            return (state or 0) + item

    stream = await open_stream(Response(200, content=pieces(b"1\n2\n\n", b"3")), Sum)
    assert await stream.get_final() == 6


async def test_a_cancelled_get_final_may_be_taken_up_again() -> None:
    send, receive = anyio.create_memory_object_stream[bytes](10)

    class Body:
        def __aiter__(self) -> Body:
            return self

        async def __anext__(self) -> bytes:
            try:
                return await receive.receive()
            except anyio.EndOfStream:
                raise StopAsyncIteration from None

    stream = await open_stream(Response(200, headers=SSE, content=Body()))
    await send.send(b"data: a\n\ndata: ")
    with anyio.move_on_after(0.03):
        await stream.get_final()
    assert stream.state == "a"
    await send.send(b"b\n\n" + DONE)
    assert await stream.get_final() == "ab"
    send.close()
    receive.close()


# --- is_skipped ------------------------------------------------------------------------------------------------------


class NoPings(Words):
    max_resumes = 0

    def is_skipped(self, event: ServerSentEvent) -> bool:
        return event.event == "ping"


PING = b"event: ping\ndata: {}\n\n"


async def test_events_may_be_skipped() -> None:
    body = PING + b"data: a\n\n" + PING + PING + b"data: b\n\n" + PING + DONE
    for size in (1, 7, len(body)):
        answer = Response(200, headers=SSE, content=pieces(*(body[i : i + size] for i in range(0, len(body), size))))
        stream = await open_stream(answer, NoPings)
        assert await stream.get_final() == "ab"
    answer = Response(200, headers=SSE, content=pieces(PING, PING))
    stream = await open_stream(answer, NoPings)
    with pytest.raises(StreamTruncatedError):
        await anext(stream)


async def test_a_skipped_event_is_not_decoded_but_its_id_counts() -> None:
    class Strings(NoPings):
        max_resumes = 1

    first = Response(200, headers=SSE, content=pieces(b"id: 1\nretry: 0\ndata: a\n\nid: 2\nevent: ping\ndata: [\n\n"))
    stream = await open_stream(first, Strings, words("b"))
    assert await anext(stream) == "a"
    assert await anext(stream) == "b"
    assert stream.response.request.headers["last-event-id"] == "2"
    await stream.close()


async def test_a_skipped_event_does_not_count_as_an_item_for_the_event_timeout() -> None:
    async def pings() -> AsyncIterator[bytes]:
        yield b"data: a\n\n"
        while True:
            await anyio.sleep(0.02)
            yield PING

    stream = await open_stream(Response(200, headers=SSE, content=pings()), NoPings, event_timeout=0.1)
    assert await anext(stream) == "a"
    with anyio.fail_after(5):
        with pytest.raises(ReadTimeoutError, match="event_timeout"):
            await anext(stream)


async def test_a_call_that_waits_for_the_first_event_waits_for_the_first_that_counts() -> None:
    class First(NoPings):
        wait_first_event = True

    busy = b'event: error\ndata: {"error": {"type": "overloaded_error"}}\n\n'
    first = Response(200, headers=SSE, content=pieces(PING, busy))
    stream = await open_stream(first, First, words("a"))  # the error is retried
    assert await stream.get_final() == "a"


async def test_lines_of_json_may_be_skipped_too() -> None:
    class Lines(AsyncJSONLStream[Any]):
        def is_skipped(self, event: Any) -> bool:
            return bool(event.data.startswith("#"))

    stream = await open_stream(Response(200, content=pieces(b"# head\n1\n# more\n2")), Lines)
    assert [item async for item in stream] == [1, 2]


async def test_by_default_none_is_skipped() -> None:
    stream = await open_stream(Response(200, headers=SSE, content=pieces(PING)), AsyncStream[ServerSentEvent])
    assert [event.event async for event in stream] == ["ping"]


# --- value_of --------------------------------------------------------------------------------------------------------


@attrs.define
class Item:
    n: int


class Inner(AsyncStream[Item]):
    def value_of(self, event: ServerSentEvent) -> object:
        value: Any = event.json()
        return value["payload"] if event.event == "wrapped" else value


async def test_a_class_says_which_value_becomes_the_item() -> None:
    body = b'event: wrapped\ndata: {"payload": {"n": 1}}\n\ndata: {"n": 2}\n\n'
    stream = await open_stream(Response(200, headers=SSE, content=pieces(body)), Inner)
    assert [item async for item in stream] == [Item(1), Item(2)]


async def test_the_value_need_not_be_json() -> None:
    class Pairs(AsyncStream[Item]):
        def value_of(self, event: ServerSentEvent) -> object:
            return {"n": int(event.data)}

    stream = await open_stream(Response(200, headers=SSE, content=pieces(b"data: 7\n\ndata: x\n\n")), Pairs)
    assert await anext(stream) == Item(7)
    with pytest.raises(APIResponseValidationError) as caught:  # a ValueError means: it is not what it should be
        await anext(stream)
    assert caught.value.body == "x"
    assert isinstance(caught.value.__cause__, ValueError)


async def test_what_does_not_fit_is_told_by_the_value() -> None:
    body = b'event: wrapped\ndata: {"payload": {"m": 1}}\n\n'
    stream = await open_stream(Response(200, headers=SSE, content=pieces(body)), Inner)
    with pytest.raises(DecodeError) as caught:
        await anext(stream)
    assert (caught.value.problems, caught.value.body) == (["$.n: missing"], {"m": 1})


async def test_any_other_exception_comes_out_as_it_is() -> None:
    stream = await open_stream(Response(200, headers=SSE, content=pieces(b"event: wrapped\ndata: {}\n\n")), Inner)
    with pytest.raises(KeyError, match="payload"):
        await anext(stream)
    assert [item async for item in stream] == []


async def test_a_line_of_json_has_a_value_as_well() -> None:
    class Lines(AsyncJSONLStream[Item]):
        def value_of(self, event: Any) -> object:
            return {"n": event.number}

    stream = await open_stream(Response(200, content=pieces(b"x\n\ny")), Lines)
    assert [item async for item in stream] == [Item(1), Item(3)]


# --- an event that ends the stream and is an item ------------------------------------------------------------------


class UntilStop(AsyncStream[str]):
    def is_last(self, event: ServerSentEvent) -> bool:
        return event.event == "stop"

    def fold(self, state: str | None, item: str) -> str:
        return (state or "") + item


class UntilStopAtOnce(UntilStop):
    wait_first_event = True


STOP = b"event: stop\ndata: c\n\n"


@pytest.mark.parametrize("stream_cls", [UntilStop, UntilStopAtOnce])
@pytest.mark.parametrize(
    ("body", "items"),
    [
        (b"data: a\n\ndata: b\n\n" + STOP, ["a", "b", "c"]),
        (b"data: a\n\n" + STOP + b"data: after\n\n", ["a", "c"]),
        (STOP, ["c"]),
    ],
)
async def test_the_last_event_is_an_item(stream_cls: type[UntilStop], body: bytes, items: list[str]) -> None:
    client = client_of(Response(200, headers=SSE, content=pieces(body)))
    stream = await client.get("/", cast_to=str, stream=True, stream_cls=stream_cls)
    assert [item async for item in stream] == items
    assert await stream.get_final() == "".join(items)
    assert stream.response.is_closed
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_without_the_last_event_it_was_cut() -> None:
    client = client_of(Response(200, headers=SSE, content=pieces(b"data: a\n\n")))
    stream = await client.get("/", cast_to=str, stream=True, stream_cls=UntilStop)
    assert await anext(stream) == "a"
    with pytest.raises(StreamTruncatedError):
        await anext(stream)
    with pytest.raises(RuntimeError, match="before its end"):
        await stream.until_done()


@pytest.mark.parametrize("how", ["scope", "native"])
async def test_cancelled_anywhere_the_last_item_is_not_lost(how: How, anyio_backend_name: str) -> None:
    """The server does not end its answer: to close takes a while, in which no item may be on its way."""
    if how == "native" and anyio_backend_name != "asyncio":
        how = "scope"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(head + chunk(b"data: a\n\n" + STOP))

    with serve(script) as server:
        async with AsyncAPIClient(base_url=server.url) as client:
            for n in range(1, 50):
                stream = await client.get("/", cast_to=str, stream=True, stream_cls=UntilStop)
                items: list[str] = []

                async def read() -> None:
                    items.extend([item async for item in stream])

                async def one_by_one() -> None:
                    async for item in stream:
                        items.append(item)  # noqa: PERF401

                reached = await cancelled_at(n, how, one_by_one)
                await read()
                assert items == ["a", "c"]
                assert stream.state == "ac"
                if not reached:
                    break
            else:
                raise AssertionError("it never came to its end")
            assert n > 1


@pytest.mark.parametrize(
    ("headers", "client_headers", "accept"),
    [
        ({}, {}, "text/event-stream"),
        ({"accept": "application/json"}, {}, "application/json"),  # the request's own stands, whatever it says
        ({"Accept": "text/plain"}, {}, "text/plain"),
        ({}, {"Accept": "text/x"}, "text/x"),
    ],
)
async def test_which_accept_a_stream_sends(
    headers: dict[str, str], client_headers: dict[str, str], accept: str
) -> None:
    seen: list[str] = []

    def server(request: Any) -> Response:
        seen.append(request.headers["accept"])
        return Response(200, headers=SSE, content=pieces(STOP))

    client = AsyncAPIClient(base_url="http://h", http_client=MockTransport(server), custom_headers=client_headers)
    stream = await client.get("/", cast_to=str, stream=True, stream_cls=UntilStop, options={"headers": headers})
    await stream.until_done()
    await client.get("/", cast_to=str)
    assert seen == [accept, client_headers.get("Accept", "application/json")]
