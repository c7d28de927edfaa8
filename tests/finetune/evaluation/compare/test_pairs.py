"""Which answer is shown first tells nothing, and what is voted comes back to whose it is."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.finetune.evaluation.compare.ballot import Ballot
from openchat_local.finetune.evaluation.compare.pairs import Answer, Pair, Vote, pair_up
from openchat_local.finetune.evaluation.compare.prompt_rows import Prompt
from openchat_local.finetune.evaluation.rows import RowFile
from openchat_local.models.conversation import Message

NAMES = st.text("0123456789abcdef", min_size=1, max_size=8)


def paired(texts: list[str], identities: tuple[str, str], seed: int) -> tuple[list[Pair], ...]:
    """The pairs of A and B, and those of B and A."""
    asked = [Prompt(n, "", "", (Message("user", text),)) for n, text in enumerate(texts, 1)]
    a, b = ({one.digest: (Answer(f"{who} {one.asked}", 2),) for one in asked} for who in "ab")
    return (
        pair_up(asked, a, b, identities, seed),
        pair_up(asked, b, a, identities[::-1], seed),
    )


@given(st.lists(st.text(), unique=True), st.tuples(NAMES, NAMES), st.integers(0, 9))
def test_a_vote_for_a_place_is_one_for_whose_answer_was_shown_there(
    texts: list[str], identities: tuple[str, str], seed: int
) -> None:
    for pair in paired(texts, identities, seed)[0]:
        assert pair.a[0].text == f"a {pair.prompt.asked}"
        assert pair.b[0].text == f"b {pair.prompt.asked}"
        for vote, shown in (("first", pair.first), ("second", pair.second)):
            assert pair.outcome(vote) == shown[0].text[0]  # type: ignore[arg-type]
        assert [pair.outcome(vote) for vote in ("tie", "both bad", "skip")] == [
            "tie", "both bad", "skip"
        ]  # fmt: skip


@given(st.lists(st.text(), unique=True), st.tuples(NAMES, NAMES), st.integers(0, 9))
def test_the_places_are_the_same_whichever_of_both_is_called_a(
    texts: list[str], identities: tuple[str, str], seed: int
) -> None:
    if identities[0] == identities[1]:
        return
    ours, theirs = paired(texts, identities, seed)
    assert [pair.digest for pair in ours] == [pair.digest for pair in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert (one.first, one.second) == (other.first, other.second)
        assert {one.outcome("first"), other.outcome("first")} == {"a", "b"}


def test_either_is_first_about_as_often_and_another_seed_is_another_order() -> None:
    texts = [f"question {number}" for number in range(1000)]
    by_seed = [
        [pair.swapped for pair in paired(texts, ("one", "two"), seed)[0]] for seed in range(4)
    ]
    for order in by_seed:
        assert 440 < sum(order) < 560  # four standard deviations of a fair coin
    for one, other in pairwise(by_seed):
        assert 440 < sum(a != b for a, b in zip(one, other, strict=True)) < 560


def test_a_prompt_that_one_has_no_answer_to_is_no_pair() -> None:
    asked = [Prompt(n, "", "", (Message("user", str(n)),)) for n in (1, 2)]
    one, both = ({each.digest: (Answer("x", 1),) for each in some} for some in (asked[:1], asked))
    assert [pair.prompt.line for pair in pair_up(asked, one, both, ("a", "b"))] == [1]


VOTES: list[Vote] = ["first", "second", "tie", "both bad", "skip"]


@given(st.lists(st.sampled_from([*VOTES, "undo", "again"]), max_size=30), st.integers(0, 6))
def test_a_ballot_is_a_stack_of_votes_that_outlives_the_process(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], count: int
) -> None:
    path = tmp_path_factory.mktemp("votes") / "votes.jsonl"
    pairs = paired([f"question {number}" for number in range(count)], ("one", "two"), 0)[0]
    ballot = Ballot(pairs, RowFile(path))
    model: list[str] = []
    for key in keys:
        if key == "again":
            ballot = Ballot(pairs, RowFile(path))
        elif key == "undo":
            assert ballot.undo() == bool(model)
            del model[-1:]
        elif ballot.current is not None:
            ballot.cast(key)  # type: ignore[arg-type]
            model.append(key)
        votes = [ballot.vote_on(pair) for pair in pairs]
        assert votes == [*model, *[None] * (count - len(model))]
        assert ballot.done == len(model)
        assert ballot.current == (pairs[len(model)] if len(model) < count else None)


def test_the_vote_that_was_taken_back_is_asked_again_before_earlier_ones(tmp_path: Path) -> None:
    pairs = paired(["one", "two", "three"], ("a", "b"), 0)[0]
    some = Ballot(pairs[2:], RowFile(tmp_path / "votes"))
    some.cast("tie")
    every = Ballot(pairs, RowFile(tmp_path / "votes"))
    assert every.current == pairs[0]
    every.undo()
    assert every.current == pairs[2]
    every.cast("first")
    assert every.current == pairs[0]


def test_where_there_is_nothing_to_choose_nobody_is_asked(tmp_path: Path, make_pairs: Any) -> None:
    pairs = make_pairs(["same ", "one"], ["same\n", "other"])
    ballot = Ballot(pairs, RowFile(tmp_path / "votes"))
    assert ballot.pairs == (pairs[1],)
    assert ballot.vote_on(pairs[0]) == "tie"
    assert ballot.vote_on(pairs[1]) is None


def test_a_vote_is_on_these_very_answers(tmp_path: Path, make_pairs: Any) -> None:
    Ballot(make_pairs(["one"], ["two"]), RowFile(tmp_path / "votes")).cast("first")
    assert Ballot(make_pairs(["one"], ["two"]), RowFile(tmp_path / "votes")).done == 1
    assert Ballot(make_pairs(["one"], ["other"]), RowFile(tmp_path / "votes")).done == 0


def test_rows_that_are_no_votes_count_for_nothing(tmp_path: Path, make_pairs: Any) -> None:
    pairs = make_pairs(["one", "three"], ["two", "four"])
    rows = RowFile(tmp_path / "votes")
    for vote in ("First", 1, None, ["first"]):
        rows.append({"pair": pairs[0].digest, "vote": vote})
    rows.append({"vote": "first"})
    rows.append({"pair": [], "vote": "first"})
    assert Ballot(pairs, rows).done == 0
