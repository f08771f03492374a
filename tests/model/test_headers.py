"""Header fields: BEHAVIOUR 3.1 and 1.6, DESIGN 4.1."""

from __future__ import annotations

import copy
import pickle
from collections.abc import MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyio_client._model.given import Omit, omit
from anyio_client._model.headers import Headers, check_method

# RFC 9110 section 5.6.2
TCHAR = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
CONTROLS = [chr(code) for code in (*range(0x20), 0x7F) if chr(code) != "\t"]


def three() -> Headers:
    return Headers([("Accept", "a"), ("X-B", "1"), ("accept", "b"), ("x-c", "2")])


# --- reading --------------------------------------------------------------------------------------------------


def test_headers_are_a_mapping_that_ignores_case() -> None:
    headers = Headers({"Content-Type": "text/plain"})
    assert isinstance(headers, MutableMapping)
    for name in ("Content-Type", "content-type", "CONTENT-TYPE"):
        assert headers[name] == "text/plain"
        assert headers.get(name) == "text/plain"
        assert name in headers
        assert headers.get_list(name) == ["text/plain"]
    assert headers.get("other") is None
    assert headers.get("other", "x") == "x"
    assert headers.get_list("other") == []
    assert "other" not in headers
    assert 1 not in headers  # type: ignore[comparison-overlap]
    assert None not in headers
    with pytest.raises(KeyError, match="Other"):
        headers["Other"]


def test_repeated_fields_are_joined_by_name_and_kept_apart_in_a_list() -> None:
    headers = three()
    assert headers["ACCEPT"] == "a, b"
    assert headers.get("accept") == "a, b"
    assert headers.get_list("Accept") == ["a", "b"]
    assert headers.multi_items() == [("Accept", "a"), ("X-B", "1"), ("accept", "b"), ("x-c", "2")]
    assert list(headers) == ["accept", "X-B", "x-c"]
    assert list(headers.items()) == [("accept", "a, b"), ("X-B", "1"), ("x-c", "2")]
    assert len(headers) == 3
    assert len(headers.multi_items()) == 4


def test_raw_is_what_stands_on_the_wire_in_order_and_case() -> None:
    assert three().raw == [(b"Accept", b"a"), (b"X-B", b"1"), (b"accept", b"b"), (b"x-c", b"2")]


@pytest.mark.parametrize("empty", [None, {}, [], (), Headers(), iter([])])
def test_no_headers_are_falsy_and_have_no_length(empty: Any) -> None:
    headers = Headers(empty)
    assert not headers
    assert (len(headers), list(headers), headers.raw, repr(headers)) == (0, [], [], "Headers({})")


@pytest.mark.parametrize(
    "source",
    [
        {"A": "1", "B": "2"},
        [("A", "1"), ("B", "2")],
        (("A", "1"), ("B", "2")),
        iter([("A", "1"), ("B", "2")]),
        Headers({"A": "1", "B": "2"}),
        {"A": "1", "B": "2"}.items(),
    ],
)
def test_headers_are_made_from_a_mapping_or_pairs(source: Any) -> None:
    assert Headers(source).multi_items() == [("A", "1"), ("B", "2")]


# --- changing -------------------------------------------------------------------------------------------------


def test_a_set_value_replaces_every_field_of_the_name_in_the_place_of_the_first() -> None:
    headers = three()
    headers["ACCEPT"] = "new"
    assert headers.multi_items() == [("ACCEPT", "new"), ("X-B", "1"), ("x-c", "2")]
    headers["X-D"] = "4"
    assert headers.multi_items()[-1] == ("X-D", "4")


def test_add_appends_one_more() -> None:
    headers = Headers({"Set-Cookie": "a=1"})
    headers.add("set-cookie", "b=2")
    assert headers.multi_items() == [("Set-Cookie", "a=1"), ("set-cookie", "b=2")]


def test_del_and_pop_remove_every_field_of_the_name() -> None:
    headers = three()
    del headers["aCCEPT"]
    assert headers.multi_items() == [("X-B", "1"), ("x-c", "2")]
    assert headers.pop("X-C") == "2"
    assert headers.pop("X-C", None) is None
    with pytest.raises(KeyError):
        del headers["X-C"]
    headers.clear()
    assert not headers


def test_setdefault_and_update_ignore_case() -> None:
    headers = three()
    assert headers.setdefault("x-b", "other") == "1"
    headers.update({"X-b": "5", "New": "6"})
    assert headers.multi_items() == [("Accept", "a"), ("X-b", "5"), ("accept", "b"), ("x-c", "2"), ("New", "6")]


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        Headers.copy,
        Headers,
        lambda headers: pickle.loads(pickle.dumps(headers)),
    ],
)
def test_a_copy_is_equal_and_apart(duplicate: Any) -> None:
    headers = three()
    headers.add("X-Raw", "x")
    twin = duplicate(headers)
    assert type(twin) is Headers
    assert twin == headers
    assert twin.raw == headers.raw
    twin["x-b"] = "9"
    twin.add("More", "1")
    assert headers["x-b"] == "1"
    assert "More" not in headers


# --- layers (BEHAVIOUR 3.1) -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "fields", "omitted"),
    [
        ([{"A": "1"}], [("A", "1")], set()),
        ([{"A": "1"}, {"a": "2"}], [("a", "2")], set()),
        ([{"A": "1", "B": "1"}, {"a": "2"}], [("a", "2"), ("B", "1")], set()),
        ([{"A": "1"}, {"a": omit}], [], {"a"}),
        ([{"A": "1"}, {"a": Omit()}], [], {"a"}),
        ([{"A": "1"}, {"a": omit}, {"A": "3"}], [("A", "3")], set()),
        ([{"X-Absent": omit}], [], {"x-absent"}),
        ([{"A": omit, "a": "1"}], [("a", "1")], set()),
        ([{"A": "1", "a": omit}], [], {"a"}),
    ],
)
def test_a_later_layer_replaces_and_omit_removes_whatever_the_case(
    layers: list[dict[str, str | Omit]], fields: list[tuple[str, str]], omitted: set[str]
) -> None:
    headers = Headers()
    last: set[str] = set()
    for layer in layers:
        last = headers.apply(layer)
    assert headers.multi_items() == fields
    assert last == omitted


def test_a_layer_is_not_changed_and_a_bad_value_in_it_is_refused() -> None:
    layer: dict[str, str | Omit] = {"A": "1", "B": omit}
    Headers().apply(layer)
    assert layer == {"A": "1", "B": omit}
    with pytest.raises(TypeError, match="the value of header 'A' must be a str, not NoneType"):
        Headers().apply({"A": None})  # type: ignore[dict-item]


# --- values on the wire -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text", "wire"),
    [
        ("", "", b""),
        ("a", "a", b"a"),
        (" \ta b\t ", "a b", b"a b"),
        ("a\tb", "a\tb", b"a\tb"),
        ("ü€", "ü€", "ü€".encode()),
        ("\x80\x9f", "\x80\x9f", b"\xc2\x80\xc2\x9f"),
        ('"quoted, text"', '"quoted, text"', b'"quoted, text"'),
    ],
)
def test_a_value_is_stripped_and_sent_as_utf_8(value: str, text: str, wire: bytes) -> None:
    headers = Headers({"X": value})
    assert headers["x"] == text
    assert headers.raw == [(b"X", wire)]
    assert Headers.from_wire(headers.raw) == headers


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (b"plain", "plain"),
        (b"\xc3\xbc", "ü"),
        (b"\xfc", "ü"),
        (b"\xff\xfe", "ÿþ"),
        (b"\xc3", "Ã"),
        (b"a\x80b", "a\x80b"),
    ],
)
def test_obs_text_is_read_as_utf_8_or_latin_1_and_written_back_as_it_came(wire: bytes, text: str) -> None:
    headers = Headers.from_wire([(b"X-Text", wire)])
    assert headers["x-text"] == text
    for twin in (headers, headers.copy(), Headers(headers), pickle.loads(pickle.dumps(headers))):
        assert twin.raw == [(b"X-Text", wire)]
    assert headers == Headers.from_wire([(b"x-text", wire)])


def test_fields_from_the_wire_keep_order_case_and_repetition() -> None:
    raw = [(b"Set-Cookie", b"a=1"), (b"X", b""), (b"set-cookie", b"b=2")]
    headers = Headers.from_wire(raw)
    assert headers.raw == raw
    assert headers.get_list("SET-COOKIE") == ["a=1", "b=2"]


# --- refused (BEHAVIOUR 1.6) ------------------------------------------------------------------------------------


def every_way_in(name: Any, value: Any) -> list[Any]:
    """The functions by which a field gets into headers."""
    return [
        lambda: Headers({name: value}),
        lambda: Headers([(name, value)]),
        lambda: Headers().add(name, value),
        lambda: Headers().__setitem__(name, value),
        lambda: Headers({"A": "1"}).update({name: value}),
        lambda: Headers().setdefault(name, value),
        lambda: Headers().apply({name: value}),
    ]


@pytest.mark.parametrize("form", ["{}", "a{}", "{}a", "a{}b", "a{}X: y"])
def test_a_control_character_in_a_value_is_refused(form: str) -> None:
    for control in CONTROLS:
        for way in every_way_in("X", form.format(control)):
            with pytest.raises(ValueError, match="the value of header 'X' has a control character in it"):
                way()


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a:", ":status", "a\n", "a\r\nb", "a\x00", "a\t", "ü", "a(b)", 'a"', "a/b", "a=b", "\u212a"],
)
def test_a_name_that_is_no_token_is_refused(name: str) -> None:
    for way in every_way_in(name, "x"):
        with pytest.raises(ValueError, match="is no token"):
            way()


@pytest.mark.parametrize("bad", [None, 1, b"x", True, 1.5, ["x"]])
def test_a_name_or_value_that_is_no_text_is_a_type_error(bad: Any) -> None:
    for way in every_way_in("X", bad):
        with pytest.raises(TypeError, match=f"the value of header 'X' must be a str, not {type(bad).__name__}"):
            way()
    with pytest.raises(TypeError, match="a header name must be a str, not"):
        Headers([(bad, "x")])


def test_a_lone_surrogate_in_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="the value of header 'X' has a lone surrogate in it"):
        Headers({"X": "a\ud800"})


@pytest.mark.parametrize("value", ["s3cret\n", "s3cret\ud800"])
def test_the_error_does_not_repeat_the_value(value: str) -> None:
    with pytest.raises(ValueError) as caught:
        Headers({"Authorization": value})
    assert "s3cret" not in repr(caught.value)


def test_a_refused_value_leaves_the_headers_as_they_were() -> None:
    headers = three()
    with pytest.raises(ValueError, match="control character"):
        headers["Accept"] = "a\nb"
    assert headers == three()


@pytest.mark.parametrize(
    ("method", "upper"),
    [("get", "GET"), ("GET", "GET"), ("Patch", "PATCH"), ("m-search", "M-SEARCH"), ("!a~1", "!A~1")],
)
def test_a_method_is_a_token_in_upper_case(method: str, upper: str) -> None:
    assert check_method(method) == upper


@pytest.mark.parametrize(
    "method", ["", " ", "GET ", "GET\n", "G\rET", "GET / HTTP/1.1\r\nX: y", "G\x00", "GÉT", "A:B", "ſ"]
)
def test_a_method_that_is_no_token_is_refused(method: str) -> None:
    with pytest.raises(ValueError, match="is no token"):
        check_method(method)


@pytest.mark.parametrize("method", [None, b"GET", 1])
def test_a_method_that_is_no_text_is_a_type_error(method: object) -> None:
    with pytest.raises(TypeError, match=f"the method must be a str such as 'GET', not {type(method).__name__}"):
        check_method(method)


# --- equality and repr ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ([("A", "1")], [("a", "1")], True),
        ([("A", "1"), ("B", "2")], [("B", "2"), ("A", "1")], True),
        ([("A", "1"), ("A", "2")], [("a", "1"), ("A", "2")], True),
        ([("A", "1"), ("A", "2")], [("A", "2"), ("A", "1")], False),
        ([("A", "1"), ("A", "2")], [("A", "1, 2")], False),
        ([("A", "x")], [("A", "X")], False),
        ([("A", "1")], [], False),
    ],
)
def test_headers_are_equal_by_name_and_by_the_order_of_each_names_values(
    one: list[tuple[str, str]], other: list[tuple[str, str]], equal: bool
) -> None:
    assert (Headers(one) == Headers(other)) is equal
    assert (Headers(one) != Headers(other)) is not equal


def test_headers_compare_with_any_mapping() -> None:
    assert Headers({"A": "1"}) == {"a": "1"}
    assert Headers({"A": "1"}) == {"a": "1"}
    assert Headers({"A": "1"}) != {"a": "2"}
    assert Headers({"A": "1"}) != {"a": 1}
    assert Headers({"A": "1"}) != {"not a token": "1"}
    assert Headers({"A": "1"}) != [("A", "1")]
    with pytest.raises(TypeError, match="unhashable"):
        hash(Headers())


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "Set-Cookie",
        "X-Api-Key",
        "api-key",
        "apikey",
        "X-Goog-Api-Key",
        "X-Auth-Token",
        "Idempotency-Key",
        "WWW-Authenticate",
        "Location",
        "Link",
        "Referer",
        "X-Anything",
    ],
)
def test_a_repr_shows_no_value_that_might_be_a_secret(name: str) -> None:
    headers = Headers([(name, "s3cret"), (name.upper(), "s3cret2"), ("Accept", "a/b")])
    assert repr(headers) == f"Headers({{{name!r}: '***', {name.upper()!r}: '***', 'Accept': 'a/b'}})"
    assert "s3cret" not in str(headers)
    assert "s3cret" not in f"{[headers]}"


def test_a_repr_shows_what_is_known_to_be_harmless() -> None:
    assert repr(Headers({"Content-Type": "a/b", "retry-after": "1"})) == (
        "Headers({'Content-Type': 'a/b', 'retry-after': '1'})"
    )


# --- properties -----------------------------------------------------------------------------------------------

NAMES = st.text(st.sampled_from(TCHAR), min_size=1, max_size=8)
VALUES = st.text(st.characters(exclude_categories=["Cc", "Cs"]) | st.just("\t"), max_size=12)
FEW_NAMES = st.sampled_from(["a", "A", "b", "B", "c"])


@given(st.lists(st.tuples(NAMES, VALUES)))
def test_fields_survive_the_way_over_the_wire(pairs: list[tuple[str, str]]) -> None:
    headers = Headers(pairs)
    assert headers.multi_items() == [(name, value.strip(" \t")) for name, value in pairs]
    again = Headers.from_wire(headers.raw)
    assert again == headers
    assert again.multi_items() == headers.multi_items()


@given(st.lists(st.tuples(NAMES.map(str.encode), st.binary())))
def test_any_bytes_from_the_wire_are_written_back(raw: list[tuple[bytes, bytes]]) -> None:
    headers = Headers.from_wire(raw)
    assert headers.raw == raw
    assert pickle.loads(pickle.dumps(headers)).raw == raw
    repr(headers)


@given(st.text(), st.text())
def test_any_name_and_value_make_one_clean_line_or_a_value_error(name: str, value: str) -> None:
    try:
        ((wire_name, wire_value),) = Headers([(name, value)]).raw
    except ValueError:
        return
    assert set(wire_name.decode("ascii")) <= set(TCHAR)
    assert not set(wire_value) & {*range(0x09), *range(0x0A, 0x20), 0x7F}
    assert wire_value == wire_value.strip(b" \t")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "add", "del", "pop", "default"]), FEW_NAMES, st.sampled_from(["1", "2", "3"])
        ),
        max_size=20,
    )
)
def test_headers_behave_like_a_plain_dict_of_lists(steps: list[tuple[str, str, str]]) -> None:
    headers, model = Headers(), dict[str, list[str]]()
    for step, name, value in steps:
        key = name.lower()
        match step:
            case "set":
                headers[name] = value
                model[key] = [value]
            case "add":
                headers.add(name, value)
                model.setdefault(key, []).append(value)
            case "default":
                headers.setdefault(name, value)
                model.setdefault(key, [value])
            case _:
                assert headers.pop(name, None) == (", ".join(model[key]) if key in model else None)
                model.pop(key, None)
        assert [n.lower() for n in headers] == list(model)
        assert {n.lower(): headers.get_list(n) for n in headers} == model
        assert len(headers) == len(model)
