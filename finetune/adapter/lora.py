"""Which layers get an adapter, and what it starts as: the same for every backend."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np

from openchat_local.finetune.backends.trainer import (
    ATTENTION_TARGETS,
    MLP_TARGETS,
    LoraConfig,
    LoraPair,
    LoraWeights,
)
from openchat_local.models.errors import OpenChatError
from openchat_local.models.gguf import GGUFFile

_LINEAR = re.compile(r"(blk\.(\d+)\.(\w+))\.weight")


class LoraError(OpenChatError):
    """An adapter that cannot be made, or does not fit its base."""


def lora_shapes(base: GGUFFile, config: LoraConfig) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of every layer that `config` adapts, by name, block by block.

    Raises LoraError for a config that this base cannot have.
    """
    _check(config, base.block_count)
    first = 0 if config.layers is None else base.block_count - config.layers
    shapes: dict[tuple[int, int], tuple[str, tuple[int, int]]] = {}
    for tensor in base.tensors:
        match = _LINEAR.fullmatch(tensor.name)
        if match and match[3] in config.targets and int(match[2]) >= first:
            inputs, outputs = tensor.shape
            order = (int(match[2]), config.targets.index(match[3]))
            shapes[order] = (match[1], (outputs, inputs))
    return dict(shape for _, shape in sorted(shapes.items()))


def initial_lora(
    shapes: Mapping[str, tuple[int, int]], config: LoraConfig, seed: int
) -> dict[str, LoraPair]:
    """An adapter that changes nothing yet: A uniform within ±1/√inputs, B zero.

    As `peft` does it (Kaiming's uniform with a = √5), but from NumPy's generator, so that
    every backend starts from the same numbers.
    """
    random = np.random.default_rng(seed)
    return {
        name: LoraPair(
            a=random.uniform(-1, 1, (config.rank, inputs)).astype(np.float32) / math.sqrt(inputs),
            b=np.zeros((outputs, config.rank), np.float32),
        )
        for name, (outputs, inputs) in shapes.items()
    }


def check_lora(
    weights: LoraWeights, shapes: Mapping[str, tuple[int, int]], config: LoraConfig
) -> None:
    """Raise LoraError unless `weights` has exactly these layers, in these shapes."""
    if weights.keys() != shapes.keys():
        odd = sorted(weights.keys() ^ shapes.keys())[0]
        raise LoraError(
            f"The adapter and its settings differ in the layer {odd}: "
            "use the targets and layers that it was made with."
        )
    for name, (outputs, inputs) in shapes.items():
        pair = weights[name]
        if pair.a.shape != (config.rank, inputs) or pair.b.shape != (outputs, config.rank):
            raise LoraError(
                f"The adapter's layer {name} is {pair.b.shape[0]}×{pair.a.shape[-1]} of rank "
                f"{pair.a.shape[0]}, where {outputs}×{inputs} of rank {config.rank} is expected: "
                "use the base model and the rank that it was made with."
            )


def layer_targets(text: str) -> tuple[str, ...]:
    """The layers that a person lists with commas, under GGUF's names; Hugging Face's are
    known as well. Each once."""
    from openchat_local.finetune.adapter.peft import MODULES

    known = {module.rpartition(".")[2]: name for name, module in MODULES.items()}
    names = [name for part in text.split(",") if (name := part.strip())]
    return tuple(dict.fromkeys(known.get(name.lower(), name) for name in names))


def _check(config: LoraConfig, blocks: int) -> None:
    known = ATTENTION_TARGETS + MLP_TARGETS
    unknown = sorted(set(config.targets) - set(known))
    if unknown or not config.targets:
        raise LoraError(
            f"{', '.join(unknown) or 'Nothing'} cannot be adapted: choose from {', '.join(known)}."
        )
    if config.rank < 1:
        raise LoraError(f"A rank of {config.rank} is no adapter: choose 1 or more.")
    if not 0 <= config.dropout < 1:
        raise LoraError(f"A dropout of {config.dropout} is not from 0 up to, but not, 1.")
    if config.layers is not None and not 1 <= config.layers <= blocks:
        raise LoraError(
            f"The last {config.layers} blocks cannot be adapted: the model has {blocks}."
        )
