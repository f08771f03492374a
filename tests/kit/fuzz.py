"""How much a property is tried: a little in every run, more in ``make fuzz``, less for each planted fault."""

from __future__ import annotations

import os

__all__ = ["examples"]

STEPS = int(os.environ.get("FUZZ_STEPS", "0"))
MUTANTS = os.environ.get("HYPOTHESIS_PROFILE") == "mutants"


def examples(usual: int) -> int:
    """The number of examples for this run, *usual* being that of ``make test``."""
    if STEPS:
        return max(usual, STEPS // 60)  # the pool's machine takes 60 steps for each example
    return min(usual, 40) if MUTANTS else usual
