"""Responses: the decoding gate, status errors, text, pieces, content codings."""

from __future__ import annotations

import copy
import gzip
import os
import pickle
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from anyio_client import (
    APIResponseValidationError,
    APIStatusError,
    AsyncAPIClient,
    AsyncAPIResponse,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    ContentDecodingError,
    ContentTooLargeError,
    DecodeError,
    GatewayTimeoutError,
    InternalServerError,
    MockTransport,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    PreconditionFailedError,
    RateLimitError,
    Request,
    RequestTimeoutError,
    Response,
    ServiceUnavailableError,
    UnprocessableEntityError,
)
from tests.kit.peers import answer_each, ok, serve

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}


@attrs.define
class User:
    name: str


def client_of(answer: Response | Callable[[Request], Response], **options: Any) -> AsyncAPIClient:
    handler = (lambda request: answer) if isinstance(answer, Response) else answer
    return AsyncAPIClient(base_url="http://h", http_client=MockTransport(handler), max_retries=0, **options)


async def get(answer: Response, cast_to: Any, **options: Any) -> Any:
    return await client_of(answer).get("/", cast_to=cast_to, options=options)


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


def body(content: bytes, content_type: str | None = None, status: int = 200) -> Response:
    return Response(status, headers={} if content_type is None else {"Content-Type": content_type}, content=content)


# --- the gate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/problem+json",
        "application/vnd.api+JSON",
        "text/plain",
        "text/html",
        "application/octet-stream",
        "",
        None,
    ],
)
async def test_json_is_read_whatever_the_media_type(content_type: str | None) -> None:
    assert await get(body(b'\xef\xbb\xbf {"name": "a"} ', content_type), User) == User("a")


@pytest.mark.parametrize(
    ("content", "content_type", "text"),
    [
        (b"{", "application/json", "invalid JSON"),
        (b"{", "application/x+json", "invalid JSON"),
        (b"<html>secret", "text/html", "text/html, no JSON"),
        (b"<html>secret", None, "no JSON"),
        (b"\xff", "application/json", "invalid UTF-8 at byte 0"),
        (b"NaN", "application/json", "invalid JSON"),
        (b"[1e999]", "application/json", "invalid JSON"),
        (b'"\\ud800"', "application/json", "invalid JSON"),
        (b"[" * 200_000, "application/json", "invalid JSON"),
        (b" ", "application/json", "invalid JSON"),
    ],
)
async def test_what_is_no_json_is_a_validation_error_with_the_text(
    content: bytes, content_type: str | None, text: str
) -> None:
    with pytest.raises(APIResponseValidationError) as caught:
        await get(body(content, content_type), User)
    error = caught.value
    assert text in str(error)
    assert "secret" not in str(error)
    assert error.body == content.decode("utf-8", "replace")
    assert (error.status_code, error.response.status_code, len(error.attempts)) == (200, 200, 1)
    assert error.request is not None


@pytest.mark.parametrize(
    ("cast_to", "expected"),
    [
        (str, ""),
        (bytes, b""),
        (object, None),
        (Any, None),
        (None, None),
        (type(None), None),
        (User | None, None),
        (int | str | None, None),
    ],
)
@pytest.mark.parametrize("answer", [Response(204), Response(205), Response(200), body(b"", "application/json")])
async def test_an_empty_body_is_none_where_the_type_allows_it(answer: Response, cast_to: Any, expected: object) -> None:
    assert await get(answer, cast_to) == expected


@pytest.mark.parametrize("cast_to", [User, int, bool, float, list[int], dict[str, int], User | int])
async def test_an_empty_body_is_an_error_where_it_does_not(cast_to: Any) -> None:
    with pytest.raises(APIResponseValidationError, match=r"no body \(status 204\)"):
        await get(Response(204), cast_to)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"true", True), (b" TRUE\r\n", True), (b"False", False), (b"\tfalse ", False)],
)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", None])
async def test_bool(content: bytes, expected: bool, content_type: str | None) -> None:
    assert await get(body(content, content_type), bool) is expected


@pytest.mark.parametrize("content", [b"1", b"yes", b'"true"', b"null", b"[]"])
async def test_what_is_no_bool(content: bytes) -> None:
    with pytest.raises(APIResponseValidationError):
        await get(body(content), bool)


@pytest.mark.parametrize("content_type", ["application/json", "text/html", "image/png", None])
async def test_str_and_bytes_take_any_media_type(content_type: str | None) -> None:
    assert await get(body(b'{"a": "\xc3\xa9"}', content_type), bytes) == b'{"a": "\xc3\xa9"}'
    assert await get(body(b'{"a": "\xc3\xa9"}', content_type), str) == '{"a": "é"}'


@pytest.mark.parametrize(
    ("cast_to", "content", "expected"),
    [
        (int, b"1", 1),
        (float, b"1", 1.0),
        (list, b"[1]", [1]),
        (dict, b'{"a": [1]}', {"a": [1]}),
        (object, b"null", None),
        (list[User], b'[{"name": "a"}]', [User("a")]),
        (dict[str, User], b'{"x": {"name": "a"}}', {"x": User("a")}),
        (None, b"whatever", None),
    ],
)
async def test_other_types(cast_to: Any, content: bytes, expected: object) -> None:
    result = await get(body(content, "application/json"), cast_to)
    assert result == expected
    assert type(result) is type(expected)


async def test_a_wrong_shape_is_a_decode_error_with_paths() -> None:
    with pytest.raises(DecodeError) as caught:
        await get(Response(200, json=[{"name": "a"}, {}, "secret"]), list[User], strict=True)
    error = caught.value
    assert error.problems == ["$[1].name: missing", "$[2]: expected an object (User), got a string"]
    assert error.body == [{"name": "a"}, {}, "secret"]
    assert "secret" not in str(error) + repr(error)
    for clone in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (clone.problems, clone.body, clone.status_code) == (error.problems, error.body, 200)


async def test_strict_by_client_and_by_request() -> None:
    answer = Response(200, json={"name": 1})
    strict = client_of(answer, _strict_response_validation=True)
    assert await get(answer, User) == User(1)  # type: ignore[arg-type]
    with pytest.raises(DecodeError):
        await strict.get("/", cast_to=User)
    assert await strict.get("/", cast_to=User, options={"strict": False}) == User(1)  # type: ignore[arg-type]


async def test_the_response_itself_may_be_asked_for() -> None:
    answer = Response(200, json={"name": "a"}, headers={"x-request-id": "r2", "X": "1"})
    raw = await get(answer, Response)
    assert (raw.status_code, raw.content, raw.json()) == (200, b'{"name":"a"}', {"name": "a"})

    class Mine(AsyncAPIResponse[User]):
        extra = True

    for cast_to, cls in (
        (AsyncAPIResponse, AsyncAPIResponse),
        (Mine, Mine),
        (AsyncAPIResponse[User], AsyncAPIResponse),
    ):
        response = await get(answer, cast_to)
        assert type(response) is cls
        assert response.request_id == "r2"
        assert response.headers["x"] == "1"
        assert await response.parse(to=User) == User("a")
        assert await response.read() == b'{"name":"a"}'
        assert await response.text() == '{"name":"a"}'
        assert await response.json() == {"name": "a"}


async def test_post_parser_sees_the_decoded_object() -> None:
    assert await get(Response(200, json={"name": "a"}), User, post_parser=lambda user: user.name * 2) == "aa"


# --- error statuses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (408, RequestTimeoutError),
        (409, ConflictError),
        (412, PreconditionFailedError),
        (413, ContentTooLargeError),
        (422, UnprocessableEntityError),
        (429, RateLimitError),
        (500, InternalServerError),
        (501, InternalServerError),
        (503, ServiceUnavailableError),
        (504, GatewayTimeoutError),
        (529, OverloadedError),
        (600, InternalServerError),
        (402, APIStatusError),
        (418, APIStatusError),
        (304, APIStatusError),
        (302, APIStatusError),
    ],
)
async def test_each_status_has_its_class(status: int, cls: type[APIStatusError]) -> None:
    with pytest.raises(APIStatusError) as caught:
        await get(Response(status, headers={"request-id": "r", "x-request-id": "other"}), User)
    assert type(caught.value) is cls
    assert (caught.value.status_code, caught.value.request_id, caught.value.body) == (status, "r", None)
    assert caught.value.response.status_code == status
    assert caught.value.response.http_version == "HTTP/1.1"
    assert caught.value.message.startswith(f"Error code: {status}")


@pytest.mark.parametrize(
    ("content", "message", "parsed"),
    [
        (b'{"error": {"message": "why"}}', " - why", {"error": {"message": "why"}}),
        (b'{"error": "why"}', " - why", {"error": "why"}),
        (b'{"message": "why"}', " - why", {"message": "why"}),
        (b'{"detail": "why"}', " - why", {"detail": "why"}),
        (b'{"title": "why"}', " - why", {"title": "why"}),
        (b'{"error": {"message": 1}, "message": "", "detail": [], "title": "why"}', " - why", ...),
        (b'{"secret": "x"}', "", {"secret": "x"}),
        (b'["secret"]', "", ["secret"]),
        (b'"secret"', "", "secret"),
        (b"plain secret", "", "plain secret"),
        (b'{"secret', "", '{"secret'),
        (b"\xff", "", "\ufffd"),
        (b"", "", None),
    ],
)
async def test_messages_come_from_common_places_and_never_from_the_raw_body(
    content: bytes, message: str, parsed: object
) -> None:
    with pytest.raises(InternalServerError) as caught:
        await get(body(content, "text/plain", 500), User)
    assert str(caught.value) == f"Error code: 500{message}"
    if parsed is not ...:
        assert caught.value.body == parsed


@pytest.mark.parametrize("streamed", [True, False])
async def test_of_an_error_body_a_part_is_read(streamed: bool) -> None:
    closed = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
        finally:
            closed.append(True)

    class Small(AsyncAPIClient):
        max_error_body = 2500

    client = Small(
        base_url="http://h", http_client=MockTransport(lambda r: Response(404, content=endless())), max_retries=0
    )
    for how in ("plain", "stream", "open"):
        with pytest.raises(NotFoundError) as caught:
            if how == "plain":
                await client.get("/", cast_to=User)
            elif how == "stream":
                await client.get("/", cast_to=User, stream=True)
            else:
                async with client.open("GET", "/"):
                    pass
        assert caught.value.body == "x" * 2500
    assert closed == [True] * 3


@pytest.mark.parametrize("coding", ["gzip", "br", "what"])
async def test_an_error_body_that_cannot_be_undone_is_left_out(coding: str) -> None:
    for content in (b"no gzip", pieces(b"no gzip")):
        with pytest.raises(NotFoundError) as caught:
            await get(Response(404, headers={"Content-Encoding": coding}, content=content), User)
        assert caught.value.body is None


async def test_status_errors_pickle_and_copy() -> None:
    with pytest.raises(NotFoundError) as caught:
        await get(Response(404, json={"message": "why"}), User)
    for clone in (copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))):
        assert (clone.message, clone.body, clone.status_code) == ("Error code: 404 - why", {"message": "why"}, 404)
        assert clone.response.text == '{"message":"why"}'
        assert len(clone.attempts) == 1


# --- text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "content_type", "expected"),
    [
        ("é".encode("latin-1"), "text/plain; charset=latin-1", "é"),
        ("é".encode("latin-1"), 'text/plain;x=y; CHARSET="ISO-8859-1"', "é"),
        ("é".encode("utf-16"), "text/plain; charset=utf-16", "é"),
        ("é".encode(), "text/plain", "é"),
        ("é".encode(), "text/plain; charset=none-such", "é"),
        ("é".encode(), "text/plain; charset=", "é"),
        ("é".encode(), "text/plain; charset=hex", "é"),
        ("é".encode(), "text/plain; charset=rot13", "é"),
        ("é".encode(), "text/plain; charset=undefined", "é"),
        ("é".encode(), "text/plain; charset=idna", "é"),
        ("é".encode(), "text/plain; charset=punycode", "é"),
        (b"\\q", "text/plain; charset=unicode_escape", "\\q"),
        (b"\\q", "text/plain; charset=unicode-escape", "\\q"),
        (b"\\q", "text/plain; charset=raw_unicode_escape", "\\q"),
        (b"a\xff", "text/plain", "a\ufffd"),
        (b"a\xff", "text/plain; charset=ascii", "a\ufffd"),
    ],
)
async def test_the_charset_of_text(content: bytes, content_type: str, expected: str) -> None:
    assert await get(body(content, content_type), str) == expected
    async with client_of(body(content, content_type)).open("GET", "/") as response:
        assert "".join([text async for text in response.iter_text()]) == expected
    with pytest.raises(NotFoundError) as caught:
        await get(body(content, content_type, 404), str)
    assert caught.value.body == expected


# --- pieces --------------------------------------------------------------------------------------------------------


async def opened(*given: bytes, **headers: str) -> Any:
    # A raw response: it needs no block, its body is nobody's connection.
    client = client_of(lambda request: Response(200, headers=headers, content=pieces(*given)))
    return await client.open("GET", "/").__aenter__()


async def test_pieces_as_they_arrive_or_of_a_size() -> None:
    response = await opened(b"abc", b"", b"d", b"efgh")
    assert [piece async for piece in response.iter_bytes()] == [b"abc", b"d", b"efgh"]
    response = await opened(b"abc", b"", b"d", b"efgh")
    assert [piece async for piece in response.iter_bytes(3)] == [b"abc", b"def", b"gh"]
    response = await opened(b"abc", b"def")
    assert [piece async for piece in response.iter_bytes(3)] == [b"abc", b"def"]
    response = await opened()
    assert [piece async for piece in response.iter_bytes(3)] == []
    for size in (0, -1, True):
        with pytest.raises(ValueError, match="at least 1"):
            response.iter_bytes(size)


async def test_a_body_is_read_once_and_then_kept() -> None:
    response = await opened(b"ab", b"c")
    assert await response.read() == b"abc"
    assert await response.read() == b"abc"
    assert [piece async for piece in response.iter_bytes(2)] == [b"ab", b"c"]
    assert [line async for line in response.iter_lines()] == ["abc"]

    response = await opened(b"ab", b"c")
    iterator = response.iter_bytes()
    await anext(iterator)
    for again in (response.iter_bytes, response.iter_text, response.iter_lines):
        with pytest.raises(RuntimeError, match="iterator that was asked for before"):
            again()
    with pytest.raises(RuntimeError, match="iterator that was asked for before"):
        await response.read()
    await response.close()

    response = await opened(b"ab")
    await response.close()
    await response.aclose()
    assert response.is_closed
    with pytest.raises(RuntimeError, match="closed before its body was read"):
        await response.read()
    with pytest.raises(RuntimeError, match="has not been read"):
        _ = response.http_response.content


async def test_text_is_never_cut_inside_a_character() -> None:
    data = "aé\U0001f600\u2028".encode() + b"\xf0\x9f"
    for size in range(1, len(data) + 1):
        parts = [data[i : i + size] for i in range(0, len(data), size)]
        response = await opened(*parts)
        texts = [text async for text in response.iter_text()]
        assert "".join(texts) == "aé\U0001f600\u2028\ufffd"
        assert all(texts)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"\r", [""]),
        (b"\r\n", [""]),
        (b"a", ["a"]),
        (b"a\nb\r\nc\rd", ["a", "b", "c", "d"]),
        (b"a\r\r\n\nb\r", ["a", "", "", "b"]),
        (b"\n\n", ["", ""]),
        (b"\r\r", ["", ""]),
        ("é\u2028\x85\x0b\n\U0001f600".encode(), ["é\u2028\x85\x0b", "\U0001f600"]),
    ],
)
async def test_lines_at_any_split(data: bytes, lines: list[str]) -> None:
    for size in range(1, max(2, len(data))):
        response = await opened(*[data[i : i + size] for i in range(0, len(data), size)])
        assert [line async for line in response.iter_lines()] == lines
    response = await opened(data)
    assert [line async for line in response.iter_lines()] == lines


async def test_a_line_is_given_as_soon_as_it_is_complete() -> None:
    seen = []

    async def slowly() -> AsyncIterator[bytes]:
        yield b"a\nb"
        assert seen == ["a"]
        yield b"\r\n"
        yield b"c\n"
        assert seen == ["a", "b", "c"]

    async with client_of(Response(200, content=slowly())).open("GET", "/") as response:
        async for line in response.iter_lines():
            seen.append(line)  # noqa: PERF401
    assert seen == ["a", "b", "c"]


async def test_stream_to_file(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    target = tmp_path / "file"
    response = await opened(b"abc", b"de", **{"Content-Length": "5"})
    await response.stream_to_file(target, progress=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == b"abcde"
    assert seen == [(3, 5), (5, 5)]
    assert os.listdir(tmp_path) == ["file"]

    response = await opened(b"no gzip", **{"Content-Encoding": "gzip"})
    with pytest.raises(ContentDecodingError):
        await response.stream_to_file(target)
    assert target.read_bytes() == b"abcde"  # as it was, and nothing beside it
    assert os.listdir(tmp_path) == ["file"]


# --- content codings -----------------------------------------------------------------------------------------------


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


TEXT = b'{"name": "' + b"abc" * 1000 + b'"}'
CODED = {
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT),
    "GZip": gzip.compress(TEXT),
    "deflate": zlib.compress(TEXT),
    "deflate ": raw_deflate(TEXT),
    "deflate, gzip": gzip.compress(zlib.compress(TEXT)),
    "identity": TEXT,
    "gzip,identity": gzip.compress(TEXT),
}


@pytest.mark.parametrize("coding", CODED)
async def test_content_codings_are_undone(coding: str) -> None:
    data = CODED[coding]
    headers = {**JSON, "Content-Encoding": coding}
    assert await get(Response(200, headers=headers, content=data), User) == User("abc" * 1000)
    for size in (1, 7, 100_000):
        parts = [data[i : i + size] for i in range(0, len(data), size)]
        assert await get(Response(200, headers=headers, content=pieces(*parts)), bytes) == TEXT
        response = await opened(*parts, **headers)
        assert b"".join([piece async for piece in response.iter_bytes(10)]) == TEXT
    with serve(answer_each(ok(data, headers=f"Content-Encoding: {coding}\r\n"))) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client:
            assert await client.get("/", cast_to=User) == User("abc" * 1000)
            async with client.open("GET", "/") as response:
                assert await response.json() == {"name": "abc" * 1000}
        assert b"accept-encoding: gzip, deflate" in peer.requests[0].lower()


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", CODED["gzip"][:-1]),
        ("deflate", CODED["deflate"][:-1]),
        ("gzip", b"no gzip"),
        ("gzip", CODED["gzip"] + b"garbage"),
        ("br", b"x"),
        ("gzip, what", b"x"),
    ],
)
async def test_what_cannot_be_undone_is_an_error(coding: str, data: bytes) -> None:
    headers = {"Content-Encoding": coding}
    for content in (data, pieces(data)):
        with pytest.raises(ContentDecodingError) as caught:
            await get(Response(200, headers=headers, content=content), bytes)
        assert len(caught.value.attempts) == 1
        assert caught.value.request is not None
    response = await opened(data, **headers)
    with pytest.raises(ContentDecodingError):
        async for _ in response.iter_bytes():
            pass
    with pytest.raises(ContentDecodingError):
        await get(Response(200, headers=headers, content=data), Response)


async def test_bombs_are_refused() -> None:
    bomb = gzip.compress(b"\0" * 40_000_000)
    headers = {"Content-Encoding": "gzip"}
    with pytest.raises(ContentDecodingError, match="more than 200 times"):
        await get(Response(200, headers=headers, content=bomb), bytes)
    with pytest.raises(ContentDecodingError):
        async with client_of(Response(200, headers=headers, content=pieces(bomb))).open("GET", "/") as response:
            async for _ in response.iter_bytes():
                pass

    class Trusting(AsyncAPIClient):
        max_decompression_ratio = None

    client = Trusting(
        base_url="http://h", http_client=MockTransport(lambda r: Response(200, headers=headers, content=bomb))
    )
    assert len(await client.get("/", cast_to=bytes)) == 40_000_000


async def test_an_undecodable_piece_frees_the_connection() -> None:
    def script(peer: Any) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1000000\r\n\r\nno gzip")
        peer.wait_closed()

    with serve(script) as peer:
        async with AsyncAPIClient(base_url=peer.url) as client, client.open("GET", "/") as response:
            with pytest.raises(ContentDecodingError):
                await anext(response.iter_bytes())
            assert peer.wait_for_open(0) == 0


# --- the Response of transports and tests --------------------------------------------------------------------------


async def test_a_response_of_ones_own() -> None:
    assert Response(200, json={"a": [1]}).content == b'{"a":[1]}'
    assert Response(200, json=None).content == b"null"
    assert Response(200, content="é").text == "é"
    assert Response(200, content=bytearray(b"a")).content == b"a"
    for wrong, error in (
        ({"status_code": "200"}, ValueError),
        ({"status_code": 99}, ValueError),
        ({"status_code": True}, ValueError),
        ({"content": 1}, TypeError),
        ({"content": b"", "json": 1}, TypeError),
        ({"json": float("nan")}, ValueError),
        ({"headers": {"a": "\n"}}, ValueError),
    ):
        with pytest.raises(error):
            Response(**wrong)  # type: ignore[arg-type]


async def test_a_handler_of_another_kind_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="callable"):
        MockTransport("x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must return an anyio_client.Response, not dict"):
        await client_of(lambda request: {}).get("/", cast_to=object)  # type: ignore[arg-type, return-value]

    async def handler(request: Request) -> Response:
        return Response(200, json=request.json())

    client = AsyncAPIClient(base_url="http://h", http_client=MockTransport(handler))
    assert await client.post("/", cast_to=object, body=[1]) == [1]


@pytest.mark.parametrize("status", [200, 204, 205])
async def test_an_unknown_coding_of_an_empty_body_is_nothing_to_undo(status: int) -> None:
    response = Response(status, headers={"Content-Encoding": "br", "Content-Type": "application/json"})
    async with AsyncAPIClient(base_url="http://h", http_client=MockTransport(lambda _: response)) as client:
        assert await client.get("/", cast_to=object) is None


async def test_json_that_is_none_is_an_error_of_ours() -> None:
    async with AsyncAPIClient(
        base_url="http://h", http_client=MockTransport(lambda _: Response(content=b"x"))
    ) as client:
        async with client.open("GET", "/") as response:
            with pytest.raises(APIResponseValidationError, match="Expecting value at character 0"):
                await response.json()


async def test_a_wrong_charset_never_raises_anything_foreign() -> None:
    def handler(request: Request) -> Response:
        return Response(headers={"Content-Type": "text/plain; charset=utf-16"}, content=b"plain!")

    async with AsyncAPIClient(base_url="http://h", http_client=MockTransport(handler)) as client:
        async with client.open("GET", "/") as response:
            assert "".join([text async for text in response.iter_text()]) == "plain!"


async def test_a_message_of_the_servers_is_one_line_of_bounded_length() -> None:
    def handler(request: Request) -> Response:
        return Response(400, json={"message": "a\r\nb\x1b[31m\x00 c" + "d" * 5000})

    async with AsyncAPIClient(base_url="http://h", http_client=MockTransport(handler)) as client:
        with pytest.raises(APIStatusError) as caught:
            await client.get("/", cast_to=object)
    assert caught.value.message.startswith("Error code: 400 - a b [31m cddd")
    assert len(caught.value.message) < 1100
    assert len(str(caught.value.body)) > 5000
