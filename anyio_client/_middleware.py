"""Middleware: the caller's own code around each attempt, and around the whole call.

Two rings. What stands around an *attempt* sees every request before it is sent and every answer before its status is
judged, retries one by one. What stands around the *call* sees the first request and the last answer. In both, the first
of the list is the outermost. ``call_next(request)`` gives an :class:`AsyncAPIResponse`; returning it goes on as usual. A
:class:`Response` of one's own is judged like a server's (in the ring of calls without retries); any other value is the
result of the call, as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, cast

import attrs

from ._model.request import Request

__all__ = ["CallNext", "Layer", "Middleware", "RequestChanges", "Result", "make_rings"]

CallNext: TypeAlias = Callable[[Request], Awaitable[Any]]
Layer: TypeAlias = Callable[[Request, CallNext], Awaitable[Any]]  # one that a user writes, or several composed


class Middleware:
    """Code around calls, or around attempts, or both; override what is wanted.

    A plain ``async def mw(request, call_next)`` stands around each attempt. The request may be changed, or another one
    passed to ``call_next``: that holds for this attempt (for the call, in :meth:`around_call`). ``call_next`` may be
    called again, which closes the first response. Exceptions come out of the call as they are, except our connection
    errors, which count as the attempt's.
    """

    async def around_call(self, request: Request, call_next: CallNext) -> Any:
        """Once a call, retries inside."""
        return await call_next(request)

    async def around_attempt(self, request: Request, call_next: CallNext) -> Any:
        """Once an attempt; redirects and replaced connections inside."""
        return await call_next(request)


@attrs.frozen
class Result:
    """What a middleware returned in place of a response."""

    value: object


def make_rings(middleware: Sequence[object]) -> tuple[Layer | None, Layer | None]:
    """The rings around the call and around each attempt, None where nobody stands there. TypeError for what is neither."""
    if isinstance(middleware, str | bytes) or not isinstance(middleware, Sequence):
        raise TypeError(f"middleware= takes a list, not {type(middleware).__name__}")
    calls: list[Layer] = []
    attempts: list[Layer] = []
    for one in middleware:
        around_call = _method(one, "around_call")
        around_attempt = _method(one, "around_attempt")
        if around_call is None and around_attempt is None and not isinstance(one, Middleware):
            if isinstance(one, type) or not _is_async(one):
                given = f"the class {one.__name__}: make an instance" if isinstance(one, type) else type(one).__name__
                raise TypeError(
                    "a middleware is an `async def mw(request, call_next)`, or an object with around_call or "
                    f"around_attempt, not {given}"
                )
            around_attempt = cast("Layer", one)
        if around_call is not None:
            calls.append(around_call)
        if around_attempt is not None:
            attempts.append(around_attempt)
    return _composed(calls), _composed(attempts)


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _method(one: Any, name: str) -> Any:
    """The layer of that name, None where it is absent, or the one that only passes on."""
    if isinstance(one, type):
        return None
    found = getattr(one, name, None)
    if found is None or getattr(found, "__func__", None) is getattr(Middleware, name):
        return None
    if not _is_async(found):
        raise TypeError(f"{type(one).__name__}.{name} must be an async method")
    return found


def _composed(layers: list[Layer]) -> Layer | None:
    if not layers:
        return None
    ring: Layer = layers[-1]
    for layer in reversed(layers[:-1]):
        ring = _around(layer, ring)
    return ring


def _around(outer: Layer, inner: Layer) -> Layer:
    async def both(request: Request, call_next: CallNext) -> Any:
        return await outer(request, lambda passed: inner(passed, call_next))

    return both


@attrs.frozen
class RequestChanges:
    """What a middleware around the call did to the first attempt's request, for the attempts that follow."""

    method: str | None
    url: Any
    removed: tuple[str, ...]
    replaced: tuple[tuple[str, tuple[str, ...]], ...]
    body: Any

    @classmethod
    def between(cls, before: Request, after: Request) -> RequestChanges:
        replaced: list[tuple[str, tuple[str, ...]]] = []
        for name in after.headers:
            values = after.headers.get_list(name)
            if values != before.headers.get_list(name):
                replaced.append((name, tuple(values)))
        return cls(
            after.method if after.method != before.method else None,
            after.url if after.url != before.url else None,
            tuple(name for name in before.headers if name not in after.headers),
            tuple(replaced),
            after.body if after.body is not before.body else None,
        )

    @property
    def names(self) -> frozenset[str]:
        """The lower-case names of the fields that were changed."""
        return frozenset(name.lower() for name in (*self.removed, *(name for name, _ in self.replaced)))

    def apply(self, request: Request) -> None:
        if self.method is not None:
            request.method = self.method
        if self.url is not None:
            request.url = self.url
        for name in self.removed:
            request.headers.pop(name, None)
        for name, values in self.replaced:
            request.headers[name] = values[0]
            for value in values[1:]:
                request.headers.add(name, value)
        if self.body is not None:
            request.body = self.body
