"""The message in the body of an error: where APIs put it, made fit for one line of a log."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

from .._model.errors import APIError

__all__ = ["ErrorEvent", "find_message", "one_line"]

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


class ErrorEvent(Exception):
    """The error that an event stands for, and the status it names; on its way to whoever decides about a retry.

    Its text says nothing of the event's, which belongs in no log.
    """

    def __init__(self, make: Callable[[], APIError], status_code: int | None) -> None:
        super().__init__("the stream began with an error")
        self.make = make  # the hook behind it is called only for an error that is raised
        self.status_code = status_code
