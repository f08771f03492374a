"""An SDK for etcd's JSON gateway: keys, leases, and a watch that has no end.

    apt install etcd-server; etcd
    python examples/etcd.py http://127.0.0.1:2379

To be seen here: a converter that knows the API's own forms of integers and bytes, pages that are asked for by POST, and
an endless stream of JSON lines.
"""

from __future__ import annotations

import base64
import sys
from functools import cached_property
from typing import Any, Literal

import anyio
import attrs
import cattrs

from anyio_client import (
    AsyncAPIClient,
    AsyncAPIResource,
    AsyncJSONLStream,
    AsyncPage,
    AsyncPaginator,
    JSONLine,
    PageInfo,
    Timeout,
    make_request_options,
    omit,
)

# etcd writes bytes in base64 and 64-bit integers as strings, because JavaScript has neither.
converter = cattrs.Converter()
converter.register_structure_hook(bytes, lambda value, _: base64.b64decode(value))
converter.register_structure_hook(int, lambda value, _: int(value))


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def end_of(prefix: bytes) -> bytes:
    """The first key behind all that begin with *prefix*."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"


# The gateway leaves out zeros and what is empty: every field has a default.


@attrs.frozen
class Header:
    revision: int = 0


@attrs.frozen
class KeyValue:
    key: bytes = b""
    value: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    lease: int = 0


@attrs.frozen
class Changed:
    header: Header
    deleted: int = 0


@attrs.frozen
class Lease:
    id: int = attrs.field(metadata={"json": "ID"})
    ttl: int = attrs.field(metadata={"json": "TTL"})


@attrs.frozen
class Event:
    kv: KeyValue
    type: Literal["PUT", "DELETE"] = "PUT"


@attrs.frozen
class Notice:
    """What a watch says: that it began (``created``), events, or that it cannot go on (``canceled``)."""

    header: Header
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    events: list[Event] = attrs.field(factory=list)


class Watch(AsyncJSONLStream[Notice]):
    """Ends only when the server stops, and then with an ``{"error": ...}``, which is raised as an APIError."""

    def value_of(self, event: JSONLine) -> object:
        line: Any = event.json()
        return line["result"]

    def is_terminal(self, event: JSONLine) -> bool:
        return False  # none is the last: an end without an error is an error too


@attrs.define(slots=False)
class KeyPage(AsyncPage[KeyValue]):
    """Some keys of a range, in order; the next page begins just behind the last of them."""

    kvs: list[KeyValue] = attrs.field(factory=list)
    more: bool = False

    def _get_page_items(self) -> list[KeyValue]:
        return self.kvs

    def next_page_info(self) -> PageInfo | None:
        return PageInfo(json={"key": encode(self.kvs[-1].key + b"\0")}) if self.more else None


class Keys(AsyncAPIResource):
    async def put(self, key: bytes, value: bytes, *, lease: int | None = None) -> int:
        """Set a key; the revision at which that was done. The key goes when the *lease* ends."""
        body = {"key": encode(key), "value": encode(value), "lease": omit if lease is None else lease}
        return (await self._post("/v3/kv/put", body=body, cast_to=Changed)).header.revision

    async def get(self, key: bytes) -> KeyValue | None:
        page = await self._post("/v3/kv/range", body={"key": encode(key)}, cast_to=KeyPage)
        return page.kvs[0] if page.kvs else None

    def list(self, prefix: bytes, *, page_size: int = 1000) -> AsyncPaginator[KeyValue, KeyPage]:
        body = {"key": encode(prefix), "range_end": encode(end_of(prefix)), "limit": page_size}
        return self._get_api_list("/v3/kv/range", method="post", body=body, model=KeyValue, page=KeyPage)

    async def delete(self, prefix: bytes) -> int:
        """Delete all keys that begin with *prefix*; how many there were."""
        body = {"key": encode(prefix), "range_end": encode(end_of(prefix))}
        return (await self._post("/v3/kv/deleterange", body=body, cast_to=Changed)).deleted

    async def watch(self, prefix: bytes, *, since: int | None = None) -> Watch:
        """Changes of keys that begin with *prefix*: from now on, or from the revision *since* on."""
        wanted = {"key": encode(prefix), "range_end": encode(end_of(prefix)), "start_revision": since or omit}
        # Nothing changes for hours, perhaps: no limit on the wait for the next line.
        options = make_request_options(timeout=Timeout(10, read=None))
        body = {"create_request": wanted}
        return await self._post("/v3/watch", body=body, cast_to=Notice, stream=True, stream_cls=Watch, options=options)


class Leases(AsyncAPIResource):
    async def grant(self, ttl: int, *, id: int | None = None) -> Lease:
        """A lease of *ttl* seconds. PreconditionFailedError where *id* is taken."""
        return await self._post("/v3/lease/grant", body={"TTL": ttl, "ID": id or omit}, cast_to=Lease)

    async def revoke(self, id: int) -> None:
        """End a lease, and all keys that hang on it. NotFoundError for an unknown one."""
        await self._post("/v3/lease/revoke", body={"ID": id}, cast_to=object)


class Etcd(AsyncAPIClient):
    def __init__(self, **options: Any) -> None:
        super().__init__(converter=converter, **options)

    @cached_property
    def keys(self) -> Keys:
        return Keys(self)

    @cached_property
    def leases(self) -> Leases:
        return Leases(self)


async def main(base_url: str) -> None:
    async with Etcd(base_url=base_url) as etcd:
        lease = await etcd.leases.grant(60)
        revision = await etcd.keys.put(b"pets/1", b"Ada", lease=lease.id)
        await etcd.keys.put(b"pets/2", b"Bo")
        print([(pet.key, pet.value) async for pet in etcd.keys.list(b"pets/")])
        async with await etcd.keys.watch(b"pets/", since=revision) as watch:
            await etcd.keys.delete(b"pets/2")
            async for notice in watch:
                for event in notice.events:
                    print(event.type, event.kv.key, event.kv.value)
                if any(event.type == "DELETE" for event in notice.events):
                    break
        await etcd.leases.revoke(lease.id)
        print(await etcd.keys.get(b"pets/1"))


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
