"""Llama, what llama.cpp takes for it, and SmolLM3, in which some blocks have no positions."""

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

_EVERY = 4  # as in llama.cpp: no file says it

SMOLLM3 = Architecture(
    name="smollm3",
    model_type="smollm3",
    classes="SmolLM3",
    families=("SmolLM3",),
    linears=gated(),
    interleaved=True,
    unrotated_every=_EVERY,
    settings=lambda file: {"no_rope_layer_interval": _EVERY},
)
