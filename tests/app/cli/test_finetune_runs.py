"""`finetune runs`, and what `adapters remove` takes along: a run's own files, and no others."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from openchat_local.finetune.data.batches import Row
from openchat_local.finetune.data.rows import RowWriter
from openchat_local.finetune.run.checkpoints import Checkpoint, Progress
from openchat_local.finetune.run.directory import RunDirectory, RunError
from openchat_local.finetune.run.known import noted_place, remove_run, run_of
from openchat_local.models.library.adapters import AdapterLibrary
from support.adapters import write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model
from support.programs import run_here


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What training has made of a tiny model."""
    folder = tmp_path_factory.mktemp("trained")
    base = write_model(
        folder / "base.gguf", openchat_vocabulary(), blocks=1, embedding=32, heads=2, kv_heads=1,
        feed_forward=64,
    )  # fmt: skip
    return write_random_adapter(folder / "adapter.gguf", base)


def finished_run(path: Path, trained: Path, name: str = "mine", **fields: object) -> RunDirectory:
    """All that a run leaves in its folder."""
    settings = {"name": name, "base": "/models/base.gguf", "data": "/data/mydata.jsonl"}
    run = RunDirectory.create(
        path, {"name": name, "settings": settings, "begun": 1.7e9, "base": {"name": "a base"}}
    )
    run.checkpoints.save(Checkpoint(Progress(3), {"a": np.zeros(3)}))
    run.checkpoints.save(Checkpoint(Progress(2), {"a": np.zeros(3)}), "best")
    run.add_metrics({"kind": "step", "step": 1})
    with RowWriter(path / "data" / "train") as rows:
        rows.append(Row(np.array([1, 2], np.int32), np.array([0, 1], np.float32), 0, 1))
    with run.held():
        (path / "adapter").mkdir()
        (path / "adapter" / "adapter_config.json").write_text("{}")
        (path / "adapter.gguf").write_bytes(trained.read_bytes())
        (path / "report.html").write_text("<html>")
    run.write_settings(run.settings() | {"outcome": {"ending": "finished"}} | fields)
    return run


def install(home: Path, run: RunDirectory, name: str = "mine") -> AdapterLibrary:
    library = AdapterLibrary(home / "adapters")
    facts = {"settings": {}, "run_folder": noted_place(run.path, home)}
    library.add(name, run.path / "adapter.gguf", facts=facts)
    return library


def test_runs_are_listed_with_model_time_size_and_state(home: Path, trained: Path) -> None:
    assert run_here("finetune", "runs").stderr == "There is no training run.\n"
    done = finished_run(home / "runs" / "mine", trained)
    stopped = finished_run(home / "runs" / "begun", trained, "begun", outcome=None)
    finished_run(home / "runs" / "cut", trained, "cut", outcome={"ending": "interrupted"})
    busy = finished_run(home / "runs" / "busy", trained, "busy", outcome=None)
    (home / "runs" / "bad").mkdir()
    (home / "runs" / "bad" / "run.json").write_text("[]")
    install(home, finished_run(home.parent / "elsewhere", trained, "far"), "far")
    with busy.held():
        rows = [
            json.loads(line) for line in run_here("finetune", "runs", "--json").stdout.splitlines()
        ]
        shown = run_here("finetune", "runs").stdout
    states = {row["name"]: row["state"] for row in rows}
    assert states == {
        "mine": "finished", "begun": "stopped", "busy": "training", "far": "finished",
        "bad": "damaged", "cut": "stopped",
    }  # fmt: skip
    mine = next(row for row in rows if row["name"] == "mine")
    files = [file for file in done.path.rglob("*") if file.is_file()]
    assert mine["bytes"] == sum(file.stat().st_size for file in files)
    assert (mine["model"], mine["path"]) == ("a base", str(done.path))
    assert any(line.startswith("begun  2023-11-1") for line in shown.splitlines()), shown
    assert stopped.settings()["outcome"] is None


def test_an_adapter_takes_its_run_along_and_nothing_of_the_users(home: Path, trained: Path) -> None:
    folder = home.parent / "thesis"
    folder.mkdir()
    own = {
        folder / "thesis.txt": "years of work",
        folder / "data" / "mine.csv": "1,2",
        folder / "checkpoints" / "step-000003" / "notes.txt": "good",
        folder / "checkpoints" / "other" / "state.npz": "another program's",
    }
    run = finished_run(folder, trained)
    for path, text in own.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (folder / "empty").mkdir()
    library = install(home, run)
    refused = run_here("adapters", "remove", "mine", stdin="n\n")
    assert refused.returncode == 1
    assert f"mine and its training run in {folder}" in refused.stderr
    assert library.names() == ["mine"]
    done = run_here("adapters", "remove", "mine", "--yes")
    assert done.returncode == 0, done.stderr
    assert library.names() == []
    left = {path: path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert left == own
    assert (folder / "empty").is_dir()
    assert not (folder / "adapter").exists()
    assert "thesis.txt" in done.stdout


def test_a_run_in_the_home_goes_whole_unless_it_is_kept(home: Path, trained: Path) -> None:
    run = finished_run(home / "runs" / "mine", trained)
    library = install(home, run)
    assert run_here("adapters", "remove", "mine", "-y", "--keep-run").returncode == 0
    assert (run.path / "adapter.gguf").is_file()
    library.add("mine", trained, facts={"settings": {}})  # as it was noted in earlier versions
    assert run_here("adapters", "remove", "mine", "-y").returncode == 0
    assert not run.path.exists()


@pytest.mark.parametrize("reason", ["another name", "another adapter", "not trained", "no run"])
def test_a_folder_that_cannot_be_proven_to_be_its_run_stays(
    home: Path, trained: Path, reason: str
) -> None:
    run = finished_run(
        home / "runs" / "mine", trained, "yours" if reason == "another name" else "mine"
    )
    library = install(home, run)
    if reason == "another adapter":
        with (run.path / "adapter.gguf").open("r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"\1\2\3\4")
    elif reason == "not trained":
        library.add("mine", trained, replace=True)
    elif reason == "no run":
        (run.path / "run.json").unlink()
    assert run_of(library.info("mine"), home) is None
    if reason == "another adapter":  # the command asks just that
        before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
        assert run_here("adapters", "remove", "mine", "-y").returncode == 0
        assert library.names() == []
        after = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
        assert after == before


@pytest.mark.parametrize("text", ['{"name": "another program\'s"}', "[]", "{"])
def test_another_programs_run_json_is_no_run(text: str, tmp_path: Path) -> None:
    for name in ("run.json", "metrics.jsonl", "report.html"):
        (tmp_path / name).write_text(text)
    with pytest.raises(RunError, match="by hand"):
        remove_run(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_what_is_being_trained_is_not_removed(home: Path, trained: Path) -> None:
    run = finished_run(home / "runs" / "mine", trained)
    library = install(home, run)
    with run.held():
        for command in (("adapters", "remove", "mine"), ("finetune", "runs", "--remove", "mine")):
            done = run_here(*command, "-y")
            assert done.returncode == 1
            assert "stop that one first" in done.stderr
    assert library.names() == ["mine"]
    assert (run.path / "run.json").is_file()


def test_a_run_is_removed_by_itself(home: Path, trained: Path) -> None:
    run = finished_run(home / "runs" / "mine", trained, outcome=None)
    size = sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file())
    refused = run_here("finetune", "runs", "--remove", "mine", stdin="n\n")
    assert (refused.returncode, run.path.exists()) == (1, True)
    freed, left = remove_run(run.path)
    assert (freed, left) == (size, [])
    assert not run.path.exists()
    unknown = run_here("finetune", "runs", "--remove", "mine", "-y")
    assert unknown.returncode == 1
    assert "no run in" in unknown.stderr
