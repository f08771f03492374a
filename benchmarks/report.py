"""From the figures of all rounds to the table of targets, and to docs/benchmarks.md."""

from __future__ import annotations

import json
import pathlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import attrs
import picture
from machine import Machine
from shapes import AT_ONCE, EVENTS
from workloads import (
    ANY,
    BASELINE,
    CALLS,
    COUNTED,
    GROWTH,
    IDLE,
    IMPORT,
    IN_USE,
    LARGE,
    LOOPS,
    PEERS,
    RESIDENT,
    TARGETS,
    TIMED,
    Key,
    at,
    name_of,
)

Round: TypeAlias = dict[Key, float]


@attrs.frozen
class Line:
    """One target on one event loop, and what was found."""

    title: str
    of: str
    loop: str
    values: list[float]  # of each round
    limit: float
    digits: int

    @property
    def name(self) -> str:
        return f"{self.title} | {self.of} | {self.loop}"

    @property
    def verdict(self) -> str:
        return "ok" if statistics.median(self.values) <= self.limit else "short"


def spread(values: Sequence[float], digits: int) -> str:
    """The median, and the least and the most where they differ."""
    middle, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low}-{high})"


def quotients(rounds: Sequence[Round], mine: Key, other: Key | None) -> list[float]:
    """Of each round that has both: one divided by the other; with no other, the figure itself."""
    if other is None:
        return [found[mine] for found in rounds if mine in found]
    return [found[mine] / found[other] for found in rounds if mine in found and other in found]


def lines_of(rounds: Sequence[Round]) -> list[Line]:
    lines: list[Line] = []
    for target in TARGETS:
        for loop in target.loops:
            mine, other = target.keys(loop)
            if values := quotients(rounds, mine, other):
                title = target.title or TIMED[target.workload].title
                of = name_of(target.workload, target.of) if target.of else ""
                of += f" on {other.loop}" if other is not None and other.loop != loop else ""
                lines.append(Line(title, of, loop, values, target.limit_on(loop), target.digits))
    return lines


def keep(path: pathlib.Path, lines: Sequence[Line]) -> None:
    """For the next run, to be compared with."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(read(path) | {line.name: line.values for line in lines}), encoding="utf-8")


def read(path: pathlib.Path) -> dict[str, list[float]]:
    if not path.exists():
        return {}
    kept: dict[str, list[float]] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def against(last: Mapping[str, list[float]], line: Line) -> str:
    """What the last run found, and whether the two spreads meet, as they are written."""
    values = last.get(line.name)
    if values is None:
        return ""
    then, now = ([round(value, line.digits) for value in found] for found in (values, line.values))
    meets = min(then) <= max(now) and min(now) <= max(then)
    return f"{spread(values, line.digits)}, {'agrees' if meets else 'differs'}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def cells_of(line: Line) -> list[str]:
    measured = spread(line.values, line.digits)
    return [line.title, line.loop, line.of, measured, f"{line.limit:g}", line.verdict]


def text(lines: Sequence[Line], rounds: Sequence[Round], last: Mapping[str, list[float]]) -> str:
    """For the terminal: all figures, and then the targets."""
    heads = ["", "loop", "of", "ours", "at most", "", "the run before"]
    rows = [[*cells_of(line), against(last, line)] for line in lines]
    short = sum(line.verdict == "short" for line in lines)
    parts = [figures(rounds), imports(rounds), growth(rounds), aligned([heads, *rows])]
    parts.append([f"{len(lines) - short} ok, {short} short"])
    return "\n\n".join("\n".join(part) for part in parts if part)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> list[str]:
    """Markdown; the first *left* columns are words, the others numbers."""
    rule = ["---"] * left + ["---:"] * (len(heads) - left)
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]


def targets(lines: Sequence[Line]) -> list[str]:
    return table(["", "loop", "of", "ours", "at most", ""], map(cells_of, lines), 3)


def clients_of(rounds: Sequence[Round], workload: str) -> list[str]:
    """In the order of the clients, whatever order they ran in."""
    found = {key.client for one in rounds for key in one if key.workload == workload}
    return sorted(found, key=lambda client: (PEERS.index(client.partition("+")[0]), client))


def figures(rounds: Sequence[Round]) -> list[str]:
    """All figures that have a client: a row for each workload and client, a column for each loop."""
    loops = [loop for loop in LOOPS if any(key.loop == loop for key in rounds[0])]
    rows: list[list[str]] = []
    kinds: list[tuple[str, str, float, int]] = [
        (
            name,
            f"{kind.title}, {'ms' if name in LARGE else 'µs'}",
            1000 if name in LARGE else 1,
            1 if name == "sse" else 0,
        )
        for name, kind in TIMED.items()
    ]
    kinds += [(workload, f"Python function {workload}", 1, 0) for workload in CALLS.values()]
    kinds += [(workload, f"{workload}, KiB", 1, 1) for workload in (RESIDENT, IN_USE)]
    for workload, title, unit, digits in kinds:
        for client in clients_of(rounds, workload):
            cells = [title, name_of(workload, client)]
            for loop in loops:
                key = Key(workload, loop, client)
                if values := quotients(rounds, key, None):
                    cell = f"{statistics.median(values) / unit:.{digits}f}"
                    if ratios := quotients(rounds, key, Key(workload, loop, BASELINE)):
                        cell += f", {spread(ratios, 2)}"
                    cells.append(cell)
                else:
                    cells.append("")
            rows.append(cells)
    return table(["", "client", *loops], rows, 2) if rows else []


def imports(rounds: Sequence[Round]) -> list[str]:
    rows = [
        [
            "anyio alone" if client == "raw" else name_of(IMPORT, client),
            spread(quotients(rounds, Key(IMPORT, ANY, client), None), 0),
        ]
        for client in clients_of(rounds, IMPORT)
    ]
    return table(["import of", "CPU, ms"], rows, 1) if rows else []


def growth(rounds: Sequence[Round]) -> list[str]:
    rows: list[list[str]] = []
    for curve, counts in GROWTH.items():
        for loop in LOOPS:
            found = [(count, quotients(rounds, Key(at(curve, count), loop, "ours"), None)) for count in counts]
            if found[0][1]:
                rows.append([curve, loop, ", ".join(f"{count}: {spread(values, 0)}" for count, values in found)])
    return table(["besides the call", "loop", "CPU of a call, µs, with so many"], rows, 3) if rows else []


def write(
    path: pathlib.Path,
    lines: Sequence[Line],
    rounds: Sequence[Round],
    machine: Machine,
    extra: Mapping[str, Sequence[str]],
) -> None:
    """The report, and its two pictures beside it."""
    ratios = {
        key: statistics.median(values)
        for workload in TIMED
        for client in clients_of(rounds, workload)
        for key in (Key(workload, loop, client) for loop in LOOPS)
        if (values := quotients(rounds, key, Key(workload, key.loop, BASELINE)))
    }
    points = {
        key: statistics.median(quotients(rounds, key, None))
        for curve, counts in GROWTH.items()
        for key in (Key(at(curve, count), loop, "ours") for count in counts for loop in LOOPS)
        if key in rounds[0]
    }
    parts = [
        "# Benchmarks",
        "",
        "Written by `benchmarks/run.py`; `make bench` makes it again, and prints the same.",
        "",
        *machine.lines(),
        *explained(len(rounds)),
        "",
    ]
    if ratios:
        name = f"{path.stem}.svg"
        path.with_name(name).write_text(picture.ratios(ratios), encoding="utf-8")
        parts += [f"![CPU of one operation, as a ratio to httpx2]({name})", ""]
    parts += ["## Targets", "", *targets(lines), ""]
    if rows := figures(rounds):
        parts += ["## All figures", "", "The figure, and its ratio to httpx2.", "", *rows, ""]
    if rows := imports(rounds):
        parts += ["## Import", "", *rows, ""]
    if rows := growth(rounds):
        name = f"{path.stem}-growth.svg"
        path.with_name(name).write_text(picture.growth(points), encoding="utf-8")
        parts += ["## Growth", "", f"![CPU of a call beside so many others]({name})", "", *rows, ""]
    for title, more in extra.items():
        parts += [f"## {title}", "", *more, ""]
    path.write_text("\n".join(parts), encoding="utf-8")


def explained(rounds: int) -> list[str]:
    return [
        f"- Rounds: {rounds}. In each one every client runs in a fresh process; each workload goes round all of them in "
        "short slices, after a warm-up. Plain HTTP/1.1 on loopback, where nothing else is said.",
        "- CPU: user and system time of the client's process for one operation, all threads. A ratio is of the same "
        "loop in the same round; every cell is the median, with the least and the most where they differ. aiohttp "
        "does not run on trio: where a target there is a ratio to it, it is to its figure on asyncio in the same round.",
        f"- {AT_ONCE} at once: one operation is one of {AT_ONCE} calls, started in one task group of anyio; all "
        "connections stay open. Calls one after another use one connection of another client.",
        f"- Events: {EVENTS} a stream, each in a chunk of its own; the server writes a stream at once, so that every "
        "client reads it in as large pieces as it wants to. The figure is for one event.",
        "- Typed: the answer becomes an attrs class, or a pydantic model of the same fields (httpx2, anthropic, openai). "
        "Every client has the same JSON to send and to decode.",
        f"- Calls: Python functions entered and coroutines resumed, those of the event loop included; {COUNTED} "
        "operations in each round, counted apart from the timing, logging off. What pyqwest and pyreqwest do in Rust, and "
        "uvloop in C, is no such call.",
        f"- Idle connections: {IDLE} opened at once, with one request each; what the process has more than before, "
        "divided by their number. Python's own allocator is off, so that glibc's count (mallinfo2) is all there is.",
        "- Import: CPU of a whole interpreter that imports one class, above that of one that imports nothing.",
        "- The floors are no clients: bytes made beforehand over streams of anyio, and h11 over the same, with no pool, "
        "no timeouts and no errors.",
    ]
