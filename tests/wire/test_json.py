"""JSON, strict both ways."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyio_client._wire.json import dumps, loads

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
