"""JSON, strict both ways."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyio_client._wire import json as wire_json
from anyio_client._wire.json import dumps, dumps_plain, loads
from tests.kit.fuzz import examples

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(VALUES)
def test_values_survive(value: object) -> None:
    assert loads(dumps(value)) == value


def test_texts_are_compact_utf8_in_the_order_of_their_keys() -> None:
    assert dumps({"b": [1, 2.5, None, True], "a": "é☃"}) == '{"b":[1,2.5,null,true],"a":"é☃"}'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [math.nan]])
def test_numbers_that_json_does_not_have_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"JSON"):
        dumps(value)


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}, [["\ud800"]]])
def test_lone_surrogates_are_refused(value: object) -> None:
    with pytest.raises(ValueError) as caught:
        dumps(value)
    assert str(caught.value) == "a string has a lone surrogate in it, which has no UTF-8 form"
    assert type(caught.value) is ValueError


def test_other_types_are_a_type_error() -> None:
    with pytest.raises(TypeError):
        dumps(object())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"nul",
        b"{",
        b"[1,]",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"[-1e999]",
        b'"\\ud800"',
        b'{"\\udc00": 1}',
        b'"\xff"',
        b"\xff",
        b"1 2",
        b"'a'",
    ],
)
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        loads(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"NaN", "NaN is no JSON"),
        (b"[Infinity]", "Infinity is no JSON"),
        (b"-Infinity", "-Infinity is no JSON"),
        (b"1e999", "a number overflows a float"),
        (b"[-1e999]", "a number overflows a float"),
        (b'"\\ud800"', "a string has a lone surrogate in it, which has no UTF-8 form"),
    ],
)
def test_the_error_says_what_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        loads(text)
    assert str(caught.value) == message


def test_good_texts() -> None:
    assert loads(b'"\\ud83d\\ude00"') == "\N{GRINNING FACE}"
    assert loads(b"\xef\xbb\xbf[1]") == [1]
    assert loads(b" [1e3, 123456789012345678901234567890] ") == [1000.0, 123456789012345678901234567890]


def test_nesting_that_is_too_deep_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="^the JSON is nested too deeply$"):
        loads(b"[" * 100_000 + b"]" * 100_000)
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="^the value is nested too deeply for JSON$"):
        dumps(value)


@given(st.binary(max_size=30))
def test_any_bytes_are_a_value_or_a_value_error(data: bytes) -> None:
    try:
        value = loads(data)
    except ValueError:
        return
    assert json.loads(data) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'"a\xff"', "invalid UTF-8 at byte 2"),
        (b"[1, x]", "Expecting value at character 4"),
        (b"", "Expecting value at character 0"),
    ],
)
def test_the_message_says_what_and_where_and_does_not_hold_the_text(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$") as caught:
        loads(text)
    assert type(caught.value) is ValueError


# --- msgspec and the standard library: the same values, the same refusals --------------------------------------------


@contextmanager
def without_the_accelerator() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire_json, "_accelerator", lambda: None)
        yield


def told(function: Callable[[Any], Any], argument: object) -> tuple[str, str]:
    """What came of it: the value, told so that 1, 1.0 and True, 0.0 and -0.0, and the order of keys differ; or the error."""
    try:
        return "value", repr(function(argument))
    except ValueError as exc:
        return "refused", str(exc)
    except TypeError:
        return "refused", "TypeError"


def both(function: Callable[[Any], Any], argument: object) -> tuple[tuple[str, str], tuple[str, str]]:
    with_it = told(function, argument)
    with without_the_accelerator():
        return with_it, told(function, argument)


def test_the_accelerator_is_really_there() -> None:
    msgspec = pytest.importorskip("msgspec")
    fast = wire_json._accelerator()
    assert fast is not None
    assert fast[0](b"[1]") == [1]
    with pytest.raises(msgspec.DecodeError):
        fast[0](b"[1")
    with without_the_accelerator():
        assert wire_json._accelerator() is None


TEXTS: dict[str, tuple[bytes, object]] = {
    # name: (text, the value; or a ValueError)
    "NaN": (b"NaN", ValueError),
    "a NaN inside": (b'{"a": [NaN]}', ValueError),
    "Infinity": (b"Infinity", ValueError),
    "minus Infinity": (b"[-Infinity]", ValueError),
    "a float too large": (b"1e400", ValueError),
    "a float too small": (b"-1e400", ValueError),
    "just too large": (b"1.7976931348623159e308", ValueError),
    "the largest float": (b"1.7976931348623157e308", 1.7976931348623157e308),
    "the smallest float": (b"4.9e-324", 5e-324),
    "underflow": (b"1e-400", 0.0),
    "a huge exponent of zero": (b"0e999999999", 0.0),
    "a long fraction": (b"0." + b"0" * 400 + b"1e400", 0.1),
    "2**63": (b"9223372036854775808", 2**63),
    "2**64": (b"18446744073709551616", 2**64),
    "-2**63-1": (b"-9223372036854775809", -(2**63) - 1),
    "2**53+1": (b"9007199254740993", 2**53 + 1),
    "4300 digits": (b"1" * 4300, int("1" * 4300)),
    "more digits than the interpreter takes": (b"1" * 4301, ValueError),
    "a big integer with a fraction": (b"123456789012345678901234567890.0", 1.2345678901234568e29),
    "minus zero": (b"-0", 0),
    "minus zero as float": (b"-0.0", -0.0),
    "an exponent makes a float": (b"[1e2, 1E+2, 1e-2, 1e0]", [100.0, 100.0, 0.01, 1.0]),
    "a leading zero": (b"01", ValueError),
    "a plus": (b"+1", ValueError),
    "no fraction": (b"1.", ValueError),
    "no integer": (b".5", ValueError),
    "no exponent": (b"1e", ValueError),
    "only a minus": (b"-", ValueError),
    "hexadecimal": (b"0x1", ValueError),
    "underscores": (b"1_000", ValueError),
    "a lone high surrogate": (b'"\\ud800"', ValueError),
    "a lone low surrogate": (b'"\\udc00"', ValueError),
    "a high surrogate and a letter": (b'"\\ud800a"', ValueError),
    "a high surrogate and another escape": (b'"\\ud800\\u0041"', ValueError),
    "surrogates in the wrong order": (b'"\\udc00\\ud800"', ValueError),
    "two high surrogates and a low one": (b'"\\ud83d\\ud83d\\ude00"', ValueError),
    "a lone surrogate as a name": (b'{"\\ud800": 1}', ValueError),
    "a pair": (b'"\\ud83d\\uDE00"', "\N{GRINNING FACE}"),
    "an escaped backslash before u": (b'"\\\\ud800"', "\\ud800"),
    "a raw surrogate": (b'"\xed\xa0\x80"', ValueError),
    "a raw pair of surrogates": (b'"\xed\xa0\xbd\xed\xb8\x80"', ValueError),
    "an overlong form": (b'"\xc0\x80"', ValueError),
    "beyond Unicode": (b'"\xf4\x90\x80\x80"', ValueError),
    "a character cut short": (b'"\xe2\x82"', ValueError),
    "invalid UTF-8 in a name": (b'{"\xff": 1}', ValueError),
    "invalid UTF-8 outside": (b"[1]\xff", ValueError),
    "Latin-1": (b'"caf\xe9"', ValueError),
    "UTF-16": ("[1]".encode("utf-16"), ValueError),
    "UTF-16 without a mark": ("[1]".encode("utf-16-le"), ValueError),
    "a byte order mark": (b"\xef\xbb\xbf[1]", [1]),
    "two byte order marks": (b"\xef\xbb\xbf\xef\xbb\xbf[1]", ValueError),
    "a byte order mark inside": (b"[\xef\xbb\xbf1]", ValueError),
    "a byte order mark alone": (b"\xef\xbb\xbf", ValueError),
    "the same name twice": (b'{"a": 1, "b": 2, "a": 3}', {"a": 3, "b": 2}),
    "an empty name": (b'{"": 1}', {"": 1}),
    "a number as a name": (b"{1: 2}", ValueError),
    "single quotes": (b"{'a': 1}", ValueError),
    "a trailing comma": (b"[1,]", ValueError),
    "a trailing comma in an object": (b'{"a": 1,}', ValueError),
    "only a comma": (b"[,]", ValueError),
    "a missing comma": (b"[1 2]", ValueError),
    "a missing colon": (b'{"a" 1}', ValueError),
    "a raw tabulator": (b'"\t"', ValueError),
    "a raw line feed": (b'"\n"', ValueError),
    "a raw NUL": (b'"\0"', ValueError),
    "a raw control character": (b'"\x1f"', ValueError),
    "a raw DEL": (b'"\x7f"', "\x7f"),
    "an escaped NUL": (b'"\\u0000"', "\0"),
    "every escape": (b'"\\"\\\\\\/\\b\\f\\n\\r\\t"', '"\\/\b\f\n\r\t'),
    "an unknown escape": (b'"\\x41"', ValueError),
    "a short escape": (b'"\\u12"', ValueError),
    "U+2028": ('"\u2028"'.encode(), "\u2028"),
    "white space": (b" \t\n\r[ 1 , 2 ]\n ", [1, 2]),
    "a form feed": (b"\f1", ValueError),
    "a no-break space": ("\xa01".encode(), ValueError),
    "a comment": (b"1 // one", ValueError),
    "two texts": (b"1 2", ValueError),
    "a NUL behind": (b"1\0", ValueError),
    "a word with more": (b"nullx", ValueError),
    "a word cut short": (b"tru", ValueError),
    "a word in capitals": (b"True", ValueError),
    "nothing": (b"", ValueError),
    "white space alone": (b"  ", ValueError),
    "unclosed": (b'{"a": [1', ValueError),
    "closed twice": (b"[1]]", ValueError),
    "closed wrongly": (b"[1}", ValueError),
    "nesting that fits": (b"[" * 500 + b"1" + b"]" * 500, ...),
    "nesting too deep": (b"[" * 50_000 + b"1" + b"]" * 50_000, ValueError),
    "objects too deep": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, ValueError),
    "unclosed and too deep": (b"[" * 50_000, ValueError),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_reads_alike_with_and_without_the_accelerator(name: str) -> None:
    text, expected = TEXTS[name]
    with_it, without = both(loads, text)
    assert with_it == without
    if expected is ValueError:
        assert with_it[0] == "refused"
    elif expected is not ...:
        assert with_it == ("value", repr(expected))
    else:
        assert with_it[0] == "value"


MORE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**200), max_value=2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=8,
)
WRITTEN = st.builds(
    lambda value, indent, ascii_only: json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8"),
    MORE,
    st.sampled_from([None, 0, 3]),
    st.booleans(),
)
PIECES = st.sampled_from(
    [
        *b'[]{},:"\\/-+.eE0123456789 \t\n\0u',
        b"\\u",
        b"\\ud83d",
        b"\\ude00",
        b"\\ud800",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
    ]
    + [
        b"null",
        b"true",
        b"false",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e400",
        b"\xff",
        b"\xc3\xa9",
        b"9" * 25,
        b'"a":',
    ]
).map(lambda piece: bytes([piece]) if isinstance(piece, int) else piece)


@settings(max_examples=examples(150))
@given(WRITTEN)
def test_any_json_reads_alike(text: bytes) -> None:
    with_it, without = both(loads, text)
    assert with_it[0] == "value"
    assert with_it == without == ("value", repr(json.loads(text)))


@settings(max_examples=examples(400))
@given(st.data(), WRITTEN)
def test_json_that_was_tampered_with_reads_alike_or_is_refused_by_both(data: st.DataObject, text: bytes) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 3)))
        text = text[:start] + data.draw(PIECES | st.just(b"")) + text[end:]
    with_it, without = both(loads, text)
    assert with_it == without


@settings(max_examples=examples(400))
@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_pieces_of_json_read_alike_or_are_refused_by_both(text: bytes) -> None:
    with_it, without = both(loads, text)
    assert with_it == without


@settings(max_examples=examples(150))
@given(MORE)
def test_any_value_is_written_to_texts_of_the_same_value(value: object) -> None:
    expected = ("value", repr(value))
    assert told(loads, dumps(value)) == expected
    assert told(loads, dumps_plain(value)) == expected
    with without_the_accelerator():
        assert dumps_plain(value) == dumps(value)
        assert told(loads, dumps(value)) == expected


class Word(str):
    pass


class Number(enum.IntEnum):
    ONE = 1


class Mapped(dict[str, int]):
    pass


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


def in_a_circle() -> list[object]:
    value: list[object] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        {1: 2, 2**70: 3, -1: 4},
        {True: 1, None: 2},
        {1.5: 1},
        {"1": 1, 1: 2},
        {Word("a"): Word("b")},
        {Number.ONE: Number.ONE},
        Mapped(a=1),
        (1, (2, [3])),
        [2**63, 2**64, -(2**63) - 1, 2**70, 10**4299],
        [1e16, 1e22, 5e-324, -0.0, 1.7976931348623157e308, 0.1, 123456789.123],
        '\x7f\0\x1f\u2028\u2029"\\/é\N{GRINNING FACE}',
        {"": {"": []}},
        nested(300),
    ],
)
def test_what_is_written_reads_alike(value: object) -> None:
    plain, slow = dumps_plain(value), dumps(value)
    assert told(loads, plain) == told(loads, slow)
    assert told(loads, plain)[0] == "value"
    assert b" " not in plain + slow
    assert told(json.loads, plain) == told(json.loads, slow)  # names twice, and their order, included


@pytest.mark.parametrize(
    "value",
    [
        "\ud800",
        ["a\udfff"],
        {"\ud800": 1},
        "\ud83d\ude00",
        nested(50_000),
        in_a_circle(),
        10**4300,
        object(),
        {(1,): 2},
    ],
    ids=["high", "low", "name", "pair in halves", "too deep", "circle", "too many digits", "object", "tuple as a name"],
)
def test_what_is_refused_is_refused_alike(value: object) -> None:
    expected = told(dumps, value)
    assert expected[0] == "refused"
    assert both(dumps_plain, value) == (expected, expected)
