"""The short ways of encoding and decoding against the long ones, which look at everything: they must say the same."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import itertools
import json
import math
from collections.abc import Callable
from typing import Any, Generic, Literal, NamedTuple, NotRequired, Optional, TypedDict, TypeVar
from unittest import mock

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyio_client import extra_fields, not_given, omit
from anyio_client._convert import Codec, DoesNotFit, _decode
from anyio_client._convert._encode import MAX_DEPTH, MAX_LOOKED_AT, _is_plain
from anyio_client._convert._records import fields_of, is_record
from anyio_client._wire import json as _json
from tests.kit.fuzz import examples

CODEC = Codec()


def outcome(function: Callable[[], Any]) -> Any:
    """What it gives, or how it fails."""
    try:
        value = function()
    except DoesNotFit as exc:
        return DoesNotFit, exc.problems, exc.missing
    except Exception as exc:
        return type(exc), str(exc)
    return type(value), repr(value)  # 1, 1.0 and True are three


# --- encoding -------------------------------------------------------------------------------------------------------


class Text(str):
    pass


class Loud(str):
    """Says something else than it holds."""

    def __str__(self) -> str:
        return self.upper()


class Whole(int):
    pass


class Table(dict[Any, Any]):
    pass


class Row(list[Any]):
    pass


class Colour(enum.Enum):
    RED = "red"


class Mood(enum.StrEnum):
    GOOD = "good"


class Number(enum.IntEnum):
    ONE = 1


@attrs.define
class Point:
    x: Any
    y: Any = 0.0


ODD: list[Any] = [
    "ü", "\ud800", "a\udfff", Text("a"), Text("ü"), Loud("a"), Text("\ud800"), math.nan, math.inf, -math.inf, Whole(3), 2**63,
    2**64, -(2**70), 1e308, -0.0, 5e-324, Colour.RED, Mood.GOOD, Number.ONE, omit, not_given, b"bytes", (1, 2),
    (math.nan,), {"a"}, frozenset((1,)), Table(a=1), Table({1: 2}), Row([1, math.nan]), Point(1), Point("ü", omit), range(3),
    datetime.date(2020, 1, 1), object, print, complex(1), collections.OrderedDict(a=1), collections.Counter("a"),
    "\x00\x1f\"\\/\x7f\u2028",
]  # fmt: skip
KEYS: list[Any] = [
    "a",
    "b",
    "c d",
    "",
    "ü",
    "\ud800",
    Text("t"),
    Loud("l"),
    1,
    None,
    True,
    1.5,
    Colour.RED,
    Mood.GOOD,
    Number.ONE,
    (1,),
]
PLAIN_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
PLAIN_TEXT = st.text(st.characters(max_codepoint=127), max_size=5)


def nested(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
    )


def both_ways(value: Any, codec: Codec = CODEC) -> tuple[Any, Any]:
    return outcome(lambda: codec.encode(value)), outcome(lambda: _json.dumps_plain(codec.to_plain(value)))


@given(nested(PLAIN_LEAVES | PLAIN_TEXT | st.sampled_from(ODD), st.sampled_from(KEYS[:4]) | st.sampled_from(KEYS)))
@settings(max_examples=examples(300))
def test_any_value_is_encoded_as_if_it_had_been_looked_at_whole(value: Any) -> None:
    short, long = both_ways(value)
    assert short == long


@given(nested(PLAIN_LEAVES | PLAIN_TEXT, PLAIN_TEXT))
@settings(max_examples=examples(300))
def test_what_is_plain_is_told_at_once_and_written_as_the_standard_library_does(value: Any) -> None:
    assert _is_plain(value)
    for accelerator in (_json._accelerator, lambda: None):
        with mock.patch.object(_json, "_accelerator", accelerator):
            assert outcome(lambda: json.loads(CODEC.encode(value))) == outcome(lambda: value)
    assert CODEC.encode(value) == _json.dumps_plain(value)


@pytest.mark.parametrize("odd", [*ODD, *({key: 1} for key in KEYS[4:])], ids=itertools.count())
def test_what_is_odd_is_found_wherever_it_is(odd: Any) -> None:
    for value in (
        odd,
        [odd],
        {"a": odd},
        [1, [2, {"a": [odd]}]],
        [[], {}, {"a": {}, "b": [[[[odd]]]]}, 1],
        [*[0] * MAX_LOOKED_AT, odd],
        [odd, *[0] * MAX_LOOKED_AT],
        {"a": [0] * (MAX_LOOKED_AT - 1), "b": odd},
    ):
        short, long = both_ways(value)
        assert short == long


def deep(depth: int, leaf: Any, kind: str) -> Any:
    """*leaf* inside so many containers."""
    for level in range(depth):
        leaf = [leaf] if kind == "lists" or (kind == "both" and level % 2) else {"a": leaf}
    return leaf


@pytest.mark.parametrize("kind", ["lists", "objects", "both"])
@pytest.mark.parametrize("leaf", ["x", "ü", 1, 1.5, True, None, math.nan, [], {}, (), Point(1)])
def test_depth_is_bounded_at_the_same_place(kind: str, leaf: Any) -> None:
    for depth in (1, MAX_DEPTH - 10, *range(MAX_DEPTH - 2, MAX_DEPTH + 4), MAX_DEPTH + 10, 2000):
        short, long = both_ways(deep(depth, leaf, kind))
        assert short == long, depth
    assert outcome(lambda: CODEC.encode(deep(2000, leaf, kind)))[0] is not bytes


@pytest.mark.parametrize("size", [MAX_LOOKED_AT, MAX_LOOKED_AT + 1, 20_000])
@pytest.mark.parametrize("last", [0, "ü", "\ud800", omit])
def test_large_values(size: int, last: Any) -> None:
    row: list[Any] = [*range(size - 1), last]
    shapes: list[Any] = [
        row,
        dict(zip(map(str, range(size)), row, strict=True)),
        [{"a": item} for item in row],
        [[1] * (size // 2), row],
    ]
    for value in shapes:
        short, long = both_ways(value)
        assert short == long


def test_cycles_and_what_is_there_twice() -> None:
    row: list[Any] = [1]
    row.append(row)
    table: dict[str, Any] = {"a": 1, "b": [2]}
    table["b"].append(table)
    wide: list[Any] = []
    wide += [wide, wide]  # twice as much on each level
    for cycle in (row, table, wide, [1, {"a": row}], [row, row], {"a": wide}):
        short, long = both_ways(cycle)
        assert short == long
        assert short[0] is ValueError
    one = {"a": [1, "x"]}
    assert both_ways([one, one, {"b": one}]) == 2 * (
        outcome(lambda: b'[{"a":[1,"x"]},{"a":[1,"x"]},{"b":{"a":[1,"x"]}}]'),
    )
    shared: Any = [1]
    for _ in range(8):
        shared = [shared] * 4
    short, long = both_ways(shared)
    assert short == long
    assert short[0] is bytes


def test_numbers_of_any_size() -> None:
    for number in (2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**4000, 10**5000):
        for value in (number, [number], {"a": [1, number]}):
            short, long = both_ways(value)
            assert short == long


def test_the_value_is_not_changed() -> None:
    value: dict[str, Any] = {"a": [1, {"b": None}], "c": omit}
    inner = value["a"]
    CODEC.encode(value)
    assert value == {"a": [1, {"b": None}], "c": omit}
    assert value["a"] is inner


# --- decoding: the classes ------------------------------------------------------------------------------------------

T = TypeVar("T")


@attrs.define
class Empty:
    pass


@attrs.define
class One:
    x: int


@attrs.define
class Two:
    x: int
    y: str | None = None


@attrs.define
class Optionals:
    a: Optional[int]  # noqa: UP045
    b: float | None = 1.5
    c: bool | str = "c"
    d: list[Any] = attrs.field(factory=list)


@attrs.define
class Anything:
    a: Any
    b: object
    c: object = None


@attrs.define
class Keywords:
    a: int = attrs.field(kw_only=True)
    b: int
    c: int = attrs.field(default=3, kw_only=True)
    d: int = 4


@attrs.define(kw_only=True)
class AllKeywords:
    a: int
    b: str


@attrs.define
class Made:
    a: int
    made: int = attrs.field(init=False, default=7)
    b: int = 2


@attrs.define
class Aliased:
    a: int = attrs.field(alias="b")
    b: int = attrs.field(alias="a")
    _hidden: int = 5
    __more: int = 6


@attrs.define
class Renamed:
    class_: str = attrs.field(metadata={"json": "class"})
    from_: str = attrs.field(metadata={"json": "from"})
    odd: int = attrs.field(default=1, metadata={"json": "a b\n"})
    nameless: int = attrs.field(default=2, metadata={"json": ""})
    self_: int = attrs.field(default=3, metadata={"json": "self"})


@attrs.define
class SameKey:
    a: int = attrs.field(metadata={"json": "k"})
    b: object = attrs.field(metadata={"json": "k"})


def refuse(kind: type[Exception]) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if value in (1, "a"):
            raise kind("no")
        return value

    return convert


def judge(kind: type[Exception]) -> Callable[[Any, Any, Any], None]:
    def validate(instance: Any, attribute: Any, value: Any) -> None:
        refuse(kind)(value)

    return validate


@attrs.define
class Converts:
    a: int = attrs.field(converter=refuse(ValueError))
    b: object = attrs.field(default=0, converter=refuse(TypeError))
    c: object = attrs.field(default=0, converter=refuse(KeyError))


@attrs.define
class Validates:
    a: int = attrs.field(validator=judge(ValueError))
    b: object = attrs.field(default=0, validator=judge(TypeError))
    c: object = attrs.field(default=0, validator=judge(ZeroDivisionError))


@attrs.define
class Doubles:
    a: int = attrs.field(converter=lambda value: value * 2)
    b: str = attrs.field(converter=str.upper)

    def __attrs_post_init__(self) -> None:
        if self.b == "A":
            raise ValueError("no A")


@attrs.define
class Base:
    a: int
    b: str = "b"


@attrs.define
class Derived(Base):
    c: int = 3
    a: str = "a"  # its place is another one now


class Undecorated(Derived):
    """Has the fields of its base, and no say of its own."""


@attrs.frozen
class Frozen:
    a: int
    b: tuple[int, ...] = ()


@attrs.define(init=False)
class OwnInit:
    """Whose arguments have the names of its fields, in an order of their own."""

    x: int
    y: int

    def __init__(self, y: int, x: int) -> None:
        self.x, self.y = x, y


@attrs.define
class OwnKeywordInit:
    x: int
    y: int

    def __init__(self, *, x: int, y: int) -> None:
        self.__attrs_init__(x, y)  # type: ignore[attr-defined]


class OwnInitBelow(One):
    def __init__(self, *, x: int) -> None:
        super().__init__(x)


class OwnInitBelowTwo(Two):
    def __init__(self, y: str | None = None, *, x: int) -> None:
        super().__init__(x, y)


@dataclasses.dataclass
class Data:
    a: int
    b: str = "b"
    made: int = dataclasses.field(default=1, init=False)
    c: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FrozenData:
    a: int | None
    b: object = None


@dataclasses.dataclass
class Refuses:
    a: int
    b: object = None

    def __post_init__(self) -> None:
        if self.a == 1:
            raise ValueError("no")
        if self.b == "a":
            raise OSError("no")


@dataclasses.dataclass(init=False)
class OwnDataInit:
    x: int
    y: int

    def __init__(self, y: int, x: int) -> None:
        self.x, self.y = x, y


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Part(Movie, total=False):
    number: int | None
    rest: object


Odd = TypedDict("Odd", {"class": int, "a b": str, "self": int})


class Place(NamedTuple):
    x: int
    y: float = 0.5
    name: str | None = None


@attrs.define
class Box(Generic[T]):
    value: T
    more: list[T] = attrs.field(factory=list)


@attrs.define
class Pair(Box[T], Generic[T]):
    other: T | None = None


@attrs.define
class Extra:
    a: int
    b: str = "b"
    more: dict[str, object] = extra_fields()  # noqa: RUF009


@attrs.define
class Cat:
    kind: Literal["cat"]
    lives: int = 9


@attrs.define
class Dog:
    kind: Literal["dog"]
    name: str = "rex"


@attrs.define
class Nested:
    one: Two
    many: list[Two]
    by_name: dict[str, Two]
    either: Cat | Dog | None = None
    loose: Two | str | None = None


@attrs.define
class Scalars:
    s: str
    i: int
    f: float
    b: bool
    n: None
    d: datetime.date
    e: Mood
    u: str | datetime.date
    v: datetime.date | str


@attrs.define
class Tree:
    value: int
    left: Optional[Tree] = None  # noqa: UP045
    right: Optional[Tree] = None  # noqa: UP045


RECORDS: list[Any] = [
    Empty, One, Two, Optionals, Anything, Keywords, AllKeywords, Made, Aliased, Renamed, SameKey, Converts, Validates, Doubles,
    Base, Derived, Undecorated, Frozen, OwnInitBelow, Data, FrozenData, Refuses, OwnDataInit, Movie, Part, Odd, Place, Box,
    Box[int], Box[Any], Pair[str], Pair[Two], Extra, Cat, Nested, Scalars, Tree,
]  # fmt: skip
# In the values' own order, where the class has a constructor of its own: found, and not mended yet.
OWN_CONSTRUCTORS: list[Any] = [OwnInit, OwnKeywordInit, OwnInitBelowTwo]
AROUND: list[Callable[[Any], Any]] = [
    lambda tp: tp,
    lambda tp: list[tp],  # type: ignore[valid-type]
    lambda tp: dict[str, tp],  # type: ignore[valid-type]
    lambda tp: tp | None,
    lambda tp: tp | str,
    lambda tp: tuple[tp, ...],  # type: ignore[valid-type]
]

# --- decoding: the values -------------------------------------------------------------------------------------------

SCALARS: list[Any] = [None, True, False, 0, 1, 2, 1.0, 1.5, "", "a", "b", "good", "2020-01-01", "cat"]
OTHERS: list[Any] = [[], [1], ["a"], [None, 2], {}, {"x": 1}, {"x": 1, "y": "a"}, {"x": "a", "y": 1}, {"kind": "cat"}]
ANY = st.sampled_from([*SCALARS, *SCALARS, *OTHERS])


def fitting(tp: Any) -> list[Any]:
    """Scalars that a field of this type may well have."""
    found = [value for value in SCALARS if type(value) in CODEC._decoder._accepts(tp)]
    return found or SCALARS + OTHERS


@st.composite
def objects(draw: st.DrawFn, tp: Any) -> Any:
    """A JSON value for a record: mostly an object with all of its fields, of types that they take."""
    if draw(st.integers(0, 19)) == 0:
        return draw(ANY | st.lists(ANY, max_size=4))
    made: dict[str, Any] = {}
    whole = draw(st.booleans())
    for field in fields_of(tp):
        if field.extra or (not whole and draw(st.integers(0, 3)) == 0):
            continue
        inner = field.type
        if is_record(inner) and draw(st.booleans()):
            made[field.key] = draw(objects(inner)) if not isinstance(draw(st.none()), int) else None
        else:
            made[field.key] = draw(st.sampled_from(fitting(inner)) if whole or draw(st.booleans()) else ANY)
    if draw(st.integers(0, 2)) == 0:
        made[draw(st.sampled_from(["unknown", "a", "x", "self"]))] = draw(ANY)
    if draw(st.booleans()):
        made = dict(reversed(made.items()))
    return made


def wrapped(tp: Any, place: int, value: Any) -> Any:
    return [value, [value, value], {"k": value}, value, value, [value]][place]


@given(st.data())
@settings(max_examples=examples(80))
def test_what_was_decoded_before_makes_no_difference(data: st.DataObject) -> None:
    """One codec after many values, against one that remembers nothing."""
    tp = data.draw(st.sampled_from(RECORDS))
    place = data.draw(st.integers(0, len(AROUND) - 1))
    cast_to = AROUND[place](tp)
    values = data.draw(st.lists(objects(tp), min_size=1, max_size=8))
    subject = Codec()
    for value in [*values, *values, *reversed(values)]:
        for strict in (False, True):
            given_value = wrapped(tp, place, value)
            before = repr(given_value)
            for _ in range(2):
                found = outcome(lambda: subject.decode(given_value, cast_to, strict=strict))
                assert repr(given_value) == before
            with mock.patch.object(_decode, "MAX_USUAL", 0):
                expected = outcome(lambda: FORGETFUL.decode(given_value, cast_to, strict=strict))
            assert found == expected


FORGETFUL = Codec()  # used with MAX_USUAL = 0 only, so that each value is looked at with care


def whole(tp: Any, step: int) -> dict[str, Any]:
    """An object with all fields of a record, of types that they take, no two alike where that can be."""
    made: dict[str, Any] = {}
    for place, field in enumerate(field for field in fields_of(tp) if not field.extra):
        values = fitting(field.type)
        made[field.key] = values[(place + step) % len(values)]
    return made


def same_as_the_first_time(tp: Any) -> None:
    values = [whole(tp, 0), whole(tp, 1), {**whole(tp, 2), "unknown": 1}, dict(reversed(whole(tp, 3).items())), {}, [1]]
    for strict in (False, True):
        with mock.patch.object(_decode, "MAX_USUAL", 0):
            expected = [outcome(lambda: FORGETFUL.decode(value, tp, strict=strict)) for value in values]
        assert outcome(lambda: Codec().decode(values[0], tp, strict=strict)) == expected[0]
        subject = Codec()
        for _ in range(3):
            assert [outcome(lambda: subject.decode(value, tp, strict=strict)) for value in values] == expected


@pytest.mark.parametrize("tp", RECORDS)
def test_a_second_time_is_as_the_first(tp: Any) -> None:
    same_as_the_first_time(tp)


@pytest.mark.parametrize("tp", OWN_CONSTRUCTORS)
def test_a_second_time_is_as_the_first_with_a_constructor_of_ones_own(tp: Any) -> None:
    same_as_the_first_time(tp)


def test_what_a_record_was_made_of_is_its_own() -> None:
    codec = Codec()
    value = {"a": 1, "b": 2.5, "c": "c", "d": [1]}
    made = [codec.decode(value, Optionals) for _ in range(4)]
    assert len({id(one) for one in made}) == 4
    short = [codec.decode({"a": 1}, Optionals) for _ in range(4)]
    assert len({id(one.d) for one in short}) == 4
    typed = [codec.decode({"title": "t", "year": 1}, Movie) for _ in range(4)]
    assert len({id(one) for one in typed}) == 4
    typed[0]["title"] = "changed"
    assert codec.decode({"title": "t", "year": 1}, Movie) == {"title": "t", "year": 1}


def test_more_combinations_of_types_than_are_remembered() -> None:
    codec = Codec()
    kinds: list[Any] = [None, True, 1, 1.5, "a", [], {}]
    for _ in range(3):
        for a in kinds:
            for b in kinds:
                for c in kinds:
                    found = codec.decode({"a": a, "b": b, "c": c}, Anything)
                    assert repr(found) == repr(Anything(a, b, c))
    assert len(kinds) ** 3 > _decode.MAX_USUAL


def test_loose_and_strict_do_not_share_what_they_remember() -> None:
    codec = Codec()
    wrong: Any = {"x": "no int", "y": 1}
    for _ in range(3):
        assert codec.decode({"x": 1, "y": "a"}, Two) == Two(1, "a")
        assert codec.decode(wrong, Two) == Two("no int", 1)  # type: ignore[arg-type]
        assert codec.decode({"x": 1, "y": "a"}, Two, strict=True) == Two(1, "a")
        with pytest.raises(DoesNotFit) as caught:
            codec.decode(wrong, Two, strict=True)
        assert caught.value.problems == [
            ".x: expected an integer, got a string",
            ".y: expected one of 2 kinds, got a number",
        ] or [problem.partition(":")[0] for problem in caught.value.problems] == [".x", ".y"]


def test_a_subclass_of_a_json_type_takes_the_long_way() -> None:
    """A decoder of one's own (json.loads with hooks) may give such."""
    codec = Codec()
    for value in ({"x": 1, "y": "a"}, {"x": True, "y": "a"}, Table(x=1, y="a"), {"x": Whole(1), "y": Text("a")}):
        expected = outcome(lambda: Codec().decode(value, Two))
        for _ in range(3):
            assert outcome(lambda: codec.decode(value, Two)) == expected


def test_two_classes_of_one_name_are_two() -> None:
    codec = Codec()
    one = attrs.make_class("Same", {"a": attrs.field(type=int), "b": attrs.field(type=int)})
    two = attrs.make_class("Same", {"b": attrs.field(type=int), "a": attrs.field(type=int)})
    for _ in range(3):
        assert codec.decode({"a": 1, "b": 2}, one) == one(a=1, b=2)
        assert codec.decode({"a": 1, "b": 2}, two) == two(a=1, b=2)


def test_a_class_that_cannot_be_decoded_is_told_so_each_time() -> None:
    codec = Codec()

    class Plain:
        pass

    first = outcome(lambda: codec.decode({}, Plain))
    assert first[0] is TypeError
    for _ in range(2):
        assert outcome(lambda: codec.decode({}, Plain)) == first
        assert outcome(lambda: codec.decode({}, Plain, strict=True)) == first


@attrs.define
class Nested:
    below: Nested | None
    leaf: int


def test_what_does_not_fit_far_below_is_looked_at_once() -> None:
    """Each level would look twice at what is below it: 2**40 looks."""
    codec = Codec()
    good: Any = None
    bad: Any = None
    for _ in range(40):
        good = {"below": good, "leaf": 1}
        bad = {"below": bad, "leaf": 1 if bad else "x"}
    assert codec.decode(good, Nested, strict=True).leaf == 1
    with pytest.raises(DoesNotFit) as caught:
        codec.decode(bad, Nested, strict=True)
    [problem] = caught.value.problems
    assert problem.startswith(".below" * 39 + ".leaf")
