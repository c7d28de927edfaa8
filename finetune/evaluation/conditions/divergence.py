"""How different distributions over the next token are, of which the likeliest are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from openchat_local.models.engine.protocol import Score

_TINY = 1e-12


class Tops(NamedTuple):
    """The likeliest tokens of some positions: `ids` (positions, tokens) int64, and the natural
    logarithms of their probabilities, float64."""

    ids: np.ndarray
    logs: np.ndarray

    @classmethod
    def of(cls, score: Score) -> Tops:
        """What a request with `top` was told."""
        known = np.array(score.top, np.float64).reshape(len(score.top), len(score.top[0]), 2)
        return cls(known[..., 0].astype(np.int64), known[..., 1])

    @classmethod
    def joined(cls, parts: Sequence[Tops]) -> Tops:
        """The positions of all, one after the other."""
        return cls(np.concatenate([p.ids for p in parts]), np.concatenate([p.logs for p in parts]))


class Divergence(NamedTuple):
    """Between two distributions p and q, in nats.

    `forward` is the Kullback-Leibler divergence KL(p‖q) and `backward` KL(q‖p): at least so
    much, since tokens that are not among the likeliest of both are counted as one. The
    Jensen-Shannon divergence, which is at most ln 2, lies between `shannon` and `shannon_most`.
    `unseen` is the probability of those tokens, the mean of both.
    """

    forward: float
    backward: float
    shannon: float
    shannon_most: float
    unseen: float


def divergences(first: Tops, second: Tops) -> np.ndarray:
    """(positions, 5) float64: the figures of a `Divergence` at every position, where p is of
    `first` and q of `second`.

    Tokens among the likeliest of both are taken as they are, all others together as one. By the
    log sum inequality (Cover and Thomas, Elements of Information Theory, theorem 2.7.1) that
    only lowers each divergence. What the others can add to Jensen-Shannon's (Lin 1991) is at
    most (p + q)/2 · ln 2 for each; to Kullback-Leibler's there is no bound.
    """
    count = len(first.ids)
    # A token of one position is another number than the same token of the next.
    stride = int(max(first.ids.max(initial=0), second.ids.max(initial=0))) + 1
    offsets = np.arange(count)[:, None] * stride
    common, in_first, in_second = np.intersect1d(
        (first.ids + offsets).ravel(),
        (second.ids + offsets).ravel(),
        assume_unique=True,
        return_indices=True,
    )
    at = common // stride
    log_p, log_q = first.logs.ravel()[in_first], second.logs.ravel()[in_second]
    p, q = np.exp(log_p), np.exp(log_q)

    def summed(values: np.ndarray) -> np.ndarray:
        return np.bincount(at, values, minlength=count)

    rest_p, rest_q = (np.maximum(1.0 - summed(seen), _TINY) for seen in (p, q))
    ratio = np.log(rest_p / rest_q)
    unseen = (rest_p + rest_q) / 2
    # Rounding makes a little less than 0 of equal distributions.
    shannon = np.maximum(summed(_shannon(p, q)), 0.0)
    return np.stack(
        [
            np.maximum(summed(p * (log_p - log_q)) + rest_p * ratio, 0.0),
            np.maximum(summed(q * (log_q - log_p)) - rest_q * ratio, 0.0),
            shannon + _shannon(rest_p, rest_q),
            np.minimum(shannon + unseen * math.log(2), math.log(2)),
            unseen,
        ],
        axis=1,
    )


def _shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """What a token adds to the Jensen-Shannon divergence, nats."""
    middle = (p + q) / 2
    terms: np.ndarray = (p * np.log(p / middle) + q * np.log(q / middle)) / 2
    return terms
