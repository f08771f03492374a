"""The SDK openai: its typed calls and streams, with models (pydantic) of the same fields as the items and events."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import openai
from openai import AsyncStream
from shapes import SENT

from peers import Operation, Operations, Where, together


class Model(openai.BaseModel):
    id: int
    name: str
    price: float
    tags: list[str]
    available: bool


class EventModel(openai.BaseModel):
    index: int
    text: str
    final: bool


def of_items(client: openai.AsyncOpenAI) -> Operation:
    async def typed() -> Model:
        return await client.post("/item", body=SENT, cast_to=Model)

    return typed


@contextlib.asynccontextmanager
async def operations(where: Where) -> AsyncIterator[Operations]:
    crowd = openai.AsyncOpenAI(api_key="none", base_url=where.plain)
    async with openai.AsyncOpenAI(api_key="none", base_url=where.plain) as client, crowd:

        async def sse() -> EventModel | None:
            last = None
            kind = AsyncStream[EventModel]
            async with await client.get("/events", cast_to=EventModel, stream=True, stream_cls=kind) as events:
                async for event in events:
                    last = event
            return last

        yield {"typed": of_items(client), "typed100": together(of_items(crowd)), "sse": sse}
