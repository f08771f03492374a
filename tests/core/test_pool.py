"""The pool machine: named cases first, then all its invariants under any events (tests/fuzz runs them for long)."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from anyio_client._core.pool import (
    MAX_HANDOVERS,
    Broke,
    CapacityChanged,
    Close,
    Freed,
    GaveUp,
    Open,
    Opened,
    OpenFailed,
    Pool,
    Refuse,
    Shutdown,
    Tick,
    Use,
    WakeAt,
    Wanted,
)
from anyio_client._model.timeouts import Limits
from tests.kit.fuzz import examples

A, B, C = "http://a", "http://b", "http://c"


def make(connections: int = 10, idle: int = 10, expiry: float = 30.0) -> Pool:
    limits = Limits(max_connections=connections, max_keepalive_connections=idle, keepalive_expiry=expiry)
    return Pool(limits)


def step(pool: Pool, event: Any) -> list[Any]:
    """The commands, without the alarms, which have tests of their own."""
    return [command for command in pool.step(event) if not isinstance(command, WakeAt)]


# --- named cases -------------------------------------------------------------------------------------------------


def test_the_first_ticket_opens_and_uses() -> None:
    pool = make()
    assert step(pool, Wanted(1, A, 0)) == [Open(1, 1, A)]
    assert (pool.open_count, pool.idle_count, pool.waiting_count) == (1, 0, 0)
    assert step(pool, Opened(1, 1, 0)) == [Use(1, 1)]
    assert (pool.open_count, pool.idle_count) == (1, 0)
    assert step(pool, Freed(1, 0)) == []
    assert (pool.open_count, pool.idle_count) == (1, 1)
    assert step(pool, Wanted(2, A, 0)) == [Use(2, 1)]
    assert pool.idle_count == 0


def test_the_short_ways_serve_the_usual_call() -> None:
    pool = make()
    pool.step(Wanted(1, A, 0))
    pool.step(Opened(1, 1, 0))
    pool.step(Freed(1, 0))
    for now in (1, 2, 3):
        assert pool.lend(A, now) == 1
        assert pool.lend(A, now) is None
        assert pool.take_back(1, now, None)
        assert pool.idle_count == 1
    assert pool.lend(B, 4) is None
    assert pool.lend(A, 100) is None, "it has expired"


def idle_at_zero(*origins: str, **options: Any) -> Pool:
    """Connections 1, 2, ... to these, idle since 0 in this order; the alarm is set."""
    pool = make(**options)
    for n, origin in enumerate(origins, 1):
        pool.step(Wanted(n, origin, 0))
        pool.step(Opened(n, 1, 0))
    for n in range(1, len(origins) + 1):
        pool.step(Freed(n, 0))
    return pool


def unchanged(pool: Pool, ask: Callable[[Pool], object]) -> object:
    """What the short way says, which must have changed nothing."""
    before = copy.deepcopy(pool)
    said = ask(pool)
    assert pool == before
    return said


def test_nothing_is_lent_where_there_is_more_to_do() -> None:
    rows: dict[str, tuple[Pool, list[Any], float]] = {
        "an origin that nobody knows": (idle_at_zero(B), [], 1),
        "none with room": (idle_at_zero(A), [Wanted(9, A, 0)], 1),
        "the very moment that it expires": (idle_at_zero(A), [], 30),
        "it expires before the alarm": (idle_at_zero(B), [Wanted(8, A, 0), Opened(2, 1, 0), Freed(2, 0, 5)], 5),
        "the alarm has rung, and is to be set again": (idle_at_zero(A), [Wanted(8, A, 10), Freed(1, 20)], 31),
        "another one expires before the alarm": (
            idle_at_zero(B, A),
            [Wanted(8, B, 0), Wanted(9, A, 0), Freed(1, 1, 5), Freed(2, 1)],
            6,
        ),
        "another one has expired, and is to be closed": (idle_at_zero(B, A), [Wanted(8, A, 1), Freed(2, 20)], 30),
        "somebody waits for room": (
            idle_at_zero(A, connections=2),
            [Wanted(7, B, 0), Opened(2, 1, 0), Wanted(8, A, 0), Wanted(9, C, 0)],
            1,
        ),
        "it is over": (idle_at_zero(A), [Shutdown()], 1),
    }
    for row, (pool, events, now) in rows.items():
        for event in events:
            pool.step(event)
        assert unchanged(pool, lambda pool: pool.lend(A, now)) is None, row


def test_who_waits_for_a_connection_of_the_origin_comes_before_who_asks() -> None:
    """The ticket whose new connection has no room waits, though another one has room by then."""
    pool = make()
    pool.step(Wanted(1, A, 0))
    assert step(pool, Opened(1, 0, 0)) == []
    assert pool.waiting_count == 1
    assert unchanged(pool, lambda pool: pool.lend(A, 1)) is None


def test_nothing_is_taken_back_where_there_is_more_to_do() -> None:
    rows: dict[str, tuple[Pool, list[Any], float]] = {
        "a connection that is gone": (idle_at_zero(A), [Broke(1)], 1),
        "somebody of its origin waits": (idle_at_zero(A, connections=1), [Wanted(8, A, 1), Wanted(9, A, 1)], 2),
        "somebody waits for room": (idle_at_zero(A, connections=1), [Wanted(8, A, 1), Wanted(9, B, 1)], 2),
        "somebody waits to hear its capacity": (
            idle_at_zero(B),
            [Wanted(8, A, 0, shareable=True), Wanted(9, A, 0, shareable=True), Opened(2, 1, 0, settled=False)],
            1,
        ),
        "an alarm is to be set": (make(), [Wanted(1, A, 0), Opened(1, 1, 0)], 1),
        "the alarm has rung": (idle_at_zero(A), [Wanted(8, A, 1)], 30),
        "there are idle ones enough": (idle_at_zero(B, idle=1), [Wanted(8, A, 1), Opened(2, 1, 1)], 2),
        "another one has expired": (idle_at_zero(A, B), [Wanted(8, A, 1)], 30),
        "it is over": (idle_at_zero(A), [Wanted(8, A, 1), Shutdown()], 2),
    }
    for row, (pool, events, now) in rows.items():
        for event in events:
            pool.step(event)
        number = 2 if "enough" in row or "capacity" in row else 1
        assert unchanged(pool, lambda pool: pool.take_back(number, now, None)) is False, row


def test_the_short_ways_count_the_places_of_a_shared_connection() -> None:
    pool = idle_at_zero(A)
    pool.step(CapacityChanged(1, 3, 0))
    assert [pool.lend(A, 1) for _ in range(4)] == [1, 1, 1, None]
    assert pool.idle_count == 0
    assert pool.take_back(1, 2, None)
    assert pool.idle_count == 0
    assert pool.lend(A, 2) == 1
    pool.step(CapacityChanged(1, 1, 2))  # below what it carries
    assert pool.take_back(1, 2, None)
    assert pool.take_back(1, 2, None)
    assert pool.lend(A, 2) is None
    assert pool.take_back(1, 2, None)
    assert pool.idle_count == 1
    assert pool.lend(A, 2) == 1


def test_what_was_taken_back_last_is_lent_first_and_a_servers_hint_counts() -> None:
    pool = idle_at_zero(A, A, A)
    assert [pool.lend(A, 1) for _ in range(3)] == [3, 2, 1]
    assert pool.take_back(2, 2, None)
    assert pool.take_back(3, 2, 100)
    assert pool.take_back(1, 2, 5)
    assert pool.lend(A, 6.9) == 1
    assert pool.take_back(1, 6.9, 5)
    assert pool.lend(A, 11.9) is None, "it has expired"
    assert step(pool, Wanted(9, A, 11.9)) == [Close(1), Use(9, 3)]
    assert pool.lend(A, 29) == 2
    shared = idle_at_zero(A, A)
    shared.step(CapacityChanged(1, 3, 0))
    shared.step(CapacityChanged(2, 3, 0))
    assert [shared.lend(A, 1) for _ in range(6)] == [2, 2, 2, 1, 1, 1]
    for number in (1, 2, 1):
        assert shared.take_back(number, 2, None)
    assert [shared.lend(A, 2) for _ in range(3)] == [1, 1, 2]


def test_connections_are_of_their_origin() -> None:
    pool = make()
    step(pool, Wanted(1, A, 0))
    step(pool, Opened(1, 1, 0))
    step(pool, Freed(1, 0))
    assert step(pool, Wanted(2, B, 0)) == [Open(2, 2, B)]


def test_the_one_that_was_used_last_is_used_first() -> None:
    pool = make()
    for n in (1, 2, 3):
        step(pool, Wanted(n, A, 0))
        step(pool, Opened(n, 1, 0))
    for n in (2, 3, 1):
        step(pool, Freed(n, 0))
    assert [step(pool, Wanted(n, A, 0)) for n in (4, 5, 6)] == [[Use(4, 1)], [Use(5, 3)], [Use(6, 2)]]


def test_waiters_are_served_in_order() -> None:
    pool = make(connections=1)
    step(pool, Wanted(1, A, 0))
    step(pool, Opened(1, 1, 0))
    assert [step(pool, Wanted(n, A, 0)) for n in (2, 3, 4)] == [[], [], []]
    assert pool.waiting_count == 3
    assert step(pool, Freed(1, 0)) == [Use(2, 1)]
    assert step(pool, GaveUp(3)) == []
    assert step(pool, Freed(1, 0)) == [Use(4, 1)]


def test_a_ticket_whose_connection_was_dead_does_not_queue_again() -> None:
    pool = make(connections=1)
    step(pool, Wanted(1, A, 0))
    step(pool, Opened(1, 1, 0))
    step(pool, Wanted(2, A, 0))
    assert step(pool, Wanted(3, A, 0, first=True)) == []
    assert step(pool, Freed(1, 0)) == [Use(3, 1)]


def test_a_broken_connection_makes_room() -> None:
    pool = make(connections=1)
    step(pool, Wanted(1, A, 0))
    step(pool, Opened(1, 1, 0))
    step(pool, Wanted(2, A, 0))
    assert step(pool, Broke(1)) == [Close(1), Open(2, 2, A)]
    assert step(pool, Broke(1)) == []
    assert step(pool, Freed(1, 0)) == []


def test_an_idle_connection_makes_room_for_another_origin() -> None:
    pool = make(connections=2)
    for n in (1, 2):
        step(pool, Wanted(n, A, 0))
        step(pool, Opened(n, 1, 0))
    step(pool, Freed(2, 0))
    step(pool, Freed(1, 0))
    assert step(pool, Wanted(3, B, 0)) == [Close(2), Open(3, 3, B)]  # the longest idle one
    assert step(pool, Wanted(4, A, 0)) == [Use(4, 1)]


def test_a_busy_connection_makes_no_room() -> None:
    pool = make(connections=1)
    step(pool, Wanted(1, A, 0))
    step(pool, Opened(1, 1, 0))
    assert step(pool, Wanted(2, B, 0)) == []
    assert step(pool, Freed(1, 0)) == [Close(1), Open(2, 2, B)]


def test_origins_that_wait_for_room_take_turns() -> None:
    pool = make(connections=1)
    step(pool, Wanted(1, A, 0))
    step(pool, Opened(1, 1, 0))
    for n, origin in ((2, B), (3, B), (4, C)):
        assert step(pool, Wanted(n, origin, 0)) == []
    assert step(pool, Freed(1, 0)) == [Close(1), Open(2, 2, B)]
    step(pool, Opened(2, 1, 0))
    # B's second ticket may have the connection of its own origin, C waits on.
    assert step(pool, Freed(2, 0)) == [Use(3, 2)]
    assert step(pool, Freed(2, 0)) == [Close(2), Open(4, 3, C)]


def test_no_origin_starves_while_another_hands_its_connection_on() -> None:
    pool = make(connections=1)
    step(pool, Wanted(1, A, 0))
    step(pool, Opened(1, 1, 0))
    step(pool, Wanted(1000, B, 0))
    for n in range(2, 2 + MAX_HANDOVERS + 1):
        step(pool, Wanted(n, A, 0))
    for n in range(2, 2 + MAX_HANDOVERS):
        assert step(pool, Freed(1, 0)) == [Use(n, 1)]
    assert step(pool, Freed(1, 0)) == [Close(1), Open(1000, 2, B)]
    assert step(pool, Opened(2, 1, 0)) == [Use(1000, 2)]
    assert step(pool, Freed(2, 0)) == [Close(2), Open(2 + MAX_HANDOVERS, 3, A)]


def test_the_count_of_handovers_begins_again_when_another_origin_had_its_turn() -> None:
    pool = make(connections=1)
    step(pool, Wanted(1, A, 0))
    step(pool, Opened(1, 1, 0))
    step(pool, Wanted(1000, B, 0))
    for n in range(2, 2 + MAX_HANDOVERS + 1):
        step(pool, Wanted(n, A, 0))
    for _ in range(MAX_HANDOVERS):
        step(pool, Freed(1, 0))
    assert step(pool, Freed(1, 0)) == [Close(1), Open(1000, 2, B)]
    step(pool, Opened(2, 1, 0))
    # The same again, with A (its last ticket is still there) as the origin that waits for room.
    for n in range(2000, 2000 + MAX_HANDOVERS + 1):
        step(pool, Wanted(n, B, 0))
    for n in range(2000, 2000 + MAX_HANDOVERS):
        assert step(pool, Freed(2, 0)) == [Use(n, 2)]
    assert step(pool, Freed(2, 0)) == [Close(2), Open(2 + MAX_HANDOVERS, 3, A)]


def test_an_origin_hands_its_connection_on_as_long_as_no_other_waits() -> None:
    pool = make(connections=1)
    step(pool, Wanted(1, A, 0))
    step(pool, Opened(1, 1, 0))
    for n in range(2, 100):
        step(pool, Wanted(n, A, 0))
    assert [step(pool, Freed(1, 0)) for n in range(2, 100)] == [[Use(n, 1)] for n in range(2, 100)]


def test_who_gave_up_does_not_count_as_waiting_for_room() -> None:
    pool = make(connections=1)
    step(pool, Wanted(1, A, 0))
    step(pool, Opened(1, 1, 0))
    step(pool, Wanted(1000, B, 0))
    step(pool, GaveUp(1000))
    for n in range(2, 100):
        step(pool, Wanted(n, A, 0))
    assert [step(pool, Freed(1, 0)) for n in range(2, 100)] == [[Use(n, 1)] for n in range(2, 100)]


def test_room_made_for_one_origin_serves_another_whose_ticket_it_set_free() -> None:
    """C takes the place of A's connection without room: so A's ticket may open again, in the place of B's."""
    pool = make(connections=2)
    for connection, origin in ((1, A), (2, B)):
        step(pool, Wanted(connection, origin, 0, shareable=True))
    step(pool, Opened(1, 0, 0))
    step(pool, Opened(2, 0, 0))
    assert step(pool, Wanted(3, C, 0)) == [Close(1), Open(3, 3, C), Close(2), Open(1, 4, A)]


@pytest.mark.parametrize("event", ["broke", "open failed", "gave up"])
def test_no_origin_starves_while_the_connections_of_another_end(event: str) -> None:
    """A server that closes after each answer must not keep its room for its own waiters for ever."""
    pool = make(connections=1)
    step(pool, Wanted(1, A, 0))
    if event == "broke":
        step(pool, Opened(1, 1, 0))
    step(pool, Wanted(2, B, 0))
    for n in (3, 4, 5):
        step(pool, Wanted(n, A, 0))
    ends = {"broke": Broke(1), "open failed": OpenFailed(1, OSError("no")), "gave up": GaveUp(1)}
    opened = [command for command in step(pool, ends[event]) if isinstance(command, Open)]
    assert opened == [Open(2, 2, B)]


def test_a_failed_open_refuses_its_ticket_and_serves_the_next() -> None:
    pool = make(connections=1)
    error = OSError("no")
    step(pool, Wanted(1, A, 0))
    step(pool, Wanted(2, A, 0))
    assert step(pool, OpenFailed(1, error)) == [Refuse(1, error), Open(2, 2, A)]
    assert step(pool, OpenFailed(1, error)) == []
    assert step(pool, Opened(1, 1, 0)) == [Close(1)]


def test_a_ticket_that_gives_up_opening_makes_room() -> None:
    pool = make(connections=1)
    step(pool, Wanted(1, A, 0))
    step(pool, Wanted(2, B, 0))
    assert step(pool, GaveUp(1)) == [Open(2, 2, B)]
    assert step(pool, GaveUp(99)) == []


def test_no_more_idle_connections_than_allowed() -> None:
    pool = make(idle=1)
    for n in (1, 2):
        step(pool, Wanted(n, A, 0))
        step(pool, Opened(n, 1, 0))
    assert step(pool, Freed(1, 0)) == []
    assert step(pool, Freed(2, 0)) == [Close(1)]
    assert pool.idle_count == 1


def test_waiters_come_before_the_limit_of_idle_connections() -> None:
    pool = make(connections=1, idle=0)
    step(pool, Wanted(1, A, 0))
    step(pool, Opened(1, 1, 0))
    step(pool, Wanted(2, A, 0))
    assert step(pool, Freed(1, 0)) == [Use(2, 1)]
    assert step(pool, Freed(1, 0)) == [Close(1)]


# --- time --------------------------------------------------------------------------------------------------------


def test_idle_connections_expire() -> None:
    pool = make(expiry=30)
    step(pool, Wanted(1, A, 0))
    step(pool, Opened(1, 1, 0))
    assert pool.step(Freed(1, 10)) == [WakeAt(40)]
    assert step(pool, Tick(39.9)) == []
    assert step(pool, Tick(40)) == [Close(1)]
    assert pool.open_count == 0


@pytest.mark.parametrize(
    "event",
    [Wanted(9, B, 40), Freed(2, 40), Opened(3, 1, 40), CapacityChanged(2, 1, 40)],
    ids=lambda e: type(e).__name__,
)
def test_every_event_with_a_time_expires_idle_connections(event: Any) -> None:
    pool = make(expiry=30)
    for n in (1, 2):
        step(pool, Wanted(n, A, 0))
        step(pool, Opened(n, 1, 0))
    step(pool, Wanted(3, A, 0))
    step(pool, Freed(1, 10))
    assert Close(1) in step(pool, event)


def test_a_servers_hint_shortens_the_expiry_and_never_lengthens_it() -> None:
    pool = make(expiry=30)
    for n in (1, 2):
        step(pool, Wanted(n, A, 0))
        step(pool, Opened(n, 1, 0))
    assert pool.step(Freed(1, 0, keepalive=100)) == [WakeAt(30)]
    step(pool, Freed(2, 0, keepalive=5))
    # The second stands behind the first in line, and is found out when it would be used.
    assert step(pool, Wanted(3, A, 6)) == [Close(2), Use(3, 1)]


def test_a_connection_is_not_used_at_the_very_moment_that_it_expires() -> None:
    for now, command in ((4.9, Use(3, 2)), (5, Use(3, 1))):
        pool = make(expiry=30)
        for n in (1, 2):
            step(pool, Wanted(n, A, 0))
            step(pool, Opened(n, 1, 0))
        step(pool, Freed(1, 0))
        step(pool, Freed(2, 0, keepalive=5))
        assert step(pool, Wanted(3, A, now))[-1] == command


def test_alarms_are_set_once_and_again_when_they_have_rung() -> None:
    pool = make(expiry=30)
    for n in (1, 2):
        step(pool, Wanted(n, A, 0))
        step(pool, Opened(n, 1, 0))
    assert pool.step(Freed(1, 0)) == [WakeAt(30)]
    assert pool.step(Freed(2, 10)) == []
    assert pool.step(Tick(30)) == [Close(1), WakeAt(40)]
    assert pool.step(Tick(40)) == [Close(2)]


def test_without_expiry_there_is_no_alarm() -> None:
    pool = make(expiry=math.inf)
    step(pool, Wanted(1, A, 0))
    step(pool, Opened(1, 1, 0))
    assert pool.step(Freed(1, 0)) == []
    assert pool.step(Tick(1e9)) == []


def test_an_expired_connection_makes_room_for_who_waits() -> None:
    pool = make(connections=1, expiry=30)
    step(pool, Wanted(1, A, 0, shareable=True))
    step(pool, Opened(1, 0, 0))  # idle, without room
    assert step(pool, Wanted(2, B, 29)) == [Close(1), Open(2, 2, B)]


# --- shared connections ------------------------------------------------------------------------------------------


def test_a_shared_connection_carries_as_many_as_it_can() -> None:
    pool = make()
    assert step(pool, Wanted(1, A, 0, shareable=True)) == [Open(1, 1, A)]
    assert [step(pool, Wanted(n, A, 0, shareable=True)) for n in (2, 3, 4)] == [[], [], []]
    assert step(pool, Opened(1, 2, 0)) == [Use(1, 1), Use(2, 1), Open(3, 2, A)]
    assert step(pool, Opened(2, 2, 0)) == [Use(3, 2), Use(4, 2)]
    assert step(pool, Freed(1, 0)) == []
    assert pool.idle_count == 0
    assert step(pool, Wanted(5, A, 0, shareable=True)) == [Use(5, 1)]
    assert step(pool, Freed(1, 0)) == []
    assert step(pool, Freed(1, 0)) == []
    assert pool.idle_count == 1


def test_an_origin_that_turns_out_exclusive_opens_for_all() -> None:
    pool = make()
    for n in (1, 2, 3):
        step(pool, Wanted(n, A, 0, shareable=True))
    assert step(pool, Opened(1, 1, 0)) == [Use(1, 1), Open(2, 2, A), Open(3, 3, A)]
    assert step(pool, Wanted(4, A, 0, shareable=True)) == [Open(4, 4, A)]


def test_all_who_waited_for_one_connection_are_refused_with_it() -> None:
    pool = make()
    error = OSError("no")
    for n in (1, 2, 3):
        step(pool, Wanted(n, A, 0, shareable=True))
    assert step(pool, OpenFailed(1, error)) == [Refuse(1, error), Refuse(2, error), Refuse(3, error)]
    assert (pool.open_count, pool.waiting_count) == (0, 0)


def test_an_opener_that_gives_up_is_followed_by_the_next() -> None:
    pool = make()
    for n in (1, 2, 3):
        step(pool, Wanted(n, A, 0, shareable=True))
    assert step(pool, GaveUp(1)) == [Open(2, 2, A)]


def test_capacity_may_change_at_any_time() -> None:
    pool = make(connections=1)
    step(pool, Wanted(1, A, 0, shareable=True))
    step(pool, Opened(1, 1, 0))
    step(pool, Wanted(2, A, 0, shareable=True))
    step(pool, Wanted(3, A, 0, shareable=True))
    assert step(pool, CapacityChanged(1, 2, 0)) == [Use(2, 1)]
    assert step(pool, CapacityChanged(1, 1, 0)) == []
    assert step(pool, Freed(1, 0)) == []
    assert step(pool, Freed(1, 0)) == [Use(3, 1)]
    assert step(pool, CapacityChanged(99, 1, 0)) == []


def test_a_connection_without_room_is_not_used() -> None:
    pool = make(connections=2)
    step(pool, Wanted(1, A, 0, shareable=True))
    step(pool, Opened(1, 5, 0))
    step(pool, CapacityChanged(1, 0, 0))
    assert step(pool, Wanted(2, A, 0, shareable=True)) == [Open(2, 2, A)]


def test_a_ticket_opens_no_second_connection_because_the_first_has_no_room() -> None:
    pool = make()
    step(pool, Wanted(1, A, 0, shareable=True))
    assert step(pool, Opened(1, 0, 0)) == []
    assert step(pool, Wanted(2, A, 0, shareable=True)) == []
    assert step(pool, CapacityChanged(1, 2, 0)) == [Use(1, 1), Use(2, 1)]
    assert pool.idle_count == 0


def test_a_ticket_may_open_again_once_the_connection_without_room_is_gone() -> None:
    pool = make()
    step(pool, Wanted(1, A, 0, shareable=True))
    step(pool, Opened(1, 0, 0))
    assert step(pool, Broke(1)) == [Close(1), Open(1, 2, A)]
    pool = make()
    step(pool, Wanted(1, A, 0, shareable=True))
    step(pool, Opened(1, 0, 0))
    assert step(pool, GaveUp(1)) == []
    assert step(pool, Wanted(2, A, 0, shareable=True)) == [Open(2, 2, A)]


def test_a_connection_that_opens_without_room_is_idle_so_another_origin_gets_its_place() -> None:
    pool = make(connections=1)
    assert step(pool, Wanted(1, A, 0, shareable=True)) == [Open(1, 1, A)]
    assert step(pool, Wanted(2, B, 0)) == []
    assert step(pool, Opened(1, 0, 0)) == [Close(1), Open(2, 2, B)]
    assert step(pool, Opened(2, 1, 0)) == [Use(2, 2)]
    # The ticket whose connection it was waits on, and has its turn.
    assert step(pool, Freed(2, 0)) == [Close(2), Open(1, 3, A)]


def test_a_ticket_may_open_again_when_the_limit_of_idle_connections_closed_the_one_without_room() -> None:
    pool = make(idle=0)
    assert step(pool, Wanted(1, A, 0, shareable=True)) == [Open(1, 1, A)]
    assert step(pool, Opened(1, 0, 0)) == [Close(1), Open(1, 2, A)]
    assert step(pool, Opened(2, 1, 0)) == [Use(1, 2)]
    assert pool.open_count == 1


def test_a_ticket_may_open_again_when_the_connection_without_room_has_expired() -> None:
    pool = make(expiry=30)
    step(pool, Wanted(1, A, 0, shareable=True))
    step(pool, Opened(1, 0, 0))
    assert step(pool, Tick(29.9)) == []
    assert step(pool, Tick(30)) == [Close(1), Open(1, 2, A)]


def test_nothing_is_kept_of_an_origin_whose_tickets_were_all_refused() -> None:
    pool = make()
    error = OSError("no")
    step(pool, Wanted(1, A, 0, shareable=True))
    step(pool, Opened(1, 0, 0))  # idle, and ticket 1 waits for its room
    assert step(pool, Wanted(2, A, 0, shareable=True, first=True)) == [Open(2, 2, A)]
    assert step(pool, OpenFailed(2, error)) == [Refuse(2, error), Refuse(1, error)]
    assert (pool.open_count, pool.waiting_count) == (1, 0)
    assert step(pool, Broke(1)) == [Close(1)]
    assert A not in repr(pool)
    assert step(pool, Broke(1)) == []
    assert step(pool, Wanted(1, A, 0, shareable=True)) == [Open(1, 3, A)]


def test_who_waits_behind_a_ticket_whose_connection_has_no_room_opens_when_that_one_gives_up() -> None:
    pool = make()
    step(pool, Wanted(1, A, 0, shareable=True))
    step(pool, Opened(1, 0, 0))
    step(pool, Wanted(2, A, 0, shareable=True))
    step(pool, Wanted(3, A, 0, shareable=True))
    assert step(pool, GaveUp(3)) == []
    assert step(pool, GaveUp(1)) == [Open(2, 2, A)]


def test_a_ticket_whose_connection_has_no_room_opens_none_because_others_were_served() -> None:
    pool = make()
    step(pool, Wanted(1, A, 0, shareable=True))
    step(pool, Opened(1, 1, 0))
    assert step(pool, Wanted(2, A, 0, shareable=True)) == [Open(2, 2, A)]
    assert step(pool, Opened(2, 0, 0)) == []
    assert step(pool, Wanted(3, A, 0, shareable=True, first=True)) == [Open(3, 3, A)]
    assert step(pool, Wanted(4, A, 0, shareable=True, first=True)) == []
    assert step(pool, Freed(1, 0)) == [Use(4, 1)]
    assert step(pool, GaveUp(3)) == []
    assert step(pool, Freed(1, 0)) == [Use(2, 1)]


# --- a capacity that is not known yet ------------------------------------------------------------------------------


def test_others_wait_until_the_capacity_of_the_first_connection_is_known() -> None:
    pool = make()
    for n in (1, 2, 3):
        step(pool, Wanted(n, A, 0, shareable=True))
    assert step(pool, Opened(1, 1, 0, settled=False)) == [Use(1, 1)]
    assert step(pool, Wanted(4, A, 0, shareable=True)) == []
    assert step(pool, CapacityChanged(1, 3, 0)) == [Use(2, 1), Use(3, 1), Open(4, 2, A)]


def test_a_capacity_that_turns_out_as_guessed_settles_it_too() -> None:
    pool = make()
    for n in (1, 2, 3):
        step(pool, Wanted(n, A, 0, shareable=True))
    step(pool, Opened(1, 1, 0, settled=False))
    assert step(pool, CapacityChanged(1, 1, 0)) == [Open(2, 2, A), Open(3, 3, A)]


def test_a_capacity_that_turns_out_as_none_opens_one_more() -> None:
    pool = make()
    for n in (1, 2, 3):
        step(pool, Wanted(n, A, 0, shareable=True))
    step(pool, Opened(1, 1, 0, settled=False))
    assert step(pool, CapacityChanged(1, 0, 0)) == [Open(2, 2, A)]


def test_who_waits_for_the_capacity_gets_the_connection_when_its_first_user_leaves() -> None:
    pool = make()
    for n in (1, 2):
        step(pool, Wanted(n, A, 0, shareable=True))
    step(pool, Opened(1, 1, 0, settled=False))
    assert step(pool, Freed(1, 0)) == [Use(2, 1)]


def test_who_waits_for_the_capacity_of_a_connection_that_breaks_opens_another() -> None:
    pool = make()
    for n in (1, 2, 3):
        step(pool, Wanted(n, A, 0, shareable=True))
    step(pool, Opened(1, 1, 0, settled=False))
    assert step(pool, Broke(1)) == [Close(1), Open(2, 2, A)]
    assert step(pool, Opened(2, 5, 0)) == [Use(2, 2), Use(3, 2)]


def test_a_connection_that_takes_no_more_is_used_no_more_and_stays_for_what_it_carries() -> None:
    pool = make()
    step(pool, Wanted(1, A, 0, shareable=True))
    step(pool, Opened(1, 100, 0))
    step(pool, Wanted(2, A, 0, shareable=True))
    assert step(pool, CapacityChanged(1, 0, 0)) == []
    assert step(pool, Wanted(3, A, 0, shareable=True)) == [Open(3, 2, A)]
    assert step(pool, Freed(1, 0)) == []
    assert step(pool, Opened(2, 100, 0)) == [Use(3, 2)]
    assert step(pool, Broke(1)) == [Close(1)]


# --- the end -----------------------------------------------------------------------------------------------------


def test_shutdown_closes_and_refuses_everything_now_and_later() -> None:
    pool = make(connections=3)
    step(pool, Wanted(1, A, 0))
    step(pool, Opened(1, 1, 0))
    step(pool, Wanted(2, A, 0))
    step(pool, Opened(2, 1, 0))
    step(pool, Freed(2, 0))
    step(pool, Wanted(3, B, 0))
    step(pool, Wanted(4, B, 0))
    step(pool, Wanted(5, C, 0))
    commands = step(pool, Shutdown())
    assert sorted(c.ticket for c in commands if isinstance(c, Refuse)) == [3, 4, 5]
    assert all(c.error is None for c in commands if isinstance(c, Refuse))
    assert {c.connection for c in commands if isinstance(c, Close)} == {1}
    assert (pool.open_count, pool.idle_count, pool.waiting_count) == (0, 0, 0)
    assert step(pool, Wanted(6, A, 0)) == [Refuse(6, None)]
    assert step(pool, Opened(3, 1, 0)) == [Close(3)]
    assert step(pool, Freed(1, 0)) == []
    assert step(pool, Broke(1)) == []
    assert step(pool, GaveUp(3)) == []
    assert step(pool, OpenFailed(3, OSError())) == []


def test_nothing_is_kept_of_origins_that_are_gone() -> None:
    pool = make(connections=2, expiry=1)
    for n in range(1, 100):
        step(pool, Wanted(n, f"http://{n}", n * 10.0))
        step(pool, Opened(n, 1, n * 10.0))
        step(pool, Freed(n, n * 10.0))
    assert len(pool._origins) <= 2
    step(pool, Tick(1e6))
    assert len(pool._origins) == 0


def test_nothing_is_kept_of_origins_that_nobody_wants_any_more() -> None:
    pool = make(connections=1)
    step(pool, Wanted(1, A, 0))
    step(pool, Wanted(2, B, 0))
    step(pool, GaveUp(2))  # waited for room
    assert B not in repr(pool)
    step(pool, GaveUp(1))  # was opening
    assert A not in repr(pool)
    step(pool, Wanted(3, C, 0))
    step(pool, OpenFailed(2, OSError("no")))
    assert C not in repr(pool)
    step(pool, Wanted(4, C, 0))
    step(pool, Opened(3, 1, 0))
    step(pool, Broke(3))
    assert C not in repr(pool)
    assert (pool.open_count, pool.idle_count, pool.waiting_count) == (0, 0, 0)


# --- any events --------------------------------------------------------------------------------------------------


class PoolMachine(RuleBasedStateMachine):
    """Any events in any order, and a book of our own that knows what must hold after each."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.limits = Limits(max_connections=3, max_keepalive_connections=2, keepalive_expiry=5.0)
        self.pool = Pool(self.limits)
        self.now = 0.0
        self.next_ticket = 1
        self.origin_of: dict[int, str] = {}
        self.waiting: dict[str, list[int]] = defaultdict(list)  # in the order that they must be served in
        self.opening: dict[int, int] = {}  # connection -> ticket
        self.open: dict[int, str] = {}  # connection -> origin
        self.load: dict[int, int] = {}
        self.capacity: dict[int, int] = {}
        self.unsettled: set[int] = set()  # connections whose capacity is a guess
        self.ended: set[int] = set()
        self.down = False
        self.first_in_line_since: dict[str, int] = {}
        self.handed_on = 0

    # -- carrying out commands

    def do(self, event: Any, shutdown: bool = False) -> None:
        before = copy.deepcopy(self.pool)
        commands = self.pool.step(event)
        self.compare_short_way(before, event, commands)
        for command in commands:
            match command:
                case Use(ticket=ticket, connection=connection):
                    self.end(ticket)
                    origin = self.origin_of[ticket]
                    assert self.open[connection] == origin
                    if ticket in self.waiting[origin]:
                        assert self.waiting[origin][0] == ticket, "served out of order"
                        self.waiting[origin].remove(ticket)
                    self.load[connection] += 1
                    assert self.load[connection] <= self.capacity[connection]
                case Open(ticket=ticket, connection=connection, origin=origin):
                    assert ticket not in self.ended
                    assert self.origin_of[ticket] == origin
                    assert self.waiting[origin][0] == ticket, "opened out of order"
                    self.waiting[origin].remove(ticket)
                    assert connection not in self.open
                    self.opening[connection] = ticket
                case Close(connection=connection):
                    if connection in self.open:
                        assert shutdown or isinstance(event, Broke) or self.load[connection] == 0, (
                            "closed under a ticket"
                        )
                        del self.open[connection]
                case Refuse(ticket=ticket):
                    self.end(ticket)
                    origin = self.origin_of[ticket]
                    if ticket in self.waiting[origin]:
                        self.waiting[origin].remove(ticket)
                case WakeAt(when=when):
                    assert when > self.now

    def compare_short_way(self, before: Pool, event: Any, commands: list[Any]) -> None:
        """The short ways do what a step would, to the last bit, or nothing."""
        short = copy.deepcopy(before)
        match event:
            case Wanted():
                number = short.lend(event.origin, event.now)
                assert number is None or commands == [Use(event.ticket, number)]
                went = number is not None
            case Freed():
                went = short.take_back(event.connection, event.now, event.keepalive)
                assert not went or commands == []
            case _:
                return
        assert short == (self.pool if went else before)

    def end(self, ticket: int) -> None:
        assert ticket not in self.ended, "a ticket ended twice"
        self.ended.add(ticket)

    # -- events

    @rule(target=tickets, origin=st.sampled_from([A, B, C]), shareable=st.booleans(), first=st.booleans())
    def want(self, origin: str, shareable: bool, first: bool) -> int:
        ticket = self.next_ticket
        self.next_ticket += 1
        self.origin_of[ticket] = origin
        # An origin is shareable or not: it does not change from ticket to ticket.
        self.waiting[origin].insert(0 if first else len(self.waiting[origin]), ticket)
        self.do(Wanted(ticket, origin, self.now, shareable=origin != C, first=first))
        if self.down:
            assert ticket in self.ended
        return ticket

    @precondition(lambda self: self.opening)
    @rule(data=st.data(), capacity=st.integers(0, 3), settled=st.booleans())
    def opened(self, data: st.DataObject, capacity: int, settled: bool) -> None:
        connection = data.draw(st.sampled_from(sorted(self.opening)))
        ticket = self.opening.pop(connection)
        origin = self.origin_of[ticket]
        self.open[connection] = origin
        self.load[connection] = 0
        self.capacity[connection] = 1 if origin == C else capacity
        if ticket not in self.ended and self.capacity[connection] == 0:
            self.waiting[origin].insert(0, ticket)
        if not settled and origin != C:
            self.unsettled.add(connection)
        self.do(Opened(connection, self.capacity[connection], self.now, settled=connection not in self.unsettled))
        if ticket not in self.ended:
            # It waits; or its useless connection made room for somebody, and it was told to open again.
            assert ticket in self.waiting[origin] or ticket in self.opening.values()

    @precondition(lambda self: self.opening)
    @rule(data=st.data())
    def open_failed(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(sorted(self.opening)))
        ticket = self.opening.pop(connection)
        self.do(OpenFailed(connection, OSError("no")))
        assert ticket in self.ended

    @precondition(lambda self: any(self.load[c] for c in self.open))
    @rule(data=st.data(), keepalive=st.none() | st.floats(0.1, 100))
    def freed(self, data: st.DataObject, keepalive: float | None) -> None:
        connection = data.draw(st.sampled_from(sorted(c for c in self.open if self.load[c])))
        self.load[connection] -= 1
        self.do(Freed(connection, self.now, keepalive))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def broke(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(sorted(self.open)))
        self.do(Broke(connection))
        assert connection not in self.open

    @precondition(lambda self: any(o != C for o in self.open.values()))
    @rule(data=st.data(), capacity=st.integers(0, 3))
    def capacity_changed(self, data: st.DataObject, capacity: int) -> None:
        connection = data.draw(st.sampled_from(sorted(c for c, o in self.open.items() if o != C)))
        self.capacity[connection] = capacity  # below what it carries, too: a server may lower its limit at any time
        self.unsettled.discard(connection)
        self.do(CapacityChanged(connection, self.capacity[connection], self.now))

    @rule(ticket=consumes(tickets))
    def give_up(self, ticket: int) -> None:
        if ticket in self.ended:
            return
        self.ended.add(ticket)
        origin = self.origin_of[ticket]
        if ticket in self.waiting[origin]:
            self.waiting[origin].remove(ticket)
        for connection, opener in list(self.opening.items()):
            if opener == ticket:
                del self.opening[connection]
        self.do(GaveUp(ticket))

    @rule(seconds=st.floats(0, 10))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.do(Tick(self.now))

    @precondition(lambda self: self.next_ticket > 15)
    @rule(certain=st.integers(0, 20))
    def shutdown(self, certain: int) -> None:
        if certain == 0 and not self.down:
            self.down = True
            self.do(Shutdown(), shutdown=True)
            self.opening.clear()
            assert not self.open
            assert not any(self.waiting.values())

    # -- what always holds

    @invariant()
    def never_more_connections_than_allowed(self) -> None:
        assert len(self.open) + len(self.opening) <= self.limits.max_connections
        assert self.pool.open_count == len(self.open) + len(self.opening)

    @invariant()
    def never_more_idle_ones_than_allowed(self) -> None:
        idle = sum(self.load[c] == 0 for c in self.open)
        assert self.pool.idle_count == idle <= self.limits.max_keepalive_connections

    @invariant()
    def every_ticket_is_somewhere(self) -> None:
        waiting = {t for queue in self.waiting.values() for t in queue}
        opening = set(self.opening.values())
        assert self.pool.waiting_count == len(waiting)
        for ticket in self.origin_of:
            assert (ticket in self.ended) + (ticket in waiting) + (ticket in opening) == 1, ticket

    @invariant()
    def nobody_waits_beside_a_connection_with_room(self) -> None:
        for connection, origin in self.open.items():
            if self.load[connection] < self.capacity[connection]:
                assert not self.waiting[origin]

    @invariant()
    def nobody_waits_while_there_is_room_for_a_connection(self) -> None:
        idle = any(self.load[c] == 0 for c in self.open)
        if len(self.open) + len(self.opening) < self.limits.max_connections or idle:
            for origin, queue in self.waiting.items():
                if queue:
                    # Either somebody opens a connection that may be shared, or it is not known yet how many can share
                    # it, or the last one opened had no room.
                    opening = any(self.origin_of[t] == origin for t in self.opening.values())
                    opening |= any(self.open[c] == origin for c in self.unsettled if c in self.open)
                    useless = any(o == origin and self.capacity[c] == 0 for c, o in self.open.items())
                    assert origin != C
                    assert opening or useless, f"{origin} {queue} {self.pool}"

    def teardown(self) -> None:
        if not self.down:
            self.down = True
            self.do(Shutdown(), shutdown=True)
        assert not self.open


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=examples(100), stateful_step_count=60, deadline=None)
