"""A llama-family GGUF file as mlx-lm's model of it, frozen.

Rows stay in GGUF's order, in which rotary pairs lie side by side (MLX's "traditional"
RoPE), so that q and k need no permutation here nor in a GGUF adapter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from openchat_local.finetune.adapter.layers import MODULES, NORMS
from openchat_local.finetune.backends.llama_file import LlamaShape, Weights, llama_shape
from openchat_local.finetune.backends.mlx.device import Precision
from openchat_local.finetune.backends.mlx.repack import GROUP
from openchat_local.finetune.backends.mlx.tensors import Quantised, TensorReader
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.system.one_module import one_module

if TYPE_CHECKING:
    from mlx_lm.models import llama
else:  # transformers is not needed here, nor torch, which it imports where that is installed
    llama = one_module("mlx_lm.models.llama")


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


def load_llama(file: GGUFFile, precision: Precision, weights: Weights | None = None) -> Any:
    """The `llama.Model` in `file`, frozen, every weight in memory; `weights` instead of its own.

    Raises ModelFileError for another architecture, or a file that is not whole.
    """
    reader = TensorReader(file, precision, weights)
    shape = llama_shape(reader)
    model: Any = llama.Model(_model_args(shape))  # its random weights are lazy: never computed
    rope = Rope(mx.array(shape.rope_periods.astype(np.float32)))
    width, vocabulary = shape.width, shape.vocabulary
    model.model.embed_tokens = _embedding(reader, "token_embd.weight", (vocabulary, width))
    model.model.norm.weight = reader.vector("output_norm.weight", width)
    if not shape.tied:
        model.lm_head = _linear(reader, "output.weight", (vocabulary, width))
    for index, block in enumerate(model.layers):
        for name, module in NORMS.items():
            block[module].weight = reader.vector(f"blk.{index}.{name}.weight", width)
        for name, place in MODULES.items():
            part, module = place.split(".")
            linear = _linear(reader, f"blk.{index}.{name}.weight", shape.linears[name])
            setattr(block[part], module, linear)
        block.self_attn.rope = rope
    reader.all_taken()
    model.freeze()
    return model


def _model_args(shape: LlamaShape) -> llama.ModelArgs:
    return llama.ModelArgs(
        model_type="llama",
        hidden_size=shape.width,
        num_hidden_layers=shape.blocks,
        intermediate_size=shape.feed_forward,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_width,
        rms_norm_eps=shape.epsilon,
        vocab_size=shape.vocabulary,
        rope_traditional=True,
        tie_word_embeddings=shape.tied,
    )


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
