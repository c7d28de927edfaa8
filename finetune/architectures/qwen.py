"""Qwen 2, 2.5 and 3, the dense ones."""

from __future__ import annotations

from openchat_local.finetune.architectures.table import Architecture, gated

QWEN2 = Architecture(
    name="qwen2",
    model_type="qwen2",
    classes="Qwen2",
    families=("Qwen2", "Qwen2.5"),
    linears=gated(biased=("attn_q", "attn_k", "attn_v")),
)

QWEN3 = Architecture(
    name="qwen3",
    model_type="qwen3",
    classes="Qwen3",
    families=("Qwen3",),
    linears=gated(),
    head_norms={"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"},
)
