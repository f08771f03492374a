"""HTTPXTransport: what becomes of a caller's body, and of calls that are under way when the client closes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from anyio_client import APIConnectionError, ConnectError, Outcome
from tests.contrib.kit import Library, needs_both
from tests.contrib.test_httpx_transport import body_of, client_of
from tests.kit.peers import Peer, answer_each, ok, serve

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.spread,
    pytest.mark.usefixtures("no_socket_is_left"),
    pytest.mark.filterwarnings("ignore:Async generator '(httpx|httpx2|httpcore|httpcore2)[.]:ResourceWarning"),
    needs_both,
]


async def test_a_failing_upload_is_the_same_exception_and_final(library: Library) -> None:
    made = 0
    for error in (ZeroDivisionError("mine"), OSError("mine")):

        async def pieces(error: Exception = error) -> AsyncIterator[bytes]:
            nonlocal made
            made += 1
            yield b"1"
            raise error

        made = 0
        with serve(answer_each(ok())) as server:
            async with client_of(library, server.url) as client:
                with pytest.raises(type(error)) as caught:
                    await client.put("/", content=lambda: pieces(), cast_to=object)
        assert caught.value is error and made == 1


async def test_an_upload_that_fails_with_an_error_of_ours_is_not_tried_again(library: Library) -> None:
    """It comes from another call of the caller's, and says nothing about this one (as with the other transports)."""
    error = ConnectError("another call", outcome=Outcome.NOT_SENT)
    made = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal made
        made += 1
        yield b"1"
        raise error

    with serve(answer_each(ok())) as server:
        async with client_of(library, server.url) as client:
            with pytest.raises(ConnectError) as caught:
                await client.put("/", content=lambda: pieces(), cast_to=object)
    assert caught.value is error and made == 1


async def test_an_upload_that_fails_with_an_error_of_theirs_is_the_same_exception(library: Library) -> None:
    error = library.module.ReadTimeout("of a download that is passed on")

    async def pieces() -> AsyncIterator[bytes]:
        yield b"1"
        raise error

    with serve(answer_each(ok())) as server:
        async with client_of(library, server.url) as client:
            with pytest.raises(library.module.ReadTimeout) as caught:
                await client.post("/", content=pieces(), cast_to=object)
    assert caught.value is error


async def test_a_body_is_not_lost_when_their_auth_asks_twice(library: Library) -> None:
    """A one-shot body under their Digest: sent whole or an error, never an empty request that the server takes."""
    challenge = (
        b'HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm="r", nonce="n", qop="auth"\r\nContent-Length: 0\r\n\r\n'
    )

    async def pieces() -> AsyncIterator[bytes]:
        yield b"precious"

    error: Exception | None = None
    with serve(answer_each(challenge, ok())) as server:
        theirs = {"auth": library.module.DigestAuth("u", "p")}
        async with client_of(library, server.url, theirs=theirs, max_retries=0) as client:
            try:
                await client.post("/", content=pieces(), cast_to=object)
            except Exception as exc:
                error = exc
    assert error is not None or b"precious" in body_of(server.requests[-1])


async def test_an_upload_that_is_not_read_to_its_end_is_closed(library: Library) -> None:
    """The server ends the connection in the middle: the caller's generator is closed before the call ends."""
    closed = False

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            while True:
                yield bytes(65536)
        finally:
            closed = True

    def script(peer: Peer) -> None:
        peer.receive()
        peer.send(b"HTTP/1.1 413 Big\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        peer.reset()

    with serve(script) as server:
        async with client_of(library, server.url, max_retries=0) as client:
            upload: Any = pieces()
            with pytest.raises(Exception):
                await client.post("/", content=upload, cast_to=object)
            was_closed = closed
            await upload.aclose()
    assert was_closed


async def test_calls_that_close_ends(library: Library) -> None:
    """They end with an error of ours and are not tried again (BEHAVIOUR 14, 6.4)."""
    errors: list[BaseException] = []

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.wait_closed()

    with serve(script) as server:
        client = client_of(library, server.url)

        async def call() -> None:
            try:
                with anyio.fail_after(2):
                    await client.get("/", cast_to=object)
            except Exception as exc:
                errors.append(exc)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await anyio.to_thread.run_sync(server.wait_for_requests, 1)
            await client.close()
    (error,) = errors
    assert isinstance(error, APIConnectionError), repr(error)
    assert len(server.requests) == 1


async def test_a_hook_of_theirs_raises_the_same_object(library: Library) -> None:
    async def strict(response: Any) -> None:
        response.raise_for_status()

    with serve(answer_each(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")) as server:
        hooks = {"event_hooks": {"response": [strict]}}
        async with client_of(library, server.url, theirs=hooks) as client:
            with pytest.raises(library.module.HTTPStatusError):
                await client.get("/", cast_to=object)
        assert len(server.requests) == 1
