"""What is wrong with a value, said without saying what it holds."""

from __future__ import annotations

import json

__all__ = ["DoesNotFit", "key_path", "kind_of", "wrong"]

SHOWN = 10
MAX_KEY = 80  # characters of a key that a path shows


class DoesNotFit(ValueError):
    """A value that does not fit a type. ``problems``: texts that begin with a JSON path relative to the value.

    ``missing``: a required field is missing, here or below: no raw value can stand in for it.
    """

    def __init__(self, problems: list[str], *, missing: bool = False) -> None:
        super().__init__("; ".join(f"${problem}" for problem in problems[:SHOWN]))  # the server says how many there are
        self.problems = problems
        self.missing = missing


def kind_of(value: object) -> str:
    """What a JSON value is, without saying what it holds."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case dict():
            return "an object"
        case _:
            return f"a {type(value).__name__}"


def wrong(value: object, expected: str) -> DoesNotFit:
    """The error to raise for a value of another kind than expected."""
    return DoesNotFit([f": expected {expected}, got {kind_of(value)}"])


def key_path(key: str) -> str:
    """One step of a path: ``.name``, or ``["odd name"]`` (one line, whatever the server calls its fields)."""
    if key.isidentifier() and len(key) <= MAX_KEY:
        return f".{key}"
    return f"[{json.dumps(key[:MAX_KEY])}]"
