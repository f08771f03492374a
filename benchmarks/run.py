"""Client CPU, function calls, memory and import time, beside other clients in the same run, and against our targets.

Times of different minutes do not compare on a shared machine. So a round starts every client in a fresh process, and
each workload goes round all of them in short slices; a ratio is of figures of the same round. See ``--help``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import attrs
import report
from machine import Machine, sources
from processes import Child, cores, environment, pin, printed
from workloads import (
    ANY,
    ASYNCIO_ONLY,
    CALLS,
    COUNTED,
    IDLE,
    IDLE_PEERS,
    IMPORT,
    IMPORTS,
    IN_USE,
    LARGE,
    LOOPS,
    PARTS,
    PEERS,
    RESIDENT,
    SHORT_PARTS,
    SHORT_PEERS,
    SLICES,
    TIMED,
    Key,
)

HERE = pathlib.Path(__file__).parent
DOCS = HERE.parent / "docs"
LAST = HERE.parent / ".bench" / "last.json"
GROWTH_CALLS = 1000

Clients: TypeAlias = dict[tuple[str, str], Child]  # by loop and name
Functions: TypeAlias = dict[str, list[tuple[str, int]]]  # how often each was entered


@attrs.frozen
class Plan:
    parts: tuple[str, ...]
    loops: tuple[str, ...]
    peers: tuple[str, ...]
    rounds: int
    share: float  # of the usual number of operations

    def pairs(self, peers: Sequence[str]) -> list[tuple[str, str]]:
        """Loop and client, where both go together."""
        wanted = [peer for peer in peers if peer in self.peers]
        return [(loop, peer) for loop in self.loops for peer in wanted if loop != "trio" or peer not in ASYNCIO_ONLY]


def forth_and_back(number: int, items: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """Every second time backwards, so that a drift of the machine favours nobody."""
    return items if number % 2 == 0 else items[::-1]


def timed(plan: Plan, where: str, number: int, names: Functions) -> Iterator[tuple[Key, float]]:
    """Microseconds of CPU of one operation, and function calls of one."""
    workloads = [name for name in plan.parts if name in TIMED]
    if not workloads and "calls" not in plan.parts:
        return
    with contextlib.ExitStack() as stack:
        clients: Clients = {}
        for loop, peer in forth_and_back(number, plan.pairs(PEERS)):
            clients[loop, peer] = stack.enter_context(Child(str(HERE / "measure.py"), peer, loop, where))
        known = {pair: json.loads(client.read()) for pair, client in clients.items()}
        for workload in workloads:
            does = {pair: [name for name in known[pair] if name.partition("+")[0] == workload] for pair in clients}
            yield from in_turns(plan, number, workload, clients, does)
        if "calls" in plan.parts:  # after all timing, which the hook must not slow
            yield from counted(clients, known, names)


def in_turns(
    plan: Plan, number: int, workload: str, clients: Clients, does: dict[tuple[str, str], list[str]]
) -> Iterator[tuple[Key, float]]:
    """One workload: every client does a slice of it, and then again."""
    times = max(1, round(TIMED[workload].times * plan.share))
    found: dict[Key, list[float]] = {}
    for turn in range(SLICES):
        again = 0 if workload in LARGE else max(1, times // 10)
        warm = max(1, times // 2) if turn == 0 else again
        for loop, peer in forth_and_back(number + turn, list(clients)):
            for name in does[loop, peer]:
                took = clients[loop, peer].ask("time", name, warm, times)
                assert isinstance(took, float)
                key = Key(workload, loop, peer + name.removeprefix(workload))
                found.setdefault(key, []).append(took / TIMED[workload].each)
    for key, values in found.items():
        yield key, statistics.mean(values)


def counted(clients: Clients, known: dict[tuple[str, str], list[str]], names: Functions) -> Iterator[tuple[Key, float]]:
    for (loop, peer), client in clients.items():
        for name, workload in CALLS.items():
            if name in known[loop, peer]:
                found = client.ask("calls", name, COUNTED)
                assert isinstance(found, dict)
                if peer == "ours":
                    names[f"{workload}, {loop}"] = found["functions"]
                yield Key(workload, loop, peer), found["calls"]


def imported(plan: Plan) -> Iterator[tuple[Key, float]]:
    """Milliseconds of CPU of a whole interpreter that imports one name, above those of one that imports nothing."""

    def cpu(code: str) -> float:
        process = subprocess.Popen([sys.executable, "-P", "-c", code], env=environment())
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"this failed: {code}")
        return (used.ru_utime + used.ru_stime) * 1000

    bare = min(cpu("pass") for _ in range(5))
    for peer, code in IMPORTS.items():
        if peer in plan.peers:
            yield Key(IMPORT, ANY, peer), min(cpu(code) for _ in range(3)) - bare


def idle(plan: Plan, where: str) -> Iterator[tuple[Key, float]]:
    """KiB resident, and KiB in use, of an idle connection."""
    for loop, peer in plan.pairs(IDLE_PEERS):
        script = str(HERE / "memory.py")
        memory = json.loads(printed(script, peer, loop, where, str(IDLE), PYTHONMALLOC="malloc"))
        yield Key(RESIDENT, loop, peer), memory[0]
        yield Key(IN_USE, loop, peer), memory[1]


def grown(plan: Plan, where: str) -> Iterator[tuple[Key, float]]:
    for loop, peer in plan.pairs(("ours",)):
        calls = max(50, round(GROWTH_CALLS * plan.share))
        points: dict[str, float] = json.loads(printed(str(HERE / "growth.py"), loop, where, str(calls)))
        for name, value in points.items():
            yield Key(name, loop, peer), value


def run_rounds(plan: Plan, names: Functions) -> tuple[list[report.Round], bool]:
    """All rounds, and whether server and clients had a core each."""
    places = cores()
    pinned = places is not None and pin(places[0])
    rounds: list[report.Round] = []
    began = time.monotonic()
    with Child(str(HERE / "serve.py")) as server:
        where = server.read().strip()
        if places is not None and pinned:
            pinned = pin(places[1])
        for number in range(plan.rounds):
            found = dict(timed(plan, where, number, names))
            if "import" in plan.parts:
                found |= imported(plan)
            if "memory" in plan.parts:
                found |= idle(plan, where)
            if "growth" in plan.parts:
                found |= grown(plan, where)
            rounds.append(found)
            print(f"round {number + 1} of {plan.rounds}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return rounds, pinned


def decoding(rounds: int) -> list[str]:
    """The rows of decode.py."""
    return printed(str(HERE / "decode.py"), str(2 * rounds + 7)).splitlines()


def long_path() -> list[str]:
    """What longpath.py prints, as a list; nothing where it cannot run."""
    command = [sys.executable, str(HERE / "longpath.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), timeout=300)
    return [f"- {line}" for line in done.stdout.splitlines()] if done.returncode == 0 else []


def words(known: Sequence[str], text: str) -> tuple[str, ...]:
    """Some of the known words, from a text with commas; an error names all of them."""
    wanted = text.split(",")
    if strange := [word for word in wanted if word not in known]:
        raise argparse.ArgumentTypeError(f"{', '.join(strange)}: there are {', '.join(known)}")
    return tuple(word for word in known if word in wanted)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="2 rounds of a few operations, to see that it works")
    parser.add_argument("--only", type=lambda text: words(PARTS, text), metavar="PART,..", help=", ".join(PARTS))
    parser.add_argument("--loops", type=lambda text: words(LOOPS, text), metavar="LOOP,..", help=", ".join(LOOPS))
    parser.add_argument("--peers", type=lambda text: words(PEERS, text), metavar="PEER,..", help=", ".join(PEERS))
    parser.add_argument("--rounds", type=int, choices=range(1, 31), metavar="N", help="1 to 30; 5 unless told")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of operations; 1.0 unless told")
    parser.add_argument(
        "--functions", type=int, default=0, metavar="N", help="print the N functions of ours called most"
    )
    parser.add_argument(
        "--write",
        type=pathlib.Path,
        metavar="FILE",
        help="the report, and its pictures beside it; docs/benchmarks.md after a run of everything",
    )
    return parser.parse_args()


def main() -> None:
    given = arguments()
    whole = not (given.short or given.only or given.loops or given.peers)
    plan = Plan(
        parts=given.only or (SHORT_PARTS if given.short else PARTS),
        loops=given.loops or LOOPS,
        peers=given.peers or (SHORT_PEERS if given.short else PEERS),
        rounds=given.rounds or (2 if given.short else 5),
        share=0.15 if given.short else given.share,
    )
    load, digest = os.getloadavg()[0], sources()
    names: Functions = {}
    rounds, pinned = run_rounds(plan, names)
    machine = Machine(pinned=pinned, load=(load, os.getloadavg()[0]), digest=digest)
    last = report.read(LAST)
    lines = report.lines_of(rounds)
    print(report.text(lines, rounds, last))
    for title, functions in names.items() if given.functions else ():
        print("", title, *(f"{count:5} {name}" for name, count in functions[: given.functions]), sep="\n")
    if sources() != digest:
        raise SystemExit("anyio_client changed during the run: these numbers are of no one version; nothing written")
    if not given.short and plan.rounds > 1:  # one round has no spread to agree with
        report.keep(LAST, lines)
    target = given.write or (DOCS / "benchmarks.md" if whole else None)
    if target is not None:
        extra = {"Decoding": decoding(plan.rounds)}
        if whole and (path := long_path()):
            extra["A download of 1 GiB over HTTP/2, 100 ms away"] = path
        report.write(target, lines, rounds, machine, extra)


if __name__ == "__main__":
    main()
