"""Decoding a 1 MB list of attrs objects, beside msgspec's reader and cattrs' structure called by hand.

``table(rounds)`` gives lines of markdown; run as a script it prints them. One process, one row after the other in each
round, so that the ratio is of neighbours in time.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import attrs
import cattrs
import msgspec

from anyio_client._convert import Codec
from anyio_client._wire import json as strict_json


@attrs.frozen
class Address:
    street: str
    zip: str
    lat: float


@attrs.frozen
class User:
    id: int
    name: str
    email: str | None
    active: bool
    score: float
    tags: list[str]
    address: Address
    meta: dict[str, int]


def user(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"user {number}",
        "email": None if number % 3 else f"u{number}@example.com",
        "active": bool(number % 2),
        "score": number * 1.5,
        "tags": ["a", "b", "c"],
        "address": {"street": "Main Street", "zip": "12345", "lat": 1.25},
        "meta": {"x": 1, "y": 2},
    }


DATA = json.dumps([user(number) for number in range(5000)]).encode()
CODEC = Codec()
BY_HAND = cattrs.Converter()
ROWS: dict[str, Callable[[], object]] = {
    "ours, loose": lambda: CODEC.decode(strict_json.loads(DATA), list[User]),
    "ours, strict": lambda: CODEC.decode(strict_json.loads(DATA), list[User], strict=True),
    "msgspec's decode, cattrs' structure": lambda: BY_HAND.structure(msgspec.json.decode(DATA), list[User]),
}
BASELINE = "msgspec's decode, cattrs' structure"


def measured(function: Callable[[], object]) -> float:
    gc.collect()  # what others left behind is not this one's work
    began = time.process_time()
    function()
    return (time.process_time() - began) * 1000


def table(rounds: int) -> list[str]:
    results = {name: function() for name, function in ROWS.items()}  # hooks are made here, once for each type
    if any(result != results[BASELINE] for result in results.values()):
        raise SystemExit("the decoders do not agree")
    times: dict[str, list[float]] = {name: [] for name in ROWS}
    for _ in range(rounds):
        for name, function in ROWS.items():
            times[name].append(measured(function))
    lines = [
        f"| a list of 5000 attrs objects, {len(DATA) / 2**20:.2f} MiB of JSON | CPU, ms | ratio |",
        "|---|---:|---:|",
    ]
    for name, mine in times.items():
        ratio = statistics.median(a / b for a, b in zip(mine, times[BASELINE], strict=True))
        lines.append(f"| {name} | {statistics.median(mine):.1f} ({min(mine):.1f}-{max(mine):.1f}) | {ratio:.2f} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table(int(sys.argv[1]) if sys.argv[1:] else 15)))
