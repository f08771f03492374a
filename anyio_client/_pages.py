"""Lists that come in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast
from urllib.parse import parse_qsl, unquote, urljoin

import anyio
import anyio.lowlevel
import attrs

from ._convert import DoesNotFit, key_path, kind_of
from ._core.build import passes_to_other_origin
from ._model.errors import APIResponseValidationError
from ._model.given import NotGiven, not_given
from ._model.links import parse_link
from ._model.options import RequestOptions, show_url
from ._model.url import URL, refuse_scheme

if TYPE_CHECKING:
    from ._client import AsyncAPIClient
    from ._io.response import Response

__all__ = [
    "AsyncPage",
    "AsyncPaginator",
    "CursorPage",
    "LinkPage",
    "OffsetPage",
    "PageInfo",
    "PageNumberPage",
    "TokenPage",
]

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


@attrs.define(slots=False, kw_only=True)
class _DataPage(AsyncPage[T]):
    """What the built-in pages have in common: items in ``data``, or in the field that ``items_field`` names.

    An array as the whole body is taken as the items. A subclass may have fields of its own, and override
    ``_get_page_items`` where they hold the items.
    """

    data: list[T] = attrs.field(factory=lambda: list[T]())

    items_field: ClassVar[str] = "data"
    _takes_array: ClassVar[bool] = True  # as the whole body

    def _get_page_items(self) -> list[T]:
        return self.data

    @classmethod
    def _names(cls) -> dict[str, str]:
        """The names that fields of the page have in JSON."""
        return {"data": cls.items_field}

    @classmethod
    def _from_json(cls, value: object) -> object:
        if isinstance(value, list) and cls._takes_array:
            return {"data": cast("Any", value)}
        if not isinstance(value, dict):
            return cast("Any", value)
        given = cast("dict[str, Any]", value)
        names = cls._names()
        fields = {name: item for name, item in given.items() if name not in names}
        fields |= {own: given[name] for own, name in names.items() if name in given}
        own: Any = cls._get_page_items  # pyright: ignore[reportUnknownMemberType]
        if own is _DataPage[Any]._get_page_items:  # else a subclass has its items somewhere else
            if cls.items_field not in given:
                raise DoesNotFit([".data: missing"], missing=True)
            if fields["data"] is None:  # as some servers write an empty list
                fields["data"] = []
            if not isinstance(fields["data"], list):
                raise DoesNotFit([f".data: expected an array, got {kind_of(fields['data'])}"], missing=True)
        return fields

    @classmethod
    def _problem(cls, problem: str, value: object) -> str:
        if isinstance(value, list):
            return problem.removeprefix(".data")
        for own, name in cls._names().items():
            rest = problem.removeprefix(f".{own}")
            if rest != problem and rest[:1] in (":", ".", "["):
                return key_path(name) + rest
        return problem

    def _sent(self, name: str) -> str | None:
        """The parameter of this name in the request that made this page, None where it had none."""
        request = self._response.request
        return dict(parse_qsl(request.url.query)).get(name) if request is not None else None


@attrs.define(slots=False, kw_only=True)
class CursorPage(_DataPage[T]):
    """``{"data": [...], "next_cursor": "..."}``; the cursor goes into the parameter ``cursor_param``.

    ``cursor_field`` is the name that it has in the page.
    """

    next_cursor: str | None = attrs.field(default=None, repr=False)

    cursor_param: ClassVar[str] = "cursor"
    cursor_field: ClassVar[str] = "next_cursor"

    _takes_array: ClassVar[bool] = False  # which has no place for a cursor

    @classmethod
    def _names(cls) -> dict[str, str]:
        return {**super()._names(), "next_cursor": cls.cursor_field}

    def next_page_info(self) -> PageInfo | None:
        return PageInfo(params={self.cursor_param: self.next_cursor}) if self.next_cursor else None


@attrs.define(slots=False, kw_only=True)
class TokenPage(_DataPage[T]):
    """``{"data": [...], "next_page_token": "..."}``; the token goes into the parameter ``token_param``.

    ``token_field`` is the name that it has in the page.
    """

    next_page_token: str | None = attrs.field(default=None, repr=False)

    token_param: ClassVar[str] = "page_token"
    token_field: ClassVar[str] = "next_page_token"

    _takes_array: ClassVar[bool] = False  # which has no place for a token

    @classmethod
    def _names(cls) -> dict[str, str]:
        return {**super()._names(), "next_page_token": cls.token_field}

    def next_page_info(self) -> PageInfo | None:
        return PageInfo(params={self.token_param: self.next_page_token}) if self.next_page_token else None


@attrs.define(slots=False, kw_only=True)
class PageNumberPage(_DataPage[T]):
    """``{"data": [...], "page": 2, "total_pages": 9}``; the next number goes into the parameter ``page_param``.

    Where the page does not say its number, it is the one that was asked for, else ``first_page``. It ends after
    ``total_pages``; where the server does not say how many there are, at the first page without items. ``page_field``
    and ``total_pages_field`` are their names in the page.
    """

    page: int | None = None
    total_pages: int | None = None

    page_param: ClassVar[str] = "page"
    page_field: ClassVar[str] = "page"
    total_pages_field: ClassVar[str] = "total_pages"
    first_page: ClassVar[int] = 1

    @classmethod
    def _names(cls) -> dict[str, str]:
        return {**super()._names(), "page": cls.page_field, "total_pages": cls.total_pages_field}

    def next_page_info(self) -> PageInfo | None:
        number = _int(self.page)
        if number is None:
            number = _int(self._sent(self.page_param))
        if number is None:
            number = self.first_page
        total = _int(self.total_pages)
        over = not self._get_page_items() if total is None else number + 1 >= self.first_page + total
        return None if over else PageInfo(params={self.page_param: number + 1})


@attrs.define(slots=False, kw_only=True)
class OffsetPage(_DataPage[T]):
    """``{"data": [...], "offset": 20, "total": 57}``; the next offset goes into the parameter ``offset_param``.

    Where the page does not say its offset, it is the one that was asked for, else 0. It ends at ``total``; where the
    server does not say it, at the first page without items. A page without items is the end in any case.
    ``offset_field`` and ``total_field`` are their names in the page.
    """

    offset: int | None = None
    total: int | None = None

    offset_param: ClassVar[str] = "offset"
    offset_field: ClassVar[str] = "offset"
    total_field: ClassVar[str] = "total"

    @classmethod
    def _names(cls) -> dict[str, str]:
        return {**super()._names(), "offset": cls.offset_field, "total": cls.total_field}

    def next_page_info(self) -> PageInfo | None:
        offset = _int(self.offset)
        if offset is None:
            offset = _int(self._sent(self.offset_param)) or 0
        items = self._get_page_items()
        end, total = offset + len(items), _int(self.total)
        over = not items or (total is not None and end >= total)
        return None if over else PageInfo(params={self.offset_param: end})


@attrs.define(slots=False, kw_only=True)
class LinkPage(_DataPage[T]):
    """The next page stands in the field ``Link`` (RFC 8288) with the relation ``next``; the body is often an array."""

    def next_page_info(self) -> PageInfo | None:
        for link in parse_link(self._response.headers.get("link", "")):
            if "next" in link.relations and link.anchor is None:
                return PageInfo(link.target)
        return None


def _int(value: object) -> int | None:
    """A number that a server, or the caller, wrote as one or as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return None


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
        url = (
            URL(urljoin(f"{request.url.origin}{request.url.target}", info.url))
            if isinstance(info.url, str)
            else info.url
        )
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
