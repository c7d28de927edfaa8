"""What replies think first is left out of what is learned, and that is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.examples import read_examples
from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.data.remarks import THOUGHTS, remark_notes
from openchat_local.finetune.data.survey import survey

THOUGHT = "<think>\nA sum.\n</think>\n\n"
ROWS = [
    {"messages": [{"role": "user", "content": "2+2?"},
                  {"role": "assistant", "content": THOUGHT + "Four."}]},
    {"conversations": [{"from": "human", "value": "<think>?"}, {"from": "gpt", "value": THOUGHT},
                       {"from": "human", "value": "And?"}, {"from": "gpt", "value": "So."}]},
    {"instruction": "Show a mark.", "output": "Write `<think>` first."},
    {"messages": [{"role": "user", "content": "2+2?"},
                  {"role": "assistant", "reasoning_content": "A sum.", "content": "Four."}]},
]  # fmt: skip


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return path


def read(rows: Path, *, thinking: bool) -> list[Example]:
    found = read_examples(rows, DataOptions(thinking=thinking).reading, lambda _: None)
    return [one for one in found if isinstance(one, Example)]


def said(example: Example) -> list[tuple[str, float | None]]:
    turns = zip(example.messages, example.weights, strict=True)
    return [(turn.content, weight) for turn, weight in turns if turn.role == "assistant"]


def test_answers_are_learned(rows: Path) -> None:
    first, second, third, fourth = read(rows, thinking=False)
    assert said(first) == [("Four.", None)]
    assert said(second) == [("", 0.0), ("So.", None)]  # there is nothing to learn of a thought
    assert second.messages[0].content == "<think>?"
    assert said(third) == [("Write `<think>` first.", None)]
    assert said(fourth) == [("Four.", None)]
    assert fourth.ignored == ()


def test_thoughts_are_learned_where_that_is_asked_for(rows: Path) -> None:
    first, second, _, fourth = read(rows, thinking=True)
    assert said(first) == said(fourth) == [(THOUGHT + "Four.", None)]
    assert said(second)[0] == (THOUGHT, None)


def test_what_is_left_out_is_said(rows: Path) -> None:
    found = survey(rows, DataOptions().reading, lambda _: None)
    assert found.remarks[THOUGHTS] == 3
    (note,) = remark_notes(found.remarks)
    assert "3 conversations" in note
    assert "--thinking" in note
