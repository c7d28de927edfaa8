"""`openchat-local finetune preview`, run as a user runs it, on the starter."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from openchat_local.app.chats import ChatStore
from openchat_local.app.learning.one_chat import training_lines
from openchat_local.app.learning.rules import DEFAULT_RULES

TALK = [
    {"role": "user", "content": "Hi\x1b[2J 你好"},
    {"role": "assistant", "content": "No", "weight": 0},
    {"role": "user", "content": "So?"},
    {"role": "assistant", "content": "Yes <|im_end|> 🦙"},
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    lines: list[dict[str, Any]] = [
        {"messages": TALK, "class": "gpt35"},
        {"messages": TALK[2:], "class": "gpt35"},
        {"instruction": "Add 1 and 2.", "output": "3", "class": "gpt4"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def preview(
    *arguments: str | Path, colours: bool = False, **more: str
) -> subprocess.CompletedProcess[str]:
    told = ("FORCE_COLOR", "COLORTERM", "NO_COLOR")
    environment = {name: value for name, value in os.environ.items() if name not in told} | more
    environment |= {"PYTHONIOENCODING": "utf-8", "TERM": "xterm-256color"}
    environment |= {"FORCE_COLOR": "1"} if colours else {}
    return subprocess.run(
        [sys.executable, "-m", "openchat_local", "finetune", "preview", *map(str, arguments)],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


def test_in_a_pipe_each_token_is_a_line_with_weight_and_id(data: Path) -> None:
    done = preview(data)
    assert done.returncode == 0, done.stderr
    first, second, third, rest = done.stdout.split("\n\n")
    assert rest == ""
    assert first.startswith(
        "# line 1: OpenAI messages, class 'gpt35', condition 'GPT3', reward 0.1, "
    )
    assert second.startswith("# line 2: ")
    heading, *lines = third.splitlines()
    assert heading.startswith("# line 3: Alpaca, class 'gpt4', condition 'GPT4 Correct', reward 1")
    rows = [line.split("\t") for line in lines]
    assert [(weight, text) for weight, _, text in rows[-3:]] == [
        ("0", "\\n"),
        ("1", "3"),
        ("1", "<|im_end|>"),
    ]
    assert {weight for weight, _, _ in rows[:-2]} == {"0"}
    assert rows[-1][1] == "2"
    assert "\x1b" not in done.stdout


def test_the_first_of_each_class_is_shown(data: Path) -> None:
    headings = [line for line in preview(data, "-n", "2").stdout.splitlines() if line[:1] == "#"]
    assert [heading[:9] for heading in headings] == ["# line 1:", "# line 3:"]


def test_at_a_terminal_tokens_are_coloured_by_weight(data: Path) -> None:
    done = preview(data, "-n", "2", colours=True)
    assert done.returncode == 0, done.stderr
    shown = [
        (set(style.split(";")), text)
        for style, text in re.findall(r"\x1b\[([\d;]+)m([^\x1b]*)\x1b\[0m", done.stdout)
    ]
    background = {str(code) for code in (*range(41, 48), *range(101, 108))}
    with_weight = "".join(text for style, text in shown if style & background)
    without = "".join(text for style, text in shown if not style & background)
    # Between the legends of the weights 0.1 and 1: the replies, nothing else.
    assert with_weight == " 0.1 Yes <|im_end|> 🦙<|im_end|> 1 3<|im_end|>"
    # The same colour for the same weight, whatever else is in the row.
    yellow, green = {"43", "103"}, {"42", "102"}
    painted = [(style & background, text) for style, text in shown if style & background]
    for text, colours_of_weight in ((" 0.1 ", yellow), ("Yes", yellow), (" 1 ", green)):
        assert next(style for style, found in painted if found == text) <= colours_of_weight
    assert "No<|im_end|>" in without
    assert "GPT3 user↵Hi␛[2J 你好<|im_end|>" in without
    assert not re.search(r"\x1b(?!\[[\d;]*m)", done.stdout)


def test_without_colours_what_has_weight_is_in_brackets(data: Path) -> None:
    done = preview(data, "-n", "2", colours=True, NO_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert "⟦0.1│Yes <|im_end|> 🦙<|im_end|>⟧" in done.stdout
    assert "⟦1│3<|im_end|>⟧" in done.stdout
    assert "No<|im_end|>" in done.stdout
    assert done.stdout.count("⟦") == 2
    assert not re.search(r"\x1b\[[\d;]*[34]\d", done.stdout)


def test_problems_are_told_with_their_lines_and_flags(data: Path) -> None:
    data.write_text(data.read_text().replace("gpt35", "martian") + "{\n")
    done = preview(data)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "line 4: is not JSON" in done.stderr
    assert "--reward martian=NUMBER" in done.stderr
    flags = ("--reward", "martian=0.3", "--condition", "martian=Far Away", "--skip-bad")
    done = preview(data, *flags)
    assert done.returncode == 0, done.stderr
    assert "class 'martian', condition 'Far Away', reward 0.3" in done.stdout
    assert "left out: line 4: is not JSON" in done.stderr


def test_what_is_not_read_is_told_beside(data: Path) -> None:
    data.write_text(json.dumps({"messages": TALK, "tools": [], "class": "gpt4"}) + "\n")
    done = preview(data)
    assert done.returncode == 0
    assert "tools (1)" in done.stderr
    assert "tools" not in done.stdout


@pytest.mark.parametrize(
    "flags",
    [
        ("--reward", "gpt4"),
        ("--reward", "gpt4=much"),
        ("--reward", "gpt4=-1"),
        ("--reward", "gpt4=nan"),
        ("--condition", "=x"),
        ("--condition", "gpt4=a", "--condition", "gpt4=b"),
        ("--held-out", "1"),
    ],
)
def test_flags_that_make_no_sense_are_wrong_usage(flags: tuple[str, ...], data: Path) -> None:
    done = preview(data, *flags)
    assert done.returncode == 2
    assert flags[0] in done.stderr


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = preview(tmp_path / "none.jsonl")
    assert done.returncode == 1
    assert "none.jsonl cannot be read" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_exported_chat_is_training_data(home: Path, tmp_path: Path) -> None:
    store = ChatStore.open(home)
    chat = store.new_chat(system_prompt="Be brief.")
    parent = None
    for number, rating in enumerate((1, -1)):
        asked = store.add_message(chat.id, parent, "user", f"question {number}")
        reply = store.add_message(chat.id, asked.id, "assistant", f"answer {number}")
        store.rate(reply.id, rating)
        parent = reply.id
    file = tmp_path / "chat.jsonl"
    file.write_text(training_lines(store, chat.id, DEFAULT_RULES)[0], "utf-8")
    store.close()
    done = preview(file)
    assert done.returncode == 0, done.stderr
    good, bad, _ = done.stdout.split("\n\n")
    assert "class 'expert', condition 'GPT4 Correct', reward 1 of its own" in good
    assert "class 'sub-optimal', condition 'GPT3', reward 0.1 of its own" in bad

    def learned(lines: str) -> list[str]:
        rows = [line.split("\t") for line in lines.splitlines()[1:]]
        return [text.strip() for weight, _, text in rows if float(weight)]

    assert learned(good) == ["answer", "", "0", "<|im_end|>"]
    assert learned(bad) == ["answer", "", "1", "<|im_end|>"]


def test_a_conversation_with_a_reward_of_its_own_says_so(data: Path) -> None:
    row = {"prompt": "Hi", "completion": "Yes", "class": "gpt4", "reward": 0.25}
    data.write_text(json.dumps(row) + "\n")
    heading, *tokens = preview(data).stdout.split("\n\n")[0].split("\n")
    assert "class 'gpt4', condition 'GPT4 Correct', reward 0.25 of its own, " in heading
    assert {token.split("\t")[0] for token in tokens} == {"0", "0.25"}


def test_a_table_is_taken_for_what_flags_say_and_that_is_said_first(tmp_path: Path) -> None:
    path = tmp_path / "数据.csv"
    path.write_text("question;answer;score\nQ1;A1;5\nQ2;A2;1\n", encoding="utf-8-sig")
    done = preview(path, "--class-field", "score", "--classes", "good>=4,bad")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(
        "• 数据.csv (CSV parted by ;): 2 conversations, prompt/completion (question, answer); "
        "classes by score: good >= 4, else bad.\n"
    )
    assert "# line 3: prompt/completion (question, answer), class 'bad'" in done.stdout
    done = preview(path, "--classes", "good>=4,bad")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--classes needs --class-field" in done.stderr
    done = preview(path, "--columns", "question")
    assert "does not have the form prompt=NAME" in done.stderr
