"""One client on one event loop, in a process of its own: ``measure.py CLIENT LOOP WHERE``, the last of them JSON.

It prints the names of its operations, and then answers each line of its stdin, so that several clients take turns:
``time NAME WARM TIMES`` with the microseconds of CPU of one call, ``calls NAME TIMES`` with the function calls of each.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import importlib
import json
import logging
import os
import resource
import sys
from collections.abc import Callable, Coroutine
from types import CodeType, FrameType
from typing import Any

import attrs
from peers import Operation, Operations, Where
from shapes import BODY, EXPECTED, LAST, SIZE

HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def like(item: object, expected: attrs.AttrsInstance) -> bool:
    """The same values in the same fields, whatever kind of class each client makes."""
    return all(getattr(item, name) == value for name, value in attrs.asdict(expected).items())


async def check(operations: Operations) -> None:
    """A fast wrong answer is no result: look at one of each before anything is measured."""
    for name, operation in operations.items():
        if name.endswith("100"):
            continue  # the same operations, a hundred times
        answer = await operation()
        match name.partition("+")[0]:
            case "get" | "connect":
                assert answer == BODY, (name, answer)
            case "typed":
                assert like(answer, EXPECTED), (name, answer)
            case "sse":
                assert like(answer, LAST), (name, answer)
            case "download":
                assert answer == SIZE, (name, answer)
            case "upload":
                assert int(answer) >= SIZE, (name, answer)  # the framing of chunks is counted too


async def cpu_of(operation: Operation, times: int) -> float:
    """Microseconds of user and system time for one call, all threads of this process together."""
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(times):
        await operation()
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds / times * 1e6


async def calls_of(operation: Operation, times: int) -> list[collections.Counter[CodeType]]:
    """For each of some calls, how often each function was entered, the event loop's own included.

    "call" events, which are also sent when a coroutine is resumed; the frames of the benchmark's files do not count.
    """
    counters: list[collections.Counter[CodeType]] = []
    for _ in range(times):
        counter: collections.Counter[CodeType] = collections.Counter()

        def hook(frame: FrameType, event: str, arg: object, counter: collections.Counter[CodeType] = counter) -> None:
            if event == "call" and not frame.f_code.co_filename.startswith(HERE):
                counter[frame.f_code] += 1

        sys.setprofile(hook)
        try:
            await operation()
        finally:
            sys.setprofile(None)
        counters.append(counter)
    return counters


def name_of(code: CodeType) -> str:
    """``package/module.py:function``, without where it is installed."""
    path = code.co_filename
    for root in sorted(filter(None, sys.path), key=len, reverse=True):
        path = path.removeprefix(root.rstrip(os.sep) + os.sep)
    return f"{path}:{code.co_qualname}"


async def obey(client: str, where: Where) -> None:
    async with importlib.import_module(f"peers.{client}").operations(where) as operations:
        await check(operations)
        print(json.dumps(list(operations)), flush=True)
        while line := sys.stdin.readline().split():  # nothing else is to be done meanwhile: it may block the loop
            found: Any
            match line:
                case ["time", name, warm, times]:
                    for _ in range(int(warm)):  # connections that expired, caches, specialised bytecode
                        await operations[name]()
                    found = await cpu_of(operations[name], int(times))
                case ["calls", name, times]:
                    await operations[name]()
                    counters = await calls_of(operations[name], int(times))
                    middle = sorted(counters, key=lambda counter: counter.total())[len(counters) // 2]
                    functions = [(name_of(code), count) for code, count in middle.most_common()]
                    found = {"calls": middle.total(), "functions": functions}
                case _:
                    raise SystemExit(f"not understood: {line}")
            print(json.dumps(found), flush=True)


def run_on(loop: str, function: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
    match loop:
        case "asyncio":
            asyncio.run(function(*arguments))
        case "uvloop":
            import uvloop

            uvloop.run(function(*arguments))
        case "trio":
            import trio

            trio.run(function, *arguments)
        case _:
            raise SystemExit(f"no such loop: {loop}")


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    run_on(sys.argv[2], obey, sys.argv[1], Where(**json.loads(sys.argv[3])))
