"""Adapters as `peft` reads them: safetensors, Hugging Face's names and row order."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from openchat_local.finetune.adapter.lora import LoraConfig, LoraWeights
from openchat_local.finetune.architectures import ARCHITECTURES, Architecture
from openchat_local.models.errors import AdapterError
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.system.atomic import replacing_folder
from openchat_local.models.system.installing import install_command

_LAYER = re.compile(r"blk\.(\d+)\.(\w+)")


def write_peft(
    folder: Path,
    weights: LoraWeights,
    config: LoraConfig,
    base: GGUFFile,
    source: str | None = None,
) -> None:
    """Write adapter_model.safetensors and adapter_config.json into `folder`, which is replaced
    whole or not at all. `source` is what Hugging Face's programs load the base model from: a
    folder or OWNER/REPOSITORY of the hub; None if that is not known.

    Raises AdapterError for an architecture or a layer that has no Hugging Face name here, or
    without the package safetensors; OSError.
    """
    tensors = _tensors(weights, base)
    try:
        from safetensors.numpy import save_file
    except ImportError:
        raise AdapterError(
            f"Writing PEFT files needs the package safetensors: {install_command('safetensors')}."
        ) from None
    with replacing_folder(folder) as part:
        save_file(tensors, part / "adapter_model.safetensors", metadata={"format": "pt"})
        text = json.dumps(_config(weights, config, base, source), indent=2)
        (part / "adapter_config.json").write_text(text + "\n", encoding="utf-8")


def to_hugging_face_rows(matrix: np.ndarray, heads: int) -> np.ndarray:
    """The rows of a q or k matrix in Hugging Face's order.

    GGUF keeps the two numbers that RoPE turns together next to each other; Hugging Face keeps
    the first of all pairs of a head, then the second of all. `matrix` is (rows, columns),
    `heads` the number of heads among the rows: query heads for q, key/value heads for k.
    """
    rows = matrix.shape[0]
    return matrix.reshape(heads, rows // heads // 2, 2, -1).swapaxes(1, 2).reshape(matrix.shape)


def from_hugging_face_rows(matrix: np.ndarray, heads: int) -> np.ndarray:
    """The inverse of `to_hugging_face_rows`."""
    rows = matrix.shape[0]
    return matrix.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(matrix.shape)


def _architecture(base: GGUFFile) -> Architecture:
    found = ARCHITECTURES.get(base.architecture)
    if found is None:
        raise AdapterError(
            f"Adapters for the architecture {base.architecture!r} cannot be written as PEFT yet, "
            f"only those for {', '.join(map(repr, ARCHITECTURES))}: export it as GGUF."
        )
    return found


def _tensors(weights: LoraWeights, base: GGUFFile) -> dict[str, np.ndarray]:
    architecture = _architecture(base)
    heads = architecture.interleaved_heads(base)
    tensors = {}
    for name, pair in weights.items():
        block, layer = _layer(name, architecture)
        module = f"base_model.model.model.layers.{block}.{architecture.modules[layer]}"
        b = to_hugging_face_rows(pair.b, heads[layer]) if layer in heads else pair.b
        tensors[f"{module}.lora_A.weight"] = np.ascontiguousarray(pair.a, dtype=np.float32)
        tensors[f"{module}.lora_B.weight"] = np.ascontiguousarray(b, dtype=np.float32)
    return tensors


def _config(
    weights: LoraWeights, config: LoraConfig, base: GGUFFile, source: str | None
) -> dict[str, object]:
    architecture = _architecture(base)
    layers = [_layer(name, architecture) for name in weights]
    blocks = sorted({block for block, _ in layers})
    modules = {architecture.modules[layer].rpartition(".")[2] for _, layer in layers}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": source,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rslora,
        "target_modules": sorted(modules),
        "layers_to_transform": blocks if len(blocks) < base.block_count else None,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _layer(name: str, architecture: Architecture) -> tuple[int, str]:
    """The block and the GGUF name of a layer such as "blk.0.attn_q"."""
    match = _LAYER.fullmatch(name)
    if match is None or match[2] not in architecture.linears:
        raise AdapterError(f"The layer {name!r} has no name in PEFT: export the adapter as GGUF.")
    return int(match[1]), match[2]
