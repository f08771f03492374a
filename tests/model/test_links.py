"""The field Link (RFC 8288 section 3)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyio_client._model.links import Link, parse_link
from tests.kit.fuzz import examples


@pytest.mark.parametrize(
    ("value", "links"),
    [
        ('<https://h/x?page=2>; rel="next"', [Link("https://h/x?page=2", ("next",))]),
        ("<x>; rel=next", [Link("x", ("next",))]),
        ("<x>;rel=next", [Link("x", ("next",))]),
        ('<x> ; rel = "next" ', [Link("x", ("next",))]),
        ('<x>\t;\trel="next"', [Link("x", ("next",))]),
        # the examples of the RFC, section 3.5
        (
            '<http://example.com/TheBook/chapter2>; rel="previous"; title="previous chapter"',
            [Link("http://example.com/TheBook/chapter2", ("previous",))],
        ),
        ('</>; rel="http://example.net/foo"', [Link("/", ("http://example.net/foo",))]),
        ('</terms>; rel="copyright"; anchor="#foo"', [Link("/terms", ("copyright",), "#foo")]),
        (
            "</TheBook/chapter2>; rel=\"previous\"; title*=UTF-8'de'letztes%20Kapitel, "
            "</TheBook/chapter4>; rel=\"next\"; title*=UTF-8'de'n%c3%a4chstes%20Kapitel",
            [Link("/TheBook/chapter2", ("previous",)), Link("/TheBook/chapter4", ("next",))],
        ),
        (
            '<http://example.org/>; rel="start http://example.net/relation/other"',
            [Link("http://example.org/", ("start", "http://example.net/relation/other"))],
        ),
        # several relations, in any case; separated by any white space
        ('<x>; rel="prev  NEXT\tlast"', [Link("x", ("prev", "next", "last"))]),
        ("<x>; REL=Next", [Link("x", ("next",))]),
        # only the first rel counts
        ('<x>; rel="prev"; rel="next"', [Link("x", ("prev",))]),
        ("<x>; rel; rel=next", [Link("x", ())]),
        # another parameter that looks like it
        ("<x>; xrel=next", [Link("x", ())]),
        ("<x>; rel*=next", [Link("x", ())]),
        ("<x>; rev=next", [Link("x", ())]),
        # commas and semicolons inside the brackets and inside quotes
        ("<x;rel=prev,y>; rel=next", [Link("x;rel=prev,y", ("next",))]),
        ('<x>; title="a, <y>; rel=next"; rel=prev', [Link("x", ("prev",))]),
        (
            '<x>; title="a\\", <y>; rel=next"; rel=prev, <z>; rel=next',
            [Link("x", ("prev",)), Link("z", ("next",))],
        ),
        ('<x>; rel="ne\\xt"', [Link("x", ("next",))]),
        # empty elements of the list, empty parameters, a missing value
        (" , ,<x>; rel=next , , <y>,", [Link("x", ("next",)), Link("y", ())]),
        ("<x>;;; rel=next;", [Link("x", ("next",))]),
        ("<x>; rel=", [Link("x", ())]),
        ('<x>; rel=""', [Link("x", ())]),
        ("<x>; crossorigin; rel=next", [Link("x", ("next",))]),
        ("<>; rel=next", [Link("", ("next",))]),
        ("< x >; rel=next", [Link("x", ("next",))]),
        ("<x>; anchor=y", [Link("x", (), "y")]),
        ('<x>; anchor=""', [Link("x", (), "")]),
        ("<é>; title=é; rel=next", [Link("é", ("next",))]),
        # what is malformed
        ("", []),
        ("x", []),
        ("<x", []),
        ("rel=next", []),
        ("; rel=next", []),
        ("<x> rel=next, <y>; rel=next", [Link("x", ()), Link("y", ("next",))]),
        ("<x>; rel=next, y; rel=last", [Link("x", ("next",))]),
        ("<x>; rel='next'", [Link("x", ("'next'",))]),
    ],
)
def test_links(value: str, links: list[Link]) -> None:
    assert parse_link(value) == links


def test_several_fields_are_one_list() -> None:
    assert parse_link(", ".join(["<a>; rel=prev", '<b>; rel="next"'])) == [Link("a", ("prev",)), Link("b", ("next",))]


TARGETS = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs", "Cc", "Z"]))
WORDS = st.text("abcdefghijklmnopqrstuvwxyz-.", min_size=1)
QUOTED = st.text(st.characters(min_codepoint=32, max_codepoint=126))


@settings(max_examples=examples(200))
@given(st.lists(st.tuples(TARGETS, st.lists(WORDS, max_size=3), QUOTED), max_size=4))
def test_what_is_written_by_the_grammar_is_read(links: list[tuple[str, list[str], str]]) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    value = ", ".join(
        f"<{target}>; title={quoted(title)}; rel={quoted(' '.join(relations))}; anchor={quoted(title)}"
        for target, relations, title in links
    )
    assert parse_link(value) == [Link(target, tuple(relations), title) for target, relations, title in links]


SHARDS = st.sampled_from(
    ["<", ">", ";", ",", '"', "\\", "=", " ", "\t", "\n", "rel", "next", "<x>", "rel=next", "é", "\x00"]
)


@settings(max_examples=examples(300))
@given(st.text() | st.lists(SHARDS, max_size=40).map("".join))
def test_any_text_is_read_without_an_error(value: str) -> None:
    for link in parse_link(value):
        assert link.target in value
        assert all(relation and relation == relation.lower() for relation in link.relations)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        ("<x>", " "),
        ("", "<"),
        ("", "<x>,"),
        ("", "<x>a,<"),
        ("<x>", ";"),
        ("<x>", "; "),
        ("<x>;", " a "),
        ("<x>", ';a="'),
        ("<x>", ';a="\\'),
        ('<x>;a="', "\\"),
        ("<x>", ';a="\\\n'),
        ("<x>;", "a"),
        ("<x>;a=", " "),
        ("<x>;a=", "b"),
        ("<x>a", ","),
        ("<x>", ", "),
        ('<x>;rel="', "a "),
        ("<", " "),
        ("", " ,"),
    ],
)
def test_the_time_is_linear_in_the_size(start: str, piece: str) -> None:
    def seconds(count: int) -> float:
        value = start + piece * count
        began = time.perf_counter()
        parse_link(value)
        return time.perf_counter() - began

    small = min(seconds(1_000) for _ in range(3))
    assert min(seconds(30_000) for _ in range(2)) < 120 * small + 0.2  # quadratic: 900 times, and seconds
