"""A linear layer with a low-rank adapter beside it."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn


class LoraLinear(nn.Module):
    """y = base(x) + scale · B·A·dropout(x); `base` is dense or quantised, and frozen.

    `a` (rank, inputs) and `b` (outputs, rank) are float32 and set before each pass; they
    are multiplied in the precision of x, as the base is. `key` is the dropout's, None for
    none: a key that is passed in gives the same mask when a checkpointed block is computed
    again, where a global generator would have moved on.
    """

    def __init__(self, base: nn.Module, scale: float, dropout: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.base = base
        self.scale = scale
        self.dropout = dropout
        self.a = self.b = mx.zeros((0, 0))
        self.key: mx.array | None = None

    def __call__(self, x: mx.array) -> mx.array:
        y: mx.array = self.base(x)
        if self.key is not None:
            kept = mx.random.bernoulli(1 - self.dropout, x.shape, key=self.key)
            x = x * kept.astype(x.dtype) * (1 / (1 - self.dropout))
        low = x @ self.a.T.astype(x.dtype)
        return y + (self.scale * (low @ self.b.T.astype(x.dtype))).astype(y.dtype)
