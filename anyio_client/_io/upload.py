"""Bodies that are made of files, of parts, or of other bodies: what is read while it is sent.

Files are read in a worker thread, in pieces, so that memory stays constant and the event loop free. What a file will
give is known before the request leaves: where it stands, and how much follows; a file that then gives less, or more, or
was written to meanwhile, is a :class:`LocalProtocolError`, and the server never gets a body that looks complete.
"""

from __future__ import annotations

import functools
import inspect
import io
import mimetypes
import os
import pathlib
import stat
import threading
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import IO, Any, Self, TypeAlias, TypeVar, cast

import anyio
import anyio.lowlevel
import anyio.to_thread
import attrs

from .._model.errors import LocalProtocolError, Outcome, Phase
from .._model.request import Pieces, StreamedBody, check_piece, make_body
from .._wire import multipart
from .._wire.coding import Compressor, make_compressor

__all__ = ["FileContent", "Files", "PieceReader", "compressed", "form_data", "make_content", "new_boundary", "reported"]

T = TypeVar("T")
FileContent: TypeAlias = (
    bytes | bytearray | memoryview | IO[bytes] | io.IOBase | os.PathLike[str] | anyio.AsyncFile[bytes]
)
FileValue: TypeAlias = (
    FileContent
    | tuple[str | None, FileContent]
    | tuple[str | None, FileContent, str | None]
    | tuple[str | None, FileContent, str | None, Mapping[str, str]]
    | tuple[None, str]
    | tuple[None, str, str | None]
    | tuple[None, str, str | None, Mapping[str, str]]
)
Files: TypeAlias = Mapping[str, FileValue] | Iterable[tuple[str, FileValue]]

PIECE_SIZE = 256 * 1024  # bytes read at a time: a hop to a thread costs some 50 microseconds, a page cache read less
SMALL_FORM = 64 * 1024  # a form up to this size without files is made at once


@functools.cache
def _types() -> mimetypes.MimeTypes:
    # Types by file name: those that Python knows, not those of this machine, so that every machine sends the same.
    return mimetypes.MimeTypes()


# --- files -----------------------------------------------------------------------------------------------------------


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
        except (
            OSError,
            AttributeError,
            ValueError,
            TypeError,
        ):  # no file of the system: bytes in memory, a member of a zip
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


async def _file_body(source: FileSource) -> StreamedBody:
    await source.measure()
    return StreamedBody(lambda: FileReader(source), replayable=source.replayable, length=source.length, exact=True)


async def make_content(content: Any) -> bytes | StreamedBody:
    """*content* as a body: what :func:`make_body` takes, and files and paths. TypeError for what can be none."""
    source = FileSource.of(content)
    if source is not None:
        return await _file_body(source)
    if inspect.iscoroutinefunction(content):
        raise TypeError(
            "content= takes a function that makes an iterable: this one is a coroutine function without yield"
        )
    if callable(content) and not isinstance(content, AsyncIterable | Iterable):
        return StreamedBody(lambda: _made(content()), replayable=True)
    return make_body(cast("Any", content))


def _made(content: Any) -> Any:
    """What a callable made, as pieces; a file that it opened is read as a file, and closed."""
    try:
        source = FileSource.of(content)
    except (TypeError, ValueError):
        content.close()
        raise
    return content if source is None else _OpenedFile(source)


class _OpenedFile(FileReader):
    """A file that a callable has opened for this send alone: read from where it stands to its end, then closed."""

    def _release(self) -> None:
        super()._release()
        if not self._source.is_path:
            self._source.file.close()


# --- bodies made of other bodies ---------------------------------------------------------------------------------------


class PieceReader:
    """The pieces of a body one by one, whether its iterable is sync or async."""

    def __init__(self, pieces: Pieces) -> None:
        self._async: AsyncIterator[bytes] | None = None
        self._sync: Iterator[bytes] | None = None
        if isinstance(pieces, AsyncIterable):
            self._async = aiter(pieces)
        else:
            self._sync = iter(pieces)

    async def next(self) -> bytes | bytearray | memoryview[int] | None:
        """The next piece, None at the end. TypeError where it is not bytes."""
        if self._async is not None:
            try:
                return check_piece(await anext(self._async))
            except StopAsyncIteration:
                return None
        assert self._sync is not None
        for piece in self._sync:
            return check_piece(piece)
        return None

    async def aclose(self) -> None:
        """Close the iterator, if it can be closed (generators must be)."""
        close = getattr(self._async, "aclose", None)
        if close is not None:
            await close()
        close = getattr(self._sync, "close", None)
        if close is not None:
            close()


class _Derived:
    """One send of a body that is made of another one; what is common to :class:`_Compressed` and :class:`_Reported`."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = PieceReader(pieces)

    def __aiter__(self) -> Self:
        return self

    async def aclose(self) -> None:
        await self._pieces.aclose()


class _Compressed(_Derived):
    def __init__(self, pieces: Pieces, compressor: Compressor) -> None:
        super().__init__(pieces)
        self._compressor: Compressor | None = compressor

    async def __anext__(self) -> bytes:
        while self._compressor is not None:
            piece = await self._pieces.next()
            if piece is None:
                last, self._compressor = self._compressor.flush(), None
                return last
            if made := self._compressor.compress(piece):
                return made
        raise StopAsyncIteration


def compressed(body: bytes | StreamedBody, coding: str) -> bytes | StreamedBody:
    """*body* under a content coding, ``"gzip"`` or ``"zstd"``. ValueError for another one, or one not installed."""
    compressor = make_compressor(coding)
    if isinstance(body, bytes):
        return compressor.compress(body) + compressor.flush()
    return StreamedBody(lambda: _Compressed(body.open(), make_compressor(coding)), replayable=body.replayable)


class _Reported(_Derived):
    """Tells how many bytes the transport has taken: whoever asks for the next piece has sent the last one."""

    def __init__(self, pieces: Pieces, total: int | None, progress: Callable[[int, int | None], object]) -> None:
        super().__init__(pieces)
        self._total = total
        self._progress = progress
        self._sent = 0
        self._pending = 0

    async def __anext__(self) -> bytes | bytearray | memoryview[int]:
        if self._pending:
            self._sent += self._pending
            self._pending = 0
            self._progress(self._sent, self._total)
        piece = await self._pieces.next()
        if piece is None:
            raise StopAsyncIteration
        self._pending = memoryview(piece).nbytes
        return piece


def reported(body: bytes | StreamedBody, progress: Callable[[int, int | None], object]) -> StreamedBody:
    """*body*, with *progress* called as it is sent: with the bytes sent, and the total or None."""
    if isinstance(body, bytes):
        view = memoryview(body)
        pieces = [view[place : place + PIECE_SIZE] for place in range(0, len(body), PIECE_SIZE)]
        body = StreamedBody(cast("Any", pieces), replayable=True, length=len(body), exact=True)
    inner = body
    return StreamedBody(
        cast("Any", lambda: _Reported(inner.open(), inner.length, progress)),
        replayable=inner.replayable,
        length=inner.length,
        exact=inner.exact,
    )


# --- multipart/form-data -----------------------------------------------------------------------------------------------


def new_boundary() -> str:
    return uuid.uuid4().hex


@attrs.frozen
class _Part:
    head: bytes
    content: bytes | FileSource

    @property
    def length(self) -> int | None:
        length = len(self.content) if isinstance(self.content, bytes) else self.content.length
        return None if length is None else len(self.head) + length + 2


class _FormReader:
    """One send of a form."""

    def __init__(self, parts: list[_Part], end: bytes) -> None:
        self._parts = iter(parts)
        self._sources = [part.content for part in parts if isinstance(part.content, FileSource)]
        self._end: bytes | None = end
        self._file: FileReader | None = None
        self._begun = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._begun:
            self._begun = True
            for source in self._sources:  # all of them, before any is moved
                source.check()
        if self._file is not None:
            try:
                return await anext(self._file)
            except StopAsyncIteration:
                self._file = None
                return b"\r\n"
        await anyio.lowlevel.checkpoint()
        part = next(self._parts, None)
        if part is None:
            end, self._end = self._end, None
            if end is None:
                raise StopAsyncIteration
            return end
        if isinstance(part.content, bytes):
            return part.head + part.content + b"\r\n"
        self._file = FileReader(part.content)
        return part.head

    async def aclose(self) -> None:
        if self._file is not None:
            self._file.close()


async def form_data(fields: Iterable[tuple[str, str]], files: Files, boundary: str) -> bytes | StreamedBody:
    """``multipart/form-data``: the fields, then the files, in their order. TypeError for what can be no file."""
    parts = [_Part(multipart.part_head(boundary, name), _text(value)) for name, value in fields]
    given: Any = files
    pairs: Any = given.items() if isinstance(given, Mapping) else given  # pyright: ignore[reportUnknownVariableType]
    for pair in pairs:
        if not (isinstance(pair, tuple | list) and len(cast("Any", pair)) == 2):
            raise TypeError("files= takes a mapping, or (name, file) pairs")
        name, value = cast("Any", pair)
        parts.append(_part(boundary, name, value))
    sources = [part.content for part in parts if isinstance(part.content, FileSource)]
    for source in sources:
        await source.measure()
    end = multipart.closing(boundary)
    lengths = [part.length for part in parts]
    total = None if None in lengths else sum(length or 0 for length in lengths) + len(end)
    if not sources and total is not None and total <= SMALL_FORM:
        return b"".join([part.head + cast("bytes", part.content) + b"\r\n" for part in parts]) + end
    replayable = all(source.replayable for source in sources)
    return StreamedBody(lambda: _FormReader(parts, end), replayable=replayable, length=total, exact=True)


def _text(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise ValueError("a form field has a lone surrogate in it, which has no UTF-8 form") from None


def _part(boundary: str, name: object, value: Any) -> _Part:
    if not isinstance(name, str):
        raise TypeError(f"the name of a part must be a str, not {type(name).__name__}")
    filename: str | None = None
    content_type: str | None = None
    headers: Mapping[str, str] | None = None
    is_field = False
    if isinstance(value, tuple):
        given: tuple[Any, ...] = value  # pyright: ignore[reportUnknownVariableType]
        if not 2 <= len(given) <= 4:
            raise TypeError(
                f"the file {name!r}: a tuple is (name, content[, type[, headers]]), not {len(given)} values"
            )
        filename, value, content_type, headers = (*given, None, None)[:4]
        is_field = filename is None
        if filename is not None and not isinstance(filename, str):
            raise TypeError(f"the file {name!r}: its file name must be a str or None, not {type(filename).__name__}")
    content: bytes | FileSource
    if isinstance(value, bytes | bytearray | memoryview):
        content = bytes(cast("Any", value))
        filename = filename or (None if is_field else "upload")
    elif isinstance(value, str):
        if not is_field:
            raise TypeError(
                f"the file {name!r} is a str, which may be a path or a content: pass pathlib.Path(...) or bytes"
            )
        content = _text(value)
    elif (source := FileSource.of(value)) is not None:
        content = source
        filename = filename or (None if is_field else source.name or "upload")
    else:
        raise TypeError(
            f"the file {name!r} must be bytes, a file opened in binary mode, a path, or a tuple "
            f"(name, content[, type[, headers]]), not {type(value).__name__}"
        )
    if content_type is None and filename is not None:
        content_type = guess_type(filename)
    return _Part(
        multipart.part_head(boundary, name, filename=filename, content_type=content_type, headers=headers), content
    )


def guess_type(filename: str) -> str:
    """The media type that a file name suggests, ``application/octet-stream`` where it suggests none."""
    kind, coding = _types().guess_type(f"file:///{filename.replace('?', '_').replace('#', '_')}")
    return kind if kind is not None and coding is None else "application/octet-stream"
