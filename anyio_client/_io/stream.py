"""A TCP or Unix socket as a stream of bytes.

Plain non-blocking sockets, and anyio only to wait for them: what the kernel took is known to the byte (so that
``not_sent`` is a fact and not a guess), a wait can be cancelled anywhere without losing data, what has arrived can be
read without waiting, and closing is synchronous, so that no cancellation can lose it.

On asyncio each wait of anyio's registers the socket with the event loop and takes it out again, which costs more than
all else of a small exchange: there the socket stays registered, and is read in the callback.
"""

from __future__ import annotations

import contextvars
import math
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import anyio

from .event_loop import EventLoop

__all__ = ["MAX_READ_SIZE", "LimitPassed", "Nudged", "SocketStream", "Stream", "StreamClosed", "make_stream"]

READ_SIZE = 64 * 1024  # what one read asks for; the kernel rarely has more ready on one connection ...
MAX_READ_SIZE = 256 * 1024  # ... and where it had, the next ones ask for this
# On asyncio a peer that always has something ready can keep the cancellation of a scope from being delivered by a wait:
# after so many reads it is looked for.
READS_UNCHECKED = 16


class StreamClosed(OSError):
    """This stream was closed on our side, perhaps by another task."""


class Nudged(Exception):
    """Somebody wants whoever waits on the stream to look at it again."""


class LimitPassed(Exception):
    """It has been waited for as long as was allowed."""


class Stream(Protocol):
    """What a connection needs of its socket, encrypted or not. Errors of the peer are OSError (ssl.SSLError is one)."""

    def receive_nowait(self) -> bytes | None:
        """What has arrived: bytes, ``b""`` for the end, None for nothing yet."""
        ...

    async def receive(self, until: float = math.inf) -> bytes:
        """Wait for bytes; ``b""`` is the end. Always a checkpoint. :class:`LimitPassed` at *until*, on the event loop's
        clock; a little later where that is cheaper."""
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


def make_stream(sock: socket.socket, loop: EventLoop) -> SocketStream:
    """The stream over a connected, non-blocking socket."""
    if loop.registers is None:
        native: Any = loop.token
        try:
            _without_context(native.add_reader, sock.fileno(), bool)
            native.remove_reader(sock.fileno())
        except (AttributeError, NotImplementedError):  # trio; asyncio's loop for Windows, and those of some toolkits
            loop.registers = False
        else:
            loop.registers = True
    return (_RegisteredStream if loop.registers else SocketStream)(sock, loop)


def _without_context(function: Callable[..., Any], *args: Any) -> Any:
    """Call *function*, which keeps the context that it finds as long as the connection lives: not that of a caller."""
    return contextvars.Context().run(function, *args)


class SocketStream:
    """See :class:`Stream`. The socket is connected and non-blocking."""

    __slots__ = ("_arrived", "_backend", "_closed", "_is_asked", "_kept", "_loop", "_size", "_sock", "sent", "unsent")

    def __init__(self, sock: socket.socket, loop: EventLoop) -> None:
        self._sock = sock
        self._loop = loop
        self._backend = loop.backend
        self._kept = bytearray()
        self._arrived: bytes | OSError | None = None  # what was read, or met, and not taken yet
        self._is_asked = True  # the kernel has nothing more, by its own word
        self._size = READ_SIZE
        self._closed = False
        self.sent = 0
        self.unsent = 0

    @property
    def socket(self) -> socket.socket:
        return self._sock

    def receive_nowait(self) -> bytes | None:
        if self._closed:
            raise StreamClosed("the connection was closed")
        if self._arrived is not None:
            data, self._arrived = self._arrived, None
            if isinstance(data, OSError):
                raise data
            return data
        try:
            data = self._sock.recv(self._size)
        except (BlockingIOError, InterruptedError):
            self._is_asked = True
            return None
        self._is_asked = False
        self._size = MAX_READ_SIZE if len(data) == self._size else READ_SIZE
        return data

    async def receive(self, until: float = math.inf) -> bytes:
        while True:
            if self._closed:
                raise StreamClosed("the connection was closed")
            try:
                if until == math.inf:
                    await self._backend.wait_readable(self._sock)
                else:
                    with self._loop.make_scope(deadline=until) as scope:
                        await self._backend.wait_readable(self._sock)
                    if scope.cancelled_caught:
                        raise LimitPassed
            except anyio.ClosedResourceError:
                if not self._closed:
                    raise Nudged from None
            data = self.receive_nowait()
            if data is not None:
                return data

    def send_nowait(self, data: bytes) -> None:
        if self._closed:
            raise StreamClosed("the connection was closed")
        if self.unsent:
            self._kept += data
            self.unsent += len(data)
            return
        try:
            taken = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            taken = 0
        self.sent += taken
        if taken < len(data):
            self._kept += memoryview(data)[taken:]
            self.unsent = len(self._kept)

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
            self.unsent = len(self._kept)
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
        self.unsent = 0
        try:
            anyio.notify_closing(self._sock)
        except RuntimeError:
            pass  # collected outside of its loop: nobody waits
        self._sock.close()


class _RegisteredStream(SocketStream):
    """The same on asyncio and uvloop. What the callback has read is kept until somebody takes it, so that a wait that
    is cancelled loses nothing; where nobody waits nothing is read.

    libuv takes a socket out by itself once it has seen an error on it (a reset that came with the last data), and calls
    back that once: so, over another loop than asyncio's own, what was read is no reason to wait for more before the
    kernel has said that there is nothing.

    A timer is set for the first wait that has a limit, and left: when it goes off it looks whether the wait of then has
    passed its own. So a call whose answer comes in time neither sets nor clears one.
    """

    __slots__ = (
        "_native",
        "_reads",
        "_registered",
        "_stays",
        "_timer",
        "_timer_at",
        "_until",
        "_waiter",
    )

    def __init__(self, sock: socket.socket, loop: EventLoop) -> None:
        super().__init__(sock, loop)
        self._native: Any = loop.token
        self._registered = False
        self._stays = loop.is_plain_asyncio  # registered, until we say otherwise
        self._waiter: Any = None  # the future of whoever waits in receive
        self._until = math.inf  # its limit
        self._timer: Any = None
        self._timer_at = math.inf
        self._reads = 0

    async def receive(self, until: float = math.inf) -> bytes:
        if self._closed:
            raise StreamClosed("the connection was closed")
        self._reads += 1
        if self._arrived is None and not self._is_asked and not self._stays:
            self._arrived = self.receive_nowait()
        if self._arrived is not None:
            await self._backend.checkpoint()  # before anything is taken
        else:
            if self._reads % READS_UNCHECKED == 0:
                await self._backend.checkpoint_if_cancelled()
            if not self._registered:
                _without_context(self._native.add_reader, self._sock.fileno(), self._read)
                self._registered = True
            self._until = until
            if until < self._timer_at:
                self._set_timer(until)
            self._waiter = self._native.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._arrived is None and not self._closed:
            raise LimitPassed if self._loop.now() >= self._until else Nudged
        data = self.receive_nowait()
        assert data is not None  # it has arrived
        return data

    def _read(self) -> None:
        """The socket can be read."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            self._unregister()
            return
        try:
            data = self._arrived = self._sock.recv(self._size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._arrived = exc
        else:
            self._size = MAX_READ_SIZE if len(data) == self._size else READ_SIZE
        self._is_asked = False
        waiter.set_result(None)

    def _unregister(self) -> None:
        if self._registered:
            self._registered = False
            try:
                self._native.remove_reader(self._sock.fileno())
            except RuntimeError:
                pass  # the loop is closed

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = _without_context(self._native.call_at, at, self._look_at_limit)
        self._timer_at = at

    def _look_at_limit(self) -> None:
        self._timer, self._timer_at = None, math.inf
        waiter = self._waiter
        if waiter is not None and not waiter.done() and self._until < math.inf:
            if self._loop.now() >= self._until:
                waiter.set_result(None)
            else:
                self._set_timer(self._until)

    def nudge(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        if not self._closed:
            if self._registered and not self._loop.is_running and self._native.is_running():
                # Collected in another thread: what the loop keeps is the loop's to take out.
                self._native.call_soon_threadsafe(self.close)
                return
            self._unregister()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            SocketStream.close(self)
            self._arrived = None
            if self._waiter is not None and not self._waiter.done():
                try:
                    self._waiter.set_result(None)
                except RuntimeError:
                    pass  # the loop is closed: nobody waits
