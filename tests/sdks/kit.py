"""A server for the tests: answers in order, and what it was asked."""

from __future__ import annotations

import email.parser
import email.policy
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from anyio_client import MockTransport, Request, Response, RetryPolicy
from tests.kit.peers import Peer, Script

__all__ = ["FAST", "Form", "Played", "chunked", "events", "form_of", "json_of", "sse"]

FAST = RetryPolicy(wait_initial=0.001)
Form = list[tuple[str, str | None, str | None, bytes]]


class Played(MockTransport):
    """Answers with *answers* in order; ``requests`` is what came. A value that is no Response is sent as JSON."""

    def __init__(self, *answers: Any) -> None:
        self.requests: list[Request] = []
        self._answers = list(answers)
        super().__init__(self._answer)

    def _answer(self, request: Request) -> Response:
        self.requests.append(request)
        answer = self._answers.pop(0)
        return answer if isinstance(answer, Response) else Response(200, json=answer)

    @property
    def request(self) -> Request:
        """The only request."""
        assert len(self.requests) == 1, self.requests
        return self.requests[0]

    @property
    def asked(self) -> list[str]:
        """Method and target of each request, the query readable."""
        targets = [request.url.target.partition("?") for request in self.requests]
        queries = ["".join((path, mark, unquote(query))) for path, mark, query in targets]
        return [f"{request.method} {query}" for request, query in zip(self.requests, queries, strict=True)]


def json_of(request: Request) -> Any:
    assert request.headers["content-type"] == "application/json"
    return json.loads(request.content)


def form_of(content_type: str, body: bytes) -> Form:
    """The parts of a form as (name, file name, type, content), read by the standard library."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    assert not message.defects and message.is_multipart(), message.defects
    form: Form = []
    for part in message.iter_parts():
        disposition = part["content-disposition"].params
        content: Any = part.get_payload(decode=True)
        form.append((disposition["name"], disposition.get("filename"), part["content-type"], content))
    return form


def events(*items: tuple[str | None, object], end: str = "") -> bytes:
    """An event stream: (name of the event or None, data)."""
    lines = [f"event: {name}\n" * (name is not None) + f"data: {json.dumps(data)}\n\n" for name, data in items]
    return ("".join(lines) + end).encode()


def sse(body: bytes) -> Response:
    return Response(200, headers={"Content-Type": "text/event-stream; charset=utf-8"}, content=body)


def chunked(pieces: Iterable[bytes], content_type: str, *, whole: bool = True) -> Script:
    """A script for a real socket: one answer in *pieces*, after which the connection stays open if *whole*."""

    def script(peer: Peer) -> None:
        while peer.read_request():
            peer.send(
                f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nRequest-Id: req_1\r\n"
                "Transfer-Encoding: chunked\r\n\r\n".encode()
            )
            for piece in pieces:
                peer.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            if not whole:
                return
            peer.send(b"0\r\n\r\n")

    return script
