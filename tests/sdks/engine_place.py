"""Where the checks of the SDKs run: :class:`Place`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import attrs

from tests.kit.sdk_app import TEXT
from tests.kit.sdk_server import Run, SDKServer
from tests.sdks.engine_dialects import TRANSPORTS, Dialect

LIMIT = 60.0  # seconds for one check: what hangs shall fail


@attrs.frozen
class Place:
    """Where a check runs: one SDK on one transport, with one server."""

    server: SDKServer
    dialect: Dialect
    http2: bool
    transport: str = "engine"
    calls: int = 200
    streams: int = 50

    @property
    def url(self) -> str:
        return self.server.url(http2=self.http2)

    @contextlib.asynccontextmanager
    async def client(
        self, base_url: str | None = None, *, connections: int | None = None, max_retries: int = 0
    ) -> AsyncIterator[Any]:
        """An SDK client. *connections*: how many its pool may hold."""
        http_client = TRANSPORTS[self.transport](self.server.trust(), http2=self.http2, connections=connections)
        async with self.dialect.client(base_url or self.url, http_client, max_retries=max_retries) as client:
            yield client

    def door(self, mode: str) -> str:
        return self.server.door(mode, http2=self.http2)

    async def create(self, client: Any, run: Run | None = None, behave: str | None = None, **say: Any) -> None:
        """One call, which must be answered."""
        headers = run.headers(behave) if run else {}
        assert await self.dialect.create(client, extra_headers=headers, **say) == TEXT


Check = Callable[[Place], Awaitable[None]]


class Checks(dict[str, Check]):
    """By name. ``only``: the version of HTTP of those that say nothing about the other."""

    def __init__(self) -> None:
        super().__init__()
        self.only: dict[str, str] = {}

    def add(self, function: Check) -> Check:
        self[function.__name__] = function
        return function

    def add_for(self, version: str) -> Callable[[Check], Check]:
        def add(function: Check) -> Check:
            self.only[function.__name__] = version
            return self.add(function)

        return add

    def of(self, version: str) -> list[str]:
        """The names of those that *version* is asked."""
        return [name for name in self if self.only.get(name, version) == version]


async def run(check: Check, place: Place) -> None:
    with anyio.fail_after(LIMIT):
        await check(place)


async def all_of(count: int, call: Callable[[int], Awaitable[object]]) -> None:
    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(call, number)
