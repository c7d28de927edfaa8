"""Phi-3, Phi-3.5 and Phi-4-mini: q, k and v are one matrix, gate and up another."""

from __future__ import annotations

from openchat_local.finetune.architectures.table import (
    FEED_FORWARD,
    KEYS,
    QUERIES,
    WIDTH,
    Architecture,
    Linear,
    number,
)
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.memory import DEFAULT_CONTEXT

_LONG, _SHORT = "rope_factors_long.weight", "rope_factors_short.weight"


def _used_table(file: GGUFFile) -> str:
    """As llama.cpp, which goes by the size of the context: here that which a chat gets unless it
    asks for another."""
    context = min(file.context_length, DEFAULT_CONTEXT)
    original = number(file, "rope.scaling.original_context_length", file.context_length)
    return _LONG if context > original else _SHORT


# llama.cpp passes over the sliding window that some files tell, and so does training.
PHI3 = Architecture(
    name="phi3",
    model_type="phi3",
    classes="Phi3",
    families=("Phi-3", "Phi-3.5", "Phi-4"),
    linears={
        "attn_qkv": Linear("self_attn.qkv_proj", (QUERIES, KEYS, KEYS), WIDTH),
        "attn_output": Linear("self_attn.o_proj", (WIDTH,), QUERIES),
        "ffn_up": Linear("mlp.gate_up_proj", (FEED_FORWARD, FEED_FORWARD), WIDTH),
        "ffn_down": Linear("mlp.down_proj", (WIDTH,), FEED_FORWARD),
    },
    whole={
        "attn_q": "attn_qkv",
        "attn_k": "attn_qkv",
        "attn_v": "attn_qkv",
        "ffn_gate": "ffn_up",
    },
    partial_rotation=True,
    scalings=frozenset({"longrope"}),
    rotation_tables=(_LONG, _SHORT),
    used_table=_used_table,
)
