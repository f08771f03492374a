"""The names that resource classes of Stainless-generated SDKs import, so that such a class moves here unchanged.

A class written for the Anthropic or OpenAI SDK takes what it imports from ``_types``, ``_utils``, ``_files``, ``_compat``,
``_resource``, ``_response``, ``_base_client`` and ``_streaming`` from here instead; its models, pages and ``lib`` helpers
are the SDK's own. Names with ``Sync`` in them, and their wrappers, are not here: there is no blocking client.

Who writes new code needs nothing of this: annotate with types, pass ``body=`` and ``files=``, leave out with ``omit``.
"""

# What callers pass comes without types: it stays unknown until a function has looked at it.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
from __future__ import annotations

import base64
import datetime
import functools
import inspect
import os
import typing
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from types import NoneType, UnionType
from typing import IO, TYPE_CHECKING, Any, Literal, ParamSpec, SupportsIndex, TypeAlias, TypeGuard, TypeVar, overload

import anyio
import anyio.to_thread
import attrs

from ._model.given import NotGiven, Omit, not_given, omit
from ._model.query import path_template
from ._model.timeouts import Timeout
from ._pages import AsyncPaginator
from ._resource import (
    AsyncAPIResource,
    AsyncResponseContextManager,
    _marked,
    _Marker,
    async_to_raw_response_wrapper,
    async_to_streamed_response_wrapper,
    make_request_options,
)
from ._response import AsyncAPIResponse
from ._streaming import AsyncStream, item_type_of

__all__ = [
    # types
    "Body",
    "Query",
    "Headers",
    "FileContent",
    "FileTypes",
    "RequestFiles",
    "SequenceNotStr",
    "NoneType",
    "NotGiven",
    "not_given",
    "NOT_GIVEN",
    "Omit",
    "omit",
    "Timeout",
    # functions
    "is_given",
    "strip_not_given",
    "required_args",
    "PropertyInfo",
    "maybe_transform",
    "async_maybe_transform",
    "extract_files",
    "deepcopy_minimal",
    "deepcopy_with_paths",
    "merge_headers",
    "make_request_options",
    "path_template",
    "cached_property",
    # classes, and the wrappers behind with_raw_response and with_streaming_response
    "AsyncAPIResource",
    "AsyncAPIResponse",
    "AsyncPaginator",
    "AsyncStream",
    "AsyncBinaryAPIResponse",
    "AsyncStreamedBinaryAPIResponse",
    "HttpxBinaryResponseContent",
    "async_to_raw_response_wrapper",
    "async_to_streamed_response_wrapper",
    "async_to_custom_raw_response_wrapper",
    "async_to_custom_streamed_response_wrapper",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
P = ParamSpec("P")
K = TypeVar("K")
V = TypeVar("V")
CallableT = TypeVar("CallableT", bound=Callable[..., Any])
ResponseT = TypeVar("ResponseT", bound=AsyncAPIResponse[Any])

# -- types

Body: TypeAlias = object
Query: TypeAlias = Mapping[str, object]
Headers: TypeAlias = Mapping[str, str | Omit]  # what callers pass; the class of that name is anyio_client.Headers
FileContent: TypeAlias = IO[bytes] | bytes | os.PathLike[str]
FileTypes: TypeAlias = (
    FileContent
    | tuple[str | None, FileContent]
    | tuple[str | None, FileContent, str | None]
    | tuple[str | None, FileContent, str | None, Mapping[str, str]]
)
RequestFiles: TypeAlias = Mapping[str, FileTypes] | Sequence[tuple[str, FileTypes]]
ArrayFormat: TypeAlias = Literal["comma", "repeat", "indices", "brackets"]

NOT_GIVEN = not_given  # older SDKs write it so

if TYPE_CHECKING:

    class SequenceNotStr(typing.Protocol[T_co]):
        """A sequence that is no str: ``stop="end"`` for ``stop=["end"]`` is found by type checkers."""

        @overload
        def __getitem__(self, index: SupportsIndex, /) -> T_co: ...
        @overload
        def __getitem__(self, index: slice, /) -> Sequence[T_co]: ...
        def __contains__(self, value: object, /) -> bool: ...
        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[T_co]: ...
        def __reversed__(self) -> Iterator[T_co]: ...

else:
    SequenceNotStr = Sequence


# -- what was given


def is_given(value: T | NotGiven | Omit) -> TypeGuard[T]:
    """Whether *value* is neither ``not_given`` nor ``omit``."""
    return not isinstance(value, NotGiven | Omit)


@overload
def strip_not_given(values: None) -> None: ...
@overload
def strip_not_given(values: Mapping[K, V | NotGiven]) -> dict[K, V]: ...
@overload
def strip_not_given(values: object) -> object: ...
def strip_not_given(values: object) -> object:
    """The mapping without its ``not_given`` values; ``omit`` stays, for whoever merges it. Anything else as it is."""
    if not isinstance(values, Mapping):
        return values
    return {name: value for name, value in _items(values) if not isinstance(value, NotGiven)}


def required_args(*variants: Sequence[str]) -> Callable[[CallableT], CallableT]:
    """A decorator: TypeError unless the call gives all arguments of one of *variants*; for overloaded functions.

    For an async function too the error comes from the call, not from its ``await``.
    """

    def decorate(func: CallableT) -> CallableT:
        positional = [
            name
            for name, parameter in inspect.signature(func).parameters.items()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]

        @functools.wraps(func)
        def checked(*args: Any, **kwargs: Any) -> Any:
            given = {*positional[: len(args)], *kwargs}
            if not any(given.issuperset(variant) for variant in variants):
                raise TypeError(_missing(variants, given))
            return func(*args, **kwargs)

        return typing.cast("CallableT", checked)

    return decorate


def _missing(variants: Sequence[Sequence[str]], given: set[str]) -> str:
    if len(variants) > 1:
        expected = _listed([f"({_listed([repr(name) for name in variant], 'and')})" for variant in variants], "or")
        return f"Missing required arguments; Expected either {expected} arguments to be given"
    names = [repr(name) for name in variants[0] if name not in given] if variants else []
    return f"Missing required argument{'s' if len(names) > 1 else ''}: {_listed(names, 'or')}"


def _listed(words: Sequence[str], last: str) -> str:
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else "".join(words)


# -- parameters: names and formats that annotations say


@attrs.frozen(kw_only=True)
class PropertyInfo:
    """What ``Annotated[str, PropertyInfo(alias="cardID")]`` says of a field of a TypedDict.

    ``alias``: its name in JSON. ``format``: ``"iso8601"`` or ``"custom"`` (by ``format_template``) for dates, ``"base64"``
    for files. ``discriminator`` is kept and not used.
    """

    alias: str | None = None
    format: Literal["iso8601", "base64", "custom"] | None = None
    format_template: str | None = None
    discriminator: str | None = None


_Slots: TypeAlias = list[tuple[Any, Any]]  # (container, key): where a file stands that is still to be read
_LISTS = (list, Sequence, Iterable)


def maybe_transform(data: object, expected_type: object) -> Any:
    """*data* with the names and formats that the annotations of *expected_type*, a TypedDict, say; None stays None.

    Any metadata object with ``alias`` or ``format`` counts (see :class:`PropertyInfo`). It reaches through lists and
    other iterables (which become lists), dicts, unions, ``Required[]`` and ``NotRequired[]``. ``not_given`` and ``omit``
    are left out of typed dicts. *data* is not changed, and what no annotation says anything of stays the same object:
    the client expands its iterators and leaves out its sentinels.
    """
    root, files = _transformed(data, expected_type)
    for container, key in files:
        container[key] = _base64(container[key])
    return root[0]


async def async_maybe_transform(data: object, expected_type: object) -> Any:
    """:func:`maybe_transform`; files that are sent as base64 are read in a thread."""
    root, files = _transformed(data, expected_type)
    for container, key in files:
        container[key] = await anyio.to_thread.run_sync(_base64, container[key])
    return root[0]


def _transformed(data: object, expected_type: object) -> tuple[list[Any], _Slots]:
    root: list[Any] = [data]
    files: _Slots = []
    if data is not None:
        _transform(root, 0, expected_type, None, files)
    return root, files


def _transform(container: Any, key: Any, hint: Any, info: Any, files: _Slots) -> None:
    """Replace ``container[key]`` by what it is as a *hint*. *info*: the nearest metadata around it that has a format."""
    hint, info = _bare(hint, info)
    value: Any = container[key]
    origin: Any = typing.get_origin(hint) or hint
    arguments = typing.get_args(hint)
    made: Any
    if origin in (typing.Union, UnionType):
        # Nobody says which member it is: each changes what it knows.
        for member in arguments:
            _transform(container, key, member, info, files)
    elif isinstance(value, Mapping):
        if _is_typed_dict(origin):
            fields = _fields(origin)
            made = container[key] = {}
            for name, item in _items(value):
                if is_given(item):
                    alias, inner = fields.get(name, (name, None))
                    made[alias] = item
                    if inner is not None:
                        _transform(made, alias, inner, None, files)
        elif origin in (dict, Mapping) and len(arguments) == 2:
            made = container[key] = dict(_items(value))
            for name in made:
                _transform(made, name, arguments[1], None, files)
    elif origin in _LISTS and isinstance(value, Iterable) and not (isinstance(value, str | bytes) or _is_file(value)):
        made = container[key] = list(value)
        for index in range(len(made)):
            _transform(made, index, arguments[0] if arguments else None, info, files)
    elif info is not None:
        if info.format == "base64" and _is_file(value):
            files.append((container, key))
        elif info.format == "iso8601" and isinstance(value, datetime.date):
            container[key] = value.isoformat()
        elif info.format == "custom" and isinstance(value, datetime.date) and _says(info, "format_template"):
            container[key] = value.strftime(info.format_template)


def _bare(hint: Any, info: Any) -> tuple[Any, Any]:
    """The type inside ``Required[Annotated[...]]`` and the like, and the metadata that says a format, else *info*."""
    while True:
        origin = typing.get_origin(hint)
        if origin is typing.Annotated:
            info = next((found for found in hint.__metadata__ if _says(found, "format")), info)
            hint = hint.__origin__
        elif _is_qualifier(origin):
            hint = typing.get_args(hint)[0]
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            return hint, info


@functools.lru_cache(maxsize=4096)
def _fields(cls: Any) -> dict[str, tuple[str, Any]]:
    """The fields of a TypedDict: the name in JSON, and the annotation, None where nothing in it matters."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {name: (_alias(hint) or name, hint if _matters(hint, set()) else None) for name, hint in hints.items()}


def _matters(hint: Any, seen: set[Any]) -> bool:
    """Whether *hint*, or anything inside, says a name or a format. Most parameters of an API say none."""
    hint, info = _bare(hint, None)
    origin: Any = typing.get_origin(hint) or hint
    if info is not None or not _is_typed_dict(origin):
        return info is not None or any(_matters(inner, seen) for inner in typing.get_args(hint))
    if origin in seen:  # it is being looked at, or said nothing
        return False
    seen.add(origin)
    try:
        inside = typing.get_type_hints(origin, include_extras=True).values()
    except NameError:  # an annotation that cannot be read is an error once it is needed
        return True
    return any(_alias(inner) is not None or _matters(inner, seen) for inner in inside)


def _alias(hint: Any) -> str | None:
    while _is_qualifier(typing.get_origin(hint)):
        hint = typing.get_args(hint)[0]
    return next((found.alias for found in getattr(hint, "__metadata__", ()) if _says(found, "alias")), None)


def _is_qualifier(origin: Any) -> bool:
    return origin in (typing.Required, typing.NotRequired) or getattr(origin, "_name", "") == "ReadOnly"


def _says(metadata: object, name: str) -> bool:
    return isinstance(getattr(metadata, name, None), str)  # a str has a method of the name "format"


def _is_typed_dict(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, dict) and hasattr(origin, "__required_keys__")


def _items(mapping: Any) -> Iterable[tuple[Any, Any]]:
    return typing.cast("Iterable[tuple[Any, Any]]", mapping.items())


def _base64(file: Any) -> Any:
    if not _is_file(file):  # two members of a union said the same
        return file
    if isinstance(file, os.PathLike):
        with open(typing.cast("os.PathLike[str]", file), "rb") as opened:
            data: Any = opened.read()
    else:
        data = file.read()
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode("ascii")


# -- files


def extract_files(
    query: Mapping[str, object], *, paths: Sequence[Sequence[str]], array_format: ArrayFormat = "brackets"
) -> list[tuple[str, FileTypes]]:
    """Take the files out of *query*, which is changed: the pairs that ``files=`` of the verbs takes.

    A path is ``["file"]``, ``["image", "mask"]`` for a file inside an object (named ``image[mask]``), or ``["files",
    "<array>"]`` for each file of a list (named ``files[]``; *array_format* as in :class:`Querystring`). What is absent,
    ``not_given`` or ``omit`` gives no file; TypeError for what is no file.
    """
    files: list[tuple[str, FileTypes]] = []
    for path in paths:
        _take_files(query, tuple(path), "", array_format, files)
    return files


_ARRAY = "<array>"


def _take_files(
    holder: Any, path: tuple[str, ...], name: str, array_format: ArrayFormat, files: list[tuple[str, FileTypes]]
) -> None:
    if not path:
        if isinstance(holder, list):
            _take_files(holder, (_ARRAY,), name, array_format, files)
        elif is_given(holder):
            files.append((name, _checked_file(holder, name)))
        return
    step, rest = path[0], path[1:]
    if isinstance(holder, list) and step == _ARRAY:
        for index, item in enumerate(holder):
            _take_files(item, rest, name + _suffix(array_format, index), array_format, files)
    elif isinstance(holder, dict) and step in holder:
        inner = holder[step]
        # A list is taken out whole; a path through an array does not fit a single value, which another path may take.
        if not rest or (all(part == _ARRAY for part in rest) and isinstance(inner, list)):
            del holder[step]
        _take_files(inner, rest, f"{name}[{step}]" if name else step, array_format, files)


def _suffix(array_format: ArrayFormat, index: int) -> str:
    match array_format:
        case "brackets":
            return "[]"
        case "indices":
            return f"[{index}]"
        case "repeat" | "comma":  # files cannot be joined by commas
            return ""
        case _:
            raise ValueError(f"array_format must be comma, repeat, indices or brackets, not {array_format!r}")


def _is_file(value: Any) -> bool:
    return isinstance(value, os.PathLike) or hasattr(value, "read")


def _checked_file(value: Any, name: str) -> FileTypes:
    if isinstance(value, bytes | tuple) or _is_file(value):
        return typing.cast("FileTypes", value)
    raise TypeError(
        f"{name} must be a file: bytes, a path, an open file or a tuple (name, content, type), not {type(value).__name__}"
    )


def deepcopy_minimal(item: T) -> T:
    """A copy of the dicts and lists inside *item*; everything else, files among it, stays the same object."""
    copied: Any = item
    if isinstance(item, Mapping):
        copied = {name: deepcopy_minimal(value) for name, value in _items(item)}
    elif isinstance(item, list):
        copied = [deepcopy_minimal(value) for value in item]
    return typing.cast("T", copied)


def deepcopy_with_paths(item: T, paths: Sequence[Sequence[str]]) -> T:
    """A copy of the dicts and lists that lie on one of *paths* (as in :func:`extract_files`); the rest is shared."""
    copied: Any = item
    if isinstance(item, Mapping):
        if any(paths):
            copied = dict(_items(item))
            for name in {path[0] for path in paths if path}.intersection(copied):
                inner = [path[1:] for path in paths if path and path[0] == name]
                copied[name] = deepcopy_with_paths(copied[name], inner)
    elif isinstance(item, list):
        inner = [path[1:] for path in paths if path and path[0] == _ARRAY]
        if inner:
            copied = [deepcopy_with_paths(value, inner) for value in item]
    return typing.cast("T", copied)


# -- headers

_APPENDED = frozenset({"x-stainless-helper"})  # the names of helpers add up, each once


def merge_headers(*layers: Mapping[str, str | Omit | NotGiven]) -> dict[str, str | Omit]:
    """The layers as one, the last one winning whatever the case of its names. ``omit`` stays, ``not_given`` says nothing."""
    merged: dict[str, tuple[str, str | Omit]] = {}
    for layer in layers:
        for name, value in layer.items():
            if isinstance(value, NotGiven):
                continue
            key = name if isinstance(name, _Marker) else name.lower()
            below = merged.get(key, ("", ""))[1]
            if key in _APPENDED and isinstance(value, str) and isinstance(below, str):
                words = [word.strip() for word in f"{below},{value}".split(",")]
                value = ", ".join(dict.fromkeys(word for word in words if word))
            merged[key] = (name, value)
    return dict(merged.values())


# -- binary answers


class AsyncBinaryAPIResponse(AsyncAPIResponse[bytes]):
    """What a call with ``cast_to=AsyncBinaryAPIResponse`` gives: a response whose body, already read, is a file."""

    @property
    def content(self) -> bytes:
        """The body. RuntimeError where it has not been read, as in a streamed response."""
        return self.http_response.content

    async def aread(self) -> bytes:
        """The body, read to its end and kept."""
        return await self.read()

    async def write_to_file(self, file: str | os.PathLike[str]) -> None:
        """Write the body to *file*, which is whole or absent, never cut."""
        await self.stream_to_file(file)


class AsyncStreamedBinaryAPIResponse(AsyncAPIResponse[bytes]):
    """What the streamed variant of a download gives: the body is not read yet."""

    async def stream_to_file(
        self,
        path: str | os.PathLike[str],
        *,
        resume: bool = False,
        progress: Callable[[int, int | None], object] | None = None,
        chunk_size: int | None = None,
    ) -> None:
        """Write the body to *path* as it arrives; *path* is whole or absent. ``chunk_size`` is taken and not used."""
        await super().stream_to_file(path, resume=resume, progress=progress)


HttpxBinaryResponseContent = AsyncBinaryAPIResponse  # the OpenAI SDK's name; here ``text()`` and ``read()`` are awaited


def async_to_custom_raw_response_wrapper(
    func: Callable[P, Awaitable[object]], response_cls: type[ResponseT]
) -> Callable[P, Awaitable[ResponseT]]:
    """*func* giving the response as a *response_cls*, its body read; its ``parse()`` gives what that class is made of."""

    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> ResponseT:
        return _as_class(response_cls, await func(*args, **_marked(kwargs, "raw")))

    return wrapped


def async_to_custom_streamed_response_wrapper(
    func: Callable[P, Awaitable[object]], response_cls: type[ResponseT]
) -> Callable[P, AsyncResponseContextManager[ResponseT]]:
    """*func* giving, in an ``async with``, the response as a *response_cls*, its body unread."""

    def wrapped(*args: P.args, **kwargs: P.kwargs) -> AsyncResponseContextManager[ResponseT]:
        async def call() -> ResponseT:
            return _as_class(response_cls, await func(*args, **_marked(kwargs, "streamed")))

        return AsyncResponseContextManager(lambda carrier: call())

    return wrapped


def _as_class(response_cls: type[ResponseT], response: object) -> ResponseT:
    if not isinstance(response, AsyncAPIResponse):
        raise TypeError("the wrapped method does not pass its extra_headers on to the call: it gave no response")
    return response_cls(
        raw=response.http_response,
        cast_to=item_type_of(response_cls, response._cast_to),
        client=response._client,
        stream=response._stream,
        stream_cls=response._stream_cls,
        options=response._options,
        retries_taken=response.retries_taken,
    )
