"""Whether to try again, and after how long: pure questions, asked by the call machine.

The rules in short. A status decides by itself (408, 409, 429, 500 and above, unless the server says otherwise). Without
an answer, what decides is the *outcome* of the attempt: what surely was not processed is repeated for every method,
what may have been processed only where repeating it is harmless.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final, cast

import attrs

from .._model.dates import parse_http_date
from .._model.errors import Outcome
from .._model.request import Request

__all__ = [
    "RetryBudget",
    "RetryPolicy",
    "backoff",
    "may_repeat",
    "parse_retry_after",
    "server_advice",
    "status_asks_for_retry",
]

# 408 Request Timeout, 409 Conflict (lock timeouts), 429 Too Many Requests: what the SDKs retry. 500 and above always.
RETRIED_STATUSES: Final = frozenset({408, 409, 429, *range(500, 600)})


@attrs.define
class RetryBudget:
    """A token bucket that stops retries when most calls fail, as in gRPC's client (proposal A6).

    A failure takes 1 token, a success gives ``token_ratio`` back; while the bucket holds half of ``max_tokens`` or
    less, nothing is retried. One budget may be shared between clients.
    """

    max_tokens: float = 100.0
    token_ratio: float = 0.1
    tokens: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        if not (0 < self.max_tokens < math.inf and 0 < self.token_ratio < math.inf):
            raise ValueError("a retry budget needs max_tokens > 0 and token_ratio > 0")
        self.tokens = self.max_tokens

    def take(self) -> None:
        """Count a failure."""
        self.tokens = max(0.0, self.tokens - 1.0)

    def give_back(self) -> None:
        """Count a success."""
        self.tokens = min(self.max_tokens, self.tokens + self.token_ratio)

    @property
    def allows_retry(self) -> bool:
        return self.tokens > self.max_tokens / 2


def _seconds(instance: object, attribute: attrs.Attribute[float], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{attribute.name} must be a number, not {type(value).__name__}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{attribute.name} must be a finite number >= 0, got {value!r}")


def _ratio(instance: object, attribute: attrs.Attribute[float], value: object) -> None:
    _seconds(instance, attribute, value)
    if value > 1:  # type: ignore[operator]
        raise ValueError(f"{attribute.name} must be between 0 and 1, got {value!r}")


def _to_frozenset(statuses: object) -> frozenset[int]:
    if isinstance(statuses, str) or not isinstance(statuses, Iterable):
        raise TypeError("statuses must be a collection of ints")
    found: frozenset[int] = frozenset(cast("Iterable[int]", statuses))
    if not all(isinstance(status, int) for status in found):
        raise TypeError("statuses must be a collection of ints")
    return found


@attrs.frozen
class RetryPolicy:
    """How retries wait, and what they may repeat. Times are seconds.

    Before retry number ``n`` (from 0) the wait is ``min(wait_initial * 2**n, wait_max) * (1 - wait_jitter * r)`` with
    ``r`` in [0, 1), unless the server names a delay: that one is taken as it is, up to ``wait_server_max``; a longer one
    ends the call. ``statuses``: which error statuses are retried. ``retry_unsafe``: also repeat what may have been
    processed, although the method is not idempotent and carries no idempotency key. ``budget``: see RetryBudget.
    """

    wait_initial: float = attrs.field(default=0.5, validator=_seconds)  # 0.5, 8, 0.25: the SDKs' constants
    wait_max: float = attrs.field(default=8.0, validator=_seconds)
    wait_jitter: float = attrs.field(default=0.25, validator=_ratio)
    wait_server_max: float = attrs.field(default=120.0, validator=_seconds)
    statuses: frozenset[int] = attrs.field(default=RETRIED_STATUSES, converter=_to_frozenset, repr=False)
    retry_unsafe: bool = False
    budget: RetryBudget | None = None


def backoff(policy: RetryPolicy, retries_taken: int, random: float) -> float:
    """Seconds to wait before the next retry, *retries_taken* having been made; *random* in [0, 1)."""
    # The exponent is bounded so that the float cannot overflow; wait_max rules long before.
    wait = min(policy.wait_initial * 2.0 ** min(retries_taken, 60), policy.wait_max)
    return wait * (1.0 - policy.wait_jitter * random)


def wait_before(
    policy: RetryPolicy,
    retries_taken: int,
    random: Callable[[], float],
    *,
    advice: float | None,
    now: float,
    deadline: float | None,
) -> float | None:
    """Seconds to wait before the next try (a retry, or the rest of what was cut), or None where it is not to be made.

    *advice*: what the server asked for, which is kept as it is, up to ``wait_server_max``; without it :func:`backoff`.
    A wait that would pass the *deadline* is not begun.
    """
    seconds = backoff(policy, retries_taken, random()) if advice is None else advice
    if advice is not None and advice > policy.wait_server_max:
        return None
    return seconds if deadline is None or now + seconds < deadline else None


def _positive(text: str) -> float | None:
    """A positive, finite decimal number (RFC 9110 delay-seconds, fractions allowed), else None."""
    if not text.isascii() or not text.replace(".", "", 1).isdigit():
        return None
    value = float(text)
    return value if 0 < value < math.inf else None


def parse_retry_after(value: str, now: float) -> float | None:
    """Seconds to wait, from a ``Retry-After`` field, or None if it is malformed.

    Accepts delay-seconds (fractions too) and HTTP-date; zero, negative values and a date in the past give None. *now*
    is POSIX seconds. Never raises. RFC 9110 section 10.2.3.
    """
    text = value.strip()
    seconds = _positive(text)
    if seconds is not None:
        return seconds
    moment = parse_http_date(text, now)
    wait = 0.0 if moment is None else moment - now
    return wait if wait > 0 else None


def server_advice(headers: Mapping[str, str], posix_now: float) -> float | None:
    """Seconds that the server asks to wait: ``retry-after-ms``, else ``retry-after``, else None."""
    milliseconds = headers.get("retry-after-ms")
    if milliseconds is not None:
        value = _positive(milliseconds.strip())
        if value is not None:
            return value / 1000.0
    advice = headers.get("retry-after")
    return None if advice is None else parse_retry_after(advice, posix_now)


def status_asks_for_retry(policy: RetryPolicy, status_code: int, headers: Mapping[str, str]) -> bool:
    """Whether an error status is worth a retry, whatever the method.

    The field ``x-should-retry: true`` or ``false`` (in exactly these letters) overrules the status.
    """
    said = headers.get("x-should-retry")
    if said == "true":
        return True
    if said == "false":
        return False
    return status_code in policy.statuses or status_code >= 600


def may_repeat(policy: RetryPolicy, request: Request, outcome: Outcome, idempotency_header: str) -> bool:
    """Whether *request* may be sent again after an attempt with this outcome (RFC 9110 section 9.2.2)."""
    if outcome is Outcome.NOT_SENT or outcome is Outcome.REFUSED:
        return True
    return request.is_idempotent or policy.retry_unsafe or bool(request.headers.get(idempotency_header))
