"""`eval choice` as it is typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from openchat_local.models.gguf import GGUFFile
from support.adapters import write_random_adapter
from support.programs import PROGRAM, run_here

Write, RowsOf = Callable[..., Path], Callable[..., list[dict[str, Any]]]


@pytest.fixture
def folder(write_rows: Write, random_rows: RowsOf) -> Path:
    """Two sets in a folder with a space in its name."""
    for seed, name in enumerate(("rivers", "stones")):
        path = write_rows(f"my sets/{name}", random_rows(8, seed=seed))
    return path.parent


@pytest.fixture(scope="module")
def adapter(small: GGUFFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_adapter(
        tmp_path_factory.mktemp("adapters") / "mine.gguf", small.path, size=0.2
    )


def kept(home: Path) -> int:
    """How many findings are on disk."""
    files = (home / "evaluations" / "cache").glob("choice-*.jsonl")
    return sum(len(file.read_bytes().splitlines()) for file in files)


def test_a_table_sentences_and_a_folder(
    folder: Path, small: GGUFFile, adapter: Path, tmp_path: Path, home: Path
) -> None:
    flags = ("-m", small.path, "--adapter", adapter)
    out = tmp_path / "out"
    done = run_here("eval", "choice", folder, *flags, "--out", out, COLUMNS="200")
    assert done.returncode == 0, done.stderr
    assert "Right answers, by likelihood of the options (acc)" in done.stdout
    assert "all sets together" in done.stdout
    assert "rivers " in done.stdout
    assert kept(home) == 32
    summary = json.loads((out / "summary.json").read_text())
    both = [(one["set"], one["contender"]) for one in summary["standings"]]
    sets = ("rivers", "stones", "all sets")
    assert both == [(name, label) for name in sets for label in ("base", "mine")]
    base, mine = summary["standings"][-2:]
    assert base["change"] is None
    gained = mine["change"]["won"] - mine["change"]["lost"]
    assert gained == mine["acc"]["right"] - base["acc"]["right"]
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 32
    assert sum(row["correct"] for row in rows if row["model"] == "base") == base["acc"]["right"]
    assert "all sets together" in (out / "report.html").read_text()


def test_the_same_again_and_another_adapter_do_not_measure_the_base_again(
    folder: Path, small: GGUFFile, adapter: Path, home: Path
) -> None:
    command = ("eval", "choice", folder, "-m", small.path, "--json")
    first = run_here(*command)
    assert kept(home) == 16
    again = run_here(*command)
    found = json.loads(again.stdout)
    assert found["standings"] == json.loads(first.stdout)["standings"]
    assert any("at an earlier time" in note for note in found["notes"])
    assert run_here(*command, "--adapter", adapter).returncode == 0
    assert kept(home) == 32


def test_by_answer(folder: Path, small: GGUFFile) -> None:
    done = run_here(
        "eval", "choice", folder / "rivers.jsonl", "-m", small.path, "--by", "answer",
        "--max-tokens", "4", "--limit", "3", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["method"] == {"by": "answer", "max_tokens": 4}
    [standing] = found["standings"]
    assert standing["questions"] == 3
    rows = (Path(found["folder"]) / "rows.jsonl").read_text().splitlines()
    assert all("reply" in json.loads(row) for row in rows)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.jsonl"], "nothing.jsonl cannot be read (No such file or directory)"),
        (["{folder}/empty"], "has no .jsonl or .json file in it"),
        (["{folder}", "--by", "answer", "--plain"], "--plain is for likelihoods"),
        (["-"], "cannot be read"),
        (["agieval"], "openchat-local eval suites pull agieval"),
        (["{folder}", "--limit", "0"], "--limit"),
        (["{folder}", "--out", "{folder}"], "holds something else"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(
    folder: Path, small: GGUFFile, arguments: list[str], said: str
) -> None:
    (folder / "empty").mkdir()
    words = [word.format(folder=folder) for word in arguments]
    done = run_here("eval", "choice", *words, "-m", small.path)
    assert done.returncode in (1, 2)
    assert said in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_keeps_what_was_found(
    write_rows: Write, random_rows: RowsOf, small: GGUFFile, home: Path
) -> None:
    path = write_rows("many", random_rows(200))
    process = subprocess.Popen(
        [*PROGRAM, "eval", "choice", path, "-m", small.path],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while process.poll() is None and kept(home) < 5:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, said
    left = kept(home)
    assert 5 <= left < 200
    assert f"{left} of 200 answers are kept: the same command goes on from there." in said
    assert "Traceback" not in said
    assert run_here("eval", "choice", path, "-m", small.path).returncode == 0
    assert kept(home) == 200
