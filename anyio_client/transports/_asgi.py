"""An ASGI application in this process as a server: no sockets, the same event loop (ASGI 3, HTTP spec version 2.4).

Each request's application runs in a task of its own, as under a server; it starts with the request, and what it streams
arrives as it is sent. It may go on when its response is complete or given up, as under a server; ``aclose`` ends it.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Self, TypeAlias, cast
from urllib.parse import unquote

import anyio
import anyio.lowlevel

from .._core.build import frame
from .._io.body import AsyncPieces
from .._io.response import Response
from .._model.errors import (
    APIConnectionError,
    ConnectionLostError,
    Outcome,
    Phase,
    RemoteProtocolError,
    client_closed,
)
from .._model.head import ResponseHead
from .._model.headers import Headers
from .._model.request import Request
from .._model.timeouts import Timeout
from .._model.url import refuse_scheme

__all__ = ["ASGIApp", "ASGITransport"]

Message: TypeAlias = MutableMapping[str, Any]
ASGIApp: TypeAlias = Callable[
    [Any, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

DISCONNECT_TIME = 0.1  # seconds that aclose() gives the application to end by itself ...
ERROR_PAGE_TIME = 0.1  # seconds that an answer of 500 and above waits for the exception that made it
CLOSE_TIME = 1.0  # ... and to end once it is cancelled, and for its shutdown


class ASGITransport:
    """Sends requests to an ASGI application: ``AsyncAPIClient(base_url="http://app", http_client=ASGITransport(app))``.

    ``root_path`` and ``client`` (host and port) are what the application sees. ``lifespan=True`` starts it before the first
    request and shuts it down in ``aclose``. An exception of the application comes out of the call as it is, or,
    with ``raise_app_exceptions=False``, is an answer 500, as under a server. A shutdown that fails comes out of ``aclose``.
    Only a deadline limits how long the application takes, and no ``timeout``.
    """

    keeps_deadline = False

    def __init__(
        self,
        app: ASGIApp,
        *,
        root_path: str = "",
        client: tuple[str, int] = ("127.0.0.1", 50000),
        lifespan: bool = False,
        raise_app_exceptions: bool = True,
    ) -> None:
        if not callable(app):
            raise TypeError(f"ASGITransport takes an ASGI application, not {type(app).__name__}")
        self._app = app
        self._root_path = root_path
        self._client = client
        self._raises = raise_app_exceptions
        self._lifespan = _Lifespan(app) if lifespan else None
        self._running: set[_Running] = set()
        self._closed = False

    async def send(self, request: Request, *, timeout: Timeout, deadline: float | None) -> Response:
        if self._closed:
            raise RuntimeError("this ASGITransport has been closed")
        if request.url.scheme not in ("http", "https"):
            refuse_scheme(request.url)
        frame(request)
        if self._lifespan is not None:
            await self._lifespan.start()
            if self._closed:
                raise client_closed(request)
        exchange = _Exchange(request, self._raises)
        scope = self._scope(request)
        _Running(self._running, lambda: exchange.run(self._app, scope), exchange)
        try:
            head = await exchange.head()
        except BaseException:
            exchange.disconnect()
            raise
        return Response.from_wire(head, _Body(exchange), request)

    def _scope(self, request: Request) -> dict[str, Any]:
        url = request.url
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": url.scheme,
            "path": unquote(url.path),
            "raw_path": url.path.encode("ascii"),
            "query_string": url.query.encode("ascii"),
            "root_path": self._root_path,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "client": self._client,
            "server": (url.host, url.port),
            "extensions": {},
        }
        if self._lifespan is not None:
            scope["state"] = self._lifespan.state.copy()
        return scope

    async def aclose(self) -> None:
        """Shut the application down and end what still runs of it. May be called twice."""
        self._closed = True
        for running in list(self._running):
            running.disconnect()
        await self._wait_for_the_rest(DISCONNECT_TIME)
        for running in list(self._running):
            running.scope.cancel()
        await self._wait_for_the_rest(CLOSE_TIME)
        if self._lifespan is not None:
            await self._lifespan.stop(raises=self._raises)
        await anyio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        if self._lifespan is not None:
            await self._lifespan.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _wait_for_the_rest(self, seconds: float) -> None:
        with anyio.move_on_after(seconds, shield=True):
            for running in list(self._running):
                await running.over.wait()

    def __repr__(self) -> str:
        return f"<ASGITransport {'closed' if self._closed else f'{len(self._running)} running'}>"


class _Running:
    """A task of the application's own. It keeps its exceptions to itself: whoever waits for it asks the exchange."""

    def __init__(
        self, book: set[_Running], run: Callable[[], Awaitable[None]], exchange: _Exchange | None = None
    ) -> None:
        self.scope = anyio.CancelScope()
        self.over = anyio.Event()
        self._book = book
        self._run = run
        self._exchange = exchange
        book.add(self)
        native: Any = anyio.lowlevel.current_token().native_token
        if hasattr(native, "create_task"):  # an event loop of asyncio
            self._task = native.create_task(self._live())  # which keeps only a weak reference to it
        else:
            import trio

            trio.lowlevel.spawn_system_task(self._live, context=contextvars.copy_context())

    def disconnect(self) -> None:
        """The transport is closed: the caller hears of it, and so does the application."""
        if self._exchange is not None:
            self._exchange.close()

    async def _live(self) -> None:
        try:
            with self.scope:
                await self._run()
        finally:
            self._book.discard(self)
            self.over.set()


class _Exchange:
    """One request and its response, between the task that called and the application's."""

    def __init__(self, request: Request, raises: bool) -> None:
        self._request = request
        self._raises = raises
        self._started: Message | None = None
        self._head: ResponseHead | None = None
        self._is_empty = False  # the response has no body, whatever is sent
        self._complete = False  # of the response
        self._body_read = False  # of the request, by the application
        self._pieces: AsyncPieces | None = None
        self._size = 0
        self._known = anyio.Event()  # the head, or why there is none
        self._gone = anyio.Event()  # the caller wants no more
        self._failure: BaseException | None = None
        # One piece ahead: an application that fails behind its answer (Starlette's error page) can be heard of.
        self._give, self._take = anyio.create_memory_object_stream[bytes](1)
        self._over = anyio.Event()  # the application has returned, or failed
        self.trailers: Headers | None = None

    # -- the application's side

    async def run(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
            if not self._complete:
                self._fail(self._lost("the application returned before its response was complete"))
        except Exception as exc:
            if self._gone.is_set():
                pass  # nobody is there to hear of it
            elif self._raises:
                if self._head is not None and self._head.status_code >= 500:
                    self._complete = False  # also behind its error page
                self._fail(exc)
            elif self._head is None:
                self._head = ResponseHead(500, Headers({"Content-Length": "0"}))
                self._complete = True
            else:
                self._fail(self._lost("the application failed in the middle of its response"))
        finally:
            if not self._complete and self._failure is None:
                self._fail(self._lost("the application was ended"))
            self._known.set()
            self._over.set()
            self._give.close()
            if self._pieces is not None:
                with anyio.CancelScope(shield=True, deadline=anyio.current_time() + CLOSE_TIME):
                    await self._pieces.aclose()

    def _fail(self, error: BaseException) -> None:
        if not self._complete and self._failure is None:
            self._failure = error

    def _lost(self, reason: str) -> ConnectionLostError:
        return ConnectionLostError(
            f"The server ended the exchange: {reason}.",
            request=self._request,
            phase=Phase.RECEIVE if self._started is None else Phase.BODY,
            outcome=Outcome.UNKNOWN if self._started is None else Outcome.ANSWERED,
        )

    async def _receive(self) -> Message:
        if self._body_read or self._gone.is_set():
            await self._gone.wait()
            return _disconnect()
        body = self._request.body
        if isinstance(body, bytes):
            self._body_read = True
            await anyio.lowlevel.checkpoint()
            return {"type": "http.request", "body": body, "more_body": False}
        if self._pieces is None:
            self._pieces = AsyncPieces(body.open())
        message = _disconnect()
        async with anyio.create_task_group() as group:
            group.start_soon(self._cancel_when_gone, group.cancel_scope)
            message = await self._next_piece(self._pieces)
            group.cancel_scope.cancel()
        return message

    async def _cancel_when_gone(self, scope: anyio.CancelScope) -> None:
        await self._gone.wait()
        scope.cancel()

    async def _next_piece(self, pieces: AsyncPieces) -> Message:
        try:
            piece = await anext(pieces)
        except StopAsyncIteration:
            self._body_read = True
            return {"type": "http.request", "body": b"", "more_body": False}
        except Exception as exc:  # the caller's own, which is told to the caller
            if isinstance(exc, APIConnectionError):
                exc.retryable = False
            self._fail(exc)
            self._known.set()
            self.disconnect()
            return _disconnect()
        return {"type": "http.request", "body": piece, "more_body": True}

    async def _send(self, message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        kind = message["type"]
        if kind == "http.response.start" and self._started is None:
            self._head = _check_head(message)
            self._started = message
            self._is_empty = self._request.method == "HEAD" or self._head.status_code in (204, 304)
            self._known.set()
            if self._is_empty:
                self._give.close()  # whatever the application still sends
        elif kind == "http.response.body" and self._started is not None and not self._complete:
            await self._send_body(message)
        else:
            raise RuntimeError(f"the application sent {kind!r} where that is not allowed (ASGI HTTP)")

    async def _send_body(self, message: Message) -> None:
        data: object = message.get("body", b"")
        if not isinstance(data, bytes | bytearray | memoryview):
            raise RuntimeError(f"the body of an ASGI message is bytes, not {type(data).__name__}")
        data = bytes(cast("bytes", data))
        more = message.get("more_body", False)
        if self._gone.is_set():
            raise OSError("the client has disconnected")
        if data and not self._is_empty:
            self._size += len(data)
            try:
                await self._give.send(data)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                raise OSError("the client has disconnected") from None
        if not more:
            self._check_length()
            self._complete = True
            self._give.close()

    def _check_length(self) -> None:
        assert self._head is not None  # it stands before the body
        declared = self._head.headers.get("content-length")
        if declared is None or self._is_empty:
            return
        if not declared.isdigit() or int(declared) != self._size:
            message = "The server broke HTTP: the body does not fit the Content-Length."
            self._failure = RemoteProtocolError(
                message, request=self._request, phase=Phase.BODY, outcome=Outcome.ANSWERED
            )

    # -- the caller's side

    async def head(self) -> ResponseHead:
        await self._known.wait()
        if self._head is None:
            assert self._failure is not None  # that is what _known says
            raise self._failure
        if self._raises and self._head.status_code >= 500:
            with anyio.move_on_after(ERROR_PAGE_TIME):
                await self._over.wait()
            if self._failure is not None:
                raise self._failure
        return self._head

    async def next_data(self) -> bytes | None:
        try:
            return await self._take.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            self._take.close()
        if self._failure is not None:
            raise self._failure
        return None

    def disconnect(self) -> None:
        self._gone.set()
        self._take.close()

    def close(self) -> None:
        self._fail(client_closed(self._request))
        self._known.set()
        self.disconnect()


def _disconnect() -> Message:
    return {"type": "http.disconnect"}


def _check_head(message: Message) -> ResponseHead:
    """The head that an application sent. RuntimeError for what no server would take."""
    status: object = message.get("status")
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise RuntimeError(f"the status of an ASGI response is a number from 200 to 599, not {status!r}")
    try:
        raw = [(bytes(memoryview(name)), bytes(memoryview(value))) for name, value in message.get("headers", ())]
        headers = Headers.from_wire(raw)
        Headers(headers.multi_items())  # names and values are checked here
    except (TypeError, ValueError) as exc:
        raise RuntimeError(f"the headers of an ASGI response are pairs of bytes: {exc}") from None
    return ResponseHead(status, headers, "HTTP/1.1")


class _Body:
    """The body of the application's response."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        data = await self._exchange.next_data()
        if data is None:
            self._exchange.disconnect()
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        self._exchange.disconnect()
        await anyio.lowlevel.checkpoint()


class _Lifespan:
    """The application's startup and shutdown (ASGI Lifespan). ``state``: what it leaves for its requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.state: dict[str, Any] = {}
        self._run: _LifespanRun | None = None  # the one that is up, or coming up
        self._starting: anyio.Event | None = None
        self._stopped = False

    async def start(self) -> None:
        """Start the application, once. RuntimeError where it says that it failed; what it raises comes out as it is."""
        while self._starting is not None:
            await self._starting.wait()
        if self._run is not None or self._stopped:
            return
        self._starting = anyio.Event()
        run = self._run = _LifespanRun(self._app, self.state)
        try:
            await run.answered.wait()
            if run.failure is not None:
                raise run.failure
        except BaseException:
            run.running.scope.cancel()
            self._run = None
            raise
        finally:
            starting, self._starting = self._starting, None
            starting.set()

    async def stop(self, *, raises: bool) -> None:
        self._stopped = True
        run, self._run = self._run, None
        if run is None:
            return
        run.leaving.set()
        if not run.answered.is_set():  # it has not even come up
            run.running.scope.cancel()
        with anyio.move_on_after(CLOSE_TIME, shield=True):
            await run.running.over.wait()
        run.running.scope.cancel()
        if raises and run.failure is not None:
            raise run.failure


class _LifespanRun:
    """One run of the application's lifespan."""

    def __init__(self, app: ASGIApp, state: dict[str, Any]) -> None:
        self.answered = anyio.Event()
        self.leaving = anyio.Event()
        self.failure: BaseException | None = None
        self._app = app
        self._state = state
        self._asked = 0
        self.running = _Running(set(), self._live)

    async def _live(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        try:
            await self._app(scope, self._receive, self._send)
        except Exception as exc:
            self.failure = exc
        finally:
            self.answered.set()

    async def _receive(self) -> Message:
        self._asked += 1
        if self._asked == 1:
            await anyio.lowlevel.checkpoint()
            return {"type": "lifespan.startup"}
        await self.leaving.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        if message["type"].endswith(".failed"):
            self.failure = RuntimeError(f"the application's {message['type']}: {message.get('message', '')}")
        self.answered.set()
