"""A run takes nothing with it that it did not make."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.run.beginning import begin_run, drop_replaced
from openchat_local.finetune.run.checkpoints import Checkpoint, Progress
from openchat_local.finetune.run.directory import RunDirectory, RunError
from openchat_local.finetune.run.ownership import TOP


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def settings(name: str = "mine") -> dict[str, Any]:
    return {"name": name, "settings": {}}


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(Progress(step=step), {"adapter": np.full(3, step, np.float32)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Somebody's folder, with files whose names are near to those of a run."""
    folder = tmp_path / "mine"
    for name in ("thesis.txt", "run.json.txt", "steps/step-000001/state.npz", "notes/run.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def old(tmp_path: Path) -> RunDirectory:
    """A run of before, with a note beside one of its checkpoints."""
    run = begin_run(tmp_path / "run", settings("old")).run
    run.checkpoints.save(checkpoint(7))
    run.checkpoints.save(checkpoint(3), "best")
    run.add_metrics({"step": 1})
    (run.path / "checkpoints" / "step-000007" / "note.txt").write_text("the good one")
    (run.path / "adapter").mkdir()
    (run.path / "adapter" / "adapter_config.json").write_text("{}")
    return run


def test_what_comes_of_nothing_leaves_the_folder_as_it_was(folder: Path) -> None:
    before = hashes(folder)
    new = begin_run(folder, settings())
    new.run.checkpoints.save(checkpoint(1))
    (folder / "data" / "train").mkdir(parents=True)
    (folder / "data" / "train" / "ids.int32").write_bytes(b"1234")
    new.discard()
    assert hashes(folder) == before
    assert not (folder / "data").exists()
    assert not (folder / "checkpoints").exists()


def test_folders_that_were_made_go_too_and_no_others(tmp_path: Path) -> None:
    begin_run(tmp_path / "a" / "b", settings()).discard()
    assert not (tmp_path / "a").exists()
    (tmp_path / "c").mkdir()
    begin_run(tmp_path / "c", settings()).discard()
    assert (tmp_path / "c").is_dir()


@pytest.mark.parametrize("name", [n for n in TOP if n not in ("lock", "run.json")])
def test_no_run_begins_where_one_of_its_names_is_taken(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "mine"
    (folder / name if "." in name else folder / name / "mine").parent.mkdir(parents=True)
    (folder / name if "." in name else folder / name / "mine").write_text("mine")
    before = hashes(folder)
    for replace in (False, True):
        with pytest.raises(RunError, match=name.replace(".", r"\.")):
            begin_run(folder, settings(), replace=replace)
        assert hashes(folder) == before


def test_another_run_is_refused_and_replaced_only_if_that_is_said(old: RunDirectory) -> None:
    before = hashes(old.path)
    with pytest.raises(RunError, match="--replace"):
        begin_run(old.path, settings())
    assert hashes(old.path) == before


def test_what_was_to_be_replaced_comes_back_when_nothing_comes_of_the_new_one(
    old: RunDirectory,
) -> None:
    before = hashes(old.path)
    new = begin_run(old.path, settings("new"), replace=True)
    assert new.run.settings()["name"] == "new"
    new.run.checkpoints.save(checkpoint(0))
    new.discard()
    assert hashes(old.path) == before | {"lock": hashlib.sha256(b"").hexdigest()}
    latest = old.checkpoints.latest()
    assert latest is not None
    assert latest.progress.step == 7


def test_what_is_replaced_goes_when_the_new_one_stands_but_for_what_is_not_its_own(
    old: RunDirectory,
) -> None:
    new = begin_run(old.path, settings("new"), replace=True)
    assert new.replaced is not None
    assert (new.replaced / "run.json").is_file()
    new.run.checkpoints.save(checkpoint(1))
    drop_replaced(new.run)
    assert not new.replaced.exists()
    note = old.path / "checkpoints" / "step-000007" / "note.txt"
    assert note.read_text() == "the good one"
    assert set(hashes(old.path)) == {
        "run.json", "lock", "checkpoints/step-000007/note.txt",
        "checkpoints/step-000001/state.npz", "checkpoints/step-000001/progress.json",
    }  # fmt: skip


def test_replacing_twice_keeps_both_until_the_last_one_stands(old: RunDirectory) -> None:
    first = begin_run(old.path, settings("first"), replace=True)
    first.run.checkpoints.save(checkpoint(4))  # and killed
    second = begin_run(old.path, settings("second"), replace=True)
    assert {path.name for path in old.path.glob("replaced-*")} == set(
        second.run.settings()["replaces"]
    )
    assert len(second.run.settings()["replaces"]) == 2
    drop_replaced(second.run)
    assert not list(old.path.glob("replaced-*"))


def test_a_run_that_is_being_trained_is_not_replaced(old: RunDirectory) -> None:
    with old.held():
        before = hashes(old.path)
        with pytest.raises(RunError, match="Another process is training"):
            begin_run(old.path, settings("new"), replace=True)
        assert hashes(old.path) == before


def test_another_programs_run_json_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"scripts": []}')
    with pytest.raises(RunError, match="not that of a run"):
        begin_run(tmp_path, settings(), replace=True)
    assert (tmp_path / "run.json").read_text() == '{"scripts": []}'


def test_a_note_beside_a_checkpoint_outlives_it(old: RunDirectory) -> None:
    for step in range(8, 12):
        old.checkpoints.save(checkpoint(step))
    names = sorted(path.name for path in old.checkpoints.folder.iterdir())
    assert names == ["best", "step-000007", "step-000010", "step-000011"]
    assert (old.checkpoints.folder / "step-000007" / "note.txt").is_file()


def test_a_note_in_the_best_checkpoint_stays_where_it_is(old: RunDirectory) -> None:
    note = old.checkpoints.folder / "best" / "note.txt"
    note.write_text("mine")
    for step in (8, 9):
        old.checkpoints.save(checkpoint(step), "best")
        assert note.read_text() == "mine"
    best = old.checkpoints.load("best")
    assert best is not None
    assert best.progress.step == 9
