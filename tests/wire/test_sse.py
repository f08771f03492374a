"""Server-sent events as WHATWG HTML 9.2 has them."""

from __future__ import annotations

import math
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyio_client._wire.sse import MAX_EVENT_SIZE, EventTooLarge, ServerSentEvent, SSEDecoder
from tests.kit.fuzz import examples


def decode(data: bytes, *cuts: int, **limits: int) -> list[ServerSentEvent]:
    decoder = SSEDecoder(**limits)  # type: ignore[arg-type]
    places = [0, *cuts, len(data)]
    return [e for a, b in zip(places, places[1:], strict=False) for e in decoder.feed(data[a:b])]


def short(data: bytes) -> list[tuple[str, str | None]]:
    return [(event.data, event.id) for event in decode(data)]


def test_the_case_of_the_rules() -> None:
    assert short(b"id:one\r\ndata:x\r\n\r\ndata:two\n\rdata:unfinished") == [("x", "one"), ("two", "one")]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [ServerSentEvent(None, "a")]),
        (b"data:a\n\n", [ServerSentEvent(None, "a")]),
        (b"data:  a\n\n", [ServerSentEvent(None, " a")]),
        (b"data\n\n", [ServerSentEvent(None, "")]),
        (b"data\ndata\n\n", [ServerSentEvent(None, "\n")]),
        (b"data: a\ndata: b\n\n", [ServerSentEvent(None, "a\nb")]),
        (b"event: e\ndata: a\n\n", [ServerSentEvent("e", "a")]),
        (b"event: e\n\ndata: a\n\n", [ServerSentEvent(None, "a")]),
        (b"event:\ndata: a\n\n", [ServerSentEvent(None, "a")]),
        (b"id: 1\ndata: a\n\ndata: b\n\n", [ServerSentEvent(None, "a", "1"), ServerSentEvent(None, "b", "1")]),
        (b"id: 1\ndata: a\n\nid\ndata: b\n\n", [ServerSentEvent(None, "a", "1"), ServerSentEvent(None, "b", "")]),
        (b"id: 1\0\ndata: a\n\n", [ServerSentEvent(None, "a", None)]),
        (b"retry: 10\ndata: a\n\n", [ServerSentEvent(None, "a", None, 10)]),
        (b"retry: 10\n\ndata: a\n\n", [ServerSentEvent(None, "a", None, None)]),
        (b"retry: 1x\ndata: a\n\n", [ServerSentEvent(None, "a", None, None)]),
        (b"retry: -1\ndata: a\n\n", [ServerSentEvent(None, "a", None, None)]),
        (b"retry:\ndata: a\n\n", [ServerSentEvent(None, "a", None, None)]),
        (b"retry: " + b"9" * 19 + b"\ndata: a\n\n", [ServerSentEvent(None, "a", None, int("9" * 19))]),
        (b"retry: " + b"9" * 20 + b"\ndata: a\n\n", [ServerSentEvent(None, "a", None, None)]),
        (b": comment\ndata: a\n\n", [ServerSentEvent(None, "a")]),
        (b"other: x\ndata: a\n\n", [ServerSentEvent(None, "a")]),
        (b"DATA: a\n\n", []),
        (b" data: a\n\n", []),
        (b"\n\n\n", []),
        (b"", []),
        (b"data: a\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [ServerSentEvent(None, "a")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        (b"data: \xff\n\n", [ServerSentEvent(None, "\ufffd")]),
        (b"event: \xff\nid: \xff\ndata: a\n\n", [ServerSentEvent("\ufffd", "a", "\ufffd")]),
        ("data: a\u2028b\u0085c\vd\fe\x1cf\n\n".encode(), [ServerSentEvent(None, "a\u2028b\u0085c\vd\fe\x1cf")]),
        (b"data: a\r\rdata: b\r\n\r\n", [ServerSentEvent(None, "a"), ServerSentEvent(None, "b")]),
        (b"data: a\r\n\r\n\ndata: b\n\n", [ServerSentEvent(None, "a"), ServerSentEvent(None, "b")]),
        (b"event: e\r\ndata: a\r\ndata: b\r\n\r\n", [ServerSentEvent("e", "a\nb")]),
        (b"data: a\x0b\x0e\n\n", [ServerSentEvent(None, "a\x0b\x0e")]),
        (b"\ndata: a\n\n", [ServerSentEvent(None, "a")]),
        (b'data: {"a":"b:c"}\n\n', [ServerSentEvent(None, '{"a":"b:c"}')]),
    ],
)
def test_events(stream: bytes, events: list[ServerSentEvent]) -> None:
    assert decode(stream) == events


def test_a_lone_cr_ends_a_line_at_once() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\r\r") == [ServerSentEvent(None, "a")]
    assert decoder.feed(b"\ndata: b\r\n\r") == [ServerSentEvent(None, "b")]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"\n") == []


def test_an_lf_that_comes_after_its_cr_ends_no_second_line() -> None:
    for pieces in ((b"data: a\r", b"\ndata: b\r\n\r\n"), (b"data: a\r", b"", b"\n", b"data: b\r", b"\n\r")):
        decoder = SSEDecoder()
        assert [e for piece in pieces for e in decoder.feed(piece)] == [ServerSentEvent(None, "a\nb")]


def test_a_byte_order_mark_is_one_only_at_the_very_beginning() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\n\n") == [ServerSentEvent(None, "a")]
    assert decoder.feed(b"\xef\xbb\xbfdata: b\n\n") == []  # a field whose name begins with it
    decoder = SSEDecoder()
    events = [e for byte in b"\xef\xbb\xbfdata: a\n\n" for e in decoder.feed(bytes([byte]))]
    assert events == [ServerSentEvent(None, "a")]
    assert decode(b"\xef\xbbdata: a\n\n", 1, 2) == []


def test_the_last_id_is_known_for_a_reconnect() -> None:
    decoder = SSEDecoder()
    assert decoder.last_event_id is None
    decoder.feed(b"id: 7\nretry: 20\n")
    assert decoder.last_event_id is None  # the event is not complete
    decoder.feed(b"\n")
    assert (decoder.last_event_id, decoder.reconnection_time) == ("7", 20)
    decoder = SSEDecoder(last_event_id="5")
    assert decoder.feed(b"data: a\n\n") == [ServerSentEvent(None, "a", "5")]


def test_an_events_data_as_json() -> None:
    assert decode(b'data: {"a": 1}\n\n')[0].json() == {"a": 1}


STREAM = (
    "\ufeffid: 1\r\nevent: é\rdata: a\ndata: b\r\n\r\n: c\n\nretry: 5\ndata\r\r\nid: \0\ndata: ☃\n\ndata: lost".encode()
)


def test_a_stream_cut_into_any_two_pieces_gives_equal_events() -> None:
    whole = decode(STREAM)
    assert len(whole) == 3
    for cut in range(len(STREAM) + 1):
        assert decode(STREAM, cut) == whole
    assert decode(STREAM, *range(1, len(STREAM))) == whole


LINES = st.sampled_from(
    [
        b"data: x",
        b"data",
        b"id: 1",
        b"id",
        b"event: e",
        b"retry: 3",
        b": c",
        b"",
        b"\r",
        b"\n",
        b"\r\n",
        b"\xef\xbb\xbf",
        b"\xff",
    ]
)


@given(st.lists(LINES | st.binary(max_size=3), max_size=20).map(b"".join), st.data())
@settings(max_examples=examples(300))
def test_any_split_of_any_bytes_gives_equal_events(data: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=6)))
    assert decode(data, *cuts) == decode(data)


# --- against the specification, word by word ------------------------------------------------------------------------


def by_the_book(data: bytes, limit: int = MAX_EVENT_SIZE) -> tuple[list[ServerSentEvent], str | None, int | None, bool]:
    """What WHATWG HTML section 9.2.6 makes of a whole stream: events, last event ID, reconnection time; and whether an event
    was larger than *limit*.

    Ours are the limit, which counts the bytes of an event's lines, and that 20 digits are no time.
    """
    events: list[ServerSentEvent] = []
    name = ""  # the event type buffer
    buffer = ""  # the data buffer
    id_buffer: str | None = None  # the last event ID buffer
    last_event_id: str | None = None
    time: int | None = None
    retry: int | None = None
    size = 0
    # Streams must be decoded using the UTF-8 decode algorithm, which strips one leading BYTE ORDER MARK.
    text = data.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")
    sizes = [len(line) for line in re.split(rb"\r\n|\r|\n", data.removeprefix(b"\xef\xbb\xbf"))]
    lines = re.split("\r\n|\r|\n", text)
    assert len(lines) == len(sizes)
    for place, line in enumerate(lines):
        size += sizes[place]
        if size > limit:
            return events, last_event_id, time, True
        if place == len(lines) - 1:  # it has no end: any pending data must be discarded
            break
        if not line:  # dispatch the event
            last_event_id = id_buffer
            if buffer:
                events.append(ServerSentEvent(name or None, buffer.removesuffix("\n"), last_event_id, retry))
            name, buffer, retry, size = "", "", None, 0
            continue
        if line.startswith(":"):
            continue
        field, value = line, ""
        if ":" in line:
            field, value = line[: line.index(":")], line[line.index(":") + 1 :]
            if value[:1] == " ":
                value = value[1:]
        if field == "event":
            name = value
        elif field == "data":
            buffer += value + "\n"
        elif field == "id":
            if "\0" not in value:
                id_buffer = value
        elif field == "retry" and value and set(value) <= set("0123456789") and len(value) < 20:
            time = retry = int(value)
    return events, last_event_id, time, False


def by_us(
    pieces: list[bytes], limit: int = MAX_EVENT_SIZE
) -> tuple[list[ServerSentEvent], str | None, int | None, bool]:
    decoder = SSEDecoder(max_event_size=limit)
    events: list[ServerSentEvent] = []
    too_large = False
    for piece in pieces:
        try:
            events += decoder.feed(piece)
        except EventTooLarge as exc:
            events += exc.events
            too_large = True
            break
    return events, decoder.last_event_id, decoder.reconnection_time, too_large


ENDS = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r"])
NAMES = st.sampled_from(
    [b"data", b"data", b"data", b"event", b"event", b"id", b"retry", b"Data", b"data ", b"", b"x", b"\xef\xbb\xbfdata"]
)
COLONS = st.sampled_from([b": ", b": ", b":", b":  ", b"", b" :", b":\t"])
TEXTS = st.sampled_from(
    [b"", b"a", b"1", b"02", b"9" * 19, b"9" * 20, b"+1", b"\xd9\xa1", "ü☃".encode(), b"\0", b"a\0b", b"\xff", b"a\xe2\x98", b"\x83",
     b"\xef\xbb\xbf", b": x", b"data: x", b"event: y", "\u2028\u0085\v\f".encode(), b"[DONE]", b"x" * 12]
)  # fmt: skip
USUAL = st.builds(
    lambda name, first, data, second: (b"event:" + first + name + b"\n" if name is not None else b"") + b"data:" + second + data + b"\n\n",
    st.none() | TEXTS, st.sampled_from([b" ", b"", b"  "]), TEXTS, st.sampled_from([b" ", b"", b"  "]),
)  # fmt: skip
FIELDS = st.builds(lambda *parts: b"".join(parts), NAMES, COLONS, TEXTS, ENDS)
STREAMS = st.builds(
    lambda mark, parts: mark + b"".join(parts),
    st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\xef\xbb\xbf\xef\xbb\xbf"]),
    st.lists(USUAL | USUAL | FIELDS | ENDS | ENDS | TEXTS, max_size=14),
)


@given(STREAMS | st.binary(max_size=30), st.data())
@settings(max_examples=examples(1000))
def test_any_stream_in_any_split_is_read_by_the_book(data: bytes, draw: st.DataObject) -> None:
    cuts = [0, *sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=6))), len(data)]
    pieces = [data[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    expected = by_the_book(data)
    assert by_us(pieces) == expected
    assert by_us([data]) == expected
    assert by_us([data[i : i + 1] for i in range(len(data))]) == expected


@given(STREAMS, st.integers(3, 30), st.data())
@settings(max_examples=examples(700))
def test_the_limit_is_met_at_the_same_event_in_any_split(data: bytes, limit: int, draw: st.DataObject) -> None:
    cuts = [0, *sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=6))), len(data)]
    events, _, _, too_large = by_the_book(data, limit)
    for pieces in ([data], [data[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]):
        assert by_us(pieces, limit)[::3] == (events, too_large)


@pytest.mark.parametrize("name", [b"", b"event: e\n", b"event:e\n"])
@pytest.mark.parametrize("colon", [b"data: ", b"data:"])
def test_the_limit_counts_lines_without_their_ends(name: bytes, colon: bytes) -> None:
    for size in range(5):
        event = name + colon + b"x" * size + b"\n\n"
        counted = len(name.rstrip(b"\n")) + len(colon) + size
        for stream in (event, event * 3, b": c\n\n" + event, event.replace(b"\n", b"\r\n")):
            assert by_us([stream], counted) == by_the_book(stream)
            assert by_us([stream], counted - 1)[3] is True


def test_an_id_holds_for_the_usual_events_after_it_and_a_time_for_the_stream() -> None:
    stream = b"id: 1\nretry: 5\ndata: a\n\ndata: b\n\nevent: e\ndata: c\n\nid\n\ndata: d\n\nid: 2\n"
    expected = [
        ServerSentEvent(None, "a", "1", 5),
        ServerSentEvent(None, "b", "1"),
        ServerSentEvent("e", "c", "1"),
        ServerSentEvent(None, "d", ""),
    ]
    assert by_us([stream]) == (expected, "", 5, False) == by_the_book(stream)
    decoder = SSEDecoder()
    decoder.resume_from("7")
    assert decoder.feed(b"data: a\n\nevent: x\ndata: b\n\n") == [
        ServerSentEvent(None, "a", "7"),
        ServerSentEvent("x", "b", "7"),
    ]
    assert decoder.last_event_id == "7"


def test_an_event_may_take_so_many_bytes_and_no_more() -> None:
    assert MAX_EVENT_SIZE == 64 * 1024 * 1024
    line = b"data: 1234"  # 10 bytes
    assert len(decode(line + b"\n\n", max_event_size=10)) == 1
    assert len(decode(b"data: 1\n\n" * 50, max_event_size=10)) == 50
    for cut in range(len(line) + 1):
        with pytest.raises(EventTooLarge, match="more than 9 bytes"):
            decode(line + b"\n\n", cut, max_event_size=9)
    with pytest.raises(EventTooLarge):
        decode(b"data: 1\ndata: 2\n\n", max_event_size=13)
    with pytest.raises(EventTooLarge):
        decode(b":" * 20, max_event_size=19)


@pytest.mark.parametrize(
    "pieces",
    [
        (b"data: 1234",),
        (b"data:", b" 1234"),
        (b"data: 1", b"2", b"3", b"4"),
        (b"x\n\n", b"data: 1234"),
        (b"data: 1\n\ndata: 1234",),
        (b"x\ny", b"z\nz123456"),
        (b"x", b"\ny", b"z\nz12345", b"6"),
    ],
)
def test_an_unfinished_event_may_take_as_many_bytes_as_a_whole_one(pieces: tuple[bytes, ...]) -> None:
    decoder = SSEDecoder(max_event_size=10)
    for piece in pieces:
        decoder.feed(piece)
    with pytest.raises(EventTooLarge) as caught:
        decoder.feed(b"5")
    assert str(caught.value) == "one server-sent event took more than 10 bytes"


def test_what_came_complete_before_a_too_large_event_is_kept() -> None:
    with pytest.raises(EventTooLarge) as caught:
        decode(b"data: 1\n\ndata: 12345678\n\n", max_event_size=10)
    assert caught.value.events == [ServerSentEvent(None, "1")]
    with pytest.raises(EventTooLarge) as caught:
        decode(b"data: 1\n\ndata: 12345678", max_event_size=10)
    assert caught.value.events == [ServerSentEvent(None, "1")]


def test_a_large_event_in_small_pieces_costs_linear_work() -> None:
    """Bytes looked at, not seconds: each piece is searched once, and the line is joined once."""
    decoder = SSEDecoder()
    decoder.feed(b"data: ")
    for _ in range(1000):
        decoder.feed(b"x" * 1024)
    assert len(decoder._partial) == 1001
    (event,) = decoder.feed(b"\n\n")
    assert len(event.data) == 1024 * 1000
    assert decoder._partial == []


@pytest.mark.parametrize(
    "piece",
    [b"\n", b": c\n", b"id: 1\ndata: x\n\n", b"data: x\r\n\r\n", b"event: x\nid: 1\n\n", "data: ü\n\n".encode()],
)
def test_the_work_grows_with_the_bytes_and_not_with_their_square(piece: bytes) -> None:
    def seconds(size: int) -> float:
        data = piece * (size // len(piece))
        best = math.inf
        for _ in range(3):
            began = time.process_time()
            SSEDecoder().feed(data)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(2**19) < 40 * max(seconds(2**15), 0.0005)  # 16 times the bytes; a square would be 256
