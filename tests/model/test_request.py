"""The request and its body: BEHAVIOUR 4.3 and 4.4 as far as data goes, 1.6 and 13."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from anyio_client._model.headers import Headers
from anyio_client._model.request import IDEMPOTENT_METHODS, Request, StreamedBody, check_piece, make_body
from anyio_client._model.url import URL


async def pieces_async() -> AsyncIterator[bytes]:
    yield b"a"
    yield b"bc"


def pieces() -> Iterator[bytes]:
    yield b"a"
    yield b"bc"


def run(waiting: Any) -> Any:
    """The result of a coroutine that never waits for anything: no event loop is needed."""
    try:
        waiting.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited for something")


# --- bodies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "body"),
    [
        (b"", b""),
        (b"abc", b"abc"),
        (bytearray(b"abc"), b"abc"),
        (memoryview(b"abc"), b"abc"),
        (memoryview(b"abcdef")[::2], b"ace"),
        ("", b""),
        ("ü€", "ü€".encode()),
    ],
)
def test_bytes_and_text_are_a_body_as_they_stand(content: Any, body: bytes) -> None:
    made = make_body(content)
    assert type(made) is bytes
    assert made == body
    assert Request("POST", "http://h/", content=content).content == body


def test_a_bytearray_that_changes_later_does_not_change_the_body() -> None:
    content = bytearray(b"abc")
    body = make_body(content)
    content[:] = b"xyz"
    assert body == b"abc"


@pytest.mark.parametrize(
    ("content", "length"),
    [
        ([b"a", b"bc"], 3),
        ((b"a", bytearray(b"bc"), memoryview(b"def")), 6),
        ([memoryview(b"abcdefgh").cast("I")], 8),
        ([], 0),
    ],
)
def test_a_list_of_pieces_can_be_sent_again_and_its_length_is_known(content: Any, length: int) -> None:
    body = make_body(content)
    assert isinstance(body, StreamedBody)
    assert body.replayable
    assert body.length == length
    for _ in range(3):
        assert body.can_be_sent
        assert list(body.open()) == list(content)  # type: ignore[arg-type]


def test_a_list_that_changes_later_does_not_change_the_body() -> None:
    content = [b"a"]
    body = make_body(content)
    content.append(b"b")
    assert isinstance(body, StreamedBody)
    assert body.open() == [b"a"]


@pytest.mark.parametrize(
    "make", [pieces, pieces_async, lambda: io.BytesIO(b"abc"), lambda: {b"a"}, lambda: iter([b"a"])]
)
def test_an_iterable_can_be_sent_once(make: Callable[[], Any]) -> None:
    source = make()
    body = make_body(source)
    assert isinstance(body, StreamedBody)
    assert not body.replayable
    assert body.length is None
    assert body.can_be_sent
    assert not body.used
    assert body.open() is source
    assert body.used
    assert not body.can_be_sent
    with pytest.raises(
        RuntimeError, match="was sent before and cannot be made again: pass bytes, a list or a callable"
    ):
        body.open()


@pytest.mark.parametrize("make", [pieces, pieces_async, lambda: [b"a"]])
def test_a_callable_makes_a_fresh_body_for_every_send(make: Callable[[], Any]) -> None:
    body = make_body(make)
    assert isinstance(body, StreamedBody)
    assert body.replayable
    first, second = body.open(), body.open()
    assert first is not second
    assert type(first) is type(make())
    assert body.used
    assert body.can_be_sent


@pytest.mark.parametrize("content", [b"abc", bytearray(b"abc"), memoryview(b"abc")])
def test_a_callable_may_give_bytes(content: Any) -> None:
    body = make_body(lambda: content)
    assert isinstance(body, StreamedBody)
    assert list(body.open()) == [b"abc"]  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["abc", 1, None])
def test_a_callable_that_gives_no_pieces_is_a_type_error(given: Any) -> None:
    body = make_body(lambda: given)
    assert isinstance(body, StreamedBody)
    with pytest.raises(TypeError, match=f"must give an iterable of bytes, not {type(given).__name__}"):
        body.open()


@pytest.mark.parametrize("content", [None, 1, 1.5, True, object()])
def test_what_can_be_no_body_is_a_type_error(content: Any) -> None:
    with pytest.raises(TypeError, match=f"content= takes bytes, str, .* not {type(content).__name__}"):
        make_body(content)


def test_a_mapping_as_content_points_to_body() -> None:
    with pytest.raises(TypeError, match="for JSON pass body="):
        make_body({"a": 1})


@pytest.mark.parametrize("piece", ["a", 1, None, [b"a"]])
def test_a_list_with_a_piece_that_is_no_bytes_is_refused_before_anything_is_sent(piece: Any) -> None:
    with pytest.raises(TypeError, match=f"a body is made of bytes, its iterable gave {type(piece).__name__}"):
        make_body([b"a", piece])
    with pytest.raises(TypeError, match="a body is made of bytes"):
        check_piece(piece)


def test_a_lone_surrogate_in_text_is_a_value_error() -> None:
    with pytest.raises(ValueError):
        make_body("\ud800")


def test_the_repr_of_a_streamed_body_has_no_content() -> None:
    body = make_body([b"s3cret"])
    assert repr(body) == "StreamedBody(replayable=True, length=6, used=False)"


# --- requests -------------------------------------------------------------------------------------------------


def test_a_request_has_a_method_a_url_headers_and_a_body() -> None:
    request = Request("post", "HTTP://H/x y?a=1", headers={"A": "b"}, content="ü")
    assert request.method == "POST"
    assert request.url == URL("http://h/x%20y?a=1")
    assert request.headers == {"a": "b"}
    assert request.content == request.body == "ü".encode()
    assert Request("GET", URL("http://h")).content == b""
    assert Request("GET", "http://h", headers=[("A", "1"), ("a", "2")]).headers.get_list("A") == ["1", "2"]


def test_the_headers_of_a_request_may_be_changed() -> None:
    request = Request("GET", "http://h/", headers={"A": "1"})
    request.headers["a"] = "2"
    request.headers.add("B", "3")
    assert request.headers.multi_items() == [("a", "2"), ("B", "3")]


@pytest.mark.parametrize(
    ("method", "url", "headers"),
    [
        ("GE T", "http://h/", {}),
        ("GET\r\n", "http://h/", {}),
        ("", "http://h/", {}),
        ("GET", "http://h/\r\nX: y", {}),
        ("GET", "http://h/\x00", {}),
        ("GET", "h/", {}),
        ("GET", "http://h/", {"X\r\nY": "z"}),
        ("GET", "http://h/", {"X y": "z"}),
        ("GET", "http://h/", {"X": "y\r\nZ: z"}),
        ("GET", "http://h/", {"X": "\x00"}),
    ],
)
def test_a_request_that_would_break_its_lines_is_a_value_error(method: str, url: str, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        Request(method, url, headers=headers)


@pytest.mark.parametrize("content", [pieces, pieces(), pieces_async, pieces_async(), [b"a", b"bc"], lambda: b"abc"])
def test_a_streamed_body_is_content_once_it_was_read(content: Any) -> None:
    request = Request("POST", "http://h/", content=content)
    assert request.can_be_sent
    with pytest.raises(RuntimeError, match=r"a stream that nobody has read: call its read\(\) first"):
        _ = request.content
    assert run(request.read()) == b"abc"
    assert request.content == b"abc"
    assert run(request.read()) == b"abc"
    assert request.can_be_sent


def test_reading_a_body_of_bytes_gives_them() -> None:
    assert run(Request("POST", "http://h/", content=b"x").read()) == b"x"


@pytest.mark.parametrize("content", [["a"].__iter__, lambda: iter([1])])
def test_reading_a_body_with_a_piece_that_is_no_bytes_is_a_type_error(content: Any) -> None:
    with pytest.raises(TypeError, match="a body is made of bytes"):
        run(Request("POST", "http://h/", content=content).read())


def test_a_one_shot_body_that_was_opened_cannot_be_sent_again() -> None:
    request = Request("POST", "http://h/", content=pieces())
    assert isinstance(request.body, StreamedBody)
    request.body.open()
    assert not request.can_be_sent
    with pytest.raises(RuntimeError, match="cannot be made again"):
        run(request.read())


def test_a_streamed_body_of_ones_own_is_taken_as_it_is() -> None:
    body = StreamedBody(pieces, replayable=True, length=3)
    assert Request("POST", "http://h/", content=body).body is body


def test_json_is_decoded_from_the_content() -> None:
    assert Request("POST", "http://h/", content=b'{"a":[1]}').json() == {"a": [1]}
    with pytest.raises(ValueError):
        Request("POST", "http://h/", content=b"{").json()
    with pytest.raises(RuntimeError):
        Request("POST", "http://h/", content=pieces).json()


@pytest.mark.parametrize(
    ("method", "idempotent"),
    [
        ("GET", True),
        ("head", True),
        ("OPTIONS", True),
        ("PUT", True),
        ("DELETE", True),
        ("TRACE", True),
        ("POST", False),
        ("PATCH", False),
        ("CONNECT", False),
        ("QUERY", False),
    ],
)
def test_the_methods_of_rfc_9110_9_2_2_are_idempotent(method: str, idempotent: bool) -> None:
    assert Request(method, "http://h/").is_idempotent is idempotent
    assert (method.upper() in IDEMPOTENT_METHODS) is idempotent


def test_requests_are_equal_by_what_they_send() -> None:
    request = Request("GET", "http://h/", headers={"A": "1"}, content=b"x")
    assert request == Request("get", URL("http://H/"), headers={"a": "1"}, content="x")
    assert request != Request("POST", "http://h/", headers={"A": "1"}, content=b"x")
    assert request != Request("GET", "http://h/y", headers={"A": "1"}, content=b"x")
    assert request != Request("GET", "http://h/", content=b"x")
    assert request != Request("GET", "http://h/", headers={"A": "1"})
    assert request != "GET"
    with pytest.raises(TypeError, match="unhashable"):
        hash(request)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda request: pickle.loads(pickle.dumps(request))])
def test_a_request_copies_and_pickles(duplicate: Any) -> None:
    request = Request("POST", "http://u:p@h/x?y=1", headers=[("A", "1"), ("a", "2")], content=b"x")
    twin = duplicate(request)
    assert twin == request
    assert twin.url.credentials == ("u", "p")
    assert twin.headers.raw == request.headers.raw


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda request: pickle.loads(pickle.dumps(request))])
@pytest.mark.parametrize("content", [pieces, lambda: pieces_async()])
def test_a_streamed_body_does_not_go_along_with_a_copy(duplicate: Any, content: Any) -> None:
    request = Request("POST", "http://h/", content=content())
    assert duplicate(request).content == b""
    assert isinstance(request.body, StreamedBody)
    assert not request.body.used


def test_a_repr_has_no_secret() -> None:
    request = Request(
        "POST",
        "https://user:s3cret@h/x?key=s3cret",
        headers={"Authorization": "s3cret", "X-Api-Key": "s3cret", "Cookie": "s3cret"},
        content=b"s3cret",
    )
    assert repr(request) == "<Request POST https://***@h/x?key=***>"
    assert "s3cret" not in str(request)
    assert "s3cret" not in repr(request.headers)


def test_headers_given_are_kept_as_headers() -> None:
    assert isinstance(Request("GET", "http://h/", headers={"A": "1"}).headers, Headers)
    assert isinstance(Request("GET", "http://h/").headers, Headers)
