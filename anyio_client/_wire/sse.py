"""Server-sent events: a decoder for ``text/event-stream`` (WHATWG HTML section 9.2.6), incremental.

Lines end in CR, LF or CRLF, and in nothing else: U+2028, U+0085 or VT are characters. A lone CR ends its line at once,
an LF that follows it in the next piece belongs to it. So any split of the same bytes gives the same events, and no
event waits for a byte that it does not need. Lines are cut as bytes; only what is kept is decoded.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from . import json as _json

__all__ = ["MAX_EVENT_SIZE", "EventTooLarge", "SSEDecoder", "ServerSentEvent"]

MAX_EVENT_SIZE: Final = 64 * 2**20  # bytes; the largest events met in practice are images in base64, a few MiB

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"[\r\n]")
# How servers write nearly every event: perhaps a name, one line of data, and nothing else.
_USUAL = re.compile(rb"(?:event: ?([^\r\n]*)\n)?data: ?([^\r\n]*)\n\n")
_USUAL_TEXT = re.compile(_USUAL.pattern.decode())


class EventTooLarge(ValueError):
    """One event (or one line of it) is larger than allowed. ``events``: those that came complete before it."""

    def __init__(self, limit: int, events: list[ServerSentEvent]) -> None:
        super().__init__(f"one server-sent event took more than {limit} bytes")
        self.events = events


@attrs.frozen
class ServerSentEvent:
    """One event. ``event``: its name, None where it had none; ``id``: the last id seen, None before the first.

    ``retry``: milliseconds that the server asks to wait before a reconnect, where this event said so.
    """

    event: str | None
    data: str = attrs.field(repr=False)
    id: str | None = None
    retry: int | None = None

    def json(self) -> object:
        """The data as JSON. ValueError where it is none."""
        return _json.loads(self.data)


class SSEDecoder:
    """Feed it bytes, get events. The end of the body discards an unfinished event: there is nothing to flush."""

    def __init__(self, *, max_event_size: int = MAX_EVENT_SIZE, last_event_id: str | None = None) -> None:
        self._max_event_size = max_event_size
        self._partial: list[bytes] = []  # pieces of the unfinished line
        self._partial_size = 0
        self._after_cr = False
        self._start: bytes | None = b""  # what came so far, while it may be part of a byte order mark
        self._event: str | None = None
        self._data: list[bytes] = []
        self._size = 0  # bytes of the unfinished event, its complete lines
        self._retry: int | None = None
        self._id = last_event_id
        # What a reconnect needs: the id as of the last complete event (also one without data), and the time to wait.
        self._last_event_id = last_event_id
        self._reconnection_time: int | None = None

    @property
    def last_event_id(self) -> str | None:
        """What a reconnect sends as ``Last-Event-ID``; that of an event which is not complete does not count."""
        return self._last_event_id

    @property
    def reconnection_time(self) -> int | None:
        """Milliseconds that the server asked to wait before a reconnect, None where it did not."""
        return self._reconnection_time

    def resume_from(self, last_event_id: str) -> None:
        """Begin with this id, as the one after a reconnect does."""
        self._id = self._last_event_id = last_event_id

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that *chunk* completes. :class:`EventTooLarge` above the limit, after which it is unusable."""
        if self._start is not None:
            chunk = self._skip_bom(self._start + chunk)
        events: list[ServerSentEvent] = []
        place = 0
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                place = 1
        size = len(chunk)
        text = chunk.decode("ascii") if chunk.isascii() else None  # where one byte is one character, decoded at once
        while place < size:
            if not self._partial and not self._size:  # between two events
                place = self._usual_events(chunk, text, place, events)
                if place == size:
                    break
            match = _LINE_END.search(chunk, place)
            if match is None:
                self._partial.append(chunk[place:])
                self._partial_size += size - place
                break
            end = match.start()
            line = chunk[place:end]
            if self._partial:
                self._partial.append(line)
                line = b"".join(self._partial)
                self._partial.clear()
                self._partial_size = 0
            place = end + 1
            if chunk[end] == 13:  # CR
                if place == size:
                    self._after_cr = True
                elif chunk[place] == 10:
                    place += 1
            self._line(line, events)
        if self._size + self._partial_size > self._max_event_size:
            raise EventTooLarge(self._max_event_size, events)
        return events

    def _usual_events(self, chunk: bytes, text: str | None, place: int, events: list[ServerSentEvent]) -> int:
        """The events of the usual form that *chunk*, or *text*, has at *place*; where the first other one begins."""
        limit, current = self._max_event_size, self._id
        if text is not None:
            while (found := _USUAL_TEXT.match(text, place)) is not None:
                end = found.end()
                if end - place > limit:
                    break
                named, said = found.groups()
                events.append(ServerSentEvent(named or None, said, current))
                self._last_event_id = current
                place = end
            return place
        while (match := _USUAL.match(chunk, place)) is not None:
            end = match.end()
            if end - place > limit:
                break
            name, data = match.groups()
            try:
                event = ServerSentEvent(name.decode() if name else None, data.decode(), current)
            except UnicodeDecodeError:
                break
            events.append(event)
            self._last_event_id = current
            place = end
        return place

    def _skip_bom(self, start: bytes) -> bytes:
        """Drop one byte order mark at the very beginning, however it is split."""
        if len(start) < len(_BOM):  # too short to tell, and for any event
            self._start = start
            return b""
        self._start = None
        return start.removeprefix(_BOM)

    def _line(self, line: bytes, events: list[ServerSentEvent]) -> None:
        if not line:
            self._dispatch(events)
            return
        self._size += len(line)
        if self._size > self._max_event_size:
            raise EventTooLarge(self._max_event_size, events)
        name, colon, value = line.partition(b":")
        if colon and value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode(errors="replace") or None
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode(errors="replace")
        elif name == b"retry" and value.isdigit() and len(value) < 20:
            self._retry = self._reconnection_time = int(value)

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        self._last_event_id = self._id
        if self._data:
            data = b"\n".join(self._data).decode(errors="replace")
            events.append(ServerSentEvent(self._event, data, self._id, self._retry))
            self._data.clear()
        self._event = None
        self._retry = None
        self._size = 0
