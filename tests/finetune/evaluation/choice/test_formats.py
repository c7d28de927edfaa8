"""Rows of every format become questions; what is none is named with file, line and field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openchat_local.finetune.data.faults import DataError
from openchat_local.finetune.evaluation.choice.question import Question
from openchat_local.finetune.evaluation.choice.reading import read_sets

LISTED = {"question": "Q: 2 + 2? Answer Choices: (A)3 (B)4\nA: Among A through B, the answer is",
          "options": ["A", "B"], "label": ["B"]}  # fmt: skip
TEXTS = {"question": "The capital of Norway?", "options": ["Rome", "Oslo"], "label": "Oslo"}
MMLU = {"question": " What holds the pituitary? ", "subject": "human_anatomy",
        "choices": ["Abdomen", "Cranium", "Pleura"], "answer": 1}  # fmt: skip
ARC = {"id": "Mercury_7", "question": "What melts?", "answerKey": "2",
       "choices": {"text": ["stone", "ice"], "label": ["1", "2"]}}  # fmt: skip
HELLASWAG = {"activity_label": "Roof shingle removal", "ctx_a": "A man is sitting on a roof.",
             "ctx_b": "he", "endings": ["is using wrap.", "starts [header] pulling  up."],
             "label": "1"}  # fmt: skip
WINOGRANDE = {"sentence": "Sarah beat Maria because _ was better.", "option1": "Sarah",
              "option2": "Maria", "answer": "1"}  # fmt: skip

Write = Callable[..., Path]
BESIDE = {frozenset(row): row for row in (TEXTS, ARC, HELLASWAG, WINOGRANDE)}


def only(path: Path) -> Question:
    [found] = read_sets([path])
    [question] = found.questions
    return question


def test_options_in_the_question(write_rows: Write) -> None:
    found = only(write_rows("agieval", [LISTED]))
    assert (found.letters, found.right, found.chance) == (("A", "B"), (1,), 0.5)
    assert found.contexts == (LISTED["question"],) * 2
    assert found.continuations == ("A", "B")
    assert found.asked == LISTED["question"]


def test_options_with_texts_of_their_own(write_rows: Write) -> None:
    found = only(write_rows("texts", [TEXTS]))
    assert found.continuations == ("Rome", "Oslo")
    assert found.asked == "The capital of Norway?\nA. Rome\nB. Oslo\nAnswer:"
    assert found.right == (1,)


def test_mmlu(write_rows: Write) -> None:
    asked = (
        "The following are multiple choice questions (with answers) about human anatomy.\n\n"
        "What holds the pituitary?\nA. Abdomen\nB. Cranium\nC. Pleura\nAnswer:"
    )
    for answer in (1, "1", "B"):
        found = only(write_rows("mmlu", [MMLU | {"answer": answer}]))
        assert found.asked == asked
        assert found.contexts == (asked,) * 3
        assert (found.continuations, found.right) == (("A", "B", "C"), (1,))


def test_a_letter_of_mmlu_is_a_place_whatever_the_options_say(write_rows: Write) -> None:
    row = MMLU | {"choices": ["B", "A", "AB"], "answer": "A"}
    assert only(write_rows("blood", [row])).right == (0,)


def test_arc(write_rows: Write) -> None:
    found = only(write_rows("arc", [ARC]))
    assert found.id == "Mercury_7"
    assert found.contexts == ("Question: What melts?\nAnswer:",) * 2
    assert (found.continuations, found.right) == (("stone", "ice"), (1,))
    assert found.asked == "What melts?\n1. stone\n2. ice\nAnswer:"


def test_hellaswag(write_rows: Write) -> None:
    found = only(write_rows("hellaswag", [HELLASWAG]))
    assert found.contexts[0] == "Roof shingle removal: A man is sitting on a roof. He"
    assert found.continuations == ("is using wrap.", "starts pulling up.")
    whole = {key: value for key, value in HELLASWAG.items() if not key.startswith("ctx_")}
    found = only(write_rows("whole", [whole | {"ctx": "A man is sitting."}]))
    assert found.contexts[0] == "Roof shingle removal: A man is sitting."


def test_winogrande_judges_what_follows_either_option(write_rows: Write) -> None:
    found = only(write_rows("winogrande", [WINOGRANDE]))
    assert found.contexts == ("Sarah beat Maria because Sarah", "Sarah beat Maria because Maria")
    assert found.continuations == ("was better.",) * 2
    assert found.right == (0,)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (TEXTS | {"label": "Bern"}, "label: is not among the 2 options ('Bern')"),
        (TEXTS | {"label": None}, "label: has no label"),
        (TEXTS | {"options": []}, "options: has no options"),
        (TEXTS | {"options": ["Oslo"]}, "options: has one option alone"),
        (TEXTS | {"options": ["Oslo", ""]}, "options: has an option without text (number 2)"),
        (TEXTS | {"options": ["Oslo", " Oslo"]}, "two options that are equal (numbers 1 and 2)"),
        (TEXTS | {"options": {"a": 1}}, "options: has no options"),
        (TEXTS | {"question": " "}, "question: is empty"),
        (TEXTS | {"question": 3}, "question: is not text"),
        (ARC | {"answerKey": "A"}, "answerKey: is not among the labels of the choices ('A')"),
        (ARC | {"choices": ["a", "b"]}, "choices: is no object with text and label"),
        (HELLASWAG | {"label": ""}, "label: has no label"),
        (WINOGRANDE | {"answer": "3"}, "answer: is neither 1 nor 2 ('3')"),
        (WINOGRANDE | {"sentence": "No gap."}, 'sentence: has no "_"'),
        ({"prompt": "x"}, "has no fields of a question (it has prompt)"),
        ([1], "is not an object of fields"),
    ],
)
def test_a_bad_row_is_named(write_rows: Write, row: Any, said: str) -> None:
    good = dict(BESIDE.get(frozenset(row) if isinstance(row, dict) else frozenset(), TEXTS))
    good.pop("id", None)
    path = write_rows("bad", [good, row])
    with pytest.raises(DataError) as error:
        read_sets([path])
    sentence = str(error.value)
    assert f"Nothing was measured; mend these rows (1 of {path}) or leave them out" in sentence
    assert f"{path}, line 2" in sentence
    assert said in sentence
    [found] = read_sets([path], skip_bad=True)
    assert [question.line for question in found.questions] == [1]
    assert said in found.left_out[0]


def test_formats_are_not_mixed(write_rows: Write) -> None:
    path = write_rows("mixed", [ARC, TEXTS])
    with pytest.raises(DataError, match=r"line 2: is a row of AGIEval.*after rows of ARC"):
        read_sets([path])


def test_ids_are_not_given_twice(write_rows: Write) -> None:
    path = write_rows("twice", [ARC, ARC | {"id": "other"}, ARC])
    with pytest.raises(DataError, match=r"line 3, id: .*\('Mercury_7', first on line 1\)"):
        read_sets([path])


def test_a_file_without_questions(write_rows: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"empty.jsonl is empty: name a file with a question"):
        read_sets([write_rows("empty", [])])
    with pytest.raises(DataError, match=r"no question in it \(line 1: .*question, options, label"):
        read_sets([write_rows("chats", [{"messages": []}] * 9)], skip_bad=True)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "readme.txt").touch()
    with pytest.raises(DataError, match=r"folder has no \.jsonl or \.json file in it"):
        read_sets([tmp_path / "folder"])
    with pytest.raises(DataError, match="No such file"):
        read_sets([tmp_path / "nothing.jsonl"])


def test_what_editors_put_into_files(tmp_path: Path) -> None:
    path = tmp_path / "a b.jsonl"
    row = '{"question": "Q?", "options": ["yes", "no"], "label": "(B)"}'
    path.write_bytes(b"\xef\xbb\xbf" + f"{row}\r\n\r\n{row}\r\n".encode())
    [found] = read_sets([path])
    assert found.name == "a b"
    assert [question.line for question in found.questions] == [1, 3]
    assert {question.right for question in found.questions} == {(1,)}
    whole = tmp_path / "list.json"
    whole.write_text(f"[{row}, {row}]")
    [found] = read_sets([whole])
    assert len(found.questions) == 2


def test_a_folder_is_its_files_each_once(write_rows: Write, tmp_path: Path) -> None:
    for name in ("set/b", "set/a", "set/deep/c.zero-shot", "other/a"):
        write_rows(name, [TEXTS, TEXTS])
    found = read_sets([tmp_path / "set", tmp_path / "set" / "a.jsonl"], limit=1)
    assert [one.name for one in found] == ["a", "b", "c"]
    assert [len(one.questions) for one in found] == [1, 1, 1]
    found = read_sets([tmp_path / "set" / "a.jsonl", tmp_path / "other"])
    assert [one.name for one in found] == ["set/a", "other/a"]
