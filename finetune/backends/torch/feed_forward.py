"""The gated half of a block, keeping less for its backward pass.

Of silu(g)·u autograd keeps g, u, silu(g) and, as the input of the layer after it, the product: over
half of what a block keeps. g and u are enough: the others are quickly computed again. Likewise
with GELU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import gelu, silu

Activation = Literal["silu", "gelu"]


class FeedForward(nn.Module):
    """down(silu(gate(x)) · up(x)), or with GELU by its tanh approximation; its layers under the
    names that transformers has for them: gate and up are two, or one."""

    gate_proj: nn.Module
    up_proj: nn.Module
    gate_up_proj: nn.Module
    down_proj: nn.Module

    def __init__(
        self, *, checkpointing: bool, fused: bool = False, activation: Activation = "silu"
    ) -> None:
        """With `checkpointing` the block is computed twice as a whole, so that nothing in it is
        kept for long; `fused` where gate and up are one layer."""
        super().__init__()
        self.checkpointing, self.fused = checkpointing, fused
        self.activation: Activation = activation

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor
        if self.fused:
            gate, up = self.gate_up_proj(x).chunk(2, -1)
        else:
            gate, up = self.gate_proj(x), self.up_proj(x)
        product: Tensor = _Gated.apply(gate, up, self.activation)  # type: ignore[no-untyped-call]
        down: Callable[[Tensor], Tensor] = self.down_proj
        if self.checkpointing or not product.requires_grad:
            return down(product)
        place, count = product.data_ptr(), product.numel()
        gate, up = gate.detach(), up.detach()

        def kept(saved: Tensor) -> Tensor | torch.Size:
            whole = saved.data_ptr() == place and saved.numel() == count
            return saved.shape if whole else saved

        def again(kept: Tensor | torch.Size) -> Tensor:
            if isinstance(kept, Tensor):
                return kept
            computed: Tensor = _activated(gate, self.activation) * up
            return computed.view(kept)

        with saved_tensors_hooks(kept, again):
            return down(product)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, activation: Activation) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.activation = activation
        return _activated(gate, activation) * up

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None]:
        gate, up = ctx.saved_tensors
        if ctx.activation == "silu":
            slope_of_gate = torch.ops.aten.silu_backward(slope * up, gate)
        else:
            slope_of_gate = torch.ops.aten.gelu_backward(slope * up, gate, approximate="tanh")
        return slope_of_gate, slope * _activated(gate, ctx.activation), None


def _activated(gate: Tensor, activation: Activation) -> Tensor:
    return silu(gate) if activation == "silu" else gelu(gate, approximate="tanh")
