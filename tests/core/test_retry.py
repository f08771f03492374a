"""The retry rules of BEHAVIOUR 6, row by row."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyio_client._core.retry import (
    RetryBudget,
    RetryPolicy,
    backoff,
    may_repeat,
    parse_retry_after,
    server_advice,
    status_asks_for_retry,
    wait_before,
)
from anyio_client._model.errors import Outcome
from anyio_client._model.headers import Headers
from anyio_client._model.request import Request

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT
POLICY = RetryPolicy()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1", 1.0),
        (" 2 ", 2.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("100000", 100000.0),
        ("0", None),
        ("0.0", None),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        ("infinity", None),
        ("1_0", None),
        ("١", None),
        ("9" * 400, None),
        ("", None),
        (".", None),
        ("1.2.3", None),
        ("1 2", None),
        ("soon", None),
        ("Sun, 06 Nov 1994 08:49:38 GMT", 1.0),
        ("Sun, 06 Nov 1994 08:49:39 GMT", 2.0),
        ("Sunday, 06-Nov-94 08:49:40 GMT", 3.0),
        ("Sun Nov  6 08:49:41 1994", 4.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:36 GMT", None),
        ("Sun, 06 Foo 1994 08:49:39 GMT", None),
        ("Sun, 31 Feb 1994 08:49:39 GMT", None),
        ("Sun, 06 Nov 1994 25:49:39 GMT", None),
        ("Sun, 06 Nov 1994 08:49:39", None),
        ("06 Nov 1994 08:49:39 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_to_come(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@given(st.text(), st.floats(min_value=0, max_value=4e9))
def test_retry_after_never_raises(value: str, now: float) -> None:
    seconds = parse_retry_after(value, now)
    assert seconds is None or 0 < seconds < math.inf


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "7"}, 7.0),
        ({"retry-after-ms": "0", "retry-after": "7"}, 7.0),
        ({"retry-after-ms": "-1"}, None),
    ],
)
def test_milliseconds_come_before_seconds(headers: dict[str, str], seconds: float | None) -> None:
    assert server_advice(Headers(headers), NOW) == seconds


def test_the_fields_may_be_a_plain_mapping_with_lower_case_names() -> None:
    assert server_advice({"retry-after-ms": "1500"}, NOW) == 1.5
    assert server_advice({"retry-after": "7"}, NOW) == 7.0
    assert status_asks_for_retry(POLICY, 400, {"x-should-retry": "true"})


@pytest.mark.parametrize(
    ("taken", "random", "seconds"),
    [(0, 0.0, 0.5), (1, 0.0, 1.0), (2, 0.0, 2.0), (3, 0.0, 4.0), (4, 0.0, 8.0), (5, 0.0, 8.0), (10**6, 0.0, 8.0)]
    + [(0, 0.5, 0.4375), (4, 1.0, 6.0)],
)
def test_backoff_doubles_up_to_a_limit(taken: int, random: float, seconds: float) -> None:
    assert backoff(POLICY, taken, random) == seconds


def test_backoff_uses_the_policys_numbers() -> None:
    policy = RetryPolicy(wait_initial=1, wait_max=3, wait_jitter=1)
    assert [backoff(policy, n, 0.0) for n in range(4)] == [1, 2, 3, 3]
    assert backoff(policy, 0, 0.5) == 0.5


@pytest.mark.parametrize(
    ("status", "said", "retry"),
    [
        (400, None, False),
        (401, None, False),
        (404, None, False),
        (407, None, False),
        (408, None, True),
        (409, None, True),
        (410, None, False),
        (422, None, False),
        (428, None, False),
        (429, None, True),
        (430, None, False),
        (499, None, False),
        (500, None, True),
        (501, None, True),
        (503, None, True),
        (529, None, True),
        (599, None, True),
        (600, None, True),
        (999, None, True),
        (400, "true", True),
        (500, "false", False),
        (500, "FALSE", True),
        (400, "True", False),
        (400, "1", False),
        (500, "", True),
    ],
)
def test_the_status_decides_unless_the_server_says_otherwise(status: int, said: str | None, retry: bool) -> None:
    headers = Headers() if said is None else Headers({"X-Should-Retry": said})
    assert status_asks_for_retry(POLICY, status, headers) is retry


def test_the_statuses_are_the_policys() -> None:
    policy = RetryPolicy(statuses=frozenset({418}))
    assert status_asks_for_retry(policy, 418, {})
    assert not status_asks_for_retry(policy, 500, {})


METHODS = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "POST", "PATCH", "CONNECT", "QUERY"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("key", [None, "abc", ""])
@pytest.mark.parametrize("unsafe", [False, True])
def test_what_may_have_been_processed_is_repeated_only_where_that_is_harmless(
    method: str, outcome: Outcome, key: str | None, unsafe: bool
) -> None:
    request = Request(method, "http://h/", headers={} if key is None else {"Idempotency-Key": key})
    policy = RetryPolicy(retry_unsafe=unsafe)
    harmless = method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE") or bool(key) or unsafe
    expected = outcome in (Outcome.NOT_SENT, Outcome.REFUSED) or harmless
    assert may_repeat(policy, request, outcome, "idempotency-key") is expected


def test_a_budget_stops_retries_at_half() -> None:
    budget = RetryBudget(max_tokens=4, token_ratio=0.5)
    assert budget.tokens == 4
    assert budget.allows_retry
    budget.take()
    assert budget.tokens == 3
    assert budget.allows_retry
    budget.take()
    assert budget.tokens == 2
    assert not budget.allows_retry
    budget.give_back()
    assert budget.tokens == 2.5
    assert budget.allows_retry
    for _ in range(10):
        budget.give_back()
    assert budget.tokens == 4
    for _ in range(10):
        budget.take()
    assert budget.tokens == 0


def test_a_budgets_defaults_are_grpcs() -> None:
    assert (RetryBudget().max_tokens, RetryBudget().token_ratio, RetryBudget().tokens) == (100.0, 0.1, 100.0)


@pytest.mark.parametrize("max_tokens", [0, -1, math.inf, math.nan])
def test_a_budget_needs_positive_numbers(max_tokens: float) -> None:
    for name in ("max_tokens", "token_ratio"):
        with pytest.raises(ValueError) as caught:
            RetryBudget(**{name: max_tokens})
        assert str(caught.value) == "a retry budget needs max_tokens > 0 and token_ratio > 0"


def test_a_budget_may_be_small() -> None:
    budget = RetryBudget(max_tokens=0.5)
    assert budget.allows_retry
    budget.take()
    assert not budget.allows_retry


def test_a_policys_defaults() -> None:
    assert (POLICY.wait_initial, POLICY.wait_max, POLICY.wait_jitter, POLICY.wait_server_max) == (0.5, 8.0, 0.25, 120.0)
    assert not POLICY.retry_unsafe
    assert POLICY.budget is None


@pytest.mark.parametrize("name", ["wait_initial", "wait_max", "wait_jitter", "wait_server_max"])
@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-1, ValueError, "must be a finite number >= 0, got -1"),
        (math.nan, ValueError, "must be a finite number >= 0, got nan"),
        (math.inf, ValueError, "must be a finite number >= 0, got inf"),
        ("1", TypeError, "must be a number, not str"),
        (True, TypeError, "must be a number, not bool"),
        (None, TypeError, "must be a number, not NoneType"),
    ],
)
def test_a_policy_refuses_what_is_no_time(name: str, value: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"{name} {text}"):
        RetryPolicy(**{name: value})  # type: ignore[arg-type]


def test_a_policy_takes_zero_and_refuses_a_jitter_above_one() -> None:
    RetryPolicy(wait_initial=0, wait_max=0, wait_jitter=0, wait_server_max=0)
    assert RetryPolicy(wait_jitter=1).wait_jitter == 1
    with pytest.raises(ValueError, match="wait_jitter must be between 0 and 1, got 1.5"):
        RetryPolicy(wait_jitter=1.5)


@pytest.mark.parametrize("statuses", ["500", [500, "501"]])
def test_a_policys_statuses_are_ints(statuses: object) -> None:
    with pytest.raises(TypeError) as caught:
        RetryPolicy(statuses=statuses)  # type: ignore[arg-type]
    assert str(caught.value) == "statuses must be a collection of ints"
    assert RetryPolicy(statuses=[500]).statuses == frozenset({500})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("advice", "deadline", "seconds"),
    [
        (None, None, 1.0),  # one retry taken, random() = 0
        (None, 101.5, 1.0),
        (None, 101.0, None),  # it would pass the deadline
        (3.0, None, 3.0),
        (0.001, None, 0.001),  # shorter than the backoff, and kept as it is
        (120.0, None, 120.0),
        (120.1, None, None),
        (3.0, 103.0, None),
        (3.0, 103.1, 3.0),
    ],
)
def test_the_wait_before_the_next_try(advice: float | None, deadline: float | None, seconds: float | None) -> None:
    assert wait_before(POLICY, 1, lambda: 0.0, advice=advice, now=100.0, deadline=deadline) == seconds


def test_no_random_number_is_drawn_where_the_server_has_said() -> None:
    def random() -> float:
        raise AssertionError

    assert wait_before(POLICY, 0, random, advice=1.0, now=0.0, deadline=None) == 1.0
