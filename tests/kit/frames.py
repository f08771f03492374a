"""HTTP/2 made and read by hand: frames that a server sends, good and bad, and what a client sent, strictly.

The frames are stateless: field blocks use no dynamic table unless an encoder is given, so any order of them decodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

import h2.config
import h2.connection
import h2.events
from hpack import Decoder, Encoder, HeaderTuple, NeverIndexedHeaderTuple

__all__ = [
    "ACK",
    "CONTINUATION",
    "DATA",
    "END_HEADERS",
    "END_STREAM",
    "GOAWAY",
    "HEADERS",
    "HEADER_TABLE_SIZE",
    "INITIAL_WINDOW_SIZE",
    "MAX_CONCURRENT_STREAMS",
    "MAX_FRAME_SIZE",
    "PADDED",
    "PING",
    "PREFACE",
    "PRIORITY",
    "PRIORITY_FLAG",
    "PUSH_PROMISE",
    "RST_STREAM",
    "SETTINGS",
    "WINDOW_UPDATE",
    "ClientReader",
    "Fields",
    "Sent",
    "StrictServer",
    "block",
    "continuation",
    "data",
    "goaway",
    "headers",
    "ping",
    "priority",
    "push_promise",
    "raw",
    "rst",
    "settings",
    "split",
    "window",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY_FLAG = 0x1, 0x1, 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 3, 4, 5

Fields: TypeAlias = "Iterable[tuple[bytes, bytes]]"


# --- what a server sends -----------------------------------------------------------------------------------------


def raw(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Any frame. The stream's reserved bit may be given too."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _padded(payload: bytes, pad: int | None) -> bytes:
    return payload if pad is None else bytes([pad]) + payload + bytes(pad)


def data(stream: int, content: bytes = b"", *, end: bool = False, pad: int | None = None) -> bytes:
    flags = (END_STREAM if end else 0) | (0 if pad is None else PADDED)
    return raw(DATA, flags, stream, _padded(content, pad))


def block(fields: Fields, encoder: Encoder | None = None) -> bytes:
    """A field block. Only with an *encoder* it uses the dynamic table, and changes it."""
    if encoder is not None:
        return encoder.encode([HeaderTuple(name, value) for name, value in fields])
    return Encoder().encode([NeverIndexedHeaderTuple(name, value) for name, value in fields])


def headers(
    stream: int,
    fields: Fields | bytes,
    *,
    end: bool = False,
    end_headers: bool = True,
    pad: int | None = None,
    priority: bytes = b"",
) -> bytes:
    """HEADERS with these fields, or with these bytes of a block. *priority*: the five bytes of section 6.2."""
    flags = (END_STREAM if end else 0) | (END_HEADERS if end_headers else 0)
    flags |= (0 if pad is None else PADDED) | (PRIORITY_FLAG if priority else 0)
    fragment = fields if isinstance(fields, bytes) else block(fields)
    return raw(HEADERS, flags, stream, _padded(priority + fragment, pad))


def continuation(stream: int, fragment: bytes, *, end_headers: bool = True) -> bytes:
    return raw(CONTINUATION, END_HEADERS if end_headers else 0, stream, fragment)


def rst(stream: int, code: int) -> bytes:
    return raw(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def settings(values: Mapping[int, int] | None = None, *, ack: bool = False) -> bytes:
    payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in (values or {}).items())
    return raw(SETTINGS, ACK if ack else 0, 0, payload)


def ping(content: bytes = b"12345678", *, ack: bool = False) -> bytes:
    return raw(PING, ACK if ack else 0, 0, content)


def goaway(last: int, code: int = 0, debug: bytes = b"") -> bytes:
    return raw(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big") + debug)


def window(stream: int, increment: int) -> bytes:
    return raw(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def push_promise(stream: int, promised: int, fields: Fields) -> bytes:
    return raw(PUSH_PROMISE, END_HEADERS, stream, promised.to_bytes(4, "big") + block(fields))


def priority(stream: int, depends_on: int = 0, weight: int = 15) -> bytes:
    return raw(PRIORITY, 0, stream, depends_on.to_bytes(4, "big") + bytes([weight]))


# --- what a client sent ------------------------------------------------------------------------------------------


class Sent(NamedTuple):
    """One frame that the client sent."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    def number(self, place: int = 0) -> int:
        return int.from_bytes(self.payload[place : place + 4], "big")


def split(output: bytes) -> list[Sent]:
    """The whole frames in *output*, after the preface where it begins with that. Nothing may be left."""
    place = len(PREFACE) if output.startswith(PREFACE) else 0
    frames: list[Sent] = []
    while place < len(output):
        size = int.from_bytes(output[place : place + 3], "big")
        end = place + 9 + size
        assert end <= len(output), "half a frame was sent"
        stream = int.from_bytes(output[place + 5 : place + 9], "big")
        frames.append(Sent(output[place + 3], output[place + 4], stream, output[place + 9 : end]))
        place = end
    return frames


class ClientReader:
    """Frames of one client, with its field blocks decoded. ``fields`` are those of each stream's request."""

    def __init__(self) -> None:
        self.decoder = Decoder()
        self.fields: dict[int, list[HeaderTuple]] = {}
        self._block = b""

    def feed(self, output: bytes) -> list[Sent]:
        frames = split(output)
        for frame in frames:
            if frame.kind in (HEADERS, CONTINUATION):
                self._block += frame.payload
                if frame.flags & END_HEADERS:
                    assert frame.stream not in self.fields, "a stream was opened twice"
                    self.fields[frame.stream] = list(self.decoder.decode(self._block, raw=True))
                    self._block = b""
            else:
                assert not self._block, "a field block was interrupted"
        return frames


class StrictServer:
    """Another implementation's server, which refuses what a client may not send."""

    def __init__(self) -> None:
        self.connection = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None, validate_inbound_headers=True)
        )
        self.connection.initiate_connection()

    def feed(self, output: bytes) -> list[h2.events.Event]:
        return self.connection.receive_data(output)

    def take_output(self) -> bytes:
        return self.connection.data_to_send()
