"""Attention over a window and with capped scores is what the plain formula says."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="set up with TORCH=no")

import torch
from torch import Tensor, nn

from openchat_local.finetune.backends.torch.attention import attend, spans_of


def formula(
    q: Tensor, k: Tensor, v: Tensor, segments: np.ndarray, cap: float, window: int
) -> Tensor:
    """Every score of every pair, in float64; (rows, columns, heads, width)."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = 0.3 * q @ k.transpose(-1, -2)
    if cap:
        scores = cap * torch.tanh(scores / cap)
    at, rows = np.arange(segments.shape[1]), torch.from_numpy(segments)
    back = torch.from_numpy(at[:, None] - at[None, :])
    seen = (back >= 0) & (back < (window or len(at)))
    seen = seen & (rows[:, :, None] == rows[:, None, :])
    scores = scores.masked_fill(~seen[:, None], float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2)


@pytest.mark.parametrize("window", [0, 7, 520], ids="window {}".format)
@pytest.mark.parametrize("cap", [0.0, 1.5], ids="cap {}".format)
@pytest.mark.parametrize("kv_heads", [2, 1], ids="{} keys".format)
@pytest.mark.parametrize("cuts", [(), (530,)], ids=["one", "two"])
def test_products_and_gradients(
    window: int, cap: float, kv_heads: int, cuts: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    count = 600  # more than capped scores are computed of at a time
    segments = np.ones((1, count), np.int32)
    for cut in cuts:
        segments[:, cut:] += 1
    q, k, v = (
        torch.randn(1, heads, count, 4, dtype=torch.float64, requires_grad=True)
        for heads in (2, kv_heads, kv_heads)
    )
    found, _ = attend(
        nn.Module(), q, k, v, scaling=0.3, softcap=cap or None, spans=spans_of(segments),
        window=window,
    )  # fmt: skip
    expected = formula(q, k, v, segments, cap, window)
    torch.testing.assert_close(found, expected)
    slope = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, (q, k, v), slope),
        torch.autograd.grad(expected, (q, k, v), slope),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
