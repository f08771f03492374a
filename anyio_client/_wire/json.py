"""JSON texts (RFC 8259), strict both ways.

Refused, with ValueError: NaN and Infinity (no JSON), numbers that overflow a float, lone surrogates (no UTF-8),
nesting too deep for the interpreter. Big integers are exact.

Where msgspec is installed it is asked first. It reads and writes the same values as the strict reading of the standard
library here, refuses a little more (a byte order mark, subclasses of str), and is wrong in nothing that it accepts from
:func:`loads`; whatever it refuses is tried by the standard library, whose word counts. (orjson would read big integers
as floats.)
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

__all__ = ["dumps", "dumps_plain", "loads"]

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


@functools.cache
def _accelerator() -> tuple[Callable[[bytes | str], Any], Callable[[object], bytes]] | None:
    """msgspec's reader and writer, None where it is not installed."""
    try:
        module = import_module("msgspec").json
    except ImportError:
        return None
    return module.Decoder().decode, module.Encoder().encode


def dumps_plain(value: object) -> bytes:
    """The same for a value that is known to be plain: names are strings, numbers finite."""
    fast = _accelerator()
    if fast is not None:
        try:
            return fast[1](value)
        except (TypeError, ValueError, RecursionError):
            pass
    return dumps(value)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number overflows a float")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_float)


def loads(data: bytes | str) -> object:
    """The value of a JSON text. ValueError where it is none (also for invalid UTF-8 and too deep nesting).

    The message says what is wrong and where; unlike the standard library's errors it does not hold the text itself.
    """
    fast = _accelerator()
    if fast is not None:
        try:
            return fast[0](data)
        except (ValueError, RecursionError):  # msgspec's errors and UnicodeDecodeError are ValueErrors
            pass
    return _loads(data.encode() if isinstance(data, str) else data)


def _loads(data: bytes) -> object:
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
