"""How different two distributions over the next token are, of which the likeliest are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Top = Sequence[tuple[int, float]]  # token ids with the natural logarithms of their probabilities
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Divergence:
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

    def __add__(self, other: Divergence) -> Divergence:
        return Divergence(
            self.forward + other.forward,
            self.backward + other.backward,
            self.shannon + other.shannon,
            self.shannon_most + other.shannon_most,
            self.unseen + other.unseen,
        )

    def __truediv__(self, count: float) -> Divergence:
        return Divergence(
            self.forward / count,
            self.backward / count,
            self.shannon / count,
            self.shannon_most / count,
            self.unseen / count,
        )


NOTHING = Divergence(0.0, 0.0, 0.0, 0.0, 0.0)


def divergence(first: Top, second: Top) -> Divergence:
    """Between the distributions whose likeliest tokens are `first` (p) and `second` (q).

    Tokens among the likeliest of both are taken as they are, all others together as one. By the
    log sum inequality (Cover and Thomas, Elements of Information Theory, theorem 2.7.1) that
    only lowers each divergence. What the others can add to Jensen-Shannon's (Lin 1991) is at
    most (p + q)/2 · ln 2 for each; to Kullback-Leibler's there is no bound.
    """
    other = dict(second)
    forward = backward = shannon = 0.0
    seen_first = seen_second = 0.0
    for id, log_p in first:
        log_q = other.get(id)
        if log_q is None:
            continue
        p, q = math.exp(log_p), math.exp(log_q)
        seen_first, seen_second = seen_first + p, seen_second + q
        forward += p * (log_p - log_q)
        backward += q * (log_q - log_p)
        shannon += _shannon(p, q)
    rest_first, rest_second = max(1.0 - seen_first, _TINY), max(1.0 - seen_second, _TINY)
    ratio = math.log(rest_first / rest_second)
    unseen = (rest_first + rest_second) / 2
    return Divergence(
        # Rounding makes a little less than 0 of equal distributions.
        max(forward + rest_first * ratio, 0.0),
        max(backward - rest_second * ratio, 0.0),
        max(shannon + _shannon(rest_first, rest_second), 0.0),
        min(max(shannon, 0.0) + unseen * math.log(2), math.log(2)),
        unseen,
    )


def _shannon(p: float, q: float) -> float:
    """What a token adds to the Jensen-Shannon divergence, nats."""
    if p <= 0.0 or q <= 0.0:
        return (p + q) / 2 * math.log(2)
    middle = (p + q) / 2
    return (p * math.log(p / middle) + q * math.log(q / middle)) / 2
