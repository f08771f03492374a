"""The message in the body of an error: where APIs put it, made fit for one line of a log."""

from __future__ import annotations

import re
from typing import Any, cast

__all__ = ["find_message", "one_line"]

MAX_MESSAGE = 1000  # characters; the whole text stands in the error's body
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]+")


def find_message(body: object) -> str | None:
    """The message in an error body: ``error.message``, ``error``, ``message``, ``detail``, ``title`` (RFC 9457)."""
    if not isinstance(body, dict):
        return None
    fields: dict[str, Any] = body  # pyright: ignore[reportUnknownVariableType]
    error: Any = fields.get("error")
    inner: Any = cast("dict[str, Any]", error).get("message") if isinstance(error, dict) else error
    candidates: tuple[Any, ...] = (inner, fields.get("message"), fields.get("detail"), fields.get("title"))
    for found in candidates:
        if isinstance(found, str) and found.strip():
            return one_line(found, MAX_MESSAGE)
    return None


def one_line(text: str, limit: int = 100) -> str:
    """What a server wrote, fit for one line of a log: *limit* characters at most, none that moves the cursor."""
    return " ".join(_UNPRINTABLE.sub(" ", text[:limit]).split())
