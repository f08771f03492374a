"""Typed streams: of server-sent events, and of JSON lines."""

# JSON comes without types: what is not known stays unknown until a hook has looked at it.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
from __future__ import annotations

import inspect
import random
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast, get_args, get_origin

import anyio
import attrs

from ._configuration import default, is_default
from ._convert._problems import DoesNotFit
from ._core import retry
from ._core.messages import ErrorEvent, one_line
from ._io.response import BodyIterator, Response
from ._log import logger
from ._model.errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    DeadlineExceededError,
    DecodeError,
    Outcome,
    Phase,
    ReadTimeoutError,
    StreamTruncatedError,
)
from ._model.given import NotGiven
from ._model.headers import Headers
from ._model.options import RequestOptions
from ._wire import json as _json
from ._wire.jsonl import JSONLinesDecoder, LineTooLarge
from ._wire.sse import EventTooLarge, ServerSentEvent, SSEDecoder

if TYPE_CHECKING:
    from ._client import AsyncAPIClient

__all__ = ["AsyncJSONLStream", "AsyncStream", "item_type_of"]

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


# What a subclass may say about each event ...
_LOOKS = ("is_terminal", "is_last", "is_skipped", "error_of", "value_of")
# ... and what it may answer at all; none of it is awaited.
_QUESTIONS = ("is_terminal", "is_last", "is_skipped", "error_of", "value_of", "fold", "resume_options")


class AsyncStream(Generic[T]):
    """The items of an event stream, each decoded to ``T``; an async iterator that must be read to its end or closed.

    A subclass says what ends it: ``terminator = "[DONE]"`` (an event with this data), :meth:`is_terminal`, or
    :meth:`is_last`; if the connection ends before, :class:`StreamTruncatedError` is raised. Without any of them the end of
    the body ends it. Every other event becomes an item, whatever its name, unless :meth:`is_skipped`; an error event is
    raised. With ``wait_first_event = True`` the call returns after the first event, so that an error there can be retried.

    ``max_resumes``: how often in a row a stream that was cut (or that ended before the event that ends it) is asked for
    again with ``Last-Event-ID``, see :meth:`resume_options`; each event that arrives begins a new row. 0: never.

    ``async with stream:`` closes it at the end of the block; leaving early frees the connection.
    """

    accept: str | None = "text/event-stream"  # the field Accept, in place of the default one
    terminator: str | None = None
    wait_first_event: bool = False
    max_resumes: int = 0

    def __init_subclass__(cls, **others: Any) -> None:
        super().__init_subclass__(**others)
        for name in _QUESTIONS:
            if inspect.iscoroutinefunction(getattr(cls, name)):
                raise TypeError(f"{cls.__name__}.{name} must be a plain method: it is called, not awaited")
        if cls.terminator is not None and not isinstance(cls.terminator, str):
            raise TypeError(f"{cls.__name__}.terminator must be a str, not {type(cls.terminator).__name__}")

    def __init__(
        self,
        *,
        cast_to: Any,
        response: Response,
        client: AsyncAPIClient,
        options: RequestOptions | None = None,
    ) -> None:
        self.response: Response = response
        self.state: Any = None  # what fold() has made of the items so far
        self._cast_to = cast_to
        self._client = client
        self._options = options
        self._decoder: Any = self._make_decoder()
        self._body: BodyIterator | None = None
        self._events: deque[Any] = deque()
        self._too_large: ValueError | None = None
        self._over = False
        self._complete = False  # it came to its end
        self._given = 0  # items
        self._resumes = 0  # in a row
        self._resumed_from: str | None = None
        self._cut: APIConnectionError | None = None  # what is being resumed from
        self._told: float | None = None  # seconds that the server asked to wait before a reconnect
        self._strict = client._is_strict(options)
        self._folds = type(self).fold is not AsyncStream.fold
        self._is_usual = False  # nobody looks at each event: then most of those that have come are items at once

    # -- what a subclass may say

    @default
    def is_terminal(self, event: Any) -> bool:
        """Whether this event ends the stream. It does not become an item."""
        return self.terminator is not None and event.data == self.terminator

    @default
    def is_last(self, event: Any) -> bool:
        """Whether this event ends the stream and becomes its last item, as Anthropic's ``message_stop`` does."""
        return False

    @default
    def is_skipped(self, event: Any) -> bool:
        """Whether this event becomes no item, like the pings of some servers. By default all of them become items."""
        return False

    @default
    def error_of(self, event: Any) -> object | None:
        """The body of the error that this event stands for, None where it stands for none.

        By default an event named ``error`` is one, and an object with an ``error`` that is not null.
        """
        named = getattr(event, "event", None) == "error"
        if not named and '"error"' not in event.data:
            return None
        try:
            body: Any = event.json()
        except ValueError:
            body = event.data
        return body if named or (isinstance(body, dict) and body.get("error") is not None) else None

    @default
    def value_of(self, event: Any) -> object:
        """The JSON value that is decoded to an item; by default the event's data. ValueError where it is no JSON."""
        return event.json()

    def fold(self, state: Any, item: T) -> Any:
        """What *state* becomes with *item*; it is None at first. A subclass that has it can :meth:`get_final`."""
        raise TypeError(f"{type(self).__name__} must define fold(self, state, item), or be given one")

    def resume_options(self, options: RequestOptions, last_event_id: str) -> RequestOptions | None:
        """The request that goes on after *last_event_id*, None where there is none.

        By default a GET is repeated with the field ``Last-Event-ID`` (WHATWG HTML section 9.2.3), and nothing else is.
        """
        if options.method != "GET":
            return None
        headers = {} if isinstance(options.headers, NotGiven) else options.headers
        return attrs.evolve(options, headers={**headers, "Last-Event-ID": last_event_id})

    # -- for the client

    def _make_decoder(self) -> Any:
        return self._client._make_sse_decoder()

    async def check(self) -> None:
        """APIResponseValidationError unless the answer is an event stream. Called before the stream is handed out."""
        response = self.response
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status_code in (204, 205):
            self._over = self._complete = True
            await response.aclose()
        elif not self._accepts(media_type):
            await response.read_at_most(self._client.max_error_body)
            raise APIResponseValidationError(
                f"Asked for an event stream, the server answered with {one_line(media_type)}.",
                response=response,
                body=_parsed(response),
            )

    def _accepts(self, media_type: str) -> bool:
        return not media_type or media_type == "text/event-stream"

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

    # -- items

    @property
    def last_event_id(self) -> str | None:
        """The id of the last event, None where the server gave none."""
        found: str | None = getattr(self._decoder, "last_event_id", None)
        return self._resumed_from if found is None else found

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._complete:
            await self.close()
            raise StopAsyncIteration
        if self._over and not self._events and self._cut is None:
            raise StopAsyncIteration
        try:
            if self._events and self._is_usual and self._cut is None:
                event = self._events[0]
                data = event.data
                if event.event != "error" and data != self.terminator and '"error"' not in data:
                    self._events.popleft()
                    if self._resumes and self.last_event_id != self._resumed_from:
                        self._resumes = 0  # a new row, unless the server says the same thing again
                    try:
                        item: T = self._client._codec.decode(_json.loads(data), self._cast_to, strict=self._strict)
                    except ValueError:
                        item = self._item(event)  # which says where it is
                    if self._folds:
                        self.state = self.fold(self.state, item)
                    self._given += 1
                    return item
            event = await self._next_or_resumed()
            if event is not None and not self.is_terminal(event):
                failure = self._error_of(event)
                if failure is not None:
                    raise failure.make()
                item = self._item(event)
                if self._folds:
                    self.state = self.fold(self.state, item)
                self._given += 1
                self._complete = self.is_last(event)  # it is closed when more is asked for, so that no item is lost
                return item
        except Exception as exc:  # a wait that was cancelled loses nothing: it may be taken up again
            await self._give_up()
            if isinstance(exc, APIError):
                exc.attempts = exc.attempts or self.response.attempts
            raise
        self._complete = True
        await self.close()
        raise StopAsyncIteration

    async def until_done(self) -> None:
        """Read to the end. RuntimeError where the stream was closed before."""
        async for _ in self:
            pass
        if not self._complete:
            raise RuntimeError("the stream was closed, or failed, before its end")

    async def get_final(self, fold: Callable[[Any, T], Any] | None = None, initial: Any = None) -> Any:
        """Read to the end; what all items make together.

        With :meth:`fold` of the class, items that were taken before count too. A *fold* given here, with what it begins
        with, sees every item of the stream: RuntimeError where some have been taken.
        """
        if fold is None:
            if not self._folds:
                self.fold(None, cast("T", None))
            await self.until_done()
            return self.state
        if self._given:
            raise RuntimeError("items were taken before get_final(fold): let the class define fold() instead")
        state = initial
        async for item in self:
            state = fold(state, item)
        await self.until_done()
        return state

    async def _next_or_resumed(self) -> Any:
        """The next event, None after the last one: where the stream was cut, it is asked for again if that is wanted."""
        while True:
            if self._cut is not None:  # to resume was cancelled: it is taken up again
                await self._resume(self._cut)
            cut: APIConnectionError
            try:
                event = await self._next_event()
            except APIConnectionError as exc:
                if isinstance(exc, DeadlineExceededError) or not exc.retryable:
                    raise
                cut = exc
            else:
                if event is not None or self._over:
                    if self.last_event_id != self._resumed_from or self._resumed_from is None:
                        self._resumes = 0  # a new row, unless the server says the same thing again
                    return event
                if not self._says_its_end and not self.max_resumes:
                    return None
                message = "The stream ended before the event that ends it."
                request = self.response.request
                cut = StreamTruncatedError(message, request=request, phase=Phase.BODY, outcome=Outcome.ANSWERED)
            await self._resume(cut)

    @property
    def _says_its_end(self) -> bool:
        cls = type(self)
        own = cls.is_terminal is not AsyncStream.is_terminal or cls.is_last is not AsyncStream.is_last
        return self.terminator is not None or own

    async def _resume(self, cut: APIConnectionError) -> None:
        """Ask for the rest; *cut* is raised where that is not wanted, or not possible (any more)."""
        given, last_event_id = self.response.given, self.last_event_id
        again = cut is self._cut
        if (self._resumes >= self.max_resumes and not again) or not isinstance(given, RequestOptions):
            raise cut
        options: RequestOptions | None
        if last_event_id is not None:
            options = self.resume_options(given, last_event_id) if _fits_a_field(last_event_id) else None
        else:  # nothing has come yet: the whole of it can be asked for
            options = given if given.method == "GET" and not self._given else None
        if options is None:
            raise cut
        client = self._client
        told: int | None = getattr(self._decoder, "reconnection_time", None)
        self._told = self._told if told is None else told / 1000
        now, deadline = anyio.current_time(), self.response.deadline
        wait = retry.wait_before(
            client._retry, self._resumes, random.random, advice=self._told, now=now, deadline=deadline
        )
        if wait is None:
            raise cut
        if not again:
            self._resumes += 1
            await self._give_up()
            self._cut = cut
            self._resumed_from = last_event_id
        logger.info("resume %d of %d in %.3g s: %s", self._resumes, self.max_resumes, wait, cut)
        await anyio.sleep(wait)
        response = await client._reopen(options, deadline, accept=self.accept)
        self.response, self._body, self._over, self._cut = response, None, False, None
        self._decoder = self._make_decoder()
        resume_from = getattr(self._decoder, "resume_from", None)
        if resume_from is not None and last_event_id is not None:
            resume_from(last_event_id)
        await self.check()

    async def _next_event(self) -> Any:
        """The next event, None at the end of the body. Limited by ``event_timeout``."""
        event = self._arrived()
        if event is not None:
            return event
        limit = None if self._options is None else self._options.event_timeout
        if limit is None:
            return await self._read_event()
        with anyio.move_on_after(limit):
            return await self._read_event()
        await self._give_up()
        message = f"The stream gave no item for {limit:g} s (event_timeout)."
        raise ReadTimeoutError(message, request=self.response.request, phase=Phase.BODY, outcome=Outcome.ANSWERED)

    def _arrived(self) -> Any:
        """The next event of those that have come and are not skipped, None where there is none."""
        while self._events:
            event = self._events.popleft()
            if not self.is_skipped(event):
                return event
        return None

    async def _read_event(self) -> Any:
        if self._over:
            return None
        if self._body is None:
            self._body = self.response.iter_bytes()
        while True:
            event = self._arrived()
            if event is not None:
                return event
            if self._too_large is not None:
                raise APIResponseValidationError(f"{self._too_large}.", response=self.response) from self._too_large
            try:
                chunk = await anext(self._body)
            except StopAsyncIteration:
                finish = getattr(self._decoder, "finish", None)
                if finish is not None:
                    self._take(finish)
                if not self._events and self._too_large is None:
                    return None
            else:
                self._take(self._decoder.feed, chunk)

    def _take(self, decode: Callable[..., Iterable[Any]], *data: bytes) -> None:
        is_raw = self._cast_to is str or self._cast_to is ServerSentEvent
        looks = is_raw or not all(is_default(getattr(self, name)) for name in _LOOKS)
        self._is_usual = not looks and type(self._decoder) is SSEDecoder
        try:
            self._events.extend(decode(*data))
        except (EventTooLarge, LineTooLarge) as exc:
            self._events.extend(exc.events)
            self._too_large = exc

    def _error_of(self, event: Any) -> ErrorEvent | None:
        """The error that an event stands for, if it stands for one."""
        body: Any = self.error_of(event)
        if body is None:
            return None
        detail: Any = body.get("error") if isinstance(body, dict) else None
        kind = detail.get("type") if isinstance(detail, dict) else None
        status = STATUS_OF_ERROR_TYPE.get(kind) if isinstance(kind, str) else None
        return ErrorEvent(lambda: self._client._make_stream_error(body, status, self.response), status)

    def _item(self, event: Any) -> T:
        cast_to = self._cast_to
        if cast_to is type(event):
            return event  # type: ignore[no-any-return]
        if cast_to is str and type(self).value_of is AsyncStream.value_of:
            return event.data  # type: ignore[no-any-return]
        try:
            value = self.value_of(event)
        except ValueError as exc:
            message = f"{self._where(event)} is not JSON: {exc}."
            raise APIResponseValidationError(message, response=self.response, body=event.data) from exc
        try:
            item: T = self._client._codec.decode(value, cast_to, strict=self._strict)
        except DoesNotFit as exc:
            raise DecodeError.of([f"${p}" for p in exc.problems], self.response, value) from exc
        return item

    def _where(self, event: Any) -> str:
        return "An event of the stream"

    async def _give_up(self) -> None:
        """Close after an error: nothing is waited for."""
        self._over, self._cut = True, None
        self._events.clear()
        await self.response.dispose()

    async def close(self) -> None:
        """Give up the rest of the stream; its connection is free again. May be called twice."""
        self._over, self._cut = True, None
        self._events.clear()
        await self.response.aclose()

    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()


class AsyncJSONLStream(AsyncStream[T]):
    """The items of a body of JSON lines, each decoded to ``T``: one JSON text a line, of any media type.

    Blank lines are skipped; an object with an ``error`` that is not null is raised. A line that is no JSON is an
    :class:`APIResponseValidationError` with its number.
    """

    accept: str | None = None

    def _make_decoder(self) -> Any:
        return JSONLinesDecoder(max_line_size=self._client.max_event_size)

    def _accepts(self, media_type: str) -> bool:
        return True

    def _where(self, event: Any) -> str:
        return f"Line {event.number} of the stream"


MAX_EVENT_ID = 4096  # characters; servers refuse longer fields


def _fits_a_field(event_id: str) -> bool:
    """Whether an id, which the server chose, can be the value of a header field. An empty one says nothing."""
    try:
        Headers({"Last-Event-ID": event_id})
    except ValueError:
        return False
    return 0 < len(event_id) <= MAX_EVENT_ID


def _parsed(response: Response) -> object:
    try:
        return response.json()
    except ValueError:
        return response.text


def make_decoder(client: AsyncAPIClient) -> SSEDecoder:
    return SSEDecoder(max_event_size=client.max_event_size)
