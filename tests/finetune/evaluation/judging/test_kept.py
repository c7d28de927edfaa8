"""Grades that were given are not asked for again."""

from __future__ import annotations

from pathlib import Path

import pytest

from openchat_local.finetune.evaluation.judging.grading import Answer, Grade
from openchat_local.finetune.evaluation.judging.judge import Judging
from openchat_local.finetune.evaluation.judging.kept import grade_with
from openchat_local.finetune.evaluation.rows import RowFile
from openchat_local.models.conversation import Message
from openchat_local.models.engine.protocol import Engine, GenerationRequest
from openchat_local.models.errors import EngineError
from support.judges import CannedJudge, Shown, verdict

QUESTION = (Message("user", "Count."),)


def answers(*texts: str) -> list[Answer]:
    return [Answer(index, QUESTION, text) for index, text in enumerate(texts)]


def by_length(seen: Shown) -> str:
    return verdict(len(seen["answer"]))


@pytest.fixture
def kept(tmp_path: Path) -> RowFile:
    return RowFile(tmp_path / "cache" / "grades.jsonl")


def nobody() -> Engine:
    raise AssertionError("the judge was asked again")


def grades(found: list[Grade]) -> list[float | None]:
    return [grade.grade for grade in found]


def test_the_same_again_needs_no_judge(kept: RowFile) -> None:
    asked = answers("one", "fours", "one")
    judge = CannedJudge(by_length)
    seen: list[int] = []
    first = grade_with(lambda: judge, asked, kept, Judging(), on_grades=seen.append)
    assert grades(first) == [3, 5, 3]
    assert len(judge.asked) == 2  # equal answers are graded once
    assert seen[0] == 0
    assert seen[-1] == 3
    assert grade_with(nobody, asked, kept, Judging(), on_grades=seen.append) == first
    assert seen[-1] == 3


def test_what_was_graded_before_a_kill_stays(kept: RowFile) -> None:
    asked = answers(*("x" * length for length in range(1, 10)))

    def pull_the_plug(done: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    judge = CannedJudge(by_length)
    with pytest.raises(KeyboardInterrupt):
        grade_with(lambda: judge, asked, kept, Judging(), at_once=1, on_grades=pull_the_plug)
    kept.close()
    with kept.path.open("a") as file:
        file.write('{"asked": "torn')
    again = CannedJudge(by_length)
    counts: list[int] = []
    found = grade_with(lambda: again, asked, kept, Judging(), on_grades=counts.append)
    assert grades(found) == [*range(1, 10)]
    assert len(again.asked) == 5
    assert counts[0] == 4


def test_nonsense_is_tried_again_only_within_other_bounds(kept: RowFile) -> None:
    judge = CannedJudge(lambda _: "Hm.")
    (first,) = grade_with(lambda: judge, answers("one"), kept, Judging())
    assert first.grade is None
    assert grade_with(nobody, answers("one"), kept, Judging()) == [first]
    better = CannedJudge(by_length)
    (second,) = grade_with(lambda: better, answers("one"), kept, Judging(tokens=999))
    assert second.grade == 3
    assert grade_with(nobody, answers("one"), kept, Judging(tokens=5))[0].grade == 3


class Refusing(CannedJudge):
    def generate(self, request: GenerationRequest):  # type: ignore[no-untyped-def]
        raise EngineError("The machine is on fire; put it out.")
        yield


def test_what_failed_for_a_reason_of_the_engines_is_tried_again(kept: RowFile) -> None:
    (first,) = grade_with(Refusing, answers("one"), kept, Judging())
    assert first.error == "the judgement failed: The machine is on fire; put it out."
    judge = CannedJudge(by_length)
    assert grades(grade_with(lambda: judge, answers("one"), kept, Judging())) == [3]


def test_rows_that_make_no_sense_are_no_grades(kept: RowFile) -> None:
    judge = CannedJudge(by_length)
    grade_with(lambda: judge, answers("one"), kept, Judging())
    row = kept.rows()[0]
    kept.close()
    kept.path.unlink()
    for wrong in ({"grade": 11.0}, {"grade": "7"}, {"why": None}, {"grade": None}):
        kept.append(row | wrong)
    again = CannedJudge(by_length)
    assert grades(grade_with(lambda: again, answers("one"), kept, Judging())) == [3]
    assert len(again.asked) == 1
