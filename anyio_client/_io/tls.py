"""TLS over any stream: a thin driver of ``ssl.SSLObject`` and two memory BIOs.

anyio's ``TLSStream`` is unusable after any exception inside its ``send`` (a cancellation among them), because bytes that
were encrypted and not sent are lost with the exception. Here they stay in the stream below until they are sent.
"""

from __future__ import annotations

import ssl

import anyio.lowlevel

from .stream import READ_SIZE, Stream

__all__ = ["TLSStream", "make_context"]


def make_context(alpn: list[str]) -> ssl.SSLContext:
    """The context for connections of our own: the platform's trust store, TLS 1.2 and later, this ALPN list."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(alpn)
    return context


class TLSStream:
    """See :class:`~anyio_client._io.stream.Stream`. ``sent`` counts bytes of the caller's data, not of the records."""

    __slots__ = ("_below", "_ending", "_handshake_sent", "_incoming", "_object", "_outgoing")

    def __init__(self, below: Stream, context: ssl.SSLContext, server_hostname: str) -> None:
        self._below = below
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self._ending: ssl.SSLError | None = None
        self._handshake_sent = 0

    async def handshake(self) -> None:
        """Do the handshake. ssl.SSLError or another OSError where it fails."""
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                await self._push_all()
                self._feed(await self._below.receive())
            except ssl.SSLError:
                self._push()  # the alert that tells the peer why
                raise
            else:
                await self._push_all()
                self._handshake_sent = self._below.sent
                return

    def _feed(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _push(self) -> None:
        """Hand what was encrypted to the stream below, which keeps what the kernel does not take."""
        if self._outgoing.pending:
            self._below.send_nowait(self._outgoing.read())

    async def _push_all(self) -> None:
        self._push()
        while self._below.unsent:
            await self._below.flush()

    def _decrypt(self) -> bytes | None:
        """What can be decrypted without reading more: bytes, ``b""`` after close_notify, None for nothing.

        OpenSSL says an end or a failure once: what is found behind data is kept for the next call.
        """
        if self._ending is not None:
            raise self._ending
        pieces: list[bytes] = []
        size = 0
        try:
            while size < READ_SIZE:
                piece = self._object.read(READ_SIZE)  # one record at most
                if not piece:
                    raise ssl.SSLZeroReturnError  # close_notify: the object's way of saying it
                pieces.append(piece)
                size += len(piece)
        except ssl.SSLWantReadError:
            if not pieces:
                return None
        except ssl.SSLError as exc:
            self._ending = exc
            if not pieces:
                raise
        finally:
            self._push()  # answers to key updates
        return b"".join(pieces)

    def _decrypted(self) -> bytes | None:
        try:
            return self._decrypt()
        except ssl.SSLZeroReturnError:  # close_notify
            return b""

    def receive_nowait(self) -> bytes | None:
        while True:
            data = self._decrypted()
            if data is not None:
                return data
            raw = self._below.receive_nowait()
            if raw is None:
                return None
            self._feed(raw)

    async def receive(self) -> bytes:
        if self._ending is not None or self._object.pending() or self._incoming.pending:
            await anyio.lowlevel.checkpoint()  # before anything is taken, so that a cancellation loses nothing
            data = self._decrypted()
            if data is not None:
                return data
        while True:
            self._feed(await self._below.receive())
            data = self._decrypted()
            if data is not None:
                return data

    def send_nowait(self, data: bytes) -> None:
        if data:
            self._object.write(data)
        self._push()

    def nudge(self) -> None:
        self._below.nudge()

    @property
    def unsent(self) -> int:
        return self._below.unsent

    async def flush(self) -> None:
        await self._below.flush()

    @property
    def sent(self) -> int:
        """Bytes of records after the handshake that the kernel has taken: more than 0 once any data left."""
        return self._below.sent - self._handshake_sent

    @property
    def alpn(self) -> str | None:
        return self._object.selected_alpn_protocol()

    def close(self) -> None:
        """Say goodbye if that needs no wait (RFC 8446 section 6.1), then close the socket."""
        try:
            self._object.unwrap()
        except (ssl.SSLError, OSError, ValueError):
            pass
        if not self._below.unsent:
            try:
                self._push()
            except OSError:
                pass
        self._below.close()
