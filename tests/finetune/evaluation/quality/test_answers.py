"""What of a training file is graded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openchat_local.finetune.data.faults import DataError
from openchat_local.finetune.data.reading import Reading
from openchat_local.finetune.evaluation.quality.answers import (
    BEYOND_LIMIT,
    NOT_LEARNED,
    NOTHING_ASKED,
    read_entries,
)
from openchat_local.models.conversation import Message


def turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content} | more


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


def test_the_last_answer_is_graded_given_all_before_it(data: Path) -> None:
    talk = [turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d")]
    written(
        data,
        {"messages": [*talk, turn("user", "e")], "class": "gpt4", "system": "Be kind."},
        {"instruction": "x", "input": "y", "output": "z", "class": "gpt35"},
        {"conversations": [{"from": "human", "value": "p"}, {"from": "gpt", "value": "q"}]},
    )
    first, second, third = read_entries(data).entries
    assert first.answer.prompt == (
        Message("system", "Be kind."),
        *(Message(each["role"], each["content"]) for each in talk[:3]),
    )
    assert (first.answer.text, first.class_name, first.line) == ("d", "gpt4", 1)
    assert (second.answer.prompt, second.answer.text) == ((Message("user", "x\n\ny"),), "z")
    assert [one.answer.index for one in (first, second, third)] == [0, 1, 2]
    assert third.class_name == "unlabelled"


def test_what_is_not_learned_is_not_graded(data: Path) -> None:
    asked, answer = turn("user", "a"), turn("assistant", "b")
    written(
        data,
        {"messages": [asked, answer], "reward": 0},
        {"messages": [asked, answer, asked, answer | {"weight": 0}]},
        {"messages": [answer]},
        {"messages": [asked, answer | {"weight": 0.5}]},
        {"messages": [asked, answer], "reward": 0.7},
    )
    found = read_entries(data)
    assert found.left_out == {NOT_LEARNED: 2, NOTHING_ASKED: 1}
    assert [(one.line, one.weighed) for one in found.entries] == [(4, True), (5, False)]
    assert found.places == {(line, 0) for line in range(1, 6)}


def test_the_first_of_each_class_are_graded(data: Path) -> None:
    rows = [{"prompt": "p", "completion": f"{n}", "model": "ab"[n % 2]} for n in range(8)]
    found = read_entries(written(data, *rows), Reading("model"), limit=3)
    assert [(one.class_name, one.answer.text) for one in found.entries] == [
        ("a", "0"), ("b", "1"), ("a", "2"), ("b", "3"), ("a", "4"), ("b", "5"),
    ]  # fmt: skip
    assert found.left_out == {BEYOND_LIMIT: 2}


def test_bad_lines_are_all_told(data: Path) -> None:
    written(data, {"prompt": "p", "completion": "c"}, "{", {"prompt": "p"}, [1])
    with pytest.raises(DataError) as raised:
        read_entries(data)
    told = str(raised.value)
    assert told.startswith("Nothing was graded; mend these lines (3 of ")
    assert all(f"data.jsonl, line {line}" in told for line in (2, 3, 4))
    assert "--skip-bad" in told
    found = read_entries(data, skip_bad=True)
    assert (len(found.entries), found.faults.lines) == (1, 3)


@pytest.mark.parametrize("rows", [[], [{"prompt": "p", "completion": "c", "weight": 0}]])
def test_a_file_without_an_answer_is_refused(data: Path, rows: list[Any]) -> None:
    with pytest.raises(DataError, match="holds no answer to grade"):
        read_entries(written(data, *rows))


def test_a_mark_at_the_beginning_and_other_line_ends_are_read(data: Path) -> None:
    row = json.dumps({"prompt": "p", "completion": "c"})
    data.write_bytes(b"\xef\xbb\xbf" + f"{row}\r\n\r\n{row}\r\n".encode())
    assert [one.line for one in read_entries(data).entries] == [1, 3]


def test_too_many_classes_are_no_classes(data: Path) -> None:
    rows = [{"prompt": "p", "completion": "c", "class": f"class {n}"} for n in range(65)]
    with pytest.raises(DataError, match="more than 64 classes"):
        read_entries(written(data, *rows))
