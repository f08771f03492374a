"""A server with an API that wants credentials, and an endpoint that gives tokens; the two may be one origin or two."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

from tests.kit.peers import Peer, ok

Answer = bytes | Callable[[Peer], bytes | None]  # None: the connection is over


def token(value: str, **more: object) -> bytes:
    """A good answer of a token endpoint."""
    return ok(json.dumps({"access_token": value, "token_type": "Bearer", **more}).encode())


def field_of(request: bytes, name: str) -> str | None:
    """A field of a request; AssertionError where it is there more than once."""
    values = [
        line.partition(b":")[2].strip().decode()
        for line in request.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        if line.partition(b":")[0].lower() == name.lower().encode()
    ]
    assert len(values) <= 1
    return values[0] if values else None


def path_of(request: bytes) -> str:
    return request.split()[1].decode()


class Guarded:
    """A script: ``/token`` gives these answers, the last one for ever; any other path wants ``Bearer`` and one of ``valid``.

    The answer of the API is the credentials that came, as JSON. Paths: ``/redirect?url`` leads there.
    """

    def __init__(self, *answers: Answer, valid: set[str] | None = None) -> None:
        self.answers = list(answers)
        self.valid = valid  # None: whatever there is
        self.asked: list[bytes] = []  # for tokens
        self.calls: list[str | None] = []  # credentials of the other requests
        self.requests: list[bytes] = []  # the other requests
        self.lock = threading.Lock()

    def __call__(self, peer: Peer) -> None:
        while request := peer.read_request():
            answer = self.answer(peer, request)
            if answer is None:
                return
            peer.send(answer)

    def answer(self, peer: Peer, request: bytes) -> bytes | None:
        path = path_of(request)
        with self.lock:
            if path == "/token":
                self.asked.append(request)
                given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            else:
                value = field_of(request, "authorization")
                self.calls.append(value)
                self.requests.append(request)
                if path.startswith("/redirect?"):
                    given = ok(status="307 Go", headers=f"Location: {path.partition('?')[2]}\r\n")
                elif value is None or (self.valid is not None and value.removeprefix("Bearer ") not in self.valid):
                    given = ok(b'{"error": "who are you?"}', status="401 Unauthorized")
                else:
                    given = ok(json.dumps(value).encode())
        return given(peer) if callable(given) else given
