"""The call driver: does what the call machine says. No decisions here."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import anyio
import attrs

from . import _bodies
from ._bodies import Payload, expand
from ._configuration import is_default
from ._core import build, retry
from ._core.call import (
    AttemptFailed,
    Authorize,
    Authorized,
    Begin,
    Call,
    CallCommand,
    CallEvent,
    CallState,
    Deliver,
    Delivery,
    Expired,
    Fail,
    HeadReceived,
    Read,
    Reject,
    ResultReady,
    Send,
    Wait,
    Woke,
)
from ._core.messages import ErrorEvent
from ._core.redirect import is_redirect
from ._io.response import Response
from ._log import logger
from ._middleware import RequestChanges, Result
from ._model.errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    Attempt,
    DeadlineExceededError,
    Outcome,
    Phase,
)
from ._model.given import NotGiven, not_given
from ._model.options import RawMode, RequestOptions
from ._model.request import Request
from ._model.timeouts import Timeout
from ._requests import KnownRequests, RequestMaker
from ._response import AsyncAPIResponse, decode_body, is_data

if TYPE_CHECKING:
    from ._auth import Auth
    from ._client import AsyncAPIClient

__all__ = ["CallDriver", "Delivery", "KnownRequests", "Recorder", "expand", "retry_wait"]

T = TypeVar("T")
Recorder: TypeAlias = "Callable[[CallEvent, CallCommand], object]"

# What the machine said to wait, for the default of the hook _sleep_for_retry, whose signature has no room for it.
retry_wait: ContextVar[float] = ContextVar("retry_wait")


def _random() -> float:
    import random  # which brings a library of hashes along

    return random.random()


class _Passed(Exception):
    """The deadline passed while something that does not keep it was awaited."""


class _Waiting:
    """The deadline, for the time in which a middleware is at work: what it awaits of ours keeps the deadline by itself,
    and says more about where it passed."""

    def __init__(self, deadline: float | None) -> None:
        self._deadline = math.inf if deadline is None else deadline
        self._scope = anyio.CancelScope(deadline=self._deadline)

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        return self._scope.__exit__(exc_type, exc, tb)

    @property
    def passed(self) -> bool:
        return self._scope.cancelled_caught

    @contextlib.contextmanager
    def elsewhere(self) -> Generator[None]:
        """In this block something is awaited that keeps the deadline by itself."""
        self._scope.deadline = math.inf
        try:
            yield
        finally:
            self._scope.deadline = self._deadline


class CallDriver:
    """One call of a client: prepares requests, sends them, waits; :meth:`run` gives the response that was delivered,
    :meth:`result` what it becomes.

    *opens*: the class of the stream whose first event belongs to the attempt.
    """

    def __init__(
        self,
        client: AsyncAPIClient,
        options: RequestOptions,
        cast_to: Any,
        *,
        stream: bool = False,
        stream_cls: Any = None,
        delivers: Delivery = Delivery.BODY,
        accept: str | None = None,
    ) -> None:
        self.client = client
        self._now = client._home.check().now
        self._cast_to = cast_to
        self._stream = stream
        self._stream_cls = stream_cls
        if delivers is not Delivery.BODY or options.raw_mode is not RawMode.PARSED or client._has_own_prepare_options:
            # Iterators inside the body are expanded once, for all attempts, all hooks and what is asked for later.
            options = expand(client._codec, options)
        self.given = options
        self.options = options  # as the last attempt's hook left them
        self.retries_taken = 0
        self._requests = RequestMaker(client, options, accept)
        self._payload: Payload | None = None
        self._timeout: Timeout = client._timeout if isinstance(options.timeout, NotGiven) else options.timeout
        seconds = client._deadline if isinstance(options.deadline, NotGiven) else options.deadline
        self.deadline = None if seconds is None else self._now() + seconds
        self._max_retries = client._max_retries if isinstance(options.max_retries, NotGiven) else options.max_retries
        self._response: Response | None = None
        self._wrapper: AsyncAPIResponse[Any] | None = None  # the response as a middleware saw it last
        self._result: Result | None = None  # what a middleware gave in place of a response
        self._changes: RequestChanges | None = None  # what a middleware around the call did to the request
        self._history: tuple[Response, ...] = ()  # what has redirected, in this attempt
        # Lower-case names of fields that a layer above the credentials has set or omitted.
        self._layered: frozenset[str] = frozenset()
        self._not_authorized: CallEvent | None = None  # what the machine is to hear, once the middleware is through
        self._keeps_deadline: bool = getattr(client._transport, "keeps_deadline", False)
        self._plan = client._plan_of(delivers, self._max_retries, self.deadline, options)
        self._call = Call(self._plan, _random)
        self._debug = logger.isEnabledFor(logging.DEBUG)
        self._step = self._call.step if client._record is None and not self._debug else self._recorded_step()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What each attempt met, so far."""
        return self._call.attempts

    async def result(self) -> Any:
        """What the call gives: the decoded object, a stream, a response. Errors know the attempts."""
        response = await self.run()
        if isinstance(response, Result):
            return response.value
        client, cast_to = self.client, self._cast_to
        try:
            process: Any = client._process_response
            if (
                is_default(process)
                and not self._stream
                and response.is_read
                and self.options.raw_mode is RawMode.PARSED
                and is_data(cast_to)
            ):
                value = decode_body(client, response, cast_to, self.options)  # what the hook would do, at once
                parser = self.options.post_parser
                return value if parser is not_given else parser(value) if callable(parser) else value
            return await process(
                cast_to=cast_to,
                options=self.options,
                response=response,
                stream=self._stream,
                stream_cls=self._stream_cls,
                retries_taken=self.retries_taken,
            )
        except BaseException as exc:
            if isinstance(exc, APIError):
                exc.attempts = self.attempts
            await response.dispose()
            raise

    async def run(self) -> Response | Result:
        """The delivered response, or what a middleware gave in its place; or our error.

        Whatever else is raised comes from the user's own code.
        """
        try:
            request = self._prepare_nowait()
            if request is None:
                try:
                    request = await self._within(self._prepare, 0)
                except _Passed:
                    raise self._passed("before the first attempt, while the request was prepared") from None
            if self.client._call_ring is not None:
                return await self._run_in_ring(request)
            end = await self._run(request)
            if type(end) is Deliver and self._result is None:
                return self._kept()
            return await self._delivered(end)
        except BaseException:
            if self._response is not None:
                await self._response.dispose()
            raise

    async def _run(self, request: Request) -> Deliver | Reject:
        """From the first request to the end, the machine's word for it; Fail is raised."""
        event: CallEvent = Begin(self._now(), request)
        command = self._step(event)
        while True:
            if isinstance(command, Send):
                request = command.request
                if self.client._attempt_ring is not None:
                    event = await self._in_ring(request)
                else:
                    try:
                        if self._response is not None:
                            await self._leave_response()
                        response = await self._sending(request)
                    except APIConnectionError as exc:
                        event = self._failed(exc, request)
                    except _Passed:
                        event = Expired(self._now(), Outcome.UNKNOWN)
                    else:
                        self._take(response)
                        event = self._head(response, None)
            elif isinstance(command, Read):
                assert self._response is not None
                if self._plan.delivers is Delivery.FIRST_EVENT or not self._response.read_nowait():
                    event = await self._read()
                else:
                    event = ResultReady(event.now)  # nothing was waited for
            elif isinstance(command, (Deliver, Reject)):
                return command
            elif isinstance(command, Wait):
                event = await self._wait(command)
            elif isinstance(command, Authorize):
                event = await self._authorize(command)
            else:
                raise self._failure(command)
            command = self._step(event)

    @property
    def response(self) -> Response | None:
        """The response that the result was made of; None where a middleware gave a result of its own."""
        return None if self._result is not None else self._response

    def _wrap(self, response: Response) -> AsyncAPIResponse[Any]:
        """The response as a middleware sees it, and the hook :meth:`_process_response` by default."""
        return self.client._wrap(
            self._cast_to, self.options, response, self._stream, self._stream_cls, self.retries_taken
        )

    async def _open_first(self, response: Response) -> None:
        """Open the stream, and wait for its first event."""
        wrapper = self.client._wrap(self._cast_to, self.options, response, True, self._stream_cls, 0)
        opened = await wrapper.parse()
        await opened.wait_for_first()
        response.opened_stream = opened

    async def _delivered(self, end: Deliver | Reject) -> Response | Result:
        """What the call gives. The error for an answer that is none."""
        if type(end) is Reject:
            raise await self._status_error(end)
        if self._result is not None:
            return self._result
        return self._kept()

    def _kept(self) -> Response:
        """The response, with what belongs to the call."""
        response = self._response
        assert response is not None
        response.attempts = self._call.attempts
        response.deadline, response.given = self.deadline, self.given
        return response

    def _recorded_step(self) -> Callable[[CallEvent], CallCommand]:
        """The machine's step, with a record of the call."""
        record, debug = self.client._record, self._debug

        def step(event: CallEvent) -> CallCommand:
            command = self._call.step(event)
            if record is not None:
                record(event, command)
            if debug:
                logger.debug("%s -> %s", type(event).__name__, type(command).__name__)
            return command

        return step

    # -- middleware

    async def _run_in_ring(self, first: Request) -> Response | Result:
        """The whole call, inside the middleware that stands around calls."""
        before = first.copy()
        ring = self.client._call_ring
        assert ring is not None
        end: Deliver | Reject | None = None

        async def call_next(request: Request) -> Any:
            nonlocal end
            if end is not None:  # called again: another run
                await self._drop_response()
                self._call = Call(self._call.plan, _random)
                plain = self.client._record is None and not self._debug
                self._step = self._call.step if plain else self._recorded_step()
                self._result, self.retries_taken, self._history = None, 0, ()
            end = Deliver(())  # from here on a run has begun, whatever becomes of it
            self._changes = RequestChanges.between(before, request)
            self._layered |= self._changes.names
            with waiting.elsewhere():
                end = await self._run(request.copy())  # a copy, so that no attempt's changes are found here
            if self._result is not None:
                return self._result.value
            return self._shown()

        waiting = _Waiting(self.deadline)
        with waiting:
            given = await ring(first, call_next)
        if waiting.passed:
            raise self._passed("while a middleware was at work")
        judged = self._response
        response = await self._take_given(given, first)
        if response is None:
            self._result = Result(given)
            return self._result
        if end is not None and response is judged:
            return await self._delivered(end)
        self._result = None
        # A response of the middleware's own: judged like a server's, without retries.
        judge = Call(attrs.evolve(self._plan, max_retries=0, authorize=False, follow_redirects=False), _random)
        judge.step(Begin(self._now(), response.request or first))
        judge.retracted = True  # nothing is sent again
        command = judge.step(HeadReceived(self._now(), time.time(), response.head))
        if type(command) is Read:
            event = await self._read()
            command = judge.step(event)
        if type(command) is Fail:
            raise self._failure(command)
        assert type(command) is Deliver or type(command) is Reject
        return await self._delivered(command)

    async def _in_ring(self, request: Request) -> CallEvent:
        """One attempt, inside the middleware that stands around attempts."""
        ring = self.client._attempt_ring
        assert ring is not None
        sent = [request]  # the last is what was really sent

        async def call_next(request: Request) -> AsyncAPIResponse[Any]:
            await self._drop_response()
            self._history = ()
            if self._call.state is CallState.AUTHORIZING:  # it goes on without the credentials that were not to be had
                self._step(Authorized(self._now(), request, refreshable=False))
            elif len(sent) > 1:
                self._call.begin_again()
            while True:
                await self._leave_response()
                sent.append(request)
                try:
                    with waiting.elsewhere():
                        response = await self._sending(request)
                except _Passed:
                    raise self._passed("while the request was sent") from None
                except APIConnectionError as exc:
                    failed = self._failed(exc, request, request)
                    if not (isinstance(failed, AttemptFailed) and self._call.resends(failed)):
                        raise
                    command = self._step(failed)
                else:
                    self._take(response)
                    head = HeadReceived(self._now(), time.time(), response.head, request=request)
                    if not self._call.resends(head):
                        return self._shown()
                    command = self._step(head)
                if type(command) is Authorize:
                    request = await self._authorize_in_ring(command)
                else:
                    assert type(command) is Send  # that is what resends() says
                    request = command.request

        waiting = _Waiting(self.deadline)
        try:
            with waiting:
                given = await ring(request, call_next)
        except (APIConnectionError, APIStatusError, APIResponseValidationError) as exc:
            event, self._not_authorized = self._not_authorized, None
            if event is not None and (isinstance(event, Expired) or getattr(event, "error", None) is exc):
                return event
            if not isinstance(exc, APIConnectionError):
                raise
            return self._failed(exc, sent[-1], sent[-1])
        if self._call.state is CallState.AUTHORIZING:
            # There were no fresh credentials, and a middleware had an answer of its own in place of the send.
            self._step(Authorized(self._now(), sent[-1], refreshable=False))
        if waiting.passed:
            outcome = Outcome.NOT_SENT if len(sent) == 1 else Outcome.UNKNOWN
            return Expired(self._now(), outcome if self._response is None else Outcome.ANSWERED)
        response = await self._take_given(given, request)
        if response is None:
            self._result = Result(given)
            return ResultReady(self._now())
        self._result = None
        return self._head(response, sent[-1])

    async def _authorize_in_ring(self, command: Authorize) -> Request:
        """The same for a 401 inside a ring; what fails is the middleware's to see."""
        event = await self._authorize(command)
        if type(event) is not Authorized:
            self._not_authorized = event
            raise event.error if type(event) is AttemptFailed else self._passed("while getting credentials")
        send = self._step(event)
        assert type(send) is Send  # that is what Authorized leads to
        return send.request

    def _shown(self) -> AsyncAPIResponse[Any]:
        """The response as a middleware sees it."""
        assert self._response is not None
        self._wrapper = self._wrap(self._response)
        return self._wrapper

    async def _take_given(self, given: object, request: Request) -> Response | None:
        """What a middleware returned, as the response of this call; None where it is no response."""
        response = given.http_response if isinstance(given, AsyncAPIResponse) else given
        if response is not self._response:
            if self._wrapper is not None and self._wrapper.is_opened:
                self._response = None  # its stream is the middleware's, or on its way to the caller
            await self._drop_response()
        if not isinstance(response, Response):
            return None
        if response is not self._response:
            response = response.for_request(request)
        self._response = response
        return response

    async def _leave_response(self) -> None:
        """Another send of this attempt follows: read a short rest, so that the connection is used again."""
        response = self._response
        if response is None:
            return
        if is_redirect(response.status_code):
            self._history += (response.without_body(),)
        await self._within(response.aclose)
        self._response = None

    async def _drop_response(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            await response.dispose()

    # -- time

    async def _within(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Await under the deadline; :class:`_Passed` where it passed."""
        if self.deadline is None:
            return await function(*args)
        with anyio.CancelScope(deadline=self.deadline) as scope:
            return await function(*args)
        assert scope.cancelled_caught
        raise _Passed

    def _passed(self, when: str) -> DeadlineExceededError:
        outcome = Outcome.UNKNOWN if self._call.attempts or self._call.request else Outcome.NOT_SENT
        error = DeadlineExceededError(f"The deadline passed {when}.", request=self._call.request, outcome=outcome)
        error.attempts = self._call.attempts
        return error

    # -- commands

    def _sending(self, request: Request) -> Awaitable[Response]:
        """One request on the wire, the head of its answer. Nothing is done until it is awaited."""
        client = self.client
        if not (self._keeps_deadline and is_default(client._prepare_request)):
            return self._send_with_care(request)
        if self._requests.credentials or self._debug or type(request.body) is not bytes:
            self._check(request)
        return client._transport.send(request, timeout=self._timeout, deadline=self.deadline)

    async def _send_with_care(self, request: Request) -> Response:
        """The same with a hook, or over a transport that keeps no deadline."""
        await self._within(self.client._prepare_request, request)
        if not self._keeps_deadline:
            build.frame(request)  # our own connections do it themselves
        self._check(request)
        if self._keeps_deadline:
            return await self.client._transport.send(request, timeout=self._timeout, deadline=self.deadline)
        return await self._within(self._send_foreign, request, self._timeout)

    def _check(self, request: Request) -> None:
        """The last look at a request."""
        credentials = self._requests.credentials
        if credentials:
            request.credentials |= credentials  # a middleware may have made it anew
        if type(request.body) is not bytes and not request.can_be_sent:
            raise RuntimeError("this body was sent before and cannot be made again: pass bytes, a list or a callable")
        if self._debug:
            logger.debug("send %s %s", request.method, request.url.redacted)

    def _take(self, response: Response) -> None:
        """This is the response of the call, until another one comes."""
        self._response = response
        response.history = self._history
        response.max_decompression_ratio = self.client.max_decompression_ratio
        if self._debug:
            assert response.request is not None  # every transport's answer has one
            logger.debug("status %d from %s (%s)", response.status_code, response.request.url.origin, response.timings)

    def _head(self, response: Response, sent: Request | None) -> HeadReceived:
        """The event for an answer that is to be judged."""
        client = self.client
        asks: bool | None = None
        if client._has_own_retry_rule and response.head.is_error and self.retries_taken < self._max_retries:
            asks = bool(client._should_retry(response))
        return HeadReceived(self._now(), time.time(), response.head, asks, sent)

    async def _send_foreign(self, request: Request, timeout: Timeout) -> Response:
        response = await self.client._transport.send(request, timeout=timeout, deadline=self.deadline)
        if not isinstance(response, Response):
            raise TypeError(f"the transport's send() must return a Response, not {type(response).__name__}")
        if self.deadline is not None:
            response.limit_to(self.deadline)
        return response.for_request(request)

    def _failed(self, error: APIConnectionError, request: Request, sent: Request | None = None) -> CallEvent:
        now = self._now()
        if error.request is None:
            error.request = request
        if isinstance(error, DeadlineExceededError):
            return Expired(now, error.outcome, error.phase, error.timings, error.body_size)
        return AttemptFailed(now, error, error.outcome, error.phase, error.reused, error.retryable, request=sent)

    # -- credentials

    async def _authorize(self, command: Authorize) -> CallEvent:
        """Put the credentials on the request, as far as no layer of the client has said something about their fields."""
        client, request = self.client, command.request
        auth = client._auth
        assert auth is not None  # else the plan asks for none
        refused: Response | None = None
        if command.refresh:
            refused, self._response = self._response, None
        elif client._refused:
            refused = client._refused.pop()  # of a call that could not be sent again
        try:
            if self._response is not None:
                await self._leave_response()  # its connection may be the only one
            if not request.url.is_same_origin(client.base_url):
                if refused is not None:
                    await refused.dispose()
                return Authorized(self._now(), request, refreshable=False)
            fields = auth.headers_for(request) if refused is None else None
            if fields is None:
                fields = await self._within(self._refresh, auth, request, refused)
            if fields is None:
                raise RuntimeError(f"{type(auth).__name__}.headers_for gave None, also after refresh()")
        except _Passed:
            return Expired(self._now(), self._call.outcome_so_far)
        except APIConnectionError as exc:
            exc.outcome = outcome = self._call.outcome_so_far  # of the request that is to have the credentials
            if exc.request is None:
                exc.request = request
            if not exc.message.startswith(NO_CREDENTIALS):
                exc.message = NO_CREDENTIALS + exc.message
            if isinstance(exc, DeadlineExceededError) and self.deadline is not None and self._now() >= self.deadline:
                return Expired(self._now(), outcome, exc.phase, exc.timings, exc.body_size)
            return AttemptFailed(self._now(), exc, outcome, exc.phase, retryable=exc.retryable)
        except APIStatusError as exc:
            advice = exc.retry_after = retry.server_advice(exc.response.headers, time.time())
            outcome = self._call.outcome_so_far
            return AttemptFailed(self._now(), exc, outcome, status_code=exc.status_code, advice=advice)
        except APIResponseValidationError as exc:
            return AttemptFailed(self._now(), exc, self._call.outcome_so_far, retryable=False)
        refreshable = build.put_credentials(request, fields, self._layered)
        self._requests.credentials |= request.credentials
        return Authorized(self._now(), request, refreshable)

    async def _refresh(self, auth: Auth, request: Request, refused: Response | None) -> Mapping[str, str] | None:
        """Fresh credentials for *request*, asked for before anything else can run."""
        given: list[Response] = []

        async def send(request: Request) -> Response:
            response = await self._send_plain(request)
            given.append(response)
            return response

        try:
            if refused is not None:
                with anyio.move_on_after(REFUSAL_TIME):  # its connection may be the only one
                    await refused.read_at_most(self.client.max_error_body)
            await auth.refresh(send, refused)
            return auth.headers_for(request)
        finally:
            for response in (*given, refused):
                if response is not None:
                    await response.dispose()

    async def _send_plain(self, request: Request) -> Response:
        """A request beside the call, for its credentials: no hooks, no retries."""
        build.frame(request)
        # Others may wait for the same credentials: the limits are the transport's own, and not this call's.
        timeout = self.client._transport_timeout()
        if self._keeps_deadline:
            return await self.client._transport.send(request, timeout=timeout, deadline=self.deadline)
        return await self._send_foreign(request, timeout)

    async def _read(self) -> CallEvent:
        response = self._response
        assert response is not None
        try:
            if self._plan.delivers is Delivery.FIRST_EVENT:
                await self._within(self._open_first, response)
            elif self._keeps_deadline:
                await response.read()
            else:
                await self._within(response.read)
        except APIConnectionError as exc:
            assert response.request is not None
            self._response = None  # it is lost, and the hook _sleep_for_retry gets none
            await response.dispose()
            return self._failed(exc, response.request)
        except APIResponseValidationError as exc:
            return AttemptFailed(self._now(), exc, Outcome.ANSWERED, Phase.BODY, retryable=False)
        except ErrorEvent as exc:
            return AttemptFailed(self._now(), exc, Outcome.ANSWERED, Phase.BODY, status_code=exc.status_code or 400)
        except _Passed:
            return Expired(self._now(), Outcome.ANSWERED, Phase.BODY, response.timings)
        return ResultReady(self._now())

    async def _wait(self, command: Wait) -> CallEvent:
        response, self._response = self._response, None
        self._history = ()
        self.retries_taken = command.retries_taken
        if logger.isEnabledFor(logging.INFO):
            met = self._call.attempts[-1]
            logger.info("retry %d of %d in %.3g s: %s", command.retries_taken, self._max_retries, command.seconds, met)
        try:
            request = await self._within(self._wait_and_prepare, command, response)
        except _Passed:
            return Expired(self._now())
        return Woke(self._now(), request)

    async def _wait_and_prepare(self, command: Wait, response: Response | None) -> Request:
        if response is not None:
            try:
                await response.aclose()  # reads a short rest, so that the connection is used again
            except BaseException:
                await response.dispose()
                raise
        token = retry_wait.set(command.seconds)
        try:
            await self.client._sleep_for_retry(
                retries_taken=command.retries_taken - 1,
                max_retries=self._max_retries,
                options=self.options,
                response=response,
            )
        finally:
            retry_wait.reset(token)
        return await self._prepare(command.retries_taken)

    async def _status_error(self, command: Reject) -> Exception:
        response = self._response
        assert response is not None
        try:
            await self._within(response.read_at_most, self.client.max_error_body)
        except _Passed:
            pass
        if response.status_code == 401 and self._call.home is not None and not self._call.refreshed:
            self.client._refused[:] = [
                response.without_body()
            ]  # its body could not be sent again: the next call refreshes
        error = self.client._make_error_of(response, command.reason)
        error.attempts = command.attempts
        error.retry_after = command.retry_after
        return error

    def _failure(self, command: Fail) -> Exception:
        error = command.exception()
        if isinstance(error, ErrorEvent):  # only now is it known that it will be raised
            made = error.make()
            made.attempts = command.attempts
            return made
        return error

    # -- requests

    def _prepare_nowait(self) -> Request | None:
        """The first request, where nothing is to be waited for."""
        client = self.client
        if client._has_own_prepare_options:
            return None
        payload = self._payload = _bodies.payload_nowait(client._codec, self.given)
        if payload is None:
            return None
        request = self._requests.make(self.given, payload, 0)
        self._layered = self._requests.layered
        return request

    async def _prepare(self, retries_taken: int) -> Request:
        """The request of one attempt, hooks included."""
        client = self.client
        options, payload = self.given, self._payload
        if payload is None:
            options = self.given = expand(client._codec, options)
            payload = self._payload = await _bodies.make_payload(client._codec, client.qs, options)
        if client._has_own_prepare_options:
            # What the hook returns or changes holds for this attempt only.
            options = RequestOptions.of(await client._prepare_options(_bodies.copy_options(options)))
            if options.raw_mode is not self.given.raw_mode:  # no option that a hook can see
                options = attrs.evolve(options, raw_mode=self.given.raw_mode)
            changed = any(getattr(options, name) != getattr(self.given, name) for name in _bodies.BODY_OPTIONS)
            if changed:
                payload = await _bodies.make_payload(client._codec, client.qs, expand(client._codec, options))
            self._timeout = client.timeout if isinstance(options.timeout, NotGiven) else options.timeout
            self._call.plan = attrs.evolve(self._call.plan, follow_redirects=client._follows(options))
        self.options = options
        request = self._requests.make(options, payload, retries_taken)
        self._layered = self._requests.layered
        if self._changes is not None:
            self._changes.apply(request)
            self._layered |= self._changes.names
        return request


# Seconds that the rest of an answer 401 is waited for before fresh credentials are asked for.
REFUSAL_TIME = 1.0
NO_CREDENTIALS = "The request has no credentials: "
