"""Bodies made of files, of parts and of other bodies, one send at a time, without a connection."""

# ruff: noqa: ASYNC110, ASYNC230, ASYNC240, SIM115  (the files of these tests are opened as a caller might)

from __future__ import annotations

import array
import codecs
import contextlib
import gc
import gzip
import io
import mmap
import os
import pathlib
import re
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from anyio_client import LocalProtocolError, Outcome, Phase
from anyio_client._io import files, upload
from anyio_client._io.upload import PieceReader, compressed, form_data, make_content, new_boundary, reported
from anyio_client._model.request import StreamedBody
from anyio_client._wire.coding import make_decoder

pytestmark = [pytest.mark.anyio, pytest.mark.spread]

DATA = bytes(range(256)) * 2600  # two pieces and a half
OFFSET = 1000

Make = Callable[[pathlib.Path, contextlib.ExitStack], Any]

# Where nothing depends on the event loop.
one_loop = pytest.mark.parametrize("anyio_backend", ["asyncio"])


async def sent(body: bytes | StreamedBody, stop_after: int | None = None) -> bytes:
    """What one send of *body* gives; *stop_after* pieces it is given up, as by an early answer."""
    if isinstance(body, bytes):
        return body
    reader = PieceReader(body.open())
    out = bytearray()
    pieces = 0
    try:
        while pieces != stop_after and (piece := await reader.next()) is not None:
            out += piece
            pieces += 1
    finally:
        await reader.aclose()
    return bytes(out)


def streamed(body: bytes | StreamedBody) -> StreamedBody:
    assert isinstance(body, StreamedBody)
    return body


def descriptors_of(path: pathlib.Path) -> int:
    """How many open file descriptors of this process lead to *path*."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{name}") == str(path)
    return count


@pytest.fixture
def file(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file of DATA; nothing may have it open in the end."""
    path = tmp_path.resolve() / "data.bin"
    path.write_bytes(DATA)
    yield path
    assert descriptors_of(path) == 0


class Plain:
    """A file that is nobody's subclass. Counts what is asked of it, and in which threads."""

    def __init__(self, data: bytes = DATA) -> None:
        self.inner = io.BytesIO(data)
        self.calls: list[str] = []
        self.threads: set[int] = set()

    def _note(self, name: str) -> None:
        self.calls.append(name)
        self.threads.add(threading.get_ident())

    def read(self, size: int = -1) -> bytes:
        self._note("read")
        return self.inner.read(size)

    def seek(self, place: int, whence: int = 0) -> int:
        self._note("seek")
        return self.inner.seek(place, whence)

    def tell(self) -> int:
        self._note("tell")
        return self.inner.tell()

    def seekable(self) -> bool:
        return True


class ReadOnce:
    """A file with nothing but read()."""

    def __init__(self, data: bytes = DATA) -> None:
        self.inner = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self.inner.read(min(size, 100_000))


class Dripping(io.FileIO):
    """An unbuffered file that gives less than it is asked for."""

    def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        return super().read(min(size or 0, 50_000)) or b""


class Pieces:
    """An async iterable that is its own iterator, and tells whether it was closed."""

    def __init__(self, *pieces: Any, error: BaseException | None = None) -> None:
        self.left = list(pieces)
        self.error = error
        self.closed = False

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> Any:
        await anyio.lowlevel.checkpoint()
        if self.left:
            return self.left.pop(0)
        raise self.error or StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


# --- content of every kind -------------------------------------------------------------------------------------------


def path_of(folder: pathlib.Path) -> pathlib.Path:
    path = folder / "data.bin"
    path.write_bytes(DATA)
    return path


def opened(folder: pathlib.Path, stack: contextlib.ExitStack, **options: Any) -> Any:
    return stack.enter_context(open(path_of(folder), "rb", **options))


def standing_at(file: Any, place: int = OFFSET) -> Any:
    file.seek(place)
    return file


def a_pipe(folder: pathlib.Path, stack: contextlib.ExitStack, buffering: int = -1) -> Any:
    read, write = os.pipe()

    def fill() -> None:
        with open(write, "wb") as file:
            file.write(DATA)

    thread = threading.Thread(target=fill)
    thread.start()
    stack.callback(thread.join)
    return stack.enter_context(open(read, "rb", buffering=buffering))


def filled(file: Any, stack: contextlib.ExitStack) -> Any:
    stack.enter_context(file)
    file.write(DATA)
    return standing_at(file)


def a_zip_member(folder: pathlib.Path, stack: contextlib.ExitStack) -> Any:
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.bin", DATA)
    archive = stack.enter_context(zipfile.ZipFile(folder / "a.zip"))
    return stack.enter_context(archive.open("data.bin"))


def a_gzip_file(folder: pathlib.Path, stack: contextlib.ExitStack) -> Any:
    (folder / "a.gz").write_bytes(gzip.compress(DATA))
    return stack.enter_context(gzip.open(folder / "a.gz"))


def a_map(folder: pathlib.Path, stack: contextlib.ExitStack) -> Any:
    return stack.enter_context(mmap.mmap(opened(folder, stack).fileno(), 0, access=mmap.ACCESS_READ))


class MyPath(os.PathLike[str]):
    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def halves() -> Iterator[bytes]:
    yield DATA[:1000]
    yield b""
    yield DATA[1000:]


async def halves_async() -> AsyncIterator[bytes]:
    for piece in halves():
        yield piece


class HalvesWithRead(Pieces):
    """An async stream that has a read() too, as aiohttp's and Starlette's."""

    def __init__(self) -> None:
        super().__init__(*halves())

    def read(self, size: int = -1) -> Any:
        raise AssertionError("it is read as an iterable")


ALL, REST = DATA, DATA[OFFSET:]
KNOWN, UNKNOWN = True, False
AGAIN, ONCE = True, False

CONTENTS: dict[str, tuple[Make, bytes, bool, bool]] = {
    "bytes": (lambda f, s: DATA, ALL, KNOWN, AGAIN),
    "bytearray": (lambda f, s: bytearray(DATA), ALL, KNOWN, AGAIN),
    "memoryview": (lambda f, s: memoryview(DATA), ALL, KNOWN, AGAIN),
    "str": (lambda f, s: "äöü", "äöü".encode(), KNOWN, AGAIN),
    "list": (lambda f, s: list(halves()), ALL, KNOWN, AGAIN),
    "tuple": (lambda f, s: (bytearray(DATA[:10]), memoryview(DATA)[10:]), ALL, KNOWN, AGAIN),
    "wide memoryviews": (lambda f, s: [memoryview(array.array("I", DATA))], ALL, KNOWN, AGAIN),
    "generator": (lambda f, s: halves(), ALL, UNKNOWN, ONCE),
    "iterator": (lambda f, s: iter([DATA]), ALL, UNKNOWN, ONCE),
    "async generator": (lambda f, s: halves_async(), ALL, UNKNOWN, ONCE),
    "async iterable": (lambda f, s: Pieces(*halves()), ALL, UNKNOWN, ONCE),
    "async iterable with read": (lambda f, s: HalvesWithRead(), ALL, UNKNOWN, ONCE),
    "callable: bytes": (lambda f, s: lambda: DATA, ALL, UNKNOWN, AGAIN),
    "callable: list": (lambda f, s: lambda: list(halves()), ALL, UNKNOWN, AGAIN),
    "callable: generator": (lambda f, s: halves, ALL, UNKNOWN, AGAIN),
    "callable: async generator": (lambda f, s: halves_async, ALL, UNKNOWN, AGAIN),
    "callable: class": (lambda f, s: HalvesWithRead, ALL, UNKNOWN, AGAIN),
    "callable: path": (lambda f, s: lambda: path_of(f), ALL, UNKNOWN, AGAIN),
    "callable: file": (lambda f, s: lambda: path_of(f).open("rb"), ALL, UNKNOWN, AGAIN),
    "callable: file at an offset": (lambda f, s: lambda: standing_at(path_of(f).open("rb")), REST, UNKNOWN, AGAIN),
    "callable: BytesIO": (lambda f, s: lambda: standing_at(io.BytesIO(DATA)), REST, UNKNOWN, AGAIN),
    "file": (lambda f, s: opened(f, s), ALL, KNOWN, AGAIN),
    "file at an offset": (lambda f, s: standing_at(opened(f, s)), REST, KNOWN, AGAIN),
    "file at its end": (lambda f, s: standing_at(opened(f, s), len(DATA)), b"", KNOWN, AGAIN),
    "file beyond its end": (lambda f, s: standing_at(opened(f, s), len(DATA) + 9), b"", KNOWN, AGAIN),
    "unbuffered file": (lambda f, s: standing_at(opened(f, s, buffering=0)), REST, KNOWN, AGAIN),
    "file that drips": (lambda f, s: s.enter_context(Dripping(path_of(f))), ALL, KNOWN, AGAIN),
    "BytesIO": (lambda f, s: io.BytesIO(DATA), ALL, KNOWN, AGAIN),
    "BytesIO at an offset": (lambda f, s: standing_at(io.BytesIO(DATA)), REST, KNOWN, AGAIN),
    "BytesIO with nothing": (lambda f, s: io.BytesIO(), b"", KNOWN, AGAIN),
    "AsyncFile": (lambda f, s: anyio.wrap_file(standing_at(opened(f, s))), REST, KNOWN, AGAIN),
    "plain object": (lambda f, s: standing_at(Plain()), REST, KNOWN, AGAIN),
    "object with read only": (lambda f, s: ReadOnce(), ALL, UNKNOWN, ONCE),
    "Path": (lambda f, s: path_of(f), ALL, KNOWN, AGAIN),
    "anyio.Path": (lambda f, s: anyio.Path(path_of(f)), ALL, KNOWN, AGAIN),
    "PathLike": (lambda f, s: MyPath(path_of(f)), ALL, KNOWN, AGAIN),
    "pipe": (a_pipe, ALL, UNKNOWN, ONCE),
    "unbuffered pipe": (lambda f, s: a_pipe(f, s, 0), ALL, UNKNOWN, ONCE),
    "SpooledTemporaryFile": (lambda f, s: filled(tempfile.SpooledTemporaryFile(10**7), s), REST, KNOWN, AGAIN),
    "SpooledTemporaryFile on disk": (lambda f, s: filled(tempfile.SpooledTemporaryFile(10), s), REST, KNOWN, AGAIN),
    "NamedTemporaryFile": (lambda f, s: filled(tempfile.NamedTemporaryFile(), s), REST, KNOWN, AGAIN),
    "TemporaryFile": (lambda f, s: filled(tempfile.TemporaryFile(), s), REST, KNOWN, AGAIN),
    "zip member": (a_zip_member, ALL, KNOWN, AGAIN),
    "zip member at an offset": (lambda f, s: standing_at(a_zip_member(f, s)), REST, KNOWN, AGAIN),
    "gzip file": (lambda f, s: standing_at(a_gzip_file(f, s)), REST, KNOWN, AGAIN),
}


@pytest.mark.parametrize("kind", CONTENTS)
async def test_content_of_every_kind_gives_its_bytes_and_stays_open(kind: str, tmp_path: pathlib.Path) -> None:
    make, data, known, again = CONTENTS[kind]
    with contextlib.ExitStack() as stack:
        content = make(tmp_path, stack)
        body = await make_content(content)
        if isinstance(body, bytes):
            assert (body, known, again) == (data, True, True)
            return
        assert body.length == (len(data) if known else None)
        assert body.replayable is again
        assert not body.used
        assert await sent(body) == data
        assert body.can_be_sent is again
        if again:
            for stop_after in (0, 1):  # given up, then from the start
                assert data.startswith(await sent(body, stop_after))
                assert await sent(body) == data
        else:
            with pytest.raises(RuntimeError, match="was sent before and cannot be made again"):
                body.open()
        assert not getattr(content, "closed", False) or isinstance(content, Pieces)
        assert descriptors_of(tmp_path.resolve() / "data.bin") <= (0 if callable(content) else 1)


async def test_a_map_of_memory_is_read_from_where_it_stands(tmp_path: pathlib.Path) -> None:
    """From Python 3.13 on it says that it can be sought."""
    with contextlib.ExitStack() as stack:
        assert await sent(await make_content(standing_at(a_map(tmp_path, stack)))) == REST


async def test_pieces_are_bounded(file: pathlib.Path) -> None:
    body = streamed(await make_content(file))
    pieces = [piece async for piece in body.open()]  # type: ignore[union-attr]
    assert [len(piece) for piece in pieces] == [upload.PIECE_SIZE, upload.PIECE_SIZE, len(DATA) - 2 * upload.PIECE_SIZE]
    assert all(type(piece) is bytes for piece in pieces)


@pytest.mark.parametrize("kind", ["file", "path", "BytesIO"])
async def test_an_empty_file_is_an_empty_body(kind: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    with open(path, "rb") as opened:
        body = streamed(await make_content({"file": opened, "path": path, "BytesIO": io.BytesIO()}[kind]))
        assert body.length == 0
        assert await sent(body) == b""


@one_loop
@pytest.mark.parametrize(
    "content", [1, 1.5, None, object(), {"a": 1}, [1], ["text"], (b"a", None)], ids=lambda value: type(value).__name__
)
async def test_what_can_be_no_content_is_a_type_error(content: Any) -> None:
    with pytest.raises(TypeError):
        await make_content(content)


@one_loop
@pytest.mark.parametrize("given", ["text", 1, None, {"a": 1}.items, object()], ids=lambda value: type(value).__name__)
async def test_a_callable_that_makes_no_pieces_is_a_type_error(given: Any) -> None:
    with pytest.raises(TypeError):
        await sent(await make_content(lambda: given))


# --- text ------------------------------------------------------------------------------------------------------------

TEXTS: dict[str, Make] = {
    "open()": lambda f, s: s.enter_context(open(path_of(f), encoding="latin-1")),
    "StringIO": lambda f, s: io.StringIO("text"),
    "codecs.open": lambda f, s: s.enter_context(
        codecs.StreamReaderWriter(opened(f, s), codecs.getreader("latin-1"), codecs.getwriter("latin-1"))
    ),
    "NamedTemporaryFile": lambda f, s: s.enter_context(tempfile.NamedTemporaryFile("w+")),
    "SpooledTemporaryFile": lambda f, s: s.enter_context(tempfile.SpooledTemporaryFile(mode="w+")),
    "AsyncFile": lambda f, s: anyio.wrap_file(s.enter_context(open(path_of(f), encoding="latin-1"))),
    "TextIOWrapper": lambda f, s: io.TextIOWrapper(io.BytesIO(b"text")),
}


@one_loop
@pytest.mark.parametrize("kind", TEXTS)
async def test_a_file_opened_as_text_is_refused_before_anything_is_read(kind: str, tmp_path: pathlib.Path) -> None:
    with contextlib.ExitStack() as stack:
        text = TEXTS[kind](tmp_path, stack)
        other = Plain()
        with pytest.raises(TypeError, match=r"must be opened in binary mode \('rb'\), this one gives text"):
            await make_content(text)
        for pairs in ([("a", other), ("b", text)], [("b", ("name", text))]):
            with pytest.raises(TypeError, match="binary mode"):
                await form_data([], pairs, "x")
        assert other.calls == []
        assert getattr(text, "wrapped", text).tell() == 0


async def test_a_file_that_gives_text_after_all_is_a_type_error() -> None:
    class Lying(ReadOnce):
        def read(self, size: int = -1) -> Any:
            return "text"

    with pytest.raises(TypeError, match="a body is made of bytes, its iterable gave str"):
        await sent(await make_content(Lying()))


# --- files that cannot be read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["content", "part"])
async def test_a_path_that_cannot_be_read_is_the_systems_error(kind: str, tmp_path: pathlib.Path) -> None:
    async def make(value: Any) -> object:
        return await (make_content(value) if kind == "content" else form_data([], {"a": value}, "x"))

    with pytest.raises(FileNotFoundError):
        await make(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        await make(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError):
        await make(anyio.Path(tmp_path / "loop"))


async def test_a_closed_file_is_a_value_error(file: pathlib.Path) -> None:
    with open(file, "rb") as closed:
        pass
    memory = io.BytesIO(b"x")
    memory.close()
    for content in (closed, memory, anyio.wrap_file(closed)):
        with pytest.raises(ValueError, match="closed"):
            await make_content(content)
        with pytest.raises(ValueError, match="closed"):
            await form_data([], {"a": content}, "x")


async def test_a_file_that_is_closed_before_it_is_sent_is_a_value_error(file: pathlib.Path) -> None:
    with open(file, "rb") as opened:
        body = await make_content(opened)
    with pytest.raises(ValueError, match="^the file that is being sent was closed$"):
        await sent(body)


async def test_all_parts_are_checked_before_any_is_moved(file: pathlib.Path) -> None:
    first, second = Plain(), io.BytesIO(b"x")
    body = streamed(await form_data([], {"a": first, "b": second}, "x"))
    assert await sent(body)
    first.seek(7)
    second.close()
    with pytest.raises(ValueError, match="closed"):
        await sent(body)
    assert first.tell() == 7


async def test_a_file_that_went_away_before_it_was_opened_is_the_systems_error(tmp_path: pathlib.Path) -> None:
    body = await make_content(path_of(tmp_path))
    (tmp_path / "data.bin").unlink()
    with pytest.raises(FileNotFoundError):
        await sent(body)


async def test_an_error_of_the_file_comes_out_as_it_is() -> None:
    error = OSError(5, "Input/output error")

    class Broken(Plain):
        def read(self, size: int = -1) -> bytes:
            if self.calls.count("read"):
                raise error
            return super().read(size)

    for body in (await make_content(Broken()), await form_data([], {"a": Broken()}, "x")):
        with pytest.raises(OSError) as caught:
            await sent(body)
        assert caught.value is error


# --- files that change -----------------------------------------------------------------------------------------------


def later(path: pathlib.Path) -> None:
    """What is written from now on is written later, however coarse the clock of the file system is."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def shrink(path: pathlib.Path) -> None:
    os.truncate(path, len(DATA) - 1)


def shrink_to_what_was_sent(path: pathlib.Path) -> None:
    os.truncate(path, upload.PIECE_SIZE)


def empty(path: pathlib.Path) -> None:
    os.truncate(path, 0)


def grow(path: pathlib.Path) -> None:
    with open(path, "ab") as file:
        file.write(b"x")


def grow_a_lot(path: pathlib.Path) -> None:
    with open(path, "ab") as file:
        file.write(DATA)


def rewrite(path: pathlib.Path) -> None:
    with open(path, "r+b") as file:
        file.write(b"changed")
    later(path)


def rewrite_the_end(path: pathlib.Path) -> None:
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    later(path)


def grow_and_shrink_back(path: pathlib.Path) -> None:
    grow(path)
    os.truncate(path, len(DATA))
    later(path)


CHANGES = [
    shrink, shrink_to_what_was_sent, empty, grow, grow_a_lot, rewrite, rewrite_the_end, grow_and_shrink_back,
]  # fmt: skip


@pytest.mark.parametrize("when", ["before the first piece", "after the first piece"])
@pytest.mark.parametrize("kind", ["path", "file", "unbuffered", "part", "compressed"])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_file_that_changes_while_it_is_sent_is_an_error_before_its_last_byte(
    change: Callable[[pathlib.Path], None], kind: str, when: str, file: pathlib.Path
) -> None:
    with contextlib.ExitStack() as stack:
        content: Any = file
        if kind in ("file", "unbuffered"):
            content = stack.enter_context(open(file, "rb", buffering=0 if kind == "unbuffered" else -1))
        body = await (form_data([], {"a": content}, "x") if kind == "part" else make_content(content))
        length = streamed(body).length
        assert length is not None
        if kind == "compressed":
            body = compressed(body, "gzip")
        reader = PieceReader(streamed(body).open())
        out = b""
        if when == "after the first piece":
            for _ in range(2 if kind == "part" else 1):  # a part has a head
                out += await reader.next() or b""
        change(file)
        with pytest.raises(LocalProtocolError, match=r"^The file 'data\.bin' .* while it was being sent\.$") as caught:
            while (piece := await reader.next()) is not None:
                out += piece
        assert (caught.value.phase, caught.value.outcome) == (Phase.SEND, Outcome.UNKNOWN)
        await reader.aclose()
        assert len(out) < length
        if kind == "compressed":
            undo = zlib.decompressobj(31)
            undo.decompress(out)
            assert not undo.eof


async def test_a_file_that_is_replaced_between_two_sends_is_an_error(file: pathlib.Path) -> None:
    body = await make_content(file)
    assert await sent(body) == DATA
    other = file.with_name("other")
    other.write_bytes(DATA[::-1])
    later(other)
    os.replace(other, file)
    with pytest.raises(LocalProtocolError):
        await sent(body)


@pytest.mark.parametrize("kind", ["path", "file"])
async def test_an_empty_file_that_grows_is_an_error(kind: str, file: pathlib.Path) -> None:
    os.truncate(file, 0)
    with open(file, "rb") as opened:
        body = await make_content(opened if kind == "file" else file)
        file.write_bytes(DATA)
        with pytest.raises(LocalProtocolError):
            await sent(body)


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="Linux")
async def test_a_file_whose_size_is_a_lie_is_not_sent_as_nothing() -> None:
    path = pathlib.Path("/proc/version")  # a regular file of 0 bytes, as stat() has it
    try:
        assert await sent(await make_content(path)) == path.read_bytes()
    except LocalProtocolError:
        pass


async def test_a_file_that_was_written_to_before_is_no_error(tmp_path: pathlib.Path) -> None:
    with open(tmp_path / "a", "w+b") as file:
        file.write(DATA)
        file.seek(OFFSET)  # what is still in Python's buffer is written by the first look
        body = await make_content(file)
        assert await sent(body) == REST
        assert await sent(body) == REST


# --- threads and cancellation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [False, True], ids=["content", "form"])
async def test_files_are_touched_in_worker_threads_only(form: bool) -> None:
    file = Plain()
    body = await (form_data([], {"a": file}, "x") if form else make_content(file))
    await sent(body)
    await sent(body)
    assert {"read", "seek", "tell"} <= set(file.calls)
    assert threading.get_ident() not in file.threads


@pytest.mark.parametrize("kind", ["path", "callable"])
async def test_paths_are_opened_in_worker_threads(
    kind: str, file: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()

    class Watched(pathlib.PosixPath):
        def __fspath__(self) -> str:
            threads.add(threading.get_ident())
            return str(file)

    monkeypatch.setattr(
        files, "open", lambda path, mode: threads.add(threading.get_ident()) or open(path, mode), raising=False
    )
    assert await sent(await make_content(file if kind == "path" else lambda: file)) == DATA
    assert threads
    assert threading.get_ident() not in threads


async def test_a_slow_file_does_not_stop_the_event_loop() -> None:
    class Slow(Plain):
        def read(self, size: int = -1) -> bytes:
            time.sleep(0.1)
            return super().read(size)

    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.005)
            ticks += 1

    body = await make_content(Slow(b"x"))
    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        assert await sent(body) == b"x"
        group.cancel_scope.cancel()
    assert ticks >= 10


@pytest.mark.parametrize("given_up", ["closed", "dropped"])
@pytest.mark.parametrize("pieces", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["path", "callable: path", "callable: file", "part", "compressed", "reported"])
async def test_a_file_that_we_opened_is_closed_wherever_the_send_ends(
    kind: str, pieces: int, given_up: str, file: pathlib.Path
) -> None:
    body: bytes | StreamedBody
    match kind:
        case "part":
            body = await form_data([], {"a": file}, "x")
        case "compressed":
            body = compressed(await make_content(file), "gzip")
        case "reported":
            body = reported(await make_content(lambda: open(file, "rb")), lambda sent, total: None)
        case "callable: path":
            body = await make_content(lambda: file)
        case "callable: file":
            body = await make_content(lambda: open(file, "rb"))
        case _:
            body = await make_content(file)
    reader = PieceReader(streamed(body).open())
    for _ in range(pieces):
        await reader.next()
    if given_up == "closed":
        await reader.aclose()
    else:
        del reader, body
        until = time.monotonic() + 5
        while descriptors_of(file) and time.monotonic() < until:
            gc.collect()
            await anyio.sleep(0.001)  # a worker thread lets go of its last job a moment after it is done
    assert descriptors_of(file) == 0


async def test_a_file_of_a_callable_that_cannot_be_sent_is_closed_too(file: pathlib.Path) -> None:
    made: list[Any] = []

    def make() -> Any:
        made.append(open(file, encoding="latin-1"))
        return made[-1]

    body = await make_content(make)
    try:
        with pytest.raises(TypeError, match="binary mode"):
            await sent(body)
        assert made[0].closed
    finally:
        made[0].close()


class Stuck:
    """A file that gives one piece, and then waits in read() until it is told to go on."""

    def __init__(self, *, seekable: bool = False) -> None:
        self.go_on = threading.Event()
        self.closed = False
        self.reads = 0
        self.over = threading.Event()

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        if self.reads == 1:
            return b"first"
        self.go_on.wait(5)
        self.over.set()
        return b""

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("kind", ["content", "callable", "compressed", "part"])
async def test_whoever_is_cancelled_does_not_wait_for_a_file_that_gives_nothing(kind: str) -> None:
    file = Stuck()
    match kind:
        case "callable":
            body = await make_content(lambda: file)
        case "compressed":
            body = compressed(await make_content(file), "zstd")
        case "part":
            body = await form_data([], {"a": file}, "x")
        case _:
            body = await make_content(file)
    began = time.monotonic()
    try:
        with anyio.move_on_after(0.1) as scope:
            await sent(body)
        assert scope.cancelled_caught
        assert time.monotonic() - began < 2
    finally:
        file.go_on.set()
    assert await anyio.to_thread.run_sync(file.over.wait, 5)
    await anyio.sleep(0.02)
    assert file.closed is (kind == "callable")  # at the latest when its last read() has come back


@pytest.fixture
def fifo(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("kind", ["path", "callable: path", "callable: file"])
async def test_closing_a_file_that_is_being_read_does_not_stop_the_event_loop(kind: str, fifo: pathlib.Path) -> None:
    """A pipe whose writer says nothing: Python's buffered files wait in close() until read() has come back."""
    writer = open(fifo, "r+b", buffering=0)
    help_it = threading.Timer(3.0, writer.close)  # the end of the pipe, so that a failure is no hang
    help_it.start()
    content: dict[str, Any] = {
        "path": fifo,
        "callable: path": lambda: fifo,
        "callable: file": lambda: open(fifo, "rb"),
    }
    began = time.monotonic()
    try:
        with anyio.move_on_after(0.2) as scope:
            await sent(await make_content(content[kind]))
        assert scope.cancelled_caught
        assert time.monotonic() - began < 2
    finally:
        help_it.cancel()
        writer.close()  # the thread that reads comes to its end
        until = time.monotonic() + 5
        while descriptors_of(fifo.resolve()) and time.monotonic() < until:
            await anyio.sleep(0.01)
    assert descriptors_of(fifo.resolve()) == 0


async def test_a_named_pipe_is_opened_once_and_sent_once(fifo: pathlib.Path) -> None:
    errors: list[BaseException] = []

    def write() -> None:
        try:
            with open(fifo, "wb") as file:
                file.write(DATA)
        except OSError as exc:
            errors.append(exc)

    thread = threading.Thread(target=write)
    thread.start()
    got = b""
    with anyio.move_on_after(3):
        body = streamed(await make_content(fifo))
        assert (body.length, body.replayable) == (None, False)
        got = await sent(body)
    end = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)  # whoever still waits to open it gets through
    thread.join(5)
    os.close(end)
    assert errors == []
    assert got == DATA


async def test_a_read_that_was_given_up_does_not_disturb_the_next_send() -> None:
    """An early answer ends a send in the middle of a slow read; the retry reads the same file from the start."""
    released, done = threading.Event(), threading.Event()

    class Slow(Plain):
        lock = threading.Lock()
        begun = 0

        def read(self, size: int = -1) -> bytes:
            with self.lock:
                self.begun += 1
                number = self.begun
            if number == 2:  # of the first send: it goes on when the second send has begun, if that begins meanwhile
                released.wait(1)
            piece = super().read(size)
            if number == 2:
                done.set()
            if number == 3:
                released.set()
                done.wait(1)
            return piece

    file = Slow()
    body = streamed(await make_content(file))
    reader = PieceReader(body.open())
    assert await reader.next() == DATA[: upload.PIECE_SIZE]
    with anyio.move_on_after(0.05) as scope:
        await reader.next()
    assert scope.cancelled_caught
    await reader.aclose()
    assert await sent(body) == DATA


async def test_a_thousand_sends_that_are_given_up_leave_nothing_open(file: pathlib.Path) -> None:
    body = await make_content(file)

    async def one(delay: float) -> None:
        with anyio.move_on_after(delay):
            await sent(body)

    for round in range(10):
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(one, (round * 100 + number) * 2e-5)
    until = time.monotonic() + 5
    while descriptors_of(file) and time.monotonic() < until:
        await anyio.sleep(0.01)  # threads that were given up close what they opened
    assert descriptors_of(file) == 0


# --- the pieces of other bodies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [None, "text", 1, [b"a"]])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_piece_that_is_no_bytes_is_a_type_error_and_no_end(kind: str, piece: Any) -> None:
    pieces: Any = iter([b"a", piece, b"b"]) if kind == "sync" else Pieces(b"a", piece, b"b")
    reader = PieceReader(pieces)
    assert await reader.next() == b"a"
    with pytest.raises(TypeError, match="a body is made of bytes"):
        await reader.next()


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    "wrap",
    [lambda body: body, lambda body: compressed(body, "gzip"), lambda body: reported(body, lambda *_: None)],
    ids=["plain", "compressed", "reported"],
)
async def test_generators_are_closed_with_their_reader(wrap: Any, kind: str) -> None:
    closed: list[str] = []

    def sync() -> Iterator[bytes]:
        try:
            while True:
                yield os.urandom(1000)  # so that a compressor gives something now and then
        finally:
            closed.append("sync")

    async def both() -> AsyncIterator[bytes]:
        try:
            while True:
                yield os.urandom(1000)
        finally:
            closed.append("async")

    content = wrap(await make_content(sync if kind == "sync" else both))
    await sent(content, 0)
    assert closed == []  # it was never begun
    await sent(content, 3)
    assert closed == [kind]


# --- compressed ------------------------------------------------------------------------------------------------------


def undone(coding: str, data: bytes) -> bytes:
    decoder = make_decoder(coding, None)
    assert decoder is not None
    out = b"".join(decoder.feed(data))
    decoder.finish()
    return out


@one_loop
@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("kind", [kind for kind, made in CONTENTS.items() if made[1]])
async def test_a_compressed_body_is_the_same_on_every_send(kind: str, coding: str, tmp_path: pathlib.Path) -> None:
    make, data, _, again = CONTENTS[kind]
    with contextlib.ExitStack() as stack:
        content = await make_content(make(tmp_path, stack))
        body = compressed(content, coding)
        first = await sent(body)
        assert undone(coding, first) == data
        if isinstance(content, bytes):
            assert body == first
            return
        assert (streamed(body).length, streamed(body).replayable) == (None, again)
        if again:
            assert await sent(body) == first
        else:
            assert not streamed(body).can_be_sent


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_nothing_compressed_is_still_a_body(coding: str) -> None:
    assert undone(coding, await sent(compressed(b"", coding))) == b""
    assert undone(coding, await sent(compressed(await make_content([]), coding))) == b""


@one_loop
@pytest.mark.parametrize("coding", ["br", "deflate", ""])
async def test_another_coding_is_a_value_error_before_anything_is_read(coding: str) -> None:
    pieces = Pieces(b"a")
    with pytest.raises(ValueError, match="compress= takes 'gzip' or 'zstd'"):
        compressed(await make_content(pieces), coding)
    assert pieces.left == [b"a"]


@pytest.mark.parametrize("wrap", [lambda body: compressed(body, "gzip"), lambda body: reported(body, lambda *_: None)])
@pytest.mark.parametrize(
    "error", [ZeroDivisionError("mine"), OSError("mine"), TimeoutError(), GeneratorExit()], ids=repr
)
async def test_an_error_of_the_inner_body_comes_out_as_it_is(wrap: Any, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        await sent(wrap(await make_content(Pieces(b"a", error=error))))
    assert caught.value is error


# --- reported --------------------------------------------------------------------------------------------------------


class Progress:
    def __init__(self) -> None:
        self.values: list[tuple[int, int | None]] = []

    def __call__(self, sent: int, total: int | None) -> None:
        self.values.append((sent, total))


SIZE, HALF = len(DATA), upload.PIECE_SIZE


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (lambda path: DATA, [(HALF, SIZE), (2 * HALF, SIZE), (SIZE, SIZE)]),
        (lambda path: path, [(HALF, SIZE), (2 * HALF, SIZE), (SIZE, SIZE)]),
        (lambda path: b"abc", [(3, 3)]),
        (lambda path: [b"a", b"", b"bc"], [(1, 3), (3, 3)]),
        (lambda path: lambda: [b"a", b"bc"], [(1, None), (3, None)]),
        (lambda path: Pieces(b"a", b"bc"), [(1, None), (3, None)]),
        (lambda path: [memoryview(array.array("I", bytes(8)))], [(8, 8)]),
    ],
)
async def test_progress_says_what_was_taken(
    make: Any, values: list[tuple[int, int | None]], file: pathlib.Path
) -> None:
    progress = Progress()
    inner = await make_content(make(file))
    body = reported(inner, progress)
    assert body.length == (len(inner) if isinstance(inner, bytes) else inner.length)
    data = await sent(body)
    assert progress.values == values
    if body.replayable:
        assert await sent(body) == data
        assert progress.values == values * 2  # another send starts from nothing
    assert body.replayable is (isinstance(inner, bytes) or inner.replayable)


async def test_a_piece_counts_once_the_next_one_is_asked_for() -> None:
    progress = Progress()
    reader = PieceReader(reported(await make_content([b"a", b"b"]), progress).open())
    await reader.next()
    assert progress.values == []
    await reader.next()
    assert progress.values == [(1, 2)]
    await reader.aclose()


async def test_an_error_of_the_callback_comes_out_as_it_is_and_the_file_is_closed(file: pathlib.Path) -> None:
    error = KeyError("mine")

    def fail(sent: int, total: int | None) -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        await sent(reported(await make_content(file), fail))
    assert caught.value is error
    assert descriptors_of(file) == 0


async def test_progress_of_a_compressed_body_counts_what_is_sent(file: pathlib.Path) -> None:
    progress = Progress()
    data = await sent(reported(compressed(await make_content(file), "gzip"), progress))
    assert progress.values[-1] == (len(data), None)
    assert len(data) < SIZE / 10


# --- forms -----------------------------------------------------------------------------------------------------------


def part(head: str, data: bytes, kind: str | None = "application/octet-stream", *more: str) -> bytes:
    lines = [f"--x\r\nContent-Disposition: form-data; {head}", *([f"Content-Type: {kind}"] if kind else []), *more]
    return "\r\n".join([*lines, "", ""]).encode() + data + b"\r\n"


END = b"--x--\r\n"


def named(name: Any, data: bytes = b"data") -> Any:
    file = io.BytesIO(data)
    file.name = name  # type: ignore[attr-defined]
    return file


FILES: list[tuple[Any, bytes]] = [
    (b"data", part('name="a"; filename="upload"', b"data")),
    (bytearray(b"data"), part('name="a"; filename="upload"', b"data")),
    (memoryview(b"data"), part('name="a"; filename="upload"', b"data")),
    (io.BytesIO(b"data"), part('name="a"; filename="upload"', b"data")),
    (named("/tmp/dir/a.txt"), part('name="a"; filename="a.txt"', b"data", "text/plain")),
    (named(""), part('name="a"; filename="upload"', b"data")),
    (named(7), part('name="a"; filename="upload"', b"data")),  # what os.fdopen() and TemporaryFile() have
    (named(b"a.txt"), part('name="a"; filename="upload"', b"data")),
    (("b.csv", b"data"), part('name="a"; filename="b.csv"', b"data", "text/csv")),
    (("b.csv", named("c.txt")), part('name="a"; filename="b.csv"', b"data", "text/csv")),
    (("b.csv", b"data", "x/y"), part('name="a"; filename="b.csv"', b"data", "x/y")),
    (("b.csv", b"data", None), part('name="a"; filename="b.csv"', b"data", "text/csv")),
    (("b.csv", b"data", "x/y", {"X-A": "1"}), part('name="a"; filename="b.csv"', b"data", "x/y", "X-A: 1")),
    (("b.csv", b"data", None, {"X-A": "1"}), part('name="a"; filename="b.csv"', b"data", "text/csv", "X-A: 1")),
    (
        ("b.csv", b"data", None, {"Content-Type": "x/z"}),
        part('name="a"; filename="b.csv"', b"data", None, "Content-Type: x/z"),
    ),
    ((None, "text"), part('name="a"', b"text", None)),
    ((None, b"data"), part('name="a"', b"data", None)),
    ((None, io.BytesIO(b"data")), part('name="a"', b"data", None)),
    ((None, "{}", "application/json"), part('name="a"', b"{}", "application/json")),
    (("", b"data"), part('name="a"; filename="upload"', b"data")),
    (('q".txt', b"data"), part('name="a"; filename="q%22.txt"', b"data", "text/plain")),
]


def fresh(value: Any) -> Any:
    """*value* with files of its own, which no other test has read."""
    if isinstance(value, io.BytesIO):
        return named(getattr(value, "name", None), value.getvalue())
    return tuple(fresh(item) for item in value) if isinstance(value, tuple) else value


@one_loop
@pytest.mark.parametrize(("value", "expected"), FILES, ids=range(len(FILES)))
@pytest.mark.parametrize("shape", ["mapping", "pairs", "list pairs"])
async def test_the_parts_that_files_become(value: Any, expected: bytes, shape: str) -> None:
    value = fresh(value)
    files: Any = {"mapping": {"a": value}, "pairs": [("a", value)], "list pairs": (["a", value],)}[shape]
    body = await form_data([("f", "ü"), ("g[]", "")], files, "x")
    fields = part('name="f"', "ü".encode(), None) + part('name="g[]"', b"", None)
    assert await sent(body) == fields + expected + END
    if isinstance(body, StreamedBody):
        assert body.length == len(fields + expected + END)
        assert await sent(body) == fields + expected + END


@one_loop
@pytest.mark.parametrize("kind", [kind for kind in CONTENTS if kind.split(":")[0] not in ("str", "list", "tuple", "callable", "generator", "iterator", "wide memoryviews", "async generator", "async iterable", "async iterable with read")])  # fmt: skip
async def test_files_of_every_kind_are_parts(kind: str, tmp_path: pathlib.Path) -> None:
    make, data, known, again = CONTENTS[kind]
    with contextlib.ExitStack() as stack:
        content = make(tmp_path, stack)
        body = streamed(await form_data([], {"a": ("n", content)}, "x"))
        expected = part('name="a"; filename="n"', data) + END
        assert body.length == (len(expected) if known else None)
        assert body.replayable is again
        assert await sent(body) == expected
        if again:
            await sent(body, 2)
            assert await sent(body) == expected
        assert not getattr(content, "closed", False)


async def test_the_names_of_files_are_their_own(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "über.json"
    path.write_bytes(b"{}")
    with open(path, "rb") as file:
        for value in (path, anyio.Path(path), MyPath(path), file, anyio.wrap_file(file)):
            file.seek(0)
            body = await form_data([], {"a": value}, "x")
            assert await sent(body) == part('name="a"; filename="über.json"', b"{}", "application/json") + END


async def test_parts_keep_their_order_and_may_share_a_name_and_a_file(file: pathlib.Path) -> None:
    with open(file, "rb") as opened:
        opened.seek(len(DATA) - 3)
        files = [("a", opened), ("b", b"between"), ("a", opened), ("a", opened)]
        body = await form_data([], files, "x")
        one = part('name="a"; filename="data.bin"', DATA[-3:])
        assert await sent(body) == one + part('name="b"; filename="upload"', b"between") + one + one + END


async def test_a_form_without_files_is_nothing_but_its_end() -> None:
    assert await form_data([], {}, "x") == END
    assert await form_data([("a", "1")], (), "x") == part('name="a"', b"1", None) + END


@one_loop
@pytest.mark.parametrize("size", [10, upload.SMALL_FORM, 10**6])
async def test_a_large_form_is_not_copied_into_one(size: int) -> None:
    data = b"x" * size
    body = await form_data([], {"a": data}, "x")
    assert isinstance(body, bytes) is (size == 10)
    expected = part('name="a"; filename="upload"', data) + END
    for _ in range(2):
        assert await sent(body) == expected
    if isinstance(body, StreamedBody):
        assert (body.length, body.replayable) == (len(expected), True)


async def test_one_part_that_can_be_read_only_once_makes_the_form_so(tmp_path: pathlib.Path) -> None:
    with contextlib.ExitStack() as stack:
        body = streamed(await form_data([], {"a": path_of(tmp_path), "b": a_pipe(tmp_path, stack)}, "x"))
        assert (body.length, body.replayable) == (None, False)
        one = part('name="a"; filename="data.bin"', DATA)
        assert await sent(body) == one + part('name="b"; filename="upload"', DATA) + END
        assert not body.can_be_sent


@one_loop
@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a": "path.txt"}, "'a' is a str, which may be a path or a content"),
        ({"a": ("n", "text")}, "'a' is a str, which may be a path or a content"),
        ({"a": 1}, "must be bytes, a file opened in binary mode, a path, or a tuple"),
        ({"a": None}, "must be bytes"),
        ({"a": [b"x"]}, "must be bytes"),
        ({"a": iter([b"x"])}, "must be bytes"),
        ({"a": ("n", None)}, "must be bytes"),
        ({"a": ("n", lambda: b"x")}, "must be bytes"),
        ({"a": ()}, "a tuple is"),
        ({"a": (b"x",)}, "a tuple is .* not 1 values"),
        ({"a": ("n", b"x", None, None, None)}, "not 5 values"),
        ({"a": (b"n", b"x")}, "its file name must be a str or None, not bytes"),
        ({"a": (1, b"x")}, "its file name must be a str or None, not int"),
        ({"a": ("n", b"x", 1)}, None),
        ({"a": ("n", b"x", b"text/plain")}, None),
        ({"a": ("n", b"x", None, {"X-A": 1})}, None),
        ({1: b"x"}, "the name of a part must be a str, not int"),
        ({b"a": b"x"}, "the name of a part must be a str, not bytes"),
        ([("a", b"x", "n")], "takes a mapping, or \\(name, file\\) pairs"),
        ([("a",)], "takes a mapping, or \\(name, file\\) pairs"),
        ([b"ab"], "takes a mapping, or \\(name, file\\) pairs"),
        (["ab"], "takes a mapping, or \\(name, file\\) pairs"),
    ],
)
async def test_what_can_be_no_file_is_a_type_error_before_any_is_touched(files: Any, says: str | None) -> None:
    other = Plain()
    pairs = [("first", other), *(files.items() if isinstance(files, dict) else files)]
    with pytest.raises(TypeError, match=says):
        await form_data([], pairs, "x")
    assert other.calls == []


@one_loop
@pytest.mark.parametrize(
    "value",
    [("n", b"x", "a\r\nb"), ("n", b"x", None, {"X-A": "1\r\nX-B: 2"}), ("n", b"x", None, {"Content-Disposition": "x"}), ("\ud800", b"x"), (None, "\ud800")],
)  # fmt: skip
async def test_what_would_break_the_form_is_a_value_error_before_any_file_is_touched(value: Any) -> None:
    other = Plain()
    with pytest.raises(ValueError):
        await form_data([], [("first", other), ("a", value)], "x")
    assert other.calls == []
    with pytest.raises(ValueError, match="lone surrogate"):
        await form_data([("a", "\udc00")], {}, "x")


@one_loop
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", "text/plain"),
        ("A.TXT", "text/plain"),
        ("a.json", "application/json"),
        ("a.png", "image/png"),
        ("a.b.pdf", "application/pdf"),
        ("a", "application/octet-stream"),
        ("", "application/octet-stream"),
        (".txt", "application/octet-stream"),
        ("a.unknown", "application/octet-stream"),
        ("a.tar.gz", "application/octet-stream"),  # it is no tar before it is unpacked
        ("what?.txt", "text/plain"),
        ("no#1.txt", "text/plain"),
        ("a b%20c.html", "text/html"),
        ("data:text/html,x", "application/octet-stream"),
        ("../x/a.css", "text/css"),
        ("ü.txt", "text/plain"),
        ("//host/a.txt", "text/plain"),
        ("a;b=c.txt", "text/plain"),
    ],
)
async def test_types_are_guessed_by_name_and_alike_on_every_machine(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mimetypes

    upload._types.cache_clear()
    monkeypatch.setattr(mimetypes, "knownfiles", [])
    assert upload.guess_type(name) == kind


@one_loop
async def test_the_types_of_this_machine_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import mimetypes

    mimetypes.init()
    mimetypes.add_type("x/mine", ".unknown-here")
    try:
        assert mimetypes.guess_type("a.unknown-here")[0] == "x/mine"
        upload._types.cache_clear()
        assert upload.guess_type("a.unknown-here") == "application/octet-stream"
    finally:
        mimetypes.init()


@one_loop
async def test_boundaries_are_never_the_same() -> None:
    made = {new_boundary() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", boundary) for boundary in made)
