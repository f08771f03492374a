"""URLs (RFC 3986, WHATWG URL where the two differ in practice).

Rules that shape this file:

* what the caller percent-encoded survives byte for byte: nothing is decoded and encoded again;
* what must not stand raw in a URL is encoded, control characters are refused;
* a request path is *appended* to the base path, never resolved against it (RFC 3986 section 5 would let ``/foo``
  drop the base path, and ``//foo`` change the host);
* userinfo is a credential: it is kept apart, and neither ``str`` nor ``repr`` shows it.
"""

from __future__ import annotations

import re
from typing import NoReturn

import attrs

__all__ = ["URL", "join_path", "parse_host", "percent_encode"]

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "socks5": 1080, "socks5h": 1080}

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#.*)?",
    re.DOTALL,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_REG_NAME = re.compile(r"[a-z0-9._~-]+")  # RFC 3986 reg-name without sub-delims; the underscore is met in practice
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")

# RFC 3986 section 2.3
_UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
# pchar plus "/" (RFC 3986 section 3.3), and the brackets that servers use raw; the backslash is encoded, because a
# WHATWG parser takes it for a slash.
_PATH_UNSAFE = re.compile(rf"[^{re.escape(_UNRESERVED)}!$&'()*+,;=:@/%\[\]]+")
_QUERY_UNSAFE = re.compile(rf"[^{re.escape(_UNRESERVED)}!$&'()*+,;=:@/?%\[\]|]+")
_VALUE_UNSAFE = re.compile(rf"[^{re.escape(_UNRESERVED)}]+")


def _encode_match(match: re.Match[str]) -> str:
    try:
        octets = match.group().encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a URL cannot hold a lone surrogate") from None
    return "".join(f"%{octet:02X}" for octet in octets)


def percent_encode(value: str) -> str:
    """Every character that is not unreserved (RFC 3986 section 2.3), as percent-encoded UTF-8."""
    return _VALUE_UNSAFE.sub(_encode_match, value)


def _encode_component(text: str, unsafe: re.Pattern[str]) -> str:
    return _STRAY_PERCENT.sub("%25", unsafe.sub(_encode_match, text))


def parse_host(host: str) -> str:
    """The host in its canonical form: lower case, IDNA 2008 (UTS 46), IPv6 without brackets."""
    if host.startswith("["):
        import ipaddress  # late, as idna is below: few hosts need either

        address, percent, zone = host[1:-1].partition("%25" if "%25" in host else "%")
        try:
            if not host.endswith("]"):
                raise ValueError
            parsed = ipaddress.IPv6Address(address)
        except ValueError:
            raise ValueError(f"{host!r} is no IPv6 address") from None
        if percent and not re.fullmatch(r"[A-Za-z0-9._~-]+", zone):
            raise ValueError(f"{host!r} has a malformed IPv6 zone")
        return f"{parsed.compressed}%{zone}" if percent else parsed.compressed
    lowered = host.lower()
    if _REG_NAME.fullmatch(lowered):
        return lowered
    import idna

    try:
        return idna.encode(lowered, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise ValueError(f"{host!r} is no host name (IDNA 2008, UTS 46)") from None


@attrs.frozen(init=False, repr=False, eq=False)
class URL:
    """An absolute URL, immutable: ``scheme, host, port, path, query, origin``.

    ``path`` and ``query`` are percent-encoded as they stand on the wire; ``query`` has no question mark. ``port`` is
    the effective one (443 for https). ``host`` is in ASCII, an IPv6 address without brackets. ``origin`` is what
    WHATWG serialises: ``https://h`` or ``https://h:8443``. The fragment is dropped. ``target``: path and query, the request target
    in origin form (RFC 9112 section 3.2.1).

    ``str(url)`` hides userinfo, ``repr(url)`` also the values of the query. Raises TypeError for anything but a str or
    a URL, ValueError for what is no absolute URL.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str
    userinfo: str | None = attrs.field(repr=False)
    target: str = attrs.field(repr=False)

    def __init__(self, url: str | URL) -> None:
        if isinstance(url, URL):
            self._fill(url.scheme, url.host, url.port, url.path, url.query, url.userinfo)
            return
        if not isinstance(url, str):
            raise TypeError(f"a URL must be a str or a URL, not {type(url).__name__}")
        if _CONTROL.search(url):
            raise ValueError("the URL has a control character in it")
        match = _URL.fullmatch(url.strip(" "))
        if match is None:
            # No echo: what was given may hold a credential.
            raise ValueError("not an absolute URL: write it as 'https://host/path'")
        scheme = match["scheme"].lower()
        userinfo, at, hostport = match["authority"].rpartition("@")
        if "\\" in userinfo:
            # A WHATWG parser takes the backslash for a slash, and so what stands before it for the host.
            raise ValueError("the userinfo of the URL has a backslash in it: write it as %5C")
        if _SURROGATE.search(userinfo):
            raise ValueError("a URL cannot hold a lone surrogate")
        if userinfo == "***":
            raise ValueError("this URL was printed with its credentials masked ('***@'); give the original one")
        host_text, port_text = self._split_port(hostport)
        if not host_text:
            raise ValueError("the URL has no host: write it as 'https://host/path'")
        host = parse_host(host_text)
        default = _DEFAULT_PORTS.get(scheme)
        if port_text:
            port = int(port_text)
            if not 0 < port < 65536:
                raise ValueError(f"the port {port_text} of the URL is not between 1 and 65535")
        elif default is None:
            raise ValueError(f"the scheme {scheme!r} is not supported: only http and https are")
        else:
            port = default
        self._fill(
            scheme,
            host,
            port,
            _encode_component(match["path"], _PATH_UNSAFE) or "/",
            _encode_component(match["query"] or "", _QUERY_UNSAFE),
            userinfo if at and userinfo else None,
        )

    @staticmethod
    def _split_port(hostport: str) -> tuple[str, str]:
        match = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]{0,9}))?", hostport, re.ASCII)
        if match is None:
            raise ValueError("the URL has a malformed host or port")
        return match[1], match[2] or ""

    def _fill(self, scheme: str, host: str, port: int, path: str, query: str, userinfo: str | None) -> None:
        for name, value in zip(_FIELDS, (scheme, host, port, path, query, userinfo), strict=True):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "target", f"{path}?{query}" if query else path)

    def replace(self, *, path: str | None = None, query: str | None = None, userinfo: bool = True) -> URL:
        """A copy with another path or query (both already percent-encoded), or without its userinfo."""
        new = URL.__new__(URL)
        new._fill(
            self.scheme,
            self.host,
            self.port,
            self.path if path is None else path,
            self.query if query is None else query,
            self.userinfo if userinfo else None,
        )
        return new

    def is_same_origin(self, other: URL) -> bool:
        """Whether both have the same scheme, host and port; the zone of an IPv6 address is a part of the host."""
        return (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)

    def join(self, reference: str) -> URL:
        """*reference*, as a server writes it into Location or Link, resolved against this URL (RFC 3986 section 5.2).

        ValueError where that is no URL. A backslash is no slash: it cannot lead to another host.
        """
        if _CONTROL.search(reference):
            raise ValueError("the URL has a control character in it")
        reference = reference.strip(" ").partition("#")[0]
        if reference.startswith("//"):
            reference = f"{self.scheme}:{reference}"
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", reference):
            whole = URL(reference)
            return whole.replace(path=_without_dots(whole.path))
        path, mark, query = reference.partition("?")
        if not path:
            return self.replace(query=_encode_component(query, _QUERY_UNSAFE) if mark else self.query)
        if not path.startswith("/"):
            path = self.path.rpartition("/")[0] + "/" + path
        encoded = _encode_component(_without_dots(path), _PATH_UNSAFE)
        return self.replace(path=encoded, query=_encode_component(query, _QUERY_UNSAFE))

    @property
    def netloc(self) -> str:
        """Host and port as the Host field has them (RFC 9110 section 7.2): no default port, IPv6 in brackets, no zone."""
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if _DEFAULT_PORTS.get(self.scheme) == self.port else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port (RFC 6454), serialised as WHATWG does."""
        return f"{self.scheme}://{self.netloc}"

    @property
    def credentials(self) -> tuple[str, str] | None:
        """``(user, password)`` of the userinfo, percent-decoded, or None."""
        if self.userinfo is None:
            return None
        user, _, password = self.userinfo.partition(":")
        from urllib.parse import unquote

        return unquote(user), unquote(password)

    def _shown(self, query: str) -> str:
        mask = "***@" if self.userinfo is not None else ""
        return f"{self.scheme}://{mask}{self.netloc}{self.path}" + (f"?{query}" if query else "")

    @property
    def redacted(self) -> str:
        """What logs and messages show: no userinfo, and ``***`` for every value of the query."""
        return self._shown(
            "&".join(f"{name}=***" if eq else name for name, eq, _ in (p.partition("=") for p in self.query.split("&")))
        )

    def __str__(self) -> str:
        return self._shown(self.query)

    def __repr__(self) -> str:
        return f"URL({self.redacted!r})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not URL:
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _FIELDS)

    def __hash__(self) -> int:
        return hash((self.scheme, self.host, self.port, self.path, self.query, self.userinfo))


def _without_dots(path: str) -> str:
    """A path without its dot segments (RFC 3986 section 5.2.4)."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


_FIELDS = ("scheme", "host", "port", "path", "query", "userinfo")


def looks_absolute(path: str) -> bool:
    """Whether *path* is meant as a whole URL (``scheme://...``), rather than as a path below a base."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


def join_path(base: URL, path: str) -> URL:
    """*path* (which may bring a query) appended to the path of *base*; the base's query is not kept here.

    The base path counts as a folder whether or not it ends in a slash. ValueError where the path's dot segments
    (``..``, ``%2e%2e``) would climb out of the base.
    """
    if _CONTROL.search(path):
        raise ValueError("the path has a control character in it")
    path, _, _ = path.partition("#")
    path, _, query = path.partition("?")
    encoded = _encode_component(path, _PATH_UNSAFE)
    depth = 0
    for segment in encoded.lstrip("/").split("/"):
        plain = segment.lower().replace("%2e", ".")
        if plain == "..":
            depth -= 1
        elif plain != "." and segment:
            depth += 1
        if depth < 0:
            raise ValueError(f"the path {path!r} climbs out of the base URL")
    folder = base.path[:-1] if base.path.endswith("/") else base.path
    joined = folder + (encoded if encoded.startswith("/") else "/" + encoded)
    return base.replace(path=joined, query=_encode_component(query, _QUERY_UNSAFE))


def refuse_scheme(url: URL) -> NoReturn:
    raise ValueError(f"the scheme {url.scheme!r} is not supported: only http and https are")
