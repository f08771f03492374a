"""Going on with a download that was cut: range requests (RFC 9110 section 14). Pure functions.

The rest of a body fits what is there only if it is the same representation: the answer that was cut must have a strong
validator, which the request for the rest repeats in ``If-Range``; the server then sends the rest (206), or everything
from the beginning (200) because it has changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .._model.dates import parse_http_date
from .._model.head import ResponseHead

__all__ = ["continues", "range_headers", "validator_of"]

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE)


def validator_of(method: str, head: ResponseHead, now: float) -> str | None:
    """What ``If-Range`` would repeat of this answer; None where its rest cannot be asked for.

    A strong entity tag, else a Last-Modified that is strong because the answer was made later (section 8.8.2.2). *now*:
    POSIX seconds, see :func:`parse_http_date`.
    """
    headers = head.headers
    if method != "GET" or head.status_code not in (200, 206) or "content-encoding" in headers:
        return None  # with a content coding, bytes on disk are not the bytes that ranges count
    if headers.get("accept-ranges", "").strip().lower() == "none":
        return None
    tag = headers.get("etag")
    if tag is not None:
        return tag if tag.startswith('"') else None
    modified = headers.get("last-modified")
    if modified is None:
        return None
    when, made = parse_http_date(modified, now), parse_http_date(headers.get("date", ""), now)
    return modified if when is not None and made is not None and made - when >= 1 else None


def range_headers(size: int, validator: str) -> Mapping[str, str]:
    """The fields that ask for what comes after the first *size* bytes, as they stand, of that representation."""
    return {"Range": f"bytes={size}-", "If-Range": validator, "Accept-Encoding": "identity"}


def continues(head: ResponseHead, size: int, validator: str) -> bool:
    """Whether an answer is the rest after *size* bytes of the representation that *validator* names."""
    if head.status_code != 206 or "content-encoding" in head.headers:
        return False
    match = _CONTENT_RANGE.fullmatch(head.headers.get("content-range", "").strip())
    if match is None or int(match[1]) != size:
        return False
    # A 206 repeats the validator that a 200 would have had, where the request had If-Range (section 15.3.7).
    tag = head.headers.get("etag")
    return tag is None or not validator.startswith('"') or tag == validator
