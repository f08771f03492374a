"""What an idle connection takes: ``memory.py CLIENT LOOP WHERE COUNT`` prints KiB resident and KiB in use of each.

Python's own allocator is to be off (PYTHONMALLOC=malloc), so that glibc's count is all there is.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import logging
import os
import pathlib
import sys

from measure import run_on
from peers import Where

PAGE = os.sysconf("SC_PAGESIZE")


FIELDS = ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]


class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS]


def in_use() -> int:
    """Bytes that glibc's malloc has given out; of mallinfo(3), as the structure of 64-bit numbers."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = Mallinfo2
    found = ask()
    return int(found.uordblks + found.hblkhd)


def resident() -> int:
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * PAGE


async def measure(client: str, where: Where, count: int) -> None:
    async with importlib.import_module(f"peers.{client}").idle(where, count) as operations:
        for _ in range(5):
            await operations["one"]()
        gc.collect()
        before = resident(), in_use()
        await operations["all"]()
        gc.collect()
        after = resident(), in_use()
        print(json.dumps([(now - then) / count / 1024 for now, then in zip(after, before, strict=True)]))


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    run_on(sys.argv[2], measure, sys.argv[1], Where(**json.loads(sys.argv[3])), int(sys.argv[4]))
