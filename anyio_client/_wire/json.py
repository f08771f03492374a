"""JSON texts (RFC 8259), strict both ways.

Refused, with ValueError: NaN and Infinity (no JSON), numbers that overflow a float, lone surrogates (no UTF-8),
nesting too deep for the interpreter. Big integers are exact.
"""

from __future__ import annotations

import json
import math
import re
from typing import NoReturn

__all__ = ["dumps", "loads"]

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def dumps(value: object) -> bytes:
    """*value* as JSON: compact, UTF-8, key order kept. ValueError or TypeError for what JSON cannot hold."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise ValueError("the value is nested too deeply for JSON") from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError("a string has a lone surrogate in it, which has no UTF-8 form") from None


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number overflows a float")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_float)


def loads(data: bytes) -> object:
    """The value of a JSON text. ValueError where it is none (also for invalid UTF-8 and too deep nesting).

    The message says what is wrong and where; unlike the standard library's errors it does not hold the text itself.
    """
    try:
        text = data.decode("utf-8-sig")
        value: object = _DECODER.decode(text)
    except UnicodeDecodeError as exc:
        raise ValueError(f"invalid UTF-8 at byte {exc.start}") from None
    except json.JSONDecodeError as exc:
        raise ValueError(f"{exc.msg} at character {exc.pos}") from None
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    if _SURROGATE_ESCAPE.search(text):
        # The decoder joins pairs and lets lone ones pass: writing the value tells them apart.
        dumps(value)
    return value
