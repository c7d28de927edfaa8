"""Grades that outlive the run: the same answer is graded once by the same judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from openchat_local.finetune.evaluation.contender import Contender
from openchat_local.finetune.evaluation.judging.asking import is_passing
from openchat_local.finetune.evaluation.judging.grading import (
    HIGHEST,
    LOWEST,
    Answer,
    Grade,
    grade_all,
)
from openchat_local.finetune.evaluation.judging.judge import Judging
from openchat_local.finetune.evaluation.judging.wording import wording_digest
from openchat_local.finetune.evaluation.rows import RowFile, digest_of
from openchat_local.models.engine.protocol import Engine

AT_ONCE = 4


def grades_key(judge: Contender, judging: Judging) -> dict[str, Any]:
    """All that grades by this judge hang on, beside what is graded: for `cache_file`."""
    return {"judge": judge.scoring_identity, "by": judging.by, "wording": wording_digest()}


def grade_with(
    engine: Callable[[], Engine],
    answers: Sequence[Answer],
    kept: RowFile,
    judging: Judging,
    *,
    at_once: int = AT_ONCE,
    on_grades: Callable[[int], None] = lambda _: None,
) -> list[Grade]:
    """The grade of every answer, in their order; equal ones are graded once.

    `kept` has the grades that are there already and gets those that come, with those that came
    to nothing within the same bounds; `engine` is only called for where some are missing.
    `on_grades` is told how many there are. Raises EngineError or RowsUnwritten; what had come
    until then is kept.
    """
    keys = [_key(answer) for answer in answers]
    known = {row["asked"]: row for row in kept.rows() if _is_whole(row, judging)}
    missing = {
        key: replace(answer, index=index)
        for index, (key, answer) in enumerate(zip(keys, answers, strict=True))
        if key not in known
    }
    counts = Counter(keys)
    done = sum(counts[key] for key in counts if key not in missing)
    on_grades(done)
    if missing:
        asked = [*missing.values()]
        with closing(grade_all(engine(), asked, at_once=at_once, judging=judging)) as grades:
            for grade in grades:
                key = keys[grade.index]
                known[key] = _row(key, grade, judging)
                if not is_passing(grade.error):
                    kept.append(known[key])
                done += counts[key]
                on_grades(done)
    return [_grade(answer.index, known[key]) for key, answer in zip(keys, answers, strict=True)]


def _key(answer: Answer) -> str:
    turns = [[turn.role, turn.content] for turn in answer.prompt]
    return digest_of([turns, answer.text, answer.reference])[:32]


def _row(key: str, grade: Grade, judging: Judging) -> dict[str, Any]:
    bounds = {"tokens": judging.tokens, "seconds": judging.seconds}
    return {"asked": key, "grade": grade.grade, "why": grade.why, "error": grade.error} | bounds


def _grade(index: int, row: Mapping[str, Any]) -> Grade:
    return Grade(index, row["grade"], row["why"], row["error"])


def _is_whole(row: Mapping[str, Any], judging: Judging) -> bool:
    """Whether it is a grade, or says that there is none within these bounds."""
    if not (isinstance(row.get("asked"), str) and isinstance(row.get("why"), str)):
        return False
    grade = row.get("grade")
    if isinstance(grade, float):
        return LOWEST <= grade <= HIGHEST and row.get("error") is None
    bounds = row.get("tokens"), row.get("seconds")
    return isinstance(row.get("error"), str) and bounds == (judging.tokens, judging.seconds)
