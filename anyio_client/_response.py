"""The response as users of a client see it: a head, a body that decodes itself, and the facts of the call."""

from __future__ import annotations

import codecs
import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, get_origin, overload

from ._convert._problems import DoesNotFit
from ._core.messages import one_line
from ._io.response import BodyIterator, Response
from ._model.errors import APIResponseValidationError, DecodeError, find_request_id
from ._model.headers import Headers
from ._model.options import RequestOptions
from ._model.request import Request
from ._model.timeouts import Timings
from ._model.url import URL
from ._wire import json as _json
from ._wire.text import charset_of

if TYPE_CHECKING:
    import datetime

    from ._client import AsyncAPIClient

__all__ = ["AsyncAPIResponse", "BaseAPIResponse", "decode_body", "is_data"]

R = TypeVar("R")
T = TypeVar("T")


class BaseAPIResponse(Generic[R]):
    """The facts of a response: status, fields, request, timings. Nothing here waits."""

    def __init__(
        self,
        *,
        raw: Response,
        cast_to: Any,
        client: AsyncAPIClient,
        stream: bool = False,
        stream_cls: Any = None,
        options: RequestOptions,
        retries_taken: int = 0,
    ) -> None:
        self.http_response: Response = raw
        self.retries_taken = retries_taken
        self._cast_to = cast_to
        self._client = client
        self._stream = stream
        self._stream_cls = stream_cls
        self._options = options
        self._opened: Any = None  # the stream, once it was asked for

    @property
    def status_code(self) -> int:
        return self.http_response.status_code

    @property
    def headers(self) -> Headers:
        return self.http_response.headers

    @property
    def http_request(self) -> Request:
        """The request as it was sent."""
        request = self.http_response.request
        assert request is not None  # the call driver sets it
        return request

    @property
    def url(self) -> URL:
        return self.http_request.url

    @property
    def method(self) -> str:
        return self.http_request.method

    @property
    def http_version(self) -> str:
        """``"HTTP/1.1"`` or ``"HTTP/2"``."""
        return self.http_response.http_version

    @property
    def elapsed(self) -> datetime.timedelta:
        """From the send to the end of the body; RuntimeError while the body is unread."""
        import datetime

        timings = self.http_response.timings
        if timings is None:
            return datetime.timedelta(0)
        if timings.total is None:
            raise RuntimeError("the time is known once the body has been read or closed")
        return datetime.timedelta(seconds=timings.total)

    @property
    def timings(self) -> Timings | None:
        """Where the time of the last send went (see :class:`Timings`); None where the transport does not say."""
        return self.http_response.timings

    @property
    def trailers(self) -> Headers | None:
        """The trailer fields, once the body has been read."""
        return self.http_response.trailers

    @property
    def history(self) -> tuple[Response, ...]:
        """The responses that redirected, in order, without bodies."""
        return self.http_response.history

    @property
    def request_id(self) -> str | None:
        """The server's name for this request: the field ``request-id``, else ``x-request-id``."""
        return find_request_id(self.headers)

    @property
    def is_opened(self) -> bool:
        """Whether its stream has been handed out."""
        return self._opened is not None

    @property
    def is_closed(self) -> bool:
        return self.http_response.is_closed

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [{self.status_code}] {self.method} {self.url.redacted}>"


class AsyncAPIResponse(BaseAPIResponse[R]):
    """A response whose body can be decoded (:meth:`parse`), read, or iterated over."""

    @overload
    async def parse(self, *, to: type[T]) -> T: ...
    @overload
    async def parse(self, *, to: Any = None) -> Any: ...
    async def parse(self, *, to: Any = None) -> Any:
        """The body as ``cast_to`` of the call, or as *to*. For a stream: the :class:`AsyncStream`, opened once."""
        if self._stream:
            return await self._open_stream(to)
        cast_to = self._cast_to if to is None else to
        origin = get_origin(cast_to) or cast_to
        if isinstance(origin, type) and issubclass(origin, BaseAPIResponse):
            return self
        if origin is Response:
            await self.http_response.read()
            return self.http_response
        if cast_to is None or cast_to is type(None):
            await self.http_response.aclose()
            return None
        await self.http_response.read()
        value = decode_body(self._client, self.http_response, cast_to, self._options)
        post_parser = self._options.post_parser
        return post_parser(value) if callable(post_parser) else value

    async def _open_stream(self, to: Any) -> Any:
        raw = self.http_response
        if self._opened is None:
            # Where the class waits for its first event, the stream was opened before this object was made. It is taken
            # away, so that the stream and its response are no cycle: a stream that is dropped is collected at once.
            self._opened, raw.opened_stream = raw.opened_stream, None
        if self._opened is None:
            from ._streaming import AsyncStream, item_type_of  # leaves, as downloads are

            stream_cls: Any = self._stream_cls or AsyncStream
            cast_to = item_type_of(stream_cls, self._cast_to) if to is None else to
            opened = stream_cls(cast_to=cast_to, response=raw, client=self._client, options=self._options)
            await opened.check()
            self._opened = opened
        return self._opened

    async def read(self) -> bytes:
        """The decoded body, read to its end and kept."""
        return await self.http_response.read()

    async def text(self) -> str:
        """The body as text: by the charset of the Content-Type, else UTF-8. Never fails to decode."""
        await self.http_response.read()
        return self.http_response.text

    async def json(self) -> object:
        """The body as JSON. APIResponseValidationError where it is none."""
        await self.http_response.read()
        try:
            return self.http_response.json()
        except ValueError as exc:
            raise _no_json(self.http_response, exc) from exc

    async def close(self) -> None:
        """Give up the body, if it is not read; the connection is free again. May be called twice."""
        await self.http_response.aclose()

    aclose = close

    def iter_bytes(self, chunk_size: int | None = None) -> BodyIterator:
        """The decoded body as it arrives, or in pieces of exactly *chunk_size* bytes, the last one shorter."""
        return self.http_response.iter_bytes(chunk_size)

    def iter_text(self, chunk_size: int | None = None) -> TextIterator:
        """The body as text, piece by piece; characters are never cut."""
        charset = charset_of(self.headers.get("content-type"))
        return TextIterator(self.iter_bytes(chunk_size), charset)

    def iter_lines(self) -> LineIterator:
        """The body as lines without their ends (LF, CR LF or CR)."""
        return LineIterator(self.iter_text())

    async def stream_to_file(
        self,
        path: str | os.PathLike[str],
        *,
        resume: bool = False,
        progress: Callable[[int, int | None], object] | None = None,
    ) -> None:
        """Write the body to *path*: under a temporary name first, so that *path* is whole or absent.

        ``progress`` is called with the bytes written and the total, None where it is unknown. ``resume=True``: where the
        server's answer has a strong validator (RFC 9110 section 8.8), a cut is continued by a range request, as often as
        the client's ``max_retries`` says without progress, and what a failed call has written is gone on with by the
        next one. Otherwise it changes nothing.
        """
        if inspect.iscoroutinefunction(progress):
            raise TypeError("progress must be a plain function: it is called, not awaited")
        from ._download import Download

        download = Download(self._client, self.http_response, path, progress)
        await download.check()
        try:
            await (download.save_resuming() if resume else download.save())
        finally:
            self.http_response: Response = download.response

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


def is_data(cast_to: Any) -> bool:
    """Whether *cast_to* is a class that a body is decoded into, and no response and not None."""
    return type(cast_to) is type and not issubclass(cast_to, _NO_DATA)


def decode_body(client: AsyncAPIClient, raw: Response, cast_to: Any, options: RequestOptions) -> Any:
    """The body of *raw*, which has been read, as *cast_to*. Our errors where it does not fit."""
    body = raw.content
    if cast_to is bytes:
        return body
    if cast_to is str:
        return raw.text
    if cast_to is bool and body.strip().lower() in (b"true", b"false"):
        return body.strip().lower() == b"true"
    if not body or raw.head.status_code in (204, 205):
        try:
            return client._codec.decode(None, cast_to, strict=True)
        except DoesNotFit:
            message = f"The answer has no body (status {raw.status_code}), which does not fit {_name(cast_to)}."
            raise APIResponseValidationError(message, response=raw) from None
    try:
        value = _json.loads(body)
    except ValueError as exc:
        raise _no_json(raw, exc) from exc
    page: Any = cast_to if type(cast_to) is type else get_origin(cast_to) or cast_to
    is_page = hasattr(page, "_from_json")
    try:
        prepared = page._from_json(value) if is_page else value
        return client._codec.decode(prepared, cast_to, strict=client._is_strict(options))
    except DoesNotFit as exc:
        problems = [page._problem(p, value) for p in exc.problems] if is_page else exc.problems
        raise DecodeError.of([f"${problem}" for problem in problems], raw, value) from exc


def _no_json(raw: Response, exc: ValueError) -> APIResponseValidationError:
    media_type = raw.headers.get("content-type", "").partition(";")[0].strip().lower()
    kind = (
        "invalid JSON" if "json" in media_type else f"{one_line(media_type) or 'an answer of no known type'}, no JSON"
    )
    hint = " For a stream pass stream=True." if media_type == "text/event-stream" else ""
    return APIResponseValidationError(f"The server sent {kind}: {exc}.{hint}", response=raw, body=raw.text)


def _name(cast_to: Any) -> str:
    return getattr(cast_to, "__name__", None) or str(cast_to)


_NO_DATA = (BaseAPIResponse, Response, type(None))


class TextIterator:
    """The body as text, piece by piece; a character is never cut."""

    __slots__ = ("_decoder", "_ended", "_pieces")

    def __init__(self, pieces: BodyIterator, charset: str) -> None:
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder(charset)("replace")
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while not self._ended:
            try:
                text = self._decode(await anext(self._pieces))
            except StopAsyncIteration:
                self._ended = True
                text = self._decode(b"", True)
            if text:
                return text
        raise StopAsyncIteration

    def _decode(self, data: bytes, final: bool = False) -> str:
        try:
            return self._decoder.decode(data, final)
        except UnicodeError:  # a wrong label: UTF-16 without its mark cannot be read with replacements
            self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
            return self._decoder.decode(data, final)

    async def aclose(self) -> None:
        self._ended = True
        await self._pieces.aclose()


class LineIterator:
    """Lines end in LF, CR LF or CR; a CR at the end of a piece waits for what follows, so that no line is made twice."""

    __slots__ = ("_ended", "_lines", "_partial", "_pieces")

    def __init__(self, pieces: TextIterator) -> None:
        self._pieces = pieces
        self._partial: list[str] = []
        self._lines: list[str] = []
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while not self._lines and not self._ended:
            try:
                piece = await anext(self._pieces)
            except StopAsyncIteration:
                self._ended = True
                rest = "".join(self._partial)
                if rest:
                    self._lines = [rest.removesuffix("\r")]
                break
            if self._partial and self._partial[-1].endswith("\r"):
                piece = self._partial.pop() + piece
            if "\n" not in piece and "\r" not in piece:
                self._partial.append(piece)
                continue
            text = "".join(self._partial) + piece
            held = "\r" if text.endswith("\r") else ""
            lines = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n").split("\n")
            self._partial = [lines.pop() + held]
            self._lines = lines[::-1]
        if self._lines:
            return self._lines.pop()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._ended = True
        self._lines.clear()
        await self._pieces.aclose()
