"""Which option is chosen, how a share stands to chance, and what a change is worth."""

from __future__ import annotations

import pytest

from openchat_local.finetune.evaluation.choice.judging import (
    Change,
    Choice,
    Judged,
    Share,
    Standing,
    choice_of,
    pooled,
    standings,
)
from openchat_local.finetune.evaluation.choice.measuring import first_letter
from openchat_local.finetune.evaluation.choice.question import Question
from openchat_local.finetune.evaluation.choice.wording import sentences

ALL = "all sets together"


def question(*options: str, right: int = 0) -> Question:
    letters = tuple("ABCD"[: len(options)])
    context = ("Q?",) * len(options)
    return Question(1, None, options, letters, (right,), context, options, "Q?")


def test_acc_takes_the_highest_sum_and_acc_norm_the_highest_a_character() -> None:
    asked = question("ab", "abcdefgh", "abcd")
    assert choice_of(asked, {"log_likelihoods": [-2.0, -4.0, -3.0]}) == Choice(0, 1)
    assert choice_of(asked, {"log_likelihoods": [-2.0, -2.0, -9.0]}) == Choice(0, 1)
    assert choice_of(question("ä", "bc"), {"log_likelihoods": [-1.0, -1.5]}) == Choice(0, 1)


@pytest.mark.parametrize(
    ("reply", "pick"),
    [
        ("B", 1),
        (" (C) since it is so", 2),
        ("The answer is D.", 3),
        ("E or B", 1),  # E is no option here
        ("A fine question: it is B", 0),  # the rule's known weakness
        ("none of these", None),
        ("", None),
    ],
)
def test_the_first_letter_of_an_option_is_the_answer(reply: str, pick: int | None) -> None:
    assert first_letter(reply, ("A", "B", "C", "D")) == pick
    assert choice_of(question("a", "b", "c", "d"), {"reply": reply}) == Choice(pick, pick)


def test_a_share_stands_above_at_or_below_chance() -> None:
    assert Share(30, 100).against(0.25) == "at"
    assert Share(36, 100).against(0.25) == "above"
    assert Share(15, 100).against(0.25) == "below"
    assert Share(0, 0).against(0.25) == "at"


def judged(name: str, base: str, mine: str) -> Judged:
    """A question for each character: 1 is a right choice, 0 a wrong one, - none at all."""

    def choices(text: str) -> list[Choice]:
        picks = [None if one == "-" else 1 - int(one) for one in text]
        return [Choice(pick, pick) for pick in picks]

    questions = [question("yes", "no")] * len(base)
    return Judged(name, questions, {"base": choices(base), "mine": choices(mine)})


def test_a_change_is_of_the_questions_that_one_alone_got_right() -> None:
    base, mine = standings(judged("set", "11110000", "1000111-"), "base")
    assert base.change is None
    assert mine.change == Change(lost=3, won=3, count=8)
    assert (base.acc, mine.acc) == (Share(4, 8), Share(4, 8))
    assert (base.unread, mine.unread) == (0, 1)
    assert mine.chance == 0.5


def test_all_questions_count_alike_in_the_whole() -> None:
    sets = [judged("a", "10", "11"), judged("b", "1100", "0000")]
    _, mine = standings(pooled(sets, "all sets"), "base")
    assert mine.acc == Share(2, 6)
    assert mine.change == Change(lost=2, won=1, count=6)


def told(*sets: Judged) -> list[str]:
    each = [one for judged_set in sets for one in standings(judged_set, "base")]
    return sentences(each, standings(pooled(sets, "all sets"), "base"))


def test_what_was_forgotten_is_said_in_a_sentence() -> None:
    fell = judged("sat-en", "1" * 12 + "0" * 6 + "1" * 82, "0" * 12 + "1" * 6 + "1" * 82)
    rose = judged("aqua-rat", "0" * 8 + "1", "1" * 8 + "1")
    same = judged("lsat-ar", "10", "01")
    assert told(fell, rose, same) == [
        "sat-en fell by 6.0 points, not significant on 100 questions (12 lost, 6 won, p = 0.24).",
        "aqua-rat rose by 88.9 points, significant on 9 questions (0 lost, 8 won, p = 0.008).",
        "lsat-ar stayed as it was on 2 questions (1 lost, 1 won).",
        f"{ALL} rose by 1.8 points, not significant on 111 questions (13 lost, 15 won, p = 0.85).",
    ]


def test_of_many_sets_only_significant_changes_are_told() -> None:
    quiet = [judged(f"set {number}", "10", "11") for number in range(8)]
    loud = judged("loud", "1" * 9, "0" * 9)
    assert told(*quiet, loud) == [
        "loud fell by 100.0 points, significant on 9 questions (9 lost, 0 won, p = 0.004).",
        "8 other sets changed by no more than chance explains.",
        f"{ALL} fell by 4.0 points, not significant on 25 questions (9 lost, 8 won, p = 1.00).",
    ]


def test_the_base_alone_is_told_against_guessing() -> None:
    def standing(name: str, right: int) -> Standing:
        share = Share(right, 100)
        return Standing(name, "base", 0.25, share, share, None, None, 0)

    each = [standing("a", 25), standing("b", 50), standing("c", 5), standing("d", 26)]
    assert sentences(each, [standing("all sets", 26)]) == [
        "base is better than guessing on b.",
        "base cannot be told from guessing on a, d, all sets.",
        "base is worse than guessing on c.",
    ]
