"""A llama-family GGUF file as mlx-lm's model of it, frozen.

Rows stay in GGUF's order, in which rotary pairs lie side by side (MLX's "traditional"
RoPE), so that q and k need no permutation here nor in a GGUF adapter.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models import llama

from openchat_local.finetune.mlx.device import Precision
from openchat_local.finetune.mlx.repack import GROUP
from openchat_local.finetune.mlx.tensors import Quantised, TensorReader
from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import GGUFFile

SUPPORTED = ("Llama", "Mistral", "SmolLM2", "OpenChat 3.x")

# What GGUF calls so, and where mlx-lm keeps it in a block.
LINEARS = {
    "attn_q": ("self_attn", "q_proj"),
    "attn_k": ("self_attn", "k_proj"),
    "attn_v": ("self_attn", "v_proj"),
    "attn_output": ("self_attn", "o_proj"),
    "ffn_gate": ("mlp", "gate_proj"),
    "ffn_up": ("mlp", "up_proj"),
    "ffn_down": ("mlp", "down_proj"),
}
_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


class Rope(nn.Module):
    """Rotary embedding of neighbouring pairs, the i-th turning once in 2π · `periods[i]`."""

    def __init__(self, periods: mx.array) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._periods = periods  # the underscore keeps it out of the parameters

    def __call__(self, x: mx.array, offset: int = 0) -> mx.array:
        dimensions = 2 * self._periods.size
        return mx.fast.rope(
            x, dimensions, traditional=True, base=None, scale=1.0, offset=offset,
            freqs=self._periods,
        )  # fmt: skip


def load_llama(file: GGUFFile, precision: Precision) -> Any:
    """The `llama.Model` in `file`, frozen, every weight in memory.

    Raises ModelFileError for another architecture, or a file that is not whole.
    """
    reader = TensorReader(file, precision)
    args = _model_args(reader)
    model: Any = llama.Model(args)  # its random weights are lazy: never computed
    rope = Rope(_rope_periods(reader))
    width, vocabulary = args.hidden_size, args.vocab_size
    model.model.embed_tokens = _embedding(reader, "token_embd.weight", (vocabulary, width))
    model.model.norm.weight = reader.vector("output_norm.weight", width)
    if not args.tie_word_embeddings:
        model.lm_head = _linear(reader, "output.weight", (vocabulary, width))
    shapes = _linear_shapes(file, args.intermediate_size)
    for index, block in enumerate(model.layers):
        for name, module in _NORMS.items():
            block[module].weight = reader.vector(f"blk.{index}.{name}.weight", width)
        for name, (part, module) in LINEARS.items():
            linear = _linear(reader, f"blk.{index}.{name}.weight", shapes[name])
            setattr(block[part], module, linear)
        block.self_attn.rope = rope
    if reader.left:
        raise reader.unusable(f"a tensor {next(iter(reader.left))!r} that no Llama has")
    model.freeze()
    return model


def _model_args(reader: TensorReader) -> llama.ModelArgs:
    file = reader.file
    unsupported = None
    if file.architecture != "llama":
        unsupported = f"is of the architecture {file.architecture or 'unknown'!r}"
    elif file.metadata.get("llama.expert_count", 0):
        unsupported = "is a mixture of experts"
    elif file.key_length != file.value_length or len(set(file.head_counts_kv)) > 1:
        unsupported = "has attention heads that differ in width or number"
    if unsupported is not None:
        raise _not_yet(file, unsupported)
    return llama.ModelArgs(
        model_type="llama",
        hidden_size=file.embedding_length,
        num_hidden_layers=file.block_count,
        intermediate_size=reader.tensor("blk.0.ffn_up.weight").shape[-1],
        num_attention_heads=file.head_count,
        num_key_value_heads=file.head_count_kv,
        head_dim=file.key_length,
        rms_norm_eps=reader.number("llama.attention.layer_norm_rms_epsilon"),
        vocab_size=reader.tensor("token_embd.weight").shape[-1],
        rope_traditional=True,
        tie_word_embeddings="output.weight" not in reader.left,
    )


def _linear_shapes(file: GGUFFile, hidden: int) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of a block's linear layers."""
    width = file.embedding_length
    queries = file.head_count * file.key_length
    keys = file.head_count_kv * file.key_length
    return {
        "attn_q": (queries, width),
        "attn_k": (keys, width),
        "attn_v": (keys, width),
        "attn_output": (width, queries),
        "ffn_gate": (hidden, width),
        "ffn_up": (hidden, width),
        "ffn_down": (width, hidden),
    }


def _rope_periods(reader: TensorReader) -> mx.array:
    """base^(2i/d), stretched as the file says: linearly, or by Llama 3's factors."""
    metadata = reader.file.metadata
    dimensions = int(reader.number("llama.rope.dimension_count", reader.file.key_length))
    base = reader.number("llama.rope.freq_base", 10000.0)
    periods = base ** (np.arange(0, dimensions, 2) / dimensions)
    scaling = metadata.get("llama.rope.scaling.type", "linear")
    if scaling == "linear":
        older = reader.number("llama.rope.scale_linear", 1.0)  # in files of 2023
        periods *= reader.number("llama.rope.scaling.factor", older)
    elif scaling != "none":
        raise _not_yet(reader.file, f"stretches its context by RoPE scaling {scaling!r}")
    if "rope_freqs.weight" in reader.left:
        periods *= reader.values("rope_freqs.weight", (dimensions // 2,))
    return mx.array(periods.astype(np.float32))


def _linear(reader: TensorReader, name: str, shape: tuple[int, int]) -> nn.Module:
    weight = reader.matrix(name, shape)
    outputs, inputs = shape
    if isinstance(weight, Quantised):
        layer = nn.QuantizedLinear(inputs, outputs, False, GROUP, weight.bits)
        return _filled(layer, weight)
    dense = nn.Linear(inputs, outputs, bias=False)
    dense.weight = weight
    return dense


def _embedding(reader: TensorReader, name: str, shape: tuple[int, int]) -> nn.Module:
    weight = reader.matrix(name, shape)
    if isinstance(weight, Quantised):
        return _filled(nn.QuantizedEmbedding(*shape, GROUP, weight.bits), weight)
    dense = nn.Embedding(*shape)
    dense.weight = weight
    return dense


def _filled(layer: nn.Module, weight: Quantised) -> nn.Module:
    layer.weight, layer.scales, layer.biases = weight.weight, weight.scales, weight.biases
    return layer


def _not_yet(file: GGUFFile, what: str) -> ModelFileError:
    return ModelFileError(
        f"{file.path} {what}, which MLX cannot fine-tune here yet: "
        f"choose a model of one of the families {', '.join(SUPPORTED)}."
    )
