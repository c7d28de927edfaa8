"""`openchat-local render`, run as a user runs it, on the starter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.programs import run_here

HELLO = [{"role": "user", "content": "Hello"}]


def render(
    body: object, *arguments: str, raw: bytes | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "openchat_local", "render", *arguments],
        input=(json.dumps(body) if raw is None else raw.decode("latin-1")),
        capture_output=True,
        encoding="latin-1",
        timeout=120,
    )


def test_a_conversation_becomes_one_line_of_ids_and_pieces() -> None:
    done = render(HELLO)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    line = json.loads(done.stdout)
    assert set(line) == {"ids", "pieces"}
    assert all(isinstance(token, int) for token in line["ids"])
    assert "".join(line["pieces"]).endswith(
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_flag_beats_the_condition_of_the_messages() -> None:
    body = {"messages": HELLO, "condition": "Math Correct"}
    flagged, plain = render(body, "--condition", "Code"), render(body)
    assert "<|im_start|>Code user\n" in "".join(json.loads(flagged.stdout)["pieces"])
    assert "<|im_start|>Math Correct user\n" in "".join(json.loads(plain.stdout)["pieces"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (3, "Standard input"),
        ([], "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": HELLO, "conditions": "x"}, "'conditions'"),
        ({"messages": HELLO, "condition": 3}, "condition"),
        ([*HELLO, "x"], "messages[1]"),
        ([{"role": "user"}], "messages[0]: 'content'"),
        ([{"role": "robot", "content": "x"}], "messages[0].role"),
        ([{"role": ["user"], "content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": "x", "weight": 1}], "messages[0]: 'weight'"),
    ],
)
def test_a_fault_names_the_field(body: object, field: str) -> None:
    done = render(body)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("openchat-local: ")
    assert done.stderr.count("\n") == 1
    assert field in done.stderr


def test_a_byte_order_mark_is_no_content() -> None:
    body = b"\xef\xbb\xbf" + json.dumps(HELLO).encode()
    assert render(None, raw=body).stdout == render(HELLO).stdout


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "line 1, column 1"),
        (b'[{"role": "user",\n "content" "x"}]', "line 2, column 12"),
        (b'[{"role": "user", "content": "\xff"}]', "byte 30"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_text_that_is_not_json_is_told_with_its_place(raw: bytes, says: str) -> None:
    done = render(None, raw=raw)
    assert done.returncode == 1
    assert says in done.stderr


def test_a_template_file_writes_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[reply]")
    told = '[{"role": "user", "content": "Hi"}]'
    done = run_here("render", "--template-file", path, stdin=told)
    assert "".join(json.loads(done.stdout)["pieces"]) == "[user] Hi\n[reply]", done.stderr
    both = run_here("render", "--template-file", path, "--template", "chatml", stdin=told)
    assert both.returncode == 2
    assert "exclude each other" in both.stderr
