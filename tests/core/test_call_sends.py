"""The call machine: several sends in one attempt (redirects, 401, 417), and whether the attempt may begin again."""

from __future__ import annotations

from typing import Any

import pytest

from anyio_client._core.call import (
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
    Reject,
    ResultReady,
    Send,
    Wait,
    Woke,
)
from anyio_client._core.retry import RetryPolicy
from anyio_client._model.errors import APIConnectionError, Outcome, Phase, TooManyRedirectsError
from anyio_client._model.request import Request, StreamedBody
from tests.core.test_call import AUTHORIZED, head, kinds, lost, make, request, run


def moved(status: int = 302, location: str = "/next") -> HeadReceived:
    return HeadReceived(1.0, 0, head(status, Location=location))


def answer(status: int = 200, **facts: Any) -> HeadReceived:
    return HeadReceived(2.0, 0, head(status), **facts)


def urls(commands: list[Any]) -> list[str]:
    return [str(command.request.url) for command in commands if isinstance(command, Send)]


# --- redirects -------------------------------------------------------------------------------------------------------


def test_a_redirect_is_a_send_and_no_attempt() -> None:
    call = make()
    commands = run(call, [Begin(0, request()), moved(), moved(307, "https://other/x"), answer(), ResultReady(3)])
    assert kinds(commands) == ["Send", "Send", "Send", "Read", "Deliver"]
    assert urls(commands) == ["https://h/", "https://h/next", "https://other/x"]
    assert (call.redirects, call.retries_taken, len(call.attempts)) == (2, 0, 1)
    assert (call.attempts[0].status_code, call.attempts[0].elapsed) == (200, 3.0)
    commands = run(make(CallPlan(delivers=Delivery.HEAD)), [Begin(0, request()), moved(), answer()])
    assert kinds(commands) == ["Send", "Send", "Deliver"]


@pytest.mark.parametrize("limit", [0, 1, 3, 20])
def test_one_redirect_too_many_is_an_error_that_is_not_retried(limit: int) -> None:
    plan = CallPlan() if limit == 20 else CallPlan(max_redirects=limit)
    call = make(plan)
    commands = run(call, [Begin(0, request()), *[moved()] * (limit + 1)])
    assert kinds(commands) == ["Send"] * (limit + 1) + ["Fail"]
    error = commands[-1].exception()
    assert isinstance(error, TooManyRedirectsError)
    assert error.message == f"More than {limit} redirects were followed."
    assert error.request is call.request
    assert error.phase is Phase.RECEIVE
    assert [(a.status_code, a.error) for a in error.attempts] == [(302, f"TooManyRedirectsError: {error.message}")]
    assert call.retries_taken == 0
    commands = run(make(plan), [Begin(0, request()), *[moved()] * limit, answer(), ResultReady(3)])
    assert kinds(commands)[-2:] == ["Read", "Deliver"]


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (answer(304), "not modified"),
        (answer(302), "a redirect without Location"),
        (moved(300), "status 300 is not followed"),
        (moved(302, "ftp://h:21/"), "the Location has the scheme 'ftp'"),
        (moved(302, "http://h/"), "it leads from https to http, which allow_insecure_redirects would allow"),
    ],
)
@pytest.mark.parametrize("limit", [0, 2])
def test_what_would_not_be_followed_is_not_one_too_many(limit: int, last: HeadReceived, reason: str) -> None:
    """BEHAVIOUR 7: what is not followed for any reason but the count is a status error with the reason."""
    commands = run(make(CallPlan(max_redirects=limit)), [Begin(0, request()), *[moved()] * limit, last])
    assert kinds(commands) == ["Send"] * (limit + 1) + ["Reject"]
    assert commands[-1].reason == reason


def test_a_retry_begins_with_the_first_request_and_counts_anew() -> None:
    call = make(CallPlan(max_redirects=2))
    commands = run(call, [Begin(0, request()), moved(), moved(), answer(503), Woke(3, request()), moved(), moved()])
    assert kinds(commands) == ["Send", "Send", "Send", "Wait", "Send", "Send", "Send"]
    assert urls(commands)[3] == "https://h/"
    assert (call.redirects, call.retries_taken) == (2, 1)


def test_a_redirect_that_is_not_followed_is_rejected_with_its_reason() -> None:
    for plan, event, reason in [
        (CallPlan(follow_redirects=False), moved(), "redirects are not followed: follow_redirects=False"),
        (CallPlan(follow_redirects=False, max_redirects=0), moved(), "redirects are not followed: follow_redirects=False"),
        (CallPlan(follow_redirects=False), answer(304), "not modified"),
        (CallPlan(), moved(307, "http://h/"), "it leads from https to http, which allow_insecure_redirects would allow"),
        (CallPlan(), moved(300), "status 300 is not followed"),
    ]:  # fmt: skip
        call = make(plan)
        assert call.step(Begin(0, request())) == Send(request())
        assert not call.resends(event)
        command = call.step(event)
        assert isinstance(command, Reject)
        assert command.reason == reason
        assert command.attempts[0].status_code == event.head.status_code
    commands = run(make(CallPlan(allow_insecure_redirects=True)), [Begin(0, request()), moved(307, "http://h/")])
    assert kinds(commands) == ["Send", "Send"]


def test_the_users_own_rule_does_not_retry_a_redirect() -> None:
    event = HeadReceived(1, 0, head(302, x_should_retry="true"), retry=True)
    assert kinds(run(make(), [Begin(0, request()), event])) == ["Send", "Reject"]


def test_what_was_really_sent_is_what_is_followed() -> None:
    event = HeadReceived(1, 0, head(302, Location="x"), request=Request("GET", "https://elsewhere/a/b"))
    assert urls(run(make(), [Begin(0, request()), event])) == ["https://h/", "https://elsewhere/a/x"]


def test_each_send_may_meet_a_dead_idle_connection_of_its_own() -> None:
    dead = lost(reused=True)
    call = make()
    commands = run(call, [Begin(0, request()), dead, moved(), dead, moved(), dead, dead])
    assert kinds(commands) == ["Send"] * 6 + ["Wait"]
    assert urls(commands)[-2:] == ["https://h/next"] * 2


# --- resends ---------------------------------------------------------------------------------------------------------


def test_resends_is_a_question() -> None:
    call = make(AUTHORIZED)
    assert not call.resends(moved())  # nothing was sent yet
    run(call, [Begin(0, request()), Authorized(0, request(Expect="100-continue"))])
    before = repr(call)
    asked = [call.resends(e) for e in (moved(), answer(401), answer(417), lost(reused=True), moved(307, "//x"))]
    assert asked == [True] * 5
    asked = [call.resends(e) for e in (answer(), answer(500), answer(304), answer(404), lost(), answer(302))]
    assert asked == [False] * 6
    assert repr(call) == before
    run(call, [answer(401), Authorized(1, request())])
    assert not call.resends(answer(401))
    assert not call.resends(answer(417))
    call.step(answer())
    assert call.state is CallState.READING
    assert not call.resends(moved())


def test_one_redirect_too_many_is_no_resend() -> None:
    call = make(CallPlan(max_redirects=1))
    run(call, [Begin(0, request()), moved()])
    assert not call.resends(moved())


# --- what the server has done ----------------------------------------------------------------------------------------

UNSAFE = CallPlan(policy=RetryPolicy(retry_unsafe=True))
KEY = {"Idempotency_Key": "k"}
FAILURES = {
    "503": answer(503),
    "asked": HeadReceived(2.0, 0, head(404, x_should_retry="true")),
    "own rule": answer(404, retry=True),
    "lost": lost(),
    "not sent": lost(Outcome.NOT_SENT),
    "refused": lost(Outcome.REFUSED),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize(
    ("method", "fields", "plan", "status", "again"),
    [
        ("POST", {}, CallPlan(), 303, False),
        ("POST", {}, CallPlan(), 302, False),
        ("POST", {}, CallPlan(), 301, False),
        ("PATCH", {}, CallPlan(), 303, False),
        ("POST", KEY, CallPlan(), 303, True),
        ("POST", KEY, CallPlan(idempotency_header="X-Key"), 303, False),
        ("POST", {}, UNSAFE, 303, True),
        ("PUT", {}, CallPlan(), 303, True),
        ("GET", {}, CallPlan(), 303, True),
        ("GET", {}, CallPlan(), 307, True),
    ],
)
def test_what_was_done_is_done_again_only_where_that_is_harmless(
    failure: str, method: str, fields: dict[str, str], plan: CallPlan, status: int, again: bool
) -> None:
    call = make(plan)
    commands = run(call, [Begin(0, request(method, **fields)), moved(status), FAILURES[failure]])
    end = "Fail" if isinstance(FAILURES[failure], AttemptFailed) else "Reject"
    assert kinds(commands) == ["Send", "Send", "Wait" if again else end]
    assert len(call.attempts) == 1


@pytest.mark.parametrize("failure", ["503", "not sent", "refused"])
@pytest.mark.parametrize("status", [307, 308])
def test_a_post_that_was_only_sent_elsewhere_is_repeated_like_any(status: int, failure: str) -> None:
    assert kinds(run(make(), [Begin(0, request("POST")), moved(status), FAILURES[failure]])) == ["Send", "Send", "Wait"]
    assert kinds(run(make(), [Begin(0, request("POST")), moved(status), lost()])) == ["Send", "Send", "Fail"]


def test_what_is_done_stays_done_over_further_redirects_and_not_over_attempts() -> None:
    commands = run(make(), [Begin(0, request("POST")), moved(303), moved(302), moved(307), answer(503)])
    assert kinds(commands) == ["Send"] * 4 + ["Reject"]
    commands = run(make(), [Begin(0, request("POST")), moved(307), moved(303), answer(503)])
    assert kinds(commands) == ["Send"] * 3 + ["Reject"]
    call = make()
    run(call, [Begin(0, request("POST", **KEY)), moved(303), answer(503)])
    assert call.outcome_so_far is Outcome.UNKNOWN
    run(call, [Woke(3, request("POST"))])
    assert call.outcome_so_far is Outcome.NOT_SENT
    assert kinds(run(call, [moved(307), answer(503)])) == ["Send", "Wait"]


@pytest.mark.parametrize("delivers", [Delivery.BODY, Delivery.FIRST_EVENT])
def test_a_body_that_is_lost_after_a_303_is_judged_alike(delivers: Delivery) -> None:
    for fields, end in (({}, "Fail"), (KEY, "Wait")):
        call = make(CallPlan(delivers=delivers))
        events = [Begin(0, request("POST", **fields)), moved(303), answer(), lost(Outcome.ANSWERED)]
        assert kinds(run(call, events)) == ["Send", "Send", "Read", end]


@pytest.mark.parametrize("event", [lost(Outcome.NOT_SENT), lost(Outcome.REFUSED), Expired(2, Outcome.NOT_SENT)])
def test_what_the_server_has_done_shows_in_the_outcome(event: Any) -> None:
    """BEHAVIOUR 6.3: `not_sent` is that nothing reached the peer; the POST has."""
    call = make(CallPlan(max_retries=0))
    fail = run(call, [Begin(0, request("POST")), moved(303), event])[-1]
    assert isinstance(fail, Fail)
    assert fail.exception().outcome is Outcome.UNKNOWN
    assert call.attempts[-1].outcome is Outcome.UNKNOWN


def test_the_key_that_did_not_go_along_does_not_make_it_safe() -> None:
    """BEHAVIOUR 7: retry safety is judged on the headers really sent."""
    call = make()
    commands = run(call, [Begin(0, request("POST", **KEY)), moved(307, "https://other/"), lost()])
    assert kinds(commands) == ["Send", "Send", "Fail"]
    assert "idempotency-key" not in commands[1].request.headers
    assert kinds(run(make(), [Begin(0, request("POST", **KEY)), moved(307), lost()])) == ["Send", "Send", "Wait"]


def one_shot(method: str = "POST", **headers: str) -> tuple[Request, StreamedBody]:
    body = StreamedBody(iter([b"x"]), replayable=False)
    return Request(method, "https://h/", headers=headers, content=body), body


def test_a_one_shot_body_is_sent_once() -> None:
    sent, body = one_shot()
    call = make()
    call.step(Begin(0, sent))
    body.used = True
    assert not call.resends(moved(307))
    command = call.step(moved(307))
    assert isinstance(command, Reject)
    assert command.reason == "the body was sent and cannot be made again"

    sent, body = one_shot("PUT")
    call = make(UNSAFE)
    call.step(Begin(0, sent))
    body.used = True
    assert kinds(run(call, [moved(303), answer(503)])) == ["Send", "Reject"]  # the GET could be sent again, the PUT not

    sent, body = one_shot()
    assert kinds(run(make(), [Begin(0, sent), moved(307), answer()])) == ["Send", "Send", "Read"]  # nobody asked for it


# --- 417 -------------------------------------------------------------------------------------------------------------


def test_417_is_answered_without_the_expectation_once() -> None:
    call = make()
    sent = request("POST", Expect="100-continue")
    commands = run(call, [Begin(0, sent), answer(417), answer(417)])
    assert kinds(commands) == ["Send", "Send", "Reject"]
    assert "expect" in commands[0].request.headers
    assert "expect" not in commands[1].request.headers
    assert (call.retries_taken, len(call.attempts)) == (0, 1)
    assert commands[-1].reason is None
    assert kinds(run(make(), [Begin(0, request("POST")), answer(417)])) == ["Send", "Reject"]
    sent, body = one_shot(Expect="100-continue")
    call = make()
    call.step(Begin(0, sent))
    body.used = True
    assert kinds(run(call, [answer(417)])) == ["Reject"]


def test_a_hook_that_puts_the_expectation_on_again_does_not_send_for_ever() -> None:
    call = make()
    command = call.step(Begin(0, request("POST", Expect="100-continue")))
    for _ in range(100):
        if not isinstance(command, Send):
            break
        command.request.headers["Expect"] = "100-continue"
        command = call.step(answer(417))
    assert isinstance(command, Reject)


# --- credentials -----------------------------------------------------------------------------------------------------


def authorized(refreshable: bool = True, **headers: str) -> Authorized:
    return Authorized(1.0, request(**headers), refreshable)


def test_a_redirect_within_the_origin_is_authorized_again() -> None:
    call = make(AUTHORIZED)
    commands = run(call, [Begin(0, request()), authorized(), moved()])
    assert kinds(commands) == ["Authorize", "Send", "Authorize"]
    assert commands[-1].refresh is False
    assert str(commands[-1].request.url) == "https://h/next"
    assert kinds(run(call, [Authorized(1, commands[-1].request), answer(), ResultReady(2)])) == [
        "Send",
        "Read",
        "Deliver",
    ]
    assert len(call.attempts) == 1


def test_another_origin_gets_no_credentials_and_the_way_back_neither() -> None:
    call = make(AUTHORIZED)
    commands = run(call, [Begin(0, request()), authorized(Authorization="a"), moved(302, "https://other/")])
    assert kinds(commands) == ["Authorize", "Send", "Send"]
    assert "authorization" not in commands[-1].request.headers
    assert call.home is None
    commands = run(call, [moved(302, "https://h/"), moved(302, "/next"), answer(401)])
    assert kinds(commands) == ["Send", "Send", "Reject"]  # no Authorize, and no refresh


def test_another_zone_of_an_address_gets_no_credentials() -> None:
    call = make(AUTHORIZED)
    sent = Request("GET", "http://[fe80::1%25eth0]/")
    commands = run(call, [Begin(0, sent), Authorized(0, sent), moved(302, "http://[fe80::1%25eth1]/")])
    assert kinds(commands) == ["Authorize", "Send", "Send"]


def test_a_401_after_a_redirect_refreshes_once_in_the_call() -> None:
    call = make(AUTHORIZED)
    events = [
        Begin(0, request()),
        authorized(),
        moved(),
        authorized(),
        answer(401),
        authorized(),
        moved(),
        authorized(),
    ]
    commands = run(call, [*events, answer(401)])
    assert kinds(commands) == [
        "Authorize",
        "Send",
        "Authorize",
        "Send",
        "Authorize",
        "Send",
        "Authorize",
        "Send",
        "Reject",
    ]
    assert [c.refresh for c in commands if isinstance(c, Authorize)] == [False, False, True, False]


def test_credentials_that_are_not_ours_are_not_refreshed() -> None:
    for event in (answer(401), moved()):
        call = make(AUTHORIZED)
        commands = run(call, [Begin(0, request()), authorized(refreshable=False), event])
        assert not any(isinstance(c, Authorize) for c in commands[1:])
    call = make(AUTHORIZED)
    run(call, [Begin(0, request()), authorized(refreshable=False), answer(503)])
    assert kinds(run(call, [Woke(3, request()), authorized(), answer(401)])) == ["Authorize", "Send", "Authorize"]


def test_credentials_that_cannot_be_had_after_a_post_was_done_are_not_tried_for_again() -> None:
    failed = AttemptFailed(2, APIConnectionError("x"), Outcome.NOT_SENT)
    call = make(AUTHORIZED)
    events = [Begin(0, request("POST")), Authorized(0, request("POST")), moved(303)]
    assert kinds(run(call, events)) == ["Authorize", "Send", "Authorize"]
    assert call.outcome_so_far is Outcome.UNKNOWN
    assert kinds(run(call, [failed])) == ["Fail"]


def test_a_deadline_that_passes_on_the_way_names_the_send_under_way() -> None:
    call = make(CallPlan(deadline=5.0))
    fail = run(call, [Begin(0, request()), moved(), Expired(5.0, Outcome.UNKNOWN, Phase.RECEIVE)])[-1]
    error = fail.exception()
    assert str(error.request.url) == "https://h/next"
    assert error.message == "The deadline of 5 s passed in phase receive (attempt 1, waits 0 s)."
    assert len(error.attempts) == 1


def test_the_wait_after_redirects_is_that_of_any_failure() -> None:
    call = make()
    assert run(call, [Begin(0, request()), moved(), answer(503)])[-1] == Wait(0.5, 1)
    assert isinstance(run(call, [Woke(3, request()), answer(), ResultReady(4)])[-1], Deliver)
    assert [a.status_code for a in call.attempts] == [503, 200]
    assert isinstance(call, Call)
