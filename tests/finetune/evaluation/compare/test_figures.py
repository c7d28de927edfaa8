"""Votes become figures, and figures a sentence that does not say more than they do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from openchat_local.finetune.evaluation.compare.figures import Judged, figures_of, win_rate
from openchat_local.finetune.evaluation.compare.pairs import Outcome
from openchat_local.finetune.evaluation.compare.report import (
    notes_of,
    rows_of,
    sentences_of,
    summary_of,
    tables_of,
)


def judged(
    make_pairs: Any, outcomes: str, a: str = "aa a", b: str = "b", category: str = ""
) -> Any:
    """A judgement a letter: a, b, (t)ie, both (x), (s)kip, (n)othing."""
    names: dict[str, Outcome | None] = {
        "a": "a", "b": "b", "t": "tie", "x": "both bad", "s": "skip", "n": None
    }  # fmt: skip
    pairs = make_pairs([a] * len(outcomes), [b] * len(outcomes), category=category)
    return [Judged(pair, names[one]) for pair, one in zip(pairs, outcomes, strict=True)]


def test_a_tie_is_half_a_win_and_what_nobody_liked_or_judged_does_not_count(
    make_pairs: Any,
) -> None:
    figures = figures_of(judged(make_pairs, "aaabtxxsn"))
    rate = figures.overall
    assert (rate.wins, rate.losses, rate.ties, rate.both_bad) == (3, 1, 1, 2)
    assert (rate.counted, figures.skipped, figures.failed) == (5, 1, 1)
    assert rate.rate == pytest.approx(3.5 / 5)
    assert figures.sign_test == pytest.approx(binomtest(3, 4).pvalue)


def test_intervals_cover_the_rate_that_is_so(make_pairs: Any) -> None:
    random = np.random.default_rng(0)
    pool = judged(make_pairs, "abt")  # any pair does: a win rate asks for outcomes alone
    covered = 0
    for _ in range(200):
        drawn = random.choice(3, p=[0.5, 0.3, 0.2], size=60)
        interval = win_rate([pool[one] for one in drawn]).interval
        assert interval is not None
        covered += interval.low <= 0.6 <= interval.high
    assert 178 <= covered <= 199  # of 200: 95 %, give or take three standard deviations and a bit


def test_what_always_came_out_the_same_is_not_certain(make_pairs: Any) -> None:
    interval = win_rate(judged(make_pairs, "aaaaa")).interval
    assert interval is not None
    assert interval.low < 0.6
    assert interval.high == 1.0
    assert win_rate(judged(make_pairs, "xs")).rate is None


def test_lengths_are_of_both_and_of_those_that_were_preferred(make_pairs: Any) -> None:
    figures = figures_of(judged(make_pairs, "aab", a="one two three", b="four"))
    assert (figures.characters.a, figures.characters.b) == (13, 4)
    assert figures.characters.preferred == pytest.approx((13 + 13 + 4) / 3)
    assert figures.characters.other == pytest.approx((4 + 4 + 13) / 3)
    assert (figures.tokens.a, figures.tokens.b) == (3, 1)
    assert figures_of(judged(make_pairs, "tx")).characters.preferred is None


def test_categories_are_told_where_there_are_several(make_pairs: Any) -> None:
    one = judged(make_pairs, "aab", category="math")
    both = figures_of([*one, *judged(make_pairs, "bt", category="writing")])
    assert [(name, rate.wins, rate.losses) for name, rate in both.categories] == [
        ("math", 2, 1),
        ("writing", 0, 1),
    ]
    assert figures_of(one).categories == ()
    (table, _) = tables_of(both)
    assert [row[0] for row in table.rows] == ["all", "math", "writing"]


@pytest.mark.parametrize(
    ("outcomes", "says"),
    [
        ("a" * 9 + "b", "mine is better, by this judge."),
        ("b" * 9 + "a", "base is better, by this judge."),
        ("aab", "no difference that can be told from chance."),
        ("xxs", "Neither A (mine) nor B (base) was preferred anywhere"),
    ],
)
def test_a_sentence_says_what_it_means(make_pairs: Any, outcomes: str, says: str) -> None:
    assert says in sentences_of(figures_of(judged(make_pairs, outcomes)), "mine", "base")[0]


def of_lengths(make_pairs: Any, longer_wins: int, longer_loses: int) -> Any:
    """A is longer three times out of four; so many times the longer answer wins, and loses."""
    total = longer_wins + longer_loses
    a = ["word " * (9 if n % 4 else 3) for n in range(total)]
    pairs = make_pairs(a, ["word " * 6] * total)
    wins = [n >= longer_loses for n in range(total)]
    return figures_of(
        [Judged(pair, "a" if won == (n % 4 > 0) else "b")
         for n, (pair, won) in enumerate(zip(pairs, wins, strict=True))]
    )  # fmt: skip


def test_a_preference_for_length_alone_is_called_one(make_pairs: Any) -> None:
    figures = of_lengths(make_pairs, longer_wins=54, longer_loses=6)
    assert figures.sign_test < 0.01
    said = sentences_of(figures, "mine", "base")[1]
    assert "the preference may be one for longer answers alone" in said


def test_what_length_does_not_explain_is_said_as_well(make_pairs: Any) -> None:
    outcomes = ["a" if n % 6 else "b" for n in range(60)]
    a = ["word " * (9 if n % 2 else 3) for n in range(60)]
    pairs = make_pairs(a, ["word " * 6] * 60)
    figures = figures_of([Judged(*one) for one in zip(pairs, outcomes, strict=True)])
    assert "length alone does not explain it" in sentences_of(figures, "mine", "base")[1]


def test_what_did_not_count_is_told(make_pairs: Any) -> None:
    every = judged(make_pairs, "aasn")
    every[3] = Judged(every[3].pair, None, error="It said nothing.", orders=(None, "first"))
    every[0] = Judged(every[0].pair, "tie", orders=("first", "second"))
    every += [Judged(pair, "tie") for pair in make_pairs(["same"], ["same"], seed=1)]
    notes = "\n".join(notes_of(figures_of(every), every))
    assert "Equal answers, a tie each: 1." in notes
    assert "Skipped, not counted: 1." in notes
    assert "Without a verdict, not counted: 1 pair.\n  line 4: It said nothing." in notes
    assert "changed its mind when the answers changed places: 1." in notes


def test_what_is_kept_says_whose_answer_was_which(make_pairs: Any) -> None:
    every = judged(make_pairs, "ab" * 10)
    rows = list(rows_of(every))
    assert {row["shown_first"] for row in rows} == {"a", "b"}
    for row, one in zip(rows, every, strict=True):
        assert (row["a"][0]["text"], row["b"][0]["text"]) == ("aa a", "b")
        assert row["shown_first"] == ("a" if one.pair.first == one.pair.a else "b")
        assert row["judged"] == one.outcome
    summary = summary_of(figures_of(every), "mine", "base")
    assert summary["win_rate"]["rate"] == 0.5
    assert summary["length_controlled"]["rate"] is None
