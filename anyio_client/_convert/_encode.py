"""From values to JSON."""

# JSON comes of values of any type: what is not known stays unknown until it has been looked at.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import cattrs

from .._model.given import NotGiven, Omit
from .._wire import json as _json
from . import _models
from ._problems import key_path
from ._records import EXTRA, is_record, json_name

__all__ = ["Encoder"]

# Interpreters bound recursion differently; this depth is reached by none of them, nor by any API.
MAX_DEPTH = 400


class Encoder:
    """Makes JSON of values: by the converter's hooks for their classes, else by the rules below."""

    def __init__(self, base: cattrs.Converter) -> None:
        converter = base.copy()
        fresh = cattrs.Converter()
        for kind, hook in _PLAIN.items():
            if _same(base.get_unstructure_hook(kind), fresh.get_unstructure_hook(kind)):  # else it is the user's own
                converter.register_unstructure_hook(kind, hook)
        # Hooks for classes come before those for predicates, so the user's own are called.
        converter.register_unstructure_hook_func(is_record, _record_items)
        converter.register_unstructure_hook_func(_models.is_model, _models.to_plain)
        self._hook_for = converter.get_unstructure_hook

    def encode(self, value: object) -> bytes:
        """*value* as JSON. TypeError or ValueError where JSON cannot hold it; the message has the path inside it."""
        return _json.dumps_plain(value if _is_plain(value) else self.to_plain(value))

    def to_plain(self, value: object) -> Any:
        """*value* in the types of JSON; iterators expanded, sentinels left out. The caller's objects are not changed."""
        try:
            return self._plain(value, "$", ())
        except RecursionError:
            raise ValueError("the value is nested too deeply for JSON") from None

    def _plain(self, value: Any, path: str, above: tuple[int, ...]) -> Any:
        kind = type(value)
        if kind is str:
            return _checked(value, path)
        if value is None or kind is int or kind is bool:
            return value
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{path} is {value!r}, which JSON cannot hold")
        if isinstance(value, enum.Enum):
            said = self._hook_for(kind)(value)  # the user's own hook, or cattrs', which gives the value
            return self._plain(value.value if isinstance(said, enum.Enum) else said, path, above)
        if id(value) in above:
            raise ValueError(f"{path} refers back to an object that contains it: JSON has no cycles")
        if len(above) >= MAX_DEPTH:
            raise ValueError("the value is nested too deeply for JSON")
        inside = (*above, id(value))
        if isinstance(value, Mapping):
            return self._plain_mapping(value, path, inside)
        if isinstance(value, str):
            return _checked(str(value), path)
        if isinstance(value, int | float):
            return value
        if isinstance(value, NotGiven | Omit):
            raise TypeError(f"{path} is {value!r}, which stands for no value")
        hook = self._hook_for(kind)
        if isinstance(value, bytes | bytearray | memoryview):
            made = hook(value)  # a hook of the user's own may say how
            if isinstance(made, bytes | bytearray | memoryview):
                raise TypeError(f"{path} is bytes, which JSON cannot hold: encode them, for example as base64")
            return self._plain(made, path, inside)
        if hook is _record_items:
            if isinstance(value, tuple):  # a NamedTuple is an array, as for every encoder of JSON
                return [self._plain(item, f"{path}[{index}]", inside) for index, item in enumerate(value)]
            return {
                key: self._plain(item, path + key_path(key), inside)
                for key, item in _record_items(value)
                if not isinstance(item, NotGiven | Omit)
            }
        if isinstance(value, Iterable) and not isinstance(value, type) and not _models.is_model(kind):
            return [self._plain(item, f"{path}[{index}]", inside) for index, item in enumerate(value)]
        try:
            made = hook(value)
        except Exception as exc:
            if not _models.is_model(kind):
                raise
            if "ircular" in str(exc):
                raise ValueError(f"{path} refers back to an object that contains it: JSON has no cycles") from None
            # Its library's own error, which may quote values.
            raise TypeError(f"{path} is a {kind.__name__} with a value that has no form in JSON") from exc
        if made is value:
            raise TypeError(f"{path} is a {kind.__name__}, which has no form in JSON")
        return self._plain(made, path, inside)

    def _plain_mapping(self, value: Mapping[Any, Any], path: str, inside: tuple[int, ...]) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, item in value.items():
            if isinstance(item, NotGiven | Omit):
                continue
            name: Any = key.value if isinstance(key, enum.Enum) else key
            if not isinstance(name, str):
                raise TypeError(f"{path} has a key of type {type(key).__name__}: the names of JSON objects are strings")
            plain[_checked(str(name), path)] = self._plain(item, path + key_path(name), inside)
        return plain


def _is_plain(value: object) -> bool:
    """Whether *value* is certainly JSON as it is; False may also mean that it was not looked at to its end."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):  # level by level, which is one call for all of it
        inside: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                if not item.isascii():
                    return False
            elif kind is dict:
                for name in item:
                    if type(name) is not str or not name.isascii():
                        return False
                inside.extend(item.values())
            elif kind is list:
                inside.extend(item)
            elif kind is float:
                if not math.isfinite(item):
                    return False
            elif kind not in _SCALARS:
                return False
        if not inside:
            return True
        if len(inside) > MAX_LOOKED_AT:
            break
        level = inside
    return False  # large, deep, or a cycle


_SCALARS = frozenset((int, bool, type(None)))
MAX_LOOKED_AT = 10_000


def _checked(text: str, path: str) -> str:
    """*text* itself; ValueError where UTF-8 has no form for it."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{path} has a lone surrogate in it, which has no UTF-8 form") from None
    return text


def _same(one: Any, other: Any) -> bool:
    return getattr(one, "__func__", one) is getattr(other, "__func__", other)


_PLAIN: dict[Any, Callable[[Any], Any]] = {
    datetime.datetime: lambda value: value.isoformat(),
    datetime.date: lambda value: value.isoformat(),
    datetime.time: lambda value: value.isoformat(),
    uuid.UUID: str,
    decimal.Decimal: str,
    pathlib.PurePath: str,
}


def _record_items(value: Any) -> list[tuple[str, Any]]:
    if attrs.has(type(value)):
        items: list[tuple[str, Any]] = []
        more: dict[str, Any] = {}
        for a in attrs.fields(type(value)):
            if a.metadata.get(EXTRA):
                more = getattr(value, a.name)
            else:
                items.append((json_name(a), getattr(value, a.name)))
        known = {name for name, _ in items}
        return items + [(name, item) for name, item in more.items() if name not in known]
    return [(json_name(f), getattr(value, f.name)) for f in dataclasses.fields(value)]
