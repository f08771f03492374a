"""A scripted server: plain sockets in threads, so that no event loop of the client's is involved.

A script is a function that gets a :class:`Peer` for each connection and says byte by byte what the server does.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

Script = Callable[["Peer"], None]


class Peer:
    """One accepted connection, from the server's side. All waits are bounded: a test fails, it does not hang."""

    def __init__(self, sock: socket.socket, number: int, server: ScriptedServer) -> None:
        self.sock = sock
        self.number = number  # from 1, in the order of connecting
        self.server = server
        self.buffer = b""

    def receive(self) -> bytes:
        return self.sock.recv(65536)

    def read_request(self) -> bytes:
        """One request, head and body (Content-Length or chunked); b"" if the client has closed."""
        while b"\r\n\r\n" not in self.buffer:
            data = self.receive()
            if not data:
                return b""
            self.buffer += data
        head, _, rest = self.buffer.partition(b"\r\n\r\n")
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            while not rest.endswith(b"0\r\n\r\n"):
                data = self.receive()
                if not data:
                    return b""
                rest += data
            size = len(rest)
        else:
            size = 0
            for line in lower.split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            while len(rest) < size:
                data = self.receive()
                if not data:
                    return b""
                rest += data
        request = head + b"\r\n\r\n" + rest[:size]
        self.buffer = rest[size:]
        self.server.requests.append(request)
        return request

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reset(self) -> None:
        """End the connection with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        raw = self.sock.detach() if isinstance(self.sock, ssl.SSLSocket) else None
        if raw is not None:
            socket.socket(fileno=raw).close()
        else:
            self.sock.close()

    def wait_closed(self, seconds: float = 5.0) -> bool:
        """Read until the client closes; whether it did."""
        self.sock.settimeout(seconds)
        try:
            while self.sock.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True


class ScriptedServer:
    """Listens on a port of its own, or on ``listener``; ``requests`` are all that came, ``connections`` how many were made,
    ``clients`` where they came from."""

    def __init__(
        self, script: Script, context: ssl.SSLContext | None = None, listener: socket.socket | None = None
    ) -> None:
        self.script = script
        self.context = context
        self.requests: list[bytes] = []
        self.connections = 0
        self.clients: list[Any] = []
        self.most_open = 0
        self.errors: list[BaseException] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = listener or socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._is_tcp = self._listener.family != socket.AF_UNIX
        self.port: int = self._listener.getsockname()[1] if self._is_tcp else 0
        self._closing = False
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def url(self) -> str:
        return f"http{'s' if self.context else ''}://127.0.0.1:{self.port}"

    @property
    def open_count(self) -> int:
        """Connections that neither side has closed, as far as the scripts have noticed."""
        with self._lock:
            return len(self._open)

    def _accept(self) -> None:
        while True:
            try:
                sock, client = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closing:
                    sock.close()
                    return
                self.connections += 1
                self.clients.append(client)
                number = self.connections
                self._open.add(sock)
                self.most_open = max(self.most_open, len(self._open))
            thread = threading.Thread(target=self._serve, args=(sock, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw: socket.socket, number: int) -> None:
        raw.settimeout(20.0)
        if self._is_tcp:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock = raw
        try:
            if self.context is not None:
                sock = self.context.wrap_socket(raw, server_side=True)
                with self._lock:
                    self._open.discard(raw)
                    self._open.add(sock)
            self.script(Peer(sock, number, self))
        except OSError:
            pass  # the client has gone, as it may
        except BaseException as exc:
            self.errors.append(exc)
        finally:
            with self._lock:
                self._open.discard(sock)
                self._open.discard(raw)
            with contextlib.suppress(OSError):
                sock.close()
            raw.close()

    def close(self) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(5)
        for thread in self._threads:
            thread.join(5)
        if self.errors:
            raise self.errors[0]

    def wait_for_requests(self, count: int, seconds: float = 5.0) -> None:
        until = time.monotonic() + seconds
        while len(self.requests) < count and time.monotonic() < until:
            time.sleep(0.002)

    @staticmethod
    def pause(seconds: float) -> None:
        """Let the client wait a moment, so that it has something to wait for."""
        time.sleep(seconds)

    def wait_for_open(self, count: int, seconds: float = 5.0) -> int:
        """Wait until at most *count* connections are open; how many are."""
        until = time.monotonic() + seconds
        while self.open_count > count and time.monotonic() < until:
            time.sleep(0.002)
        return self.open_count


@contextlib.contextmanager
def serve(
    script: Script, context: ssl.SSLContext | None = None, listener: socket.socket | None = None
) -> Iterator[ScriptedServer]:
    """Run *script* for every connection, for the length of the block."""
    server = ScriptedServer(script, context, listener)
    try:
        yield server
    finally:
        server.close()


def ok(body: bytes = b"{}", *, headers: str = "", status: str = "200 OK") -> bytes:
    """A whole response with a length."""
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode()
        + body
    )


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer_each(*responses: bytes) -> Script:
    """Answer requests with these, in order and over all connections; the last one for all that follow."""
    lock = threading.Lock()
    left = list(responses)

    def script(peer: Peer) -> None:
        while peer.read_request():
            with lock:
                response = left.pop(0) if len(left) > 1 else left[0]
            peer.send(response)

    return script
