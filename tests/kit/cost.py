"""``python -m tests.kit.cost asyncio|uvloop|trio URL``: Python function calls for each GET, on a warm connection."""

from __future__ import annotations

import sys
from typing import Any

import anyio

from anyio_client import AsyncAPIClient

CALLS = 20


async def count(url: str) -> float:
    async with AsyncAPIClient(base_url=url) as client:
        for _ in range(5):
            await client.get("/x", cast_to=bytes)
        calls = 0

        def hook(frame: Any, event: str, arg: object) -> None:
            nonlocal calls
            calls += event == "call"

        sys.setprofile(hook)
        for _ in range(CALLS):
            await client.get("/x", cast_to=bytes)
        sys.setprofile(None)
        return calls / CALLS


if __name__ == "__main__":
    loop, address = sys.argv[1:]
    options = {"use_uvloop": True} if loop == "uvloop" else {}
    print(anyio.run(count, address, backend="trio" if loop == "trio" else "asyncio", backend_options=options))
