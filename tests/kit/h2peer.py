"""Scripted HTTP/2 peers: frames made by hand, and everything that the client sends judged strictly; and their clients.

``scripted(script)`` makes a :data:`~tests.kit.peers.Script` of a function that gets an :class:`H2Peer`: it says frame by
frame what the server does. ``serving(app)`` is a whole server, another implementation's, for tests with many calls.
"""

from __future__ import annotations

import contextlib
import select
import ssl
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import anyio
import attrs
import h2.config
import h2.connection
import h2.events
import h2.settings
from anyio.abc import TaskGroup
from hpack import Decoder

from anyio_client import AsyncAPIClient, HTTPTransport, RetryPolicy

from . import frames
from .frames import ACK, END_HEADERS, END_STREAM, Sent
from .leaks import task_count
from .peers import Peer, Script, ScriptedServer

__all__ = [
    "CANCEL",
    "INTERNAL_ERROR",
    "JSON",
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "QUICK",
    "REFUSED_STREAM",
    "Asked",
    "Call",
    "H2Peer",
    "Judge",
    "Served",
    "Signal",
    "again",
    "answer",
    "at_once",
    "begin",
    "check_nothing_is_left",
    "client_of",
    "connection_of",
    "head",
    "pool_of",
    "scripted",
    "serving",
]

START_WINDOW = 65_535
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL = 0, 1, 2, 7, 8
JSON = (b"content-type", b"application/json")


class Signal:
    """Something that happens in a server's thread or in the client's loop, and is waited for in the other."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def wait(self) -> None:
        """In a script."""
        assert self._event.wait(10.0), "it did not happen"

    async def seen(self) -> None:
        """In a test."""
        with anyio.fail_after(10):
            while not self._event.is_set():  # noqa: ASYNC110 - set in another thread
                await anyio.sleep(0.002)

    @property
    def is_set(self) -> bool:
        return self._event.is_set()


@attrs.define
class Asked:
    """One request, as far as it has come."""

    stream: int
    fields: dict[bytes, bytes]
    body: bytearray = attrs.field(factory=bytearray, repr=False)
    complete: bool = False
    reset: int | None = None  # the code with which the client gave it up

    @property
    def path(self) -> str:
        return self.fields[b":path"].decode()

    @property
    def method(self) -> str:
        return self.fields[b":method"].decode()


@attrs.define
class _Stream:
    asked: Asked
    window: int  # what the client may still send
    credit: int  # what we may still send
    ended: bool = False  # we have ended or reset it


class Judge:
    """Cuts the client's frames out of its bytes, and refuses what RFC 9113 does not let a client send.

    The client's count of streams and its windows are judged by the SETTINGS that it has acknowledged.
    """

    def __init__(self) -> None:
        self.frames: list[Sent] = []
        self.asked: dict[int, Asked] = {}
        self.most_open = 0
        self.acks = 0  # of SETTINGS
        self.credit = START_WINDOW  # of the connection: what we may still send
        self.window = START_WINDOW  # what the client may still send
        self._streams: dict[int, _Stream] = {}
        self._buffer = b""
        self._preface = frames.PREFACE
        self._decoder = Decoder()
        self._block = b""
        self._block_of: tuple[int, int] | None = None
        self._unacked: deque[Mapping[int, int]] = deque()
        self._limit: int = 1  # until our first SETTINGS are acknowledged, a careful client opens one
        self._stream_window = START_WINDOW
        self._their_window = START_WINDOW

    @property
    def rest(self) -> bytes:
        """Half a frame, where one has begun to come."""
        return self._buffer

    @property
    def open_count(self) -> int:
        return len(self._streams)

    # -- what the client sends

    def feed(self, data: bytes) -> list[Sent]:
        self._buffer += data
        if self._preface:
            size = min(len(self._preface), len(self._buffer))
            assert self._buffer[:size] == self._preface[:size], "no preface"
            self._preface, self._buffer = self._preface[size:], self._buffer[size:]
        found: list[Sent] = []
        while len(self._buffer) >= 9:
            size = int.from_bytes(self._buffer[:3], "big")
            assert size <= 16_384, f"a frame of {size} bytes"
            if len(self._buffer) < 9 + size:
                break
            (frame,) = frames.split(self._buffer[: 9 + size])
            self._buffer = self._buffer[9 + size :]
            if not self.frames:
                assert frame.kind == frames.SETTINGS, "SETTINGS come first"
            self._take(frame)
            self.frames.append(frame)
            found.append(frame)
        return found

    def _take(self, frame: Sent) -> None:
        kind, stream = frame.kind, frame.stream
        if self._block_of is not None:
            assert kind == frames.CONTINUATION and stream == self._block_of[0], "a field block was interrupted"
        match kind:
            case frames.SETTINGS:
                assert stream == 0
                self._take_settings(frame)
            case frames.PING:
                assert stream == 0 and len(frame.payload) == 8
            case frames.GOAWAY:
                assert stream == 0 and len(frame.payload) >= 8
            case frames.WINDOW_UPDATE:
                assert 0 < frame.number() < 2**31
                if not stream:
                    self.credit += frame.number()
                elif stream in self._streams:
                    self._streams[stream].credit += frame.number()
                else:
                    assert stream in self.asked
            case frames.HEADERS | frames.CONTINUATION:
                self._take_block(frame)
            case frames.DATA:
                self._take_data(frame)
            case frames.RST_STREAM:
                assert stream in self.asked, "RST_STREAM for an idle stream"
                self.asked[stream].reset = frame.number()
                self._streams.pop(stream, None)
            case _:
                raise AssertionError(f"a frame of type {kind}")

    def _take_settings(self, frame: Sent) -> None:
        if frame.flags & ACK:
            assert not frame.payload
            assert self._unacked, "an ACK for nothing"
            self.acks += 1
            values = self._unacked.popleft()
            if self.acks == 1:
                self._limit = 2**31
            self._limit = values.get(frames.MAX_CONCURRENT_STREAMS, self._limit)
            more = values.get(frames.INITIAL_WINDOW_SIZE, self._stream_window) - self._stream_window
            self._stream_window += more
            for stream in self._streams.values():
                stream.window += more
            return
        assert len(frame.payload) % 6 == 0
        for place in range(0, len(frame.payload), 6):
            if int.from_bytes(frame.payload[place : place + 2], "big") == frames.INITIAL_WINDOW_SIZE:
                self._their_window = frame.number(place + 2)

    def _take_block(self, frame: Sent) -> None:
        if frame.kind == frames.HEADERS:
            assert not frame.flags & (frames.PADDED | frames.PRIORITY_FLAG)
            self._block_of = frame.stream, frame.flags
        assert self._block_of is not None, "CONTINUATION of nothing"
        self._block += frame.payload
        if not frame.flags & END_HEADERS:
            return
        stream, flags = self._block_of
        pairs = self._decoder.decode(self._block, raw=True)
        self._block, self._block_of = b"", None
        assert stream % 2 == 1 and stream > max(self.asked, default=0), "stream ids only grow"
        asked = Asked(stream, {bytes(name): bytes(value) for name, value in pairs})
        asked.complete = bool(flags & END_STREAM)
        self.asked[stream] = asked
        self._streams[stream] = _Stream(asked, self._stream_window, self._their_window)
        self.most_open = max(self.most_open, len(self._streams))
        assert len(self._streams) <= self._limit, f"{len(self._streams)} streams are open, {self._limit} may be"

    def _take_data(self, frame: Sent) -> None:
        assert frame.stream in self.asked, "DATA for an idle stream"
        asked = self.asked[frame.stream]
        assert not asked.complete and asked.reset is None, "DATA after the end"
        asked.body += frame.payload
        asked.complete = bool(frame.flags & END_STREAM)
        self.window -= len(frame.payload)
        assert self.window >= 0, "more data than the connection's window allows"
        stream = self._streams.get(frame.stream)
        if stream is not None:
            stream.window -= len(frame.payload)
            assert stream.window >= 0 or not frame.payload, "more data than the stream's window allows"
            if asked.complete and stream.ended:
                del self._streams[frame.stream]

    # -- what we send

    def sent(self, data: bytes) -> None:
        """Count what the server sends: whole frames."""
        for frame in frames.split(data):
            stream = self._streams.get(frame.stream)
            if frame.kind == frames.SETTINGS and not frame.flags & ACK:
                pairs = range(0, len(frame.payload), 6)
                self._unacked.append(
                    {int.from_bytes(frame.payload[at : at + 2], "big"): frame.number(at + 2) for at in pairs}
                )
            elif frame.kind == frames.WINDOW_UPDATE:
                if not frame.stream:
                    self.window += frame.number()
                elif stream is not None:
                    stream.window += frame.number()
            elif frame.kind == frames.DATA:
                self.credit -= len(frame.payload)
                if stream is not None:
                    stream.credit -= len(frame.payload)
            if stream is None:
                continue
            if frame.kind == frames.RST_STREAM:
                del self._streams[frame.stream]
            elif frame.kind in (frames.DATA, frames.HEADERS) and frame.flags & END_STREAM:
                stream.ended = True
                if stream.asked.complete:
                    del self._streams[frame.stream]

    def room(self, stream: int) -> int:
        """How many bytes of DATA the windows let us send."""
        found = self._streams.get(stream)
        return 0 if found is None else min(self.credit, found.credit)


class H2Peer:
    """One HTTP/2 connection, from the server's side. All waits are bounded; the client's end is a ConnectionError."""

    def __init__(self, peer: Peer, values: Mapping[int, int] | None = None, *, greet: bool = True) -> None:
        self.peer = peer
        self.number = peer.number
        self.judge = Judge()
        self._heard: deque[Sent] = deque()
        self._seen: set[int] = set()  # streams whose request the script has got
        self.answers_pings = False  # by itself, while it reads
        if greet:
            self.send(frames.settings(values))

    # -- reading

    def read(self, seconds: float = 10.0) -> Sent:
        """The next frame."""
        while not self._heard:
            self.peer.sock.settimeout(seconds)
            data = self.peer.sock.recv(65536)
            if not data or self.peer.server._closing:  # which takes TLS from a socket that is being read
                raise ConnectionError("the client has gone")
            self._heard.extend(self.judge.feed(data))
        frame = self._heard.popleft()
        if self.answers_pings and frame.kind == frames.PING and not frame.flags & ACK:
            self.send(frames.ping(frame.payload, ack=True))
        return frame

    def wait(self, kind: int, stream: int | None = None, flags: int = 0) -> Sent:
        """The next frame of this kind; those before it are only judged."""
        while True:
            frame = self.read()
            if frame.kind == kind and stream in (None, frame.stream) and frame.flags & flags == flags:
                return frame

    def ask(self, *, whole: bool = True) -> Asked:
        """The next request that the script did not get before; *whole*: with its body."""
        while True:
            for asked in self.judge.asked.values():
                if asked.stream not in self._seen and asked.reset is None and (asked.complete or not whole):
                    self._seen.add(asked.stream)
                    return asked
            self.read()

    def asks(self, count: int, *, whole: bool = True) -> list[Asked]:
        return [self.ask(whole=whole) for _ in range(count)]

    def poll(self) -> None:
        """Take in what comes within a moment."""
        try:
            self.read(0.01)
        except TimeoutError:
            pass

    def until(self, condition: Callable[[], object]) -> None:
        """Read until that is so."""
        while not condition():
            self.read()

    def given_up(self, *asked: Asked) -> None:
        """Until the client has reset these."""
        self.until(lambda: all(one.reset is not None for one in asked))

    def sync(self) -> None:
        """Until the client has read everything that was sent, and whatever it sent before that is here."""
        self.send(frames.ping(b"in sync?"))
        while True:
            frame = self.wait(frames.PING, flags=ACK)
            if frame.payload == b"in sync?":
                return

    def until_gone(self) -> bytes:
        """Read until the client closes; the half frame it left, if any."""
        try:
            while True:
                self.read()
        except ConnectionError:
            return self.judge.rest

    # -- sending

    def send(self, *data: bytes) -> None:
        """Whole frames, in one write."""
        joined = b"".join(data)
        self.judge.sent(joined)
        self.peer.send(joined)

    def send_raw(self, data: bytes) -> None:
        """Anything at all."""
        self.peer.send(data)

    def pour(self, stream: Asked, body: bytes, *, end: bool = True, pad: int | None = None, size: int = 16_000) -> None:
        """Send *body* in frames of *size*, as fast as the client gives window. Nothing where it gives the stream up."""
        extra = 0 if pad is None else pad + 1
        for place in range(0, len(body), size):
            piece = body[place : place + size]
            while stream.reset is None and self.judge.room(stream.stream) < len(piece) + extra:
                self.read()
            if stream.reset is not None:
                return
            last = end and place + size >= len(body)
            self.send(frames.data(stream.stream, piece, end=last, pad=pad))

    def answer(self, stream: Asked | int, body: bytes = b"1", *, status: int = 200) -> None:
        self.send(*answer(stream, body, status=status))

    def serve(self, body: bytes = b"1") -> None:
        """Answer whatever is asked, until the client has gone."""
        while True:
            self.answer(self.ask(), body)


def head(stream: Asked | int, *, status: int = 200, length: int | None = None, end: bool = False) -> bytes:
    number = stream if isinstance(stream, int) else stream.stream
    fields = [(b":status", b"%d" % status), JSON]
    if length is not None:
        fields.append((b"content-length", b"%d" % length))
    return frames.headers(number, fields, end=end)


def answer(stream: Asked | int, body: bytes = b"1", *, status: int = 200) -> tuple[bytes, bytes]:
    """A whole answer: its head, and its body in one frame."""
    number = stream if isinstance(stream, int) else stream.stream
    return head(number, status=status, length=len(body)), frames.data(number, body, end=True)


def scripted(
    script: Callable[[H2Peer], None], values: Mapping[int, int] | None = None, *, greet: bool = True
) -> Script:
    """*script* for each connection, after our SETTINGS with these *values* (``greet``)."""

    def run(peer: Peer) -> None:
        script(H2Peer(peer, values, greet=greet))

    return run


# --- a whole server ----------------------------------------------------------------------------------------------

App: TypeAlias = "Callable[[Asked], bytes | None]"


@attrs.define
class Served:
    """What the whole server has seen, over all its connections."""

    asked: list[Asked] = attrs.field(factory=list[Asked], repr=False)
    reset: list[int] = attrs.field(factory=list[int])
    most_open: int = 0
    torn: int = 0  # connections that ended in the middle of a frame


def serving(app: App, values: Mapping[int, int] | None = None, seen: Served | None = None) -> Script:
    """Another implementation's server, which takes no nonsense. *app* gives the body for a whole request, or None for
    no answer, ever. Answers of all streams leave by turns, as the windows let them."""
    notes = seen or Served()

    def run(peer: Peer) -> None:
        assert not isinstance(peer.sock, ssl.SSLSocket)
        connection = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None, validate_inbound_headers=True)
        )
        initial = {h2.settings.SettingCodes(code): value for code, value in (values or {}).items()}
        connection.local_settings = h2.settings.Settings(client=False, initial_values=initial)
        connection.initiate_connection()
        judge = Judge()
        left: dict[int, memoryview] = {}
        out = bytearray()
        peer.sock.setblocking(False)
        until = time.monotonic() + 30.0
        while time.monotonic() < until:
            fresh = connection.data_to_send()
            judge.sent(fresh)
            out += fresh
            if len(out) < 262_144:
                for stream in list(left):
                    if _send_some(connection, stream, left):
                        left[stream] = left.pop(stream)  # to the end of the line
                fresh = connection.data_to_send()
                judge.sent(fresh)
                out += fresh
            readable, writable, _ = select.select([peer.sock], [peer.sock] if out else [], [], 1.0)
            if writable:
                del out[: peer.sock.send(out)]
            if not readable:
                continue
            data = peer.sock.recv(262_144)
            if not data:
                notes.torn += bool(judge.rest)
                return
            judge.feed(data)
            notes.most_open = max(notes.most_open, judge.most_open)
            for event in connection.receive_data(data):
                match event:
                    case h2.events.DataReceived():
                        connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
                    case h2.events.StreamEnded():
                        stream = event.stream_id or 0
                        asked = judge.asked[stream]
                        notes.asked.append(asked)
                        body = app(asked)
                        if body is not None and asked.reset is None:  # which may have come in the same read
                            fields = [(b":status", b"200"), JSON, (b"content-length", b"%d" % len(body))]
                            connection.send_headers(stream, fields)
                            left[stream] = memoryview(body)
                    case h2.events.StreamReset():
                        notes.reset.append(event.stream_id or 0)
                        left.pop(event.stream_id or 0, None)
                    case h2.events.ConnectionTerminated():
                        return
                    case _:
                        pass

    return run


def _send_some(connection: h2.connection.H2Connection, stream: int, left: dict[int, memoryview]) -> bool:
    """Whether there is more to come."""
    rest = left[stream]
    size = min(len(rest), connection.local_flow_control_window(stream), connection.max_outbound_frame_size)
    if size < len(rest) and size <= 0:
        return True
    connection.send_data(stream, bytes(rest[:size]), end_stream=size == len(rest))
    left[stream] = rest[size:]
    if size == len(rest):
        del left[stream]
        return False
    return True


# --- the client's side ---------------------------------------------------------------------------------------------

QUICK = RetryPolicy(wait_initial=0.001)


class Call:
    """A call under way in a task of its own."""

    def __init__(self, work: Awaitable[Any]) -> None:
        self._work = work
        self._scope = anyio.CancelScope()
        self._over = anyio.Event()
        self._value: Any = None
        self.error: Exception | None = None

    async def run(self) -> None:
        try:
            with self._scope:
                self._value = await self._work
        except Exception as exc:
            self.error = exc
        finally:
            self._over.set()

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    async def end(self) -> Any:
        """What it returned; what it raised."""
        with anyio.fail_after(10):
            await self._over.wait()
        if self.error is not None:
            raise self.error
        return self._value

    async def cancel(self) -> None:
        self._scope.cancel()
        with anyio.fail_after(10):
            await self._over.wait()
        assert self._scope.cancelled_caught


def begin(group: TaskGroup, work: Awaitable[Any]) -> Call:
    call = Call(work)
    group.start_soon(call.run)
    return call


async def at_once(*works: Awaitable[Any]) -> list[Any]:
    """What each of them returned or raised."""
    async with anyio.create_task_group() as group:
        calls = [begin(group, work) for work in works]
    return [call._value if call.error is None else call.error for call in calls]


def pool_of(client: AsyncAPIClient) -> Any:
    return client._transport.pool  # type: ignore[attr-defined]


def connection_of(client: AsyncAPIClient) -> Any:
    """Its only connection."""
    (connection,) = pool_of(client)._connections.values()
    return connection


def check_nothing_is_left(pool: Any) -> None:
    """No call is under way: nobody waits, no slot, stream or baton is held."""
    pool.bury()
    machine = pool._machine
    assert not pool._waiters
    assert not machine.waiting_count
    assert not machine._opening
    assert pool._connections.keys() == machine._connections.keys()
    for number, connection in pool._connections.items():
        assert machine._connections[number].used == 0
        assert not connection.exchanges
        assert not connection._waiters
        assert not connection._reading
        assert connection._flushing is None
        if connection.shared:
            assert not connection.wire._streams
            assert not connection.wire._blocked
            assert not connection.wire._h2.streams


@contextlib.asynccontextmanager
async def client_of(
    peer: ScriptedServer, transport: HTTPTransport | None = None, *, seconds: float = 15.0, **options: Any
) -> AsyncIterator[AsyncAPIClient]:
    """A client that speaks HTTP/2 with prior knowledge. At the end it must hold nothing, and the loop no task more."""
    tasks = task_count()
    transport = transport or HTTPTransport(http1=False)
    options = {"base_url": peer.url, "retry": QUICK, **options}
    with anyio.fail_after(seconds):
        async with AsyncAPIClient(http_client=transport, **options) as client:
            yield client
            check_nothing_is_left(transport.pool)
    assert transport.pool.open_count == 0
    assert task_count() == tasks


async def again(client: AsyncAPIClient) -> None:
    """The next call works."""
    with anyio.fail_after(5):
        assert await client.get("/again", cast_to=int, options={"max_retries": 0}) == 1
