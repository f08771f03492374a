"""The verbs of the client: each makes options and calls ``request``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_origin, overload

import attrs

from ._model.options import RawMode, RequestOptions
from ._model.request import Carrier, Content
from ._model.url import URL
from ._resource import AsyncResponseContextManager

if TYPE_CHECKING:
    from ._pages import AsyncPage, AsyncPaginator
    from ._response import AsyncAPIResponse
    from ._streaming import AsyncStream

__all__ = ["Verbs"]

T = TypeVar("T")
StreamT = TypeVar("StreamT", bound="AsyncStream[Any]")
PageT = TypeVar("PageT", bound="AsyncPage[Any]")
Options: TypeAlias = RequestOptions | Mapping[str, Any] | None


def _options(
    method: str,
    path: str | URL,
    options: Options,
    body: object,
    content: Content | None,
    files: object,
    form: Any,
) -> RequestOptions:
    """One set of options from the arguments of a verb. TypeError where two of them are a body."""
    if options is None and content is None:
        return RequestOptions.plain(method, path, body, files, form)
    given = [
        name
        for name, value in (("body", body), ("content", content), ("files", files), ("form", form))
        if value is not None
    ]
    if content is not None and len(given) > 1:
        rest = [name for name in given if name != "content"]
        raise TypeError(f"pass {rest[0]}= or content=, not both")
    changes: dict[str, Any] = {"method": method, "url": path}
    if body is not None:
        changes["json_data"] = body
    others = {"content": content, "files": files, "form": form}
    changes |= {name: value for name, value in others.items() if value is not None}
    return RequestOptions(**changes) if options is None else attrs.evolve(RequestOptions.of(options), **changes)


def _is_streamed(options: RequestOptions) -> bool:
    """Whether the body may be sent piece by piece while the answer is read."""
    return options.content is not None and not isinstance(options.content, bytes | bytearray | memoryview | str)


def _carried(options: RequestOptions, carrier: Carrier | None) -> RequestOptions:
    return options if carrier is None else attrs.evolve(options, carrier=carrier)


class Verbs:
    """The part of :class:`AsyncAPIClient` that names the methods of HTTP.

    Every verb takes a path below the base URL (or an absolute URL), ``cast_to`` for what the answer shall become,
    ``options`` (:class:`RequestOptions` or a mapping with its names); those with a body take ``body`` (sent as JSON) or
    ``content`` (bytes, str, iterables of bytes, or a callable that makes one). With ``stream=True`` the result is an
    instance of ``stream_cls``, an :class:`AsyncStream`.
    """

    if TYPE_CHECKING:

        async def request(
            self,
            cast_to: Any,
            options: RequestOptions | Mapping[str, Any],
            *,
            stream: bool = False,
            stream_cls: Any = None,
        ) -> Any: ...

    @overload
    async def get(
        self, path: str | URL, *, cast_to: type[T], options: Options = None, stream: Literal[False] = False
    ) -> T: ...
    @overload
    async def get(
        self,
        path: str | URL,
        *,
        cast_to: Any,
        options: Options = None,
        stream: bool,
        stream_cls: type[StreamT],
    ) -> StreamT: ...
    @overload
    async def get(
        self,
        path: str | URL,
        *,
        cast_to: Any,
        options: Options = None,
        stream: bool = False,
        stream_cls: Any = None,
    ) -> Any: ...
    async def get(
        self,
        path: str | URL,
        *,
        cast_to: Any,
        options: Options = None,
        stream: bool = False,
        stream_cls: Any = None,
    ) -> Any:
        """GET *path*."""
        made = _options("GET", path, options, None, None, None, None)
        return await self.request(cast_to, made, stream=stream, stream_cls=stream_cls)

    async def head(self, path: str | URL, *, cast_to: type[T], options: Options = None) -> T:
        """HEAD *path*; ``cast_to=AsyncAPIResponse`` gives the fields."""
        made = _options("HEAD", path, options, None, None, None, None)
        result: T = await self.request(cast_to, made)
        return result

    @overload
    async def post(
        self,
        path: str | URL,
        *,
        cast_to: type[T],
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream: Literal[False] = False,
    ) -> T: ...
    @overload
    async def post(
        self,
        path: str | URL,
        *,
        cast_to: Any,
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream: bool = False,
        stream_cls: type[StreamT],
    ) -> StreamT: ...
    @overload
    async def post(
        self,
        path: str | URL,
        *,
        cast_to: Any,
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream: bool = False,
        stream_cls: Any = None,
    ) -> Any: ...
    async def post(
        self,
        path: str | URL,
        *,
        cast_to: Any,
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream: bool = False,
        stream_cls: Any = None,
    ) -> Any:
        """POST *path*."""
        made = _options("POST", path, options, body, content, files, form)
        return await self.request(cast_to, made, stream=stream, stream_cls=stream_cls)

    @overload
    async def put(
        self,
        path: str | URL,
        *,
        cast_to: type[T],
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream: Literal[False] = False,
    ) -> T: ...
    @overload
    async def put(
        self,
        path: str | URL,
        *,
        cast_to: Any,
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream: bool = False,
        stream_cls: type[StreamT],
    ) -> StreamT: ...
    @overload
    async def put(
        self,
        path: str | URL,
        *,
        cast_to: Any,
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream: bool = False,
        stream_cls: Any = None,
    ) -> Any: ...
    async def put(
        self,
        path: str | URL,
        *,
        cast_to: Any,
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream: bool = False,
        stream_cls: Any = None,
    ) -> Any:
        """PUT *path*."""
        made = _options("PUT", path, options, body, content, files, form)
        return await self.request(cast_to, made, stream=stream, stream_cls=stream_cls)

    @overload
    async def patch(
        self,
        path: str | URL,
        *,
        cast_to: type[T],
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream: Literal[False] = False,
    ) -> T: ...
    @overload
    async def patch(
        self,
        path: str | URL,
        *,
        cast_to: Any,
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream: bool = False,
        stream_cls: type[StreamT],
    ) -> StreamT: ...
    @overload
    async def patch(
        self,
        path: str | URL,
        *,
        cast_to: Any,
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream: bool = False,
        stream_cls: Any = None,
    ) -> Any: ...
    async def patch(
        self,
        path: str | URL,
        *,
        cast_to: Any,
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream: bool = False,
        stream_cls: Any = None,
    ) -> Any:
        """PATCH *path*."""
        made = _options("PATCH", path, options, body, content, files, form)
        return await self.request(cast_to, made, stream=stream, stream_cls=stream_cls)

    @overload
    async def delete(
        self,
        path: str | URL,
        *,
        cast_to: type[T],
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream: Literal[False] = False,
    ) -> T: ...
    @overload
    async def delete(
        self,
        path: str | URL,
        *,
        cast_to: Any,
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream: bool = False,
        stream_cls: type[StreamT],
    ) -> StreamT: ...
    @overload
    async def delete(
        self,
        path: str | URL,
        *,
        cast_to: Any,
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream: bool = False,
        stream_cls: Any = None,
    ) -> Any: ...
    async def delete(
        self,
        path: str | URL,
        *,
        cast_to: Any,
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream: bool = False,
        stream_cls: Any = None,
    ) -> Any:
        """DELETE *path*."""
        made = _options("DELETE", path, options, body, content, files, form)
        return await self.request(cast_to, made, stream=stream, stream_cls=stream_cls)

    @overload
    def stream(
        self,
        method: str,
        path: str | URL,
        *,
        cast_to: Any,
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream_cls: type[StreamT],
    ) -> AsyncResponseContextManager[StreamT]: ...
    @overload
    def stream(
        self,
        method: str,
        path: str | URL,
        *,
        cast_to: type[T],
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream_cls: None = None,
    ) -> AsyncResponseContextManager[AsyncStream[T]]: ...
    @overload
    def stream(
        self,
        method: str,
        path: str | URL,
        *,
        cast_to: Any,
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream_cls: Any = None,
    ) -> AsyncResponseContextManager[Any]: ...
    def stream(
        self,
        method: str,
        path: str | URL,
        *,
        cast_to: Any,
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
        stream_cls: Any = None,
    ) -> AsyncResponseContextManager[Any]:
        """``async with client.stream("POST", path, cast_to=Item) as events: async for event in events: ...``"""
        made = _options(method, path, options, body, content, files, form)
        return AsyncResponseContextManager(
            lambda carrier: self.request(cast_to, _carried(made, carrier), stream=True, stream_cls=stream_cls),
            duplex=_is_streamed(made),
        )

    def open(
        self,
        method: str,
        path: str | URL,
        *,
        cast_to: Any = object,
        body: object = None,
        content: Content | None = None,
        files: object = None,
        form: Mapping[str, object] | None = None,
        options: Options = None,
    ) -> AsyncResponseContextManager[AsyncAPIResponse[Any]]:
        """``async with client.open("GET", path) as response:`` the response with its body unread."""
        made = attrs.evolve(_options(method, path, options, body, content, files, form), raw_mode=RawMode.STREAMED)
        return AsyncResponseContextManager(
            lambda carrier: self.request(cast_to, _carried(made, carrier)), duplex=_is_streamed(made)
        )

    @overload
    def get_api_list(
        self,
        path: str | URL,
        *,
        model: type[T],
        page: type[PageT],
        body: object = None,
        options: Options = None,
        method: str = "get",
    ) -> AsyncPaginator[T, PageT]: ...
    @overload
    def get_api_list(
        self,
        path: str | URL,
        *,
        model: Any,
        page: type[PageT],
        body: object = None,
        options: Options = None,
        method: str = "get",
    ) -> AsyncPaginator[Any, PageT]: ...
    def get_api_list(
        self,
        path: str | URL,
        *,
        model: Any,
        page: type[AsyncPage[Any]],
        body: object = None,
        options: Options = None,
        method: str = "get",
    ) -> AsyncPaginator[Any, Any]:
        """A list in pages, not yet asked for: ``await`` it for the first page, iterate over it for all items."""
        from ._pages import AsyncPage

        origin = get_origin(page) or page
        if not (isinstance(origin, type) and issubclass(origin, AsyncPage)):
            raise TypeError(f"page= takes a subclass of AsyncPage, not {page!r}")
        return self._request_api_list(model, page, _options(method, path, options, body, None, None, None))

    def _request_api_list(
        self, model: Any, page: type[AsyncPage[Any]], options: RequestOptions
    ) -> AsyncPaginator[Any, Any]:
        """Hook: what ``get_api_list`` returns."""
        from ._pages import AsyncPaginator

        return AsyncPaginator(self, options, page, model)  # type: ignore[arg-type]
