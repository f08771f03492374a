"""Our own connections."""

from __future__ import annotations

import ssl
import warnings
from types import TracebackType
from typing import Self

import anyio.lowlevel

from .._core.build import frame
from .._io.body import BodyStream
from .._io.clock import Clock
from .._io.connect import Connector
from .._io.connection import KeepAlive
from .._io.exchange import Exchange
from .._io.pool import ConnectionPool
from .._io.response import Response
from .._io.tls import make_context
from .._model.request import Request
from .._model.timeouts import DEFAULT_LIMITS, DEFAULT_TIMEOUT, Limits, Timeout, check_seconds
from .._model.url import refuse_scheme

__all__ = ["HTTPTransport"]


class _Context:
    """The user's SSLContext, or one of our own, made when it is first needed (it costs milliseconds)."""

    def __init__(self, given: ssl.SSLContext | None, alpn: list[str]) -> None:
        self._context = given
        self._alpn = alpn

    def __call__(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = make_context(self._alpn)
        return self._context


class HTTPTransport:
    """HTTP/1.1 and HTTP/2 over TCP and TLS, with a pool of connections; nothing runs in the background.

    ``limits``: see :class:`Limits`. ``tls``: an ``ssl.SSLContext``, which is never changed; by default one is made with
    the platform's trust store, TLS 1.2 and later. May be used without ``async with``; ``aclose`` may be called twice.

    ``http1``, ``http2``: what may be spoken. With both (the default) https:// speaks what the server prefers (ALPN, RFC
    7301) and http:// HTTP/1.1; ``http1=False`` on http:// is HTTP/2 with prior knowledge (RFC 9113 section 3.3). The ALPN
    list of a context of your own is yours.

    ``ping_interval``: seconds of silence after which somebody who waits on an HTTP/2 connection sends a PING, and an idle
    one is asked before it is used again; None (the default) never asks. Without an answer within ``ping_timeout``
    seconds (None: no limit) the connection is lost.
    """

    keeps_deadline = True
    timeout: Timeout = DEFAULT_TIMEOUT

    def __init__(
        self,
        *,
        limits: Limits = DEFAULT_LIMITS,
        http1: bool = True,
        http2: bool = True,
        tls: ssl.SSLContext | None = None,
        proxy: object = None,
        uds: object = None,
        local_address: object = None,
        socket_options: object = None,
        trust_env: bool = True,
        ping_interval: float | None = None,
        ping_timeout: float | None = 10.0,
    ) -> None:
        if not isinstance(limits, Limits):
            raise TypeError(f"limits must be a Limits, not {type(limits).__name__}")
        if tls is not None and not isinstance(tls, ssl.SSLContext):
            raise TypeError(f"tls must be an ssl.SSLContext, not {type(tls).__name__}")
        if not http1 and not http2:
            raise ValueError("http1=False and http2=False leave nothing to speak")
        interval = check_seconds("ping_interval", ping_interval)
        patience = check_seconds("ping_timeout", ping_timeout)
        later = {"proxy": proxy, "uds": uds, "local_address": local_address, "socket_options": socket_options}
        for name, value in later.items():
            if value is not None:
                raise ValueError(f"{name}= is not supported yet by this version of HTTPTransport")
        context = _Context(tls, ["h2"] * http2 + ["http/1.1"] * http1)
        connector = Connector(context, http1=http1, http2=http2)
        keepalive = None if interval is None else KeepAlive(interval, patience)
        self._pool = ConnectionPool(connector, limits, keepalive)
        self._used = False
        self._closed = False

    @property
    def pool(self) -> ConnectionPool:
        return self._pool

    async def send(self, request: Request, *, timeout: Timeout, deadline: float | None) -> Response:
        """Send *request*, return its response with the body unread. See :class:`Transport`."""
        if self._closed:
            raise RuntimeError("this HTTPTransport has been closed")
        url = request.url
        if url.scheme != "http" and url.scheme != "https":
            refuse_scheme(url)
        frame(request)
        self._used = True
        clock = Clock(request, timeout, deadline)
        if clock.began >= clock.deadline:
            raise clock.timeout_error()
        with clock:
            connection = await self._pool.acquire(url, clock)
            clock.timings.reused = connection.used
            exchange = Exchange(connection, clock)
            head = await exchange.start(request)
        return Response.from_wire(head, BodyStream(exchange, clock, self._pool), request, clock.timings)

    async def aclose(self) -> None:
        """Close every connection; requests under way end with APIConnectionError."""
        self._closed = True
        self._pool.close()
        await anyio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        await anyio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<HTTPTransport {'closed' if self._closed else f'{self._pool.open_count} connections'}>"

    def __del__(self) -> None:
        if getattr(self, "_used", False) and not self._closed and self._pool.open_count:
            warnings.warn("an HTTPTransport was dropped without aclose()", ResourceWarning, source=self, stacklevel=2)
            self._pool.close()
