"""The resource classes of the Anthropic SDK, from its own source, on this runtime."""

from __future__ import annotations

import io
import json
import pathlib
from typing import Any

import pytest

from anyio_client import (
    APIStatusError,
    AsyncAPIResponse,
    AuthenticationError,
    NotFoundError,
    OverloadedError,
    Response,
    StreamTruncatedError,
    omit,
)
from anyio_client.compat import AsyncBinaryAPIResponse, AsyncStreamedBinaryAPIResponse
from tests.kit.leaks import open_sockets, settled_sockets
from tests.kit.peers import ok, serve
from tests.sdks.anthropic_sdk import Anthropic
from tests.sdks.kit import FAST, Played, chunked, events, form_of, json_of, sse

pytestmark = pytest.mark.anyio


def model(id: str) -> dict[str, Any]:
    return {
        "id": id,
        "type": "model",
        "display_name": id.title(),
        "created_at": "2026-01-02T03:04:05Z",
        "capabilities": None,
        "lifecycle": "active",
    }


def file(id: str = "file_1") -> dict[str, Any]:
    return {
        "id": id,
        "type": "file",
        "filename": "a.txt",
        "mime_type": "text/plain",
        "size_bytes": 2,
        "created_at": "2026-01-02T03:04:05Z",
        "downloadable": True,
    }


MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-test",
    "content": [
        {"type": "text", "text": "Hi", "citations": None},
        {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}},
        {"type": "from_tomorrow", "x": 1},
    ],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 5},
}

STREAM: list[tuple[str | None, Any]] = [
    ("message_start", {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}}),
    ("ping", {"type": "ping"}),
    (
        "content_block_start",
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "", "citations": None}},
    ),
    ("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hé"}}),
    ("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "y"}}),
    ("content_block_stop", {"type": "content_block_stop", "index": 0}),
    (
        "message_delta",
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 2},
        },
    ),
    ("message_stop", {"type": "message_stop"}),
]
HI: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]


def client_of(*answers: Any, **options: Any) -> tuple[Anthropic, Played]:
    played = Played(*answers)
    return Anthropic(api_key="secret", http_client=played, retry=FAST, **options), played


# -- models


async def test_retrieve() -> None:
    client, played = client_of(model("m/1"))
    found = await client.models.retrieve("m/1", extra_query={"q": "1"}, timeout=5)
    assert (found.id, found.display_name, found.created_at.year) == ("m/1", "M/1", 2026)
    assert played.asked == ["GET /v1/models/m%2F1?q=1"]
    headers = played.request.headers
    assert (headers["x-api-key"], headers["anthropic-version"]) == ("secret", "2023-06-01")
    assert "anthropic-workspace-id" not in headers
    assert headers["accept"] == "application/json" and "content-type" not in headers
    with pytest.raises(ValueError, match="non-empty value for `model_id`"):
        await client.models.retrieve("")


@pytest.mark.parametrize(
    ("betas", "extra", "sent"),
    [
        (None, {}, None),
        (["a-1", "b-2"], {}, "a-1,b-2"),
        (["a-1"], {"anthropic-beta": "mine"}, "mine"),
        (["a-1"], {"Anthropic-Beta": "mine"}, "mine"),
        (["a-1"], {"anthropic-beta": omit}, None),
        (None, {"anthropic-beta": "mine"}, "mine"),
    ],
)
async def test_beta_headers(betas: Any, extra: dict[str, Any], sent: str | None) -> None:
    client, played = client_of(model("m"))
    given = {} if betas is None else {"betas": betas}
    await client.beta.models.retrieve("m", extra_headers=extra, workspace_id="w1", **given)
    assert played.asked == ["GET /v1/models/m"]
    assert played.request.headers.get("anthropic-beta") == sent
    assert played.request.headers["anthropic-workspace-id"] == "w1"


async def test_a_list_goes_on_after_the_last_item() -> None:
    pages = [
        {"data": [model("a"), model("b")], "has_more": True, "first_id": "a", "last_id": "b"},
        {"data": [model("c")], "has_more": False, "first_id": "c", "last_id": "c"},
    ]
    client, played = client_of(*pages)
    found = [item.id async for item in client.models.list(limit=2, lifecycle=["active", "retired"])]
    assert found == ["a", "b", "c"]
    assert played.asked == [
        "GET /v1/models?lifecycle[]=active&lifecycle[]=retired&limit=2",
        "GET /v1/models?after_id=b&lifecycle[]=active&lifecycle[]=retired&limit=2",
    ]


async def test_a_list_goes_back_where_it_began_so() -> None:
    pages = [
        {"data": [model("y")], "has_more": True, "first_id": "y", "last_id": "y"},
        {"data": [model("x")], "has_more": False, "first_id": "x", "last_id": "x"},
    ]
    client, played = client_of(*pages)
    page = await client.models.list(before_id="z")
    assert page.has_next_page() and page.data[0].id == "y"
    page = await page.get_next_page()
    assert not page.has_next_page() and page.data[0].id == "x"
    assert played.asked == ["GET /v1/models?before_id=z", "GET /v1/models?before_id=y"]


async def test_a_raw_list_is_a_response_of_a_page_that_goes_on() -> None:
    pages = [
        {"data": [model("a")], "has_more": True, "first_id": "a", "last_id": "a"},
        {"data": [model("b")], "has_more": False, "first_id": "b", "last_id": "b"},
    ]
    client, played = client_of(*pages)
    response = await client.models.with_raw_response.list(extra_headers={"X-Own": "1"})
    assert isinstance(response, AsyncAPIResponse) and response.status_code == 200
    page = await response.parse()
    assert [item.id async for item in page] == ["a", "b"]
    assert [request.headers["x-own"] for request in played.requests] == ["1", "1"]


# -- messages


async def test_create() -> None:
    client, played = client_of(MESSAGE)
    message = await client.messages.create(
        max_tokens=10,
        messages=({"role": role, "content": "Hi"} for role in ("user", "assistant")),
        model="claude-test",
        system=omit,
        metadata={"user_id": "u"},
        extra_body={"later": [1]},
        extra_headers={"X-Own": "1"},
        user_profile_id="p1",
    )
    text, tool, unknown = message.content
    assert (type(text).__name__, text.text, type(tool).__name__, tool.input) == (
        "TextBlock",
        "Hi",
        "ToolUseBlock",
        {"a": 1},
    )
    assert unknown == {"type": "from_tomorrow", "x": 1}
    assert (message.role, message.stop_reason, message.usage.output_tokens) == ("assistant", "end_turn", 5)
    assert played.asked == ["POST /v1/messages"]
    assert json_of(played.request) == {
        "max_tokens": 10,
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi"}],
        "model": "claude-test",
        "metadata": {"user_id": "u"},
        "later": [1],
    }
    assert (played.request.headers["x-own"], played.request.headers["anthropic-user-profile-id"]) == ("1", "p1")


async def test_arguments_that_are_missing() -> None:
    client, played = client_of()
    with pytest.raises(TypeError, match="Missing required arguments; Expected either"):
        await client.messages.create(max_tokens=1, messages=HI)
    with pytest.raises(ValueError, match="Streaming is required"):  # the SDK's own check, which asks the client
        await client.messages.create(max_tokens=100_000, messages=HI, model="m")
    assert played.requests == []


async def test_count_tokens() -> None:
    client, played = client_of({"input_tokens": 7})
    assert (await client.messages.count_tokens(messages=HI, model="m")).input_tokens == 7
    assert played.asked == ["POST /v1/messages/count_tokens"]
    assert json_of(played.request) == {"messages": HI, "model": "m"}


async def test_a_create_is_retried_and_tells_its_error() -> None:
    error = Response(529, json={"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})
    client, played = client_of(error, MESSAGE)
    assert (await client.messages.create(max_tokens=1, messages=HI, model="m")).id == "msg_1"
    assert [request.headers["x-stainless-retry-count"] for request in played.requests] == ["0", "1"]
    assert len({request.content for request in played.requests}) == 1

    refused = Response(401, json={"type": "error", "error": {"type": "authentication_error", "message": "no key"}})
    client, played = client_of(refused)
    with pytest.raises(AuthenticationError, match="no key"):
        await client.messages.create(max_tokens=1, messages=HI, model="m")


async def test_a_stream() -> None:
    client, played = client_of(sse(events(*STREAM)))
    stream = await client.messages.create(max_tokens=1, messages=HI, model="m", stream=True)
    async with stream:
        items = [event async for event in stream]
    assert [item.type for item in items] == [name for name, _ in STREAM if name != "ping"]
    assert [type(item).__name__ for item in items][:2] == ["RawMessageStartEvent", "RawContentBlockStartEvent"]
    assert "".join(item.delta.text for item in items if item.type == "content_block_delta") == "Héy"
    assert json_of(played.request)["stream"] is True


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_stream_over_a_socket_in_pieces_of_any_size(size: int) -> None:
    before = open_sockets()
    body = events(*STREAM)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    with serve(chunked(pieces, "text/event-stream")) as server:
        async with Anthropic(api_key="k", base_url=server.url) as client:
            for _ in range(2):
                stream = await client.messages.create(max_tokens=1, messages=HI, model="m", stream=True)
                assert [event.type async for event in stream][-1] == "message_stop"
        assert server.connections == 1
    assert settled_sockets(before) <= before


async def test_a_stream_that_is_cut_and_one_that_ends_in_an_error() -> None:
    client, _ = client_of(sse(events(*STREAM[:3])))
    stream = await client.messages.create(max_tokens=1, messages=HI, model="m", stream=True)
    with pytest.raises(StreamTruncatedError):
        assert len([event async for event in stream]) == 2

    error = ("error", {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})
    client, _ = client_of(sse(events(STREAM[0], error)))
    stream = await client.messages.create(max_tokens=1, messages=HI, model="m", stream=True)
    assert (await anext(stream)).type == "message_start"
    with pytest.raises(OverloadedError, match="busy"):
        await anext(stream)


async def test_raw_and_streaming_responses() -> None:
    client, played = client_of(Response(200, headers={"request-id": "r1"}, json=MESSAGE), MESSAGE, sse(events(*STREAM)))
    raw = await client.messages.with_raw_response.create(max_tokens=1, messages=HI, model="m")
    assert (raw.status_code, raw.request_id, raw.method) == (200, "r1", "POST")
    assert (await raw.parse()).id == "msg_1"
    assert json.loads(await raw.text())["id"] == "msg_1"

    async with client.messages.with_streaming_response.create(max_tokens=1, messages=HI, model="m") as response:
        assert not response.is_closed
        assert (await response.parse()).id == "msg_1"
    assert response.is_closed

    async with client.messages.with_streaming_response.create(
        max_tokens=1, messages=HI, model="m", stream=True
    ) as response:
        stream = await response.parse()
        assert [event.type async for event in stream][-1] == "message_stop"
    for request in played.requests:
        assert not [name for name in request.headers if "raw" in name or "streamed" in name]


# -- files


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (lambda: ("a.txt", b"hi", "text/plain"), ("a.txt", "text/plain", b"hi")),
        (lambda: ('ü ".txt', io.BytesIO(b"hi"), "text/plain"), ("ü %22.txt", "text/plain", b"hi")),
        (lambda: ("a.bin", b"\r\n--\x00\xff"), ("a.bin", "application/octet-stream", b"\r\n--\x00\xff")),
    ],
)
async def test_upload(given: Any, part: tuple[str, str, bytes]) -> None:
    client, played = client_of(file())
    assert (await client.files.upload(file=given(), workspace_id="w1")).filename == "a.txt"
    assert played.asked == ["POST /v1/files"]
    headers = played.request.headers
    assert headers.get_list("content-type") == [headers["content-type"]]
    assert headers["anthropic-workspace-id"] == "w1"
    assert form_of(headers["content-type"], played.request.content) == [("file", *part)]


async def test_upload_of_a_path_with_fields_over_a_socket(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "big.txt"
    path.write_bytes(b"0123456789" * 20_000)
    answer = ok(json.dumps(file()).encode())
    with serve(lambda peer: [peer.send(answer) for _ in iter(peer.read_request, b"")] and None) as server:
        async with Anthropic(api_key="k", base_url=server.url) as client:
            found = await client.files.upload(file=path, expires_in_seconds=3600)
            assert found.id == "file_1"
            with path.open("rb") as opened:
                await client.files.upload(file=opened)
    for request, fields in zip(server.requests, [[("expires_in_seconds", None, b"3600")], []], strict=True):
        head, _, body = request.partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:])
        content_type = next(line for line in head.decode().split("\r\n") if line.lower().startswith("content-type:"))
        form = form_of(content_type.partition(":")[2].strip(), body)
        assert [(name, filename, data) for name, filename, _, data in form] == [
            *fields,
            ("file", "big.txt", path.read_bytes()),
        ]
        assert lines["content-length"] == str(len(body))


async def test_an_upload_is_sent_again() -> None:
    client, played = client_of(Response(503), file())
    await client.files.upload(file=("a.txt", b"hi"))
    first, second = [form_of(r.headers["content-type"], r.content) for r in played.requests]
    assert first == second


async def test_download() -> None:
    client, played = client_of(Response(200, headers={"Content-Type": "text/plain"}, content=b"data"))
    response = await client.files.download("file_1")
    assert type(response) is AsyncBinaryAPIResponse
    assert (await response.read(), response.content) == (b"data", b"data")
    assert played.asked == ["GET /v1/files/file_1/content"]
    assert played.request.headers["accept"] == "application/binary"


async def test_raw_and_streamed_download(tmp_path: pathlib.Path) -> None:
    with serve(chunked([b"da", b"ta" * 5000], "application/binary")) as server:
        async with Anthropic(api_key="k", base_url=server.url) as client:
            raw = await client.files.with_raw_response.download("f")
            assert type(raw) is AsyncBinaryAPIResponse and raw.request_id == "req_1"
            await raw.write_to_file(tmp_path / "raw")
            async with client.files.with_streaming_response.download("f") as response:
                assert type(response) is AsyncStreamedBinaryAPIResponse
                await response.stream_to_file(tmp_path / "streamed")
            async with client.files.with_streaming_response.download("f") as response:
                async for piece in response.iter_bytes():
                    assert piece
                    break  # the rest is given up
            assert (await client.files.download("f")).content == b"da" + b"ta" * 5000
    assert (tmp_path / "raw").read_bytes() == (tmp_path / "streamed").read_bytes() == b"da" + b"ta" * 5000


async def test_other_calls_for_files() -> None:
    page = {"data": [file("f1")], "next_page": "page_2"}
    client, played = client_of(
        file("f1"), {"id": "f1", "type": "file_deleted"}, page, {"data": [file("f2")], "next_page": None}
    )
    assert (await client.files.retrieve_metadata("f1")).size_bytes == 2
    assert (await client.files.delete("f1")).id == "f1"
    assert [found.id async for found in client.files.list(limit=1, ids=["a", "b"])] == ["f1", "f2"]
    assert played.asked == [
        "GET /v1/files/f1",
        "DELETE /v1/files/f1",
        "GET /v1/files?ids[]=a&ids[]=b&limit=1",
        "GET /v1/files?ids[]=a&ids[]=b&limit=1&page=page_2",
    ]


async def test_beta_upload() -> None:
    client, played = client_of(file())
    await client.beta.files.upload(file=("a.txt", b"hi"), betas=["files-api"])
    assert played.asked == ["POST /v1/files"]
    assert played.request.headers["anthropic-beta"].split(",")[-1] == "files-api"
    assert form_of(played.request.headers["content-type"], played.request.content)[0][0] == "file"


async def test_errors_of_a_download_are_errors() -> None:
    missing = {"type": "error", "error": {"type": "not_found_error", "message": "no file"}}
    client, _ = client_of(*(Response(404, json=missing) for _ in range(3)))
    with pytest.raises(NotFoundError, match="no file"):
        await client.files.download("f")
    with pytest.raises(NotFoundError, match="no file"):
        await client.files.with_raw_response.download("f")
    with pytest.raises(APIStatusError, match="no file"):
        async with client.files.with_streaming_response.download("f"):
            pass
