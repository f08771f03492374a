"""What the fuzzer begins with, and what it has kept: the strict path and h11 alone still agree on each of these."""

from __future__ import annotations

import pathlib

import pytest

from anyio_client._wire.h1 import ONLY_H11, H1Wire
from tests.fuzz.h1_seeds import seeds
from tests.kit.dialogues import LIMIT, both, dialogue, run

CORPUS = sorted((pathlib.Path(__file__).parents[1] / "fuzz" / "corpus" / "h1").iterdir())


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_a_dialogue_that_was_kept_is_the_same(file: pathlib.Path) -> None:
    strict, plain = both(dialogue(file.read_bytes()))
    assert strict == plain


@pytest.mark.parametrize("data", seeds(), ids=repr)
def test_a_seed_is_the_same(data: bytes) -> None:
    strict, plain = both(dialogue(data))
    assert strict == plain


def test_the_corpus_stays_small() -> None:
    assert 20 <= len(CORPUS) <= 150
    assert sum(file.stat().st_size for file in CORPUS) <= 100_000


@pytest.mark.skipif(ONLY_H11, reason="the strict path is switched off")
def test_the_corpus_has_both_what_is_read_strictly_and_what_is_handed_over() -> None:
    strict = handed = later = 0
    for data in [*seeds(), *(file.read_bytes() for file in CORPUS)]:
        wire = H1Wire(max_head_size=LIMIT)
        seen = run(wire, dialogue(data))
        names = [type(item).__name__ for item in seen]
        strict += wire._slow is None and "Ended" in names
        handed += wire._slow is not None and "ResponseReceived" in names
        later += names.count("Ended") > 1
    assert strict >= 10
    assert handed >= 10
    assert later >= 5
