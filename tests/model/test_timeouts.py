"""Spans of time and numbers of connections: what is taken, and what is refused (BEHAVIOUR 5)."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyio_client._model.given import not_given
from anyio_client._model.timeouts import DEFAULT_LIMITS, DEFAULT_TIMEOUT, Limits, Timeout, Timings, check_seconds

KINDS = ["connect", "read", "write", "pool"]


def four(timeout: Timeout) -> tuple[float | None, ...]:
    return (timeout.connect, timeout.read, timeout.write, timeout.pool)


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        (Timeout(30), (30, 30, 30, 30)),
        (Timeout(0.5), (0.5, 0.5, 0.5, 0.5)),
        (Timeout(600, connect=5), (5, 600, 600, 600)),
        (Timeout(None), (None, None, None, None)),
        (Timeout(None, read=3), (None, 3, None, None)),
        (Timeout(3, read=None), (3, None, 3, 3)),
        (Timeout(3, pool=not_given), (3, 3, 3, 3)),
        (Timeout(connect=1, read=2, write=3, pool=4), (1, 2, 3, 4)),
        (Timeout(math.inf), (None, None, None, None)),
    ],
)
def test_a_number_sets_all_four_limits_and_a_keyword_one(timeout: Timeout, expected: tuple[float | None, ...]) -> None:
    assert four(timeout) == expected


def test_limits_are_floats() -> None:
    assert all(type(limit) is float for limit in four(Timeout(30)))


def test_the_defaults() -> None:
    assert four(DEFAULT_TIMEOUT) == (5, 600, 600, 600)
    assert attrs.astuple(DEFAULT_LIMITS) == (1000, 100, 30.0)
    assert Limits() == DEFAULT_LIMITS


BAD_SECONDS = [
    (0, ValueError),
    (0.0, ValueError),
    (-1, ValueError),
    (-0.001, ValueError),
    (-math.inf, ValueError),
    (math.nan, ValueError),
    ("1", TypeError),
    (True, TypeError),
    (False, TypeError),
    ([1], TypeError),
]


@pytest.mark.parametrize(("value", "error"), BAD_SECONDS)
def test_what_is_no_span_of_time_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="deadline must be"):
        check_seconds("deadline", value)
    with pytest.raises(error, match="Timeout connect must be"):
        Timeout(value)
    with pytest.raises(error, match="must be"):
        Timeout.of(value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("value", "error"), BAD_SECONDS)
def test_each_limit_is_checked_and_named(kind: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"Timeout {kind} must be"):
        Timeout(1, **{kind: value})


def test_a_limit_that_nobody_gave_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"needs a default, as in Timeout\(30\), or a value for connect="):
        Timeout()
    with pytest.raises(TypeError, match="or a value for write="):
        Timeout(connect=1, read=1, pool=1)


def test_of_takes_a_timeout_a_number_or_none() -> None:
    timeout = Timeout(3)
    assert Timeout.of(timeout) is timeout
    assert Timeout.of(3) == timeout
    assert Timeout.of(None) == Timeout(None)


@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_every_positive_number_is_a_span_of_time(value: float) -> None:
    assert check_seconds("x", value) == value


def test_none_and_infinity_are_no_limit() -> None:
    assert check_seconds("x", None) is None
    assert check_seconds("x", math.inf) is None


def test_a_timeout_is_a_value() -> None:
    timeout = Timeout(600, connect=5)
    assert repr(timeout) == "Timeout(connect=5.0, read=600.0, write=600.0, pool=600.0)"
    assert timeout == DEFAULT_TIMEOUT
    assert hash(timeout) == hash(DEFAULT_TIMEOUT)
    assert timeout != Timeout(600)
    assert pickle.loads(pickle.dumps(timeout)) == timeout
    assert copy.deepcopy(timeout) == timeout
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        timeout.read = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"max_connections": 0}, ValueError, "max_connections is too small: 0"),
        ({"max_connections": -1}, ValueError, "max_connections is too small: -1"),
        ({"max_connections": 1.0}, TypeError, "max_connections must be an int, not float"),
        ({"max_connections": True}, TypeError, "max_connections must be an int, not bool"),
        ({"max_connections": None}, TypeError, "max_connections must be an int, not NoneType"),
        ({"max_keepalive_connections": -1}, ValueError, "max_keepalive_connections is too small: -1"),
        ({"max_keepalive_connections": "1"}, TypeError, "max_keepalive_connections must be an int, not str"),
        ({"keepalive_expiry": -1}, ValueError, "keepalive_expiry must be a number of seconds >= 0 or None, got -1"),
        ({"keepalive_expiry": math.nan}, ValueError, "keepalive_expiry must be .* got nan"),
        ({"keepalive_expiry": True}, ValueError, "keepalive_expiry must be .* got True"),
        ({"keepalive_expiry": "1"}, ValueError, "keepalive_expiry must be .* got '1'"),
    ],
)
def test_limits_refuse_what_is_no_number(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Limits(**arguments)


def test_limits_take_the_smallest_numbers() -> None:
    limits = Limits(max_connections=1, max_keepalive_connections=0, keepalive_expiry=0)
    assert attrs.astuple(limits) == (1, 0, 0.0)
    assert Limits(keepalive_expiry=None).keepalive_expiry == math.inf
    assert pickle.loads(pickle.dumps(limits)) == limits


def test_timings_say_what_happened_and_leave_out_the_rest() -> None:
    assert str(Timings()) == ""
    timings = Timings(queue=0.0, connect=0.0124, total=1.5)
    assert str(timings) == "queue 0.000 s, connect 0.012 s, total 1.500 s"
    assert not timings.reused
    assert timings.tls is None
    assert pickle.loads(pickle.dumps(timings)) == timings
