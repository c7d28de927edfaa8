"""Two answers, asked about in both orders."""

from __future__ import annotations

import pytest

from openchat_local.finetune.evaluation.judging.judge import Judging
from openchat_local.finetune.evaluation.judging.pairwise import Pair, PairVerdict, judge_pairs
from openchat_local.models.conversation import Message
from openchat_local.models.engine.protocol import GenerationRequest
from openchat_local.models.errors import ContextOverflow, EngineDied, EngineError
from support.judges import CannedJudge, Shown, verdict

QUESTION = (Message("user", "What is the capital of France?"),)


def pair(first: str = "Paris.", second: str = "Rome.", index: int = 0) -> Pair:
    return Pair(index, QUESTION, first, second)


def judged(judge: CannedJudge, *pairs: Pair, **judging: object) -> dict[int, PairVerdict]:
    found = judge_pairs(judge, pairs, judging=Judging(**judging))
    return {one.index: one for one in found}


def knows_paris(seen: Shown) -> str:
    right = ["Paris" in seen[f"answer {letter}"] for letter in "AB"]
    return verdict({(1, 0): "A", (0, 1): "B", (1, 1): "tie", (0, 0): "both bad"}[(*right,)])


def test_a_judge_that_knows_is_heard_in_both_orders() -> None:
    found = judged(
        CannedJudge(knows_paris),
        pair("Paris.", "Rome.", 7), pair("Rome.", "Paris.", 3), pair("Paris", "PARIS, Paris", 4),
        pair("Rome", "Oslo", 5),
    )  # fmt: skip
    assert found == {
        7: PairVerdict(7, "first", ("first", "first"), "so it is", None),
        3: PairVerdict(3, "second", ("second", "second"), "so it is", None),
        4: PairVerdict(4, "tie", ("tie", "tie"), "so it is", None),
        5: PairVerdict(5, "both bad", ("both bad", "both bad"), "so it is", None),
    }


@pytest.mark.parametrize(("favourite", "orders"), [
    ("A", ("first", "second")), ("B", ("second", "first")),
])  # fmt: skip
def test_a_judge_that_favours_a_place_is_cancelled_by_the_swap(
    favourite: str, orders: tuple[str, str]
) -> None:
    judge = CannedJudge(lambda _: verdict(favourite))
    found = judged(judge, *(pair(index=number) for number in range(9)))
    assert len(found) == 9
    assert all((one.verdict, one.orders) == ("tie", orders) for one in found.values())


def test_a_favoured_place_says_nothing_by_likelihood_either() -> None:
    place = {"A": 0.6, "B": 0.1, "C": 0.2, "D": 0.05}
    (found,) = judged(
        CannedJudge(likes=lambda _, said: place[said]), pair(), by="likelihood"
    ).values()
    assert (found.verdict, found.orders) == ("tie", ("first", "second"))
    assert found.preference == pytest.approx(0.5)


def test_by_likelihood_a_preference_shows_through_a_favoured_place() -> None:
    """A is favoured, but more so where it is the right answer."""

    def likes(seen: Shown, said: str) -> float:
        right = "Paris" in seen["answer A"]
        return {"A": 0.4 if right else 0.3, "B": 0.1, "C": 0.0, "D": 0.0}[said]

    (found,) = judged(CannedJudge(likes=likes), pair(), by="likelihood").values()
    assert found.orders == ("first", "second")
    # By hand: 0.8 and 0.2 of the judge's verdicts in one order, 0.25 and 0.75 in the other.
    assert found.preference == pytest.approx((0.8 + 0.25) / 2)


def test_orders_that_differ_in_anything_are_a_tie() -> None:
    def once_bad(seen: Shown) -> str:
        return verdict("both bad" if seen["answer A"] == "Paris." else "tie")

    (found,) = judged(CannedJudge(once_bad), pair()).values()
    assert (found.verdict, found.orders) == ("tie", ("both bad", "tie"))


@pytest.mark.parametrize("reply", [
    "", "A", "Answer A is better.", '{"verdict": "A"}', '{"why": "x", "verdict": "C"}', "[1]",
    '{"why": 1, "verdict": "A"}', '{"why": "x", "verdict": ["A"]}', "{" * 5000, "null",
])  # fmt: skip
def test_nonsense_is_listed_and_never_scored(reply: str) -> None:
    (found,) = judged(CannedJudge(lambda _: reply), pair()).values()
    assert (found.verdict, found.orders, found.preference) == (None, (None, None), None)
    assert found.error is not None
    assert "with the first answer shown first, the judgement is no verdict" in found.error
    assert len(found.error) < 400


def test_nonsense_in_one_order_leaves_the_other_to_be_seen() -> None:
    def half(seen: Shown) -> str:
        return verdict("A") if seen["answer A"] == "Paris." else "Well, …"

    (found,) = judged(CannedJudge(half), pair()).values()
    assert (found.verdict, found.orders) == (None, ("first", None))
    assert found.error == (
        "with the second answer shown first, the judgement is no verdict: 'Well, …'"
    )


def test_a_judge_that_never_ends_is_given_up() -> None:
    (found,) = judged(CannedJudge(lambda _: None), pair(), seconds=0.0).values()
    assert found.verdict is None
    assert found.error is not None
    assert "took longer than 0 seconds" in found.error


def test_a_judgement_that_is_cut_is_none() -> None:
    judge = CannedJudge(lambda _: verdict("A"), reason="length")
    (found,) = judged(judge, pair(), tokens=40).values()
    assert found.verdict is None
    assert found.error is not None
    assert "was not at its end after 40 tokens" in found.error
    assert judge.asked[0].sampling.max_tokens == 40


class Refusing(CannedJudge):
    def __init__(self, error: EngineError) -> None:
        super().__init__()
        self.error = error

    def generate(self, request: GenerationRequest):
        raise self.error
        yield


def test_a_pair_that_does_not_fit_is_one_without_a_verdict() -> None:
    (found,) = judged(Refusing(ContextOverflow("too long")), pair()).values()
    assert found.error is not None
    assert "its prompt is longer than the judge's context" in found.error


def test_a_judge_that_dies_ends_it_all() -> None:
    with pytest.raises(EngineDied, match="gone"):
        list(judge_pairs(Refusing(EngineDied("gone")), [pair(index=n) for n in range(20)]))


def test_whoever_looks_no_further_ends_the_rest() -> None:
    judge = CannedJudge(lambda seen: None if seen["answer A"] == "Rome." else verdict("A"))
    verdicts = judge_pairs(judge, [pair("Oslo", "Oslo", 0), pair(index=1)], at_once=2)
    assert next(iter(verdicts)).index == 0
    verdicts.close()  # joins the one that never ends
    assert len(judge.asked) <= 4
