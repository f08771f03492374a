"""Classes of pydantic (2 and later) and msgspec, where they are installed: their own rules decode and encode them.

Neither is imported here: a value or a type of theirs can only be there where somebody has imported them.
"""

# Both are looked up when the program runs.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, get_origin

from .._wire import json as _json
from ._problems import DoesNotFit, key_path

__all__ = ["decode_model", "is_model", "to_plain"]


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
        return value.model_dump(mode="json", by_alias=True)
    msgspec: Any = sys.modules["msgspec"]
    return msgspec.to_builtins(value)


def decode_model(value: Any, tp: Any, strict: bool, decode: Callable[[Any, Any], Any]) -> Any:
    """A JSON object as a model; :class:`DoesNotFit` with what its library finds. *decode*: for the fields by themselves.

    Loose: where only single fields are wrong, a pydantic model is made without its validators, and those fields keep
    their raw values, as the SDKs do it. msgspec names the first problem only, and makes no such half-valid object.
    """
    if not isinstance(value, dict):
        raise DoesNotFit([f": expected an object ({getattr(tp, '__name__', tp)})"])
    return _decode_struct(value, tp) if _is_struct(tp) else _decode_pydantic(value, tp, strict, decode)


_MSGSPEC_PATH = re.compile(r"(.*?)(?: - at `\$(.*)`)?", re.DOTALL)


def _decode_struct(value: dict[str, Any], tp: Any) -> Any:
    msgspec: Any = sys.modules["msgspec"]
    try:
        return msgspec.convert(value, tp)  # strict: nothing is coerced
    except msgspec.ValidationError as exc:
        match = _MSGSPEC_PATH.fullmatch(str(exc))
        text, path = (match[1], match[2] or "") if match else (str(exc), "")
        missing = "missing required field" in text
        raise DoesNotFit([f"{path}: {text}"], missing=missing or not path) from None


def _decode_pydantic(value: dict[str, Any], tp: Any, strict: bool, decode: Callable[[Any, Any], Any]) -> Any:
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
        missing = missing or one["type"] == "missing" or not path
        problems.append(f"{path}: {'missing' if one['type'] == 'missing' else one['type']}")
    if strict or missing:
        raise DoesNotFit(problems, missing=missing)
    arguments: dict[str, Any] = {}
    for name, field in tp.model_fields.items():
        key = field.validation_alias if isinstance(field.validation_alias, str) else field.alias or name
        for known in (key, name):
            if known in value:
                arguments[name] = decode(value[known], field.annotation)
                break
    return tp.model_construct(**arguments)
