"""Between JSON and Python values: what decodes to what, what a wrong value becomes, and what cannot be encoded."""

from __future__ import annotations

import collections
import contextlib
import copy
import datetime
import decimal
import enum
import pathlib
import pickle
import re
import signal
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
    Union,
)

import anyio
import attrs
import cattrs
import hypothesis
import pytest
import typing_extensions
from hypothesis import Phase, settings
from hypothesis import strategies as st

from anyio_client import (
    AsyncAPIClient,
    DecodeError,
    MockTransport,
    Request,
    Response,
    RetryPolicy,
    extra_fields,
    not_given,
    omit,
)
from anyio_client._convert import Codec, DoesNotFit, _decode
from anyio_client._convert._records import fields_of
from anyio_client._wire import json as _json
from tests.kit.fuzz import examples

T = TypeVar("T")
K = TypeVar("K")
CODEC = Codec()


def problems(value: object, cast_to: Any, *, strict: bool = False) -> list[str]:
    with pytest.raises(DoesNotFit) as caught:
        CODEC.decode(value, cast_to, strict=strict)
    return [f"${problem}" for problem in caught.value.problems]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Number(enum.IntEnum):
    ONE = 1


class Mood(enum.StrEnum):
    GOOD = "good"


@attrs.define
class Point:
    x: int
    y: float = 0.0


@dataclass
class Line:
    start: Point
    end: Point | None = None
    tags: list[str] = field(default_factory=list)
    hidden: int = field(default=7, init=False)


@attrs.define
class Node:
    value: int
    children: list[Node] = attrs.field(factory=list)
    parent: Optional[Node] = None  # noqa: UP045
    by_name: dict[str, Node] = attrs.field(factory=dict)


@dataclass
class Chain:
    next: Chain | None = None


# --- scalars -------------------------------------------------------------------------------------------------------

VALUES: list[Any] = [None, True, False, 0, 1, 1.0, 1.5, "", "a", "1", "None", "true", [], ["a"], {}, {"a": 1}]
FITS: dict[Any, Callable[[Any], bool]] = {
    str: lambda v: type(v) is str,
    int: lambda v: type(v) is int,
    bool: lambda v: type(v) is bool,
    float: lambda v: type(v) in (int, float),
    type(None): lambda v: v is None,
    list: lambda v: type(v) is list,
    dict: lambda v: type(v) is dict,
    object: lambda v: True,
    Any: lambda v: True,
    list[str]: lambda v: v in ([], ["a"]),
    dict[str, int]: lambda v: type(v) is dict,
}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("cast_to", FITS, ids=str)
def test_scalars_are_never_coerced(cast_to: Any, strict: bool) -> None:
    for value in VALUES:
        if FITS[cast_to](value):
            decoded = CODEC.decode(value, cast_to, strict=strict)
            assert decoded == value
            assert type(decoded) is (float if cast_to is float else type(value))
        else:
            assert len(problems(value, cast_to, strict=strict)) == 1


def test_big_numbers() -> None:
    assert CODEC.decode(10**30, int) == 10**30
    assert CODEC.decode(10**30, float) == 1e30
    assert problems(10**400, float) == ["$: expected a number in the range of a float, got a number"]


@pytest.mark.parametrize(
    ("cast_to", "text", "expected"),
    [
        (datetime.datetime, "2024-02-29T12:00:00Z", datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)),
        (datetime.date, "2024-02-29", datetime.date(2024, 2, 29)),
        (datetime.time, "12:30", datetime.time(12, 30)),
        (uuid.UUID, "00000000-0000-0000-0000-000000000001", uuid.UUID(int=1)),
        (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
        (decimal.Decimal, 1, decimal.Decimal(1)),
        (decimal.Decimal, 1.5, decimal.Decimal("1.5")),
        (pathlib.Path, "/a/b", pathlib.Path("/a/b")),
    ],
)
def test_values_that_are_strings_in_json(cast_to: Any, text: object, expected: object) -> None:
    for strict in (False, True):
        assert CODEC.decode(text, cast_to, strict=strict) == expected
    for wrong in ("secret", None, [], {}, True):
        if cast_to is pathlib.Path and wrong == "secret":
            continue
        (problem,) = problems(wrong, cast_to)
        assert problem.startswith("$: expected a")
        assert "secret" not in problem


def test_bytes_do_not_come_from_json() -> None:
    for value in ("a", 5, [1, 2]):
        assert problems(value, bytes)


# --- enums, literals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cast_to", "value", "member"),
    [(Colour, "red", Colour.RED), (Number, 1, Number.ONE), (Mood, "good", Mood.GOOD)],
)
def test_enums(cast_to: Any, value: object, member: object) -> None:
    for strict in (False, True):
        assert CODEC.decode(value, cast_to, strict=strict) is member
        assert CODEC.decode([value], list[cast_to], strict=strict) == [member]


@pytest.mark.parametrize("cast_to", [Colour, Number, Mood])
@pytest.mark.parametrize("value", ["green", 7, None, True, [1], {}])
def test_unknown_members_survive_unless_strict(cast_to: Any, value: object) -> None:
    assert CODEC.decode(value, cast_to) is value
    assert CODEC.decode({"a": value}, dict[str, cast_to | None]) == {"a": value}
    assert problems(value, cast_to, strict=True) == [
        f"$: expected a member of {cast_to.__name__}, got {KINDS[type(value)]}"
    ]


KINDS = {
    str: "a string",
    int: "a number",
    bool: "a boolean",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def test_literals() -> None:
    cast_to: Any = Literal["a", 1, True, None, Colour.RED]
    for value, expected in [("a", "a"), (1, 1), (True, True), (None, None), ("red", Colour.RED)]:
        decoded = CODEC.decode(value, cast_to)
        assert decoded == expected
        assert type(decoded) is type(expected)
    for wrong in ("b", 2, False, 1.0, ["a"]):
        assert len(problems(wrong, cast_to)) == 1
        assert CODEC.decode([wrong], list[cast_to]) == [wrong]  # inside, the raw value stays
        assert problems([wrong], list[cast_to], strict=True)[0].startswith("$[0]: expected one of 5 values")


# --- containers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cast_to", "value", "expected"),
    [
        (list[int], [1, 2], [1, 2]),
        (Sequence[int], [1], [1]),
        (Iterable[Point], [{"x": 1}], [Point(1)]),
        (set[int], [1, 1], {1}),
        (frozenset[str], ["a"], frozenset({"a"})),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, Point], [1, {"x": 2}], (1, Point(2))),
        (tuple, [1, "a"], (1, "a")),
        (dict[str, list[Point]], {"a": [{"x": 1}]}, {"a": [Point(1)]}),
        (Mapping[str, Any], {"a": [1]}, {"a": [1]}),
        (list[list[int]], [[1], []], [[1], []]),
    ],
    ids=str,
)
def test_containers(cast_to: Any, value: object, expected: object) -> None:
    for strict in (False, True):
        decoded = CODEC.decode(value, cast_to, strict=strict)
        assert decoded == expected
        assert type(decoded) is type(expected)
    for wrong in ("abc", None, 1):
        assert len(problems(wrong, cast_to)) == 1


def test_inside_a_container_a_wrong_value_stays_raw_or_is_a_problem_with_its_path() -> None:
    assert CODEC.decode([1, "a", None], list[int]) == [1, "a", None]
    assert CODEC.decode({"a": "x"}, dict[str, int]) == {"a": "x"}
    assert CODEC.decode(["x", "y"], tuple[int, str]) == ("x", "y")
    assert problems(["x"], tuple[int, str]) == ["$: expected an array of 2, got an array"]
    assert problems([1, "a", [None]], list[int], strict=True) == [
        "$[1]: expected an integer, got a string",
        "$[2]: expected an integer, got an array",
    ]
    assert problems({"a": {"b": ["x"]}}, dict[str, dict[str, list[int]]], strict=True) == [
        "$.a.b[0]: expected an integer, got a string"
    ]


# --- records -------------------------------------------------------------------------------------------------------


def test_records() -> None:
    assert CODEC.decode({"x": 1, "unknown": [1]}, Point, strict=True) == Point(1)
    assert CODEC.decode({"start": {"x": 1, "y": 2}, "hidden": 9}, Line) == Line(Point(1, 2.0))
    assert CODEC.decode({"start": {"x": 1}, "end": {"x": 2}, "tags": ["a"]}, Line, strict=True) == Line(
        Point(1), Point(2), ["a"]
    )


def test_a_wrong_value_in_a_field_stays_raw_or_is_a_problem() -> None:
    assert CODEC.decode({"x": "a", "y": None}, Point) == Point("a", None)  # type: ignore[arg-type]
    assert CODEC.decode({"start": "x"}, Line).start == "x"
    assert problems({"x": "a", "y": None}, Point, strict=True) == [
        "$.x: expected an integer, got a string",
        "$.y: expected a number, got null",
    ]


@pytest.mark.parametrize("strict", [False, True])
def test_missing_fields_are_problems_at_every_depth(strict: bool) -> None:
    assert problems({}, Point, strict=strict) == ["$.x: missing"]
    assert problems({"start": {}, "end": {"y": 1}}, Line, strict=strict) == [
        "$.start.x: missing",
        "$.end.x: missing",
    ]
    assert problems([{"x": 1}, {}, {}], list[Point], strict=strict) == ["$[1].x: missing", "$[2].x: missing"]
    assert problems({"a": {"b": {}}}, dict[str, dict[str, Point]], strict=strict) == ["$.a.b.x: missing"]


def test_a_wrong_shape_at_the_top() -> None:
    for value in (None, [], "a", 1, True):
        assert problems(value, Point) == [f"$: expected an object (Point), got {KINDS[type(value)]}"]
        assert problems(value, Line) == [f"$: expected an object (Line), got {KINDS[type(value)]}"]


def test_names_in_json() -> None:
    @attrs.define
    class Named:
        _private: int
        kind: int = attrs.field(alias="type")
        computed: int = attrs.field(init=False, default=3)

    assert CODEC.decode({"private": 1, "type": 2, "computed": 9}, Named) == Named(1, 2)
    assert CODEC.to_plain(Named(1, 2)) == {"private": 1, "type": 2, "computed": 3}


def test_validators_of_the_user() -> None:
    @attrs.define
    class Positive:
        n: Any = attrs.field(validator=attrs.validators.gt(0))

    @dataclass
    class Even:
        n: int

        def __post_init__(self) -> None:
            if self.n % 2:
                raise ValueError(f"{self.n} is odd")

    assert CODEC.decode({"n": 2}, Even) == Even(2)
    assert problems({"n": -1234}, Positive) == ["$: Positive refuses it (ValueError)"]
    assert problems({"n": [1]}, Positive) == ["$: Positive refuses it (TypeError)"]
    assert problems([{"n": 2}, {"n": 3}], list[Even]) == ["$[1]: Even refuses it (ValueError)"]


def test_classes_that_refer_to_themselves() -> None:
    value = {
        "value": 1,
        "children": [{"value": 2, "children": [{"value": 3}]}],
        "parent": {"value": 0},
        "by_name": {"a": {"value": 4}},
    }
    expected = Node(1, [Node(2, [Node(3)])], Node(0), {"a": Node(4)})
    for cast_to, given, wanted in (
        (Node, value, expected),
        (list[Node], [value], [expected]),
        (Node | None, value, expected),
    ):
        assert Codec().decode(given, cast_to, strict=True) == wanted
    assert CODEC.decode({"next": {"next": {}}}, Chain) == Chain(Chain(Chain()))
    assert problems({"value": 1, "children": [{"value": 2, "children": [{}]}]}, Node) == [
        "$.children[0].children[0].value: missing"
    ]


def test_nesting_that_is_too_deep() -> None:
    value: Any = {}
    for _ in range(100_000):
        value = {"next": value}
    assert problems(value, Chain) == ["$: nested too deeply"]
    while value:  # or its destruction would recurse
        value = value.get("next")


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Sequel(Movie, total=False):
    part: int
    first: Movie


def test_typed_dicts() -> None:
    assert CODEC.decode({"title": "a", "other": 1}, Movie) == {"title": "a"}
    assert CODEC.decode({"title": "a", "year": 1, "first": {"title": "b"}}, Sequel, strict=True) == {
        "title": "a",
        "year": 1,
        "first": {"title": "b"},
    }
    assert CODEC.decode({"title": 1}, Movie) == {"title": 1}
    assert problems({"title": 1}, Movie, strict=True) == ["$.title: expected a string, got a number"]
    assert problems([{"year": 1}], list[Movie]) == ["$[0].title: missing"]
    assert problems("x", Movie) == ["$: expected an object (Movie), got a string"]


Id = NewType("Id", str)


def test_names_for_types() -> None:
    @attrs.define
    class Thing:
        id: Id
        n: Annotated[int, "positive"] = 1

    assert CODEC.decode({"id": "a", "n": 2}, Thing, strict=True) == Thing(Id("a"), 2)
    assert problems({"id": 1, "n": "x"}, Thing, strict=True) == [
        "$.id: expected a string, got a number",
        "$.n: expected an integer, got a string",
    ]


# --- generics ------------------------------------------------------------------------------------------------------


@attrs.define
class Box(Generic[T]):
    item: T
    more: list[T] = attrs.field(factory=list)
    by_name: dict[str, T | None] | None = None


@attrs.define
class PointBox(Box[Point]):
    label: str = ""


@attrs.define
class Lists(Box[list[K]], Generic[K]):
    own: K | None = None


@attrs.define
class Same(Box[list[T]], Generic[T]):  # its T is not Box's
    own: T | None = None


@dataclass
class Pair(Generic[T, K]):
    first: T
    second: K


@dataclass
class Half(Pair[T, Point]):
    third: T | None = None


def test_generics() -> None:
    point = {"x": 1}
    assert CODEC.decode({"item": point, "more": [point], "by_name": {"a": point, "b": None}}, Box[Point]) == Box(
        Point(1), [Point(1)], {"a": Point(1), "b": None}
    )
    assert CODEC.decode({"item": {"item": point}}, Box[Box[Point]]) == Box(Box(Point(1)))
    assert CODEC.decode({"item": point}, Box) == Box(point)
    assert CODEC.decode({"first": 1, "second": point}, Pair[int, Point]) == Pair(1, Point(1))
    assert problems({"item": "a", "more": [1]}, Box[int], strict=True) == ["$.item: expected an integer, got a string"]


def test_generics_that_are_extended() -> None:
    point = {"x": 1}
    assert CODEC.decode({"item": point, "more": [point], "label": "l"}, PointBox) == PointBox(
        Point(1), [Point(1)], label="l"
    )
    for cls in (Lists, Same):
        assert CODEC.decode({"item": [point], "own": point}, cls[Point]) == cls([Point(1)], own=Point(1))
    assert CODEC.decode({"first": point, "second": point, "third": point}, Half[Point]) == Half(
        Point(1), Point(1), Point(1)
    )
    assert CODEC.decode({"first": point, "second": point}, Half).first == point


# --- unions --------------------------------------------------------------------------------------------------------


@attrs.define
class Cat:
    lives: int
    kind: Literal["cat"] = "cat"


@attrs.define
class Dog:
    name: str
    kind: Literal["dog", "puppy"] = "dog"


@dataclass
class Red:
    n: int
    colour: Literal[Colour.RED] = Colour.RED


@dataclass
class Blue:
    n: int
    colour: Literal[Colour.BLUE] = Colour.BLUE


@attrs.define
class First:
    tag: Literal[1] = attrs.field(alias="type")


@attrs.define
class Second:
    tag: Literal[2] = attrs.field(alias="type")


def test_a_literal_field_tells_the_members_of_a_union_apart() -> None:
    for strict in (False, True):
        assert CODEC.decode({"kind": "cat", "lives": 9}, Cat | Dog, strict=strict) == Cat(9)
        assert CODEC.decode({"kind": "puppy", "name": "x"}, Cat | Dog | None, strict=strict) == Dog("x", "puppy")
        assert CODEC.decode({"n": 1, "colour": "blue"}, Red | Blue, strict=strict) == Blue(1)
        assert CODEC.decode({"type": 2}, First | Second, strict=strict) == Second(2)
        assert CODEC.decode(None, Cat | Dog | None, strict=strict) is None
        # The tag decides, so the problems are those of its class.
        assert problems({"kind": "cat"}, Cat | Dog, strict=strict) == ["$.lives: missing"]


@pytest.mark.parametrize("union", [Cat | Dog, First | Second, Red | Blue])
def test_an_unknown_variant_survives_unless_strict(union: Any) -> None:
    value = {"kind": "bird", "type": 3, "colour": "green", "n": 1}
    assert CODEC.decode(value, union) == value
    assert CODEC.decode([value, value], list[union]) == [value, value]
    assert problems([value], list[union], strict=True) == ["$[0]: expected one of 2 kinds, got an object"]


def test_unions_without_a_tag_prefer_what_fits_exactly() -> None:
    assert CODEC.decode("1", int | str) == "1"
    assert CODEC.decode(1, str | int) == 1
    assert CODEC.decode(True, int | bool) is True
    assert CODEC.decode(1, float | str) == 1.0
    assert CODEC.decode([1], str | list[int]) == [1]
    assert CODEC.decode({"x": 1}, Line | Point) == Point(1)
    assert CODEC.decode({"x": "a"}, Line | Point) == Point("a")  # type: ignore[arg-type]
    assert CODEC.decode("green", Colour | None) == "green"
    assert CODEC.decode("2024-01-01", datetime.date | str) == datetime.date(2024, 1, 1)
    assert CODEC.decode("soon", datetime.date | str) == "soon"
    assert problems([], int | str) == ["$: expected one of 2 kinds, got an array"]
    assert problems("a", int | None) == ["$: expected an integer, got a string"]
    assert problems({}, None | Point) == ["$.x: missing"]


# --- a converter of the user's -------------------------------------------------------------------------------------


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents


@attrs.define
class Bill:
    total: Money
    due: datetime.datetime | None = None


def own_converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    converter.register_structure_hook(Money, lambda value, _: Money(value))
    converter.register_unstructure_hook(Money, lambda money: money.cents)
    converter.register_structure_hook(
        datetime.datetime, lambda value, _: datetime.datetime.fromtimestamp(value, datetime.UTC)
    )
    converter.register_unstructure_hook(datetime.datetime, lambda value: int(value.timestamp()))
    converter.register_unstructure_hook(Point, lambda point: [point.x, point.y])
    converter.register_structure_hook(Point, lambda value, _: Point(*value))
    return converter


def test_the_users_own_hooks_are_kept() -> None:
    codec = Codec(own_converter())
    due = datetime.datetime(1970, 1, 1, 0, 0, 10, tzinfo=datetime.UTC)
    for strict in (False, True):
        assert codec.decode({"total": 100, "due": 10}, Bill, strict=strict) == Bill(Money(100), due)
        assert codec.decode([[1, 2.0]], list[Point], strict=strict) == [Point(1, 2.0)]
        with pytest.raises(DoesNotFit):
            codec.decode("1", int, strict=strict)
    assert codec.to_plain(Bill(Money(100), due)) == {"total": 100, "due": 10}
    assert codec.to_plain([Point(1)]) == [[1, 0.0]]


def test_hooks_that_fail_are_problems_without_values() -> None:
    def fail(value: Any, _: Any) -> Any:
        raise KeyError("secret")

    converter = cattrs.Converter()
    converter.register_structure_hook(Money, fail)
    codec = Codec(converter)
    with pytest.raises(DoesNotFit) as caught:
        codec.decode({"total": 1}, Bill, strict=True)
    assert caught.value.problems == [".total: KeyError"]
    assert codec.decode({"total": 1}, Bill).total == 1
    with pytest.raises(DoesNotFit) as caught:
        codec.decode(1, Money)
    assert caught.value.problems == [": KeyError"]


@attrs.define
class Unknown:
    x: Nowhere  # type: ignore[name-defined]  # noqa: F821


def test_a_type_that_cannot_be_decoded_is_a_type_error() -> None:
    @attrs.define
    class Holder:
        money: Money

    for cast_to, value in (
        (Money, 1),
        (Holder, {"money": 1}),
        (list[Holder], [{"money": 1}]),
        (Unknown, {"x": 1}),
        (list[Unknown], [{"x": 1}]),
    ):
        with pytest.raises(TypeError, match="cannot be decoded"):
            CODEC.decode(value, cast_to)


# --- encoding ------------------------------------------------------------------------------------------------------


class Coordinates(NamedTuple):
    x: int
    y: int


@dataclass
class Iterable_(Iterable[int]):
    n: int

    def __iter__(self) -> Any:
        return iter(range(self.n))


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, b"null"),
        ({"b": 1, "a": [True, None, 1.5, "é"]}, '{"b":1,"a":[true,null,1.5,"é"]}'.encode()),
        (10**30, b"1" + b"0" * 30),
        (Point(1, 2.0), b'{"x":1,"y":2.0}'),
        (Line(Point(1), tags=["a"]), b'{"start":{"x":1,"y":0.0},"end":null,"tags":["a"],"hidden":7}'),
        (datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC), b'"2024-02-29T12:00:00+00:00"'),
        (datetime.date(2024, 2, 29), b'"2024-02-29"'),
        (datetime.time(12), b'"12:00:00"'),
        (uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (decimal.Decimal("1.10"), b'"1.10"'),
        (pathlib.PurePosixPath("/a/b"), b'"/a/b"'),
        (pathlib.Path("/a/b"), b'"/a/b"'),
        (Colour.RED, b'"red"'),
        (Number.ONE, b"1"),
        (Mood.GOOD, b'"good"'),
        ({Mood.GOOD: 1, Colour.RED: 2}, b'{"good":1,"red":2}'),
        (Text("a"), b'"a"'),
        ((1, 2), b"[1,2]"),
        (Coordinates(1, 2), b"[1,2]"),
        (range(2), b"[0,1]"),
        ((n for n in [Point(1)]), b'[{"x":1,"y":0.0}]'),
        (iter([1]), b"[1]"),
        ({"a": map(str, [1])}, b'{"a":["1"]}'),
        (frozenset([1]), b"[1]"),
        (collections.deque([1]), b"[1]"),
        (collections.OrderedDict(b=1, a=2), b'{"b":1,"a":2}'),
        (collections.ChainMap({"a": 1}), b'{"a":1}'),
        ({"a": omit, "b": not_given, "c": 1}, b'{"c":1}'),
        (Point(omit, not_given), b"{}"),  # type: ignore[arg-type]
        (Iterable_(2), b'{"n":2}'),
        (Cat(9), b'{"lives":9,"kind":"cat"}'),
        (Box(Point(1)), b'{"item":{"x":1,"y":0.0},"more":[],"by_name":null}'),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", repr(value)),
)
def test_what_is_encoded_to_what(value: object, expected: bytes) -> None:
    assert CODEC.encode(value) == expected


def cyclic_list() -> Any:
    value: list[Any] = [1]
    value.append({"a": value})
    return value


def cyclic_record() -> Any:
    node = Node(1)
    node.children.append(node)
    return node


def deep() -> Any:
    value: list[Any] = []
    for _ in range(600):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "error", "path"),
    [
        ({"a": [1, float("nan")]}, ValueError, r"\$\.a\[1\] is nan"),
        (float("inf"), ValueError, r"\$ is inf"),
        ({"a": {"b": b"x"}}, TypeError, r"\$\.a\.b is bytes.*base64"),
        ([bytearray(b"x")], TypeError, r"\$\[0\] is bytes"),
        ([memoryview(b"x")], TypeError, r"\$\[0\] is bytes"),
        ([omit], TypeError, r"\$\[0\] is omit"),
        (not_given, TypeError, r"\$ is not_given"),
        ({"a": {1: 2}}, TypeError, r"\$\.a has a key of type int"),
        ({"a": {None: 2}}, TypeError, r"\$\.a has a key of type NoneType"),
        ({"a": [object()]}, TypeError, r"\$\.a\[0\] is a object, which has no form in JSON"),
        (Point(Money(1)), TypeError, r"\$\.x is a Money"),  # type: ignore[arg-type]
        ([1j], TypeError, r"\$\[0\] is a complex"),
        ([Point], TypeError, r"\$\[0\] is a type"),
        ([Colour], TypeError, r"\$\[0\] is a EnumType"),
        (cyclic_list(), ValueError, r"\$\[1\]\.a refers back"),
        (cyclic_record(), ValueError, r"\$\.children\[0\] refers back"),
        (deep(), ValueError, "nested too deeply"),
        ("\ud800", ValueError, "lone surrogate"),
    ],
)
def test_what_cannot_be_encoded(value: object, error: type[Exception], path: str) -> None:
    with pytest.raises(error, match=path):
        CODEC.encode(value)


def test_the_same_object_twice_is_no_cycle() -> None:
    point = Point(1)
    assert CODEC.to_plain([point, point, {"a": point}]) == [
        {"x": 1, "y": 0.0},
        {"x": 1, "y": 0.0},
        {"a": {"x": 1, "y": 0.0}},
    ]


def test_the_callers_objects_are_not_changed() -> None:
    inner = [Point(1), omit]
    value = {"a": {"b": not_given}, "c": inner}
    with pytest.raises(TypeError):
        CODEC.to_plain(value)
    assert value == {"a": {"b": not_given}, "c": [Point(1), omit]}
    plain = CODEC.to_plain({"c": [inner[0]]})
    plain["c"][0]["x"] = 2
    assert inner[0] == Point(1)


# --- every type, loose and strict ----------------------------------------------------------------------------------


class Enough(BaseException):
    """More work than the value is worth; no Exception, so that nothing takes it for a value that does not fit."""


class Problems(tuple[str, ...]):
    """What a decoding met, in the place of its result."""


def P(*texts: str) -> Problems:
    return Problems(f"${text}" for text in texts)


def outcome(value: object, cast_to: Any, strict: bool, codec: Codec = CODEC) -> object:
    """What decoding gives, the problems where it gives none."""
    try:
        return codec.decode(value, cast_to, strict=strict)
    except DoesNotFit as exc:
        return P(*exc.problems)
    except Enough as exc:
        too_much = str(exc)
    pytest.fail(too_much)  # here, where the long tracebacks of what was tried are forgotten


def same(one: object, other: object) -> bool:
    """Equal, and of the same types, elements included."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


class Place(NamedTuple):
    x: int
    y: int = 0
    names: list[str] = []


class Typed(TypedDict, total=False):
    id: Required[int]
    name: str
    note: Annotated[NotRequired[str | None], "about"]


class Inner(TypedDict):
    typed: NotRequired[Typed]
    points: Required[list[Point]]


Dotted = TypedDict("Dotted", {"a.b": int, "class": NotRequired[str]})


@dataclass(kw_only=True)
class Keyed:
    a: int
    b: str = "b"
    c: list[int] = field(default_factory=list)
    from_: str = field(default="", metadata={"json": "from"})
    made: int = field(default=1, init=False)


@dataclass(frozen=True, slots=True)
class Frozen:
    a: int
    b: float | None = None


@attrs.define(kw_only=True)
class Named:
    _private: int
    kind: str = attrs.field(alias="type")
    from_: str = attrs.field(default="", metadata={"json": "from"})
    both: int = attrs.field(default=0, alias="other", metadata={"json": "in-json"})
    computed: int = attrs.field(init=False, default=3)


@attrs.frozen(slots=False)
class Converted:
    size: int = attrs.field(default=0, converter=lambda value: value * 2)
    name: str | None = attrs.field(default=None, converter=attrs.converters.optional(str.upper))


class Permission(enum.Flag):
    READ = 1
    WRITE = 2


class Version(enum.Enum):
    ONE = 1
    ONE_AND_A_HALF = 1.5
    YES = True
    NOTHING = None


class Shape(enum.Enum):
    """Of several types, with a name that stands for another."""

    SQUARE = "square"
    BOX = "square"  # noqa: PIE796
    ROUND = 0


Ids = NewType("Ids", list[Id])
Deep = NewType("Deep", Ids)
Number_ = Annotated[int, "a number"]

FITTING: list[tuple[Any, object, object]] = [
    (Place, [1, 2], Place(1, 2)),
    (Place, [1], Place(1)),
    (Place, {"x": 1, "names": ["a"], "z": 1}, Place(1, 0, ["a"])),
    (list[Place], [[1], {"x": 2}], [Place(1), Place(2)]),
    (tuple[int, str], [1, "a"], (1, "a")),
    (tuple[Point, ...], [], ()),
    (tuple[Point, ...], [{"x": 1}], (Point(1),)),
    (dict, {"a": [1, None], "b": {"c": 1.5}}, {"a": [1, None], "b": {"c": 1.5}}),
    (list, [1, "a", None, [True], {}], [1, "a", None, [True], {}]),
    (list[Any], [1, {}], [1, {}]),
    (dict[str, Any], {"a": 1}, {"a": 1}),
    (dict[str, dict[str, list[Point | None]]], {"a": {"b": [None, {"x": 1}]}}, {"a": {"b": [None, Point(1)]}}),
    (list[dict[str, tuple[int, ...]]], [{"a": [1]}, {}], [{"a": (1,)}, {}]),
    (list[list[list[float]]], [[[1, 2.5]], []], [[[1.0, 2.5]], []]),
    (Typed, {"id": 1, "note": None, "other": 1}, {"id": 1, "note": None}),
    (Typed, {"id": 1}, {"id": 1}),
    (Inner, {"points": [{"x": 1}], "typed": {"id": 1}}, {"points": [Point(1)], "typed": {"id": 1}}),
    (Dotted, {"a.b": 1, "class": "c"}, {"a.b": 1, "class": "c"}),
    (Keyed, {"a": 1, "from": "f", "made": 9, "from_": 1}, Keyed(a=1, from_="f")),
    (Keyed, {"a": 1, "b": "x", "c": [1]}, Keyed(a=1, b="x", c=[1])),
    (Frozen, {"a": 1, "b": 2}, Frozen(1, 2.0)),
    (
        Named,
        {"private": 1, "type": "t", "from": "f", "in-json": 2, "computed": 9, "other": 5, "kind": 5},
        Named(private=1, type="t", from_="f", other=2),
    ),
    (Converted, {"size": 2, "name": "a"}, Converted(2, "a")),
    (Id, "a", "a"),
    (Deep, ["a"], ["a"]),
    (Number_, 1, 1),
    (list[Annotated[Point, "p"]], [{"x": 1}], [Point(1)]),
    (Annotated[Point | None, "p"], None, None),
    (Permission, 3, Permission.READ | Permission.WRITE),
    (Version, 1, Version.ONE),
    (Version, 1.5, Version.ONE_AND_A_HALF),
    (Shape, "square", Shape.SQUARE),
    (Shape, 0, Shape.ROUND),
    (Literal["a", "b"], "b", "b"),
    (Literal[1], 1, 1),
    (Literal[True], True, True),
    (Literal[Mood.GOOD], "good", Mood.GOOD),
    (Literal[Number.ONE, "x"], 1, Number.ONE),
    (Literal[None], None, None),
    (None, None, None),
]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("cast_to", "value", "expected"), FITTING, ids=str)
def test_what_fits_is_the_same_loose_and_strict(cast_to: Any, value: object, expected: object, strict: bool) -> None:
    before = copy.deepcopy(value)
    decoded = outcome(value, cast_to, strict)
    assert same(decoded, expected), decoded
    assert value == before


NOT_FITTING: list[tuple[Any, object, object, Problems]] = [
    # cast_to, JSON, loose, strict
    (Place, "ab", P(": expected an object (Place), got a string"), P(": expected an object (Place), got a string")),
    (Place, [1, 2, [], 4], P(": expected an object (Place), got an array"), P(": expected an object (Place), got an array")),
    (Place, {"x": "1"}, Place("1"), P(".x: expected an integer, got a string")),  # type: ignore[arg-type]
    (Place, {"y": 1}, P(".x: missing"), P(".x: missing")),
    (Typed, {"id": "1", "name": None}, {"id": "1", "name": None}, P(".id: expected an integer, got a string", ".name: expected a string, got null")),
    (Typed, {"name": "a"}, P(".id: missing"), P(".id: missing")),
    (Inner, {"points": [{}], "typed": {}}, P(".typed.id: missing", ".points[0].x: missing"), P(".typed.id: missing", ".points[0].x: missing")),
    (Dotted, {}, P('["a.b"]: missing'), P('["a.b"]: missing')),
    (Dotted, {"a.b": "x"}, {"a.b": "x"}, P('["a.b"]: expected an integer, got a string')),
    (Keyed, {"b": 1}, P(".a: missing"), P(".a: missing", ".b: expected a string, got a number")),
    (Keyed, {"a": 1, "c": ["x", 1]}, Keyed(a=1, c=["x", 1]), P(".c[0]: expected an integer, got a string")),  # type: ignore[list-item]
    (Keyed, {"a": 1, "c": "abc"}, Keyed(a=1, c="abc"), P(".c: expected an array, got a string")),  # type: ignore[arg-type]
    (Keyed, {"a": 1, "from": 2}, Keyed(a=1, from_=2), P(".from: expected a string, got a number")),  # type: ignore[arg-type]
    (Frozen, {"a": None, "b": "x"}, Frozen(None, "x"), P(".a: expected an integer, got null", ".b: expected a number, got a string")),  # type: ignore[arg-type]
    (Named, {}, P(".private: missing", ".type: missing"), P(".private: missing", ".type: missing")),
    (Named, {"private": 1, "type": "t", "in-json": "x"}, Named(private=1, type="t", other="x"), P('["in-json"]: expected an integer, got a string')),  # type: ignore[arg-type]
    (Converted, {"size": "ab"}, Converted("ab"), P(".size: expected an integer, got a string")),  # type: ignore[arg-type]
    (Converted, {"name": 5}, P(": Converted refuses it (TypeError)"), P(".name: expected a string, got a number")),
    (dict[str, Point], {"a": {}, "b": {}}, P(".a.x: missing", ".b.x: missing"), P(".a.x: missing", ".b.x: missing")),
    (dict[str, list[int]], {"a": [1, None], "b": 1}, {"a": [1, None], "b": 1}, P(".a[1]: expected an integer, got null", ".b: expected an array, got a number")),
    (Deep, ["a", 1], ["a", 1], P("[1]: expected a string, got a number")),
    (set[int], ["a"], {"a"}, P("[0]: expected an integer, got a string")),
    (Permission, 8, 8, P(": expected a member of Permission, got a number")),
    (Permission, "READ", "READ", P(": expected a member of Permission, got a string")),
    (Version, "1", "1", P(": expected a member of Version, got a string")),
    (Number, 1.0, 1.0, P(": expected a member of Number, got a number")),
    (Literal[1, 2], True, P(": expected one of 2 values, got a boolean"), P(": expected one of 2 values, got a boolean")),
    (Literal[True], 1, P(": expected one of 1 values, got a number"), P(": expected one of 1 values, got a number")),
    (Literal[1], 1.0, P(": expected one of 1 values, got a number"), P(": expected one of 1 values, got a number")),
    (list[Literal[0]], [False], [False], P("[0]: expected one of 1 values, got a boolean")),
    (Literal[Mood.GOOD], "bad", P(": expected one of 1 values, got a string"), P(": expected one of 1 values, got a string")),
    # The first element of an array is [0], whatever the class calls it.
    (Place, [], P("[0]: missing"), P("[0]: missing")),
    (list[Place], [["a", 1]], [Place("a", 1)], P("[0][0]: expected an integer, got a string")),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(("cast_to", "value", "loose", "strict"), NOT_FITTING, ids=str)
def test_what_does_not_fit(cast_to: Any, value: object, loose: object, strict: Problems) -> None:
    assert outcome(value, cast_to, strict=True) == strict
    decoded = outcome(value, cast_to, strict=False)
    assert same(decoded, loose), decoded


class READ_ONLY(typing_extensions.TypedDict):
    id: typing_extensions.ReadOnly[int]
    name: typing_extensions.NotRequired[str]


class ReadOnlyAndRequired(typing_extensions.TypedDict, total=False):
    id: typing_extensions.ReadOnly[typing_extensions.Required[int]]
    name: str


class Extension(typing_extensions.TypedDict):
    id: int
    name: typing_extensions.NotRequired[str]


@pytest.mark.parametrize("cast_to", [Extension, READ_ONLY, ReadOnlyAndRequired])
def test_typed_dicts_of_typing_extensions(cast_to: Any) -> None:
    """Code for Python 3.11 takes ReadOnly from there, and generated SDKs take TypedDict from there always."""
    assert outcome({"id": 1, "name": "a", "other": 2}, cast_to, strict=True) == {"id": 1, "name": "a"}
    assert outcome({"name": "a"}, cast_to, strict=False) == P(".id: missing")
    assert outcome({"id": "x"}, cast_to, strict=True) == P(".id: expected an integer, got a string")


def test_annotations_that_have_no_hash() -> None:
    @attrs.define
    class Holder:
        numbers: list[Annotated[int, {"gt": 0}]]
        one: Annotated[int | None, ["a"]] = None

    for strict in (False, True):
        assert outcome({"numbers": [1], "one": 2}, Holder, strict) == Holder([1], 2)
        assert outcome(1, Annotated[int, {"gt": 0}], strict) == 1
    assert outcome("x", Annotated[int, {"gt": 0}], True) == P(": expected an integer, got a string")


# --- unions, more of them ------------------------------------------------------------------------------------------

DAY, NOON = datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1, 12)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("cast_to", "value", "expected"),
    [
        (int | float, 1, 1),
        (float | int, 1, 1),
        (float | int, 1.5, 1.5),
        (float | None, 1, 1.0),
        (bool | int, 1, 1),
        (int | bool, True, True),
        (str | None, "", ""),
        (datetime.date | str, "2024-01-01", DAY),
        (str | datetime.date, "2024-01-01", "2024-01-01"),
        (datetime.datetime | datetime.date, "2024-01-01T12:00:00", NOON),
        (datetime.date | datetime.datetime, "2024-01-01T12:00:00", NOON),
        (datetime.date | datetime.datetime, "2024-01-01", DAY),
        (datetime.datetime | None, "2024-01-01T12:00:00", NOON),
        (uuid.UUID | str, "x", "x"),
        (uuid.UUID | str, "00000000-0000-0000-0000-000000000001", uuid.UUID(int=1)),
        (str | uuid.UUID, "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000001"),
        (int | datetime.date | None, "2024-01-01", DAY),
        (Literal["auto"] | int, "auto", "auto"),
        (Literal["auto"] | int, 3, 3),
        (Literal["auto"] | str, "other", "other"),
        (Colour | int, "red", Colour.RED),
        (Colour | str, "red", Colour.RED),
        (str | Colour, "red", "red"),
        (Point | str, {"x": 1}, Point(1)),
        (Point | str, "x", "x"),
        (list[Point] | Point, [{"x": 1}], [Point(1)]),
        (list[Point] | Point, {"x": 1}, Point(1)),
        (list[int] | list[str], ["a"], ["a"]),
        (list[str] | str, [], []),
        (dict[str, int] | Point, {"a": 1}, {"a": 1}),
        (Point | dict[str, Any], {"a": 1}, {"a": 1}),
        (tuple[int, int] | tuple[int, str], [1, "a"], (1, "a")),
        (Cat | Dog | str, "x", "x"),
        (Cat | Dog | list[Cat | Dog], [{"kind": "cat", "lives": 1}], [Cat(1)]),
        (Union[None, Cat, Dog], {"kind": "dog", "name": "d"}, Dog("d")),  # noqa: UP007
        (list[Cat | Dog | None], [None, {"kind": "puppy", "name": "d"}], [None, Dog("d", "puppy")]),
        (dict[str, Red | Blue], {"a": {"n": 1, "colour": "red"}}, {"a": Red(1)}),
        (object | None, {"a": 1}, {"a": 1}),
        *((tp | None, None, None) for tp in (str, Point, Cat | Dog, list[int], dict[str, Point], Place)),
        *(
            (tp | None, None, None)
            for tp in (datetime.date, datetime.datetime, uuid.UUID, decimal.Decimal, Colour, Mood)
        ),
        *((Optional[tp], None, None) for tp in (Literal["a"], Colour | int, datetime.date | str)),  # noqa: UP045
    ],
    ids=str,
)
def test_unions_that_fit(cast_to: Any, value: object, expected: object, strict: bool) -> None:
    decoded = outcome(value, cast_to, strict)
    assert same(decoded, expected), decoded


@pytest.mark.parametrize(
    ("cast_to", "value", "loose", "strict"),
    [
        (int | str, None, P(": expected one of 2 kinds, got null"), P(": expected one of 2 kinds, got null")),
        (Point | None, {}, P(".x: missing"), P(".x: missing")),
        (Point | None, {"x": "a"}, Point("a"), P(".x: expected an integer, got a string")),  # type: ignore[arg-type]
        (Point | Line, {}, P(": expected one of 2 kinds, got an object"), P(": expected one of 2 kinds, got an object")),
        (list[Point | Line], [{}], [{}], P("[0]: expected one of 2 kinds, got an object")),
        (Colour | None, "green", "green", P(": expected a member of Colour, got a string")),
        (Cat | Dog, {"kind": "cat", "lives": "9"}, Cat("9"), P(".lives: expected an integer, got a string")),  # type: ignore[arg-type]
        (Cat | Dog, {"kind": ["cat"]}, {"kind": ["cat"]}, P(": expected one of 2 kinds, got an object")),
        (Cat | Dog, {"kind": None}, {"kind": None}, P(": expected one of 2 kinds, got an object")),
        (First | Second, {"type": True}, {"type": True}, P(": expected one of 2 kinds, got an object")),  # true is not 1
        (First | Second, {"type": 1.0}, {"type": 1.0}, P(": expected one of 2 kinds, got an object")),
        (list[Cat | Dog | None], [5], [5], P("[0]: expected one of 3 kinds, got a number")),
        (datetime.date | None, "soon", P(": expected an ISO 8601 date, got a string"), P(": expected an ISO 8601 date, got a string")),
        (list[datetime.date | None], ["soon"], ["soon"], P("[0]: expected an ISO 8601 date, got a string")),
    ],
    ids=str,
)  # fmt: skip
def test_unions_that_do_not_fit(cast_to: Any, value: object, loose: object, strict: Problems) -> None:
    assert outcome(value, cast_to, strict=True) == strict
    decoded = outcome(value, cast_to, strict=False)
    assert same(decoded, loose), decoded


# --- fields that the class does not know -----------------------------------------------------------------------------


@attrs.define
class Open:
    id: int
    type_: str = attrs.field(default="", alias="type")
    more: dict[str, object] = extra_fields()  # noqa: RUF009


@attrs.frozen(slots=False)
class OpenBox(Generic[T]):
    item: T
    rest: dict[str, object] = extra_fields()  # noqa: RUF009


def test_extra_fields_both_ways() -> None:
    value: dict[str, Any] = {"id": 1, "type": "t", "new": [1, {"a": None}], "more": 2, "type_": 3}
    for strict in (False, True):
        made = CODEC.decode(value, Open, strict=strict)
        assert made == Open(1, "t", more={"new": [1, {"a": None}], "more": 2, "type_": 3})
    assert CODEC.to_plain(made) == value
    assert CODEC.to_plain(Open(1, more={"id": 2, "type": 3, "x": Point(1)})) == {  # what the class knows wins
        "id": 1,
        "type": "",
        "x": {"x": 1, "y": 0.0},
    }
    box = CODEC.decode({"item": value, "new": True}, OpenBox[Open], strict=True)
    assert box == OpenBox(made, rest={"new": True})
    assert CODEC.to_plain(box) == {"item": value, "new": True}
    assert Open(1).more == {}
    with pytest.raises(TypeError):
        Open(1, "t", {})  # type: ignore[misc]
    assert outcome({"more": {"id": 1}}, Open, strict=False) == P(".id: missing")


# --- problems: all at once, each with its path, in one line, without values ---------------------------------------------


@attrs.define
class Order:
    id: int
    lines: list[Line]
    by_name: dict[str, Point]
    pet: Cat | Dog
    when: datetime.datetime
    colour: Colour = Colour.RED
    place: tuple[int, int] = (0, 0)
    chain: Chain | None = None


def test_all_problems_at_once() -> None:
    value = {
        "id": "secret",
        "lines": [{"start": {"x": 1}, "tags": ["a", 5]}, {"start": {}}],
        "by_name": {"a b": {"x": None}, "c": {}},
        "pet": {"kind": "cat", "lives": "secret"},
        "when": "secret",
        "colour": "secret",
        "place": [1, "secret"],
        "chain": {"next": {"next": 5}},
    }
    assert problems(value, Order, strict=True) == [
        "$.id: expected an integer, got a string",
        "$.lines[0].tags[1]: expected a string, got a number",
        "$.lines[1].start.x: missing",
        '$.by_name["a b"].x: expected an integer, got null',
        "$.by_name.c.x: missing",
        "$.pet.lives: expected an integer, got a string",
        "$.when: expected an ISO 8601 date and time, got a string",
        "$.colour: expected a member of Colour, got a string",
        "$.place[1]: expected an integer, got a string",
        "$.chain.next.next: expected an object (Chain), got a number",
    ]
    assert problems(value, Order) == ["$.lines[1].start.x: missing", "$.by_name.c.x: missing"]


@pytest.mark.parametrize(
    "key",
    ["a\nb", 'a"b', "a\\b", "", " ", "a.b", "a[0]", "\x1b[31m", "\u2028", "\x85", "é" * 500, "x" * 100_000, "1", "a'"],
    ids=repr,
)
def test_odd_keys_in_paths_are_one_bounded_line(key: str) -> None:
    for value, cast_to in (
        ({key: {}}, dict[str, Point]),
        ({key: "x"}, dict[str, int]),
        ({key: [[{key: 1}]]}, dict[str, list[list[dict[str, str]]]]),
    ):
        (problem,) = problems(value, cast_to, strict=True)
        assert len(problem.splitlines()) == 1
        assert problem.isprintable()
        assert len(problem) < 1200  # twice 80 characters, which an escape makes six of
        path = problem.rpartition(": ")[0] if cast_to != dict[str, Point] else problem.partition("].x: ")[0] + "]"
        assert path.startswith('$["')
        with pytest.raises(DoesNotFit) as caught:
            CODEC.decode(value, cast_to, strict=True)
        assert len(str(caught.value).splitlines()) == 1


def test_the_message_shows_ten_problems_and_the_error_has_all() -> None:
    client = AsyncAPIClient(base_url="http://h", http_client=MockTransport(lambda _: Response(json=[{}] * 5000)))
    with pytest.raises(DecodeError) as caught:
        anyio.run(lambda: client.get("/", cast_to=list[Point]))
    error = caught.value
    assert error.problems == [f"$[{n}].x: missing" for n in range(5000)]
    assert error.message.endswith("; $[9].x: missing; and 4990 more")
    assert len(str(error)) < 400
    assert len("".join(traceback.format_exception(error))) < 10_000
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


SECRET = "s3cret-value"


@pytest.mark.parametrize(
    "cast_to",
    [
        *(int, float, bool, type(None), datetime.datetime, datetime.date, datetime.time, uuid.UUID, decimal.Decimal),
        *(list[int], dict[str, int], tuple[int, str], Point, Line, Place, Typed, Colour, Number, Literal["a"]),
        *(Cat | Dog, int | None, Point | Line, First | Second, Order, Frozen, Keyed),
    ],
    ids=str,
)
def test_values_never_appear_in_problems(cast_to: Any) -> None:
    names = ("x", "id", "start", "kind", "type", "a", "private", "lives", "name", "0")
    values: list[Any] = [SECRET, [SECRET], [[SECRET]], dict.fromkeys(names, SECRET)]
    for value in [*values, [values], dict.fromkeys(names, values)]:
        for strict in (False, True):
            found = outcome(value, cast_to, strict)
            if isinstance(found, Problems):
                assert SECRET not in "".join(found)
                with pytest.raises(DoesNotFit) as caught:
                    CODEC.decode(value, cast_to, strict=strict)
                assert SECRET not in "".join(traceback.format_exception(caught.value))
            else:
                assert not strict  # a string stands nowhere there


# --- what a server can make us do -----------------------------------------------------------------------------------


class Counted:
    """A class whose hook counts; it takes nothing but 1."""


class Counting:
    def __init__(self, limit: int) -> None:
        self.calls = 0
        self.limit = limit
        converter = cattrs.Converter()
        converter.register_structure_hook(Counted, self.hook)
        self.codec = Codec(converter)

    def hook(self, value: Any, _: Any) -> int:
        self.calls += 1
        if self.calls > self.limit:
            raise Enough(f"{self.calls} calls for one value")
        if value != 1:
            raise ValueError(value)
        return 1


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("wrap", [lambda tp: list[tp], lambda tp: dict[str, tp], lambda tp: tuple[tp, ...]])
@pytest.mark.parametrize("depth", [12, 100])
def test_a_bad_leaf_in_nested_containers_is_looked_at_once_a_level_at_most(
    depth: int, wrap: Callable[[Any], Any], strict: bool
) -> None:
    cast_to: Any = Counted
    value: Any = 2
    for _ in range(depth):
        cast_to = wrap(cast_to)
        value = {"a": value} if cast_to.__origin__ is dict else [value]
    counting = Counting(limit=5 * depth)
    found = outcome(value, cast_to, strict, counting.codec)
    step = ".a" if cast_to.__origin__ is dict else "[0]"
    if strict:
        assert found == P(f"{step * depth}: ValueError")
    else:
        assert repr(found).count("2") == 1


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """For work that might not come to an end: nearly out of stack, even a hook that counts is not reached."""

    def over(*_: object) -> None:
        raise Enough(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@attrs.define
class Tree:
    leaf: Counted
    needed: int
    children: list[Tree] = attrs.field(factory=list)
    by_name: dict[str, Tree] = attrs.field(factory=dict)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("depth", [12, 100])
def test_a_bad_leaf_in_a_tree_costs_no_more_than_a_good_one(depth: int, strict: bool) -> None:
    for bottom, end in (({"leaf": 1}, "needed: missing"), ({"leaf": 1, "needed": "x"}, "needed: expected an integer, got a string")):  # fmt: skip
        value: Any = bottom
        for n in range(depth):
            value = {"leaf": 1, "needed": 1, **({"children": [value]} if n % 2 else {"by_name": {"k": value}})}
        counting = Counting(limit=5 * depth)
        found = outcome(value, Tree, strict, counting.codec)
        if strict or "missing" in end:
            assert isinstance(found, Problems)
            assert len(found) == 1
            assert found[0].endswith(end)
        else:
            assert isinstance(found, Tree)


@attrs.define
class Both:
    a: int
    leaf: Counted
    children: list[Both | Other] = attrs.field(factory=list)


@attrs.define
class Other:
    b: int
    leaf: Counted
    children: list[Both | Other] = attrs.field(factory=list)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("bottom", [1, 2])
def test_unions_inside_unions_do_not_double_the_work_at_each_level(bottom: int, strict: bool) -> None:
    value: Any = {"b": 1, "leaf": bottom}
    depth = 14
    for _ in range(depth):
        value = {"b": 1, "leaf": 1, "children": [value]}
    counting = Counting(limit=depth * depth * 5)
    found = outcome(value, Other, strict, counting.codec)
    assert isinstance(found, Other) == (bottom == 1 or not strict)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("how", ["children", "by_name"])
@pytest.mark.parametrize("bottom", [1, 2])
@pytest.mark.parametrize("depth", [200, 600, 3000])
def test_deep_nesting_is_fine_or_an_error(depth: int, bottom: int, how: str, strict: bool) -> None:
    value: Any = {"leaf": bottom, "needed": 1}
    for _ in range(depth):
        value = {"leaf": 1, "needed": 1, how: [value] if how == "children" else {"k": value}}
    with at_most(2.0):
        found = outcome(value, Tree, strict, Counting(limit=4 * depth).codec)
    if isinstance(found, Problems):
        assert len(found) == 1
        assert found == P(": nested too deeply") or (strict and bottom == 2)
    else:
        assert isinstance(found, Tree)
    while how in value:  # or its destruction would recurse
        value = value.pop(how)[0 if how == "children" else "k"]


def test_large_values() -> None:
    points = [{"x": n, "y": n / 2} for n in range(20_000)]
    began = time.perf_counter()
    assert len(CODEC.decode(points, list[Point], strict=True)) == 20_000
    assert len(CODEC.decode({str(n): {"x": "bad"} for n in range(20_000)}, dict[str, Point])) == 20_000
    assert len(problems([{}] * 20_000, list[Point])) == 20_000
    assert CODEC.decode(["x" * 5_000_000], list[str]) == ["x" * 5_000_000]
    assert CODEC.decode("9" * 4000, decimal.Decimal) == decimal.Decimal("9" * 4000)
    assert time.perf_counter() - began < 10  # some 0.3 s where nobody else is at work


def test_hooks_are_made_once_a_type(monkeypatch: pytest.MonkeyPatch) -> None:
    made: collections.Counter[Any] = collections.Counter()

    def counted(tp: Any) -> Any:
        made[tp] += 1
        return fields_of(tp)

    monkeypatch.setattr(_decode, "fields_of", counted)
    codec = Codec()
    order = {
        "id": 1,
        "lines": [{"start": {"x": 1}}],
        "by_name": {"a": {"x": 1}},
        "when": "2024-01-01",
        "pet": {"kind": "cat", "lives": 1},
        "chain": {"next": {}},
    }
    codec.decode(order, Order)
    codec.decode([order], list[Order])
    first = dict(made)
    assert {Order, Line, Point, Chain} <= set(first)
    assert max(first.values()) == 1
    for cast_to, value in (
        (Order, order),
        (list[Order], [order] * 3),
        (Order | None, order),
        (dict[str, Order], {"a": order}),
    ):
        for _ in range(3):
            codec.decode(value, cast_to)
    assert made == first


# --- encoding: there and back ---------------------------------------------------------------------------------------


@attrs.define
class Leaf:
    n: int
    ratio: float
    name: str = attrs.field(alias="type")
    _hidden: bool | None = None
    when: datetime.datetime | None = None
    day: datetime.date = DAY
    colour: Colour = attrs.field(default=Colour.RED, metadata={"json": "the colour"})
    anything: object = None


@attrs.frozen
class OpenLeaf:
    id: uuid.UUID
    mood: Mood | None = None
    price: decimal.Decimal = decimal.Decimal(1)
    more: dict[str, object] = extra_fields()  # noqa: RUF009


class Note(TypedDict):
    leaf: Leaf
    text: NotRequired[str]


@dataclass(kw_only=True)
class Branch:
    leaves: list[Leaf | OpenLeaf]
    notes: dict[str, Note] = field(default_factory=dict)
    branches: list[Branch] = field(default_factory=list)
    place: Place = Place(0)  # noqa: RUF009
    pair: tuple[int, str] | None = None
    from_: str = field(default="", metadata={"json": "from"})
    numbers: frozenset[int] = frozenset()
    pet: Cat | Dog | None = None


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
LEAVES = st.builds(
    Leaf,
    n=st.integers(),
    ratio=st.floats(allow_nan=False, allow_infinity=False),
    type=st.text(),
    hidden=st.none() | st.booleans(),
    when=st.none() | st.datetimes(timezones=st.none() | st.just(datetime.UTC)),
    day=st.dates(),
    colour=st.sampled_from(Colour),
    anything=PLAIN,
)
OPEN_LEAVES = st.builds(
    OpenLeaf,
    id=st.uuids(),
    mood=st.none() | st.sampled_from(Mood),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    more=st.dictionaries(st.text().filter(lambda name: name not in ("id", "mood", "price")), PLAIN, max_size=3),
)
NOTES = st.fixed_dictionaries({"leaf": LEAVES}, optional={"text": st.text()})
BRANCHES: st.SearchStrategy[Branch] = st.deferred(
    lambda: st.builds(
        Branch,
        leaves=st.lists(LEAVES | OPEN_LEAVES, max_size=3),
        notes=st.dictionaries(st.text(), NOTES, max_size=2),
        branches=st.lists(BRANCHES, max_size=2),
        place=st.builds(Place, st.integers(), st.integers(), st.lists(st.text(), max_size=2)),
        pair=st.none() | st.tuples(st.integers(), st.text()),
        from_=st.text(),
        numbers=st.frozensets(st.integers(), max_size=3),
        pet=st.none() | st.builds(Cat, st.integers()) | st.builds(Dog, st.text(), st.sampled_from(["dog", "puppy"])),
    )
)


@settings(max_examples=examples(120), phases=set(Phase) - {Phase.explain})  # to explain takes a minute
@hypothesis.given(BRANCHES, st.booleans())
def test_what_was_encoded_decodes_to_the_same(branch: Branch, strict: bool) -> None:
    before = copy.deepcopy(branch)
    encoded = CODEC.encode(branch)
    assert branch == before
    assert CODEC.decode(_json.loads(encoded), Branch, strict=strict) == branch


@settings(max_examples=examples(100))
@hypothesis.given(PLAIN)
def test_plain_json_stays_what_it_is(value: Any) -> None:
    assert same(CODEC.decode(_json.loads(CODEC.encode(value)), object), value)
    assert same(CODEC.to_plain(value), value)


def test_a_value_with_wrong_fields_goes_back_as_it_came() -> None:
    for value, cast_to in (
        ({"x": "a", "y": None}, Point),
        ({"kind": "bird", "wings": 2}, Cat | Dog),
        (["green"], list[Colour]),
        ({"start": [1], "end": None, "tags": "t", "hidden": 7}, Line),
    ):
        decoded: Any = CODEC.decode(value, cast_to)
        assert CODEC.to_plain(decoded) == value


# --- encoding: what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error", "path"),
    [
        ({"a": [Line(Point(float("nan")))]}, ValueError, "$.a[0].start.x"),  # type: ignore[arg-type]
        ([{"a": float("-inf")}], ValueError, "$[0].a"),
        ({"a": ["ok", "\udc80"]}, ValueError, "$.a[1]"),
        ({"a": {"\ud800": 1}}, ValueError, "$.a"),
        (Point("x\udfff"), ValueError, "$.x"),  # type: ignore[arg-type]
        (Text("\ud800"), ValueError, "$"),
        ({"a": Keyed(a=1, from_="\ud800")}, ValueError, "$.a.from"),
        (Named(private=1, type=b"x"), TypeError, "$.type"),  # type: ignore[arg-type]
        (Open(1, more={"a": [b"x"]}), TypeError, "$.a[0]"),
        (Place(1, 2, [b"x"]), TypeError, "$[2][0]"),  # type: ignore[list-item]
        ((n for n in [1, object()]), TypeError, "$[1]"),
        ({"a": {1, 2j}}, TypeError, "$.a["),
        ({"a": lambda: 1}, TypeError, "$.a"),
        ({"a": {("x", 1): 2}}, TypeError, "$.a"),
        ({"a": {True: 2}}, TypeError, "$.a"),
        (collections.deque([b"x"]), TypeError, "$[0]"),
        ({"a": float}, TypeError, "$.a"),
        ([Line(Point(omit), tags=[omit])], TypeError, "$[0].tags[0]"),  # type: ignore[arg-type, list-item]
        ({'odd "key"\n': object()}, TypeError, "$"),
        ({"k" * 100_000: object()}, TypeError, "$"),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", repr(value))[:60],
)  # fmt: skip
def test_what_is_refused_says_where_in_one_line(value: object, error: type[Exception], path: str) -> None:
    with pytest.raises(error) as caught:
        CODEC.encode(value)
    text = str(caught.value)
    assert text.startswith(path)
    assert len(text.splitlines()) == 1
    assert len(text) < 500


def test_cycles_of_every_kind() -> None:
    record = Line(Point(1))
    record.end = record  # type: ignore[assignment]
    chain = Chain()
    chain.next = Chain(chain)
    mapping: dict[str, Any] = {}
    mapping["a"] = collections.OrderedDict(b=[mapping])
    more = Open(1)
    more.more["me"] = [more]
    for value, path in ((record, "$.end"), (chain, "$.next.next"), (mapping, "$.a.b[0]"), (more, "$.me[0]")):
        with pytest.raises(ValueError) as caught:
            CODEC.encode(value)
        assert str(caught.value).startswith(f"{path} refers back")


def test_deep_values_are_encoded_or_refused_in_linear_time() -> None:
    for depth in (100, 300, 399, 500, 100_000):
        value: Any = Chain()
        for _ in range(depth):
            value = Chain(value)
        began = time.perf_counter()
        try:
            assert CODEC.encode(value).count(b"next") == depth + 1
            assert depth < 500
        except ValueError as exc:
            assert "nested too deeply" in str(exc)
            assert depth >= 300
        assert time.perf_counter() - began < 5
        while value is not None:  # or its destruction would recurse
            value = value.next


@pytest.mark.anyio
async def test_iterators_are_expanded_once_for_all_attempts() -> None:
    bodies: list[object] = []
    asked: list[int] = []

    def numbers() -> Any:
        for n in range(3):
            asked.append(n)
            yield Point(n)

    def handler(request: Request) -> Response:
        bodies.append(request.json())
        return Response(503 if len(bodies) < 3 else 200, json={})

    body: dict[str, Any] = {"points": numbers(), "names": map(str, [1]), "kept": [Point(1)]}
    before = dict(body)
    retry = RetryPolicy(wait_initial=0)
    async with AsyncAPIClient(base_url="http://h", http_client=MockTransport(handler), retry=retry) as client:
        await client.post("/", cast_to=object, body=body)
    expected = {"points": [{"x": n, "y": 0.0} for n in range(3)], "names": ["1"], "kept": [{"x": 1, "y": 0.0}]}
    assert bodies == [expected] * 3
    assert asked == [0, 1, 2]
    assert body == before


# --- hooks of the user's, more of them ------------------------------------------------------------------------------


def test_own_hooks_stand_before_ours_for_classes_scalars_and_predicates() -> None:
    converter = cattrs.Converter()
    converter.register_structure_hook(int, lambda value, _: int(value, 16))
    converter.register_structure_hook(Colour, lambda value, _: Colour(value.lower()))
    converter.register_structure_hook_func(lambda tp: tp is Money, lambda value, _: Money(len(value)))
    converter.register_unstructure_hook(Colour, lambda colour: colour.name)
    converter.register_unstructure_hook_func(lambda tp: tp is Money, lambda money: "m" * money.cents)
    codec = Codec(converter)
    for strict in (False, True):
        assert codec.decode(["ff"], list[int], strict=strict) == [255]
        assert codec.decode({"x": "a", "y": 1}, Point, strict=strict) == Point(10, 1.0)
        assert codec.decode("RED", Colour, strict=strict) is Colour.RED
        assert codec.decode({"c": "RED"}, dict[str, Colour | None], strict=strict) == {"c": Colour.RED}
        assert codec.decode(["abc"], list[Money], strict=strict) == [Money(3)]
    assert codec.to_plain({"money": [Money(2)]}) == {"money": ["mm"]}
    # Another client's are its own, and the converter itself is as it was.
    assert outcome("ff", int, strict=False) == P(": expected an integer, got a string")
    assert converter.structure("ff", int) == 255
    assert converter.structure(["1"], list[str]) == ["1"]
    assert converter.structure(5, str) == "5"


def test_an_own_hook_for_the_encoding_of_an_enum_is_kept() -> None:
    converter = cattrs.Converter()
    converter.register_unstructure_hook(Colour, lambda colour: colour.name)
    assert Codec(converter).to_plain([Colour.RED, {"c": Colour.BLUE}]) == ["RED", {"c": "BLUE"}]
