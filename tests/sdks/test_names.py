"""All resource classes of both SDKs: what they import is here, and helpers do what those of the SDKs do."""

from __future__ import annotations

import ast
import datetime
import importlib.util
import inspect
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import anthropic._base_client
import anthropic._files
import anthropic._utils
import openai._files
import openai._utils
import pytest

from anyio_client import AsyncAPIResource, compat
from tests.sdks import anthropic_sdk, openai_sdk
from tests.sdks.moving import RUNTIME, _names_used, _top_level

# Of websockets, which the resources of the realtime API open themselves.
NOT_HERE = {"_merge_mappings", "_merge_headers", "is_async_azure_client"}


def resources(package: str) -> list[tuple[str, str]]:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    root = pathlib.Path(spec.submodule_search_locations[0])
    return [
        (str(file), ".".join(file.relative_to(root).with_suffix("").parts)) for file in root.glob("resources/**/*.py")
    ]


@pytest.mark.parametrize(("package", "least"), [("anthropic", 80), ("openai", 60)])
def test_every_name_that_a_resource_class_takes_from_its_runtime_is_here(package: str, least: int) -> None:
    classes = 0
    missing: set[str] = set()
    for file, module in resources(package):
        definitions, imports = _top_level(ast.parse(pathlib.Path(file).read_text()), tuple(module.split("."))[:-1])
        wanted = [
            name
            for name, node in definitions.items()
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "AsyncAPIResource" for base in node.bases)
        ]
        classes += len(wanted)
        seen: set[str] = set()
        while wanted:
            name = wanted.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in definitions:
                wanted.extend(_names_used(definitions[name]))
            elif name in imports and imports[name][0]:
                source, original = imports[name]
                if source and source[0] in RUNTIME and original not in compat.__all__:
                    missing.add(original)
    assert classes >= least
    assert missing <= NOT_HERE


def test_what_a_resource_takes_of_a_module_as_a_whole_is_here() -> None:
    """``_legacy_response.HttpxBinaryResponseContent`` and the like."""
    found: set[str] = set()
    for file, _ in resources("openai"):
        for node in ast.walk(ast.parse(pathlib.Path(file).read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "_legacy_response":
                found.add(node.attr)
    assert {name for name in found if not name.startswith("to_")} <= set(compat.__all__)


@pytest.mark.parametrize(
    "cls",
    [
        anthropic_sdk.Models,
        anthropic_sdk.Messages,
        anthropic_sdk.Files,
        anthropic_sdk.BetaModels,
        anthropic_sdk.BetaFiles,
        openai_sdk.Models,
        openai_sdk.Completions,
        openai_sdk.Responses,
        openai_sdk.Files,
        openai_sdk.Images,
    ],
)
def test_nothing_of_an_sdk_s_runtime_is_left_in_a_class_that_was_moved(cls: Any) -> None:
    assert issubclass(cls, AsyncAPIResource)
    home = vars(cls)["with_raw_response"].func.__globals__
    for name, value in home.items():
        module = getattr(value, "__module__", None) or getattr(value, "__name__", "")
        assert not re.match(r"(anthropic|openai)\._(?!models\b)", str(module)), name
    assert home["AsyncAPIResource"] is AsyncAPIResource


class Params(TypedDict, total=False):
    card_id: Annotated[str, openai._utils.PropertyInfo(alias="cardID")]
    inner: Inner | None
    many: list[Inner]
    words: list[str]
    day: Annotated[datetime.date | str, openai._utils.PropertyInfo(format="iso8601")]
    odd: Annotated[datetime.date, openai._utils.PropertyInfo(format="custom", format_template="%d.%m.%y")]


class Inner(TypedDict, total=False):
    is_small: Annotated[bool, openai._utils.PropertyInfo(alias="isSmall")]
    next: Inner


DAY = datetime.date(2026, 2, 3)


@pytest.mark.parametrize(
    "data",
    [
        {"card_id": "c", "unknown": {"card_id": "c"}},
        {"inner": {"is_small": True, "next": {"is_small": False}}},
        {"inner": None, "many": [{"is_small": 1}, "odd", {"next": {"next": {"is_small": 1}}}]},
        {"many": [{"is_small": 1}], "words": ["a", "b"]},
        {"many": {"is_small": 1}, "words": "ab"},
        {"day": DAY, "odd": DAY},
        {"day": "tomorrow", "odd": None},
    ],
)
def test_maybe_transform_does_what_theirs_does(data: Any) -> None:
    assert compat.maybe_transform(data, Params) == openai._utils.maybe_transform(data, Params)


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (TypeError, RuntimeError):
        return "error"


@pytest.mark.parametrize("theirs", [anthropic._utils.extract_files, openai._utils.extract_files])
@pytest.mark.parametrize("array_format", ["brackets", "indices", "repeat", "comma"])
@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({"file": b"x", "n": 1}, [["file"]]),
        ({"n": 1}, [["file"], ["files", "<array>"]]),
        ({"files": [b"x", ("n", b"y")]}, [["files", "<array>"]]),
        ({"files": [b"x", ("n", b"y")]}, [["files"], ["files", "<array>"]]),
        ({"a": {"b": {"c": b"x"}, "d": 1}}, [["a", "b", "c"]]),
        ({"a": [{"b": [b"x", b"y"]}, {}, {"b": [b"z"], "n": 1}]}, [["a", "<array>", "b", "<array>"]]),
        ({"a": [{"b": b"x"}, 1]}, [["a", "<array>", "b"]]),
        ({"a": 1}, [["a", "b"]]),
        ({"a": "text"}, [["a"]]),
        ({"a": None}, [["a"]]),
        ({"a": [b"x", 1]}, [["a"]]),
    ],
)
def test_extract_files_does_what_theirs_does(theirs: Any, array_format: Any, body: Any, paths: Any) -> None:
    ours_left, theirs_left = compat.deepcopy_minimal(body), compat.deepcopy_minimal(body)
    ours = outcome(lambda: compat.extract_files(ours_left, paths=paths, array_format=array_format))
    assert ours == outcome(lambda: theirs(theirs_left, paths=paths, array_format=array_format))
    assert ours_left == theirs_left


@pytest.mark.parametrize("theirs", [anthropic._files.deepcopy_with_paths, openai._files.deepcopy_with_paths])
@pytest.mark.parametrize(
    "paths", [[], [["a"]], [["a", "b"]], [["l", "<array>", "x"], ["a"]], [["l"]], [["none"]], [["a", "b", "c", "d"]]]
)
def test_deepcopy_with_paths_copies_what_theirs_copies(theirs: Any, paths: Any) -> None:
    item: Any = {"a": {"b": {"c": [1]}}, "l": [{"x": {}}, 1], "o": {}}
    one, two = compat.deepcopy_with_paths(item, paths), theirs(item, paths)
    for place in [(), ("a",), ("a", "b"), ("a", "b", "c"), ("l",), ("l", 0), ("l", 0, "x"), ("o",)]:
        old, ours, other = item, one, two
        for step in place:
            old, ours, other = old[step], ours[step], other[step]
        assert (ours is old) == (other is old), place
        assert ours == other == old


@pytest.mark.parametrize("theirs", [anthropic._utils.required_args, openai._utils.required_args])
@pytest.mark.parametrize("variants", [[["a"]], [["a", "b"]], [["a"], ["b", "c"], ["c"]], [["a", "c"], ["b"]]])
@pytest.mark.parametrize("given", [{}, {"a": 1}, {"b": None}, {"a": 1, "b": 2}, {"b": 1, "c": 2}])
def test_required_args_refuse_what_theirs_refuse(theirs: Any, variants: Any, given: Any) -> None:
    def call(*, a: Any = None, b: Any = None, c: Any = None) -> str:
        return "called"

    messages: list[str] = []
    for decorator in (compat.required_args, theirs):
        try:
            messages.append(decorator(*variants)(call)(**given))
        except TypeError as exc:
            messages.append(str(exc))
    if len(variants) == 1:  # theirs names the missing ones in the order of a set
        messages = [" ".join(sorted(message.replace(",", "").split())) for message in messages]
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    "layers",
    [
        [{"A": "1"}, {"B": "2"}],
        [{"Anthropic-Beta": "1"}, {"anthropic-beta": "2"}],
        [{"x-stainless-helper": "a, b"}, {"x-stainless-helper": "b,c"}],
        [{"x-stainless-helper": "a"}, {"X-Stainless-Helper": "a"}],
    ],
)
def test_merge_headers_does_what_theirs_does(layers: Any) -> None:
    theirs = anthropic._base_client.merge_headers(*layers)
    ours = compat.merge_headers(*layers)
    assert {name.lower(): value for name, value in ours.items()} == {k.lower(): v for k, v in theirs.items()}


def test_make_request_options_takes_every_keyword_of_theirs() -> None:
    for package in ("anthropic", "openai"):
        theirs = sys.modules.get(f"{package}._base_client") or importlib.import_module(f"{package}._base_client")
        for name in inspect.signature(theirs.make_request_options).parameters:
            nothing = {"timeout": None} if name == "timeout" else {}  # None as a timeout is "wait for ever"
            assert compat.make_request_options(**{name: None}) == nothing
