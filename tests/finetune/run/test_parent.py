"""A run that begins with an adapter: its losses, its weights, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.adapter import read_gguf_adapter
from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.choose import choose_backend
from openchat_local.finetune.backends.trainer import OptimizerConfig, Trainer
from openchat_local.finetune.data.epoch import Layout
from openchat_local.finetune.data.rows import RowStore
from openchat_local.finetune.data.training import PlannedData
from openchat_local.finetune.run.directory import RunDirectory
from openchat_local.finetune.run.events import Ready, ValidationEvent
from openchat_local.finetune.run.job import Job
from openchat_local.finetune.run.parent import lora_of, read_parent
from openchat_local.finetune.run.settings import RunSettings
from openchat_local.models.errors import AdapterError
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.library.hashing import sha256_of
from support.adapters import write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model


def new_trainer(base: GGUFFile, lora: LoraConfig) -> Trainer:
    return choose_backend("mlx", precision="float32").make(
        base, lora, OptimizerConfig(), seed=0, checkpointing=False, quantised=False
    )


@pytest.fixture
def parent(small: GGUFFile, tmp_path: Path) -> Path:
    path = tmp_path / "first" / "adapter.gguf"
    write_random_adapter(path, small.path, targets=("attn_q", "ffn_up"), size=0.2)
    (path.parent / "card.json").write_text('{"run": "f00d"}')
    return path


@pytest.fixture
def run(small: GGUFFile, parent: Path, tmp_path: Path) -> Callable[..., RunDirectory]:
    data = tmp_path / "data.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"Say {i}"},
                      {"role": "assistant", "content": f"{i} " * 20}]}
        for i in range(8)
    ]  # fmt: skip
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def made(name: str = "second", **changes: Any) -> RunDirectory:
        settings = RunSettings(
            **{
                "name": name, "base": small.path, "data": data, "backend": "mlx",
                "precision": "float32", "lora": lora_of(parent, small), "start_from": parent,
                "steps": 1, "max_length": 32, "validations": 1,
                "optimizer": OptimizerConfig(learning_rate=1e-3),
            } | changes
        )  # fmt: skip
        fields = {"name": name, "settings": settings.as_json()}
        return RunDirectory.create(tmp_path / name, fields)

    return made


def own_loss(run: RunDirectory, base: GGUFFile, adapter: Path) -> float:
    """That of an adapter on the held-out rows of the run, by a trainer of its own."""
    weights, config, _ = read_gguf_adapter(adapter)
    trainer = new_trainer(base, config)
    trainer.set_lora(weights)
    rows = (RowStore(run.path / "data" / name) for name in ("train", "validation"))
    held_out = PlannedData(*rows, Layout(256, 256, 32, packing=False), seed=0).validation()
    sums = [one for build in held_out for one in trainer.evaluate(build()).values()]
    return sum(one.weighted_loss for one in sums) / sum(one.weight for one in sums)


def first_loss(run: RunDirectory) -> float:
    return next(record["loss"] for record in run.metrics() if record["kind"] == "validation")


def test_training_goes_on_from_the_adapter_and_says_so(
    run: Callable[..., RunDirectory], small: GGUFFile, parent: Path
) -> None:
    second, told = run(), []
    Job(second, told.append, lambda: False).do()
    assert first_loss(second) == pytest.approx(own_loss(second, small, parent), abs=1e-4)
    stored = second.settings()["parent"]
    assert stored == {
        "name": "first", "path": str(parent), "sha256": sha256_of(parent), "run": "f00d",
    }  # fmt: skip
    (ready,) = [event for event in told if isinstance(event, Ready)]
    assert "Training began with the adapter first." in ready.notes
    # A resumed run has all of it in its checkpoint.
    parent.unlink()
    again: list[Any] = []
    Job(second, again.append, lambda: False).do()
    (ready,) = [event for event in again if isinstance(event, Ready)]
    assert "Training began with the adapter first." in ready.notes
    assert not any(isinstance(event, ValidationEvent) for event in again)
    assert second.settings()["parent"] == stored


def test_another_scale_changes_nothing_and_what_it_lacks_begins_anew(
    small: GGUFFile, parent: Path
) -> None:
    other = LoraConfig(rank=4, alpha=2.0, targets=("attn_q", "attn_v", "ffn_up"))
    weights, config, _ = read_gguf_adapter(parent)
    found = read_parent(parent, small, other).weights
    for name, pair in weights.items():
        delta = config.scale * pair.b @ pair.a
        np.testing.assert_allclose(other.scale * found[name].b @ found[name].a, delta, rtol=1e-5)
    new = found.keys() - weights.keys()
    assert {name.rpartition(".")[2] for name in new} == {"attn_v"}
    assert all(np.any(found[name].a) and not np.any(found[name].b) for name in new)


def test_an_adapter_that_cannot_be_gone_on_from_is_refused(
    small: GGUFFile, parent: Path, tmp_path: Path
) -> None:
    with pytest.raises(AdapterError, match=r"first has rank 4.*leave out --rank"):
        read_parent(parent, small, LoraConfig(rank=8))
    other = write_model(
        tmp_path / "other.gguf", openchat_vocabulary(), blocks=1, embedding=32, heads=2,
        kv_heads=1, feed_forward=64,
    )  # fmt: skip
    foreign = write_random_adapter(tmp_path / "foreign.gguf", other)
    with pytest.raises(AdapterError, match="foreign was trained on starter, not on"):
        lora_of(foreign, small)
