"""Exports of others as what they teach: classes, weights, splits, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.faults import DataError, Fault
from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.data.prepare import Prepared, prepare
from openchat_local.finetune.data.preview import preview
from openchat_local.finetune.data.reading import PLAIN
from openchat_local.finetune.data.remarks import OPENING_LEFT_OUT
from openchat_local.finetune.data.report import DataReport
from openchat_local.finetune.data.survey import survey
from openchat_local.finetune.evaluation.quality.answers import read_entries
from openchat_local.finetune.evaluation.quality.writing import write_rewarded
from openchat_local.finetune.evaluation.rows import file_digest
from openchat_local.finetune.run.answers import prompts_to_ask
from openchat_local.finetune.run.settings import RunSettings
from openchat_local.models.gguf import read_gguf
from openchat_local.models.template import Template, choose_template
from support.tools import LISTED, TAGGED, WEATHER

from .conftest import WriteLines

Prepare = Callable[..., Prepared]
PAIRS = [{"prompt": f"Q{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(40)]


@pytest.fixture
def prepared(template_of: Callable[[str], Template], tmp_path: Path) -> Prepare:
    def prepare_file(path: Path, *, family: str = "openchat-3.5", **options: Any) -> Prepared:
        given = DataOptions(**{"held_out": 0.0} | options)
        return prepare(path, given, template_of(family), 512, tmp_path / "rows")

    return prepare_file


def rules(done: Prepared) -> list[tuple[str, str, float]]:
    return [(rule.name, rule.condition, rule.reward) for rule in done.policy.classes]


def test_preferences_are_the_best_class_and_the_other(
    prepared: Prepare, write_lines: WriteLines
) -> None:
    done = prepared(write_lines(*PAIRS), held_out=0.1)
    assert rules(done) == [("chosen", "GPT4 Correct", 1.0), ("rejected", "GPT3", 0.1)]
    (taken,) = done.report.taken
    assert taken == (
        "data.jsonl: 80 conversations of 40 rows, preference pairs (prompt, chosen, rejected); "
        "chosen and rejected are classes."
    )
    # Two answers to one question are never parted.
    held = done.validation.lines.tolist()
    assert len(held) >= 2
    assert all(held.count(line) == 2 for line in held)
    assert DataReport.from_json(json.loads(json.dumps(done.report.as_json()))) == done.report
    changed = prepared(write_lines(*PAIRS), rewards={"rejected": 0.0})
    assert rules(changed)[1] == ("rejected", "GPT3", 0.0)
    assert changed.report.train.dropped == {"no weight": 40}


def test_what_is_asked_before_and_after_is_answered_as_the_better_does(
    prepared: Prepare, write_lines: WriteLines, tiny_path: Path
) -> None:
    path = write_lines(*PAIRS)
    done = prepared(path)
    asked = prompts_to_ask(RunSettings("x", tiny_path, path), done, 2)
    assert [(one.prompt, one.wanted) for one in asked] == [("Q0", "good 0"), ("Q1", "good 1")]


def test_scores_become_rewards_between_the_lowest_and_the_highest_that_are_trained_on(
    prepared: Prepare, tmp_path: Path
) -> None:
    path, other = tmp_path / "mine.csv", tmp_path / "val.csv"
    path.write_text("question;answer;stars\nQ1;A1;1\nQ2;A2;2\nQ3;A3;5\n")
    other.write_text("question;answer;stars\nQ4;A4;9\nQ5;A5;3\n")
    done = prepared(path, reward_field="stars", validation=other)
    weights = [round(float(row.weights.max()), 4) for row in done.train]
    assert weights == [0.25, 1.0]
    assert [float(row.weights.max()) for row in done.validation] == [1.0, 0.5]
    assert done.report.taken[0] == (
        "mine.csv (CSV parted by ;): 3 conversations, prompt/completion (question, answer); "
        "rewards by stars: (grade - lowest) / (highest - lowest), of the grades in this file; "
        "1 is worth 0, 5 is worth 1."
    )


def test_scores_become_classes(prepared: Prepare, write_lines: WriteLines) -> None:
    rows = [{"prompt": f"Q{n}", "response": "A", "helpfulness": n} for n in range(5)]
    path = write_lines(*rows)
    done = prepared(path, class_field="helpfulness", classes="good>=4,fair>=2.5,poor",
                    conditions={"fair": "Fair"}, rewards={"fair": 0.5})  # fmt: skip
    assert rules(done) == [
        ("good", "GPT4 Correct", 1.0), ("fair", "Fair", 0.5), ("poor", "GPT3", 0.1),
    ]  # fmt: skip
    assert "classes by helpfulness: good >= 4, fair >= 2.5, else poor" in done.report.taken[0]
    plain = prepared(path)
    assert any("--class-field helpfulness --classes" in note for note in plain.report.notes())


OPENED = [
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Q"},
    {"role": "assistant", "content": "A"},
]


def test_an_opening_of_the_model_is_context(prepared: Prepare, write_lines: WriteLines) -> None:
    done = prepared(write_lines({"messages": OPENED}))
    assert any("Opened by the model, 1 conversation: " in note for note in done.report.notes())
    assert (done.report.train.turns, done.report.train.supervised_tokens) == (3, 2)


def test_an_opening_is_left_out_where_a_template_begins_with_a_user(
    write_lines: WriteLines,
) -> None:
    def check(example: Example) -> Fault | None:
        opens = example.messages[0].role == "assistant"
        return Fault(example.line, "", "cannot be written") if opens else None

    found = survey(write_lines({"messages": OPENED}, {"messages": OPENED[::2]}), PLAIN, check)
    assert found.remarks == {OPENING_LEFT_OUT: 1}
    assert [*found.faults.listing()] == ["line 2: cannot be written"]
    assert found.own_weights.tolist() == [0.0]


CALLING = {
    "tools": [WEATHER],
    "messages": [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "tool_calls": [
            {"id": "x", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}]},
        {"role": "tool", "tool_call_id": "x", "content": "sun"},
        {"role": "assistant", "content": "No, the sun shines."},
    ],
}  # fmt: skip


@pytest.mark.parametrize("form", [TAGGED, LISTED, None], ids=["tagged", "listed", "as text"])
def test_calls_are_written_as_the_template_does_and_never_learned(
    form: str | None, template_of: Callable[[str], Template], write_lines: WriteLines,
    model_path: Callable[[str], Path],
) -> None:  # fmt: skip
    template = template_of("chatml")
    if form is not None:
        file = read_gguf(model_path("chatml-mistral"))
        metadata = {**file.metadata, "tokenizer.chat_template": form}
        template = choose_template(replace(file, metadata=metadata), template.vocabulary)
    (shown,) = preview(write_lines(CALLING), DataOptions(), template, 2048, 1)
    row = shown.weighed.row
    assert row is not None
    pieces = [template.vocabulary.piece(id) for id in row.ids.tolist()]
    text = b"".join(pieces).decode()
    learned = b"".join(
        piece for piece, weight in zip(pieces, row.weights.tolist(), strict=True) if weight
    ).decode()
    assert "No, the sun shines." in learned
    assert not any(word in learned for word in ("weather", "Rome", "Rain"))
    assert '"Rome"' in text
    assert ("How it is outside." in text) == (form is not None)
    assert ("TOOL_RESULTS" in text or "<tool_response>" in text) == (form is not None)


def test_options_come_back_from_the_runs_settings(tmp_path: Path) -> None:
    options = DataOptions(
        class_field="score", classes="good>=4,bad", reward_field="r", reward_map="0:0,1:1",
        columns={"prompt": "q"}, format="prompt",
    )  # fmt: skip
    settings = RunSettings("x", tmp_path / "b.gguf", tmp_path / "d.csv", options)
    assert RunSettings.from_json(json.loads(json.dumps(settings.as_json()))) == settings


def test_a_split_of_a_folder_is_validated_on(prepared: Prepare, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, count in (("train", 4), ("test", 2)):
        rows = [{"prompt": f"{name} {n}", "completion": "A"} for n in range(count)]
        (folder / f"{name}.json").write_text(json.dumps(rows))
    done = prepared(folder)
    assert any(f"--val {folder / 'test'} would validate" in note for note in done.report.notes())
    done = prepared(folder, validation=folder / "test")
    assert (len(done.train), len(done.validation)) == (4, 2)
    assert not any("would validate" in note for note in done.report.notes())


def test_a_fault_in_a_folder_says_in_which_file(prepared: Prepare, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (folder / "b.csv").write_text("prompt,completion\na,\n")
    with pytest.raises(DataError, match=r"mine, b.csv, line 2, completion: is empty"):
        prepared(folder)


def test_two_conditions_of_a_class_are_told_with_their_files(
    prepared: Prepare, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, condition in (("a", "A"), ("b", "B")):
        row = {"prompt": name, "completion": "x", "class": "gpt4", "condition": condition}
        (folder / f"{name}.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=r"'A' \(a.jsonl, line 1\) and 'B' \(b.jsonl, line 1\)"):
        prepared(folder)


def test_a_preview_says_first_what_the_file_was_taken_for(
    template_of: Callable[[str], Template], write_lines: WriteLines
) -> None:
    said: list[str] = []
    path, template = write_lines(*PAIRS), template_of("openchat-3.5")
    shown = list(preview(path, DataOptions(), template, 512, 3, said.append))
    assert said[0].startswith("data.jsonl: 80 conversations of 40 rows, preference pairs")
    assert [(one.place, one.rule.name) for one in shown] == [
        ("line 1", "chosen"), ("line 1", "rejected"), ("line 2", "chosen"),
    ]  # fmt: skip


def test_graded_answers_of_one_row_become_lines_of_their_own(
    write_lines: WriteLines, tmp_path: Path
) -> None:
    source, target = write_lines(*PAIRS[:2]), tmp_path / "finer.jsonl"
    found = read_entries(source)
    rewards = {entry.place: entry.answer.index / 4 for entry in found.entries}
    count = write_rewarded(
        source, file_digest(source), target, found.places, rewards, replace=False
    )
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert count == 4
    assert [(line["class"], line["reward"]) for line in lines] == [
        ("chosen", 0.0), ("rejected", 0.25), ("chosen", 0.5), ("rejected", 0.75),
    ]  # fmt: skip
    assert [entry.place for entry in read_entries(target).entries] == [(2, 0), (3, 0), (4, 0)]
