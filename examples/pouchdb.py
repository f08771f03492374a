"""An SDK for CouchDB's protocol, here as PouchDB Server speaks it: documents with revisions, attachments, changes.

    npm install --global pouchdb-server; pouchdb-server --in-memory
    python examples/pouchdb.py http://127.0.0.1:5984

To be seen here: a conflict that must not be retried, answers that have not changed since (304), bodies that are no JSON,
and an endless stream whose heartbeats show that the server lives.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Generic, TypeVar

import anyio
import attrs

from anyio_client import (
    APIStatusError,
    AsyncAPIClient,
    AsyncAPIResource,
    AsyncAPIResponse,
    AsyncJSONLStream,
    ConflictError,
    JSONLine,
    Response,
    Timeout,
    make_request_options,
    omit,
    path_template,
)


@attrs.frozen
class Attachment:
    content_type: str
    length: int = 0
    digest: str = ""
    stub: bool = True  # its content is not here: the server keeps it


@attrs.frozen(kw_only=True)
class Document:
    """What all documents have; those of an application extend it. One without ``rev`` is new."""

    id: str = attrs.field(metadata={"json": "_id"})
    rev: str | None = attrs.field(default=None, metadata={"json": "_rev"})
    attachments: dict[str, Attachment] = attrs.field(factory=dict, metadata={"json": "_attachments"})


D = TypeVar("D", bound=Document)


@attrs.frozen
class Saved:
    id: str
    rev: str


@attrs.frozen
class Change:
    id: str
    seq: int
    changes: list[dict[str, str]]
    deleted: bool = False


class Changes(AsyncJSONLStream[Change]):
    """Has no end: it is left by ``break``, or ends with an error."""

    def is_terminal(self, event: JSONLine) -> bool:
        return False  # no change is the last one: an end is an error


class Database(AsyncAPIResource, Generic[D]):
    """One database, all of whose documents are of one class."""

    def __init__(self, client: AsyncAPIClient, name: str, model: type[D]) -> None:
        super().__init__(client)
        self._name = name
        self._model = model

    def _path(self, *names: str) -> str:
        return "".join(path_template("/{name}", name=name) for name in (self._name, *names))

    async def create(self) -> None:
        """Make the database. PreconditionFailedError if it is there."""
        await self._put(self._path(), cast_to=object)

    async def drop(self) -> None:
        """Delete the database and all that is in it."""
        await self._delete(self._path(), cast_to=object)

    async def get(self, id: str) -> D:
        return await self._get(self._path(id), cast_to=self._model)

    async def get_if_changed(self, id: str, etag: str | None = None) -> tuple[D, str] | None:
        """The document and its ETag; None if it is still the one with this *etag*."""
        options = make_request_options(extra_headers={"If-None-Match": etag or omit})
        try:
            response = await self._get(self._path(id), cast_to=AsyncAPIResponse, options=options)
        except APIStatusError as error:
            if error.status_code == 304:
                return None
            raise
        return await response.parse(to=self._model), response.headers["etag"]

    async def put(self, document: D) -> D:
        """Save a document; the same with its new revision. ConflictError if it is not based on the last one."""
        options = make_request_options(extra_body={"_rev": document.rev or omit})  # null would be no revision
        saved = await self._put(self._path(document.id), body=document, cast_to=Saved, options=options)
        return attrs.evolve(document, rev=saved.rev)

    async def delete(self, document: D) -> None:
        options = make_request_options(query={"rev": document.rev})
        await self._delete(self._path(document.id), cast_to=object, options=options)

    async def attach(self, document: D, name: str, content: Any, content_type: str) -> D:
        """Add an attachment: bytes, an open file, a path. The document as it is now."""
        options = make_request_options(query={"rev": document.rev}, extra_headers={"Content-Type": content_type})
        await self._put(self._path(document.id, name), content=content, cast_to=object, options=options)
        return await self.get(document.id)

    async def read_attachment(self, id: str, name: str) -> bytes:
        return await self._get(self._path(id, name), cast_to=bytes)

    async def save_attachment(self, id: str, name: str, path: str | os.PathLike[str]) -> None:
        """Write an attachment to a file; it is never as a whole in memory."""
        async with self._client.open("GET", self._path(id, name)) as response:
            await response.stream_to_file(path)

    async def changes(self, *, since: int = 0, heartbeat: float = 10) -> Changes:
        """Every change from *since* on, those to come included. The server says every *heartbeat* seconds that it lives."""
        query = {"feed": "continuous", "heartbeat": int(heartbeat * 1000), "since": since}
        options = make_request_options(
            query=query,
            # Compressed, the changes would wait in the server until there is enough to compress.
            extra_headers={"Accept-Encoding": "identity"},
            # Three heartbeats that do not come are a lost connection.
            timeout=Timeout(10, read=3 * heartbeat),
        )
        return await self._get(self._path("_changes"), cast_to=Change, stream=True, stream_cls=Changes, options=options)


class PouchDB(AsyncAPIClient):
    def database(self, name: str, model: type[D]) -> Database[D]:
        return Database(self, name, model)

    def _should_retry(self, response: Response) -> bool:
        # Some servers mean "try again" by 409. Here it stays a conflict until the caller has read the new revision.
        return response.status_code != 409 and super()._should_retry(response)

    def _make_status_error(self, err_msg: str, *, body: object, response: Any) -> APIStatusError:
        if isinstance(body, dict) and "reason" in body:  # "conflict" alone says little
            err_msg = f"{err_msg}: {body['reason']}"
        return super()._make_status_error(err_msg, body=body, response=response)


@attrs.frozen(kw_only=True)
class Pet(Document):
    name: str
    age: int = 0


async def main(base_url: str) -> None:
    async with PouchDB(base_url=base_url) as client:
        pets = client.database("pets", Pet)
        await pets.create()
        ada = await pets.put(Pet(id="ada", name="Ada"))
        await pets.put(attrs.evolve(ada, age=1))
        try:
            await pets.put(attrs.evolve(ada, age=2))
        except ConflictError as error:
            print(error)
        ada = await pets.get("ada")
        ada = await pets.attach(ada, "note", b"likes fish", "text/plain")
        print(ada, await pets.read_attachment("ada", "note"))
        async with await pets.changes(heartbeat=1) as changes:
            async for change in changes:
                print(change)
                break
        await pets.drop()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
