"""Tiny models of every architecture that can be trained: random weights in its real structure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np

from support.openchat_gguf import TinyVocabulary, add_vocabulary, byte_vocabulary

WIDTH, BLOCKS, HEADS, KV_HEADS, FEED_FORWARD = 64, 2, 4, 2, 96
CONTEXT = 512

Setting = int | float | str | bool
# The shape of a tensor as NumPy has it, rows first.
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Tiny:
    """A model to write: what its metadata say beside the sizes, the width of a head, the shapes
    of a block's tensors by GGUF's names, and other tensors; and what Hugging Face's config.json
    says of it beside the sizes. Norms lie around `norms`; `always_tied` has no output layer of
    its own, whatever is asked."""

    head_width: int
    block: Callable[[Tiny], Shapes]
    config: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, Setting] = field(default_factory=dict)
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    norms: float = 1.0
    always_tied: bool = False
    blocks: int = BLOCKS
    vocabulary: TinyVocabulary = field(default_factory=byte_vocabulary)

    @property
    def queries(self) -> int:
        return HEADS * self.head_width

    @property
    def keys(self) -> int:
        return KV_HEADS * self.head_width


def llama_block(tiny: Tiny) -> Shapes:
    """Seven matrices and two norms."""
    return {
        "attn_norm.weight": (WIDTH,),
        "attn_q.weight": (tiny.queries, WIDTH),
        "attn_k.weight": (tiny.keys, WIDTH),
        "attn_v.weight": (tiny.keys, WIDTH),
        "attn_output.weight": (WIDTH, tiny.queries),
        "ffn_norm.weight": (WIDTH,),
        "ffn_gate.weight": (FEED_FORWARD, WIDTH),
        "ffn_up.weight": (FEED_FORWARD, WIDTH),
        "ffn_down.weight": (WIDTH, FEED_FORWARD),
    }


def _qwen2_block(tiny: Tiny) -> Shapes:
    rows = {"attn_q": tiny.queries, "attn_k": tiny.keys, "attn_v": tiny.keys}
    return llama_block(tiny) | {f"{name}.bias": (size,) for name, size in rows.items()}


def _qwen3_block(tiny: Tiny) -> Shapes:
    width = (tiny.head_width,)
    return llama_block(tiny) | {"attn_q_norm.weight": width, "attn_k_norm.weight": width}


def _phi3_block(tiny: Tiny) -> Shapes:
    return {
        "attn_norm.weight": (WIDTH,),
        "attn_qkv.weight": (tiny.queries + 2 * tiny.keys, WIDTH),
        "attn_output.weight": (WIDTH, tiny.queries),
        "ffn_norm.weight": (WIDTH,),
        "ffn_up.weight": (2 * FEED_FORWARD, WIDTH),
        "ffn_down.weight": (WIDTH, FEED_FORWARD),
    }


def _gemma2_block(tiny: Tiny) -> Shapes:
    width = (WIDTH,)
    return llama_block(tiny) | {"post_attention_norm.weight": width, "post_ffw_norm.weight": width}


def _gemma3_block(tiny: Tiny) -> Shapes:
    width = (tiny.head_width,)
    norms = {"attn_q_norm.weight": width, "attn_k_norm.weight": width}
    return _gemma2_block(tiny) | norms


def _rotations(**fields: object) -> dict[str, object]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, **fields}}


# Three quarters of a head are rotated, more slowly than in the original, shorter context.
_PAIRS, _ORIGINAL = 6, 32
_LONG = np.linspace(1.2, 9, _PAIRS, dtype=np.float32)
_SHORT = np.linspace(1, 1.3, _PAIRS, dtype=np.float32)
TINY: dict[str, Tiny] = {
    "llama": Tiny(16, llama_block, {"model_type": "llama", **_rotations()}),
    # Of four blocks, one does not rotate.
    "smollm3": Tiny(16, llama_block, {"model_type": "smollm3", **_rotations()}, blocks=4),
    "qwen2": Tiny(
        16,
        _qwen2_block,
        {"model_type": "qwen2", **_rotations(rope_theta=1e6)},
        {"rope.freq_base": 1e6},
    ),
    "qwen3": Tiny(
        32,
        _qwen3_block,
        {"model_type": "qwen3", **_rotations(rope_theta=1e6)},
        {"rope.freq_base": 1e6},
    ),
    "phi3": Tiny(
        16,
        _phi3_block,
        {
            "model_type": "phi3",
            "original_max_position_embeddings": _ORIGINAL,
            **_rotations(
                rope_type="longrope",
                long_factor=_LONG.tolist(),
                short_factor=_SHORT.tolist(),
                partial_rotary_factor=0.75,
                original_max_position_embeddings=_ORIGINAL,
            ),
        },
        {
            "rope.dimension_count": 2 * _PAIRS,
            "rope.scaling.original_context_length": _ORIGINAL,
            "rope.scaling.attn_factor": math.sqrt(
                1 + math.log(CONTEXT / _ORIGINAL) / math.log(_ORIGINAL)
            ),
            "attention.sliding_window": 4,  # which llama.cpp passes over
        },
        {"rope_factors_long.weight": _LONG, "rope_factors_short.weight": _SHORT},
        # llama.cpp looks for one by its name.
        vocabulary=byte_vocabulary().with_tokens({"<|endoftext|>": "control"}),
    ),
    # Norms are written as converters do: one more than the weights, which lie around zero.
    "gemma": Tiny(32, llama_block, {"model_type": "gemma", **_rotations()}, always_tied=True),
    "gemma2": Tiny(
        32,
        _gemma2_block,
        {
            "model_type": "gemma2",
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention"],
            "query_pre_attn_scalar": 32,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
            **_rotations(),
        },
        {
            "attention.sliding_window": 8,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
        always_tied=True,
    ),
    "gemma3": Tiny(
        32,
        _gemma3_block,
        {
            "model_type": "gemma3_text",
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention"],
            "query_pre_attn_scalar": 32,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            },
        },
        {
            "attention.sliding_window": 8,
            "attention.sliding_window_pattern": 2,
            "rope.freq_base": 1e6,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
    ),
    "granite": Tiny(
        16,
        llama_block,
        {
            "model_type": "granite",
            "attention_multiplier": 0.2,
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "logits_scaling": 3.0,
            **_rotations(),
        },
        {
            "attention.scale": 0.2,
            "embedding_scale": 12.0,
            "residual_scale": 0.22,
            "logit_scale": 3.0,
        },
    ),
}


def config_of(name: str, *, tied: bool) -> dict[str, object]:
    """Hugging Face's config.json of the model of `TINY`."""
    tiny = TINY[name]
    return {
        "hidden_size": WIDTH,
        "num_hidden_layers": tiny.blocks,
        "intermediate_size": FEED_FORWARD,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": tiny.head_width,
        "rms_norm_eps": 1e-5,
        "vocab_size": len(tiny.vocabulary.tokens),
        "tie_word_embeddings": tied,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": None,
        **tiny.config,
    }


def write_tiny(
    path: Path,
    name: str,
    *,
    tied: bool = True,
    settings: Mapping[str, Setting] | None = None,
    extra: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
) -> Path:
    """Write the model of `TINY` in float32; `settings` and `extra` are more metadata of its
    architecture and more tensors, `tied` leaves the output layer out."""
    tiny = TINY[name]
    tokens = len(tiny.vocabulary.tokens)
    writer = gguf.GGUFWriter(path, name)
    writer.add_name(f"tiny {name}")
    writer.add_context_length(CONTEXT)
    writer.add_block_count(tiny.blocks)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(tiny.head_width)
    writer.add_value_length(tiny.head_width)
    writer.add_layer_norm_rms_eps(1e-5)
    all_settings = {"rope.dimension_count": tiny.head_width, **tiny.settings, **(settings or {})}
    for key, value in all_settings.items():
        _add(writer, f"{name}.{key}", value)
    add_vocabulary(writer, tiny.vocabulary)
    random = np.random.default_rng(seed)
    shapes: Shapes = {"token_embd.weight": (tokens, WIDTH), "output_norm.weight": (WIDTH,)}
    for block in range(tiny.blocks):
        shapes |= {f"blk.{block}.{key}": shape for key, shape in tiny.block(tiny).items()}
    if not tied and not tiny.always_tied:
        shapes["output.weight"] = (tokens, WIDTH)
    for key, shape in shapes.items():
        values = random.standard_normal(shape, np.float32)
        if key.endswith("norm.weight"):
            values = tiny.norms + 0.3 * values
        elif len(shape) == 2:
            values *= 1.5 / np.sqrt(shape[1])
        writer.add_tensor(key, values.astype(np.float32))
    for key, values in {**tiny.extra, **(extra or {})}.items():
        writer.add_tensor(key, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: Setting) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_string(key, value)
