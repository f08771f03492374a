"""Typed streams of server-sent events."""

# JSON comes without types: what is not known stays unknown until a hook has looked at it.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, get_args, get_origin

import anyio

from ._convert import DoesNotFit
from ._io.response import BodyIterator, Response
from ._model.errors import (
    APIError,
    APIResponseValidationError,
    DecodeError,
    Outcome,
    Phase,
    ReadTimeoutError,
    StreamTruncatedError,
)
from ._model.options import RequestOptions
from ._wire import json as _json
from ._wire.sse import EventTooLarge, ServerSentEvent, SSEDecoder

if TYPE_CHECKING:
    from ._client import AsyncAPIClient

__all__ = ["AsyncStream", "ErrorEvent", "item_type_of"]

T = TypeVar("T")

# The statuses that APIs' error types name (BEHAVIOUR 9).
STATUS_OF_ERROR_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "server_error": 500,
    "overloaded_error": 529,
}


def item_type_of(stream_cls: Any, cast_to: Any) -> Any:
    """The type of a stream's items: the type argument of its class, of a class that it extends, else *cast_to*."""
    for cls in (stream_cls, *getattr(get_origin(stream_cls) or stream_cls, "__orig_bases__", ())):
        arguments = get_args(cls)
        if arguments and not isinstance(arguments[0], TypeVar):
            return arguments[0]
    return cast_to


class ErrorEvent(Exception):
    """The error that an event stands for, and the status it names; on its way to whoever decides about a retry.

    Its text says nothing of the event's, which belongs in no log.
    """

    def __init__(self, make: Callable[[], APIError], status_code: int | None) -> None:
        super().__init__("the stream began with an error")
        self.make = make  # the hook behind it is called only for an error that is raised
        self.status_code = status_code


class AsyncStream(Generic[T]):
    """The items of an event stream, each decoded to ``T``; an async iterator that must be read to its end or closed.

    A subclass says what ends it: ``terminator = "[DONE]"`` (an event with this data), or :meth:`is_terminal`; if the
    connection ends before, :class:`StreamTruncatedError` is raised. Without either the end of the body ends it. Every
    other event becomes an item, whatever its name; an error event is raised. With ``wait_first_event = True`` the call
    returns after the first event, so that an error there can be retried.

    ``async with stream:`` closes it at the end of the block; leaving early frees the connection.
    """

    terminator: str | None = None
    wait_first_event: bool = False

    def __init__(
        self,
        *,
        cast_to: Any,
        response: Response,
        client: AsyncAPIClient,
        options: RequestOptions | None = None,
    ) -> None:
        self.response = response
        self._cast_to = cast_to
        self._client = client
        self._options = options
        self._decoder = client._make_sse_decoder()
        self._body: BodyIterator | None = None
        self._events: deque[ServerSentEvent] = deque()
        self._too_large: EventTooLarge | None = None
        self._over = False

    def is_terminal(self, event: ServerSentEvent) -> bool:
        """Whether this event ends the stream. It does not become an item."""
        return self.terminator is not None and event.data == self.terminator

    @property
    def _says_its_end(self) -> bool:
        return self.terminator is not None or type(self).is_terminal is not AsyncStream.is_terminal

    async def check(self) -> None:
        """APIResponseValidationError unless the answer is an event stream. Called before the stream is handed out."""
        response = self.response
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status_code in (204, 205):
            self._over = True
            await response.aclose()
        elif media_type and media_type != "text/event-stream":
            await response.read_at_most(self._client.max_error_body)
            raise APIResponseValidationError(
                f"Asked for an event stream, the server answered with {media_type}.",
                response=response,
                body=_parsed(response),
            )

    async def wait_for_first(self) -> None:
        """Read up to the first event; :class:`ErrorEvent` if that is an error."""
        if self._over:
            return
        event = await self._next_event()
        if event is not None:
            failure = None if self.is_terminal(event) else self._error_of(event)
            if failure is not None:
                await self.close()
                raise failure
            self._events.appendleft(event)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._over and not self._events:
            raise StopAsyncIteration
        try:
            event = await self._next_event()
            if event is not None and not self.is_terminal(event):
                failure = self._error_of(event)
                if failure is not None:
                    raise failure.make()
                return self._item(event)
        except Exception as exc:  # a wait that was cancelled loses nothing: it may be taken up again
            await self._give_up()
            if isinstance(exc, APIError):
                exc.attempts = exc.attempts or self.response.attempts
            raise
        await self.close()
        if event is None and self._says_its_end:
            message = "The stream ended before the event that ends it."
            request = self.response.request
            error = StreamTruncatedError(message, request=request, phase=Phase.BODY, outcome=Outcome.ANSWERED)
            error.attempts = self.response.attempts
            raise error
        raise StopAsyncIteration

    async def _next_event(self) -> ServerSentEvent | None:
        """The next event, None at the end of the body. Limited by ``event_timeout``."""
        if self._events:
            return self._events.popleft()
        limit = None if self._options is None else self._options.event_timeout
        if limit is None:
            return await self._read_event()
        with anyio.move_on_after(limit):
            return await self._read_event()
        await self._give_up()
        message = f"The stream gave no item for {limit:g} s (event_timeout)."
        raise ReadTimeoutError(message, request=self.response.request, phase=Phase.BODY, outcome=Outcome.ANSWERED)

    async def _read_event(self) -> ServerSentEvent | None:
        if self._body is None:
            self._body = self.response.iter_bytes()
        while not self._events:
            if self._too_large is not None:
                raise APIResponseValidationError(f"{self._too_large}.", response=self.response) from self._too_large
            try:
                chunk = await anext(self._body)
            except StopAsyncIteration:
                return None
            try:
                self._events.extend(self._decoder.feed(chunk))
            except EventTooLarge as exc:
                self._events.extend(exc.events)
                self._too_large = exc
        return self._events.popleft()

    def _error_of(self, event: ServerSentEvent) -> ErrorEvent | None:
        """The error that an event stands for, if it stands for one."""
        named = event.event == "error"
        if not named and '"error"' not in event.data:
            return None
        try:
            body: Any = _json.loads(event.data.encode("utf-8"))
        except ValueError:
            body = event.data
        detail: Any = body.get("error") if isinstance(body, dict) else None  # pyright: ignore[reportUnknownMemberType]
        if not named and detail is None:
            return None
        kind = detail.get("type") if isinstance(detail, dict) else None  # pyright: ignore[reportUnknownMemberType]
        status = STATUS_OF_ERROR_TYPE.get(kind) if isinstance(kind, str) else None
        return ErrorEvent(lambda: self._client._make_stream_error(body, status, self.response), status)

    def _item(self, event: ServerSentEvent) -> T:
        cast_to = self._cast_to
        if cast_to is ServerSentEvent:
            return event  # type: ignore[return-value]
        if cast_to is str:
            return event.data  # type: ignore[return-value]
        try:
            value = _json.loads(event.data.encode("utf-8"))
        except ValueError as exc:
            message = f"An event of the stream is not JSON: {exc}."
            raise APIResponseValidationError(message, response=self.response, body=event.data) from exc
        try:
            item: T = self._client._codec.decode(value, cast_to, strict=self._client._is_strict(self._options))
        except DoesNotFit as exc:
            raise DecodeError.of([f"${p}" for p in exc.problems], self.response, value) from exc
        return item

    async def _give_up(self) -> None:
        """Close after an error: nothing is waited for."""
        self._over = True
        self._events.clear()
        await self.response.dispose()

    async def close(self) -> None:
        """Give up the rest of the stream; its connection is free again. May be called twice."""
        self._over = True
        self._events.clear()
        await self.response.aclose()

    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()


def _parsed(response: Response) -> object:
    try:
        return response.json()
    except ValueError:
        return response.text


def make_decoder(client: AsyncAPIClient) -> SSEDecoder:
    return SSEDecoder(max_event_size=client.max_event_size)
