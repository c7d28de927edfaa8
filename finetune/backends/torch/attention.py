"""Causal attention within each conversation of a row.

A packed row is cut at its conversations: each gets a causal product of its own, so none can
see another, no mask is kept, and nothing is computed between them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor, cat, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "openchat_local"

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


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None = None,
    *,
    scaling: float,
    spans: Spans = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """(rows, columns, heads, width) from queries (rows, heads, columns, width), as
    transformers asks for it."""
    gqa = query.shape[1] != key.shape[1]

    def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scaling, enable_gqa=gqa
        )
        return out.transpose(1, 2)

    if spans is None:
        return causal(query, key, value), None
    rows = [
        cat([causal(*(x[r : r + 1, :, a:b] for x in (query, key, value))) for a, b in row], 1)
        for r, row in enumerate(spans)
    ]
    return cat(rows), None


AttentionInterface.register(NAME, _attend)
