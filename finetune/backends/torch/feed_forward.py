"""The gated half of a block, keeping less for its backward pass.

Of silu(g)·u autograd keeps g, u, silu(g) and, as the input of the layer after it, the product: over
half of what a block keeps. g and u are enough: the others are quickly computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import silu


class FeedForward(nn.Module):
    """down(silu(gate(x)) · up(x)), its layers under the names that transformers has for them:
    gate and up are two, or one."""

    gate_proj: nn.Module
    up_proj: nn.Module
    gate_up_proj: nn.Module
    down_proj: nn.Module

    def __init__(self, *, checkpointing: bool, fused: bool = False) -> None:
        """With `checkpointing` the block is computed twice as a whole, so that nothing in it is
        kept for long; `fused` where gate and up are one layer."""
        super().__init__()
        self.checkpointing, self.fused = checkpointing, fused

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor
        if self.fused:
            gate, up = self.gate_up_proj(x).chunk(2, -1)
        else:
            gate, up = self.gate_proj(x), self.up_proj(x)
        product: Tensor = _Gated.apply(gate, up)  # type: ignore[no-untyped-call]
        down: Callable[[Tensor], Tensor] = self.down_proj
        if self.checkpointing or not product.requires_grad:
            return down(product)
        place, count = product.data_ptr(), product.numel()
        gate, up = gate.detach(), up.detach()

        def kept(saved: Tensor) -> Tensor | torch.Size:
            whole = saved.data_ptr() == place and saved.numel() == count
            return saved.shape if whole else saved

        def again(kept: Tensor | torch.Size) -> Tensor:
            return kept if isinstance(kept, Tensor) else (silu(gate) * up).view(kept)

        with saved_tensors_hooks(kept, again):
            return down(product)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return silu(gate) * up

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(slope * up, gate), slope * silu(gate)
