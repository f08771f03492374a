"""One scripted server for both protocols: what it does between the head of a request and the end of its answer.

A script gets a :class:`Side` for each connection. ``speaking`` makes a :data:`~tests.kit.peers.Script` of it, ``client_for``
the client that speaks the same protocol, checked at its end as :func:`tests.kit.h2peer.client_of` says.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, TypeAlias

import anyio
import anyio.lowlevel
import attrs

from anyio_client import AsyncAPIClient, HTTPTransport

from . import frames
from .h2peer import Asked, H2Peer, Judge, client_of
from .peers import Peer, Script, ScriptedServer, chunk

__all__ = ["PROTOCOLS", "Body", "H1Side", "H2Side", "Protocol", "Side", "client_for", "speaking"]

Protocol: TypeAlias = Literal["h1", "h2"]
Fields: TypeAlias = "Iterable[tuple[str, str]]"

PROTOCOLS: list[Protocol] = ["h1", "h2"]
WINDOW = 2**20  # of each stream, and what is given back goes at once


@attrs.define
class Head:
    """A request's head; field names in lower case, in order."""

    method: str
    path: str
    fields: list[tuple[str, str]]

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key == name), None)


class Side(ABC):
    """One connection, from the server's side, and the request that it reads at the moment.

    ``received`` is what has come of its body; ``complete`` whether that is all; ``trailers`` what came after it.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.received = bytearray()
        self.complete = False
        self.trailers: list[tuple[str, str]] = []

    @property
    def number(self) -> int:
        """Of the connection, from 1."""
        return self.peer.number

    @abstractmethod
    def head(self) -> Head:
        """Wait for the next request's head. ConnectionError where the client has gone."""

    @abstractmethod
    def piece(self) -> bytes:
        """Wait for more of the body; b"" at its end."""

    @abstractmethod
    def silent(self, seconds: float) -> bool:
        """Whether nothing of the body comes for so long."""

    @abstractmethod
    def interim(self, status: int, fields: Fields = ()) -> None: ...

    @abstractmethod
    def begin(self, status: int = 200, fields: Fields = (), *, kind: str = "application/json") -> None:
        """The head of an answer whose length is not said."""

    @abstractmethod
    def data(self, data: bytes) -> None: ...

    @abstractmethod
    def end(self, trailers: Fields = ()) -> None: ...

    @abstractmethod
    def given_up(self) -> bool:
        """Wait until the client has closed the connection, or reset the stream; whether it did."""

    @abstractmethod
    def lose(self) -> None:
        """Close the connection in the middle of whatever is under way."""

    def body(self) -> bytes:
        """All of the body."""
        while self.piece():
            pass
        return bytes(self.received)

    def answer(self, body: bytes = b"1", *, status: int = 200, fields: Fields = ()) -> None:
        self.begin(status, fields)
        self.data(body)
        self.end()

    def serve(self) -> None:
        """Answer whatever is asked, until the client has gone."""
        while True:
            self.head()
            self.body()
            self.answer()


class H1Side(Side):
    def __init__(self, peer: Peer) -> None:
        super().__init__(peer)
        self._buffer = b""
        self._left: int | None = 0  # of the body; None where it is chunked

    def _more(self, seconds: float = 10.0) -> None:
        self.peer.sock.settimeout(seconds)
        data = self.peer.sock.recv(65536)
        if not data:
            raise ConnectionError("the client has gone")
        self._buffer += data

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._more()
        found, _, self._buffer = self._buffer.partition(end)
        return found

    def head(self) -> Head:
        assert self.complete or not self.received, "the request before this one is not read"
        first, *lines = self._until(b"\r\n\r\n").decode().split("\r\n")
        method, path, version = first.split(" ")
        assert version == "HTTP/1.1"
        found = Head(method, path, [_field(line) for line in lines])
        self.received, self.trailers = bytearray(), []
        length, coding = found.get("content-length"), found.get("transfer-encoding")
        assert length is None or coding is None
        assert coding in (None, "chunked")
        self._left = None if coding else int(length or 0)
        self.complete = self._left == 0
        return found

    def piece(self) -> bytes:
        if self.complete:
            return b""
        if self._left is None:
            size = int(self._until(b"\r\n"), 16)
            if not size:
                while line := self._until(b"\r\n"):
                    self.trailers.append(_raw_field(line.decode()))
                self.complete = True
                return b""
            while len(self._buffer) < size + 2:
                self._more()
            data, end, self._buffer = self._buffer[:size], self._buffer[size : size + 2], self._buffer[size + 2 :]
            assert end == b"\r\n"
        else:
            if not self._buffer:
                self._more()
            data, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
            self._left -= len(data)
            self.complete = self._left == 0
        self.received += data
        return data

    def silent(self, seconds: float) -> bool:
        if self._buffer:
            return False
        try:
            self._more(seconds)
        except TimeoutError:
            return True
        return False

    def interim(self, status: int, fields: Fields = ()) -> None:
        self.peer.send(f"HTTP/1.1 {status} Interim\r\n{_lines(fields)}\r\n".encode())

    def begin(self, status: int = 200, fields: Fields = (), *, kind: str = "application/json") -> None:
        own = f"Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n"
        self.peer.send(f"HTTP/1.1 {status} Said\r\n{own}{_lines(fields)}\r\n".encode())

    def data(self, data: bytes) -> None:
        self.peer.send(chunk(data))

    def end(self, trailers: Fields = ()) -> None:
        self.peer.send(f"0\r\n{_lines(trailers)}\r\n".encode())

    def given_up(self) -> bool:
        return self.peer.wait_closed()

    def lose(self) -> None:
        self.peer.reset()
        raise ConnectionError("over")


class _Judge(Judge):
    """Takes the trailer section of a request, too."""

    def __init__(self) -> None:
        super().__init__()
        self.trailers: dict[int, list[tuple[str, str]]] = {}

    def _take_block(self, frame: frames.Sent) -> None:
        asked = self.asked.get(frame.stream)
        if asked is None:
            super()._take_block(frame)
            return
        assert frame.kind == frames.HEADERS and frame.flags == frames.END_HEADERS | frames.END_STREAM
        assert not asked.complete and asked.reset is None, "trailers after the end"
        pairs = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(frame.payload, raw=True)]
        assert all(name == name.lower() and name[:1] != b":" for name, _ in pairs)
        self.trailers[frame.stream] = [(name.decode(), value.decode()) for name, value in pairs]
        asked.complete = True
        if self._streams[frame.stream].ended:
            del self._streams[frame.stream]


class H2Side(Side):
    def __init__(self, peer: Peer) -> None:
        super().__init__(peer)
        self.wire = H2Peer(peer, greet=False)
        self.wire.judge = self.judge = _Judge()
        self.wire.answers_pings = True
        self.asked: Asked | None = None
        self.wire.send(frames.settings({frames.INITIAL_WINDOW_SIZE: WINDOW}), frames.window(0, 2**24))

    @property
    def stream(self) -> Asked:
        assert self.asked is not None
        return self.asked

    def head(self) -> Head:
        self.asked = self.wire.ask(whole=False)
        self.received, self.trailers = bytearray(), []
        self.complete = False
        pairs = [(name.decode(), value.decode()) for name, value in self.asked.fields.items()]
        return Head(self.asked.method, self.asked.path, pairs)

    def _take(self) -> bytes:
        """What has come of the body since it was looked at last; its window is given back."""
        asked = self.stream
        fresh = bytes(asked.body)
        asked.body.clear()
        self.received += fresh
        if fresh:
            more = [] if asked.complete or asked.reset is not None else [frames.window(asked.stream, len(fresh))]
            self.wire.send(frames.window(0, len(fresh)), *more)
        if asked.complete:
            self.complete = True
            self.trailers = self.judge.trailers.get(asked.stream, [])
        return fresh

    def piece(self) -> bytes:
        while not (fresh := self._take()) and not self.complete:
            if self.stream.reset is not None:
                raise ConnectionError("the client has given the stream up")
            self.wire.read()
        return fresh

    def silent(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        before = len(self.received)
        try:
            while not self._take() and not self.complete and self.stream.reset is None:
                self.wire.read(max(0.001, until - time.monotonic()))
        except TimeoutError:
            return len(self.received) == before
        return False

    def interim(self, status: int, fields: Fields = ()) -> None:
        self.wire.send(frames.headers(self.stream.stream, _pairs(status, fields)))

    def begin(self, status: int = 200, fields: Fields = (), *, kind: str = "application/json") -> None:
        self.wire.send(frames.headers(self.stream.stream, _pairs(status, [("content-type", kind), *fields])))

    def data(self, data: bytes) -> None:
        for place in range(0, len(data), 16_384):
            piece = data[place : place + 16_384]
            while self.stream.reset is None and self.judge.room(self.stream.stream) < len(piece):
                self.wire.read()
            if self.stream.reset is not None:
                raise ConnectionError("the client has given the stream up")
            self.wire.send(frames.data(self.stream.stream, piece))

    def end(self, trailers: Fields = ()) -> None:
        number = self.stream.stream
        fields = [(name.lower().encode(), value.encode()) for name, value in trailers]
        self.wire.send(frames.headers(number, fields, end=True) if fields else frames.data(number, end=True))

    def given_up(self) -> bool:
        self.wire.given_up(self.stream)
        return True

    def lose(self) -> None:
        self.peer.reset()
        raise ConnectionError("over")


def _raw_field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.strip()


def _field(line: str) -> tuple[str, str]:
    name, value = _raw_field(line)
    return name.lower(), value


def _lines(fields: Fields) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in fields)


def _pairs(status: int, fields: Fields) -> list[tuple[bytes, bytes]]:
    return [(b":status", b"%d" % status), *[(name.lower().encode(), value.encode()) for name, value in fields]]


def speaking(protocol: Protocol, script: Callable[[Side], None]) -> Script:
    """*script* for each connection."""

    def run(peer: Peer) -> None:
        script(H1Side(peer) if protocol == "h1" else H2Side(peer))

    return run


def client_for(
    protocol: Protocol, peer: ScriptedServer, *, transport: HTTPTransport | None = None, **options: Any
) -> AbstractAsyncContextManager[AsyncAPIClient]:
    """A client that speaks *protocol*. At the end it must hold nothing, and the loop no task more."""
    made = transport or HTTPTransport(http1=protocol == "h1", http2=protocol == "h2")
    return client_of(peer, made, **{"seconds": 8.0, **options})


class Body:
    """A body of these pieces, that can be sent once and says no length; ``asked`` counts, ``closed`` tells.

    ``error`` is raised after the pieces, if given; ``held`` is waited for after them.
    """

    def __init__(
        self, *pieces: bytes, error: BaseException | None = None, held: Callable[[], Any] | None = None
    ) -> None:
        self.left = list(pieces)
        self.error = error
        self.held = held
        self.asked = 0
        self.closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self.asked += 1
        await anyio.lowlevel.checkpoint()
        if self.left:
            return self.left.pop(0)
        if self.held is not None:
            await self.held()
        if self.error is not None:
            raise self.error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True
