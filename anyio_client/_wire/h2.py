"""HTTP/2 (RFC 9113), over h2.

h2 keeps the streams' states, the windows for what we send and the header compression, and writes frames. This file adds
what h2 leaves to its user, and takes away what h2 judges too hard or does too dearly:

* An answer that breaks the rules ends its stream, not the connection (section 8.1.1): what a frame or a field section
  shows is judged here, before or after h2 had it, and h2's own validation of fields is switched off.
* GOAWAY never reaches h2, which would close at once and drop the streams that the server still finishes.
* DATA never reaches h2 either, which would print each frame for a log that nobody reads and compare its length with the
  Content-Length of answers that have no body: the windows for what we receive are kept here, and only here.
* Frames for a stream that we have reset are in flight for a while: they count for the connection's window and for header
  compression, and h2's RST_STREAM in answer to each of them is left out.
* Frames for a stream that was never opened, or that has ended, end the connection: they can never become an answer.
* Credit: the connection's window is given back as data arrives, so that an answer that nobody reads cannot starve its
  siblings; a stream's window as its data is used, and it grows while its reader keeps up.
* Floods: frames that bring nothing are counted until one brings something.

An exchange's id is its stream's.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, cast

import attrs
import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from .._model.errors import Outcome
from .._model.headers import Headers
from .._model.request import Request
from .compression import RepeatingDecoder, RepeatingEncoder
from .fields import Malformed, check_trailers, content_length, request_fields, response_head
from .frames import (
    ACK,
    END_STREAM,
    ConnectionViolation,
    ErrorCode,
    Frame,
    FrameReader,
    FrameType,
    error_name,
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
MAX_HEADER_LIST_SIZE: Final = 64 * 1024
MAX_INTERIM_RESPONSES: Final = 100
# Frames in a row that bring nothing: PING, SETTINGS, PRIORITY, empty DATA, WINDOW_UPDATE while nothing is sent, those
# for streams that are over. A server that pings a silent stream every 15 seconds comes to it after 41 hours.
MAX_IDLE_FRAMES: Final = 10_000
MAX_RESET_STREAMS: Final = 10_000  # how many streams that we have reset are remembered, for frames still in flight
MAX_TABLE_SIZE: Final = 4096  # of our encoder, whatever the peer would keep: its search is a scan
LAST_STREAM: Final = 2**31 - 1

_Settings = h2.settings.SettingCodes

_CONFIG = h2.config.H2Configuration(
    client_side=True,
    header_encoding=None,
    validate_outbound_headers=False,  # request_fields makes none that would be refused
    normalize_outbound_headers=False,
    validate_inbound_headers=False,  # response_head and check_trailers do, for the stream and not the connection
    normalize_inbound_headers=False,
)


@attrs.define
class _Stream:
    """One exchange, from its request until its answer is complete or given up."""

    number: int
    is_head: bool
    declared: int | None  # the request's Content-Length
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


class _Connection(h2.connection.H2Connection):
    """h2's connection, which counts its open streams by a scan for every new one; we know how many there are."""

    in_use = 0

    @property
    def open_outbound_streams(self) -> int:
        if len(self.streams) > 2 * self.in_use + 64:  # the scan also forgets those that are over
            return super().open_outbound_streams
        return self.in_use


class H2Wire:
    """One HTTP/2 connection, client side. See :class:`~anyio_client._wire.protocol.Wire`."""

    http_version = "HTTP/2"

    def __init__(self) -> None:
        self._h2 = _Connection(_CONFIG)
        self._h2.encoder = RepeatingEncoder()
        self._h2.decoder = RepeatingDecoder()
        self._h2.decoder.max_header_list_size = MAX_HEADER_LIST_SIZE
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
        self._streams: dict[int, _Stream] = {}
        self._blocked: OrderedDict[int, None] = OrderedDict()  # who waits for window, the longest first
        self._reset: OrderedDict[int, int] = OrderedDict()  # stream -> bytes that the peer may still have sent
        self._last = 0  # the last stream opened
        self._idle_frames = 0
        self._settled = False  # the peer's SETTINGS have come
        self._goaway: int | None = None  # the last stream that the peer serves
        self._goaway_code: int = ErrorCode.NO_ERROR
        self._closed = False

    # -- sending

    def open(self, request: Request, end: bool) -> int:
        if len(self._streams) >= self.capacity():
            raise RuntimeError("this connection cannot carry a further exchange now")
        declared = request.headers.get("content-length")
        number = self._h2.get_next_available_stream_id()
        self._h2.in_use = len(self._streams)
        self._h2.send_headers(number, request_fields(request), end_stream=end)
        self._last = number
        self._streams[number] = _Stream(
            number, request.method == "HEAD", None if declared is None else int(declared), finished=end
        )
        self._idle_frames = 0
        return number

    def send(self, exchange: int, data: bytes | bytearray | memoryview) -> int:
        view = memoryview(data).cast("B")
        size = len(view)
        stream = self._streams.get(exchange)
        if stream is None or stream.finished:
            return size
        if stream.declared is not None and stream.sent + size > stream.declared:
            raise WireMisuse("Too much data for declared Content-Length")
        accepted = max(0, min(size, self._h2.local_flow_control_window(exchange)))
        step = self._h2.max_outbound_frame_size
        for place in range(0, accepted, step):
            self._h2.send_data(exchange, view[place : min(place + step, accepted)])
        if accepted:
            stream.sent += accepted
            self._idle_frames = 0
        if accepted < size:
            self._blocked[exchange] = None
        return accepted

    def finish(self, exchange: int) -> None:
        stream = self._streams.get(exchange)
        if stream is None or stream.finished:
            return
        if stream.declared is not None and stream.sent < stream.declared:
            raise WireMisuse("Too little data for declared Content-Length")
        stream.finished = True
        self._h2.end_stream(exchange)

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
            self._h2.close_connection()

    def _reset_stream(self, stream: _Stream, code: ErrorCode) -> None:
        """Send RST_STREAM; what the peer has sent before it reads that is counted against the window it had."""
        self._forget(stream)
        self._reset[stream.number] = stream.left
        if len(self._reset) > MAX_RESET_STREAMS:
            self._reset.popitem(last=False)
        self._h2.reset_stream(stream.number, code)

    def _close_in_h2(self, stream: _Stream) -> None:
        """Tell h2 that a stream is over, and the peer nothing, since it knows."""
        self._out.append(self._h2.data_to_send())
        self._h2.reset_stream(stream.number, ErrorCode.NO_ERROR)
        self._h2.clear_outbound_data_buffer()

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
        if not self._settled:
            return 1  # the limit is not known yet
        return self._h2.remote_settings.max_concurrent_streams

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
        except h2.exceptions.DenialOfServiceError:
            self._break(events, None, f"a header list is larger than {MAX_HEADER_LIST_SIZE} bytes")
        except h2.exceptions.FlowControlError:
            self._break(events, None, "flow control was violated")
        except h2.exceptions.H2Error as exc:
            # h2's text is not passed on: it may quote a field that holds a cookie.
            self._break(events, None, f"a frame is not allowed there, or malformed ({type(exc).__name__})")
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
        else:
            stream = self._streams.get(frame.stream)
            if stream is None:
                self._receive_late(frame)
            elif kind == FrameType.DATA:
                self._receive_data(stream, frame, events)
            elif kind == FrameType.HEADERS or kind == FrameType.CONTINUATION:
                self._receive_headers(stream, frame, events)
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
        if frame.type == FrameType.WINDOW_UPDATE and not frame.number():
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, "a window was opened by nothing")
        self._h2.receive_data(frame.raw)
        if frame.type == FrameType.SETTINGS and not frame.flags & ACK:
            self._settled = True
            if self._h2.encoder.header_table_size > MAX_TABLE_SIZE:
                self._h2.encoder.header_table_size = MAX_TABLE_SIZE
        if self._blocked and frame.type != FrameType.PING:
            for number in [n for n in self._blocked if self._h2.local_flow_control_window(n) > 0]:
                self._allow(number, events)

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
            self._close_in_h2(stream)
            reason = f"the server closes the connection and did not process this request{self._why}"
            events.append(Failed(stream.number, reason, lost=True, outcome=Outcome.REFUSED))

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
        kind, number = frame.type, frame.stream
        if number > self._last or not number % 2:
            raise ConnectionViolation(
                ErrorCode.PROTOCOL_ERROR, f"a {frame.name} frame for a stream that was never opened"
            )
        if kind == FrameType.RST_STREAM or kind == FrameType.WINDOW_UPDATE:
            self._waste()  # both may cross with our last frame (section 5.1)
            return
        if number not in self._reset:
            if self._goaway is not None and number > self._goaway:
                raise ConnectionViolation(
                    ErrorCode.STREAM_CLOSED, f"a {frame.name} frame for a stream that was refused"
                )
            raise ConnectionViolation(ErrorCode.STREAM_CLOSED, f"a {frame.name} frame for a stream that has ended")
        self._feed_late(frame)

    def _feed_late(self, frame: Frame) -> None:
        """What was in flight when we reset the stream: it counts for the connection, and goes nowhere."""
        if frame.type == FrameType.DATA:
            size = len(frame.payload)
            self._take_in(size)
            self._reset[frame.stream] -= size
            if self._reset[frame.stream] < 0:
                raise ConnectionViolation(ErrorCode.FLOW_CONTROL_ERROR, "more data for a stream than its window allows")
            if not size:
                self._waste()
            return
        self._waste()
        self._out.append(self._h2.data_to_send())
        self._h2.receive_data(frame.raw)
        self._h2.clear_outbound_data_buffer()  # another RST_STREAM

    def _refuse(self, stream: _Stream, events: list[WireEvent], reason: str) -> None:
        """The answer is malformed: the stream ends (section 8.1.1)."""
        self._reset_stream(stream, ErrorCode.PROTOCOL_ERROR)
        events.append(Failed(stream.number, reason, lost=False, outcome=stream.outcome))

    def _refuse_frame(self, stream: _Stream, frame: Frame, events: list[WireEvent], reason: str) -> None:
        """The same because of a frame that h2 did not see yet."""
        self._refuse(stream, events, reason)
        self._feed_late(frame)

    def _receive_reset(self, stream: _Stream, frame: Frame, events: list[WireEvent]) -> None:
        self._h2.receive_data(frame.raw)
        self._forget(stream)
        code = int.from_bytes(frame.payload, "big")
        outcome = Outcome.REFUSED if code == ErrorCode.REFUSED_STREAM and not stream.answered else stream.outcome
        events.append(Failed(stream.number, f"the stream was reset ({error_name(code)})", lost=True, outcome=outcome))

    def _receive_window(self, stream: _Stream, frame: Frame, events: list[WireEvent]) -> None:
        self._waste()
        if not frame.number():
            self._refuse(stream, events, "a window was opened by nothing")
            return
        for event in self._h2.receive_data(frame.raw):
            if isinstance(event, h2.events.StreamReset):  # h2 has reset it: the window is too large
                self._forget(stream)
                self._reset[stream.number] = stream.left
                reason = "flow control was violated"
                events.append(Failed(stream.number, reason, lost=False, outcome=stream.outcome))
                return
        if stream.number in self._blocked and self._h2.local_flow_control_window(stream.number) > 0:
            self._allow(stream.number, events)

    def _receive_data(self, stream: _Stream, frame: Frame, events: list[WireEvent]) -> None:
        data = frame.data()
        end = bool(frame.flags & END_STREAM)
        received = stream.received + len(data)
        if not stream.answered:
            self._refuse_frame(stream, frame, events, "data came before the head")
            return
        if stream.expected is not None and (received > stream.expected or (end and received < stream.expected)):
            self._refuse_frame(stream, frame, events, "the body does not fit the Content-Length")
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
            if stream.finished:
                self._close_in_h2(stream)
            self._end(stream, None, events)
        elif length > len(data):
            self._give_credit(stream, length - len(data))  # nobody reads padding

    def _receive_headers(self, stream: _Stream, frame: Frame, events: list[WireEvent]) -> None:
        if stream.answered and frame.type == FrameType.HEADERS and not frame.flags & END_STREAM:
            self._refuse_frame(stream, frame, events, "fields came after the head that are no trailers")
            return
        for event in self._h2.receive_data(frame.raw):
            try:
                match event:
                    case h2.events.InformationalResponseReceived():
                        self._receive_interim(stream, _pairs(event.headers), events)
                    case h2.events.ResponseReceived():
                        self._receive_head(stream, _pairs(event.headers), event.stream_ended is not None, events)
                    case h2.events.TrailersReceived():
                        self._receive_trailers(stream, _pairs(event.headers), events)
                    case _:
                        continue
            except Malformed as exc:
                self._fail_ended(stream, events, str(exc), ended=getattr(event, "stream_ended", None) is not None)
            self._idle_frames = 0

    def _fail_ended(self, stream: _Stream, events: list[WireEvent], reason: str, *, ended: bool) -> None:
        if ended and stream.finished:  # closed on both sides: there is nothing to reset
            self._forget(stream)
            events.append(Failed(stream.number, reason, lost=False, outcome=stream.outcome))
        else:
            self._refuse(stream, events, reason)

    def _receive_interim(self, stream: _Stream, fields: list[tuple[bytes, bytes]], events: list[WireEvent]) -> None:
        head = response_head(fields)
        if head.status_code == 101:
            raise Malformed("101 (Switching Protocols) does not exist in HTTP/2")
        stream.interim += 1
        if stream.interim > MAX_INTERIM_RESPONSES:
            raise Malformed(f"more than {MAX_INTERIM_RESPONSES} interim responses")
        events.append(InterimReceived(stream.number, head))

    def _receive_head(
        self, stream: _Stream, fields: list[tuple[bytes, bytes]], end: bool, events: list[WireEvent]
    ) -> None:
        head = response_head(fields)
        length = content_length(head)
        stream.expected = 0 if stream.is_head or head.status_code in (204, 304) else length
        if end and stream.expected:
            raise Malformed("the body does not fit the Content-Length")
        stream.answered = True
        events.append(ResponseReceived(stream.number, head))
        if end:
            self._end(stream, None, events)

    def _receive_trailers(self, stream: _Stream, fields: list[tuple[bytes, bytes]], events: list[WireEvent]) -> None:
        trailers = check_trailers(fields)
        if stream.expected is not None and stream.received < stream.expected:
            raise Malformed("the body does not fit the Content-Length")
        self._end(stream, trailers if len(trailers) else None, events)

    def _end(self, stream: _Stream, trailers: Headers | None, events: list[WireEvent]) -> None:
        """The answer is complete. A request that is not is given up: nobody waits for the rest of it (section 8.1)."""
        if not stream.finished:
            self._h2.reset_stream(stream.number, ErrorCode.NO_ERROR)
        self._forget(stream)
        events.append(Ended(stream.number, trailers))


def _pairs(headers: object) -> list[tuple[bytes, bytes]]:
    return cast("list[tuple[bytes, bytes]]", headers)  # bytes, because header_encoding is None
