"""Everything that one request may say about itself."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from .given import NotGiven, Omit, not_given
from .headers import Headers, check_method
from .request import Carrier, Content
from .timeouts import Timeout, check_seconds
from .url import URL

__all__ = ["OPTION_NAMES", "RawMode", "RequestOptions", "check_bool", "check_retries", "show_url"]


def check_retries(value: object) -> int:
    """A number of retries; TypeError or ValueError for anything else (None too: 0 switches retries off)."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"max_retries must be an int, not {type(value).__name__}; 0 switches retries off")
    if value < 0:
        raise ValueError(f"max_retries must be at least 0, got {value}")
    return value


class RawMode(enum.Enum):
    """Whether a call gives the decoded object, or the response it would be decoded from."""

    PARSED = "parsed"
    RAW = "raw"  # an AsyncAPIResponse, its body read
    STREAMED = "streamed"  # an AsyncAPIResponse, its body not read


def _check_timeout(value: float | Timeout | NotGiven | None) -> Timeout | NotGiven:
    return value if isinstance(value, NotGiven) else Timeout.of(value)


def _check_deadline(value: float | NotGiven | None) -> float | NotGiven | None:
    return value if isinstance(value, NotGiven) else check_seconds("deadline", value)


def _check_event_timeout(value: float | None) -> float | None:
    return check_seconds("event_timeout", value)


def _check_max_retries(value: int | NotGiven) -> int | NotGiven:
    return value if isinstance(value, NotGiven) else check_retries(value)


def _check_mapping(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, NotGiven | Mapping):
        raise TypeError(f"{attribute.name} must be a mapping or not_given, not {type(value).__name__}")


def _check_extra(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"extra_json must be a mapping, not {type(value).__name__}: it merges into the JSON body")


def check_bool(name: str, value: object) -> bool:
    """*value* itself; TypeError for what only looks like a truth value, such as "no"."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")
    return value


def _check_bool(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, NotGiven):
        check_bool(attribute.name, value)


def _check_url(instance: object, attribute: attrs.Attribute[Any] | None, value: object) -> None:
    if not isinstance(value, str | URL):
        raise TypeError(f"the path must be a str or a URL, not {type(value).__name__}")


def _check_key(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value == "":
        raise ValueError("idempotency_key must not be empty: all requests would be one; None leaves it out")


def _check_compress(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in (None, "gzip", "zstd"):
        raise ValueError(f"compress must be 'gzip' or 'zstd', not {value!r}")


def _check_callable(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, NotGiven) or value is None:
        return
    if not callable(value):
        raise TypeError(f"{attribute.name} must be callable, not {type(value).__name__}")
    if inspect.iscoroutinefunction(value):
        raise TypeError(f"{attribute.name} must be a plain function, no coroutine function")


def show_url(url: str | URL) -> str:
    """For the repr: a query, a fragment or userinfo may hold secrets."""
    if isinstance(url, URL):
        return repr(url)
    # Userinfo ends at the last "@" before the path, as in URL().
    return repr(re.sub(r"//[^/]*@", "//***@", re.split(r"[?#]", url, maxsplit=1)[0]))


@attrs.define(slots=False)  # so that those of a plain call, with two dozen defaults, are one copy of a dict
class RequestOptions:
    """The options of one request. What is ``not_given`` is inherited from the client; None switches off.

    ``url``: a path below the client's base URL, or an absolute URL. ``json_data``: a value to send as JSON;
    ``extra_json`` merges into it. ``content``: a body as it stands; ``files``: a multipart form, whose fields are
    ``json_data``; ``form``: a mapping, sent urlencoded. ``compress``: ``"gzip"`` or ``"zstd"``, for the body. ``progress``:
    called as the body is sent, with the bytes so far and the total (None where it is unknown). ``timeout`` as in :class:`Timeout`; ``deadline``:
    seconds for the whole call. ``expect_continue``: the body waits for the server's 100 (Continue), a second at most.
    ``on_informational``: called with status and headers of each interim (1xx) answer. ``trailers``: called after the body,
    gives trailer fields. ``event_timeout``: seconds without an item of a stream. ``post_parser``: a function
    over the decoded object. A mapping with these names may be passed wherever options are taken.
    """

    method: str = attrs.field(default="get", converter=check_method)
    url: str | URL = attrs.field(default="", validator=_check_url, repr=show_url)
    headers: Mapping[str, str | Omit] | NotGiven = attrs.field(default=not_given, validator=_check_mapping, repr=False)
    params: Mapping[str, object] | NotGiven = attrs.field(default=not_given, validator=_check_mapping, repr=False)
    json_data: object = attrs.field(default=not_given, repr=False)
    content: Content | None = attrs.field(default=None, repr=False)
    files: object = attrs.field(default=None, repr=False)
    form: Mapping[str, object] | None = attrs.field(default=None, repr=False)
    extra_json: Mapping[str, object] | None = attrs.field(default=None, validator=_check_extra, repr=False)
    timeout: Timeout | NotGiven = attrs.field(default=not_given, converter=_check_timeout)
    deadline: float | NotGiven | None = attrs.field(default=not_given, converter=_check_deadline)
    max_retries: int | NotGiven = attrs.field(default=not_given, converter=_check_max_retries)
    idempotency_key: str | NotGiven | None = attrs.field(default=not_given, validator=_check_key, repr=False)
    follow_redirects: bool | NotGiven = attrs.field(default=not_given, validator=_check_bool)
    expect_continue: bool = attrs.field(default=False, validator=_check_bool)
    compress: str | None = attrs.field(default=None, validator=_check_compress)
    progress: Callable[[int, int | None], object] | None = attrs.field(default=None, validator=_check_callable)
    on_informational: Callable[[int, Headers], object] | None = attrs.field(default=None, validator=_check_callable)
    trailers: Callable[[], Mapping[str, str]] | None = attrs.field(default=None, validator=_check_callable)
    event_timeout: float | None = attrs.field(default=None, converter=_check_event_timeout)
    strict: bool | NotGiven = attrs.field(default=not_given, validator=_check_bool)
    post_parser: Callable[[Any], Any] | NotGiven = attrs.field(default=not_given, validator=_check_callable)
    raw_mode: RawMode = attrs.field(default=RawMode.PARSED, repr=False)
    carrier: Carrier | None = attrs.field(default=None, repr=False, eq=False)

    @classmethod
    def plain(cls, method: str, url: str | URL, json_data: object, files: object, form: object) -> RequestOptions:
        """The same as the constructor for these, None standing for what is not given; most calls have no others."""
        if type(method) is not str or method not in _METHODS or form is not None:
            given: Any = form
            return cls(method, url, json_data=not_given if json_data is None else json_data, files=files, form=given)
        made = cls.__new__(cls)
        if type(url) is not str:
            _check_url(made, None, url)
        values = _DEFAULTS.copy()  # what they are was checked once
        values["method"] = _METHODS[method]
        values["url"] = url
        if json_data is not None:
            values["json_data"] = json_data
        if files is not None:
            values["files"] = files
        object.__setattr__(made, "__dict__", values)
        return made

    @classmethod
    def of(cls, options: RequestOptions | Mapping[str, Any]) -> RequestOptions:
        """*options* as RequestOptions; TypeError for a mapping with a name that is no option."""
        if isinstance(options, RequestOptions):
            return options
        if not isinstance(options, Mapping):
            raise TypeError(f"options must be RequestOptions or a mapping, not {type(options).__name__}")
        if unknown := [name for name in options if name not in OPTION_NAMES]:
            meant = _MEANT.get(unknown[0])
            hint = f" (did you mean {meant!r}?)" if meant else ""
            raise TypeError(f"unknown option {unknown[0]!r}{hint}; the options are: {', '.join(sorted(OPTION_NAMES))}")
        return cls(**options)


_METHODS = {
    written: name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE") for written in (name, name.lower())
}
_DEFAULTS: dict[str, Any] = {a.name: getattr(RequestOptions(), a.name) for a in attrs.fields(RequestOptions)}
_MEANT = {
    "extra_headers": "headers",
    "extra_query": "params",
    "query": "params",
    "extra_body": "extra_json",
    "body": "json_data",
    "json": "json_data",
    "data": "form",
    "path": "url",
}
OPTION_NAMES = frozenset(a.name for a in attrs.fields(RequestOptions)) - {"raw_mode", "carrier"}

# No option is set by a name that is none: a hook that writes options.timeuot is told so.
_set_known: Any = RequestOptions.__setattr__


def _set_option(self: Any, name: str, value: object) -> None:
    if name not in _DEFAULTS:
        raise AttributeError(f"unknown option {name!r}; the options are: {', '.join(sorted(OPTION_NAMES))}")
    _set_known(self, name, value)


RequestOptions.__setattr__ = _set_option  # type: ignore[method-assign]
