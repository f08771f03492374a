"""`make proxies`: our client through every proxy of tests/kit/real_proxies.py, on asyncio, uvloop and trio.

Prints one table: "ok", "-" where the proxy does not offer what is checked, or "FAIL" with the reasons below it. The exit
status is 1 if anything failed. ``--proxies squid,socks5``, ``--loops trio``, ``--modes http``, ``--checks echo``: less.
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

from tests.kit import proxy_checks, proxy_origin, real_proxies
from tests.kit.interop_checks import BACKENDS
from tests.kit.proxy_checks import CHECKS, MODES, Place
from tests.kit.real_proxies import PROXIES
from tests.kit.servers import DidNotStart


@attrs.frozen
class Result:
    proxy: str
    mode: str
    loop: str
    check: str
    failure: str | None

    def __str__(self) -> str:
        return f"{self.proxy}, {self.mode}, {self.loop}, {self.check}"


def _names(known: Iterable[str], what: str, given: str | None) -> list[str]:
    """What was asked for, or all of it."""
    known = list(known)
    names = known if given is None else given.split(",")
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"no {what} {unknown[0]!r}; there are: {', '.join(known)}")
    return names


def _reason(error: BaseException) -> str:
    """The first error of a group, and where it came from."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    trace = error.__traceback__
    while trace and trace.tb_next and "proxy_checks" in trace.tb_next.tb_frame.f_code.co_filename:
        trace = trace.tb_next
    text = f"{type(error).__name__}: {error}" + (f" (cause: {error.__cause__!r})" if error.__cause__ else "")
    return text[:500] + (f" [line {trace.tb_lineno}]" if trace else "")


def _run_all(place: Place, mode: str, loop: str, checks: Sequence[str]) -> list[Result]:
    """All checks of one row on one loop; a check that fails does not end the others."""
    results: list[Result] = []

    async def main() -> None:
        for name in checks:
            if not proxy_checks.is_offered(name, place.proxy):
                continue
            failure = None
            try:
                await proxy_checks.run(name, place)
            except Exception as exc:
                failure = _reason(exc)
            results.append(Result(place.proxy.name, mode, loop, name, failure))

    backend, options = BACKENDS[loop]
    anyio.run(main, backend=backend, backend_options=options)
    return results


def _run_proxy(
    name: str, authority: trustme.CA, modes: Sequence[str], loops: Sequence[str], checks: Sequence[str]
) -> list[Result]:
    results: list[Result] = []
    with contextlib.ExitStack() as stack:
        # An origin for each: what it recorded came through this proxy.
        origin = stack.enter_context(proxy_origin.origin(authority))
        proxy = stack.enter_context(real_proxies.start(name, authority))
        for mode in modes:
            for loop in loops:
                began = time.monotonic()
                found = _run_all(Place(proxy, MODES[mode], origin), mode, loop, checks)
                failed = [result.check for result in found if result.failure]
                said = f"FAIL: {', '.join(failed)}" if failed else "ok"
                print(f"{name}, {mode}, {loop}: {said}, {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
                results += found
    return results


def _print_table(rows: dict[str, list[Result] | str], checks: Sequence[str]) -> None:
    print("| " + " | ".join(["", *checks]) + " |")
    print("|---" * (len(checks) + 1) + "|")
    for proxy, results in rows.items():
        if isinstance(results, str):
            print(f"| {proxy} | " + " | ".join([results, *[""] * (len(checks) - 1)]) + " |")
            continue
        by_mode: dict[str, list[Result]] = collections.defaultdict(list)
        for result in results:
            by_mode[result.mode].append(result)
        for mode, found in by_mode.items():
            cells = [[result for result in found if result.check == check] for check in checks]
            said = ["FAIL" if any(r.failure for r in cell) else "ok" if cell else "-" for cell in cells]
            print(f"| {proxy}, {mode} | " + " | ".join(said) + " |")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--proxies", help=f"of {','.join(PROXIES)}")
    parser.add_argument("--modes", help=f"of {','.join(MODES)}")
    parser.add_argument("--loops", help=f"of {','.join(BACKENDS)}")
    parser.add_argument("--checks", help=f"of {','.join(CHECKS)}")
    arguments = parser.parse_args()
    modes = _names(MODES, "mode", arguments.modes)
    loops = _names(BACKENDS, "loop", arguments.loops)
    checks = _names(CHECKS, "check", arguments.checks)
    authority = trustme.CA()
    rows: dict[str, list[Result] | str] = {}
    failures: list[str] = []
    for name in _names(PROXIES, "proxy", arguments.proxies):
        try:
            rows[name] = _run_proxy(name, authority, modes, loops, checks)
        except pytest.skip.Exception as exc:
            rows[name] = str(exc)
        except (DidNotStart, AssertionError) as exc:  # or it ended before its time
            rows[name] = "FAIL"
            failures.append(f"{name}: {exc}")
    results = [result for row in rows.values() if not isinstance(row, str) for result in row]
    failures += [f"{result}: {result.failure}" for result in results if result.failure]
    _print_table(rows, checks)
    print()
    for failure in failures:
        print(f"FAIL {failure}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
