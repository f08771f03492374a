"""The call machine: one logical request, from the first attempt to its end.

A *call* is what the user asked for. An *attempt* is what a retry repeats. A *send* is one request on the wire: one
attempt has several where a dead idle connection is replaced, a redirect followed, or a 401 answered with fresh
credentials. ``error.attempts`` and ``retries_taken`` count attempts.

The driver's side is a loop without decisions: do what the command says, report what happened, repeat until the command
is an end (``Deliver``, ``Reject``, ``Fail``)::

    command = call.step(Begin(now, request))
    while not isinstance(command, End):
        event = ... # do what the command says
        command = call.step(event)

Rules of the machine:

* ``step`` takes one event and returns exactly one command.
* ``TRANSITIONS`` names the handler of every legal event in every state. A cell that is absent is illegal, and always
  the driver's bug: :class:`IllegalEvent`.
* The machine reads no clock (every event says ``now``, monotonic seconds) and makes no random number (it is given a
  function). It is a value: it prints, copies and compares.
* Cancellation is no event. Whoever cancels drops the machine.
* A request is judged as it was really sent: hooks and credentials have changed the object that ``Send`` names, the
  machine looks at it when the answer is there.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs

from .._model.errors import (
    APIConnectionError,
    APIError,
    Attempt,
    DeadlineExceededError,
    Outcome,
    Phase,
    TooManyRedirectsError,
)
from .._model.head import ResponseHead
from .._model.request import Request
from .._model.timeouts import Timings
from .._model.url import URL
from . import redirect, retry
from .redirect import NotFollowed
from .retry import RetryPolicy

__all__ = [
    "TRANSITIONS",
    "AttemptFailed",
    "Authorize",
    "Authorized",
    "Begin",
    "Call",
    "CallCommand",
    "CallEvent",
    "CallPlan",
    "CallState",
    "Deliver",
    "Delivery",
    "End",
    "Expired",
    "Fail",
    "HeadReceived",
    "IllegalEvent",
    "Read",
    "Reject",
    "ResultReady",
    "Send",
    "Wait",
    "Woke",
]


class IllegalEvent(RuntimeError):
    """An event that cannot happen in this state: a bug of the driver."""


class CallState(enum.StrEnum):
    READY = "ready"
    AUTHORIZING = "authorizing"
    SENDING = "sending"
    READING = "reading"
    WAITING = "waiting"
    ENDED = "ended"


class Delivery(enum.Enum):
    """How much of a good answer belongs to the attempt, so that losing it is a failure that may be retried."""

    HEAD = "head"  # the body is the caller's, as in open()
    FIRST_EVENT = "first_event"  # a stream that wants to see its first event
    BODY = "body"  # a plain call


setattr(Delivery, "__hash__", object.__hash__)  # Enum's own is written in Python, and this is looked up in each call  # noqa: B010


# --- events: what happened ---------------------------------------------------------------------------------------


@attrs.frozen
class Begin:
    """The call starts; ``request`` is the first attempt's, prepared."""

    now: float
    request: Request


@attrs.frozen
class Authorized:
    """Credentials are on ``request``. ``refreshable``: False where they are not (the caller's own fields stand in their
    place, or the origin is not theirs), so that fresh ones would change nothing."""

    now: float
    request: Request
    refreshable: bool = True


@attrs.frozen
class HeadReceived:
    """The head of the final response is here, its body is not read.

    ``posix_now``: POSIX seconds, for HTTP-dates. ``retry``: what the user's own rule says of an error status, None
    where there is none. ``request``: what was sent, where a middleware sent another one than the command named.
    """

    now: float
    posix_now: float
    head: ResponseHead
    retry: bool | None = None
    request: Request | None = None


@attrs.frozen
class ResultReady:
    """What ``Read`` asked for is here; or, in answer to ``Send``, a finished result that needs no judging."""

    now: float


@attrs.frozen
class AttemptFailed:
    """No good answer, or not all of it.

    ``reused``: the connection had carried a request before, and ended before any byte of an answer to this one.
    ``retryable``: False where trying again cannot help (TLS verification, an undecodable body, a closed client).
    ``status_code``: where the first event of a stream was an error, the status that it names; where who gives credentials
    answered with an error, its status, and ``advice``: seconds that it asked to wait. ``request``: as in :class:`HeadReceived`.
    """

    now: float
    error: Exception
    outcome: Outcome
    phase: Phase | None = None
    reused: bool = False
    retryable: bool = True
    status_code: int | None = None
    request: Request | None = None
    advice: float | None = None


@attrs.frozen
class Woke:
    """The wait is over; ``request`` is the next attempt's, prepared."""

    now: float
    request: Request


@attrs.frozen
class Expired:
    """The deadline passed while the last command was carried out.

    ``timings`` and ``body_size`` (bytes so far) tell how far the send came, where one was under way.
    """

    now: float
    outcome: Outcome = Outcome.NOT_SENT
    phase: Phase | None = None
    timings: Timings | None = None
    body_size: int | None = None


CallEvent: TypeAlias = Begin | Authorized | HeadReceived | ResultReady | AttemptFailed | Woke | Expired


# --- commands: what to do ------------------------------------------------------------------------------------------


@attrs.frozen
class Authorize:
    """Get credentials for ``request``, fresh ones if ``refresh`` (the last answer was 401), then report ``Authorized``."""

    request: Request
    refresh: bool = False


@attrs.frozen
class Send:
    """Send ``request``, then report its head."""

    request: Request


@attrs.frozen
class Read:
    """Read as much of the body as the plan's ``delivers`` says, then report ``ResultReady``."""


@attrs.frozen
class Wait:
    """Dispose of the last response, wait ``seconds``, prepare retry number ``retries_taken``, then report ``Woke``."""

    seconds: float
    retries_taken: int


@attrs.frozen
class Deliver:
    """The end: the answer is good."""

    attempts: tuple[Attempt, ...]


@attrs.frozen
class Reject:
    """The end: the answer is an error status. ``retry_after``: seconds that the server asked to wait. ``reason``: why a
    redirect (3xx) was not followed."""

    attempts: tuple[Attempt, ...]
    retry_after: float | None = None
    reason: str | None = None


@attrs.frozen
class Fail:
    """The end: there is no answer. ``error`` is to be raised; :meth:`exception` puts the facts on it."""

    error: Exception
    attempts: tuple[Attempt, ...]

    def exception(self) -> Exception:
        """The error to raise; an :class:`APIError` knows its attempts."""
        if isinstance(self.error, APIError):
            self.error.attempts = self.attempts
        return self.error


_READ: Final = Read()
End: TypeAlias = Deliver | Reject | Fail
CallCommand: TypeAlias = Authorize | Send | Read | Wait | End


# --- the machine -----------------------------------------------------------------------------------------------------


@attrs.frozen
class CallPlan:
    """What does not change during a call.

    ``deadline`` is absolute, on the clock of the events. ``idempotency_header``: the field that makes any method safe
    to repeat. ``authorize``: credentials are asked for before each attempt. ``follow_redirects`` up to ``max_redirects`` in
    one attempt; from https to http only if ``allow_insecure_redirects``.
    """

    max_retries: int = 2
    policy: RetryPolicy = attrs.field(factory=RetryPolicy)
    deadline: float | None = None
    delivers: Delivery = Delivery.BODY
    idempotency_header: str = "idempotency-key"
    authorize: bool = False
    follow_redirects: bool = True
    max_redirects: int = redirect.MAX_REDIRECTS
    allow_insecure_redirects: bool = False


@attrs.define
class Call:
    """One call's state. ``random`` gives numbers in [0, 1), for the jitter of waits."""

    plan: CallPlan
    random: Callable[[], float] = attrs.field(eq=False, repr=False)
    state: CallState = CallState.READY
    retries_taken: int = 0
    attempts: tuple[Attempt, ...] = ()
    request: Request | None = None
    head: ResponseHead | None = None
    replaced: bool = False  # a dead idle connection was replaced in this attempt
    processed: bool = False  # the send that was replaced may have been processed all the same
    home: URL | None = None  # where the credentials on the request belong; None where they are not ours
    began_at_home: URL | None = None  # the same, as the attempt began
    refreshed: bool = False  # a 401 was answered with fresh credentials in this call
    first: Request | None = None  # what the attempt began with, once a redirect was followed
    redirects: int = 0  # followed in this attempt
    retracted: bool = False  # Expect was left out after a 417
    done: bool = False  # the server has done what ``first`` asked for, and said where the result is
    began: float = 0.0
    attempt_began: float = 0.0
    waited: float = 0.0

    def step(self, event: CallEvent) -> CallCommand:
        """Take one event, return what to do next. :class:`IllegalEvent` where the event cannot happen now."""
        handler = TRANSITIONS[self.state].get(type(event))
        if handler is None:
            raise IllegalEvent(f"{type(event).__name__} while {self.state.value}")
        return handler(self, event)

    # -- beginning attempts

    def _begin(self, event: Begin) -> CallCommand:
        self.began = self.attempt_began = event.now
        if self.plan.authorize:
            return self._send(event.request, authorize=True)
        self.request = event.request
        self.state = CallState.SENDING
        return Send(event.request)

    def _woke(self, event: Woke) -> CallCommand:
        self.attempt_began = event.now
        self.head = None
        self.replaced = self.processed = self.done = self.retracted = False
        self.first, self.redirects, self.began_at_home = None, 0, None
        return self._send(event.request, authorize=self.plan.authorize)

    def _send(self, request: Request, *, authorize: bool = False, refresh: bool = False) -> CallCommand:
        self.request = request
        if authorize:
            self.state = CallState.AUTHORIZING
            return Authorize(request, refresh)
        self.state = CallState.SENDING
        return Send(request)

    def _authorized(self, event: Authorized) -> CallCommand:
        self.home = event.request.url if event.refreshable else None
        self.began_at_home = self.began_at_home or self.home
        self.request = event.request
        self.state = CallState.SENDING
        return Send(event.request)

    # -- judging answers

    def resends(self, event: HeadReceived | AttemptFailed) -> bool:
        """Whether *event* would lead to another send inside this attempt. A question: it changes nothing.

        For a driver that has something standing around each attempt, which is not to see the sends apart.
        """
        if self.state is not CallState.SENDING:
            return False
        if isinstance(event, AttemptFailed):
            return self._replaces(event)
        request, head = self._sent(event), event.head
        if self._refreshes(request, head) or self._retracts(request, head) is not None:
            return True
        return isinstance(self._redirected(request, head), Request) and self.redirects < self.plan.max_redirects

    def begin_again(self) -> None:
        """A middleware sends the attempt's request once more: what the first one met on its way does not count."""
        self.home, self.first, self.redirects, self.retracted = self.began_at_home, None, 0, False

    def _sent(self, event: HeadReceived | AttemptFailed) -> Request:
        request = event.request or self.request
        assert request is not None  # every way to SENDING sets it
        return request

    def _refreshes(self, request: Request, head: ResponseHead) -> bool:
        at_home = self.home is not None and self.home.is_same_origin(request.url)
        return head.status_code == 401 and at_home and not self.refreshed and request.can_be_sent

    def _retracts(self, request: Request, head: ResponseHead) -> Request | None:
        return None if self.retracted else redirect.without_expectation(request, head)

    def _redirected(self, request: Request, head: ResponseHead) -> Request | str | None:
        """Where the answer leads: the request that follows it, or why none does, or None where it is no redirect."""
        if not redirect.is_redirect(head.status_code):
            return None
        plan = self.plan
        try:
            following = redirect.next_request(request, head, allow_insecure=plan.allow_insecure_redirects)
        except NotFollowed as exc:
            return str(exc)
        return following if plan.follow_redirects else "redirects are not followed: follow_redirects=False"

    def _replaces(self, event: AttemptFailed) -> bool:
        request = self._sent(event)
        return (
            event.reused
            and not self.replaced
            and event.retryable
            and request.can_be_sent
            and self._may_repeat(request, event.outcome)
        )

    def _head_received(self, event: HeadReceived) -> CallCommand:
        head = self.head = event.head
        if event.request is not None:
            self.request = event.request
        if 200 <= head.status_code < 300:
            if self.plan.delivers is not Delivery.HEAD:
                self.state = CallState.READING
                return _READ
            return self._deliver(event)
        request = self._sent(event)
        if self._refreshes(request, head):
            self.refreshed = True
            return self._send(request, authorize=True, refresh=True)
        if (plain := self._retracts(request, head)) is not None:
            self.retracted = True
            return self._send(plain)
        following = self._redirected(request, head)
        if isinstance(following, Request):
            if self.redirects >= self.plan.max_redirects:
                return self._too_many_redirects(event.now)
            return self._follow(request, following)
        worth_it = head.is_error and event.retry is not False
        if worth_it and event.retry is None:
            worth_it = retry.status_asks_for_retry(self.plan.policy, head.status_code, head.headers)
        advice = retry.server_advice(head.headers, event.posix_now)
        wait = self._maybe_wait(event.now, worth_it, advice, self._record(event.now))
        return wait or self._end(Reject(self.attempts, advice, following))

    def _follow(self, request: Request, following: Request) -> CallCommand:
        self.redirects += 1
        self.first = self.first or request
        self.done = self.done or following.method != request.method
        self.replaced = False  # this send may meet a dead idle connection of its own
        if self.home is not None and following.url.is_same_origin(request.url):
            return self._send(following, authorize=True)  # a signature covers the URL
        self.home = None
        return self._send(following)

    def _too_many_redirects(self, now: float) -> CallCommand:
        message = f"More than {self.plan.max_redirects} redirects were followed."
        error = TooManyRedirectsError(message, request=self.request, phase=Phase.RECEIVE)
        self.attempts += (attrs.evolve(self._record(now), error=f"TooManyRedirectsError: {message}"),)
        return self._end(Fail(error, self.attempts))

    def _deliver(self, event: HeadReceived | ResultReady) -> CallCommand:
        if self.plan.policy.budget is not None:
            self.plan.policy.budget.give_back()
        self.attempts += (self._record(event.now),)
        self.state = CallState.ENDED
        return Deliver(self.attempts)

    # -- judging failures

    def _send_failed(self, event: AttemptFailed) -> CallCommand:
        request = self.request = self._sent(event)
        if self._replaces(event):
            self.replaced, self.processed = True, event.outcome is Outcome.UNKNOWN
            return Send(request)
        return self._failed(event, event.retryable and self._may_repeat(request, event.outcome))

    def _read_failed(self, event: AttemptFailed) -> CallCommand:
        request = self.request
        assert request is not None  # every way to READING sets it
        if event.status_code is not None:  # the first event of a stream was an error: judged like that status
            return self._failed(event, retry.status_asks_for_retry(self.plan.policy, event.status_code, {}))
        return self._failed(event, event.retryable and self._may_repeat(request, event.outcome))

    def _authorize_failed(self, event: AttemptFailed) -> CallCommand:
        if event.status_code is not None:  # who gives the credentials answered with an error
            return self._failed(event, retry.status_asks_for_retry(self.plan.policy, event.status_code, {}))
        return self._failed(event, event.retryable)

    def _may_repeat(self, request: Request, outcome: Outcome) -> bool:
        return retry.may_repeat(self.plan.policy, request, outcome, self.plan.idempotency_header)

    def _failed(self, event: AttemptFailed, worth_it: bool) -> CallCommand:
        outcome = self._outcome(event.outcome)
        if outcome is not event.outcome and isinstance(event.error, APIConnectionError):
            event.error.outcome = outcome
        name = type(event.error).__name__
        status = event.status_code or (self.head.status_code if self.head is not None else None)
        record = attrs.evolve(
            self._record(event.now),
            status_code=status,
            error=f"{name}: {event.error}",
            phase=event.phase,
            outcome=outcome,
        )
        return self._maybe_wait(event.now, worth_it, event.advice, record) or self._end(
            Fail(event.error, self.attempts)
        )

    @property
    def outcome_so_far(self) -> Outcome:
        """What is known of the attempt where nothing is under way: for a failure to get credentials."""
        return Outcome.UNKNOWN if self.done or self.processed else Outcome.NOT_SENT

    def _outcome(self, outcome: Outcome) -> Outcome:
        """What is known of the whole attempt, whose last send ended with *outcome*."""
        unsent = outcome is Outcome.NOT_SENT or outcome is Outcome.REFUSED
        return Outcome.UNKNOWN if unsent and (self.processed or self.done) else outcome

    def _expired(self, event: Expired) -> CallCommand:
        outcome = self._outcome(event.outcome)
        error = DeadlineExceededError(
            self._where_the_time_went(event), request=self.request, phase=event.phase, outcome=outcome
        )
        error.timings, error.body_size = event.timings, event.body_size
        if self.state is not CallState.WAITING:
            record = attrs.evolve(
                self._record(event.now),
                error="DeadlineExceededError",
                phase=event.phase,
                outcome=outcome,
            )
            self.attempts += (record,)
        return self._end(Fail(error, self.attempts))

    # -- what the handlers share

    def _record(self, now: float) -> Attempt:
        """What the attempt that ends now met."""
        return Attempt(
            started=self.attempt_began - self.began,
            elapsed=now - self.attempt_began,
            status_code=None if self.head is None else self.head.status_code,
        )

    @property
    def _may_begin_again(self) -> bool:
        """Whether the attempt's first request may be sent again, where a redirect has led away from it."""
        first = self.first
        if first is None:
            return True
        repeatable = not self.done or self._may_repeat(first, Outcome.UNKNOWN)
        return repeatable and first.can_be_sent

    def _maybe_wait(self, now: float, worth_it: bool, advice: float | None, record: Attempt) -> Wait | None:
        """A retry, if all agree: the rule, the budget, the count, the bodies, the server's advice and the deadline.

        Keeps the attempt's record either way.
        """
        plan = self.plan
        worth_it = worth_it and self._may_begin_again
        if worth_it and plan.policy.budget is not None:
            plan.policy.budget.take()
            worth_it = plan.policy.budget.allows_retry
        if worth_it and self.retries_taken < plan.max_retries and self.request is not None and self.request.can_be_sent:
            seconds = retry.wait_before(
                plan.policy, self.retries_taken, self.random, advice=advice, now=now, deadline=plan.deadline
            )
            if seconds is not None:
                self.attempts += (attrs.evolve(record, wait=seconds),)
                self.retries_taken += 1
                self.waited += seconds
                self.state = CallState.WAITING
                return Wait(seconds, self.retries_taken)
        self.attempts += (record,)
        return None

    def _end(self, command: End) -> CallCommand:
        self.state = CallState.ENDED
        return command

    def _where_the_time_went(self, event: Expired) -> str:
        doing = _DOING.get(self.state) or f"in phase {event.phase or 'send'}"
        count = len(self.attempts) + (self.state is not CallState.WAITING)
        parts = [f"attempt {count}", f"waits {round(self.waited, 3):g} s"]
        if event.timings is not None and (spent := str(event.timings)):
            parts.append(spent)
        if event.body_size is not None:
            parts.append(f"{event.body_size} bytes of the body so far")
        total = self.plan.deadline - self.began if self.plan.deadline is not None else event.now - self.began
        # It was made a moment before the call began.
        shown = round(total, 2) if total > 0.1 else float(f"{total:.1g}")
        return f"The deadline of {shown:g} s passed {doing} ({', '.join(parts)})."


_DOING: Final = {
    CallState.AUTHORIZING: "while getting credentials",
    CallState.WAITING: "between two attempts",
}

# state -> event -> handler. An absent cell is illegal. docs/design.md draws this table.
TRANSITIONS: Final[dict[CallState, dict[type, Callable[..., CallCommand]]]] = {
    CallState.READY: {Begin: Call._begin},
    CallState.AUTHORIZING: {
        Authorized: Call._authorized,
        AttemptFailed: Call._authorize_failed,
        Expired: Call._expired,
    },
    CallState.SENDING: {
        HeadReceived: Call._head_received,
        ResultReady: Call._deliver,
        AttemptFailed: Call._send_failed,
        Expired: Call._expired,
    },
    CallState.READING: {
        ResultReady: Call._deliver,
        AttemptFailed: Call._read_failed,
        Expired: Call._expired,
    },
    CallState.WAITING: {Woke: Call._woke, Expired: Call._expired},
    CallState.ENDED: {},
}
