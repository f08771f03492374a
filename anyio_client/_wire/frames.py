"""HTTP/2 frames (RFC 9113 section 4) cut out of the bytes that arrive, and the rules that a frame's place decides.

h2 parses frames too, several at a time; here they are cut one by one, so that an error in one loses no event of those
before it, and so that those which are ours to judge (GOAWAY, frames for streams that are over) never reach h2.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

__all__ = [
    "MAX_FRAME_SIZE",
    "ConnectionViolation",
    "ErrorCode",
    "Frame",
    "FrameReader",
    "FrameType",
    "error_name",
    "window_update",
]

MAX_FRAME_SIZE: Final = 16_384  # what we take, and the least that everybody has to take (RFC 9113 section 4.2)
HEADER_SIZE: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY: Final = 0x20
PRIORITY_SIZE: Final = 5


class FrameType:
    """The types of RFC 9113 section 6, as they stand in a frame's header. Greater ones are extensions."""

    DATA: Final = 0
    HEADERS: Final = 1
    PRIORITY: Final = 2
    RST_STREAM: Final = 3
    SETTINGS: Final = 4
    PUSH_PROMISE: Final = 5
    PING: Final = 6
    GOAWAY: Final = 7
    WINDOW_UPDATE: Final = 8
    CONTINUATION: Final = 9


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


_NAMES: Final = {
    number: name for name, number in vars(FrameType).items() if isinstance(number, int) and not name.startswith("_")
}
_OF_A_STREAM: Final = frozenset(
    [
        FrameType.DATA,
        FrameType.HEADERS,
        FrameType.PRIORITY,
        FrameType.RST_STREAM,
        FrameType.PUSH_PROMISE,
        FrameType.CONTINUATION,
    ]
)
_OF_THE_CONNECTION: Final = frozenset([FrameType.SETTINGS, FrameType.PING, FrameType.GOAWAY])
_SIZES: Final = {
    FrameType.PRIORITY: 5,
    FrameType.RST_STREAM: 4,
    FrameType.PING: 8,
    FrameType.WINDOW_UPDATE: 4,
}


class ConnectionViolation(Exception):
    """The peer broke HTTP/2 in a way that ends the connection (RFC 9113 section 5.4.1)."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Frame(NamedTuple):
    """One frame: its header's fields, and its payload."""

    type: int
    flags: int
    stream: int
    payload: bytes

    @property
    def name(self) -> str:
        return _NAMES.get(self.type, f"0x{self.type:x}")

    @property
    def raw(self) -> bytes:
        """The whole frame, as on the wire."""
        return frame_header(len(self.payload), self.type, self.flags, self.stream) + self.payload

    def data(self) -> bytes:
        """What a DATA frame brings, its padding left out (section 6.1)."""
        return self._unpadded(0) if self.flags & PADDED else self.payload

    def fragment(self) -> bytes:
        """The part of a header block that a HEADERS or CONTINUATION frame brings (sections 6.2 and 6.10)."""
        if self.type != FrameType.HEADERS or not self.flags & (PADDED | PRIORITY):
            return self.payload
        skipped = PRIORITY_SIZE if self.flags & PRIORITY else 0
        if self.flags & PADDED:
            return self._unpadded(skipped)
        if len(self.payload) < skipped:
            raise ConnectionViolation(ErrorCode.FRAME_SIZE_ERROR, "a HEADERS frame has no room for its priority")
        return self.payload[skipped:]

    def _unpadded(self, skipped: int) -> bytes:
        """The payload without its padding, and without *skipped* bytes that come after the padding's length."""
        size = len(self.payload)
        if not size or 1 + skipped + self.payload[0] > size:
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, "a frame's padding is longer than the frame")
        return self.payload[1 + skipped : size - self.payload[0]]

    def number(self, place: int = 0) -> int:
        """The four bytes at *place* of the payload as a number, the highest bit left out."""
        return int.from_bytes(self.payload[place : place + 4], "big") & 0x7FFF_FFFF


def frame_header(size: int, kind: int, flags: int, stream: int) -> bytes:
    return size.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")


def window_update(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame (section 6.9); stream 0 is the connection."""
    return frame_header(4, FrameType.WINDOW_UPDATE, 0, stream) + increment.to_bytes(4, "big")


class FrameReader:
    """Cuts frames out of bytes, however these were split, and judges what their headers show.

    Sizes (section 4.2), whose a frame may be (stream or connection), and header blocks, which nothing may interrupt
    (section 6.10). Keeps less than one frame.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed = 0  # bytes of the frame that has begun to come
        self._block = 0  # the stream whose header block has begun and not ended
        self._first = True

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now. ConnectionViolation where one is not allowed; it comes after those before."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest.clear()
        self._needed = 0
        place, end = 0, len(data)
        while end - place >= HEADER_SIZE:
            size = int.from_bytes(data[place : place + 3], "big")
            kind, flags = data[place + 3], data[place + 4]
            stream = int.from_bytes(data[place + 5 : place + 9], "big") & 0x7FFF_FFFF
            self._check(size, kind, flags, stream)  # before the rest of it has come
            after = place + HEADER_SIZE + size
            if after > end:
                self._needed = after - place
                break
            if kind == FrameType.HEADERS or kind == FrameType.CONTINUATION:
                self._block = 0 if flags & END_HEADERS else stream
            self._first = False
            yield Frame(kind, flags, stream, data[place + HEADER_SIZE : after])
            place = after
        self._rest += data[place:]

    @property
    def partial(self) -> int:
        """The stream of the frame, or the header block, that has begun to come; 0 for none."""
        if len(self._rest) >= HEADER_SIZE:
            return int.from_bytes(self._rest[5:9], "big") & 0x7FFF_FFFF
        return self._block

    def _check(self, size: int, kind: int, flags: int, stream: int) -> None:
        if self._first and (kind != FrameType.SETTINGS or flags & ACK):
            raise ConnectionViolation(
                ErrorCode.PROTOCOL_ERROR,
                "it does not begin as HTTP/2 does, with SETTINGS; perhaps it speaks HTTP/1.1 only",
            )
        if size > MAX_FRAME_SIZE:
            raise ConnectionViolation(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {size} bytes is too large")
        if self._block:
            if kind != FrameType.CONTINUATION or stream != self._block:
                raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted by another frame")
        elif kind == FrameType.CONTINUATION:
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, "a CONTINUATION frame continues nothing")
        if (kind in _OF_A_STREAM and not stream) or (kind in _OF_THE_CONNECTION and stream):
            raise ConnectionViolation(ErrorCode.PROTOCOL_ERROR, f"a {_NAMES[kind]} frame for stream {stream}")
        if size != _SIZES.get(kind, size) or (
            (kind == FrameType.SETTINGS and (size % 6 or (flags & ACK and size)))
            or (kind == FrameType.GOAWAY and size < 8)
        ):
            raise ConnectionViolation(ErrorCode.FRAME_SIZE_ERROR, f"a {_NAMES[kind]} frame of {size} bytes")


def error_name(code: int) -> str:
    """An error code in words."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"error code 0x{code:x}"
