"""HTTP/2's codec: named cases, any bytes and any frames in any split, and windows and streams against a model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import h2.events
import pytest
from hpack import Encoder, NeverIndexedHeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st

from anyio_client._model.errors import Outcome
from anyio_client._model.head import ResponseHead
from anyio_client._model.headers import Headers
from anyio_client._model.request import Request
from anyio_client._wire import h2 as codec
from anyio_client._wire.frames import ErrorCode
from anyio_client._wire.h2 import H2Wire
from anyio_client._wire.protocol import (
    DataReceived,
    Ended,
    Failed,
    InterimReceived,
    ResponseReceived,
    SendAllowed,
    WireMisuse,
)
from tests.kit import frames
from tests.kit.frames import ClientReader, Sent, StrictServer, split
from tests.kit.fuzz import examples

MIB = 2**20
OK = [(b":status", b"200")]
HINTS = [(b":status", b"103"), (b"link", b"x")]
HIGHEST = 2**31 - 1


def get(method: str = "GET", **headers: str) -> Request:
    return Request(method, "https://h/x?y", headers=headers)


def length(size: int) -> tuple[bytes, bytes]:
    return b"content-length", str(size).encode()


def ready(values: dict[int, int] | None = None) -> H2Wire:
    """A connection whose server has said its settings."""
    wire = H2Wire()
    assert wire.receive(frames.settings(values)) == []
    wire.take_output()
    return wire


def opened(*methods: str, values: dict[int, int] | None = None) -> H2Wire:
    """The same with these requests under way, all complete: on streams 1, 3, 5..."""
    wire = ready(values)
    for place, method in enumerate(methods or ["GET"]):
        assert wire.open(get(method), end=True) == 1 + 2 * place
    wire.take_output()
    return wire


def sending(values: dict[int, int] | None = None, count: int = 1, length: str | None = None) -> H2Wire:
    """The same with requests whose bodies are still to come."""
    wire = ready(values)
    for _ in range(count):
        wire.open(get("POST", **({} if length is None else {"Content-Length": length})), end=False)
    wire.take_output()
    return wire


def joined(events: list[Any]) -> list[Any]:
    """Adjacent pieces of data put together."""
    out: list[Any] = []
    for event in events:
        if out and isinstance(event, DataReceived) and out[-1:] and isinstance(out[-1], DataReceived):
            if out[-1].exchange == event.exchange:
                out[-1] = DataReceived(event.exchange, out[-1].data + event.data)
                continue
        out.append(event)
    return out


def feed(wire: H2Wire, *pieces: bytes) -> list[Any]:
    return joined([event for piece in pieces for event in wire.receive(piece)])


def sent(wire: H2Wire) -> list[Sent]:
    return split(wire.take_output())


def head(status: int, *fields: tuple[bytes, bytes]) -> ResponseHead:
    return ResponseHead(status, Headers.from_wire(fields), "HTTP/2")


def reset(stream: int, code: ErrorCode) -> Sent:
    return Sent(frames.RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def body(output: list[Sent], stream: int = 1) -> bytes:
    return b"".join(frame.payload for frame in output if frame.kind == frames.DATA and frame.stream == stream)


def open_in_h2(wire: H2Wire) -> int:
    """How many streams are open; h2 knows of none, so that none of its rules for them can end a connection."""
    assert not wire._h2.streams
    return len(wire._streams)


def works(wire: H2Wire) -> None:
    """The connection still carries exchanges, those under way and further ones."""
    assert not wire.closing
    assert open_in_h2(wire) == len(wire._streams)
    number = wire.open(get(), end=True)
    assert [frame.kind for frame in sent(wire)] == [frames.HEADERS]
    assert feed(wire, frames.headers(number, OK), frames.data(number, b"hi", end=True)) == [
        ResponseReceived(number, head(200)),
        DataReceived(number, b"hi"),
        Ended(number),
    ]


def broken(wire: H2Wire, code: ErrorCode) -> None:
    """The connection was ended with *code*, and is deaf."""
    (*_, last) = sent(wire)
    assert (last.kind, last.stream, last.number(4)) == (frames.GOAWAY, 0, code)
    assert wire.closing
    assert wire.capacity() == 0
    assert not wire._streams
    for data in (frames.ping(), frames.headers(1, OK), b"\x00" * 20, b""):
        assert wire.receive(data) == []
    assert wire.take_output() == b""
    assert not wire.ping()
    wire.close()
    wire.abandon(1)
    wire.consumed(1, 5)
    assert wire.send(1, b"abc") == 3
    wire.finish(1)
    assert wire.take_output() == b""


# --- the beginning -----------------------------------------------------------------------------------------------


def test_the_limits_are_those_of_the_design() -> None:
    assert codec.STREAM_WINDOW == MIB
    assert 4 * codec.MAX_STREAM_WINDOW <= codec.CONNECTION_WINDOW < 2**31  # three quarters may be on their way back
    assert (codec.MAX_HEADER_LIST_SIZE, codec.MAX_INTERIM_RESPONSES) == (65536, 100)
    assert (codec.MAX_IDLE_FRAMES, codec.MAX_RESET_STREAMS) == (10_000, 10_000)


def test_the_preface_says_what_we_take() -> None:
    output = H2Wire().take_output()
    assert output.startswith(frames.PREFACE)
    first, second = split(output)
    assert (first.kind, first.flags, first.stream) == (frames.SETTINGS, 0, 0)
    values = {first.payload[i + 1]: first.number(i + 2) for i in range(0, len(first.payload), 6)}
    assert values[2] == 0
    assert values[4] == MIB
    assert values[6] == 65536
    assert values.get(5, 16384) == 16384
    assert values.get(1, 4096) == 4096
    assert second == Sent(frames.WINDOW_UPDATE, 0, 0, (codec.CONNECTION_WINDOW - 65_535).to_bytes(4, "big"))


def test_one_exchange_until_the_server_has_said_its_limit() -> None:
    wire = H2Wire()
    assert (wire.capacity(), wire.settled, wire.closing, wire.keepalive()) == (1, False, False, None)
    wire.open(get(), end=True)
    with pytest.raises(RuntimeError, match="^this connection cannot carry a further exchange now$"):
        wire.open(get(), end=True)
    wire.receive(frames.settings({frames.MAX_CONCURRENT_STREAMS: 7}))
    assert (wire.capacity(), wire.settled) == (7, True)
    wire.open(get(), end=True)


def test_without_a_limit_there_are_many_exchanges() -> None:
    assert ready().capacity() > 2**31


def test_settings_are_acknowledged() -> None:
    wire = H2Wire()
    wire.take_output()
    wire.receive(frames.settings({0xABC: 5}))
    assert sent(wire) == [Sent(frames.SETTINGS, frames.ACK, 0, b"")]
    wire.receive(frames.settings(ack=True))
    assert sent(wire) == []


# --- requests ----------------------------------------------------------------------------------------------------


def test_a_request_without_a_body() -> None:
    wire, reader = H2Wire(), ClientReader()
    assert wire.open(get(Host="other:1", Accept="*/*", Connection="close", TE="gzip"), end=True) == 1
    *_, frame = reader.feed(wire.take_output())
    assert (frame.kind, frame.flags, frame.stream) == (frames.HEADERS, frames.END_STREAM | frames.END_HEADERS, 1)
    assert reader.fields[1] == [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", b"other:1"),
        (b":path", b"/x?y"),
        (b"accept", b"*/*"),
    ]
    assert wire.take_output() == b""


def test_a_strict_server_takes_requests_and_their_bodies() -> None:
    wire, server = H2Wire(), StrictServer()
    server.feed(wire.take_output())
    wire.receive(server.take_output())
    bodies = {1: b"", 3: b"abc", 5: b"x" * 60_000}
    for number, content in bodies.items():
        request = get("POST", **{"Content-Length": str(len(content)), "Transfer-Encoding": "x", "Keep-Alive": "y"})
        assert wire.open(request, end=not content) == number
        if content:
            assert wire.send(number, bytearray(content[:2])) == 2
            assert wire.send(number, memoryview(content)[2:]) == len(content) - 2
            wire.finish(number)
            wire.finish(number)
    received = dict.fromkeys(bodies, b"")
    ended: list[int] = []
    for event in server.feed(wire.take_output()):
        match event:
            case h2.events.DataReceived():
                received[event.stream_id] += event.data
            case h2.events.StreamEnded():
                ended.append(event.stream_id)
            case _:
                pass
    assert received == bodies
    assert ended == [1, 3, 5]


def test_secrets_are_never_indexed() -> None:
    wire, reader = H2Wire(), ClientReader()
    for _ in range(2):
        wire.receive(frames.settings())
        wire.open(get(Authorization="Bearer s", Cookie="a=b", Accept="x"), end=True)
    reader.feed(wire.take_output())
    for fields in reader.fields.values():
        secrets = [field[0] for field in fields[4:] if isinstance(field, NeverIndexedHeaderTuple)]
        assert secrets == [b"authorization", b"cookie"]


def test_a_head_larger_than_a_frame_is_continued() -> None:
    wire, reader = ready(), ClientReader()
    wire.open(get(**{"X-Large": "é" * 9_000}), end=True)
    output = reader.feed(wire.take_output())
    assert [frame.kind for frame in output] == [frames.HEADERS, *[frames.CONTINUATION] * (len(output) - 1)]
    assert len(output) > 2
    assert all(len(frame.payload) <= 16384 for frame in output)
    assert (b"x-large", "é".encode() * 9_000) in reader.fields[1]


@pytest.mark.parametrize("value", ["x", "4, 4", "-4", ""])
def test_a_length_that_is_no_number_is_misuse_and_nothing_is_sent(value: str) -> None:
    wire = ready()
    with pytest.raises(WireMisuse):
        wire.open(get("POST", **{"Content-Length": value}), end=False)
    assert wire.take_output() == b""
    works(wire)


def test_connect_is_misuse() -> None:
    wire = opened()
    with pytest.raises(WireMisuse, match="^CONNECT makes a tunnel, which is no exchange$"):
        wire.open(get("CONNECT"), end=True)
    assert wire.take_output() == b""


def test_a_length_without_a_body_is_misuse() -> None:
    wire = ready()
    with pytest.raises(WireMisuse):
        wire.open(get("POST", **{"Content-Length": "4"}), end=True)


# --- bodies ------------------------------------------------------------------------------------------------------


def test_frames_of_a_body_are_no_larger_than_the_server_takes() -> None:
    wire = sending()
    assert wire.send(1, b"x" * 40_000) == 40_000
    assert [len(frame.payload) for frame in sent(wire)] == [16384, 16384, 40_000 - 2 * 16384]
    wire.receive(frames.settings({frames.MAX_FRAME_SIZE: 20_000}))
    wire.take_output()
    assert wire.send(1, b"x" * 25_000) == 25_000
    assert [len(frame.payload) for frame in sent(wire)] == [20_000, 5_000]
    wire.receive(frames.settings({frames.MAX_FRAME_SIZE: 16_384}) + frames.window(1, 20_000) + frames.window(0, 20_000))
    wire.take_output()
    assert wire.send(1, b"x" * 17_000) == 17_000
    assert [len(frame.payload) for frame in sent(wire)] == [16_384, 616]


def test_an_empty_piece_of_a_body_is_no_frame() -> None:
    wire = sending()
    assert wire.send(1, b"") == 0
    assert wire.take_output() == b""
    wire.finish(1)
    assert sent(wire) == [Sent(frames.DATA, frames.END_STREAM, 1, b"")]


def test_a_streams_window_is_honoured() -> None:
    wire = sending({frames.INITIAL_WINDOW_SIZE: 10})
    assert wire.send(1, b"0123456789ab") == 10
    assert body(sent(wire)) == b"0123456789"
    assert wire.send(1, b"ab") == 0
    assert feed(wire, frames.window(0, 5)) == []
    assert feed(wire, frames.window(1, 1)) == [SendAllowed(1)]
    assert wire.send(1, b"ab") == 1
    assert feed(wire, frames.window(1, 9), frames.window(1, 9)) == [SendAllowed(1)]
    assert wire.send(1, b"b") == 1
    assert body(sent(wire)) == b"ab"
    wire.finish(1)
    assert [(frame.kind, frame.flags) for frame in sent(wire)] == [(frames.DATA, frames.END_STREAM)]


def test_the_connections_window_is_honoured() -> None:
    wire = sending({frames.INITIAL_WINDOW_SIZE: 100_000}, count=3)
    assert wire.send(1, b"x" * 100_000) == 65_535
    assert wire.send(3, b"y") == 0
    wire.take_output()
    assert feed(wire, frames.window(1, 5), frames.window(5, 5)) == []
    assert feed(wire, frames.window(0, 4)) == [SendAllowed(1), SendAllowed(3)]
    assert wire.send(1, b"xxxxx") == 4
    assert wire.send(3, b"y") == 0
    assert feed(wire, frames.window(0, 1)) == [SendAllowed(1), SendAllowed(3)]


def test_who_waits_longest_is_allowed_first() -> None:
    wire = sending({frames.INITIAL_WINDOW_SIZE: 100_000}, count=3)
    wire.send(5, b"x" * 65_536)
    for number in (3, 1):
        wire.send(number, b"x")
    assert feed(wire, frames.window(0, 1)) == [SendAllowed(5), SendAllowed(3), SendAllowed(1)]


def test_settings_that_raise_the_window_allow_sending() -> None:
    wire = sending({frames.INITIAL_WINDOW_SIZE: 0}, count=2)
    assert wire.send(1, b"abc") == 0
    assert feed(wire, frames.settings({frames.INITIAL_WINDOW_SIZE: 2})) == [SendAllowed(1)]
    assert wire.send(1, b"abc") == 2
    assert wire.send(3, b"abc") == 2


def test_a_window_may_be_negative() -> None:
    wire = sending({frames.INITIAL_WINDOW_SIZE: 100})
    assert wire.send(1, b"x" * 100) == 100
    assert feed(wire, frames.settings({frames.INITIAL_WINDOW_SIZE: 40})) == []
    assert wire.send(1, b"x") == 0
    assert feed(wire, frames.window(1, 60)) == []
    assert wire.send(1, b"x") == 0
    assert feed(wire, frames.window(1, 1)) == [SendAllowed(1)]
    assert wire.send(1, b"xx") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"abcde", "Too much data for declared Content-Length"),
        (b"abc", "Too little data for declared Content-Length"),
        (b"", "Too little data for declared Content-Length"),
    ],
)
def test_a_body_that_does_not_fit_its_length_is_misuse_and_harms_no_other(content: bytes, message: str) -> None:
    wire = sending(length="4")
    with pytest.raises(WireMisuse, match=f"^{message}$"):
        wire.send(1, content)
        wire.finish(1)
    wire.abandon(1)
    output = sent(wire)
    assert output[-1] == reset(1, ErrorCode.CANCEL)
    assert all(not frame.flags & frames.END_STREAM for frame in output)
    works(wire)


def test_a_length_is_counted_over_all_pieces() -> None:
    wire = sending(length="4")
    assert wire.send(1, b"abc") == 3
    with pytest.raises(WireMisuse):
        wire.send(1, b"de")
    assert wire.send(1, b"d") == 1
    wire.finish(1)
    assert body(sent(wire)) == b"abcd"


def test_the_body_of_an_exchange_that_is_over_goes_nowhere() -> None:
    wire = sending()
    wire.abandon(1)
    wire.take_output()
    assert wire.send(1, b"late") == 4
    wire.finish(1)
    wire.abandon(1)
    wire.consumed(1, 4)
    assert wire.take_output() == b""
    wire = sending()
    wire.finish(1)
    wire.take_output()
    assert wire.send(1, b"late") == 4
    assert wire.take_output() == b""


def test_an_exchange_that_is_over_is_not_allowed_to_send() -> None:
    wire = sending({frames.INITIAL_WINDOW_SIZE: 0}, count=2)
    wire.send(1, b"x")
    wire.send(3, b"x")
    wire.abandon(1)
    assert feed(wire, frames.settings({frames.INITIAL_WINDOW_SIZE: 9})) == [SendAllowed(3)]


# --- answers -----------------------------------------------------------------------------------------------------


def test_an_answer_and_then_another() -> None:
    wire = opened("GET")
    fields = [*OK, (b"x-a", b"1"), length(5)]
    assert feed(wire, frames.headers(1, fields), frames.data(1, b"abc"), frames.data(1, b"de", end=True)) == [
        ResponseReceived(1, head(200, *fields[1:])),
        DataReceived(1, b"abcde"),
        Ended(1),
    ]
    assert wire.take_output() == b""
    works(wire)


def test_answers_may_be_interleaved() -> None:
    wire = opened("GET", "GET")
    pieces = [frames.headers(3, OK), frames.headers(1, OK), frames.data(3, b"a"), frames.data(1, b"b")]
    pieces += [frames.data(3, b"c", end=True), frames.data(1, b"d", end=True)]
    assert feed(wire, *pieces) == [
        ResponseReceived(3, head(200)),
        ResponseReceived(1, head(200)),
        DataReceived(3, b"a"),
        DataReceived(1, b"b"),
        DataReceived(3, b"c"),
        Ended(3),
        DataReceived(1, b"d"),
        Ended(1),
    ]


def test_an_answer_may_be_a_head_alone() -> None:
    wire = opened()
    assert feed(wire, frames.headers(1, OK, end=True)) == [ResponseReceived(1, head(200)), Ended(1)]
    works(wire)


@pytest.mark.parametrize("pad", [None, 0, 7, 255])
def test_padding_is_no_part_of_an_answer(pad: int | None) -> None:
    wire = opened()
    data = frames.headers(1, [*OK, length(2)], pad=pad, priority=b"\x00\x00\x00\x03\x10")
    data += frames.data(1, b"hi", pad=pad) + frames.data(1, b"", pad=pad, end=True)
    assert feed(wire, data)[1:] == [DataReceived(1, b"hi"), Ended(1)]


def test_a_head_may_come_in_several_frames() -> None:
    wire = opened()
    fragment = frames.block([*OK, (b"x-a", b"1")])
    pieces = [frames.headers(1, fragment[:1], end_headers=False, end=True)]
    pieces += [frames.continuation(1, fragment[1:3], end_headers=False), frames.continuation(1, fragment[3:])]
    assert feed(wire, *pieces) == [ResponseReceived(1, head(200, (b"x-a", b"1"))), Ended(1)]


def test_trailers() -> None:
    wire = opened()
    pieces = [frames.headers(1, OK), frames.data(1, b"x"), frames.headers(1, [(b"x-sum", b"1")], end=True)]
    assert feed(wire, *pieces)[1:] == [DataReceived(1, b"x"), Ended(1, Headers({"X-Sum": "1"}))]
    wire = opened()
    assert feed(wire, frames.headers(1, OK), frames.headers(1, [], end=True))[1:] == [Ended(1, None)]


def test_interim_responses_come_before_the_final_one() -> None:
    wire = opened()
    assert feed(wire, frames.headers(1, HINTS) * 2, frames.headers(1, OK, end=True)) == [
        InterimReceived(1, head(103, (b"link", b"x"))),
        InterimReceived(1, head(103, (b"link", b"x"))),
        ResponseReceived(1, head(200)),
        Ended(1),
    ]


@pytest.mark.parametrize(
    ("method", "status", "declared"),
    [("HEAD", b"200", 100), ("GET", b"204", None), ("GET", b"304", 100), ("GET", b"200", 0), ("HEAD", b"304", 5)],
)
@pytest.mark.parametrize("ending", ["head", "data", "padding", "trailers"])
@pytest.mark.parametrize("finished", [True, False])
def test_responses_without_a_body(
    method: str, status: bytes, declared: int | None, ending: str, finished: bool
) -> None:
    wire = ready()
    wire.open(get(method), end=finished)
    wire.take_output()
    fields = [(b":status", status)] + ([] if declared is None else [length(declared)])
    pieces = [frames.headers(1, fields, end=ending == "head")]
    if ending == "data":
        pieces += [frames.data(1), frames.data(1, end=True)]
    elif ending == "padding":
        pieces += [frames.data(1, pad=3), frames.data(1, pad=5, end=True)]
    elif ending == "trailers":
        pieces += [frames.headers(1, [], end=True)]
    events = feed(wire, *pieces)
    assert [type(event) for event in events] == [ResponseReceived, Ended]
    assert sent(wire) == ([] if finished else [reset(1, ErrorCode.NO_ERROR)])
    works(wire)


def test_an_early_answer_gives_the_rest_of_the_request_up() -> None:
    for last in (frames.data(1, end=True), frames.data(1, b"x", end=True), frames.headers(1, [(b"a", b"b")], end=True)):
        wire = sending({frames.INITIAL_WINDOW_SIZE: 3})
        wire.send(1, b"abcd")
        wire.take_output()
        events = feed(wire, frames.headers(1, [(b":status", b"413")]) + last)
        assert isinstance(events[-1], Ended)
        assert sent(wire) == [reset(1, ErrorCode.NO_ERROR)]
        assert feed(wire, frames.rst(1, 0), frames.window(1, 9)) == []
        assert sent(wire) == []
        works(wire)


def test_an_answer_that_does_not_end_yet_does_not_stop_the_request() -> None:
    wire = sending()
    assert feed(wire, frames.headers(1, OK), frames.data(1, b"x")) == [
        ResponseReceived(1, head(200)),
        DataReceived(1, b"x"),
    ]
    assert wire.send(1, b"abc") == 3
    wire.finish(1)
    assert body(sent(wire)) == b"abc"
    assert feed(wire, frames.data(1, end=True)) == [Ended(1)]
    assert wire.take_output() == b""


def test_a_reset_after_a_whole_answer_changes_nothing() -> None:
    wire = sending()
    assert isinstance(feed(wire, frames.headers(1, OK, end=True), frames.rst(1, ErrorCode.NO_ERROR))[-1], Ended)
    assert sent(wire) == [reset(1, ErrorCode.NO_ERROR)]
    works(wire)


@pytest.mark.parametrize(
    ("pieces", "code", "outcome"),
    [
        ([], ErrorCode.REFUSED_STREAM, Outcome.REFUSED),
        ([], ErrorCode.CANCEL, Outcome.UNKNOWN),
        ([], ErrorCode.NO_ERROR, Outcome.UNKNOWN),
        ([frames.headers(1, HINTS)], ErrorCode.REFUSED_STREAM, Outcome.REFUSED),
        ([frames.headers(1, OK)], ErrorCode.REFUSED_STREAM, Outcome.ANSWERED),
        ([frames.headers(1, OK), frames.data(1, b"x")], ErrorCode.INTERNAL_ERROR, Outcome.ANSWERED),
        ([], 0xBAD, Outcome.UNKNOWN),
    ],
)
def test_a_stream_that_the_server_resets(pieces: list[bytes], code: int, outcome: Outcome) -> None:
    for wire in (opened("GET", "GET"), sending(count=2)):
        event = feed(wire, *pieces, frames.rst(1, code))[-1]
        assert isinstance(event, Failed)
        assert (event.exchange, event.lost, event.outcome) == (1, True, outcome)
        assert (ErrorCode(code).name if code < 14 else "error code 0xbad") in event.reason
        assert wire.take_output() == b""
        works(wire)


def test_whose_frame_is_coming() -> None:
    wire = opened("GET", "GET")
    assert wire.receiving == 0
    wire.receive(frames.headers(1, OK) + frames.data(3, b"abc")[:10])
    assert wire.receiving == 3


# --- malformed answers -------------------------------------------------------------------------------------------

HEAD_200 = frames.headers(1, OK)
HEAD_5 = frames.headers(1, [*OK, length(5)])
MALFORMED: dict[str, tuple[list[bytes], Outcome]] = {
    "no status": ([frames.headers(1, [(b"a", b"b")])], Outcome.UNKNOWN),
    "no fields": ([frames.headers(1, b"")], Outcome.UNKNOWN),
    "bad status": ([frames.headers(1, [(b":status", b"2x0")])], Outcome.UNKNOWN),
    "bad interim status": ([frames.headers(1, [(b":status", b"1")])], Outcome.UNKNOWN),
    "two statuses": ([frames.headers(1, [*OK, *OK])], Outcome.UNKNOWN),
    "status not first": ([frames.headers(1, [(b":path", b"/"), *OK])], Outcome.UNKNOWN),
    "upper case": ([frames.headers(1, [*OK, (b"A", b"b")])], Outcome.UNKNOWN),
    "upper case, ended": ([frames.headers(1, [*OK, (b"A", b"b")], end=True)], Outcome.UNKNOWN),
    "connection": ([frames.headers(1, [*OK, (b"connection", b"x")])], Outcome.UNKNOWN),
    "line feed": ([frames.headers(1, [*OK, (b"a", b"b\nc")])], Outcome.UNKNOWN),
    "101": ([frames.headers(1, [(b":status", b"101")])], Outcome.UNKNOWN),
    "bad interim field": ([frames.headers(1, [*HINTS, (b"A", b"b")])], Outcome.UNKNOWN),
    "interim that ends": ([frames.headers(1, HINTS, end=True)], Outcome.UNKNOWN),
    "too many interims": ([frames.headers(1, HINTS)] * 101, Outcome.UNKNOWN),
    "interim after the head": ([HEAD_200, frames.headers(1, HINTS)], Outcome.ANSWERED),
    "ending interim after the head": ([HEAD_200, frames.headers(1, HINTS, end=True)], Outcome.ANSWERED),
    "data first": ([frames.data(1, b"x")], Outcome.UNKNOWN),
    "data first, ended": ([frames.data(1, b"", end=True)], Outcome.UNKNOWN),
    "data after an interim": ([frames.headers(1, HINTS), frames.data(1, b"x")], Outcome.UNKNOWN),
    "second head": ([HEAD_200, HEAD_200], Outcome.ANSWERED),
    "trailers that do not end": ([HEAD_200, frames.headers(1, [(b"a", b"b")])], Outcome.ANSWERED),
    "trailers with a status": ([HEAD_200, frames.headers(1, OK, end=True)], Outcome.ANSWERED),
    "bad trailers": ([HEAD_200, frames.headers(1, [(b"A", b"b")], end=True)], Outcome.ANSWERED),
    "bad length": ([frames.headers(1, [*OK, (b"content-length", b"x")])], Outcome.UNKNOWN),
    "empty length": ([frames.headers(1, [*OK, (b"content-length", b"")])], Outcome.UNKNOWN),
    "listed length": ([frames.headers(1, [*OK, (b"content-length", b"5, 5")])], Outcome.UNKNOWN),
    "two lengths": ([frames.headers(1, [*OK, length(5), length(6)])], Outcome.UNKNOWN),
    "huge length": ([frames.headers(1, [*OK, (b"content-length", b"9" * 5000)])], Outcome.UNKNOWN),
    "bad length of an interim": (
        [frames.headers(1, [*HINTS, (b"content-length", b"x")]), HEAD_200 * 2],
        Outcome.ANSWERED,
    ),
    "length, but ended": ([frames.headers(1, [*OK, length(5)], end=True)], Outcome.UNKNOWN),
    "length, too little data": ([HEAD_5, frames.data(1, b"abcd", end=True)], Outcome.ANSWERED),
    "length, no data": ([HEAD_5, frames.data(1, b"", end=True)], Outcome.ANSWERED),
    "length, too much data": ([HEAD_5, frames.data(1, b"abc"), frames.data(1, b"def")], Outcome.ANSWERED),
    "length, too much data, ended": ([HEAD_5, frames.data(1, b"abcdef", end=True)], Outcome.ANSWERED),
    "length, early trailers": ([HEAD_5, frames.data(1, b"a"), frames.headers(1, [], end=True)], Outcome.ANSWERED),
    "204 with data": ([frames.headers(1, [(b":status", b"204")]), frames.data(1, b"x", end=True)], Outcome.ANSWERED),
    "304 with data": (
        [frames.headers(1, [(b":status", b"304"), length(1)]), frames.data(1, b"x", end=True)],
        Outcome.ANSWERED,
    ),
    "window of nothing": ([frames.window(1, 0)], Outcome.UNKNOWN),
    "window of nothing, reserved bit": ([frames.window(1, 2**31)], Outcome.UNKNOWN),
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("finished", [True, False])
def test_a_malformed_answer_ends_its_stream_and_no_other(name: str, finished: bool) -> None:
    pieces, outcome = MALFORMED[name]
    wire = ready()
    for _ in range(2):
        wire.open(get("POST"), end=finished)
    wire.take_output()
    feed(wire, frames.headers(3, OK))
    event = feed(wire, *pieces)[-1]
    assert isinstance(event, Failed)
    assert (event.exchange, event.lost, event.outcome) == (1, False, outcome)
    output = sent(wire)
    ended = split(pieces[-1])[-1].flags & frames.END_STREAM
    if output or not (finished and ended):  # closed by both sides: it need not be reset
        assert output == [reset(1, ErrorCode.PROTOCOL_ERROR)]
    assert feed(wire, frames.data(3, b"hi", end=True)) == [DataReceived(3, b"hi"), Ended(3)]
    wire.take_output()
    works(wire)


def test_data_for_head_is_malformed() -> None:
    wire = opened("HEAD", "GET")
    event = feed(wire, HEAD_5, frames.data(1, b"abcde", end=True))[-1]
    assert isinstance(event, Failed)
    assert (event.exchange, event.outcome) == (1, Outcome.ANSWERED)
    assert sent(wire) == [reset(1, ErrorCode.PROTOCOL_ERROR)]
    works(wire)


def test_a_hundred_interim_responses_are_not_too_many() -> None:
    wire = opened()
    events = feed(wire, frames.headers(1, HINTS) * 100, HEAD_200)
    assert [type(event) for event in events] == [InterimReceived] * 100 + [ResponseReceived]


def test_bad_trailers_of_an_early_answer_are_reset() -> None:
    wire = sending()
    feed(wire, HEAD_200, frames.headers(1, [(b"A", b"b")], end=True))
    assert sent(wire) == [reset(1, ErrorCode.PROTOCOL_ERROR)]


def test_a_reason_holds_no_value_of_a_field() -> None:
    for fields in ([*OK, (b"set-cookie", b"s3cret\x00")], [*OK, (b"content-length", b"s3cret")]):
        event = feed(opened(), frames.headers(1, fields))[-1]
        assert isinstance(event, Failed)
        assert "s3cret" not in event.reason


def test_a_length_among_the_trailers_means_nothing() -> None:
    wire = opened()
    events = feed(wire, HEAD_200, frames.headers(1, [(b"content-length", b"x")], end=True))
    assert events[1:] == [Ended(1, Headers({"content-length": "x"}))]
    works(wire)


# --- GOAWAY ------------------------------------------------------------------------------------------------------


def test_goaway_refuses_what_it_does_not_serve_and_the_rest_completes() -> None:
    wire = opened("GET", "GET", "GET")
    first, second = feed(wire, frames.headers(1, OK), frames.goaway(1))[1:]
    assert [(each.exchange, each.lost, each.outcome) for each in (first, second)] == [
        (3, True, Outcome.REFUSED),
        (5, True, Outcome.REFUSED),
    ]
    assert wire.closing
    assert wire.capacity() == 0
    with pytest.raises(RuntimeError):
        wire.open(get(), end=True)
    assert feed(wire, frames.ping(), frames.data(1, b"x"), frames.data(1, end=True)) == [
        DataReceived(1, b"x"),
        Ended(1),
    ]
    assert sent(wire) == [Sent(frames.PING, frames.ACK, 0, b"12345678")]
    assert feed(wire, b"") == []


def test_goaway_may_come_twice() -> None:
    wire = opened("GET", "GET")
    assert feed(wire, frames.goaway(HIGHEST)) == []
    assert wire.closing
    (event,) = feed(wire, frames.goaway(1))
    assert (event.exchange, event.outcome) == (3, Outcome.REFUSED)
    assert feed(wire, frames.goaway(HIGHEST)) == []
    assert isinstance(feed(wire, frames.headers(1, OK, end=True))[-1], Ended)


def test_goaway_says_why_in_the_errors() -> None:
    wire = opened("GET", "GET")
    (refused,) = feed(wire, frames.goaway(1, ErrorCode.ENHANCE_YOUR_CALM, b"s3cret debug"))
    (lost,) = feed(wire, b"")
    assert (lost.exchange, lost.lost, lost.outcome) == (1, True, Outcome.UNKNOWN)
    for event in (refused, lost):
        assert "ENHANCE_YOUR_CALM" in event.reason
        assert "s3cret" not in event.reason


def test_goaway_ignores_the_reserved_bit() -> None:
    wire = opened("GET", "GET")
    assert [event.exchange for event in feed(wire, frames.goaway(2**31 + 1))] == [3]


def test_an_answer_on_a_stream_that_goaway_refused_goes_nowhere() -> None:
    wire = opened("GET", "GET")
    (refused,) = feed(wire, frames.goaway(1))
    assert (refused.exchange, refused.outcome) == (3, Outcome.REFUSED)
    assert feed(wire, frames.headers(3, OK), frames.data(3, b"x", end=True)) == []
    assert isinstance(feed(wire, frames.headers(1, OK, end=True))[-1], Ended)


def test_goaway_takes_nothing_back_of_an_answer_that_has_begun() -> None:
    wire = opened("POST")
    (*_, event) = feed(wire, frames.headers(1, OK), frames.goaway(0))
    assert (event.exchange, event.lost, event.outcome) == (1, True, Outcome.ANSWERED)
    assert event.reason == "the server closes the connection in the middle of its answer"


def test_goaway_does_not_let_refused_bodies_go_on() -> None:
    wire = sending({frames.INITIAL_WINDOW_SIZE: 1}, count=2)
    wire.send(1, b"ab")
    wire.send(3, b"ab")
    wire.take_output()
    feed(wire, frames.goaway(1))
    assert sent(wire) == []
    assert wire.send(3, b"b") == 1
    assert feed(wire, frames.settings({frames.INITIAL_WINDOW_SIZE: 9})) == [SendAllowed(1)]
    assert open_in_h2(wire) == len(wire._streams) == 1


# --- SETTINGS, PING and what is ignored --------------------------------------------------------------------------


def test_the_limit_of_streams_is_honoured() -> None:
    wire = opened("GET", "GET", values={frames.MAX_CONCURRENT_STREAMS: 2})
    with pytest.raises(RuntimeError):
        wire.open(get(), end=True)
    feed(wire, frames.settings({frames.MAX_CONCURRENT_STREAMS: 3}))
    assert wire.capacity() == 3
    wire.open(get(), end=True)
    feed(wire, frames.settings({frames.MAX_CONCURRENT_STREAMS: 1}))
    assert wire.capacity() == 1
    feed(wire, *(frames.headers(number, OK, end=True) for number in (1, 3)))
    with pytest.raises(RuntimeError):
        wire.open(get(), end=True)
    feed(wire, frames.headers(5, OK, end=True))
    wire.take_output()
    works(wire)


def test_a_limit_of_no_streams_is_not_the_end() -> None:
    wire = ready({frames.MAX_CONCURRENT_STREAMS: 0})
    assert (wire.capacity(), wire.closing) == (0, False)
    with pytest.raises(RuntimeError):
        wire.open(get(), end=True)
    feed(wire, frames.settings({frames.MAX_CONCURRENT_STREAMS: 1}))
    wire.take_output()
    works(wire)


def test_an_exchange_that_is_over_makes_room() -> None:
    wire = opened("GET", values={frames.MAX_CONCURRENT_STREAMS: 1})
    for end in (
        None,
        frames.rst(3, 0),
        frames.headers(5, b""),
        frames.headers(7, OK, end=True),
        frames.window(9, HIGHEST),
    ):
        with pytest.raises(RuntimeError):
            wire.open(get(), end=True)
        if end is None:
            wire.abandon(1)
        else:
            wire.receive(end)
        wire.open(get(), end=True)


@pytest.mark.parametrize("sizes", [[2**32 - 1], [65536, 4096], [0], [0, 0], [100, 100], [65536, 100], [100, 65536, 50]])
def test_the_servers_table_size_is_obeyed_and_never_makes_ours_grow(sizes: list[int]) -> None:
    wire, reader = ready(), ClientReader()
    for round_ in range(3):
        if round_:
            feed(wire, *(frames.settings({frames.HEADER_TABLE_SIZE: size}) for size in sizes))
            reader.decoder.max_allowed_table_size = sizes[-1]
        for place in range(30):
            wire.open(get(**{f"X-{round_}-{place}": "v" * 200}), end=True)
        reader.feed(wire.take_output())
    assert wire._encoder.header_table_size <= min(4096, sizes[-1])
    table = wire._encoder.header_table
    assert sum(len(name) + len(value) + 32 for name, value in table.dynamic_entries) <= min(4096, sizes[-1])
    assert len(reader.fields) == 90


def test_table_sizes_said_again_and_again_do_not_add_up() -> None:
    wire = ready()
    feed(wire, frames.settings({frames.HEADER_TABLE_SIZE: 2**32 - 1}) * 1000)
    wire.take_output()
    wire.open(get(), end=True)
    assert len(wire.take_output()) < 200


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        (2, 2, ErrorCode.PROTOCOL_ERROR),
        (2, 1, ErrorCode.PROTOCOL_ERROR),
        (frames.INITIAL_WINDOW_SIZE, 2**31, ErrorCode.FLOW_CONTROL_ERROR),
        (frames.MAX_FRAME_SIZE, 16383, ErrorCode.PROTOCOL_ERROR),
        (frames.MAX_FRAME_SIZE, 2**24, ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_settings_that_are_not_allowed_end_the_connection(key: int, value: int, code: ErrorCode) -> None:
    wire = opened()
    (event,) = feed(wire, frames.settings({key: value}))
    assert (event.lost, event.outcome) == (False, Outcome.UNKNOWN)
    broken(wire, code)


@pytest.mark.parametrize(
    ("key", "value"),
    [(2, 0), (frames.INITIAL_WINDOW_SIZE, HIGHEST), (frames.MAX_FRAME_SIZE, 2**24 - 1), (6, 0), (0xFFFF, 2**32 - 1)],
)
def test_settings_that_are_allowed(key: int, value: int) -> None:
    wire = opened()
    assert feed(wire, frames.settings({key: value})) == []
    assert sent(wire) == [Sent(frames.SETTINGS, frames.ACK, 0, b"")]
    works(wire)


def test_ping_is_answered_once() -> None:
    wire = ready()
    assert feed(wire, frames.ping(b"abcdefgh"), frames.ping(b"12345678", ack=True)) == []
    assert sent(wire) == [Sent(frames.PING, frames.ACK, 0, b"abcdefgh")]


def test_our_ping_and_goodbye() -> None:
    wire = ready()
    assert wire.ping()
    (frame,) = sent(wire)
    assert (frame.kind, frame.flags, frame.stream, len(frame.payload)) == (frames.PING, 0, 0, 8)
    wire.close()
    wire.close()
    (frame,) = sent(wire)
    assert (frame.kind, frame.number(), frame.number(4)) == (frames.GOAWAY, 0, ErrorCode.NO_ERROR)
    assert not wire.ping()
    assert wire.closing
    assert wire.receive(frames.ping()) == []
    assert wire.take_output() == b""


@pytest.mark.parametrize(
    "act",
    [
        functools.partial(H2Wire.abandon, exchange=1),
        functools.partial(H2Wire.consumed, exchange=1, size=MIB),
        functools.partial(H2Wire.send, exchange=1, data=b"x"),
        functools.partial(H2Wire.finish, exchange=1),
    ],
    ids=["abandon", "consumed", "send", "finish"],
)
def test_nothing_is_sent_after_the_goodbye(act: Callable[[H2Wire], object]) -> None:
    wire = sending()
    wire.close()
    wire.take_output()
    act(wire)
    assert wire.take_output() == b""


@pytest.mark.parametrize(
    "frame",
    [
        frames.raw(0xFA, 0xFF, 0, b"?"),
        frames.raw(0xFA, 0, 1, bytes(16384)),
        frames.raw(0xA, 0, 1, b""),
        frames.raw(0x10, 0, 2, b""),
        frames.priority(1),
        frames.priority(1, depends_on=1),
        frames.priority(99),
        frames.priority(2),
        frames.settings(ack=True),
        frames.ping(ack=True),
    ],
)
def test_frames_that_are_ignored(frame: bytes) -> None:
    wire = opened()
    assert feed(wire, frame) == []
    assert wire.take_output() == b""
    works(wire)


def test_priorities_in_a_head_are_ignored() -> None:
    wire = opened()
    assert feed(wire, frames.headers(1, OK, end=True, priority=b"\x80\x00\x00\x01\xff"))[-1] == Ended(1)


def test_flags_without_a_meaning_are_ignored() -> None:
    wire = opened()
    kind = [frames.HEADERS, frames.DATA]
    pieces = [frames.raw(kind[0], 0x44 | 0x90, 1, frames.block(OK)), frames.raw(kind[1], 0x76 | 1, 1, b"x")]
    assert feed(wire, *pieces)[1:] == [DataReceived(1, b"x"), Ended(1)]


# --- frames that end the connection ------------------------------------------------------------------------------

VIOLATIONS: dict[str, tuple[bytes, ErrorCode]] = {
    "push": (frames.push_promise(1, 2, [(b":method", b"GET")]), ErrorCode.PROTOCOL_ERROR),
    "data, idle stream": (frames.data(5, b"x"), ErrorCode.PROTOCOL_ERROR),
    "head, idle stream": (frames.headers(5, OK), ErrorCode.PROTOCOL_ERROR),
    "reset, idle stream": (frames.rst(5, 0), ErrorCode.PROTOCOL_ERROR),
    "window, idle stream": (frames.window(5, 1), ErrorCode.PROTOCOL_ERROR),
    "data, even stream": (frames.data(2, b"x"), ErrorCode.PROTOCOL_ERROR),
    "head, even stream": (frames.headers(2, OK), ErrorCode.PROTOCOL_ERROR),
    "reset, even stream": (frames.rst(2, 0), ErrorCode.PROTOCOL_ERROR),
    "window, even stream": (frames.window(2, 1), ErrorCode.PROTOCOL_ERROR),
    "data, ended stream": (frames.headers(1, OK, end=True) + frames.data(1, b"x"), ErrorCode.STREAM_CLOSED),
    "empty data, ended stream": (frames.headers(1, OK, end=True) + frames.data(1), ErrorCode.STREAM_CLOSED),
    "head, ended stream": (frames.headers(1, OK, end=True) + frames.headers(1, OK), ErrorCode.STREAM_CLOSED),
    "data, 304 ended": (
        frames.headers(1, [(b":status", b"304"), length(3)]) + frames.data(1, end=True) + frames.data(1, b"x"),
        ErrorCode.STREAM_CLOSED,
    ),
    "data, stream they reset": (frames.rst(1, 0) + frames.data(1, b"x"), ErrorCode.STREAM_CLOSED),
    "connection window of nothing": (frames.window(0, 0), ErrorCode.PROTOCOL_ERROR),
    "connection window too large": (frames.window(0, HIGHEST), ErrorCode.FLOW_CONTROL_ERROR),
    "frame too large": (frames.data(1, bytes(16385)), ErrorCode.FRAME_SIZE_ERROR),
    "PING too small": (frames.ping(b"1234567"), ErrorCode.FRAME_SIZE_ERROR),
    "RST_STREAM too large": (frames.raw(frames.RST_STREAM, 0, 1, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "SETTINGS torn": (frames.raw(frames.SETTINGS, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE too small": (frames.raw(frames.WINDOW_UPDATE, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
    "PRIORITY too small": (frames.raw(frames.PRIORITY, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
    "padding of data": (HEAD_200 + frames.raw(frames.DATA, frames.PADDED, 1, b"\x05abc"), ErrorCode.PROTOCOL_ERROR),
    "padding of a head": (
        frames.raw(frames.HEADERS, frames.PADDED | frames.END_HEADERS, 1, b"\x05abc"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "block interrupted": (frames.headers(1, b"", end_headers=False) + frames.ping(), ErrorCode.PROTOCOL_ERROR),
    "block interrupted by an unknown frame": (
        frames.headers(1, b"", end_headers=False) + frames.raw(0xFA, 0, 1),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "continuation of nothing": (frames.continuation(1, b""), ErrorCode.PROTOCOL_ERROR),
    "compression": (frames.headers(1, b"\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
    "a head without room for its priority": (frames.raw(1, 0x24, 1, b"abcd"), ErrorCode.FRAME_SIZE_ERROR),
    "padding over the priority": (frames.raw(1, 0x2C, 1, b"\x03abcdefg"), ErrorCode.PROTOCOL_ERROR),
    "padding without a length": (frames.raw(1, 0x0C, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "compression, late table size": (frames.headers(1, frames.block(OK) + b"\x20"), ErrorCode.COMPRESSION_ERROR),
    "compression, table too large": (
        frames.headers(1, b"\x3f\xe2\x1f" + frames.block(OK)),
        ErrorCode.COMPRESSION_ERROR,
    ),
    "continuations without end": (
        frames.headers(1, b"", end_headers=False) + frames.continuation(1, b"", end_headers=False) * 1000,
        ErrorCode.PROTOCOL_ERROR,
    ),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_frames_that_end_the_connection(name: str) -> None:
    data, code = VIOLATIONS[name]
    wire = opened("GET", "GET")
    event = feed(wire, data, HEAD_200)[-1]
    assert isinstance(event, Failed)
    assert (event.exchange, event.lost, event.outcome) == (3, False, Outcome.UNKNOWN)
    broken(wire, code)


def test_frames_before_the_bad_one_count() -> None:
    wire = opened("GET", "GET")
    events = feed(wire, frames.headers(1, OK) + frames.data(1, b"x", end=True) + frames.data(0))
    assert [type(event) for event in events] == [ResponseReceived, DataReceived, Ended, Failed]
    assert events[-1].exchange == 3


@pytest.mark.parametrize("frame", [frames.rst(1, 0), frames.window(1, 5), frames.window(1, 0), frames.priority(1)])
def test_what_may_cross_with_our_last_frame_is_ignored(frame: bytes) -> None:
    for end in (frames.headers(1, OK, end=True), frames.rst(1, 0)):
        wire = opened("GET", "GET")
        feed(wire, end)
        assert feed(wire, frame) == []
        assert wire.take_output() == b""
        works(wire)


def test_the_reserved_bit_of_an_increment_is_ignored() -> None:
    wire = sending({frames.INITIAL_WINDOW_SIZE: 0})
    wire.send(1, b"abc")
    assert feed(wire, frames.window(0, 2**31 + 1), frames.window(1, 2**31 + 2)) == [SendAllowed(1)]
    assert wire.send(1, b"abc") == 2


def test_a_window_that_is_too_large_ends_its_stream() -> None:
    wire = sending(count=2)
    (event,) = feed(wire, frames.window(1, HIGHEST - 65_535), frames.window(1, 1))
    assert (event.exchange, event.lost, event.outcome) == (1, False, Outcome.UNKNOWN)
    assert sent(wire) == [reset(1, ErrorCode.FLOW_CONTROL_ERROR)]
    assert feed(wire, frames.rst(1, 0), frames.window(1, 1)) == []
    works(wire)


def test_an_answer_in_flight_when_its_window_was_too_large_harms_no_other() -> None:
    wire = sending(count=2)
    (event,) = feed(wire, frames.window(1, HIGHEST), frames.headers(1, OK), frames.data(1, b"x", end=True))
    assert event.exchange == 1
    assert sent(wire) == [reset(1, ErrorCode.FLOW_CONTROL_ERROR)]
    works(wire)


def test_the_window_of_a_stream_that_has_ended_cannot_become_too_large() -> None:
    wire = opened("GET", "GET")
    feed(wire, frames.window(1, HIGHEST - 65_535), frames.headers(1, OK, end=True))
    assert feed(wire, frames.settings({frames.INITIAL_WINDOW_SIZE: 65_536})) == []
    wire.take_output()
    works(wire)


def test_settings_that_make_a_window_too_large_end_the_connection() -> None:
    wire = sending(count=2)
    feed(wire, frames.window(1, HIGHEST - 65_535))
    assert len(feed(wire, frames.settings({frames.INITIAL_WINDOW_SIZE: 65_536}))) == 2
    broken(wire, ErrorCode.FLOW_CONTROL_ERROR)


@pytest.mark.parametrize("frames_of_head", [1, 5])
def test_a_head_may_be_so_large_and_no_larger(frames_of_head: int) -> None:
    def answer(extra: int) -> list[bytes]:
        encoder = Encoder()
        fields = [(b":status", b"200"), (b"a", b"x" * 3967)]  # 42 bytes, and 4000
        fields += [fields[1]] * 15 + [(b"b", b"y" * (65_536 - 42 - 16 * 4000 - 33 + extra))]
        fragment = frames.block(fields, encoder)
        assert len(fragment) < 16_384
        step = -(-len(fragment) // frames_of_head)
        parts = [fragment[i : i + step] for i in range(0, len(fragment), step)]
        pieces = [frames.headers(1, parts[0], end_headers=len(parts) == 1, end=True)]
        pieces += [frames.continuation(1, part, end_headers=part is parts[-1]) for part in parts[1:]]
        return pieces

    assert isinstance(feed(opened(), *answer(0))[-1], Ended)
    wire = opened("GET", "GET")
    assert [event.exchange for event in feed(wire, *answer(1))] == [1, 3]
    broken(wire, ErrorCode.ENHANCE_YOUR_CALM)


def test_a_head_of_many_large_frames_is_given_up_in_time() -> None:
    wire = opened()
    wire.receive(frames.headers(1, bytes(16384), end_headers=False))
    taken = 0
    while not wire.receive(frames.continuation(1, bytes(16384), end_headers=False)):
        taken += 1
        assert taken < 8  # 128 KiB
    broken(wire, ErrorCode.ENHANCE_YOUR_CALM)


FLOODS: dict[str, bytes] = {
    "PING": frames.ping(),
    "PING ACK": frames.ping(ack=True),
    "SETTINGS": frames.settings(),
    "SETTINGS ACK": frames.settings(ack=True),
    "empty DATA": frames.data(3),
    "padded DATA": frames.data(3, pad=0),
    "WINDOW_UPDATE": frames.window(0, 1),
    "WINDOW_UPDATE of a stream": frames.window(1, 1),
    "WINDOW_UPDATE of an ended stream": frames.window(5, 1),
    "RST_STREAM": frames.rst(5, 0),
    "RST_STREAM of a stream that we reset": frames.rst(7, 0),
    "empty DATA of a stream that we reset": frames.data(7),
    "HEADERS of a stream that we reset": frames.headers(7, OK),
    "PRIORITY": frames.priority(1),
    "unknown": frames.raw(0xFA, 0, 1),
    "GOAWAY": frames.goaway(HIGHEST),
}


@pytest.mark.parametrize("name", FLOODS)
def test_frames_that_bring_nothing_are_bounded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_IDLE_FRAMES", 100)
    wire = opened(*["GET"] * 4)
    wire.abandon(7)
    feed(wire, frames.headers(5, OK, end=True), frames.headers(3, OK))
    wire.take_output()
    assert feed(wire, FLOODS[name] * 100) == []
    assert len(wire.take_output()) <= 100 * 17
    assert feed(wire, frames.data(3, b"x")) == [DataReceived(3, b"x")]
    assert feed(wire, FLOODS[name] * 100) == []
    events = feed(wire, FLOODS[name])
    assert [(event.exchange, event.lost) for event in events] == [(1, False), (3, False)]
    broken(wire, ErrorCode.ENHANCE_YOUR_CALM)


def test_progress_of_ours_ends_a_row_of_frames_that_bring_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_IDLE_FRAMES", 3)
    wire = sending()
    feed(wire, frames.window(0, 1) * 3)
    wire.send(1, b"x")
    feed(wire, frames.window(0, 1) * 3)
    wire.open(get(), end=True)
    feed(wire, frames.window(0, 1) * 3)
    feed(wire, frames.headers(1, OK))
    assert feed(wire, frames.window(0, 1) * 3) == []
    assert len(feed(wire, frames.window(0, 1))) == 2


def test_settings_that_nobody_knows_are_not_kept() -> None:
    wire = ready()
    keys = range(0x100, 0x100 + 20_000)
    feed(wire, *(frames.settings(dict.fromkeys(keys[i : i + 2000], 1)) for i in range(0, len(keys), 2000)))
    assert not wire.closing
    assert len(wire._h2.remote_settings) < 100


def test_the_streams_that_we_reset_are_remembered_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_RESET_STREAMS", 3)
    wire = opened(*["GET"] * 5)
    for number in (1, 3, 5, 7):
        wire.abandon(number)
    assert feed(wire, frames.headers(3, OK)) == []
    assert [event.exchange for event in feed(wire, frames.headers(1, OK))] == [9]


def test_the_numbers_of_streams_are_used_up() -> None:
    wire = ready()
    wire._last = HIGHEST - 4
    assert wire.open(get(), end=True) == HIGHEST - 2
    assert not wire.closing
    assert wire.open(get(), end=True) == HIGHEST
    assert wire.closing
    assert wire.capacity() == 0
    with pytest.raises(RuntimeError):
        wire.open(get(), end=True)
    assert feed(wire, frames.headers(HIGHEST, OK, end=True))[-1] == Ended(HIGHEST)


# --- the end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x46" + bytes(9), b"x" * 100],
)
def test_bytes_that_are_no_http2(answer: bytes) -> None:
    wire = H2Wire()
    wire.open(get(), end=True)
    (event,) = feed(wire, answer)
    assert (event.exchange, event.lost, event.outcome) == (1, False, Outcome.UNKNOWN)
    broken(wire, ErrorCode.PROTOCOL_ERROR)


@pytest.mark.parametrize(
    ("pieces", "outcome"),
    [
        ([], Outcome.UNKNOWN),
        ([frames.headers(1, HINTS)], Outcome.UNKNOWN),
        ([HEAD_200[:-1]], Outcome.UNKNOWN),
        ([frames.headers(1, frames.block(OK), end_headers=False)], Outcome.UNKNOWN),
        ([HEAD_200], Outcome.ANSWERED),
        ([HEAD_200, frames.data(1, b"abc")[:-1]], Outcome.ANSWERED),
        ([HEAD_200, frames.data(1, b"abc")], Outcome.ANSWERED),
        ([frames.goaway(1)], Outcome.UNKNOWN),
    ],
)
def test_an_early_end_is_a_loss(pieces: list[bytes], outcome: Outcome) -> None:
    wire = opened()
    event = feed(wire, *pieces, b"")[-1]
    assert event == Failed(1, "the connection ended before the answer did", True, outcome)
    assert wire.closing
    assert wire.capacity() == 0
    assert wire.receive(frames.headers(1, OK)) == []
    wire.abandon(1)
    assert wire.take_output() == b""


@pytest.mark.parametrize("wire", [H2Wire(), ready()])
def test_an_end_between_exchanges(wire: H2Wire) -> None:
    assert wire.receive(b"") == []
    assert wire.closing
    assert wire.receive(b"") == []


def test_an_end_before_the_settings() -> None:
    wire = H2Wire()
    wire.open(get(), end=True)
    (event,) = feed(wire, b"HTTP", b"")
    assert (event.lost, event.outcome) == (True, Outcome.UNKNOWN)


# --- windows that we give ----------------------------------------------------------------------------------------


def credit(output: list[Sent]) -> dict[int, int]:
    """What was given back, by stream."""
    given: dict[int, int] = {}
    for frame in output:
        if frame.kind == frames.WINDOW_UPDATE:
            given[frame.stream] = given.get(frame.stream, 0) + frame.number()
    return given


CHUNK = 16_384


def test_the_connections_window_is_given_back_as_data_arrives() -> None:
    wire = opened("GET")
    number, arrived = 1, 0
    feed(wire, frames.headers(1, OK))
    while arrived < codec.CONNECTION_WINDOW // 4:
        assert credit(sent(wire)) == {}
        if arrived and arrived % MIB == 0:  # nobody reads: the stream's window is used up, another's is not
            number = wire.open(get(), end=True)
            feed(wire, frames.headers(number, OK))
        feed(wire, frames.data(number, bytes(CHUNK - 1), pad=0) if arrived % 2 else frames.data(number, bytes(CHUNK)))
        arrived += CHUNK
    assert credit(sent(wire)) == {0: codec.CONNECTION_WINDOW // 4}


def test_a_streams_window_is_given_back_as_data_is_used() -> None:
    wire = opened()
    feed(wire, frames.headers(1, OK), *[frames.data(1, bytes(CHUNK))] * 64)
    assert sent(wire) == []
    used = given_back = updates = 0
    while used < MIB // 2:
        wire.consumed(1, MIB // 64)
        used += MIB // 64
        output = sent(wire)
        updates += len(output)
        given_back += credit(output).get(1, 0)
        assert 0 <= used - given_back < MIB // 4
    assert 2 <= updates <= 8  # and not one for each


def test_a_streams_window_grows_while_its_reader_keeps_up() -> None:
    wire = opened()
    feed(wire, frames.headers(1, OK))
    size, allowed = MIB, MIB
    for _ in range(30):
        feed(wire, *[frames.data(1, bytes(CHUNK))] * 16)
        allowed -= 16 * CHUNK
        wire.consumed(1, 16 * CHUNK)
        allowed += credit(sent(wire)).get(1, 0)
        assert allowed <= codec.MAX_STREAM_WINDOW
        size = max(size, allowed)
    assert size > MIB
    before = wire._streams[1].window
    assert before > MIB
    for _ in range(1000):
        feed(wire, *[frames.data(1, bytes(CHUNK))] * 16)
        wire.consumed(1, 16 * CHUNK)
        if wire._streams[1].window >= codec.MAX_STREAM_WINDOW:
            break
    assert wire._streams[1].window == codec.MAX_STREAM_WINDOW
    assert wire._streams[1].left <= codec.MAX_STREAM_WINDOW


def test_padding_is_given_back_to_a_stream_that_nobody_reads() -> None:
    wire = opened()
    feed(wire, frames.headers(1, OK), frames.data(1, b"x"))
    padding = given_back = 0
    for _ in range(2 * MIB // 256):  # more than its window
        feed(wire, frames.data(1, pad=255))
        padding += 256
        given_back += credit(sent(wire)).get(1, 0)
        assert 0 <= padding - given_back < MIB // 4
    assert not wire.closing


def test_a_stream_that_has_ended_gets_no_window() -> None:
    wire = opened()
    feed(wire, frames.headers(1, OK), *[frames.data(1, bytes(CHUNK))] * 40, frames.data(1, end=True))
    wire.consumed(1, 40 * CHUNK)
    assert sent(wire) == []


def test_more_data_than_a_streams_window_ends_the_connection() -> None:
    wire = opened()
    feed(wire, frames.headers(1, OK), *[frames.data(1, bytes(CHUNK))] * 64)
    (event,) = feed(wire, frames.data(1, b"x"))
    assert (event.lost, event.outcome) == (False, Outcome.ANSWERED)
    broken(wire, ErrorCode.FLOW_CONTROL_ERROR)


# --- late frames -------------------------------------------------------------------------------------------------


def test_late_frames_of_a_stream_that_we_reset_are_dropped() -> None:
    wire = opened("GET", "GET")
    feed(wire, frames.headers(1, OK), frames.data(1, b"x"))
    wire.abandon(1)
    assert sent(wire) == [reset(1, ErrorCode.CANCEL)]
    late = [frames.data(1, b"y" * 100), frames.data(1, pad=3), frames.window(1, 1), frames.headers(1, [], end=True)]
    for piece in [*late, frames.rst(1, 0)]:
        assert feed(wire, piece) == []
        assert sent(wire) == []
    works(wire)


@pytest.mark.parametrize("cleaned", [False, True], ids=["at once", "after a further request"])
@pytest.mark.parametrize(
    "late",
    [
        [frames.headers(1, HINTS)],
        [frames.headers(1, HINTS, end=True)],
        [frames.headers(1, OK)],
        [frames.headers(1, [(b"content-length", b"x")], end=True)],
        [frames.headers(1, frames.block(OK)[:0], end_headers=False), frames.continuation(1, frames.block(OK))],
        [frames.data(1)],
        [frames.data(1, end=True)],
        [frames.data(1, b"x", end=True)],
    ],
)
def test_any_late_frame_harms_no_sibling(late: list[bytes], cleaned: bool) -> None:
    wire = opened("GET", "GET")
    wire.abandon(1)
    if cleaned:
        wire.open(get(), end=True)
    wire.take_output()
    assert feed(wire, *late) == []
    assert sent(wire) == []
    assert feed(wire, frames.headers(3, OK, end=True))[-1] == Ended(3)
    works(wire)


def test_a_head_that_is_given_up_half_way_is_read_to_its_end() -> None:
    wire, encoder = opened("GET", "GET"), Encoder()
    fragment = frames.block([*OK, (b"x-a", b"1")], encoder)
    feed(wire, frames.headers(1, fragment[:3], end_headers=False))
    wire.abandon(1)
    assert feed(wire, frames.continuation(1, fragment[3:])) == []
    assert sent(wire) == [reset(1, ErrorCode.CANCEL)]
    (event, _) = feed(wire, frames.headers(3, frames.block([*OK, (b"x-a", b"1")], encoder), end=True))
    assert event == ResponseReceived(3, head(200, (b"x-a", b"1")))


@pytest.mark.parametrize("given_up", ["abandoned", "malformed", "malformed earlier", "misplaced"])
def test_the_compression_stays_in_step(given_up: str) -> None:
    wire, encoder = opened("GET", "GET"), Encoder()
    fields = [*OK, (b"x-a", b"1"), (b"x-b", b"2")]
    if given_up == "abandoned":
        wire.abandon(1)
    elif given_up == "malformed":
        fields.append((b"A", b"3"))
    elif given_up == "malformed earlier":
        feed(wire, frames.data(1, b"x"))
    else:
        feed(wire, frames.headers(1, OK))
    feed(wire, frames.headers(1, frames.block(fields, encoder)))
    again = frames.block([*OK, (b"x-b", b"2"), (b"x-a", b"1")], encoder)
    assert len(again) == 3
    (event, _) = feed(wire, frames.headers(3, again, end=True))
    assert event == ResponseReceived(3, head(200, (b"x-b", b"2"), (b"x-a", b"1")))


def test_the_connections_window_is_given_back_for_late_data_too() -> None:
    wire = ready()
    arrived = given_back = 0
    while arrived < codec.CONNECTION_WINDOW * 5 // 16:
        number = wire.open(get(), end=True)
        feed(wire, frames.headers(number, OK))
        wire.abandon(number)
        feed(wire, *[frames.data(number, bytes(CHUNK))] * 64)
        arrived += MIB
        output = sent(wire)
        assert sum(frame.kind == frames.RST_STREAM for frame in output) == 1
        given_back += credit(output).get(0, 0)
        assert arrived - given_back < codec.CONNECTION_WINDOW // 4


def test_more_late_data_than_the_stream_had_window_ends_the_connection() -> None:
    wire = opened("GET", "GET")
    feed(wire, frames.headers(1, OK), *[frames.data(1, bytes(CHUNK))] * 10)
    wire.abandon(1)
    assert feed(wire, *[frames.data(1, bytes(CHUNK - 1), pad=0)] * 54) == []
    (event,) = feed(wire, frames.data(1, b"x"))
    assert event.exchange == 3
    broken(wire, ErrorCode.FLOW_CONTROL_ERROR)


# --- any bytes, any frames ---------------------------------------------------------------------------------------


def exchanges_end_once(events: list[Any], abandoned: set[int], numbers: list[int]) -> None:
    """Every exchange ends exactly once, with nothing after its end, and has at most one head."""
    over, heads = set(abandoned), set[int]()
    for event in events:
        number = event.exchange
        assert number in numbers
        assert number not in over
        if isinstance(event, Ended | Failed):
            over.add(number)
        elif isinstance(event, ResponseReceived):
            assert number not in heads
            heads.add(number)
        elif isinstance(event, DataReceived):
            assert number in heads
            assert event.data
        if isinstance(event, Failed):
            assert (event.outcome is Outcome.ANSWERED) == (number in heads)
        elif isinstance(event, Ended):
            assert number in heads
    assert over == set(numbers)


def mixed() -> H2Wire:
    """Requests of every kind: 1 complete, 3 HEAD, 5 with a body under way, 7 given up, 9 waiting for window."""
    wire = H2Wire()
    wire.receive(frames.settings({frames.INITIAL_WINDOW_SIZE: 20}))
    wire.open(get(), end=True)
    wire.open(get("HEAD"), end=True)
    for _ in range(3):
        wire.open(get("POST"), end=False)
    wire.send(5, b"abc")
    wire.abandon(7)
    wire.send(9, b"x" * 30)
    wire.take_output()
    return wire


def same_in_any_split(make: Callable[[], H2Wire], data: bytes, draw: st.DataObject, numbers: list[int]) -> list[Any]:
    whole = make()
    events = feed(whole, data) if data else []
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]
    parts = make()
    assert feed(parts, *pieces) == events
    output = whole.take_output()
    assert parts.take_output() == output
    assert parts.closing == whole.closing
    split(output)
    if not whole._closed:
        assert open_in_h2(whole) == len(whole._streams)
    events += feed(whole, b"", data or b"x")
    assert whole.closing
    exchanges_end_once(events, {7} & set(numbers), numbers)
    return events


def fresh() -> H2Wire:
    wire = H2Wire()
    wire.open(get(), end=True)
    wire.take_output()
    return wire


STREAMS = st.sampled_from([1, 3, 5, 7, 9, 0, 2, 11, 2**31 + 1])
FRAGMENTS = st.one_of(
    st.builds(
        frames.block,
        st.lists(
            st.sampled_from(
                [
                    (b":status", b"200"),
                    (b":status", b"204"),
                    (b"a", b"b"),
                    (b"A", b"b"),
                    length(3),
                    (b"content-length", b"x"),
                ]
            ),
            max_size=3,
        ),
    ),
    st.sampled_from(
        [frames.block(OK), frames.block([*OK, length(3)]), frames.block([(b"t", b"u")]), frames.block(HINTS)]
    ),
    st.binary(max_size=6),
)


def in_two(stream: int, first: bytes, last: bytes, end: bool) -> bytes:
    """A header block of two frames."""
    return frames.headers(stream, first, end=end, end_headers=False) + frames.continuation(stream, last)


CONTENT = st.sampled_from([b"", b"abc", b"x"]) | st.binary(max_size=5)
PADS = st.none() | st.sampled_from([0, 1, 255])
BAD = st.builds(
    frames.raw,
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8, 0x25, 0xFF]),
    STREAMS,
    st.sampled_from([b"", bytes(4), bytes(5), bytes(6), bytes(8), b"\xff" * 8]) | st.binary(max_size=8),
)
GOOD = st.one_of(
    st.builds(frames.headers, STREAMS, FRAGMENTS, end=st.booleans(), pad=PADS),
    st.builds(frames.data, STREAMS, CONTENT, end=st.booleans(), pad=PADS),
    st.builds(frames.data, STREAMS, CONTENT, end=st.booleans(), pad=PADS),
    st.builds(in_two, STREAMS, FRAGMENTS, FRAGMENTS, st.booleans()),
    st.builds(frames.headers, STREAMS, FRAGMENTS, end_headers=st.booleans(), priority=st.sampled_from([b"", bytes(5)])),
    st.builds(frames.continuation, STREAMS, FRAGMENTS, end_headers=st.booleans()),
    st.builds(frames.rst, STREAMS, st.sampled_from([0, 7, 8, 99])),
    st.builds(
        frames.settings,
        st.dictionaries(st.sampled_from([1, 3, 4, 5, 6, 99]), st.sampled_from([0, 1, 30, 16384, 2**31]), max_size=2),
    ),
    st.builds(frames.ping, ack=st.booleans()),
    st.builds(frames.goaway, st.sampled_from([0, 1, 5, HIGHEST]), st.sampled_from([0, 2])),
    st.builds(frames.window, STREAMS, st.sampled_from([0, 1, 40, HIGHEST])),
    st.builds(frames.push_promise, STREAMS, st.sampled_from([2, 3]), st.just(OK)),
    st.builds(frames.priority, STREAMS),
)
WELCOME = st.sampled_from([frames.settings(), frames.settings({frames.MAX_CONCURRENT_STREAMS: 1}), b""])
NUMBERS = [1, 3, 5, 7, 9]


@given(st.booleans(), st.lists(st.binary(max_size=30), max_size=3).map(b"".join), st.data())
@settings(max_examples=examples(150))
def test_any_bytes_in_any_split_give_the_same_events(started: bool, data: bytes, draw: st.DataObject) -> None:
    same_in_any_split(mixed if started else fresh, data, draw, NUMBERS if started else [1])


@given(WELCOME, st.lists(GOOD | BAD, max_size=6).map(b"".join), st.data())
@settings(max_examples=examples(100))
def test_any_frames_from_the_start_in_any_split_give_the_same_events(
    welcome: bytes, data: bytes, draw: st.DataObject
) -> None:
    same_in_any_split(fresh, welcome + data, draw, [1])


@given(st.lists(GOOD, max_size=12), st.lists(BAD, max_size=1), st.lists(GOOD, max_size=3), st.data())
@settings(max_examples=examples(500))
def test_any_frames_in_any_split_give_the_same_events(
    good: list[bytes], bad: list[bytes], more: list[bytes], draw: st.DataObject
) -> None:
    same_in_any_split(mixed, b"".join(good + bad + more), draw, NUMBERS)


@given(st.lists(st.sampled_from([0, 50, 100, 4096, 5000, 2**32 - 1]), min_size=1, max_size=5), st.data())
@settings(max_examples=examples(40))
def test_any_table_sizes_between_requests_keep_the_compression_in_step(sizes: list[int], draw: st.DataObject) -> None:
    wire, reader = ready(), ClientReader()
    for size in sizes:
        feed(wire, frames.settings({frames.HEADER_TABLE_SIZE: size}))
        reader.decoder.max_allowed_table_size = size
        if draw.draw(st.booleans()):
            for value in ("1", "2"):
                number = wire.open(get(**{"X-A": value}), end=True)
            reader.feed(wire.take_output())
            assert (b"x-a", b"2") in reader.fields[number]
    number = wire.open(get(), end=True)
    reader.feed(wire.take_output())
    assert number in reader.fields


# --- against a model ---------------------------------------------------------------------------------------------

STREAM, GREATEST, CONNECTION = 1024, 8192, 65_536  # small windows, so that few frames come to their ends


class ServerStream:
    """A stream as the server knows it, which reads late."""

    def __init__(self, window: int) -> None:
        self.window = STREAM  # what it may send
        self.client_window = window  # what the client may send
        self.client_ended = self.answered = self.ended = False

    @property
    def closed(self) -> bool:
        return self.ended and self.client_ended


class ClientStream:
    """A stream as the client must know it."""

    def __init__(self, window: int) -> None:
        self.window = window  # what it may send
        self.finished = self.answered = self.blocked = False
        self.unread = self.consumed = self.padding = self.given = 0


class Model:
    """A well-behaved server that reads and whose frames arrive whenever the test says so, and what must come of it."""

    def __init__(self) -> None:
        self.wire = H2Wire()
        self.reader = ClientReader()
        self.inbox: list[Sent] = []  # sent by the client, not read by the server
        self.outbox: list[tuple[bytes, tuple[Any, ...]]] = []  # sent by the server, not arrived
        # the server
        self.streams: dict[int, ServerStream] = {}
        self.window = 65_535  # what it may send
        self.client_window = 65_535
        self.limit: int = 2**32
        self.initial, self.frame_size = 65_535, 16_384
        self.unacknowledged: list[dict[int, int]] = []
        self.highest = 0
        self.goaway: int | None = None
        # the client
        self.active: dict[int, ClientStream] = {}
        self.over: set[int] = set()
        self.resets: dict[int, int] = {}
        self.seen_resets: dict[int, int] = {}
        self.our_window, self.our_initial, self.our_limit = 65_535, 65_535, 1
        self.closing = False
        self.arrived = self.given = 0

    # what the client does

    def open(self, size: int, more: int) -> None:
        may = not self.closing and len(self.active) < self.our_limit
        if not may:
            with pytest.raises(RuntimeError):
                self.wire.open(get(), end=True)
            return
        number = self.wire.open(get("POST"), end=not more % 3)
        assert number not in self.active
        assert number not in self.over
        self.active[number] = ClientStream(self.our_initial)
        self.active[number].finished = not more % 3

    def pick(self, of: dict[int, Any], which: int) -> int | None:
        return sorted(of)[which % len(of)] if of else None

    def send(self, size: int, which: int) -> None:
        number = self.pick({n: s for n, s in self.active.items() if not s.finished}, which)
        if number is None:
            return
        stream = self.active[number]
        size = 30_000 if size > 55 else size * 37
        accepted = self.wire.send(number, bytes(size))
        assert accepted == max(0, min(size, stream.window, self.our_window))
        stream.window -= accepted
        self.our_window -= accepted
        stream.blocked = stream.blocked or accepted < size

    def finish(self, size: int, which: int) -> None:
        number = self.pick({n: s for n, s in self.active.items() if not s.blocked}, which)
        if number is not None:
            self.wire.finish(number)
            self.active[number].finished = True

    def abandon(self, size: int, which: int) -> None:
        number = self.pick(self.active, which)
        if number is not None:
            self.wire.abandon(number)
            self.end(number, ErrorCode.CANCEL)

    def consume(self, size: int, which: int) -> None:
        number = self.pick({n: s for n, s in self.active.items() if s.unread}, which)
        if number is not None:
            stream = self.active[number]
            used = min(stream.unread, 1 + size * 20)
            stream.unread -= used
            stream.consumed += used
            self.wire.consumed(number, used)

    def end(self, number: int, code: int | None) -> None:
        del self.active[number]
        assert number not in self.over
        self.over.add(number)
        if code is not None:
            self.resets[number] = code

    # what the server does

    def read(self, size: int, which: int) -> None:
        """Some of what the client has sent, which must be within all limits that it has acknowledged."""
        count = 1 + size // 4
        batch, self.inbox = self.inbox[:count], self.inbox[count:]
        for frame in batch:
            self.read_frame(frame)

    def read_frame(self, frame: Sent) -> None:
        number = frame.stream
        if frame.kind == frames.SETTINGS:
            if frame.flags & frames.ACK:
                values = self.unacknowledged.pop(0)
                self.limit = values.get(frames.MAX_CONCURRENT_STREAMS, self.limit)
                self.frame_size = values.get(frames.MAX_FRAME_SIZE, self.frame_size)
                initial = values.get(frames.INITIAL_WINDOW_SIZE, self.initial)
                for stream in self.streams.values():
                    stream.client_window += initial - self.initial
                self.initial = initial
            return
        if frame.kind == frames.WINDOW_UPDATE:
            if not number:
                self.window += frame.number()
            elif number in self.streams:
                self.streams[number].window += frame.number()
                assert self.streams[number].window <= GREATEST
            return
        if self.goaway is not None and number > self.goaway:
            if frame.kind == frames.DATA:
                self.client_window -= len(frame.payload)
            return
        if frame.kind == frames.HEADERS:
            assert number > self.highest
            self.highest = number
            self.streams[number] = ServerStream(self.initial)
            assert sum(not stream.closed for stream in self.streams.values()) <= self.limit
        if frame.kind == frames.DATA:
            assert len(frame.payload) <= self.frame_size
            self.client_window -= len(frame.payload)
            assert self.client_window >= 0
        if number not in self.streams:
            return  # it has reset it
        stream = self.streams[number]
        if frame.kind == frames.DATA:
            assert not stream.client_ended
            stream.client_window -= len(frame.payload)
            assert stream.client_window >= 0 or not frame.payload
        if frame.kind == frames.RST_STREAM:
            del self.streams[number]
        elif frame.flags & frames.END_STREAM:
            stream.client_ended = True

    def queue(self, data: bytes, *meaning: Any) -> None:
        self.outbox.append((data, meaning))

    def answer(self, size: int, which: int) -> None:
        number = self.pick({n: s for n, s in self.streams.items() if not s.ended}, which)
        if number is None:
            return
        stream = self.streams[number]
        if not stream.answered:
            if size % 5 == 0:
                self.queue(frames.headers(number, HINTS), "interim", number)
                return
            stream.answered = True
            stream.ended = size % 7 == 0
            self.queue(frames.headers(number, OK, end=stream.ended), "head", number, stream.ended)
            return
        pad = None if size % 3 else size * 4
        extra = 0 if pad is None else pad + 1
        room = min(stream.window, self.window, 16_384) - extra
        if size % 11 == 0:
            stream.ended = True
            self.queue(frames.headers(number, [(b"t", b"u")], end=True), "trailers", number)
        elif room >= 0:
            content = bytes([number % 256]) * min(room, size * 30)
            stream.ended = size % 13 == 0
            stream.window -= len(content) + extra
            self.window -= len(content) + extra
            raw = frames.data(number, content, pad=pad, end=stream.ended)
            self.queue(raw, "data", number, content, extra, stream.ended)

    def reset(self, size: int, which: int) -> None:
        number = self.pick({n: s for n, s in self.streams.items() if not s.closed}, which)
        if number is not None:
            stream = self.streams.pop(number)
            code = ErrorCode.NO_ERROR if stream.ended else [ErrorCode.REFUSED_STREAM, ErrorCode.CANCEL][size % 2]
            self.queue(frames.rst(number, code), "reset", number, code)

    def configure(self, size: int, which: int) -> None:
        key = [frames.MAX_CONCURRENT_STREAMS, frames.INITIAL_WINDOW_SIZE, frames.MAX_FRAME_SIZE][which % 3]
        value = [size % 5, size * 50, 16_384 + size][which % 3]
        self.unacknowledged.append({key: value})
        self.queue(frames.settings({key: value}), "settings", key, value)

    def credit(self, size: int, which: int) -> None:
        number = self.pick({0: None, **{n: s for n, s in self.streams.items() if not s.closed}}, which)
        assert number is not None
        increment = 1 + size * 40
        if number:
            self.streams[number].client_window += increment
        else:
            self.client_window += increment
        self.queue(frames.window(number, increment), "window", number, increment)

    def chat(self, size: int, which: int) -> None:
        self.queue(
            [frames.ping(), frames.priority(1 + 2 * which), frames.raw(0xFA, 0, which, b"?")][size % 3], "nothing", 0
        )

    def pump(self, size: int, which: int) -> None:
        """A stream's reader keeps up: everything arrives, is used and given back, again and again."""
        number = self.pick({n: s for n, s in self.streams.items() if s.answered and not s.ended}, which)
        while number is not None and size > 0 and number in self.streams:
            stream = self.streams[number]
            content = bytes(min(stream.window, self.window, 16_384))
            stream.window -= len(content)
            self.window -= len(content)
            self.queue(frames.data(number, content), "data", number, content, 0, False)
            self.deliver(1000, 0)
            if number in self.active and size % 8:
                self.consume(
                    1000, sorted(n for n, s in self.active.items() if s.unread).index(number) if content else 0
                )
            self.check()
            self.read(1000, 0)
            size -= 4

    def say_goodbye(self, size: int, which: int) -> None:
        if size < 56 or (self.goaway is not None and size % 2):
            return
        last = self.highest if self.goaway is not None or size % 2 else HIGHEST
        self.goaway = last if self.goaway is None else min(self.goaway, last)
        self.queue(frames.goaway(self.goaway), "goaway", self.goaway)

    # what arrives

    def deliver(self, size: int, which: int) -> None:
        count = 1 + size // 4
        batch, self.outbox = self.outbox[:count], self.outbox[count:]
        expected: list[Any] = []
        for _, meaning in batch:
            self.expect(meaning, expected)
        events = feed(self.wire, *([b"".join(data for data, _ in batch)] if batch else []))
        allowed = [event.exchange for event in events if isinstance(event, SendAllowed)]
        events = joined([event for event in events if not isinstance(event, SendAllowed)])
        assert [(type(e), e.exchange) for e in events] == [(type(e), e.exchange) for e in joined(expected)]
        for event, wanted in zip(events, joined(expected), strict=True):
            if isinstance(event, Failed):
                assert (event.lost, event.outcome) == (wanted.lost, wanted.outcome)
            else:
                assert event == wanted
        assert len(allowed) == len(set(allowed))
        configured = any(meaning[0] == "settings" for _, meaning in batch)  # it may have taken the window back
        for number in allowed:
            if number in self.active:
                assert self.active[number].blocked
                assert configured or min(self.active[number].window, self.our_window) > 0
                self.active[number].blocked = False
        for stream in self.active.values():
            assert not stream.blocked or min(stream.window, self.our_window) <= 0

    def expect(self, meaning: tuple[Any, ...], expected: list[Any]) -> None:
        kind, number, rest = meaning[0], meaning[1], meaning[2:]
        if kind == "settings":
            if number == frames.MAX_CONCURRENT_STREAMS:
                self.our_limit = rest[0]
            elif number == frames.INITIAL_WINDOW_SIZE:
                for stream in self.active.values():
                    stream.window += rest[0] - self.our_initial
                self.our_initial = rest[0]
        elif kind == "goaway":
            self.closing = True
            for each in [each for each in self.active if each > number]:
                expected.append(Failed(each, "", True, Outcome.REFUSED))
                self.end(each, None)
        elif kind == "window" and not number:
            self.our_window += rest[0]
        else:
            if kind == "data":
                self.arrived += len(rest[0]) + rest[1]
            if number in self.active:
                self.expect_of(self.active[number], number, kind, rest, expected)

    def expect_of(
        self, stream: ClientStream, number: int, kind: str, rest: tuple[Any, ...], expected: list[Any]
    ) -> None:
        match kind:
            case "data":
                stream.unread += len(rest[0])
                stream.padding += rest[1]
                if rest[0]:
                    expected.append(DataReceived(number, rest[0]))
                if rest[2]:
                    self.answered(number, expected, None)
            case "window":
                stream.window += rest[0]
            case "interim":
                expected.append(InterimReceived(number, head(103, (b"link", b"x"))))
            case "head":
                stream.answered = True
                expected.append(ResponseReceived(number, head(200)))
                if rest[0]:
                    self.answered(number, expected, None)
            case "trailers":
                self.answered(number, expected, Headers({"t": "u"}))
            case _:  # reset
                outcome = Outcome.ANSWERED if stream.answered else Outcome.UNKNOWN
                if rest[0] == ErrorCode.REFUSED_STREAM and not stream.answered:
                    outcome = Outcome.REFUSED
                expected.append(Failed(number, "", True, outcome))
                self.end(number, None)

    def answered(self, number: int, expected: list[Any], trailers: Headers | None) -> None:
        expected.append(Ended(number, trailers))
        self.end(number, None if self.active[number].finished else ErrorCode.NO_ERROR)

    # what must always be so

    def check(self) -> None:
        wire = self.wire
        for frame in self.reader.feed(wire.take_output()):
            self.inbox.append(frame)
            if frame.kind == frames.RST_STREAM:
                assert frame.stream not in self.seen_resets
                self.seen_resets[frame.stream] = frame.number()
            elif frame.kind == frames.WINDOW_UPDATE:
                if not frame.stream:
                    self.given += frame.number()
                elif frame.stream in self.active:
                    self.active[frame.stream].given += frame.number()
        assert self.seen_resets == self.resets
        assert not wire._closed
        assert wire.closing == self.closing
        assert set(wire._streams) == set(self.active)
        assert open_in_h2(wire) == len(self.active)
        withheld = self.arrived - (self.given - (CONNECTION - 65_535))
        assert 0 <= withheld < CONNECTION // 4
        for number, stream in self.active.items():
            size = wire._streams[number].window
            assert STREAM <= size <= GREATEST
            assert size * 3 // 4 < STREAM + stream.given - stream.consumed - stream.padding <= size

    def complete(self) -> None:
        """Everything arrives, and then the end."""
        while self.inbox or self.outbox:
            self.read(1000, 0)
            self.deliver(1000, 0)
            self.check()
        events = self.wire.receive(b"")
        assert {(event.exchange, event.outcome) for event in events if isinstance(event, Failed)} == {
            (number, Outcome.ANSWERED if stream.answered else Outcome.UNKNOWN) for number, stream in self.active.items()
        }
        assert len(events) == len(self.active)


ACTIONS = ["open", "open", "send", "send", "finish", "abandon", "consume", "consume", "read", "read", "read"]
ACTIONS.extend(
    ["answer"] * 6 + ["reset", "configure", "credit", "credit", "chat", "say_goodbye"] + ["pump"] * 3 + ["deliver"] * 3
)


@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 63), st.integers(0, 7)), min_size=30, max_size=120))
@settings(max_examples=examples(200))
def test_every_window_and_stream_is_as_a_model_has_it(actions: list[tuple[str, int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "STREAM_WINDOW", STREAM)
        patch.setattr(codec, "MAX_STREAM_WINDOW", GREATEST)
        patch.setattr(codec, "CONNECTION_WINDOW", CONNECTION)
        patch.setattr(codec, "_Stream", functools.partial(codec._Stream, window=STREAM, left=STREAM))
        model = Model()
        model.unacknowledged.append({})
        model.queue(frames.settings(), "settings", frames.MAX_CONCURRENT_STREAMS, 2**32)
        model.check()
        for name, size, which in [("deliver", 9, 0), ("open", 0, 0), ("open", 0, 1), ("read", 99, 0), *actions]:
            getattr(model, name)(size, which)
            model.check()
        model.complete()
