"""Adapters in llama.cpp's own format, which chat loads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from openchat_local.finetune.adapter.lora import LoraConfig, LoraPair, LoraWeights
from openchat_local.finetune.adapter.tensors import matrix
from openchat_local.models.errors import AdapterError
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.gguf.writer import encoded, tensor, write_gguf_file
from openchat_local.models.library.adapter_file import AdapterCard, card_metadata, read_adapter
from openchat_local.models.system.atomic import replacing


def write_gguf(
    path: Path, weights: LoraWeights, config: LoraConfig, base: GGUFFile, card: AdapterCard
) -> None:
    """Write an adapter for `base` to `path`, whole or not at all, as float32.

    llama.cpp multiplies B·A by alpha / rank whatever the kind of scaling was, so that what is
    written as alpha is `config.scale` · rank. Raises OSError.
    """
    metadata = {
        "general.type": "adapter",
        "general.architecture": base.architecture,
        "general.name": path.stem,
        "adapter.type": "lora",
        "adapter.lora.alpha": float(config.scale * config.rank),
        **card_metadata(card),
    }
    halves = {
        f"{name}.weight.lora_{half}": values
        for name, pair in sorted(weights.items())
        for half, values in (("a", pair.a), ("b", pair.b))
    }
    tensors = [tensor(name, values.shape[::-1], "F32") for name, values in halves.items()]
    data = ([values.astype("<f4", copy=False).tobytes()] for values in halves.values())
    fields = {key: encoded(value) for key, value in metadata.items()}
    with replacing(path) as part, part.open("wb") as out:
        write_gguf_file(out, fields, tensors, data)


def read_gguf_adapter(path: Path) -> tuple[dict[str, LoraPair], LoraConfig, AdapterCard]:
    """The weights, scaling and card of the adapter at `path`.

    In the config only `rank`, `alpha`, `targets` mean something: how it was trained is not
    in the file. Raises AdapterError or ModelFileError.
    """
    adapter = read_adapter(path)
    if len(adapter.ranks) != 1:
        ranks = ", ".join(map(str, sorted(adapter.ranks)))
        raise AdapterError(
            f"{path} has layers of different ranks ({ranks}): only adapters of one rank can be "
            "read here."
        )
    (rank,) = adapter.ranks
    weights = {
        name.removesuffix(".weight"): LoraPair(matrix(adapter.file, a), matrix(adapter.file, b))
        for name, (a, b) in adapter.pairs.items()
    }
    if not all(
        np.isfinite(pair.a).all() and np.isfinite(pair.b).all() for pair in weights.values()
    ):
        raise AdapterError(f"{path} holds numbers that are not finite: train or export it again.")
    targets = tuple(dict.fromkeys(name.rpartition(".")[2] for name in weights))
    config = LoraConfig(rank=rank, alpha=adapter.scale(rank) * rank, targets=targets)
    return weights, config, adapter.card
