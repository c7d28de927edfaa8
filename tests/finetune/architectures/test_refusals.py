"""What only looks like something that can be trained is refused by name, before it is read."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.adapter.lora import LoraConfig, LoraError, lora_shapes
from openchat_local.finetune.architectures import ARCHITECTURES, architecture_of
from openchat_local.finetune.backends.mlx.trainer import MLXTrainer
from openchat_local.finetune.backends.model_file import TensorReader
from openchat_local.finetune.backends.shape import read_shape
from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import read_gguf
from support.architectures import WIDTH, Setting, write_tiny
from support.openchat_gguf import byte_vocabulary, write_model

_BIAS = np.ones(WIDTH, np.float32)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("llama", {"settings": {"expert_count": 8}}, "is a mixture of experts"),
        ("qwen2", {"settings": {"expert_used_count": 2}}, "is a mixture of experts"),
        ("llama", {"settings": {"attention.clamp_kqv": 8.0}}, "clips queries, keys and values"),
        ("llama", {"settings": {"attention.q_lora_rank": 8}}, "compressed"),
        ("llama", {"settings": {"attention.causal": False}}, "embeddings, not text"),
        ("qwen3", {"settings": {"pooling_type": 3}}, "embeddings, not text"),
        ("llama", {"settings": {"logit_scale": 0.5}}, "the setting 'llama.logit_scale'"),
        ("qwen3", {"settings": {"ssm.state_size": 16}}, "a state in place of attention"),
        ("llama", {"settings": {"rope.dimension_count": 8}}, "only a part of each head"),
        ("qwen2", {"settings": {"attention.value_length": 8}}, "heads that differ"),
        ("llama", {"settings": {"rope.scaling.type": "longrope"}}, "RoPE scaling 'longrope'"),
        ("granite", {"settings": {"rope.scaling.finetuned": False}}, "NoPE"),
        ("gemma3", {"settings": {"final_logit_softcapping": 30.0}}, "gemma3.final_logit_softcap"),
    ],
    ids=lambda value: next(iter(value["settings"])) if isinstance(value, dict) else None,
)
def test_settings_that_change_the_arithmetic(
    name: str, change: dict[str, Any], told: str, tmp_path: Path
) -> None:
    file = read_gguf(write_tiny(tmp_path / "other.gguf", name, **change))
    with pytest.raises(ModelFileError, match=f"{told}.*choose a model of.*Qwen3, Phi-3"):
        read_shape(TensorReader(file))


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("llama", "blk.0.attn_q.bias"),
        ("qwen2", "blk.1.attn_output.bias"),
        ("qwen3", "blk.0.attn_sinks.weight"),
        ("phi3", "output.bias"),
        ("llama", "blk.2.ffn_norm.weight"),  # of two blocks
        ("granite", "rope_factors_long.weight"),
        ("gemma2", "output.weight"),  # which llama.cpp takes from the embedding
    ],
)
def test_tensors_that_no_model_of_the_architecture_has(
    name: str, tensor: str, tmp_path: Path
) -> None:
    file = read_gguf(write_tiny(tmp_path / "other.gguf", name, extra={tensor: _BIAS}))
    with pytest.raises(
        ModelFileError, match=f"'{tensor}' that no {ARCHITECTURES[name].families[0]}"
    ):
        read_shape(TensorReader(file))


@pytest.mark.parametrize(
    "settings",
    [
        {"rope.freq_base": -1.0},
        {"rope.freq_base": math.nan},
        {"rope.freq_base": "fast"},
        {"rope.dimension_count": 10**6},
        {"rope.scaling.factor": -2.0},
        {"rope.scaling.type": "yarn", "rope.scaling.factor": 0.0},
        {"rope.scaling.type": "yarn", "rope.scaling.yarn_beta_fast": math.inf},
        {"rope.scaling.attn_factor": -1.0},
        {"attention.layer_norm_rms_epsilon": "small"},
    ],
    ids=lambda settings: " ".join(f"{key}={value}" for key, value in settings.items()),
)
def test_settings_that_mean_nothing(settings: dict[str, Any], tmp_path: Path) -> None:
    file = read_gguf(write_tiny(tmp_path / "odd.gguf", "qwen2", settings=settings))
    with pytest.raises(ModelFileError, match="so it cannot be fine-tuned"):
        read_shape(TensorReader(file))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_settings_that_say_nothing_are_passed_over(name: str, tmp_path: Path) -> None:
    neutral: dict[str, Setting] = {
        "expert_count": 0,
        "attention.clamp_kqv": 0.0,
        "use_parallel_residual": False,
        "rope.scaling.type": "none",
    }
    file = read_gguf(write_tiny(tmp_path / "plain.gguf", name, settings=neutral))
    assert read_shape(TensorReader(file)).architecture is ARCHITECTURES[name]


def test_the_text_part_of_a_model_that_sees_pictures_is_trained(tmp_path: Path) -> None:
    seeing = {"vision.block_count": 27, "mm.tokens_per_image": 256}
    file = read_gguf(write_tiny(tmp_path / "seeing.gguf", "gemma3", settings=seeing))
    *_, note = MLXTrainer(file, LoraConfig(rank=1)).describe()["notes"]
    assert "picture encoder (mmproj) stays as it is" in note
    other = read_gguf(write_tiny(tmp_path / "other.gguf", "gemma2", settings=seeing))
    with pytest.raises(ModelFileError, match="sees pictures"):
        architecture_of(other)


def test_a_gemma_3_that_does_not_tell_its_window_is_refused(tmp_path: Path) -> None:
    file = read_gguf(write_tiny(tmp_path / "plain.gguf", "gemma3"))
    metadata = dict(file.metadata)
    del metadata["gemma3.attention.sliding_window"]
    with pytest.raises(ModelFileError, match=r"no usable 'gemma3.attention.sliding_window'"):
        read_shape(TensorReader(replace(file, metadata=metadata)))


def test_other_architectures_are_named_with_what_can_be_trained(tmp_path: Path) -> None:
    path = write_model(tmp_path / "gptoss.gguf", byte_vocabulary(), architecture="gpt-oss")
    with pytest.raises(ModelFileError, match=r"'gpt-oss'.*Llama.*Qwen2\.5.*Qwen3.*Phi-4.*Granite"):
        architecture_of(read_gguf(path))


def test_a_llamas_layers_are_those_that_hold_them_elsewhere(tmp_path: Path) -> None:
    file = read_gguf(write_tiny(tmp_path / "phi3.gguf", "phi3"))
    some = lora_shapes(file, LoraConfig(targets=("attn_v", "attn_q", "ffn_gate"), layers=1))
    assert some == {"blk.1.attn_qkv": (128, WIDTH), "blk.1.ffn_up": (192, WIDTH)}
    with pytest.raises(LoraError, match="lm_head cannot be adapted: choose from attn_qkv, attn_o"):
        lora_shapes(file, LoraConfig(targets=("lm_head",)))
