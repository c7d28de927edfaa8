"""A run whose memory turns out to be short goes on in smaller pieces, and says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.data.epoch import Layout
from openchat_local.finetune.run.directory import RunDirectory
from openchat_local.finetune.run.plan import Plan
from openchat_local.finetune.run.settings import RunSettings

# What is freed goes back to the system at once, so that the limits below mean something.
ALLOCATOR = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "131072",
}

# The system refuses more than so much beyond what the process has when each stage begins.
# Each run is a fork, so that torch is imported once, and the first has no limit.
SCRIPT = """
import os, resource, sys
import psutil
import openchat_local.finetune.backends.torch.trainer
from openchat_local.finetune.run.directory import RunDirectory
from openchat_local.finetune.run.events import NoticeEvent, Phase, StepEvent
from openchat_local.finetune.run.job import Job
from openchat_local.models.errors import OpenChatError
from pathlib import Path

def leave(megabytes):
    if megabytes:
        limit = psutil.Process().memory_info().vms + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

def tell(event):
    if isinstance(event, Phase) and event.name == "trying the longest batch":
        leave(plan)
    if isinstance(event, StepEvent) and event.step == 1:
        leave(step)
    if isinstance(event, NoticeEvent):
        print(event.text)

for place in sys.argv[1:]:
    fork = os.fork()
    if fork:
        assert os.waitpid(fork, 0)[1] == 0
        continue
    plan, step = map(int, Path(place).name.split("-"))
    try:
        print(Job(RunDirectory.open(Path(place)), tell, lambda: False).do().ending, flush=True)
    except OpenChatError as error:
        print(type(error).__name__, error, flush=True)
    print(flush=True)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long questions and short answers: their memory is the blocks', not the output layer's."""
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    with path.open("w") as file:
        for number in range(600):
            row = {"prompt": f"Say {number}: " + "red green blue " * 36, "completion": "Blue."}
            file.write(json.dumps(row) + "\n")
    return path


def train(
    tmp_path: Path, model: Path, data: Path, *room: tuple[int, int]
) -> list[tuple[str, list[float]]]:
    """What was said and the losses, with each `room`: so many MiB left for planning and after
    a step, 0 for any number."""
    settings = RunSettings(
        name="run", base=model, data=data, backend="torch", precision="float32",
        lora=LoraConfig(rank=4), quantised=False, checkpointing=False, packing=False, steps=2,
        tokens_per_step=40_000, tokens_per_batch=40_000, max_length=160, validations=1,
    )  # fmt: skip
    fields = {"name": "run", "settings": settings.as_json()}
    runs = [RunDirectory.create(tmp_path / f"{plan}-{step}", fields) for plan, step in room]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *(str(run.path) for run in runs)],
        env=os.environ | ALLOCATOR,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout.removesuffix("\n\n").split("\n\n")
    return [
        (text, [r["result"]["loss"] for r in run.metrics() if r["kind"] == "step"])
        for text, run in zip(said, runs, strict=True)
    ]


@pytest.mark.skipif(os.environ.get("TORCH") == "no", reason="set up with TORCH=no")
@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not limit memory so")
def test_batches_are_halved_and_the_losses_stay_the_same(
    tmp_path: Path, tiny_path: Path, data: Path
) -> None:
    free, planned, stepped = train(tmp_path, tiny_path, data, (0, 0), (280, 0), (0, 220))
    said, expected = free
    assert said == "finished"
    said, found = planned
    assert "batches are halved to 20,000 positions" in said
    assert said.endswith("\nfinished")
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    said, found = stepped
    assert "the batch is halved and the step made again" in said
    assert said.endswith("\nfinished")
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_plan_is_halved_down_to_one_row() -> None:
    layout = Layout(4096, 1024, 600, packing=False)
    plan = Plan(layout, 10, 1.0, 10, False, 0, 0)
    sizes = []
    smaller: Plan | None = plan
    while smaller is not None:
        sizes.append(smaller.layout.tokens_per_batch)
        smaller = smaller.halved()
    assert sizes == [1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1]
    packed = replace(plan, layout=replace(layout, packing=True))
    first = packed.halved()
    assert first is not None
    assert first.layout.tokens_per_batch == 600
    assert first.halved() is None
