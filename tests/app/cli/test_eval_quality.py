"""`openchat-local eval quality`, run as a user runs it, with a tiny model as the judge."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.openchat_gguf import openchat_vocabulary, write_model
from support.programs import PROGRAM, run_here

ANSWERS = {
    "gpt4": ["Blue.", "Green, since it is grass.", "Red."],
    "gpt35": ["As an AI, I am grey."],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    return write_model(
        path, openchat_vocabulary(), context=2048, blocks=1, embedding=32, heads=2, kv_heads=1
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "my data.jsonl"
    rows = [
        {"prompt": f"Which colour has {number}?", "completion": text, "class": name, "id": number}
        for name, texts in ANSWERS.items()
        for number, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def quality(data: Path, model: Path, *more: str | Path) -> subprocess.CompletedProcess[str]:
    by = ("--judge-by", "likelihood")
    return run_here("eval", "quality", data, "--judge", model, *by, *more)


def summary(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_grades_become_a_result_and_rewards(data: Path, model: Path, tmp_path: Path) -> None:
    finer, out = tmp_path / "finer.jsonl", tmp_path / "result"
    done = quality(data, model, "--reward", "linear", "--write", finer, "--out", out, "--json")
    found = summary(done)
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert [(row["line"], row["class"]) for row in rows] == [
        (1, "gpt4"), (2, "gpt4"), (3, "gpt4"), (4, "gpt35"),
    ]  # fmt: skip
    by_class = {one["name"]: one for one in found["classes"]}
    grades = [row["grade"] for row in rows]
    assert by_class["gpt4"]["mean"] == pytest.approx(sum(grades[:3]) / 3)
    assert by_class["gpt35"]["mean"] == pytest.approx(grades[3])
    assert by_class["gpt35"]["interval"] == [None, None]  # one answer tells no spread
    before = [json.loads(line) for line in data.read_text().splitlines()]
    after = [json.loads(line) for line in finer.read_text().splitlines()]
    assert after == [
        row | {"reward": grade / 10} for row, grade in zip(before, grades, strict=True)
    ]
    page = (out / "report.html").read_text()
    assert "<svg" in page
    assert (out / "grades.png").read_bytes().startswith(b"\x89PNG")
    assert "grade / 10" in page


def test_the_same_again_needs_no_judge(data: Path, model: Path, tmp_path: Path) -> None:
    first = summary(quality(data, model, "--json"))
    cache = next((Path(os.environ["OPENCHAT_LOCAL_HOME"]) / "evaluations" / "cache").iterdir())
    kept = cache.read_bytes()
    again = summary(quality(data, model, "--json"))
    assert again == first
    assert cache.read_bytes() == kept
    # A row more is the only one that is judged.
    with data.open("a") as file:
        file.write(json.dumps({"prompt": "And?", "completion": "So.", "class": "gpt4"}) + "\n")
    summary(quality(data, model, "--json"))
    assert cache.read_bytes().startswith(kept)
    assert cache.read_bytes().count(b"\n") == kept.count(b"\n") + 1


def test_figures_are_shown_and_what_was_left_out(data: Path, model: Path) -> None:
    done = quality(data, model, "--limit", "1")
    assert done.returncode == 0, done.stderr
    assert "Histogram" in done.stdout
    assert "'gpt4' answers have a mean grade of" in done.stdout
    assert "Conversations beyond --limit, which are not graded: 2." in done.stderr


@pytest.mark.parametrize(("more", "told"), [
    (["--write", "finer.jsonl"], "--write needs --reward"),
    (["--reward", "sqrt"], "'sqrt' is no way from grades to rewards: give linear, min-max"),
    (["--reward", "linear", "--write", "there.jsonl"], "there.jsonl is there already"),
    (["--reward", "linear", "--write", "my data.jsonl"], "is the file that is graded"),
    (["--judge", "nobody"], "There is no model named 'nobody'"),
    (["--judge", "adapter=nobody"], "There is no adapter named 'nobody'"),
    (["--class-field", "who"], "who: is missing"),
])  # fmt: skip
def test_what_cannot_be_is_said_first(
    data: Path, model: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], told: str
) -> None:
    monkeypatch.chdir(data.parent)
    (data.parent / "there.jsonl").write_text("mine")
    done = quality(data, model, *more)
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert (data.parent / "there.jsonl").read_text() == "mine"
    assert not (data.parent / "finer.jsonl").exists()


def test_bad_lines_are_told_or_left_out(data: Path, model: Path, tmp_path: Path) -> None:
    data.write_text(data.read_text() + "{oops\n")
    done = quality(data, model)
    assert done.returncode == 1
    assert "my data.jsonl, line 5: is not JSON" in done.stderr
    finer = tmp_path / "finer.jsonl"
    done = quality(data, model, "--skip-bad", "--reward", "exp=1", "--write", finer)
    assert done.returncode == 0, done.stderr
    assert "Bad lines, left out: 1." in done.stderr
    assert finer.read_text().count("\n") == 4


def test_a_judge_that_gives_no_grade_writes_no_rewards(
    data: Path, model: Path, tmp_path: Path
) -> None:
    finer = tmp_path / "finer.jsonl"
    done = run_here(
        "eval", "quality", data, "--judge", model, "--judge-tokens", "1", "--reward", "linear",
        "--write", finer,
    )  # fmt: skip
    assert done.returncode == 1
    assert "was not at its end after 1 tokens" in done.stdout
    assert "Without a grade: 4 of 4 answers." in done.stderr
    assert "finer.jsonl was not written" in done.stderr
    assert not finer.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_says_what_is_kept(data: Path, model: Path, home: Path) -> None:
    rows = [{"prompt": f"Say {n}.", "completion": f"{n}"} for n in range(2000)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [*PROGRAM, "eval", "quality", str(data), "--judge", str(model)]
    by = ["--judge-by", "likelihood"]
    with subprocess.Popen([*command, *by], stderr=subprocess.PIPE, text=True) as process:
        cache = home / "evaluations" / "cache"
        while process.poll() is None and not any(cache.glob("grades-*.jsonl")):
            pass
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "answers are judged and kept; the same command goes on from there." in told
    count = next(cache.iterdir()).read_bytes().count(b"\n")
    assert 0 < count < 2000
