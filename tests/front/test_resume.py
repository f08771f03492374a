"""Streams that go on after they were cut: what is asked for again, when, and how often."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyio_client import (
    APIConnectionError,
    APIResponseValidationError,
    AsyncAPIClient,
    AsyncJSONLStream,
    AsyncStream,
    AuthenticationError,
    ConnectionLostError,
    ContentDecodingError,
    DeadlineExceededError,
    DecodeError,
    InternalServerError,
    MockTransport,
    NotFoundError,
    Outcome,
    OverloadedError,
    Phase,
    ReadTimeoutError,
    Request,
    RequestOptions,
    Response,
    RetryPolicy,
    ServerSentEvent,
    StreamTruncatedError,
    Timeout,
)
from anyio_client.sansio import SSEDecoder
from tests.conftest import BACKENDS
from tests.kit.cancel import How, cancelled_at
from tests.kit.fuzz import examples
from tests.kit.leaks import task_count
from tests.kit.peers import Peer, chunk, ok, serve

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]

SSE = {"Content-Type": "text/event-stream"}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was waited, in seconds; nothing really is."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(anyio, "sleep", sleep)
    return waited


class Numbers(AsyncStream[int]):
    terminator = "[DONE]"
    max_resumes = 2


class Open(AsyncStream[int]):
    """Has no end of its own: the server says 204, as with browsers."""

    max_resumes = 2


class Raw(AsyncStream[ServerSentEvent]):
    terminator = "[DONE]"
    max_resumes = 2


class First(Numbers):
    wait_first_event = True


async def pieces(*given: bytes | Exception) -> AsyncIterator[bytes]:
    for piece in given:
        if isinstance(piece, Exception):
            raise piece
        yield piece


def lost() -> ConnectionLostError:
    return ConnectionLostError("lost", phase=Phase.BODY, outcome=Outcome.ANSWERED)


def sse(*given: bytes | Exception) -> Response:
    return Response(200, headers=SSE, content=pieces(*given))


def events(*ids: int, cut: bool = True) -> Response:
    """Events 1.. with these ids; then the connection is lost, or the terminator comes."""
    body = b"".join(b"id: %d\ndata: %d\n\n" % (n, n) for n in ids)
    return sse(body, lost() if cut else DONE)


class Server:
    """Gives these answers one after the other; keeps the requests."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Any:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def asked_for(self) -> list[str | None]:
        return [request.headers.get("last-event-id") for request in self.requests]

    def client(self, cls: type[AsyncAPIClient] = AsyncAPIClient, **options: Any) -> AsyncAPIClient:
        defaults: dict[str, Any] = {
            "base_url": "http://h",
            "http_client": MockTransport(self),
            "retry": RetryPolicy(wait_initial=0),
        }
        return cls(**{**defaults, **options})


async def open_stream(client: AsyncAPIClient, stream_cls: Any = Numbers, method: str = "get", **options: Any) -> Any:
    call = getattr(client, method)
    return await call("/events", cast_to=object, stream=True, stream_cls=stream_cls, options=options)


async def collect(stream: Any) -> tuple[list[Any], Any]:
    """The items, and the error that ended the stream."""
    items = []
    try:
        async for item in stream:
            items.append(item)  # noqa: PERF401 (what came before an error counts)
    except Exception as exc:
        return items, exc
    return items, None


# --- what is asked for again -----------------------------------------------------------------------------------------


async def test_a_stream_that_was_cut_goes_on_after_the_last_event() -> None:
    server = Server(events(1, 2), events(3), events(4, cut=False))
    stream = await open_stream(server.client())
    assert await collect(stream) == ([1, 2, 3, 4], None)
    assert server.asked_for == [None, "2", "3"]
    await stream.until_done()


async def test_by_default_nothing_is_asked_for_again() -> None:
    class Never(Numbers):
        max_resumes = AsyncStream.max_resumes

    assert Never.max_resumes == 0
    server = Server(events(1))
    items, error = await collect(await open_stream(server.client(), Never))
    assert (items, type(error), len(server.requests)) == ([1], ConnectionLostError, 1)


async def test_the_request_is_the_first_one_again() -> None:
    server = Server(events(1), events(2, cut=False))
    client = server.client(auth="t", custom_headers={"X-Client": "c"}, custom_query={"q": 1})
    options = {"params": {"p": [1, 2]}, "headers": {"X-Own": "o", "last-event-id": "0"}, "idempotency_key": "k"}
    assert await collect(await open_stream(client, **options)) == ([1, 2], None)
    first, second = server.requests
    assert (second.method, second.url) == (first.method, first.url)
    assert first.headers.get_list("last-event-id") == ["0"]
    assert second.headers.get_list("last-event-id") == ["1"]
    for request in server.requests:
        del request.headers["last-event-id"]
    assert dict(second.headers) == dict(first.headers)
    assert options["headers"] == {"X-Own": "o", "last-event-id": "0"}


async def test_timeouts_and_the_event_timeout_hold_for_the_rest_too() -> None:
    seen: list[Timeout] = []
    server = Server(events(1), sse(b": c\n\n", *[b": c\n\n"]), events(2, cut=False))

    class Transport(MockTransport):
        async def send(self, request: Request, *, timeout: Timeout, deadline: float | None) -> Response:
            seen.append(timeout)
            return await super().send(request, timeout=timeout, deadline=deadline)

    client = server.client(http_client=Transport(server))
    assert await collect(await open_stream(client, timeout=7)) == ([1, 2], None)
    assert seen == [Timeout(7)] * 3


async def test_an_end_before_the_terminator_is_a_cut() -> None:
    server = Server(sse(b"id: 1\ndata: 1\n\n"), sse(b"id: 2\ndata: 2\n\n", DONE))
    assert await collect(await open_stream(server.client())) == ([1, 2], None)
    assert server.asked_for == [None, "1"]

    class Stop(AsyncStream[int]):
        max_resumes = 1

        def is_terminal(self, event: ServerSentEvent) -> bool:
            return event.event == "stop"

    server = Server(sse(b"id: 1\ndata: 1\n\n"), sse(b"data: 2\n\nevent: stop\ndata:\n\n"))
    assert await collect(await open_stream(server.client(), Stop)) == ([1, 2], None)


async def test_a_stream_that_says_no_end_goes_on_until_the_server_has_no_content() -> None:
    for status in (204, 205):
        server = Server(sse(b"id: 1\ndata: 1\n\n"), sse(b"id: 2\ndata: 2\n\n"), Response(status))
        stream = await open_stream(server.client(), Open)
        assert await collect(stream) == ([1, 2], None)
        assert server.asked_for == [None, "1", "2"]
        await stream.until_done()


async def test_no_content_ends_a_stream_that_waits_for_its_terminator_as_well() -> None:
    server = Server(events(1), Response(204))
    stream = await open_stream(server.client())
    assert await collect(stream) == ([1], None)
    await stream.until_done()


async def test_the_event_timeout_is_a_cut() -> None:
    async def silent() -> AsyncIterator[bytes]:
        yield b"id: 1\ndata: 1\n\n"
        while True:
            await anyio.sleep(0.01)
            yield b": still here\n\n"

    server = Server(Response(200, headers=SSE, content=silent()), events(2, cut=False))
    with anyio.fail_after(5):
        assert await collect(await open_stream(server.client(), event_timeout=0.1)) == ([1, 2], None)
    assert server.asked_for == [None, "1"]

    server = Server(*(Response(200, headers=SSE, content=silent()) for _ in range(1)))
    items, error = await collect(await open_stream(server.client(), AsyncStream[int], event_timeout=0.05))
    assert (items, type(error)) == ([1], ReadTimeoutError)


# --- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "asked_for"),
    [
        (b"id: 1\ndata: 1\n\nid: 2\ndata: 2", "1"),  # the event is not complete
        (b"id: 1\ndata: 1\n\nid: 2\ndata: 2\n", "1"),
        (b"id: 1\ndata: 1\n\nid: 2\n\n", "2"),  # complete, although it has no data
        (b"id: 1\ndata: 1\n\ndata: 2\n\n", "1"),  # an id holds until there is another
        (b"id: 1\ndata: 1\n\n: comment\n\n", "1"),
        (b"id: 1\ndata: 1\n\nid: 2\0\ndata: 2\n\n", "1"),  # no id
        (b"id: a b:c\ndata: 1\n\n", "a b:c"),
        ("id: é☃\ndata: 1\n\n".encode(), "é☃"),
    ],
)
async def test_the_id_that_counts_is_that_of_the_last_complete_event(body: bytes, asked_for: str) -> None:
    server = Server(sse(body, lost()), sse(DONE))
    stream = await open_stream(server.client())
    _, error = await collect(stream)
    assert error is None
    assert stream.last_event_id == asked_for
    value = dict(server.requests[1].headers.raw)[b"Last-Event-ID"]
    assert value == asked_for.encode()  # UTF-8 (WHATWG HTML section 9.2.3)


async def test_an_id_holds_over_a_resume() -> None:
    server = Server(sse(b"id: 7\ndata: 1\n\n", lost()), sse(b"data: 2\n\n", lost()), sse(b"data: 3\n\n", DONE))
    stream = await open_stream(server.client(), Raw)
    items, error = await collect(stream)
    assert error is None
    assert [(event.data, event.id) for event in items] == [("1", "7"), ("2", "7"), ("3", "7")]
    assert server.asked_for == [None, "7", "7"]
    assert stream.last_event_id == "7"


async def test_without_an_id_the_error_comes_out() -> None:
    server = Server(sse(b"data: 1\n\n", cut := lost()))
    stream = await open_stream(server.client())
    assert await collect(stream) == ([1], cut)
    assert stream.last_event_id is None
    server = Server(sse(b"data: 1\n\n"))
    items, error = await collect(await open_stream(server.client()))
    assert (items, type(error)) == ([1], StreamTruncatedError)


async def test_an_empty_id_is_not_sent() -> None:
    # WHATWG HTML section 9.2.3: "If the EventSource object's last event ID string is not the empty string, then: set
    # `Last-Event-ID`". An id that was reset is no place to go on from.
    server = Server(sse(b"id: 1\ndata: 1\n\nid\ndata: 2\n\n", lost()), sse(DONE))
    await collect(await open_stream(server.client()))
    assert "" not in server.asked_for


@pytest.mark.parametrize("wrong", [b"a\x01b", b"\x7f", b"\x1b[0m"])
async def test_an_id_that_no_header_can_hold_is_no_place_to_go_on_from(wrong: bytes) -> None:
    # The server wrote it: neither the caller's mistake (ValueError) nor a reason to hide what happened.
    server = Server(sse(b"id: " + wrong + b"\ndata: 1\n\n", cut := lost()), sse(DONE))
    items, error = await collect(await open_stream(server.client()))
    assert items == [1]
    assert error is cut


async def test_json_lines_have_no_ids() -> None:
    class Lines(AsyncJSONLStream[int]):
        max_resumes = 2

    server = Server(Response(200, content=pieces(b"1\n", cut := lost())))
    assert await collect(await open_stream(server.client(), Lines)) == ([1], cut)


async def test_a_decoder_of_ones_own_says_where_to_go_on() -> None:
    class Decoder:
        """Lines "id value"; after a resume the server goes on by itself."""

        def __init__(self) -> None:
            self.last_event_id: str | None = None
            self.rest = b""

        def feed(self, data: bytes) -> list[ServerSentEvent]:
            *lines, self.rest = (self.rest + data).split(b"\n")
            found = []
            for line in lines:
                self.last_event_id, _, value = line.decode().partition(" ")
                found.append(ServerSentEvent(None, value, self.last_event_id))
            return found

    class Client(AsyncAPIClient):
        def _make_sse_decoder(self) -> Any:
            made.append(Decoder())
            return made[-1]

    made: list[Decoder] = []
    server = Server(sse(b"a 1\nb 2\nc", lost()), sse(b"c 3\nd [DO", b"NE]\n"))
    assert await collect(await open_stream(server.client(Client))) == ([1, 2, 3], None)
    assert server.asked_for == [None, "b"]
    assert len(made) == 2  # half an event of the first connection is not the second's beginning

    class Forgetful:
        def feed(self, data: bytes) -> list[ServerSentEvent]:
            return [ServerSentEvent(None, "1", "7")]

    class Other(AsyncAPIClient):
        def _make_sse_decoder(self) -> Any:
            return Forgetful()

    server = Server(sse(b"x", cut := lost()))
    assert await collect(await open_stream(server.client(Other))) == ([1], cut)


async def test_a_subclass_of_the_decoder_goes_on_with_the_id() -> None:
    class Shouting(SSEDecoder):
        def feed(self, chunk: bytes) -> Any:
            return super().feed(chunk.replace(b"DATA", b"data"))

    class Client(AsyncAPIClient):
        def _make_sse_decoder(self) -> Any:
            return Shouting()

    server = Server(sse(b"id: 7\nDATA: 1\n\n", lost()), sse(lost()), sse(b"DATA: 2\n\n", DONE))
    assert await collect(await open_stream(server.client(Client))) == ([1, 2], None)
    assert server.asked_for == [None, "7", "7"]


# --- how often -------------------------------------------------------------------------------------------------------


async def test_the_count_is_of_cuts_in_a_row() -> None:
    last = lost()
    server = Server(events(1), sse(lost()), sse(b": c\n", last), events(9, cut=False))
    items, error = await collect(await open_stream(server.client()))
    assert (items, error) == ([1], last)
    assert server.asked_for == [None, "1", "1"]  # two, and no third

    server = Server(events(1), sse(lost()), events(2), sse(lost()), events(3), sse(lost()), events(4, cut=False))
    assert await collect(await open_stream(server.client())) == ([1, 2, 3, 4], None)
    assert len(server.requests) == 7


async def test_the_cut_that_ends_it_is_the_last_one() -> None:
    server = Server(events(1), sse(lost()), sse())
    items, error = await collect(await open_stream(server.client()))
    assert (items, type(error)) == ([1], StreamTruncatedError)
    server = Server(sse(b"id: 1\ndata: 1\n\n"), sse(), sse())
    items, error = await collect(await open_stream(server.client(), Open))
    assert (items, type(error)) == ([1], StreamTruncatedError)


async def test_after_an_error_the_stream_is_over() -> None:
    server = Server(events(1), sse(lost()), sse(lost()))
    stream = await open_stream(server.client())
    await collect(stream)
    assert await collect(stream) == ([], None)
    with pytest.raises(RuntimeError, match="before its end"):
        await stream.until_done()
    assert len(server.requests) == 3


async def test_a_closed_stream_is_not_asked_for_again() -> None:
    server = Server(events(1))
    async with await open_stream(server.client()) as stream:
        await anext(stream)
    assert await collect(stream) == ([], None)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "cls"),
    [
        (b"id: 2\ndata: x\n\n", APIResponseValidationError),
        (b'id: 2\ndata: "x"\n\n', DecodeError),
        (b'event: error\nid: 2\ndata: {"error": {"type": "overloaded_error"}}\n\n', OverloadedError),
    ],
)
async def test_what_is_no_cut_is_not_asked_for_again(body: bytes, cls: type) -> None:
    server = Server(sse(b"id: 1\ndata: 1\n\n" + body, lost()))
    items, error = await collect(await open_stream(server.client()))
    assert (items, type(error), len(server.requests)) == ([1], cls, 1)


async def test_a_content_coding_that_cannot_be_undone_is_no_cut() -> None:
    answer = Response(200, headers={**SSE, "Content-Encoding": "gzip"}, content=pieces(b"no gzip"))
    server = Server(answer)
    items, error = await collect(await open_stream(server.client()))
    assert (items, type(error), len(server.requests)) == ([], ContentDecodingError, 1)


# --- which requests --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
async def test_only_a_get_is_repeated_by_itself(method: str) -> None:
    server = Server(sse(b"id: 1\ndata: 1\n\n", cut := lost()))
    assert await collect(await open_stream(server.client(), method=method)) == ([1], cut)
    assert len(server.requests) == 1


async def test_a_stream_class_says_how_it_goes_on() -> None:
    given: list[tuple[str, str]] = []

    class Mine(Numbers):
        def resume_options(self, options: RequestOptions, last_event_id: str) -> RequestOptions:
            given.append((options.method, last_event_id))
            body: Any = options.json_data
            return attrs.evolve(options, json_data={**body, "after": last_event_id})

    server = Server(events(1), events(2), events(3, cut=False))
    client = server.client()
    stream: Any = await client.post("/x", cast_to=object, body={"a": iter([1])}, stream=True, stream_cls=Mine)
    assert await collect(stream) == ([1, 2, 3], None)
    # Each time it changes the request of before: what it wrote then stands there.
    assert [request.json() for request in server.requests] == [
        {"a": [1]},
        {"a": [1], "after": "1"},
        {"a": [1], "after": "2"},
    ]
    assert given == [("POST", "1"), ("POST", "2")]
    assert server.asked_for == [None, None, None]


async def test_it_may_go_on_elsewhere_or_not_at_all() -> None:
    class Elsewhere(Numbers):
        def resume_options(self, options: RequestOptions, last_event_id: str) -> RequestOptions | None:
            if last_event_id == "2":
                return None
            return RequestOptions(method="GET", url=f"/rest/{last_event_id}")

    server = Server(events(1), sse(b"id: 2\ndata: 2\n\n", cut := lost()))
    assert await collect(await open_stream(server.client(), Elsewhere, method="post")) == ([1, 2], cut)
    assert [(request.method, request.url.path) for request in server.requests] == [
        ("POST", "/events"),
        ("GET", "/rest/1"),
    ]


async def test_an_exception_of_ones_own_comes_out_as_it_is() -> None:
    class Broken(Numbers):
        def resume_options(self, options: RequestOptions, last_event_id: str) -> RequestOptions | None:
            raise error

    error = ZeroDivisionError()
    server = Server(events(1))
    assert await collect(await open_stream(server.client(), Broken)) == ([1], error)


async def test_a_stream_that_was_opened_by_its_first_event_goes_on_too() -> None:
    server = Server(events(1), events(2), events(3, cut=False))
    assert await collect(await open_stream(server.client(), First)) == ([1, 2, 3], None)
    assert server.asked_for == [None, "1", "2"]


# --- the wait --------------------------------------------------------------------------------------------------------


async def test_the_server_says_how_long_to_wait(waits: list[float]) -> None:
    for retry, seconds in ((b"0", 0.0), (b"1500", 1.5), (b"10", 0.01)):
        waits.clear()
        server = Server(sse(b"id: 1\nretry: " + retry + b"\ndata: 1\n\n", lost()), events(2, cut=False))
        assert await collect(await open_stream(server.client())) == ([1, 2], None)
        assert waits == [seconds]


async def test_what_it_said_holds_for_later_cuts_too(waits: list[float]) -> None:
    # The reconnection time belongs to the event source, not to one connection (WHATWG HTML section 9.2.2).
    server = Server(sse(b"id: 1\nretry: 250\ndata: 1\n\n", lost()), events(2), sse(lost()), events(3, cut=False))
    client = server.client(retry=RetryPolicy(wait_initial=9))
    assert await collect(await open_stream(client)) == ([1, 2, 3], None)
    assert waits == [0.25] * 3


async def test_otherwise_the_wait_grows_as_between_retries(waits: list[float]) -> None:
    class Patient(Numbers):
        max_resumes = 5

    policy = RetryPolicy(wait_initial=0.5, wait_max=3, wait_jitter=0)
    server = Server(events(1), *(sse(lost()) for _ in range(4)), events(2), sse(lost()), events(3, cut=False))
    assert await collect(await open_stream(server.client(retry=policy), Patient)) == ([1, 2, 3], None)
    assert waits == [0.5, 1, 2, 3, 3, 0.5, 1]  # an event begins a new row


async def test_the_wait_is_really_waited() -> None:
    server = Server(sse(b"id: 1\nretry: 120\ndata: 1\n\n", lost()), events(2, cut=False))
    stream = await open_stream(server.client())
    assert await anext(stream) == 1
    began = anyio.current_time()
    assert await anext(stream) == 2
    assert 0.1 < anyio.current_time() - began < 1


async def test_a_long_wait_is_begun_and_a_too_long_one_is_not() -> None:
    for milliseconds in (b"99999", b"119999"):
        server = Server(sse(b"id: 1\nretry: " + milliseconds + b"\ndata: 1\n\n", lost()))
        stream = await open_stream(server.client())
        assert await anext(stream) == 1
        with anyio.move_on_after(0.02) as scope:
            await anext(stream)
        assert scope.cancelled_caught
        await stream.close()
    # As between retries: what is above the policy's wait_server_max is not waited for.
    for milliseconds in (b"120001", b"9" * 12, b"9" * 19):
        server = Server(sse(b"id: 1\nretry: " + milliseconds + b"\ndata: 1\n\n", cut := lost()))
        with anyio.fail_after(5):
            assert await collect(await open_stream(server.client())) == ([1], cut)


async def test_each_resume_is_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "anyio_client"):
        server = Server(sse(b"id: secret\ndata: 1\n\n", lost()), events(2, cut=False))
        await collect(await open_stream(server.client(auth="secret"), params={"q": "secret"}))
    assert [record.getMessage() for record in caplog.records] == ["resume 1 of 2 in 0 s: lost"]


# --- the deadline ----------------------------------------------------------------------------------------------------


async def test_the_deadline_is_one_absolute_time() -> None:
    seen: list[float | None] = []
    server = Server(events(1), events(2), events(3, cut=False))

    class Transport(MockTransport):
        async def send(self, request: Request, *, timeout: Timeout, deadline: float | None) -> Response:
            seen.append(deadline)
            return await super().send(request, timeout=timeout, deadline=deadline)

    client = server.client(http_client=Transport(server), deadline=20)
    began = anyio.current_time()
    stream = await open_stream(client)
    items = []
    async for item in stream:
        items.append(item)
        await anyio.sleep(0.05)
    assert items == [1, 2, 3]
    assert len(seen) == 3
    for deadline in seen:
        assert deadline is not None
        assert began + 20 <= deadline < began + 20.05


async def test_without_a_deadline_there_is_none_later_either() -> None:
    seen: list[float | None] = []
    server = Server(events(1), events(2, cut=False))

    class Transport(MockTransport):
        async def send(self, request: Request, *, timeout: Timeout, deadline: float | None) -> Response:
            seen.append(deadline)
            return await super().send(request, timeout=timeout, deadline=deadline)

    client = server.client(http_client=Transport(server), deadline=20)
    assert await collect(await open_stream(client, deadline=None)) == ([1, 2], None)
    assert seen == [None, None]


async def test_a_wait_that_would_pass_the_deadline_is_not_begun(waits: list[float]) -> None:
    server = Server(sse(b"id: 1\nretry: 30000\ndata: 1\n\n", cut := lost()))
    assert await collect(await open_stream(server.client(), deadline=10)) == ([1], cut)
    assert waits == []


async def test_the_deadline_is_not_stretched_by_resumes() -> None:
    def script(peer: Peer) -> None:
        """An event and a little time for each connection, without end."""
        while peer.read_request():
            peer.send(HEAD + chunk(b"id: %d\nretry: 1\ndata: %d\n\n" % (peer.number, peer.number)))
            peer.server.pause(0.03)
            return

    with serve(script) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            began = anyio.current_time()
            stream = await open_stream(client, deadline=0.3)
            with anyio.fail_after(5):
                items, error = await collect(stream)
            assert isinstance(error, APIConnectionError)
            assert 0.2 < anyio.current_time() - began < 0.6
            assert items == list(range(1, len(items) + 1))
            assert len(items) > 2


async def test_the_deadline_ends_the_rest_as_well() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD + chunk(b"id: %d\nretry: 1\ndata: %d\n\n" % (peer.number, peer.number)))
        if peer.number == 2:
            peer.wait_closed()

    with serve(script) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            began = anyio.current_time()
            with anyio.fail_after(5):
                items, error = await collect(await open_stream(client, deadline=0.25))
            assert (items, type(error)) == ([1, 2], DeadlineExceededError)
            assert anyio.current_time() - began < 1
            assert len(peer.requests) == 2


async def test_a_deadline_that_passes_while_reading_is_no_cut() -> None:
    async def silent() -> AsyncIterator[bytes]:
        yield b"id: 1\nretry: 0\ndata: 1\n\n"
        await anyio.sleep(30)

    server = Server(Response(200, headers=SSE, content=silent()))
    with anyio.fail_after(5):
        items, error = await collect(await open_stream(server.client(), deadline=0.1))
    assert (items, type(error), len(server.requests)) == ([1], DeadlineExceededError, 1)


# --- what comes instead of the rest ----------------------------------------------------------------------------------


async def test_an_error_status_is_raised() -> None:
    for status, cls in ((404, NotFoundError), (401, AuthenticationError)):
        server = Server(events(1), Response(status, json={"message": "no"}))
        items, error = await collect(await open_stream(server.client()))
        assert (items, type(error)) == ([1], cls)
        assert error.body == {"message": "no"}
        assert [attempt.status_code for attempt in error.attempts] == [status]
        assert len(server.requests) == 2


async def test_an_error_status_is_retried_as_that_of_any_call(waits: list[float]) -> None:
    server = Server(events(1), Response(500), Response(503, headers={"Retry-After": "3"}), events(2, cut=False))
    assert await collect(await open_stream(server.client())) == ([1, 2], None)
    assert server.asked_for == [None, "1", "1", "1"]
    assert waits == [0, 0, 3]
    assert [request.headers["x-stainless-retry-count"] for request in server.requests] == ["0", "0", "1", "2"]

    server = Server(events(1), *(Response(500) for _ in range(3)))
    items, error = await collect(await open_stream(server.client()))
    assert (items, type(error)) == ([1], InternalServerError)
    assert [attempt.status_code for attempt in error.attempts] == [500] * 3


async def test_a_connection_that_cannot_be_made_is_retried_as_for_any_call() -> None:
    server = Server(events(1), lost(), events(2, cut=False))
    assert await collect(await open_stream(server.client())) == ([1, 2], None)
    server = Server(events(1), lost())
    items, error = await collect(await open_stream(server.client(max_retries=0)))
    assert (items, type(error)) == ([1], ConnectionLostError)


@pytest.mark.parametrize(
    "answer",
    [
        lambda: Response(200, json={"a": 1}),
        lambda: Response(200, headers={"Content-Type": "text/html"}, content=pieces(b"<html>")),
    ],
)
async def test_an_answer_of_another_type_is_an_error(answer: Any) -> None:
    server = Server(events(1), answer())
    items, error = await collect(await open_stream(server.client()))
    assert (items, type(error)) == ([1], APIResponseValidationError)


async def test_an_error_event_of_the_rest_is_raised() -> None:
    busy = b'event: error\ndata: {"error": {"type": "overloaded_error"}}\n\n'
    for stream_cls in (Numbers, First):
        server = Server(events(1), sse(busy))
        items, error = await collect(await open_stream(server.client(), stream_cls))
        assert (items, type(error), len(server.requests)) == ([1], OverloadedError, 2)


async def test_a_middleware_that_gives_no_response_is_told_so() -> None:
    async def second_is_mine(request: Request, call_next: Any) -> Any:
        return 7 if "last-event-id" in request.headers else await call_next(request)

    server = Server(events(1))
    items, error = await collect(await open_stream(server.client(middleware=[second_is_mine])))
    assert (items, type(error)) == ([1], TypeError)


async def test_a_client_that_was_closed_asks_for_nothing() -> None:
    server = Server(events(1), events(2, cut=False))
    client = server.client()
    stream = await open_stream(client)
    await anext(stream)
    await client.close()
    items, error = await collect(stream)
    assert items == []
    assert isinstance(error, RuntimeError | APIConnectionError)
    assert len(server.requests) == 1


# --- hooks, middleware -----------------------------------------------------------------------------------------------


async def test_hooks_are_called_for_the_rest_as_for_any_attempt() -> None:
    calls: list[str] = []

    class Client(AsyncAPIClient):
        async def _prepare_options(self, options: RequestOptions) -> RequestOptions:
            calls.append("prepare_options")
            assert isinstance(options.params, dict)
            options.params["n"] = options.params["n"] + 1
            return options

        async def _prepare_request(self, request: Request) -> None:
            calls.append("prepare_request")
            request.headers["X-Signature"] = f"{request.url.query} {request.headers.get('last-event-id')}"

        def _validate_headers(self, headers: Any, omitted: Any) -> None:
            calls.append("validate_headers")

        @property
        def auth_headers(self) -> dict[str, str]:
            calls.append("auth_headers")
            return {"Authorization": f"Bearer {calls.count('auth_headers')}"}

        def _make_sse_decoder(self) -> Any:
            calls.append("make_sse_decoder")
            return super()._make_sse_decoder()

        async def _process_response(self, **facts: Any) -> Any:
            calls.append("process_response")
            return await super()._process_response(**facts)

    server = Server(events(1), Response(500), events(2), events(3, cut=False))
    assert await collect(await open_stream(server.client(Client), params={"n": 0})) == ([1, 2, 3], None)
    assert {name: calls.count(name) for name in calls} == {
        **dict.fromkeys(("prepare_options", "prepare_request", "validate_headers", "auth_headers"), 4),
        "make_sse_decoder": 3,  # once for each answer that is a stream
        "process_response": 1,
    }
    assert [request.headers["x-signature"] for request in server.requests] == ["n=1 None", "n=1 1", "n=1 1", "n=1 2"]
    assert [request.headers["authorization"] for request in server.requests] == [f"Bearer {n}" for n in (1, 2, 3, 4)]


async def test_middleware_stands_around_the_rest_too() -> None:
    seen: list[tuple[str | None, int]] = []

    async def watch(request: Request, call_next: Any) -> Any:
        request.headers["X-Mine"] = "1"
        response = await call_next(request)
        seen.append((request.headers.get("last-event-id"), response.status_code))
        return response

    server = Server(events(1), Response(500), events(2, cut=False))
    assert await collect(await open_stream(server.client(middleware=[watch]))) == ([1, 2], None)
    assert seen == [(None, 200), ("1", 500), ("1", 200)]
    assert [request.headers.get_list("x-mine") for request in server.requests] == [["1"]] * 3


# --- nothing repeated, nothing lost ----------------------------------------------------------------------------------


class Journal:
    """Events 1 to *count*, the rest of them after any id; the n-th answer breaks off after ``cuts[n]`` bytes."""

    def __init__(self, count: int, cuts: list[int], size: int = 7) -> None:
        self.count = count
        self.cuts = cuts
        self.size = size

    def body(self, after: int) -> bytes:
        return b"".join(b"id: %d\r\ndata: %d\r\n\r\n" % (n, n) for n in range(after + 1, self.count + 1)) + DONE

    def __call__(self, request: Request) -> Response:
        body = self.body(int(request.headers.get("last-event-id", "0")))
        end: list[Exception] = []
        if self.cuts:
            body, end = body[: self.cuts.pop(0)], [lost()]
        parts = [body[i : i + self.size] for i in range(0, len(body), self.size)]
        return sse(*parts, *end)


@settings(max_examples=examples(60))
@given(st.lists(st.integers(20, 120), max_size=8), st.integers(1, 40))
def test_wherever_it_is_cut_each_event_comes_once(cuts: list[int], size: int) -> None:
    async def main() -> None:
        # 20 bytes hold an event, so that each answer begins a new row.
        client = AsyncAPIClient(
            base_url="http://h", http_client=MockTransport(Journal(9, cuts, size)), retry=RetryPolicy(wait_initial=0)
        )
        assert await collect(await open_stream(client)) == (list(range(1, 10)), None)

    anyio.run(main)


def journal(peer: Peer) -> None:
    """Events 1 to 6 over real connections, each of which is lost in the middle of the second event."""
    while request := peer.read_request():
        if request.startswith(b"GET /plain"):
            peer.send(ok(b"1"))
            continue
        after = 0
        for line in request.lower().split(b"\r\n"):
            if line.startswith(b"last-event-id:"):
                after = int(line.split(b":")[1])
        peer.send(HEAD)
        for n in range(after + 1, 7):
            peer.send(chunk(b"retry: 1\nid: %d\n" % n))
            peer.server.pause(0.001)
            if n == after + 2:
                if peer.number % 2:
                    peer.reset()
                return
            peer.send(chunk(b"data: %d\n\n" % n))
        peer.send(chunk(DONE) + b"0\r\n\r\n")


async def test_over_real_connections_that_break_each_event_comes_once() -> None:
    with serve(journal) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            stream = await open_stream(client)
            assert await collect(stream) == ([1, 2, 3, 4, 5, 6], None)
            assert (len(peer.requests), peer.connections) == (6, 6)
            assert peer.wait_for_open(1) == 1
            assert await client.get("/plain", cast_to=int) == 1
        assert peer.connections == 6  # the last one was read to its end


async def test_leaving_after_a_resume_frees_the_connection() -> None:
    with serve(journal) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            async with client.stream("GET", "/events", cast_to=object, stream_cls=Numbers) as stream:
                async for item in stream:
                    if item == 3:
                        break
            assert peer.wait_for_open(0) == 0
            assert await client.get("/plain", cast_to=int) == 1


# --- cancelled -------------------------------------------------------------------------------------------------------

# trio has no cancellation but by scopes.
SETTINGS = [
    pytest.param(backend.values[0], how, id=f"{backend.id}-{how}")
    for backend in BACKENDS
    for how in ("scope", "native")
    if backend.id != "trio" or how == "scope"
]


@pytest.mark.parametrize(("anyio_backend", "how"), SETTINGS)
async def test_cancelled_at_every_checkpoint_nothing_is_left(anyio_backend: Any, how: How) -> None:
    with serve(journal) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            tasks = task_count()

            async def operation() -> None:
                async with client.stream("GET", "/events", cast_to=object, stream_cls=Numbers) as stream:
                    assert [item async for item in stream] == [1, 2, 3, 4, 5, 6]

            n = 1
            while await cancelled_at(n, how, operation):
                assert peer.wait_for_open(1) <= 1
                assert await client.get("/plain", cast_to=int) == 1
                assert task_count() == tasks
                n += 1 if n < 12 else 3
            assert n > 12


class Queue:
    """A body that loses nothing where a wait for it is cancelled; None: the connection is lost."""

    def __init__(self, *given: bytes | None) -> None:
        self.given = list(given)

    def __aiter__(self) -> Queue:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        if not self.given:
            raise StopAsyncIteration
        piece = self.given.pop(0)
        if piece is None:
            raise lost()
        return piece


@pytest.mark.parametrize(("anyio_backend", "how"), SETTINGS)
async def test_a_wait_that_was_cancelled_anywhere_may_be_taken_up_again(anyio_backend: Any, how: How) -> None:
    n = 0
    while True:
        n += 1
        server = Server(
            Response(200, headers=SSE, content=Queue(b"id: 1\nretry: 1\ndata: 1\n\n", b"id: 2\ndata: 2\n\n", None)),
            *(Response(200, headers=SSE, content=Queue(b"id: 3\ndata: 3\n\n", DONE)) for _ in range(3)),
        )
        stream = await open_stream(server.client())
        items: list[int] = []

        async def operation() -> None:
            async for item in stream:
                items.append(item)  # noqa: PERF401

        reached = await cancelled_at(n, how, operation)
        more, error = await collect(stream)
        # Nothing twice, nothing lost; and if that cannot be, then an error: never a silent end.
        if error is None:
            assert (items + more, n) == ([1, 2, 3], n)
        else:
            assert isinstance(error, APIConnectionError)
            assert items + more == [1, 2, 3][: len(items + more)]
        if not reached:
            assert n > 6
            return


async def test_a_cancelled_wait_before_the_resume_is_no_silent_end() -> None:
    server = Server(sse(b"id: 1\nretry: 300\ndata: 1\n\n", lost()), events(2, cut=False))
    stream = await open_stream(server.client())
    assert await anext(stream) == 1
    with anyio.move_on_after(0.03):
        await anext(stream)
    items, error = await collect(stream)
    assert items == [2] or isinstance(error, APIConnectionError)
