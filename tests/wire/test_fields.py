"""Field sections of HTTP/2: what a request's becomes, and which responses are malformed."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder, NeverIndexedHeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st

from anyio_client._model.head import ResponseHead
from anyio_client._model.headers import Headers
from anyio_client._model.request import Request
from anyio_client._wire.fields import Malformed, check_trailers, content_length, request_fields, response_head
from tests.kit.fuzz import examples

OK = (b":status", b"200")


def sent(headers: dict[str, str] | list[tuple[str, str]], url: str = "https://h/") -> list[tuple[bytes, bytes]]:
    """The ordinary fields, without the four pseudo-header fields."""
    return [(name, value) for name, value in request_fields(Request("GET", url, headers=headers))[4:]]


# --- requests ----------------------------------------------------------------------------------------------------


def test_the_pseudo_header_fields_come_first() -> None:
    fields = request_fields(Request("post", "https://H.example:8443/a%20b?c=d#e", headers={"A": "1"}))
    assert fields == [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"h.example:8443"),
        (b":path", b"/a%20b?c=d"),
        (b"a", b"1"),
    ]


def test_user_and_password_are_no_part_of_the_authority() -> None:
    assert request_fields(Request("GET", "https://u:p@h/"))[2] == (b":authority", b"h")


def test_the_path_is_never_empty() -> None:
    assert request_fields(Request("GET", "http://h"))[3] == (b":path", b"/")
    assert request_fields(Request("GET", "http://h?x"))[3] == (b":path", b"/?x")


def test_host_becomes_the_authority() -> None:
    fields = request_fields(Request("GET", "https://h/", headers={"Host": "other:1", "A": "1"}))
    assert fields[2] == (b":authority", b"other:1")
    assert fields[4:] == [(b"a", b"1")]


def test_names_are_in_lower_case_and_values_as_they_are() -> None:
    assert sent({"X-AbC": "DeF", "Content-Type": "text/Plain"}) == [
        (b"x-abc", b"DeF"),
        (b"content-type", b"text/Plain"),
    ]


def test_repeated_fields_stay_apart_and_in_order() -> None:
    pairs = [("A", "1"), ("b", "2"), ("a", "3")]
    assert sent(pairs) == [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]


def test_the_length_is_kept() -> None:
    assert sent({"Content-Length": "4"}) == [(b"content-length", b"4")]


@pytest.mark.parametrize(
    "name", ["Connection", "Proxy-Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "HTTP2-Settings", "Host"]
)
def test_fields_of_the_connection_are_left_out(name: str) -> None:
    assert sent({"A": "1", name: "x", "B": "2"}) == [(b"a", b"1"), (b"b", b"2")]


def test_what_connection_names_is_left_out() -> None:
    headers = [
        ("Connection", "close, X-Hop"),
        ("x-hop", "1"),
        ("X-Other", "2"),
        ("connection", "X-LAST"),
        ("X-Last", "3"),
    ]
    assert sent(headers) == [(b"x-other", b"2")]


def test_connection_may_hold_any_text() -> None:
    assert sent({"Connection": "€, X-Hop", "X-Hop": "1", "A": "1"}) == [(b"a", b"1")]


@pytest.mark.parametrize(("value", "kept"), [("trailers", True), ("Trailers", True), ("gzip", False), ("", False)])
def test_te_is_trailers_or_nothing(value: str, kept: bool) -> None:
    assert sent({"TE": value}) == ([(b"te", value.encode())] if kept else [])


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("Authorization", True),
        ("Proxy-Authorization", True),
        ("Cookie", True),
        ("X-Api-Key", True),
        ("apikey", True),
        ("X-Auth-Token", True),
        ("Client-Secret", True),
        ("X-Signature", True),
        ("X-Password", True),
        ("Accept", False),
        ("X-Tokens-Left", False),
        ("User-Agent", False),
        ("X-Cookie-Law", False),
    ],
)
def test_secrets_are_never_indexed(name: str, secret: bool) -> None:
    (field,) = request_fields(Request("GET", "https://h/", headers={name: "v"}))[4:]
    assert isinstance(field, NeverIndexedHeaderTuple) == secret
    decoded = Decoder().decode(Encoder().encode([field]), raw=True)
    assert [isinstance(each, NeverIndexedHeaderTuple) for each in decoded] == [secret]


# --- responses ---------------------------------------------------------------------------------------------------


def test_a_head() -> None:
    head = response_head([OK, (b"a", b"1"), (b"a", b""), (b"b", b"x\ty \xe9")])
    assert head == ResponseHead(200, Headers.from_wire([(b"a", b"1"), (b"a", b""), (b"b", b"x\ty \xe9")]), "HTTP/2")
    assert head.headers.get_list("a") == ["1", ""]


@pytest.mark.parametrize(
    "fields", [[], [(b"a", b"b")], [(b"a", b"b"), OK], [(b":path", b"/"), OK], [(b":Status", b"200")]]
)
def test_a_head_begins_with_the_status(fields: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Malformed, match="^the head does not begin with :status$"):
        response_head(fields)


@pytest.mark.parametrize("status", [b"", b"20", b"2000", b"0200", b"020", b"+20", b" 200", b"2e2", b"200 ", b"\xb200"])
def test_a_status_is_three_digits(status: bytes) -> None:
    with pytest.raises(Malformed, match="^the status is no number of three digits$"):
        response_head([(b":status", status)])


BAD_FIELDS = [
    ((b"", b"v"), "a field name is not allowed"),
    ((b"A", b"v"), "a field name is not allowed"),
    ((b"a b", b"v"), "a field name is not allowed"),
    ((b"a:", b"v"), "a field name is not allowed"),
    ((b"a\x00", b"v"), "a field name is not allowed"),
    ((b"a\n", b"v"), "a field name is not allowed"),
    ((b"\xe9", b"v"), "a field name is not allowed"),
    ((b":status", b"200"), "a pseudo-header field is misplaced"),
    ((b":path", b"/"), "a pseudo-header field is misplaced"),
    ((b":", b"v"), "a pseudo-header field is misplaced"),
    ((b"connection", b"close"), "the field connection is not allowed in HTTP/2"),
    ((b"proxy-connection", b"close"), "the field proxy-connection is not allowed in HTTP/2"),
    ((b"keep-alive", b"timeout=5"), "the field keep-alive is not allowed in HTTP/2"),
    ((b"transfer-encoding", b"chunked"), "the field transfer-encoding is not allowed in HTTP/2"),
    ((b"upgrade", b"x"), "the field upgrade is not allowed in HTTP/2"),
    ((b"a", b"x\x00y"), "the value of a is not allowed"),
    ((b"a", b"x\ry"), "the value of a is not allowed"),
    ((b"a", b"x\n"), "the value of a is not allowed"),
    ((b"a", b" x"), "the value of a is not allowed"),
    ((b"a", b"x\t"), "the value of a is not allowed"),
    ((b"a", b" "), "the value of a is not allowed"),
]


@pytest.mark.parametrize(("field", "reason"), BAD_FIELDS)
def test_fields_that_break_the_rules(field: tuple[bytes, bytes], reason: str) -> None:
    for others in ([], [(b"b", b"1")]):
        with pytest.raises(Malformed, match=f"^{reason}$"):
            response_head([OK, *others, field])
        with pytest.raises(Malformed, match=f"^{reason}$"):
            check_trailers([*others, field])


def test_trailers() -> None:
    assert check_trailers([(b"x-sum", b"1"), (b"x-sum", b"2")]).multi_items() == [("x-sum", "1"), ("x-sum", "2")]
    assert len(check_trailers([])) == 0


def test_a_value_is_never_part_of_the_reason() -> None:
    with pytest.raises(Malformed) as info:
        response_head([OK, (b"set-cookie", b"s3cret\x00")])
    assert "s3cret" not in str(info.value)


@pytest.mark.parametrize(
    ("values", "length"),
    [([], None), ([b"0"], 0), ([b"007"], 7), ([b"5", b"5"], 5), ([b"9" * 18], 10**18 - 1)],
)
def test_the_length_that_a_head_declares(values: list[bytes], length: int | None) -> None:
    assert content_length(response_head([OK, *((b"content-length", value) for value in values)])) == length


@pytest.mark.parametrize(
    "values",
    [[b""], [b"x"], [b"+5"], [b"-5"], [b"5, 5"], [b"1_0"], [b"5", b"6"], [b"9" * 19], [b"\xc2\xb2"], [b"\xb2"]],
)
def test_lengths_that_are_not_one_number(values: list[bytes]) -> None:
    head = response_head([OK, *((b"content-length", value) for value in values)])
    with pytest.raises(Malformed, match="^the Content-Length is not one number$"):
        content_length(head)


# --- any fields --------------------------------------------------------------------------------------------------

ANY_FIELDS = st.lists(
    st.tuples(
        st.sampled_from([b":status", b"a", b"A", b"content-length", b"connection", b""]) | st.binary(max_size=4),
        st.sampled_from([b"200", b"", b"5"]) | st.binary(max_size=4),
    ),
    max_size=4,
)


@given(st.booleans(), ANY_FIELDS)
@settings(max_examples=examples(300))
def test_any_fields_are_a_head_or_malformed(status: bool, fields: list[tuple[bytes, bytes]]) -> None:
    if status:
        fields = [OK, *fields]
    try:
        head = response_head(fields)
        length = content_length(head)
    except Malformed:
        return
    assert 100 <= head.status_code <= 999
    assert head.headers.raw == fields[1:]
    assert length is None or length >= 0
    for name, value in fields[1:]:
        assert name
        assert name == name.lower()
        assert not set(value) & {0, 10, 13}


NAMES = st.sampled_from(["A", "Host", "Connection", "TE", "Cookie", "x-hop", "Upgrade", "Content-Type"])
VALUES = st.sampled_from(["x-hop", "close, A", "trailers", "h:1", ""]) | st.text(
    st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"]), max_size=4
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=5))
@settings(max_examples=examples(200))
def test_any_request_has_four_pseudo_fields_and_none_of_the_connections(pairs: list[tuple[str, str]]) -> None:
    headers = Headers([pair for pair in pairs if pair[0] not in ("Host", "Connection") or pair[1].isascii()])
    fields = request_fields(Request("GET", "https://h/", headers=headers))
    assert [name for name, _ in fields[:4]] == [b":method", b":scheme", b":authority", b":path"]
    nominated = {name.strip().lower() for value in headers.get_list("connection") for name in value.split(",")}
    for field in fields[4:]:
        name = field[0].decode()
        assert name == name.lower()
        assert not name.startswith(":")
        assert name not in nominated | {"connection", "host", "upgrade"}
        if name == "te":
            assert field[1].lower() == b"trailers"
