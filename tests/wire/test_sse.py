"""Server-sent events as WHATWG HTML 9.2 has them."""

from __future__ import annotations

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
