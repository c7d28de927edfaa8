"""`eval answers`: real questions to a real model and adapter, as somebody at a terminal sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openchat_local.app.cli.main import main
from openchat_local.app.cli.progress import Bar
from openchat_local.app.engine import installed_adapters
from openchat_local.finetune.evaluation.answers.extraction import normalised
from support.adapters import write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model
from support.programs import run_program

WORD = r"regex=^\s*(\S+)"  # how every reply begins


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model, and an adapter that makes it say something else."""
    folder = tmp_path_factory.mktemp("answers")
    model = write_model(
        folder / "tiny.gguf", openchat_vocabulary(), embedding=64, heads=2, kv_heads=1, blocks=1
    )
    return model, write_random_adapter(folder / "mine.gguf", model, size=0.5)


@pytest.fixture
def ask(
    files: tuple[Path, Path], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Asks rows of questions; what a program is told."""
    model, adapter = files
    home.mkdir()
    installed_adapters().add("mine", adapter)

    def run(rows: list[dict[str, Any]], *options: str) -> dict[str, Any]:
        path = tmp_path / "asked.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        capsys.readouterr()
        status = main(
            ["eval", "answers", str(path), "-m", str(model), "--adapter", "mine", "--match", WORD,
             "--max-tokens", "8", "--context", "512", "--json", *options]
        )  # fmt: skip
        out = capsys.readouterr().out
        assert status == 0
        told: dict[str, Any] = json.loads(out)
        return told

    return run


def kept(home: Path) -> dict[str, int]:
    """How many replies are kept, by file."""
    return {
        path.name: len(path.read_bytes().splitlines())
        for path in (home / "evaluations" / "cache").glob("answers-*.jsonl")
    }


def rows_of(told: dict[str, Any]) -> list[dict[str, Any]]:
    text = (Path(told["folder"]) / "rows.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_who_says_the_right_words_wins_and_nothing_is_asked_twice(
    ask: Callable[..., dict[str, Any]], home: Path
) -> None:
    rows = [{"question": f"Say number {n}!", "answer": "x", "id": f"q{n}"} for n in range(6)]
    first = ask(rows[:2])
    assert sorted(kept(home).values()) == [2, 2]
    told = ask(rows)
    assert sorted(kept(home).values()) == [6, 6]
    assert told["folder"] != first["folder"]

    # What each of them said becomes the right answer.
    said = {
        who: {
            row["id"]: row["contenders"][who]["answer"]
            for row in rows_of(told)
            if normalised(row["contenders"][who]["answer"] or "")
        }
        for who in ("base", "mine")
    }
    differs = [name for name, word in said["mine"].items() if said["base"].get(name) != word]
    assert len(differs) >= 3
    for winner, loser, more in (("mine", "base", "more"), ("base", "mine", "less")):
        right = [row | {"answer": said[winner].get(row["id"], "x")} for row in rows]
        told = ask(right)
        scores = {score["label"]: score for score in told["scores"]}
        assert scores[winner]["right"] >= len(differs)
        assert scores[loser]["right"] <= 6 - len(differs)
        assert f"points {more} right than base" in told["sentences"][0]
    assert sorted(kept(home).values()) == [6, 6]

    page = (Path(told["folder"]) / "report.html").read_text()
    assert "Right with base alone" in page
    made_by = json.loads((Path(told["folder"]) / "made_by.json").read_text())
    assert made_by["settings"]["match"] == WORD
    assert str(home) not in json.dumps(made_by)


def test_samples_of_one_prompt_are_different_and_counted(
    ask: Callable[..., dict[str, Any]], home: Path
) -> None:
    rows = [{"question": "Say something!", "answer": "x"}]
    told = ask(rows, "--samples", "5", "--temperature", "1.5")
    assert sorted(kept(home).values()) == [5, 5]
    [row] = rows_of(told)
    texts = [reply["text"] for reply in row["contenders"]["base"]["replies"]]
    assert len(texts) == 5
    assert len(set(texts)) > 1
    ask(rows, "--samples", "3", "--temperature", "1.5")
    assert sorted(kept(home).values()) == [5, 5]


def test_a_question_longer_than_the_context_is_counted_apart(
    ask: Callable[..., dict[str, Any]],
) -> None:
    told = ask([{"question": "word " * 2000, "answer": "x"}, {"question": "Hi", "answer": "x"}])
    assert (told["questions"], told["unasked"]) == (1, 1)
    assert any("row 1:" in note and "512" in note for note in told["notes"])


def test_ctrl_c_keeps_what_came(
    ask: Callable[..., dict[str, Any]],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    files: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    rows = [{"question": f"Say number {n}!", "answer": "x"} for n in range(6)]
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    show = Bar.show

    def stop_at_three(bar: Bar, done: float, about: str | None = None, **how: Any) -> None:
        show(bar, done, about, **how)
        if done == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Bar, "show", stop_at_three)
        status = main(
            ["eval", "answers", str(path), "-m", str(files[0]), "--adapter", "mine", "--match",
             WORD, "--max-tokens", "8", "--context", "512"]
        )  # fmt: skip
    assert status == 130
    assert "Stopped: 3 of 12 new replies are kept; the same command goes on." in (
        capsys.readouterr().err
    )
    assert list(kept(home).values()) == [3]
    ask(rows)
    assert sorted(kept(home).values()) == [6, 6]


@pytest.mark.parametrize(
    ("row", "options", "said"),
    [
        ('{"question": "a"}', (), "line 1: has no answer"),
        ("", (), "holds no questions"),
        (
            '{"question": "a", "answer": "1"}',
            ("--match", "numbers"),
            "--match numbers is not known",
        ),
        ('{"question": "a", "answer": "1"}', ("--samples", "3"), "--temperature above 0"),
        ('{"question": "a", "answer": "1"}', ("-m", "none.gguf"), "none.gguf"),
        ('{"question": "a", "entry_point": "f"}', (), "nothing is executed here"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(
    tmp_path: Path, row: str, options: tuple[str, ...], said: str
) -> None:
    path = tmp_path / "a b.jsonl"
    path.write_text(row)
    done = run_program("eval", "answers", path, *options)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stdout == ""
