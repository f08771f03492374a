"""The OpenAI SDK on this runtime: its resource classes from its own source, the rest as its authors would write it."""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeVar

import attrs

from anyio_client import AsyncAPIClient, AsyncPage, AsyncStream, PageInfo
from tests.sdks.moving import Mover

__all__ = ["MOVER", "OpenAI"]

T = TypeVar("T")


@attrs.define(slots=False)
class Page(AsyncPage[T]):
    data: list[T]
    object: str

    def _get_page_items(self) -> list[T]:
        return self.data

    def next_page_info(self) -> None:
        return None


@attrs.define(slots=False)
class CursorPage(AsyncPage[T]):
    data: list[T]
    has_more: bool | None = None

    def _get_page_items(self) -> list[T]:
        return self.data

    def has_next_page(self) -> bool:
        return self.has_more is not False and super().has_next_page()

    def next_page_info(self) -> PageInfo | None:
        last: Any = self.data[-1] if self.data else None
        return PageInfo(params={"after": last.id}) if getattr(last, "id", None) else None


class EventStream(AsyncStream[T]):
    terminator = "[DONE]"


MOVER = Mover(
    "openai",
    own={"AsyncPage": Page, "AsyncCursorPage": CursorPage, "AsyncStream": EventStream},
    leave_out={"stream", "parse", "connect"},  # helpers over the SDK's own client, and websockets
)

# Now, and not in the first test: what they are made of stays, and need not be looked at by each test's collection.
Models = MOVER.load("resources.models", "AsyncModels")
Completions = MOVER.load("resources.chat.completions.completions", "AsyncCompletions")
Responses = MOVER.load("resources.responses.responses", "AsyncResponses")
Files = MOVER.load("resources.files", "AsyncFiles")
Images = MOVER.load("resources.images", "AsyncImages")


class Chat:
    def __init__(self, client: OpenAI) -> None:
        self.completions = Completions(client)


class OpenAI(AsyncAPIClient):
    def __init__(self, *, api_key: str, base_url: str = "https://api.openai.example/v1", **options: Any) -> None:
        super().__init__(base_url=base_url, version="3.0", auth=api_key, **options)

    @cached_property
    def models(self) -> Any:
        return Models(self)

    @cached_property
    def chat(self) -> Chat:
        return Chat(self)

    @cached_property
    def responses(self) -> Any:
        return Responses(self)

    @cached_property
    def files(self) -> Any:
        return Files(self)

    @cached_property
    def images(self) -> Any:
        return Images(self)
