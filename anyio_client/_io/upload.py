"""Bodies that are made of files, of parts, or of other bodies: what is read while it is sent."""

from __future__ import annotations

import functools
import inspect
import io
import mimetypes
import os
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import IO, Any, Self, TypeAlias, cast

import anyio
import anyio.lowlevel
import attrs

from .._model.request import Pieces, StreamedBody, check_piece, make_body
from .._wire import multipart
from .._wire.coding import Compressor, make_compressor
from .files import PIECE_SIZE, FileReader, FileSource

__all__ = ["FileContent", "Files", "PieceReader", "compressed", "form_data", "make_content", "new_boundary", "reported"]

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

SMALL_FORM = 64 * 1024  # a form up to this size without files is made at once


@functools.cache
def _types() -> mimetypes.MimeTypes:
    # Types by file name: those that Python knows, not those of this machine, so that every machine sends the same.
    return mimetypes.MimeTypes()


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
