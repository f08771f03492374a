"""JSON lines: one JSON text a line, cut as bytes at LF and CRLF; blank lines are skipped (heartbeats, most of them).

A line may be of any length up to a limit; the last one needs no end. Any split of the same bytes gives the same lines.
"""

from __future__ import annotations

import attrs

from . import json as _json

__all__ = ["JSONLine", "JSONLinesDecoder", "LineTooLarge"]


class LineTooLarge(ValueError):
    """One line is larger than allowed. ``events``: the lines that came complete before it."""

    def __init__(self, limit: int, number: int, events: list[JSONLine]) -> None:
        super().__init__(f"line {number} took more than {limit} bytes")
        self.events = events


@attrs.frozen
class JSONLine:
    """One line that is not blank; ``number`` counts from 1, blank ones included."""

    raw: bytes = attrs.field(repr=False)
    number: int

    @property
    def data(self) -> str:
        """The line as text; what is no UTF-8 becomes U+FFFD."""
        return self.raw.decode("utf-8", "replace")

    def json(self) -> object:
        """The line as JSON. ValueError where it is none."""
        return _json.loads(self.raw)


class JSONLinesDecoder:
    """Feed it bytes, get lines; then :meth:`finish` gives the last one, if it had no end."""

    def __init__(self, *, max_line_size: int) -> None:
        self._max_line_size = max_line_size
        self._partial: list[bytes] = []
        self._partial_size = 0
        self._number = 0

    def feed(self, chunk: bytes) -> list[JSONLine]:
        """The lines that *chunk* completes. :class:`LineTooLarge` above the limit, after which it is unusable."""
        lines: list[JSONLine] = []
        *complete, rest = chunk.split(b"\n")
        for piece in complete:
            if self._partial:
                self._partial.append(piece)
                piece = b"".join(self._partial)
                self._partial.clear()
                self._partial_size = 0
            self._take(piece, lines)
        if rest:
            self._partial.append(rest)
            self._partial_size += len(rest)
            # A CR may be part of the line's end, which does not count.
            if self._partial_size > self._max_line_size + 1:
                raise LineTooLarge(self._max_line_size, self._number + 1, lines)
        return lines

    def _take(self, line: bytes, lines: list[JSONLine]) -> None:
        self._number += 1
        line = line.removesuffix(b"\r")
        if len(line) > self._max_line_size:
            raise LineTooLarge(self._max_line_size, self._number, lines)
        if line.strip(b" \t\r"):
            lines.append(JSONLine(line, self._number))

    def finish(self) -> list[JSONLine]:
        """The end of the body: the last line, if it had no end of its own."""
        lines: list[JSONLine] = []
        if self._partial:
            line = b"".join(self._partial)
            self._partial.clear()
            self._take(line, lines)
        return lines
