"""The response as a transport gives it: a head, and a body that is read or not yet read."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterator

import anyio
import anyio.lowlevel
import attrs

from .._model.errors import (
    APIConnectionError,
    Attempt,
    ContentDecodingError,
    Outcome,
    Phase,
)
from .._model.head import ResponseHead
from .._model.headers import Headers, HeadersInput
from .._model.request import Request, check_piece
from .._model.timeouts import Timings
from .._wire import json as _json
from .._wire.coding import ContentDecoder, DecodingFailed, make_decoder
from .._wire.text import decode_text
from .body import BodyStream, LimitedBody, RawBody, ReadBody, UserBody

__all__ = ["BodyIterator", "Response"]

MAX_RATIO = 200.0  # decoded bytes per byte received, beyond the first 16 MiB; the client can change it
UNSET = object()


class BodyIterator:
    """The decoded body, piece by piece: as it arrives, or in pieces of exactly ``chunk_size`` bytes, the last shorter."""

    __slots__ = ("_chunk_size", "_coded", "_decoder", "_ended", "_kept", "_pending", "_raw", "_response")

    def __init__(self, response: Response, raw: RawBody, coded: bool, chunk_size: int | None) -> None:
        self._response = response
        self._raw = raw
        self._coded = coded
        self._decoder: ContentDecoder | None = None  # made for the first byte: an empty body needs none
        self._chunk_size = chunk_size
        self._pending: Iterator[bytes] | None = None  # of the last bytes: what has not been decoded yet
        self._kept = bytearray()
        self._ended = False

    def __aiter__(self) -> BodyIterator:
        return self

    async def __anext__(self) -> bytes:
        size = self._chunk_size
        if size is None:
            piece = b"" if self._ended else await self._decoded()
            if not piece:
                raise StopAsyncIteration
            return piece
        while len(self._kept) < size and not self._ended:
            self._kept += await self._decoded()
        if not self._kept:
            raise StopAsyncIteration
        piece = bytes(self._kept[:size])
        del self._kept[:size]
        return piece

    async def _decoded(self) -> bytes:
        """The next decoded bytes, ``b""`` at the end."""
        while True:
            try:
                if self._pending is not None:
                    # What a server can make of few bytes takes time: others get their turn, the deadline too.
                    await anyio.lowlevel.checkpoint()
                else:
                    try:
                        given = bytes(check_piece(await anext(self._raw)))
                    except StopAsyncIteration:
                        self._ended = True
                        self._response.is_closed = True
                        if self._decoder is not None:
                            self._decoder.finish()
                        return b""
                    if self._coded and given:
                        self._decoder = self._response.make_decoder()
                        self._coded = False
                    if self._decoder is None:
                        if given:
                            return given
                        continue
                    self._pending = self._decoder.feed(given)
                if piece := next(self._pending, b""):
                    return piece
                self._pending = None
            except DecodingFailed as exc:
                self._ended = True
                await self._response.dispose()
                raise self._response.decoding_error(exc) from exc
            except APIConnectionError:
                self._ended = True
                await self._response.dispose()
                raise
            except (TypeError, ValueError):  # pieces of a user's own that are no bytes
                self._ended = True
                await self._response.dispose()
                raise

    async def aclose(self) -> None:
        self._ended = True
        self._kept.clear()
        await self._response.aclose()


class Response:
    """One HTTP response: ``status_code, headers, http_version, url, request``, and a body.

    ``content`` is the decoded body (RuntimeError while it is unread), ``text`` and ``json()`` are made of it; ``await
    read()`` reads it, ``iter_bytes()`` gives it piece by piece, ``await aclose()`` gives it up. Whoever holds a response
    reads it to its end or closes it. ``content=`` may be an async iterable of bytes. Once read, it pickles and copies.
    """

    def __init__(
        self,
        status_code: int = 200,
        *,
        headers: HeadersInput | None = None,
        content: bytes | str | AsyncIterable[bytes] | None = None,
        json: object = UNSET,
        request: Request | None = None,
    ) -> None:
        if isinstance(status_code, bool) or not isinstance(status_code, int) or not 100 <= status_code <= 999:
            raise ValueError(f"status_code must be an int between 100 and 999, got {status_code!r}")
        self.head: ResponseHead = ResponseHead(
            status_code, headers if isinstance(headers, Headers) else Headers(headers)
        )
        self.request = request
        self.timings: Timings | None = None
        self.attempts: tuple[Attempt, ...] = ()  # of the call that it belongs to
        self.max_decompression_ratio: float | None = MAX_RATIO
        self.is_closed: bool = False
        self._raw: RawBody | None = None
        self._raw_content: bytes | None = None
        self._content: bytes | None = None
        if json is not UNSET:
            if content is not None:
                raise TypeError("pass content= or json=, not both")
            self._raw_content = _json.dumps(json)
            self.headers.setdefault("Content-Type", "application/json")
        elif content is None:
            self._raw_content = b""
        elif isinstance(content, bytes | bytearray | memoryview):
            self._raw_content = bytes(content)
        elif isinstance(content, str):
            self._raw_content = content.encode("utf-8")
            self.headers.setdefault("Content-Type", "text/plain; charset=utf-8")
        elif isinstance(content, AsyncIterable):
            self._raw = UserBody(content)
        else:
            raise TypeError(f"content= takes bytes, str or an async iterable of bytes, not {type(content).__name__}")

    @classmethod
    def from_wire(
        cls, head: ResponseHead, raw: RawBody, request: Request | None, timings: Timings | None = None
    ) -> Response:
        """A response whose body is still to be read from *raw*."""
        self = cls.__new__(cls)
        self.head = head
        self.request = request
        self.timings = timings
        self.attempts = ()
        self.max_decompression_ratio = MAX_RATIO
        self.is_closed = False
        self._raw = raw
        self._raw_content = self._content = None
        return self

    # -- the head

    @property
    def status_code(self) -> int:
        return self.head.status_code

    @property
    def headers(self) -> Headers:
        return self.head.headers

    @property
    def http_version(self) -> str:
        """``"HTTP/1.1"`` or ``"HTTP/2"``."""
        return self.head.http_version

    @property
    def url(self) -> object:
        """The URL of the request, None where there is no request."""
        return None if self.request is None else self.request.url

    @property
    def trailers(self) -> Headers | None:
        """The trailer fields (RFC 9110 section 6.5), once the body has been read."""
        return getattr(self._raw, "trailers", None)

    # -- the body

    @property
    def content(self) -> bytes:
        """The decoded body. RuntimeError while it is unread."""
        if self._content is None:
            if self._raw_content is None:
                raise RuntimeError("the response's body has not been read: use `await response.read()`")
            decoder = self.make_decoder() if self._raw_content else None
            if decoder is None:
                self._content = self._raw_content
            else:
                try:
                    self._content = b"".join(decoder.feed(self._raw_content))
                    decoder.finish()
                except DecodingFailed as exc:
                    raise self.decoding_error(exc) from exc
        return self._content

    @property
    def text(self) -> str:
        """The body as text: the charset of the Content-Type where it names a text codec, else UTF-8. Never fails."""
        return decode_text(self.content, self.headers.get("content-type"))

    def json(self) -> object:
        """The body as JSON. ValueError where it is none."""
        return _json.loads(self.content)

    @property
    def is_read(self) -> bool:
        """Whether ``content`` is there."""
        return self._content is not None or self._raw_content is not None

    def read_nowait(self) -> bool:
        """Read the body where it is here and as it is; whether that was so."""
        if self._content is None and self._raw_content is None:
            raw = self._raw
            if type(raw) is not ReadBody or self._raw_taken or self.is_closed:
                return False
            for field in self.head.headers.fields:
                if field[0] == "content-encoding":
                    return False
            self._raw_taken = True
            self._content = self._raw_content = raw.take()
            self.is_closed = True
        return self._content is not None

    async def read(self) -> bytes:
        """Read the body to its end, decode it, keep it as ``content`` and return it."""
        if self._content is None and self._raw_content is None:
            raw = self._take_raw()
            try:
                if "content-encoding" in self.headers:
                    # Undone as it arrives, so that the guard against bombs and the deadline see every piece.
                    self._content = b"".join([piece async for piece in BodyIterator(self, raw, True, None)])
                elif isinstance(raw, BodyStream):
                    self._content = self._raw_content = await raw.read()
                else:
                    self._raw_content = b"".join([bytes(check_piece(piece)) async for piece in raw])
            except BaseException:
                await self._close_raw()
                raise
            self.is_closed = True
        return self.content if self._content is None else self._content

    def iter_bytes(self, chunk_size: int | None = None) -> BodyIterator:
        """The decoded body, piece by piece; it can be asked for once, unless the body was read before."""
        if chunk_size is not None and (isinstance(chunk_size, bool) or chunk_size < 1):
            raise ValueError(f"chunk_size must be at least 1, got {chunk_size!r}")
        if self._content is not None or self._raw_content is not None:
            return BodyIterator(self, ReadBody(self.content), False, chunk_size)
        return BodyIterator(self, self._take_raw(), "content-encoding" in self.headers, chunk_size)

    def iter_raw(self) -> RawBody:
        """The body as it came, content codings not undone; it can be asked for once."""
        if self._raw_content is not None:
            return ReadBody(self._raw_content)
        return self._take_raw()

    async def read_at_most(self, size: int) -> None:
        """Read up to *size* bytes of the body and give up the rest; what failed to come is left out, never raised.

        For the bodies of errors: they must not replace the error that they describe.
        """
        if self._content is not None:
            return
        kept = bytearray()
        try:
            async for piece in self.iter_bytes():
                kept += piece[: size - len(kept)]
                if len(kept) >= size:
                    break
        except (APIConnectionError, OSError):
            pass
        finally:
            self._content = bytes(kept)
            await self._close_raw()

    async def aclose(self) -> None:
        """Give up the body. A short rest that comes at once is read, so that the connection can be used again."""
        self.is_closed = True
        if self._raw is not None and self._raw_content is None:
            await self._raw.aclose()

    async def _close_raw(self) -> None:
        self.is_closed = True
        if isinstance(self._raw, BodyStream):
            self._raw.abandon()
        elif self._raw is not None:
            with anyio.CancelScope(shield=True, deadline=anyio.current_time() + 1.0):
                await self._raw.aclose()

    async def dispose(self) -> None:
        """Close without reading on, also while cancelled: for whoever is about to raise."""
        await self._close_raw()

    def _take_raw(self) -> RawBody:
        if self._raw_taken:
            raise RuntimeError(
                "the response's body is being read, or was read, by an iterator that was asked for before, and was not "
                "kept; `await response.read()` keeps it"
            )
        if self.is_closed or self._raw is None:
            raise RuntimeError("the response was closed before its body was read")
        self._raw_taken = True
        return self._raw

    _raw_taken = False
    # Of the call that it belongs to, for the front rooms: its deadline (absolute), and its options as they were given.
    deadline: float | None = None
    given: object = None
    history: tuple[Response, ...] = ()  # the responses that redirected to this one, in order, without their bodies
    opened_stream: object = None  # for the client: the stream over this body, between its first event and its delivery

    def for_request(self, request: Request) -> Response:
        """This response as the answer to *request*, unless it has one; a body that is a stream can be sent once only."""
        if self.request is None:
            self.request = request
        return self

    def unread(self, request: Request) -> Response:
        """A copy that answers *request* as one from the network does: its body is still to be read, once."""
        if self._raw_content is None:
            return self.for_request(request)
        head = attrs.evolve(self.head, headers=Headers(self.headers))
        return Response.from_wire(head, ReadBody(self._raw_content), request)

    def without_body(self) -> Response:
        """Its head alone, for an error about it."""
        made = Response.from_wire(self.head, ReadBody(b""), self.request, self.timings)
        made._content = b""
        return made

    def limit_to(self, deadline: float) -> None:
        """Let reading the body end at *deadline* (absolute), unless it keeps one itself."""
        if self._raw is not None and not isinstance(self._raw, BodyStream | LimitedBody):
            self._raw = LimitedBody(self._raw, deadline, self.request)

    # -- content codings

    def make_decoder(self) -> ContentDecoder | None:
        """What undoes the content codings, None where there are none. ContentDecodingError for an unknown one."""
        try:
            return make_decoder(self.headers.get("content-encoding"), self.max_decompression_ratio)
        except DecodingFailed as exc:
            raise self.decoding_error(exc) from exc

    def decoding_error(self, exc: DecodingFailed) -> ContentDecodingError:
        message = f"The answer's content coding cannot be undone: {exc}."
        return ContentDecodingError(message, request=self.request, phase=Phase.BODY, outcome=Outcome.ANSWERED)

    def __repr__(self) -> str:
        return f"<Response {self.status_code}>"

    def __getstate__(self) -> dict[str, object]:
        state = self.__dict__.copy()
        if self._raw_content is None and self._content is None:
            state["_content"] = b""
        state["_raw"] = None
        state.pop("opened_stream", None)
        state.pop("given", None)
        return state
