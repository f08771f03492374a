"""What goes over the wire in every benchmark, and the classes that it becomes: the same for server and clients."""

from __future__ import annotations

from typing import Any

import attrs

SENT: dict[str, Any] = {"name": "a small item", "price": 12.5, "tags": ["red", "round"]}
BODY = b'{"id":7,"name":"a small item","price":12.5,"tags":["red","round"],"available":true}'
AT_ONCE = 100  # calls started together, and streams of one HTTP/2 connection
EVENTS = 200  # of one stream; each in a chunk of its own
PIECE = b"x" * 65536  # of an upload
PIECES = 1600
SIZE = PIECES * len(PIECE)  # 100 MiB, there and back


@attrs.define
class Item:
    id: int
    name: str
    price: float
    tags: list[str]
    available: bool


EXPECTED = Item(id=7, name="a small item", price=12.5, tags=["red", "round"], available=True)


@attrs.define
class Event:
    index: int
    text: str
    final: bool


def event(index: int) -> bytes:
    """An event as the SDKs' servers send it: a name, and JSON in one line of data."""
    final = b"true" if index == EVENTS - 1 else b"false"
    return b'event: delta\ndata: {"index":%d,"text":"a few words","final":%b}\n\n' % (index, final)


LAST = Event(index=EVENTS - 1, text="a few words", final=True)
