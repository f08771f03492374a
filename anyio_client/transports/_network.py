"""Our own connections."""

from __future__ import annotations

import os
import ssl
import warnings
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import anyio
import anyio.lowlevel

from .._core.build import frame
from .._core.routes import ProxyInput, Route, Routes
from .._io.body import make_body
from .._io.clock import Clock
from .._io.connect import Connector, Encryption
from .._io.connection import KeepAlive
from .._io.dial import Dialer, Resolver, SocketOption
from .._io.event_loop import EventLoop
from .._io.exchange import Exchange
from .._io.pool import ConnectionPool
from .._io.response import Response
from .._io.tls_options import TLS
from .._model.errors import Outcome, Phase, ProxyAnswer, ProxyError
from .._model.options import check_bool
from .._model.request import Request
from .._model.snapshot import Snapshot
from .._model.timeouts import DEFAULT_LIMITS, DEFAULT_TIMEOUT, Limits, Timeout, check_seconds
from .._model.url import refuse_scheme
from .._wire.tunnel import MAX_ANSWER_SIZE, MAX_ANSWER_TIME, WANTS_CREDENTIALS

__all__ = ["HTTPTransport"]


class HTTPTransport:
    """HTTP/1.1 and HTTP/2 over TCP and TLS, with a pool of connections; nothing runs in the background.

    ``limits``: see :class:`Limits`. ``tls``: :class:`TLS`, or an ``ssl.SSLContext``, which is never changed; by default the
    platform's trust store, TLS 1.2 and later. May be used without ``async with``; ``aclose`` may be called twice.

    ``http1``, ``http2``: what may be spoken. With both (the default) https:// speaks what the server prefers (ALPN, RFC
    7301) and http:// HTTP/1.1; ``http1=False`` on http:// is HTTP/2 with prior knowledge (RFC 9113 section 3.3). The ALPN
    list of a context of your own is yours.

    ``ping_interval``: seconds of silence after which somebody who waits on an HTTP/2 connection sends a PING, and an idle
    one is asked before it is used again; None (the default) never asks. Without an answer within ``ping_timeout``
    seconds (None: no limit) the connection is lost.

    ``proxy``: the URL of a proxy (``http://``, ``https://``, ``socks5://``, ``socks5h://``; its userinfo are the credentials), or a
    mapping of origins to such URLs (None: straight there). Without it, ``trust_env`` lets the environment say: ``http_proxy``,
    ``https_proxy``, ``all_proxy``, ``no_proxy``, read now. ``proxy_tls``: as ``tls``, for a proxy that is spoken to by TLS.

    ``uds``: the path of a Unix socket that all connections go to. ``local_address``: the IP address that they come from.
    ``socket_options``: ``(level, option, value)``, set on each socket. ``resolver``: an async function ``(host, port) -> IP
    addresses``, in place of the system's. Wrong values are a TypeError or ValueError at construction.
    """

    keeps_deadline = True
    timeout: Timeout = DEFAULT_TIMEOUT

    def __init__(
        self,
        *,
        limits: Limits = DEFAULT_LIMITS,
        http1: bool = True,
        http2: bool = True,
        tls: ssl.SSLContext | TLS | None = None,
        proxy: ProxyInput = None,
        uds: str | bytes | os.PathLike[str] | None = None,
        local_address: str | None = None,
        socket_options: Sequence[SocketOption] | None = None,
        trust_env: bool = True,
        proxy_tls: ssl.SSLContext | TLS | None = None,
        resolver: Resolver | None = None,
        ping_interval: float | None = None,
        ping_timeout: float | None = 10.0,
    ) -> None:
        if not isinstance(limits, Limits):
            kind = f"{type(limits).__module__}.{type(limits).__name__}".removeprefix("builtins.")
            raise TypeError(f"limits must be an anyio_client.Limits, not {kind}")
        for name, flag in (("http1", http1), ("http2", http2), ("trust_env", trust_env)):
            check_bool(name, flag)
        for name, value in (("tls", tls), ("proxy_tls", proxy_tls)):
            if value is not None and not isinstance(value, ssl.SSLContext | TLS):
                raise TypeError(f"{name} must be an ssl.SSLContext or a TLS, not {type(value).__name__}")
            if isinstance(value, ssl.SSLContext) and value.protocol == ssl.PROTOCOL_TLS_SERVER:
                raise ValueError(f"{name}: this SSLContext is a server's (PROTOCOL_TLS_SERVER)")
        if not http1 and not http2:
            raise ValueError("http1=False and http2=False leave nothing to speak")
        interval = check_seconds("ping_interval", ping_interval)
        patience = check_seconds("ping_timeout", ping_timeout)
        if uds is not None and proxy is not None:
            raise ValueError("uds= and proxy= exclude each other")
        if proxy is not None:
            self._routes = Routes.of(proxy, forwards=http1)
        elif trust_env and uds is None:
            self._routes = Routes.from_environment(os.environ, forwards=http1)
        else:
            self._routes = Routes(forwards=http1)
        if proxy_tls is None and isinstance(tls, TLS):
            proxy_tls = tls.for_proxy
        connector = Connector(
            Encryption(tls, ["h2"] * http2 + ["http/1.1"] * http1),
            Encryption(proxy_tls, ["http/1.1"]),
            Dialer(uds, local_address, socket_options, resolver),
            http1=http1,
            http2=http2,
        )
        keepalive = None if interval is None else KeepAlive(interval, patience)
        self._make_pool: Callable[[], ConnectionPool] = lambda: ConnectionPool(connector, limits, keepalive)
        self._pool = self._make_pool()
        self._closed = False
        self._loop: EventLoop | None = None  # that of the first send

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
        routes = self._routes
        route = routes.find(url, request.server_name)
        frame(request, route.host_field)
        if routes.has_proxies and not route.is_forwarded and "proxy-authorization" in request.headers:
            raise ValueError("Proxy-Authorization would reach the origin: give the credentials in the URL of proxy=")
        loop = self._loop
        if loop is None or not loop.is_running:
            loop = self._begin_in_this_loop()
        clock = Clock(request, timeout, deadline, loop)
        if clock.began >= clock.deadline:
            raise clock.timeout_error()
        now = clock.began
        connection = self._pool.acquire_nowait(route, clock)
        if connection is None:
            with clock:
                connection = await self._pool.acquire(route, clock)
            now = clock.now()
        clock.timings.reused = connection.used
        exchange = Exchange(connection, clock)
        exchange.begin(request, now)
        head = await exchange.head()
        now = clock.now()
        exchange.note_answer(now)
        response = Response.from_wire(head, make_body(exchange, clock, self._pool, now), request, clock.timings)
        if route.is_forwarded and head.status_code == 407:
            raise await _refused(response, route, clock)
        return response

    def _begin_in_this_loop(self) -> EventLoop:
        """The event loop of this and further sends. What an earlier one has left is closed; RuntimeError where it is in use."""
        if self._loop is not None:
            if self._pool.is_busy:
                raise RuntimeError("this HTTPTransport is in use in another event loop (or thread): make one for each")
            self._pool.close()
            self._pool = self._make_pool()
        loop = self._loop = EventLoop()
        return loop

    def snapshot(self) -> Snapshot:
        """What each connection, and each send that waits for one, is doing now."""
        return Snapshot() if self._loop is None else self._pool.snapshot(anyio.current_time())

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
        if getattr(self, "_loop", None) is not None and not self._closed and self._pool.open_count:
            warnings.warn("an HTTPTransport was dropped without aclose()", ResourceWarning, source=self, stacklevel=2)
            self._pool.close()


async def _refused(response: Response, route: Route, clock: Clock) -> ProxyError:
    """The error for a proxy that wants other credentials, or any: it has passed nothing on."""
    with anyio.move_on_after(MAX_ANSWER_TIME):
        await response.read_at_most(MAX_ANSWER_SIZE)
    await response.dispose()
    assert route.proxy is not None  # there is none to be refused by
    why = WANTS_CREDENTIALS if route.proxy.authorization is None else "it refused the user and the password"
    message = f"The proxy {route.proxy.url.origin} passed nothing on: it answered with status 407; {why}."
    error = ProxyError(message, request=clock.request, phase=Phase.PROXY, outcome=Outcome.NOT_SENT)
    head = response.head
    error.status_code, error.retryable = head.status_code, False
    content = response.content if response.is_read else b""
    error.response = ProxyAnswer(head.status_code, head.headers, head.http_version, content, clock.request)
    return error
