"""Between JSON and Python values: what decodes to what, what a wrong value becomes, and what cannot be encoded."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import pathlib
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    TypedDict,
    TypeVar,
)

import attrs
import cattrs
import pytest

from anyio_client import not_given, omit
from anyio_client._convert import Codec, DoesNotFit

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
