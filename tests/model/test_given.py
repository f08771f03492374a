"""``not_given`` and ``omit``: the two words for "nothing here"."""

from __future__ import annotations

import copy
import pickle

import pytest

from anyio_client._model.given import NotGiven, Omit, not_given, omit

WORDS = [(not_given, "not_given"), (omit, "omit")]


@pytest.mark.parametrize(("word", "name"), WORDS)
def test_a_word_shows_its_name_and_is_falsy(word: object, name: str) -> None:
    assert repr(word) == name
    assert not word


@pytest.mark.parametrize(("word", "name"), WORDS)
def test_a_word_stays_the_same_object_when_copied_or_pickled(word: object, name: str) -> None:
    assert copy.copy(word) is word
    assert copy.deepcopy(word) is word
    assert copy.deepcopy({"a": [word]})["a"][0] is word
    assert pickle.loads(pickle.dumps(word)) is word


def test_every_omit_is_equal_and_nothing_else_is() -> None:
    assert Omit() == omit
    assert hash(Omit()) == hash(omit)
    assert omit != not_given
    assert omit != ""
    assert omit is not None
    assert len({omit, Omit()}) == 1


def test_the_two_words_are_of_two_types() -> None:
    assert not isinstance(omit, NotGiven)
    assert not isinstance(not_given, Omit)
