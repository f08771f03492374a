"""`make mutants`: plant faults in _core and _wire, one at a time, and count those that the tests notice.

mutmut (from the index) makes the faults and runs for each the tests that reach it, those of the file's own module. It
works on a copy, so that the checkout is never touched. Survivors that were looked at and found harmless stand, with
the reason, in tests/mutants_harmless.txt; they still count as survivors in the score.
"""

from __future__ import annotations

import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent
NOTICED_AT_LEAST = 0.92
# mutmut's exit codes of a mutant's run: 0 is a survivor, 33 had no test at all.
NAMES = {
    0: "survived",
    1: "killed",
    3: "killed",
    33: "no tests",
    34: "skipped",
    36: "timeout",
    24: "timeout",
    37: "type",
}


def main() -> int:
    work = pathlib.Path(os.environ.get("MUTANTS_DIR") or tempfile.mkdtemp(prefix="mutants-"))
    work.mkdir(exist_ok=True)
    for name in ("anyio_client", "tests"):
        shutil.copytree(ROOT / name, work / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, work / name)
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "mutants", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(os.cpu_count() or 1), *sys.argv[1:]]
    run = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    print(run.stdout[-600:])
    results: dict[str, collections.Counter[str]] = {}
    survivors: list[str] = []
    for path in sorted(work.glob("mutants/anyio_client/_*/*.meta")):
        counts: collections.Counter[str] = collections.Counter()
        for mutant, code in json.loads(path.read_text())["exit_code_by_key"].items():
            outcome = NAMES.get(code, "killed" if code else "not run")
            counts[outcome] += 1
            if outcome in ("survived", "no tests"):
                survivors.append(mutant)
        if counts:
            results[str(path.relative_to(work / "mutants")).removesuffix(".meta")] = counts
    total: collections.Counter[str] = sum(results.values(), collections.Counter())
    for file, counts in [*results.items(), ("all", total)]:
        noticed = sum(counts[name] for name in ("killed", "timeout", "type"))
        judged = sum(counts.values()) - counts["skipped"]
        print(f"{file:40} {noticed:5} of {judged:5} noticed  {100 * noticed / max(judged, 1):5.1f} %  {dict(counts)}")
    harmless = (
        (ROOT / "tests/mutants_harmless.txt").read_text() if (ROOT / "tests/mutants_harmless.txt").exists() else ""
    )
    known = set(re.findall(r"^(\S+__mutmut_\d+)", harmless, re.MULTILINE))
    for mutant in survivors:
        print("survived:", mutant, "(known)" if mutant in known else "")
    noticed = sum(total[name] for name in ("killed", "timeout", "type"))
    judged = sum(total.values()) - total["skipped"]
    if not judged:
        print(run.stdout, run.stderr)
        return 2
    return 0 if noticed >= NOTICED_AT_LEAST * judged else 1


if __name__ == "__main__":
    sys.exit(main())
