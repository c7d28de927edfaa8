"""A frozen model with adapters, as pure functions of the adapters' arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from openchat_local.finetune.adapter.lora import LoraConfig, lora_shapes
from openchat_local.finetune.backends.mlx.device import Precision
from openchat_local.finetune.backends.mlx.load import outer, read_model
from openchat_local.finetune.backends.mlx.lora import LoraLinear
from openchat_local.finetune.backends.mlx.loss import Head
from openchat_local.finetune.backends.mlx.tensors import TensorReader
from openchat_local.finetune.backends.model_file import Weights
from openchat_local.finetune.backends.shape import read_shape
from openchat_local.models.gguf import GGUFFile

# Parameters by name, "blk.0.attn_q.a" (rank, inputs) and "blk.0.attn_q.b" (outputs, rank).
Arrays = dict[str, mx.array]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Tokens (rows, columns) int32, segments alike; `key` seeds dropout, None for none."""

    tokens: np.ndarray
    segments: np.ndarray
    key: mx.array | None = None


class AdaptedModel:
    """The model in a GGUF file with room for an adapter."""

    def __init__(
        self,
        base: GGUFFile,
        lora: LoraConfig,
        precision: Precision,
        *,
        checkpointing: bool,
        weights: Weights | None = None,
    ) -> None:
        """`checkpointing` computes each block twice rather than keep what is inside it.

        Raises ModelFileError, LoraError, MemoryError.
        """
        self.shapes = lora_shapes(base, lora)
        self.checkpointing = checkpointing
        self.dropout = lora.dropout
        reader = TensorReader(base, precision, weights)
        shape = read_shape(reader)
        model = read_model(reader, shape)
        self._shape = shape
        self._inner = model.model
        self._adapted: list[dict[str, LoraLinear]] = [{} for _ in model.layers]
        for name in self.shapes:
            _, block, layer = name.split(".")
            parent, module = outer(
                model.layers[int(block)], shape.architecture.linears[layer].module
            )
            adapted = LoraLinear(parent[module], lora.scale, lora.dropout)
            setattr(parent, module, adapted)
            self._adapted[int(block)][name] = adapted
        logits = self._inner.embed_tokens.as_linear if shape.tied else model.lm_head
        self.head = Head(_capped(logits, shape.logit_cap), shape.vocabulary)

    def hidden(self, parameters: Arrays, inputs: Inputs) -> mx.array:
        """(rows, columns, width), ready for the output head; differentiable by `parameters`."""
        self._spread(inputs.key)
        masks = self._masks(inputs.segments)
        states: mx.array = self._inner.embed_tokens(mx.array(inputs.tokens))
        states = states * self._shape.embedding_scale
        blocks = zip(self._inner.layers, self._adapted, self._shape.windows, strict=True)
        for block, adapted, window in blocks:
            states = self._through(block, adapted, parameters, states, masks[window])
        normed: mx.array = self._inner.norm(states)
        return normed / self._shape.logit_divisor

    def _masks(self, segments: np.ndarray) -> dict[int, mx.array | str]:
        """The mask for each window."""
        shape = self._shape
        windows = set(shape.windows)
        if not shape.attention_cap:
            return {window: attention_mask(segments, window) for window in windows}
        # mlx-lm computes capped scores itself: with no masks by name, and an axis for the queries
        # that share a key where there are several.
        masks = {window: mask_array(segments, window) for window in windows}
        if shape.heads == shape.kv_heads:
            return {**masks}
        return {window: mask[:, None] for window, mask in masks.items()}

    def _through(
        self,
        block: nn.Module,
        adapted: dict[str, LoraLinear],
        parameters: Arrays,
        states: mx.array,
        mask: mx.array | str,
    ) -> mx.array:
        def run(own: Arrays, states: mx.array) -> mx.array:
            for name, layer in adapted.items():
                layer.a, layer.b = own[f"{name}.a"], own[f"{name}.b"]
            after: mx.array = block(states, mask)
            return after

        own = {f"{name}.{side}": parameters[f"{name}.{side}"] for name in adapted for side in "ab"}
        if self.checkpointing and adapted:
            run = mx.checkpoint(run)
        return run(own, states)

    def _spread(self, key: mx.array | None) -> None:
        """Give every adapter a dropout key of its own."""
        layers = [layer for adapted in self._adapted for layer in adapted.values()]
        keys = [None] * len(layers) if key is None else list(mx.random.split(key, len(layers)))
        for layer, own in zip(layers, keys, strict=True):
            layer.key = own


def attention_mask(segments: np.ndarray, window: int = 0) -> mx.array | str:
    """Causal within each segment of (rows, columns), over no more than `window` positions if
    that is not 0: (rows, 1, columns, columns) bool, or MLX's name for plain causal attention
    where no row holds two conversations or is longer than the window."""
    count = segments.shape[1]
    if segments.max() <= 1 and not 0 < window < count:
        return "causal"
    return mask_array(segments, window)


def mask_array(segments: np.ndarray, window: int) -> mx.array:
    """The same in full."""
    here = mx.array(segments)
    columns = mx.arange(segments.shape[1])
    back = columns[:, None] - columns[None, :]
    seen = (back >= 0) & (back < window) if window else back >= 0
    return ((here[:, :, None] == here[:, None, :]) & seen)[:, None]


def _capped(logits: Callable[[mx.array], mx.array], cap: float) -> Callable[[mx.array], mx.array]:
    """`logits` within ±`cap`, 0 for no cap."""
    if not cap:
        return logits
    return lambda states: mx.tanh(logits(states) / cap) * cap
