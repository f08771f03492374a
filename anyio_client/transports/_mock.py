"""A transport without a network, for tests of programs that use the client."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

import anyio.lowlevel

from .._io.response import Response
from .._model.errors import APIConnectionError
from .._model.request import Request, StreamedBody
from .._model.timeouts import Timeout

__all__ = ["MockTransport"]


class MockTransport:
    """Answers every request with what ``handler(request)`` returns (a :class:`Response`), sync or async.

    As on the network, a response's body is still to be read, and can be read once. The request's body is read before the handler is called. A handler may raise our errors, whose ``phase`` and
    ``outcome`` decide about retries, or any other exception, which comes out of the call as it is.

    >>> transport = MockTransport(lambda request: Response(200, json={"path": request.url.path}))
    """

    keeps_deadline = False

    def __init__(self, handler: Callable[[Request], Response | Awaitable[Response]]) -> None:
        if not callable(handler):
            raise TypeError(f"MockTransport needs a callable, not {type(handler).__name__}")
        self._handler = handler

    async def send(self, request: Request, *, timeout: Timeout, deadline: float | None) -> Response:
        await anyio.lowlevel.checkpoint()
        # The handler gets a copy: a body that can be sent only once stays one for the retry rules, although it was read.
        body = request.body
        if isinstance(body, StreamedBody):
            body = StreamedBody(body.open(), replayable=False)
        shown = Request(request.method, request.url, headers=request.headers, content=body)
        try:
            await shown.read()
        except APIConnectionError as exc:  # of the caller's own body: it says nothing about this call
            exc.retryable = False
            raise
        answer = self._handler(shown)
        response = await answer if inspect.isawaitable(answer) else answer
        if not isinstance(response, Response):
            given = f"{type(response).__module__}.{type(response).__name__}".removeprefix("builtins.")
            raise TypeError(f"the handler of a MockTransport must return an anyio_client.Response, not {given}")
        return response.unread(request)

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
