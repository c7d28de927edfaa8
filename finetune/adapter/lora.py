"""A low-rank adapter: its settings, its weights, the layers that get one and what it starts as.

The same for every backend, and NumPy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from openchat_local.finetune.adapter.layers import ATTENTION_TARGETS, MLP_TARGETS
from openchat_local.finetune.architectures import architecture_of
from openchat_local.models.errors import OpenChatError
from openchat_local.models.gguf import GGUFFile

_LINEAR = re.compile(r"(blk\.(\d+)\.(\w+))\.weight")


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """A low-rank adapter: W + (alpha / rank) · B·A, or alpha / √rank with `rslora`.

    `targets` are layer names as GGUF has them in a llama, which `Architecture.layers_of` makes
    those of another model; `layers` None means every block, a number the
    last so many. `dropout` acts on the adapter's input only.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ATTENTION_TARGETS + MLP_TARGETS
    layers: int | None = None
    rslora: bool = False

    @property
    def scale(self) -> float:
        """The factor before B·A."""
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)


@dataclass(frozen=True, slots=True)
class LoraPair:
    """One layer's adapter, float32: `a` is (rank, inputs), `b` is (outputs, rank).

    Rows of `b` are in GGUF's order, which for q and k is not Hugging Face's.
    """

    a: np.ndarray
    b: np.ndarray


# By GGUF tensor name without ".weight", such as "blk.0.attn_q".
LoraWeights = Mapping[str, LoraPair]


class LoraError(OpenChatError):
    """An adapter that cannot be made, or does not fit its base."""


def lora_shapes(base: GGUFFile, config: LoraConfig) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of every layer that `config` adapts, by name, block by block.

    Raises LoraError for a config that this base cannot have, ModelFileError for a base that
    cannot be trained.
    """
    architecture = architecture_of(base)
    targets = architecture.layers_of(config.targets)
    _check(config, targets, tuple(architecture.linears), base.block_count)
    first = 0 if config.layers is None else base.block_count - config.layers
    shapes: dict[tuple[int, int], tuple[str, tuple[int, int]]] = {}
    for tensor in base.tensors:
        match = _LINEAR.fullmatch(tensor.name)
        if match and match[3] in targets and int(match[2]) >= first:
            inputs, outputs = tensor.shape
            order = (int(match[2]), targets.index(match[3]))
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


def _check(
    config: LoraConfig, targets: tuple[str, ...], known: tuple[str, ...], blocks: int
) -> None:
    unknown = sorted(set(targets) - set(known))
    if unknown or not targets:
        raise LoraError(
            f"{', '.join(unknown) or 'Nothing'} cannot be adapted: choose from {', '.join(known)}."
        )
    if config.rank < 1:
        raise LoraError(f"A rank of {config.rank} makes no adapter: choose 1 or more.")
    if not 0 <= config.dropout < 1:
        raise LoraError(f"A dropout of {config.dropout} is not from 0 up to, but not, 1.")
    if config.layers is not None and not 1 <= config.layers <= blocks:
        raise LoraError(
            f"The last {config.layers} blocks cannot be adapted: the model has {blocks}."
        )
