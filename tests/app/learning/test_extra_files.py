"""Files that are learned from beside chats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openchat_local.app.learning.extra_files import ExtraFileError, extra_rows, look_at_file
from openchat_local.app.learning.rules import DEFAULT_RULES
from openchat_local.finetune.data.faults import DataError

ASKED = {"role": "user", "content": "Hello"}
SAID = {"role": "assistant", "content": "Hi"}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_rows_without_a_class_are_of_the_best_and_others_are_what_the_rules_say(
    tmp_path: Path,
) -> None:
    rows = (
        {"messages": [ASKED, SAID]},
        {"messages": [ASKED, SAID], "class": "sub-optimal", "condition": "Other"},
        {"messages": [ASKED, SAID], "class": "middle", "reward": 0.7},
        {"messages": [ASKED, SAID], "class": "mine", "condition": "Mine", "reward": 0.2},
    )
    file = write(tmp_path / "mine.jsonl", *rows)
    found = look_at_file(file, DEFAULT_RULES)
    assert found.classes == {"expert": 1, "sub-optimal": 1, "middle": 1, "mine": 1}
    assert found.conversations == 4
    first, second, third, fourth = extra_rows([file], DEFAULT_RULES)
    assert (first["class"], first["reward"]) == ("expert", 1.0)
    assert (second["condition"], second["reward"]) == ("GPT3", 0.1)
    assert (third["condition"], third["reward"]) == ("Unrated", 0.7)
    assert fourth == rows[3]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no conversation"),
        ("{\n", "line 1"),
        (json.dumps({"messages": [ASKED]}), "nothing to learn"),
        (json.dumps({"messages": [ASKED, SAID], "class": "odd"}), "'odd', which is worth nothing"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_at_once(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ExtraFileError, match=says):
        look_at_file(file, DEFAULT_RULES)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="folder"):
        look_at_file(empty, DEFAULT_RULES)


def test_a_table_is_mixed_in_beside_chats(tmp_path: Path) -> None:
    path = tmp_path / "faq.csv"
    path.write_text("question,answer,class\nQ,A,sub-optimal\nQ2,A2,\n")
    assert look_at_file(path, DEFAULT_RULES).classes == {"sub-optimal": 1, "expert": 1}
    first, second = extra_rows([path], DEFAULT_RULES)
    assert first["messages"] == [
        {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"},
    ]  # fmt: skip
    assert (first["class"], second["class"]) == ("sub-optimal", "expert")
