"""Bodies into files: whole or absent, and on request continued after a cut."""

from __future__ import annotations

import errno
import os
import pathlib
import random
import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

import anyio
import attrs

from ._core import ranges, retry
from ._io.response import Response
from ._log import logger
from ._model.errors import APIConnectionError, APIStatusError, DeadlineExceededError
from ._model.given import NotGiven, Omit
from ._model.options import RequestOptions

if TYPE_CHECKING:
    from ._client import AsyncAPIClient

__all__ = ["Download", "Progress"]

Progress: TypeAlias = Callable[[int, int | None], object]


class Download:
    """One body on its way into a file.

    It is written under a temporary name beside the file, which then takes its place at once. What is to be resumed keeps
    that name after a failure, and beside it the validator that says of which representation the bytes are.
    """

    def __init__(
        self, client: AsyncAPIClient, response: Response, path: str | os.PathLike[str], progress: Progress | None
    ) -> None:
        self.response = response
        self._client = client
        self._target = anyio.Path(path)
        self._progress = progress
        self._done = 0

    async def check(self) -> None:
        """IsADirectoryError, or FileNotFoundError for a folder that is not there, before anything is read."""
        if await self._target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "the target of a download is a folder", str(self._target))
        if not await self._target.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "the folder of the target is not there", str(self._target.parent))

    async def save(self) -> None:
        """Write the whole body. Nothing is left behind by a failure."""
        part = self._target.with_name(f".{self._target.name}.{uuid.uuid4().hex}.part")
        try:
            await self._write(part, "xb")
            await part.replace(self._target)
        except BaseException:
            _remove(part)
            raise

    async def save_resuming(self) -> None:
        """The same; a cut is continued, also one of an earlier call. What cannot be continued is saved as it is."""
        part = self._target.with_name(f".{self._target.name}.part")
        note = self._target.with_name(f".{self._target.name}.part-validator")
        validator = self._validator()
        if validator is None:
            logger.debug("the download cannot be resumed: no strong validator, or a content coding")
            _remove(part, note)
            await self.save()
            return
        total = self._total()
        self._done = await _size_of(part, note, validator)
        if total is not None and self._done > total:
            self._done = 0
        if self._done and self._done == total:
            await self.response.dispose()
        else:
            await note.write_text(validator, encoding="utf-8")
            await self._fetch(part, note, validator)
        await part.replace(self._target)
        _remove(note)

    async def _fetch(self, part: anyio.Path, note: anyio.Path, validator: str | None) -> None:
        """Write the rest, asking for it again after each cut."""
        failures = 0
        ask = self._done > 0
        while True:
            if ask:
                assert validator is not None
                await self._reopen(validator)
                if not self._done:  # something else, from its beginning
                    validator = self._validator()
                    await note.write_text(validator or "", encoding="utf-8")
            before = self._done
            try:
                await self._write(part, "ab" if self._done else "wb")
            except APIConnectionError as exc:
                failures = 1 if self._done > before else failures + 1
                if not exc.retryable or isinstance(exc, DeadlineExceededError) or failures > self._client.max_retries:
                    raise
                if validator is None:
                    raise
                seconds = retry.backoff(self._client._retry, failures - 1, random.random())
                logger.info("resume at byte %d in %.3g s: %s", self._done, seconds, exc)
                await anyio.sleep(seconds)
                ask = self._done > 0 or self.response.is_closed
            else:
                return

    async def _reopen(self, validator: str) -> None:
        """Take the rest in place of the response; from the beginning where the server has something else by now."""
        given = self._given
        await self.response.dispose()
        headers: Mapping[str, str | Omit] = {} if isinstance(given.headers, NotGiven) else given.headers
        kept = {name: value for name, value in headers.items() if name.lower() not in _OURS}
        options = attrs.evolve(given, headers={**kept, **ranges.range_headers(self._done, validator)})
        deadline = self.response.deadline
        try:
            self.response = await self._client._reopen(options, deadline)
            if ranges.continues(self.response.head, self._done, validator):
                return
            whole = self.response.status_code == 200
            if not whole:  # another part than was asked for
                await self.response.dispose()
        except APIStatusError as exc:
            if exc.status_code != 416:  # RFC 9110 section 15.5.17: there is no such part (any more)
                raise
            whole = False
        self._done = 0
        if not whole:
            self.response = await self._client._reopen(given, deadline)

    async def _write(self, part: anyio.Path, mode: Literal["ab", "wb", "xb"]) -> None:
        total = self._total()
        async with await anyio.open_file(part, mode) as file:
            async for piece in self.response.iter_bytes():
                await file.write(piece)
                self._done += len(piece)
                if self._progress is not None:
                    self._progress(self._done, total)

    def _total(self) -> int | None:
        """Bytes of the whole body, None where that is unknown."""
        headers = self.response.headers
        if self.response.status_code == 206:
            whole = headers.get("content-range", "").rpartition("/")[2]
            return int(whole) if whole.isascii() and whole.isdigit() else None
        length = headers.get("content-length")
        return int(length) if length is not None and "content-encoding" not in headers else None

    @property
    def _given(self) -> RequestOptions:
        given = self.response.given
        assert isinstance(given, RequestOptions)  # the call driver sets it
        return given

    def _validator(self) -> str | None:
        if not isinstance(self.response.given, RequestOptions) or self.response.status_code != 200:
            return None
        return ranges.validator_of(self._given.method, self.response.head, time.time())


_OURS = ("range", "if-range", "accept-encoding")


async def _size_of(part: anyio.Path, note: anyio.Path, validator: str) -> int:
    """How much of this representation is there already."""
    try:
        if await note.read_text(encoding="utf-8") == validator:
            return (await part.stat()).st_size
    except (OSError, ValueError):
        pass
    return 0


def _remove(*paths: anyio.Path) -> None:
    """Short, and not to be cancelled."""
    for path in paths:
        pathlib.Path(path).unlink(missing_ok=True)
