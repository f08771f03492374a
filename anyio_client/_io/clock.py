"""One send's time: a single cancel scope whose deadline moves from phase to phase."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

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

__all__ = ["Clock", "loop_finder", "time_source"]

E = TypeVar("E", bound=APIConnectionError)

_LIMITS = {
    Phase.POOL: (PoolTimeoutError, "no connection was free", "pool"),
    Phase.CONNECT: (ConnectTimeoutError, "the connection was not made", "connect"),
    Phase.PROXY: (ConnectTimeoutError, "the proxy did not let us through", "connect"),
    Phase.TLS: (ConnectTimeoutError, "the TLS handshake was not done", "connect"),
    Phase.SEND: (WriteTimeoutError, "the server took nothing", "write"),
    Phase.RECEIVE: (ReadTimeoutError, "the server sent nothing", "read"),
    Phase.BODY: (ReadTimeoutError, "the server sent nothing more of the body", "read"),
}


def time_source() -> Callable[[], float]:
    """``anyio.current_time`` of the running event loop, which need not be looked for again each time."""
    token = anyio.lowlevel.current_token()
    loop: Any = token.native_token
    if not hasattr(loop, "time"):
        return token.backend_class.current_time
    # asyncio's own loops say what time.monotonic says; another one, of a test perhaps, may say something else.
    usual: object = sys.modules["asyncio"].BaseEventLoop.time
    says: Callable[[], float] = loop.time
    return time.monotonic if getattr(says, "__func__", None) is usual else says


def loop_finder(token: object) -> Callable[[], object]:
    """What gives the native token of the running event loop, of the same kind as *token*; RuntimeError in another kind."""
    if hasattr(token, "create_task"):
        finder: Callable[[], object] = sys.modules["asyncio"].get_running_loop
        return finder
    return lambda: anyio.lowlevel.current_token().native_token


class Clock:
    """The limits of one send, and how far it came.

    A context manager around the send: leaving it after a limit passed raises the error that names the limit. The body
    of a response that was handed to the caller is read in further entries, one for each wait.
    """

    __slots__ = (
        "_limited_by",
        "_scope",
        "began",
        "body_size",
        "deadline",
        "explain",
        "now",
        "outcome",
        "phase",
        "request",
        "timeout",
        "timings",
    )

    def __init__(
        self, request: Request, timeout: Timeout, deadline: float | None, now: Callable[[], float] | None = None
    ) -> None:
        self.request: Request = request
        self.timeout: Timeout = timeout
        self.deadline: float = math.inf if deadline is None else deadline
        self.now: Callable[[], float] = now or time_source()
        self.began: float = self.now()
        self.timings: Timings = Timings()
        self.phase: Phase = Phase.POOL
        self.outcome: Outcome = Outcome.NOT_SENT
        self.body_size: int | None = None
        self.explain: Callable[[float], str] | None = None  # why no connection is free
        self._scope: anyio.CancelScope | None = None
        self._limited_by: float | None = None

    def __enter__(self) -> Clock:
        self._scope = anyio.CancelScope(deadline=self.deadline)
        self._scope.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        scope = self._scope
        assert scope is not None
        scope.__exit__(exc_type, exc, tb)
        self._scope = None
        if scope.cancelled_caught:
            raise self.timeout_error() from None

    def allow(self, phase: Phase, limit: float | None) -> None:
        """From now on this phase, for at most *limit* seconds; DeadlineExceededError where the deadline has passed."""
        scope = self._scope
        if scope is not None and scope.cancel_called:
            raise self.timeout_error()  # the limit before this one has passed, and the scope will not forget it
        self.phase = phase
        self._limited_by = limit
        now = self.now()
        if now >= self.deadline:
            # A peer that always has something ready can keep a cancellation from being delivered: look for ourselves.
            raise self.timeout_error()
        if scope is not None:
            if limit is None:
                scope.deadline = self.deadline
            else:
                until = now + limit
                scope.deadline = until if until < self.deadline else self.deadline

    def extend(self, limit: float | None) -> None:
        """Bytes have come: the limit begins anew. Raises nothing, since the task that says so may be another one."""
        if self._scope is not None and limit is not None:
            self._limited_by = limit
            self._scope.deadline = min(self.now() + limit, self.deadline)

    @property
    def left(self) -> float:
        """Seconds until the limit of now, or the deadline."""
        return (math.inf if self._scope is None else self._scope.deadline) - self.now()

    @property
    def has_passed(self) -> bool:
        """Whether the limit of now has passed, and nothing else ends the wait."""
        return self._scope is not None and self.now() >= self._scope.deadline

    def check(self) -> None:
        """Raise the error of the limit that has passed, if one has: for loops that may go round without waiting."""
        if self._scope is not None and self.now() >= self._scope.deadline:
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
