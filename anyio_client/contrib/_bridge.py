"""Between our transports and those of httpx and httpx2, whose names are the same: what the two leaves share.

``Engine``: our connections under their clients. ``Client``: their clients under ours. ``_lib`` is the module.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import AsyncIterable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Final, Self, cast

import anyio

from .._io.body import AsyncPieces, ReadBody
from .._io.response import Response
from .._model.errors import (
    APIConnectionError,
    ConnectError,
    ConnectionLostError,
    ConnectTimeoutError,
    ContentDecodingError,
    LocalProtocolError,
    Outcome,
    Phase,
    PoolTimeoutError,
    ProxyError,
    ReadTimeoutError,
    RemoteProtocolError,
    TLSError,
    WriteTimeoutError,
    client_closed,
)
from .._model.head import ResponseHead
from .._model.headers import Headers
from .._model.request import Pieces, Request, StreamedBody
from .._model.timeouts import DEFAULT_TIMEOUT, Timeout
from .._model.url import URL
from ..transports._network import HTTPTransport

__all__ = ["Client", "Engine", "EngineStream"]

# --- our connections under their clients ---------------------------------------------------------------------------

# The first that fits; theirs by name.
_THEIRS: Final[tuple[tuple[type[APIConnectionError], str], ...]] = (
    (ConnectTimeoutError, "ConnectTimeout"),
    (ReadTimeoutError, "ReadTimeout"),
    (WriteTimeoutError, "WriteTimeout"),
    (PoolTimeoutError, "PoolTimeout"),
    (ProxyError, "ProxyError"),
    (ConnectError, "ConnectError"),
    (RemoteProtocolError, "RemoteProtocolError"),
    (LocalProtocolError, "LocalProtocolError"),
)


def _their_name(error: APIConnectionError) -> str:
    if isinstance(error, TLSError) and error.phase not in (Phase.TLS, Phase.PROXY):
        return "ReadError"  # an alert in the middle
    for ours, theirs in _THEIRS:
        if isinstance(error, ours):
            return theirs
    if isinstance(error, ConnectionLostError) and not isinstance(error.__cause__, OSError):
        return "RemoteProtocolError"  # as httpcore: an end in good order, where an answer was due
    return "WriteError" if error.phase is Phase.SEND else "ReadError"


@functools.lru_cache(maxsize=64)
def _timeout(connect: float | None, read: float | None, write: float | None, pool: float | None) -> Timeout:
    def limit(seconds: float | None) -> float | None:
        return None if seconds is None else max(seconds, 1e-6)  # theirs may be 0: at once

    return Timeout(connect=limit(connect), read=limit(read), write=limit(write), pool=limit(pool))


class Engine:
    """What both ``EngineTransport`` are; the arguments are those of :class:`~anyio_client.HTTPTransport`.

    It retries nothing and follows nothing: that is their client's. Their extensions ``timeout`` and ``sni_hostname`` are
    honoured; ``trace``, ``target`` and ``network_stream`` are not there.
    """

    _lib: ClassVar[Any]
    _stream_class: ClassVar[Any]

    def __init__(self, **arguments: Any) -> None:
        self._transport = HTTPTransport(**arguments)

    @property
    def transport(self) -> HTTPTransport:
        """Ours."""
        return self._transport

    async def handle_async_request(self, request: Any) -> Any:
        lib = self._lib
        limits: Mapping[str, Any] = request.extensions.get("timeout") or {}
        timeout = _timeout(*(limits.get(name) for name in ("connect", "read", "write", "pool")))
        try:
            made = self._make_request(request)
            response = await self._transport.send(made, timeout=timeout, deadline=None)
        except APIConnectionError as exc:
            raise self.translate(exc, request) from exc
        except ValueError as exc:
            raise lib.LocalProtocolError(str(exc), request=request) from exc
        return lib.Response(
            response.status_code,
            headers=response.headers.raw,
            stream=self._stream_class(self, response, request),
            extensions={"http_version": response.http_version.encode("ascii")},
        )

    def _make_request(self, request: Any) -> Request:
        lib, url = self._lib, request.url
        if url.scheme not in ("http", "https"):
            raise lib.UnsupportedProtocol(f"the scheme {url.scheme!r} is not supported", request=request)
        path, mark, query = url.raw_path.decode("ascii").partition("?")
        netloc = url.netloc.decode("ascii")
        target = URL(f"{url.scheme}://{netloc}").replace(path=path, query=query if mark else "", userinfo=False)
        headers = Headers.from_wire(request.headers.raw)
        if headers.get("transfer-encoding", "").lower() == "chunked":
            del headers["transfer-encoding"]  # how the body is framed is the protocol's affair
        if mark and not query:
            target = target.replace(path=path + "?")  # byte for byte, as theirs
        made = Request(request.method, target, headers=headers)
        # What they allow in a head and we do not is refused here, before anything is sent.
        Headers(headers.multi_items())
        try:
            made.body = request.content
        except lib.RequestNotRead:
            stream: Any = request.stream
            if not isinstance(stream, AsyncIterable):
                raise RuntimeError("an AsyncClient needs a body that can be iterated over with `async for`") from None
            declared = headers.get("content-length", "")
            length = int(declared) if declared.isascii() and declared.isdigit() else None
            made.body = StreamedBody(cast("AsyncIterable[bytes]", stream), replayable=False, length=length)
        made.server_name = request.extensions.get("sni_hostname")
        return made

    def translate(self, error: APIConnectionError, request: Any) -> Exception:
        """Their exception for ours."""
        theirs: type[Exception] = getattr(self._lib, _their_name(error))
        return theirs(error.message, request=request)  # type: ignore[call-arg]

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()


class EngineStream:
    """The body of a response, as they read it: the bytes as they came, content codings not undone."""

    def __init__(self, engine: Engine, response: Response, request: Any) -> None:
        self._engine = engine
        self._response = response
        self._request = request
        self._pieces = response.iter_raw()

    def __aiter__(self) -> Self:  # they ask for it twice
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except APIConnectionError as exc:
            raise self._engine.translate(exc, self._request) from exc

    async def aclose(self) -> None:
        await self._response.aclose()


# --- their clients under ours ----------------------------------------------------------------------------------------


class Client:
    """What both ``HTTPXTransport`` are: an ``AsyncClient`` of theirs as a :class:`~anyio_client.Transport`.

    Their client's connections, proxies, event hooks and cookies are used, its headers lie below ours, and its ``auth`` counts
    where a request has no Authorization of its own. Redirects and retries are ours. ``aclose`` closes their client.
    """

    _lib: ClassVar[Any]
    keeps_deadline = False

    def __init__(self, client: Any) -> None:
        if not isinstance(client, self._lib.AsyncClient):
            name = self._lib.__name__
            raise TypeError(f"HTTPXTransport takes an {name}.AsyncClient, not {type(client).__name__}")
        self._client = client
        self._closed = False

    @property
    def timeout(self) -> Timeout:
        """Their client's, if it is not the one that they have by default."""
        theirs = self._client.timeout
        if theirs == self._lib.Timeout(5.0):
            return DEFAULT_TIMEOUT
        return _timeout(theirs.connect, theirs.read, theirs.write, theirs.pool)

    async def send(self, request: Request, *, timeout: Timeout, deadline: float | None) -> Response:
        lib, client = self._lib, self._client
        content = request.body if isinstance(request.body, bytes) else _Body(request.body)
        try:
            made = client.build_request(
                request.method,
                lib.URL(request.url.origin).copy_with(raw_path=request.url.target.encode("ascii")),
                headers=request.headers.raw,
                content=content or None,
                timeout=lib.Timeout(connect=timeout.connect, read=timeout.read, write=timeout.write, pool=timeout.pool),
            )
            auth: dict[str, Any] = {"auth": None} if "authorization" in request.headers else {}
            answer = await client.send(made, stream=True, follow_redirects=False, **auth)
        except lib.UnsupportedProtocol as exc:
            raise ValueError(str(exc)) from exc
        except (lib.RequestError, RuntimeError) as exc:
            if isinstance(content, _Body) and exc is content.error:
                raise  # of the caller's own
            if self._closed:
                raise client_closed(request) from exc
            if not isinstance(exc, lib.RequestError):
                raise
            raise self.translate(exc, request, Phase.RECEIVE, Outcome.UNKNOWN) from exc
        finally:
            if isinstance(content, _Body):
                await content.aclose()
        headers = Headers.from_wire(answer.headers.raw)
        head = ResponseHead(answer.status_code, headers, answer.http_version)
        if answer.is_stream_consumed:  # an event hook of theirs has read it, and undone its codings
            for name in ("content-encoding", "content-length"):
                headers.pop(name, None)
            return Response.from_wire(head, ReadBody(answer.content), request)
        return Response.from_wire(head, _ClientBody(self, answer, request), request)

    def translate(self, error: Any, request: Request, phase: Phase, outcome: Outcome) -> APIConnectionError:
        """Our error for theirs. ``phase`` and ``outcome``: where their exception does not say more."""
        lib = self._lib
        table: tuple[tuple[Any, type[APIConnectionError], Phase, Outcome], ...] = (
            (lib.ConnectTimeout, ConnectTimeoutError, Phase.CONNECT, Outcome.NOT_SENT),
            (lib.PoolTimeout, PoolTimeoutError, Phase.POOL, Outcome.NOT_SENT),
            (lib.ReadTimeout, ReadTimeoutError, phase, outcome),
            (lib.WriteTimeout, WriteTimeoutError, Phase.SEND, outcome),
            (lib.ProxyError, ProxyError, Phase.PROXY, Outcome.NOT_SENT),
            (lib.ConnectError, ConnectError, Phase.CONNECT, Outcome.NOT_SENT),
            (lib.RemoteProtocolError, _remote_class(error), phase, outcome),
            (lib.LocalProtocolError, LocalProtocolError, phase, outcome),
            (lib.DecodingError, ContentDecodingError, phase, outcome),
            (lib.NetworkError, ConnectionLostError, phase, outcome),
        )
        message = str(error) or type(error).__name__
        for theirs, ours, when, what in table:
            if isinstance(error, theirs):
                tls = _ssl_error(error) if ours is ConnectError else None
                if tls is not None:
                    made: APIConnectionError = TLSError(message, request=request, phase=Phase.TLS, outcome=what)
                    made.retryable = not isinstance(tls, ssl.SSLCertVerificationError)
                else:
                    made = ours(message, request=request, phase=when, outcome=what)
                return made
        return APIConnectionError(message, request=request, phase=phase, outcome=outcome)

    async def aclose(self) -> None:
        self._closed = True
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def _remote_class(error: Exception) -> type[APIConnectionError]:
    """Theirs is one class for an early end and for what is no HTTP."""
    early = "disconnected" in str(error) or "closed connection" in str(error)
    return ConnectionLostError if early else RemoteProtocolError


def _ssl_error(error: BaseException | None) -> ssl.SSLError | None:
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, ssl.SSLError):
            return error
        error, seen = error.__cause__ or error.__context__, seen + 1
    return None


class _Body:
    """A body of ours for their client, which may ask for it again; ``error``: what the caller's own iterator raised."""

    def __init__(self, body: StreamedBody) -> None:
        self._body = body
        self._opened: list[_BodyPieces] = []
        self.error: Exception | None = None

    def __aiter__(self) -> _BodyPieces:
        try:
            pieces = _BodyPieces(self, self._body.open())
        except Exception as exc:  # it cannot be sent again
            self.error = exc
            raise
        self._opened.append(pieces)
        return pieces

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + 1.0):
            for pieces in self._opened:
                await pieces.aclose()


class _BodyPieces(AsyncPieces):
    """The pieces for one send; what the caller's iterator raises is noted, since it is not theirs to translate."""

    __slots__ = ("_whole",)

    def __init__(self, whole: _Body, pieces: Pieces) -> None:
        super().__init__(pieces)
        self._whole = whole

    async def __anext__(self) -> bytes:
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            raise
        except Exception as exc:
            if isinstance(exc, APIConnectionError):
                exc.retryable = False
            self._whole.error = exc
            raise


class _ClientBody:
    """The body of an answer of theirs, as it came."""

    def __init__(self, transport: Client, answer: Any, request: Request) -> None:
        self._transport = transport
        self._answer = answer
        self._request = request
        self._pieces = answer.aiter_raw()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece: bytes = await anext(self._pieces)
            return piece
        except self._transport._lib.RequestError as exc:
            raise self._transport.translate(exc, self._request, Phase.BODY, Outcome.ANSWERED) from exc

    async def aclose(self) -> None:
        await self._pieces.aclose()  # theirs is a generator
        await self._answer.aclose()
