"""Classes of pydantic (2 and later) and msgspec, where they are installed: their own rules decode and encode them.

Neither is imported here: a value or a type of theirs can only be there where somebody has imported them.
"""

# Both are looked up when the program runs.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

from .._wire import json as _json
from ._problems import DoesNotFit, key_path, wrong

__all__ = ["decode_model", "is_model", "literals_of", "to_plain"]


def _is_pydantic(tp: Any) -> bool:
    module: Any = sys.modules.get("pydantic")
    return module is not None and isinstance(tp, type) and issubclass(tp, module.BaseModel)


def _is_struct(tp: Any) -> bool:
    module: Any = sys.modules.get("msgspec")
    origin = get_origin(tp) or tp
    return module is not None and isinstance(origin, type) and issubclass(origin, module.Struct)


def is_model(tp: Any) -> bool:
    """Whether a type is a pydantic model or a msgspec Struct."""
    return _is_pydantic(tp) or _is_struct(tp)


def to_plain(value: Any) -> Any:
    """The value in the types of JSON, under the names that its class gives them there."""
    if _is_pydantic(type(value)):
        return value.model_dump(mode="json", by_alias=True, warnings=False)
    # Field by field, so that what is inside is encoded by our rules, with its path.
    msgspec: Any = sys.modules["msgspec"]
    config: Any = type(value).__struct_config__
    fields: Any = msgspec.structs.fields(type(value))
    if config.array_like:
        tag = [] if config.tag_field is None else [config.tag]
        return tag + [getattr(value, field.name) for field in fields]
    plain: dict[str, Any] = {} if config.tag_field is None else {config.tag_field: config.tag}
    for field in fields:
        item: Any = getattr(value, field.name)
        if item is not msgspec.UNSET and not (config.omit_defaults and _is_default(item, field)):
            plain[field.encode_name] = item
    return plain


def _is_default(item: Any, field: Any) -> bool:
    """As msgspec has it: the default itself, or an empty list, dict or set where the factory makes one."""
    msgspec: Any = sys.modules["msgspec"]
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory in (list, dict, set) and item == field.default_factory()
    return field.default is not msgspec.NODEFAULT and type(item) is type(field.default) and item == field.default


def decode_model(value: Any, tp: Any, strict: bool, decode: Callable[[Any, Any], Any]) -> Any:
    """A JSON object as a model; :class:`DoesNotFit` with what its library finds. *decode*: for the fields by themselves.

    Loose: where only single fields are wrong, a pydantic model is made without its validators, and those fields keep
    their raw values, as the SDKs do it. msgspec names the first problem only, and makes no such half-valid object.
    """
    if not isinstance(value, dict) and not _is_no_object(tp):
        raise wrong(value, f"an object ({getattr(tp, '__name__', tp)})")
    return _decode_struct(value, tp) if _is_struct(tp) else _decode_pydantic(value, tp, strict, decode)


_MSGSPEC_PATH = re.compile(r"(.*?)(?: - at `\$(.*)`)?", re.DOTALL)


# Other texts quote the value: an unknown member of an enum, or tag, or what a check of the class's own said.
_WITHOUT_VALUES = re.compile(
    r"Expected `[^`]*`(?:, got `[^`]*`| of length .*)?|Object (?:missing|contains) .*", re.DOTALL
)


def literals_of(tp: Any) -> dict[str, tuple[Any, ...]]:
    """The fields of a model that have a few values only, by their names in JSON: they may tell the models of a union."""
    if _is_struct(tp):
        config: Any = (get_origin(tp) or tp).__struct_config__
        return {} if config.tag_field is None else {config.tag_field: (config.tag,)}
    return {
        _json_name(name, field): tuple(getattr(tag, "value", tag) for tag in get_args(field.annotation))
        for name, field in tp.model_fields.items()
        if get_origin(field.annotation) is Literal
    }


def _json_name(name: str, field: Any) -> str:
    return field.validation_alias if isinstance(field.validation_alias, str) else field.alias or name


def _decode_struct(value: Any, tp: Any) -> Any:
    msgspec: Any = sys.modules["msgspec"]
    try:
        return msgspec.convert(value, tp)  # strict: nothing is coerced
    except msgspec.ValidationError as exc:
        match = _MSGSPEC_PATH.fullmatch(str(exc))
        text, path = (match[1], match[2] or "") if match else (str(exc), "")
        missing = "missing required field" in text
        if not _WITHOUT_VALUES.fullmatch(text):
            text = "not one of its values"
        raise DoesNotFit([f"{path}: {text}"], missing=missing or not path) from None


def _is_no_object(tp: Any) -> bool:
    """Whether the JSON of a model is something else than an object."""
    if _is_struct(tp):
        config: Any = (get_origin(tp) or tp).__struct_config__
        return bool(config.array_like)
    return issubclass(tp, sys.modules["pydantic"].RootModel)


def _decode_pydantic(value: Any, tp: Any, strict: bool, decode: Callable[[Any, Any], Any]) -> Any:
    pydantic: Any = sys.modules["pydantic"]
    try:
        # As JSON, and strict: "1" is no number, yet a date may be a string.
        return tp.model_validate_json(_json.dumps(value), strict=True)
    except pydantic.ValidationError as exc:
        found = exc.errors(include_url=False, include_context=False, include_input=False)
    problems: list[str] = []
    missing = False
    for one in found:
        path = "".join(f"[{step}]" if isinstance(step, int) else key_path(step) for step in one["loc"])
        missing = missing or one["type"] == "missing"
        problems.append(f"{path}: {'missing' if one['type'] == 'missing' else one['type']}")
    if strict or missing or not isinstance(value, dict):
        raise DoesNotFit(problems, missing=missing)
    rest: dict[str, Any] = dict(value)
    arguments: dict[str, Any] = {}
    for name, field in tp.model_fields.items():
        for known in (_json_name(name, field), name):
            if known in rest:
                arguments[name] = decode(rest.pop(known), field.annotation)
                break
    if tp.model_config.get("extra") == "allow":
        arguments |= rest
    return tp.model_construct(**arguments)
