"""The call driver: does what the call machine says. No decisions here."""

from __future__ import annotations

import contextlib
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Set
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import anyio
import attrs

from . import _bodies
from ._auth import Auth
from ._bodies import Payload
from ._core import build, retry
from ._core.call import (
    AttemptFailed,
    Authorize,
    Authorized,
    Begin,
    Call,
    CallCommand,
    CallEvent,
    CallPlan,
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
from ._core.redirect import is_redirect
from ._io.response import Response
from ._log import logger
from ._middleware import RequestChanges, Result
from ._model.errors import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    Attempt,
    DeadlineExceededError,
    Outcome,
    Phase,
)
from ._model.given import NotGiven
from ._model.options import RequestOptions
from ._model.request import Request, StreamedBody
from ._model.timeouts import Timeout
from ._response import AsyncAPIResponse
from ._streaming import ErrorEvent
from ._wire import multipart

if TYPE_CHECKING:
    from ._client import AsyncAPIClient

__all__ = ["DEFAULT_ACCEPT", "CallDriver", "Recorder", "retry_wait"]

T = TypeVar("T")
Recorder: TypeAlias = "Callable[[CallEvent, CallCommand], object]"

# What the machine said to wait, for the default of the hook _sleep_for_retry, whose signature has no room for it.
retry_wait: ContextVar[float] = ContextVar("retry_wait")


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
    """One call of a client: prepares requests, sends them, waits; :meth:`run` gives the response that was delivered."""

    def __init__(
        self,
        client: AsyncAPIClient,
        options: RequestOptions,
        *,
        delivers: Delivery,
        wrap: Callable[[Response, RequestOptions, int], AsyncAPIResponse[Any]],
        open_stream: Callable[[Response, RequestOptions], Awaitable[Any]] | None = None,
        accept: str | None = None,
    ) -> None:
        self.client = client
        self._now: Callable[[], float] = client._home.now
        self._accept = accept  # of the stream class
        self.options = options  # as the last attempt's hook left them
        self.retries_taken = 0
        self._wrap = wrap  # for middleware
        self._open_stream = open_stream
        # Iterators inside the body are expanded once, before the first hook, for all attempts and all pages.
        self.given = _bodies.expand(client._codec, options)
        self._payload: Payload | None = None
        self._key = client._idempotency_key(options)
        self._timeout: Timeout = client._timeout if isinstance(options.timeout, NotGiven) else options.timeout
        seconds = client._deadline if isinstance(options.deadline, NotGiven) else options.deadline
        self.deadline = None if seconds is None else self._now() + seconds
        self._max_retries = client._max_retries if isinstance(options.max_retries, NotGiven) else options.max_retries
        self._response: Response | None = None
        self._wrapper: AsyncAPIResponse[Any] | None = None  # the response as a middleware saw it last
        self._result: Result | None = None  # what a middleware gave in place of a response
        self._changes: RequestChanges | None = None  # what a middleware around the call did to the request
        self._history: tuple[Response, ...] = ()  # what has redirected, in this attempt
        # Lower-case names of fields that a layer above the credentials has set or omitted, and of those with credentials.
        self._layered: frozenset[str] = frozenset()
        self._credentials: frozenset[str] = frozenset()
        self._not_authorized: CallEvent | None = None  # what the machine is to hear, once the middleware is through
        self._keeps_deadline: bool = getattr(client._transport, "keeps_deadline", False)
        self._plan = CallPlan(
            max_retries=self._max_retries,
            policy=client._retry,
            deadline=self.deadline,
            delivers=delivers,
            idempotency_header=client.idempotency_header or "Idempotency-Key",
            authorize=client._auth is not None,
            follow_redirects=client._follows(options),
            allow_insecure_redirects=client.allow_insecure_redirects,
        )
        self._call = Call(self._plan, random.random)
        self._step = self._recorded_step() or self._call.step

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What each attempt met, so far."""
        return self._call.attempts

    async def run(self) -> Response | Result:
        """The delivered response, or what a middleware gave in its place; or our error.

        Whatever else is raised comes from the user's own code.
        """
        try:
            try:
                request = await (self._prepare(0) if self.deadline is None else self._within(self._prepare, 0))
            except _Passed:
                raise self._passed("before the first attempt, while the request was prepared") from None
            if self.client._call_ring is None:
                return await self._delivered(await self._run(request))
            return await self._run_in_ring(request)
        except BaseException:
            if self._response is not None:
                await self._response.dispose()
            raise

    async def _run(self, request: Request) -> Deliver | Reject:
        """From the first request to the end, the machine's word for it; Fail is raised."""
        command = self._step(Begin(self._now(), request))
        while True:
            kind = type(command)
            if kind is Send:
                event = await self._attempt(command.request)  # type: ignore[union-attr]
            elif kind is Read:
                event = await self._read()
            elif kind is Deliver or kind is Reject:
                return command  # type: ignore[return-value]
            elif kind is Wait:
                event = await self._wait(command)  # type: ignore[arg-type]
            elif kind is Authorize:
                event = await self._authorize(command)  # type: ignore[arg-type]
            else:
                assert type(command) is Fail
                raise self._failure(command)
            command = self._step(event)

    async def _delivered(self, end: Deliver | Reject) -> Response | Result:
        """What the call gives. The error for an answer that is none."""
        if type(end) is Reject:
            raise await self._status_error(end)
        if self._result is not None:
            return self._result
        assert self._response is not None
        self._response.attempts = self._call.attempts
        self._response.deadline, self._response.given = self.deadline, self.given
        return self._response

    def _recorded_step(self) -> Callable[[CallEvent], CallCommand] | None:
        """The machine's step, with a record of the call, if anybody wants one."""
        record = self.client._record
        debug = self._debug = logger.isEnabledFor(logging.DEBUG)
        if record is None and not debug:
            return None

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
                self._call = Call(self._call.plan, random.random)
                self._step = self._recorded_step() or self._call.step
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
        judge = Call(attrs.evolve(self._plan, max_retries=0, authorize=False, follow_redirects=False), random.random)
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
                        response = await self._send(request)
                except _Passed:
                    raise self._passed("while the request was sent") from None
                except APIConnectionError as exc:
                    failed = self._failed(exc, request, request)
                    if not (isinstance(failed, AttemptFailed) and self._call.resends(failed)):
                        raise
                    command = self._step(failed)
                else:
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
        self._wrapper = self._wrap(self._response, self.options, self.retries_taken)
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

    async def _attempt(self, request: Request) -> CallEvent:
        if self.client._attempt_ring is not None:
            return await self._in_ring(request)
        try:
            if self._response is not None:
                await self._leave_response()
            response = await self._send(request)
        except APIConnectionError as exc:
            return self._failed(exc, request)
        except _Passed:
            return Expired(self._now(), Outcome.UNKNOWN)
        return self._head(response, None)

    async def _send(self, request: Request) -> Response:
        """One request on the wire, the head of its answer."""
        client = self.client
        transport = client._transport
        if self._credentials:
            request.credentials |= self._credentials  # a middleware may have made it anew
        if not getattr(client._prepare_request, "does_nothing", False):
            await self._within(client._prepare_request, request)
        if not self._keeps_deadline:
            build.frame(request)  # our own connections do it themselves
        if not request.can_be_sent:
            raise RuntimeError("this body was sent before and cannot be made again: pass bytes, a list or a callable")
        if self._debug:
            logger.debug("send %s %s", request.method, request.url.redacted)
        if self._keeps_deadline:
            response = await transport.send(request, timeout=self._timeout, deadline=self.deadline)
        else:
            response = await self._within(self._send_foreign, request, self._timeout)
        self._response = response
        response.history = self._history
        response.max_decompression_ratio = client.max_decompression_ratio
        if self._debug:
            logger.debug("status %d from %s (%s)", response.status_code, request.url.origin, response.timings)
        return response

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
        self._credentials |= request.credentials
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
            if self._open_stream is not None:
                await self._within(self._open_stream, response, self.options)
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

    async def _prepare(self, retries_taken: int) -> Request:
        """The request of one attempt, hooks included."""
        client = self.client
        options, payload = self.given, self._payload
        if payload is None:
            payload = self._payload = await _bodies.make_payload(client._codec, client.qs, options)
        if client._has_own_prepare_options:
            # What the hook returns or changes holds for this attempt only.
            options = RequestOptions.of(await client._prepare_options(_bodies.copy_options(options)))
            if options.raw_mode is not self.given.raw_mode:  # no option that a hook can see
                options = attrs.evolve(options, raw_mode=self.given.raw_mode)
            changed = any(getattr(options, name) != getattr(self.given, name) for name in _bodies.BODY_OPTIONS)
            if changed:
                payload = await _bodies.make_payload(client._codec, client.qs, _bodies.expand(client._codec, options))
            self._timeout = client.timeout if isinstance(options.timeout, NotGiven) else options.timeout
            self._call.plan = attrs.evolve(self._call.plan, follow_redirects=client._follows(options))
        self.options = options
        request = self._build(options, payload, retries_taken)
        if self._changes is not None:
            self._changes.apply(request)
            self._layered |= self._changes.names
        return request

    def _build(self, options: RequestOptions, payload: Payload, retries_taken: int) -> Request:
        client = self.client
        params: Mapping[str, object] = {} if isinstance(options.params, NotGiven) else options.params
        url, foreign = client._url_of(options.url, params)
        below = client._headers_below()
        self._credentials = credentials = client._credential_names
        headers, omitted = build.build_headers(
            below, options.headers, foreign=foreign, credentials=credentials, kept=client._kept_headers
        )
        own = frozenset[str]() if isinstance(options.headers, NotGiven) else {name.lower() for name in options.headers}
        if self._accept is not None and "accept" not in own and headers.get("accept") == DEFAULT_ACCEPT:
            headers["Accept"] = self._accept
        if url.userinfo is not None:
            if "authorization" not in own:
                user, password = url.credentials or ("", "")
                headers["Authorization"] = build.basic_credentials(user, password)
            url = url.replace(userinfo=False)
        request = Request(options.method, url, headers=headers, content=b"")
        if client._auth is not None:
            below_auth = client._names_below_auth
            above = own.union(name.lower() for name in client._custom_headers)
            layered = (name.lower() for name in headers)
            self._layered = omitted.union(name for name in layered if name not in below_auth or name in above)
        if payload.body is not None:
            _describe(request, payload, own, omitted)
        count_header = None if foreign else client.retry_count_header
        if count_header and count_header not in headers and count_header.lower() not in omitted:
            headers[count_header] = str(retries_taken)
        key, key_header = self._key, client.idempotency_header or "Idempotency-Key"
        if options.idempotency_key is not self.given.idempotency_key:
            key = client._idempotency_key(options)
        is_generated = isinstance(options.idempotency_key, NotGiven)
        if key is not None and not (is_generated and key_header.lower() in omitted):
            headers.setdefault(key_header, key)
        if options.expect_continue and request.has_content and "expect" not in omitted:
            headers.setdefault("Expect", "100-continue")
        request.on_informational, request.trailers = options.on_informational, options.trailers
        request.carrier = self.given.carrier
        if not getattr(client._validate_headers, "does_nothing", False):
            client._validate_headers(headers, omitted)
        return request


def _describe(request: Request, payload: Payload, own: Set[str], omitted: Set[str]) -> None:
    """Put the body on the request, and the fields that describe it. *own*: names of fields that the request sets itself."""
    body, headers = payload.body, request.headers
    assert body is not None
    # Where a hook has read it, to sign it, the next attempt sends what was read.
    request.body = body.content if isinstance(body, StreamedBody) and body.content is not None else body
    if payload.content_type is not None and "content-type" not in omitted:
        ours = "content-type" not in own and (payload.replaces or "content-type" not in headers)
        if ours or (payload.boundary is not None and _wants_boundary(headers["content-type"])):
            headers["Content-Type"] = payload.content_type
    if payload.coding is not None:
        if "content-encoding" in headers:
            raise ValueError("compress= sets Content-Encoding: the headers must not set it too")
        headers["Content-Encoding"] = payload.coding


def _wants_boundary(content_type: str) -> bool:
    return multipart.is_form_data(content_type) and multipart.boundary_of(content_type) is None


DEFAULT_ACCEPT = "application/json"

# Seconds that the rest of an answer 401 is waited for before fresh credentials are asked for.
REFUSAL_TIME = 1.0
NO_CREDENTIALS = "The request has no credentials: "
