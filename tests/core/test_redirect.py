"""Redirects: BEHAVIOUR 7, row by row, and what no redirect may do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from anyio_client._core.redirect import MAX_REDIRECTS, NotFollowed, is_redirect, next_request, without_expectation
from anyio_client._model.head import ResponseHead
from anyio_client._model.headers import Headers
from anyio_client._model.request import Request, StreamedBody
from anyio_client._model.url import URL
from tests.kit.fuzz import examples

FOLLOWED = (301, 302, 303, 307, 308)
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "QUERY")
BASE = "https://h/a/b"


def head(status: int = 302, *locations: str, **fields: str) -> ResponseHead:
    headers = Headers(fields)
    for location in locations:
        headers.add("Location", location)
    return ResponseHead(status, headers)


def one_shot(used: bool = True) -> StreamedBody:
    return StreamedBody(iter([b"x"]), replayable=False, used=used)


def sent(method: str = "GET", url: str = BASE, content: Any = None, **headers: str) -> Request:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(method, url, headers=fields, content=content)


def reason(request: Request, answer: ResponseHead, **options: bool) -> str:
    with pytest.raises(NotFollowed) as caught:
        next_request(request, answer, **options)
    return str(caught.value)


# --- method and body -------------------------------------------------------------------------------------------------


def expected_method(status: int, method: str) -> str:
    """RFC 9110 sections 15.4.2 to 15.4.9, as BEHAVIOUR 7 has them; written otherwise than the code has it."""
    table = {
        301: {"POST": "GET"},
        302: {"POST": "GET"},
        303: {**dict.fromkeys(METHODS, "GET"), "HEAD": "HEAD"},
    }
    return table.get(status, {}).get(method, method)


@pytest.mark.parametrize("status", FOLLOWED)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("body", [b"", b"data"])
@pytest.mark.parametrize("location", ["/c", "https://other/c"])
def test_the_table_of_methods_and_bodies(status: int, method: str, body: bytes, location: str) -> None:
    request = sent(method, content=body, Content_Type="text/plain", Content_Length="4", Accept="*/*", Expect="x")
    request.trailers = dict
    made = next_request(request, head(status, location))
    keeps = status != 303 and expected_method(status, method) == method
    assert made.method == expected_method(status, method)
    assert made.body == (body if keeps else b"")
    assert ("content-type" in made.headers, "content-length" in made.headers, "expect" in made.headers) == (keeps,) * 3
    assert made.headers["accept"] == "*/*"
    assert (made.trailers is None) is not keeps
    assert made.url == URL(location if "//" in location else f"https://h{location}")
    # What was sent is as it was.
    assert (request.method, request.body, str(request.url)) == (method, body, BASE)
    assert len(request.headers) == 4


@pytest.mark.parametrize("status", FOLLOWED)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_a_body_that_is_gone_stops_only_what_repeats_it(status: int, method: str) -> None:
    keeps = status in (307, 308) or (status in (301, 302) and method != "POST")
    gone = sent(method, content=one_shot())
    if keeps:
        assert reason(gone, head(status, "/c")) == "the body was sent and cannot be made again"
        waiting = sent(method, content=one_shot(used=False))
        assert next_request(waiting, head(status, "/c")).body is waiting.body
    else:
        assert next_request(gone, head(status, "/c")).body == b""


def test_a_body_that_can_be_made_again_goes_along_as_it_is() -> None:
    body = StreamedBody([b"x"], replayable=True, used=True)
    assert next_request(sent("POST", content=body), head(308, "/c")).body is body


def test_what_else_belongs_to_a_request_goes_along() -> None:
    request = sent()
    request.on_informational = print
    request.credentials = frozenset({"x-key"})
    made = next_request(request, head(302, "/c"))
    assert made.on_informational is print
    assert made.credentials == {"x-key"}
    assert next_request(request, head(302, "//other/")).credentials == frozenset()


# --- where to --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("c", "https://h/a/c"),
        ("/c", "https://h/c"),
        ("../c", "https://h/c"),
        ("../../../c", "https://h/c"),
        ("?x=1", "https://h/a/b?x=1"),
        ("//other/c", "https://other/c"),
        ("https://other", "https://other/"),
        ("HTTPS://OTHER:443/c", "https://other/c"),
        ("/c#part", "https://h/c"),
        ("#part", "https://h/a/b"),
        (" /c ", "https://h/c"),
        ("/ü b", "https://h/%C3%BC%20b"),
        ("/a%2Fb?c=%2f", "https://h/a%2Fb?c=%2f"),
        ("/?a=b+c", "https://h/?a=b+c"),
        ("https://user:pass@h/c", "https://h/c"),
        ("https://user:pass@other/c", "https://other/c"),
        ("//user@other/c", "https://other/c"),
        ("\\\\other\\c", "https://h/a/%5C%5Cother%5Cc"),
        ("/\\other/c", "https://h/%5Cother/c"),
        ("/.//other/c", "https://h//other/c"),
        ("/" + "x" * 10_000, "https://h/" + "x" * 10_000),
    ],
)
def test_a_location_is_resolved_against_the_url_that_was_sent(location: str, url: str) -> None:
    made = next_request(sent(), head(302, location))
    assert str(made.url) == url
    assert made.url.userinfo is None


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (head(302), "a redirect without Location"),
        (head(302, ""), "a redirect without Location"),
        (head(300), "a redirect without Location"),
        (head(304, "/c"), "not modified"),
        (head(304), "not modified"),
        (head(300, "/c"), "status 300 is not followed"),
        (head(305, "/c"), "status 305 is not followed"),
        (head(306, "/c"), "status 306 is not followed"),
        (head(399, "/c"), "status 399 is not followed"),
        (head(302, "/c", "/d"), "a redirect with more than one Location"),
        (head(302, "/c", ""), "a redirect with more than one Location"),
        (head(302, "ftp://h:21/c"), "the Location has the scheme 'ftp'"),
        (head(302, "ws://h/c"), "the Location has the scheme 'ws'"),
        (head(302, "javascript:alert(1)"), "the Location is no URL: "),
        (head(302, "data:text/html,x"), "the Location is no URL: "),
        (head(302, "file:///etc/passwd"), "the Location is no URL: "),
        (head(302, "https:///c"), "the Location is no URL: "),
        (head(302, "https://h:99999/"), "the Location is no URL: "),
        (head(302, "https://***@h/"), "the Location is no URL: "),
        (head(302, "http://h/a/b"), "it leads from https to http, which allow_insecure_redirects would allow"),
    ],
)
def test_what_is_not_followed_says_why(answer: ResponseHead, text: str) -> None:
    said = reason(sent(), answer)
    assert said == text or (text.endswith(": ") and said.startswith(text))


def test_the_same_location_twice_is_one() -> None:
    assert next_request(sent(), head(302, "/c", "/c")).url == URL("https://h/c")


def test_from_https_to_http_only_where_it_is_allowed() -> None:
    request = sent("POST", content=b"x", Authorization="a", Accept="b")
    made = next_request(request, head(307, "http://h/a/b"), allow_insecure=True)
    assert (str(made.url), made.body) == ("http://h/a/b", b"x")
    assert made.headers.multi_items() == [("Accept", "b")]
    assert next_request(sent(url="http://h/"), head(302, "http://h/c")).url.scheme == "http"
    assert next_request(sent(url="http://h/"), head(302, "https://h/c")).url.scheme == "https"


@pytest.mark.parametrize("status", [100, 199, 200, 299, 300, 304, 399, 400, 599])
def test_a_redirect_is_3xx(status: int) -> None:
    assert is_redirect(status) is (status // 100 == 3)


def test_the_limit_is_20() -> None:
    assert MAX_REDIRECTS == 20


# --- which fields ----------------------------------------------------------------------------------------------------

PASS = (
    "Accept", "ACCEPT-LANGUAGE", "Accept-Encoding", "Content-Type", "Content-Encoding", "content-digest", "User-Agent", "Range",
    "If-Match", "if-none-match", "If-Range", "Prefer", "Expect", "traceparent", "TraceState",
)  # fmt: skip
STAY = (
    "Authorization", "proxy-authorization", "Cookie", "X-Api-Key", "api-key", "X-Accept", "XAccept", "Referer", "Origin",
    "Idempotency-Key", "x-stainless-retry-count", "Forwarded", "X-Content-Type", "User-Agent-Key", "Ranges", "Iffy", "traceparents",
)  # fmt: skip


@pytest.mark.parametrize("location", ["https://other/", "https://h:444/", "https://h.h/", "https://h./"])
def test_to_another_origin_go_only_the_fields_of_the_list(location: str) -> None:
    request = sent("PUT", content=b"x")
    request.headers = Headers([(name, f"value of {name}") for name in PASS + STAY])
    made = next_request(request, head(307, location))
    assert [name for name, _ in made.headers.multi_items()] == list(PASS)


def test_within_the_origin_all_fields_go_along() -> None:
    request = sent("PUT", content=b"x")
    request.headers = Headers([("Host", "h"), *((name, "x") for name in PASS + STAY), ("Cookie", "second")])
    for location in ("/c", "https://h:443/c", "//H/c"):
        made = next_request(request, head(307, location))
        assert made.headers.multi_items() == request.headers.multi_items()


def test_a_credential_stays_whatever_its_name() -> None:
    request = sent(Accept="x", Accept_Secret="s", If_Key="s", Range="r")
    request.credentials = frozenset({"accept-secret", "if-key"})
    made = next_request(request, head(302, "https://other/"))
    assert [name.lower() for name, _ in made.headers.multi_items()] == ["accept", "range"]
    again = next_request(made, head(302, BASE))  # and on the way back it is not known any more
    assert "accept-secret" not in again.headers
    assert next_request(request, head(302, "/c")).headers["accept-secret"] == "s"


def test_another_zone_of_an_address_is_another_host() -> None:
    request = sent(url="http://[fe80::1%25eth0]/", Authorization="a")
    assert "authorization" in next_request(request, head(302, "http://[fe80::1%25eth0]/c")).headers
    assert "authorization" not in next_request(request, head(302, "http://[fe80::1%25eth1]/c")).headers


# --- 417 -------------------------------------------------------------------------------------------------------------


def test_after_417_the_same_is_sent_without_expect() -> None:
    request = sent("PUT", content=b"x", Expect="100-continue", Accept="a")
    request.credentials = frozenset({"x"})
    made = without_expectation(request, head(417))
    assert made is not None
    assert (made.method, made.url, made.body, made.credentials) == ("PUT", request.url, b"x", {"x"})
    assert made.headers.multi_items() == [("Accept", "a")]
    assert "expect" in request.headers
    assert without_expectation(made, head(417)) is None
    assert without_expectation(request, head(413)) is None
    assert without_expectation(sent("PUT", content=one_shot(), Expect="100-continue"), head(417)) is None
    assert without_expectation(sent("PUT", content=one_shot(used=False), Expect="100-continue"), head(417)) is not None


# --- whatever a server says ------------------------------------------------------------------------------------------

URLISH = st.text("htps:/.@?#%[]\\ab0129-_~\u00fc\ud800 \t\r\n\x00", max_size=30)
PREFIXED = st.builds(
    lambda scheme, rest: scheme + rest, st.sampled_from(["http://", "https://", "//", "/", "../", "http:", "?", "ftp://h:1"]), URLISH
)  # fmt: skip
LOCATIONS = st.text(max_size=30) | URLISH | PREFIXED
ORIGINS = ("https://h", "http://h", "https://h:444", "http://h:8080", "https://other", "http://[::1]:8080")
NAMES = st.sampled_from([*PASS, *STAY, "Host", "Trailer", "Content-Length"]) | st.from_regex(
    r"(accept|content|if|x|host)-?[a-z]{0,5}", fullmatch=True
)
REQUESTS = st.builds(
    lambda method, origin, body, fields, secret: _with_credentials(
        Request(method, f"{origin}/a/b?c=d", headers=Headers(fields), content=body), secret
    ),
    st.sampled_from(METHODS),
    st.sampled_from(ORIGINS),
    st.sampled_from([b"", b"data"]) | st.booleans().map(one_shot),
    st.lists(st.tuples(NAMES, st.just("value")), max_size=8),
    st.frozensets(NAMES.map(str.lower), max_size=3),
)


class Unchecked(Headers):
    """Fields of a transport that looks at nothing: any text is a Location."""

    def __init__(self, locations: list[str]) -> None:
        super().__init__()
        self.locations = locations

    def get_list(self, name: str) -> list[str]:
        return self.locations if name == "location" else []


def _with_credentials(request: Request, names: frozenset[str]) -> Request:
    request.credentials = names
    return request


@given(REQUESTS, st.integers(300, 399), st.lists(LOCATIONS, max_size=2), st.booleans())
@example(Request("GET", BASE), 302, ["http://[::1"], False)
@example(Request("GET", BASE), 302, ["//\ud800/"], False)
@example(Request("GET", BASE), 302, ["/\ud800"], False)
@example(Request("GET", BASE), 302, ["?\ud800"], False)
@example(Request("GET", BASE), 302, ["https://xn--a/"], False)
@settings(max_examples=examples(400))
def test_any_location_is_followed_or_not_and_never_anything_else(
    request: Request, status: int, locations: list[str], allow: bool
) -> None:
    answer = ResponseHead(status, Unchecked(locations))
    before = (request.method, request.url, request.headers.multi_items(), request.body)
    try:
        made = next_request(request, answer, allow_insecure=allow)
    except NotFollowed as exc:
        assert str(exc)
    else:
        check(request, made, allow)
        str(made.url).encode("ascii")
    assert before == (request.method, request.url, request.headers.multi_items(), request.body)


@given(REQUESTS, st.sampled_from(FOLLOWED), st.sampled_from(ORIGINS), st.booleans())
@settings(max_examples=examples(400))
def test_any_request_to_any_origin_keeps_what_is_secret(
    request: Request, status: int, origin: str, allow: bool
) -> None:
    answer = head(status, f"{origin}/c")
    try:
        made = next_request(request, answer, allow_insecure=allow)
    except NotFollowed:
        insecure = request.url.scheme == "https" and origin.startswith("http:") and not allow
        gone = not request.can_be_sent and request.method == expected_method(status, request.method) and status != 303
        assert insecure or gone
        return
    assume(made is not request)
    assert made.url.origin == URL(origin).origin
    check(request, made, allow)


def check(request: Request, made: Request, allow: bool) -> None:
    """What holds for every request that follows another."""
    names = [name.lower() for name, _ in made.headers.multi_items()]
    assert "host" not in names or made.url.is_same_origin(request.url)
    assert made.url.scheme in ("http", "https")
    assert made.url.userinfo is None
    assert made.can_be_sent
    assert allow or (request.url.scheme, made.url.scheme) != ("https", "http")
    assert made.method in (request.method, "GET")
    assert made.body in (request.body, b"")
    if made.method != request.method:
        assert made.body == b""
        assert not any(name.startswith("content-") for name in names)
    given_pairs = request.headers.multi_items()
    assert all(pair in given_pairs for pair in made.headers.multi_items())
    if made.url.origin == request.url.origin:
        kept = [p for p in given_pairs if p[0].lower() not in ("host", "expect", "trailer") and "ontent" not in p[0]]
        assert [p for p in made.headers.multi_items() if p in kept] == kept
        return
    assert made.credentials == frozenset()
    assert not request.credentials.intersection(names)
    allowed = {name.lower() for name in PASS}
    for name in names:
        assert name in allowed or name.startswith(("accept", "content-", "if-")), name
