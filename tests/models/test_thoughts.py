"""Thoughts and answers told apart, however a reply's text comes."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.models.thoughts import USUAL, ThoughtMarks, ThoughtReader, divide

CHANNELS = ThoughtMarks(
    "<|channel|>analysis<|message|>",
    "<|end|><|start|>assistant<|channel|>final<|message|>",
    "<|channel|>final<|message|>",
)


def read(pieces: list[str], marks: ThoughtMarks | None) -> tuple[str, str, bool]:
    reader = ThoughtReader(marks)
    parts = [part for piece in pieces for part in reader.feed(piece)] + reader.finish()
    thought, answer = (
        "".join(p.text for p in parts if p.thought is kind) for kind in (True, False)
    )
    return thought, answer, reader.thinks


@pytest.mark.parametrize(
    ("text", "marks", "thought", "answer"),
    [
        ("<think>\nA sum.\n</think>\n\n4.", USUAL, "A sum.", "4."),
        ("\n <think>A sum.</think>4.", USUAL, "A sum.", "4."),
        ("<think>\n\n</think>\n\n4.", USUAL, "", "4."),
        ("<think>\nA  \n\n su", USUAL, "A  \n\n su", ""),
        ("4. <think>no</think>", USUAL, None, "4. <think>no</think>"),
        ("```html\n<think>no</think>", USUAL, None, "```html\n<think>no</think>"),
        ("<thin", USUAL, None, "<thin"),
        ("<think>a</think>b<think>c</think>", USUAL, "a", "b<think>c</think>"),
        ("<think>a </thin b</think> c", USUAL, "a </thin b", "c"),
        ("<think>a</think>b", None, None, "<think>a</think>b"),
        ("", USUAL, None, ""),
        ("<|channel|>analysis<|message|>a" + CHANNELS.closes + "b", CHANNELS, "a", "b"),
        ("<|channel|>final<|message|>b", CHANNELS, None, "b"),
    ],
    ids=["usual", "tight", "empty", "cut", "later", "code", "half", "again", "nearly", "other",
         "none", "channels", "final"],
)  # fmt: skip
def test_every_split_gives_the_same(
    text: str, marks: ThoughtMarks | None, thought: str | None, answer: str
) -> None:
    whole = divide(text, marks)
    assert (whole.thought, whole.answer) == (thought, answer)
    assert text[whole.start :] == answer
    for cuts in [(at,) for at in range(len(text) + 1)] + [*combinations(range(len(text) + 1), 2)]:
        ends = [0, *cuts, len(text)]
        pieces = [text[a:b] for a, b in pairwise(ends)]
        assert read(pieces, marks) == (thought or "", answer, thought is not None)
    assert read([*text], marks) == (thought or "", answer, thought is not None)


FRAGMENTS = ["<think>", "</think>", "<thi", "nk>", "</", "a", " ", "\n", "想", "`"]


@given(st.lists(st.lists(st.sampled_from(FRAGMENTS), max_size=5).map("".join), max_size=6))
def test_pieces_never_matter(pieces: list[str]) -> None:
    whole = divide("".join(pieces), USUAL)
    thought, answer, thinks = read(pieces, USUAL)
    assert (thought, answer) == (whole.thought or "", whole.answer)
    assert thinks == (whole.thought is not None)


def test_what_is_told_early_is_never_taken_back() -> None:
    reader = ThoughtReader(USUAL)
    assert reader.feed("<think>\nfirst  ") == [(True, "first")]
    assert reader.feed("words</th") == [(True, "  words")]
    assert reader.feed("ink>\n\n") == []
    assert reader.place == "between"
    assert reader.feed("4") == [(False, "4")]
    assert reader.feed("<think>") == [(False, "<think>")]


def test_a_reply_that_breaks_off_in_its_thoughts_is_not_closed() -> None:
    assert not divide("<think>\nWell", USUAL).closed
    assert divide("<think>\nWell</think>", USUAL).closed
    assert divide("Well", USUAL).closed
