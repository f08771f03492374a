"""`make sdks`: the SDKs of Anthropic and of OpenAI over our connections, beside the same over httpx2's own.

Every check of tests/sdks/engine_checks.py for each SDK, on HTTP/1.1 and HTTP/2, on asyncio, uvloop and trio. Prints one
table, and the reasons of what fails. The exit status is 1 if anything failed over our connections; the rows of
the SDKs' own transport are there to compare. ``--transports engine``, ``--sdks openai``, ``--loops trio``, ``--http 2``,
``--checks stream,upload``: less of it.
"""

from __future__ import annotations

import argparse
import itertools
import pathlib
import string
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import anyio
import attrs
import pytest
import trustme

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from tests.kit.sdk_server import start
from tests.sdks.engine_checks import CHECKS, Place, run
from tests.sdks.engine_dialects import DIALECTS, TRANSPORTS

LOOPS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


@attrs.frozen
class Result:
    check: str
    seconds: float
    failure: str | None


def _names(known: Iterable[str], what: str, given: str | None) -> list[str]:
    """What was asked for, or all of it."""
    known = list(known)
    names = known if given is None else given.split(",")
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"no {what} {unknown[0]!r}; there are: {', '.join(known)}")
    return names


def _reason(error: BaseException) -> str:
    """The first error of a group, and its cause."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    cause = f" <- {error.__cause__!r}" if error.__cause__ else ""
    return f"{type(error).__name__}: {str(error)[:400]}{cause[:400]}"


def _row(place: Place, loop: str) -> str:
    return f"{place.dialect.name}, {place.transport}, HTTP/{2 if place.http2 else 1.1}, {loop}"


def _run_all(place: Place, loop: str, checks: Sequence[str]) -> list[Result]:
    """A check that fails does not end the others: each has a loop of its own."""
    row = _row(place, loop)
    backend, options = LOOPS[loop]
    results: list[Result] = []
    for name in checks:
        began = time.monotonic()
        failure = None
        try:
            anyio.run(run, CHECKS[name], place, backend=backend, backend_options=options)
        except Exception as exc:
            failure = _reason(exc)
            print(f"FAIL {row}, {name}: {failure}", file=sys.stderr, flush=True)
        results.append(Result(name, time.monotonic() - began, failure))
    slow = ", ".join(f"{r.check} {r.seconds:.1f}" for r in sorted(results, key=lambda r: -r.seconds)[:4])
    print(f"{row}: {sum(r.seconds for r in results):.1f} s ({slow})", file=sys.stderr, flush=True)
    return results


def _print_table(rows: dict[str, list[Result]], checks: Sequence[str]) -> None:
    """A letter for each check: there are many, and their names are long."""
    letters = string.ascii_letters[: len(checks)]
    width = max(map(len, rows))
    for letter, name in zip(letters, checks, strict=True):
        print(f"{letter}: {name}")
    print(f"\n{'':{width}} {' '.join(letters)}")
    for row, results in rows.items():
        found = {result.check: "F" if result.failure else "." for result in results}
        said = " ".join(found.get(name, "-") for name in checks)
        print(f"{row:{width}} {said} {sum(result.seconds for result in results):6.1f} s")
    print("\n. works   F fails   - is not asked of this version of HTTP")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sdks", help=f"of {','.join(DIALECTS)}")
    parser.add_argument("--transports", help=f"of {','.join(TRANSPORTS)}")
    parser.add_argument("--http", help="of 1.1,2")
    parser.add_argument("--loops", help=f"of {','.join(LOOPS)}")
    parser.add_argument("--checks", help=f"of {','.join(CHECKS)}")
    arguments = parser.parse_args()
    checks = _names(CHECKS, "check", arguments.checks)
    combinations = itertools.product(
        _names(TRANSPORTS, "transport", arguments.transports),
        _names(DIALECTS, "SDK", arguments.sdks),
        _names(["1.1", "2"], "version of HTTP", arguments.http),
        _names(LOOPS, "loop", arguments.loops),
    )
    rows: dict[str, list[Result]] = {}
    failed = False
    try:
        with start(trustme.CA()) as server:
            for transport, sdk, version, loop in combinations:
                place = Place(server, DIALECTS[sdk], version == "2", transport)
                results = _run_all(place, loop, [name for name in checks if name in CHECKS.of(version)])
                rows[_row(place, loop)] = results
                failed |= transport == "engine" and any(result.failure for result in results)
    except pytest.skip.Exception as exc:
        sys.exit(str(exc))
    _print_table(rows, checks)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
