"""Origins: scripted servers that answer by path, and what they saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import attrs

from .peers import Peer, Script, ScriptedServer

REASONS = {
    300: "Multiple Choices", 301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified", 305: "Use Proxy",
    307: "Temporary Redirect", 308: "Permanent Redirect",
}  # fmt: skip


@attrs.frozen
class Seen:
    """One request as a server saw it."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    body: bytes
    raw: bytes

    @property
    def names(self) -> set[str]:
        """Names of fields, in lower case."""
        return {name.lower() for name, _ in self.fields}

    def get_list(self, name: str) -> list[str]:
        return [value for given, value in self.fields if given.lower() == name]

    def get(self, name: str) -> str | None:
        return ", ".join(self.get_list(name)) if name in self.names else None


def parse(raw: bytes) -> Seen:
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    method, target, _ = line.split(" ")
    pairs = [field.partition(":") for field in fields]
    return Seen(method, target, tuple((name, value.strip()) for name, _, value in pairs), body, raw)


def seen_by(server: ScriptedServer) -> list[Seen]:
    return [parse(raw) for raw in server.requests]


Answer: TypeAlias = "bytes | Callable[[Seen], bytes]"


def by_path(answers: Mapping[str, Answer]) -> Script:
    """Answer each request by its path (what stands before the question mark); 404 for one that is not in *answers*.

    *answers* may be changed while the server runs.
    """

    def script(peer: Peer) -> None:
        while raw := peer.read_request():
            request = parse(raw)
            answer = answers.get(request.target.partition("?")[0], b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
            peer.send(answer if isinstance(answer, bytes) else answer(request))

    return script


def moved(*locations: str, status: int = 302, body: bytes = b"moved", fields: str = "") -> bytes:
    """A redirect with a body."""
    lines = "".join(f"Location: {location}\r\n" for location in locations)
    head = f"HTTP/1.1 {status} {REASONS.get(status, 'Odd')}\r\n{lines}{fields}"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
