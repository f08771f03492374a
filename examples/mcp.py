"""A client for the Model Context Protocol over streamable HTTP: a session, tools, their progress while they work.

    npx @modelcontextprotocol/server-everything streamableHttp
    python examples/mcp.py http://127.0.0.1:3001

To be seen here: a header that the server gives for all later requests, a POST that is answered by a stream of events,
and such a stream taken up again, by GET, after its connection was lost.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import anyio
import attrs

from anyio_client import APIError, AsyncAPIClient, AsyncStream, Omit, RequestOptions, StreamTruncatedError

PROTOCOL = "2025-06-18"


@attrs.frozen
class Progress:
    progress: float
    total: float | None = None
    message: str | None = None


@attrs.frozen
class Tool:
    name: str
    description: str = ""
    inputSchema: dict[str, object] = attrs.field(factory=dict)


@attrs.frozen
class Tools:
    tools: list[Tool]
    nextCursor: str | None = None


@attrs.frozen
class Content:
    type: str
    text: str | None = None


@attrs.frozen
class ToolResult:
    content: list[Content]
    isError: bool = False


@attrs.frozen
class Server:
    serverInfo: dict[str, Any]
    protocolVersion: str = PROTOCOL


R = TypeVar("R")


@attrs.frozen
class Message(Generic[R]):
    """The answer to a request, which has its ``id`` and a ``result``; or what the server says meanwhile."""

    id: int | str | None = None
    result: R | None = None
    method: str | None = None
    params: Progress | dict[str, Any] | None = None


class Messages(AsyncStream[R]):
    """What answers one request: progress and other news, then the result; an error is raised as an APIError."""

    max_resumes = 5

    def resume_options(self, options: RequestOptions, last_event_id: str) -> RequestOptions:
        # The request is not made again: the server keeps what it had to say, and tells the rest to a GET.
        return RequestOptions(method="GET", url=options.url, headers={"Last-Event-ID": last_event_id})


class ToolError(Exception):
    """The tool was called, and says that it failed."""


class MCP(AsyncAPIClient):
    """One session with one server: ``initialize`` begins it, ``end`` ends it."""

    endpoint = "/mcp"
    session_id: str | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._ids = itertools.count(1)

    @property
    def default_headers(self) -> Mapping[str, str | Omit]:
        headers = {**super().default_headers, "Accept": "application/json, text/event-stream"}
        if self.session_id is not None:
            headers |= {"Mcp-Session-Id": self.session_id, "MCP-Protocol-Version": PROTOCOL}
        return headers

    async def call(
        self,
        method: str,
        params: Mapping[str, object] | None = None,
        *,
        cast_to: type[R],
        on_progress: Callable[[Progress], object] | None = None,
    ) -> R:
        """The result of *method*, as *cast_to*; *on_progress* is called with what the server says before."""
        id = next(self._ids)
        if on_progress is not None:
            params = {**(params or {}), "_meta": {"progressToken": id}}
        body = {"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}}
        message_type = Message[cast_to]  # type: ignore[valid-type]
        async with self.stream("POST", self.endpoint, body=body, cast_to=message_type, stream_cls=Messages) as messages:
            self.session_id = messages.response.headers.get("mcp-session-id", self.session_id)
            async for message in messages:
                result: R | None = message.result
                if message.id == id and result is not None:
                    return result
                if on_progress is not None and isinstance(message.params, Progress):
                    on_progress(message.params)
        raise StreamTruncatedError("The server's answer ended without a result.")

    async def notify(self, method: str) -> None:
        await self.post(self.endpoint, body={"jsonrpc": "2.0", "method": method}, cast_to=type(None))

    async def initialize(self) -> Server:
        """Begin the session; what the server says of itself."""
        me = {"name": "anyio-client", "version": "1"}
        params = {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": me}
        server = await self.call("initialize", params, cast_to=Server)
        await self.notify("notifications/initialized")
        return server

    async def tools(self) -> list[Tool]:
        tools: list[Tool] = []
        page = await self.call("tools/list", cast_to=Tools)
        tools += page.tools
        while page.nextCursor:
            page = await self.call("tools/list", {"cursor": page.nextCursor}, cast_to=Tools)
            tools += page.tools
        return tools

    async def call_tool(
        self, name: str, arguments: Mapping[str, object], on_progress: Callable[[Progress], object] | None = None
    ) -> ToolResult:
        """The result of a tool; ToolError if it failed. With *on_progress* the server tells how far it is."""
        params = {"name": name, "arguments": arguments}
        result = await self.call("tools/call", params, cast_to=ToolResult, on_progress=on_progress)
        if result.isError:
            raise ToolError(" ".join(content.text or "" for content in result.content))
        return result

    async def end(self) -> None:
        """End the session; the server forgets what it kept for it."""
        await self.delete(self.endpoint, cast_to=type(None))
        self.session_id = None


async def main(base_url: str) -> None:
    async with MCP(base_url=base_url) as mcp:
        print((await mcp.initialize()).serverInfo["name"])
        print([tool.name for tool in await mcp.tools()])
        print(await mcp.call_tool("echo", {"message": "hello"}))
        print(await mcp.call_tool("trigger-long-running-operation", {"duration": 1, "steps": 4}, on_progress=print))
        try:
            await mcp.call("no/such/method", cast_to=object)
        except APIError as error:
            print(error)
        await mcp.end()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
