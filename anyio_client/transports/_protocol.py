"""What every transport is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from .._io.response import Response
from .._model.request import Request
from .._model.timeouts import Timeout

__all__ = ["Transport"]


@runtime_checkable
class Transport(Protocol):
    """Carries requests. Retries, redirects, credentials and status errors are the client's, not the transport's.

    ``send`` returns as soon as the head of the response is there; its body is read, or closed, by whoever holds it.
    ``deadline`` is absolute, on the clock of ``anyio.current_time()``. What fails is raised as one of our errors, with
    phase and outcome, because retries are decided by them. A transport may have an attribute ``timeout``, which the
    client uses where it has none of its own, and an attribute ``keeps_deadline = True`` if it raises
    ``DeadlineExceededError`` by itself; for the others the client puts a scope around. ``snapshot()``, if it has one, gives a
    :class:`Snapshot`. ``aclose`` may be called twice.
    """

    async def send(self, request: Request, *, timeout: Timeout, deadline: float | None) -> Response: ...

    async def aclose(self) -> None: ...
