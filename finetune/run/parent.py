"""A run that begins with the weights of another adapter instead of the base as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from openchat_local.finetune.adapter.gguf_file import read_gguf_adapter
from openchat_local.finetune.adapter.lora import (
    LoraConfig,
    LoraPair,
    LoraWeights,
    initial_lora,
    lora_shapes,
)
from openchat_local.models.errors import AdapterError
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.library.adapter_file import (
    adapter_name,
    check_fits,
    is_base,
    read_adapter,
)
from openchat_local.models.library.hashing import sha256_of

PARENT = "parent"  # in run.json and in an adapter's facts: what training began with


@dataclass(frozen=True, slots=True)
class Parent:
    """The `weights` that training begins with, and the `facts` on where they are from: the
    adapter's name, path, SHA-256, and the id of the run that made it, None if unknown."""

    weights: LoraWeights
    facts: Mapping[str, Any]


def lora_of(path: Path, base: GGUFFile, dropout: float = 0.0) -> LoraConfig:
    """The settings with which training goes on from the adapter at `path`: rank, scale and layers
    are its own.

    Raises AdapterError where it was made for another model, or cannot be trained further.
    """
    weights, config = _read(path, base)
    blocks = [int(name.split(".")[1]) for name in weights if name.startswith("blk.")]
    first = min(blocks, default=0)
    layers = None if first == 0 else base.block_count - first
    return replace(config, dropout=dropout, layers=layers)


def read_parent(path: Path, base: GGUFFile, lora: LoraConfig) -> Parent:
    """The adapter at `path` as the beginning of a run with the settings `lora`.

    What it adds to the base stays the same: another scale goes into B, and a layer that it
    does not have begins as in a new adapter. Raises AdapterError where it was made for
    another model, or has a layer or a rank that the settings have not.
    """
    weights, config = _read(path, base)
    shapes = lora_shapes(base, lora)
    if config.rank != lora.rank or weights.keys() - shapes.keys():
        raise AdapterError(
            f"The adapter {adapter_name(path)} has rank {config.rank} and changes "
            f"{', '.join(config.targets)}, which are not the settings of this run: leave out "
            "--rank, --targets and --layers."
        )
    factor = np.float32(config.scale / lora.scale)
    scaled = {
        name: pair if factor == 1 else LoraPair(pair.a, pair.b * factor)
        for name, pair in weights.items()
    }
    begun = initial_lora(shapes, lora, 0)
    facts = {
        "name": adapter_name(path),
        "path": str(path),
        "sha256": sha256_of(path),
        "run": _run_id(path),
    }
    return Parent({name: scaled.get(name, begun[name]) for name in shapes}, facts)


def _read(path: Path, base: GGUFFile) -> tuple[dict[str, LoraPair], LoraConfig]:
    adapter = read_adapter(path)
    if not is_base(adapter.card, base):
        raise AdapterError(
            f"The adapter {adapter_name(path)} was trained on "
            f"{adapter.card.base_name or 'another model'}, not on {base.path.name}: name its own "
            "model with --model, or start from another adapter."
        )
    check_fits(adapter, base)
    weights, config, _ = read_gguf_adapter(path)
    return weights, config


def _run_id(adapter: Path) -> str | None:
    """The run that made the adapter, as its card or the run.json beside it says."""
    for name, key in (("card.json", "run"), ("run.json", "id")):
        try:
            found = json.loads((adapter.parent / name).read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and isinstance(found.get(key), str):
            return str(found[key])
    return None
