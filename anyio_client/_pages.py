"""Lists that come in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from urllib.parse import unquote

import anyio
import anyio.lowlevel
import attrs

from ._core.build import passes_to_other_origin
from ._model.errors import APIResponseValidationError
from ._model.given import NotGiven, not_given
from ._model.options import RequestOptions, show_url
from ._model.url import URL, refuse_scheme

if TYPE_CHECKING:
    from ._client import AsyncAPIClient
    from ._io.response import Response

__all__ = ["AsyncPage", "AsyncPaginator", "PageInfo"]

T = TypeVar("T")
PageT = TypeVar("PageT", bound="AsyncPage[Any]")


@attrs.frozen(init=False)
class PageInfo:
    """How to ask for the next page: a URL (absolute, or relative to the last request's), or changes to the request.

    ``params`` and ``json`` are merged into the last request's; with ``url`` the URL's own parameters win.
    """

    url: str | URL | None = attrs.field(repr=lambda url: repr(None) if url is None else show_url(url))
    params: Mapping[str, object] | None = attrs.field(repr=False)
    json: Mapping[str, object] | None = attrs.field(repr=False)

    def __init__(
        self,
        url: str | URL | None = None,
        *,
        params: Mapping[str, object] | None = None,
        json: Mapping[str, object] | None = None,
    ) -> None:
        if sum(value is not None for value in (url, params, json)) != 1:
            raise TypeError("PageInfo takes exactly one of url, params= and json=")
        object.__setattr__(self, "url", url)
        object.__setattr__(self, "params", params)
        object.__setattr__(self, "json", json)


@attrs.define(slots=False)
class AsyncPage(Generic[T]):
    """One page of a list. A subclass is an attrs class that says what its items and the next page are.

    ``async for item in page`` goes on over all pages. ``_options`` is the request that made this page.
    """

    if TYPE_CHECKING:
        _client: AsyncAPIClient
        _options: RequestOptions
        _model: Any
        _response: Response

    def _get_page_items(self) -> list[T]:
        """The items of this page. To be overridden."""
        raise TypeError(f"{type(self).__name__} must define _get_page_items()")

    def next_page_info(self) -> PageInfo | None:
        """How to ask for the next page, None after the last. To be overridden."""
        raise TypeError(f"{type(self).__name__} must define next_page_info()")

    @classmethod
    def _from_json(cls, value: object) -> object:
        """The body's JSON as the object that becomes the page. To be overridden where it is no object of its fields."""
        return value

    @classmethod
    def _problem(cls, problem: str, value: object) -> str:
        """A problem with what :meth:`_from_json` made, as one with *value*, which is what the server sent."""
        return problem

    def has_next_page(self) -> bool:
        """Whether there is a next page, as far as this one tells."""
        return self.next_page_info() is not None

    async def get_next_page(self) -> Self:
        """Ask for the next page. RuntimeError where there is none."""
        info = self.next_page_info()
        if info is None:
            raise RuntimeError("there is no next page: ask has_next_page() first")
        options = _next_options(self, info)
        page: Self = await self._client._request_page(type(self), self._model, options)
        if page.has_next_page() and page.next_page_info() == info:
            raise APIResponseValidationError(
                "The server's list goes in a circle: a page names itself as the next one.",
                response=page._response,
            )
        return page

    def iter_pages(self) -> AsyncIterator[Self]:
        """This page and all that follow."""
        return _PageIterator(self)

    def __aiter__(self) -> AsyncIterator[T]:
        return _ItemIterator(_PageIterator(self))


def _next_options(page: AsyncPage[Any], info: PageInfo) -> RequestOptions:
    """The request for the next page: the last one's, changed as *info* says."""
    options = page._options
    if info.params is not None:
        merged = {**_params(options), **info.params}
        return attrs.evolve(options, params=merged)
    if info.json is not None:
        data: Any = options.json_data
        return attrs.evolve(options, json_data={**(data if isinstance(data, dict) else {}), **info.json})
    url = _next_url(page, info)
    if url.origin != page._client.base_url.origin:
        # The server chose where this goes: nothing of the caller's goes along that does not describe the message.
        headers: Mapping[str, Any] | NotGiven = not_given
        if not isinstance(options.headers, NotGiven):
            headers = {name: value for name, value in options.headers.items() if passes_to_other_origin(name)}
        return attrs.evolve(options, url=url, headers=headers, params=not_given)
    names = {unquote(pair.partition("=")[0].replace("+", " ")) for pair in url.query.split("&")}
    inner = "." if page._client.qs.nested_format == "dots" else "["
    own = names | {name.partition("[")[0] for name in names} | {name.partition(inner)[0] for name in names}
    params = {name: value for name, value in _params(options).items() if name not in own}
    return attrs.evolve(options, url=url, params=params or not_given)


def _next_url(page: AsyncPage[Any], info: PageInfo) -> URL:
    """The URL of the next page; APIResponseValidationError for one that cannot be asked for: the server wrote it."""
    request = page._response.request
    assert request is not None and info.url is not None
    try:
        url = request.url.join(info.url) if isinstance(info.url, str) else info.url
        if url.scheme not in ("http", "https"):
            refuse_scheme(url)
    except ValueError as exc:
        message = f"The page's link to the next one cannot be followed: {exc}."
        raise APIResponseValidationError(message, response=page._response) from exc
    return url


def _params(options: RequestOptions) -> Mapping[str, object]:
    return {} if isinstance(options.params, NotGiven) else options.params


class _PageIterator(Generic[PageT]):
    def __init__(self, first: PageT) -> None:
        self._page: PageT | None = first
        self._begun = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PageT:
        page = self._page
        if page is None:
            raise StopAsyncIteration
        if self._begun:
            if not page.has_next_page():
                self._page = None
                raise StopAsyncIteration
            page = self._page = await page.get_next_page()
        self._begun = True
        return page


class _ItemIterator(Generic[T]):
    """Items over all pages. An empty page that names a next one is not the end."""

    def __init__(self, pages: AsyncIterator[AsyncPage[Any]]) -> None:
        self._pages = pages
        self._items: list[T] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            page = await anext(self._pages)
            self._items = list(page._get_page_items())[::-1]
        return self._items.pop()


class AsyncPaginator(Generic[T, PageT]):
    """A list request that has not been sent: ``await`` gives the first page, ``async for`` the items of all pages."""

    def __init__(
        self,
        client: AsyncAPIClient,
        options: RequestOptions,
        page_cls: type[PageT],
        model: Any,
        *,
        max_pages: int | None = None,
    ) -> None:
        self._client = client
        self._options = options
        self._page_cls = page_cls
        self._model = model
        self._max_pages = max_pages

    def __await__(self) -> Generator[Any, None, PageT]:
        return self._first().__await__()

    async def _first(self) -> PageT:
        page: PageT = await self._client._request_page(self._page_cls, self._model, self._options)
        return page

    def __aiter__(self) -> AsyncIterator[T]:
        return _ItemIterator(self.iter_pages())

    def iter_pages(self) -> AsyncIterator[PageT]:
        """The pages, one after the other."""
        return _Pages(self, self._max_pages)

    def limit_pages(self, count: int) -> AsyncPaginator[T, PageT]:
        """The same list, of which at most *count* pages are asked for."""
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"limit_pages() takes an int, not {type(count).__name__}")
        if count < 1:
            raise ValueError(f"limit_pages() takes at least 1, got {count}")
        return AsyncPaginator(self._client, self._options, self._page_cls, self._model, max_pages=count)

    def prefetch(self) -> Prefetch[T, PageT]:
        """``async with paginator.prefetch() as items:`` the next page is asked for while the items of one are used."""
        return Prefetch(self.iter_pages())


class _Pages(Generic[PageT]):
    """The pages of a paginator; the first is asked for when the first is wanted."""

    def __init__(self, paginator: AsyncPaginator[Any, PageT], max_pages: int | None) -> None:
        self._paginator = paginator
        self._pages: _PageIterator[PageT] | None = None
        self._left = max_pages

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PageT:
        if self._left == 0:
            raise StopAsyncIteration
        if self._pages is None:
            self._pages = _PageIterator(await self._paginator)
        page = await anext(self._pages)
        if self._left is not None:
            self._left -= 1
        return page


class Prefetch(Generic[T, PageT]):
    """A block in which a task asks for the next page while the items of one are used. It lives exactly in the block."""

    def __init__(self, pages: AsyncIterator[PageT]) -> None:
        self._source = pages
        self._failure: Exception | None = None
        self._finished = False

    async def __aenter__(self) -> PrefetchedItems[T, PageT]:
        self._give, self._take = anyio.create_memory_object_stream[PageT](0)
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._fetch)
        return PrefetchedItems(self)

    async def _fetch(self) -> None:
        # No exception leaves the task, so that none comes out in a group: whoever wants the next page gets it.
        with self._give:
            try:
                async for page in self._source:
                    await self._give.send(page)
                self._finished = True
            except anyio.BrokenResourceError:
                pass  # the block has been left
            except Exception as exc:
                self._failure = exc

    async def next_page(self) -> PageT:
        """The next page. StopAsyncIteration after the last; RuntimeError outside of the block."""
        try:
            return await self._take.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            failure, self._failure = self._failure, None
            if failure is not None:
                self._finished = True
                raise failure from failure.__cause__
            if self._finished:
                raise StopAsyncIteration from None
            await anyio.lowlevel.checkpoint()  # the task was cancelled, and this one is about to be
            raise RuntimeError("the prefetch block has been left, its pages with it") from None

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._take.close()
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)  # the block's own exception goes on by itself, not in a group


class PrefetchedItems(Generic[T, PageT]):
    """Items over all pages, or the pages, of a :class:`Prefetch` block."""

    def __init__(self, prefetch: Prefetch[T, PageT]) -> None:
        self._prefetch = prefetch
        pages: AsyncIterator[AsyncPage[Any]] = _PrefetchedPages(prefetch)
        self._items = _ItemIterator[T](pages)

    def __aiter__(self) -> AsyncIterator[T]:
        return self._items

    def iter_pages(self) -> AsyncIterator[PageT]:
        """The pages, one after the other."""
        return _PrefetchedPages(self._prefetch)


class _PrefetchedPages(Generic[PageT]):
    def __init__(self, prefetch: Prefetch[Any, Any]) -> None:
        self._prefetch = prefetch

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PageT:
        page: PageT = await self._prefetch.next_page()
        return page
