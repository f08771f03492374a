"""``python -m tests.kit.cost get|typed asyncio|uvloop|trio URL``: Python function calls for each call, on a warm connection."""

from __future__ import annotations

import logging
import sys
from typing import Any

import anyio
import attrs

from anyio_client import AsyncAPIClient

CALLS = 20


@attrs.define
class Item:
    id: int
    name: str
    tags: list[str]


async def count(what: str, url: str) -> float:
    async with AsyncAPIClient(base_url=url) as client:

        async def call() -> None:
            if what == "get":
                await client.get("/x", cast_to=bytes)
            else:
                await client.post("/x", body={"name": "x", "price": 12.5, "tags": ["a"]}, cast_to=Item)

        for _ in range(5):
            await call()
        calls = 0

        def hook(frame: Any, event: str, arg: object) -> None:
            nonlocal calls
            calls += event == "call"

        sys.setprofile(hook)
        for _ in range(CALLS):
            await call()
        sys.setprofile(None)
        return calls / CALLS


if __name__ == "__main__":
    what, loop, address = sys.argv[1:]
    logging.disable()
    options = {"use_uvloop": True} if loop == "uvloop" else {}
    print(anyio.run(count, what, address, backend="trio" if loop == "trio" else "asyncio", backend_options=options))
