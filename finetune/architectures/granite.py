"""IBM's Granite: a llama whose embedding, attention, residuals and logits are scaled."""

from __future__ import annotations

from typing import Any

from openchat_local.finetune.architectures.table import Architecture, gated, number
from openchat_local.models.gguf import GGUFFile


def _settings(file: GGUFFile) -> dict[str, Any]:
    usual = file.key_length**-0.5
    return {
        "embedding_multiplier": _embedding_scale(file),
        "attention_multiplier": number(file, "attention.scale", usual) or usual,
        "residual_multiplier": number(file, "residual_scale", 1.0) or 1.0,
        "logits_scaling": _logit_divisor(file),
        "attention_bias": False,
        "mlp_bias": False,
    }


def _embedding_scale(file: GGUFFile) -> float:
    return number(file, "embedding_scale", 1.0) or 1.0  # 0 says that there is none


def _logit_divisor(file: GGUFFile) -> float:
    return number(file, "logit_scale", 1.0) or 1.0


def _why_not(file: GGUFFile) -> str | None:
    unrotated = file.metadata.get("granite.rope.scaling.finetuned") is False
    return "has no positions in its attention (NoPE)" if unrotated else None


GRANITE = Architecture(
    name="granite",
    model_type="granite",
    classes="Granite",
    families=("Granite 3.x",),
    linears=gated(),
    interleaved=True,
    settings=_settings,
    known=frozenset({"attention.scale", "embedding_scale", "residual_scale", "logit_scale"}),
    embedding_scale=_embedding_scale,
    logit_divisor=_logit_divisor,
    why_not=_why_not,
)
