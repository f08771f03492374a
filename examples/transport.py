"""A transport of one's own: it records answers in a JSON file, and later gives them again without a network.

    python examples/transport.py

To be seen here: all that a transport is, one around another, and an error that says what retries are decided by.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import anyio

from anyio_client import (
    APIConnectionError,
    AsyncAPIClient,
    MockTransport,
    Outcome,
    Request,
    Response,
    Timeout,
    Transport,
)


class Recorder:
    """What *inner* answers is kept in *path*; ``inner=None`` replays: the same requests get the same answers."""

    def __init__(self, path: str, inner: Transport | None = None) -> None:
        self._path = anyio.Path(path)
        self._inner = inner
        self._answers: dict[str, list[Any]] | None = None

    async def send(self, request: Request, *, timeout: Timeout, deadline: float | None) -> Response:
        if self._answers is None:
            self._answers = {} if self._inner else json.loads(await self._path.read_text())
        body = hashlib.sha256(await request.read()).hexdigest()  # read() keeps it, so that it can still be sent
        answers = self._answers.setdefault(f"{request.method} {request.url} {body}", [])
        if self._inner is not None:
            response = await self._inner.send(request, timeout=timeout, deadline=deadline)
            return Response(response.status_code, headers=response.headers, content=self._copy(response, answers))
        if not answers:  # NOT_SENT is retried for every method, unless trying again cannot help
            error = APIConnectionError("Not recorded.", request=request, outcome=Outcome.NOT_SENT)
            error.retryable = False
            raise error
        kept = answers.pop(0) if len(answers) > 1 else answers[0]  # the last one for all that follow
        return Response(kept[0], headers=kept[1], content=base64.b64decode(kept[2]))

    async def _copy(self, response: Response, answers: list[Any]) -> AsyncIterator[bytes]:
        """The body, each piece as it arrives, so that streams are not held back. Whole answers only are kept."""
        pieces: list[bytes] = []
        async with aclosing(response):
            async for piece in response.iter_raw():  # content codings are the client's to undo
                pieces.append(piece)
                yield piece
        body = base64.b64encode(b"".join(pieces)).decode()
        answers.append([response.status_code, response.headers.multi_items(), body])

    async def aclose(self) -> None:
        if self._inner is not None:
            await self._inner.aclose()
            await self._path.write_text(json.dumps(self._answers or {}, indent=1))


async def main(path: str) -> None:
    network = MockTransport(lambda request: Response(200, json={"path": request.url.path}))  # or HTTPTransport()
    for inner in (network, None):
        async with AsyncAPIClient(base_url="http://api.example", http_client=Recorder(path, inner)) as client:
            print(await client.get("/zoo", cast_to=dict[str, str]), "recorded" if inner else "replayed")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(main, f"{folder}/answers.json")
