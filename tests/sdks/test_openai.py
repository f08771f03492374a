"""The resource classes of the OpenAI SDK, from its own source, on this runtime."""

from __future__ import annotations

import io
import json
import pathlib
from typing import Any

import pytest

from anyio_client import (
    APIError,
    AsyncAPIResponse,
    BadRequestError,
    RateLimitError,
    Response,
    StreamTruncatedError,
    omit,
)
from anyio_client.compat import AsyncBinaryAPIResponse, AsyncStreamedBinaryAPIResponse
from tests.kit.leaks import open_sockets, settled_sockets
from tests.kit.peers import ok, serve
from tests.sdks.kit import FAST, Played, chunked, events, form_of, json_of, sse
from tests.sdks.openai_sdk import OpenAI

pytestmark = pytest.mark.anyio

HI: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]


def file(id: str = "file-1", status: str = "processed") -> dict[str, Any]:
    return {
        "id": id,
        "object": "file",
        "bytes": 2,
        "created_at": 1,
        "filename": "a.jsonl",
        "purpose": "batch",
        "status": status,
    }


def completion(id: str = "c1", text: str = "Hi") -> dict[str, Any]:
    return {
        "id": id,
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-test",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "logprobs": None,
                "message": {"role": "assistant", "content": text, "refusal": None},
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }


def part(text: str) -> tuple[None, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return None, {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-test",
        "choices": [choice],
    }


PARTS = [part("Hé"), part("y"), part("")]
DONE = "data: [DONE]\n\n"


def client_of(*answers: Any, **options: Any) -> tuple[OpenAI, Played]:
    played = Played(*answers)
    return OpenAI(api_key="secret", http_client=played, retry=FAST, **options), played


# -- models


async def test_models() -> None:
    one = {"id": "ft:x/1", "object": "model", "created": 1, "owned_by": "me"}
    client, played = client_of(
        one, {"object": "list", "data": [one, one]}, {"id": "x", "object": "model", "deleted": True}
    )
    assert (await client.models.retrieve("ft:x/1")).owned_by == "me"
    assert [type(found).__name__ async for found in client.models.list()] == ["Model", "Model"]
    assert (await client.models.delete("x")).deleted is True
    assert played.asked == ["GET /v1/models/ft%3Ax%2F1", "GET /v1/models", "DELETE /v1/models/x"]
    assert {request.headers["authorization"] for request in played.requests} == {"Bearer secret"}


# -- chat


async def test_create() -> None:
    client, played = client_of(completion())
    found = await client.chat.completions.create(
        messages=(message for message in HI),
        model="gpt-test",
        stop=omit,
        metadata={"a": "b"},
        response_format={"type": "json_object"},
        temperature=None,
        extra_body={"later": 1},
    )
    assert (found.choices[0].message.content, found.usage.total_tokens) == ("Hi", 3)
    assert type(found).__name__ == "ChatCompletion"
    assert played.asked == ["POST /v1/chat/completions"]
    assert json_of(played.request) == {
        "messages": HI,
        "model": "gpt-test",
        "metadata": {"a": "b"},
        "response_format": {"type": "json_object"},
        "temperature": None,
        "later": 1,
    }
    with pytest.raises(TypeError, match="Missing required arguments"):
        await client.chat.completions.create(messages=HI)
    with pytest.raises(TypeError, match="response_format"):  # the SDK's own check
        await client.chat.completions.create(messages=HI, model="m", response_format=int)


async def test_a_list_goes_on_after_its_last_item() -> None:
    pages = [
        {"object": "list", "data": [completion("a"), completion("b")], "has_more": True},
        {"object": "list", "data": [completion("c")], "has_more": False},
    ]
    client, played = client_of(*pages)
    found = client.chat.completions.list(limit=2, metadata={"k": "v"}, order="asc")
    assert [item.id async for item in found] == ["a", "b", "c"]
    asked = [sorted(one.partition("?")[2].split("&")) for one in played.asked]
    assert asked == [["limit=2", "metadata[k]=v", "order=asc"], ["after=b", "limit=2", "metadata[k]=v", "order=asc"]]


async def test_a_resource_below_a_resource() -> None:
    message = {"id": "m1", "role": "user", "content": "x", "refusal": None}
    client, played = client_of({"object": "list", "data": [message], "has_more": False})
    page = await client.chat.completions.messages.list("c1")
    assert [found.id for found in page.data] == ["m1"] and not page.has_next_page()
    assert played.asked == ["GET /v1/chat/completions/c1/messages"]


async def test_update_and_delete() -> None:
    client, played = client_of(completion(), {"id": "c1", "object": "chat.completion.deleted", "deleted": True})
    await client.chat.completions.update("c1", metadata={"a": "b"})
    assert (await client.chat.completions.delete("c1")).deleted
    assert played.asked == ["POST /v1/chat/completions/c1", "DELETE /v1/chat/completions/c1"]
    assert json_of(played.requests[0]) == {"metadata": {"a": "b"}}
    assert played.requests[1].content == b""


async def test_a_stream() -> None:
    client, played = client_of(sse(events(*PARTS, end=DONE)))
    async with await client.chat.completions.create(messages=HI, model="m", stream=True) as stream:
        items = [chunk async for chunk in stream]
    assert "".join(item.choices[0].delta.content for item in items) == "Héy"
    assert {type(item).__name__ for item in items} == {"ChatCompletionChunk"}
    assert json_of(played.request)["stream"] is True


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_stream_over_a_socket_in_pieces_of_any_size(size: int) -> None:
    before = open_sockets()
    body = events(*PARTS, end=DONE)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    with serve(chunked(pieces, "text/event-stream")) as server:
        async with OpenAI(api_key="k", base_url=server.url) as client:
            for _ in range(2):
                stream = await client.chat.completions.create(messages=HI, model="m", stream=True)
                assert len([chunk async for chunk in stream]) == 3
        assert server.connections == 1
    assert settled_sockets(before) <= before


async def test_a_stream_that_is_cut_and_one_that_ends_in_an_error() -> None:
    client, _ = client_of(sse(events(*PARTS)))
    stream = await client.chat.completions.create(messages=HI, model="m", stream=True)
    with pytest.raises(StreamTruncatedError):
        assert len([chunk async for chunk in stream]) == 3

    client, _ = client_of(sse(events(PARTS[0], (None, {"error": {"message": "too much", "type": "server_error"}}))))
    stream = await client.chat.completions.create(messages=HI, model="m", stream=True)
    await anext(stream)
    with pytest.raises(APIError, match="too much"):
        await anext(stream)


async def test_raw_and_streaming_responses() -> None:
    client, played = client_of(
        Response(200, headers={"x-request-id": "r1"}, json=completion()),
        completion(),
        sse(events(*PARTS, end=DONE)),
        sse(events(*PARTS, end=DONE)),
    )
    calls = client.chat.completions
    raw = await calls.with_raw_response.create(messages=HI, model="m")
    assert isinstance(raw, AsyncAPIResponse) and (raw.status_code, raw.request_id) == (200, "r1")
    assert (await raw.parse()).id == "c1"
    async with calls.with_streaming_response.create(messages=HI, model="m") as response:
        assert json.loads(b"".join([piece async for piece in response.iter_bytes()]))["id"] == "c1"
    async with calls.with_streaming_response.create(messages=HI, model="m", stream=True) as response:
        assert len([chunk async for chunk in await response.parse()]) == 3
    async with calls.with_streaming_response.create(messages=HI, model="m", stream=True) as response:
        assert [line async for line in response.iter_lines()][-2] == "data: [DONE]"
    for request in played.requests:
        assert not [name for name in request.headers if "raw" in name or "streamed" in name]


async def test_errors() -> None:
    body = {"error": {"message": "slow down", "type": "rate_limit", "param": None, "code": "rate"}}
    client, played = client_of(*(Response(429, json=body) for _ in range(3)))
    with pytest.raises(RateLimitError, match="slow down"):
        await client.chat.completions.create(messages=HI, model="m")
    assert len(played.requests) == 3

    client, _ = client_of(Response(400, json=body))
    with pytest.raises(BadRequestError, match="slow down"):
        await client.chat.completions.with_raw_response.create(messages=HI, model="m")


# -- responses


RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-test",
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
        },
        {"type": "function_call", "call_id": "x", "name": "add", "arguments": "{}"},
    ],
}


async def test_responses() -> None:
    client, played = client_of(RESPONSE, RESPONSE, Response(200, content=b""), RESPONSE)
    found = await client.responses.create(input="Hi", model="gpt-test", include=["message.output_text.logprobs"])
    assert [type(item).__name__ for item in found.output] == ["ResponseOutputMessage", "ResponseFunctionToolCall"]
    assert found.output[0].content[0].text == "Hi"
    await client.responses.retrieve("r", include=["a", "b"], starting_after=omit)
    assert await client.responses.delete("r") is None
    assert (await client.responses.cancel("r")).id == "resp_1"
    assert played.asked == [
        "POST /v1/responses",
        "GET /v1/responses/r?include[]=a&include[]=b",
        "DELETE /v1/responses/r",
        "POST /v1/responses/r/cancel",
    ]
    assert played.requests[2].headers["accept"] == "*/*"
    assert json_of(played.requests[0]) == {
        "input": "Hi",
        "model": "gpt-test",
        "include": ["message.output_text.logprobs"],
    }


async def test_a_stream_of_responses() -> None:
    items: list[tuple[str | None, Any]] = [
        ("response.created", {"type": "response.created", "sequence_number": 0, "response": RESPONSE}),
        (
            "response.output_text.delta",
            {
                "type": "response.output_text.delta",
                "sequence_number": 1,
                "item_id": "i",
                "output_index": 0,
                "content_index": 0,
                "delta": "Hi",
                "logprobs": [],
            },
        ),
        ("response.from_tomorrow", {"type": "response.from_tomorrow"}),
    ]
    client, _ = client_of(sse(events(*items, end=DONE)))
    stream = await client.responses.create(input="Hi", model="m", stream=True)
    created, delta, unknown = [event async for event in stream]
    assert (created.response.id, delta.delta, unknown) == ("resp_1", "Hi", {"type": "response.from_tomorrow"})
    assert type(delta).__name__ == "ResponseTextDeltaEvent"


# -- files


@pytest.mark.parametrize("expires", [None, {"anchor": "created_at", "seconds": 3600}])
@pytest.mark.parametrize(
    ("given", "part"),
    [
        (lambda path: path, ("a.jsonl", b'{"a": 1}\n')),
        (lambda path: ("b.txt", io.BytesIO(b"hi"), "text/x"), ("b.txt", b"hi")),
        (lambda path: ("b.txt", b"hi"), ("b.txt", b"hi")),
    ],
)
async def test_upload(given: Any, part: tuple[str, bytes], expires: Any, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n')
    client, played = client_of(file())
    more = {} if expires is None else {"expires_after": expires}
    found = await client.files.create(file=given(path), purpose="batch", **more)
    assert (found.id, found.bytes) == ("file-1", 2)
    assert played.asked == ["POST /v1/files"]
    form = form_of(played.request.headers["content-type"], played.request.content)
    fields = [("purpose", b"batch")]
    if expires:
        fields += [("expires_after[anchor]", b"created_at"), ("expires_after[seconds]", b"3600")]
    assert sorted((name, data) for name, filename, _, data in form if filename is None) == sorted(fields)
    assert [(name, filename, data) for name, filename, _, data in form if filename] == [("file", *part)]


async def test_upload_over_a_socket(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(range(256)) * 1000)
    answer = ok(json.dumps(file()).encode())
    with serve(lambda peer: [peer.send(answer) for _ in iter(peer.read_request, b"")] and None) as server:
        async with OpenAI(api_key="k", base_url=server.url) as client:
            await client.files.create(file=path, purpose="batch")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    line = next(line for line in head.decode().split("\r\n") if line.lower().startswith("content-type:"))
    form = form_of(line.partition(":")[2].strip(), body)
    assert [(name, filename, data) for name, filename, _, data in form] == [
        ("purpose", None, b"batch"),
        ("file", "big.bin", path.read_bytes()),
    ]


async def test_several_files_in_a_form() -> None:
    client, played = client_of({"created": 1, "data": []})
    images = [("a.png", b"1", "image/png"), ("b.png", b"2", "image/png")]
    await client.images.edit(image=images, mask=("m.png", b"3"), prompt="x", n=2)
    form = form_of(played.request.headers["content-type"], played.request.content)
    assert [(name, filename, data) for name, filename, _, data in form if filename] == [
        ("image[]", "a.png", b"1"),
        ("image[]", "b.png", b"2"),
        ("mask", "m.png", b"3"),
    ]
    assert sorted((name, data) for name, filename, _, data in form if not filename) == [("n", b"2"), ("prompt", b"x")]


async def test_one_file_where_a_list_may_be() -> None:
    client, played = client_of({"created": 1, "data": []})
    await client.images.edit(image=("a.png", b"1"), prompt="x")
    form = form_of(played.request.headers["content-type"], played.request.content)
    assert [(name, filename) for name, filename, _, _ in form if filename] == [("image", "a.png")]


async def test_content(tmp_path: pathlib.Path) -> None:
    data = b"line\n" * 5000
    with serve(chunked([data[:7], data[7:]], "application/octet-stream")) as server:
        async with OpenAI(api_key="k", base_url=server.url) as client:
            response = await client.files.content("f")
            assert type(response) is AsyncBinaryAPIResponse and response.content == data
            await response.write_to_file(tmp_path / "plain")
            raw = await client.files.with_raw_response.content("f")
            assert await raw.read() == data
            async with client.files.with_streaming_response.content("f") as streamed:
                assert type(streamed) is AsyncStreamedBinaryAPIResponse
                await streamed.stream_to_file(tmp_path / "streamed")
            with pytest.warns(DeprecationWarning):
                assert await client.files.retrieve_content("f") == data.decode()
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "streamed").read_bytes() == data
    assert b"accept: application/binary" in server.requests[0].lower()


async def test_other_calls_for_files() -> None:
    pages = [
        {"object": "list", "data": [file("f1")], "has_more": True},
        {"object": "list", "data": [file("f2")], "has_more": False},
    ]
    client, played = client_of(
        file("f1"), *pages, {"id": "f1", "object": "file", "deleted": True}, file("f1", "uploaded"), file("f1")
    )
    assert (await client.files.retrieve("f1")).filename == "a.jsonl"
    assert [found.id async for found in client.files.list(purpose="batch")] == ["f1", "f2"]
    assert (await client.files.delete("f1")).deleted
    done = await client.files.wait_for_processing("f1", poll_interval=0.001)  # the SDK's own helper, over our resource
    assert done.status == "processed"
    assert [one.partition("?")[0] for one in played.asked] == [
        "GET /v1/files/f1",
        "GET /v1/files",
        "GET /v1/files",
        "DELETE /v1/files/f1",
        "GET /v1/files/f1",
        "GET /v1/files/f1",
    ]
