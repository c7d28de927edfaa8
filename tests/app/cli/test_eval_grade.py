"""`openchat-local eval grade`, run as a user runs it, with a tiny model that grades itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.openchat_gguf import openchat_vocabulary, write_model
from support.programs import run_here


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    return write_model(
        path, openchat_vocabulary(), context=2048, blocks=1, embedding=32, heads=2, kv_heads=1
    )


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "two turns.jsonl"
    rows = [
        {"question_id": 1, "category": "writing", "turns": ["Write.", "Shorter."]},
        {"question_id": 2, "category": "maths", "turns": ["1 + 1?", "+ 1?"],
         "reference": ["2", "3"]},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_contenders_are_graded_on_the_same_prompts(
    prompts: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "result"
    command = (
        "eval", "grade", "base", "condition=Code", "-m", model, "--prompts", prompts,
        "--max-tokens", "6", "--judge", "base", "--judge-by", "likelihood", "--out", out, "--json",
    )  # fmt: skip
    done = run_here(*command)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert [(row["name"], row["turn"], row["by"]) for row in rows] == [
        (name, turn, by)
        for name in ("1", "2") for by in ("base", "condition=Code") for turn in (1, 2)
    ]  # fmt: skip
    for one in found["contenders"]:
        own = [row["grade"] for row in rows if row["by"] == one["label"]]
        assert one["all"]["mean"] == pytest.approx(sum(own) / 4)
        assert one["all"]["graded"] == 4
        assert set(one["turns"]) == {"1", "2"}
        assert set(one["categories"]) == {"writing", "maths"}
    assert found["contenders"][0]["against_first"] is None
    assert found["contenders"][1]["against_first"]["answers"] == 4
    assert "By category" in (out / "report.html").read_text()
    again = run_here(*command)
    assert json.loads(again.stdout) == found


def test_one_and_the_same_contender_twice_is_refused(prompts: Path, model: Path) -> None:
    done = run_here(
        "eval", "grade", "base", "scale=1", "-m", model, "--prompts", prompts, "--judge", "base"
    )
    assert done.returncode == 1
    assert "base and scale=1 are one and the same" in done.stderr


def test_no_contender_is_wrong_usage(prompts: Path) -> None:
    done = run_here("eval", "grade", "--prompts", prompts, "--judge", "base")
    assert done.returncode == 2
    assert "Missing argument" in done.stderr
