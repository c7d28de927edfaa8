"""A run's directory survives being killed at any moment."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from openchat_local.finetune.run.checkpoints import Checkpoint, Progress
from openchat_local.finetune.run.directory import RunDirectory, RunError


def checkpoint(step: int, size: int = 10) -> Checkpoint:
    state = {"adapter/blk.0.attn_q.a": np.full(size, step, np.float32), "rng": np.arange(4)}
    return Checkpoint(Progress(step=step, epoch=1, position=step % 7, best_loss=0.5), state)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", {"seed": 1})


def test_a_checkpoint_comes_back_as_it_was(run: RunDirectory) -> None:
    run.checkpoints.save(checkpoint(3))
    found = RunDirectory.open(run.path).checkpoints.latest()
    assert found is not None
    assert found.progress == checkpoint(3).progress
    assert set(found.state) == set(checkpoint(3).state)
    for name, value in checkpoint(3).state.items():
        np.testing.assert_array_equal(found.state[name], value)


def test_only_the_newest_checkpoints_and_named_ones_stay(run: RunDirectory) -> None:
    run.checkpoints.save(checkpoint(1), "best")
    for step in range(1, 6):
        run.checkpoints.save(checkpoint(step))
    names = sorted(path.name for path in run.checkpoints.folder.iterdir())
    assert names == ["best", "step-000004", "step-000005"]
    best = run.checkpoints.load("best")
    assert best is not None
    assert best.progress.step == 1


@pytest.mark.parametrize("damage", ["state.npz", "progress.json"])
def test_a_damaged_checkpoint_is_passed_over(run: RunDirectory, damage: str) -> None:
    run.checkpoints.save(checkpoint(1))
    file = run.checkpoints.save(checkpoint(2)) / damage
    file.write_bytes(file.read_bytes()[:20])
    latest = run.checkpoints.latest()
    assert latest is not None
    assert latest.progress.step == 1


def test_metrics_written_after_a_checkpoint_can_be_cut(run: RunDirectory) -> None:
    length = run.add_metrics({"step": 1, "loss": 2.0})
    run.add_metrics({"step": 2, "loss": 1.5})
    run.cut_metrics(length)
    run.add_metrics({"step": 2, "loss": 1.6})
    assert [record["loss"] for record in run.metrics()] == [2.0, 1.6]


def test_a_line_cut_by_a_kill_is_left_out(run: RunDirectory) -> None:
    run.add_metrics({"step": 1})
    with run.metrics_path.open("ab") as file:
        file.write(b'{"step": 2, "lo')
    assert [record["step"] for record in run.metrics()] == [1]


def test_a_second_run_is_not_written_over_the_first(run: RunDirectory) -> None:
    with pytest.raises(RunError, match="--resume"):
        RunDirectory.create(run.path, {"seed": 2})
    assert run.settings()["seed"] == 1


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run\.json"):
        RunDirectory.open(tmp_path)


WRITER = """
import sys
from pathlib import Path
import numpy as np
from openchat_local.finetune.run.checkpoints import Checkpoint, Progress
from openchat_local.finetune.run.directory import RunDirectory
run = RunDirectory(Path(sys.argv[1]))
for step in range(1, 100000):
    value = np.full(20000, step, np.float32)
    run.checkpoints.save(Checkpoint(Progress(step=step), {"value": value}))
    run.checkpoints.save(Checkpoint(Progress(step=step), {"value": value}), "best")
    run.write_settings({"step": step})
    print(step, flush=True)
"""


def test_killed_while_writing_whatever_has_a_name_is_whole(run: RunDirectory) -> None:
    for delay in (0.0, 0.003, 0.007, 0.011, 0.016, 0.02):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(run.path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
        writer.wait()
        writer.stdout.close()
        said = int(rest[-1]) if rest else 1
        for found in (run.checkpoints.latest(), run.checkpoints.load("best")):
            assert found is not None
            assert found.progress.step >= said
            np.testing.assert_array_equal(
                found.state["value"], np.full(20000, found.progress.step, np.float32)
            )
        assert run.settings()["step"] >= said
