"""Grades from 1 to 10: written, or expected."""

from __future__ import annotations

import pytest

from openchat_local.finetune.evaluation.judging.grading import Answer, Grade, grade_all
from openchat_local.finetune.evaluation.judging.judge import Judging
from openchat_local.models.conversation import Message
from support.judges import CannedJudge, verdict

QUESTION = (Message("user", "Count to three."),)


def graded(judge: CannedJudge, *texts: str, **judging: object) -> list[Grade]:
    answers = [Answer(10 * number, QUESTION, text) for number, text in enumerate(texts)]
    found = grade_all(judge, answers, judging=Judging(**judging))
    return sorted(found, key=lambda grade: grade.index)


def test_every_answer_has_the_grade_that_the_judge_wrote() -> None:
    judge = CannedJudge(lambda seen: verdict(len(seen["answer"]), "its length"))
    assert graded(judge, "1234567", "1", "1234567890") == [
        Grade(0, 7.0, "its length", None),
        Grade(10, 1.0, "its length", None),
        Grade(20, 10.0, "its length", None),
    ]


@pytest.mark.parametrize("value", ["0", "11", "7.5", "7.0", "true", '"7"', "null", "NaN"])
def test_what_is_no_whole_number_from_1_to_10_is_no_grade(value: str) -> None:
    (found,) = graded(CannedJudge(lambda _: f'{{"why": "x", "grade": {value}}}'), "one")
    assert found.grade is None
    assert found.error is not None
    assert found.error.startswith("the judgement is no grade: ")


def test_by_likelihood_the_grade_is_the_expected_one() -> None:
    """10 begins as 1 does where digits are tokens: what is 10's is not counted for 1."""
    likely = {"1": 0.5, "10": 0.3, "7": 0.2}
    judge = CannedJudge(likes=lambda _, said: likely.get(said, 0.0))
    (found,) = graded(judge, "one", by="likelihood")
    assert found.grade == pytest.approx((1 * 0.2 + 10 * 0.3 + 7 * 0.2) / 0.7)
    assert found.why.startswith("70.0% of its probability is on a grade, of that 1 29%, 2 0%")
    assert judge.asked == []


def test_a_judge_that_has_no_probability_for_any_grade_gives_none() -> None:
    (found,) = graded(CannedJudge(likes=lambda _, __: 0.0), "one", by="likelihood")
    assert (found.grade, found.error) == (None, "the judgement gives no grade any probability")


def test_many_answers_are_graded_in_calls_of_some() -> None:
    judge = CannedJudge(likes=lambda seen, said: float(said == seen["answer"]))
    texts = [str(number % 9 + 1) for number in range(40)]
    assert [grade.grade for grade in graded(judge, *texts, by="likelihood")] == [
        float(text) for text in texts
    ]
