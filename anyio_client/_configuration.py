"""What a client is configured with: checked, and merged, before anything is sent."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ._io.event_loop import EventLoop
from ._model.given import Omit
from ._model.headers import Headers
from .transports._protocol import Transport

if TYPE_CHECKING:
    from ._convert import Codec

__all__ = [
    "DEFAULT_ACCEPT",
    "Home",
    "check_transport",
    "codec_of",
    "default",
    "is_default",
    "merge_headers",
    "merge_query",
    "platform_headers",
]


DEFAULT_ACCEPT = "application/json"

F = TypeVar("F", bound=Callable[..., Any])


def default(hook: F) -> F:
    """Marks what a hook does by default, which need not be called for it.

    The mark is the function itself, so that what stands in its place has none, though it may have copied the attributes
    (``functools.wraps``) or have any (mocks). A bound hook is looked at by ``hook.default_of is hook.__func__``.
    """
    hook.default_of = hook  # type: ignore[attr-defined]
    return hook


def is_default(hook: object) -> bool:
    """Whether a bound hook does what it does by default."""
    return getattr(hook, "default_of", 0) is getattr(hook, "__func__", None)


class Home:
    """The event loop that a client and its copies belong to: the one that first used them."""

    __slots__ = ("_loop",)

    def __init__(self) -> None:
        self._loop: EventLoop | None = None

    def check(self) -> EventLoop:
        """The loop that runs. RuntimeError where it is another than before."""
        loop = self._loop
        if loop is None:
            loop = self._loop = EventLoop()
            return loop
        if not loop.is_running:
            raise RuntimeError(
                "this client was first used in another event loop (or thread): make one client for each event loop"
            )
        return loop


def check_transport(given: object) -> Transport:
    """TypeError, with what to pass instead, for what is no transport."""
    for cls in type(given).__mro__:
        package = cls.__module__.partition(".")[0]
        if package in ("httpx", "httpx2") and "Client" in cls.__name__:
            adapter = f"anyio_client.contrib.{package}.HTTPXTransport"
            raise TypeError(f"http_client= takes a Transport; wrap the {package} client: {adapter}(client)")
        if package == "aiohttp" and cls.__name__ == "ClientSession":
            raise TypeError("http_client= takes a Transport, and there is no adapter for aiohttp: pass HTTPTransport()")
    if isinstance(given, type) or not isinstance(given, Transport):
        raise TypeError(
            f"http_client= takes a Transport (HTTPTransport(), MockTransport(handler), or an object with "
            f"`async send(request, *, timeout, deadline)` and `async aclose()`), not {_kind(given)}"
        )
    return given


def _kind(given: object) -> str:
    """What was passed, without its repr: a URL of a proxy may hold a password."""
    return f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"


def merge_headers(low: Mapping[str, str | Omit], high: Mapping[str, str | Omit] | None) -> dict[str, str | Omit]:
    if high is None:
        return dict(low)
    if not isinstance(high, Mapping):
        raise TypeError(f"custom_headers must be a mapping, not {type(high).__name__}")
    Headers().apply(high)  # names and values are checked now, not at the first request
    names = {name.lower() for name in high}
    return {**{name: value for name, value in low.items() if name.lower() not in names}, **high}


def merge_query(low: Mapping[str, object], high: Mapping[str, object] | None) -> dict[str, object]:
    if high is None:
        return dict(low)
    if not isinstance(high, Mapping):
        raise TypeError(f"custom_query must be a mapping, not {type(high).__name__}")
    return {**low, **high}


def codec_of(converter: Any) -> Codec:
    """The codec with the hooks of *converter*; that of all who bring none. TypeError for what is no converter."""
    if converter is None:
        return _default_codec()
    import cattrs

    from ._convert import Codec

    if not isinstance(converter, cattrs.Converter):
        raise TypeError(f"converter must be a cattrs.Converter, not {type(converter).__name__}")
    return Codec(converter)


@functools.cache
def _default_codec() -> Codec:
    from ._convert import Codec

    return Codec()


@functools.cache
def platform_headers(version: str) -> dict[str, str]:
    """What Stainless-generated SDKs say of the machine, under their names."""
    import platform

    return {
        "X-Stainless-Lang": "python",
        "X-Stainless-Package-Version": version,
        "X-Stainless-OS": platform.system() or "Unknown",
        "X-Stainless-Arch": platform.machine() or "unknown",
        "X-Stainless-Runtime": platform.python_implementation(),
        "X-Stainless-Runtime-Version": platform.python_version(),
    }
