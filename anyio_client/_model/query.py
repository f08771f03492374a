"""Query strings: from nested Python values to ``application/x-www-form-urlencoded`` pairs, and templates for paths."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast, get_args

import attrs

from .given import NotGiven, Omit
from .url import percent_encode

__all__ = ["ArrayFormat", "NestedFormat", "Querystring", "merge_query", "path_template"]

ArrayFormat = Literal["brackets", "repeat", "comma", "indices"]
NestedFormat = Literal["brackets", "dots"]


def _scalar(name: str, value: object) -> str:
    """One value as text; TypeError where it has no obvious text."""
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    import datetime  # late, as all that few calls need: an import is paid by everybody
    import decimal
    import uuid

    if (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, decimal.Decimal) and not value.is_finite()
    ):
        raise ValueError(f"the parameter {name!r} is {value}, which has no form in a query")
    if isinstance(value, float | decimal.Decimal | uuid.UUID):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):  # a datetime is a date
        return value.isoformat()
    raise TypeError(f"the parameter {name!r} has a value of type {type(value).__name__}, which has no form in a query")


@attrs.frozen
class Querystring:
    """How nested parameters are written.

    ``array_format``: ``brackets`` (``a[]=1&a[]=2``), ``repeat`` (``a=1&a=2``), ``comma`` (``a=1,2``), ``indices``
    (``a[0]=1&a[1]=2``); ``nested_format``: ``brackets`` (``a[b]=1``) or ``dots`` (``a.b=1``). None is dropped, also
    inside arrays; empty arrays and mappings write nothing.
    """

    array_format: ArrayFormat = attrs.field(default="brackets")
    nested_format: NestedFormat = attrs.field(default="brackets")

    def __attrs_post_init__(self) -> None:
        if self.array_format not in get_args(ArrayFormat):
            raise ValueError(f"array_format must be one of {get_args(ArrayFormat)}, not {self.array_format!r}")
        if self.nested_format not in get_args(NestedFormat):
            raise ValueError(f"nested_format must be one of {get_args(NestedFormat)}, not {self.nested_format!r}")

    def stringify_items(self, params: Mapping[str, object]) -> list[tuple[str, str]]:
        """``(name, value)`` pairs, not yet percent-encoded. TypeError for bytes and other values without a text."""
        items: list[tuple[str, str]] = []
        for name, value in params.items():
            if not isinstance(name, str):
                raise TypeError(f"a parameter's name must be a str, not {type(name).__name__}")
            try:
                self._append(items, name, value)
            except RecursionError:
                raise ValueError(f"the parameter {name!r} is nested too deeply, or holds itself") from None
        return items

    def stringify(self, params: Mapping[str, object]) -> str:
        """The query string: UTF-8, percent-encoded, a space as ``%20`` and a plus as ``%2B``."""
        return "&".join(
            f"{percent_encode(name)}={percent_encode(value)}" for name, value in self.stringify_items(params)
        )

    def _append(self, items: list[tuple[str, str]], name: str, value: object) -> None:
        if value is None or isinstance(value, NotGiven | Omit):
            return
        if isinstance(value, Mapping):
            for key, inner in cast(Any, value).items():
                if not isinstance(key, str):
                    raise TypeError(f"a key inside the parameter {name!r} is no str")
                self._append(items, f"{name}.{key}" if self.nested_format == "dots" else f"{name}[{key}]", inner)
        elif isinstance(value, list | tuple | set | frozenset):
            values: list[Any] = [v for v in cast(Any, value) if v is not None and not isinstance(v, NotGiven | Omit)]
            self._append_array(items, name, values)  # pyright: ignore[reportUnknownVariableType]
        else:
            items.append((name, _scalar(name, value)))

    def _append_array(self, items: list[tuple[str, str]], name: str, values: list[object]) -> None:
        match self.array_format:
            case "brackets":
                for value in values:
                    self._append(items, f"{name}[]", value)
            case "repeat":
                for value in values:
                    self._append(items, name, value)
            case "indices":
                for index, value in enumerate(values):
                    self._append(items, f"{name}[{index}]", value)
            case "comma":
                if any(isinstance(value, Mapping | list | tuple | set | frozenset) for value in values):
                    raise ValueError(f"the parameter {name!r}: array_format='comma' cannot hold nested values")
                if values:
                    items.append((name, ",".join(_scalar(name, value) for value in values)))


def merge_query(query: str, params: Mapping[str, object], qs: Querystring) -> str:
    """*query* (encoded, kept byte for byte) with *params* laid over it.

    A parameter replaces what stands under its name, in any array or nested format; ``omit`` removes it; None and
    ``not_given`` say nothing.
    """
    said = {name: value for name, value in params.items() if value is not None and not isinstance(value, NotGiven)}
    if not said:
        return query
    from urllib.parse import unquote

    inner = ("[", ".") if qs.nested_format == "dots" else ("[",)

    def replaced(pair: str) -> bool:
        name = unquote(pair.partition("=")[0].replace("+", " "))
        return any(name == key or (name.startswith(key) and name[len(key) :].startswith(inner)) for key in said)

    kept = [pair for pair in query.split("&") if pair and not replaced(pair)]
    new = qs.stringify(said)
    return "&".join([*kept, new] if new else kept)


def _template_value(name: str, value: object) -> str:
    if value is None or isinstance(value, NotGiven | Omit):
        raise ValueError(f"the path needs a value for {name!r}, got {value!r}")
    text = _scalar(name, value)
    if not text:
        raise ValueError(f"the path needs a value for {name!r}, got an empty one")
    return percent_encode(text)


def _parse_template(template: str) -> Iterable[tuple[str, str]]:
    """``(literal, name)`` pieces of a template; the last name is ``""``."""
    rest = template
    while True:
        literal, brace, rest = rest.partition("{")
        if "}" in literal:
            raise ValueError(f"the path template {template!r} has a '}}' without a '{{'")
        if not brace:
            yield literal, ""
            return
        name, brace, rest = rest.partition("}")
        if not brace or not name.isidentifier():
            raise ValueError(f"the path template {template!r} has a malformed '{{name}}'")
        yield literal, name


def path_template(template: str, /, **values: object) -> str:
    """The path with every ``{name}`` replaced by its value, each value being (part of) one segment.

    ``/``, ``?``, ``#`` and all other reserved characters in a value are percent-encoded; True and False are
    ``true`` and ``false``. ValueError: a value that is empty or None, one that makes its segment a dot segment
    (``.`` or ``..``, which servers would resolve: RFC 3986 section 5.2.4), a name without a value, a value without
    a place.

    >>> path_template("/files/{id}", id="a/b")
    '/files/a%2Fb'
    """
    used: set[str] = set()
    out: list[str] = []
    for literal, name in _parse_template(template):
        out.append(literal)
        if name:
            if name not in values:
                raise ValueError(f"the path template {template!r} needs a value for {name!r}")
            used.add(name)
            out.append(_template_value(name, values[name]))
    if unused := sorted(values.keys() - used):
        raise ValueError(f"the path template {template!r} has no place for {', '.join(unused)}")
    path = "".join(out)
    if used and any(s.lower().replace("%2e", ".") in (".", "..") for s in path.partition("?")[0].split("/")):
        raise ValueError(f"the path template {template!r} with these values has a dot segment")
    return path
