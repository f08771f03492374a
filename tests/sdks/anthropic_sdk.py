"""The Anthropic SDK on this runtime: its resource classes from its own source, the rest as its authors would write it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, TypeVar

import attrs

from anyio_client import (
    AsyncAPIClient,
    AsyncPage,
    AsyncStream,
    NotGiven,
    Omit,
    PageInfo,
    Timeout,
)
from tests.sdks.moving import Mover

__all__ = ["Anthropic", "MOVER"]

T = TypeVar("T")

DEFAULT_TIMEOUT = Timeout(600, connect=5)


@attrs.define(slots=False)
class Page(AsyncPage[T]):
    """Forwards after the last item; backwards before the first where the caller began so."""

    data: list[T]
    has_more: bool | None = None
    first_id: str | None = None
    last_id: str | None = None

    def _get_page_items(self) -> list[T]:
        return self.data

    def has_next_page(self) -> bool:
        return self.has_more is not False and super().has_next_page()

    def next_page_info(self) -> PageInfo | None:
        params = self._options.params
        if not isinstance(params, NotGiven) and params.get("before_id"):
            return PageInfo(params={"before_id": self.first_id}) if self.first_id else None
        return PageInfo(params={"after_id": self.last_id}) if self.last_id else None


@attrs.define(slots=False)
class PageCursor(AsyncPage[T]):
    data: list[T]
    next_page: str | None = None

    def _get_page_items(self) -> list[T]:
        return self.data

    def next_page_info(self) -> PageInfo | None:
        return PageInfo(params={"page": self.next_page}) if self.next_page else None


class MessageStream(AsyncStream[T]):
    """Ends after the item ``message_stop``; a stream that ends before is cut."""

    def is_skipped(self, event: Any) -> bool:
        return event.event == "ping"

    def is_last(self, event: Any) -> bool:
        return event.event == "message_stop"


MOVER = Mover(
    "anthropic",
    own={
        "AsyncPage": Page,
        "AsyncPageCursor": PageCursor,
        "AsyncStream": MessageStream,
        "DEFAULT_TIMEOUT": DEFAULT_TIMEOUT,
    },
    leave_out={"batches", "stream", "parse"},  # JSON lines, and helpers over the SDK's own client
)

# Now, and not in the first test: what they are made of stays, and need not be looked at by each test's collection.
Models = MOVER.load("resources.models", "AsyncModels")
Messages = MOVER.load("resources.messages.messages", "AsyncMessages")
Files = MOVER.load("resources.files", "AsyncFiles")
BetaModels = MOVER.load("resources.beta.models", "AsyncModels")
BetaFiles = MOVER.load("resources.beta.files", "AsyncFiles")


class Beta:
    def __init__(self, client: Anthropic) -> None:
        self.models = BetaModels(client)
        self.files = BetaFiles(client)


class Anthropic(AsyncAPIClient):
    def __init__(self, *, api_key: str, base_url: str = "https://api.anthropic.example", **options: Any) -> None:
        super().__init__(base_url=base_url, version="2.0", **options)
        self.api_key = api_key

    @property
    def auth_headers(self) -> Mapping[str, str]:
        return {"X-Api-Key": self.api_key}

    @property
    def default_headers(self) -> Mapping[str, str | Omit]:
        return {**super().default_headers, "anthropic-version": "2023-06-01", **self._custom_headers}

    def _calculate_nonstreaming_timeout(self, max_tokens: int, max_nonstreaming_tokens: int | None) -> Timeout:
        if max_tokens > 20_000:
            raise ValueError("Streaming is required for operations that may take longer than 10 minutes.")
        return DEFAULT_TIMEOUT

    @cached_property
    def models(self) -> Any:
        return Models(self)

    @cached_property
    def messages(self) -> Any:
        return Messages(self)

    @cached_property
    def files(self) -> Any:
        return Files(self)

    @cached_property
    def beta(self) -> Beta:
        return Beta(self)
