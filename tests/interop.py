"""`make interop`: our client against every HTTP/2 server of tests/kit/interop.py, on asyncio, uvloop and trio.

Prints one table: "ok", "-" where the server does not offer what is checked, or "FAIL" with the reasons below it. The exit
status is 1 if anything failed. ``--servers nginx,node``, ``--loops trio``, ``--checks reload``, ``--short``: less of it.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import pathlib
import sys
import time
from collections.abc import Iterable, Sequence

import anyio
import attrs
import pytest
import trustme

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from tests.kit import interop
from tests.kit.interop_checks import BACKENDS, CHECKS, FULL, LIMIT, SHORT, Place, Sizes, run
from tests.kit.servers import DidNotStart


@attrs.frozen
class Result:
    server: str
    loop: str
    check: str
    seconds: float
    note: str | None = None
    failure: str | None = None

    def __str__(self) -> str:
        return f"{self.server}, {self.loop}, {self.check}"


def _names(known: Iterable[str], what: str, given: str | None) -> list[str]:
    """What was asked for, or all of it."""
    known = list(known)
    names = known if given is None else given.split(",")
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"no {what} {unknown[0]!r}; there are: {', '.join(known)}")
    return names


def _reason(error: BaseException) -> str:
    """The first error of a group, and what the attempts of a call met."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    story = getattr(error, "story", "") or getattr(error.__cause__, "story", "")
    return f"{type(error).__name__}: {error}" + (f"\n    {story}" if story else "")


def _run_all(place: Place, loop: str, checks: Sequence[str]) -> list[Result]:
    """All checks of one server on one loop; a check that fails does not end the others."""
    results: list[Result] = []

    async def main() -> None:
        for name in checks:
            if not CHECKS[name].is_offered(place.server):
                continue
            began = time.monotonic()
            note = failure = None
            try:
                note = await run(CHECKS[name], place)
            except Exception as exc:
                failure = _reason(exc)
            results.append(Result(place.server.name, loop, name, time.monotonic() - began, note, failure))

    backend, options = BACKENDS[loop]
    anyio.run(main, backend=backend, backend_options=options)
    return results


def _run_server(
    name: str, authority: trustme.CA, loops: Sequence[str], checks: Sequence[str], sizes: Sizes
) -> list[Result]:
    results: list[Result] = []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(interop.start(name, authority))
        limited = None
        if interop.SERVERS[name].limits_requests and "limit" in checks:
            limited = stack.enter_context(interop.start(name, authority, requests_per_connection=LIMIT))
        for loop in loops:
            began = time.monotonic()
            found = _run_all(Place(server, limited, sizes), loop, checks)
            failed = [result.check for result in found if result.failure]
            said = f"FAIL: {', '.join(failed)}" if failed else "ok"
            longest = ", ".join(f"{r.check} {r.seconds:.1f}" for r in sorted(found, key=lambda r: -r.seconds)[:5])
            print(f"{name}, {loop}: {said}, {time.monotonic() - began:.1f} s ({longest})", file=sys.stderr, flush=True)
            for result in found:
                if result.failure:
                    print(f"FAIL {result}: {result.failure}", file=sys.stderr, flush=True)
            results += found
    return results


def _print_table(rows: dict[str, list[Result] | str], checks: Sequence[str]) -> None:
    print("| " + " | ".join(["", *checks, "seconds"]) + " |")
    print("|---" * (len(checks) + 2) + "|")
    for server, results in rows.items():
        if isinstance(results, str):
            print(f"| {server} | " + " | ".join([results, *[""] * len(checks)]) + " |")
            continue
        cells = [[result for result in results if result.check == check] for check in checks]
        said = ["FAIL" if any(r.failure for r in cell) else "ok" if cell else "-" for cell in cells]
        print(f"| {server} | " + " | ".join([*said, f"{sum(result.seconds for result in results):.0f}"]) + " |")


def _print_notes(results: Iterable[Result]) -> None:
    """Of the loops of one server, in one line for each check."""
    notes: dict[tuple[str, str], dict[str, list[str]]] = collections.defaultdict(lambda: collections.defaultdict(list))
    for result in results:
        if result.note:
            notes[result.server, result.check][result.note].append(result.loop)
    for (server, check), said in notes.items():
        print(f"{server}, {check}: " + "; ".join(f"{note} ({', '.join(loops)})" for note, loops in said.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--servers", help=f"of {','.join(interop.SERVERS)}")
    parser.add_argument("--loops", help=f"of {','.join(BACKENDS)}")
    parser.add_argument("--checks", help=f"of {','.join(CHECKS)}")
    parser.add_argument("--short", action="store_true", help="smaller bodies, and fewer calls")
    arguments = parser.parse_args()
    loops = _names(BACKENDS, "loop", arguments.loops)
    checks = _names(CHECKS, "check", arguments.checks)
    authority = trustme.CA()
    rows: dict[str, list[Result] | str] = {}
    failures: list[str] = []
    for name in _names(interop.SERVERS, "server", arguments.servers):
        rows[name] = []
        try:
            rows[name] = _run_server(name, authority, loops, checks, SHORT if arguments.short else FULL)
        except pytest.skip.Exception:
            rows[name] = "not installed"
        except (DidNotStart, AssertionError) as exc:  # or it ended before its time
            rows[name] = "FAIL"
            failures.append(f"{name}: {exc}")
    results = [result for row in rows.values() if not isinstance(row, str) for result in row]
    failures += [f"{result}: {result.failure}" for result in results if result.failure]
    _print_table(rows, checks)
    print()
    _print_notes(results)
    for failure in failures:
        print(f"FAIL {failure}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
