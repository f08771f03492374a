"""The same calls, by the SDKs themselves and by their classes on this runtime: what is sent is the same."""

from __future__ import annotations

import io
import json
import pathlib
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, unquote

import anthropic
import httpx2
import openai
import pytest

from anyio_client import APIStatusError, Response
from tests.sdks.anthropic_sdk import Anthropic
from tests.sdks.kit import Played, form_of
from tests.sdks.openai_sdk import OpenAI

pytestmark = pytest.mark.anyio

HI: list[Any] = [{"role": "user", "content": "Hi"}]
TOOLS: list[Any] = [{"name": "add", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}]
# Of the machine, of the connection, and of the HTTP library.
NOT_COMPARED = {"host", "connection", "user-agent", "accept-encoding", "content-length", "x-api-key", "authorization"}

Call = Callable[[Any], Awaitable[Any]]


def request_of(method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> dict[str, Any]:
    """What a request says, without the order of parameters and parts, and without the boundary."""
    path, _, query = target.partition("?")
    said = {name.lower(): value for name, value in headers if name.lower() not in NOT_COMPARED}
    said = {name: value for name, value in said.items() if not name.startswith("x-stainless-")}
    if said.get("accept") == "text/event-stream":  # ours asks for what it wants, theirs for JSON
        said["accept"] = "application/json"
    content_type = said.pop("content-type", "")
    content: Any = body
    if content_type.startswith("multipart/form-data"):
        content = sorted(form_of(content_type, body), key=repr)
        content = [(name, filename, data) for name, filename, _, data in content]
    elif body:
        content = json.loads(body)
    return {
        "method": method,
        "path": unquote(path),
        "query": sorted(parse_qsl(query, keep_blank_values=True)),
        "headers": said,
        "type": content_type.partition(";")[0] if body else "",  # theirs says one of the empty body of a DELETE
        "content": content,
    }


async def sent_by_sdk(make: Callable[[Any], Any], call: Call) -> dict[str, Any]:
    seen: list[dict[str, Any]] = []

    async def handler(request: Any) -> Any:
        target = request.url.raw_path.decode()
        seen.append(request_of(request.method, target, request.headers.multi_items(), await request.aread()))
        return httpx2.Response(418, json={})

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handler)) as http_client:
        with pytest.raises((anthropic.APIStatusError, openai.APIStatusError)):
            await call(make(http_client))
    return seen[0]


async def sent_by_us(make: Callable[[Played], Any], call: Call) -> dict[str, Any]:
    played = Played(Response(418, json={}))
    with pytest.raises(APIStatusError, match="418"):
        await call(make(played))
    request = played.request
    return request_of(request.method, request.url.target, list(request.headers.multi_items()), request.content)


def anthropic_pair() -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    url = "https://api.example"
    return (
        lambda http_client: anthropic.AsyncAnthropic(api_key="k", base_url=url, http_client=http_client, max_retries=0),
        lambda played: Anthropic(
            api_key="k",
            base_url=url,
            http_client=played,
            max_retries=0,
            custom_headers={"anthropic-version": anthropic._constants.ANTHROPIC_API_VERSION},
        ),
    )


def openai_pair() -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    url = "https://api.example/v1"
    return (
        lambda http_client: openai.AsyncOpenAI(api_key="k", base_url=url, http_client=http_client, max_retries=0),
        lambda played: OpenAI(api_key="k", base_url=url, http_client=played, max_retries=0),
    )


ANTHROPIC: dict[str, Call] = {
    "retrieve": lambda c: c.models.retrieve("a b/ü", extra_query={"x": ["1", "2"]}, extra_headers={"X-Own": "1"}),
    "list": lambda c: c.models.list(limit=3, after_id="a", lifecycle=["active", "retired"]),
    "create": lambda c: c.messages.create(
        max_tokens=5,
        messages=iter(HI),
        model="m",
        tools=(tool for tool in TOOLS),
        stop_sequences=("a", "b"),
        metadata={"user_id": None},
        service_tier="auto",
        workspace_id="w",
        extra_body={"max_tokens": 6, "more": {"x": [None, True]}},
    ),
    "stream": lambda c: c.messages.create(max_tokens=5, messages=HI, model="m", stream=True),
    "raw": lambda c: c.messages.with_raw_response.create(max_tokens=5, messages=HI, model="m"),
    "count": lambda c: c.messages.count_tokens(messages=HI, model="m", system="x", tools=TOOLS),
    "betas": lambda c: c.beta.models.retrieve("m", betas=["a", "b"]),
    "betas over": lambda c: c.beta.models.retrieve("m", betas=["a"], extra_headers={"Anthropic-Beta": "mine"}),
    "upload": lambda c: c.files.upload(file=("ä.txt", b"\x00hi", "text/plain"), expires_in_seconds=3600),
    "upload open": lambda c: c.files.upload(file=("x", io.BytesIO(b"hi"))),
    "upload path": lambda c: c.files.upload(file=pathlib.Path(__file__)),
    "beta upload": lambda c: c.beta.files.upload(file=("x", b"hi"), betas=["mine"]),
    "download": lambda c: c.files.download("f/1"),
    "download raw": lambda c: c.files.with_raw_response.download("f"),
    "delete": lambda c: c.files.delete("f"),
}

OPENAI: dict[str, Call] = {
    "retrieve": lambda c: c.models.retrieve("a b/ü"),
    "create": lambda c: c.chat.completions.create(
        messages=iter(HI),
        model="m",
        stop=("a", "b"),
        temperature=None,
        metadata={"a": "b"},
        logit_bias={"50256": -100},
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        extra_body={"model": "n", "more": 1},
    ),
    "stream": lambda c: c.chat.completions.create(
        messages=HI, model="m", stream=True, stream_options={"include_usage": True}
    ),
    "list": lambda c: c.chat.completions.list(limit=2, metadata={"k": "v"}, order="asc"),
    "update": lambda c: c.chat.completions.update("c/1", metadata=None),
    "delete": lambda c: c.chat.completions.delete("c"),
    "response": lambda c: c.responses.create(
        input=[{"role": "user", "content": [{"type": "input_text", "text": "x"}]}], model="m", include=["a"]
    ),
    "retrieve response": lambda c: c.responses.retrieve("r", include=["a", "b"], starting_after=3),
    "delete response": lambda c: c.responses.delete("r"),
    "items": lambda c: c.responses.input_items.list("r", include=["a"], order="asc"),
    "upload": lambda c: c.files.create(
        file=("ä.jsonl", b"{}"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    ),
    "upload open": lambda c: c.files.create(file=("x", io.BytesIO(b"hi"), "text/x"), purpose="batch"),
    "upload path": lambda c: c.files.create(file=pathlib.Path(__file__), purpose="batch"),
    "edit": lambda c: c.images.edit(
        image=[("a.png", b"1"), ("b.png", b"2")], mask=("m.png", b"3"), prompt="x", n=2, stream=False
    ),
    "edit one": lambda c: c.images.edit(image=("a.png", b"1"), prompt="x"),
    "content": lambda c: c.files.content("f"),
    "content raw": lambda c: c.files.with_raw_response.content("f"),
}


@pytest.mark.parametrize("name", ANTHROPIC)
async def test_anthropic(name: str) -> None:
    sdk, ours = anthropic_pair()
    assert await sent_by_us(ours, ANTHROPIC[name]) == await sent_by_sdk(sdk, ANTHROPIC[name])


@pytest.mark.parametrize("name", OPENAI)
async def test_openai(name: str) -> None:
    sdk, ours = openai_pair()
    assert await sent_by_us(ours, OPENAI[name]) == await sent_by_sdk(sdk, OPENAI[name])
