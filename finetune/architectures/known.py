"""The architectures that can be trained, and why another cannot."""

from __future__ import annotations

from openchat_local.finetune.architectures.gemma import GEMMA, GEMMA_2, GEMMA_3
from openchat_local.finetune.architectures.granite import GRANITE
from openchat_local.finetune.architectures.llama import LLAMA, SMOLLM3
from openchat_local.finetune.architectures.phi3 import PHI3
from openchat_local.finetune.architectures.qwen import QWEN2, QWEN3
from openchat_local.finetune.architectures.table import Architecture
from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import GGUFFile

_TABLES = (LLAMA, SMOLLM3, QWEN2, QWEN3, PHI3, GRANITE, GEMMA, GEMMA_2, GEMMA_3)
ARCHITECTURES = {table.name: table for table in _TABLES}
FAMILIES = tuple(family for table in ARCHITECTURES.values() for family in table.families)

# What says how large the model is and how it rotates, or what llama.cpp passes over as well.
_READ = frozenset(
    {
        "attention.causal",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.layer_norm_epsilon",
        "attention.layer_norm_rms_epsilon",
        "attention.sliding_window",
        "attention.value_length",
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.scale_linear",
        "rope.scaling.attn_factor",
        "rope.scaling.factor",
        "rope.scaling.finetuned",
        "rope.scaling.original_context_length",
        "rope.scaling.type",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
        "tensor_data_layout",
        "vocab_size",
    }
)
_MEANINGS = {
    "expert_": "is a mixture of experts",
    "ssm.": "keeps a state in place of attention",
    "attention.q_lora_rank": "keeps its keys compressed (MLA)",
    "attention.kv_lora_rank": "keeps its keys compressed (MLA)",
    "attention.clamp_kqv": "clips queries, keys and values",
    "pooling_type": "makes embeddings, not text",
    "vision.": "sees pictures",
}


def architecture_of(file: GGUFFile) -> Architecture:
    """The table for the model in `file`. Raises ModelFileError, saying what can be trained, for
    a model that is not one of these, or only looks like it."""
    found = ARCHITECTURES.get(file.architecture)
    if found is None:
        raise not_yet(file, f"is of the architecture {file.architecture or 'unknown'!r}")
    if what := _foreign(file, found):
        raise not_yet(file, what)
    return found


def not_yet(file: GGUFFile, what: str) -> ModelFileError:
    """An error saying that the file is or has `what`, and what can be trained instead."""
    return ModelFileError(
        f"{file.path} {what}, which cannot be fine-tuned here yet: "
        f"choose a model of one of the families {', '.join(FAMILIES)}."
    )


def _foreign(file: GGUFFile, architecture: Architecture) -> str | None:
    """What the file's metadata say that no model of the architecture has."""
    prefix = f"{file.architecture}."
    for key, value in file.metadata.items():
        if not key.startswith(prefix):
            continue
        name = key.removeprefix(prefix)
        if name == "attention.causal" and value is False:
            return "attends to what follows (it makes embeddings, not text)"
        unset = isinstance(value, str | int | float) and not value
        read = name in _READ or name in architecture.known
        if unset or read or name.startswith(architecture.pictures):
            continue
        for beginning, meaning in _MEANINGS.items():
            if name.startswith(beginning):
                return meaning
        return f"has the setting {key!r}"
    if file.key_length != file.value_length or len(set(file.head_counts_kv)) > 1:
        return "has attention heads that differ in width or number"
    return architecture.why_not(file)
