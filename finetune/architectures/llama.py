"""Llama, and what llama.cpp takes for it."""

from __future__ import annotations

from openchat_local.finetune.architectures.table import Architecture, gated

LLAMA = Architecture(
    name="llama",
    model_type="llama",
    classes="Llama",
    families=("Llama", "Mistral", "SmolLM2", "OpenChat 3.x"),
    linears=gated(),
    interleaved=True,
    other_types=("mistral",),
)
