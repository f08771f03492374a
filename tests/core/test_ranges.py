"""Whether a download can go on, and with what: RFC 9110, as tables."""

from __future__ import annotations

import pytest

from anyio_client._core.ranges import Part, part_of, range_headers, total_of, validator_of
from anyio_client._model.head import ResponseHead
from anyio_client._model.headers import Headers

NOW = 1_704_110_400.0  # 2024-01-01 12:00:00
MODIFIED = "Mon, 01 Jan 2024 10:00:00 GMT"
SAME = {"Last-Modified": MODIFIED, "Date": MODIFIED}


def continues(answer: ResponseHead, size: int, validator: str, total: int | None = None) -> bool:
    return part_of(answer, size, total, validator) is not None


def head(status: int, headers: dict[str, str] | list[tuple[str, str]]) -> ResponseHead:
    return ResponseHead(status, Headers(headers))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        # Entity tags (section 8.8.3): strong ones only (13.1.5: MUST NOT be weak).
        ({"ETag": '"a"'}, '"a"'),
        ({"ETag": '""'}, '""'),
        ({"ETag": '"a,bW/c\xe9"'}, '"a,bW/c\xe9"'),
        ({"ETag": ' "a"\t'}, '"a"'),
        ({"ETag": 'W/"a"'}, None),
        ({"ETag": 'w/"a"'}, None),
        ({"ETag": "a"}, None),
        ({"ETag": ""}, None),
        ({"ETag": '"a'}, None),
        ({"ETag": '"'}, None),
        ({"ETag": '"a"b'}, None),
        ({"ETag": '"a" "b"'}, None),
        ([("ETag", '"a"'), ("ETag", '"b"')], None),
        # Last-Modified (8.8.2.2): strong if the answer was made at least a second later.
        ({"Last-Modified": MODIFIED, "Date": "Mon, 01 Jan 2024 10:00:01 GMT"}, MODIFIED),
        ({"Last-Modified": MODIFIED, "Date": "Mon, 01 Jan 2024 11:00:00 GMT"}, MODIFIED),
        ({"Last-Modified": MODIFIED, "Date": "Tue, 02 Jan 2024 11:00:00 GMT"}, MODIFIED),
        ({"Last-Modified": "Monday, 01-Jan-24 10:00:00 GMT", "Date": "Mon, 01 Jan 2024 11:00:00 GMT"}, "Monday, 01-Jan-24 10:00:00 GMT"),
        (SAME, None),
        ({"Last-Modified": MODIFIED, "Date": "Mon, 01 Jan 2024 09:59:59 GMT"}, None),
        ({"Last-Modified": MODIFIED}, None),
        ({"Last-Modified": MODIFIED, "Date": "now"}, None),
        ({"Last-Modified": "yesterday", "Date": MODIFIED}, None),
        ({"Date": MODIFIED}, None),
        # 13.1.5: no date where there is a tag, even a weak one.
        ({"ETag": '"a"', "Last-Modified": MODIFIED, "Date": "Mon, 01 Jan 2024 11:00:00 GMT"}, '"a"'),
        ({"ETag": 'W/"a"', "Last-Modified": MODIFIED, "Date": "Mon, 01 Jan 2024 11:00:00 GMT"}, None),
        # 14.3: the server says that it has no ranges.
        ({"ETag": '"a"', "Accept-Ranges": "none"}, None),
        ({"ETag": '"a"', "Accept-Ranges": " None "}, None),
        ({"ETag": '"a"', "Accept-Ranges": "bytes"}, '"a"'),
        # What the ranges would count is not what is written.
        ({"ETag": '"a"', "Content-Encoding": "gzip"}, None),
        ({"ETag": '"a"', "Content-Encoding": "br, gzip"}, None),
        ({}, None),
    ],
    ids=str,
)  # fmt: skip
def test_what_if_range_would_repeat(headers: dict[str, str], expected: str | None) -> None:
    assert validator_of("GET", head(200, headers), NOW) == expected


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get"])
def test_ranges_are_defined_for_get_only(method: str) -> None:
    assert validator_of(method, head(200, {"ETag": '"a"'}), NOW) is None


@pytest.mark.parametrize(("status", "expected"), [(200, '"a"'), (206, None), (203, None), (204, None), (304, None)])
def test_the_statuses_that_can_be_continued(status: int, expected: str | None) -> None:
    assert validator_of("GET", head(status, {"ETag": '"a"'}), NOW) == expected


def test_what_is_asked_for() -> None:
    assert range_headers(5, '"a"') == {"Range": "bytes=5-", "If-Range": '"a"', "Accept-Encoding": "identity"}
    assert range_headers(10**17, MODIFIED)["Range"] == f"bytes={10**17}-"


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (206, {"Content-Range": "bytes 5-9/10"}, True),
        (206, {"Content-Range": "bytes 5-9/*"}, True),
        (206, {"Content-Range": "Bytes 5-9/10"}, True),  # 14.1: range units are case-insensitive
        (206, {"Content-Range": " bytes 5-9/10 "}, True),
        (206, {"Content-Range": "bytes 5-5/6"}, True),
        (206, {"Content-Range": "bytes 5-7/10"}, True),  # a part of the rest (15.3.7): it is a continuation
        # Another place, another unit, no place.
        (206, {"Content-Range": "bytes 4-9/10"}, False),
        (206, {"Content-Range": "bytes 6-9/10"}, False),
        (206, {"Content-Range": "bytes 0-9/10"}, False),
        (206, {"Content-Range": "items 5-9/10"}, False),
        (206, {"Content-Range": "bytes */10"}, False),
        (206, {"Content-Range": "bytes=5-9/10"}, False),
        (206, {"Content-Range": "bytes 5-9"}, False),
        (206, {"Content-Range": "bytes 5-/10"}, False),
        (206, {"Content-Range": "bytes -5/10"}, False),
        (206, {"Content-Range": "bytes 5-9/10, bytes 5-9/10"}, False),
        (206, [("Content-Range", "bytes 5-9/10"), ("Content-Range", "bytes 5-9/10")], False),
        (206, {"Content-Range": "bytes 5-9/" + "9" * 400}, False),
        (206, {"Content-Range": "bytes 5 - 9 / 10"}, False),
        (206, {"Content-Range": ""}, False),
        (206, {}, False),
        (206, {"Content-Type": "multipart/byteranges; boundary=x"}, False),
        # 14.4: invalid, and "MUST NOT attempt to recombine".
        (206, {"Content-Range": "bytes 5-4/10"}, False),
        (206, {"Content-Range": "bytes 5-10/10"}, False),
        (206, {"Content-Range": "bytes 5-99/10"}, False),
        (206, {"Content-Range": "bytes 5-9/5"}, False),
        # 15.3.7: the validator is that of the representation.
        (206, {"Content-Range": "bytes 5-9/10", "ETag": '"a"'}, True),
        (206, {"Content-Range": "bytes 5-9/10", "ETag": '"b"'}, False),
        (206, {"Content-Range": "bytes 5-9/10", "ETag": 'W/"a"'}, False),
        (206, {"Content-Range": "bytes 5-9/10", "ETag": ""}, False),
        (206, {"Content-Range": "bytes 5-9/10", "ETag": '"A"'}, False),
        # In another coding the bytes are others.
        (206, {"Content-Range": "bytes 5-9/10", "Content-Encoding": "gzip"}, False),
        # The whole, or something else.
        (200, {"Content-Range": "bytes 5-9/10"}, False),
        (200, {"ETag": '"a"'}, False),
        (416, {"Content-Range": "bytes */10"}, False),
    ],
    ids=str,
)
def test_whether_an_answer_is_the_rest(status: int, headers: dict[str, str], expected: bool) -> None:
    assert continues(head(status, headers), 5, '"a"') is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, True),
        ({"Last-Modified": MODIFIED}, True),
        ({"Last-Modified": "Mon, 01 Jan 2024 10:00:01 GMT"}, False),
    ],
    ids=str,
)
def test_a_date_is_a_validator_too(headers: dict[str, str], expected: bool) -> None:
    assert continues(head(206, {"Content-Range": "bytes 5-9/10", **headers}), 5, MODIFIED) is expected


def test_the_rest_after_nothing_and_after_very_much() -> None:
    assert continues(head(206, {"Content-Range": "bytes 0-9/10"}), 0, '"a"')
    big = 10**17
    assert continues(head(206, {"Content-Range": f"bytes {big}-{big}/{big + 1}"}), big, '"a"')


@pytest.mark.parametrize(
    ("value", "total", "expected"),
    [
        ("bytes 5-9/10", 10, Part(5, 10, 10)),
        ("bytes 5-7/10", 10, Part(5, 8, 10)),  # less than was asked for: the rest is asked for again
        ("bytes 5-9/*", 10, Part(5, 10, None)),
        ("bytes 5-9/*", None, Part(5, 10, None)),
        ("bytes 5-9/10", 11, None),  # another representation
        ("bytes 5-12/*", 10, None),
    ],
)
def test_what_a_part_holds(value: str, total: int | None, expected: Part | None) -> None:
    assert part_of(head(206, {"Content-Range": value}), 5, total, '"a"') == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Content-Length": "0"}, 0),
        ({"Content-Length": "10"}, 10),
        ({"Content-Length": "9" * 5000}, None),
        ({"Content-Length": "\u0661"}, None),
        ({"Content-Length": "10", "Content-Encoding": "gzip"}, None),
        ({}, None),
    ],
)
def test_the_bytes_of_a_whole_body(headers: dict[str, str], expected: int | None) -> None:
    assert total_of(head(200, headers)) == expected
