"""What every codec of HTTP/1.1 shares (RFC 9112)."""

from __future__ import annotations

import re
from typing import Final

from .._model.errors import Outcome
from .protocol import Failed, WireEvent

__all__ = ["MAX_HEAD_SIZE", "MAX_INTERIM_RESPONSES", "OneExchange", "parse_keepalive"]

MAX_HEAD_SIZE: Final = 100 * 1024  # nginx takes 32 KiB, node 16 KiB, browsers about 250 KiB
MAX_INTERIM_RESPONSES: Final = 100  # a server that needs more progress reports should stream them

# RFC 9112 appendix C.2 names the parameter; RFC 2068 section 19.7.1.1 gave its form
_KEEPALIVE_TIMEOUT = re.compile(r"(?:^|[,;\s])timeout\s*=\s*\"?([0-9]{1,9})", re.IGNORECASE | re.ASCII)


class OneExchange:
    """What every codec of HTTP/1.1 shares: one exchange at a time, and whether the connection can carry a further one."""

    http_version = "HTTP/1.1"
    settled = True

    def __init__(
        self, max_head_size: int, forwarded: bool, proxy_authorization: str | None, last_exchange: int = 0
    ) -> None:
        self._max_head_size: int = max_head_size
        self._forwarded: bool = forwarded
        self._proxy_authorization: str | None = proxy_authorization
        self._out: list[bytes] = []
        self._exchange: int = last_exchange  # the current one's id, also after its end
        self._busy: bool = False  # the current exchange has not ended
        self.closing: bool = False  # it takes no further exchanges
        self._keepalive: float | None = None
        # Of the current exchange, from open() on:
        self._finished: bool  # the request is complete
        self._answered: bool  # the head of the final response came
        self._interim: int

    def take_output(self) -> bytes:
        out = self._out
        if len(out) == 1:
            return out.pop()
        taken = b"".join(out)
        out.clear()
        return taken

    # -- ending

    def abandon(self, exchange: int) -> None:
        if exchange == self._exchange and self._busy:
            self._busy, self.closing = False, True

    def ping(self) -> bool:
        return False

    def close(self) -> None:
        self.closing = True

    def consumed(self, exchange: int, size: int) -> None:
        """HTTP/1.1 has no windows: who does not read stops the peer by TCP."""

    def capacity(self) -> int:
        return 0 if self.closing else 1

    @property
    def receiving(self) -> int:
        return self._exchange

    def keepalive(self) -> float | None:
        return self._keepalive

    def _fail(self, events: list[WireEvent], reason: str, lost: bool) -> None:
        self._busy, self.closing = False, True
        outcome = Outcome.ANSWERED if self._answered else Outcome.UNKNOWN
        events.append(Failed(self._exchange, reason, lost, outcome))


def parse_keepalive(value: str | None) -> float | None:
    match = _KEEPALIVE_TIMEOUT.search(value) if value else None
    return float(match[1]) if match else None
