"""Contenders that are graded answer by answer, and what their grades say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from openchat_local.finetune.evaluation.compare.pairs import Answer as Written
from openchat_local.finetune.evaluation.compare.pairs import Dialogue
from openchat_local.finetune.evaluation.compare.prompt_rows import Prompt
from openchat_local.finetune.evaluation.grades.figures import figures_of
from openchat_local.finetune.evaluation.grades.graded import (
    GradedTurn,
    questions,
    turns_of,
)
from openchat_local.finetune.evaluation.grades.report import notes_of, sentences_of, tables_of
from openchat_local.finetune.evaluation.judging.grading import Grade
from openchat_local.models.conversation import Message

TWO_TURNS = Prompt(
    1, "81", "writing", (Message("system", "Be brief."), Message("user", "Hi?")), ("So?",),
    ("Hello.", "So it is."),
)  # fmt: skip
ONE_TURN = Prompt(2, "82", "maths", (Message("user", "2 + 2?"),))
PROMPTS = (TWO_TURNS, ONE_TURN)


def dialogue(*texts: str) -> Dialogue:
    return tuple(Written(text, len(text)) for text in texts)


def test_a_later_turn_is_graded_after_its_own_contenders_earlier_ones() -> None:
    dialogues = [
        {TWO_TURNS.digest: dialogue("a1", "a2"), ONE_TURN.digest: dialogue("4")},
        {TWO_TURNS.digest: dialogue("b1", "b2")},  # the second prompt has no answer
    ]
    turns = turns_of(PROMPTS, dialogues)
    asked = questions(turns, dialogues)
    assert [(one.contender, one.turn, one.answer.text) for one in turns] == [
        (0, 0, "a1"), (0, 1, "a2"), (1, 0, "b1"), (1, 1, "b2"), (0, 0, "4"),
    ]  # fmt: skip
    assert [one.index for one in asked] == [0, 1, 2, 3, 4]
    assert asked[3].prompt == (
        *TWO_TURNS.messages, Message("assistant", "b1"), Message("user", "So?"),
    )  # fmt: skip
    assert [one.reference for one in asked] == ["Hello.", "So it is."] * 2 + [None]
    assert asked[0].prompt == TWO_TURNS.messages


def graded(*grades: list[list[float | None]]) -> list[GradedTurn]:
    """For each contender, a list of the grades of each prompt's turns."""
    prompts = [Prompt(n, "", "ab"[n % 2], (Message("user", str(n)),), ("…",)) for n in range(9)]
    dialogues = [
        {
            prompt.digest: dialogue(*["x" * 10] * len(own))
            for prompt, own in zip(prompts, one, strict=False)
        }
        for one in grades
    ]
    turns = turns_of(prompts, dialogues)
    found = []
    for number, turn in enumerate(turns):
        grade = grades[turn.contender][turn.prompt.line][turn.turn]
        found.append(GradedTurn(turn, Grade(number, grade, "", None if grade else "is no grade")))
    return found


def test_figures_by_hand() -> None:
    rows = graded([[2, 4], [6, None]], [[3, 6], [7, 9]])
    first, second = figures_of(rows, ["base", "mine"])
    assert (first.all.answers, first.all.graded, first.all.mean) == (4, 3, 4)
    assert {turn: mean.mean for turn, mean in second.turns.items()} == {1: 5, 2: 7.5}
    assert {name: mean.mean for name, mean in first.categories.items()} == {"a": 3, "b": 6}
    assert first.against_first is None
    against = second.against_first
    assert against is not None
    # Where both have a grade: +1, +2 and +1; the fourth counts nowhere.
    assert (against.answers, against.difference) == (3, pytest.approx(4 / 3))
    assert second.tokens == 10


def test_turns_of_one_prompt_are_drawn_together() -> None:
    """Two equal turns a prompt say no more than one: the interval is that of the prompts."""
    values = [1.0, 5.0, 9.0, 3.0, 8.0, 2.0]
    once = figures_of(graded([[value] for value in values]), ["base"])[0]
    twice = figures_of(graded([[value, value] for value in values]), ["base"])[0]
    assert twice.all.interval == pytest.approx(once.all.interval)
    assert twice.all.mean == pytest.approx(np.mean(values))


def test_a_difference_is_paired() -> None:
    """Grades that spread widely, a step apart on each prompt: no doubt about that step."""
    base = [[1.0], [5.0], [9.0], [2.0], [8.0], [4.0]]
    better = [[value[0] + 1] for value in base]
    rows = graded(base, better, base)
    figures = figures_of(rows, ["base", "mine", "same"])
    mine, same = figures[1].against_first, figures[2].against_first
    assert mine is not None
    assert same is not None
    assert mine.interval == (1, 1)
    assert not mine.by_chance
    assert same.by_chance
    told = sentences_of(figures)
    assert told[0].startswith("mine is graded 1.00 higher than base on 6 answers")
    assert told[0].endswith("better, by this judge.")
    assert told[1].endswith("no difference that can be told from chance.")


def test_without_any_grade_there_is_a_sentence_and_no_figure() -> None:
    rows = graded([[None]], [[None]])
    figures = figures_of(rows, ["base", "mine"])
    assert math.isnan(figures[0].all.mean)
    assert sentences_of(figures) == [
        "The judge gave no grade to base.",
        "No answer of mine and base has a grade on both sides.",
    ]
    listed = tables_of(figures, rows)[-1]
    assert listed.rows == [("0", "1", "base", "is no grade"), ("0", "1", "mine", "is no grade")]
    assert notes_of(figures, rows) == ["Without a grade: 2 of 2 answers. They count in no figure."]
