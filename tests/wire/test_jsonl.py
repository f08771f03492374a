"""JSON lines: where lines end, and that no split of the bytes changes anything."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyio_client._wire.jsonl import JSONLine, JSONLinesDecoder, LineTooLarge
from tests.kit.fuzz import examples

Told = tuple[list[tuple[bytes, int]], "str | None"]


def decode(data: bytes, *cuts: int, limit: int = 1000) -> Told:
    """The lines and their numbers; the error that ended them."""
    decoder = JSONLinesDecoder(max_line_size=limit)
    places = [0, *cuts, len(data)]
    lines: list[JSONLine] = []
    try:
        for a, b in zip(places, places[1:], strict=False):
            lines += decoder.feed(data[a:b])
        lines += decoder.finish()
    except LineTooLarge as exc:
        lines += exc.events
        return [(line.raw, line.number) for line in lines], str(exc)
    return [(line.raw, line.number) for line in lines], None


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b"", []),
        (b"1\n2\n", [(b"1", 1), (b"2", 2)]),
        (b"1\r\n2\r\n", [(b"1", 1), (b"2", 2)]),
        (b"1\n2\r\n3\n", [(b"1", 1), (b"2", 2), (b"3", 3)]),
        # the last line needs no end
        (b"1\n2", [(b"1", 1), (b"2", 2)]),
        (b"1\n2\r", [(b"1", 1), (b"2", 2)]),
        (b"1", [(b"1", 1)]),
        # blank lines are skipped, but count
        (b"\n\n1\n", [(b"1", 3)]),
        (b"\r\n1\r\n\r\n\r\n2", [(b"1", 2), (b"2", 5)]),
        (b" \t \n1\n \r\n\t2\n ", [(b"1", 2), (b"\t2", 4)]),
        (b"\n", []),
        (b" ", []),
        (b"\r", []),
        # a CR is no end of its own, and only one belongs to an LF
        (b"1\r2\n", [(b"1\r2", 1)]),
        (b"1\r\r\n2", [(b"1\r", 1), (b"2", 2)]),
        (b"\r\r\n1", [(b"1", 2)]),
        # nothing else ends a line
        (b"[1,\x0b\x0c2]\n3", [(b"[1,\x0b\x0c2]", 1), (b"3", 2)]),
        ('"\u2028\u2029\u0085"\n3'.encode(), [('"\u2028\u2029\u0085"'.encode(), 1), (b"3", 2)]),
        (b"\x1c\n\x0c\n", [(b"\x1c", 1), (b"\x0c", 2)]),
        # what is no UTF-8 is a line as others are
        (b"\xff\n", [(b"\xff", 1)]),
    ],
)
def test_lines_and_their_numbers(body: bytes, lines: list[tuple[bytes, int]]) -> None:
    assert decode(body) == (lines, None)
    assert decode(body, *range(1, len(body))) == (lines, None)
    for cut in range(len(body) + 1):
        assert decode(body, cut) == (lines, None)


BODIES = st.lists(
    st.sampled_from([b"\n", b"\r", b"\r\n", b" ", b"\t", b"1", b'{"a":1}', b"\xc3\xa9", b"\xff", b"\n\n", b"abcdef"]),
    max_size=30,
).map(b"".join)


@settings(max_examples=examples(300))
@given(st.data(), BODIES, st.sampled_from([1, 2, 3, 5, 1000]))
def test_any_split_is_equal_to_one_feed(data: st.DataObject, body: bytes, limit: int) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=12)))
    assert decode(body, *cuts, limit=limit) == decode(body, limit=limit)


@settings(max_examples=examples(200))
@given(BODIES)
def test_lines_are_those_of_a_plain_split(body: bytes) -> None:
    expected = [
        (line.removesuffix(b"\r"), number) for number, line in enumerate(body.split(b"\n"), 1) if line.strip(b" \t\r")
    ]
    assert decode(body) == (expected, None)


def test_a_line_is_given_as_soon_as_its_end_is_there() -> None:
    decoder = JSONLinesDecoder(max_line_size=10)
    assert decoder.feed(b"1\r") == []
    assert [line.raw for line in decoder.feed(b"\n2\n3")] == [b"1", b"2"]
    assert decoder.feed(b"") == []
    assert [line.raw for line in decoder.finish()] == [b"3"]
    assert decoder.finish() == []


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"", b"\r"])
def test_a_line_of_the_limit_passes_and_one_byte_more_does_not(end: bytes) -> None:
    for cuts in ((), range(1, 12)):
        assert decode(b"1\n" + b"x" * 8 + end, *cuts, limit=8) == ([(b"1", 1), (b"x" * 8, 2)], None)
        message = "line 2 took more than 8 bytes"
        assert decode(b"1\n" + b"x" * 9 + end + b"x" * 4, *cuts, limit=8) == ([(b"1", 1)], message)


def test_a_blank_line_above_the_limit_is_too_large_as_well() -> None:
    for cuts in ((), range(1, 20)):
        assert decode(b"1\n" + b" " * 20 + b"\n2\n", *cuts, limit=8) == ([(b"1", 1)], "line 2 took more than 8 bytes")


def test_a_line_without_an_end_is_refused_before_it_is_whole() -> None:
    decoder = JSONLinesDecoder(max_line_size=100)
    with pytest.raises(LineTooLarge):
        for _ in range(12):
            decoder.feed(b"x" * 10)


def test_what_a_line_tells() -> None:
    good, bad = JSONLine(b'{"a": 1}', 1), JSONLine(b'"\xff"', 2)
    assert (good.data, good.json()) == ('{"a": 1}', {"a": 1})
    assert bad.data == '"\ufffd"'
    with pytest.raises(ValueError, match="invalid UTF-8"):
        bad.json()
    assert "a" not in repr(good).replace("raw", "").replace("JSONLine", "")  # bodies stay out of logs


def test_the_time_is_linear_in_the_size() -> None:
    def seconds(size: int, piece: bytes) -> float:
        began = time.perf_counter()
        decoder = JSONLinesDecoder(max_line_size=2**30)
        for _ in range(size):
            decoder.feed(piece)
        decoder.finish()
        return time.perf_counter() - began

    # One long line in small pieces, many lines, many blank ones: quadratic work would take a hundred times as long.
    for piece in (b"x" * 10, b"1\n" * 5, b"\n" * 10):
        small = min(seconds(3_000, piece) for _ in range(3))
        assert seconds(30_000, piece) < 40 * small + 0.2
