"""Header fields: an ordered, case-insensitive, multi-valued mapping (RFC 9110 section 5).

A field is kept as ``(lower-case name, name as given, value, value on the wire, line of HTTP/1.1)``: the first finds it, the
third is read, the fourth and fifth are written. Lists are short (about fifteen fields), so a scan beats an index.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import NamedTuple, TypeAlias

from .given import Omit

__all__ = ["Field", "FieldBlock", "Headers", "HeadersInput", "check_method", "make_field"]

# The line is empty where the field was read off the wire: few of those are ever written.
Field: TypeAlias = tuple[str, str, str, bytes, bytes]

HeadersInput: TypeAlias = "Mapping[str, str] | Iterable[tuple[str, str]] | Headers"

# RFC 9110 section 5.6.2: token = 1*tchar
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110 section 5.5: no CR, LF or NUL; of the other control characters only HTAB.
_FORBIDDEN_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

# A repr shows the values of fields that are known to be harmless, and of no others: which names carry secrets is
# the server's choice (`X-Api-Key`, `X-Goog-Api-Key`, `apikey`...), so a list of secret names is never complete.
_SHOWN = frozenset(
    [
        "accept",
        "accept-encoding",
        "accept-language",
        "accept-ranges",
        "age",
        "allow",
        "cache-control",
        "connection",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-length",
        "content-range",
        "content-type",
        "date",
        "etag",
        "expect",
        "expires",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-unmodified-since",
        "keep-alive",
        "last-modified",
        "prefer",
        "range",
        "request-id",
        "retry-after",
        "retry-after-ms",
        "server",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "vary",
        "via",
        "x-request-id",
        "x-should-retry",
        "x-stainless-retry-count",
    ]
)


# What the writers of requests look at, whatever the version of HTTP: these are no part of a block.
_LOOKED_AT = frozenset(("host", "content-length", "connection", "transfer-encoding", "upgrade"))


class FieldBlock(NamedTuple):
    """The first *size* fields of some headers, each with a name of its own: their *names*, and their *lines* in HTTP/1.1."""

    size: int
    names: frozenset[str]
    lines: bytes

    def __repr__(self) -> str:
        return f"<FieldBlock of {self.size}>"


def check_method(method: object) -> str:
    """The method in upper case; TypeError or ValueError where it is no token (RFC 9110 section 9.1)."""
    if not isinstance(method, str):
        raise TypeError(f"the method must be a str such as 'GET', not {type(method).__name__}")
    if not _TOKEN.fullmatch(method):
        raise ValueError(f"the method {method!r} is no token (RFC 9110 section 9.1)")
    return method.upper()


def make_field(name: object, value: object) -> Field:
    """The field, checked. TypeError or ValueError for what cannot be one."""
    if not isinstance(name, str):
        raise TypeError(f"a header name must be a str, not {type(name).__name__}")
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"the header name {name!r} is no token (RFC 9110 section 5.1)")
    if not isinstance(value, str):
        raise TypeError(f"the value of header {name!r} must be a str, not {type(value).__name__}")
    if _FORBIDDEN_IN_VALUE.search(value):
        raise ValueError(f"the value of header {name!r} has a control character in it (RFC 9110 section 5.5)")
    value = value.strip(" \t")
    try:
        raw = value.encode("utf-8")
        return name.lower(), str(name), value, raw, b"%b: %b\r\n" % (name.encode("ascii"), raw)
    except UnicodeEncodeError:
        raise ValueError(f"the value of header {name!r} has a lone surrogate in it") from None


class Headers(MutableMapping[str, str]):
    """Header fields in order, found whatever their case, repeated ones kept.

    ``h[name]`` and ``h.get(name)`` join repeated fields with ``", "`` (RFC 9110 section 5.3); :meth:`get_list` and
    :meth:`multi_items` keep them apart; :attr:`raw` is what stands on the wire. ``h[name] = value`` replaces every
    field of that name, :meth:`add` appends one more. Names that are no token, and values with CR, LF, NUL or other
    control characters, are a ValueError. The repr hides the values of all fields that are not known to be harmless.
    """

    __slots__ = ("block", "fields")

    def __init__(self, headers: HeadersInput | None = None) -> None:
        self.block: FieldBlock | None = None
        #: Each field as make_field() makes it; to be read, and such ones may be appended.
        self.fields: list[Field] = []
        if headers is None:
            return
        if isinstance(headers, Headers):
            self.fields, self.block = headers.fields.copy(), headers.block
        elif isinstance(headers, Mapping):
            self.fields.extend(make_field(name, value) for name, value in headers.items())  # pyright: ignore
        else:
            self.fields.extend(make_field(name, value) for name, value in headers)

    @classmethod
    def from_wire(cls, raw: Iterable[tuple[bytes, bytes]]) -> Headers:
        """Fields as a codec read and checked them. Bytes that are no UTF-8 are read as Latin-1 (RFC 9110 5.5)."""
        self = cls()
        for name, value in raw:
            shown = name.decode("ascii")
            try:
                text = value.decode("utf-8")
            except UnicodeDecodeError:
                text = value.decode("latin-1")
            self.fields.append((shown.lower(), shown, text, value, b""))
        return self

    @classmethod
    def of_fields(cls, fields: list[Field]) -> Headers:
        """Fields that were checked, as :func:`make_field` makes them."""
        self = cls.__new__(cls)
        self.block = None
        self.fields = fields
        return self

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """``(name, value)`` pairs of bytes, as on the wire: order and case kept."""
        return [(field[1].encode("ascii"), field[3]) for field in self.fields]

    def get_list(self, name: str) -> list[str]:
        """Every value of *name*, in order; an empty list where there is none."""
        key = name.lower()
        return [field[2] for field in self.fields if field[0] == key]

    def multi_items(self) -> list[tuple[str, str]]:
        """``(name, value)`` pairs of str, repeated fields apart, names as they were given."""
        return [(field[1], field[2]) for field in self.fields]

    def add(self, name: str, value: str) -> None:
        """Append one more field of this name."""
        self.fields.append(make_field(name, value))

    def copy(self) -> Headers:
        made = Headers.__new__(Headers)
        made.fields, made.block = self.fields.copy(), self.block
        return made

    def as_block(self) -> Headers:
        """These fields, which will be copied and written again and again, as a block where that is possible."""
        names = frozenset(field[0] for field in self.fields)
        if len(names) == len(self.fields) and not names & _LOOKED_AT and all(field[4] for field in self.fields):
            self.block = FieldBlock(len(names), names, b"".join(field[4] for field in self.fields))
        return self

    __copy__ = copy

    def apply(self, layer: Mapping[str, str | Omit]) -> set[str]:
        """Lay *layer* over these fields; return the lower-case names that its ``omit`` values removed.

        Each name of the layer replaces all fields of that name, in their place.
        """
        omitted: set[str] = set()
        for name, value in layer.items():
            if isinstance(value, Omit):
                omitted.add(name.lower())
                self.pop(name, None)
            else:
                self[name] = value
                omitted.discard(name.lower())
        return omitted

    def __getitem__(self, name: str) -> str:
        key = name.lower()
        values = [field[2] for field in self.fields if field[0] == key]
        if not values:
            raise KeyError(name)
        return values[0] if len(values) == 1 else ", ".join(values)

    def __setitem__(self, name: str, value: str) -> None:
        new = make_field(name, value)
        for place, field in enumerate(self.fields):
            if field[0] == new[0]:
                self.block = None
                rest = [other for other in self.fields[place + 1 :] if other[0] != new[0]]
                self.fields[place:] = [new, *rest]
                return
        self.fields.append(new)

    def __delitem__(self, name: str) -> None:
        key = name.lower()
        kept = [field for field in self.fields if field[0] != key]
        if len(kept) == len(self.fields):
            raise KeyError(name)
        self.fields, self.block = kept, None

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        key = name.lower()
        for field in self.fields:  # noqa: SIM110  # three times as fast as any()
            if field[0] == key:
                return True
        return False

    def __iter__(self) -> Iterator[str]:
        return iter({field[0]: field[1] for field in self.fields}.values())

    def __len__(self) -> int:
        return len({field[0] for field in self.fields})

    def _by_name(self) -> list[tuple[str, bytes]]:
        """``(lower-case name, value on the wire)``, sorted by name; the values of one name stay in their order."""
        return sorted(((field[0], field[3]) for field in self.fields), key=lambda pair: pair[0])

    def __eq__(self, other: object) -> bool:
        """Equal names (whatever the case) and values in the same order of each name."""
        if isinstance(other, Mapping) and not isinstance(other, Headers):
            try:
                other = Headers(other)  # pyright: ignore[reportUnknownArgumentType]
            except (TypeError, ValueError):
                return False
        if not isinstance(other, Headers):
            return NotImplemented
        return self._by_name() == other._by_name()

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name!r}: {value if lower in _SHOWN else '***'!r}" for lower, name, value, _, _ in self.fields
        )
        return f"Headers({{{shown}}})"
