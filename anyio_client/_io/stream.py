"""A TCP or Unix socket as a stream of bytes.

Plain non-blocking sockets, and anyio only to wait for them: what the kernel took is known to the byte (so that
``not_sent`` is a fact and not a guess), a wait can be cancelled anywhere without losing data, what has arrived can be
read without waiting, and closing is synchronous, so that no cancellation can lose it.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import anyio
import anyio.lowlevel

__all__ = ["READ_SIZE", "Nudged", "SocketStream", "Stream", "StreamClosed"]

READ_SIZE = 64 * 1024  # what one read asks for; the kernel rarely has more ready on one connection


class StreamClosed(OSError):
    """This stream was closed on our side, perhaps by another task."""


class Nudged(Exception):
    """Somebody wants whoever waits on the stream to look at it again."""


class Stream(Protocol):
    """What a connection needs of its socket, encrypted or not. Errors of the peer are OSError (ssl.SSLError is one)."""

    def receive_nowait(self) -> bytes | None:
        """What has arrived: bytes, ``b""`` for the end, None for nothing yet."""
        ...

    async def receive(self) -> bytes:
        """Wait for bytes; ``b""`` is the end. Always a checkpoint."""
        ...

    def send_nowait(self, data: bytes) -> None:
        """Hand *data* to the kernel, as much as it takes now. What is left is the stream's to keep: see flush."""
        ...

    @property
    def unsent(self) -> int:
        """How many bytes the stream still keeps."""
        ...

    async def flush(self) -> None:
        """Wait until at least some of the kept bytes are with the kernel. Always a checkpoint."""
        ...

    @property
    def sent(self) -> int:
        """How many bytes of what was sent the kernel has taken."""
        ...

    def nudge(self) -> None:
        """Let the task that waits in ``receive`` get :class:`Nudged`; nothing is lost. Without one, nothing happens."""
        ...

    def close(self) -> None: ...


class SocketStream:
    """See :class:`Stream`. The socket is connected and non-blocking."""

    __slots__ = ("_backend", "_closed", "_kept", "_sock", "sent")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._backend: Any = anyio.lowlevel.current_token().backend_class  # which anyio would look for at each wait
        self._kept = bytearray()
        self._closed = False
        self.sent = 0

    @property
    def socket(self) -> socket.socket:
        return self._sock

    def receive_nowait(self) -> bytes | None:
        if self._closed:
            raise StreamClosed("the connection was closed")
        try:
            return self._sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return None

    async def receive(self) -> bytes:
        # A peer that always has something ready can keep a cancellation from being delivered by the wait (uvloop).
        backend = self._backend
        await backend.checkpoint_if_cancelled()
        while True:
            if self._closed:
                raise StreamClosed("the connection was closed")
            try:
                await backend.wait_readable(self._sock)
            except anyio.ClosedResourceError:
                if not self._closed:
                    raise Nudged from None
            if self._closed:
                raise StreamClosed("the connection was closed")
            try:
                return self._sock.recv(READ_SIZE)
            except (BlockingIOError, InterruptedError):
                pass

    def send_nowait(self, data: bytes) -> None:
        if self._closed:
            raise StreamClosed("the connection was closed")
        if self._kept:
            self._kept += data
            return
        try:
            taken = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            taken = 0
        self.sent += taken
        if taken < len(data):
            self._kept += memoryview(data)[taken:]

    @property
    def unsent(self) -> int:
        return len(self._kept)

    async def flush(self) -> None:
        await self._backend.checkpoint_if_cancelled()
        while True:
            try:
                await self._wait(self._backend.wait_writable)
            except Nudged:
                continue  # it was meant for whoever reads
            try:
                with memoryview(self._kept) as kept:
                    taken = self._sock.send(kept)
            except (BlockingIOError, InterruptedError):
                continue
            self.sent += taken
            del self._kept[:taken]
            return

    async def _wait(self, wait: Callable[[Any], Awaitable[None]]) -> None:
        if self._closed:
            raise StreamClosed("the connection was closed")
        try:
            await wait(self._sock)
        except anyio.ClosedResourceError:
            if not self._closed:
                raise Nudged from None
        if self._closed:
            raise StreamClosed("the connection was closed")

    def nudge(self) -> None:
        if not self._closed:
            anyio.notify_closing(self._sock)  # ends the wait, and that is all it does

    def close(self) -> None:
        """Close the socket now; a task that waits for it gets :class:`StreamClosed`. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._kept.clear()
        try:
            anyio.notify_closing(self._sock)
        except RuntimeError:
            pass  # collected outside of its loop: nobody waits
        self._sock.close()
