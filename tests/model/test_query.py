"""Query strings and path templates: BEHAVIOUR 2 and 1.3 to 1.5, row by row."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import pathlib
import pickle
import re
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

import ada_url
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyio_client._model.given import Omit, not_given, omit
from anyio_client._model.query import ArrayFormat, NestedFormat, Querystring, merge_query, path_template
from anyio_client._model.url import URL
from tests.kit.fuzz import examples

QS = Querystring()


class Colour(enum.Enum):
    RED = "red"
    SEVEN = 7
    ON = True
    RAW = b"raw"


class Size(enum.StrEnum):
    BIG = "big"


class Level(enum.IntEnum):
    LOW = 1


# --- the table of BEHAVIOUR 2 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ({}, ""),
        ({"a": 1}, "a=1"),
        ({"a": 1, "b": 2}, "a=1&b=2"),
        ({"b": 1, "a": 2}, "b=1&a=2"),
        ({"a": [1, 2]}, "a%5B%5D=1&a%5B%5D=2"),
        ({"a": (1, 2)}, "a%5B%5D=1&a%5B%5D=2"),
        ({"a": {1}}, "a%5B%5D=1"),
        ({"a": frozenset({1})}, "a%5B%5D=1"),
        ({"a": {"b": True}}, "a%5Bb%5D=true"),
        ({"a": {"b": {"c": False}}}, "a%5Bb%5D%5Bc%5D=false"),
        ({"a": [{"b": 1}]}, "a%5B%5D%5Bb%5D=1"),
        ({"a": {"b": [1, 2]}}, "a%5Bb%5D%5B%5D=1&a%5Bb%5D%5B%5D=2"),
        ({"a": [[1], [2]]}, "a%5B%5D%5B%5D=1&a%5B%5D%5B%5D=2"),
        # nothing
        ({"a": None}, ""),
        ({"a": [None, 1, None]}, "a%5B%5D=1"),
        ({"a": {"b": None}}, ""),
        ({"a": []}, ""),
        ({"a": {}}, ""),
        ({"a": [[]]}, ""),
        ({"a": [None]}, ""),
        ({"a": not_given, "b": omit, "c": 1}, "c=1"),
        ({"a": [omit, 1, not_given]}, "a%5B%5D=1"),
        ({"a": ""}, "a="),
        ({"a": [""]}, "a%5B%5D="),
        ({"": "x"}, "=x"),
        # falsy is a value
        ({"a": 0, "b": False, "c": 0.0}, "a=0&b=false&c=0.0"),
        # encoding
        ({"a": "b c+d"}, "a=b%20c%2Bd"),
        ({"a b": "&=#?/"}, "a%20b=%26%3D%23%3F%2F"),
        ({"ü": "€"}, "%C3%BC=%E2%82%AC"),
        ({"a": "100%"}, "a=100%25"),
        ({"a": "%20"}, "a=%2520"),
        ({"a": "x\r\ny"}, "a=x%0D%0Ay"),
        ({"a": "-._~"}, "a=-._~"),
        # scalars
        ({"a": 1.5}, "a=1.5"),
        ({"a": -1}, "a=-1"),
        ({"a": 10**30}, "a=1" + "0" * 30),
        ({"a": decimal.Decimal("1.10")}, "a=1.10"),
        ({"a": uuid.UUID(int=1)}, "a=00000000-0000-0000-0000-000000000001"),
        ({"a": datetime.date(2026, 1, 2)}, "a=2026-01-02"),
        ({"a": datetime.time(3, 4)}, "a=03%3A04%3A00"),
        ({"a": datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)}, "a=2026-01-02T03%3A04%3A00%2B00%3A00"),
        ({"a": Colour.RED}, "a=red"),
        ({"a": Colour.SEVEN}, "a=7"),
        ({"a": Colour.ON}, "a=true"),
        ({"a": Size.BIG}, "a=big"),
        ({"a": Level.LOW}, "a=1"),
        ({"a": [Size.BIG, True]}, "a%5B%5D=big&a%5B%5D=true"),
    ],
)
def test_a_query_by_default(params: dict[str, object], query: str) -> None:
    assert QS.stringify(params) == query


@pytest.mark.parametrize(
    ("array_format", "params", "query"),
    [
        ("repeat", {"a": [1, 2]}, "a=1&a=2"),
        ("repeat", {"a": []}, ""),
        ("repeat", {"a": [None, 1]}, "a=1"),
        ("repeat", {"a": [{"b": 1}]}, "a%5Bb%5D=1"),
        ("repeat", {"a": {"b": [1, 2]}}, "a%5Bb%5D=1&a%5Bb%5D=2"),
        ("comma", {"a": [1, 2]}, "a=1%2C2"),
        ("comma", {"a": [1]}, "a=1"),
        ("comma", {"a": []}, ""),
        ("comma", {"a": [None]}, ""),
        ("comma", {"a": [None, True, Size.BIG]}, "a=true%2Cbig"),
        ("comma", {"a": [omit, 1, not_given]}, "a=1"),
        ("comma", {"a": [""]}, "a="),
        ("comma", {"a": {"b": [1, 2]}}, "a%5Bb%5D=1%2C2"),
        ("indices", {"a": [1]}, "a%5B0%5D=1"),
        ("indices", {"a": [1, 2]}, "a%5B0%5D=1&a%5B1%5D=2"),
        ("indices", {"a": [None, 1]}, "a%5B0%5D=1"),
        ("indices", {"a": [omit, 1]}, "a%5B0%5D=1"),
        ("indices", {"a": [{"b": 1}]}, "a%5B0%5D%5Bb%5D=1"),
        ("indices", {"a": [[1]]}, "a%5B0%5D%5B0%5D=1"),
        ("indices", {"a": []}, ""),
    ],
)
def test_the_other_array_formats(array_format: ArrayFormat, params: dict[str, object], query: str) -> None:
    assert Querystring(array_format=array_format).stringify(params) == query


@pytest.mark.parametrize(
    ("array_format", "params", "query"),
    [
        ("brackets", {"a": {"b": 1}}, "a.b=1"),
        ("brackets", {"a": {"b": {"c": 1}}}, "a.b.c=1"),
        ("brackets", {"a": {"b": [1]}}, "a.b%5B%5D=1"),
        ("brackets", {"a": [{"b": 1}]}, "a%5B%5D.b=1"),
        ("indices", {"a": [{"b": 1}]}, "a%5B0%5D.b=1"),
        ("repeat", {"a": [{"b": 1}]}, "a.b=1"),
    ],
)
def test_the_dots_format(array_format: ArrayFormat, params: dict[str, object], query: str) -> None:
    assert Querystring(array_format=array_format, nested_format="dots").stringify(params) == query


# --- refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [b"x", bytearray(b"x"), memoryview(b"x"), object(), int, 1j, pathlib.Path("x"), range(2), iter([1])]
)
@pytest.mark.parametrize("shape", ["{}", "[]", "{{}}"])
def test_what_has_no_text_is_a_type_error_that_names_the_parameter_and_not_the_value(value: object, shape: str) -> None:
    given_value: object = {"{}": value, "[]": [value], "{{}}": {"b": value}}[shape]
    with pytest.raises(TypeError, match=rf"the parameter 'name.*' has a value of type {type(value).__name__}, which"):
        QS.stringify({"name": given_value})


def test_bytes_in_an_enum_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="of type bytes"):
        QS.stringify({"a": Colour.RAW})


@pytest.mark.parametrize("name", [1, None, b"a"])
def test_a_name_that_is_no_text_is_a_type_error(name: Any) -> None:
    with pytest.raises(TypeError, match=f"a parameter's name must be a str, not {type(name).__name__}"):
        QS.stringify({name: 1})
    with pytest.raises(TypeError, match="a key inside the parameter 'a' is no str"):
        QS.stringify({"a": {name: 1}})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [float, decimal.Decimal])
def test_a_number_without_digits_is_a_value_error(number: float, kind: type) -> None:
    with pytest.raises(ValueError, match="the parameter 'a' is .*, which has no form in a query"):
        QS.stringify({"a": kind(number)})


@pytest.mark.parametrize("nested", [[1, [2]], [{"b": 1}], [(1,)], [{1}], [[]]])
def test_the_comma_format_refuses_what_is_nested(nested: object) -> None:
    with pytest.raises(ValueError, match="the parameter 'a': array_format='comma' cannot hold nested values"):
        Querystring(array_format="comma").stringify({"a": nested})


def test_a_lone_surrogate_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        QS.stringify({"a": "\ud800"})


@pytest.mark.parametrize("name", ["array_format", "nested_format"])
@pytest.mark.parametrize("value", ["nope", "", None, 1])
def test_an_unknown_format_is_a_value_error_that_names_the_known_ones(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be one of .*'brackets'"):
        Querystring(**{name: value})


def test_a_querystring_is_a_value() -> None:
    assert Querystring("repeat", "dots") == Querystring(array_format="repeat", nested_format="dots")
    assert Querystring(array_format="brackets", nested_format="brackets") == QS
    assert pickle.loads(pickle.dumps(QS)) == QS
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        QS.array_format = "comma"  # type: ignore[misc]


def test_the_callers_mapping_is_not_changed() -> None:
    params: dict[str, object] = {"a": [None, {"b": None}], "c": {"d": omit}}
    QS.stringify(params)
    merge_query("c=1", params, QS)
    assert params == {"a": [None, {"b": None}], "c": {"d": omit}}


# --- parameters over a query ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "params", "expected"),
    [
        # kept byte for byte where nothing is said
        ("", {}, ""),
        ("a=%2f&a=+&&b", {}, "a=%2f&a=+&&b"),
        ("a=1&a=2", {"a": None}, "a=1&a=2"),
        ("a=1&a=2", {"a": not_given}, "a=1&a=2"),
        ("a=%2f+&a=2", {"b": 1}, "a=%2f+&a=2&b=1"),
        ("", {"b": 1}, "b=1"),
        # the same name is replaced, all of it
        ("a=1&b=2&a=3", {"a": 4}, "b=2&a=4"),
        ("a=1", {"a": ""}, "a="),
        ("a", {"a": 1}, "a=1"),
        ("%61=1", {"a": 2}, "a=2"),
        ("a%20b=1&a+b=2", {"a b": 3}, "a%20b=3"),
        ("%C3%BC=1", {"ü": 2}, "%C3%BC=2"),
        ("ab=1&A=1", {"a": 2}, "ab=1&A=1&a=2"),
        # in any array or nested format
        ("a[]=1&a%5B%5D=2&a[0]=3&a=4&a[b][c]=5", {"a": [6]}, "a%5B%5D=6"),
        ("a[]=1", {"a": 2}, "a=2"),
        ("a.b=1", {"a": 2}, "a.b=1&a=2"),
        # omit removes, and so does a value that writes nothing
        ("a=1&b=2&a[]=3", {"a": omit}, "b=2"),
        ("a=1", {"a": Omit()}, ""),
        ("a=1&b=2", {"a": []}, "b=2"),
    ],
)
def test_parameters_are_laid_over_a_query(query: str, params: dict[str, object], expected: str) -> None:
    assert merge_query(query, params, QS) == expected


def test_with_dots_a_parameter_replaces_its_dotted_names() -> None:
    qs = Querystring(nested_format="dots")
    assert merge_query("a.b=1&a.c=2&ab=3&a[]=4", {"a": {"b": 5}}, qs) == "ab=3&a.b=5"


# --- path templates (BEHAVIOUR 1.5) -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "values", "path"),
    [
        ("/a/{id}", {"id": "x"}, "/a/x"),
        ("/a/{id}", {"id": "a/b"}, "/a/a%2Fb"),
        ("/a/{id}", {"id": "a?b#c"}, "/a/a%3Fb%23c"),
        ("/a/{id}", {"id": "a b+%2F"}, "/a/a%20b%2B%252F"),
        ("/a/{id}", {"id": "ü"}, "/a/%C3%BC"),
        ("/a/{id}", {"id": "../../x"}, "/a/..%2F..%2Fx"),
        ("/a/{id}", {"id": "..."}, "/a/..."),
        ("/a/{id}", {"id": "\r\n"}, "/a/%0D%0A"),
        ("/a/{id}", {"id": True}, "/a/true"),
        ("/a/{id}", {"id": False}, "/a/false"),
        ("/a/{id}", {"id": 0}, "/a/0"),
        ("/a/{id}", {"id": 1.5}, "/a/1.5"),
        ("/a/{id}", {"id": Size.BIG}, "/a/big"),
        ("/a/{id}", {"id": Colour.ON}, "/a/true"),
        ("/a/{id}", {"id": uuid.UUID(int=0)}, "/a/00000000-0000-0000-0000-000000000000"),
        ("/a/{id}", {"id": datetime.date(2026, 1, 2)}, "/a/2026-01-02"),
        ("/a/{id}/b/{id}", {"id": 1}, "/a/1/b/1"),
        ("/a/{x}-{y}?q={x}", {"x": 1, "y": 2}, "/a/1-2?q=1"),
        ("/a/{x}.{y}", {"x": "b", "y": "."}, "/a/b.."),
        ("/a/{template}", {"template": "t"}, "/a/t"),
        ("/a/{id}?v=..", {"id": 1}, "/a/1?v=.."),
        ("/plain", {}, "/plain"),
        ("", {}, ""),
    ],
)
def test_each_value_of_a_template_is_one_segment(template: str, values: dict[str, object], path: str) -> None:
    assert path_template(template, **values) == path


@pytest.mark.parametrize(
    ("template", "values", "message"),
    [
        ("/a/{id}", {"id": None}, "the path needs a value for 'id', got None"),
        ("/a/{id}", {"id": not_given}, "the path needs a value for 'id', got not_given"),
        ("/a/{id}", {"id": omit}, "the path needs a value for 'id', got omit"),
        ("/a/{id}", {"id": ""}, "the path needs a value for 'id', got an empty one"),
        ("/a/{id}", {"id": "."}, "has a dot segment"),
        ("/a/{id}", {"id": ".."}, "has a dot segment"),
        ("/a/{id}/b", {"id": ".."}, "has a dot segment"),
        ("{id}", {"id": ".."}, "has a dot segment"),
        ("/a/{id}?x=1", {"id": ".."}, "has a dot segment"),
        ("/a/{x}{y}", {"x": ".", "y": "."}, "has a dot segment"),
        ("/a/.{x}", {"x": "."}, "has a dot segment"),
        ("/a/%2e{x}", {"x": "."}, "has a dot segment"),
        ("/a/{x}%2E/b", {"x": "."}, "has a dot segment"),
        ("/a/{id}", {"id": math.nan}, "has no form in a query"),
        ("/a/{id}", {"id": "\ud800"}, "lone surrogate"),
        ("/a/{id}", {}, "needs a value for 'id'"),
        ("/a/{id}", {"id": 1, "b": 2, "a": 3}, "has no place for a, b"),
        ("/a/{id", {"id": 1}, "malformed '{name}'"),
        ("/a/{}", {}, "malformed '{name}'"),
        ("/a/{a b}", {}, "malformed '{name}'"),
        ("/a/{a.b}", {"a": 1}, "malformed '{name}'"),
        ("/a/{id!r}", {"id": 1}, "malformed '{name}'"),
        ("/a/id}", {"id": 1}, "has a '}' without a '{'"),
    ],
)
def test_a_template_refuses_what_would_lead_elsewhere(template: str, values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        path_template(template, **values)


@pytest.mark.parametrize("value", [b"x", [1], {"a": 1}, object()])
def test_a_value_without_a_text_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match=f"of type {type(value).__name__}"):
        path_template("/a/{id}", id=value)


# --- properties -----------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = TEXT | st.integers() | st.booleans() | st.dates() | st.uuids()
PARAMS = st.dictionaries(
    TEXT,
    st.recursive(SCALARS | st.none(), lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXT, v, max_size=3)),
    max_size=4,
)
ARRAYS: list[ArrayFormat] = ["brackets", "repeat", "indices"]
NESTED: list[NestedFormat] = ["brackets", "dots"]


@given(PARAMS, st.sampled_from(ARRAYS), st.sampled_from(NESTED))
def test_what_is_encoded_is_what_a_form_parser_reads(
    params: Mapping[str, object], arrays: ArrayFormat, nested: NestedFormat
) -> None:
    qs = Querystring(array_format=arrays, nested_format=nested)
    query = qs.stringify(params)
    assert parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=None) == qs.stringify_items(params)
    assert re.fullmatch(r"[A-Za-z0-9._~%&=-]*", query)


@given(st.dictionaries(TEXT, TEXT))
def test_flat_parameters_come_back_as_they_were(params: dict[str, str]) -> None:
    assert dict(parse_qsl(QS.stringify(params), keep_blank_values=True)) == params


@given(st.dictionaries(TEXT, st.lists(st.integers(), min_size=1), max_size=3))
def test_the_comma_format_comes_back(params: dict[str, list[int]]) -> None:
    read = parse_qsl(Querystring(array_format="comma").stringify(params), keep_blank_values=True)
    assert {name: [int(v) for v in value.split(",")] for name, value in read} == params


@given(st.lists(st.tuples(TEXT, TEXT)), st.dictionaries(TEXT, TEXT, min_size=1))
def test_after_a_merge_each_parameter_stands_there_once(low: list[tuple[str, str]], params: dict[str, str]) -> None:
    query = "&".join(QS.stringify({name: value}) for name, value in low)
    merged = parse_qsl(merge_query(query, params, QS), keep_blank_values=True)
    for name, value in params.items():
        assert [v for n, v in merged if n == name] == [value]
    kept = [(n, v) for n, v in merged if n not in params]
    assert kept == [(n, v) for n, v in low if n not in params and not any(n.startswith(f"{p}[") for p in params)]


@given(TEXT.filter(lambda value: value not in ("", ".", "..")))
def test_a_template_value_is_one_segment_and_decodes_to_itself(value: str) -> None:
    path = path_template("/a/{id}/b", id=value)
    _, first, middle, last = path.split("/")
    assert (first, unquote(middle, errors="strict"), last) == ("a", value, "b")
    assert re.fullmatch(r"[A-Za-z0-9._~%/-]*", path)


# --- a parser that is not ours (WHATWG URL section 5.1, as browsers and node have it) ---------------------------------


def whatwg(query: str) -> list[tuple[str, str]]:
    return list(ada_url.URLSearchParams(query).items())


COMMA = st.dictionaries(TEXT, SCALARS | st.lists(SCALARS | st.none(), max_size=3), max_size=4)


@settings(max_examples=examples(200))
@given(PARAMS, st.sampled_from(ARRAYS), st.sampled_from(NESTED))
def test_a_whatwg_parser_reads_what_was_meant(
    params: Mapping[str, object], arrays: ArrayFormat, nested: NestedFormat
) -> None:
    qs = Querystring(array_format=arrays, nested_format=nested)
    query = qs.stringify(params)
    assert whatwg(query) == qs.stringify_items(params)
    assert whatwg(query) == parse_qsl(query, keep_blank_values=True, errors="strict")


@settings(max_examples=examples(100))
@given(COMMA, st.sampled_from(NESTED))
def test_a_whatwg_parser_reads_the_comma_format(params: Mapping[str, object], nested: NestedFormat) -> None:
    qs = Querystring(array_format="comma", nested_format=nested)
    query = qs.stringify(params)
    assert whatwg(query) == parse_qsl(query, keep_blank_values=True, errors="strict") == qs.stringify_items(params)


@settings(max_examples=examples(100))
@given(st.dictionaries(TEXT, TEXT))
def test_flat_parameters_come_back_from_a_whatwg_parser_as_they_were(params: dict[str, str]) -> None:
    assert dict(whatwg(QS.stringify(params))) == params


@settings(max_examples=examples(100))
@given(st.dictionaries(TEXT, TEXT, min_size=1))
def test_a_whole_url_means_the_same_to_a_whatwg_parser(params: dict[str, str]) -> None:
    query = QS.stringify(params)
    url = str(URL("https://h/p").replace(query=query))
    parsed = ada_url.URL(url)
    assert parsed.search == f"?{query}"  # nothing is left that it would have to encode
    assert dict(whatwg(parsed.search.removeprefix("?"))) == params


@settings(max_examples=examples(100))
@given(st.lists(st.tuples(TEXT, TEXT)), st.dictionaries(TEXT, TEXT, min_size=1))
def test_a_whatwg_parser_finds_each_merged_parameter_once(low: list[tuple[str, str]], params: dict[str, str]) -> None:
    query = "&".join(QS.stringify({name: value}) for name, value in low)
    merged = whatwg(merge_query(query, params, QS))
    for name, value in params.items():
        assert [v for n, v in merged if n == name] == [value]


@pytest.mark.parametrize(
    ("value", "written"),
    [(" ", "%20"), ("+", "%2B"), ("%", "%25"), ("%2B", "%252B"), ("&=", "%26%3D"), ("#?/", "%23%3F%2F"), ("\0", "%00")]
    + [("é", "%C3%A9"), ("\N{GRINNING FACE}", "%F0%9F%98%80"), ("\ufeff", "%EF%BB%BF"), ("'", "%27"), ("a;b", "a%3Bb")],
)
def test_what_parsers_read_differently_is_encoded(value: str, written: str) -> None:
    query = QS.stringify({value: value})
    assert query == f"{written}={written}"
    assert whatwg(query) == parse_qsl(query) == [(value, value)]
