"""What a server says of us after the handshake: with TLS 1.3 it judges a client certificate only then."""

from __future__ import annotations

import ssl
from typing import TypeGuard

from .._model.errors import TLSError
from .clock import Clock
from .tls_options import explain, is_final

__all__ = ["is_alert", "session_ended"]


def is_alert(exc: BaseException | None) -> TypeGuard[ssl.SSLError]:
    """Whether the peer has ended the TLS session, and not only the connection."""
    return isinstance(exc, ssl.SSLError) and not isinstance(exc, ssl.SSLEOFError)


def session_ended(clock: Clock, alert: ssl.SSLError) -> TLSError:
    error = clock.error(TLSError, f"The server ended the TLS session: {explain(alert, clock.request.url.host)}")
    error.retryable = not is_final(alert)
    return error
