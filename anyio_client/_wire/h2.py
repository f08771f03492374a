"""HTTP/2 (RFC 9113), beside h2.

h2 keeps the connection: SETTINGS and their limits, PING, the GOAWAY of an error. The streams are ours both ways, and h2
knows of none, because it judges them too hard, or does it too dearly:

* An answer that breaks the rules ends its stream, not the connection (section 8.1.1). h2 closes the connection over a
  malformed Content-Length, an interim response that comes too late, a field that is not allowed.
* GOAWAY would make h2 close at once and drop the streams that the server still finishes.
* DATA is printed by h2 for a log that nobody reads, and compared with the Content-Length of answers that have no body.
* Frames for a stream that we have reset are in flight for a while: they count for the connection's window and for header
  compression. h2 answers each with another RST_STREAM.

So h2 sees SETTINGS and PING only. What else:

* Frames for a stream that was never opened, or that has ended, end the connection: they can never become an answer.
* Credit: the connection's window is given back as data arrives, so that an answer that nobody reads cannot starve its
  siblings; a stream's window as its data is used, and it grows while its reader keeps up.
* Floods: frames that bring nothing are counted until one brings something.

An exchange's id is its stream's.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import attrs
import h2.config
import h2.connection
import h2.exceptions
import h2.settings

from .._model.errors import Outcome
from .._model.head import ResponseHead
from .._model.headers import Headers
from .._model.request import Request
from .compression import BlockDecoder, RepeatingEncoder
from .fields import Malformed, check_trailers, content_length, request_fields, response_head, trailer_fields
from .frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    ConnectionViolation,
    ErrorCode,
    Frame,
    FrameReader,
    FrameType,
    error_name,
    frame_header,
    window_update,
)
from .protocol import (
    DataReceived,
    Ended,
    Failed,
    InterimReceived,
    ResponseReceived,
    SendAllowed,
    WireEvent,
    WireMisuse,
)

__all__ = ["H2Wire"]

# A stream begins with the first and ends up with the second while its reader keeps up: 32 MiB carry 2 Gbit/s over 100
# ms. What is not read is kept in memory, so an answer that nobody reads costs the first at most.
STREAM_WINDOW: Final = 2**20
MAX_STREAM_WINDOW: Final = 32 * 2**20
# More than any stream's, so that it never stops the peer; what has arrived is given back a quarter at a time.
CONNECTION_WINDOW: Final = 128 * 2**20
INITIAL_WINDOW: Final = 65_535  # of every connection (section 6.9.2)
MAX_WINDOW: Final = 2**31 - 1  # section 6.9.1
MIN_FRAME_SIZE: Final = 16_384  # what every peer takes (section 4.2)
MAX_HEADER_LIST_SIZE: Final = 64 * 1024
MAX_INTERIM_RESPONSES: Final = 100
# Frames in a row that bring nothing: PING, SETTINGS, PRIORITY, empty DATA, WINDOW_UPDATE while nothing is sent, those
# for streams that are over. A server that pings a silent stream every 15 seconds comes to it after 41 hours.
MAX_IDLE_FRAMES: Final = 10_000
MAX_RESET_STREAMS: Final = 10_000  # how many streams that we have reset are remembered, for frames still in flight
MAX_BLOCK_SIZE: Final = 2 * MAX_HEADER_LIST_SIZE  # of a header block before it is decoded
MAX_SETTING: Final = 6  # settings with higher numbers are extensions
LAST_STREAM: Final = 2**31 - 1

_Settings = h2.settings.SettingCodes

_CONFIG = h2.config.H2Configuration(client_side=True, header_encoding=None)


@attrs.define
class _Stream:
    """One exchange, from its request until its answer is complete or given up."""

    number: int
    is_head: bool
    declared: int | None  # the request's Content-Length
    send_window: int  # bytes that we may send now
    sent: int = 0
    finished: bool = False  # the request is complete
    answered: bool = False  # the head of the final response came
    interim: int = 0
    expected: int | None = None  # bytes of the response's body, where the head says
    received: int = 0
    window: int = STREAM_WINDOW  # bytes that may be under way or unread
    left: int = STREAM_WINDOW  # bytes that the peer may send now
    unread: int = 0  # bytes that were handed on and not used yet
    credit: int = 0  # bytes that the peer may send again, and was not told so yet

    @property
    def outcome(self) -> Outcome:
        return Outcome.ANSWERED if self.answered else Outcome.UNKNOWN


class H2Wire:
    """One HTTP/2 connection, client side. See :class:`~anyio_client._wire.protocol.Wire`."""

    http_version = "HTTP/2"

    def __init__(self) -> None:
        self._h2 = h2.connection.H2Connection(_CONFIG)
        self._encoder = RepeatingEncoder()
        self._h2.encoder = self._encoder  # which hears of the size that the peer allows its table
        self._decoder = BlockDecoder(MAX_HEADER_LIST_SIZE)
        self._h2.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                _Settings.ENABLE_PUSH: 0,
                _Settings.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                _Settings.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST_SIZE,
            },
        )
        self._h2.initiate_connection()
        self._out = [self._h2.data_to_send(), window_update(0, CONNECTION_WINDOW - INITIAL_WINDOW)]
        self._left = CONNECTION_WINDOW  # of the connection, as _Stream.left and _Stream.credit are of a stream
        self._credit = 0
        self._reader = FrameReader()
        self._block = bytearray()  # the header block that has begun to come, and whether its stream ends with it
        self._block_ends = False
        self._streams: dict[int, _Stream] = {}
        self._blocked: OrderedDict[int, None] = OrderedDict()  # who waits for window, the longest first
        self._reset: OrderedDict[int, int] = OrderedDict()  # stream -> bytes that the peer may still have sent
        self._last = 0  # the last stream opened
        self._idle_frames = 0
        self._settled = False  # the peer's SETTINGS have come
        self._limit = 1  # streams at once; it is not known yet
        self._frame_size = MIN_FRAME_SIZE  # the largest that the peer takes
        self._send_window = self._initial_window = INITIAL_WINDOW  # of the connection, and of a new stream
        self._goaway: int | None = None  # the last stream that the peer serves
        self._goaway_code: int = ErrorCode.NO_ERROR
        self._closed = False

    # -- sending

    def open(self, request: Request, end: bool) -> int:
        if len(self._streams) >= self.capacity():
            raise RuntimeError("this connection cannot carry a further exchange now")
        if request.method == "CONNECT":
            raise WireMisuse("CONNECT makes a tunnel, which is no exchange")
        declared = _declared_length(request, end)
        number = self._last = self._last + 2 if self._last else 1
        self._queue_block(number, self._encoder.encode(request_fields(request)), end)
        self._streams[number] = _Stream(number, request.method == "HEAD", declared, self._initial_window, finished=end)
        self._idle_frames = 0
        return number

    def _queue_block(self, number: int, block: bytes, end: bool) -> None:
        """A header block, in as many frames as the peer needs; with the last of them nothing comes in between."""
        size, flags = self._frame_size, END_STREAM if end else 0
        if len(block) <= size:
            self._out += (frame_header(len(block), FrameType.HEADERS, flags | END_HEADERS, number), block)
            return
        kind = FrameType.HEADERS
        for place in range(0, len(block), size):
            part = block[place : place + size]
            if place + size >= len(block):
                flags |= END_HEADERS
            self._out += (frame_header(len(part), kind, flags, number), part)
            kind, flags = FrameType.CONTINUATION, 0

    def send(self, exchange: int, data: bytes | bytearray | memoryview) -> int:
        view = memoryview(data).cast("B")
        size = len(view)
        stream = self._streams.get(exchange)
        if stream is None or stream.finished:
            return size
        if stream.declared is not None and stream.sent + size > stream.declared:
            raise WireMisuse("Too much data for declared Content-Length")
        accepted = max(0, min(size, self._send_window, stream.send_window))
        step = self._frame_size
        for place in range(0, accepted, step):
            part = view[place : min(place + step, accepted)]
            self._out += (frame_header(len(part), FrameType.DATA, 0, exchange), bytes(part))
        if accepted:
            self._send_window -= accepted
            stream.send_window -= accepted
            stream.sent += accepted
            self._idle_frames = 0
        if accepted < size:
            self._blocked[exchange] = None
        return accepted

    def finish(self, exchange: int, trailers: Headers | None = None) -> None:
        stream = self._streams.get(exchange)
        if stream is None or stream.finished:
            return
        if stream.declared is not None and stream.sent < stream.declared:
            raise WireMisuse("Too little data for declared Content-Length")
        stream.finished = True
        if trailers:
            self._queue_block(exchange, self._encoder.encode(trailer_fields(trailers)), True)
        else:
            self._out.append(frame_header(0, FrameType.DATA, END_STREAM, exchange))

    def ping(self) -> bool:
        if self._closed:
            return False
        self._h2.ping(b"anyioccl")
        return True

    def take_output(self) -> bytes:
        output = self._h2.data_to_send()
        if self._out:
            self._out.append(output)
            output = b"".join(self._out)
            self._out.clear()
        return output

    # -- ending

    def abandon(self, exchange: int) -> None:
        stream = self._streams.get(exchange)
        if stream is not None:
            self._reset_stream(stream, ErrorCode.CANCEL)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._streams.clear()
            self._blocked.clear()
            self._h2.close_connection()

    def _reset_stream(self, stream: _Stream, code: ErrorCode) -> None:
        """Send RST_STREAM; the peer may have sent more before it reads that."""
        self._forget(stream)
        self._expect_late(stream)
        self._queue_reset(stream, code)

    def _queue_reset(self, stream: _Stream, code: ErrorCode) -> None:
        self._out.append(frame_header(4, FrameType.RST_STREAM, 0, stream.number) + code.to_bytes(4, "big"))

    def _expect_late(self, stream: _Stream) -> None:
        """Frames of a stream that is over are not the peer's fault; they count against the window it had."""
        self._reset[stream.number] = stream.left
        if len(self._reset) > MAX_RESET_STREAMS:
            self._reset.popitem(last=False)

    def _forget(self, stream: _Stream) -> None:
        del self._streams[stream.number]
        self._blocked.pop(stream.number, None)

    # -- windows

    def consumed(self, exchange: int, size: int) -> None:
        stream = self._streams.get(exchange)
        if stream is not None:
            stream.unread -= size
            self._give_credit(stream, size)

    def _give_credit(self, stream: _Stream, size: int) -> None:
        stream.credit += size
        if stream.credit < stream.window // 8:
            return
        increment = stream.credit
        if not stream.unread and stream.window < MAX_STREAM_WINDOW:
            increment += stream.window
            stream.window *= 2
        stream.credit = 0
        stream.left += increment
        self._out.append(window_update(stream.number, increment))

    def _take_in(self, size: int) -> None:
        """Data of *size* bytes has arrived, padding included: the connection's window is given back."""
        self._left -= size
        if self._left < 0:
            raise ConnectionViolation(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window allows")
        self._credit += size
        if self._credit >= CONNECTION_WINDOW // 4:
            self._out.append(window_update(0, self._credit))
            self._left += self._credit
            self._credit = 0

    # -- what it can carry

    def capacity(self) -> int:
        if self.closing:
            return 0
        return self._limit

    @property
    def receiving(self) -> int:
        return self._reader.partial

    @property
    def settled(self) -> bool:
        return self._settled

    @property
    def closing(self) -> bool:
        return self._closed or self._goaway is not None or self._last >= LAST_STREAM

    def keepalive(self) -> float | None:
        return None

    # -- receiving

    def receive_folded(self, data: bytes) -> list[WireEvent]:
        return self.receive(data)

    def receive(self, data: bytes) -> list[WireEvent]:
        events: list[WireEvent] = []
        if self._closed:
            return events
        if not data:
            self._lose(events)
            return events
        try:
            for frame in self._reader.feed(data):
                self._receive_frame(frame, events)
        except ConnectionViolation as exc:
            self._break(events, exc.code, exc.reason)
        except h2.exceptions.ProtocolError as exc:
            self._break(events, None, str(exc))  # of SETTINGS: it quotes numbers only
        return events

    def _receive_frame(self, frame: Frame, events: list[WireEvent]) -> None:
        kind = frame.type
        if kind > FrameType.CONTINUATION or kind == FrameType.PRIORITY:
            self._waste()  # extensions are ignored (section 5.5), and so are priorities (section 5.3.2)
        elif kind == FrameType.GOAWAY:
            self._receive_goaway(frame, events)
        elif kind == FrameType.PUSH_PROMISE:
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, "it pushed, which was switched off")
        elif not frame.stream:
            self._waste()
            self._receive_control(frame, events)
        elif kind == FrameType.HEADERS or kind == FrameType.CONTINUATION:
            self._receive_block(frame, events)
        else:
            stream = self._streams.get(frame.stream)
            if stream is None:
                self._receive_late(frame)
            elif kind == FrameType.DATA:
                self._receive_data(stream, frame, events)
            elif kind == FrameType.RST_STREAM:
                self._receive_reset(stream, frame, events)
            else:
                self._receive_window(stream, frame, events)

    def _waste(self) -> None:
        self._idle_frames += 1
        if self._idle_frames > MAX_IDLE_FRAMES:
            reason = f"more than {MAX_IDLE_FRAMES} frames in a row brought nothing"
            raise ConnectionViolation(ErrorCode.ENHANCE_YOUR_CALM, reason)

    # -- frames of the connection

    def _receive_control(self, frame: Frame, events: list[WireEvent]) -> None:
        if frame.type == FrameType.WINDOW_UPDATE:
            if not frame.number():
                raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, "a window was opened by nothing")
            self._send_window += frame.number()
            if self._send_window > MAX_WINDOW:
                raise ConnectionViolation(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
        elif frame.type == FrameType.SETTINGS and not frame.flags & ACK:
            self._h2.receive_data(_known_settings(frame).raw)
            self._apply_settings()
        else:
            self._h2.receive_data(frame.raw)
        if self._blocked and self._send_window > 0 and frame.type != FrameType.PING:
            for number in [n for n in self._blocked if self._streams[n].send_window > 0]:
                self._allow(number, events)

    def _apply_settings(self) -> None:
        """What the peer has said holds from our acknowledgement on, which so goes before all that follows."""
        self._out.append(self._h2.data_to_send())
        said = self._h2.remote_settings
        self._settled = True
        self._limit = said.max_concurrent_streams
        self._frame_size = said.max_frame_size
        change = said.initial_window_size - self._initial_window
        self._initial_window += change
        for stream in self._streams.values() if change else ():  # section 6.9.2; it may leave less than nothing
            stream.send_window += change
            if stream.send_window > MAX_WINDOW:
                raise ConnectionViolation(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")

    def _allow(self, number: int, events: list[WireEvent]) -> None:
        del self._blocked[number]
        events.append(SendAllowed(number))

    def _receive_goaway(self, frame: Frame, events: list[WireEvent]) -> None:
        self._waste()
        last = frame.number()
        self._goaway = last if self._goaway is None else min(last, self._goaway)
        self._goaway_code = int.from_bytes(frame.payload[4:8], "big")
        for stream in [stream for stream in self._streams.values() if stream.number > self._goaway]:
            self._forget(stream)
            self._expect_late(stream)  # a server that answers it nevertheless harms no other stream
            if stream.answered:  # it contradicts itself, and is not believed
                reason, outcome = "the server closes the connection in the middle of its answer", Outcome.ANSWERED
            else:
                reason, outcome = "the server closes the connection and did not process this request", Outcome.REFUSED
            events.append(Failed(stream.number, reason + self._why, lost=True, outcome=outcome))

    @property
    def _why(self) -> str:
        return "" if self._goaway_code == ErrorCode.NO_ERROR else f" (GOAWAY, {error_name(self._goaway_code)})"

    def _lose(self, events: list[WireEvent]) -> None:
        self._closed = True
        self._fail_all(events, f"the connection ended before the answer did{self._why}", lost=True)

    def _break(self, events: list[WireEvent], code: ErrorCode | None, reason: str) -> None:
        """The peer has broken HTTP/2. *code*: None where h2 found it, and has queued its GOAWAY."""
        if code is not None:
            self._h2.close_connection(code)
        self._closed = True
        self._fail_all(events, reason, lost=False)

    def _fail_all(self, events: list[WireEvent], reason: str, *, lost: bool) -> None:
        events.extend(Failed(stream.number, reason, lost, stream.outcome) for stream in self._streams.values())
        self._streams.clear()
        self._blocked.clear()

    # -- frames of a stream

    def _receive_late(self, frame: Frame) -> None:
        """A frame for a stream that is over, or was never there."""
        if frame.type == FrameType.DATA:
            self._check_late(frame)
            self._take_late(frame)
        else:  # RST_STREAM and WINDOW_UPDATE may cross with our last frame (section 5.1)
            self._check_opened(frame)
            self._waste()

    def _check_opened(self, frame: Frame) -> None:
        if frame.stream > self._last or not frame.stream % 2:
            reason = f"a {frame.name} frame for a stream that was never opened"
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, reason)

    def _check_late(self, frame: Frame) -> None:
        """Whether the server may send such a frame for a stream that is over: only if it was we who ended it."""
        self._check_opened(frame)
        if frame.stream not in self._reset:
            raise ConnectionViolation(ErrorCode.STREAM_CLOSED, f"a {frame.name} frame for a stream that has ended")

    def _take_late(self, frame: Frame) -> None:
        """DATA that was in flight when we reset the stream: it counts for the connection, and goes nowhere."""
        size = len(frame.payload)
        self._take_in(size)
        self._reset[frame.stream] -= size
        if self._reset[frame.stream] < 0:
            raise ConnectionViolation(ErrorCode.FLOW_CONTROL_ERROR, "more data for a stream than its window allows")
        if not size:
            self._waste()

    def _refuse(self, stream: _Stream, events: list[WireEvent], reason: str, *, ended: bool = False) -> None:
        """The answer is malformed: the stream ends (section 8.1.1). *ended*: the server has ended its side."""
        if ended and stream.finished:  # closed on both sides: there is nothing to reset
            self._forget(stream)
        else:
            self._reset_stream(stream, ErrorCode.PROTOCOL_ERROR)
        events.append(Failed(stream.number, reason, lost=False, outcome=stream.outcome))

    def _refuse_data(self, stream: _Stream, frame: Frame, events: list[WireEvent], reason: str) -> None:
        self._refuse(stream, events, reason)
        self._take_late(frame)

    def _receive_reset(self, stream: _Stream, frame: Frame, events: list[WireEvent]) -> None:
        self._forget(stream)
        code = int.from_bytes(frame.payload, "big")
        outcome = Outcome.REFUSED if code == ErrorCode.REFUSED_STREAM and not stream.answered else stream.outcome
        events.append(Failed(stream.number, f"the stream was reset ({error_name(code)})", lost=True, outcome=outcome))

    def _receive_window(self, stream: _Stream, frame: Frame, events: list[WireEvent]) -> None:
        self._waste()
        if not frame.number():
            self._refuse(stream, events, "a window was opened by nothing")
            return
        stream.send_window += frame.number()
        if stream.send_window > MAX_WINDOW:
            self._reset_stream(stream, ErrorCode.FLOW_CONTROL_ERROR)
            reason = "flow control was violated"
            events.append(Failed(stream.number, reason, lost=False, outcome=stream.outcome))
        elif stream.number in self._blocked and min(stream.send_window, self._send_window) > 0:
            self._allow(stream.number, events)

    def _receive_data(self, stream: _Stream, frame: Frame, events: list[WireEvent]) -> None:
        data = frame.data()
        end = bool(frame.flags & END_STREAM)
        received = stream.received + len(data)
        if not stream.answered:
            self._refuse_data(stream, frame, events, "data came before the head")
            return
        if stream.expected is not None and (received > stream.expected or (end and received < stream.expected)):
            self._refuse_data(stream, frame, events, "the body does not fit the Content-Length")
            return
        length = len(frame.payload)
        self._take_in(length)
        stream.left -= length
        if stream.left < 0:
            raise ConnectionViolation(ErrorCode.FLOW_CONTROL_ERROR, "more data for a stream than its window allows")
        stream.received = received
        if data:
            self._idle_frames = 0
            stream.unread += len(data)
            events.append(DataReceived(stream.number, data))
        else:
            self._waste()
        if end:
            self._end(stream, None, events)
        elif length > len(data):
            self._give_credit(stream, length - len(data))  # nobody reads padding

    def _receive_block(self, frame: Frame, events: list[WireEvent]) -> None:
        """A part of a header block; nothing comes between its parts, so that one is under way at a time."""
        if frame.type == FrameType.HEADERS:
            if frame.stream not in self._streams:
                self._check_late(frame)
            self._block.clear()
            self._block_ends = bool(frame.flags & END_STREAM)
        else:
            self._waste()
        self._block += frame.fragment()
        if len(self._block) > MAX_BLOCK_SIZE:
            reason = f"a header block is larger than {MAX_BLOCK_SIZE} bytes"
            raise ConnectionViolation(ErrorCode.ENHANCE_YOUR_CALM, reason)
        if not frame.flags & END_HEADERS:
            return
        fields = self._decoder.decode(bytes(self._block))  # also of a stream that is over: the table goes on
        stream = self._streams.get(frame.stream)
        if stream is None:
            self._waste()
            return
        self._idle_frames = 0
        try:
            if stream.answered:
                self._receive_trailers(stream, fields, events)
            else:
                self._receive_head(stream, fields, events)
        except Malformed as exc:
            self._refuse(stream, events, str(exc), ended=self._block_ends)

    def _receive_head(self, stream: _Stream, fields: list[tuple[bytes, bytes]], events: list[WireEvent]) -> None:
        head, end = response_head(fields), self._block_ends
        if head.status_code < 200:
            self._receive_interim(stream, head, events)
            return
        length = content_length(head)
        stream.expected = 0 if stream.is_head or head.status_code in (204, 304) else length
        if end and stream.expected:
            raise Malformed("the body does not fit the Content-Length")
        stream.answered = True
        events.append(ResponseReceived(stream.number, head))
        if end:
            self._end(stream, None, events)

    def _receive_interim(self, stream: _Stream, head: ResponseHead, events: list[WireEvent]) -> None:
        if self._block_ends:
            raise Malformed("an interim response ended the stream")
        if head.status_code == 101:
            raise Malformed("101 (Switching Protocols) does not exist in HTTP/2")
        stream.interim += 1
        if stream.interim > MAX_INTERIM_RESPONSES:
            raise Malformed(f"more than {MAX_INTERIM_RESPONSES} interim responses")
        events.append(InterimReceived(stream.number, head))

    def _receive_trailers(self, stream: _Stream, fields: list[tuple[bytes, bytes]], events: list[WireEvent]) -> None:
        if not self._block_ends:
            raise Malformed("fields came after the head that are no trailers")
        trailers = check_trailers(fields)
        if stream.expected is not None and stream.received < stream.expected:
            raise Malformed("the body does not fit the Content-Length")
        self._end(stream, trailers if len(trailers) else None, events)

    def _end(self, stream: _Stream, trailers: Headers | None, events: list[WireEvent]) -> None:
        """The answer is complete. A request that is not is given up: nobody waits for the rest of it (section 8.1)."""
        self._forget(stream)
        if not stream.finished:
            self._queue_reset(stream, ErrorCode.NO_ERROR)
        events.append(Ended(stream.number, trailers))


def _declared_length(request: Request, end: bool) -> int | None:
    """The Content-Length of *request*. WireMisuse where it is no number, or does not fit a request without a body."""
    declared = request.headers.get("content-length")
    if declared is None:
        return None
    if not (declared.isascii() and declared.isdigit()):
        raise WireMisuse(f"the Content-Length {declared!r} is no number")
    if end and int(declared):
        raise WireMisuse("Too little data for declared Content-Length")
    return int(declared)


def _known_settings(frame: Frame) -> Frame:
    """A SETTINGS frame without those that nobody knows, which h2 would keep."""
    payload = frame.payload
    places = range(0, len(payload), 6)
    known = [payload[i : i + 6] for i in places if int.from_bytes(payload[i : i + 2], "big") <= MAX_SETTING]
    return frame._replace(payload=b"".join(known))
