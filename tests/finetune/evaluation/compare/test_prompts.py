"""Every form of prompts that people keep, and rows that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openchat_local.finetune.data.faults import DataError
from openchat_local.finetune.data.line import Line
from openchat_local.finetune.evaluation.compare.prompt_rows import Prompt, read_prompt
from openchat_local.finetune.evaluation.compare.prompts import read_prompts
from openchat_local.models.conversation import Message


def user(text: str) -> Message:
    return Message("user", text)


def prompt_of(value: Any) -> Prompt:
    found = read_prompt(Line(1, value))
    assert isinstance(found, Prompt), [str(fault) for fault in found]
    return found


def faults_of(value: Any) -> list[str]:
    found = read_prompt(Line(7, value))
    assert not isinstance(found, Prompt), found
    return [str(fault) for fault in found]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def asked(path: Path, **options: Any) -> list[str]:
    return [prompt.asked for prompt in read_prompts(path, **options).prompts]


def test_mt_bench_asks_two_turns_and_may_have_two_right_answers() -> None:
    row = {"question_id": 101, "category": "math", "turns": ["2 + 2?", "Doubled?"]}
    found = prompt_of(row | {"reference": ["4", "8"]})
    assert found == Prompt(1, "101", "math", (user("2 + 2?"),), ("Doubled?",), ("4", "8"))
    assert prompt_of(row).references == ()


def test_the_same_as_the_hub_has_it() -> None:
    row = {"prompt_id": 3, "category": "math", "prompt": ["2 + 2?", "Doubled?"], "reference": []}
    assert prompt_of(row) == Prompt(1, "3", "math", (user("2 + 2?"),), ("Doubled?",))


@pytest.mark.parametrize("field", ["turns", "text"])
def test_vicuna_bench_asks_one(field: str) -> None:
    text: Any = "How do I sleep better?"
    row = {"question_id": 1, "category": "generic", field: [text] if field == "turns" else text}
    assert prompt_of(row) == Prompt(1, "1", "generic", (user(text),))


def test_alpaca_eval_asks_an_instruction_with_its_input_and_names_where_it_is_from() -> None:
    row = {"dataset": "koala", "instruction": "Translate.", "output": "Bon", "generator": "x"}
    assert prompt_of(row) == Prompt(1, "", "koala", (user("Translate."),))
    assert prompt_of(row | {"input": "Good"}).messages == (user("Translate.\n\nGood"),)


@pytest.mark.parametrize(
    "row",
    [
        {"items": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                   {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                      {"role": "user", "content": "c"}, {"role": "assistant", "content": ""}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                      {"role": "user", "content": "c"}]},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"},
                           {"from": "human", "value": "c"}, {"from": "gpt", "value": "d"}]},
        {"instruction": "c", "history": [["a", "b"]], "output": "d"},
        {"instruction": "c", "history": [["a", "b"]]},
    ],
)  # fmt: skip
def test_of_what_one_trains_on_all_before_the_last_answer_is_asked(row: dict[str, Any]) -> None:
    labelled = row | {"class": "gpt4", "condition": "GPT4 Correct", "reward": 0.5}
    for each in (row, labelled):
        assert prompt_of(each).messages == (user("a"), Message("assistant", "b"), user("c"))
    assert prompt_of(row | {"system": "s"}).messages[0] == Message("system", "s")


def test_a_prompt_may_stand_by_itself() -> None:
    assert prompt_of("Hi").messages == (user("Hi"),)
    assert prompt_of({"prompt": "Hi"}).messages == (user("Hi"),)
    assert prompt_of({"prompt": "Hi", "completion": "Hello"}).messages == (user("Hi"),)
    with_system = prompt_of({"prompt": "Hi", "system": "s"}).messages
    assert with_system == (Message("system", "s"), user("Hi"))


def test_half_a_character_becomes_a_whole_one() -> None:
    assert prompt_of({"turns": ["a\ud83d", "\udc4d"]}).messages == (user("a\ufffd"),)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (5, "line 7: is neither a prompt nor a JSON object (5)"),
        ({"topic": "a"}, "holds no prompt in a form known here: turns, text, instruction"),
        ({"turns": []}, "turns: is an empty list"),
        ({"turns": ["a", 3]}, "turns[1]: is not text (3)"),
        ({"turns": ["a", " "]}, "turns[1]: is empty"),
        ({"instruction": "a", "input": 3}, "input: is not text (3)"),
        ({"prompt": ""}, "prompt: is empty"),
        ({"text": None}, "text: is not text (null)"),
        ({"prompt": "a", "system": 1}, "system: is not text (1)"),
        ({"prompt": "a", "question_id": [1]}, "question_id: is neither a number nor text"),
        ({"prompt": "a", "category": 1}, "category: is not text (1)"),
        ({"turns": ["a", "b"], "reference": ["x"]}, "has not as many answers as there are turns"),
        ({"prompt": "a", "reference": 4}, "reference: is neither text nor a list of texts (4)"),
        ({"messages": []}, "has no assistant turn"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role: is none of"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "so there is nothing to ask"),
        ({"messages": [{"role": "user", "content": " "}]}, "asks nothing"),
    ],
)
def test_a_row_that_asks_nothing_is_told_with_its_field(row: Any, says: str) -> None:
    (fault,) = faults_of(row)
    assert says in fault
    assert fault.startswith("line 7")


def test_a_file_is_told_with_all_its_bad_rows_at_once(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_bytes(b'{"turns": ["a"]}\n\n{"turns": []}\nnonsense\n{"prompt": "\xff"}\n')
    with pytest.raises(DataError) as caught:
        read_prompts(path)
    sentence, *faults = str(caught.value).split("\n  ")
    assert sentence == f"Nothing was asked: mend 3 lines of {path}:"
    assert [fault.partition(", ")[2].partition(":")[0] for fault in faults] == [
        "line 3, turns", "line 4", "line 5"
    ]  # fmt: skip


def test_an_id_that_two_rows_have(tmp_path: Path) -> None:
    path = write(
        tmp_path / "q.jsonl",
        *({"question_id": i, "text": f"{i} {n}"} for n, i in enumerate([4, 5, 4])),
    )
    with pytest.raises(DataError, match=r"line 3: has the id of an earlier row \(4, 1\)"):
        read_prompts(path)


def test_the_same_prompt_twice_is_asked_once(tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    path.write_text("a\nb\na\n")
    found = read_prompts(path)
    assert [prompt.line for prompt in found.prompts] == [1, 2]
    assert found.notes == ("Prompts that stand there twice, asked once: line 3.",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_plain_lines_are_prompts_and_blank_ones_are_none(
    tmp_path: Path, encoding: str, end: str
) -> None:
    path = tmp_path / "my questions.txt"
    path.write_bytes(f"  写一首诗{end}{end}[INST] {{x}}{end} {end}last 👍🏽".encode(encoding))
    assert asked(path) == ["  写一首诗", "[INST] {x}", "last 👍🏽"]


def test_json_is_json_under_any_name_and_in_one_list(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, {"turns": ["b"]}, "c"]
    for name in ("q.jsonl", "q.txt", "q"):
        assert asked(write(tmp_path / name, *rows)) == ["a", "b", "c"]
    for name in ("q.json", "list.txt"):
        (tmp_path / name).write_text("\n" + json.dumps(rows, indent=1))
        assert asked(tmp_path / name) == ["a", "b", "c"]
    (tmp_path / "strings.txt").write_text('["a", "b"]')
    assert asked(tmp_path / "strings.txt") == ["a", "b"]


def test_a_list_that_breaks_off(tmp_path: Path) -> None:
    path = tmp_path / "q.json"
    path.write_text('[{"prompt": "a"},\n {"prompt"')
    with pytest.raises(DataError, match="breaks off in line 2"):
        read_prompts(path)


def test_some_of_them_can_be_chosen(tmp_path: Path) -> None:
    path = write(
        tmp_path / "q.jsonl", *({"text": f"{n}", "category": "AB"[n % 2]} for n in range(6))
    )
    assert asked(path, limit=3) == ["0", "1", "2"]
    assert asked(path, categories=["b"]) == ["1", "3", "5"]
    assert asked(path, categories=["b"], limit=2) == ["1", "3"]
    with pytest.raises(DataError, match=r"category 'c'; there are A, B\."):
        read_prompts(path, categories=["c"])
    with pytest.raises(DataError, match="its prompts name none"):
        read_prompts(write(tmp_path / "none.jsonl", "a"), categories=["c"])


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
@pytest.mark.parametrize("name", ["q.txt", "q.jsonl"])
def test_a_file_without_a_prompt(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="holds no prompt: write one a line"):
        read_prompts(tmp_path / name)


def test_what_is_no_file_of_prompts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        read_prompts(tmp_path)
    with pytest.raises(DataError, match=r"nowhere\.txt cannot be read"):
        read_prompts(tmp_path / "nowhere.txt")
    with pytest.raises(DataError, match="Prompts are read from a file"):
        read_prompts(Path("-"))
    (tmp_path / "model.txt").write_bytes(b"GGUF\x03\x00\x00\x00")
    with pytest.raises(DataError, match="is a model"):
        read_prompts(tmp_path / "model.txt")
    (tmp_path / "latin.txt").write_bytes("gr\xfc\xdfe".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.txt, line 1: is not UTF-8 \(byte 3\)"):
        read_prompts(tmp_path / "latin.txt")
