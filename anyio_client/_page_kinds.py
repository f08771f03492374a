"""The kinds of pages that are met most: by cursor, token, number, offset and Link field."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar, cast
from urllib.parse import parse_qsl

import attrs

from ._convert import DoesNotFit, key_path, kind_of
from ._model.links import parse_link
from ._pages import AsyncPage, PageInfo

__all__ = ["CursorPage", "LinkPage", "OffsetPage", "PageNumberPage", "TokenPage"]

T = TypeVar("T")


@attrs.define(slots=False, kw_only=True)
class _DataPage(AsyncPage[T]):
    """What the built-in pages have in common: items in ``data``, or in the field that ``items_field`` names.

    An array as the whole body is taken as the items. A subclass may have fields of its own, and override
    ``_get_page_items`` where they hold the items.
    """

    data: list[T] = attrs.field(factory=lambda: list[T]())

    items_field: ClassVar[str] = "data"
    _takes_array: ClassVar[bool] = True  # as the whole body
    _named_by: ClassVar[dict[str, str]] = {"data": "items_field"}  # field -> which class variable has its name in JSON

    def _get_page_items(self) -> list[T]:
        return self.data

    @classmethod
    def _names(cls) -> dict[str, str]:
        """The names that fields of the page have in JSON."""
        return {field: getattr(cls, variable) for field, variable in cls._named_by.items()}

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
    _named_by: ClassVar[dict[str, str]] = {"data": "items_field", "next_cursor": "cursor_field"}

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
    _named_by: ClassVar[dict[str, str]] = {"data": "items_field", "next_page_token": "token_field"}

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
    _named_by: ClassVar[dict[str, str]] = {
        "data": "items_field",
        "page": "page_field",
        "total_pages": "total_pages_field",
    }

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
    _named_by: ClassVar[dict[str, str]] = {
        "data": "items_field",
        "offset": "offset_field",
        "total": "total_field",
    }

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
