"""What the fields of a class are: attrs, dataclass, TypedDict, NamedTuple; generic or not."""

# Annotations may hold anything: what is not known stays unknown until it has been looked at.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any, get_args, get_origin

import attrs

from . import _models

__all__ = ["Field", "extra_fields", "fields_of", "is_named_tuple", "is_record", "json_name", "resolved", "tags_of"]

EXTRA = "anyio_client.extra_fields"
NAME = "json"  # the name in JSON, where it is none for Python: attrs.field(metadata={"json": "from"})


def extra_fields() -> Any:
    """For an attrs class: ``more: dict[str, object] = extra_fields()`` collects the fields that the class does not know.

    They are sent again when the object is encoded.
    """
    return attrs.field(factory=dict, kw_only=True, metadata={EXTRA: True})


def is_named_tuple(tp: Any) -> bool:
    origin = get_origin(tp) or tp
    return isinstance(origin, type) and issubclass(origin, tuple) and hasattr(origin, "_fields")


def is_record(tp: Any) -> bool:
    """Whether a type has named fields of its own that JSON objects have too."""
    origin = get_origin(tp) or tp
    return isinstance(origin, type) and (
        attrs.has(origin) or dataclasses.is_dataclass(origin) or is_typed_dict(origin) or is_named_tuple(origin)
    )


def json_name(field: Any) -> str:
    """The name in JSON of a field of an attrs class, or of a dataclass."""
    own: str = getattr(field, "alias", None) or field.name
    return str(field.metadata.get(NAME, own))


def resolved(tp: Any) -> Any:
    """*tp* without the wrappings that say nothing about its JSON: aliases, Annotated, Required, Final, NewType."""
    while True:
        origin = get_origin(tp)
        if origin is typing.Annotated:
            tp = tp.__origin__
        elif _is_wrapping(origin):
            tp = get_args(tp)[0]
        elif isinstance(tp, typing.NewType):
            tp = tp.__supertype__
        elif type(tp).__name__ == "TypeAliasType":  # `type X = ...`, Python 3.12
            tp = tp.__value__
        elif type(origin).__name__ == "TypeAliasType":
            parameters = dict(zip(origin.__type_params__, get_args(tp), strict=False))
            tp = substituted(origin.__value__, parameters)
        else:
            return tp


def _is_wrapping(origin: Any) -> bool:
    # By name: typing_extensions has some of its own where typing has none yet.
    return getattr(origin, "_name", None) in ("Required", "NotRequired", "ReadOnly", "Final", "ClassVar")


def is_typed_dict(tp: Any) -> bool:
    """Whether a class is a TypedDict, of typing or of typing_extensions."""
    return isinstance(tp, type) and issubclass(tp, dict) and hasattr(tp, "__total__")


@attrs.frozen
class Field:
    """One field: ``name`` of the constructor's argument, ``key`` in JSON."""

    name: str
    key: str
    type: Any
    required: bool
    extra: bool = False


def fields_of(tp: Any) -> list[Field]:
    """The fields of a record. TypeError for an annotation that cannot be resolved."""
    cls: Any = get_origin(tp) or tp
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError as exc:
        import cattrs

        raise cattrs.StructureHandlerNotFoundError(f"an annotation of {cls.__name__}: {exc}", cls) from exc
    arguments = _type_arguments(tp)

    def type_of(name: str, declared: Any) -> Any:
        home = next((base for base in cls.__mro__ if name in inspect.get_annotations(base)), cls)
        return resolved(substituted(hints.get(name, declared), arguments.get(home, {})))

    if attrs.has(cls):
        return [
            Field(
                a.alias, json_name(a), type_of(a.name, a.type), a.default is attrs.NOTHING, bool(a.metadata.get(EXTRA))
            )
            for a in attrs.fields(cls)
            if a.init
        ]
    if is_typed_dict(cls):
        # The class of a TypedDict is a plain dict: it has no bases to look through.
        own: Mapping[Any, Any] = arguments.get(cls, {})
        return [
            Field(key, key, resolved(substituted(hint, own)), _is_required(cls, key, hint))
            for key, hint in hints.items()
        ]
    if is_named_tuple(cls):
        return [Field(name, name, type_of(name, object), name not in cls._field_defaults) for name in cls._fields]
    found: list[Field] = []
    for f in dataclasses.fields(cls):
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if f.init:
            found.append(Field(f.name, json_name(f), type_of(f.name, f.type), required))
    return found


def _is_required(cls: Any, key: str, hint: Any) -> bool:
    # __required_keys__ does not see through annotations that are strings.
    while get_origin(hint) is typing.Annotated or _is_wrapping(get_origin(hint)):
        if get_origin(hint) in (typing.Required, typing.NotRequired):
            return get_origin(hint) is typing.Required
        hint = hint.__origin__ if get_origin(hint) is typing.Annotated else get_args(hint)[0]
    return key in cls.__required_keys__


def substituted(hint: Any, arguments: Mapping[Any, Any]) -> Any:
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
                base = substituted(base, own)
            elif not parameters and get_args(tp) and getattr(base, "__parameters__", ()):
                base = types.GenericAlias(base, get_args(tp))  # class Pets(CursorPage), without its argument
            found = {**_type_arguments(base), **found}
    return found


def _literals_of(record: Any) -> dict[str, tuple[Any, ...]]:
    return {
        field.key: tuple(getattr(tag, "value", tag) for tag in get_args(field.type))
        for field in fields_of(record)
        if get_origin(field.type) is typing.Literal
    }


def tags_of(members: tuple[Any, ...]) -> tuple[str, dict[Any, Any]] | None:
    """The name of the Literal field that tells the classes of a union apart, and who is who; None without one."""
    records = [member for member in members if is_record(member) or _models.is_model(member)]
    if len(records) < 2:
        return None
    literals = [_models.literals_of(one) if _models.is_model(one) else _literals_of(one) for one in records]
    for name in literals[0]:
        if all(name in one for one in literals):
            classes = {tag: record for record, one in zip(records, literals, strict=True) for tag in one[name]}
            if len(classes) == sum(len(one[name]) for one in literals):
                return name, classes
    return None
