"""How one learns from chats, where nobody says otherwise: few rows, and soon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from openchat_local.finetune.backends.trainer import OptimizerConfig
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.library.adapter_file import read_adapter

if TYPE_CHECKING:
    from openchat_local.finetune.data.options import DataOptions


def learning_rate(base: GGUFFile) -> float:
    """What LoRA takes of a Llama of this width: 5e-4 · (2000 / width)^0.781, which is 1.3e-3 for
    the starter and 2.9e-4 for a 7B ("LoRA Without Regret", Schulman et al., 2025).

    `finetune FILE` has 2e-4 for any model, which is right for thousands of rows; an hour of
    chats is some twenty steps, in which a small model would hardly learn anything at that rate.
    """
    narrower: float = (2000 / base.embedding_length) ** 0.781
    return 5e-4 * narrower


def optimizer(base: GGUFFile) -> OptimizerConfig:
    """AdamW at that rate."""
    return OptimizerConfig(learning_rate=learning_rate(base))


def data_options(held_out: float, start_from: Path | None) -> DataOptions:
    """The best answers keep the headers that the model knows; an adapter that is gone on from
    keeps the condition that it answers under. Raises AdapterError, ModelFileError."""
    from openchat_local.finetune.data.options import DataOptions

    own = start_from is None or not read_adapter(start_from).card.condition
    # What of the thoughts in chats is learned was decided when the rows were made.
    return DataOptions(held_out=held_out, own_headers=own, thinking=True)
