"""What the SDKs must be able to do over any transport: ``CHECKS``, each for a :class:`Place`.

Nothing here waits for a time to pass where it can wait for a fact: the server holds back what ``gate`` says until it is
told to go on, and tells what it has seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx2

from tests.kit.sdk_app import BIG_BYTES, BIG_SHA256, ITEMS, TEXT
from tests.kit.sdk_server import Run
from tests.sdks.engine_failures import FAILURES
from tests.sdks.engine_place import Check, Checks, Place, all_of, run

__all__ = ["CHECKS", "Check", "Place", "run"]

CHECKS = Checks()


# -- calls, streams, lists


@CHECKS.add
async def create(place: Place) -> None:
    run = place.server.run()
    async with place.client() as client:
        for _ in range(3):
            await place.create(client, run)
    seen = await run.requests()
    assert [request["version"] for request in seen] == ["2" if place.http2 else "1.1"] * 3, seen
    headers = seen[0]["headers"]
    assert headers["content-type"] == "application/json" and headers["x-stainless-retry-count"] == "0"
    assert int(headers["content-length"]) > 10 and "transfer-encoding" not in headers


@CHECKS.add
async def drip(place: Place) -> None:
    """An answer in pieces takes longer than its read timeout, which is for each piece."""
    async with place.client() as client:
        timeout = httpx2.Timeout(30, read=1.0)
        await place.create(client, place.server.run(), "drip", timeout=timeout)


@CHECKS.add
async def stream(place: Place) -> None:
    """The first words arrive while the server keeps back the others."""
    async with place.client() as client:
        for variant in place.dialect.variants:
            run = place.server.run()
            stream = await place.dialect.stream(client, variant, extra_headers=run.headers("gate"))
            words = []
            async for event in stream:
                if word := place.dialect.words(event):
                    if not words:
                        await run.open()
                    words.append(word)
            assert "".join(words) == TEXT, words


@CHECKS.add
async def stream_helper(place: Place) -> None:
    run = place.server.run()
    async with place.client() as client:
        async with place.dialect.helper(client, extra_headers=run.headers()) as stream:
            events = [event async for event in stream]
    assert len(events) > 5


@CHECKS.add
async def stream_left_early(place: Place) -> None:
    """And the next call works, though the server never ends what was left."""
    async with place.client() as client:
        for variant in place.dialect.variants:
            run = place.server.run()
            stream = await place.dialect.stream(client, variant, extra_headers=run.headers("gate"))
            async with stream:
                async for event in stream:
                    if place.dialect.words(event):
                        break
            await place.create(client, run)


@CHECKS.add
async def pages(place: Place) -> None:
    run = place.server.run()
    async with place.client() as client:
        found = [item.id async for item in place.dialect.listing(client, extra_headers=run.headers())]
    assert found == [f"item-{number}" for number in range(ITEMS)]
    assert len(await run.requests()) == -(-ITEMS // 3)


# -- large bodies


@CHECKS.add
async def upload(place: Place) -> None:
    content = bytes(range(256)) * (BIG_BYTES // 256)
    async with place.client() as client:
        size, facts = await place.dialect.upload(client, content)
        await place.create(client)
    assert (size, facts["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


@CHECKS.add
async def download(place: Place) -> None:
    """Whole, and in pieces."""
    async with place.client() as client:
        content = await place.dialect.download(client)
        assert hashlib.sha256(content).hexdigest() == BIG_SHA256
        digest = hashlib.sha256()
        count = 0
        async with place.dialect.downloading(client) as response:
            async for piece in response.iter_bytes():
                digest.update(piece)
                count += 1
        assert digest.hexdigest() == BIG_SHA256 and count > 10


@CHECKS.add
async def downloads_left_early(place: Place) -> None:
    """Twelve times; then the next calls work, and a whole download."""
    run = place.server.run()
    async with place.client() as client:
        say = {"extra_headers": run.headers(), "timeout": 10}
        for number in range(12):
            try:
                async with place.dialect.downloading(client, **say) as response:
                    async for piece in response.iter_bytes():
                        assert piece
                        break
                await place.create(client, timeout=10)
            except place.dialect.sdk.APIError as exc:
                raise AssertionError(f"after {number}: {type(exc).__name__} because of {exc.__cause__!r}") from exc
        assert hashlib.sha256(await place.dialect.download(client)).hexdigest() == BIG_SHA256
        await all_of(10, lambda _: place.create(client))


# -- many at once


@CHECKS.add
async def calls_at_once(place: Place) -> None:
    run = place.server.run()
    async with place.client() as client:
        await all_of(place.calls, lambda _: place.create(client, run))
    assert len(await run.requests()) == place.calls


@CHECKS.add
async def streams_at_once(place: Place) -> None:
    """All are open at the same time: the server keeps each back until all have begun."""
    run = place.server.run()

    async def read(number: int) -> None:
        variant = place.dialect.variants[number % len(place.dialect.variants)]
        stream = await place.dialect.stream(client, variant, extra_headers=run.headers("gate"))
        assert "".join([place.dialect.words(event) async for event in stream]) == TEXT

    async with place.client() as client:
        async with anyio.create_task_group() as group:
            for number in range(place.streams):
                group.start_soon(read, number)
            await run.wait_for(place.streams)
            await run.open()


async def _half_cancelled(
    place: Place, count: int, call: Callable[[Any, Run, int], Awaitable[None]], *, seen: int
) -> None:
    """Of *count* calls every second is cancelled when the server has *seen* so many; the others are answered, and thirty
    more.
    """
    run = place.server.run()
    answered = []

    async def one(number: int, scope: anyio.CancelScope) -> None:
        with scope:
            await call(client, run, number)
            answered.append(number)

    async with place.client() as client:
        scopes = [anyio.CancelScope() for _ in range(count)]
        async with anyio.create_task_group() as group:
            for number, scope in enumerate(scopes):
                group.start_soon(one, number, scope)
            await run.wait_for(seen)
            for scope in scopes[::2]:
                scope.cancel()
            await run.open()
        assert set(answered) >= set(range(1, count, 2)), answered
        after = place.server.run()
        await all_of(30, lambda _: place.create(client, after, timeout=10))
        assert len(await after.requests()) == 30


@CHECKS.add
async def half_cancelled(place: Place) -> None:
    """Of fifty calls, while all wait for their answers; and while some are not yet sent."""

    async def call(client: Any, run: Run, number: int) -> None:
        await place.create(client, run, "gate", timeout=10)

    await _half_cancelled(place, 50, call, seen=50)
    await _half_cancelled(place, 50, call, seen=1)


@CHECKS.add
async def half_of_the_uploads_cancelled(place: Place) -> None:
    """In the midst of their bodies."""
    content = bytes(BIG_BYTES // 4)

    async def call(client: Any, run: Run, number: int) -> None:
        size, _ = await place.dialect.upload(client, content, extra_headers=run.headers(), timeout=10)
        assert size == len(content)

    await _half_cancelled(place, 10, call, seen=2)


@CHECKS.add
async def half_of_the_downloads_cancelled(place: Place) -> None:
    """In the midst of their bodies, which are read slowly enough for that."""

    async def call(client: Any, run: Run, number: int) -> None:
        async with place.dialect.downloading(client, extra_headers=run.headers(), timeout=10) as response:
            async for piece in response.iter_bytes():
                assert piece
                if number % 2 == 0:
                    await anyio.sleep_forever()

    await _half_cancelled(place, 6, call, seen=6)


CHECKS.update(FAILURES)
CHECKS.only.update(FAILURES.only)
