"""Files of questions, in the forms that there are and in those that nobody can use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openchat_local.finetune.evaluation.answers.faults import AnswersError
from openchat_local.finetune.evaluation.answers.matching import gold_of, read_rule
from openchat_local.finetune.evaluation.answers.questions import Questions, read_questions
from openchat_local.models.conversation import Message
from openchat_local.models.errors import OpenChatError


def holds(texts: tuple[str, ...]) -> bool:
    return gold_of(read_rule("auto"), texts) is not None


def read(path: Path, *rows: Any, **how: Any) -> Questions:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_questions(path, holds, **how)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "questions of mine.jsonl"


USER = {"role": "user", "content": "2 + 2?"}


@pytest.mark.parametrize(
    ("row", "answers"),
    [
        ({"question": "2 + 2?", "answer": "#### 4"}, ("#### 4",)),
        ({"problem": "2 + 2?", "solution": "\\boxed{4}", "answer": "4"}, ("4",)),
        ({"problem": "2 + 2?", "solution": "\\boxed{4}", "level": "1"}, ("\\boxed{4}",)),
        ({"prompt": "2 + 2?", "answer": 4}, ("4",)),
        ({"prompt": "2 + 2?", "answers": ["4", "four"]}, ("4", "four")),
        ({"question": "2 + 2?", "label": ["4"], "options": None}, ("4",)),
        ({"question": "2 + 2?", "answer": "", "solution": "4"}, ("4",)),
        ({"instruction": "2 + 2?", "output": "4"}, ("4",)),
        ({"prompt": "2 + 2?", "completion": "4"}, ("4",)),
        ({"messages": [USER], "answer": 4.0}, ("4.0",)),
        ({"messages": [USER, {"role": "assistant", "content": "4"}]}, ("4",)),
        ({"conversations": [{"from": "human", "value": "2 + 2?"}], "answer": "4"}, ("4",)),
        (
            {"messages": [USER, {"role": "assistant", "content": "4"}], "label": True},
            ("4",),
        ),
    ],
)
def test_rows_of_every_form_are_read(path: Path, row: Any, answers: tuple[str, ...]) -> None:
    [question] = read(path, row).questions
    assert question.messages == (Message("user", "2 + 2?"),)
    assert question.answers == answers
    assert question.name == "1"


def test_what_is_asked_before_is_kept(path: Path) -> None:
    turns = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello."}, USER,
    ]  # fmt: skip
    read_as = read(
        path,
        {"messages": turns, "answer": "4"},
        {"question": "2 + 2?", "answer": "4", "system": "Be brief."},
        {"instruction": "Add.", "input": "2 + 2", "answer": "4"},
        append="Answer briefly.",
    )
    first, second, third = (question.messages for question in read_as.questions)
    assert [turn.role for turn in first] == ["system", "user", "assistant", "user"]
    assert first[-1].content == "2 + 2?\n\nAnswer briefly."
    assert second[0] == Message("system", "Be brief.")
    assert third == (Message("user", "Add.\n\n2 + 2\n\nAnswer briefly."),)


def test_what_is_asked_decides_what_is_kept_of_a_question(path: Path) -> None:
    rows = [
        {"question": "a", "answer": "1"}, {"question": "a", "answer": "2"},
        {"question": "b", "answer": "1"},
    ]  # fmt: skip
    read_as = read(path, *rows)
    digests = [question.digest for question in read_as.questions]
    assert digests[0] == digests[1] != digests[2]
    assert "1 question came before" in read_as.notes[0]


def test_a_file_may_come_from_windows_or_be_one_list(path: Path) -> None:
    rows = [{"question": "a", "answer": "1"}, {"question": "b", "answer": "2"}]
    lines = "\r\n".join(map(json.dumps, rows))
    for data in (
        b"\xef\xbb\xbf" + lines.encode(),
        lines.encode("utf-16"),
        json.dumps(rows, indent=1).encode(),
    ):
        path.write_bytes(data)
        assert [one.text for one in read_questions(path, holds).questions] == ["a", "b"]


def test_every_row_that_cannot_be_used_is_named_with_its_line(path: Path) -> None:
    rows: list[Any] = [
        {"question": "good", "answer": "1", "id": "x"},
        {"question": "no answer"},
        {"question": "empty", "answer": " "},
        {"question": "null", "answer": None},
        {"question": "", "answer": "1"},
        {"answer": "1"},
        {"question": "again", "answer": "1", "id": "x"},
        {"question": "a list", "answer": [{"a": 1}]},
        {"question": "a truth", "label": [True]},
        {"question": ["a"], "answer": "1"},
        [1],
        {"messages": [{"role": "user", "content": " "}], "answer": "1"},
        {"messages": [USER, {"role": "assistant", "content": "4"}], "answer": "5"},
        {"question": "nothing in it", "answer": "**"},
        {"messages": [USER]},
        {"messages": "hello", "answer": "1"},
    ]
    with pytest.raises(AnswersError) as error:
        read(path, *rows)
    said = str(error.value)
    assert f"mend 15 lines of {path}, or use --skip-bad" in said
    for line, why in (
        (2, "has no answer"),
        (3, "answer: is empty"),
        (4, "answer: is empty"),
        (5, "question: is empty"),
        (6, "asks nothing"),
        (7, "has an id that is taken ('x', as line 1 has)"),
        (8, "answer: is no text, number, or list of these"),
        (9, "label: is no text, number, or list of these"),
        (10, "question: is no text"),
        (11, "is not a JSON object"),
        (12, "asks nothing"),
        (13, "answer: stands beside a conversation that is answered"),
        (14, "answer: holds no answer that --match could find"),
        (15, "has no answer"),
        (16, "messages: is not a list of turns"),
    ):
        assert any(f"line {line}" in row and why in row for row in said.splitlines()), (line, said)
    read_as = read(path, *rows, skip_bad=True)
    assert [question.text for question in read_as.questions] == ["good"]
    assert read_as.notes[0] == "Left out: 15 bad lines."


@pytest.mark.parametrize(
    "row",
    [
        {"task_id": "HumanEval/0", "prompt": "def f():", "canonical_solution": "1", "test": "x"},
        {"text": "Write f.", "code": "1", "test_list": ["assert f()"]},
        {"question": "Complete", "label": "", "_metadata": "{'entry_point': 'f'}"},
    ],
)
def test_programming_tasks_are_refused(path: Path, row: Any) -> None:
    for skip_bad in (False, True):
        with pytest.raises(AnswersError, match="nothing is executed here"):
            read(path, {"question": "a", "answer": "1"}, row, skip_bad=skip_bad)


def test_a_file_without_questions_is_said(path: Path, tmp_path: Path) -> None:
    for data in ("", "\n\n", "[]"):
        path.write_text(data)
        with pytest.raises(AnswersError, match="holds no questions"):
            read_questions(path, holds)
    (tmp_path / "empty").mkdir()
    with pytest.raises(OpenChatError, match="is a folder that holds no data"):
        read_questions(tmp_path / "empty", holds)
    with pytest.raises(OpenChatError, match="cannot be read"):
        read_questions(tmp_path / "none.jsonl", holds)
    path.write_text('{"question": "a", "answer": "1"}\n{"question"')
    with pytest.raises(AnswersError, match="line 2: is not JSON"):
        read_questions(path, holds)


def test_only_the_first_are_read(path: Path) -> None:
    rows = [{"question": str(n), "answer": "1"} for n in range(5)]
    read_as = read(path, *rows, {"bad": 1}, limit=2)
    assert [question.text for question in read_as.questions] == ["0", "1"]


def test_rows_with_options_are_told_of_the_other_way(path: Path) -> None:
    row = {"question": "2 + 2? (A) 3 (B) 4", "options": ["A", "B"], "label": ["B"]}
    assert "eval choice" in read(path, row).notes[0]
