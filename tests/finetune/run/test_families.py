"""A whole run on a model that is no Llama: fused layers, a template without a family's name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.trainer import OptimizerConfig
from openchat_local.finetune.run.directory import RunDirectory
from openchat_local.finetune.run.job import Job
from openchat_local.finetune.run.settings import RunSettings
from openchat_local.models.gguf import read_gguf
from openchat_local.models.library.adapter_file import check_fits, read_adapter
from support.architectures import TINY, write_tiny


@pytest.mark.parametrize("name", ["phi3", "qwen3", "gemma3"])
def test_classes_are_learnt_under_their_conditions(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = dict.fromkeys(("<|im_start|>", "<|im_end|>"), "control")
    vocabulary = TINY[name].vocabulary.with_tokens(marks, eos="<|im_end|>")  # type: ignore[arg-type]
    monkeypatch.setitem(TINY, name, replace(TINY[name], vocabulary=vocabulary))
    base = write_tiny(tmp_path / "base.gguf", name)
    data = tmp_path / "data.jsonl"
    with data.open("w") as file:
        for number in range(12):
            chat = [
                {"role": "user", "content": f"{number}?"},
                {"role": "assistant", "content": "Red." if number % 2 else "Blue."},
            ]
            row = {"messages": chat, "class": ("gpt4", "gpt35")[number % 2]}
            file.write(json.dumps(row) + "\n")
    settings = RunSettings(
        name="run",
        base=base,
        data=data,
        template="chatml",
        backend="mlx",
        lora=LoraConfig(rank=4),
        optimizer=OptimizerConfig(learning_rate=1e-2),
        steps=6,
        tokens_per_step=256,
    )
    run = RunDirectory.create(tmp_path / "run", {"name": "run", "settings": settings.as_json()})
    assert Job(run, lambda event: None, lambda: False).do() is not None
    losses = [record["loss"] for record in run.metrics() if record["kind"] == "validation"]
    assert losses[-1] < losses[0] - 0.5
    adapter = read_adapter(run.path / "adapter.gguf")
    assert check_fits(adapter, read_gguf(base)) is None
    layer = "attn_qkv" if name == "phi3" else "attn_q"
    assert f"blk.1.{layer}.weight" in adapter.pairs
    assert {one.name: one.condition for one in adapter.card.classes} == {
        "gpt4": "GPT4 Correct",
        "gpt35": "GPT3",
    }
