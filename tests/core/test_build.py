"""From options to a request: BEHAVIOUR 1.1 to 1.4, 1.6, 3.1, 3.3, 4.2 and 4.3, row by row."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyio_client._core.build import (
    basic_credentials,
    build_headers,
    build_url,
    check_body_allowed,
    frame,
    passes_to_other_origin,
)
from anyio_client._model.given import NotGiven, Omit, not_given, omit
from anyio_client._model.headers import Headers
from anyio_client._model.query import Querystring
from anyio_client._model.request import Request, StreamedBody
from anyio_client._model.url import URL

QS = Querystring()


def built(
    base: str,
    url: str | URL,
    *,
    default_query: dict[str, object] | None = None,
    params: dict[str, object] | None = None,
    qs: Querystring = QS,
) -> tuple[str, bool]:
    target, foreign = build_url(URL(base), url, default_query=default_query or {}, params=params or {}, qs=qs)
    return str(target), foreign


# --- URL (BEHAVIOUR 1) ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("https://h/v1", "/foo", "https://h/v1/foo"),
        ("https://h/v1", "foo", "https://h/v1/foo"),
        ("https://h/v1/", "/foo", "https://h/v1/foo"),
        ("https://h/v1", "", "https://h/v1/"),
        ("https://h/v1", "?a=1", "https://h/v1/?a=1"),
        ("https://h/v1", "//foo", "https://h/v1//foo"),
        ("https://h", "", "https://h/"),
        ("https://h", "/foo", "https://h/foo"),
        ("https://h:8/a/b", "c/", "https://h:8/a/b/c/"),
        ("https://h/v1", "/a%2Fb?beta=true", "https://h/v1/a%2Fb?beta=true"),
        ("https://h/v1", "/a b+ü#f", "https://h/v1/a%20b+%C3%BC"),
        ("https://h/v1", "x?a=b+c d", "https://h/v1/x?a=b+c%20d"),
    ],
)
def test_a_path_is_appended_to_the_base_and_leads_to_its_origin(base: str, path: str, url: str) -> None:
    assert built(base, path) == (url, False)


@pytest.mark.parametrize("path", ["..", "/../x", "a/../../x", "%2e%2e/x", "%2E./x", "//../x"])
def test_a_path_that_climbs_out_is_a_value_error(path: str) -> None:
    with pytest.raises(ValueError, match="climbs out of the base URL"):
        built("https://h/v1", path)


@pytest.mark.parametrize("url", ["foo\n", "foo\r\nX: y", "?a=\x00", "https://h/\n", "https://h\r\n/"])
def test_a_control_character_in_the_url_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        built("https://h/v1", url)


@pytest.mark.parametrize(
    ("url", "foreign"),
    [
        ("https://h/x", False),
        ("HTTPS://H:443/x", False),
        ("https://user:p@h/x", False),
        ("https://h./x", True),
        ("http://h/x", True),
        ("https://h:8443/x", True),
        ("https://other/x", True),
        ("https://sub.h/x", True),
        ("https://h@evil/x", True),
    ],
)
@pytest.mark.parametrize("kind", [str, URL])
def test_an_absolute_url_replaces_the_base_and_its_origin_tells(
    url: str, foreign: bool, kind: Callable[[str], Any]
) -> None:
    target, is_foreign = build_url(URL("https://h/v1?base=1"), kind(url), default_query={}, params={}, qs=QS)
    assert target == URL(url)
    assert is_foreign is foreign


@pytest.mark.parametrize("url", ["ws://h/", "wss://h/", "socks5://h/", "ftp://h:21/"])
def test_a_scheme_other_than_http_and_https_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError, match="the scheme '.*' is not supported: only http and https are"):
        built("https://h/v1", url)


@pytest.mark.parametrize(
    ("base", "url", "default_query", "params", "expected"),
    [
        # the base's query stays on every request
        ("https://h/v1?k=1", "x", {}, {}, "https://h/v1/x?k=1"),
        ("https://h/v1?k=1&k=2", "x?a=3", {}, {}, "https://h/v1/x?k=1&k=2&a=3"),
        ("https://h/v1?k=%2f+", "", {}, {}, "https://h/v1/?k=%2f+"),
        # each layer replaces what is below it
        ("https://h/v1?k=1", "x", {"k": 2}, {}, "https://h/v1/x?k=2"),
        ("https://h/v1?k=1", "x?k=3", {"k": 2}, {}, "https://h/v1/x?k=3"),
        ("https://h/v1?k=1", "x?k=3", {"k": 2}, {"k": 4}, "https://h/v1/x?k=4"),
        ("https://h/v1?a=1", "x?b=2", {"c": 3}, {"d": 4}, "https://h/v1/x?a=1&c=3&b=2&d=4"),
        ("https://h/v1", "x", {"a": [1, 2]}, {"a": [3]}, "https://h/v1/x?a%5B%5D=3"),
        # however the name is encoded
        ("https://h/v1?a%5B%5D=1", "x?a[]=2", {}, {}, "https://h/v1/x?a[]=2"),
        ("https://h/v1", "x?a[]=2", {"a": [1]}, {}, "https://h/v1/x?a[]=2"),
        ("https://h/v1?%6B=1", "x?k=2", {}, {}, "https://h/v1/x?k=2"),
        ("https://h/v1?a+b=1", "x?a%20b=2", {}, {}, "https://h/v1/x?a%20b=2"),
        ("https://h/v1?a%2Bb=1", "x?a+b=2", {}, {}, "https://h/v1/x?a%2Bb=1&a+b=2"),
        # one of several, and a value with an equals sign in it
        ("https://h/v1?k=1&m=2", "x?k=3", {}, {}, "https://h/v1/x?m=2&k=3"),
        ("https://h/v1?k=1&m=2&n=3", "x?m=4&k=5", {}, {}, "https://h/v1/x?n=3&m=4&k=5"),
        ("https://h/v1?k=1", "x?k=a=b", {}, {}, "https://h/v1/x?k=a=b"),
        ("https://h/v1?k=a=b", "x?k=1", {}, {}, "https://h/v1/x?k=1"),
        # hard-coded parameters are kept, repeated ones too; params override those of the same name
        ("https://h/v1", "x?a=1&a=2", {}, {}, "https://h/v1/x?a=1&a=2"),
        ("https://h/v1", "x?a=1&a=2&b=3", {}, {"b": 4}, "https://h/v1/x?a=1&a=2&b=4"),
        ("https://h/v1", "x?a=1&a=2", {}, {"a": 3}, "https://h/v1/x?a=3"),
        ("https://h/v1", "x?beta=true", {}, {"a": ""}, "https://h/v1/x?beta=true&a="),
        # omit removes, None only drops the entry
        ("https://h/v1?k=1", "x?a=1", {"c": 1}, {"k": omit, "c": omit, "a": omit}, "https://h/v1/x"),
        ("https://h/v1?k=1", "x?a=1", {"c": 1}, {"k": None, "c": None, "a": None}, "https://h/v1/x?k=1&c=1&a=1"),
        ("https://h/v1?k=1", "x", {"k": omit}, {}, "https://h/v1/x"),
        ("https://h/v1?k=1", "x", {"k": omit}, {"k": 2}, "https://h/v1/x?k=2"),
        # nothing, and no question mark
        ("https://h/v1", "x?", {}, {"a": [], "b": {}}, "https://h/v1/x"),
        ("https://h/v1", "x", {}, {"a": "b+c d"}, "https://h/v1/x?a=b%2Bc%20d"),
        # an absolute URL of the same origin
        ("https://h/v1", "https://h/x?a=1", {"c": 2}, {"d": 3}, "https://h/x?c=2&a=1&d=3"),
        ("https://h/v1", "https://h/x?c=1", {"c": 2}, {}, "https://h/x?c=1"),
        # to another origin no parameter of the client goes along
        ("https://h/v1?k=1", "https://other/x?a=1", {"c": 2}, {}, "https://other/x?a=1"),
        ("https://h/v1?k=1", "https://other/x?a=1", {"c": 2}, {"d": 3}, "https://other/x?a=1&d=3"),
        ("https://h/v1", "http://h/x", {"c": 2}, {}, "http://h/x"),
    ],
)
def test_parameters_come_in_layers(
    base: str, url: str, default_query: dict[str, object], params: dict[str, object], expected: str
) -> None:
    assert built(base, url, default_query=default_query, params=params)[0] == expected


def test_parameters_are_written_in_the_clients_format() -> None:
    qs = Querystring(array_format="comma", nested_format="dots")
    params: dict[str, object] = {"a": [1, 2], "b": {"c": 1}}
    assert built("https://h/v1", "x", params=params, qs=qs)[0] == "https://h/v1/x?a=1%2C2&b.c=1"


def test_the_layers_are_not_changed() -> None:
    low: dict[str, object] = {"a": [1]}
    high: dict[str, object] = {"a": omit, "b": None}
    built("https://h/?a=1", "x?b=2", default_query=low, params=high)
    assert (low, high) == ({"a": [1]}, {"a": omit, "b": None})


@given(st.text(), st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2))
def test_no_path_and_no_parameter_lead_to_another_origin_unnoticed(path: str, params: dict[str, object]) -> None:
    try:
        url, foreign = build_url(URL("https://h/v1"), path, default_query={}, params=params, qs=QS)
    except ValueError:
        return
    assert foreign is (url.origin != "https://h")
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        assert url.origin == "https://h"
        assert url.path.startswith("/v1/")


# --- fields (BEHAVIOUR 3.1, 1.2) --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("below", "own", "fields", "omitted"),
    [
        ({}, not_given, [], set()),
        ({"A": "1", "B": "2"}, not_given, [("A", "1"), ("B", "2")], set()),
        ({"A": "1", "B": "2"}, {"a": "3", "C": "4"}, [("a", "3"), ("B", "2"), ("C", "4")], set()),
        ({"A": "1"}, {"a": omit}, [], {"a"}),
        ({"A": "1"}, {"A": Omit()}, [], {"a"}),
        ({"A": omit}, not_given, [], {"a"}),
        ({"A": omit}, {}, [], {"a"}),
        ({"A": omit}, {"a": "1"}, [("a", "1")], set()),
        ({}, {"X-Stainless-Retry-Count": omit}, [], {"x-stainless-retry-count"}),
        ({"Authorization": "low"}, {"authorization": "high"}, [("authorization", "high")], set()),
        ({"content-type": "a/b"}, {"Content-Type": "c/d"}, [("Content-Type", "c/d")], set()),
    ],
)
def test_fields_come_in_layers(
    below: dict[str, str | Omit],
    own: dict[str, str | Omit] | NotGiven,
    fields: list[tuple[str, str]],
    omitted: set[str],
) -> None:
    headers, gone = build_headers(below, own, foreign=False)
    assert headers.multi_items() == fields
    assert gone == frozenset(omitted)
    assert isinstance(gone, frozenset)


PASSING = [
    "Accept",
    "Accept-Language",
    "accept-encoding",
    "Content-Type",
    "Content-Language",
    "User-Agent",
    "Range",
    "If-Range",
    "If-None-Match",
    "Prefer",
    "Expect",
    "traceparent",
    "TraceState",
]
STAYING = [
    "Authorization",
    "Cookie",
    "Proxy-Authorization",
    "X-Api-Key",
    "api-key",
    "X-Goog-Api-Key",
    "OpenAI-Organization",
    "Idempotency-Key",
    "x-stainless-os",
    "Host",
    "Referer",
    "Origin",
    "X-User-Agent",
    "X-Accept",
    "Ranges",
]


@pytest.mark.parametrize(("name", "passes"), [(n, True) for n in PASSING] + [(n, False) for n in STAYING])
def test_only_fields_that_describe_the_message_pass_to_another_origin(name: str, passes: bool) -> None:
    assert passes_to_other_origin(name) is passes
    assert passes_to_other_origin(name.upper()) is passes
    below: dict[str, str | Omit] = {name: "value"}
    headers, omitted = build_headers(below, not_given, foreign=True)
    assert (name in headers) is passes
    assert not omitted
    # what the caller gave for this very request goes along
    assert build_headers({}, below, foreign=True)[0].multi_items() == [(name, "value")]
    assert build_headers({name: "low"}, below, foreign=True)[0].multi_items() == [(name, "value")]


def test_what_the_client_omits_stays_omitted_at_another_origin() -> None:
    below: dict[str, str | Omit] = {"User-Agent": omit, "X-Stainless-Retry-Count": omit, "Authorization": omit}
    headers, omitted = build_headers(below, not_given, foreign=True)
    assert not headers
    assert omitted == {"user-agent", "x-stainless-retry-count", "authorization"}


def test_the_layers_of_fields_are_not_changed() -> None:
    below: dict[str, str | Omit] = {"A": "1", "B": omit}
    own: dict[str, str | Omit] = {"a": omit}
    build_headers(below, own, foreign=True)
    assert (below, own) == ({"A": "1", "B": omit}, {"a": omit})


@pytest.mark.parametrize(
    "fields", [{"X": "a\r\nY: b"}, {"X\n": "a"}, {"X": "a\x00"}, {"X Y": "a"}, {"": "a"}, {"X:": "a"}]
)
def test_a_field_that_would_break_its_line_is_a_value_error(fields: dict[str, str | Omit]) -> None:
    with pytest.raises(ValueError):
        build_headers(fields, not_given, foreign=False)
    with pytest.raises(ValueError):
        build_headers({}, fields, foreign=False)


@pytest.mark.parametrize("value", [None, 1, b"x", not_given])
def test_a_field_that_is_no_text_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match=f"the value of header 'X' must be a str, not {type(value).__name__}"):
        build_headers({}, {"X": value}, foreign=False)


# --- basic credentials ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "password", "value"),
    [
        ("Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),  # RFC 7617 section 2
        ("test", "123£", "Basic dGVzdDoxMjPCow=="),  # RFC 7617 section 2.1
        ("", "", "Basic Og=="),
        ("u", "a:b", "Basic dTphOmI="),
    ],
)
def test_basic_credentials_are_utf_8_in_base64(user: str, password: str, value: str) -> None:
    assert basic_credentials(user, password) == value


def test_a_user_name_with_a_colon_is_a_value_error_that_does_not_repeat_it() -> None:
    with pytest.raises(ValueError) as caught:
        basic_credentials("s3cret:", "s3cret")
    assert str(caught.value) == ("a user name with a colon in it cannot be sent by basic authentication (RFC 7617)")


@given(
    st.text(st.characters(exclude_characters=":\x7f", exclude_categories=["Cs", "Cc"])),
    st.text(st.characters(codec="utf-8", exclude_characters="\x7f", exclude_categories=["Cs", "Cc"])),
)
def test_basic_credentials_make_one_clean_line(user: str, password: str) -> None:
    value = basic_credentials(user, password)
    assert Headers({"Authorization": value})["authorization"] == value
    assert base64.b64decode(value.removeprefix("Basic ")).decode() == f"{user}:{password}"


@pytest.mark.parametrize(("user", "password"), [("a\n", "b"), ("a", "b\0"), ("\x7f", "")])
def test_basic_credentials_have_no_control_characters(user: str, password: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        basic_credentials(user, password)


# --- bodies (BEHAVIOUR 4.2) -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("what", ["a JSON body", "files"])
def test_get_and_head_have_no_body_and_the_error_says_so(method: str, what: str) -> None:
    with pytest.raises(ValueError, match=f"{method} requests have no body: {what} cannot be sent; pass content="):
        check_body_allowed(method, what)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"])
def test_other_methods_may_have_a_body(method: str) -> None:
    check_body_allowed(method, "a JSON body")


# --- framing (BEHAVIOUR 3.3, 4.3) -------------------------------------------------------------------------------


def framed(method: str, url: str = "http://h/", **arguments: Any) -> Headers:
    request = Request(method, url, **arguments)
    frame(request)
    return request.headers


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://h/", "h"),
        ("http://h:80/", "h"),
        ("https://h:80/", "h:80"),
        ("http://[::1]:8/", "[::1]:8"),
        ("http://[fe80::1%25eth0]/", "[fe80::1]"),
        ("http://user:p@h/", "h"),
        ("http://münchen.de/", "xn--mnchen-3ya.de"),
    ],
)
def test_the_host_field_is_the_urls_unless_it_was_set(url: str, host: str) -> None:
    assert framed("GET", url).multi_items() == [("Host", host)]
    assert framed("GET", url, headers={"host": "other"}).multi_items() == [("host", "other")]


@pytest.mark.parametrize("name", ["Host", "Content-Type", "Authorization", "Proxy-Authorization"])
def test_a_field_that_must_be_single_is_refused_twice(name: str) -> None:
    with pytest.raises(ValueError, match=f"a request has one {name} field, not several") as caught:
        framed("POST", headers=[(name, "s3cret"), (name.lower(), "s3cret2")], content=b"x")
    assert "s3cret" not in str(caught.value)


def pieces() -> list[bytes]:
    return [b"abc"]


@pytest.mark.parametrize(
    ("method", "content", "length"),
    [
        ("POST", b"abc", "3"),
        ("POST", "ü", "2"),
        ("POST", [b"a", b"bc"], "3"),
        ("POST", StreamedBody(pieces, replayable=True, length=3), "3"),
        ("GET", b"abc", "3"),
        ("DELETE", b"abc", "3"),
        # RFC 9110 section 8.6: zero where the method gives a body a meaning
        ("POST", None, "0"),
        ("PUT", None, "0"),
        ("PATCH", b"", "0"),
        ("POST", [], "0"),
        ("GET", None, None),
        ("GET", b"", None),
        ("HEAD", None, None),
        ("DELETE", None, None),
        ("OPTIONS", None, None),
        ("GET", [], "0"),
        # unknown: the protocol frames it
        ("POST", pieces, None),
        ("POST", StreamedBody(pieces, replayable=True), None),
        ("PUT", iter([b"abc"]), None),
    ],
)
def test_a_known_length_is_declared(method: str, content: Any, length: str | None) -> None:
    assert framed(method, content=content).get("Content-Length") == length


@pytest.mark.parametrize(
    ("content", "declared"),
    [(b"abc", "3"), (b"", "0"), ([b"abc"], "3"), (pieces, "3"), (pieces, "0"), (pieces, "99999999999999")],
)
def test_a_declared_length_that_fits_is_kept(content: Any, declared: str) -> None:
    headers = framed("POST", headers={"content-length": declared}, content=content)
    assert headers.get_list("Content-Length") == [declared]


@pytest.mark.parametrize(
    ("content", "declared", "message"),
    [
        (b"abc", "2", "Content-Length is 2, the body has 3 bytes"),
        (b"abc", "4", "Content-Length is 4, the body has 3 bytes"),
        (None, "1", "Content-Length is 1, the body has 0 bytes"),
        ([b"abc"], "4", "Content-Length is 4, the body has 3 bytes"),
        (b"abc", "", "Content-Length must be a number, got ''"),
        (b"abc", "+3", "Content-Length must be a number"),
        (b"abc", "-3", "Content-Length must be a number"),
        (b"abc", "3.0", "Content-Length must be a number"),
        (b"abc", "3, 3", "Content-Length must be a number"),
        (b"abc", "0x3", "Content-Length must be a number"),
        (b"abc", "٣", "Content-Length must be a number"),
        (pieces, "x", "Content-Length must be a number"),
    ],
)
def test_a_declared_length_that_does_not_fit_is_a_value_error(content: Any, declared: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        framed("POST", headers={"Content-Length": declared}, content=content)


def test_two_declared_lengths_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="Content-Length must be a number"):
        framed("POST", headers=[("Content-Length", "3"), ("content-length", "3")], content=b"abc")


@pytest.mark.parametrize("value", ["chunked", "identity", ""])
def test_transfer_encoding_is_not_the_callers(value: str) -> None:
    with pytest.raises(ValueError) as caught:
        framed("POST", headers={"transfer-encoding": value}, content=pieces)
    assert str(caught.value) == ("Transfer-Encoding cannot be set: the protocol chooses it (RFC 9112 section 6.1)")


def test_framing_twice_changes_nothing_and_does_not_touch_the_body() -> None:
    body = StreamedBody(iter([b"abc"]), replayable=False, length=3)
    request = Request("POST", "http://h/", headers={"A": "1"}, content=body)
    frame(request)
    fields = request.headers.multi_items()
    frame(request)
    assert request.headers.multi_items() == fields == [("A", "1"), ("Host", "h"), ("Content-Length", "3")]
    assert not body.used


def test_a_credential_does_not_go_to_another_origin_whatever_its_name_looks_like() -> None:
    below = {"Accept-Token": "secret", "ACCEPT-KEY": "secret", "Accept": "text/plain"}
    headers, _ = build_headers(below, not_given, foreign=True, credentials=["accept-token", "Accept-Key"])
    assert headers.multi_items() == [("Accept", "text/plain")]
    headers, _ = build_headers(below, not_given, foreign=False, credentials=["accept-token", "Accept-Key"])
    assert len(headers) == 3
