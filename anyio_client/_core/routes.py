"""The way to an origin: straight there, or by way of which proxy. Pure: what stands in the environment is an argument.

An HTTP proxy takes requests for http:// whole (absolute form, RFC 9112 section 3.2.2) and opens tunnels for https://
(CONNECT, RFC 9110 section 9.3.6); a SOCKS proxy opens tunnels for both. ``socks5://`` names are resolved here,
``socks5h://`` names by the proxy.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final, TypeAlias, cast

import attrs

from .._model.headers import Field, make_field
from .._model.url import URL, parse_host
from .build import basic_credentials

__all__ = ["NoProxy", "Proxy", "ProxyInput", "Route", "Routes"]

PROXY_SCHEMES: Final = ("http", "https", "socks5", "socks5h")

ProxyInput: TypeAlias = "str | URL | Mapping[str, str | URL | None] | None"
_Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"


@attrs.frozen
class Proxy:
    """One proxy. ``url`` has no userinfo; the credentials are apart, for nobody but the proxy."""

    url: URL
    credentials: tuple[str, str] | None = attrs.field(default=None, repr=False)

    @classmethod
    def of(cls, given: str | URL) -> Proxy:
        """The proxy that a URL names. ValueError where it names none; no message holds its userinfo."""
        if not isinstance(given, str | URL):
            raise TypeError(f"a proxy is a URL such as 'http://proxy:3128', not {type(given).__name__}")
        try:
            scheme, separator, _ = str(given).partition("://")
            if not separator:
                raise ValueError("it has no scheme")
            if scheme.lower() not in PROXY_SCHEMES:
                raise ValueError(f"a proxy speaks one of {', '.join(PROXY_SCHEMES)}")
            if "#" in str(given):
                raise ValueError("it has a # in it, which in a password is %23")
            url = URL(given)
        except ValueError as exc:
            # With userinfo that is not encoded, what looks like a host may be a part of the password.
            what = "its user and password must be percent-encoded" if "@" in str(given) else exc
            raise ValueError(f"the URL of the proxy is wrong: {what}; write it as 'http://proxy:3128'") from None
        if url.path != "/" or url.query:
            raise ValueError("the URL of a proxy has a host and a port, and no path or query")
        proxy = cls(url.replace(userinfo=False), url.credentials)
        if proxy.credentials is not None:
            _check_credentials(proxy.is_socks, *proxy.credentials)
        return proxy

    @property
    def is_socks(self) -> bool:
        return self.url.scheme in ("socks5", "socks5h")

    @property
    def authorization(self) -> str | None:
        """The value of Proxy-Authorization (RFC 9110 section 11.7.2), for an HTTP proxy."""
        return None if self.credentials is None or self.is_socks else basic_credentials(*self.credentials)


def _check_credentials(is_socks: bool, user: str, password: str) -> None:
    if re.search(r"[\x00-\x1f\x7f]", user + password):
        raise ValueError("the credentials of the proxy have a control character in them")
    if not is_socks:
        basic_credentials(user, password)
    elif max(len(user.encode()), len(password.encode())) > 255 or not user:
        raise ValueError("user and password of a SOCKS proxy have 1 to 255 bytes each (RFC 1929)")


class NoProxy:
    """What ``NO_PROXY`` says: entries separated by commas or spaces.

    A name covers itself and everything below it (``example.com``, ``.example.com`` and ``*.example.com`` are the same),
    an address itself, a network in CIDR notation its addresses; ``:port`` narrows an entry; ``*`` covers everything.
    Names are compared with names, and addresses with addresses: nothing is resolved. ValueError for what is none of it.
    """

    __slots__ = ("_all", "_names", "_networks")

    def __init__(self, text: str = "") -> None:
        self._all = False
        self._names: list[tuple[str, int | None]] = []
        self._networks: list[tuple[_Network, int | None]] = []
        for entry in re.split(r"[,\s]+", text):
            if entry == "*":
                self._all = True
            elif entry:
                self._add(entry)

    def _add(self, entry: str) -> None:
        try:
            host, port = _split_port(entry)
            if (network := _network(host)) is not None:
                self._networks.append((network, port))
                return
            name = host.removeprefix("*").removeprefix(".").rstrip(".")
            if not name or "/" in name or "*" in name or "@" in name:
                raise ValueError
            self._names.append((parse_host(name), port))
        except ValueError:
            raise ValueError(
                f"NO_PROXY: {entry!r} is no name, address or network, with or without a port, and not * "
                "(trust_env=False ignores the environment)"
            ) from None

    def covers(self, host: str, port: int) -> bool:
        if self._all:
            return True
        host = host.partition("%")[0].rstrip(".")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return any(
                (host == name or host.endswith("." + name)) and (only is None or only == port)
                for name, only in self._names
            )
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(
            (address in network or mapped in network) and (only is None or only == port)
            for network, only in self._networks
        )


def _split_port(entry: str) -> tuple[str, int | None]:
    """Host and port of an entry; the colons of a bare IPv6 address are its own."""
    match = re.fullmatch(r"\[([^\]]*)\](/[0-9]+)?(?::([0-9]{1,5}))?", entry, re.ASCII)
    if match is not None:
        host, port = match[1] + (match[2] or ""), match[3]
    elif entry.count(":") == 1:
        host, _, port = entry.partition(":")
        if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII):
            raise ValueError
    else:
        host, port = entry, None
    if port is not None and not 0 < int(port) < 65536:
        raise ValueError
    return host, None if port is None else int(port)


def _network(host: str) -> _Network | None:
    """The network, or the address as a network of one; None for a name. ValueError for a malformed network."""
    if "/" not in host and ":" not in host:
        try:
            return ipaddress.ip_network(host)
        except ValueError:
            return None
    address, _, bits = host.partition("/")
    if re.fullmatch(r"[0-9]+(\.[0-9]+){0,2}", address, re.ASCII):  # 169.254/16, as macOS writes it
        host = address + ".0" * (3 - address.count(".")) + "/" + bits
    return ipaddress.ip_network(host.partition("%")[0], strict=False)


@attrs.frozen
class Route:
    """The way to the origin of ``url``; requests with the same ``key`` may share connections.

    ``is_forwarded``: requests go to the proxy itself, in absolute form, and not through a tunnel. ``server_name``: what TLS asks for
    and verifies in place of the URL's host. ``host_field``: the field Host of requests on this way (RFC 9110 section 7.2).
    """

    url: URL
    proxy: Proxy | None
    key: str
    is_forwarded: bool = False
    server_name: str | None = None
    host_field: Field = attrs.field(
        init=False, eq=False, default=attrs.Factory(lambda self: make_field("Host", self.url.netloc), takes_self=True)
    )


class Routes:
    """Which origin is reached how: by what the user gave, or by what the environment says.

    ``forwards``: whether an HTTP proxy is sent requests for http:// whole; False makes tunnels for them too, for a protocol
    that it does not forward (HTTP/2 with prior knowledge).
    """

    __slots__ = ("_by_origin", "_by_scheme", "_forwards", "_known", "_no_proxy", "_proxies", "has_proxies")

    def __init__(
        self,
        by_scheme: Mapping[str, Proxy | None] | None = None,
        by_origin: Mapping[str, Proxy | None] | None = None,
        no_proxy: NoProxy | None = None,
        *,
        forwards: bool = True,
    ) -> None:
        self._by_scheme = dict(by_scheme or {})
        self._by_origin = dict(by_origin or {})
        self._no_proxy = no_proxy or NoProxy()
        self._forwards = forwards
        self._known: dict[tuple[str, str, int, str | None], Route] = {}
        proxies = [*self._by_scheme.values(), *self._by_origin.values()]
        self._proxies = list(dict.fromkeys(proxy for proxy in proxies if proxy is not None))
        self.has_proxies: bool = bool(self._proxies)

    @classmethod
    def of(cls, given: str | URL | Mapping[str, str | URL | None], *, forwards: bool = True) -> Routes:
        """One proxy for everything, or one for each of some origins (``https://host:port``, or ``https://`` for all of
        a scheme); None as a value means straight there, and so does being left out."""
        if not isinstance(given, Mapping):
            every = Proxy.of(given)
            return cls({"http": every, "https": every}, forwards=forwards)
        by_scheme: dict[str, Proxy | None] = {}
        by_origin: dict[str, Proxy | None] = {}
        for key, value in given.items():
            proxy = None if value is None else Proxy.of(value)
            if not isinstance(cast(object, key), str):
                raise TypeError(f"proxy= maps origins such as 'https://host' to URLs, not {type(key).__name__}")
            if key in ("http://", "https://"):
                by_scheme[key.removesuffix("://")] = proxy
                continue
            try:
                if "#" in key:
                    raise ValueError("it has a # in it")
                url = URL(key)
            except ValueError as exc:
                raise ValueError(
                    f"proxy= maps origins to URLs, and {key!r} is none: {exc} ('http://' and 'https://' stand for all of a scheme)"
                ) from None
            if url.scheme not in ("http", "https") or url.path != "/" or url.query or url.userinfo is not None:
                raise ValueError(f"proxy= maps origins such as 'https://host:port' to URLs; {url.redacted} is none")
            by_origin[url.origin] = proxy
        return cls(by_scheme, by_origin, forwards=forwards)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], *, forwards: bool = True) -> Routes:
        """``http_proxy, https_proxy, all_proxy, no_proxy``, in lower case or upper case, lower case first.

        ``HTTP_PROXY`` in upper case does not count: a CGI server sets it to what a client sends as the field Proxy. A value
        without a scheme is an HTTP proxy, as for curl.
        """

        def find(name: str) -> tuple[str, str]:
            upper = name.upper()
            if name in environ or name == "http_proxy":
                return name, environ.get(name, "").strip()
            return upper, environ.get(upper, "").strip()

        by_scheme: dict[str, Proxy | None] = {}
        for scheme in ("http", "https"):
            name, value = find(f"{scheme}_proxy")
            if not value:
                name, value = find("all_proxy")
            if not value:
                continue
            try:
                by_scheme[scheme] = Proxy.of(value if "://" in value else f"http://{value}")
            except ValueError as exc:
                raise ValueError(f"the environment variable {name}: {exc}; trust_env=False ignores it") from None
        no_proxy = NoProxy(find("no_proxy")[1]) if by_scheme else None
        return cls(by_scheme, no_proxy=no_proxy, forwards=forwards)

    def find(self, url: URL, server_name: str | None = None) -> Route:
        """The way to the origin of *url*."""
        place = (url.scheme, url.host, url.port, server_name)
        route = self._known.get(place)
        if route is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            route = self._known[place] = self._find(url, server_name)
        return route

    def _find(self, url: URL, server_name: str | None) -> Route:
        if server_name is not None and not re.fullmatch(r"[A-Za-z0-9._:-]+", server_name):
            raise ValueError("the server name that TLS is to ask for must be a host name in ASCII")
        proxy = self._by_origin.get(url.origin, self._by_scheme.get(url.scheme))
        if proxy is not None and self._no_proxy.covers(url.host, url.port):
            proxy = None
        origin = url.replace(path="/", query="", userinfo=False)
        key = f"{url.scheme}://{url.host}:{url.port}" if "%" in url.host else url.origin
        if server_name is not None:
            key = f"{key} as {server_name}"
        if proxy is None or proxy.is_socks or url.scheme != "http" or not self._forwards:
            return Route(origin, proxy, key, server_name=server_name)
        # Connections to a proxy are shared by origins, not by credentials.
        same = [other for other in self._proxies if other.url == proxy.url]
        number = f" ({same.index(proxy) + 1})" if len(same) > 1 else ""
        return Route(origin, proxy, f"proxy {proxy.url.origin}{number}", is_forwarded=True)


MAX_KNOWN: Final = 1000  # origins whose route is remembered
