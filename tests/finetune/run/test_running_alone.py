"""One process trains a run: a second one is refused, and an orphan ends at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.run import directory
from openchat_local.finetune.run.directory import RunDirectory, RunError
from openchat_local.finetune.run.settings import RunSettings

HOLDER = """
import sys
from pathlib import Path
from openchat_local.finetune.run.directory import RunDirectory
with RunDirectory.open(Path(sys.argv[1])).held():
    print("held", flush=True)
    sys.stdin.read()
"""

PARENT = """
import sys
from pathlib import Path
from openchat_local.finetune.run.directory import RunDirectory
from openchat_local.finetune.run.events import StepEvent
from openchat_local.finetune.run.supervisor import Training
training = Training(RunDirectory.open(Path(sys.argv[1])))
for event in training.events():
    if isinstance(event, StepEvent):
        print(training.pid, flush=True)
"""


@pytest.fixture
def run(tmp_path: Path, tiny_path: Path) -> RunDirectory:
    """A run of steps without end."""
    data = tmp_path / "data.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"Say {i}"},
                      {"role": "assistant", "content": f"{i} " * 20}]}
        for i in range(20)
    ]  # fmt: skip
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = RunSettings(
        name="run", base=tiny_path, data=data, lora=LoraConfig(rank=4), steps=100_000,
        tokens_per_step=64, max_length=64, validations=10,
    )  # fmt: skip
    fields = {"name": "run", "settings": settings.as_json()}
    return RunDirectory.create(tmp_path / "run", fields)


def test_a_second_process_is_refused_while_the_first_is_there(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "HOLD_SECONDS", 0.2)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="Another process is training"), run.held():
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with run.held():  # whoever is dead holds nothing
            pass


def test_a_worker_ends_with_its_parent_and_leaves_the_run_to_the_next(run: RunDirectory) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(run.path)], stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 60
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the orphan goes on"
        time.sleep(0.05)
    with run.held():
        steps = [record["step"] for record in run.metrics() if record["kind"] == "step"]
    assert steps == list(range(1, len(steps) + 1))
    assert run.checkpoints.latest() is not None
