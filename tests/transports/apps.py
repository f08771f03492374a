"""ASGI applications to put under ``ASGITransport``, and clients of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from anyio_client import ASGITransport, AsyncAPIClient, RetryPolicy
from tests.kit.leaks import task_count

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON: Headers = [(b"content-type", b"application/json")]
SSE: Headers = [(b"content-type", b"text/event-stream")]
QUICK = RetryPolicy(wait_initial=0)


def start(status: int = 200, headers: Headers = JSON) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def answer(send: Send, data: bytes = b"1", status: int = 200, headers: Headers = JSON) -> None:
    await send(start(status, headers))
    await send(body(data))


async def read_all(receive: Receive) -> list[bytes]:
    """The pieces of the request's body."""
    pieces: list[bytes] = []
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        pieces.append(message["body"])
        if not message["more_body"]:
            return pieces


def client_of(app: App, *, transport: dict[str, Any] | None = None, **options: Any) -> AsyncAPIClient:
    defaults: dict[str, Any] = {"base_url": "http://app", "retry": QUICK}
    return AsyncAPIClient(http_client=ASGITransport(app, **(transport or {})), **{**defaults, **options})


@asynccontextmanager
async def nothing_left_running(seconds: float = 10) -> AsyncIterator[None]:
    """As many tasks after the block as before it, once those that end have ended; and the block ends in time."""
    before = task_count()
    with anyio.fail_after(seconds):
        yield
        while task_count() > before:  # noqa: ASYNC110 - other tasks end, of which there is no event
            await anyio.sleep(0.001)
