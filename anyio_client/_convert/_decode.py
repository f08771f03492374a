"""From JSON to a type.

*Loose* (the default): what does not fit inside an object stays the raw JSON value, so that a server may add a variant
tomorrow; a missing required field, and a wrong shape at the top, are problems. *Strict*: everything that does not fit
is a problem. Problems are collected, each with its JSON path.

A hook is made once for each type. Most values of an answer are scalars that stay what they are: for those a hook is not
even called, the class of the value is looked up in what its type *accepts*.
"""

# JSON comes without types: what is not known stays unknown until a hook has looked at it.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
from __future__ import annotations

import collections.abc
import datetime
import decimal
import enum
import inspect
import operator
import pathlib
import types
import typing
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

import cattrs

from . import _models
from ._problems import DoesNotFit, key_path, wrong
from ._records import fields_of, is_named_tuple, is_record, resolved, tags_of

__all__ = ["Decoder", "DoesNotFit"]

Hook: TypeAlias = Callable[[Any, Any], Any]

_MISSING = object()
_NOTHING: frozenset[type] = frozenset()
_NULL: frozenset[type] = frozenset((type(None),))
_JSON_TYPES: frozenset[type] = frozenset((str, int, bool, float, type(None), list, dict))


def _exactly(kind: type, expected: str) -> Hook:
    def structure(value: Any, _: Any) -> Any:
        if type(value) is kind:
            return value
        raise wrong(value, expected)

    return structure


def _float(value: Any, _: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise wrong(value, "a number in the range of a float") from None
    raise wrong(value, "a number")


def _none(value: Any, _: Any) -> None:
    if value is not None:
        raise wrong(value, "null")


def _parsed(parse: Callable[[str], Any], expected: str, kind: type = str) -> Hook:
    def structure(value: Any, _: Any) -> Any:
        if isinstance(value, kind):
            try:
                return parse(typing.cast("str", value))
            except (ValueError, ArithmeticError, TypeError):
                pass
        raise wrong(value, expected)

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


class Decoder:
    """Decodes for one client: by the user's hooks for their classes, else by the rules of this file."""

    def __init__(self, base: cattrs.Converter) -> None:
        fresh = cattrs.Converter()
        # The scalars for which the user's converter has hooks that cattrs does not make.
        self._own = {kind for kind in _SCALARS if not _same(_hook_of(base, kind), _hook_of(fresh, kind))}
        self._made: dict[tuple[int, Any], Hook] = {}
        self._of_class: dict[tuple[type, bool], Hook] = {}  # of plain classes, which need no more than a look here
        self._loose = self._configure(base.copy(), strict=False)
        self._strict = self._configure(base.copy(), strict=True)

    def decode(self, value: object, cast_to: Any, *, strict: bool = False) -> Any:
        """The JSON *value* as *cast_to*. :class:`DoesNotFit` with every problem."""
        try:
            hook = self._of_class.get((cast_to, strict)) if type(cast_to) is type else None
            return (hook or self._find(cast_to, strict))(value, cast_to)
        except DoesNotFit:
            raise
        except RecursionError:
            raise DoesNotFit([": nested too deeply"]) from None
        except cattrs.StructureHandlerNotFoundError as exc:
            what = "make it an attrs class or a dataclass, or register a hook on the client's converter"
            raise TypeError(f"cast_to={cast_to!r} cannot be decoded: {exc.args[0]}; {what}") from exc
        except Exception as exc:  # a hook of the user's, or a converter of attrs
            raise DoesNotFit([f": {type(exc).__name__}"]) from exc

    def _find(self, cast_to: Any, strict: bool) -> Hook:
        hook = self._hook(self._strict if strict else self._loose, cast_to)
        if type(cast_to) is type:
            self._of_class[cast_to, strict] = hook
        return hook

    def _configure(self, converter: cattrs.Converter, *, strict: bool) -> cattrs.Converter:
        for kind, hook in _SCALARS.items():
            if kind not in self._own:
                converter.register_structure_hook(kind, self._scalar_hook(kind, hook, strict))
        factories: list[tuple[Callable[[Any], bool], Callable[[Any], Hook]]] = [
            (lambda tp: tp is Any or tp is object, lambda tp: lambda value, _: value),
            (_is_list, lambda tp: self._list_hook(converter, tp, strict)),
            (_is_tuple, lambda tp: self._tuple_hook(converter, tp, strict)),
            (_is_dict, lambda tp: self._dict_hook(converter, tp, strict)),
            (is_record, lambda tp: self._record_hook(converter, tp, strict)),
            (_models.is_model, lambda tp: self._model_hook(converter, strict)),
            (lambda tp: get_origin(tp) is Literal, lambda tp: self._literal_hook(tp)),
            (
                lambda tp: isinstance(tp, type) and issubclass(tp, enum.Enum),
                lambda tp: self._enum_hook(tp, strict),
            ),
            (_is_union, lambda tp: self._union_hook(converter, tp, strict)),
            (lambda tp: resolved(tp) is not tp, lambda tp: self._resolved_hook(converter, tp)),
        ]
        for predicate, factory in factories:
            converter.register_structure_hook_factory(predicate, factory)
        return converter

    def _hook(self, converter: cattrs.Converter, tp: Any) -> Hook:
        """The hook for a type, made once. cattrs takes ``str | date`` and ``date | str`` for one type, which they are
        not: the first that fits is meant. So what has arguments is kept here, in their order."""
        tp = resolved(tp)
        if not get_args(tp):
            return converter.get_structure_hook(tp)
        key = (id(converter), _in_order(tp))
        hook = self._made.get(key)
        if hook is None:
            hook = self._made[key] = converter.get_structure_hook(tp, cache_result=False)
        return hook

    def _accepts(self, tp: Any) -> frozenset[type]:
        """The classes whose values stay what they are under *tp*: for those its hook need not be called."""
        tp = resolved(tp)
        if tp is Any or tp is object:
            return _JSON_TYPES
        if tp is None or tp is type(None):
            return _NULL
        if tp in (str, int, bool, float):
            accepted: type = tp
            return _NOTHING if accepted in self._own else frozenset((accepted,))
        if _is_union(tp):
            return self._union_accepts(tuple(resolved(member) for member in get_args(tp)))
        return _NOTHING

    def _union_accepts(self, members: tuple[Any, ...]) -> frozenset[type]:
        """In their order: a string is a date before it is a str where the union says so, and an array is no scalar."""
        found: set[type] = set(_NULL) if type(None) in members else set()
        plain = True
        for member in members:
            accepts = self._accepts(member)
            if accepts:
                found |= accepts if plain else accepts - {list, dict}
            elif is_record(member) or _is_list(member) or _is_tuple(member) or _is_dict(member):
                plain = False
            else:
                break
        return frozenset(found)

    def _resolved_hook(self, converter: cattrs.Converter, tp: Any) -> Hook:
        inner = resolved(tp)
        hook = self._hook(converter, inner)
        return lambda value, _: hook(value, inner)

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
        except Exception as exc:
            return _unfit(exc, value, path, strict, problems)

    def _list_hook(self, converter: cattrs.Converter, tp: Any, strict: bool) -> Hook:
        item_type = resolved((get_args(tp) or (object,))[0])
        origin = get_origin(tp) or tp
        build: Callable[[list[Any]], Any] | None = origin if origin in (set, frozenset) else None
        hook = self._hook(converter, item_type)
        accepts = self._accepts(item_type)

        def structure(value: Any, _: Any) -> Any:
            if type(value) is not list:
                raise wrong(value, "an array")
            if accepts.issuperset(map(type, value)):
                return value if build is None else build(value)
            problems: list[str] = []
            items: list[Any] = []
            for index, item in enumerate(value):
                try:
                    items.append(hook(item, item_type))
                except Exception as exc:
                    items.append(_unfit(exc, item, f"[{index}]", strict, problems))
            if problems:
                raise DoesNotFit(problems, missing=True)
            return items if build is None else build(items)

        return structure

    def _tuple_hook(self, converter: cattrs.Converter, tp: Any, strict: bool) -> Hook:
        types_ = get_args(tp) or (object, ...)
        if types_[-1] is ...:
            as_list = self._list_hook(converter, list[types_[0]], strict)  # type: ignore[valid-type]
            return lambda value, _: tuple(as_list(value, _))
        hooks = [self._hook(converter, item_type) for item_type in types_]

        def structure(value: Any, _: Any) -> Any:
            if type(value) is not list or len(value) != len(hooks):
                raise wrong(value, f"an array of {len(hooks)}")
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
        value_type = resolved((get_args(tp) or (str, object))[1])
        hook = self._hook(converter, value_type)
        accepts = self._accepts(value_type)

        def structure(value: Any, _: Any) -> Any:
            if type(value) is not dict:
                raise wrong(value, "an object")
            if accepts.issuperset(map(type, value.values())):
                return value
            problems: list[str] = []
            items = {
                key: self._inner(hook, item, value_type, key_path(key), strict, problems)
                for key, item in typing.cast("dict[str, Any]", value).items()
            }
            if problems:
                raise DoesNotFit(problems, missing=True)
            return items

        return structure

    def _record_hook(self, converter: cattrs.Converter, tp: Any, strict: bool) -> Hook:
        cls: Any = get_origin(tp) or tp
        # Classes may refer to themselves: the fields' hooks are looked up when the class is first decoded.
        structure: Hook | None = None

        def resolve(value: Any, _: Any) -> Any:
            nonlocal structure
            if structure is None:
                rows: list[_Row] = []
                extra: str | None = None
                for field in fields_of(tp):
                    if field.extra:
                        extra = field.name
                    else:
                        hook = self._hook(converter, field.type)
                        rows.append(
                            (field.name, field.key, self._accepts(field.type), hook, field.type, field.required)
                        )
                structure = _record_function(cls, rows, extra, strict)
                if type(tp) is type:
                    self._of_class[tp, strict] = structure
            return structure(value, _)

        return resolve

    def _model_hook(self, converter: cattrs.Converter, strict: bool) -> Hook:
        def field(value: Any, tp: Any) -> Any:
            return self._inner(self._hook(converter, tp), value, tp, "", False, [])

        return lambda value, tp: _models.decode_model(value, tp, strict, field)

    def _literal_hook(self, tp: Any) -> Hook:
        allowed = get_args(tp)
        plain = [item.value if isinstance(item, enum.Enum) else item for item in allowed]

        def structure(value: Any, _: Any) -> Any:
            for item, wanted in zip(allowed, plain, strict=True):
                if type(value) is type(wanted) and value == wanted:
                    return item
            raise wrong(value, f"one of {len(allowed)} values")

        return structure

    def _enum_hook(self, tp: Any, strict: bool) -> Hook:
        def structure(value: Any, _: Any) -> Any:
            try:
                member = tp(value)
            except (ValueError, TypeError):
                member = None
            # true and 1.0 are no members of value 1, though Python says that they are equal.
            if member is not None and (type(value) is type(member.value) or not isinstance(value, bool | float)):
                return member
            if not strict:
                return value  # a member that the server learnt later
            raise wrong(value, f"a member of {tp.__name__}")

        return structure

    def _union_hook(self, converter: cattrs.Converter, tp: Any, strict: bool) -> Hook:
        members = tuple(resolved(member) for member in get_args(tp))
        tagged = tags_of(members)
        others = [member for member in members if member is not type(None)]
        accepts = self._accepts(tp)
        readings = (self._strict,) if strict else (self._strict, converter)
        # Unions may refer to themselves: their members' hooks are looked up when one is first decoded.
        hooks: dict[tuple[int, int], Hook] = {}

        def hook_for(reading: cattrs.Converter, member: Any) -> Hook:
            key = (id(reading), id(member))
            hook = hooks.get(key)
            if hook is None:
                hook = hooks[key] = self._hook(reading, member)
            return hook

        def structure(value: Any, _: Any) -> Any:
            # The exact readings first: a string is a str before it is a date.
            if type(value) in accepts:
                return value
            if len(others) == 1:
                return hook_for(converter, others[0])(value, others[0])
            if tagged is not None and isinstance(value, dict):
                name, classes = tagged
                tag = typing.cast("dict[str, Any]", value).get(name, _MISSING)
                cls = classes.get(tag) if type(tag) is str or type(tag) is int else None
                if cls is not None:
                    return hook_for(converter, cls)(value, cls)
                if not strict and tag is not _MISSING:
                    return typing.cast("Any", value)  # a variant that the server learnt later
            # Nothing fits exactly: the first that fits loosely.
            for reading in readings:
                for member in others:
                    found = _tried(hook_for(reading, member), value, member)
                    if found is not _MISSING:
                        return found
            raise wrong(value, f"one of {len(members)} kinds")

        return structure


def _in_order(tp: Any) -> Any:
    """A key for a type that tells the order of a union's members."""
    tp = resolved(tp)
    arguments = get_args(tp)
    if not arguments or get_origin(tp) is Literal:
        return (Literal, *((type(item), item) for item in arguments)) if arguments else tp
    return (get_origin(tp), *(_in_order(item) for item in arguments))


def _unfit(exc: Exception, value: Any, path: str, strict: bool, problems: list[str]) -> Any:
    """What stands for a part that does not fit: its raw value (loose), or one more problem."""
    if isinstance(exc, RecursionError | cattrs.StructureHandlerNotFoundError):
        raise exc
    if not strict and not (isinstance(exc, DoesNotFit) and exc.missing):
        return value
    if isinstance(exc, DoesNotFit):
        problems.extend(path + problem for problem in exc.problems)
    else:
        problems.append(f"{path}: {type(exc).__name__}")
    return None


# What members of unions were found to make of which value, while the outermost union is being decoded: unions inside
# unions would be tried again for each member of each union around them, which is exponential in their depth.
_tries: ContextVar[dict[tuple[int, int], tuple[Any, Any]] | None] = ContextVar("_tries", default=None)


def _tried(hook: Hook, value: Any, member: Any) -> Any:
    """*value* as *member* of a union, ``_MISSING`` where it does not fit."""
    known = _tries.get()
    if known is None:
        token = _tries.set({})
        try:
            return _tried(hook, value, member)
        finally:
            _tries.reset(token)
    key = (id(hook), id(value))
    if key not in known:
        try:
            made = hook(value, member)
        except DoesNotFit:
            made = _MISSING
        known[key] = value, made  # the value is kept, so that its id stays its own
    return known[key][1]


def _hook_of(converter: cattrs.Converter, kind: Any) -> Any:
    try:
        return converter.get_structure_hook(kind)
    except cattrs.StructureHandlerNotFoundError:
        return None


def _same(one: Any, other: Any) -> bool:
    return getattr(one, "__func__", one) is getattr(other, "__func__", other)


# name of the argument, key in JSON, what is accepted as it is, hook, type, whether it is required
_Row: TypeAlias = tuple[str, str, frozenset[type], Hook, Any, bool]


def _record_function(cls: Any, rows: list[_Row], extra: str | None, strict: bool) -> Hook:
    known = {row[1] for row in rows}
    takes_array = is_named_tuple(cls)
    # Most objects of a class are alike: all fields are there, and of the same types. For the types that were met so it is
    # remembered which fields need their hooks, and such an object is made of its values in one go.
    names = [row[0] for row in rows]
    values_of: Callable[[Any], Any] = operator.itemgetter(*(row[1] for row in rows)) if len(rows) > 1 else _no_values
    usual: dict[tuple[type, ...], list[tuple[int, Hook, Any]]] = {}
    in_order = _takes_in_order(cls, names)

    def structure(value: Any, _: Any) -> Any:
        if type(value) is dict and extra is None:
            try:
                values = values_of(value)
            except KeyError:
                return carefully(value)
            kinds = tuple(map(type, values))
            hooks = usual.get(kinds)
            if hooks is None:
                if len(usual) < MAX_USUAL:
                    pairs = enumerate(zip(kinds, rows, strict=True))
                    usual[kinds] = [(place, row[3], row[4]) for place, (kind, row) in pairs if kind not in row[2]]
                return carefully(value)
            if hooks:
                values = list(values)
                problems: list[str] = []
                for place, hook, tp in hooks:
                    try:
                        values[place] = hook(values[place], tp)
                    except Exception as exc:
                        path = key_path(rows[place][1])
                        values[place] = _unfit(exc, values[place], path, strict, problems)
                if problems:
                    raise DoesNotFit(problems, missing=not strict)
            try:
                return cls(*values) if in_order else cls(**dict(zip(names, values, strict=True)))
            except (TypeError, ValueError) as exc:  # a validator of the user's
                raise _refused(cls, exc) from exc
        return carefully(value)

    def carefully(value: Any) -> Any:
        path: Callable[[str], str] = key_path
        if type(value) is not dict:
            if not takes_array or type(value) is not list or len(value) > len(rows):
                raise wrong(value, f"an object ({cls.__name__})")
            places = {row[1]: f"[{place}]" for place, row in enumerate(rows)}
            path = places.__getitem__
            value = dict(zip(places, value, strict=False))
        problems: list[str] = []
        missing = False
        arguments: dict[str, Any] = {}
        get = value.get
        for name, key, accepts, hook, tp, required in rows:
            item = get(key, _MISSING)
            if type(item) in accepts:
                arguments[name] = item
            elif item is not _MISSING:
                try:
                    arguments[name] = hook(item, tp)
                except Exception as exc:
                    arguments[name] = _unfit(exc, item, path(key), strict, problems)
            elif required:
                problems.append(f"{path(key)}: missing")
                missing = True
        if problems:
            raise DoesNotFit(problems, missing=missing or not strict)
        if extra is not None:
            arguments[extra] = {key: item for key, item in value.items() if key not in known}
        try:
            return cls(**arguments)
        except (TypeError, ValueError) as exc:  # a validator of the user's
            raise _refused(cls, exc) from exc

    return structure


MAX_USUAL = 16  # combinations of types that are remembered for each class


def _takes_in_order(cls: Any, names: list[str]) -> bool:
    """Whether the constructor takes these by place, as most do."""
    try:
        parameters = list(inspect.signature(cls).parameters.values())[: len(names)]
    except (TypeError, ValueError):
        return False
    by_place = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [parameter.name for parameter in parameters if parameter.kind is by_place] == names


def _no_values(value: Any) -> Any:
    raise KeyError


def _refused(cls: Any, exc: Exception) -> DoesNotFit:
    return DoesNotFit([f": {cls.__name__} refuses it ({type(exc).__name__})"], missing=True)
