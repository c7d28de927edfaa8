"""Cross-entropy over a large vocabulary, without keeping its logits.

The output head is frozen, so the gradient that the hidden states will need is known as
soon as a chunk's logits are: it is taken then, and the logits are dropped. Neither the
logits of all positions nor a second pass through the head are needed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from openchat_local.finetune.backends.memory import positions_at_once


def weighted_loss(
    hidden: Tensor, head: Tensor, labels: Tensor, weights: Tensor, cap: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Σ w·CE in nats, differentiable by `hidden`; and per position CE and whether the
    likeliest token was the label.

    `hidden` is (positions, width), `head` (vocabulary, width), `labels` (positions,) int64,
    `weights` (positions,) float32. Logits are kept within ±`cap` (see `capped`).
    """
    total, losses, correct = _WeightedLoss.apply(  # type: ignore[no-untyped-call]
        hidden, head, labels, weights, cap
    )
    return total, losses, correct


def capped(logits: Tensor, cap: float) -> Tensor:
    """`logits`, which are overwritten, as cap · tanh(logits / cap); as they are where `cap` is
    0."""
    return logits.div_(cap).tanh_().mul_(cap) if cap else logits


class _WeightedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, labels: Tensor, weights: Tensor, cap: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        wanted = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if wanted else None
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        correct = torch.empty(len(hidden), dtype=torch.bool, device=hidden.device)
        chunk = positions_at_once(len(head))
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            logits = capped((hidden[part] @ head.T).float(), cap)
            target = labels[part, None]
            correct[part] = logits.argmax(-1) == labels[part]
            partition = logits.logsumexp(-1, keepdim=True)
            losses[part] = (partition - logits.gather(-1, target))[:, 0]
            if gradient is not None:
                # d(w·CE)/d(logits) = w · (softmax − one-hot), and of a cap 1 − tanh²
                bend = (logits / cap).square_().neg_().add_(1) if cap else None
                slope = logits.sub_(partition).exp_()
                slope.scatter_add_(-1, target, torch.full_like(partition, -1.0))
                slope.mul_(weights[part, None])
                if bend is not None:
                    slope.mul_(bend)
                torch.matmul(slope.to(hidden.dtype), head, out=gradient[part])
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(losses, correct)
        return (losses * weights).sum(), losses, correct

    @staticmethod
    def backward(
        ctx: Any, slope: Tensor, _losses: Tensor, _correct: Tensor
    ) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * slope.to(gradient.dtype), None, None, None, None
