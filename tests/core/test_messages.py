"""Where the message of an error body stands (BEHAVIOUR 8.2), and what becomes of it on its way into a log line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyio_client._core.messages import MAX_MESSAGE, find_message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "a"}, "message": "b"}, "a"),
        ({"error": "a"}, "a"),
        ({"error": {"type": "x"}, "message": "b", "detail": "c"}, "b"),
        ({"detail": "c", "title": "d"}, "c"),
        ({"title": "d", "status": 400}, "d"),  # RFC 9457
        ({"error": {"message": " "}, "title": "d"}, "d"),
        ({"error": 5, "message": ["a"]}, None),
        ({}, None),
        ([{"message": "a"}], None),
        ("a", None),
        (None, None),
        ({"message": "one\r\ntwo\x1b[31m\u2028three\u202e"}, "one two [31m three"),
    ],
)
def test_where_the_message_stands(body: Any, message: str | None) -> None:
    assert find_message(body) == message


@given(st.text(max_size=2 * MAX_MESSAGE))
def test_any_text_becomes_one_bounded_line(text: str) -> None:
    found = find_message({"message": text})
    if found is not None:
        assert len(found) <= MAX_MESSAGE
        assert len(found.splitlines()) <= 1
        assert "\x1b" not in found
