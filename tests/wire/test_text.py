"""Text: the charset of a Content-Type, where it names a text codec; and never an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyio_client._wire.text import charset_of, decode_text


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        (None, "utf-8"),
        ("", "utf-8"),
        ("text/plain", "utf-8"),
        ("text/plain; charset=latin-1", "iso8859-1"),
        ("text/plain;CHARSET=Latin-1", "iso8859-1"),
        ('text/plain; charset="shift_jis"', "shift_jis"),
        ("text/plain; charset = utf-16-le ; x=y", "utf-16-le"),
        ("text/plain; charset=", "utf-8"),
        ('text/plain; charset=""', "utf-8"),
        ("text/plain; charset=nothing", "utf-8"),
        ("text/plain; charset=rot13", "utf-8"),
        ("text/plain; charset=hex", "utf-8"),
        ("text/plain; charset=idna", "utf-8"),
        ("text/plain; charset=unicode_escape", "utf-8"),
        ("text/plain; charset=undefined", "utf-8"),
        ("text/plain; charset=a\0b", "utf-8"),
        ("charset=latin-1", "utf-8"),
    ],
)
def test_the_charset_is_a_text_codec_or_utf8(content_type: str | None, charset: str) -> None:
    assert charset_of(content_type) == charset


@pytest.mark.parametrize(
    ("data", "content_type", "text"),
    [
        ("é".encode(), None, "é"),
        (b"\xe9", "text/plain; charset=latin-1", "é"),
        (b"a\xff", None, "a\ufffd"),
        (b"plain!", "text/plain; charset=utf-16", None),
        (b"", None, ""),
    ],
)
def test_text_is_decoded_and_what_cannot_be_is_replaced(
    data: bytes, content_type: str | None, text: str | None
) -> None:
    decoded = decode_text(data, content_type)
    assert decoded == text if text is not None else isinstance(decoded, str)


@given(st.binary(max_size=20), st.text(max_size=30))
def test_no_label_makes_decoding_fail(data: bytes, label: str) -> None:
    assert isinstance(decode_text(data, f"text/plain; charset={label}"), str)
