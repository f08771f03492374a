"""The head of a response: what is known before its body."""

from __future__ import annotations

import attrs

from .headers import Headers

__all__ = ["ResponseHead"]


@attrs.frozen
class ResponseHead:
    """Status line and header fields. ``http_version`` is ``"HTTP/1.1"``, ``"HTTP/1.0"`` or ``"HTTP/2"``."""

    status_code: int
    headers: Headers
    http_version: str = "HTTP/1.1"

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code < 300

    @property
    def is_error(self) -> bool:
        return self.status_code >= 400
