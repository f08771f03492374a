"""Client CPU and Python function calls for one operation, beside httpx2 and aiohttp in the same run.

Times of different minutes do not compare on a shared machine, so every round runs every client once, each in a fresh
process, and the ratio is to httpx2 in the same round. See ``--help``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from peers import COUNTED, LOOPS, OPERATIONS, PEERS

Round: TypeAlias = dict[tuple[str, str], dict[str, Any]]  # (loop, peer): what peers.py printed

HERE = pathlib.Path(__file__).parent
BASELINE = "httpx2"
PAIRS = [(loop, peer) for loop in LOOPS for peer in PEERS if not (peer == "aiohttp" and loop == "trio")]
TITLES = {
    "get": "GET, small JSON body as bytes",
    "typed": "POST of JSON, answer as a class",
    "streams": "GET over HTTP/2 and TLS, 100 at once",
}
PACKAGES = [
    "anyio-client",
    "anyio",
    "h11",
    "h2",
    "hpack",
    "attrs",
    "cattrs",
    "httpx2",
    "httpcore2",
    "pydantic",
    "pydantic-core",
]
PACKAGES += ["aiohttp", "msgspec", "trio", "uvloop"]
ROUND_LIMIT = 60.0  # seconds for one client in one round, far above what it takes
# glibc moves its thresholds with the allocations that it happens to see: fixed, no client is lucky.
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "4194304", "MALLOC_TRIM_THRESHOLD_": "268435456"}


def environment() -> dict[str, str]:
    """This environment without what changes a client's path: proxies, log levels, Python's debug modes."""
    dropped = ("PYTHON", "MALLOC_", "ANYIO_CLIENT_", "HTTPX")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(dropped) and not name.lower().endswith("_proxy")
    }
    return kept | MALLOC


def cores() -> tuple[int, int] | None:
    """One core for the server and another for the clients, where there are two and pinning is allowed."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[-1]) if len(allowed) > 1 else None


def pin(core: int) -> bool:
    """Move this process, and with it what it starts from now on, to *core*."""
    try:
        os.sched_setaffinity(0, {core})
    except OSError:
        return False
    return True


@contextlib.contextmanager
def running_server(name: str) -> Iterator[list[str]]:
    """What a server printed, its port first; it is gone after the block, whatever happens in it."""
    command = [sys.executable, str(HERE / name)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as process:
        try:
            assert process.stdin is not None and process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit("the server did not start")
            yield line.decode().split()
            process.stdin.close()
            process.wait(5)
        finally:
            process.kill()


def run_peer(loop: str, peer: str, where: Sequence[str], times: int) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "peers.py"), peer, loop, *where, str(times)]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment(), timeout=ROUND_LIMIT, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run_rounds(rounds: int, times: int) -> tuple[list[Round], bool]:
    """All rounds, every second one backwards, so that a drift of the machine favours nobody; and whether pinned."""
    places = cores()
    pinned = places is not None and pin(places[0])
    found: list[Round] = []
    with running_server("server.py") as plain, running_server("server_h2.py") as encrypted:
        if places is not None and pinned:
            pinned = pin(places[1])
        for number in range(rounds):
            order = PAIRS if number % 2 == 0 else PAIRS[::-1]
            found.append({pair: run_peer(*pair, [*plain, *encrypted], times) for pair in order})
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return found, pinned


def sources() -> str:
    """A digest of our package as it is now: rounds of two versions of it must not become one table."""
    spec = importlib.util.find_spec("anyio_client")
    assert spec is not None and spec.origin is not None
    digest = hashlib.sha256()
    root = pathlib.Path(spec.origin).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def spread(values: Sequence[float], digits: int) -> str:
    """The median, and the least and the most where they differ."""
    middle, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low}-{high})"


def table(rounds: Sequence[Round]) -> list[str]:
    lines = [
        "| operation | loop | client | CPU, µs | CPU, ratio to httpx2 | calls | calls, ratio to httpx2 |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for operation in OPERATIONS:
        for loop, peer in PAIRS:
            if operation not in rounds[0][loop, peer]:
                continue  # aiohttp has no HTTP/2
            mine = [one[loop, peer][operation] for one in rounds]
            base = [one[loop, BASELINE][operation] for one in rounds]
            times = [one["us"] for one in mine]
            ratios = [one["us"] / other["us"] for one, other in zip(mine, base, strict=True)]
            calls = [count for one in mine for count in one["calls"]]
            usual = statistics.median([count for one in base for count in one["calls"]])
            cells = [TITLES[operation], loop, peer, spread(times, 0), spread(ratios, 2), spread(calls, 0)]
            lines.append(f"| {' | '.join(cells)} | {statistics.median(calls) / usual:.2f} |")
    return lines


def processor() -> str:
    """The model's name; ``platform`` does not know it on Linux."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def report(
    rounds: Sequence[Round], times: int, pinned: bool, load: tuple[float, float], digest: str, path: Sequence[str]
) -> str:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    where = "server and client each on a core of its own" if pinned else "not pinned to cores"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "Written by `benchmarks/run.py`; `make bench` makes it again.",
            "",
            f"- Machine: {processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
            f"{' '.join(platform.libc_ver())}; {where}; load average {load[0]:.1f} at the start, {load[1]:.1f} at "
            "the end (the run itself is about 1).",
            f"- {python}; {', '.join(versions)}; sources of anyio_client: {digest}.",
            f"- {len(rounds)} rounds, {times} operations for each number, one after another on one warm connection, "
            "plain HTTP/1.1 on loopback; over HTTP/2 a hundred at once on one connection. Every client runs in a fresh process in every round.",
            "- CPU: user and system time of the client's process for one operation. The ratio is to httpx2 on the same "
            "loop in the same round: below 1 is less work than httpx2.",
            f"- Calls: Python functions entered (and coroutines resumed) for one operation, those of the event loop "
            f"included; {COUNTED} operations in each round, counted apart from the timing, logging off.",
            "- Every cell: the median, and the least and the most where they differ. The answer becomes an attrs class "
            "by cattrs (ours, aiohttp) or a pydantic model by `model_validate_json` (httpx2).",
            "",
            *table(rounds),
            "",
            "## Decoding",
            "",
            *decoding(len(rounds)),
            "",
            *(["## A download of 1 GiB over HTTP/2, 100 ms away", "", *path, ""] if path else []),
        ]
    )


def decoding(rounds: int) -> list[str]:
    """The rows of decode.py, from a process of its own."""
    command = [sys.executable, str(HERE / "decode.py"), str(2 * rounds + 7)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(), timeout=ROUND_LIMIT)
    return done.stdout.splitlines()


def long_path() -> list[str]:
    """What longpath.py prints, as a list; nothing where it cannot run."""
    command = [sys.executable, str(HERE / "longpath.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), timeout=300)
    return [f"- {line}" for line in done.stdout.splitlines()] if done.returncode == 0 else []


def functions(rounds: Sequence[Round], top: int) -> str:
    """Where the calls of our GET on asyncio go."""
    found = rounds[-1]["asyncio", "ours"]["get"]["functions"]
    return "\n".join(["", "calls in one GET of ours on asyncio:", *(f"{n:5} {name}" for name, n in found[:top])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="2 rounds of few operations, to see that it works")
    parser.add_argument("--rounds", type=int, choices=range(1, 31), metavar="N", help="1 to 30; 7 unless told")
    parser.add_argument("--functions", type=int, default=0, metavar="N", help="print the N functions called most")
    parser.add_argument("--write", type=pathlib.Path, metavar="FILE", help="write the report as markdown, too")
    given = parser.parse_args()
    rounds, times = (given.rounds or 2, 200) if given.short else (given.rounds or 7, 1500)
    load, digest = os.getloadavg()[0], sources()
    found, pinned = run_rounds(rounds, times)
    after = os.getloadavg()[0]
    path = [] if given.short else long_path()
    text = report(found, times, pinned, (load, after), digest, path)
    print(text)
    if given.functions:
        print(functions(found, given.functions))
    if sources() != digest:
        raise SystemExit("anyio_client changed during the run: these numbers are of no one version; nothing written")
    if given.write:
        given.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
