"""Sockets to where a name or a path leads: addresses, TCP with Happy Eyeballs (RFC 8305, as anyio does it), Unix sockets."""

from __future__ import annotations

import errno
import inspect
import ipaddress
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias, cast

import anyio
import anyio.lowlevel

__all__ = ["Dialer", "Resolver", "SocketOption"]

HAPPY_EYEBALLS_DELAY = 0.25  # RFC 8305 section 5
BACKLOG_DELAY = 0.01  # seconds until a Unix socket whose queue is full is tried again
MAX_UNIX_PATH = 107  # bytes, on Linux; 103 elsewhere, where the system says so itself

Address: TypeAlias = "tuple[int, tuple[str, int] | tuple[str, int, int, int]]"
SocketOption: TypeAlias = "tuple[int, int, int | bytes]"
Resolver: TypeAlias = Callable[[str, int], Awaitable[Iterable[str]]]

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


def _check_path(path: object) -> str | bytes | None:
    if path is None:
        return None
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(f"uds= takes the path of a Unix socket, not {type(path).__name__}")
    if not hasattr(socket, "AF_UNIX"):
        raise ValueError("uds=: this system has no Unix sockets")
    plain = os.fspath(cast("str | bytes | os.PathLike[str]", path))
    octets = os.fsencode(plain)
    if not octets or b"\0" in octets[1:]:  # one in front is an abstract name (unix(7))
        raise ValueError("uds= must be the path of a Unix socket")
    if len(octets) > MAX_UNIX_PATH:
        raise ValueError(
            f"uds=: the path of a Unix socket has at most {MAX_UNIX_PATH} bytes, this one has {len(octets)}"
        )
    return plain


def _check_local(address: object) -> tuple[int, str] | None:
    if address is None:
        return None
    if not isinstance(address, str):
        raise TypeError(f"local_address= takes an IP address as text, not {type(address).__name__}")
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        raise ValueError(f"local_address={address!r} is no IP address") from None
    return (socket.AF_INET6 if version == 6 else socket.AF_INET), address


def _check_options(options: object) -> list[SocketOption]:
    if options is None:
        return []
    if isinstance(options, str | bytes) or not isinstance(options, Iterable):
        raise TypeError("socket_options= takes a list of (level, option, value)")
    checked: list[SocketOption] = []
    for option in cast("Iterable[object]", options):
        if not isinstance(option, Sequence) or len(cast("Sequence[object]", option)) != 3:
            raise TypeError("socket_options= takes a list of (level, option, value)")
        level, name, value = cast("Sequence[object]", option)
        if not isinstance(level, int) or not isinstance(name, int) or not isinstance(value, int | bytes):
            raise TypeError("a socket option is (level, option, value): two ints, and an int or bytes")
        if any(isinstance(number, int) and not -(2**31) <= number < 2**31 for number in (level, name, value)):
            raise ValueError("a socket option's numbers have 32 bits")
        checked.append((level, name, value))
    return checked


class Dialer:
    """Makes the sockets of one transport. OSError where that fails.

    ``uds``: every connection goes to this Unix socket. ``local_address``: where connections come from.
    ``socket_options``: set after our own. ``resolver``: ``async (host, port) -> addresses`` in place of the system's.
    """

    def __init__(
        self,
        uds: object = None,
        local_address: object = None,
        socket_options: object = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._path = _check_path(uds)
        self._local = _check_local(local_address)
        self._options = _check_options(socket_options)
        if resolver is not None and not callable(resolver):
            raise TypeError(
                f"resolver= takes an async function (host, port) -> addresses, not {type(resolver).__name__}"
            )
        if uds is not None and local_address is not None:
            raise ValueError("uds= and local_address= exclude each other")
        self._resolver = resolver

    async def dial(self, host: str, port: int) -> socket.socket:
        """A connected, non-blocking socket."""
        if self._path is not None:
            return await self._dial_path(self._path)
        addresses = await self.resolve(host, port)
        if self._local is not None:
            family = self._local[0]
            addresses = [address for address in addresses if address[0] == family]
            if not addresses:
                raise OSError(f"{host} has no address of the family of local_address={self._local[1]}")
        return await (self._dial_one(addresses[0]) if len(addresses) == 1 else self._dial_any(addresses))

    async def resolve(self, host: str, port: int) -> list[Address]:
        """The addresses of *host*, families taking turns, the resolver's first choice first (RFC 8305 section 4)."""
        literal = _literal(host, port)
        if literal is not None:
            return [literal]
        found = await (self._look_up(host, port) if self._resolver is None else self._ask(self._resolver, host, port))
        if not found:
            raise OSError(f"the name {host} has no address")
        by_family: dict[int, list[Address]] = {}
        for address in found:
            by_family.setdefault(address[0], []).append(address)
        queues = list(by_family.values())
        return [queue[i] for i in range(max(map(len, queues))) for queue in queues if i < len(queue)]

    @staticmethod
    async def _look_up(host: str, port: int) -> list[Address]:
        try:
            found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError as exc:
            raise OSError(f"{host!r} is no name: {exc}") from exc
        return [(family, address) for family, _, _, _, address in found]

    @staticmethod
    async def _ask(resolver: Resolver, host: str, port: int) -> list[Address]:
        given: Any = resolver(host, port)
        if not inspect.isawaitable(given):
            raise TypeError("resolver= must be an async function (host, port) -> addresses")
        found: Any = await given
        if isinstance(found, str) or not isinstance(found, Iterable):
            raise TypeError(f"the resolver must return a list of IP addresses, not {type(found).__name__}")
        addresses: list[Address] = []
        for one in cast("Iterable[object]", found):
            address = _literal(str(one), port)
            if address is None:
                raise ValueError(f"the resolver returned {one!r}, which is no IP address")
            addresses.append(address)
        return addresses

    def _prepare(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family != getattr(socket, "AF_UNIX", None):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for level, name, value in _KEEPALIVE:
                sock.setsockopt(level, name, value)
        for level, name, setting in self._options:
            sock.setsockopt(level, name, setting)
        if self._local is not None:
            try:
                sock.bind((self._local[1], 0))
            except OSError as exc:
                reason = f"{exc.strerror} (local_address={self._local[1]!r})"
                raise OSError(exc.errno, reason) from exc

    async def _dial_path(self, path: str | bytes) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._prepare(sock)
            while True:
                error = sock.connect_ex(path)
                if error != errno.EAGAIN:
                    break
                await anyio.sleep(BACKLOG_DELAY)  # its queue is full, and nothing tells when it has room (unix(7))
            if error:
                raise OSError(error, f"{os.strerror(error)} (Unix socket {os.fsdecode(path)!r})")
            await anyio.lowlevel.checkpoint()
            return sock
        except BaseException:
            sock.close()
            raise

    async def _dial_one(self, address: Address) -> socket.socket:
        """One TCP connection. The socket is closed if this is cancelled."""
        family, target = address
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._prepare(sock)
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

    async def _dial_any(self, addresses: list[Address]) -> socket.socket:
        """The first of several connections to be made, a new one being tried every 0.25 s or when one has failed."""
        errors: list[Exception] = []
        winners: list[socket.socket] = []

        async def attempt(address: Address, over: anyio.Event) -> None:
            try:
                winners.append(await self._dial_one(address))
                group.cancel_scope.cancel()
            except Exception as exc:  # none leaves the group, so that none comes out in one
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


def _literal(host: str, port: int) -> Address | None:
    """An IP address as it stands, None for a name, or for an address whose zone must be looked up."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if "%" in host:
        _, _, zone = host.partition("%")
        index = _zone_index(zone)
        return socket.AF_INET6, (host.partition("%")[0], port, 0, index)
    return (socket.AF_INET6 if address.version == 6 else socket.AF_INET), (host, port)


def _zone_index(zone: str) -> int:
    """The number of a network interface (RFC 4007 section 11). OSError where there is none of that name or number."""
    if zone.isascii() and zone.isdigit() and len(zone) <= 10 and 0 < int(zone) < 2**32:
        return int(zone)
    return socket.if_nametoindex(zone)
