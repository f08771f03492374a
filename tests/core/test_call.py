"""The call machine: golden transcripts, and any event in any state."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyio_client._core.call import (
    TRANSITIONS,
    AttemptFailed,
    Authorize,
    Authorized,
    Begin,
    Call,
    CallPlan,
    CallState,
    Deliver,
    Delivery,
    Expired,
    Fail,
    HeadReceived,
    IllegalEvent,
    Read,
    Reject,
    ResultReady,
    Send,
    Wait,
    Woke,
)
from anyio_client._core.retry import RetryBudget, RetryPolicy
from anyio_client._model.errors import (
    APIConnectionError,
    APIError,
    Attempt,
    ConnectionLostError,
    DeadlineExceededError,
    Outcome,
    Phase,
)
from anyio_client._model.head import ResponseHead
from anyio_client._model.headers import Headers
from anyio_client._model.request import Request, StreamedBody
from anyio_client._model.timeouts import Timings
from anyio_client._model.url import URL
from tests.kit.fuzz import examples


def request(method: str = "GET", **headers: str) -> Request:
    return Request(method, "https://h/", headers={name.replace("_", "-"): value for name, value in headers.items()})


def head(status: int = 200, **headers: str) -> ResponseHead:
    return ResponseHead(status, Headers({name.replace("_", "-"): value for name, value in headers.items()}))


def make(plan: CallPlan | None = None, random: float = 0.0) -> Call:
    return Call(plan or CallPlan(), lambda: random)


def run(call: Call, events: Iterable[Any]) -> list[Any]:
    return [call.step(event) for event in events]


def answers(statuses: Sequence[int], plan: CallPlan | None = None, **headers: str) -> tuple[Call, list[Any]]:
    """The commands of a GET that gets these statuses, each 0.1 s after its send."""
    call = make(plan)
    now = 0.0
    commands = [call.step(Begin(now, request()))]
    for status in statuses:
        now += 0.1
        command = call.step(HeadReceived(now, 0.0, head(status, **headers)))
        commands.append(command)
        if isinstance(command, Read):
            commands.append(call.step(ResultReady(now)))
        elif isinstance(command, Wait):
            now += command.seconds
            commands.append(call.step(Woke(now, request())))
    return call, commands


def kinds(commands: Iterable[Any]) -> list[str]:
    return [type(command).__name__ for command in commands]


# --- golden transcripts ------------------------------------------------------------------------------------------


def test_a_good_answer_is_read_and_delivered() -> None:
    call, commands = answers([200])
    assert kinds(commands) == ["Send", "Read", "Deliver"]
    assert commands[0].request == request()
    assert commands[-1].attempts == (Attempt(started=0.0, elapsed=0.1, status_code=200),)
    assert call.state is CallState.ENDED


@pytest.mark.parametrize("status", [200, 201, 204, 206, 299])
def test_every_2xx_is_good(status: int) -> None:
    assert kinds(answers([status])[1]) == ["Send", "Read", "Deliver"]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (300, "a redirect without Location"),
        (302, "a redirect without Location"),
        (304, "not modified"),
        (400, None),
        (401, None),
        (404, None),
        (417, None),
        (422, None),
    ],
)
def test_what_is_no_success_is_rejected(status: int, reason: str | None) -> None:
    call, commands = answers([status])
    assert kinds(commands) == ["Send", "Reject"]
    assert commands[-1].retry_after is None
    assert commands[-1].reason == reason
    assert commands[-1].attempts[0].status_code == status


def test_500_500_500_with_two_retries_waits_half_a_second_and_one() -> None:
    call, commands = answers([500, 500, 500])
    assert kinds(commands) == ["Send", "Wait", "Send", "Wait", "Send", "Reject"]
    assert [c for c in commands if isinstance(c, Wait)] == [Wait(0.5, 1), Wait(1.0, 2)]
    assert call.retries_taken == 2
    assert [(a.status_code, a.wait) for a in commands[-1].attempts] == [(500, 0.5), (500, 1.0), (500, None)]
    assert [round(a.started, 6) for a in commands[-1].attempts] == [0.0, 0.6, 1.7]
    assert [round(a.elapsed, 6) for a in commands[-1].attempts] == [0.1, 0.1, 0.1]
    assert call.waited == 1.5


def test_jitter_shortens_a_wait() -> None:
    call = make(random=0.5)
    assert run(call, [Begin(0, request()), HeadReceived(0, 0, head(500))])[1] == Wait(0.4375, 1)


def test_a_retry_that_succeeds() -> None:
    _, commands = answers([503, 200])
    assert kinds(commands) == ["Send", "Wait", "Send", "Read", "Deliver"]
    assert [a.status_code for a in commands[-1].attempts] == [503, 200]


def test_no_retries_means_none() -> None:
    assert kinds(answers([500], CallPlan(max_retries=0))[1]) == ["Send", "Reject"]


def test_a_servers_delay_is_used_as_it_is() -> None:
    call = make(random=0.9)
    assert run(call, [Begin(0, request()), HeadReceived(0, 0, head(429, Retry_After="100"))])[1] == Wait(100.0, 1)
    call = make()
    assert run(call, [Begin(0, request()), HeadReceived(0, 0, head(429, Retry_After="120"))])[1] == Wait(120.0, 1)


def test_a_date_counts_from_posix_time() -> None:
    call = make()
    fields = head(429, Retry_After="Sun, 06 Nov 1994 08:49:39 GMT")
    assert run(call, [Begin(5, request()), HeadReceived(5, 784111777.0, fields)])[1] == Wait(2.0, 1)


def test_a_delay_that_is_too_long_is_raised_at_once() -> None:
    call = make()
    command = run(call, [Begin(0, request()), HeadReceived(0, 0, head(429, Retry_After="100000"))])[1]
    assert isinstance(command, Reject)
    assert command.retry_after == 100000.0
    assert call.retries_taken == 0


def test_advice_is_kept_on_every_status_error() -> None:
    command = run(make(), [Begin(0, request()), HeadReceived(0, 0, head(400, Retry_After="3"))])[1]
    assert isinstance(command, Reject)
    assert command.retry_after == 3.0


def test_a_wait_that_would_pass_the_deadline_is_not_begun() -> None:
    plan = CallPlan(deadline=10.0)
    command = run(make(plan), [Begin(9.4, request()), HeadReceived(9.5, 0, head(500))])[1]
    assert isinstance(command, Reject)
    command = run(make(plan), [Begin(9.4, request()), HeadReceived(9.49, 0, head(500))])[1]
    assert command == Wait(0.5, 1)


def test_the_users_own_rule_decides_about_error_statuses() -> None:
    def judged(status: int, retry: bool | None) -> str:
        command = run(make(), [Begin(0, request()), HeadReceived(0, 0, head(status), retry)])[1]
        return type(command).__name__

    assert [judged(500, False), judged(404, True), judged(500, None), judged(404, None)] == [
        "Reject",
        "Wait",
        "Wait",
        "Reject",
    ]
    assert judged(304, True) == "Reject"


def test_a_body_that_cannot_be_sent_again_is_not_retried() -> None:
    body = StreamedBody(iter([b"x"]), replayable=False)
    sent = Request("PUT", "https://h/", content=body)
    call = make()
    call.step(Begin(0, sent))
    body.used = True
    assert isinstance(call.step(HeadReceived(0, 0, head(500), True)), Reject)
    assert call.retries_taken == 0


def test_a_body_that_nobody_asked_for_is_sent_after_a_refused_connection() -> None:
    sent = Request("POST", "https://h/", content=StreamedBody(iter([b"x"]), replayable=False))
    error = APIConnectionError("refused")
    commands = run(make(), [Begin(0, sent), AttemptFailed(0, error, Outcome.NOT_SENT)])
    assert kinds(commands) == ["Send", "Wait"]


# --- failures ----------------------------------------------------------------------------------------------------


def lost(outcome: Outcome = Outcome.UNKNOWN, **facts: Any) -> AttemptFailed:
    return AttemptFailed(1.0, ConnectionLostError("gone"), outcome, Phase.RECEIVE, **facts)


def test_a_post_whose_connection_dies_is_sent_once() -> None:
    commands = run(make(), [Begin(0, request("POST")), lost()])
    assert kinds(commands) == ["Send", "Fail"]
    error = commands[1].exception()
    assert isinstance(error, ConnectionLostError)
    assert error.attempts == (Attempt(0.0, 1.0, None, "ConnectionLostError: gone", Phase.RECEIVE, Outcome.UNKNOWN),)


def test_a_post_with_an_idempotency_key_is_sent_again() -> None:
    commands = run(make(), [Begin(0, request("POST", Idempotency_Key="k")), lost()])
    assert kinds(commands) == ["Send", "Wait"]


def test_the_field_that_makes_a_request_safe_is_the_plans() -> None:
    plan = CallPlan(idempotency_header="X-Key")
    assert kinds(run(make(plan), [Begin(0, request("POST", X_Key="k")), lost()])) == ["Send", "Wait"]
    assert kinds(run(make(plan), [Begin(0, request("POST", Idempotency_Key="k")), lost()])) == ["Send", "Fail"]


def test_a_dead_idle_connection_is_replaced_once_without_a_retry() -> None:
    call = make()
    commands = run(call, [Begin(0, request()), lost(reused=True), lost(reused=True)])
    assert kinds(commands) == ["Send", "Send", "Wait"]
    assert commands[1] == Send(request())
    assert call.retries_taken == 1  # that of the Wait
    commands = run(call, [Woke(2, request()), lost(reused=True), HeadReceived(2, 0, head()), ResultReady(2)])
    assert kinds(commands) == ["Send", "Send", "Read", "Deliver"]
    assert len(commands[-1].attempts) == 2


def test_what_a_replaced_send_may_have_done_stays_known() -> None:
    call = make(CallPlan(max_retries=0))
    commands = run(call, [Begin(0, request()), lost(reused=True), Expired(3, Outcome.NOT_SENT, Phase.TLS)])
    assert isinstance(commands[-1], Fail)
    assert commands[-1].exception().outcome is Outcome.UNKNOWN
    call = make(CallPlan(max_retries=0))
    commands = run(call, [Begin(0, request()), lost(reused=True), lost(Outcome.NOT_SENT)])
    assert isinstance(commands[-1], Fail)
    assert commands[-1].exception().outcome is Outcome.UNKNOWN
    assert commands[-1].attempts[-1].outcome is Outcome.UNKNOWN
    call = make(CallPlan(max_retries=0))
    commands = run(call, [Begin(0, request()), lost(Outcome.REFUSED, reused=True), lost(Outcome.NOT_SENT)])
    assert isinstance(commands[-1], Fail)
    assert commands[-1].attempts[-1].outcome is Outcome.NOT_SENT


@pytest.mark.parametrize(
    ("method", "outcome", "command"),
    [
        ("GET", Outcome.UNKNOWN, "Send"),
        ("POST", Outcome.UNKNOWN, "Fail"),
        ("POST", Outcome.NOT_SENT, "Send"),
    ],
)
def test_a_dead_idle_connection_is_replaced_only_where_that_is_safe(
    method: str, outcome: Outcome, command: str
) -> None:
    assert kinds(run(make(CallPlan(max_retries=0)), [Begin(0, request(method)), lost(outcome, reused=True)])) == [
        "Send",
        command,
    ]


def test_a_used_body_is_not_sent_on_a_replacement_either() -> None:
    body = StreamedBody(iter([b"x"]), replayable=False, used=True)
    sent = Request("PUT", "https://h/", content=body)
    assert kinds(run(make(), [Begin(0, sent), lost(reused=True)])) == ["Send", "Fail"]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_what_cannot_be_helped_is_not_retried(outcome: Outcome) -> None:
    for facts in ({}, {"reused": True}):
        assert kinds(run(make(), [Begin(0, request()), lost(outcome, retryable=False, **facts)])) == ["Send", "Fail"]


def test_a_body_lost_after_a_good_head_is_an_attempt_that_failed() -> None:
    call = make()
    commands = run(call, [Begin(0, request()), HeadReceived(0, 0, head()), lost(Outcome.ANSWERED, reused=True)])
    assert kinds(commands) == ["Send", "Read", "Wait"]
    assert call.attempts[0].status_code == 200
    assert call.attempts[0].error == "ConnectionLostError: gone"
    commands = run(make(), [Begin(0, request("POST")), HeadReceived(0, 0, head()), lost(Outcome.ANSWERED)])
    assert kinds(commands) == ["Send", "Read", "Fail"]
    commands = run(make(), [Begin(0, request()), HeadReceived(0, 0, head()), lost(Outcome.ANSWERED, retryable=False)])
    assert kinds(commands) == ["Send", "Read", "Fail"]


def test_a_request_that_surely_was_not_processed_is_repeated_even_while_its_answer_is_read() -> None:
    commands = run(make(), [Begin(0, request("POST")), HeadReceived(0, 0, head()), lost(Outcome.REFUSED)])
    assert kinds(commands) == ["Send", "Read", "Wait"]


def test_a_new_attempt_forgets_the_last_answer() -> None:
    call = make()
    run(call, [Begin(0, request()), HeadReceived(0, 0, head(500)), Woke(1, request())])
    assert call.head is None
    commands = run(call, [AttemptFailed(2, ConnectionLostError("gone"), Outcome.UNKNOWN)])
    assert kinds(commands) == ["Wait"]
    assert call.attempts[1].status_code is None


@pytest.mark.parametrize(("status", "command"), [(529, "Wait"), (429, "Wait"), (400, "Fail"), (404, "Fail")])
def test_an_error_event_that_comes_first_is_judged_by_its_status(status: int, command: str) -> None:
    failed = AttemptFailed(0, APIError("overloaded"), Outcome.ANSWERED, status_code=status)
    call = make(CallPlan(delivers=Delivery.FIRST_EVENT))
    commands = run(call, [Begin(0, request("POST")), HeadReceived(0, 0, head()), failed])
    assert kinds(commands) == ["Send", "Read", command]
    assert call.attempts[0].status_code == status


def test_open_delivers_at_the_head() -> None:
    commands = run(make(CallPlan(delivers=Delivery.HEAD)), [Begin(0, request()), HeadReceived(0, 0, head())])
    assert kinds(commands) == ["Send", "Deliver"]
    assert len(commands[1].attempts) == 1


def test_a_finished_result_needs_no_judging() -> None:
    assert kinds(run(make(), [Begin(0, request()), ResultReady(0)])) == ["Send", "Deliver"]


def test_errors_of_other_kinds_come_out_as_they_are() -> None:
    error = ValueError("mine")
    fail = Fail(error, ())
    assert fail.exception() is error
    assert not hasattr(error, "attempts")


# --- credentials -------------------------------------------------------------------------------------------------


AUTHORIZED = CallPlan(authorize=True)


def test_credentials_come_before_each_attempt() -> None:
    call = make(AUTHORIZED)
    fresh = request(Authorization="Bearer x")
    commands = run(
        call,
        [Begin(0, request()), Authorized(0, fresh), HeadReceived(0, 0, head(500)), Woke(1, request())],
    )
    assert commands[0] == Authorize(request(), refresh=False)
    assert commands[1] == Send(fresh)
    assert kinds(commands) == ["Authorize", "Send", "Wait", "Authorize"]


def test_a_401_refreshes_once_without_a_retry() -> None:
    call = make(AUTHORIZED)
    commands = run(
        call,
        [
            Begin(0, request()),
            Authorized(0, request()),
            HeadReceived(0, 0, head(401)),
            Authorized(0, request(Authorization="new")),
            HeadReceived(0, 0, head(401)),
        ],
    )
    assert kinds(commands) == ["Authorize", "Send", "Authorize", "Send", "Reject"]
    assert commands[2] == Authorize(request(), refresh=True)
    assert call.retries_taken == 0
    assert len(commands[-1].attempts) == 1


def test_a_401_does_not_refresh_without_credentials_or_for_a_used_body() -> None:
    assert kinds(run(make(), [Begin(0, request()), HeadReceived(0, 0, head(401))])) == ["Send", "Reject"]
    used = Request("PUT", "https://h/", content=StreamedBody(iter([b""]), replayable=False, used=True))
    events = [Begin(0, used), Authorized(0, used), HeadReceived(0, 0, head(401))]
    assert kinds(run(make(AUTHORIZED), events)) == ["Authorize", "Send", "Reject"]


def test_credentials_that_cannot_be_had_are_a_failed_attempt() -> None:
    failed = AttemptFailed(0, APIConnectionError("x"), Outcome.UNKNOWN)
    assert kinds(run(make(AUTHORIZED), [Begin(0, request("POST")), failed])) == ["Authorize", "Wait"]
    failed = attrs.evolve(failed, retryable=False)
    assert kinds(run(make(AUTHORIZED), [Begin(0, request("POST")), failed])) == ["Authorize", "Fail"]


# --- the deadline ------------------------------------------------------------------------------------------------


def test_an_expired_call_says_where_the_time_went() -> None:
    call = make(CallPlan(deadline=101.5))
    timings = Timings(queue=0.25, connect=0.5)
    events = [
        Begin(100.0, request()),
        HeadReceived(100.25, 0, head(500)),
        Woke(100.75, request()),
        HeadReceived(100.8, 0, head()),
        Expired(101.5, Outcome.ANSWERED, Phase.BODY, timings, 12),
    ]
    fail = run(call, events)[-1]
    assert isinstance(fail, Fail)
    error = fail.exception()
    assert isinstance(error, DeadlineExceededError)
    assert error.message == (
        "The deadline of 1.5 s passed in phase body (attempt 2, waits 0.5 s, queue 0.250 s, connect 0.500 s, "
        "12 bytes of the body so far)."
    )
    assert (error.phase, error.outcome) == (Phase.BODY, Outcome.ANSWERED)
    assert error.request == request()
    assert [a.error for a in error.attempts] == [None, "DeadlineExceededError"]
    assert error.attempts[1] == Attempt(0.75, 0.75, 200, "DeadlineExceededError", Phase.BODY, Outcome.ANSWERED)


def test_the_deadline_that_passed_is_named_however_late_that_was_noticed() -> None:
    fail = run(make(CallPlan(deadline=101.5)), [Begin(100.0, request()), Expired(107.0)])[-1]
    assert fail.exception().message == "The deadline of 1.5 s passed in phase send (attempt 1, waits 0 s)."


def test_a_deadline_that_passes_between_attempts_adds_none() -> None:
    call = make(CallPlan(deadline=1.0))
    fail = run(call, [Begin(0, request()), HeadReceived(0.25, 0, head(500)), Expired(1.0)])[-1]
    error = fail.exception()
    assert error.message == "The deadline of 1 s passed between two attempts (attempt 1, waits 0.5 s)."
    assert len(error.attempts) == 1
    assert error.outcome is Outcome.NOT_SENT


def test_a_deadline_that_passes_while_credentials_are_got_says_so() -> None:
    fail = run(make(CallPlan(deadline=1.0, authorize=True)), [Begin(0, request()), Expired(1.0)])[-1]
    assert fail.exception().message.startswith("The deadline of 1 s passed while getting credentials (attempt 1,")


def test_without_a_plan_the_time_since_the_beginning_is_named() -> None:
    fail = run(make(), [Begin(1.0, request()), Expired(3.0, phase=None)])[-1]
    assert fail.exception().message == "The deadline of 2 s passed in phase send (attempt 1, waits 0 s)."


# --- the budget --------------------------------------------------------------------------------------------------


def test_failures_use_up_the_budget_and_successes_give_back() -> None:
    budget = RetryBudget(max_tokens=4, token_ratio=0.5)
    plan = CallPlan(policy=RetryPolicy(budget=budget))
    assert kinds(answers([500, 500], plan)[1]) == ["Send", "Wait", "Send", "Reject"]
    assert budget.tokens == 2
    assert kinds(answers([404], plan)[1]) == ["Send", "Reject"]
    assert budget.tokens == 2
    assert kinds(answers([200], plan)[1]) == ["Send", "Read", "Deliver"]
    assert budget.tokens == 2.5


# --- the machine as a value --------------------------------------------------------------------------------------


def test_a_machine_prints_copies_and_compares() -> None:
    call = make()
    call.step(Begin(0, request()))
    other = copy.copy(call)
    assert other == call
    assert "SENDING" in repr(call)
    other.step(HeadReceived(0, 0, head()))
    assert other != call
    assert call.state is CallState.SENDING
    assert copy.deepcopy(call) == call


def test_an_event_that_cannot_happen_is_the_drivers_bug() -> None:
    call = make()
    with pytest.raises(IllegalEvent, match="Woke while ready"):
        call.step(Woke(0, request()))
    run(call, [Begin(0, request()), HeadReceived(0, 0, head(404))])
    with pytest.raises(IllegalEvent, match="ResultReady while ended"):
        call.step(ResultReady(0))


# --- any event in any state --------------------------------------------------------------------------------------

REQUESTS = st.builds(
    request,
    st.sampled_from(["GET", "POST", "PATCH"]),
    Idempotency_Key=st.sampled_from(["", "k"]),
    Expect=st.sampled_from(["", "100-continue"]),
) | st.builds(
    lambda used: Request("PUT", "https://h/", content=StreamedBody(iter([b"x"]), replayable=False, used=used)),
    st.booleans(),
)
TIMES = st.floats(min_value=0, max_value=1e6)
HEADS = st.builds(
    lambda status, fields: ResponseHead(status, Headers(fields)),
    st.integers(100, 999) | st.sampled_from([301, 303, 307, 401, 417]),
    st.dictionaries(
        st.sampled_from(["Retry-After", "retry-after-ms", "x-should-retry", "Location"]),
        st.sampled_from(["", "1", "true", "false", "100000", "//x", "http://h/", "Sun, 06 Nov 1994 08:49:39 GMT"]),
    ),
)
EVENTS: dict[type, st.SearchStrategy[Any]] = {
    Begin: st.builds(Begin, TIMES, REQUESTS),
    Authorized: st.builds(Authorized, TIMES, REQUESTS, st.booleans()),
    HeadReceived: st.builds(HeadReceived, TIMES, TIMES, HEADS, st.none() | st.booleans(), st.none() | REQUESTS),
    ResultReady: st.builds(ResultReady, TIMES),
    AttemptFailed: st.builds(
        AttemptFailed,
        TIMES,
        st.builds(ConnectionLostError, st.just("x")) | st.builds(APIError, st.just("x")),
        st.sampled_from(list(Outcome)),
        st.none() | st.sampled_from(list(Phase)),
        st.booleans(),
        st.booleans(),
        st.none() | st.integers(400, 599),
    ),
    Woke: st.builds(Woke, TIMES, REQUESTS),
    Expired: st.builds(
        Expired,
        TIMES,
        st.sampled_from(list(Outcome)),
        st.none() | st.sampled_from(list(Phase)),
        st.none() | st.just(Timings(queue=1.0)),
        st.none() | st.just(3),
    ),
}
PLANS = st.builds(
    CallPlan,
    max_retries=st.integers(0, 3),
    policy=st.builds(
        RetryPolicy,
        retry_unsafe=st.booleans(),
        budget=st.none() | st.builds(RetryBudget, max_tokens=st.just(3.0), token_ratio=st.just(0.5)),
    ),
    deadline=st.none() | TIMES,
    delivers=st.sampled_from(list(Delivery)),
    authorize=st.booleans(),
    follow_redirects=st.booleans(),
    max_redirects=st.integers(0, 3),
    allow_insecure_redirects=st.booleans(),
)
# The commands that each cell of DESIGN 3.1 allows.
ALLOWED: dict[CallState, dict[type, set[type]]] = {
    CallState.READY: {Begin: {Send, Authorize}},
    CallState.AUTHORIZING: {Authorized: {Send}, AttemptFailed: {Wait, Fail}, Expired: {Fail}},
    CallState.SENDING: {
        HeadReceived: {Read, Deliver, Reject, Wait, Fail, Send, Authorize},
        ResultReady: {Deliver},
        AttemptFailed: {Send, Wait, Fail},
        Expired: {Fail},
    },
    CallState.READING: {ResultReady: {Deliver}, AttemptFailed: {Wait, Fail, Reject}, Expired: {Fail}},
    CallState.WAITING: {Woke: {Send, Authorize}, Expired: {Fail}},
    CallState.ENDED: {},
}
STATE_AFTER = {
    Send: CallState.SENDING,
    Authorize: CallState.AUTHORIZING,
    Read: CallState.READING,
    Wait: CallState.WAITING,
    Deliver: CallState.ENDED,
    Reject: CallState.ENDED,
    Fail: CallState.ENDED,
}


def test_the_table_has_exactly_the_cells_of_the_design() -> None:
    assert {state: set(row) for state, row in TRANSITIONS.items()} == {s: set(row) for s, row in ALLOWED.items()}


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """A machine in any state, reached or not."""
    return Call(
        draw(PLANS),
        lambda: 0.5,
        state=draw(st.sampled_from(list(CallState))),
        retries_taken=draw(st.integers(0, 3)),
        request=draw(REQUESTS),
        head=draw(st.none() | HEADS),
        replaced=draw(st.booleans()),
        processed=draw(st.booleans()),
        home=draw(st.sampled_from([None, URL("https://h/"), URL("https://other/")])),
        refreshed=draw(st.booleans()),
        first=draw(st.none() | REQUESTS),
        redirects=draw(st.integers(0, 4)),
        done=draw(st.booleans()),
        began=draw(TIMES),
        attempt_began=draw(TIMES),
    )


@given(calls(), st.sampled_from(list(EVENTS)).flatmap(lambda kind: EVENTS[kind]))
@settings(max_examples=examples(500))
def test_any_event_in_any_state_gives_an_allowed_command_or_is_illegal(call: Call, event: Any) -> None:
    state, taken, before = call.state, call.retries_taken, len(call.attempts)
    asked = isinstance(event, HeadReceived | AttemptFailed)
    known = copy.copy(call)
    resends = asked and call.resends(event)
    assert call == known  # a question changes nothing
    allowed = ALLOWED[state].get(type(event))
    if allowed is None:
        with pytest.raises(IllegalEvent):
            call.step(event)
        assert call.state is state
        return
    command = call.step(event)
    assert type(command) in allowed
    if asked and state is CallState.SENDING:
        assert resends is isinstance(command, Send | Authorize)
    else:
        assert not resends
    assert call.state is STATE_AFTER[type(command)]
    if isinstance(command, Wait):
        assert command.retries_taken == call.retries_taken == taken + 1
        assert taken < call.plan.max_retries
        assert 0 <= command.seconds <= max(8.0, call.plan.policy.wait_server_max)
        assert call.plan.deadline is None or event.now + command.seconds < call.plan.deadline
        assert call.request is not None
        assert call.request.can_be_sent
    else:
        assert call.retries_taken == taken
    if isinstance(command, Deliver | Reject | Wait):
        assert len(call.attempts) == before + 1
    if isinstance(command, Fail) and state is not CallState.WAITING:
        assert len(call.attempts) == before + 1


@given(PLANS, st.data())
def test_every_walk_ends_within_the_retries(plan: CallPlan, data: st.DataObject) -> None:
    call = Call(plan, lambda: 0.0)
    sends = 0
    for _ in range(300):
        if call.state is CallState.ENDED:
            break
        kind = data.draw(st.sampled_from(sorted(TRANSITIONS[call.state], key=lambda k: k.__name__)))
        command = call.step(data.draw(EVENTS[kind]))
        sends += isinstance(command, Send)
    assert call.state is CallState.ENDED
    # Each attempt may follow redirects and be sent without Expect, each of these may replace one connection, and one 401
    # may be answered.
    assert sends <= 2 * (plan.max_retries + 1) * (plan.max_redirects + 2) + 1
    assert len(call.attempts) <= plan.max_retries + 1
