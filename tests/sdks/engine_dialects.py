"""The SDKs of Anthropic and of OpenAI as one thing to check: ``DIALECTS``. And what they may run on: ``TRANSPORTS``."""

from __future__ import annotations

import importlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

import anthropic
import httpx2
import openai

HI: Any = [{"role": "user", "content": "Hi"}]


class Dialect(Protocol):
    """``sdk``: its module, for the errors. *say*: options of every call, such as ``timeout`` and ``extra_headers``.

    ``variants``: the kinds of streams; ``stream`` gives the SDK's object, ``words`` what an event of it says, "" if
    nothing.
    """

    name: str
    sdk: Any
    variants: tuple[str, ...]
    prefix: str

    def client(self, base_url: str, http_client: httpx2.AsyncClient, **options: Any) -> Any: ...
    async def create(self, client: Any, **say: Any) -> str: ...
    async def stream(self, client: Any, variant: str, **say: Any) -> Any: ...
    def words(self, event: Any) -> str: ...
    def helper(self, client: Any, **say: Any) -> Any: ...
    async def upload(self, client: Any, content: bytes, **say: Any) -> tuple[int, Mapping[str, Any]]: ...
    async def download(self, client: Any, **say: Any) -> bytes: ...
    def downloading(self, client: Any, **say: Any) -> Any: ...
    def listing(self, client: Any, **say: Any) -> AsyncIterator[Any]: ...


class Anthropic:
    name = "anthropic"
    sdk = anthropic
    variants = ("messages",)
    prefix = ""

    def client(self, base_url: str, http_client: httpx2.AsyncClient, **options: Any) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(base_url=base_url, api_key="x", http_client=http_client, **options)

    async def create(self, client: Any, **say: Any) -> str:
        message = await client.messages.create(model="m", max_tokens=9, messages=HI, **say)
        return "".join(block.text for block in message.content)

    async def stream(self, client: Any, variant: str, **say: Any) -> Any:
        return await client.messages.create(model="m", max_tokens=9, messages=HI, stream=True, **say)

    def words(self, event: Any) -> str:
        return event.delta.text if event.type == "content_block_delta" else ""

    def helper(self, client: Any, **say: Any) -> Any:
        return client.messages.stream(model="m", max_tokens=9, messages=HI, **say)

    async def upload(self, client: Any, content: bytes, **say: Any) -> tuple[int, Mapping[str, Any]]:
        file = await client.files.upload(file=("a.bin", content, "application/octet-stream"), **say)
        return file.size_bytes, file.model_extra

    async def download(self, client: Any, **say: Any) -> bytes:
        return await (await client.files.download("file-1", **say)).read()

    def downloading(self, client: Any, **say: Any) -> Any:
        return client.files.with_streaming_response.download("file-1", **say)

    def listing(self, client: Any, **say: Any) -> AsyncIterator[Any]:
        return client.models.list(limit=3, **say)


class OpenAI:
    name = "openai"
    sdk = openai
    variants = ("chat", "responses")
    prefix = "/openai/v1"

    def client(self, base_url: str, http_client: httpx2.AsyncClient, **options: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=base_url + self.prefix, api_key="x", http_client=http_client, **options)

    async def create(self, client: Any, **say: Any) -> str:
        answer = await client.chat.completions.create(model="m", messages=HI, **say)
        return answer.choices[0].message.content

    async def stream(self, client: Any, variant: str, **say: Any) -> Any:
        if variant == "responses":
            return await client.responses.create(model="m", input="Hi", stream=True, **say)
        return await client.chat.completions.create(model="m", messages=HI, stream=True, **say)

    def words(self, event: Any) -> str:
        if getattr(event, "object", None) == "chat.completion.chunk":
            return event.choices[0].delta.content or ""
        return event.delta if event.type == "response.output_text.delta" else ""

    def helper(self, client: Any, **say: Any) -> Any:
        return client.responses.stream(model="m", input="Hi", **say)

    async def upload(self, client: Any, content: bytes, **say: Any) -> tuple[int, Mapping[str, Any]]:
        file = await client.files.create(file=("a.bin", content), purpose="batch", **say)
        return file.bytes, file.model_extra

    async def download(self, client: Any, **say: Any) -> bytes:
        return (await client.files.content("file-1", **say)).content

    def downloading(self, client: Any, **say: Any) -> Any:
        speech = client.audio.speech.with_streaming_response
        return speech.create(input="Hi", model="m", voice="alloy", **say)

    def listing(self, client: Any, **say: Any) -> AsyncIterator[Any]:
        return client.files.list(limit=3, **say)


DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (Anthropic(), OpenAI())}


def engine(trust: ssl.SSLContext, *, http2: bool, connections: int | None = None) -> httpx2.AsyncClient:
    """Our own connections below httpx2."""
    from anyio_client import Limits

    module = importlib.import_module("anyio_client.contrib.httpx2")
    limits = {} if connections is None else {"limits": Limits(max_connections=connections)}
    transport = module.EngineTransport(tls=trust, http1=not http2, http2=http2, **limits)
    return httpx2.AsyncClient(transport=transport)


def own(trust: ssl.SSLContext, *, http2: bool, connections: int | None = None) -> httpx2.AsyncClient:
    """What the SDKs make for themselves, with HTTP/2 where it is asked for."""
    limits = httpx2.Limits(max_connections=connections or 1000, max_keepalive_connections=100)
    return httpx2.AsyncClient(verify=trust, http1=not http2, http2=http2, limits=limits)


TRANSPORTS: Mapping[str, Callable[..., httpx2.AsyncClient]] = {"engine": engine, "own": own}
