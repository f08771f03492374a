"""Whether our cost of a call grows with what is there besides it: ``growth.py LOOP WHERE CALLS``.

It prints, as JSON, the microseconds of CPU of one call for each point of each curve. Idle connections and held streams
are there while single calls go one after the other; waiters and busy streams are other calls, always as many.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import resource
import ssl
import sys
from collections.abc import AsyncIterator

import anyio
from measure import cpu_of, run_on
from peers import Operation, Where, together
from workloads import CONNECTIONS, GROWTH, HELD, STREAMS, WAITERS, at

from anyio_client import AsyncAPIClient, HTTPTransport, Limits

POOL = 8  # connections that the waiters wait for
WARM = 300  # also for the first point of all, whose code nobody ran before


def plain(where: Where, connections: int) -> AsyncAPIClient:
    limits = Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=None)
    return AsyncAPIClient(base_url=where.plain, http_client=HTTPTransport(limits=limits))


def encrypted(where: Where) -> AsyncAPIClient:
    context = ssl.create_default_context(cafile=where.ca)
    context.set_alpn_protocols(["h2"])
    return AsyncAPIClient(base_url=where.h2, http_client=HTTPTransport(tls=context))


def item(client: AsyncAPIClient, path: str = "/item") -> Operation:
    async def get() -> bytes:
        return await client.get(path, cast_to=bytes)

    return get


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (used.ru_utime + used.ru_stime) * 1e6


async def among(operation: Operation, tasks: int, calls: int) -> float:
    """CPU of one call while so many tasks call without an end; the calls that begin and end it do not count."""
    marks: list[float] = []
    done = 0

    async def work() -> None:
        nonlocal done
        while True:
            await operation()
            done += 1
            if done in (WARM, WARM + calls):
                marks.append(cpu())
            if len(marks) == 2:
                group.cancel_scope.cancel()

    gc.collect()
    async with anyio.create_task_group() as group:
        for _ in range(tasks):
            group.start_soon(work)
    return (marks[1] - marks[0]) / calls


@contextlib.asynccontextmanager
async def held(client: AsyncAPIClient, count: int) -> AsyncIterator[None]:
    """So many requests that are never answered."""

    async def wait() -> None:
        await client.get("/never", cast_to=bytes)

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(wait)
        await anyio.sleep(0.05)
        yield
        group.cancel_scope.cancel()


async def measured(operation: Operation, calls: int) -> float:
    for _ in range(WARM):
        await operation()
    return await cpu_of(operation, calls)


async def measure(where: Where, calls: int) -> None:
    found: dict[str, float] = {}
    for count in GROWTH[CONNECTIONS]:
        async with plain(where, count) as client:
            await together(item(client, f"/together/{count}"), count)()
            assert len(client.snapshot().connections) == count
            found[at(CONNECTIONS, count)] = await measured(item(client), calls)
    for count in GROWTH[WAITERS]:
        async with plain(where, POOL) as client:
            found[at(WAITERS, count)] = await among(item(client), POOL + count, calls)
    for count in GROWTH[STREAMS]:
        async with encrypted(where) as client:
            await item(client)()
            found[at(STREAMS, count)] = await among(item(client), count, calls)
    for count in GROWTH[HELD]:
        async with encrypted(where) as client:
            await item(client)()
            async with held(client, count - 1):
                assert len(client.snapshot().connections) == 1
                found[at(HELD, count)] = await measured(item(client), calls)
    print(json.dumps(found))


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    run_on(sys.argv[1], measure, Where(**json.loads(sys.argv[2])), int(sys.argv[3]))
