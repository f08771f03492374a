"""Going on with a download that was cut: range requests (RFC 9110 section 14). Pure functions.

The rest of a body fits what is there only if it is the same representation: the answer that was cut must have a strong
validator, which the request for the rest repeats in ``If-Range``; the server then sends the rest (206), or everything
from the beginning (200) because it has changed. A server may send less than was asked for (section 15.3.7), so what an
answer holds is looked at each time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from .._model.dates import parse_http_date
from .._model.head import ResponseHead

__all__ = ["Part", "part_of", "range_headers", "total_of", "validator_of"]

# Eighteen digits: more than any file has bytes, and not so many that reading them would cost.
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE | re.ASCII)
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
# Section 8.8.3: entity-tag, the strong kind.
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\U0010ffff]*"')


@attrs.frozen
class Part:
    """What a 206 holds: the bytes from ``start`` up to, and not including, ``end`` of ``total`` (None: unknown)."""

    start: int
    end: int
    total: int | None


def validator_of(method: str, head: ResponseHead, now: float) -> str | None:
    """What ``If-Range`` would repeat of this answer; None where its rest cannot be asked for.

    A strong entity tag, else a Last-Modified that is strong because the answer was made later (section 8.8.2.2). *now*:
    POSIX seconds, see :func:`parse_http_date`.
    """
    headers = head.headers
    if method != "GET" or head.status_code != 200 or "content-encoding" in headers:
        return None  # with a content coding, bytes on disk are not the bytes that ranges count
    if headers.get("accept-ranges", "").strip().lower() == "none":
        return None
    tag = headers.get("etag")
    if tag is not None:
        return tag if _STRONG_TAG.fullmatch(tag) else None
    modified = headers.get("last-modified")
    if modified is None:
        return None
    when, made = parse_http_date(modified, now), parse_http_date(headers.get("date", ""), now)
    return modified if when is not None and made is not None and made - when >= 1 else None


def range_headers(size: int, validator: str) -> Mapping[str, str]:
    """The fields that ask for what comes after the first *size* bytes, as they stand, of that representation."""
    return {"Range": f"bytes={size}-", "If-Range": validator, "Accept-Encoding": "identity"}


def total_of(head: ResponseHead) -> int | None:
    """The bytes of the whole body of a 200, None where that is not said, or said of encoded bytes."""
    length = head.headers.get("content-length", "")
    return int(length) if _LENGTH.fullmatch(length) and "content-encoding" not in head.headers else None


def part_of(head: ResponseHead, size: int, total: int | None, validator: str) -> Part | None:
    """What a 206 holds, if that goes on after *size* bytes of the representation named by *validator*; else None.

    *total*: the bytes that the representation has, where that is known.
    """
    if head.status_code != 206 or "content-encoding" in head.headers:
        return None
    match = _CONTENT_RANGE.fullmatch(head.headers.get("content-range", "").strip())
    if match is None:
        return None
    part = Part(int(match[1]), int(match[2]) + 1, None if match[3] == "*" else int(match[3]))
    whole = total if part.total is None else part.total
    if part.start != size or part.end <= size or (total is not None and whole != total):
        return None
    if whole is not None and part.end > whole:
        return None
    # A 206 repeats the validator that a 200 would have had, where the request had If-Range (section 15.3.7).
    own = head.headers.get("etag" if validator.startswith('"') else "last-modified")
    return part if own is None or own == validator else None
