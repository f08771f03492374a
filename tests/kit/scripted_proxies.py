"""Scripted proxies, and the origins behind them: both are the script's, on one connection.

A tunnel's other end is an :class:`Inside`, a peer like any other, after a TLS handshake of its own.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any

from anyio_client import TLS, AsyncAPIClient, HTTPTransport, ProxyError, RetryPolicy

from .certs import ServerEnd, made, server_context
from .peers import Peer, Script, ScriptedServer, answer_each, ok

__all__ = [
    "CA",
    "ESTABLISHED",
    "PROXY_PASSWORD",
    "PROXY_USER",
    "Inside",
    "client_of",
    "connect_proxy",
    "QUICK",
    "failing",
    "origin_context",
    "refuse",
    "secrets_of",
    "socks_proxy",
]

CA = made().authority.cert_pem.bytes()
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
PROXY_USER, PROXY_PASSWORD = "pr-xy-user", "pr-xy-w0rd"
QUICK = RetryPolicy(wait_initial=0.001)


def origin_context(*alpn: str) -> ssl.SSLContext:
    return server_context(made().good, alpn=alpn)


class Inside(Peer):
    """The origin's end of a tunnel, on whatever the tunnel runs on."""

    def __init__(self, peer: Peer, context: ssl.SSLContext) -> None:
        super().__init__(peer.sock, peer.number, peer.server)
        self.end = ServerEnd(peer, context)
        self.outside = peer
        self.sock: Any = self  # for scripts that read from sockets
        if (error := self.end.handshake()) is not None:
            peer.send(self.end.made())
            raise ConnectionError(f"no TLS inside the tunnel: {error}")

    def receive(self) -> bytes:
        try:
            return self.end.read()
        except (ConnectionError, ssl.SSLZeroReturnError):
            return b""

    def recv(self, size: int) -> bytes:
        return self.receive()

    def settimeout(self, seconds: float) -> None:
        self.outside.sock.settimeout(seconds)

    def send(self, data: bytes) -> None:
        self.end.object.write(data)
        self.outside.send(self.end.made())


ONE = answer_each(ok(b"1"))


def connect_proxy(inside: Script = ONE, context: ssl.SSLContext | None = None, answer: bytes = ESTABLISHED) -> Script:
    """An HTTP proxy: whole requests get ``1``, CONNECT *answer* and then *inside*, by TLS where there is a *context*."""

    def script(peer: Peer) -> None:
        while request := peer.read_request():
            if not request.startswith(b"CONNECT "):
                peer.send(ok(b"1"))
                continue
            peer.send(answer)
            inside(peer if context is None else Inside(peer, context))
            return

    return script


def refuse(peer: Peer) -> None:
    """CONNECT is refused slowly, everything else answered."""
    while request := peer.read_request():
        if not request.startswith(b"CONNECT"):
            peer.send(ok(b"1"))
            continue
        peer.send(b"HTTP/1.1 403 No\r\nContent-Length: 7\r\n\r\nbec")
        peer.server.pause(0.003)
        peer.send(b"ause")
        return


def socks_proxy(
    inside: Script = ONE,
    context: ssl.SSLContext | None = None,
    reply: bytes = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00",
    credentials: bool = False,
) -> Script:
    """A SOCKS proxy. Its requests are the three messages of the client's, and then those inside the tunnel."""

    def take(peer: Peer, size: int) -> bytes:
        while len(peer.buffer) < size:
            data = peer.receive()
            if not data:
                raise ConnectionError
            peer.buffer += data
        taken, peer.buffer = peer.buffer[:size], peer.buffer[size:]
        return taken

    def script(peer: Peer) -> None:
        start = take(peer, 2)
        peer.server.requests.append(start + take(peer, start[1]))
        peer.send(b"\x05\x02" if credentials else b"\x05\x00")
        if credentials:
            user = take(peer, 2)
            user += take(peer, user[1] + 1)
            peer.server.requests.append(user + take(peer, user[-1]))
            peer.send(b"\x01\x00")
        request = take(peer, 5)
        size = {1: 3, 3: request[4], 4: 15}[request[3]]
        peer.server.requests.append(request + take(peer, size + 2))
        peer.send(reply)
        inside(peer if context is None else Inside(peer, context))

    return script


def failing(answer: Callable[[Peer], None]) -> Script:
    """A proxy that reads one request and then does *answer*."""

    def script(peer: Peer) -> None:
        if peer.read_request():
            answer(peer)

    return script


def client_of(
    proxy: ScriptedServer | Mapping[str, Any] | str,
    base: str = "https://localhost",
    *,
    userinfo: str = "",
    scheme: str = "",
    transport: Mapping[str, Any] | None = None,
    **options: Any,
) -> AsyncAPIClient:
    """A client whose requests go through *proxy*; *transport* are more arguments of its HTTPTransport."""
    if isinstance(proxy, ScriptedServer):
        proxy = f"{scheme or proxy.url.partition(':')[0]}://{userinfo}localhost:{proxy.port}"
    made = HTTPTransport(**{"proxy": proxy, "tls": TLS(ca=CA), **(transport or {})})
    return AsyncAPIClient(base_url=base, http_client=made, **{"retry": QUICK, "timeout": 10.0, **options})


def secrets_of(error: ProxyError) -> str:
    """All that an error tells a reader of logs."""
    return f"{error!r} {error} {error.story} {error.response!r} {error.__cause__!r}"
