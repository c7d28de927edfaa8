"""What votes say of two: counted by who they were, not by what they were called."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openchat_local.app.chats.votes import Choice, Side, Vote
from openchat_local.app.learning.contest import Contest, Contestant, Tally, tally, verdict
from openchat_local.models.engine.protocol import AdapterChoice

MINE = Side("mine", "starter", "mine", 1.0, "Expert", "m0", "a1")
BASE = Side("starter", "starter", model_digest="m0")


def vote(first: Side, second: Side, choice: Choice | None) -> Vote:
    return Vote("v", 0.0, "c", "p", first, second, "r1", "r2", choice)


def test_votes_count_in_whichever_order_they_were_shown() -> None:
    votes = [
        vote(MINE, BASE, "first"),
        vote(BASE, MINE, "second"),
        vote(BASE, MINE, "first"),
        vote(MINE, BASE, "tie"),
        vote(BASE, MINE, "bad"),
        vote(MINE, BASE, "skip"),
        vote(MINE, BASE, None),
    ]
    assert tally(MINE, BASE, votes) == Tally(wins=2, losses=1, ties=1, both_bad=1, skipped=1)
    assert tally(BASE, MINE, votes) == Tally(wins=1, losses=2, ties=1, both_bad=1, skipped=1)


def test_an_adapter_that_was_trained_anew_under_its_name_is_another_one() -> None:
    anew = replace(MINE, adapter_digest="a2")
    other_condition = replace(MINE, condition="Code")
    renamed = replace(MINE, label="my own")
    votes = [vote(each, BASE, "first") for each in (anew, other_condition, renamed)]
    assert tally(MINE, BASE, votes).wins == 1


def test_the_chats_condition_comes_before_the_own_one_and_after_one_that_was_asked_for() -> None:
    mine = Contestant(MINE, AdapterChoice())
    assert mine.answering(None).side.condition == "Expert"
    assert mine.answering(" Code ").side.condition == "Code"
    assert mine.answering("").side.condition == ""
    assert replace(mine, condition="Math").answering("Code").side.condition == "Math"
    contest = Contest(mine, Contestant(BASE, AdapterChoice()))
    assert [each.side.label for each in contest.drawn(None, swapped=True)] == ["starter", "mine"]


@pytest.mark.parametrize(
    ("votes", "better", "says"),
    [
        (Tally(wins=9, losses=1), "a", "mine wins 90% (between 60% and 98% with 95 % certainty)"),
        (Tally(wins=1, losses=9), "b", "starter wins 90% (between 60% and 98%"),
        (Tally(wins=5, losses=3, ties=2), None, "mine wins 60% (between 31% and 83%"),
        (Tally(wins=1, losses=1), None, "neither is better"),
        (Tally(both_bad=3, skipped=1), None, "both bad 3 times"),
    ],
)
def test_a_verdict_is_a_sentence_with_its_interval(
    votes: Tally, better: str | None, says: str
) -> None:
    found = verdict("mine", "starter", votes)
    assert found.better == better
    assert says in found.sentence
    assert "\n" not in found.sentence
