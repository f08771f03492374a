"""An SDK for Datasette: the rows of a table as typed objects, page by page or as they come; SQL; its errors.

    pip install datasette; datasette zoo.db     # with a table: animals (id, name, kind, weight)
    python examples/datasette.py http://127.0.0.1:8001

To be seen here: two kinds of pages (a token inside the answer, a ``Link`` header), rows as JSON lines, and errors of
three shapes, of which one is a page of HTML inside JSON.
"""

from __future__ import annotations

import sys
from typing import Any, Generic, TypeVar

import anyio
import attrs

from anyio_client import (
    APIStatusError,
    AsyncAPIClient,
    AsyncAPIResource,
    AsyncJSONLStream,
    AsyncPaginator,
    BadRequestError,
    CursorPage,
    LinkPage,
    make_request_options,
    path_template,
)

R = TypeVar("R")


class RowPage(CursorPage[R]):
    """``{"rows": [...], "next": "100"}``: what ``next`` says goes into the parameter ``_next``."""

    items_field = "rows"
    cursor_field = "next"
    cursor_param = "_next"


class Rows(AsyncJSONLStream[R]):
    """Rows as they come, one in each line."""


@attrs.frozen
class Answer(Generic[R]):
    """What SQL gave. ``truncated``: there was more than the server gives at once."""

    rows: list[R]
    truncated: bool = False


class QueryInterrupted(BadRequestError):
    """SQL took longer than the server allows."""


class Table(AsyncAPIResource, Generic[R]):
    """A table whose rows are objects of one class. ``where``: values that columns shall have."""

    def __init__(self, client: AsyncAPIClient, database: str, name: str, row: type[R]) -> None:
        super().__init__(client)
        self._path = path_template("/{database}/{name}.json", database=database, name=name)
        self._row = row

    def list(self, *, page_size: int = 100, **where: object) -> AsyncPaginator[R, RowPage[R]]:
        query = {"_shape": "objects", "_size": page_size, **_exactly(where)}
        return self._get_api_list(self._path, model=self._row, page=RowPage, options=make_request_options(query=query))

    def list_arrays(self, *, page_size: int = 100, **where: object) -> AsyncPaginator[R, LinkPage[R]]:
        """The same, but each page is nothing but an array, and the ``Link`` header leads to the next one."""
        query = {"_shape": "array", "_size": page_size, **_exactly(where)}
        return self._get_api_list(self._path, model=self._row, page=LinkPage, options=make_request_options(query=query))

    async def rows(self, **where: object) -> Rows[R]:
        """The first rows (as many as the server gives at once), each as soon as it is here."""
        query = {"_shape": "array", "_nl": "on", "_size": "max", **_exactly(where)}
        options = make_request_options(query=query)
        return await self._get(self._path, cast_to=self._row, stream=True, stream_cls=Rows, options=options)


def _exactly(where: dict[str, object]) -> dict[str, object]:
    return {f"{column}__exact": value for column, value in where.items()}


class Datasette(AsyncAPIClient):
    def table(self, database: str, name: str, row: type[R]) -> Table[R]:
        return Table(self, database, name, row)

    async def sql(self, database: str, sql: str, row: type[R], **values: object) -> Answer[R]:
        """What a SELECT gives; *values* are those of its ``:names``. BadRequestError for wrong SQL."""
        query = {"sql": sql, "_shape": "objects", **values}
        path = path_template("/{database}.json", database=database)
        answer: Answer[R] = await self.get(path, cast_to=Answer[row], options={"params": query})  # type: ignore[valid-type]
        return answer

    def _make_status_error(self, err_msg: str, *, body: object, response: Any) -> APIStatusError:
        # {"ok": false, "error": "...", "title": ...}: the message has been found. But here it is a page of HTML.
        if isinstance(body, dict) and body.get("title") == "SQL Interrupted":
            message = "Error code: 400 - the SQL took longer than the server's sql_time_limit_ms"
            return QueryInterrupted(message, body=body, response=response)
        return super()._make_status_error(err_msg, body=body, response=response)


@attrs.frozen
class Animal:
    id: int
    kind: str
    weight: float
    name: str | None = None


@attrs.frozen
class Kind:
    kind: str
    count: int


async def main(base_url: str) -> None:
    async with Datasette(base_url=base_url) as datasette:
        animals = datasette.table("zoo", "animals", Animal)
        print(len([animal async for animal in animals.list(kind="cat", page_size=50)]), "cats")
        async with await animals.rows(kind="dog") as dogs:
            print("the first dog:", await anext(dogs))
        counted = await datasette.sql(
            "zoo", "select kind, count(*) as count from animals where weight > :least group by kind", Kind, least=10
        )
        print(counted.rows)
        try:
            await datasette.sql("zoo", "select colour", Kind)
        except BadRequestError as error:
            print(error)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
