"""Making connections: names, TCP with Happy Eyeballs (RFC 8305, as anyio does it), TLS."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable
from typing import TypeAlias

import anyio

from .._model.errors import ConnectError, Outcome, Phase, TLSError
from .._model.url import URL
from .clock import Clock
from .stream import SocketStream, Stream
from .tls import TLSStream

__all__ = ["Connector"]

HAPPY_EYEBALLS_DELAY = 0.25  # RFC 8305 section 5

Address: TypeAlias = "tuple[int, tuple[str, int] | tuple[str, int, int, int]]"

# After 60 s of silence ask the kernel to probe every 60 s, and give up after 5: NATs forget connections after minutes.
_KEEPALIVE = [
    (socket.IPPROTO_TCP, number, value)
    for name, value in (
        ("TCP_KEEPIDLE", 60),
        ("TCP_KEEPALIVE", 60),
        ("TCP_KEEPINTVL", 60),
        ("TCP_KEEPCNT", 5),
    )
    if (number := getattr(socket, name, None)) is not None
]


async def _resolve(host: str, port: int) -> list[Address]:
    """The addresses of *host*, families taking turns, the resolver's first choice first (RFC 8305 section 4)."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    else:
        if "%" not in host:
            return [(socket.AF_INET6 if address.version == 6 else socket.AF_INET, (host, port))]
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    by_family: dict[int, list[Address]] = {}
    for family, _, _, _, address_found in found:
        by_family.setdefault(family, []).append((family, address_found))
    queues = list(by_family.values())
    return [queue[i] for i in range(max(map(len, queues), default=0)) for queue in queues if i < len(queue)]


async def _connect_one(address: Address) -> socket.socket:
    """One TCP connection. OSError where it fails. The socket is closed if this is cancelled."""
    family, target = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for level, name, value in _KEEPALIVE:
            sock.setsockopt(level, name, value)
        error = sock.connect_ex(target)
        if error in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR):
            await anyio.wait_writable(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        return sock
    except BaseException:
        sock.close()
        raise


async def _connect_any(addresses: list[Address]) -> socket.socket:
    """The first of several connections to be made, a new one being tried every 0.25 s or when one has failed."""
    errors: list[OSError] = []
    winners: list[socket.socket] = []

    async def attempt(address: Address, over: anyio.Event) -> None:
        try:
            winners.append(await _connect_one(address))
            group.cancel_scope.cancel()
        except OSError as exc:
            errors.append(exc)
        finally:
            over.set()

    try:
        async with anyio.create_task_group() as group:
            for address in addresses:
                over = anyio.Event()
                group.start_soon(attempt, address, over)
                with anyio.move_on_after(HAPPY_EYEBALLS_DELAY):
                    await over.wait()
    except BaseException:
        for sock in winners:
            sock.close()
        raise
    for loser in winners[1:]:
        loser.close()
    if winners:
        return winners[0]
    raise errors[0]


class Connector:
    """Makes connections for one transport. ``context`` gives the SSLContext (made once, when first needed).

    Which version of HTTP is spoken: over TLS what ALPN agrees on (RFC 7301); on a plain socket HTTP/1.1, or HTTP/2 with
    prior knowledge (RFC 9113 section 3.3) where HTTP/1.1 is switched off.
    """

    def __init__(self, context: Callable[[], ssl.SSLContext], *, http1: bool = True, http2: bool = False) -> None:
        self._context = context
        self._http1 = http1
        self._http2 = http2

    def may_share(self, url: URL) -> bool:
        """Whether a connection to the origin of *url* may turn out to carry several exchanges at once."""
        return self._http2 and (url.scheme == "https" or not self._http1)

    async def connect(self, url: URL, clock: Clock) -> tuple[Stream, str]:
        """A stream to the origin of *url*, TLS done, and what to speak on it by its ALPN name (``h2``, ``http/1.1``).

        ConnectError or TLSError where that fails (outcome not_sent).
        """
        began = clock.now()
        clock.allow(Phase.CONNECT, clock.timeout.connect)
        try:
            addresses = await _resolve(url.host, url.port)
            if not addresses:
                raise OSError(f"the name {url.host} has no address")
            sock = await (_connect_one(addresses[0]) if len(addresses) == 1 else _connect_any(addresses))
        except (OSError, UnicodeError) as exc:
            message = f"Cannot connect to {url.netloc}: {exc}"
            raise ConnectError(message, request=clock.request, phase=Phase.CONNECT, outcome=Outcome.NOT_SENT) from exc
        stream = SocketStream(sock)
        clock.timings.connect = clock.now() - began
        if url.scheme != "https":
            return stream, "http/1.1" if self._http1 else "h2"
        try:
            encrypted = await self._start_tls(stream, url, clock)
            return encrypted, self._agreed(encrypted, url, clock)
        except BaseException:
            stream.close()
            raise

    async def _start_tls(self, below: SocketStream, url: URL, clock: Clock) -> TLSStream:
        began = clock.now()
        clock.phase = Phase.TLS  # the limit for connecting goes on
        stream = TLSStream(below, self._context(), url.host)
        try:
            await stream.handshake()
        except OSError as exc:
            reason = exc.verify_message if isinstance(exc, ssl.SSLCertVerificationError) else str(exc)
            message = f"The TLS handshake with {url.netloc} failed: {reason}"
            refused = "no application protocol" in str(exc)
            if refused:
                message += ". It speaks none of the protocols that were offered (ALPN); http1=False offers HTTP/2 only"
            error = TLSError(message, request=clock.request, phase=Phase.TLS, outcome=Outcome.NOT_SENT)
            error.retryable = not (refused or isinstance(exc, ssl.SSLCertVerificationError))
            raise error from exc
        clock.timings.tls = clock.now() - began
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
