"""What the SDKs must be told when a call fails, and that nobody below them sends again: ``FAILURES``."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import httpx2

from tests.kit.sdk_app import BIG_BYTES, TEXT
from tests.sdks.engine_dialects import TRANSPORTS
from tests.sdks.engine_place import Checks, Place

FAILURES = Checks()
SHORT = 0.3  # seconds until a silent server is given up
# What httpx2 calls a connection that the server closed: which it is depends on who notices.
BROKEN_OFF = (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError)


@contextlib.contextmanager
def failing(error: type[Exception], cause: type[Exception] | tuple[type[Exception], ...]) -> Iterator[None]:
    """The block raises exactly *error*, because of *cause*."""
    try:
        yield
    except Exception as exc:
        if type(exc) is not error or not isinstance(exc.__cause__, cause):
            raise AssertionError(f"{type(exc).__name__} because of {exc.__cause__!r}") from exc
    else:
        raise AssertionError(f"no {error.__name__}")


@FAILURES.add
async def retries(place: Place) -> None:
    """The SDK sends again, and nobody else does."""
    sdk = place.dialect.sdk
    for status, error in ((429, sdk.RateLimitError), (503, sdk.InternalServerError)):
        async with place.client(max_retries=2) as client:
            run = place.server.run()
            await place.create(client, run, f"{status}*2")
            counts = [request["headers"]["x-stainless-retry-count"] for request in await run.requests()]
            assert counts == ["0", "1", "2"], counts
        async with place.client() as client:
            run = place.server.run()
            try:
                await place.create(client, run, f"{status}*2")
            except sdk.APIStatusError as exc:
                assert isinstance(exc, error) and exc.status_code == status
            else:
                raise AssertionError("no error")
            assert len(await run.requests()) == 1


async def _broken_off(place: Place, mode: str, first: int, max_retries: int, cause: Any = BROKEN_OFF) -> None:
    """*first* calls are answered, the next one is not, and is sent 1 + *max_retries* times."""
    run = place.server.run()
    async with place.client(place.door(mode), max_retries=max_retries) as client:
        for _ in range(first):
            await place.create(client, run)
        with failing(place.dialect.sdk.APIConnectionError, cause):
            await place.create(client, run)
    seen = [request["headers"]["x-stainless-retry-count"] for request in await run.requests()]
    expected = ["0"] * first + [str(number) for number in range(max_retries + 1)]
    assert seen == expected, f"the server saw {len(seen)} requests, not {len(expected)}: {seen}"


@FAILURES.add
async def closed_without_an_answer(place: Place) -> None:
    await _broken_off(place, "close", 0, 0)
    await _broken_off(place, "close", 0, 1)


@FAILURES.add
async def closed_when_used_again(place: Place) -> None:
    await _broken_off(place, "second", 1, 0)


@FAILURES.add
async def refused_stream(place: Place) -> None:
    """The server says that it did not look at it: even so the SDK decides."""
    await _broken_off(place, "refuse", 0, 0)


@FAILURES.add
async def closed_in_an_answer(place: Place) -> None:
    await _broken_off(place, "short", 0, 0)


@FAILURES.add
async def closed_while_idle(place: Place) -> None:
    """A connection that the server closed between two calls is not used, and no call fails for it."""
    run = place.server.run()
    async with place.client(place.door("once")) as client:
        for number in range(3):
            await place.create(client, run)
            await run.wait_for_answers(number + 1)
    assert len(await run.requests()) == 3


@FAILURES.add
async def read_timeout(place: Place) -> None:
    """Of a call, which is sent as often as the SDK says, and of a stream; and the next call works."""
    sdk = place.dialect.sdk
    timeout = httpx2.Timeout(30, read=SHORT)
    run = place.server.run()
    async with place.client(max_retries=1) as client:
        with failing(sdk.APITimeoutError, httpx2.ReadTimeout):
            await place.create(client, run, "hang", timeout=timeout)
        assert len(await run.requests()) == 2
        await place.create(client)
    async with place.client() as client:
        run = place.server.run()
        for variant in place.dialect.variants:
            opened = await place.dialect.stream(client, variant, extra_headers=run.headers("gate"), timeout=timeout)
            try:
                async for event in opened:
                    assert event
            except (httpx2.ReadTimeout, sdk.APITimeoutError):
                pass  # openai maps what happens in a stream, anthropic does not
            else:
                raise AssertionError("no timeout")
            await place.create(client, run)


@FAILURES.add_for("1.1")
async def pool_timeout(place: Place) -> None:
    """No connection is free."""
    run = place.server.run()
    async with place.client(connections=1) as client:
        first = await place.dialect.stream(client, place.dialect.variants[0], extra_headers=run.headers("gate"))
        with failing(place.dialect.sdk.APITimeoutError, httpx2.PoolTimeout):
            await place.create(client, timeout=httpx2.Timeout(30, pool=SHORT))
        await run.open()
        assert "".join([place.dialect.words(event) async for event in first]) == TEXT
        await place.create(client)


@FAILURES.add
async def connect(place: Place) -> None:
    """Nobody listens; and over TLS, nobody answers the handshake."""
    sdk = place.dialect.sdk
    scheme = "https" if place.http2 else "http"
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"{scheme}://127.0.0.1:{sock.getsockname()[1]}"
        async with place.client(url) as client:
            with failing(sdk.APIConnectionError, httpx2.ConnectError):
                await place.create(client)
        sock.listen()
        async with place.client(url) as client:
            cause = httpx2.ConnectTimeout if place.http2 else httpx2.ReadTimeout
            with failing(sdk.APITimeoutError, cause):
                await place.create(client, timeout=httpx2.Timeout(30, connect=SHORT, read=SHORT))


@FAILURES.add_for("1.1")
async def write_timeout(place: Place) -> None:
    """The server takes nothing of what is sent."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        async with place.client(f"http://127.0.0.1:{sock.getsockname()[1]}") as client:
            with failing(place.dialect.sdk.APITimeoutError, httpx2.WriteTimeout):
                await place.dialect.upload(client, bytes(4 * BIG_BYTES), timeout=httpx2.Timeout(30, write=SHORT))


@FAILURES.add_for("2")
async def not_trusted(place: Place) -> None:
    """A certificate that nobody trusts is an error of the connection."""
    http_client = TRANSPORTS[place.transport](ssl.create_default_context(), http2=True)
    async with place.dialect.client(place.url, http_client, max_retries=0) as client:
        with failing(place.dialect.sdk.APIConnectionError, httpx2.ConnectError):
            await place.create(client)
