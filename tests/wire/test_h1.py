"""HTTP/1.1's codec: named cases, any bytes in any split, and every request as h11's server side reads it."""

from __future__ import annotations

from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyio_client._model.errors import Outcome
from anyio_client._model.head import ResponseHead
from anyio_client._model.headers import Headers
from anyio_client._model.request import Request, StreamedBody
from anyio_client._wire.h1 import MAX_HEAD_SIZE, MAX_INTERIM_RESPONSES, H1Wire
from anyio_client._wire.protocol import (
    DataReceived,
    Ended,
    Failed,
    InterimReceived,
    ResponseReceived,
    WireMisuse,
)
from tests.kit.fuzz import examples

HOST = {"Host": "h"}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def get(method: str = "GET", **headers: str) -> Request:
    return Request(method, "http://h/x?y", headers={**HOST, **headers})


def opened(method: str = "GET", **limits: int) -> H1Wire:
    wire = H1Wire(**limits)
    assert wire.open(get(method), end=True) == 1
    wire.take_output()
    return wire


def joined(events: list[Any]) -> list[Any]:
    """Adjacent pieces of data put together."""
    out: list[Any] = []
    for event in events:
        if out and isinstance(event, DataReceived) and isinstance(out[-1], DataReceived):
            out[-1] = DataReceived(event.exchange, out[-1].data + event.data)
        else:
            out.append(event)
    return out


def feed(wire: H1Wire, *pieces: bytes) -> list[Any]:
    return joined([event for piece in pieces for event in wire.receive(piece)])


def head(status: int, *fields: tuple[bytes, bytes], version: str = "HTTP/1.1") -> ResponseHead:
    return ResponseHead(status, Headers.from_wire(fields), version)


# --- requests ----------------------------------------------------------------------------------------------------


def test_a_request_without_a_body() -> None:
    wire = H1Wire()
    assert wire.capacity() == 1
    assert wire.open(get(Accept="*/*"), end=True) == 1
    assert wire.take_output() == b"GET /x?y HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n"
    assert wire.take_output() == b""


def test_a_request_with_a_length() -> None:
    wire = H1Wire()
    number = wire.open(get("POST", **{"Content-Length": "4"}), end=False)
    assert wire.send(number, b"ab") == 2
    assert wire.send(number, memoryview(b"cd")) == 2
    wire.finish(number)
    wire.finish(number)
    assert wire.take_output() == b"POST /x?y HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nabcd"


def test_a_request_without_a_length_is_chunked() -> None:
    wire = H1Wire()
    number = wire.open(get("POST"), end=False)
    wire.send(number, b"abc")
    wire.finish(number)
    assert wire.take_output() == (
        b"POST /x?y HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"abcde", "Too much data for declared Content-Length"),
        (b"abc", "Too little data for declared Content-Length"),
    ],
)
def test_a_body_that_does_not_fit_its_length_is_misuse(body: bytes, message: str) -> None:
    wire = H1Wire()
    number = wire.open(get("POST", **{"Content-Length": "4"}), end=False)
    with pytest.raises(WireMisuse, match=f"^{message}$"):
        wire.send(number, body)
        wire.finish(number)
    assert wire.capacity() == 0


def test_a_request_that_h11_refuses_is_misuse() -> None:
    wire = H1Wire()
    with pytest.raises(WireMisuse, match="^Missing mandatory Host: header$"):
        wire.open(Request("GET", "http://h/"), end=True)
    assert wire.capacity() == 0
    with pytest.raises(RuntimeError):
        wire.open(get(), end=True)


def test_one_exchange_at_a_time() -> None:
    wire = opened()
    with pytest.raises(RuntimeError, match="^this connection cannot carry a further exchange now$"):
        wire.open(get(), end=True)


def test_the_body_of_an_exchange_that_is_over_goes_nowhere() -> None:
    wire = H1Wire()
    number = wire.open(get("POST"), end=False)
    wire.take_output()
    wire.abandon(number)
    assert wire.send(number, b"late") == 4
    wire.finish(number)
    assert wire.take_output() == b""
    assert wire.capacity() == 0


def test_an_exchange_that_is_over_is_abandoned_without_harm() -> None:
    wire = opened()
    feed(wire, OK)
    wire.abandon(1)
    assert wire.capacity() == 1
    assert wire.open(get(), end=True) == 2
    wire.abandon(1)
    assert wire.capacity() == 1
    assert isinstance(feed(wire, OK)[-1], Ended)


# --- responses ---------------------------------------------------------------------------------------------------


def test_a_response_and_then_another() -> None:
    wire = opened()
    first = head(200, (b"Content-Length", b"2"))
    assert feed(wire, OK) == [ResponseReceived(1, first), DataReceived(1, b"hi"), Ended(1)]
    assert wire.capacity() == 1
    assert wire.open(get(), end=True) == 2
    assert wire.take_output().startswith(b"GET ")
    assert feed(wire, OK) == [ResponseReceived(2, first), DataReceived(2, b"hi"), Ended(2)]


def test_field_names_keep_their_case() -> None:
    (event, *_) = feed(opened(), b"HTTP/1.1 200 OK\r\nX-AbC: 1\r\nContent-Length: 0\r\n\r\n")
    assert event.head.headers.raw[0] == (b"X-AbC", b"1")


def test_a_chunked_response_with_trailers() -> None:
    wire = opened()
    events = feed(
        wire, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    assert events[1:] == [DataReceived(1, b"abcde"), Ended(1, Headers({"X-Sum": "1"}))]
    assert wire.capacity() == 1


def test_no_trailers_are_none() -> None:
    assert feed(opened(), OK)[-1].trailers is None


def test_a_response_that_ends_with_the_connection() -> None:
    wire = opened()
    events = feed(wire, b"HTTP/1.1 200 OK\r\n\r\nab", b"c", b"")
    assert events == [ResponseReceived(1, head(200)), DataReceived(1, b"abc"), Ended(1)]
    assert wire.capacity() == 0


@pytest.mark.parametrize(
    ("method", "response"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n"),
    ],
)
def test_responses_without_a_body(method: str, response: bytes) -> None:
    wire = opened(method)
    events = feed(wire, response)
    assert [type(event) for event in events] == [ResponseReceived, Ended]
    assert wire.capacity() == 1


def test_interim_responses_come_before_the_final_one() -> None:
    wire = opened()
    events = feed(wire, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)
    assert events[0] == InterimReceived(1, head(103, (b"Link", b"x")))
    assert isinstance(events[1], ResponseReceived)
    assert wire.capacity() == 1


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        OK + b"HTTP/1.1 200 OK\r\n",
        OK + b"x",
    ],
    ids=["close", "1.0", "both framings", "more bytes", "one more byte"],
)
def test_a_connection_that_carries_nothing_more(response: bytes) -> None:
    wire = opened()
    assert isinstance(feed(wire, response)[-1], Ended)
    assert wire.capacity() == 0


def test_the_version_is_the_servers() -> None:
    (event, *_) = feed(opened(), b"HTTP/1.0 200 OK\r\n\r\n")
    assert event.head.http_version == "HTTP/1.0"


def test_an_early_answer_ends_the_connection() -> None:
    wire = H1Wire()
    number = wire.open(get("POST", **{"Content-Length": "100"}), end=False)
    wire.send(number, b"x")
    events = feed(wire, b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert events[0].head.status_code == 413
    assert isinstance(events[-1], Ended)
    assert wire.capacity() == 0


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"x"])
def test_bytes_between_exchanges_never_become_an_answer(data: bytes) -> None:
    for wire in (H1Wire(), opened()):
        if wire._exchange:
            feed(wire, OK)
        assert wire.receive(data) == []
        assert wire.capacity() == 0


@pytest.mark.parametrize("stray", [b"x", OK])
def test_bytes_after_an_answer_that_fills_the_limit_are_not_lost_sight_of(stray: bytes) -> None:
    wire = opened(max_head_size=len(HEAD))
    assert isinstance(feed(wire, HEAD + stray)[-1], Ended)
    assert wire.capacity() == 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("timeout=5", 5.0),
        ("timeout=5, max=100", 5.0),
        ("max=100,Timeout = 7", 7.0),
        ('timeout="9"', 9.0),
        ("max=5", None),
        ("xtimeout=5", None),
        ("timeout=x", None),
        ("timeout=-5", None),
    ],
)
def test_the_servers_promise_to_keep_the_connection(value: str, seconds: float | None) -> None:
    assert H1Wire().keepalive() is None
    wire = opened()
    feed(wire, f"HTTP/1.1 200 OK\r\nKeep-Alive: {value}\r\nContent-Length: 0\r\n\r\n".encode())
    assert wire.keepalive() == seconds
    wire.open(get(), end=True)
    assert wire.keepalive() is None


# --- failures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "outcome"),
    [
        ([b""], Outcome.UNKNOWN),
        ([b"HTTP/1.1 200 OK\r\nConte", b""], Outcome.UNKNOWN),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", b""], Outcome.UNKNOWN),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", b""], Outcome.ANSWERED),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", b""], Outcome.ANSWERED),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b""], Outcome.ANSWERED),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b""], Outcome.ANSWERED),
    ],
)
def test_an_early_end_is_a_loss(pieces: list[bytes], outcome: Outcome) -> None:
    wire = opened()
    event = feed(wire, *pieces)[-1]
    assert event == Failed(1, "the connection ended before the answer did", True, outcome)
    assert wire.capacity() == 0
    wire.abandon(1)
    assert wire.receive(b"x") == []


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b"nonsense\r\n\r\n", Outcome.UNKNOWN),
        (b"HTTP/1.1 200 OK\r\nA B: c\r\n\r\n", Outcome.UNKNOWN),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", Outcome.UNKNOWN),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", Outcome.UNKNOWN),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Outcome.UNKNOWN),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Outcome.UNKNOWN),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Outcome.ANSWERED),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", Outcome.ANSWERED),
    ],
)
def test_broken_bytes_are_a_failure_of_the_peers(data: bytes, outcome: Outcome) -> None:
    wire = opened()
    part = "chunked body" if outcome is Outcome.ANSWERED else "head"
    assert feed(wire, data)[-1] == Failed(1, f"the response's {part} is malformed", False, outcome)
    assert wire.capacity() == 0


@pytest.mark.parametrize(
    ("request_", "answer", "outcome"),
    [
        (get(Upgrade="x", Connection="upgrade"), b"101 Switching Protocols\r\nUpgrade: x", Outcome.UNKNOWN),
        (get("CONNECT"), b"200 OK", Outcome.ANSWERED),
    ],
    ids=["upgrade", "connect"],
)
def test_a_peer_that_switches_protocols_is_a_failure(request_: Request, answer: bytes, outcome: Outcome) -> None:
    wire = H1Wire()
    wire.open(request_, end=True)
    events = feed(wire, b"HTTP/1.1 " + answer + b"\r\n\r\nother bytes")
    assert events[1:] == [Failed(1, "the peer switched protocols without being asked", False, outcome)]
    assert wire.capacity() == 0


# --- limits ------------------------------------------------------------------------------------------------------


def test_the_limits_are_those_of_the_design() -> None:
    assert (MAX_HEAD_SIZE, MAX_INTERIM_RESPONSES) == (102400, 100)


def fails_at(limit: int, response: bytes, size: int) -> list[Any]:
    return feed(opened(max_head_size=limit), *(response[i : i + size] for i in range(0, len(response), size)))


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: 123456789\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nX: 1234567890123456789012345\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_a_head_may_take_so_many_bytes_and_no_more(size: int) -> None:
    assert isinstance(fails_at(len(HEAD), HEAD, size)[-1], Ended)
    assert fails_at(len(HEAD) - 1, HEAD, size) == [
        Failed(1, f"the response's head took more than {len(HEAD) - 1} bytes", False, Outcome.UNKNOWN)
    ]


def test_a_large_head_may_come_in_pieces() -> None:
    """The limit is ours: h11's own, 16 KiB, would count only what is unfinished when a read ends."""
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"
    assert isinstance(fails_at(MAX_HEAD_SIZE, response, 30_000)[-1], Ended)


@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_an_interim_head_is_counted_by_itself(size: int) -> None:
    assert isinstance(fails_at(len(INTERIM), INTERIM + HEAD, size)[-1], Ended)
    assert isinstance(fails_at(len(INTERIM) - 1, INTERIM + HEAD, size)[-1], Failed)


@pytest.mark.parametrize("size", [1, 7, 10**6])
@pytest.mark.parametrize(
    "body", [b"3;" + b"x" * 98 + b"\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\nX: " + b"y" * 90 + b"\r\n\r\n"]
)
def test_chunk_framing_is_bounded_like_a_head(body: bytes, size: int) -> None:
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    # Framing that data follows must be one byte below the limit, framing that ends the response may reach it.
    overhead = 103 if body.startswith(b"3;") else 2 + 3 + 97
    assert isinstance(fails_at(overhead, response, size)[-1], Ended)
    event = fails_at(overhead - 1, response, size)[-1]
    assert event == Failed(
        1, f"the response's chunk framing or trailers took more than {overhead - 1} bytes", False, Outcome.ANSWERED
    )


def test_data_does_not_count_as_framing() -> None:
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"4\r\nabcd\r\n" * 1000 + b"0\r\n\r\n"
    for size in (1, 50, 10**6):
        assert isinstance(fails_at(50, response, size)[-1], Ended)


@pytest.mark.parametrize("size", [50, 10**6])
def test_interim_responses_are_counted(size: int) -> None:
    one = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert isinstance(fails_at(MAX_HEAD_SIZE, one * 100 + OK, size)[-1], Ended)
    events = fails_at(MAX_HEAD_SIZE, one * 101 + OK, size)
    assert len(events) == 101
    assert events[-1] == Failed(1, "more than 100 interim responses", False, Outcome.UNKNOWN)


# --- any bytes ---------------------------------------------------------------------------------------------------

TOKENS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 103 X\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 204 X\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 4\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"X: y\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"abc",
        b"3\r\nabc\r\n",
        b"3 \r\nabc\r\n",
        b"0\r\n\r\n",
        b"0\r\nT: u\r\n\r\n",
        b"ff\r\n",
        b"\x00",
        b" ",
        b"",
    ]
)
BYTES = st.lists(TOKENS | st.binary(max_size=4), max_size=14).map(b"".join)
GOOD = st.sampled_from(
    [
        OK,
        HEAD,
        INTERIM + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\nA: b\r\n\r\n",
    ]
)


@given(st.sampled_from(["GET", "HEAD"]), BYTES | GOOD | st.tuples(GOOD, BYTES).map(b"".join), st.data())
@settings(max_examples=examples(400))
def test_any_bytes_in_any_split_give_the_same_events(method: str, data: bytes, draw: st.DataObject) -> None:
    whole = feed(opened(method, max_head_size=60), data, b"")
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]
    wire = opened(method, max_head_size=60)
    split = feed(wire, *pieces, b"")
    assert split == whole
    ends = [event for event in whole if isinstance(event, Ended | Failed)]
    assert len(ends) == 1
    assert whole[-1] is ends[0]
    assert wire.capacity() == 0  # the connection has ended
    for event in whole:
        assert event.exchange == 1


# --- the pair harness --------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["X-A", "x-b", "Accept", "Cookie"])
VALUES = st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), max_size=10)
BODIES = st.lists(st.binary(min_size=1, max_size=40), max_size=4)


@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
    st.lists(st.tuples(NAMES, VALUES), max_size=5),
    BODIES,
    st.booleans(),
    st.binary(max_size=30),
)
@settings(max_examples=examples(200))
def test_every_request_arrives_as_it_was_sent(
    method: str, fields: list[tuple[str, str]], body: list[bytes], declared: bool, answer: bytes
) -> None:
    server = h11.Connection(h11.SERVER)
    wire = H1Wire()
    for number in (1, 2):
        headers = Headers([("Host", "h"), *fields])
        if declared and body:
            headers["Content-Length"] = str(sum(map(len, body)))
        request = Request(method, "http://h/p%20q?r=s", headers=headers, content=StreamedBody(body, replayable=True))
        assert wire.open(request, end=not body) == number
        for piece in body:
            assert wire.send(number, piece) == len(piece)
        wire.finish(number)
        server.receive_data(wire.take_output())
        event = server.next_event()
        assert isinstance(event, h11.Request)
        assert (event.method.decode(), event.target) == (method, b"/p%20q?r=s")
        sent = [(n.lower().encode(), v.encode()) for n, v in headers.multi_items()]
        assert [f for f in event.headers if f[0] != b"transfer-encoding"] == sent
        received = b""
        while isinstance(event := server.next_event(), h11.Data):
            received += event.data
        assert isinstance(event, h11.EndOfMessage)
        assert received == b"".join(body)
        out = server.send(h11.Response(status_code=200, headers=[("Content-Length", str(len(answer)))], reason=b"OK"))
        out += server.send(h11.Data(data=answer)) + server.send(h11.EndOfMessage())
        events = feed(wire, out)
        assert isinstance(events[0], ResponseReceived)
        assert b"".join(e.data for e in events if isinstance(e, DataReceived)) == answer
        assert events[-1] == Ended(number)
        server.start_next_cycle()
