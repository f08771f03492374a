"""One send's time: what its waits are limited to, phase by phase."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from .._model.errors import (
    APIConnectionError,
    APITimeoutError,
    ConnectTimeoutError,
    DeadlineExceededError,
    Outcome,
    Phase,
    PoolTimeoutError,
    ReadTimeoutError,
    WriteTimeoutError,
)
from .._model.request import Request
from .._model.timeouts import Timeout, Timings
from .event_loop import EventLoop

__all__ = ["Clock"]

E = TypeVar("E", bound=APIConnectionError)

TICK = 0.001  # seconds: a limit that moves by less is left where it is, since moving a scope costs as much as a wait

_LIMITS = {
    Phase.POOL: (PoolTimeoutError, "no connection was free", "pool"),
    Phase.CONNECT: (ConnectTimeoutError, "the connection was not made", "connect"),
    Phase.PROXY: (ConnectTimeoutError, "the proxy did not let us through", "connect"),
    Phase.TLS: (ConnectTimeoutError, "the TLS handshake was not done", "connect"),
    Phase.SEND: (WriteTimeoutError, "the server took nothing", "write"),
    Phase.RECEIVE: (ReadTimeoutError, "the server sent nothing", "read"),
    Phase.BODY: (ReadTimeoutError, "the server sent nothing more of the body", "read"),
}


class Clock:
    """The limits of one send, and how far it came.

    Where something comes over a connection, the stream keeps the limit, which is cheap: see ``until``. Around all other
    waits the clock is a context manager, one cancel scope whose deadline moves from phase to phase; leaving it after a
    limit passed raises the error that names the limit.
    """

    __slots__ = (
        "_limited_by",
        "_scope",
        "_until",
        "began",
        "body_size",
        "deadline",
        "explain",
        "loop",
        "now",
        "outcome",
        "phase",
        "request",
        "timeout",
        "timings",
    )

    def __init__(
        self, request: Request, timeout: Timeout, deadline: float | None, loop: EventLoop | None = None
    ) -> None:
        if loop is None:
            loop = EventLoop()
        self.loop: EventLoop = loop
        self.now: Callable[[], float] = loop.now
        self.request: Request = request
        self.timeout: Timeout = timeout
        self.deadline: float = math.inf if deadline is None else deadline
        self.began: float = self.now()
        self.timings: Timings = Timings()
        self.phase: Phase = Phase.POOL
        self.outcome: Outcome = Outcome.NOT_SENT
        self.body_size: int | None = None
        self.explain: Callable[[float], str] | None = None  # why no connection is free
        self._scope: Any = None
        self._until: float = self.deadline  # when the limit of now passes
        self._limited_by: float | None = None

    def __enter__(self) -> Clock:
        self._until = self.deadline
        self._scope = self.loop.make_scope(deadline=self.deadline)
        self._scope.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        scope, self._scope = self._scope, None
        scope.__exit__(exc_type, exc, tb)
        if scope.cancelled_caught:
            raise self.timeout_error() from None

    def allow(self, phase: Phase, limit: float | None) -> float:
        """From now on this phase, for at most *limit* seconds; now. DeadlineExceededError where the deadline has passed."""
        now = self.now()
        if now >= (self.deadline if self._scope is None else self._until):
            # The limit before this one has passed, and the scope will not forget it. Or the deadline: a peer that always
            # has something ready can keep a cancellation from being delivered, so that we look for ourselves.
            raise self.timeout_error()
        self.phase = phase
        self._limited_by = limit
        until = self.deadline
        if limit is not None and now + limit < until:
            until = now + limit
        if self._scope is None:
            self._until = until
        elif not -TICK < until - self._until < TICK:
            self._until = self._scope.deadline = until
        return now

    def extend(self, limit: float | None) -> None:
        """Bytes have come: the limit begins anew. Raises nothing, since the task that says so may be another one."""
        if limit is not None:
            self._limited_by = limit
            self._until = min(self.now() + limit, self.deadline)
            if self._scope is not None:
                self._scope.deadline = self._until

    @property
    def until(self) -> float:
        """When a wait for what comes over the connection must end; never by itself, where a scope stands around it."""
        return self._until if self._scope is None else math.inf

    @property
    def left(self) -> float:
        """Seconds until the limit of now, or the deadline."""
        return self._until - self.now()

    @property
    def has_passed(self) -> bool:
        """Whether the limit of now has passed, and nothing else ends the wait."""
        return self.now() >= self._until

    def check(self) -> None:
        """Raise the error of the limit that has passed, if one has: for loops that may go round without waiting."""
        if self.now() >= self._until:
            raise self.timeout_error()

    def timeout_error(self) -> APITimeoutError:
        """The error for the limit that has passed."""
        now = self.now()
        self.timings.total = now - self.began
        if now >= self.deadline:
            message = f"The deadline passed in phase {self.phase.value} ({self.timings})."
            cls: type[APITimeoutError] = DeadlineExceededError
        else:
            cls, what, name = _LIMITS[self.phase]
            limit = "long enough" if self._limited_by is None else f"{self._limited_by:g} s"
            message = f"{what[0].upper()}{what[1:]} for {limit} (Timeout {name})."
            if self.phase is Phase.POOL and self.explain is not None:
                message += f" {self.explain(now)}."
        error = cls(message, request=self.request, phase=self.phase, outcome=self.outcome)
        error.timings, error.body_size = self.timings, self.body_size
        return error

    def error(self, cls: type[E], message: str) -> E:
        """An error that knows the phase and the outcome."""
        return cls(message, request=self.request, phase=self.phase, outcome=self.outcome)
