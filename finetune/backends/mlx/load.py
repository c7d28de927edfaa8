"""A GGUF model file as mlx-lm's model of it, frozen.

Rows stay in GGUF's order: where that has rotary pairs side by side (MLX's "traditional" RoPE),
q and k need no permutation here nor in a GGUF adapter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from openchat_local.finetune.backends.mlx.device import Precision
from openchat_local.finetune.backends.mlx.repack import GROUP
from openchat_local.finetune.backends.mlx.tensors import Quantised, TensorReader
from openchat_local.finetune.backends.model_file import Weights
from openchat_local.finetune.backends.shape import Rotation, Shape, read_shape
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.system.one_module import one_module

if TYPE_CHECKING:
    from mlx_lm.models.base import BaseModelArgs


class Rope(nn.Module):
    """Rotary embedding of pairs, neighbouring ones or those of two halves."""

    def __init__(self, rotation: Rotation, *, interleaved: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # The underscore keeps it out of the parameters.
        self._periods = mx.array(rotation.periods.astype(np.float32))
        self._scale, self._interleaved = rotation.scale, interleaved

    def __call__(self, x: mx.array, offset: int = 0) -> mx.array:
        dimensions = 2 * self._periods.size
        if self._scale != 1.0:
            x = x.at[..., :dimensions].multiply(self._scale)
        return mx.fast.rope(
            x, dimensions, traditional=self._interleaved, base=None, scale=1.0, offset=offset,
            freqs=self._periods,
        )  # fmt: skip


def load_model(file: GGUFFile, precision: Precision, weights: Weights | None = None) -> Any:
    """mlx-lm's model of `file`, frozen, every weight in memory; `weights` instead of its own.

    Raises ModelFileError for a model that cannot be trained, or a file that is not whole.
    """
    reader = TensorReader(file, precision, weights)
    return read_model(reader, read_shape(reader))


def read_model(reader: TensorReader, shape: Shape) -> Any:
    """The same of what `reader` reads."""
    table = shape.architecture
    # transformers is not needed here, nor torch, which it imports where that is installed.
    classes = one_module(f"mlx_lm.models.{table.model_type}")
    config = {
        "model_type": table.model_type, "rope_theta": 10000.0, "max_position_embeddings": 1,
    }  # fmt: skip
    arguments: BaseModelArgs = classes.ModelArgs.from_dict(config | shape.config)
    model: Any = classes.Model(arguments)  # its random weights are lazy: never computed
    ropes = {
        windowed: Rope(rotation, interleaved=table.interleaved)
        for windowed, rotation in ((False, shape.rotation), (True, shape.local_rotation))
    }
    width, vocabulary, offset = shape.width, shape.vocabulary, reader.norm_offset
    model.model.embed_tokens = _embedding(reader, "token_embd.weight", (vocabulary, width))
    model.model.norm.weight = reader.vector("output_norm.weight", width, offset)
    if not shape.tied:
        model.lm_head = _linear(reader, "output", (vocabulary, width))
    for index, block in enumerate(model.layers):
        if table.activation == "gelu":  # the first Gemma's has the exact GELU here
            gated = one_module("mlx_lm.models.gemma2").MLP
            block.mlp = gated(width, shape.feed_forward)
        for name, (module, length) in shape.norms.items():
            norm = inner(block, module)
            norm.weight = reader.vector(f"blk.{index}.{name}.weight", length, offset)
        for name, linear in table.linears.items():
            parent, module = outer(block, linear.module)
            whole = f"blk.{index}.{name}"
            layer = _linear(reader, whole, shape.linears[name], biased=linear.bias)
            setattr(parent, module, layer)
        if table.rotates(index):
            block.self_attn.rope = ropes[bool(shape.windows[index])]
    reader.all_taken()
    model.freeze()
    return model


def inner(block: Any, path: str) -> Any:
    """The module of a block at a path such as "self_attn.q_proj"."""
    for part in path.split("."):
        block = block[part]
    return block


def outer(block: Any, path: str) -> tuple[Any, str]:
    """The module that holds the one at a path, and what that is called there."""
    parent, _, name = path.rpartition(".")
    return (inner(block, parent) if parent else block), name


def _linear(
    reader: TensorReader, name: str, shape: tuple[int, int], *, biased: bool = False
) -> nn.Module:
    weight = reader.matrix(f"{name}.weight", shape)
    outputs, inputs = shape
    if isinstance(weight, Quantised):
        layer = _filled(nn.QuantizedLinear(inputs, outputs, False, GROUP, weight.bits), weight)
    else:
        layer = nn.Linear(inputs, outputs, bias=False)
        layer.weight = weight
    if biased and f"{name}.bias" in reader.left:
        layer.bias = reader.vector(f"{name}.bias", outputs)
    return layer


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
