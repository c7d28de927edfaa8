"""Whole ablations of a tiny model in their own processes: killed, stopped, resumed, told."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from openchat_local.finetune.adapter.gguf_file import read_gguf_adapter
from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.choose import choose_backend
from openchat_local.finetune.backends.trainer import OptimizerConfig
from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.evaluation.ablation.folder import AblationFolder
from openchat_local.finetune.evaluation.ablation.lanes import Lane, Lanes, Standing
from openchat_local.finetune.evaluation.ablation.outcome import Outcome, gather
from openchat_local.finetune.evaluation.ablation.planning import Ablation, plan_ablation
from openchat_local.finetune.evaluation.ablation.recipes import (
    BASE,
    C_RLFT,
    EXPERT_ONLY,
    SFT_ALL,
    AblationError,
)
from openchat_local.finetune.run.settings import RunSettings
from openchat_local.models.gguf import read_gguf
from openchat_local.models.template import choose_template
from openchat_local.models.template.vocabulary import Vocabulary
from support.programs import PROGRAM, run_program

BACKEND = "mlx"  # which a process imports in two thirds of torch's time
ROWS = (BASE, EXPERT_ONLY, C_RLFT)
STEPS, PER_STEP = 8, 256


def write(path: Path, count: int, seed: int) -> Path:
    draw = random.Random(seed)
    with path.open("w") as file:
        for number in range(count):
            words = " ".join(draw.choices(["red", "green", "blue", "grey"], k=8))
            for name, answer in (("gpt4", f"Yes: {words}."), ("gpt35", f"well, {words}, I think")):
                if name == "gpt4" and seed == 1 and number % 3:
                    continue
                messages = [
                    {"role": "user", "content": f"Say {seed} {number}: {words}"},
                    {"role": "assistant", "content": answer},
                ]
                file.write(json.dumps({"messages": messages, "class": name}) + "\n")
    return path


@dataclass(frozen=True)
class Files:
    data: Path
    dev: Path
    base: Path

    def planned(self, **changes: Any) -> Ablation:
        base = read_gguf(self.base)
        pattern = RunSettings(
            name="",
            base=self.base,
            data=self.data,
            data_options=DataOptions(validation=self.dev),
            backend=BACKEND,
            lora=LoraConfig(rank=4, alpha=8.0),
            optimizer=OptimizerConfig(learning_rate=5e-3),
            max_length=128,
            steps=STEPS,
            tokens_per_step=PER_STEP,
        )
        template = choose_template(base, Vocabulary.open(self.base), None)
        return plan_ablation(pattern, base, template, **{"rows": ROWS, "seeds": (0, 1)} | changes)

    def begun(self, folder: Path, planned: Ablation) -> AblationFolder:
        found = AblationFolder(folder)
        found.prepare(planned.common, planned.data, planned.template, planned.runs)
        return found


@pytest.fixture(scope="module")
def files(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("data")
    return Files(write(folder / "mixed.jsonl", 30, 1), write(folder / "dev.jsonl", 8, 2), tiny_path)


@dataclass(frozen=True)
class Finished:
    planned: Ablation
    folder: AblationFolder
    told: list[Standing]

    def outcome(self) -> Outcome:
        return gather(self.planned, self.folder, BACKEND)


def run_names(planned: Ablation) -> list[str]:
    return [BASE, *(f"{recipe.name}-seed{seed}" for recipe, seed in planned.runs)]


@pytest.fixture(scope="module")
def whole(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """An ablation that nothing disturbed."""
    planned = files.planned()
    folder = files.begun(tmp_path_factory.mktemp("ablation") / "runs", planned)
    return Finished(planned, folder, list(Lanes(folder, BACKEND, run_names(planned)).standings()))


def everything(folder: AblationFolder, planned: Ablation) -> dict[str, Any]:
    """What was trained and what was measured, to the last bit."""
    found: dict[str, Any] = {}
    for name in run_names(planned):
        rows = folder.losses(name, BACKEND).rows()
        found[name] = {(row["condition"], row["conversation"]): row["nats"] for row in rows}
        if name != BASE:
            weights, _, _ = read_gguf_adapter(folder.adapter(name))
            found[f"{name} adapter"] = {
                layer: (pair.a.tobytes(), pair.b.tobytes()) for layer, pair in weights.items()
            }
    return found


def test_every_row_is_trained_and_measured_and_its_checkpoints_are_gone(whole: Finished) -> None:
    ended = [standing.name for standing in whole.told if standing.done == 1.0]
    assert ended == run_names(whole.planned)
    losses = whole.outcome().losses
    for name in (EXPERT_ONLY, C_RLFT):
        found = losses.difference(name, BASE, 0, 0)
        assert found.value < 0
        assert found.certain
        assert len(found.seeds) == 2
        assert found.seeds[0] != found.seeds[1]
    left = {path.name for path in (whole.folder.path / "c-rlft-seed0").iterdir()}
    assert left == {"run.json", "metrics.jsonl", "adapter.gguf", "lock", f"losses-{BACKEND}.jsonl"}


def test_every_row_reads_as_many_tokens(whole: Finished) -> None:
    budget = STEPS * PER_STEP
    for name in run_names(whole.planned)[1:]:
        steps, tokens = whole.folder.spent(name)
        assert abs(tokens - budget) <= PER_STEP / 2 + PER_STEP * 0.25  # half a step, and its spread
        assert steps >= STEPS
    epochs = {
        name: whole.folder.run(name).settings()["plan"]["epochs"]
        for name in ("expert-only-seed0", "c-rlft-seed0")
    }
    assert epochs["expert-only-seed0"] > 2.5 * epochs["c-rlft-seed0"]


def test_what_is_measured_is_what_the_definition_says(files: Files, whole: Finished) -> None:
    """Loaded anew, one conversation at a time, from the logits."""
    trainer = choose_backend(BACKEND).make(
        read_gguf(files.base), LoraConfig(rank=4, alpha=8.0), OptimizerConfig(),
        seed=3, checkpointing=False, quantised=False,
    )  # fmt: skip
    for name in (BASE, "c-rlft-seed1"):
        if name != BASE:
            trainer.set_lora(read_gguf_adapter(whole.folder.adapter(name))[0])
        rows = whole.folder.losses(name, BACKEND).rows()
        found = {(row["condition"], row["conversation"]): row for row in rows}
        for number, store in enumerate(whole.folder.held_out()):
            for row in list(store)[:3]:
                logits = trainer.logits(np.array(row.ids)).astype(np.float64)
                partition = np.log(np.exp(logits).sum(-1))
                where = np.flatnonzero(row.weights)
                nats = (partition[where - 1] - logits[where - 1, row.ids[where]]).sum()
                kept = found[number, row.class_index]
                assert kept["nats"] == pytest.approx(nats, rel=1e-4)
                assert kept["tokens"] == len(where)


def kill_at(lane: Lane, moment: Callable[[Standing], bool]) -> str:
    """Let the child be killed at a moment; what is said of it."""
    killed = False
    try:
        for standing in lane.standings():
            if not killed and moment(standing):
                killed = True
                assert lane.pid is not None
                lane.stop()  # so that it is not started again
                os.kill(lane.pid, signal.SIGKILL)
    except AblationError as error:
        return str(error)
    return ""


def test_killed_in_training_and_in_measuring_it_ends_with_the_same_figures(
    files: Files, whole: Finished, tmp_path: Path
) -> None:
    planned = files.planned(seeds=(0,))
    folder = files.begun(tmp_path / "runs", planned)
    names = run_names(planned)
    said = kill_at(Lane(folder, BACKEND, names), lambda told: told.step == 5)
    assert "killed by signal 9" in said
    assert "the same command goes on" in said
    first = next(name for name in names if name != BASE)
    assert not folder.is_trained(first)
    kill_at(Lane(folder, BACKEND, names), lambda told: 0.9 < told.done < 1 and told.name == first)
    assert folder.is_trained(first)
    assert 0 < len(folder.losses(first, BACKEND).rows()) < 2 * len(planned.data.held_out)
    trained = folder.adapter(first).stat().st_mtime_ns
    list(Lanes(folder, BACKEND, names, parallel=2).standings())
    assert folder.adapter(first).stat().st_mtime_ns == trained  # not trained again
    assert everything(folder, planned) == everything(whole.folder, planned)


def test_more_seeds_and_rows_add_to_what_is_there(
    files: Files, whole: Finished, tmp_path: Path
) -> None:
    folder = AblationFolder(shutil.copytree(whole.folder.path, tmp_path / "runs"))
    planned = files.planned(rows=(BASE, C_RLFT, SFT_ALL), seeds=(0, 2))
    folder.prepare(planned.common, planned.data, planned.template, planned.runs)
    left = [name for name in run_names(planned) if not folder.is_trained(name)]
    assert left == ["sft-all-seed0", "sft-all-seed2", "c-rlft-seed2"]
    assert folder.losses("c-rlft-seed0", BACKEND).rows()
    fewer = gather(files.planned(rows=(BASE, C_RLFT), seeds=(1,)), folder, BACKEND).losses
    seeds = whole.outcome().losses.loss(C_RLFT, 0, 0).seeds
    assert fewer.loss(C_RLFT, 0, 0).seeds == seeds[1:]


def test_a_folder_of_another_ablation_is_refused(
    files: Files, whole: Finished, tmp_path: Path
) -> None:
    other = files.planned(seeds=(0,))
    longer = replace(other.common, pattern=replace(other.common.pattern, tokens=99))
    with pytest.raises(AblationError, match=r"runs of another ablation.*--out"):
        whole.folder.prepare(longer, other.data, other.template, other.runs)


def test_whoever_stops_listening_leaves_no_process(files: Files, tmp_path: Path) -> None:
    planned = files.planned(seeds=(0,))
    folder = files.begun(tmp_path / "runs", planned)
    before = set(psutil.Process().children())
    events = Lanes(folder, BACKEND, run_names(planned), parallel=2).standings()
    next(events)
    assert set(psutil.Process().children()) - before
    events.close()
    assert set(psutil.Process().children()) <= before


def command(files: Files, *more: str | Path) -> list[str | Path]:
    return [
        "eval", "ablation", files.data, "--val", files.dev, "-m", files.base, "--backend", BACKEND,
        "--steps", str(STEPS), "--tokens-per-step", str(PER_STEP), "--max-length", "128",
        "--rank", "4", "--learning-rate", "5e-3", "--rows", ",".join(ROWS), *more,
    ]  # fmt: skip


def test_ctrl_c_keeps_what_was_done_and_the_same_command_goes_on(
    files: Files, whole: Finished, tmp_path: Path
) -> None:
    out = tmp_path / "my ladder"
    arguments = [*PROGRAM, *map(str, command(files, "--out", out))]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as running:
        folder = AblationFolder(out / "runs")
        while not (folder.path / "base" / f"losses-{BACKEND}.jsonl").exists():
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        _, said = running.communicate()
    assert running.returncode == 130
    assert "Stopped: " in said
    assert "of 2 runs are kept as trained" in said
    assert "The same command goes on from there." in said
    done = run_program(*command(files, "--out", out, "--json"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    losses = whole.outcome().losses
    for row in found["ladder"]:
        expected = losses.loss(row["row"], 0, 0)
        assert row["losses"][0]["seeds"] == [expected.seeds[0]]
    assert (out / "report.html").is_file()
    assert (out / "ladder.md").read_text().startswith("# What classes, conditions and rewards")
