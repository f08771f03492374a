"""Files as the source of bodies.

They are read in a worker thread, in pieces, so that memory stays constant and the event loop free. What a file will give
is known before the request leaves: where it stands, and how much follows; a file that then gives less, or more, or was
written to meanwhile, is a :class:`LocalProtocolError`, and the server never gets a body that looks complete.
"""

from __future__ import annotations

import io
import os
import pathlib
import stat
import threading
from collections.abc import AsyncIterable, Callable
from typing import Any, Self, TypeVar, cast

import anyio
import anyio.lowlevel
import anyio.to_thread
import attrs

from .._model.errors import LocalProtocolError, Outcome, Phase
from .._model.request import check_piece

__all__ = ["PIECE_SIZE", "FileReader", "FileSource"]

T = TypeVar("T")

PIECE_SIZE = 256 * 1024  # bytes read at a time: a hop to a thread costs some 50 microseconds, a page cache read less


async def _in_thread(function: Callable[[], T]) -> T:
    # A pipe may never have more: whoever is cancelled does not wait for it. Idle threads remember what they did last: the
    # box is empty by then, so that they keep no file open.
    box = [function]
    del function
    return await anyio.to_thread.run_sync(_call, box, abandon_on_cancel=True)


def _call(box: list[Callable[[], T]]) -> T:
    return box.pop()()


@attrs.define(eq=False)
class FileSource:
    """A file, or a path to one, as a source of bytes. :meth:`measure` first.

    ``length`` is the number of bytes from ``start``, None where the file does not tell (a pipe): then it can be read
    only once.
    """

    file: Any  # a path, or an object with read()
    is_path: bool
    start: int = 0
    length: int | None = None
    endless: bool = False  # a path whose size says nothing, as in /proc: it can be read again, nobody knows how far
    changed: int | None = None  # when it was last written to, in nanoseconds, where the system says so
    # Held by the thread that reads: one that was left behind by a cancelled send must not move the file of the next.
    lock: threading.Lock = attrs.field(factory=threading.Lock, repr=False)

    @classmethod
    def of(cls, value: object) -> FileSource | None:
        """*value* as a source, None where it is no file. TypeError for a file opened as text."""
        if isinstance(value, anyio.AsyncFile):
            value = cast("Any", value).wrapped
        if isinstance(value, os.PathLike):
            return cls(pathlib.Path(cast("os.PathLike[str]", value)), True)
        if isinstance(value, io.TextIOBase) or (
            not isinstance(value, type)
            and callable(getattr(value, "read", None))
            and getattr(value, "encoding", None) is not None
        ):
            raise TypeError("a file that is sent must be opened in binary mode ('rb'), this one gives text")
        if not isinstance(value, AsyncIterable | type) and callable(getattr(value, "read", None)):
            readable = getattr(value, "readable", None)
            if callable(readable) and not getattr(value, "closed", False) and not readable():
                raise ValueError("the file that is to be sent was opened for writing only")
            return cls(value, False)
        return None

    @property
    def name(self) -> str | None:
        """The file's own name, without its folders; None where it has none."""
        name = self.file.name if self.is_path else getattr(self.file, "name", None)
        return os.path.basename(name) if isinstance(name, str) and name else None

    @property
    def replayable(self) -> bool:
        return self.length is not None or self.endless

    async def measure(self) -> None:
        """Find out where the file stands and how much it has. OSError for a path that cannot be read."""
        if isinstance(self.file, io.BytesIO):
            self._measure()
        else:
            await _in_thread(self._measure)

    def _measure(self) -> None:
        if self.is_path:
            if not stat.S_ISREG(os.stat(self.file).st_mode) and not os.path.isdir(self.file):
                return  # a pipe: opening it twice would lose what it has
            with open(self.file, "rb") as file:  # not only stat(): it must be readable, and no directory
                status = os.fstat(file.fileno())
                self.endless = status.st_size == 0 and bool(file.read(1))
            if not self.endless:
                self.length, self.changed = status.st_size, status.st_mtime_ns
            return
        if getattr(self.file, "closed", False):
            raise ValueError("the file that is to be sent is closed")
        _check_free(self.file, None)
        if not getattr(self.file, "seekable", lambda: False)():
            return
        self.start = self.file.tell()
        self.length = max(self.file.seek(0, os.SEEK_END) - self.start, 0)
        self.file.seek(self.start)
        self.changed = self._last_change(self.file)

    @staticmethod
    def _last_change(file: Any) -> int | None:
        try:
            return os.fstat(file.fileno()).st_mtime_ns
        except (OSError, AttributeError, ValueError, TypeError):  # no file of the system, but bytes in memory
            return None

    def check(self) -> None:
        """ValueError where it cannot be read any more. Moves nothing."""
        if not self.is_path and getattr(self.file, "closed", False):
            raise ValueError("the file that is being sent was closed")

    def open(self) -> Any:
        """The file, standing where its content begins."""
        if self.is_path:
            return open(self.file, "rb")
        _check_free(self.file, self)
        _being_sent[id(self.file)] = self
        if self.replayable:
            self.file.seek(self.start)
        return self.file

    def is_unchanged(self, file: Any) -> bool:
        """After the last byte: whether that was all, and nobody has written to it meanwhile."""
        if file.read(1):
            return False
        return self.changed is None or self._last_change(file) == self.changed


# Files that are being read for a request, by their id: they stand where that one has come to, so no other may read them.
_being_sent: dict[int, FileSource] = {}


def _check_free(file: object, source: FileSource | None) -> None:
    """RuntimeError where another request is sending this file object."""
    if _being_sent.get(id(file), source) is not source:
        raise RuntimeError("this file is being sent by another request: open it once for each of them")


class FileReader:
    """The pieces of one send of a file."""

    def __init__(self, source: FileSource) -> None:
        self._source = source
        self._left = source.length
        self._file: Any = None
        self._over = False
        self._reading = False  # a thread is at work, perhaps one that was left behind

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        source = self._source
        if self._over or (self._left == 0 and source.length):  # that nothing is nothing still is looked at
            self.close()
            raise StopAsyncIteration
        if isinstance(source.file, io.BytesIO):
            await anyio.lowlevel.checkpoint()
            piece = self._read()
        else:
            piece = await _in_thread(self._read)
        if not piece:
            self.close()
            if not self._left:
                raise StopAsyncIteration
            raise self._changed(f"ended {self._left} bytes early")
        if self._left is not None:
            self._left -= len(piece)
        return piece

    def _read(self) -> bytes:
        self._reading = True
        try:
            with self._source.lock:
                return self._read_locked()
        finally:
            self._reading = False
            if self._over:
                self._release()

    def _read_locked(self) -> bytes:
        if self._over:
            return b""
        if self._file is None:
            self._source.check()
            self._file = self._source.open()
            if self._over:  # cancelled while the thread was opening it
                self.close()
                return b""
        size = PIECE_SIZE if self._left is None else min(PIECE_SIZE, self._left)
        piece = check_piece(self._file.read(size))
        # The last piece is held back until it is known that it is the last.
        if self._left == len(piece) and not self._source.is_unchanged(self._file):
            raise self._changed("was written to")
        return bytes(piece)

    def _changed(self, how: str) -> LocalProtocolError:
        shown = repr(self._source.name) if self._source.name else "that is sent"
        message = f"The file {shown} {how} while it was being sent."
        return LocalProtocolError(message, phase=Phase.SEND, outcome=Outcome.UNKNOWN)

    def close(self) -> None:
        self._over = True
        if not self._reading:  # else the thread does it when it has ended
            self._release()

    def _release(self) -> None:
        if self._source.is_path:
            if self._file is not None:
                self._file.close()
        elif _being_sent.get(id(self._source.file)) is self._source:
            del _being_sent[id(self._source.file)]

    async def aclose(self) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
