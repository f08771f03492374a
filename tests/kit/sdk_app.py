"""An API in the dialects of Anthropic and of OpenAI, as an ASGI application, for the SDKs themselves (tests/sdks).

tests/kit/sdk_server.py runs it under Hypercorn, in a process and a Python of their own: nothing but the standard library
and Hypercorn's dependencies may be imported. What a request says in its headers:

x-run      its key: what the server saw of it is at ``GET /control/KEY``
x-behave   ``503*2``: the first two of the run get this status, with ``retry-after-ms: 1``; ``hang``: no answer; ``drip``:
           the answer comes in small pieces, PAUSE seconds apart; ``gate``: the answer (of a stream: what follows its
           first words) comes after ``POST /control/KEY/open``

The words of every answer are WORDS; every file is BIG_BYTES bytes with the digest BIG_SHA256.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import json
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

WORDS = ["One ", "two ", "three ", "fünf ", "and all."]
BIG_BYTES = 8_000_000
BIG_SHA256 = "bafcbe35c0ce60a8f1ccf50ae453d531f5fd204f6785d22aff0c0478945d08bd"
PAUSE = 0.1
ITEMS = 7  # of each list
PIECE = 65_536

Message = dict[str, Any]
Events = list[tuple[str | None, Message]]

TEXT = "".join(WORDS)
USAGE = {"input_tokens": 3, "output_tokens": 5}


class Run:
    """What the server saw of one key, and its gate."""

    def __init__(self) -> None:
        self.requests: list[Message] = []
        self.answered = 0
        self.gate = asyncio.Event()

    def add(self, method: str, path: str, version: str, headers: dict[str, str]) -> int:
        """The number of this request in its run, from 1."""
        self.requests.append({"method": method, "path": path, "version": version, "headers": headers})
        return len(self.requests)


RUNS: dict[str, Run] = collections.defaultdict(Run)
BIG = random.Random(0).randbytes(BIG_BYTES) if "SDK_DOOR" in os.environ else b""
DOORS: dict[str, int] = {}  # of tests/kit/sdk_door.py: the port of each scheme


# -- the dialects


def anthropic_message(**changes: Any) -> Message:
    content = [{"type": "text", "text": TEXT, "citations": None}]
    end = {"stop_reason": "end_turn", "stop_sequence": None, "usage": USAGE}
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content, **end, **changes}


def anthropic_events() -> Events:
    block = {"type": "text", "text": "", "citations": None}
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in WORDS
    ]
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    events: list[Message] = [
        {"type": "message_start", "message": anthropic_message(content=[], stop_reason=None)},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *deltas,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    return [(event["type"], event) for event in events]


def chat_completion() -> Message:
    message = {"role": "assistant", "content": TEXT, "refusal": None}
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, "message": message}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def chat_events() -> Events:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    deltas: list[tuple[Message, str | None]] = [({"content": word}, None) for word in WORDS]
    choices = [{"index": 0, "delta": delta, "finish_reason": reason} for delta, reason in [*deltas, ({}, "stop")]]
    return [(None, {**head, "choices": [choice]}) for choice in choices]


def openai_response(**changes: Any) -> Message:
    text = {"type": "output_text", "text": TEXT, "annotations": []}
    output = {"id": "o1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    head = {"id": "r1", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": [output]}
    return {**head, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], **changes}


def response_events() -> Events:
    place = {"item_id": "o1", "output_index": 0, "content_index": 0}
    deltas = [{"type": "response.output_text.delta", "delta": word, "logprobs": [], **place} for word in WORDS]
    events: list[Message] = [
        {"type": "response.created", "response": openai_response(status="in_progress", output=[])},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**openai_response()["output"][0], "content": []},
        },
        {
            "type": "response.content_part.added",
            "part": {"type": "output_text", "text": "", "annotations": []},
            **place,
        },
        *deltas,
        {"type": "response.completed", "response": openai_response()},
    ]
    return [(event["type"], {**event, "sequence_number": number}) for number, event in enumerate(events)]


def listing(path: str, query: dict[str, list[str]]) -> Message:
    """A page of ITEMS items, after the cursor of either dialect."""
    after = query.get("after_id") or query.get("after")
    first = int(after[0].rpartition("-")[2]) + 1 if after else 0
    limit = int(query.get("limit", ["100"])[0])
    numbers = range(first, min(first + limit, ITEMS))
    if path.startswith("/openai"):
        more = {"object": "file", "bytes": 1, "created_at": 1, "filename": "a", "purpose": "batch", "status": "ok"}
    else:
        more = {"type": "model", "display_name": "M", "created_at": "2026-01-02T03:04:05Z"}
    items = [{"id": f"item-{number}", **more} for number in numbers]
    ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {}
    return {"object": "list", "data": items, "has_more": bool(items) and numbers[-1] + 1 < ITEMS, **ends}


def uploaded(path: str, content_type: str, body: bytes) -> Message:
    """The facts of the only file in a form."""
    boundary = content_type.partition("boundary=")[2].strip('"').encode()
    file = next(part for part in body.split(b"--" + boundary) if b"filename=" in part[:500])
    content = file.partition(b"\r\n\r\n")[2][:-2]
    facts = {
        "id": "file-1",
        "filename": "a",
        "sha256": hashlib.sha256(content).hexdigest(),
        "parts": body.count(boundary) - 1,
    }
    if path.startswith("/openai"):
        return {**facts, "object": "file", "bytes": len(content), "created_at": 1, "purpose": "batch", "status": "ok"}
    more = {"type": "file", "mime_type": "a/b", "created_at": "2026-01-02T03:04:05Z", "downloadable": True}
    return {**facts, "size_bytes": len(content), **more}


def answer_of(path: str) -> Message:
    """What is said to the request for a message, whichever dialect."""
    if path.endswith("/chat/completions"):
        return chat_completion()
    return openai_response() if path.endswith("/responses") else anthropic_message()


def events_of(path: str) -> Events:
    if path.endswith("/chat/completions"):
        return chat_events()
    return response_events() if path.endswith("/responses") else anthropic_events()


# -- ASGI


class Exchange:
    """One request and its answer."""

    def __init__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        self._receive, self._send = receive, send
        self.method, self.path = scope["method"], scope["path"]
        self.query = parse_qs(scope["query_string"].decode())
        self.headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.behave = self.headers.get("x-behave", "")
        self.run = RUNS[self.headers.get("x-run", "")]
        self.version = scope["http_version"]

    async def body(self) -> bytes:
        pieces = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError
            pieces.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(pieces)

    async def answer(
        self, pieces: AsyncIterator[bytes] | Iterable[bytes], content_type: str, status: int = 200, **fields: str
    ) -> None:
        headers = {"content-type": content_type, "request-id": "req_1", **fields}
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})
        async for piece in pieces if isinstance(pieces, AsyncIterator) else paced(pieces, 0):
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        self.run.answered += 1
        await self._send({"type": "http.response.body", "body": b""})

    async def json(self, value: Message, status: int = 200, **fields: str) -> None:
        content = json.dumps(value, ensure_ascii=False).encode()
        pieces: AsyncIterator[bytes] | list[bytes] = [content]
        if self.behave == "drip":
            step = -(-len(content) // 12)
            pieces = paced([content[at : at + step] for at in range(0, len(content), step)], PAUSE)
        await self.answer(pieces, "application/json", status, content_length=str(len(content)), **fields)

    async def events(self, events: Events, end: str) -> None:
        texts = [f"event: {name}\n" * bool(name) + f"data: {json.dumps(data)}\n\n" for name, data in events]

        async def pieces() -> AsyncIterator[bytes]:
            for number, text in enumerate([*texts, end]):
                if number == 4 and self.behave == "gate":  # the first words of every dialect have been said
                    await self.run.gate.wait()
                yield text.encode()
                if self.behave == "drip":
                    await asyncio.sleep(PAUSE)

        await self.answer(pieces(), "text/event-stream; charset=utf-8")

    async def until_it_leaves(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def paced(pieces: Iterable[bytes], pause: float) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        if pause:
            await asyncio.sleep(pause)


async def control(exchange: Exchange) -> None:
    _, _, key, *verb = exchange.path.split("/")
    run = RUNS[key]
    if verb == ["open"]:
        run.gate.set()
    await exchange.json({"requests": run.requests, "answered": run.answered, "doors": DOORS})


async def serve(exchange: Exchange) -> None:
    number = exchange.run.add(exchange.method, exchange.path, exchange.version, exchange.headers)
    body = await exchange.body()
    status, _, times = exchange.behave.partition("*")
    if times and number <= int(times):
        error = {"type": "overloaded_error", "message": "not now", "code": None}
        await exchange.json({"type": "error", "error": error}, int(status), retry_after_ms="1")
        return
    if exchange.behave == "hang":
        await exchange.until_it_leaves()
        return
    path = exchange.path
    match exchange.method, path.rpartition("/")[2]:
        case "POST", "messages" | "completions" | "responses":
            if json.loads(body).get("stream"):
                await exchange.events(events_of(path), "data: [DONE]\n\n" if path.startswith("/openai") else "")
                return
            if exchange.behave == "gate":
                await exchange.run.gate.wait()
            await exchange.json(answer_of(path))
        case "POST", "files":
            await exchange.json(uploaded(path, exchange.headers["content-type"], body))
        case "GET", "content":
            pieces = [BIG[at : at + PIECE] for at in range(0, BIG_BYTES, PIECE)]
            await exchange.answer(pieces, "application/octet-stream", content_length=str(BIG_BYTES))
        case "POST", "speech":
            await exchange.answer([BIG[at : at + PIECE] for at in range(0, BIG_BYTES, PIECE)], "audio/mpeg")
        case "GET", "models" | "files":
            await exchange.json(listing(path, exchange.query))
        case _:
            await exchange.json({"type": "error", "error": {"message": f"no {path}"}}, 404)


async def lifespan(receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
    import sdk_door

    async with contextlib.AsyncExitStack() as stack:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                DOORS.update(await stack.enter_async_context(sdk_door.opened()))
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    exchange = Exchange(scope, receive, send)
    with contextlib.suppress(ConnectionError):
        await (control if exchange.path.startswith("/control/") else serve)(exchange)
