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
from openchat_local.finetune.backends.trainer import OptimizerConfig
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


def first_loss(run: RunDirectory) -> float:
    return next(record["loss"] for record in run.metrics() if record["kind"] == "validation")


@pytest.mark.parametrize("backend", ["mlx", "torch"])
def test_before_the_first_step_it_is_that_adapter(
    backend: str, small: GGUFFile, parent: Path
) -> None:
    if backend == "torch":
        pytest.importorskip("torch", reason="set up with TORCH=no")
    lora = lora_of(parent, small)
    made = choose_backend(backend, precision="float32").make(
        small, lora, OptimizerConfig(), seed=0, checkpointing=False, quantised=False
    )
    made.set_lora(read_parent(parent, small, lora).weights)
    expected, config, _ = read_gguf_adapter(parent)
    found = made.lora()
    assert found.keys() == expected.keys()
    for name, pair in expected.items():
        np.testing.assert_array_equal(found[name].a, pair.a)
        np.testing.assert_array_equal(found[name].b, pair.b)
    assert (lora.rank, lora.scale, lora.layers) == (4, config.scale, None)
    assert made.state()["steps"] == 0
    assert not any(np.any(value) for key, value in made.state().items() if key[:4] == "mean")


def test_training_goes_on_from_the_adapter_and_says_so(
    run: Callable[..., RunDirectory], small: GGUFFile, parent: Path
) -> None:
    second, told = run(), []
    Job(second, told.append, lambda: False).do()
    # The adapter's own loss, measured as a run measures a trainer that was given its weights.
    base, lora = run("base", start_from=None), lora_of(parent, small)

    def with_weights(*arguments: Any) -> Any:
        from openchat_local.finetune.run.job import new_trainer

        trainer = new_trainer(*arguments)
        trainer.set_lora(read_gguf_adapter(parent)[0])
        return trainer

    Job(base, lambda _: None, lambda: False, with_weights).do()
    assert first_loss(second) == pytest.approx(first_loss(base), abs=1e-4)
    stored = second.settings()["parent"]
    assert stored == {
        "name": "first", "path": str(parent), "sha256": sha256_of(parent), "run": "f00d",
    }  # fmt: skip
    (ready,) = [event for event in told if isinstance(event, Ready)]
    assert "Training began with the adapter first." in ready.notes
    assert lora.targets == ("attn_q", "ffn_up")
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
