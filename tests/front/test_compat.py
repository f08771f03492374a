"""The helpers that resource classes of generated SDKs import (anyio_client/compat.py)."""

from __future__ import annotations

import datetime
import io
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Generic, Literal, NotRequired, Required, TypedDict, TypeVar

import pytest
from typing_extensions import ReadOnly, TypeAliasType

from anyio_client import AsyncAPIClient, AsyncAPIResource, AsyncAPIResponse, MockTransport, Response, compat
from anyio_client.compat import (
    AsyncBinaryAPIResponse,
    AsyncStreamedBinaryAPIResponse,
    Headers,
    PropertyInfo,
    async_maybe_transform,
    async_to_custom_raw_response_wrapper,
    async_to_custom_streamed_response_wrapper,
    async_to_raw_response_wrapper,
    deepcopy_minimal,
    deepcopy_with_paths,
    extract_files,
    is_given,
    make_request_options,
    maybe_transform,
    merge_headers,
    not_given,
    omit,
    required_args,
    strip_not_given,
)

pytestmark = pytest.mark.anyio

DAY = datetime.date(2026, 2, 3)
MOMENT = datetime.datetime(2026, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
T = TypeVar("T")


def test_every_name_is_there() -> None:
    for name in compat.__all__:
        assert hasattr(compat, name), name
    assert len(set(compat.__all__)) == len(compat.__all__)


# -- what was given


@pytest.mark.parametrize(
    ("value", "expected"),
    [(not_given, False), (omit, False), (compat.Omit(), False), (None, True), (0, True), ("", True), ([], True)],
)
def test_is_given(value: object, expected: bool) -> None:
    assert is_given(value) is expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (None, None),
        ({}, {}),
        ({"a": 1, "b": not_given, "c": None, "d": omit}, {"a": 1, "c": None, "d": omit}),
        ({"a": {"b": not_given}}, {"a": {"b": not_given}}),  # the top level only
        ("text", "text"),
    ],
)
def test_strip_not_given(values: object, expected: object) -> None:
    assert strip_not_given(values) == expected


@pytest.mark.parametrize(
    ("variants", "args", "kwargs", "message"),
    [
        ([["a"]], (1,), {}, None),
        ([["a"]], (), {"a": None}, None),
        ([["a"]], (), {"b": 1}, "Missing required argument: 'a'"),
        ([["a", "b"]], (), {}, "Missing required arguments: 'a' or 'b'"),
        ([["a", "b", "c"]], (), {}, "Missing required arguments: 'a', 'b' or 'c'"),
        ([["a", "b"]], (1,), {}, "Missing required argument: 'b'"),
        ([["a"], ["b"]], (), {"b": 1}, None),
        (
            [["a"], ["b", "c"]],
            (),
            {"b": 1},
            "Missing required arguments; Expected either ('a') or ('b' and 'c') arguments to be given",
        ),
    ],
)
def test_required_args(
    variants: list[list[str]], args: tuple[Any, ...], kwargs: dict[str, Any], message: str | None
) -> None:
    @required_args(*variants)
    def call(a: object = 0, *, b: object = 0, c: object = 0) -> str:
        return "called"

    if message is None:
        assert call(*args, **kwargs) == "called"
    else:
        with pytest.raises(TypeError) as caught:
            call(*args, **kwargs)
        assert str(caught.value) == message


def test_required_args_keep_the_name_of_the_function_and_its_own_errors() -> None:
    @required_args(["a"])
    def call(a: int) -> int:
        """Doc."""
        return a

    assert (call.__name__, call.__doc__) == ("call", "Doc.")
    with pytest.raises(TypeError, match="positional argument"):
        call(1, 2)  # type: ignore[call-arg]


async def test_required_args_of_a_method() -> None:
    class Thing:
        @required_args(["name"], ["id"])
        async def find(self, *, name: str = "", id: int = 0) -> tuple[str, int]:
            return name, id

    assert await Thing().find(id=3) == ("", 3)
    with pytest.raises(TypeError, match="Missing required arguments"):
        Thing().find()  # before anything is awaited


# -- parameters


class Inner(TypedDict, total=False):
    is_small: Annotated[bool, PropertyInfo(alias="isSmall")]
    plain: str


InnerAlias = TypeAliasType("InnerAlias", Inner)


class Item(TypedDict, Generic[T]):
    item_id: Annotated[T, PropertyInfo(alias="itemID")]


class Params(TypedDict, total=False):
    card_id: Required[Annotated[str, PropertyInfo(alias="cardID")]]
    extra: NotRequired[Annotated[Inner, PropertyInfo(alias="extraStuff")]]
    annotated_within: Annotated[Required[int], PropertyInfo(alias="within")]
    read_only: Required[ReadOnly[Annotated[str, PropertyInfo(alias="readOnly")]]]
    named_type: InnerAlias
    inner: Inner
    many: list[Inner]
    any_of: Iterable[Inner]
    sequence: Sequence[Inner]
    by_name: dict[str, Inner]
    either: Inner | list[Inner] | str
    optional: Inner | None
    deep: list[dict[str, list[Inner]]]
    words: Iterable[str]
    anything: object
    untyped: list  # type: ignore[type-arg]
    generic: Item[str]
    documented: Annotated[str, "a text, which has a method of the name format"]
    day: Annotated[datetime.date | str, PropertyInfo(format="iso8601")]
    moments: Annotated[list[datetime.datetime], PropertyInfo(alias="atMoments", format="iso8601")]
    each: list[Annotated[datetime.datetime, PropertyInfo(format="iso8601")]]
    odd: Annotated[datetime.date, PropertyInfo(format="custom", format_template="%d.%m.%y")]
    unformatted: datetime.date
    file: Annotated[str | io.IOBase | pathlib.Path, PropertyInfo(format="base64")]
    tag: Literal["a", "b"]


class Child(Params, total=False):
    own_name: Annotated[int, PropertyInfo(alias="ownName")]


SMALL = {"is_small": True, "plain": "p"}
MADE = {"isSmall": True, "plain": "p"}
WORDS = iter("ab")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, None),
        ({}, {}),
        ({"card_id": "c"}, {"cardID": "c"}),
        ({"card_id": None}, {"cardID": None}),
        ({"card_id": omit, "tag": not_given, "anything": "x"}, {"anything": "x"}),
        ({"unknown": {"is_small": 1, "o": omit}}, {"unknown": {"is_small": 1, "o": omit}}),
        ({"extra": SMALL}, {"extraStuff": MADE}),
        ({"annotated_within": 1}, {"within": 1}),
        ({"read_only": "r", "named_type": SMALL}, {"readOnly": "r", "named_type": MADE}),
        ({"inner": SMALL}, {"inner": MADE}),
        ({"inner": "not a dict"}, {"inner": "not a dict"}),
        ({"inner": {"is_small": omit, "plain": "p"}}, {"inner": {"plain": "p"}}),
        ({"many": [SMALL, {}, "odd"]}, {"many": [MADE, {}, "odd"]}),
        ({"any_of": {1: SMALL, 2: SMALL}.values()}, {"any_of": [MADE, MADE]}),
        ({"any_of": {"is_small": 1}}, {"any_of": {"is_small": 1}}),  # a dict where a list belongs
        ({"sequence": (SMALL,)}, {"sequence": [MADE]}),
        ({"by_name": {"is_small": SMALL}}, {"by_name": {"is_small": MADE}}),
        ({"either": SMALL}, {"either": MADE}),
        ({"either": [SMALL]}, {"either": [MADE]}),
        ({"either": "text"}, {"either": "text"}),
        ({"optional": None}, {"optional": None}),
        ({"optional": SMALL}, {"optional": MADE}),
        ({"deep": [{"x": [SMALL]}]}, {"deep": [{"x": [MADE]}]}),
        ({"words": WORDS}, {"words": WORDS}),  # nothing to be done: for the client to expand
        ({"words": "ab"}, {"words": "ab"}),
        ({"anything": SMALL}, {"anything": SMALL}),
        ({"untyped": [SMALL]}, {"untyped": [SMALL]}),
        ({"generic": {"item_id": "i"}}, {"generic": {"itemID": "i"}}),
        ({"documented": "d"}, {"documented": "d"}),
        ({"day": DAY}, {"day": "2026-02-03"}),
        ({"day": MOMENT}, {"day": "2026-02-03T04:05:06+00:00"}),
        ({"day": "tomorrow"}, {"day": "tomorrow"}),
        ({"moments": [MOMENT, None]}, {"atMoments": ["2026-02-03T04:05:06+00:00", None]}),
        ({"each": [MOMENT]}, {"each": ["2026-02-03T04:05:06+00:00"]}),
        ({"odd": DAY}, {"odd": "03.02.26"}),
        ({"unformatted": DAY}, {"unformatted": DAY}),
        ({"tag": "a"}, {"tag": "a"}),
    ],
)
@pytest.mark.parametrize("cls", [Params, Child])
def test_maybe_transform(data: Any, expected: object, cls: Any) -> None:
    before = deepcopy_minimal(data)
    assert maybe_transform(data, cls) == expected
    assert data == before


def test_maybe_transform_sees_inherited_fields_and_lists_at_the_top() -> None:
    assert maybe_transform({"own_name": 1, "card_id": "c"}, Child) == {"ownName": 1, "cardID": "c"}
    assert maybe_transform([{"card_id": "c"}], list[Params]) == [{"cardID": "c"}]
    assert maybe_transform({"card_id": "c"}, Params | str) == {"cardID": "c"}
    assert maybe_transform("text", Params) == "text"


def test_what_no_annotation_says_anything_of_stays_the_same_object() -> None:
    class Tree(TypedDict, total=False):
        """Refers to itself, and says nothing."""

        below: list[Tree]
        name: str

    class Mixed(TypedDict, total=False):
        tree: Tree
        other: list[Mixed]
        named: Annotated[str, PropertyInfo(alias="Named")]
        unknown: NotThere  # type: ignore[name-defined]  # noqa: F821

    globals().update(Tree=Tree, Mixed=Mixed, NotThere=int)  # annotations are resolved in the module
    try:
        tree: Any = {"below": [{"below": [], "name": omit}]}
        made = maybe_transform({"tree": tree, "other": [{"named": "n", "tree": tree}]}, Mixed)
        assert made == {"tree": tree, "other": [{"Named": "n", "tree": tree}]}
        assert made["tree"] is tree
    finally:
        for name in ("Tree", "Mixed", "NotThere"):
            del globals()[name]


def test_an_annotation_that_cannot_be_read_is_an_error_where_it_is_needed() -> None:
    class Broken(TypedDict, total=False):
        x: NotThere  # type: ignore[name-defined]  # noqa: F821

    class Whole(TypedDict, total=False):
        broken: Broken
        y: int

    globals()["Broken"] = Broken
    try:
        assert maybe_transform({"y": 1}, Whole) == {"y": 1}
        with pytest.raises(NameError, match="NotThere"):
            maybe_transform({"broken": {}}, Whole)
    finally:
        del globals()["Broken"]


def test_metadata_of_another_library_counts() -> None:
    class Info:
        alias = "theirName"
        format = "custom"

    class Other(TypedDict, total=False):
        our_name: Annotated[datetime.date, "words", Info()]

    globals()["Info"] = Info  # annotations are resolved in the module
    try:
        assert maybe_transform({"our_name": DAY}, Other) == {"theirName": DAY}  # no template for it
    finally:
        del globals()["Info"]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: path, "aGk="),
        (lambda path: io.BytesIO(b"hi"), "aGk="),
        (lambda path: io.StringIO("hi"), "aGk="),
        (lambda path: "already text", "already text"),
    ],
)
async def test_files_in_json_are_sent_as_base64(
    make: Callable[[pathlib.Path], object], expected: str, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "f").write_bytes(b"hi")
    assert maybe_transform({"file": make(tmp_path / "f")}, Params) == {"file": expected}
    assert await async_maybe_transform({"file": make(tmp_path / "f")}, Params) == {"file": expected}
    assert await async_maybe_transform(None, Params) is None


# -- files

FILE = ("name.txt", b"x", "text/plain")


@pytest.mark.parametrize(
    ("body", "paths", "files", "left"),
    [
        ({"file": b"x", "n": 1}, [["file"]], [("file", b"x")], {"n": 1}),
        ({"file": FILE}, [["file"]], [("file", FILE)], {}),
        ({"n": 1}, [["file"]], [], {"n": 1}),
        ({"file": omit, "mask": not_given}, [["file"], ["mask"]], [], {}),
        ({"file": None}, [["file"]], None, None),
        ({"file": "text"}, [["file"]], None, None),
        ({"file": [b"a", FILE]}, [["file"]], [("file[]", b"a"), ("file[]", FILE)], {}),
        ({"files": [b"a", b"b"]}, [["files", "<array>"]], [("files[]", b"a"), ("files[]", b"b")], {}),
        ({"files": []}, [["files", "<array>"]], [], {}),
        ({"files": [b"a", "text"]}, [["files", "<array>"]], None, None),
        ({"file": b"x"}, [["file", "<array>"], ["file"]], [("file", b"x")], {}),
        ({"a": {"b": b"x", "c": 1}}, [["a", "b"]], [("a[b]", b"x")], {"a": {"c": 1}}),
        ({"a": b"x"}, [["a", "b"]], [], {"a": b"x"}),
        ({"a": [{"b": b"x", "c": 1}]}, [["a", "<array>", "b"]], [("a[][b]", b"x")], {"a": [{"c": 1}]}),
        ({"a": [[b"x"]]}, [["a", "<array>", "<array>"]], [("a[][]", b"x")], {}),
        ({"a": {"0": b"x"}}, [["a", "<array>"]], [], {"a": {"0": b"x"}}),
        ({"m": b"1", "n": b"2"}, [["n"], ["m"]], [("n", b"2"), ("m", b"1")], {}),
        ({"f": pathlib.Path("p")}, [["f"]], [("f", pathlib.Path("p"))], {}),
    ],
)
def test_extract_files(body: Any, paths: list[list[str]], files: object, left: object) -> None:
    body = deepcopy_minimal(body)
    if files is None:
        with pytest.raises(TypeError, match="must be a file"):
            extract_files(body, paths=paths)
    else:
        assert extract_files(body, paths=paths) == files
        assert body == left


@pytest.mark.parametrize(
    ("array_format", "names"),
    [
        ("brackets", ["a[]", "b[][c]"]),
        ("indices", ["a[0]", "b[0][c]"]),
        ("repeat", ["a", "b[c]"]),
        ("comma", ["a", "b[c]"]),
    ],
)
def test_how_files_of_a_list_are_named(array_format: Any, names: list[str]) -> None:
    body = {"a": [b"x"], "b": [{"c": b"y"}]}
    found = extract_files(body, paths=[["a", "<array>"], ["b", "<array>", "c"]], array_format=array_format)
    assert [name for name, _ in found] == names
    with pytest.raises(ValueError, match="array_format"):
        extract_files({"a": [b"x"]}, paths=[["a"]], array_format="other")  # type: ignore[arg-type]


def test_an_open_file_stays_the_same_object() -> None:
    file = io.BytesIO(b"x")
    body = {"file": file, "list": [1], "dict": {"a": [2]}}
    copied = deepcopy_minimal(body)
    assert copied == body and copied["file"] is file
    assert copied["list"] is not body["list"] and copied["dict"] is not body["dict"]
    assert extract_files(copied, paths=[["file"]]) == [("file", file)]
    assert "file" in body


@pytest.mark.parametrize(
    ("paths", "copied"),
    [
        ([], []),
        ([["file"]], [()]),
        ([["a", "b"]], [(), ("a",)]),
        ([["l", "<array>", "x"]], [(), ("l",), ("l", 0)]),
        ([["l", "x"]], [()]),
        ([["a", "b", "c", "d"], ["l"]], [(), ("a",), ("a", "b")]),
    ],
)
def test_deepcopy_with_paths_copies_what_lies_on_them(paths: list[list[str]], copied: list[tuple[Any, ...]]) -> None:
    item: Any = {"file": b"x", "a": {"b": {"c": 1}}, "l": [{"x": 1}], "other": {"o": []}}
    result = deepcopy_with_paths(item, paths)
    assert result == item
    for place in [(), ("a",), ("a", "b"), ("l",), ("l", 0), ("other",), ("other", "o")]:
        old, new = item, result
        for step in place:
            old, new = old[step], new[step]
        assert (old is not new) is (place in copied), place


# -- headers


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([], {}),
        ([{"A": "1"}, {"B": "2"}], {"A": "1", "B": "2"}),
        ([{"Beta-X": "1"}, {"beta-x": "2"}], {"beta-x": "2"}),
        ([{"A": "1"}, {"a": omit}], {"a": omit}),
        ([{"A": omit}, {"a": "2"}], {"a": "2"}),
        ([{"A": "1"}, {"A": not_given}], {"A": "1"}),
        ([{"anthropic-beta": "one"}, {"anthropic-beta": "two"}], {"anthropic-beta": "two"}),
        ([{"x-stainless-helper": "a"}, {"X-Stainless-Helper": "b, a"}], {"X-Stainless-Helper": "a, b"}),
        ([{"x-stainless-helper": omit}, {"x-stainless-helper": "a"}], {"x-stainless-helper": "a"}),
    ],
)
def test_merge_headers(layers: list[Mapping[str, Any]], expected: object) -> None:
    assert merge_headers(*layers) == expected


# -- responses


def make_client(body: bytes = b"the bytes") -> AsyncAPIClient:
    def server(request: Any) -> Response:
        assert "raw" not in request.headers and "streamed" not in request.headers
        return Response(200, headers={"X-Sent": request.headers.get("x-own", "")}, content=body)

    return AsyncAPIClient(base_url="https://files.example", http_client=MockTransport(server))


class Files(AsyncAPIResource):
    async def content(self, *, extra_headers: Headers | None = None) -> AsyncBinaryAPIResponse:
        extra_headers = merge_headers({"Accept": "application/binary"}, extra_headers or {})
        return await self._get(
            "/content", cast_to=AsyncBinaryAPIResponse, options=make_request_options(extra_headers=extra_headers)
        )

    async def swallowing(self, *, extra_headers: Headers | None = None) -> object:
        return await self._get("/content", cast_to=str)

    @cached_property
    def with_raw_response(self) -> RawFiles:
        return RawFiles(self)


class RawFiles:
    def __init__(self, files: Files) -> None:
        self.plain = async_to_raw_response_wrapper(files.content)
        self.content = async_to_custom_raw_response_wrapper(files.content, AsyncBinaryAPIResponse)
        self.streamed = async_to_custom_streamed_response_wrapper(files.content, AsyncStreamedBinaryAPIResponse)


async def test_a_plain_download_has_its_body(tmp_path: pathlib.Path) -> None:
    response = await Files(make_client()).content()
    assert type(response) is AsyncBinaryAPIResponse
    assert response.content == await response.aread() == await response.read() == b"the bytes"
    assert [piece async for piece in response.iter_bytes(4)] == [b"the ", b"byte", b"s"]
    assert await response.parse() is response
    await response.write_to_file(tmp_path / "f")
    await response.write_to_file(str(tmp_path / "f"))  # again, over the first
    assert (tmp_path / "f").read_bytes() == b"the bytes"
    assert os.listdir(tmp_path) == ["f"]


async def test_a_raw_download_is_of_the_class_asked_for() -> None:
    raw = Files(make_client()).with_raw_response
    response = await raw.content(extra_headers={"X-Own": "mine"})
    assert type(response) is AsyncBinaryAPIResponse
    assert (response.headers["x-sent"], response.retries_taken) == ("mine", 0)
    assert await response.parse() == response.content == b"the bytes"
    assert isinstance(await raw.plain(), AsyncAPIResponse)


async def test_a_streamed_download_is_of_the_class_asked_for(tmp_path: pathlib.Path) -> None:
    raw = Files(make_client()).with_raw_response
    async with raw.streamed(extra_headers={"X-Own": "mine"}) as response:
        assert type(response) is AsyncStreamedBinaryAPIResponse
        assert response.headers["x-sent"] == "mine"
        await response.stream_to_file(tmp_path / "f", chunk_size=2)
    assert (tmp_path / "f").read_bytes() == b"the bytes"
    async with raw.streamed() as response:
        assert await response.parse() == b"the bytes"


async def test_a_method_that_swallows_its_extra_headers_is_an_error_that_says_so() -> None:
    raw = async_to_custom_raw_response_wrapper(Files(make_client()).swallowing, AsyncBinaryAPIResponse)
    with pytest.raises(TypeError, match="does not pass its extra_headers on"):
        await raw()
