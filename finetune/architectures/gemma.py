"""Google's Gemma: 1, 2, and the text part of 3.

What sets them apart from a llama: the embedding is scaled by √width, the converter stores
norms as 1 + weight, and the feed-forward gates by GELU. Gemma 2 and 3 norm what attention and
feed-forward put out as well, and most of their blocks look back no further than a window; 2 caps
its scores and logits, 3 norms queries and keys instead. Sizes that no file tells are those of
llama.cpp (https://github.com/ggml-org/llama.cpp/tree/master/src/models, gemma*.cpp).
"""

from __future__ import annotations

from typing import Any

from openchat_local.finetune.architectures.table import Architecture, gated, number
from openchat_local.models.gguf import GGUFFile

# GGUF's names, in which the norm before the feed-forward is called as in a llama.
_FOUR_NORMS = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_WINDOWED = frozenset({"attention.sliding_window_pattern", "rope.freq_base_swa"})


def _embedding_scale(file: GGUFFile) -> float:
    return float(file.embedding_length**0.5)


def _query_scalar(file: GGUFFile, largest: int) -> dict[str, Any]:
    """Scores are divided by the root of a head's width, or, in the `largest` of the models (by
    its blocks), of the stream's share for each head, which are two numbers only there."""
    whole = file.embedding_length // file.head_count
    return {"query_pre_attn_scalar": whole if file.block_count == largest else file.key_length}


def _windows(file: GGUFFile, window: float, pattern: int) -> tuple[int, ...]:
    """Of every `pattern` blocks the last looks at everything."""
    every = int(number(file, "attention.sliding_window_pattern", pattern))
    blocks = range(file.block_count)
    return tuple(0 if every < 1 or n % every == every - 1 else int(window) for n in blocks)


def _windows_2(file: GGUFFile) -> tuple[int, ...]:
    return _windows(file, number(file, "attention.sliding_window", 4096), 2)


def _windows_3(file: GGUFFile) -> tuple[int, ...]:
    return _windows(file, number(file, "attention.sliding_window"), 6)


def _attention_cap(file: GGUFFile) -> float:
    return number(file, "attn_logit_softcapping", 50.0)


def _logit_cap(file: GGUFFile) -> float:
    return number(file, "final_logit_softcapping", 30.0)


def _settings_2(file: GGUFFile) -> dict[str, Any]:
    caps = {
        "attn_logit_softcapping": _attention_cap(file),
        "final_logit_softcapping": _logit_cap(file),
    }
    return _query_scalar(file, 46) | caps


GEMMA = Architecture(
    name="gemma",
    model_type="gemma",
    classes="Gemma",
    families=("Gemma", "OpenChat 3.5 on Gemma"),
    linears=gated(),
    norm_offset=1.0,
    always_tied=True,
    activation="gelu",
    embedding_scale=_embedding_scale,
)

GEMMA_2 = Architecture(
    name="gemma2",
    model_type="gemma2",
    classes="Gemma2",
    families=("Gemma 2",),
    linears=gated(),
    norms=_FOUR_NORMS,
    norm_offset=1.0,
    always_tied=True,
    activation="gelu",
    settings=_settings_2,
    known=_WINDOWED | {"attn_logit_softcapping", "final_logit_softcapping"},
    embedding_scale=_embedding_scale,
    windows=_windows_2,
    local_base=lambda file: number(
        file, "rope.freq_base_swa", number(file, "rope.freq_base", 10000.0)
    ),
    attention_cap=_attention_cap,
    logit_cap=_logit_cap,
)

GEMMA_3 = Architecture(
    name="gemma3",
    model_type="gemma3_text",
    classes="Gemma3Text",
    families=("Gemma 3",),
    linears=gated(),
    norms=_FOUR_NORMS,
    head_norms={"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"},
    norm_offset=1.0,
    activation="gelu",
    settings=lambda file: _query_scalar(file, 62),
    known=_WINDOWED,
    pictures=("vision.", "mm."),
    embedding_scale=_embedding_scale,
    windows=_windows_3,
    local_base=lambda file: number(file, "rope.freq_base_swa", 10000.0),
)
