"""From options to a request: URL, fields, framing. Pure functions, usable without a client.

Fields come in layers, the later replacing the earlier: library, platform, credentials, client, request. What belongs to
the client's origin does not go to another one.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Collection, Iterable, Mapping
from typing import cast

from .._model.given import NotGiven, Omit
from .._model.headers import Field, Headers, check_method, make_field
from .._model.query import Querystring, merge_query
from .._model.request import Request, StreamedBody
from .._model.url import URL, join_path, looks_absolute, refuse_scheme

__all__ = [
    "basic_credentials",
    "KeptHeaders",
    "build_headers",
    "build_url",
    "check_trailers",
    "check_body_allowed",
    "frame",
    "put_credentials",
    "passes_to_other_origin",
]

# What may go to another origin (BEHAVIOUR 7): fields that describe the message, not the caller.
_PASSING = frozenset(("user-agent", "range", "prefer", "expect", "traceparent", "tracestate"))
_PASSING_PREFIXES = ("accept", "content-", "if-")

# Two of these would leave it to the server which one counts (Host: RFC 9112 section 3.2).
_SINGLE = ("Host", "Content-Type", "Authorization", "Proxy-Authorization")

_KNOWN_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
# RFC 9110 section 8.6: a user agent sends Content-Length: 0 where the method gives a body a meaning.
_METHODS_WITH_BODY = frozenset(("POST", "PUT", "PATCH"))


def passes_to_other_origin(name: str) -> bool:
    """Whether a field of the client's may be sent to an origin that is not the client's."""
    lower = name.lower()
    return lower in _PASSING or lower.startswith(_PASSING_PREFIXES)


def basic_credentials(user: str, password: str) -> str:
    """The value of an Authorization field (RFC 7617). ValueError for a user name with a colon, and for control characters."""
    for text in (user, password):
        if not isinstance(text, str):
            raise TypeError(f"user and password must be str, not {type(text).__name__}")
        if re.search(r"[\x00-\x1f\x7f]", text):
            raise ValueError("a user name or a password cannot have a control character in it (RFC 7617)")
    if ":" in user:
        raise ValueError("a user name with a colon in it cannot be sent by basic authentication (RFC 7617)")
    return "Basic " + binascii.b2a_base64(f"{user}:{password}".encode(), newline=False).decode("ascii")


def build_url(
    base: URL,
    url: str | URL,
    *,
    default_query: Mapping[str, object],
    params: Mapping[str, object],
    qs: Querystring,
) -> tuple[URL, bool]:
    """The URL of a request, and whether it leads to another origin than the base.

    A path is appended to the base. Parameters come in layers: the base's query, the client's ``default_query``, the
    path's own query, ``params``; a later layer replaces all of the same name. An absolute URL stands for itself, and to another origin
    no parameters of the client go along. ValueError for a scheme other than http and https.
    """
    if isinstance(url, URL) or looks_absolute(url):
        target = URL(url)
        if target.scheme not in ("http", "https"):
            refuse_scheme(target)
        foreign = not target.is_same_origin(base)
        query = target.query if foreign else _over_raw(merge_query("", default_query, qs), target.query)
    else:
        target = join_path(base, url)
        foreign = False
        query = _over_raw(merge_query(base.query, default_query, qs), target.query)
    query = merge_query(query, params, qs)
    return target.replace(query=query), foreign


def _name(pair: str) -> str:
    from urllib.parse import unquote

    return unquote(pair.partition("=")[0].replace("+", " "))


def _over_raw(low: str, high: str) -> str:
    """*high* laid over *low*, both encoded: a name in *high* replaces all of that name in *low*, however it is encoded."""
    taken = {_name(pair) for pair in high.split("&") if pair}
    kept = [pair for pair in low.split("&") if pair and _name(pair) not in taken]
    return "&".join([*kept, high] if high else kept)


class KeptHeaders:
    """The fields below the request, checked and laid over each other once, as long as they stay the same."""

    __slots__ = ("_given", "_headers", "_omitted")

    def __init__(self) -> None:
        self._given: tuple[tuple[str, str | Omit], ...] = ()
        self._headers = Headers()
        self._omitted: set[str] = set()

    def of(self, below: Mapping[str, str | Omit]) -> tuple[Headers, set[str]]:
        """The fields, and the lower-case names that were omitted; both are the caller's own."""
        given = tuple(below.items())
        if given != self._given:
            headers = Headers()
            self._omitted = headers.apply(below)
            self._given, self._headers = given, headers
        return self._headers.copy(), self._omitted.copy()


def build_headers(
    below: Mapping[str, str | Omit],
    own: Mapping[str, str | Omit] | NotGiven,
    *,
    foreign: bool,
    credentials: Iterable[str] = (),
    kept: KeptHeaders | None = None,
) -> tuple[Headers, frozenset[str]]:
    """The fields of a request, and the lower-case names that were omitted.

    *below*: everything below the request; *own*: the request's. *foreign*: the request leads to another origin,
    where nothing named in *credentials* goes either, whatever its name looks like; it counts as omitted. *kept*: what
    the last request made of *below*.
    """
    if kept is None:
        kept = KeptHeaders()
    withheld: set[str] = set()
    if foreign:
        # What was omitted stays so: it tells the other origin nothing.
        secret = {name.lower() for name in credentials}
        withheld = secret & {name.lower() for name in below}
        below = {
            name: value
            for name, value in below.items()
            if isinstance(value, Omit) or (passes_to_other_origin(name) and name.lower() not in secret)
        }
        kept = KeptHeaders()
    headers, omitted = kept.of(below)
    omitted |= withheld
    if not isinstance(own, NotGiven):
        added = headers.apply(own)
        omitted = {name for name in omitted | added if name not in headers}
    return headers, frozenset(omitted)


def put_credentials(request: Request, fields: Mapping[str, str], layered: Collection[str]) -> bool:
    """Put credentials on *request*, but no field whose lower-case name is among *layered*: a layer has set or omitted it.

    Whether fresh ones could change anything. Fields of an earlier answer that are not among the new ones go.
    """
    if not isinstance(fields, Mapping) or not all(isinstance(part, str) for pair in fields.items() for part in pair):
        raise TypeError(f"headers_for must give a mapping of header fields or None, not {type(fields).__name__}")
    names = {name.lower() for name in fields}
    for name in request.credentials - names:
        if name not in layered:
            request.headers.pop(name, None)
    ours = names.difference(layered)
    for name, value in fields.items():
        if name.lower() in ours:
            request.headers[name] = value
    request.credentials = request.credentials | ours
    return bool(ours) if names else "authorization" not in layered


def check_body_allowed(method: str, what: str) -> None:
    """ValueError where *method* has no body by itself (RFC 9110 sections 9.3.1 and 9.3.2)."""
    if method in ("GET", "HEAD"):
        raise ValueError(
            f"{method} requests have no body: {what} cannot be sent; pass content= if the server wants one"
        )


# RFC 9110 section 6.5.1: what says how the message is framed, routed, who asks, or what the content is.
_NO_TRAILERS = frozenset(
    [
        "age",
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expect",
        "expires",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "keep-alive",
        "location",
        "max-forwards",
        "pragma",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)


def check_trailers(fields: object) -> Headers:
    """Trailer fields that the caller's function gave. TypeError or ValueError for what can be none."""
    if not isinstance(fields, Mapping | Headers):
        raise TypeError(f"the function trailers= must give a mapping of header fields, not {type(fields).__name__}")
    headers = Headers(cast("Mapping[str, str]", fields))
    for name in headers:
        if name.lower() in _NO_TRAILERS:
            raise ValueError(f"{name} cannot be a trailer field (RFC 9110 section 6.5.1)")
    return headers


def frame(request: Request, host: Field | None = None) -> None:
    """Set Host and Content-Length where they are missing; ValueError for fields that do not fit the body.

    A body of unknown length gets no field here: how it is framed is the protocol's affair. *host*: the field Host, where
    it was made before.
    """
    headers, body = request.headers, request.body
    fields, block = headers.fields, headers.block
    if request.method not in _KNOWN_METHODS:  # a hook may have set it
        request.method = check_method(request.method)
    if block is not None and block.size == len(fields):
        names = block.names
    else:
        names = frozenset([field[0] for field in fields])
        if len(names) != len(fields):
            _check_single(fields)
    if "host" not in names:
        fields.append(host or make_field("Host", request.url.netloc))
    if "transfer-encoding" in names:
        raise ValueError("Transfer-Encoding cannot be set: the protocol chooses it (RFC 9112 section 6.1)")
    if "upgrade" in names or request.method == "CONNECT":
        what = "CONNECT makes a tunnel" if request.method == "CONNECT" else "Upgrade leads to another protocol"
        raise ValueError(f"{what}, which this client does not speak (no WebSocket, no h2c)")
    length = body.length if isinstance(body, StreamedBody) else len(body)
    declared = request.headers["content-length"] if "content-length" in names else None
    if request.trailers is not None:
        if declared is not None:
            raise ValueError("trailers= goes with a body of unknown length: leave Content-Length out")
    elif declared is not None:
        if not (declared.isascii() and declared.isdigit()):
            raise ValueError(f"Content-Length must be a number, got {declared!r}")
        if length is not None and int(declared) != length:
            raise ValueError(f"Content-Length is {declared}, the body has {length} bytes")
    elif length or (length is not None and (request.method in _METHODS_WITH_BODY or isinstance(body, StreamedBody))):
        fields.append(make_field("Content-Length", str(length)))


def _check_single(fields: Iterable[Field]) -> None:
    """ValueError where there are several fields of a name that a request has once."""
    names = [field[0] for field in fields]
    for name in _SINGLE:
        if names.count(name.lower()) > 1:
            raise ValueError(f"a request has one {name} field, not several")
