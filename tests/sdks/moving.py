"""Moves resource classes of a generated SDK to this runtime, from the source of the installed package.

Only import statements change: what comes from the SDK's runtime comes from ``anyio_client.compat``, models become attrs
classes with the same fields, and what an SDK writes by hand (pages, the stream class, constants) is given by the test.
Nothing of the packages is copied, and their HTTP client is never used.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import keyword
import pathlib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin

import attrs
import pydantic
from pydantic_core import PydanticUndefined

from anyio_client import compat

# The modules of a generated SDK that are its runtime.
RUNTIME = {"_types", "_utils", "_files", "_compat", "_resource", "_response", "_legacy_response", "_base_client"}

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Assign | ast.AnnAssign


class Mover:
    """The classes of one package. *own*: names that the SDK writes itself; *leave_out*: methods that stay behind."""

    def __init__(self, package: str, *, own: Mapping[str, object], leave_out: set[str]) -> None:
        self.package = package
        self.own = own
        self.leave_out = leave_out
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.submodule_search_locations
        self.root = pathlib.Path(spec.submodule_search_locations[0])
        self._loaded: dict[tuple[str, str], Any] = {}
        self._models: dict[Any, Any] = {}

    def load(self, module: str, name: str) -> Any:
        """The class *name* of *module* (as in ``resources.files``), on this runtime."""
        if (module, name) not in self._loaded:
            self._loaded[module, name] = self._load(module, name)
        return self._loaded[module, name]

    def _load(self, module: str, name: str) -> Any:
        path = self.root.joinpath(*module.split("."))
        is_package = path.is_dir()
        file = path / "__init__.py" if is_package else path.with_suffix(".py")
        tree = ast.parse(file.read_text())
        parts = tuple(module.split("."))
        definitions, imports = _top_level(tree, parts if is_package else parts[:-1])
        namespace: dict[str, Any] = {"__name__": f"moved.{self.package}.{module}"}
        kept: dict[str, Definition] = {}
        new_imports: list[ast.stmt] = []
        wanted = [name]
        seen: set[str] = set()
        while wanted:
            one = wanted.pop()
            if one in seen:
                continue
            seen.add(one)
            if one in definitions:
                kept[one] = definitions[one]
                _strip(kept[one], self.leave_out)
                wanted.extend(_names_used(kept[one]))
            elif one in imports:
                statement = self._import(one, imports[one], namespace)
                new_imports.extend([statement] if statement else [])
        body: list[ast.stmt] = [node for node in tree.body if node in kept.values()]
        future = ast.ImportFrom("__future__", [ast.alias("annotations")], 0)
        moved = ast.fix_missing_locations(ast.Module([future, *new_imports, *body], []))
        exec(compile(moved, f"<moved {self.package}.{module}>", "exec"), namespace)
        return namespace[name]

    def _import(self, name: str, source: tuple[tuple[str, ...] | None, str], namespace: dict[str, Any]) -> Any:
        """The import statement that gives *name* now, or None where it was put into *namespace*."""
        module, original = source
        if module is None:  # from outside the package
            return ast.parse(original).body[0]
        head = module[0] if module else original
        if original in self.own:
            namespace[name] = self.own[original]
            return None
        if head in RUNTIME or head == "_streaming":
            whole = not module  # "from .. import _legacy_response"
            if not whole and original not in compat.__all__:
                raise ImportError(f"anyio_client.compat has no {original} (of {self.package}.{'.'.join(module)})")
            return ast.ImportFrom(
                "anyio_client" if whole else "anyio_client.compat",
                [ast.alias("compat" if whole else original, name)],
                0,
            )
        if head == "resources":
            namespace[name] = self.load(".".join(module), original)
            return None
        if head not in ("types", "lib", "_constants", "_models"):
            raise ImportError(f"nobody knows where {original} of {self.package}.{'.'.join(module)} comes from now")
        found = getattr(importlib.import_module(".".join((self.package, *module))), original, None)
        if found is None:  # "from ..types import file_create_params": a module
            found = importlib.import_module(".".join((self.package, *module, original)))
        namespace[name] = self.model(found) if head == "types" else found
        return None

    # -- models

    def model(self, tp: Any) -> Any:
        """*tp* with every pydantic model in it as an attrs class of the same fields."""
        if isinstance(tp, type) and issubclass(tp, pydantic.BaseModel):
            if tp not in self._models:
                self._models[tp] = object  # what contains itself: plain JSON there
                self._models[tp] = self._attrs_class(tp)
            return self._models[tp]
        origin, arguments = get_origin(tp), get_args(tp)
        if origin is typing.Annotated:
            return self.model(arguments[0])
        if type(tp).__name__ == "TypeAliasType":
            return self.model(tp.__value__)
        if origin in (Union, types.UnionType):
            return Union[tuple(self.model(argument) for argument in arguments)]  # noqa: UP007
        if origin in (list, dict):
            return origin[tuple(self.model(argument) for argument in arguments)]
        return tp

    def _attrs_class(self, model: type[pydantic.BaseModel]) -> Any:
        hints: dict[str, Any] = {}
        for cls in reversed(model.__mro__):
            if "types" in cls.__module__.split("."):  # the bases above are pydantic's and the SDK's
                hints |= inspect.get_annotations(cls, eval_str=True)
        fields: dict[str, Any] = {}
        for name, info in model.model_fields.items():
            alias = info.alias if info.alias and not keyword.iskeyword(info.alias) else None
            default: Any = info.default
            if info.default_factory is not None:
                default = attrs.Factory(info.default_factory)
            elif default is PydanticUndefined:
                default = attrs.NOTHING
            fields[name] = attrs.field(type=self.model(hints[name]), default=default, alias=alias, kw_only=True)
        return attrs.make_class(model.__name__, fields, slots=False)


def _top_level(
    tree: ast.Module, home: tuple[str, ...]
) -> tuple[dict[str, Definition], dict[str, tuple[tuple[str, ...] | None, str]]]:
    """The definitions of a module, and where its other names come from; *home*: the package that it lies in."""
    definitions: dict[str, Definition] = {}
    imports: dict[str, tuple[tuple[str, ...] | None, str]] = {}
    for node in tree.body:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                definitions[node.name] = node
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                definitions[name] = node
            case ast.Import():
                for alias in node.names:
                    name = alias.asname or alias.name.partition(".")[0]
                    imports[name] = (None, ast.unparse(ast.Import([alias])))
            case ast.ImportFrom(level=0):
                for alias in node.names:
                    statement = ast.unparse(ast.ImportFrom(node.module, [alias], 0))
                    imports[alias.asname or alias.name] = (None, statement)
            case ast.ImportFrom():
                base = home[: len(home) - (node.level - 1)]
                module = (*base, *(node.module or "").split(".")) if node.module else base
                for alias in node.names:
                    imports[alias.asname or alias.name] = (module, alias.name)
            case _:
                pass
    return definitions, imports


def _names_used(node: ast.AST) -> Iterator[str]:
    """The names that running *node* looks up: annotations are strings that nobody reads."""
    skipped = {"annotation", "returns"}
    for field, value in ast.iter_fields(node):
        if field in skipped:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.Name):
                yield child.id
            if isinstance(child, ast.AST):
                yield from _names_used(child)


def _strip(node: Definition, leave_out: set[str]) -> None:
    """Take the methods named *leave_out* out of a class, and the attributes that wrap them."""
    if not isinstance(node, ast.ClassDef):
        return
    node.body = [child for child in node.body if getattr(child, "name", None) not in leave_out]
    for child in node.body:
        if isinstance(child, ast.FunctionDef) and child.name == "__init__":
            child.body = [
                statement
                for statement in child.body
                if not (
                    isinstance(statement, ast.Assign)
                    and isinstance(statement.targets[0], ast.Attribute)
                    and statement.targets[0].attr in leave_out
                )
            ]
