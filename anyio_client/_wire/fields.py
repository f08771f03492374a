"""Field sections of HTTP/2 (RFC 9113 section 8.2 and 8.3): a request's made, a response's checked.

h2 can check too, and ends the whole connection over one malformed response. The RFC asks for the end of the stream only
(section 8.1.1), so the checks are here, and h2's are switched off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

from hpack import NeverIndexedHeaderTuple

from .._model.head import ResponseHead
from .._model.headers import Headers
from .._model.request import Request

__all__ = [
    "Fields",
    "Malformed",
    "check_trailers",
    "content_length",
    "request_fields",
    "response_head",
    "trailer_fields",
]

Fields: TypeAlias = "Iterable[tuple[bytes, bytes]]"

# RFC 9113 section 8.2.2. Host becomes :authority; Transfer-Encoding is HTTP/1.1's framing.
_OF_THE_CONNECTION = frozenset(
    [b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"http2-settings"]
)
_NOT_SENT = frozenset(name.decode() for name in _OF_THE_CONNECTION)

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")  # a token (RFC 9110 section 5.6.2) in lower case
_VALUE = re.compile(rb"(?![ \t])[^\x00\r\n]*(?<![ \t])")
_STATUS = re.compile(rb"[1-9][0-9]{2}")

# Never put into a compression table, here or by an intermediary (RFC 7541 section 7.1.3): secrets, and what differs from
# request to request, which would drive out what repeats.
_NEVER_INDEXED = re.compile(
    r"(?:proxy-)?authorization|cookie|content-length|range|.*(?:key|token|secret|signature|password)"
)
_names: dict[str, tuple[bytes, bool]] = {}  # those that were looked at
MAX_NAMES = 1000


class Malformed(ValueError):
    """A response that breaks RFC 9113 section 8; the stream ends, the connection goes on."""


def request_fields(request: Request) -> list[tuple[bytes, bytes]]:
    """The field section of *request*: pseudo-header fields first, names in lower case, secrets never indexed."""
    url = request.url
    authority: bytes | None = None
    left_out = _NOT_SENT
    fields: list[tuple[bytes, bytes]] = []
    for lower, _, value, raw, _ in request.headers.fields:
        if lower == "host":
            authority = raw
        elif lower == "connection":  # what it names is of the connection too (RFC 9110 section 7.6.1)
            left_out = left_out.union(nominated.strip(" \t") for nominated in value.lower().split(","))
        elif lower not in left_out and (lower != "te" or value.lower() == "trailers"):
            name, indexed = _names.get(lower) or _look_at(lower)
            fields.append((name, raw) if indexed else NeverIndexedHeaderTuple(name, raw))
    if left_out is not _NOT_SENT:  # it may have come behind what it names
        fields = [field for field in fields if field[0].decode("ascii") not in left_out]
    return [
        (b":method", request.method.encode("ascii")),
        (b":scheme", url.scheme.encode("ascii")),
        (b":authority", url.netloc.encode("ascii") if authority is None else authority),
        NeverIndexedHeaderTuple(b":path", url.target.encode("ascii")),
        *fields,
    ]


def trailer_fields(trailers: Headers) -> list[tuple[bytes, bytes]]:
    """The trailer section of a request. They differ from request to request, and stay out of the table."""
    return [NeverIndexedHeaderTuple(name.lower(), value) for name, value in trailers.raw]


def _look_at(lower: str) -> tuple[bytes, bool]:
    """A lower-case name on the wire, and whether its field may be put into a table."""
    looked_at = lower.encode("ascii"), _NEVER_INDEXED.fullmatch(lower) is None
    if len(_names) < MAX_NAMES:
        _names[lower] = looked_at
    return looked_at


def _check(fields: Fields) -> None:
    for name, value in fields:
        if not _NAME.fullmatch(name):
            raise Malformed("a field name is not allowed" if name[:1] != b":" else "a pseudo-header field is misplaced")
        if name in _OF_THE_CONNECTION:
            raise Malformed(f"the field {name.decode()} is not allowed in HTTP/2")
        if not _VALUE.fullmatch(value):
            raise Malformed(f"the value of {name.decode()} is not allowed")


def response_head(fields: list[tuple[bytes, bytes]]) -> ResponseHead:
    """The head that *fields* say. Malformed where they break the rules."""
    if not fields or fields[0][0] != b":status":
        raise Malformed("the head does not begin with :status")
    status = fields[0][1]
    if not _STATUS.fullmatch(status):
        raise Malformed("the status is no number of three digits")
    rest = fields[1:]
    _check(rest)
    return ResponseHead(int(status), Headers.from_wire(rest), "HTTP/2")


def check_trailers(fields: list[tuple[bytes, bytes]]) -> Headers:
    """The trailer fields. Malformed where they break the rules; there are no pseudo-header fields among them."""
    _check(fields)
    return Headers.from_wire(fields)


def content_length(head: ResponseHead) -> int | None:
    """The length that the head declares. Malformed where it is no number, or says two."""
    values = set(head.headers.get_list("content-length"))
    if not values:
        return None
    value = values.pop()
    if values or not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise Malformed("the Content-Length is not one number")
    return int(value)
