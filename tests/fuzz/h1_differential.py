"""`make fuzz`: libFuzzer, by atheris, looks for a dialogue in which the strict path and h11 alone differ.

The bytes are read by :func:`tests.kit.dialogues.dialogue`. The arguments are libFuzzer's: folders of a corpus (what
is found goes to the first), ``-runs=``, ``-seed=``, ``-dict=``; or one file, which is run alone. A finding is left as
``crash-...`` where ``-artifact_prefix=`` says; copied to tests/fuzz/corpus/h1, tests/wire/test_h1_corpus.py shows it
without atheris.

Only the two codecs and h11 are instrumented. What a regular expression does is not seen, so the dictionary and the
corpus carry the tokens.
"""

from __future__ import annotations

import importlib
import os
import pathlib
import shlex
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

JUDGED = ("h11", "anyio_client._wire.h1", "anyio_client._wire.h11wire", "tests.kit.dialogues")


def is_judged(module: str) -> bool:
    return module in JUDGED or module.startswith("h11.")


def main() -> None:
    try:
        import atheris
    except ModuleNotFoundError:
        print("skipped: the fuzzing of H1Wire beside h11 needs atheris (for CPython 3.11 to 3.13 on Linux, x86-64)")
        return
    if os.environ.get("ANYIO_CLIENT_H11"):
        sys.exit("ANYIO_CLIENT_H11 switches the strict path off: there is nothing to compare")

    # atheris instruments what is imported, by whole packages. So: everything without it, then again what is judged.
    importlib.import_module("tests.kit.dialogues")
    for name in [name for name in sys.modules if is_judged(name)]:
        del sys.modules[name]
    with atheris.instrument_imports(include=["anyio_client", "h11"]):
        dialogues: Any = importlib.import_module("tests.kit.dialogues")

    def differential(data: bytes) -> None:
        steps = dialogues.dialogue(data)
        strict, plain = dialogues.both(steps)
        if strict != plain:
            raise AssertionError("\n".join(["they differ", *map(repr, steps), "", *_columns(strict, plain)]))

    # The first argument is what -merge=1 gives to a shell, to run itself again.
    atheris.Setup([shlex.join([sys.executable, sys.argv[0]]), *sys.argv[1:]], differential)
    atheris.Fuzz()


def _columns(strict: list[Any], plain: list[Any]) -> list[str]:
    same = next(
        (i for i, (a, b) in enumerate(zip(strict, plain, strict=False)) if a != b), min(len(strict), len(plain))
    )
    return [f"the same: {strict[:same]}", f"strict: {strict[same:]}", f"h11: {plain[same:]}"]


if __name__ == "__main__":
    main()
