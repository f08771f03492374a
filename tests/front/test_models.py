"""Classes of pydantic and msgspec as ``cast_to``, as fields, and in bodies: their own rules, and our promises."""

from __future__ import annotations

import datetime
import decimal
import enum
import re
import traceback
import uuid
import warnings
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, TypeVar

import attrs
import msgspec
import pydantic
import pytest
from pydantic.alias_generators import to_camel

from anyio_client._convert import Codec, DoesNotFit

T = TypeVar("T")
CODEC = Codec()
SECRET = "s3cret-value"
DAY = datetime.date(2024, 1, 1)


class Problems(tuple[str, ...]):
    """What a decoding met, in the place of its result."""


def P(*texts: str) -> Problems:
    return Problems(f"${text}" for text in texts)


def outcome(value: object, cast_to: Any, strict: bool) -> Any:
    try:
        return CODEC.decode(value, cast_to, strict=strict)
    except DoesNotFit as exc:
        return P(*exc.problems)


class Colour(enum.Enum):
    RED = "red"


class Pet(pydantic.BaseModel):
    id: int
    name: str = "?"
    born: datetime.date | None = None
    parent: Pet | None = None
    colours: list[Colour] = []


class Camel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(alias_generator=to_camel, populate_by_name=True)
    first_name: str
    from_: str = pydantic.Field("", alias="from")
    read_as: int = pydantic.Field(0, validation_alias="readAs", serialization_alias="writtenAs")


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]
    more: bool = False


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    id: int


class Closed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    id: int


class Ids(pydantic.RootModel[list[int]]): ...


class Checked(pydantic.BaseModel):
    small: int

    @pydantic.field_validator("small")
    @classmethod
    def _is_small(cls, value: int) -> int:
        if value > 9:
            raise ValueError(f"{value} is not small")
        return value


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    name: str


class Point(msgspec.Struct):
    x: int
    y: float = 0.0
    label: str | None = None


class Renamed(msgspec.Struct, rename="camel"):
    first_name: str
    from_: str = msgspec.field(default="", name="from")


class Tree(msgspec.Struct):
    value: int
    children: list[Tree] = []


class Box(msgspec.Struct, Generic[T]):
    item: T
    more: list[T] = []


class Get(msgspec.Struct, tag="get"):
    key: str


class Put(msgspec.Struct, tag="put"):
    key: str
    value: object = None


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    colour: Colour = Colour.RED


class Row(msgspec.Struct, array_like=True):
    x: int
    y: int = 0


class Refusing(msgspec.Struct):
    n: object

    def __post_init__(self) -> None:
        raise ValueError(f"no {self.n}")


@attrs.define
class Owner:
    pet: Pet
    points: list[Point] = attrs.field(factory=list)
    either: Cat | Dog | None = None


@dataclass
class Record:
    by_name: dict[str, Pet | None]
    box: Box[int] | None = None
    tree: list[Tree] = field(default_factory=list)


# --- decoding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("cast_to", "value", "expected"),
    [
        (Pet, {"id": 1, "other": 2}, Pet(id=1)),
        (
            Pet,
            {"id": 1, "born": "2024-01-01", "parent": {"id": 2}, "colours": ["red"]},
            Pet(id=1, born=DAY, parent=Pet(id=2), colours=[Colour.RED]),
        ),
        (list[Pet], [{"id": 1}], [Pet(id=1)]),
        (dict[str, Pet | None], {"a": {"id": 1}, "b": None}, {"a": Pet(id=1), "b": None}),
        (Pet | None, None, None),
        (Pet | None, {"id": 1}, Pet(id=1)),
        (Camel, {"firstName": "a", "from": "b", "readAs": 3}, Camel(firstName="a", **{"from": "b", "readAs": 3})),
        (Page[Pet], {"items": [{"id": 1}], "more": True}, Page[Pet](items=[Pet(id=1)], more=True)),
        (Page[Page[int]], {"items": [{"items": [1]}]}, Page[Page[int]](items=[Page[int](items=[1])])),
        (Open, {"id": 1, "new": [1]}, Open(id=1, new=[1])),
        (Closed, {"id": 1}, Closed(id=1)),
        (Ids, [1, 2], Ids([1, 2])),
        (Checked, {"small": 9}, Checked(small=9)),
        (Cat | Dog, {"kind": "dog", "name": "d"}, Dog(kind="dog", name="d")),
        (list[Cat | Dog | None], [None, {"kind": "cat", "lives": 9}], [None, Cat(kind="cat", lives=9)]),
        (
            list[Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]],
            [{"kind": "cat", "lives": 9}],
            [Cat(kind="cat", lives=9)],
        ),
        (Point, {"x": 1, "y": 2, "other": 3}, Point(1, 2.0)),
        (Renamed, {"firstName": "a", "from": "b"}, Renamed("a", "b")),
        (Tree, {"value": 1, "children": [{"value": 2}]}, Tree(1, [Tree(2)])),
        (Box[int], {"item": 1, "more": [2]}, Box(1, [2])),
        (Box[Point], {"item": {"x": 1}}, Box(Point(1))),
        (Box, {"item": {"x": 1}}, Box({"x": 1})),
        (Get | Put, {"type": "put", "key": "k"}, Put("k")),
        (list[Get | Put | None], [{"type": "get", "key": "k"}, None], [Get("k"), None]),
        (Strict, {"colour": "red"}, Strict()),
        (Row, [1, 2], Row(1, 2)),
        (list[Row], [[1]], [Row(1)]),
        (Owner, {"pet": {"id": 1}, "points": [{"x": 1}]}, Owner(Pet(id=1), [Point(1)])),
        (Owner, {"pet": {"id": 1}, "either": {"kind": "dog", "name": "d"}}, Owner(Pet(id=1), [], Dog(kind="dog", name="d"))),
        (
            Record,
            {"by_name": {"a": {"id": 1}}, "box": {"item": 1}, "tree": [{"value": 1}]},
            Record({"a": Pet(id=1)}, Box(1), [Tree(1)]),
        ),
    ],
    ids=str,
)  # fmt: skip
def test_models_that_fit(cast_to: Any, value: object, expected: object, strict: bool) -> None:
    decoded = outcome(value, cast_to, strict)
    assert decoded == expected
    assert type(decoded) is type(expected)


def made(cls: Any, **fields: Any) -> Any:
    return cls.model_construct(**fields)


@pytest.mark.parametrize(
    ("cast_to", "value", "loose", "strict"),
    [
        # A missing field is a problem in both, with its path; what is wrong stays raw, or is a problem.
        (Pet, {}, P(".id: missing"), P(".id: missing")),
        (list[Pet], [{"id": 1}, {}], P("[1].id: missing"), P("[1].id: missing")),
        (Owner, {"pet": {"parent": {}}}, P(".pet.id: missing", ".pet.parent.id: missing"), P(".pet.id: missing", ".pet.parent.id: missing")),
        (Pet, [1], P(": expected an object (Pet), got an array"), P(": expected an object (Pet), got an array")),
        (Pet, {"id": "1"}, made(Pet, id="1"), P(".id: int_type")),
        (Pet, {"id": 1, "parent": {"id": None, "born": "2024-01-01"}}, made(Pet, id=1, parent=made(Pet, id=None, born=DAY)), P(".parent.id: int_type")),
        (Pet, {"id": 1, "colours": ["red", "green"]}, made(Pet, id=1, colours=[Colour.RED, "green"]), P(".colours[1]: enum")),
        (Pet, {"id": 1, "parent": 5}, made(Pet, id=1, parent=5), None),
        (Camel, {"firstName": 1, "from": "b", "readAs": 3}, made(Camel, first_name=1, from_="b", read_as=3), P(".firstName: string_type")),
        (Camel, {}, P(".firstName: missing"), P(".firstName: missing")),
        (Page[int], {"items": [1, "x"]}, made(Page[int], items=[1, "x"]), P(".items[1]: int_type")),
        (Open, {"id": "x", "new": [1]}, made(Open, id="x", new=[1]), P(".id: int_type")),
        (list[Pet], [5], [5], None),
        # An unknown variant stays what it is.
        (list[Cat | Dog], [{"kind": "bird", "lives": 1}], [{"kind": "bird", "lives": 1}], P("[0]: expected one of 2 kinds, got an object")),
        (Cat | Dog, {"kind": "dog", "name": 5}, made(Dog, kind="dog", name=5), None),
        (Point, {}, P(""), P("")),
        (list[Point], [{"x": 1}, {"y": 1}], P("[1]"), P("[1]")),
        (list[Point], [{"x": SECRET}], [{"x": SECRET}], P("[0].x")),
        (Point, {"x": SECRET}, P(".x"), P(".x")),
        (list[Get | Put], [{"type": SECRET, "key": "k"}], [{"type": SECRET, "key": "k"}], P("[0]")),
        (Point, "x", P(": expected an object (Point), got a string"), P(": expected an object (Point), got a string")),
    ],
    ids=str,
)  # fmt: skip
def test_models_that_do_not_fit(cast_to: Any, value: object, loose: Any, strict: Problems | None) -> None:
    for expected, found in ((loose, outcome(value, cast_to, False)), (strict, outcome(value, cast_to, True))):
        if isinstance(expected, Problems):
            assert isinstance(found, Problems)
            assert len(found) == len(expected)
            for one, wanted in zip(found, expected, strict=True):
                # The texts of msgspec are its own: there only the path is compared.
                assert one == wanted if ": " in wanted else one.startswith(f"{wanted}: ")
        elif expected is None:
            assert isinstance(found, Problems)
        else:
            assert found == expected
            assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("cast_to", "value"),
    [
        (Pet, {"id": SECRET, "born": SECRET, "colours": [SECRET], "parent": SECRET}),
        (Closed, {"id": 1, "x": SECRET}),
        (Checked, {"small": 424242}),
        (Cat | Dog, {"kind": SECRET}),
        (Cat, {"kind": SECRET, "lives": 1}),
        (Pet, {"name": SECRET}),
        (Point, {"x": SECRET}),
        (Strict, {"colour": SECRET}),
        (Get, {"type": SECRET, "key": "k"}),
        (Get | Put, {"type": SECRET, "key": "k"}),
        (Put, {"type": "put", "key": [SECRET]}),
        (Refusing, {"n": SECRET}),
        (Owner, {"pet": {"id": SECRET}, "points": [{"x": SECRET}]}),
    ],
    ids=str,
)
def test_values_never_appear_in_problems(cast_to: Any, value: object) -> None:
    for strict in (False, True):
        try:
            CODEC.decode(value, cast_to, strict=strict)
        except DoesNotFit as exc:
            for text in ("".join(exc.problems), str(exc), "".join(traceback.format_exception(exc))):
                assert SECRET not in text
                assert "424242" not in text


# --- encoding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Pet(id=1, born=DAY), b'{"id":1,"name":"?","born":"2024-01-01","parent":null,"colours":[]}'),
        (Camel(firstName="a", readAs=1), b'{"firstName":"a","from":"","writtenAs":1}'),
        (Page[Closed](items=[Closed(id=1)]), b'{"items":[{"id":1}],"more":false}'),
        (Open(id=1, new=[1]), b'{"id":1,"new":[1]}'),
        (Ids([1, 2]), b"[1,2]"),
        ({"a": [Closed(id=1)]}, b'{"a":[{"id":1}]}'),
        (Point(1), b'{"x":1,"y":0.0,"label":null}'),
        (Renamed("a"), b'{"firstName":"a","from":""}'),
        (Put("k", {"a": DAY}), b'{"type":"put","key":"k","value":{"a":"2024-01-01"}}'),
        (Box(Point(1)), b'{"item":{"x":1,"y":0.0,"label":null},"more":[]}'),
        ([Row(1, 2)], b"[[1,2]]"),
        (Strict(), b'{"colour":"red"}'),
        ({"a": (Point(1), Closed(id=2))}, b'{"a":[{"x":1,"y":0.0,"label":null},{"id":2}]}'),
        (
            Owner(Pet(id=1), [Point(1)]),
            b'{"pet":{"id":1,"name":"?","born":null,"parent":null,"colours":[]},'
            b'"points":[{"x":1,"y":0.0,"label":null}],"either":null}',
        ),
        (Record({"a": None}, Box(1), [Tree(1)]), b'{"by_name":{"a":null},"box":{"item":1,"more":[]},"tree":[{"value":1,"children":[]}]}'),
        (Put("k", uuid.UUID(int=1)), b'{"type":"put","key":"k","value":"00000000-0000-0000-0000-000000000001"}'),
        (Put("k", decimal.Decimal("1.10")), b'{"type":"put","key":"k","value":"1.10"}'),
        (Put("k", Closed(id=1)), b'{"type":"put","key":"k","value":{"id":1}}'),  # one library's inside the other's
    ],
    ids=repr,
)  # fmt: skip
def test_models_are_encoded_by_their_own_names(value: object, expected: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert CODEC.encode(value) == expected


def test_there_and_back() -> None:
    owner = Owner(Pet(id=1, parent=Pet(id=2, born=DAY)), [Point(1, 2.0, "l")], Cat(kind="cat", lives=9))
    for strict in (False, True):
        assert CODEC.decode(CODEC.to_plain(owner), Owner, strict=strict) == owner


@pytest.mark.parametrize(
    ("value", "cast_to"),
    [
        ({"id": SECRET, "name": "a", "born": None, "parent": None, "colours": ["green"]}, Pet),
        ({"id": 1, "name": "a", "born": None, "parent": {"id": None, "name": 5, "born": None, "parent": None, "colours": []}, "colours": []}, Pet),
        ({"id": SECRET, "new": [1]}, Open),
    ],
    ids=str,
)  # fmt: skip
def test_a_model_with_wrong_fields_goes_back_as_it_came_and_warns_of_nothing(value: Any, cast_to: Any) -> None:
    """pydantic's warning about such a field would quote its value."""
    decoded = CODEC.decode(value, cast_to)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert CODEC.to_plain(decoded) == value


@pytest.mark.parametrize(
    ("value", "error", "path"),
    [
        ({"a": [Point(1, float("nan"))]}, ValueError, r"$.a[0].y"),
        ([Put("k", object())], TypeError, "$[0].value"),
        ({"a": Put("k", {"b": [1j]})}, TypeError, "$.a.value.b[0]"),
        ({"a": Put("\ud800")}, ValueError, "$.a.key"),
        ([Open(id=1, new=object())], TypeError, "$[0]"),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", repr(value)),
)
def test_what_a_model_cannot_hold_in_json_says_where(value: object, error: type[Exception], path: str) -> None:
    with pytest.raises(error) as caught:
        CODEC.encode(value)
    assert str(caught.value).startswith(path)


def test_models_that_refer_back() -> None:
    tree = Tree(1)
    tree.children.append(tree)
    pet = Pet(id=1)
    pet.parent = pet
    for value in (tree, [tree], pet, {"a": pet}):
        with pytest.raises(ValueError):
            CODEC.encode(value)
