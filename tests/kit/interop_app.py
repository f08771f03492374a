"""The endpoints of tests/kit/interop.py that ASGI allows, for Hypercorn and Granian. ``INTEROP_FILES``: small and big."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

FILES = pathlib.Path(os.environ["INTEROP_FILES"])
SMALL = (FILES / "small").read_bytes()
BIG = (FILES / "big").read_bytes()
LINK = b"</style.css>; rel=preload; as=style"


async def body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def answer(send: Send, content: bytes, status: int = 200) -> None:
    headers = [(b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    extensions = scope.get("extensions") or {}
    match scope["path"]:
        case "/small":
            await answer(send, SMALL)
        case "/big":
            await answer(send, BIG)
        case "/upload":
            digest = hashlib.sha256()
            count = 0
            async for chunk in body(receive):
                digest.update(chunk)
                count += len(chunk)
            await answer(send, json.dumps({"bytes": count, "sha256": digest.hexdigest()}).encode())
        case "/echo":
            await answer(send, b"".join([chunk async for chunk in body(receive)]))
        case "/echo-stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            async for chunk in body(receive):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        case "/early413":
            await answer(send, b"too large", 413)
        case "/trailers" if "http.response.trailers" in extensions:
            headers = [(b"trailer", b"x-checksum")]
            await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
            await send({"type": "http.response.body", "body": SMALL})
            await send({"type": "http.response.trailers", "headers": [(b"x-checksum", b"42")]})
        case "/hints" if "http.response.early_hint" in extensions:
            await send({"type": "http.response.early_hint", "links": [LINK]})
            await answer(send, SMALL)
        case _:
            await answer(send, b"", 404)
