"""Which way leads to an origin: what NO_PROXY covers, what the environment and ``proxy=`` say, who shares connections."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anyio_client._core import routes
from anyio_client._core.routes import NoProxy, Proxy, Routes
from anyio_client._model.url import URL
from tests.kit.fuzz import examples

# --- NO_PROXY ----------------------------------------------------------------------------------------------------------

# The entry, the host, the port, whether it is covered. Where curl(1) has the entry too, it says the same: names match
# whole labels, a leading dot makes no difference, addresses match addresses. Ports are ours (and Python's, and Go's).
ENTRIES = [
    ("example.com", "example.com", 80, True),
    ("example.com", "www.example.com", 80, True),
    ("example.com", "a.b.example.com", 443, True),
    ("example.com", "notexample.com", 80, False),
    ("example.com", "example.com.evil.test", 80, False),
    ("example.com", "com", 80, False),
    (".example.com", "example.com", 80, True),
    (".example.com", "www.example.com", 80, True),
    (".example.com", "notexample.com", 80, False),
    ("*.example.com", "www.example.com", 80, True),
    ("*.example.com", "notexample.com", 80, False),
    ("EXAMPLE.Com", "example.com", 80, True),
    ("example.com.", "example.com", 80, True),
    ("example.com", "example.com.", 80, True),
    ("example.com", "www.example.com.", 80, True),
    ("com", "example.com", 80, True),
    ("localhost", "localhost", 80, True),
    ("localhost", "127.0.0.1", 80, False),  # nothing is resolved
    ("bücher.example", "xn--bcher-kva.example", 80, True),
    ("xn--bcher-kva.example", "xn--bcher-kva.example", 80, True),
    ("_srv.example", "_srv.example", 80, True),
    ("*", "example.com", 80, True),
    ("*", "10.0.0.1", 80, True),
    ("*", "::1", 80, True),
    ("a.test,*", "example.com", 80, True),
    ("example.com:8080", "example.com", 8080, True),
    ("example.com:8080", "www.example.com", 8080, True),
    ("example.com:8080", "example.com", 80, False),
    ("example.com:65535", "example.com", 65535, True),
    ("127.0.0.1", "127.0.0.1", 80, True),
    ("127.0.0.1", "127.0.0.2", 80, False),
    ("127.0.0.1", "1.127.0.0.1", 80, False),
    ("0.0.1", "127.0.0.1", 80, False),  # a name is no part of an address
    ("0.1", "10.0.0.1", 80, False),
    ("127.0.0.1:8080", "127.0.0.1", 8080, True),
    ("127.0.0.1:8080", "127.0.0.1", 80, False),
    ("10.0.0.0/8", "10.255.255.255", 80, True),
    ("10.0.0.0/8", "11.0.0.0", 80, False),
    ("10.1.2.3/8", "10.200.0.1", 80, True),  # bits behind the network are let pass, as by curl
    ("192.168.1.0/25", "192.168.1.127", 80, True),
    ("192.168.1.0/25", "192.168.1.128", 80, False),
    ("0.0.0.0/0", "8.8.8.8", 80, True),
    ("0.0.0.0/0", "example.com", 80, False),
    ("0.0.0.0/0", "::1", 80, False),
    ("10.0.0.0/8:8080", "10.1.1.1", 8080, True),
    ("10.0.0.0/8:8080", "10.1.1.1", 80, False),
    ("10.0.0.0/8", "10.example.com", 80, False),
    ("::1", "::1", 80, True),
    ("[::1]", "::1", 80, True),
    ("[::1]:8080", "::1", 8080, True),
    ("[::1]:8080", "::1", 80, False),
    ("0:0:0:0:0:0:0:1", "::1", 80, True),
    ("2001:DB8::1", "2001:db8::1", 80, True),
    ("::1", "::2", 80, False),
    ("2001:db8::/32", "2001:db8:ffff::1", 80, True),
    ("2001:db8::/32", "2001:db9::1", 80, False),
    ("[2001:db8::]/32", "2001:db8:1::1", 80, True),
    ("[2001:db8::]/32:443", "2001:db8:1::1", 443, True),
    ("[2001:db8::]/32:443", "2001:db8:1::1", 80, False),
    ("::/0", "2001:db8::1", 80, True),
    ("::/0", "10.0.0.1", 80, False),
    ("fe80::1", "fe80::1%eth0", 80, True),
    ("fe80::/10", "fe80::abcd%eth0", 80, True),
    ("10.0.0.0/8", "::ffff:10.1.2.3", 80, True),  # the same host, written as IPv6
    ("::ffff:10.1.2.3", "::ffff:10.1.2.3", 80, True),
    ("a.test,b.test", "b.test", 80, True),
    ("a.test , b.test", "b.test", 80, True),
    ("a.test b.test\tc.test\nd.test", "d.test", 80, True),
    (",,a.test,,", "a.test", 80, True),
    (",,a.test,,", "b.test", 80, False),
    ("", "example.com", 80, False),
    ("  , ,", "example.com", 80, False),
]


@pytest.mark.parametrize(("entry", "host", "port", "covered"), ENTRIES)
def test_what_an_entry_covers(entry: str, host: str, port: int, covered: bool) -> None:
    assert NoProxy(entry).covers(host, port) is covered


@pytest.mark.parametrize(
    "entry",
    [
        "http://example.com", "example.com/path", "user@example.com", "example.com:", "example.com:0",
        "example.com:65536", "example.com:http", "example.com:-1", "example.com:٣", ".", "*.", "..", "**",
        "www.*.com", "10.*", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0.0/33", "10/x", "name/8",
        "::1/129", "::g", ":::", "[::1", "::1]", "[::1]x", "[::1]:", "[::1]:0", "[]", "[10.0.0.1]x",
        "a b\x00c", "ex\x7fample.com", "exam\u2028ple!", "\ud800", "a;b", "<local>",
    ],
)  # fmt: skip
def test_a_wrong_entry_is_named(entry: str) -> None:
    wrong = entry.split()[-1]
    with pytest.raises(ValueError, match="NO_PROXY: ") as caught:
        NoProxy(f"fine.test,{entry}")
    assert repr(wrong) in str(caught.value)


_PIECES = st.sampled_from(
    [
        "*",
        ".",
        ":",
        "/",
        "[",
        "]",
        "%",
        ",",
        " ",
        "10",
        "0",
        "::1",
        "fe80",
        "1.2.3.4",
        "a",
        "com",
        "80",
        "8",
        "ü",
        "-",
        "@",
    ]
)
_TEXT = st.one_of(st.text(), st.lists(_PIECES).map("".join))


@settings(max_examples=examples(300))
@given(_TEXT, _TEXT, st.integers(1, 65535))
@example("xn--a", "http://xn--a/", 80)
def test_any_text_is_refused_or_works(text: str, host: str, port: int) -> None:
    try:
        no_proxy = NoProxy(text)
    except ValueError as exc:
        assert str(exc).startswith("NO_PROXY: ")
        return
    try:
        url = URL(f"http://{host}:{port}")
    except ValueError:
        url = URL("http://example.com")
    assert no_proxy.covers(url.host, url.port) in (True, False)


@settings(max_examples=examples(200))
@given(st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){0,3}", fullmatch=True), st.integers(1, 65535), st.integers(1, 65535))
def test_a_name_covers_itself_and_what_is_below_it_on_its_port(name: str, port: int, other: int) -> None:
    no_proxy = NoProxy(f"{name}:{port}")
    assert no_proxy.covers(name, port)
    assert no_proxy.covers(f"www.{name}", port)
    assert not no_proxy.covers(f"www{name}", port)
    assert not no_proxy.covers(f"{name}.www", port)
    assert no_proxy.covers(name, other) is (port == other)


# --- the URL of a proxy ------------------------------------------------------------------------------------------------

SECRET = "s3cr-t9"


@pytest.mark.parametrize(
    ("url", "shown", "credentials"),
    [
        ("http://proxy", "http://proxy", None),
        ("http://proxy:3128/", "http://proxy:3128", None),
        ("HTTP://PROXY", "http://proxy", None),
        ("https://proxy", "https://proxy", None),
        ("socks5://proxy", "socks5://proxy", None),
        ("socks5h://[::1]:9050", "socks5h://[::1]:9050", None),
        ("http://u:p@proxy", "http://proxy", ("u", "p")),
        ("http://u@proxy", "http://proxy", ("u", "")),
        ("http://:p@proxy", "http://proxy", ("", "p")),
        ("http://u%40x:p%3A%2F@proxy", "http://proxy", ("u@x", "p:/")),
        ("http://u:a:b@proxy", "http://proxy", ("u", "a:b")),
        ("socks5://u:@proxy", "socks5://proxy", ("u", "")),
    ],
)
def test_a_url_names_a_proxy(url: str, shown: str, credentials: tuple[str, str] | None) -> None:
    proxy = Proxy.of(url)
    assert proxy == Proxy.of(URL(url))
    assert proxy.url.origin == shown
    assert proxy.url.userinfo is None
    assert proxy.credentials == credentials
    assert proxy.is_socks is shown.startswith("socks")
    assert "credentials" not in repr(proxy)


def test_basic_credentials_are_for_http_proxies_only() -> None:
    assert Proxy.of("http://Aladdin:open%20sesame@proxy").authorization == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert Proxy.of("http://proxy").authorization is None
    assert Proxy.of("socks5://u:p@proxy").authorization is None


WRONG: list[Any] = [
    "",
    "proxy",
    "proxy:3128",
    "http:proxy",
    "http://",
    "http:///",
    "http://:3128",
    "http://proxy:0",
    "http://proxy:65536",
    "http://proxy:port",
    "http://proxy/path",
    "http://proxy?query",
    "http://pro xy",
    "http://pro\r\nxy",
    "http://proxy\r\nX-Injected: yes",
    "http://pro\x00xy",
    "http://[::1",
    "http://[::1]x",
    "socks4://proxy",
    "socks://proxy:1",
    "ftp://proxy:21",
    "ws://proxy",
    f"http://u:{SECRET}%0d%0a@proxy",
    f"http://u:{SECRET}%00@proxy",
    f"http://u%0a:{SECRET}@proxy",
    f"socks5://u:{SECRET}%0d@proxy",
    f"http://u%3Ax:{SECRET}@proxy",  # a user with a colon cannot be said (RFC 7617 section 2)
    f"http://u:{SECRET}/x@proxy:3128",  # a slash that was not encoded
    f"http://u:{SECRET}?x@proxy:3128",
    f"http://u:12#{SECRET}@proxy:3128",  # a number sign that was not: this is no host "u"
    f"http://u#{SECRET}@proxy:3128",
    f"http://{SECRET}!/x@proxy:3128",
    "http://proxy:3128#fragment",
    f"http://u:{SECRET}\\x@proxy:3128",
    f"socks5://:{SECRET}@proxy",
    f"socks5://{'u' * 256}:{SECRET}@proxy",
    f"socks5://u:{SECRET}{'p' * 256}@proxy",
    f"socks5://u:{SECRET}{'%C3%BC' * 127}@proxy",
    "http://***@proxy",
]


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_url_of_a_proxy_is_a_value_error_that_tells_no_secret(url: str) -> None:
    for make in (Proxy.of, Routes.of, lambda url: Routes.of({"https://": url})):
        with pytest.raises(ValueError, match=r".{15}") as caught:
            make(url)
        assert SECRET not in str(caught.value)
        assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize("given", [b"http://proxy", 3128, ("http", "proxy"), object()])
def test_what_is_no_url_is_a_type_error(given: Any) -> None:
    with pytest.raises(TypeError, match="URL"):
        Proxy.of(given)


def test_the_longest_socks_credentials() -> None:
    assert Proxy.of(f"socks5://{'u' * 255}:{'p' * 255}@proxy").credentials == ("u" * 255, "p" * 255)


@settings(max_examples=examples(300))
@given(st.sampled_from(["http", "https", "socks5", "socks5h"]), _TEXT)
def test_any_url_is_refused_or_names_a_proxy(scheme: str, rest: str) -> None:
    try:
        proxy = Proxy.of(f"{scheme}://{rest}")
    except ValueError:
        return
    assert proxy.url.scheme == scheme
    assert re.fullmatch(r"[!-~]+", proxy.url.origin)
    authorization = proxy.authorization
    assert authorization is None or re.fullmatch(r"Basic [A-Za-z0-9+/=]+", authorization)


# --- the environment ---------------------------------------------------------------------------------------------------

A, B, C = "http://a:1", "http://b:2", "http://c:3"


def ways(routes: Routes, *urls: str) -> list[str | None]:
    """The origin of the proxy to each of *urls*."""
    found = [routes.find(URL(url)).proxy for url in urls]
    return [None if proxy is None else proxy.url.origin for proxy in found]


BOTH = ("http://x.test/", "https://x.test/")

# Variables, the proxy for http, the proxy for https.
ENVIRONMENTS: list[tuple[Mapping[str, str], str | None, str | None]] = [
    ({}, None, None),
    ({"http_proxy": A}, A, None),
    ({"https_proxy": A}, None, A),
    ({"HTTPS_PROXY": A}, None, A),
    ({"HTTP_PROXY": A}, None, None),  # a CGI server sets it to what a client sends
    ({"Http_Proxy": A}, None, None),
    ({"all_proxy": A}, A, A),
    ({"ALL_PROXY": A}, A, A),
    ({"HTTP_PROXY": A, "ALL_PROXY": B}, B, B),
    ({"http_proxy": A, "HTTP_PROXY": B}, A, None),
    ({"https_proxy": A, "HTTPS_PROXY": B}, None, A),
    ({"all_proxy": A, "ALL_PROXY": B}, A, A),
    ({"http_proxy": A, "all_proxy": B}, A, B),
    ({"http_proxy": A, "https_proxy": B, "all_proxy": C}, A, B),
    ({"http_proxy": "", "all_proxy": B}, B, B),
    ({"https_proxy": "  ", "ALL_PROXY": B}, B, B),
    ({"https_proxy": "", "HTTPS_PROXY": B}, None, None),  # lower case first, also where it is empty
    ({"http_proxy": " a:1 "}, A, None),
    ({"http_proxy": "a:1"}, A, None),
    ({"https_proxy": "a:1/"}, None, A),
    ({"all_proxy": "socks5h://a"}, "socks5h://a", "socks5h://a"),
    ({"all_proxy": A, "no_proxy": "x.test"}, None, None),
    ({"all_proxy": A, "NO_PROXY": "x.test"}, None, None),
    ({"all_proxy": A, "no_proxy": "x.test:443"}, A, None),
    ({"all_proxy": A, "no_proxy": "y.test", "NO_PROXY": "x.test"}, A, A),
    ({"all_proxy": A, "no_proxy": "*"}, None, None),
    ({"all_proxy": A, "no_proxy": ""}, A, A),
    ({"no_proxy": "*"}, None, None),
    ({"REQUEST_METHOD": "GET", "HTTP_PROXY": A, "https_proxy": B}, None, B),
]


@pytest.mark.parametrize(("environ", "http", "https"), ENVIRONMENTS)
def test_the_environment(environ: Mapping[str, str], http: str | None, https: str | None) -> None:
    assert ways(Routes.from_environment(environ), *BOTH) == [http, https]


def test_credentials_in_the_environment() -> None:
    for value in ("http://u:p@a:1", "u:p@a:1"):
        proxy = Routes.from_environment({"http_proxy": value}).find(URL("http://x.test")).proxy
        assert proxy is not None
        assert (proxy.url.origin, proxy.credentials) == (A, ("u", "p"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("http_proxy", "http://"),
        ("https_proxy", f"ftp://u:{SECRET}@a:1"),
        ("HTTPS_PROXY", f"http://u:{SECRET}@a:1/path"),
        ("ALL_PROXY", f"u:{SECRET}@a:port"),
        ("all_proxy", "http:/a"),
    ],
)
def test_a_wrong_variable_is_named_and_the_way_out(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"\b{name}\b.*trust_env=False") as caught:
        Routes.from_environment({name: value})
    assert SECRET not in str(caught.value)


def test_a_wrong_no_proxy_is_said_where_there_is_a_proxy() -> None:
    with pytest.raises(ValueError, match="NO_PROXY: 'http://x'"):
        Routes.from_environment({"no_proxy": "http://x", "http_proxy": "http://p:1"})
    assert not Routes.from_environment({"no_proxy": "http://x"}).has_proxies


@pytest.mark.parametrize(
    ("entry", "covered"), [("169.254/16", "169.254.1.2"), ("10/8", "10.1.2.3"), ("10.1.2/24", "10.1.2.9")]
)
def test_short_networks_as_macos_writes_them(entry: str, covered: str) -> None:
    assert NoProxy(entry).covers(covered, 80)
    assert not NoProxy(entry).covers("11.0.0.1", 80)


# --- proxy= ------------------------------------------------------------------------------------------------------------


def test_one_proxy_is_for_everything_and_no_proxy_does_not_count() -> None:
    assert ways(Routes.of(A), *BOTH, "https://localhost/", "http://127.0.0.1/") == [A] * 4


def test_a_mapping_of_origins() -> None:
    routes = Routes.of(
        {
            "https://": A,
            "https://x.test": B,
            "https://y.test:8443/": URL(C),
            "http://z.test": None,
            "https://n.test": None,
        }
    )
    table: dict[str, str | None] = {
        "https://x.test/a?b": B,
        "https://x.test:443": B,
        "https://X.TEST/": B,
        "https://x.test:8443": A,
        "https://www.x.test": A,
        "http://x.test": None,  # left out: straight there
        "https://y.test:8443": C,
        "https://y.test": A,
        "https://n.test": None,
        "https://n.test:1": A,
        "http://z.test": None,
    }
    assert dict(zip(table, ways(routes, *table), strict=True)) == table


@pytest.mark.parametrize(
    ("mapping", "error"),
    [
        ({"x.test": A}, ValueError),
        ({"": A}, ValueError),
        ({"https://x.test/path": A}, ValueError),
        ({"https://x.test?q": A}, ValueError),
        ({f"https://u:{SECRET}@x.test": A}, ValueError),
        ({"ftp://x.test:21": A}, ValueError),
        ({"socks5://": A}, ValueError),
        ({"all://": A}, ValueError),
        ({"https://x\r\n.test": A}, ValueError),
        ({"https://*.x.test": A}, ValueError),
        ({URL("https://x.test"): A}, TypeError),
        ({None: A}, TypeError),
        ({"https://": 3128}, TypeError),
        ({"https://": f"x://u:{SECRET}@p:1"}, ValueError),
    ],
)
def test_a_wrong_mapping(mapping: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"proxy") as caught:
        Routes.of(mapping)
    assert SECRET not in str(caught.value)


# --- who shares connections --------------------------------------------------------------------------------------------


def key(routes: Routes, url: str) -> str:
    return routes.find(URL(url)).key


def test_a_proxy_that_takes_whole_requests_has_connections_for_all_origins() -> None:
    routes = Routes.of("http://u:p@a:1")
    assert key(routes, "http://x.test/1") == key(routes, "http://y.test:81/2")
    assert routes.find(URL("http://x.test")).is_forwarded
    assert not routes.find(URL("https://x.test")).is_forwarded


def test_a_tunnel_is_for_one_origin() -> None:
    for url, scheme in (("http://a:1", "https"), ("socks5://a:1", "http"), ("socks5h://a:1", "https")):
        routes = Routes.of(url)
        found = [key(routes, f"{scheme}://{host}") for host in ("x.test", "y.test", "x.test:81")]
        assert len(set(found)) == 3
        assert not routes.find(URL(f"{scheme}://x.test")).is_forwarded


def test_other_credentials_are_other_connections() -> None:
    table = {
        f"http://x{i}.test": url
        for i, url in enumerate(["http://a:1", "http://u:p@a:1", "http://u:q@a:1", "https://a:1"])
    }
    routes = Routes.of(table)
    assert len({key(routes, url) for url in table}) == 4
    again = Routes.of({"http://x.test": "http://u:p@a:1", "http://y.test": "http://u:p@A:1/"})
    assert key(again, "http://x.test") == key(again, "http://y.test")


def test_no_key_holds_a_secret_or_meets_an_origin() -> None:
    routes = Routes.of(f"http://u:{SECRET}@a:1")
    forwarded = key(routes, f"http://v:{SECRET}@x.test/{SECRET}?{SECRET}")
    tunneled = key(routes, f"https://v:{SECRET}@x.test/{SECRET}?{SECRET}")
    assert SECRET not in forwarded + tunneled
    assert forwarded != key(Routes(), "http://a:1")


@pytest.mark.parametrize("proxy", [None, "socks5://a:1"])
def test_other_zones_are_other_connections(proxy: str | None) -> None:
    routes = Routes() if proxy is None else Routes.of(proxy)
    found = [key(routes, f"http://[fe80::1{zone}]:8080/") for zone in ("", "%25eth0", "%25eth1", "%25eth1")]
    assert len(set(found)) == 3
    assert found[2] == found[3]


def test_what_is_remembered_is_bounded_and_stays_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_KNOWN", 5)
    made = Routes.of({"http://": A, "http://x7.test": B})
    for turn in range(3):
        for i in range(20):
            assert ways(made, f"http://x{i}.test/{turn}") == [B if i == 7 else A]
            assert len(made._known) <= 5
