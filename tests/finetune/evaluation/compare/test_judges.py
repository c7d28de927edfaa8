"""A model judges: what it favours besides good answers is cancelled, or caught."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.evaluation.compare.figures import Judged, figures_of
from openchat_local.finetune.evaluation.compare.judges import judge_with
from openchat_local.finetune.evaluation.compare.length_control import LengthControlled
from openchat_local.finetune.evaluation.compare.pairs import Answer, Pair, pair_up
from openchat_local.finetune.evaluation.compare.prompt_rows import Prompt
from openchat_local.finetune.evaluation.judging.judge import Judging
from openchat_local.finetune.evaluation.rows import RowFile
from openchat_local.models.conversation import Message
from openchat_local.models.engine.protocol import Engine
from support.judges import CannedJudge, Shown, verdict


def judged(
    judge: CannedJudge | None, pairs: list[Pair], path: Path, **judging: Any
) -> tuple[list[Judged], list[int]]:
    """What the judge makes of the pairs, None where nobody may be asked; and what was counted."""
    counts: list[int] = []

    def asked() -> Engine:
        assert judge is not None
        return judge

    with RowFile(path) as kept:
        found = judge_with(asked, pairs, kept, Judging(**judging), on_verdicts=counts.append)
    return found, counts


def likes_good(seen: Shown) -> str:
    good = ["good" in seen[f"answer {letter}"] for letter in "AB"]
    return verdict({(1, 0): "A", (0, 1): "B", (1, 1): "tie", (0, 0): "both bad"}[(*good,)])


def likes_long(seen: Shown) -> str:
    return verdict("A" if len(seen["answer A"]) > len(seen["answer B"]) else "B")


def test_a_verdict_comes_back_to_whose_answer_it_is(make_pairs: Any, tmp_path: Path) -> None:
    a = ["good"] * 10 + ["poor"] * 10 + ["good one", "poor one", "same"]
    b = ["poor"] * 10 + ["good"] * 10 + ["good two", "poor two", "same"]
    pairs = make_pairs(a, b)
    assert {pair.swapped for pair in pairs[:10]} == {True, False}
    judge = CannedJudge(likes_good)
    found, counts = judged(judge, pairs, tmp_path / "rows")
    assert [one.outcome for one in found] == ["a"] * 10 + ["b"] * 10 + ["tie", "both bad", "tie"]
    assert len(judge.asked) == 2 * 22  # equal answers are a tie unasked
    assert (counts[0], counts[-1]) == (1, 23)
    figures = figures_of(found)
    assert (figures.overall.wins, figures.overall.losses, figures.same) == (10, 10, 1)


@pytest.mark.parametrize("place", ["A", "B"])
def test_a_judge_that_favours_a_place_prefers_nobody(
    make_pairs: Any, tmp_path: Path, place: str
) -> None:
    pairs = make_pairs(["good"] * 30, ["poor"] * 30)
    found, _ = judged(CannedJudge(lambda _: verdict(place)), pairs, tmp_path / "rows")
    figures = figures_of(found)
    assert figures.overall.ties == 30
    assert figures.overall.rate == 0.5
    assert figures.sign_test == 1.0


def test_a_judge_that_favours_length_is_caught_by_the_length_control(
    make_pairs: Any, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    lengths = random.lognormal(np.log(300), 0.5, (2, 100)) * [[1.5], [1.0]]
    texts_a, texts_b = (["x" * int(length) for length in side] for side in lengths)
    found, _ = judged(CannedJudge(likes_long), make_pairs(texts_a, texts_b), tmp_path / "rows")
    figures = figures_of(found)
    assert figures.overall.interval is not None
    assert figures.overall.interval.low > 0.6
    assert figures.sign_test < 0.001
    assert isinstance(figures.length_controlled, LengthControlled)
    low, high = figures.length_controlled.interval
    assert low < 0.5 < high


def test_nonsense_is_listed_and_not_scored_and_no_verdict_is_asked_for_twice(
    make_pairs: Any, tmp_path: Path
) -> None:
    pairs = make_pairs(["good", "mad", "good"], ["poor", "poor", "poor"])
    judge = CannedJudge(lambda seen: "I?" if "mad" in str(seen) else likes_good(seen))
    found, _ = judged(judge, pairs, tmp_path / "rows")
    assert [one.outcome for one in found] == ["a", None, "a"]
    assert found[1].error
    figures = figures_of(found)
    assert (figures.overall.counted, figures.failed) == (2, 1)
    again, counts = judged(None, pairs, tmp_path / "rows")
    assert again == found
    assert counts == [3]


def test_after_an_end_in_the_middle_the_rest_is_judged(make_pairs: Any, tmp_path: Path) -> None:
    pairs = make_pairs(["good"] * 3, ["poor"] * 3)
    whole, _ = judged(CannedJudge(likes_good), pairs, tmp_path / "rows")
    lines = (tmp_path / "rows").read_bytes().splitlines(keepends=True)
    (tmp_path / "rows").write_bytes(lines[0] + lines[1][:-9])
    judge = CannedJudge(likes_good)
    assert judged(judge, pairs, tmp_path / "rows")[0] == whole
    assert len(judge.asked) == 2 * 2


def test_a_preference_read_off_is_that_for_a(make_pairs: Any, tmp_path: Path) -> None:
    def likes(seen: Shown, said: str) -> float:
        good = "A" if "good" in seen["answer A"] else "B"
        return 0.6 if said == good else 0.2 if said in "AB" else 0.1

    pairs = make_pairs(["good"] * 8 + ["poor"] * 2, ["poor"] * 8 + ["good"] * 2)
    found, _ = judged(CannedJudge(likes=likes), pairs, tmp_path / "rows", by="likelihood")
    assert [one.preference for one in found] == pytest.approx([0.7] * 8 + [0.3] * 2)
    preference = figures_of(found).preference
    assert preference is not None
    assert preference.mean == pytest.approx(0.62)
    assert preference.interval.low < 0.62 < preference.interval.high


def test_both_turns_and_both_right_answers_are_shown(tmp_path: Path) -> None:
    asked = [Prompt(1, "", "", (Message("user", "2 + 2?"),), ("Doubled?",), ("4", "8"))]
    a, b = (
        {asked[0].digest: (Answer(f"{who} four", 1), Answer(f"{who} eight", 1))} for who in "ab"
    )
    seen: list[Shown] = []

    def look(shown: Shown) -> str:
        seen.append(shown)
        return verdict("tie")

    judged(CannedJudge(look), pair_up(asked, a, b, ("a", "b")), tmp_path / "rows")
    assert len(seen) == 2
    for shown in seen:
        assert shown["user turn"] == "2 + 2?"
        assert shown["reference"] == "1. 4\n\n2. 8"
        for letter in "AB":
            said = shown[f"answer {letter}"]
            assert said.index("four") < said.index("Doubled?") < said.index("eight")
