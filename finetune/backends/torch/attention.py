"""Causal attention within each conversation of a row.

A packed row is cut at its conversations: each gets a causal product of its own, so none can
see another, no mask is kept, and nothing is computed between them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, cat, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface

NAME = "openchat_local"
# Of capped scores, the queries at a time.
_QUERIES = 512

# Where the conversations of each row begin and end; None where every row is one.
Spans = tuple[tuple[tuple[int, int], ...], ...] | None


def spans_of(segments: np.ndarray) -> Spans:
    """The stretches of equal numbers in each row of (rows, columns); padding is one too."""
    if segments.max(initial=0) <= 1:
        return None  # padding comes last, and a causal product never looks there
    rows = []
    for row in segments:
        cuts = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), len(row)]
        rows.append(tuple(pairwise(cuts)))
    return tuple(rows)


def positions_of(segments: np.ndarray) -> np.ndarray:
    """The place of each token within its conversation, (rows, columns) int64."""
    columns = np.arange(segments.shape[1])
    starts = np.zeros_like(segments, np.int64)
    starts[:, 1:] = np.where(np.diff(segments, axis=1) != 0, columns[1:], 0)
    positions: np.ndarray = columns - np.maximum.accumulate(starts, axis=1)
    return positions


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None = None,
    *,
    scaling: float,
    softcap: float | None = None,
    spans: Spans = None,
    window: int = 0,
    **_: Any,
) -> tuple[Tensor, None]:
    """(rows, columns, heads, width) from queries (rows, heads, columns, width), as
    transformers asks for it; over no more than `window` positions if that is not 0."""

    def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if softcap:
            return _capped(q * scaling, k, v, softcap, window).transpose(1, 2)
        return _uncapped(q, k, v, scaling, window).transpose(1, 2)

    if spans is None:
        return causal(query, key, value), None
    rows = [
        cat([causal(*(x[r : r + 1, :, a:b] for x in (query, key, value))) for a, b in row], 1)
        for r, row in enumerate(spans)
    ]
    return cat(rows), None


def _uncapped(q: Tensor, k: Tensor, v: Tensor, scaling: float, window: int) -> Tensor:
    count = q.shape[2]
    narrow = 0 < window < count
    return scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=_seen(range(count), range(count), window, q.device) if narrow else None,
        is_causal=not narrow,
        scale=scaling,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def _capped(q: Tensor, k: Tensor, v: Tensor, cap: float, window: int) -> Tensor:
    """The same with scores kept within ±`cap`, for which there is no fused product: some queries
    at a time against the keys that they see, and no scores are kept for the backward pass."""
    shared = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(shared, 1) if shared > 1 else x for x in (k, v))
    pieces = []
    for start in range(0, q.shape[2], _QUERIES):
        end = min(start + _QUERIES, q.shape[2])
        first = max(start + 1 - window, 0) if window else 0
        seen = _seen(range(start, end), range(first, end), window, q.device)
        inputs = q[:, :, start:end], k[:, :, first:end], v[:, :, first:end]
        pieces.append(
            checkpoint(_product, *inputs, seen, cap, use_reentrant=False, preserve_rng_state=False)
        )
    return cat(pieces, 2)


def _product(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, cap: float) -> Tensor:
    scores = (q @ k.transpose(-1, -2) / cap).tanh() * cap
    scores = scores.masked_fill(~seen, float("-inf"))
    precise = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(-1, precise).to(v.dtype) @ v


def _seen(queries: range, keys: range, window: int, device: torch.device) -> Tensor:
    """(queries, keys) bool: which keys at these positions each query sees."""
    back = (
        torch.arange(queries.start, queries.stop, device=device)[:, None]
        - torch.arange(keys.start, keys.stop, device=device)[None, :]
    )
    return (back >= 0) & (back < window) if window else back >= 0


AttentionInterface.register(NAME, attend)
