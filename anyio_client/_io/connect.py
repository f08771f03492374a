"""Making connections: the socket, the way through a proxy, TLS, and what to speak then."""

from __future__ import annotations

import ssl

import anyio

from .._core.routes import Proxy, Route
from .._model.errors import ConnectError, Outcome, Phase, ProxyAnswer, ProxyError, TLSError
from .._model.url import URL
from .._wire.tunnel import MAX_ANSWER_TIME, ConnectHandshake, Handshake, ProxyRefused, SocksHandshake
from .clock import Clock
from .dial import Dialer
from .stream import SocketStream, Stream, make_stream
from .tls import Sessions, TLSStream
from .tls_options import TLS, default_context, explain, is_final

__all__ = ["Connector", "Encryption"]


class Encryption:
    """The TLS of one kind of peer: its context, made when it is first needed, and its sessions.

    ``given``: an ``ssl.SSLContext`` of the user's, which is never changed, or :class:`TLS`, or None. ``alpn``: what is offered
    (RFC 7301), if the context is ours.
    """

    def __init__(self, given: ssl.SSLContext | TLS | None, alpn: list[str]) -> None:
        self.options: TLS = given if isinstance(given, TLS) else TLS()
        self.sessions: Sessions = Sessions()
        self._alpn = alpn
        self._given = given
        self._context = given if isinstance(given, ssl.SSLContext) else None

    @property
    def context(self) -> ssl.SSLContext:
        if self._context is None:
            is_default = self._given is None
            self._context = default_context(self._alpn) if is_default else self.options.make_context(self._alpn)
        return self._context


class Connector:
    """Makes connections for one transport.

    Which version of HTTP is spoken: over TLS what ALPN agrees on (RFC 7301); on a plain socket HTTP/1.1, or HTTP/2 with
    prior knowledge (RFC 9113 section 3.3) where HTTP/1.1 is switched off.
    """

    def __init__(
        self,
        encryption: Encryption,
        proxy_encryption: Encryption,
        dialer: Dialer,
        *,
        http1: bool = True,
        http2: bool = False,
    ) -> None:
        self._encryption = encryption
        self._proxy_encryption = proxy_encryption
        self._dialer = dialer
        self._http1 = http1
        self._http2 = http2

    def may_share(self, route: Route) -> bool:
        """Whether a connection on this way may turn out to carry several exchanges at once."""
        return self._http2 and not route.is_forwarded and (route.url.scheme == "https" or not self._http1)

    async def connect(self, route: Route, clock: Clock) -> tuple[Stream, str]:
        """A stream to the origin of *route*, TLS done, and what to speak on it by its ALPN name (``h2``, ``http/1.1``).

        ConnectError, ProxyError or TLSError where that fails (outcome not_sent).
        """
        clock.allow(Phase.CONNECT, clock.timeout.connect)
        url, proxy = route.url, route.proxy
        stream: Stream = await (self._dial(url, clock) if proxy is None else self._dial_proxy(proxy, clock))
        if route.is_forwarded:
            return stream, "http/1.1"
        try:
            if proxy is not None:
                await self._tunnel(stream, proxy, url, clock)
            if url.scheme != "https":
                return stream, "http/1.1" if self._http1 else "h2"
            encrypted = await self._start_tls(stream, url, self._encryption, clock, route.server_name)
            return encrypted, self._agreed(encrypted, url, clock)
        except BaseException:
            stream.close()
            raise

    # -- sockets

    async def _dial(self, url: URL, clock: Clock) -> SocketStream:
        began = clock.now()
        try:
            sock = await self._dialer.dial(url.host, url.port)
        except OSError as exc:
            message = f"Cannot connect to {url.netloc}: {exc}"
            raise clock.error(ConnectError, message) from exc
        clock.timings.connect = clock.now() - began
        return make_stream(sock, clock.loop)

    async def _dial_proxy(self, proxy: Proxy, clock: Clock) -> Stream:
        clock.phase = Phase.PROXY
        try:
            stream = await self._dial(proxy.url, clock)
        except ConnectError as exc:
            message = f"Cannot connect to the proxy {proxy.url.origin}: {exc.__cause__}"
            raise clock.error(ProxyError, message) from exc.__cause__
        if proxy.url.scheme != "https":
            return stream
        try:
            encrypted = await self._start_tls(stream, proxy.url, self._proxy_encryption, clock, what="the proxy ")
            if encrypted.alpn not in (None, "http/1.1"):
                message = (
                    f"The proxy {proxy.url.origin} chose {encrypted.alpn!r} (ALPN), which we do not speak with proxies."
                )
                error = clock.error(ProxyError, message)
                error.retryable = False
                raise error
            return encrypted
        except BaseException:
            stream.close()
            raise

    # -- proxies

    async def _tunnel(self, stream: Stream, proxy: Proxy, url: URL, clock: Clock) -> None:
        """Let *proxy* open a tunnel to the origin. ProxyError where it does not."""
        clock.phase = Phase.PROXY  # the limit for connecting goes on
        try:
            handshake = await self._make_handshake(proxy, url, clock)
            while not await self._go_on(handshake, stream, clock):
                pass
        except ProxyRefused as exc:
            message = f"The proxy {proxy.url.origin} opened no tunnel to {url.netloc}: {exc}."
            error = clock.error(ProxyError, message)
            error.retryable = exc.retryable
            if exc.head is not None:
                head = exc.head
                error.response = ProxyAnswer(head.status_code, head.headers, head.http_version, exc.body, clock.request)
                error.status_code = head.status_code
            raise error from None
        except OSError as exc:
            message = f"The proxy {proxy.url.origin} was lost before it had opened a tunnel to {url.netloc}: {exc}"
            raise clock.error(ProxyError, message) from exc

    async def _make_handshake(self, proxy: Proxy, url: URL, clock: Clock) -> Handshake:
        host = url.host.partition("%")[0]
        if not proxy.is_socks:
            authority = f"[{host}]:{url.port}" if ":" in host else f"{host}:{url.port}"
            return ConnectHandshake(authority, proxy.authorization)
        if proxy.url.scheme == "socks5":
            try:
                host = (await self._dialer.resolve(url.host, url.port))[0][1][0]
            except OSError as exc:
                raise clock.error(ConnectError, f"Cannot connect to {url.netloc}: {exc}") from exc
        return SocksHandshake(host, url.port, proxy.credentials)

    @staticmethod
    async def _go_on(handshake: Handshake, stream: Stream, clock: Clock) -> bool:
        """Send what the handshake has to say, hear an answer; whether the tunnel is open."""
        output = handshake.take_output()
        if output:
            stream.send_nowait(output)
            while stream.unsent:
                await stream.flush()
        if not handshake.is_refused:
            return handshake.receive(await stream.receive())
        # It is known that it refuses: the limits are not to hide it, nor what happens to the rest of its answer.
        with anyio.move_on_after(min(MAX_ANSWER_TIME, clock.left / 2)):
            try:
                while True:
                    handshake.receive(await stream.receive())
            except OSError:
                pass
        handshake.give_up()
        return False

    # -- TLS

    async def _start_tls(
        self,
        below: Stream,
        url: URL,
        encryption: Encryption,
        clock: Clock,
        server_name: str | None = None,
        what: str = "",
    ) -> TLSStream:
        began = clock.now()
        clock.phase = Phase.TLS  # the limit for connecting goes on
        options = encryption.options
        host = server_name or options.sni or url.host.partition("%")[0]
        stream = TLSStream(below, encryption.context, host, encryption.sessions, f"{url.origin} {host}")
        try:
            await stream.handshake()
        except OSError as exc:
            message = f"The TLS handshake with {what}{url.netloc} failed: {explain(exc, host)}"
            error = clock.error(TLSError, message)
            error.retryable = not is_final(exc)
            raise error from exc
        if not options.accepts(stream.certificate):
            message = f"The certificate of {what}{url.netloc} has none of the fingerprints that were pinned (pins=)"
            error = clock.error(TLSError, message)
            error.retryable = False
            raise error
        clock.timings.tls = (clock.timings.tls or 0.0) + clock.now() - began
        return stream

    def _agreed(self, stream: TLSStream, url: URL, clock: Clock) -> str:
        """What ALPN has agreed on; no agreement means HTTP/1.1. TLSError where that is nothing that may be spoken."""
        chosen = stream.alpn or "http/1.1"
        if (chosen == "h2" and self._http2) or (chosen == "http/1.1" and self._http1):
            return chosen
        if stream.alpn is None:
            message = (
                f"{url.netloc} did not agree to HTTP/2 (ALPN), and http1=False. Either it does not speak it, or the "
                'SSLContext does not offer it: context.set_alpn_protocols(["h2"])'
            )
        elif chosen in ("h2", "http/1.1"):
            message = f"{url.netloc} chose {chosen!r}, which the SSLContext offers and http1= or http2= switches off"
        else:
            message = f"{url.netloc} chose the protocol {chosen!r}, which the SSLContext offers and we do not speak"
        error = TLSError(message, request=clock.request, phase=Phase.TLS, outcome=Outcome.NOT_SENT)
        error.retryable = False
        raise error
