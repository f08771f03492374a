"""Between Python values and JSON: the only place that knows cattrs.

Decoding is the last step of a call: bytes -> JSON -> ``cast_to``. It does not coerce: cattrs' own defaults make the
string ``'None'`` of null and a list of characters of a string, which hides what the server sent.

*Loose* (the default): what does not fit inside an object stays the raw JSON value, so that a server may add a variant
tomorrow; a missing required field, and a wrong shape at the top, are problems. *Strict*: everything that does not fit
is a problem. Problems are collected, each with its JSON path.
"""

# JSON comes without types: what is not known stays unknown until a hook has looked at it.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import decimal
import enum
import inspect
import math
import pathlib
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NoReturn, TypeAlias, Union, get_args, get_origin

import attrs
import cattrs

from ._model.given import NotGiven, Omit
from ._wire import json as _json

# Interpreters bound recursion differently; this depth is reached by none of them, nor by any API.
MAX_DEPTH = 400

__all__ = ["Codec", "DoesNotFit"]

Hook: TypeAlias = Callable[[Any, Any], Any]

_MISSING = object()


class DoesNotFit(ValueError):
    """A value that does not fit a type. ``problems``: texts that begin with a JSON path relative to the value."""

    def __init__(self, problems: list[str], *, missing: bool = False) -> None:
        super().__init__("; ".join(f"${problem}" for problem in problems))
        self.problems = problems
        self.missing = missing  # a required field is missing, here or below: no raw value can stand in for it


def _kind(value: object) -> str:
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


def _wrong(value: object, expected: str) -> NoReturn:
    raise DoesNotFit([f": expected {expected}, got {_kind(value)}"])


def _exactly(kind: type, expected: str) -> Hook:
    def structure(value: Any, _: Any) -> Any:
        if type(value) is kind:
            return value
        _wrong(value, expected)

    return structure


def _float(value: Any, _: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            _wrong(value, "a number in the range of a float")
    _wrong(value, "a number")


def _none(value: Any, _: Any) -> None:
    if value is not None:
        _wrong(value, "null")


def _parsed(parse: Callable[[str], Any], expected: str, kind: type = str) -> Hook:
    def structure(value: Any, _: Any) -> Any:
        if isinstance(value, kind):
            try:
                return parse(typing.cast("str", value))
            except (ValueError, ArithmeticError, TypeError):
                pass
        _wrong(value, expected)

    return structure


class _Never:
    """Nothing in JSON is of this type."""


_SCALARS: dict[Any, Hook] = {
    str: _exactly(str, "a string"),
    int: _exactly(int, "an integer"),
    bool: _exactly(bool, "a boolean"),
    float: _float,
    type(None): _none,
    datetime.datetime: _parsed(datetime.datetime.fromisoformat, "an ISO 8601 date and time"),
    datetime.date: _parsed(datetime.date.fromisoformat, "an ISO 8601 date"),
    datetime.time: _parsed(datetime.time.fromisoformat, "an ISO 8601 time"),
    uuid.UUID: _parsed(uuid.UUID, "a UUID"),
    bytes: _exactly(_Never, "bytes, which JSON does not have,"),
    decimal.Decimal: _parsed(lambda text: decimal.Decimal(str(text)), "a decimal number", object),
    pathlib.Path: _parsed(pathlib.Path, "a path"),
}


def _is_union(tp: Any) -> bool:
    return get_origin(tp) in (Union, types.UnionType)


def _is_list(tp: Any) -> bool:
    return (get_origin(tp) or tp) in (
        list,
        collections.abc.Sequence,
        collections.abc.Iterable,
        set,
        frozenset,
    ) and (tp is not str)


def _is_tuple(tp: Any) -> bool:
    return (get_origin(tp) or tp) is tuple


def _is_dict(tp: Any) -> bool:
    return (get_origin(tp) or tp) in (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def _is_record(tp: Any) -> bool:
    origin = get_origin(tp) or tp
    return isinstance(origin, type) and (
        attrs.has(origin) or dataclasses.is_dataclass(origin) or typing.is_typeddict(origin)
    )


@attrs.frozen
class _Field:
    name: str  # the constructor's argument
    key: str  # the name in JSON
    hook: Hook
    type: Any
    required: bool


class Codec:
    """Encodes and decodes for one client. ``converter``: the user's own, whose hooks for classes are kept."""

    def __init__(self, converter: cattrs.Converter | None = None) -> None:
        base = cattrs.Converter() if converter is None else converter
        self._own, self._own_output = _own_hooks(base)
        self._loose = self._configure(base.copy(), strict=False)
        self._strict = self._configure(base.copy(), strict=True)
        self._unstructure = self._configure_output(base.copy())

    # -- decoding

    def decode(self, value: object, cast_to: Any, *, strict: bool = False) -> Any:
        """The JSON *value* as *cast_to*. :class:`DoesNotFit` with every problem."""
        converter = self._strict if strict else self._loose
        try:
            return converter.get_structure_hook(cast_to)(value, cast_to)
        except DoesNotFit:
            raise
        except RecursionError:
            raise DoesNotFit([": nested too deeply"]) from None
        except cattrs.StructureHandlerNotFoundError as exc:
            raise TypeError(f"cast_to={cast_to!r} cannot be decoded: {exc}") from exc
        except Exception as exc:  # a hook of the user's, or a converter of attrs
            raise DoesNotFit([f": {type(exc).__name__}"]) from exc

    def _configure(self, converter: cattrs.Converter, *, strict: bool) -> cattrs.Converter:
        for kind, hook in _SCALARS.items():
            if kind not in self._own:
                converter.register_structure_hook(kind, self._scalar_hook(kind, hook, strict))
        factories: list[tuple[Callable[[Any], bool], Callable[[Any], Hook]]] = [
            (lambda tp: tp is Any or tp is object, lambda tp: lambda value, _: value),
            (_is_list, lambda tp: self._list_hook(converter, tp, strict)),
            (_is_tuple, lambda tp: self._tuple_hook(converter, tp, strict)),
            (_is_dict, lambda tp: self._dict_hook(converter, tp, strict)),
            (_is_record, lambda tp: self._record_hook(converter, tp, strict)),
            (lambda tp: get_origin(tp) is Literal, lambda tp: self._literal_hook(tp, strict)),
            (
                lambda tp: isinstance(tp, type) and issubclass(tp, enum.Enum),
                lambda tp: self._enum_hook(tp, strict),
            ),
            (_is_union, lambda tp: self._union_hook(converter, tp, strict)),
        ]
        for predicate, factory in factories:
            converter.register_structure_hook_factory(predicate, factory)
        return converter

    def _scalar_hook(self, kind: Any, hook: Hook, strict: bool) -> Hook:
        """cattrs asks the hook of a class for its subclasses too: enums that are also strings or integers."""

        def structure(value: Any, tp: Any) -> Any:
            if tp is not kind and isinstance(tp, enum.EnumType):
                return self._enum_hook(tp, strict)(value, tp)
            return hook(value, tp)

        return structure

    @staticmethod
    def _inner(hook: Hook, value: Any, tp: Any, path: str, strict: bool, problems: list[str]) -> Any:
        """A part of a value: decoded; or, if it does not fit, raw (loose) or one more problem."""
        try:
            return hook(value, tp)
        except DoesNotFit as exc:
            if not strict and not exc.missing:
                return value
            problems.extend(path + problem for problem in exc.problems)
        except (RecursionError, cattrs.StructureHandlerNotFoundError):
            raise
        except Exception as exc:
            if not strict:
                return value
            problems.append(f"{path}: {type(exc).__name__}")
        return None

    def _list_hook(self, converter: cattrs.Converter, tp: Any, strict: bool) -> Hook:
        item_type = (get_args(tp) or (object,))[0]
        origin = get_origin(tp) or tp
        build: Callable[[list[Any]], Any] = origin if origin in (set, frozenset) else lambda items: items
        hook = converter.get_structure_hook(item_type)

        def structure(value: Any, _: Any) -> Any:
            if type(value) is not list:
                _wrong(value, "an array")
            problems: list[str] = []
            items = [
                self._inner(hook, item, item_type, f"[{index}]", strict, problems) for index, item in enumerate(value)
            ]
            if problems:
                raise DoesNotFit(problems, missing=True)
            return build(items)

        return structure

    def _tuple_hook(self, converter: cattrs.Converter, tp: Any, strict: bool) -> Hook:
        types_ = get_args(tp) or (object, ...)
        if types_[-1] is ...:
            as_list = self._list_hook(converter, list[types_[0]], strict)  # type: ignore[valid-type]
            return lambda value, _: tuple(as_list(value, _))
        hooks = [converter.get_structure_hook(item_type) for item_type in types_]

        def structure(value: Any, _: Any) -> Any:
            if type(value) is not list or len(value) != len(hooks):
                _wrong(value, f"an array of {len(hooks)}")
            problems: list[str] = []
            items = [
                self._inner(hook, item, item_type, f"[{index}]", strict, problems)
                for index, (hook, item, item_type) in enumerate(zip(hooks, value, types_, strict=True))
            ]
            if problems:
                raise DoesNotFit(problems, missing=True)
            return tuple(items)

        return structure

    def _dict_hook(self, converter: cattrs.Converter, tp: Any, strict: bool) -> Hook:
        value_type = (get_args(tp) or (str, object))[1]
        hook = converter.get_structure_hook(value_type)

        def structure(value: Any, _: Any) -> Any:
            if type(value) is not dict:
                _wrong(value, "an object")
            problems: list[str] = []
            items = {
                key: self._inner(hook, item, value_type, f".{key}", strict, problems)
                for key, item in typing.cast("dict[str, Any]", value).items()
            }
            if problems:
                raise DoesNotFit(problems, missing=True)
            return items

        return structure

    def _record_hook(self, converter: cattrs.Converter, tp: Any, strict: bool) -> Hook:
        cls: Any = get_origin(tp) or tp
        fields: list[_Field] = []
        structure = _record_function(cls, fields, strict, self._inner)
        # Classes may refer to themselves: the fields' hooks are looked up when the class is first decoded.
        resolved = False

        def resolve(value: Any, _: Any) -> Any:
            nonlocal resolved
            if not resolved:
                fields[:] = _record_fields(converter, cls, tp)
                resolved = True
            return structure(value, _)

        return resolve

    def _literal_hook(self, tp: Any, strict: bool) -> Hook:
        allowed = get_args(tp)
        plain = [item.value if isinstance(item, enum.Enum) else item for item in allowed]

        def structure(value: Any, _: Any) -> Any:
            for item, wanted in zip(allowed, plain, strict=True):
                if type(value) is type(wanted) and value == wanted:
                    return item
            _wrong(value, f"one of {len(allowed)} values")

        return structure

    def _enum_hook(self, tp: Any, strict: bool) -> Hook:
        def structure(value: Any, _: Any) -> Any:
            try:
                member = tp(value)
            except (ValueError, TypeError):
                member = None
            # true is no member of value 1, though Python says that they are equal.
            if member is not None and isinstance(value, bool) is isinstance(member.value, bool):
                return member
            if not strict:
                return value  # a member that the server learnt later
            _wrong(value, f"a member of {tp.__name__}")

        return structure

    def _union_hook(self, converter: cattrs.Converter, tp: Any, strict: bool) -> Hook:
        members = get_args(tp)
        # The exact readings first: a string is a str before it is a date.
        tagged = _tags(members)

        def structure(value: Any, _: Any) -> Any:
            if tagged is not None and isinstance(value, dict):
                name, classes = tagged
                tag = typing.cast("dict[str, Any]", value).get(name, _MISSING)
                cls = classes.get(tag) if isinstance(tag, str | int) else None
                if cls is not None:
                    return converter.get_structure_hook(cls)(value, cls)
                if not strict and tag is not _MISSING:
                    return typing.cast("Any", value)  # a variant that the server learnt later
            failures: list[DoesNotFit] = []
            for member in members:
                try:
                    return self._strict.get_structure_hook(member)(value, member)
                except DoesNotFit as exc:
                    failures.append(exc)
            if not strict:
                for member in members:  # nothing fits exactly: the first that fits loosely
                    try:
                        return converter.get_structure_hook(member)(value, member)
                    except DoesNotFit:
                        continue
            if len(members) == 2 and type(None) in members:
                raise failures[0 if members[1] is type(None) else 1]
            _wrong(value, f"one of {len(members)} kinds")

        return structure

    # -- encoding

    def encode(self, value: object) -> bytes:
        """*value* as JSON. TypeError or ValueError where JSON cannot hold it; the message has the path inside it."""
        return _json.dumps(self.to_plain(value))

    def to_plain(self, value: object) -> Any:
        """*value* in the types of JSON; iterators expanded, sentinels left out. The caller's objects are not changed."""
        try:
            return self._plain(value, "$", ())
        except RecursionError:
            raise ValueError("the value is nested too deeply for JSON") from None

    def _plain(self, value: Any, path: str, above: tuple[int, ...]) -> Any:
        if value is None or type(value) in (str, int, bool):
            return value
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{path} is {value!r}, which JSON cannot hold")
        if isinstance(value, enum.Enum):
            return self._plain(value.value, path, above)
        if id(value) in above:
            raise ValueError(f"{path} refers back to an object that contains it: JSON has no cycles")
        if len(above) >= MAX_DEPTH:
            raise ValueError("the value is nested too deeply for JSON")
        inside = (*above, id(value))
        if isinstance(value, Mapping):
            plain: dict[str, Any] = {}
            for key, item in value.items():
                if isinstance(item, NotGiven | Omit):
                    continue
                name: Any = key.value if isinstance(key, enum.Enum) else key
                if not isinstance(name, str):
                    raise TypeError(
                        f"{path} has a key of type {type(key).__name__}: the names of JSON objects are strings"
                    )
                plain[name] = self._plain(item, f"{path}.{name}", inside)
            return plain
        if isinstance(value, str | int | float):
            return value
        if isinstance(value, NotGiven | Omit):
            raise TypeError(f"{path} is {value!r}, which stands for no value")
        if isinstance(value, bytes | bytearray | memoryview):
            raise TypeError(f"{path} is bytes, which JSON cannot hold: encode them, for example as base64")
        hook = self._unstructure.get_unstructure_hook(type(value))
        if hook is _record_items:
            return {
                key: self._plain(item, f"{path}.{key}", inside)
                for key, item in _record_items(value)
                if not isinstance(item, NotGiven | Omit)
            }
        if isinstance(value, Iterable) and not isinstance(value, type):
            return [self._plain(item, f"{path}[{index}]", inside) for index, item in enumerate(value)]
        made = hook(value)
        if made is value:
            raise TypeError(f"{path} is a {type(value).__name__}, which has no form in JSON")
        return self._plain(made, path, inside)

    def _configure_output(self, converter: cattrs.Converter) -> cattrs.Converter:
        for kind, hook in _PLAIN.items():
            if kind not in self._own_output:
                converter.register_unstructure_hook(kind, hook)
        # Hooks for classes come before those for predicates, so the user's own are called.
        converter.register_unstructure_hook_func(_is_record, _record_items)
        return converter


def _same(one: Any, other: Any) -> bool:
    return getattr(one, "__func__", one) is getattr(other, "__func__", other)


def _own_hooks(converter: cattrs.Converter) -> tuple[set[Any], set[Any]]:
    """The scalars for which the user's converter has hooks that cattrs does not make: to decode, to encode."""

    def hook_for(converter: cattrs.Converter, kind: Any) -> Any:
        try:
            return converter.get_structure_hook(kind)
        except cattrs.StructureHandlerNotFoundError:
            return None

    fresh = cattrs.Converter()
    decoding = {kind for kind in _SCALARS if not _same(hook_for(converter, kind), hook_for(fresh, kind))}
    encoding = {
        kind for kind in _PLAIN if not _same(converter.get_unstructure_hook(kind), fresh.get_unstructure_hook(kind))
    }
    return decoding, encoding


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
        return [(a.alias, getattr(value, a.name)) for a in attrs.fields(type(value))]
    return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]


def _record_fields(converter: cattrs.Converter, cls: Any, tp: Any) -> list[_Field]:
    try:
        hints = typing.get_type_hints(cls, include_extras=typing.is_typeddict(cls))
    except NameError as exc:
        raise cattrs.StructureHandlerNotFoundError(f"an annotation of {cls.__name__}: {exc}", cls) from exc
    arguments = _type_arguments(tp)

    def type_of(name: str, declared: Any) -> Any:
        home = next((base for base in cls.__mro__ if name in inspect.get_annotations(base)), cls)
        return _substituted(hints.get(name, declared), arguments.get(home, {}))

    found: list[tuple[str, str, Any, bool]] = []
    if attrs.has(cls):
        found.extend(
            (a.alias, a.alias, type_of(a.name, a.type), a.default is attrs.NOTHING) for a in attrs.fields(cls) if a.init
        )
    elif typing.is_typeddict(cls):
        # The class of a TypedDict is a plain dict: it has no bases to look through.
        own: Mapping[Any, Any] = arguments.get(cls, {})
        for key, hint in hints.items():
            # __required_keys__ does not see through annotations that are strings.
            said = get_origin(hint)
            required = said is not typing.NotRequired and (said is typing.Required or key in cls.__required_keys__)
            bare = get_args(hint)[0] if said in (typing.Required, typing.NotRequired) else hint
            found.append((key, key, _substituted(bare, own), required))
    else:
        for f in dataclasses.fields(cls):
            required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
            if f.init:
                found.append((f.name, f.name, type_of(f.name, f.type), required))
    return [_Field(name, key, converter.get_structure_hook(tp), tp, required) for name, key, tp, required in found]


def _substituted(hint: Any, arguments: Mapping[Any, Any]) -> Any:
    """*hint* with the values of its type variables; ``object`` for those without one."""
    if hint is None:
        return object
    if isinstance(hint, typing.TypeVar):
        return arguments.get(hint, object)
    parameters = getattr(hint, "__parameters__", ())
    return hint[tuple(arguments.get(p, object) for p in parameters)] if parameters else hint


def _type_arguments(tp: Any) -> dict[Any, dict[Any, Any]]:
    """For a generic class and each generic class that it extends: the values of its type variables."""
    cls: Any = get_origin(tp) or tp
    parameters = getattr(cls, "__parameters__", ())
    own: dict[Any, Any] = dict(zip(parameters, get_args(tp), strict=False))
    found = {cls: own}
    for base in getattr(cls, "__orig_bases__", ()) if "__orig_bases__" in vars(cls) else cls.__bases__:
        origin = get_origin(base) or base
        if isinstance(origin, type) and origin not in (object, typing.Generic, dict):
            if get_args(base):
                base = _substituted(base, own)
            elif not parameters and get_args(tp) and getattr(base, "__parameters__", ()):
                base = types.GenericAlias(base, get_args(tp))  # class Pets(CursorPage), without its argument
            found = {**_type_arguments(base), **found}
    return found


def _record_function(cls: Any, fields: list[_Field], strict: bool, inner: Callable[..., Any]) -> Hook:
    def structure(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            _wrong(value, f"an object ({cls.__name__})")
        problems: list[str] = []
        missing = False
        arguments: dict[str, Any] = {}
        given = typing.cast("dict[str, Any]", value)
        for field in fields:
            item = given.get(field.key, _MISSING)
            if item is not _MISSING:
                arguments[field.name] = inner(field.hook, item, field.type, f".{field.key}", strict, problems)
            elif field.required:
                problems.append(f".{field.key}: missing")
                missing = True
        if problems:
            raise DoesNotFit(problems, missing=missing or not strict)
        try:
            return cls(**arguments)
        except (TypeError, ValueError) as exc:  # a validator of the user's
            raise DoesNotFit([f": {cls.__name__} refuses it ({type(exc).__name__})"], missing=True) from exc

    return structure


def _tags(members: tuple[Any, ...]) -> tuple[str, dict[Any, Any]] | None:
    """The name of the Literal field that tells the classes of a union apart, and who is who; None without one."""
    records = [member for member in members if _is_record(member)]
    if len(records) < 2:
        return None
    literals: list[dict[str, tuple[Any, ...]]] = []
    for record in records:
        cls = get_origin(record) or record
        keys: dict[str, str] = {a.name: a.alias for a in attrs.fields(cls)} if attrs.has(cls) else {}
        literals.append(
            {
                keys.get(name, name): tuple(tag.value if isinstance(tag, enum.Enum) else tag for tag in get_args(hint))
                for name, hint in typing.get_type_hints(cls).items()
                if get_origin(hint) is Literal
            }
        )
    for name in literals[0]:
        if all(name in one for one in literals):
            classes = {tag: record for record, one in zip(records, literals, strict=True) for tag in one[name]}
            if len(classes) == sum(len(one[name]) for one in literals):
                return name, classes
    return None
