"""TLS over any stream: a thin driver of ``ssl.SSLObject`` and two memory BIOs.

anyio's ``TLSStream`` is unusable after any exception inside its ``send`` (a cancellation among them), because bytes that
were encrypted and not sent are lost with the exception. Here they stay in the stream below until they are sent.
"""

from __future__ import annotations

import math
import ssl
import weakref
from collections import OrderedDict

import anyio.lowlevel

from .stream import MAX_READ_SIZE, Stream

__all__ = ["Sessions", "TLSStream"]

MAX_SESSIONS = 1000  # origins whose last session is kept


class Sessions:
    """The last TLS session with each origin: a further connection takes it up (RFC 8446 section 2.2), which saves the
    certificates, their check, and on TLS 1.2 a round trip. The sessions of one context only."""

    def __init__(self) -> None:
        self._ended: OrderedDict[str, ssl.SSLSession] = OrderedDict()
        # A ticket of TLS 1.3 comes after the handshake: the connection is asked for it when the next one is made.
        self._open: weakref.WeakValueDictionary[str, ssl.SSLObject] = weakref.WeakValueDictionary()

    def began(self, origin: str, made: ssl.SSLObject) -> None:
        self._open[origin] = made

    def ended(self, origin: str, made: ssl.SSLObject) -> None:
        session = _resumable(made)
        if session is not None:
            self._ended[origin] = session
            self._ended.move_to_end(origin)
            if len(self._ended) > MAX_SESSIONS:
                self._ended.popitem(last=False)

    def forget(self, origin: str) -> None:
        """A handshake has failed, perhaps over the session that it took up."""
        self._open.pop(origin, None)
        self._ended.pop(origin, None)

    def find(self, origin: str) -> ssl.SSLSession | None:
        made = self._open.get(origin)
        return (None if made is None else _resumable(made)) or self._ended.get(origin)


def _resumable(made: ssl.SSLObject) -> ssl.SSLSession | None:
    """The session, if a further connection can take it up: on TLS 1.3 only once a ticket has come."""
    session = made.session
    return session if session is not None and (session.has_ticket or made.version() != "TLSv1.3") else None


class TLSStream:
    """See :class:`~anyio_client._io.stream.Stream`. ``sent`` counts bytes of the caller's data, not of the records.

    ``sessions`` and ``origin``: where to find a session to take up, and to leave this one.
    """

    __slots__ = ("_below", "_ending", "_handshake_sent", "_incoming", "_object", "_origin", "_outgoing", "_sessions")

    def __init__(
        self,
        below: Stream,
        context: ssl.SSLContext,
        server_hostname: str,
        sessions: Sessions | None = None,
        origin: str = "",
    ) -> None:
        self._below = below
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._sessions = sessions
        self._origin = origin
        self._object = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_hostname=server_hostname,
            session=None if sessions is None else sessions.find(origin),
        )
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
                if self._sessions is not None:
                    self._sessions.forget(self._origin)
                self._push()  # the alert that tells the peer why
                raise
            else:
                await self._push_all()
                self._handshake_sent = self._below.sent
                if self._sessions is not None:
                    self._sessions.began(self._origin, self._object)
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
            while size < MAX_READ_SIZE:
                piece = self._object.read(MAX_READ_SIZE)  # one record at most
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

    async def receive(self, until: float = math.inf) -> bytes:
        if self._ending is not None or self._object.pending() or self._incoming.pending:
            await anyio.lowlevel.checkpoint()  # before anything is taken, so that a cancellation loses nothing
            data = self._decrypted()
            if data is not None:
                return data
        while True:
            self._feed(await self._below.receive(until))
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

    @property
    def certificate(self) -> bytes | None:
        """The peer's own certificate (DER)."""
        return self._object.getpeercert(binary_form=True)

    def close(self) -> None:
        """Say goodbye if that needs no wait (RFC 8446 section 6.1), then close the socket."""
        if self._sessions is not None and self._handshake_sent:
            self._sessions.ended(self._origin, self._object)
            self._sessions = None
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
