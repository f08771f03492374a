"""A door beside Hypercorn, in its process, for what no ASGI application can do: to break a connection off.

HTTP/1.1 on one port, HTTP/2 over TLS on the other. The first part of the path says what is done with a connection:

close    closed when it has brought a request, without an answer
second   the same, for its second request: the first is answered
once     closed after its first answer, which does not say so
short    closed in the midst of the first answer
refuse   HTTP/2: every request is reset with REFUSED_STREAM; HTTP/1.1: as close
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import sdk_app
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import RequestReceived, StreamEnded
from h2.exceptions import ProtocolError

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter, list[sdk_app.Run]], Awaitable[None]]


def _noted(method: str, path: str, version: str, headers: dict[str, str]) -> sdk_app.Run:
    run = sdk_app.RUNS[headers.get("x-run", "")]
    run.add(method, path, version, headers)
    return run


async def _read_request(reader: asyncio.StreamReader, runs: list[sdk_app.Run]) -> str:
    """The path of the next request, which is noted; its body is read."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *fields = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    await reader.readexactly(int(headers.get("content-length", "0")))
    method, path, _ = line.split()
    runs.append(_noted(method, path, "1.1", headers))
    return path


async def _http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, runs: list[sdk_app.Run]) -> None:
    served = 0
    while True:
        path = await _read_request(reader, runs)
        mode = path.split("/")[1]
        if mode in ("close", "refuse") or (mode == "second" and served):
            return
        content = json.dumps(sdk_app.answer_of(path)).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + (content[:10] if mode == "short" else content))
        await writer.drain()
        served += 1
        if mode in ("short", "once"):
            return


async def _http2(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, runs: list[sdk_app.Run]) -> None:
    connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    connection.initiate_connection()
    paths: dict[int, str] = {}
    ended = False
    while not ended:
        writer.write(connection.data_to_send())
        await writer.drain()
        data = await reader.read(65_536)
        if not data:
            return
        for event in connection.receive_data(data):
            if isinstance(event, RequestReceived):
                headers = dict(event.headers)  # type: ignore[arg-type]
                paths[event.stream_id] = headers[":path"]
                runs.append(_noted(headers[":method"], headers[":path"], "2", headers))
            elif isinstance(event, StreamEnded) and not ended:
                ended = _answer(connection, event.stream_id, paths[event.stream_id], len(paths))
    writer.write(connection.data_to_send())
    await writer.drain()


def _answer(connection: H2Connection, stream: int, path: str, number: int) -> bool:
    """Whether the connection is closed now. *number*: of the request on its connection, from 1."""
    mode = path.split("/")[1]
    if mode == "close" or (mode == "second" and number > 1):
        return True
    if mode == "refuse":
        connection.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        return False
    content = json.dumps(sdk_app.answer_of(path)).encode()
    fields = [(":status", "200"), ("content-type", "application/json"), ("content-length", str(len(content)))]
    connection.send_headers(stream, fields)
    connection.send_data(stream, content[:10] if mode == "short" else content, end_stream=mode != "short")
    return mode in ("short", "once")


def _visited(talk: Talk) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Close the connection after *talk*, and count that for its last run."""

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        runs: list[sdk_app.Run] = []
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ProtocolError):
            await talk(reader, writer, runs)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        for run in runs[-1:]:
            run.answered += 1

    return visit


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[dict[str, int]]:
    """The port of each scheme."""
    certificate, key = os.environ["SDK_DOOR"].split(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    plain = await asyncio.start_server(_visited(_http1), "127.0.0.1", 0)
    # Not every client answers to the end of TLS: then the connection is closed all the same.
    secure = await asyncio.start_server(_visited(_http2), "127.0.0.1", 0, ssl=context, ssl_shutdown_timeout=0.05)
    yield {"http": plain.sockets[0].getsockname()[1], "https": secure.sockets[0].getsockname()[1]}
    plain.close()
    secure.close()
