"""What is said of a graded file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openchat_local.finetune.data.rewards import parse_rule
from openchat_local.finetune.evaluation.judging.grading import Grade
from openchat_local.finetune.evaluation.quality.answers import read_entries
from openchat_local.finetune.evaluation.quality.report import (
    Quality,
    notes_of,
    reward,
    rows_of,
    sentences_of,
    summary_of,
    tables_of,
)

Graded = Callable[..., Quality]
Row = tuple[str, float | None]


@pytest.fixture
def graded(tmp_path: Path) -> Graded:
    """A file of (class, grade) rows, None where the judge gave none."""

    def make(*rows: Row, rule: str | None = None, **more: Any) -> Quality:
        path = tmp_path / "data.jsonl"
        lines = [{"prompt": "p", "completion": f"{n}", "class": name} | more
                 for n, (name, _) in enumerate(rows)]  # fmt: skip
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        grades = [
            Grade(n, grade, "", None if grade else "the judgement is no grade: 'Hm.'")
            for n, (_, grade) in enumerate(rows)
        ]
        found = None if rule is None else reward(parse_rule(rule), grades)
        return Quality(read_entries(path), grades, found)

    return make


def test_classes_come_best_first_and_say_what_sets_them_apart(graded: Graded) -> None:
    weak: list[Row] = [("gpt35", grade) for grade in (2.0, 3.0, 4.0, 3.0)]
    strong: list[Row] = [("gpt4", grade) for grade in (9.0, 8.0, 10.0, 9.0)]
    found = graded(*weak, *strong)
    assert [one.name for one in found.figures()] == ["gpt4", "gpt35"]
    told = sentences_of(found)
    assert told[0] == "'gpt4' answers have a mean grade of 9.0; a tenth of them have 8.3 or less."
    assert told[2].startswith("'gpt4' answers are graded 6.00 higher than 'gpt35' ones;")
    assert "in 100% of pairs, and the histograms have 0% in common." in told[2]
    histogram = tables_of(found)[1]
    assert histogram.columns == ("grade", "gpt4", "gpt35")
    assert histogram.rows[2] == ("3", "0 (0%)", "2 (50%)")


def test_a_judge_that_cannot_tell_classes_apart_is_called_that(graded: Graded) -> None:
    found = graded(*[("gpt4", 3.0), ("gpt4", 7.0), ("gpt35", 7.0), ("gpt35", 4.0)] * 3)
    assert sentences_of(found)[-1].startswith("This judge cannot tell 'gpt35' from 'gpt4' answers")


def test_what_has_no_grade_is_listed_and_in_no_figure(graded: Graded) -> None:
    found = graded(("a", 4.0), ("a", None), ("b", None), rule="linear")
    assert found.by_class() == {"a": [4.0], "b": []}
    assert tables_of(found)[-1].rows == [
        ("2", "the judgement is no grade: 'Hm.'"), ("3", "the judgement is no grade: 'Hm.'"),
    ]  # fmt: skip
    notes = notes_of(found)
    assert "Without a grade: 2 of 3 answers. They count in no figure." in notes
    assert "Conversations that keep what they or their class were worth: 2." in notes
    assert not any("is worth most" in note for note in notes)  # classes have a say in it
    assert [row["reward"] for row in rows_of(found)] == [0.4, None, None]
    json.dumps(summary_of(found), allow_nan=False)


def test_rewards_that_make_another_class_the_best_are_told(graded: Graded) -> None:
    notes = notes_of(graded(("gpt4", 4.0), ("gpt35", 9.0), rule="min-max"))
    assert any(note.startswith("By mean reward 'gpt35' is worth most;") for note in notes)
    assert "Conversations with a reward of 0, which are not learned: 1." in notes


def test_weights_of_turns_that_hide_a_reward_are_told(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    turns = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a", "weight": 1}]
    path.write_text(json.dumps({"items": turns}) + "\n")
    grades = [Grade(0, 5.0, "", None)]
    found = Quality(read_entries(path), grades, reward(parse_rule("linear"), grades))
    assert any("has a weight of its own, which comes before the reward: 1." in note
               for note in notes_of(found))  # fmt: skip


def test_no_grade_at_all_is_a_sentence(graded: Graded) -> None:
    found = graded(("a", None), rule="exp=1")
    assert sentences_of(found) == [
        "The judge gave no grade at all, so nothing can be said of this file."
    ]
    assert found.rewarded is not None
    assert found.rewarded.rewards == {}
