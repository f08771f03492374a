"""The call driver: does what the call machine says. No decisions here."""

from __future__ import annotations

import copy
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import anyio
import attrs

from ._core import build
from ._core.call import (
    AttemptFailed,
    Begin,
    Call,
    CallCommand,
    CallEvent,
    CallPlan,
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
from ._io.response import Response
from ._log import logger
from ._model.errors import (
    APIConnectionError,
    APIResponseValidationError,
    Attempt,
    DeadlineExceededError,
    Outcome,
    Phase,
)
from ._model.given import NotGiven, Omit
from ._model.options import RequestOptions
from ._model.request import Request, StreamedBody, make_body
from ._model.timeouts import Timeout
from ._model.url import URL
from ._streaming import ErrorEvent

if TYPE_CHECKING:
    from ._client import AsyncAPIClient

__all__ = ["CallDriver", "Recorder", "check_supported", "retry_wait"]

T = TypeVar("T")
Recorder: TypeAlias = "Callable[[CallEvent, CallCommand], object]"

# What the machine said to wait, for the default of the hook _sleep_for_retry, whose signature has no room for it.
retry_wait: ContextVar[float] = ContextVar("retry_wait")


class _Passed(Exception):
    """The deadline passed while something that does not keep it was awaited."""


class CallDriver:
    """One call of a client: prepares requests, sends them, waits; :meth:`run` gives the response that was delivered."""

    def __init__(
        self,
        client: AsyncAPIClient,
        options: RequestOptions,
        *,
        delivers: Delivery,
        open_stream: Callable[[Response, RequestOptions], Awaitable[Any]] | None = None,
    ) -> None:
        self.client = client
        self.options = options  # as the last attempt's hook left them
        self.retries_taken = 0
        self._open_stream = open_stream
        # Iterators inside the body are expanded once, before the first hook, for all attempts and all pages.
        self.given = expand_body(client, options)
        self._body = encode_body(client, self.given)
        self._key = client._idempotency_key(options)
        self._timeout: Timeout = client.timeout if isinstance(options.timeout, NotGiven) else options.timeout
        seconds = client.deadline if isinstance(options.deadline, NotGiven) else options.deadline
        self._deadline = None if seconds is None else anyio.current_time() + seconds
        self._max_retries = client.max_retries if isinstance(options.max_retries, NotGiven) else options.max_retries
        self._response: Response | None = None
        self._keeps_deadline: bool = getattr(client._transport, "keeps_deadline", False)
        plan = CallPlan(
            max_retries=self._max_retries,
            policy=client._retry,
            deadline=self._deadline,
            delivers=delivers,
            idempotency_header=client.idempotency_header or "Idempotency-Key",
        )
        self._call = Call(plan, random.random)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What each attempt met, so far."""
        return self._call.attempts

    async def run(self) -> Response:
        """The delivered response, or our error. Whatever else is raised comes from the user's own code."""
        try:
            return await self._run()
        except BaseException:
            if self._response is not None:
                await self._response.dispose()
            raise

    async def _run(self) -> Response:
        step = self._recorded_step() or self._call.step
        command = await self._first(step)
        while True:
            kind = type(command)
            if kind is Send:
                event = await self._send(command)  # type: ignore[arg-type]
            elif kind is Read:
                event = await self._read()
            elif kind is Deliver:
                assert self._response is not None
                self._response.attempts = self._call.attempts
                return self._response
            elif kind is Wait:
                event = await self._wait(command)  # type: ignore[arg-type]
            elif kind is Reject:
                raise await self._status_error(command)  # type: ignore[arg-type]
            else:
                assert type(command) is Fail
                raise self._failure(command)
            command = step(event)

    def _recorded_step(self) -> Callable[[CallEvent], CallCommand] | None:
        """The machine's step, with a record of the call, if anybody wants one."""
        record = self.client._record
        debug = logger.isEnabledFor(logging.DEBUG)
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

    async def _first(self, step: Callable[[CallEvent], CallCommand]) -> CallCommand:
        try:
            request = await self._within(self._prepare, 0)
        except _Passed:
            raise self._passed_before() from None
        return step(Begin(anyio.current_time(), request))

    # -- time

    async def _within(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Await under the deadline; :class:`_Passed` where it passed."""
        if self._deadline is None:
            return await function(*args)
        with anyio.CancelScope(deadline=self._deadline) as scope:
            return await function(*args)
        assert scope.cancelled_caught
        raise _Passed

    def _passed_before(self) -> DeadlineExceededError:
        message = "The deadline passed before the first attempt, while the request was prepared."
        return DeadlineExceededError(message, outcome=Outcome.NOT_SENT)

    # -- commands

    async def _send(self, command: Send) -> CallEvent:
        client, request = self.client, command.request
        transport = client._transport
        try:
            await self._within(client._prepare_request, request)
            if isinstance(self._body, StreamedBody) and isinstance(request.body, bytes):
                self._body = request.body  # the hook has read it, to sign it: the next attempt sends what was read
            build.frame(request)
            if logger.isEnabledFor(logging.DEBUG):
                logger.debug("send %s %s", request.method, request.url.redacted)
            try:
                if self._keeps_deadline:
                    response = await transport.send(request, timeout=self._timeout, deadline=self._deadline)
                else:
                    response = await self._within(self._send_foreign, request)
            except APIConnectionError as exc:
                return self._failed(exc, request)
        except _Passed:
            return Expired(anyio.current_time(), Outcome.UNKNOWN)
        self._response = response
        response.max_decompression_ratio = client.max_decompression_ratio
        now = anyio.current_time()
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("status %d from %s (%s)", response.status_code, request.url.origin, response.timings)
        retry: bool | None = None
        if client._has_own_retry_rule and response.head.is_error and self.retries_taken < self._max_retries:
            retry = bool(client._should_retry(response))
        return HeadReceived(now, time.time(), response.head, retry)

    async def _send_foreign(self, request: Request) -> Response:
        response = await self.client._transport.send(request, timeout=self._timeout, deadline=self._deadline)
        if not isinstance(response, Response):
            raise TypeError(f"the transport's send() must return a Response, not {type(response).__name__}")
        if response.request is None:
            response.request = request
        if self._deadline is not None:
            response.limit_to(self._deadline)
        return response

    def _failed(self, error: APIConnectionError, request: Request) -> CallEvent:
        now = anyio.current_time()
        if error.request is None:
            error.request = request
        if isinstance(error, DeadlineExceededError):
            return Expired(now, error.outcome, error.phase, error.timings, error.body_size)
        return AttemptFailed(now, error, error.outcome, error.phase, error.reused, error.retryable)

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
            return AttemptFailed(anyio.current_time(), exc, Outcome.ANSWERED, Phase.BODY, retryable=False)
        except ErrorEvent as exc:
            return AttemptFailed(
                anyio.current_time(), exc, Outcome.ANSWERED, Phase.BODY, status_code=exc.status_code or 400
            )
        except _Passed:
            return Expired(anyio.current_time(), Outcome.ANSWERED, Phase.BODY, response.timings)
        return ResultReady(anyio.current_time())

    async def _wait(self, command: Wait) -> CallEvent:
        response, self._response = self._response, None
        self.retries_taken = command.retries_taken
        if logger.isEnabledFor(logging.INFO):
            met = self._call.attempts[-1]
            logger.info("retry %d of %d in %.3g s: %s", command.retries_taken, self._max_retries, command.seconds, met)
        try:
            request = await self._within(self._wait_and_prepare, command, response)
        except _Passed:
            return Expired(anyio.current_time())
        return Woke(anyio.current_time(), request)

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
        error = self.client._make_error_of(response)
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
        options, body = self.given, self._body
        if client._has_own_prepare_options:
            # What the hook returns or changes holds for this attempt only.
            options = RequestOptions.of(await client._prepare_options(copy_options(options)))
            if options.raw_mode is not self.given.raw_mode:  # no option that a hook can see
                options = attrs.evolve(options, raw_mode=self.given.raw_mode)
            check_supported(options)
            changed = any(getattr(options, name) != getattr(self.given, name) for name in _BODY_OPTIONS)
            if changed:
                body = encode_body(client, options)
            self._timeout = client.timeout if isinstance(options.timeout, NotGiven) else options.timeout
        self.options = options
        return self._build(options, body, retries_taken)

    def _build(self, options: RequestOptions, body: bytes | StreamedBody | None, retries_taken: int) -> Request:
        client = self.client
        params: Mapping[str, object] = {} if isinstance(options.params, NotGiven) else options.params
        url, foreign = build.build_url(
            client.base_url, options.url, default_query=client.default_query, params=params, qs=client.qs
        )
        credentials = client.auth_headers if foreign else ()
        headers, omitted = build.build_headers(
            client.default_headers, options.headers, foreign=foreign, credentials=credentials
        )
        own: Mapping[str, Any] = {} if isinstance(options.headers, NotGiven) else options.headers
        if url.userinfo is not None:
            if not any(name.lower() == "authorization" for name in own):
                user, password = url.credentials or ("", "")
                headers["Authorization"] = build.basic_credentials(user, password)
            url = url.replace(userinfo=False)
        request = Request(options.method, URL(url), headers=headers, content=b"")
        if body is not None:
            request.body = body
        is_json = body is not None and options.content is None
        if is_json and "content-type" not in headers and "content-type" not in omitted:
            headers["Content-Type"] = "application/json"
        count_header = client.retry_count_header
        if count_header and count_header not in headers and count_header.lower() not in omitted:
            headers[count_header] = str(retries_taken)
        key, key_header = self._key, client.idempotency_header or "Idempotency-Key"
        if options.idempotency_key is not self.given.idempotency_key:
            key = client._idempotency_key(options)
        is_generated = isinstance(options.idempotency_key, NotGiven)
        if key is not None and not (is_generated and key_header.lower() in omitted):
            headers.setdefault(key_header, key)
        client._validate_headers(headers, omitted)
        return request


_LATER = ("files", "form", "expect_continue", "compress", "progress", "on_informational", "trailers")


def check_supported(options: RequestOptions) -> None:
    """ValueError for an option that this version does not carry out, rather than leaving it out in silence."""
    for name in _LATER:
        value = getattr(options, name)
        if value is not None and value is not False:
            raise ValueError(f"the option {name}= is not supported yet by this version")


_BODY_OPTIONS = ("json_data", "extra_json", "content", "files", "form")


def copy_options(options: RequestOptions) -> RequestOptions:
    """A copy for a hook to change: mappings and JSON are copied, a body that can be read only once is not."""
    return attrs.evolve(
        options,
        headers=options.headers if isinstance(options.headers, NotGiven) else dict(options.headers),
        params=options.params if isinstance(options.params, NotGiven) else copy.deepcopy(dict(options.params)),
        json_data=copy.deepcopy(options.json_data),
        extra_json=copy.deepcopy(options.extra_json),
    )


def _has_json(options: RequestOptions) -> bool:
    return options.json_data is not None and not isinstance(options.json_data, NotGiven)


def expand_body(client: AsyncAPIClient, options: RequestOptions) -> RequestOptions:
    """The options with their JSON in the types of JSON. TypeError or ValueError where JSON cannot hold it."""
    changes: dict[str, Any] = {}
    if _has_json(options):
        changes["json_data"] = client._codec.to_plain(options.json_data)
    if options.extra_json is not None:
        left_out = {name: value for name, value in options.extra_json.items() if isinstance(value, Omit)}
        changes["extra_json"] = {**client._codec.to_plain(options.extra_json), **left_out}
    return attrs.evolve(options, **changes) if changes else options


def encode_body(client: AsyncAPIClient, options: RequestOptions) -> bytes | StreamedBody | None:
    """The body of a call, None for none. TypeError or ValueError where it cannot be one."""
    if _has_json(options) or options.extra_json is not None:
        if options.content is not None:
            raise TypeError("pass body= or content=, not both")
        build.check_body_allowed(options.method, "a JSON body")
        data: Any = options.json_data if _has_json(options) else {}
        if options.extra_json is not None:
            data = merge_json(client._codec.to_plain(data), options.extra_json)
        return client._codec.encode(data)
    return None if options.content is None else make_body(options.content)


def merge_json(body: object, extra: Mapping[str, object]) -> object:
    """*extra* over *body*, shallowly; ``omit`` removes a name."""
    if not isinstance(body, dict):
        raise TypeError("extra_json merges into a JSON object; this body is none")
    merged: dict[str, object] = {**body, **extra}
    return {name: value for name, value in merged.items() if not isinstance(value, Omit)}
