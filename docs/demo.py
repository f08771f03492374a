"""`make demo`: a local server, and everything the client does with it; first under asyncio, then under trio.

The server is uvicorn with a small application: it fails once, streams, and gives a list in pages.
"""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import time
from typing import Any

import anyio
import attrs

from anyio_client import AsyncAPIClient, AsyncStream, CursorPage, RateLimitError

# --- the server, in a process of its own -----------------------------------------------------------------------------

PETS = [{"id": n, "name": name} for n, name in enumerate(["Ada", "Bo", "Cleo", "Dot", "Eve"], 1)]
failures = {"left": 0}


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    path, query = scope["path"], scope["query_string"].decode()

    async def answer(status: int, body: object, *headers: tuple[bytes, bytes]) -> None:
        head = [(b"content-type", b"application/json"), *headers]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    if path == "/pets/1":
        await answer(200, PETS[0])
    elif path == "/flaky":
        failures["left"] = (failures["left"] or 3) - 1
        if failures["left"]:
            await answer(503, {"error": {"message": "not yet"}}, (b"retry-after-ms", b"50"))
        else:
            await answer(200, PETS[1])
    elif path == "/busy":
        await answer(429, {"error": {"message": "come back tomorrow"}}, (b"retry-after", b"86400"))
    elif path == "/pets":
        first = int(query.removeprefix("cursor=") or 0) if query else 0
        page = {"data": PETS[first : first + 2], "next_cursor": str(first + 2) if first + 2 < len(PETS) else None}
        await answer(200, page)
    elif path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for pet in PETS[:3]:
            data = f"data: {json.dumps(pet)}\n\n".encode()
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
    else:
        await answer(404, {"error": {"message": "no such thing"}})


def start_server() -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = [sys.executable, __file__, "serve", str(port)]
    process = subprocess.Popen(command)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process, f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise SystemExit("the server did not start")


# --- the SDK ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class Pet:
    id: int
    name: str


class PetStream(AsyncStream[Pet]):
    terminator = "[DONE]"


class PetStore(AsyncAPIClient):
    async def pet(self, id: int) -> Pet:
        return await self.get(f"/pets/{id}", cast_to=Pet)

    def pets(self) -> Any:
        return self.get_api_list("/pets", model=Pet, page=CursorPage)


async def tour(url: str) -> None:
    async with PetStore(base_url=url) as client:
        print("  typed   ", await client.pet(1))
        print("  retried ", await client.get("/flaky", cast_to=Pet))
        async with client.stream("GET", "/stream", cast_to=Pet, stream_cls=PetStream) as events:
            print("  stream  ", [pet.name async for pet in events])
        print("  list    ", [pet.name async for pet in client.pets()], "over three pages")
        try:
            await client.get("/busy", cast_to=Pet)
        except RateLimitError as error:
            print(f"  error    {error} (retry_after={error.retry_after:g} s, attempts={len(error.attempts)})")


def main() -> None:
    log = logging.getLogger("anyio_client")
    log.setLevel(logging.INFO)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("  log      %(message)s"))
    log.addHandler(handler)
    process, url = start_server()
    try:
        for backend in ("asyncio", "trio"):
            print(backend)
            anyio.run(tour, url, backend=backend)
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        import uvicorn

        uvicorn.run(application, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
    else:
        main()
