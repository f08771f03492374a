"""Bodies into files: whole or absent, and on request continued after a cut."""

from __future__ import annotations

import errno
import os
import pathlib
import random
import stat
import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import attrs

from ._core import ranges, retry
from ._io.response import Response
from ._log import logger
from ._model.errors import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    ConnectionLostError,
    DeadlineExceededError,
    Outcome,
    Phase,
)
from ._model.given import NotGiven, Omit
from ._model.options import RequestOptions

if TYPE_CHECKING:
    from ._client import AsyncAPIClient

__all__ = ["Download", "Progress"]

Progress: TypeAlias = Callable[[int, int | None], object]


class Download:
    """One body on its way into a file.

    It is written under a temporary name beside the file, which then takes its place at once. What is to be resumed keeps
    that name after a failure, and beside it the validator that says of which representation the bytes are. Such a part
    is written by one download at a time: it is locked where the system can do that.
    """

    def __init__(
        self, client: AsyncAPIClient, response: Response, path: str | os.PathLike[str], progress: Progress | None
    ) -> None:
        self.response = response
        self._client = client
        self._target = anyio.Path(path)
        self._progress = progress
        self._done = 0
        self._total = ranges.total_of(response.head) if response.status_code != 206 else None

    async def check(self) -> None:
        """Before anything is read: OSError for a place where no file can be, our error for a part nobody asked for."""
        if await self._target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "the target of a download is a folder", str(self._target))
        if not await self._target.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "the folder of the target is not there", str(self._target.parent))
        request = self.response.request
        if self.response.status_code == 206 and request is not None and "range" not in request.headers:
            raise self._wrong("The server sent a part of the body that nobody asked for.")

    def _wrong(self, message: str) -> APIResponseValidationError:
        return APIResponseValidationError(message, response=self.response.without_body())

    async def save(self) -> None:
        """Write the whole body. Nothing is left behind by a failure."""
        part = self._target.with_name(f".{self._target.name}.{uuid.uuid4().hex}.part")
        try:
            # Opened here, not in a thread: what a thread has opened is lost where the wait for it is cancelled.
            with open(part, "xb", 0) as raw:  # noqa: ASYNC230
                await self._write(anyio.wrap_file(raw))
            await part.replace(self._target)
        except BaseException:
            _remove(part)
            raise

    async def save_resuming(self) -> None:
        """The same; a cut is continued, also one of an earlier call. What cannot be continued is saved as it is."""
        validator = self._validator()
        if validator is None:
            logger.debug("the download cannot be resumed: no strong validator, or a content coding")
            await self.save()
            return
        part = self._target.with_name(f".{self._target.name}.part")
        note = self._target.with_name(f".{self._target.name}.part-validator")
        with _open_part(part) as raw:  # closed at once too, also where that is cancelled
            file: anyio.AsyncFile[bytes] = anyio.wrap_file(raw)
            self._done = await _size_of(file, note, validator)
            if self._total is not None and self._done > self._total:
                self._done = 0
            if self._done and self._done == self._total:
                await self.response.dispose()
            else:
                await self._fetch(file, note, validator)
            await part.replace(self._target)
        _remove(note)

    async def _fetch(self, file: anyio.AsyncFile[bytes], note: anyio.Path, validator: str | None) -> None:
        """Write the rest, asking for it again after each cut."""
        failures = 0
        ask = self._done > 0
        if not ask:
            await self._begin(file, note, validator)
        furthest = self._done
        while True:
            end: int | None = self._total
            try:
                if ask:
                    assert validator is not None
                    part = await self._reopen(validator)
                    if part is None:  # something else, or all of it, from its beginning
                        validator = self._validator()
                        self._total = ranges.total_of(self.response.head)
                        await self._begin(file, note, validator)
                    elif self._total is None:
                        self._total = part.total
                    end = self._total if part is None else part.end
                await self._write(file, end)
                if end is None or self._done >= (end if self._total is None else self._total):
                    return
                cut: APIConnectionError = self._lost("The server sent less than the whole body.")
                if self._done < end:
                    cut = self._lost("The server sent less than it said.")
            except APIConnectionError as exc:
                if not exc.retryable or isinstance(exc, DeadlineExceededError):
                    raise
                cut = exc
            # To begin again is no progress: a server could go on like that for ever.
            failures = 0 if self._done > furthest else failures + 1
            furthest = max(furthest, self._done)
            await self._wait(cut, failures, validator)
            ask = True

    async def _wait(self, cut: APIConnectionError, failures: int, validator: str | None) -> None:
        """Before the rest is asked for again; *cut* is raised where that is not to be done (any more)."""
        allowed = self._given.max_retries
        if isinstance(allowed, NotGiven):
            allowed = self._client.max_retries
        if validator is None or failures > allowed or not allowed:
            raise cut
        seconds = retry.wait_before(
            self._client._retry,
            failures,
            random.random,
            advice=None,
            now=anyio.current_time(),
            deadline=self.response.deadline,
        )
        if seconds is None:
            raise cut
        logger.info("resume at byte %d in %.3g s: %s", self._done, seconds, cut)
        await anyio.sleep(seconds)

    def _lost(self, message: str) -> ConnectionLostError:
        return ConnectionLostError(message, request=self.response.request, phase=Phase.BODY, outcome=Outcome.ANSWERED)

    async def _begin(self, file: anyio.AsyncFile[bytes], note: anyio.Path, validator: str | None) -> None:
        """Nothing is there yet. First the old bytes go, then the note says what the new ones will be."""
        self._done = 0
        await file.truncate(0)
        await file.seek(0)
        await note.write_text(validator or "", encoding="utf-8")

    async def _reopen(self, validator: str) -> ranges.Part | None:
        """Take the rest in place of the response, and say what it holds; None: it is the whole, from the beginning."""
        given = self._given
        await self.response.dispose()
        headers: Mapping[str, str | Omit] = {} if isinstance(given.headers, NotGiven) else given.headers
        kept = {name: value for name, value in headers.items() if name.lower() not in _OURS}
        if self._done:
            options = attrs.evolve(given, headers={**kept, **ranges.range_headers(self._done, validator)})
            deadline = self.response.deadline
            try:
                self.response = await self._client._reopen(options, deadline)
                part = ranges.part_of(self.response.head, self._done, self._total, validator)
                if part is not None or self.response.status_code == 200:
                    return part
                await self.response.dispose()  # another part than was asked for
            except APIStatusError as exc:
                if exc.status_code != 416:  # RFC 9110 section 15.5.17: there is no such part (any more)
                    raise
        self.response = await self._client._reopen(given, self.response.deadline)
        if self.response.status_code != 200:
            raise self._wrong(f"Asked for the whole body, the server answered with status {self.response.status_code}.")
        return None

    async def _write(self, file: anyio.AsyncFile[bytes], end: int | None = None) -> None:
        """Write what comes; never more than up to *end*."""
        async for piece in self.response.iter_bytes():
            if end is not None and self._done + len(piece) > end:
                raise self._wrong("The server sent more than it said.")
            await _write_all(file, piece)
            self._done += len(piece)
            if self._progress is not None:
                self._progress(self._done, self._total)

    @property
    def _given(self) -> RequestOptions:
        given = self.response.given
        assert isinstance(given, RequestOptions)  # the call driver sets it
        return given

    def _validator(self) -> str | None:
        if not isinstance(self.response.given, RequestOptions):
            return None
        return ranges.validator_of(self._given.method, self.response.head, time.time())


_OURS = ("range", "if-range", "accept-encoding")


async def _write_all(file: anyio.AsyncFile[bytes], piece: bytes) -> None:
    """Unbuffered files may take less than they are given."""
    rest = memoryview(piece)
    while rest:
        rest = rest[await file.write(rest) :]


def _open_part(path: anyio.Path) -> Any:
    """The part file, unbuffered and locked, standing at its end.

    What is no regular file (a link to somewhere else, a pipe) was not made by us, and goes. BlockingIOError where another
    download is writing to it. Not for a thread: what it has opened is lost where the wait for it is cancelled.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    place = pathlib.Path(path)
    try:
        if not stat.S_ISREG(place.lstat().st_mode):
            place.unlink()
    except FileNotFoundError:
        pass
    file = os.fdopen(os.open(place, flags, 0o666), "r+b", buffering=0)
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EEXIST, "the part of a download is no regular file", str(place))
        _lock(file, place)
        file.seek(0, os.SEEK_END)
    except BaseException:
        file.close()
        raise
    return file


def _lock(file: Any, place: pathlib.Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: a file that is open cannot be replaced there anyway
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(errno.EAGAIN, "another download is writing this part", str(place)) from None
    # Whoever had the lock may have finished meanwhile, and the file have its own name by now.
    try:
        is_there = os.path.samestat(os.fstat(file.fileno()), place.stat())
    except FileNotFoundError:
        is_there = False
    if not is_there:
        raise BlockingIOError(errno.EAGAIN, "another download has just finished this part", str(place))


async def _size_of(file: anyio.AsyncFile[bytes], note: anyio.Path, validator: str) -> int:
    """How much of this representation is there already."""
    try:
        if await note.read_text(encoding="utf-8") == validator:
            return await file.tell()
    except (OSError, ValueError):
        pass
    return 0


def _remove(*paths: anyio.Path) -> None:
    """Short, and not to be cancelled."""
    for path in paths:
        pathlib.Path(path).unlink(missing_ok=True)
