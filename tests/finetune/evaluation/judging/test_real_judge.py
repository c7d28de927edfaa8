"""The starter as a judge, in its own process: what it says is worth little, and is valid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from openchat_local.finetune.evaluation.judging.grading import Answer, grade_all
from openchat_local.finetune.evaluation.judging.judge import Judging
from openchat_local.finetune.evaluation.judging.pairwise import Pair, judge_pairs
from openchat_local.finetune.evaluation.judging.wording import grade_prompt
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions, ScoreRequest

QUESTION = (Message("user", "What is the capital of France?"),)
LONG = "word " * 2000


@pytest.fixture(scope="module")
def engine(starter_path: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(EngineOptions(starter_path, context=1024))
    yield engine
    engine.close()


def test_a_written_judgement_obeys_the_schema(engine: LocalEngine) -> None:
    (pair,) = judge_pairs(engine, [Pair(5, QUESTION, "Paris.", "No.")], judging=Judging(tokens=400))
    assert pair.error is None
    assert pair.verdict in ("first", "second", "tie", "both bad")
    grades = {grade.index: grade for grade in grade_all(
        engine, [Answer(0, QUESTION, "Paris."), Answer(1, QUESTION, LONG)],
        judging=Judging(tokens=400),
    )}  # fmt: skip
    assert grades[0].grade in range(1, 11)
    too_long = "the judgement is impossible: its prompt is longer than the judge's context"
    assert (grades[1].grade, grades[1].error) == (None, too_long)


def test_an_expected_grade_is_what_the_next_tokens_say(engine: LocalEngine) -> None:
    judging = Judging("likelihood")
    answers = [Answer(0, QUESTION, "Paris."), Answer(1, QUESTION, LONG)]
    grades = {grade.index: grade for grade in grade_all(engine, answers, judging=judging)}
    assert grades[1].grade is None
    asked = Conversation((Message("user", grade_prompt(QUESTION, "Paris.", None, "likelihood")),))
    # A token for each digit: what is likely for 10 is part of what is likely for 1.
    scores = {score.index: score for score in engine.score(
        [ScoreRequest(asked, str(grade)) for grade in range(1, 11)]
    )}  # fmt: skip
    assert scores[9].ids[:1] == scores[0].ids
    masses = [math.exp(scores[number].log_probability) for number in range(10)]
    masses[0] -= masses[9]
    expected = sum(g * mass for g, mass in enumerate(masses, 1)) / sum(masses)
    assert grades[0].grade == pytest.approx(expected, rel=1e-3)
