"""A wire that can be cut: a TCP proxy between a client and a server that is not ours."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit


class Wire:
    """Passes bytes on, both ways, until ``cut_at`` has come from the server; then that connection is lost.

    ``was_cut`` is set at that moment; connections made later wait until ``repair()``. ``requests`` are the heads and
    bodies that clients sent, as they came.
    """

    def __init__(self, url: str, cut_at: bytes) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname, parts.port)
        self._cut_at = cut_at
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._whole = threading.Event()
        self._whole.set()
        self._closing = False
        self.was_cut = threading.Event()
        self.sent = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def repair(self) -> None:
        """Let new connections through."""
        self._whole.set()

    def close(self) -> None:
        self._closing = True
        self._whole.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._end(*self._open)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        self._whole.wait(30)
        with contextlib.suppress(OSError), client, socket.create_connection(self._server) as server:
            with self._lock:
                if self._closing:
                    return
                self._open |= {client, server}
            try:
                self._start(self._pass_requests, client, server)
                self._pass_answers(server, client)
            finally:
                with self._lock:
                    self._end(client, server)  # the other direction too
                    self._open -= {client, server}

    def _pass_requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                with self._lock:
                    self.sent += data
                server.sendall(data)
            self._end(server)

    def _pass_answers(self, server: socket.socket, client: socket.socket) -> None:
        seen = b""
        while data := server.recv(65536):
            seen += data
            if self._cut_at in seen and not self.was_cut.is_set():
                self._whole.clear()
                # All of the event, and nothing of what follows it.
                end = seen.index(self._cut_at) + len(self._cut_at) - (len(seen) - len(data))
                client.sendall(data[:end])
                self.was_cut.set()
                return
            client.sendall(data)

    @staticmethod
    def _end(*sockets: socket.socket) -> None:
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def wire(url: str, cut_at: bytes) -> Iterator[Wire]:
    """A wire to the server at *url* that is cut once, after the server has sent *cut_at*."""
    made = Wire(url, cut_at)
    try:
        yield made
    finally:
        made.close()
