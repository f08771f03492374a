"""The request as a transport gets it, and its body.

The only ``async`` here runs over the caller's own iterable; nothing in this file does I/O.
"""

from __future__ import annotations

import json as _json
import os
import weakref
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import IO, Any, TypeAlias

import attrs

from .headers import Headers, HeadersInput, check_method
from .url import URL

__all__ = ["IDEMPOTENT_METHODS", "Carrier", "Content", "Pieces", "Request", "StreamedBody", "make_body"]

Pieces: TypeAlias = "AsyncIterable[bytes] | Iterable[bytes]"
Content: TypeAlias = (
    "bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes] | Pieces | Callable[[], Pieces]"
)

Carrier: TypeAlias = Callable[..., None]  # (async function, *its arguments), as TaskGroup.start_soon

_NO_NAMES: frozenset[str] = frozenset()

# RFC 9110 section 9.2.2
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})


@attrs.define(eq=False)
class StreamedBody:
    """A body that is made piece by piece.

    ``source`` is an iterable of bytes, sync or async, or (``replayable``) something that makes a fresh one each time.
    ``length`` is the number of bytes, if known; otherwise HTTP/1.1 sends it chunked. ``used`` becomes true when the
    first piece is asked for: from then on, what is not replayable cannot be sent again, unless somebody has read it
    whole (:meth:`Request.read`), which keeps it in ``content``.
    """

    source: Pieces | Callable[[], Any] = attrs.field(repr=False)
    replayable: bool
    length: int | None = None
    exact: bool = attrs.field(default=False, repr=False)  # it is certain that it gives ``length`` bytes, or fails
    used: bool = False
    content: bytes | None = attrs.field(default=None, repr=False)
    _made: Any = attrs.field(default=None, repr=False, init=False)  # what the source made last

    def open(self) -> Pieces:
        """The pieces of one send. RuntimeError where they were used before and cannot be made again."""
        if self.content is not None:
            return [self.content]
        if self.used and not self.replayable:
            raise RuntimeError("this body was sent before and cannot be made again: pass bytes, a list or a callable")
        self.used = True
        source: Any = self.source
        if isinstance(source, AsyncIterable | Iterable):
            return source  # pyright: ignore[reportUnknownVariableType]
        pieces: Any = source()
        if self._made is not None and pieces is self._made():
            raise RuntimeError("the content callable gave the same iterator again: it must make a fresh one each time")
        if hasattr(pieces, "__next__") or hasattr(pieces, "__anext__"):
            try:
                self._made = weakref.ref(pieces)
            except TypeError:  # iterators of lists and the like
                self._made = None
        if not isinstance(pieces, AsyncIterable | Iterable) or isinstance(pieces, str):
            raise TypeError(f"the content callable must give an iterable of bytes, not {type(pieces).__name__}")
        return [bytes(pieces)] if isinstance(pieces, bytes | bytearray | memoryview) else pieces  # pyright: ignore

    @property
    def can_be_sent(self) -> bool:
        """Whether a (further) send of it is possible."""
        return self.replayable or not self.used or self.content is not None


def make_body(content: object) -> bytes | StreamedBody:
    """*content* as a body; TypeError for what can be none."""
    given: Any = content  # what isinstance() finds out below has no type arguments
    match content:
        case bytes():
            return content
        case str():
            return content.encode("utf-8")
        case bytearray() | memoryview():
            return bytes(given)
        case list() | tuple():
            pieces: list[Any] = list(given)
            for piece in pieces:
                check_piece(piece)
            length = sum(memoryview(piece).nbytes for piece in pieces)
            return StreamedBody(pieces, replayable=True, length=length, exact=True)
        case dict():
            raise TypeError("content= takes bytes, str or an iterable of bytes; for JSON pass body=")
        case AsyncIterable() | Iterable():
            return StreamedBody(given, replayable=False)
        case _ if callable(content):
            return StreamedBody(given, replayable=True)
        case _:
            raise TypeError(
                "content= takes bytes, str, an iterable or async iterable of bytes, or a callable that makes one, "
                f"not {type(content).__name__}"
            )


def check_piece(piece: Any) -> bytes | bytearray | memoryview[int]:
    """*piece* itself; TypeError where it is not bytes."""
    if not isinstance(piece, bytes | bytearray | memoryview):
        raise TypeError(f"a body is made of bytes, its iterable gave {type(piece).__name__}")
    return piece  # pyright: ignore[reportUnknownVariableType]


class Request:
    """One HTTP request: ``method`` (upper case), ``url``, ``headers`` (may be changed until it is sent), a body.

    ``content`` is the body as bytes (RuntimeError while a streamed one is unread: see :meth:`read`); ``body`` is what
    a transport sends, bytes or a :class:`StreamedBody`. Pickles; a streamed body and the functions do not go along.

    ``on_informational``: called with status and headers of each interim (1xx) response. ``trailers``: called after the
    body was sent, gives the trailer fields (RFC 9110 section 6.5). ``credentials``: lower-case names of the fields that tell
    who asks, which no other origin is to see. ``carrier``: starts a task that lives in a block of the caller's, which may go
    on sending a streamed body while the answer is read; None where there is no such block. ``server_name``: what TLS asks for
    and verifies in place of the URL's host (RFC 6066 section 3), if not None.
    """

    __slots__ = (
        "body",
        "carrier",
        "credentials",
        "headers",
        "method",
        "on_informational",
        "server_name",
        "trailers",
        "url",
    )

    def __init__(
        self,
        method: str,
        url: str | URL,
        *,
        headers: HeadersInput | None = None,
        content: Content | StreamedBody | None = None,
    ) -> None:
        self.method: str = check_method(method)
        self.url: URL = url if type(url) is URL else URL(url)
        self.headers: Headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.on_informational: Callable[[int, Headers], object] | None = None
        self.trailers: Callable[[], Mapping[str, str]] | None = None
        self.credentials: frozenset[str] = frozenset()
        self.carrier: Carrier | None = None
        self.server_name: str | None = None
        self.body: bytes | StreamedBody
        if content is None:
            self.body = b""
        elif isinstance(content, StreamedBody):
            self.body = content
        else:
            self.body = make_body(content)

    @classmethod
    def of_checked(cls, method: str, url: URL, headers: Headers, body: bytes) -> Request:
        """The same as the constructor, for parts that were checked before; *headers* are the request's own from now on."""
        self = cls.__new__(cls)
        self.method, self.url, self.headers, self.body = method, url, headers, body
        self.on_informational = self.trailers = self.carrier = self.server_name = None
        self.credentials = _NO_NAMES
        return self

    def copy(self) -> Request:
        """The request as it is now, with fields of its own and the same body (which ``copy.copy`` leaves out)."""
        made = Request.__new__(Request)
        for name in Request.__slots__:
            setattr(made, name, getattr(self, name))
        made.headers = self.headers.copy()
        return made

    @property
    def content(self) -> bytes:
        """The body. RuntimeError while it is a stream that nobody has read."""
        if isinstance(self.body, bytes):
            return self.body
        raise RuntimeError("the request's body is a stream that nobody has read: call its read() first")

    def json(self) -> object:
        """The body as JSON. ValueError where it is none."""
        return _json.loads(self.content)

    async def read(self) -> bytes:
        """Read a streamed body to its end, keep it as ``content`` and return it."""
        if not isinstance(self.body, bytes):
            streamed = self.body
            pieces = streamed.open()
            async with AsyncExitStack() as stack:  # generators are closed, whatever happens
                if isinstance(pieces, AsyncIterable):
                    source = aiter(pieces)
                    if hasattr(source, "aclose"):
                        stack.push_async_callback(source.aclose)  # pyright: ignore
                    content = b"".join([bytes(check_piece(piece)) async for piece in source])
                else:
                    iterator = iter(pieces)
                    if hasattr(iterator, "close"):
                        stack.callback(iterator.close)  # pyright: ignore
                    content = b"".join([bytes(check_piece(piece)) for piece in iterator])
            self.body = streamed.content = content
        return self.body

    @property
    def has_content(self) -> bool:
        """Whether there may be bytes of a body to send."""
        return bool(self.body) if isinstance(self.body, bytes) else self.body.length != 0

    @property
    def is_idempotent(self) -> bool:
        """Whether the method is idempotent (RFC 9110 section 9.2.2)."""
        return self.method in IDEMPOTENT_METHODS

    @property
    def can_be_sent(self) -> bool:
        """Whether the body can be sent (again)."""
        return isinstance(self.body, bytes) or self.body.can_be_sent

    def __eq__(self, other: object) -> bool:
        if type(other) is not Request:
            return NotImplemented
        return (self.method, self.url, self.headers, self.body) == (
            other.method,
            other.url,
            other.headers,
            other.body,
        )

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.url.redacted}>"

    def __getstate__(self) -> dict[str, object]:
        body = self.body if isinstance(self.body, bytes) else b""
        return {"method": self.method, "url": self.url, "headers": self.headers, "body": body}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.on_informational = self.trailers = self.carrier = self.server_name = None
        self.credentials = frozenset()
        for name, value in state.items():
            setattr(self, name, value)
