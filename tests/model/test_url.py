"""URLs: BEHAVIOUR 1, row by row."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any
from urllib.parse import unquote

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anyio_client._model.url import URL, join_path, looks_absolute, percent_encode, refuse_scheme

CONTROLS = [chr(code) for code in (*range(0x20), 0x7F)]


# --- parts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "path", "query"),
    [
        ("https://h", "https", "h", 443, "/", ""),
        ("http://h", "http", "h", 80, "/", ""),
        ("ws://h", "ws", "h", 80, "/", ""),
        ("wss://h", "wss", "h", 443, "/", ""),
        ("socks5://h", "socks5", "h", 1080, "/", ""),
        ("socks5h://h:9", "socks5h", "h", 9, "/", ""),
        ("HTTPS://EXAMPLE.Com/A", "https", "example.com", 443, "/A", ""),
        ("https://h:8443/a/b?c=d", "https", "h", 8443, "/a/b", "c=d"),
        ("https://h:443/", "https", "h", 443, "/", ""),
        ("https://h:00080/", "https", "h", 80, "/", ""),
        ("https://h:/x", "https", "h", 443, "/x", ""),
        ("https://h?a", "https", "h", 443, "/", "a"),
        ("https://h/?", "https", "h", 443, "/", ""),
        ("https://h/?a=1?b/c", "https", "h", 443, "/", "a=1?b/c"),
        ("https://h//a//b", "https", "h", 443, "//a//b", ""),
        ("https://h/../x", "https", "h", 443, "/../x", ""),
        ("  https://h/  ", "https", "h", 443, "/", ""),
        ("http://127.0.0.1:1/", "http", "127.0.0.1", 1, "/", ""),
        ("http://[::1]:65535/", "http", "::1", 65535, "/", ""),
        ("http://[2001:DB8:0:0::1]/", "http", "2001:db8::1", 80, "/", ""),
        ("http://[fe80::1%25eth0]/", "http", "fe80::1%eth0", 80, "/", ""),
        ("http://[fe80::1%eth0]/", "http", "fe80::1%eth0", 80, "/", ""),
        ("foo://h:1", "foo", "h", 1, "/", ""),
        ("https://a_b.c-d/", "https", "a_b.c-d", 443, "/", ""),
        ("https://h./", "https", "h.", 443, "/", ""),
    ],
)
def test_a_url_falls_into_its_parts(text: str, scheme: str, host: str, port: int, path: str, query: str) -> None:
    url = URL(text)
    assert (url.scheme, url.host, url.port, url.path, url.query) == (scheme, host, port, path, query)
    assert url.userinfo is None
    assert url.credentials is None


@pytest.mark.parametrize(
    ("text", "path"),
    [
        # what the caller encoded survives byte for byte, the case of the digits too
        ("https://h/a%2Fb?beta=true", "/a%2Fb"),
        ("https://h/a%2fb", "/a%2fb"),
        ("https://h/%41%7e", "/%41%7e"),
        ("https://h/a%20b", "/a%20b"),
        ("https://h/a+b", "/a+b"),
        # what cannot stand raw is encoded
        ("https://h/a b", "/a%20b"),
        ("https://h/ü€😀", "/%C3%BC%E2%82%AC%F0%9F%98%80"),
        ('https://h/"<>\\^`{|}', "/%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("https://h/\x80\x85\xa0", "/%C2%80%C2%85%C2%A0"),
        # a percent sign that begins no triplet stands for itself
        ("https://h/100%", "/100%25"),
        ("https://h/%zz%4", "/%25zz%254"),
        ("https://h/%%41", "/%25%41"),
        # what may stand raw does
        ("https://h/!$&'()*+,;=:@-._~[]", "/!$&'()*+,;=:@-._~[]"),
    ],
)
def test_a_path_is_encoded_only_where_it_must_be(text: str, path: str) -> None:
    assert URL(text).path == path


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a=b+c", "a=b+c"),
        ("a=b c", "a=b%20c"),
        ("a=%2B%2b", "a=%2B%2b"),
        ("a=ü", "a=%C3%BC"),
        ("a=1&a=2&&b", "a=1&a=2&&b"),
        ("a[]=1|2", "a[]=1|2"),
        ("a='\"<>", "a='%22%3C%3E"),
        ("a=%", "a=%25"),
        ("a=https://x/?y", "a=https://x/?y"),
    ],
)
def test_a_query_is_encoded_only_where_it_must_be(query: str, expected: str) -> None:
    assert URL(f"https://h/?{query}").query == expected
    assert join_path(URL("https://h/"), f"x?{query}").query == expected


@pytest.mark.parametrize("text", ["https://h/a?b=c#f", "https://h/a?b=c#", "https://h/a?b=c#x?y=z#/\ud800"])
def test_the_fragment_is_dropped(text: str) -> None:
    assert str(URL(text)) == "https://h/a?b=c"
    assert str(URL("https://h#secret")) == "https://h/"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("münchen.de", "xn--mnchen-3ya.de"),
        ("MÜNCHEN.DE", "xn--mnchen-3ya.de"),
        ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        ("faß.de", "xn--fa-hia.de"),  # IDNA 2003 would make it fass.de
        ("ＧＯ.com", "go.com"),
        ("h。com", "h.com"),
        ("日本語.jp", "xn--wgv71a119e.jp"),
        ("h\u00ad.com", "h.com"),
    ],
)
def test_a_host_is_ascii_by_idna_2008_and_uts_46(host: str, expected: str) -> None:
    assert URL(f"https://{host}/").host == expected


# --- refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an absolute URL: write it as 'https://host/path'"),
        ("/path", "not an absolute URL"),
        ("h/x", "not an absolute URL"),
        ("//h/x", "not an absolute URL"),
        ("mailto:x", "not an absolute URL"),
        ("https:/h", "not an absolute URL"),
        ("1https://h", "not an absolute URL"),
        ("://h", "not an absolute URL"),
        ("\u3000https://h", "not an absolute URL"),
        ("https://", "has no host"),
        ("https:///x", "has no host"),
        ("https://:80/", "has no host"),
        ("https://?a", "has no host"),
        ("https://user@/", "has no host"),
        ("https://h:0/", "the port 0 of the URL is not between 1 and 65535"),
        ("https://h:65536/", "the port 65536 of the URL is not between 1 and 65535"),
        ("https://h:99999999999/", "malformed host or port"),
        ("https://h:x/", "malformed host or port"),
        ("https://h:-1/", "malformed host or port"),
        ("https://h:+1/", "malformed host or port"),
        ("https://h:٣/", "malformed host or port"),
        ("https://h:1:2/", "malformed host or port"),
        ("https://::1/", "malformed host or port"),
        ("https://[::1/", "malformed host or port"),
        ("https://[::1]x/", "malformed host or port"),
        ("https://[]/", "is no IPv6 address"),
        ("https://[1.2.3.4]/", "is no IPv6 address"),
        ("https://[v1.a]/", "is no IPv6 address"),
        ("https://[fe80::1%]/", "malformed IPv6 zone"),
        ("https://[fe80::1%a b]/", "malformed IPv6 zone"),
        ("https://h x/", "is no host name"),
        ("https://h%41/", "is no host name"),
        ("https://h\\x/", "is no host name"),
        ("https://h,i/", "is no host name"),
        ("https://ü..de/", "is no host name"),
        ("https://\u00ad/", "is no host name"),
        ("https://\ud800/", "is no host name"),
        ("https://h\u2028/", "is no host name"),
        ("https://℀.com/", "is no host name"),
        ("https://h/\ud800", "cannot hold a lone surrogate"),
        ("https://h/?\udfff", "cannot hold a lone surrogate"),
        ("https://u\ud800@h/", "cannot hold a lone surrogate"),
        # WHATWG: the host is "h", RFC 3986: it is "evil"
        ("https://h\\@evil/", "has a backslash in it"),
        ("foo://h", "the scheme 'foo' is not supported"),
        ("file:///etc/passwd", "has no host"),
    ],
)
def test_what_is_no_absolute_url_is_a_value_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        URL(text)


@pytest.mark.parametrize(
    "text",
    [
        "{}https://h/",
        "ht{}tp://h/",
        "https://u{}@h/",
        "https://h{}/",
        "https://h:8{}0/",
        "https://h/{}",
        "https://h/{} HTTP/1.1",
        "https://h/?a={}",
        "https://h/#{}",
    ],
)
def test_a_control_character_anywhere_in_a_url_is_refused(text: str) -> None:
    for control in CONTROLS:
        with pytest.raises(ValueError, match="the URL has a control character in it"):
            URL(text.format(control))


@pytest.mark.parametrize("path", ["{}", "/{}", "a{}b", "a?b{}", "a?b=c#{}", "{} HTTP/1.1"])
def test_a_control_character_in_a_path_is_refused(path: str) -> None:
    for control in CONTROLS:
        with pytest.raises(ValueError, match="the path has a control character in it"):
            join_path(URL("https://h/"), path.format(control))


@pytest.mark.parametrize("value", [None, 1, b"https://h/", ["https://h/"], object()])
def test_what_is_no_text_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match=f"a URL must be a str or a URL, not {type(value).__name__}"):
        URL(value)


def test_the_scheme_that_is_not_supported_is_named() -> None:
    with pytest.raises(ValueError, match="the scheme 'ws' is not supported: only http and https are"):
        refuse_scheme(URL("ws://h"))


# --- userinfo -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("userinfo", "credentials"),
    [
        ("user:pass", ("user", "pass")),
        ("user", ("user", "")),
        ("user:", ("user", "")),
        (":pass", ("", "pass")),
        ("us%65r:p%40ss%3A", ("user", "p@ss:")),
        ("user:a:b", ("user", "a:b")),
        ("user:a@b", ("user", "a@b")),
        ("%C3%BC:%5C", ("ü", "\\")),
    ],
)
def test_userinfo_is_decoded_once_as_credentials(userinfo: str, credentials: tuple[str, str]) -> None:
    url = URL(f"https://{userinfo}@h:8/x")
    assert url.credentials == credentials
    assert (url.host, url.port) == ("h", 8)


def test_no_userinfo_before_the_at_sign_is_none() -> None:
    assert URL("https://@h/").userinfo is None


SECRETS = ["s3cret", "p@ss", "p%40ss", "pa:ss"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("form", ["{}", "{}:x", "user:{}"])
def test_userinfo_is_in_no_text_of_a_url(secret: str, form: str) -> None:
    url = URL(f"https://{form.format(secret)}@h:8443/x?a=1")
    assert str(url) == "https://***@h:8443/x?a=1"
    assert repr(url) == "URL('https://***@h:8443/x?a=***')"
    assert url.redacted == "https://***@h:8443/x?a=***"
    for text in (url.origin, url.netloc, url.target, f"{url}", f"{url!r}", f"{[url]}"):
        assert secret not in text


@pytest.mark.parametrize(
    "text",
    [
        "https://user:s3cret@h:99999/",
        "https://user:s3cret@h:x/",
        "https://user:s3cret@h x/",
        "https://user:s3cret@/",
        "https://user:s3cret@[::z]/",
        "https://user:s3cret\\@h/",
        "https://user:s3cret\ud800@h/",
        "https://user:s3cret@h/\n",
        "https://h/?key=s3cret\n",
        "https://h/?key=s3cret\ud800",
        "foo://user:s3cret@h/",
        "https:/user:s3cret@h/",
        "user:s3cret@h",
    ],
)
def test_no_error_repeats_a_secret(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        URL(text)
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(caught.value)


def test_a_url_that_was_printed_masked_is_not_taken_back() -> None:
    with pytest.raises(ValueError, match=re.escape("masked ('***@'); give the original one")):
        URL(str(URL("https://user:s3cret@h/")))


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("key=s3cret", "key=***"),
        ("a=s3cret&b=&c", "a=***&b=***&c"),
        ("a=b=s3cret", "a=***"),
        ("a%5B%5D=s3cret&a%5B%5D=s3cret", "a%5B%5D=***&a%5B%5D=***"),
    ],
)
def test_a_repr_has_no_value_of_the_query_and_str_has(query: str, shown: str) -> None:
    url = URL(f"https://h/p?{query}")
    assert repr(url) == f"URL('https://h/p?{shown}')"
    assert str(url) == f"https://h/p?{query}"


# --- derived texts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "netloc", "origin", "target"),
    [
        ("https://h", "h", "https://h", "/"),
        ("https://h:443/a", "h", "https://h", "/a"),
        ("http://h:80/a", "h", "http://h", "/a"),
        ("http://h:443/a?b", "h:443", "http://h:443", "/a?b"),
        ("https://h:80/", "h:80", "https://h:80", "/"),
        ("https://[::1]/", "[::1]", "https://[::1]", "/"),
        ("https://[::1]:8/", "[::1]:8", "https://[::1]:8", "/"),
        ("https://[fe80::1%eth0]:8/", "[fe80::1]:8", "https://[fe80::1]:8", "/"),
        ("https://u:p@H/?", "h", "https://h", "/"),
    ],
)
def test_netloc_origin_and_target(text: str, netloc: str, origin: str, target: str) -> None:
    url = URL(text)
    assert (url.netloc, url.origin, url.target) == (netloc, origin, target)


def test_a_url_is_a_value() -> None:
    url = URL("https://u:p@h/x?y=1")
    assert url == URL("HTTPS://u:p@H:443/x?y=1#f")
    assert hash(url) == hash(URL("https://u:p@h/x?y=1"))
    assert url != URL("https://h/x?y=1")
    assert url != URL("https://u:p@h/x")
    assert url != "https://u:p@h/x?y=1"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        url.host = "evil"  # type: ignore[misc]


def test_a_url_of_a_url_copies_and_pickles_are_equal_with_the_credentials() -> None:
    url = URL("https://u:p@h/x?y=1")
    for other in (URL(url), copy.copy(url), copy.deepcopy(url), pickle.loads(pickle.dumps(url)), url.replace()):
        assert other == url
        assert other.credentials == ("u", "p")


def test_replace_changes_what_it_is_told() -> None:
    url = URL("https://u:p@h:8/x?y=1")
    assert url.replace(path="/z") == URL("https://u:p@h:8/z?y=1")
    assert url.replace(query="") == URL("https://u:p@h:8/x")
    assert url.replace(userinfo=False) == URL("https://h:8/x?y=1")
    assert url == URL("https://u:p@h:8/x?y=1")


# --- paths below a base (BEHAVIOUR 1.1) -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/foo", "https://h/v1/foo"),
        ("foo", "https://h/v1/foo"),
        ("", "https://h/v1/"),
        ("/", "https://h/v1/"),
        ("?a=1", "https://h/v1/?a=1"),
        ("//foo", "https://h/v1//foo"),
        ("//evil.com/x", "https://h/v1//evil.com/x"),
        ("\\\\evil.com", "https://h/v1/%5C%5Cevil.com"),
        ("@evil.com", "https://h/v1/@evil.com"),
        (":80/x", "https://h/v1/:80/x"),
        ("a:b", "https://h/v1/a:b"),
        ("https:foo", "https://h/v1/https:foo"),
        ("/a%2Fb?beta=true", "https://h/v1/a%2Fb?beta=true"),
        ("a+b c", "https://h/v1/a+b%20c"),
        ("foo/", "https://h/v1/foo/"),
        ("foo#x?y=1", "https://h/v1/foo"),
        ("foo?a=1#x", "https://h/v1/foo?a=1"),
        ("foo?", "https://h/v1/foo"),
        ("a/../b", "https://h/v1/a/../b"),
        ("a/..", "https://h/v1/a/.."),
        ("./a", "https://h/v1/./a"),
        ("...", "https://h/v1/..."),
        ("a..b/c", "https://h/v1/a..b/c"),
        ("a?b=../../..", "https://h/v1/a?b=../../.."),
    ],
)
def test_a_path_is_appended_to_the_base(path: str, expected: str) -> None:
    for base in ("https://h/v1", "https://h/v1/"):
        assert str(join_path(URL(base), path)) == expected


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "/..",
        "../",
        "../x",
        "/../x",
        "//..",
        "//../x",
        "./../x",
        "a/../../x",
        "a/b/../../../x",
        "a/../../v1/x",
        "%2e%2e/x",
        "%2E%2e/x",
        ".%2e",
        "%2e.",
        "a/%2e%2e/..",
        # a server that merges slashes would climb out here
        "a//../../x",
    ],
)
def test_a_path_that_climbs_out_of_the_base_is_refused(path: str) -> None:
    for suffix in ("", "?a=1", "#f"):
        with pytest.raises(ValueError, match="climbs out of the base URL"):
            join_path(URL("https://h/v1"), path + suffix)


def test_a_joined_url_keeps_host_and_credentials_and_not_the_bases_query() -> None:
    joined = join_path(URL("https://u:p@h:8/v1?a=1"), "x?b=2")
    assert joined == URL("https://u:p@h:8/v1/x?b=2")


def test_a_lone_surrogate_in_a_path_is_refused() -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        join_path(URL("https://h/"), "a\ud800")


@pytest.mark.parametrize(
    ("path", "absolute"),
    [
        ("https://h", True),
        ("HTTP://h", True),
        ("a+b.c-1://x", True),
        ("/https://h", False),
        ("//h", False),
        ("https:/h", False),
        ("", False),
        (" https://h", False),
    ],
)
def test_a_scheme_and_two_slashes_make_a_whole_url(path: str, absolute: bool) -> None:
    assert looks_absolute(path) is absolute


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("", ""),
        ("aZ09-._~", "aZ09-._~"),
        (" +/?#&=%", "%20%2B%2F%3F%23%26%3D%25"),
        ("ü€😀", "%C3%BC%E2%82%AC%F0%9F%98%80"),
        ("\r\n\x00", "%0D%0A%00"),
    ],
)
def test_percent_encode_leaves_only_what_is_unreserved(value: str, encoded: str) -> None:
    assert percent_encode(value) == encoded


def test_percent_encode_refuses_a_lone_surrogate() -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        percent_encode("a\ud800")


# --- references (RFC 3986 section 5) --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        # section 5.4.1
        ("g:h", None),  # no host: no URL that we know
        ("g", "http://a/b/c/g"),
        ("./g", "http://a/b/c/g"),
        ("g/", "http://a/b/c/g/"),
        ("/g", "http://a/g"),
        ("//g", "http://g/"),
        ("?y", "http://a/b/c/d;p?y"),
        ("g?y", "http://a/b/c/g?y"),
        ("#s", "http://a/b/c/d;p?q"),
        ("g#s", "http://a/b/c/g"),
        ("g?y#s", "http://a/b/c/g?y"),
        (";x", "http://a/b/c/;x"),
        ("g;x", "http://a/b/c/g;x"),
        ("g;x?y#s", "http://a/b/c/g;x?y"),
        ("", "http://a/b/c/d;p?q"),
        (".", "http://a/b/c/"),
        ("./", "http://a/b/c/"),
        ("..", "http://a/b/"),
        ("../", "http://a/b/"),
        ("../g", "http://a/b/g"),
        ("../..", "http://a/"),
        ("../../", "http://a/"),
        ("../../g", "http://a/g"),
        # section 5.4.2
        ("../../../g", "http://a/g"),
        ("../../../../g", "http://a/g"),
        ("/./g", "http://a/g"),
        ("/../g", "http://a/g"),
        ("g.", "http://a/b/c/g."),
        (".g", "http://a/b/c/.g"),
        ("g..", "http://a/b/c/g.."),
        ("..g", "http://a/b/c/..g"),
        ("./../g", "http://a/b/g"),
        ("./g/.", "http://a/b/c/g/"),
        ("g/./h", "http://a/b/c/g/h"),
        ("g/../h", "http://a/b/c/h"),
        ("g;x=1/./y", "http://a/b/c/g;x=1/y"),
        ("g;x=1/../y", "http://a/b/c/y"),
        ("g?y/./x", "http://a/b/c/g?y/./x"),
        ("g?y/../x", "http://a/b/c/g?y/../x"),
        ("g#s/./x", "http://a/b/c/g"),
        ("g#s/../x", "http://a/b/c/g"),
        ("http:g", None),  # strictly
        # and more
        ("?", "http://a/b/c/d;p"),
        ("  g  ", "http://a/b/c/g"),
        ("g//../h", "http://a/b/c/g/h"),
        ("/..//g", "http://a//g"),
        ("//u:p@g:8/h?i", "http://u:p@g:8/h?i"),
        ("https://G:443/h#s", "https://g/h"),
        ("g%2F..%2fh", "http://a/b/c/g%2F..%2fh"),
        ("ü?ü=ü", "http://a/b/c/%C3%BC?%C3%BC=%C3%BC"),
        ("\\\\g\\h", "http://a/b/c/%5C%5Cg%5Ch"),
    ],
)
def test_a_reference_is_resolved(reference: str, expected: str | None) -> None:
    base = URL("http://a/b/c/d;p?q")
    if expected is None:
        with pytest.raises(ValueError, match="not an absolute URL"):
            base.join(reference)
    else:
        assert base.join(reference) == URL(expected)
        assert base == URL("http://a/b/c/d;p?q")


@pytest.mark.parametrize("reference", ["http://x/g/./h/../i", "//x/g/./h/../i", "http://x/../g/i", "//x/g/i/j/.."])
def test_dot_segments_go_from_a_reference_with_a_host_too(reference: str) -> None:
    """RFC 3986 section 5.2.2: T.path = remove_dot_segments(R.path), whatever R has besides."""
    assert URL("http://a/b").join(reference).path in ("/g/i", "/g/i/")


def test_a_reference_without_a_host_keeps_host_port_and_credentials() -> None:
    assert URL("https://u:p@h:8").join("x?b=2") == URL("https://u:p@h:8/x?b=2")
    assert URL("https://u:p@h:8/?a").join("//g/") == URL("https://g/")


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("reference", ["{}", "/{}", "/x{}", "//h{}/", "g#{}"])
def test_a_control_character_in_a_reference_is_refused(reference: str, control: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        URL("http://a/").join(reference.format(control))


# --- properties -----------------------------------------------------------------------------------------------

# Text that gets past the first checks more often than any text does.
URLISH = st.builds(
    "{}://{}{}".format,
    st.sampled_from(["http", "https", "HTTP", "ws", "foo"]),
    st.text(st.sampled_from("aZ09.-_~:@[]%\\ \r\x00üß。\u00ad\ud800日𝒽"), max_size=12),
    st.text(st.sampled_from("/?#&=+%2aF.~:@[]|\\^ \n\x7füĀ\ud800😀"), max_size=12),
)

# What RFC 9112 section 3.2.1 and RFC 9110 section 7.2 let stand in a request line and a Host field.
ON_THE_WIRE = re.compile(r"[!-~]+")


@given(st.text() | URLISH)
@example("https://h/\ud800")
@example("https://[::1%25\u0660]/")
def test_any_text_is_a_url_or_a_value_error(text: str) -> None:
    try:
        url = URL(text)
    except ValueError:
        return
    assert 0 < url.port < 65536
    assert re.fullmatch(r"[a-z0-9._~-]+|[0-9a-f:]+(%[A-Za-z0-9._~-]+)?", url.host), url.host
    assert url.path.startswith("/")
    for part in (url.target, url.netloc, str(url), repr(url)):
        assert ON_THE_WIRE.fullmatch(part), part
    assert "#" not in url.target


@given(st.none() | st.integers() | st.binary() | st.lists(st.text()))
def test_anything_else_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        URL(value)


MOSTLY_VALID = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "HTTPS", "ws", "socks5h"]),
    st.sampled_from(["", "@", "user@", "user:p%40ss@", ":@"]),
    st.sampled_from(["h", "H.:80", "a_b:443", "münchen.de", "ＧＯ.com", "[::1]:8", "[FE80::1%25eth0]", "1.2.3.4:"]),
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=12).map(lambda tail: tail and f"/{tail}")
    | st.text(st.sampled_from("/?#&=+%2aF.~:@[]|\\^ ü😀"), max_size=12).map(lambda tail: f"/{tail}"),
)


@given(MOSTLY_VALID | URLISH)
def test_what_was_printed_is_read_and_printed_as_it_was(text: str) -> None:
    try:
        url = URL(text)
    except ValueError:
        return
    bare = url.replace(userinfo=False)
    again = URL(str(bare))
    assert str(again) == str(bare)
    assert again == bare or "%" in url.host  # str, like the Host field, has no zone
    assert URL(again) == again


PATHISH = st.text(st.sampled_from("/.?#%2eE@:\\aü \ud800\n"), max_size=16)


@given(PATHISH | st.text())
@example("//evil")
@example("\\\\evil")
def test_no_path_leaves_the_base(path: str) -> None:
    base = URL("https://h/v1/")
    try:
        joined = join_path(base, path)
    except ValueError:
        return
    assert joined.origin == "https://h"
    assert joined.path.startswith("/v1/")
    # RFC 3986 section 5.2.4, over the segments below the host
    kept: list[str] = []
    for segment in joined.path[1:].split("/"):
        plain = segment.lower().replace("%2e", ".")
        if plain == "..":
            kept.pop()
            assert kept, "climbed out of the base"
        elif plain != ".":
            kept.append(segment)
    assert kept[0] == "v1"
    assert URL(str(joined)) == joined


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_percent_encoded_decodes_to_itself(value: str) -> None:
    encoded = percent_encode(value)
    assert unquote(encoded, errors="strict") == value
    assert re.fullmatch(r"[A-Za-z0-9._~%-]*", encoded)


@given(st.text() | URLISH | PATHISH)
@example("\ud800")
@example("?\ud800")
@example("/.//evil")
@example("/\\evil")
def test_any_reference_is_a_url_or_a_value_error(reference: str) -> None:
    base = URL("https://h:8443/a/b?c")
    try:
        joined = base.join(reference)
    except ValueError:
        return
    plain = joined.replace(userinfo=False)
    for part in (plain.target, plain.netloc, str(plain)):
        assert ON_THE_WIRE.fullmatch(part), part
    assert "#" not in plain.target
    if not re.match(r" *([A-Za-z][A-Za-z0-9+.-]*:|//)", reference):
        assert joined.origin == base.origin
        assert not {".", ".."}.intersection(joined.path.split("/"))
