"""How long to wait, and how much to hold: ``Timeout``, ``Limits``, and what a call's time was spent on."""

from __future__ import annotations

import math
from typing import Final

import attrs

from .given import NotGiven, not_given

__all__ = ["DEFAULT_LIMITS", "DEFAULT_TIMEOUT", "Limits", "Timeout", "Timings", "check_seconds"]


def check_seconds(name: str, value: object) -> float | None:
    """Seconds as a float, None for no limit; TypeError or ValueError for what cannot be a span of time."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds or None, not {type(value).__name__}")
    try:
        seconds = float(value)
    except OverflowError:
        raise ValueError(f"{name} is a number of seconds that is too large; None switches it off") from None
    if math.isnan(seconds) or seconds <= 0:
        raise ValueError(f"{name} must be more than 0 seconds, got {value!r}; None switches it off")
    return None if math.isinf(seconds) else seconds


@attrs.frozen(init=False)
class Timeout:
    """Limits on single waits, in seconds; None means no limit.

    ``connect``: TCP, TLS and proxy together. ``read``, ``write``: each wait for the peer without a byte of progress.
    ``pool``: waiting for a connection. ``Timeout(30)`` sets all four, keywords set one: ``Timeout(30, connect=5)``.
    A limit on the whole call is a *deadline*, which is an option of its own.
    """

    connect: float | None
    read: float | None
    write: float | None
    pool: float | None

    def __init__(
        self,
        default: float | NotGiven | None = not_given,
        *,
        connect: float | NotGiven | None = not_given,
        read: float | NotGiven | None = not_given,
        write: float | NotGiven | None = not_given,
        pool: float | NotGiven | None = not_given,
    ) -> None:
        for name, value in (("connect", connect), ("read", read), ("write", write), ("pool", pool)):
            chosen = default if isinstance(value, NotGiven) else value
            if isinstance(chosen, NotGiven):
                raise TypeError(f"Timeout() needs a default, as in Timeout(30), or a value for {name}=")
            object.__setattr__(self, name, check_seconds(f"Timeout {name}", chosen))

    @classmethod
    def of(cls, value: float | Timeout | None) -> Timeout:
        """*value* as a Timeout: a number sets all four limits, None sets none."""
        if isinstance(value, Timeout):
            return value
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            raise TypeError(f"timeout must be a number of seconds, a Timeout or None, not {kind}")
        return cls(value)


# 600 s to answer: what the SDKs give a model to think; 5 s to connect: httpx, aiohttp and the SDKs agree on it.
DEFAULT_TIMEOUT: Final = Timeout(600, connect=5)


def _count(instance: object, attribute: attrs.Attribute[int], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{attribute.name} must be an int, not {type(value).__name__}")
    if value < (1 if attribute.name == "max_connections" else 0):
        raise ValueError(f"{attribute.name} is too small: {value}")


def _expiry(value: object) -> float:
    if value is None:
        return math.inf
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    raise ValueError(f"keepalive_expiry must be a number of seconds >= 0 or None, got {value!r}")


@attrs.frozen
class Limits:
    """How many connections a pool may hold, how many of them idle, and for how long (seconds).

    ``keepalive_expiry=None`` keeps idle connections until the server closes them.
    """

    max_connections: int = attrs.field(default=1000, validator=_count)
    max_keepalive_connections: int = attrs.field(default=100, validator=_count)
    keepalive_expiry: float = attrs.field(default=30.0, converter=_expiry)


DEFAULT_LIMITS: Final = Limits()


@attrs.define
class Timings:
    """Where the time of one send went: seconds, None for what did not happen.

    ``queue``: waiting for a connection; ``connect``: DNS and TCP; ``tls``: the handshake; ``send``: the request;
    ``first_byte``: from the request's end (or an early answer's begin) to the response's head; ``body``: reading the
    body; ``total``: all of it. ``reused``: whether the connection had carried a request before.
    """

    queue: float | None = None
    connect: float | None = None
    tls: float | None = None
    send: float | None = None
    first_byte: float | None = None
    body: float | None = None
    total: float | None = None
    reused: bool = False

    def __str__(self) -> str:
        parts = [
            f"{name} {value:.3f} s"
            for name in ("queue", "connect", "tls", "send", "first_byte", "body", "total")
            if (value := getattr(self, name)) is not None
        ]
        return ", ".join(parts)
