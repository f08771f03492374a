"""What SDK authors build resources with: the base class, per-request options, raw and streamed access."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, ParamSpec, Self, TypeVar, cast

import anyio

from ._model.given import NotGiven, Omit, not_given
from ._model.options import OPTION_NAMES, RawMode
from ._model.request import Carrier
from ._model.timeouts import Timeout

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from ._client import AsyncAPIClient
    from ._response import AsyncAPIResponse

__all__ = [
    "AsyncAPIResource",
    "ResourceView",
    "async_to_raw_response_wrapper",
    "async_to_streamed_response_wrapper",
    "make_request_options",
    "take_raw_mode",
]

P = ParamSpec("P")
R = TypeVar("R")


class AsyncAPIResource:
    """A group of operations of an SDK: ``self._get``, ``self._post``... are the client's verbs.

    ``with_raw_response`` and ``with_streaming_response`` are the same operations, giving the response.
    """

    _client: AsyncAPIClient

    def __init__(self, client: AsyncAPIClient) -> None:
        if not hasattr(client, "get_api_list"):
            raise TypeError(f"{type(self).__name__}() takes the client, not {type(client).__name__}")
        self._client = client
        self._get = client.get
        self._head = client.head
        self._post = client.post
        self._put = client.put
        self._patch = client.patch
        self._delete = client.delete
        self._get_api_list = client.get_api_list
        self._stream = client.stream
        self._open = client.open

    async def _sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def with_options(self, **changes: Any) -> Self:
        """This resource on a copy of its client with other options, see :meth:`AsyncAPIClient.with_options`."""
        return type(self)(self._client.with_options(**changes))

    @property
    def with_raw_response(self) -> Any:
        """This resource, its methods giving the response (its body read) in place of the decoded object."""
        return ResourceView(self, async_to_raw_response_wrapper)

    @property
    def with_streaming_response(self) -> Any:
        """This resource, its methods giving, in an ``async with``, the response with its body unread."""
        return ResourceView(self, async_to_streamed_response_wrapper)


class ResourceView:
    """A resource (or a client, for its resources) seen with every method wrapped; resources below it too.

    It works for all methods that pass their ``extra_headers`` on to the call.
    """

    def __init__(self, target: object, wrapper: Callable[[Any], Any]) -> None:
        self._target = target
        self._wrapper = wrapper

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if isinstance(found, AsyncAPIResource):
            return ResourceView(found, self._wrapper)
        if name.startswith("_") or not callable(found) or not isinstance(self._target, AsyncAPIResource):
            raise AttributeError(f"{name} of {type(self._target).__name__} is no method of a resource")
        return self._wrapper(found)


def make_request_options(
    *,
    query: Mapping[str, object] | None = None,
    extra_headers: Mapping[str, str | Omit] | None = None,
    extra_query: Mapping[str, object] | None = None,
    extra_body: object = None,
    idempotency_key: str | NotGiven | None = not_given,
    timeout: float | Timeout | NotGiven | None = not_given,
    post_parser: Callable[[Any], Any] | NotGiven = not_given,
    **more: Any,
) -> dict[str, Any]:
    """The options of one request, from the keywords that resource methods take.

    ``idempotency_key=None`` counts as absent, because that is what generated code passes where the caller said nothing.
    Other options (``deadline=``, ``max_retries=``...) may be given under their own names. What is no option at all is
    ignored, because generated code passes keywords that only one SDK has (``security``, ``span_name``); what looks like a
    misspelt one is a TypeError.
    """
    options: dict[str, Any] = {}
    for name, value in more.items():
        if name in OPTION_NAMES:
            options[name] = value
            continue
        import difflib

        if meant := difflib.get_close_matches(name, _KEYWORDS, 1, 0.8):
            raise TypeError(f"make_request_options() got {name!r}: did you mean {meant[0]!r}?")
    if extra_headers is not None:
        options["headers"] = extra_headers
    if query is not None or extra_query is not None:
        options["params"] = {**(query or {}), **(extra_query or {})}
    if extra_body is not None:
        options["extra_json"] = extra_body
    if idempotency_key is not None and not isinstance(idempotency_key, NotGiven):
        options["idempotency_key"] = idempotency_key
    if not isinstance(timeout, NotGiven):
        options["timeout"] = timeout
    if callable(post_parser):
        options["post_parser"] = post_parser
    return options


_KEYWORDS = sorted({*OPTION_NAMES, "query", "extra_headers", "extra_query", "extra_body"})


class _Marker(str):
    """A key of ``extra_headers`` that asks for the response instead of its decoded body.

    It is a str, so that code which copies or merges header mappings takes it along, and it is found by its class, so
    that no name is reserved; :func:`take_raw_mode` removes it before headers are built.
    """

    taken = False  # by the call; where nobody takes it, the function did not pass its headers on
    __eq__ = object.__eq__  # so that a header which really has this name is another key
    __ne__ = object.__ne__
    __hash__ = object.__hash__
    modes: ClassVar[dict[str, RawMode]] = {"raw": RawMode.RAW, "streamed": RawMode.STREAMED}


def take_raw_mode(headers: Mapping[str, str | Omit]) -> tuple[Mapping[str, str | Omit], RawMode]:
    """*headers* without the marker, and what it asked for."""
    mode = RawMode.PARSED
    for name in headers:
        if isinstance(name, _Marker):
            mode = _Marker.modes[str(name)]
            name.taken = True
    if mode is RawMode.PARSED:
        return headers, mode
    return {name: value for name, value in headers.items() if not isinstance(name, _Marker)}, mode


def _marked(kwargs: Mapping[str, Any], mode: str) -> dict[str, Any]:
    return {**kwargs, "extra_headers": {**(kwargs.get("extra_headers") or {}), _Marker(mode): ""}}


def _check_taken(kwargs: Mapping[str, Any], func: object) -> None:
    """TypeError where the marker did not reach the call."""
    if not any(isinstance(name, _Marker) and name.taken for name in kwargs["extra_headers"]):
        name = getattr(func, "__qualname__", repr(func))
        raise TypeError(f"{name} must pass its extra_headers= on to the call, to give the response")


def async_to_raw_response_wrapper(
    func: Callable[P, Awaitable[R]],
) -> Callable[P, Awaitable[AsyncAPIResponse[R]]]:
    """*func* (which passes its ``extra_headers`` on to the call) giving the response, its body read, not decoded."""

    @functools.wraps(func)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
        marked = _marked(kwargs, "raw")
        result = await func(*args, **marked)
        _check_taken(marked, func)
        return result

    return wrapped


def async_to_streamed_response_wrapper(
    func: Callable[P, Awaitable[R]],
) -> Callable[P, AsyncResponseContextManager[AsyncAPIResponse[R]]]:
    """*func* giving, in an ``async with``, the response with its body unread."""

    @functools.wraps(func)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
        marked = _marked(kwargs, "streamed")

        async def call() -> Any:
            result: Any = await func(*args, **marked)
            _check_taken(marked, func)
            return result

        return AsyncResponseContextManager(lambda carrier: call())

    return wrapped


C = TypeVar("C")


class AsyncResponseContextManager(Generic[C]):
    """Makes a call when entered, closes what it gave when left.

    ``duplex``: the call has a body that is made piece by piece, and a task that lives exactly in the block may go on
    sending it while the answer is read. ``call`` is given what starts such a task, else None.
    """

    def __init__(self, call: Callable[[Carrier | None], Awaitable[C]], *, duplex: bool = False) -> None:
        self._call = call
        self._duplex = duplex
        self._group: TaskGroup | None = None
        self._held: C | None = None

    def __await__(self) -> NoReturn:
        raise TypeError("this is a block, not an awaitable: write `async with ... as response:`")

    def __aiter__(self) -> NoReturn:
        raise TypeError("this is a block around what is iterated over: write `async with ... as items:` first")

    async def __aenter__(self) -> C:
        if not self._duplex:
            self._held = await self._call(None)
            return self._held
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        try:
            self._held = await self._call(cast("Carrier", self._group.start_soon))
        except BaseException:
            await self._leave_group()
            raise
        return self._held

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            # A middleware may have given a value of its own, which is nobody's to close.
            close = getattr(self._held, "aclose", None)
            if close is not None:
                await close()
        except Exception:  # of an upload that nobody has heard of
            if exc_type is None:
                raise
        finally:
            await self._leave_group()

    async def _leave_group(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            group.cancel_scope.cancel()
            await group.__aexit__(None, None, None)  # the block's own exception goes on by itself, not in a group
