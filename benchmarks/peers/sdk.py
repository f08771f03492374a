"""What the SDKs of Anthropic and OpenAI have in common: typed calls and streams, with models (pydantic) of the same
fields as the items and events."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from shapes import SENT

from peers import Operation, Operations, Where, together


def operations_of(package: Any, client_class: Any) -> Callable[[Where], AbstractAsyncContextManager[Operations]]:
    """``operations`` of a module of clients, for an SDK."""

    class Model(package.BaseModel):
        id: int
        name: str
        price: float
        tags: list[str]
        available: bool

    class EventModel(package.BaseModel):
        index: int
        text: str
        final: bool

    def typed_of(client: Any) -> Operation:
        async def typed() -> Any:
            return await client.post("/item", body=SENT, cast_to=Model)

        return typed

    @contextlib.asynccontextmanager
    async def operations(where: Where) -> AsyncIterator[Operations]:
        crowd = client_class(api_key="none", base_url=where.plain)
        async with client_class(api_key="none", base_url=where.plain) as client, crowd:

            async def sse() -> Any:
                last = None
                kind = package.AsyncStream[EventModel]
                async with await client.get("/events", cast_to=EventModel, stream=True, stream_cls=kind) as events:
                    async for event in events:
                        last = event
                return last

            yield {"typed": typed_of(client), "typed100": together(typed_of(crowd)), "sse": sse}

    return operations
