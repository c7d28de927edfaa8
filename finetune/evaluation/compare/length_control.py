"""How often answers were preferred, had both been of one length.

Longer answers are liked better, by models above all. AlpacaEval 2 (Dubois et al. 2024,
arXiv 2404.04475) explains each preference by a logistic regression with three terms: which
contender it is, the tanh of the standardised difference in length, and how hard the
instruction is; and predicts it with the second left out. The third is learnt there from many
models' answers to each instruction, and has nothing to be learnt from here, where there is one
judgement a prompt. What is fitted is therefore

    P(A preferred) = σ(θ + φ · tanh((length of A - length of B) / s))

with s the standard deviation of the difference; ties are preferences of ½. At a difference of
0 this is σ(θ).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openchat_local.finetune.evaluation.statistics import Interval

LEAST_JUDGED = 20
LEAST_A_SIDE = 3
# The precision of a normal prior on θ and on φ, of standard deviation 3: a resample in which
# length explains everything has no maximum without it.
RIDGE = 1 / 9
_STEPS = 50
_SAMPLES = 2000


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """`rate` is how often A's answers would be preferred at equal lengths, from 0 to 1.

    `length_weight` is φ above: positive where longer answers were preferred.
    """

    rate: float
    interval: Interval
    length_weight: float


def length_controlled(
    preferences: np.ndarray,
    lengths_a: np.ndarray,
    lengths_b: np.ndarray,
    *,
    level: float = 0.95,
    samples: int = _SAMPLES,
    seed: int = 0,
) -> LengthControlled | str:
    """The length-controlled win rate of A, its interval from resampled prompts; or a sentence
    on why the judgements cannot tell it.

    `preferences` is (prompts,): 1 where A's answer was preferred, 0 where B's, ½ for a tie.
    Lengths are (prompts,), in whatever unit both share.
    """
    difference = np.asarray(lengths_a, np.float64) - np.asarray(lengths_b, np.float64)
    preferences = np.asarray(preferences, np.float64)
    reason = _why_not(preferences, difference)
    if reason is not None:
        return reason
    features = np.stack([np.ones(len(difference)), np.tanh(difference / difference.std())], 1)
    theta, weight = fit(features, preferences, np.ones((1, len(preferences))))[0]
    counts = np.random.default_rng(seed).multinomial(
        len(preferences), np.full(len(preferences), 1 / len(preferences)), samples
    )
    drawn = _sigmoid(fit(features, preferences, counts)[:, 0])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return LengthControlled(
        float(_sigmoid(theta)), Interval(float(low), float(high)), float(weight)
    )


def fit(features: np.ndarray, preferences: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(samples, 2): the weights of both features by penalised maximum likelihood.

    `features` is (prompts, 2), `counts` (samples, prompts) says how often each prompt is in
    each sample. Newton's method (iteratively reweighted least squares), all samples together.
    """
    weights = np.zeros((len(counts), 2))
    squares = (features[:, :, None] * features[:, None, :]).reshape(-1, 4)
    ridge = RIDGE * np.eye(2)
    for _ in range(_STEPS):
        likely = _sigmoid(weights @ features.T)
        gradient = (counts * (preferences - likely)) @ features - RIDGE * weights
        curvature = counts * likely * (1 - likely)
        hessian = (curvature @ squares).reshape(-1, 2, 2) + ridge
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        # A full step may overshoot where almost everything is explained.
        step *= np.minimum(1.0, 2.0 / np.maximum(np.abs(step).max(1, keepdims=True), 1e-12))
        weights += step
        if np.abs(step).max() < 1e-9:
            break
    return weights


def _why_not(preferences: np.ndarray, difference: np.ndarray) -> str | None:
    judged = len(preferences)
    if judged < LEAST_JUDGED:
        return f"it takes {LEAST_JUDGED} judgements, and there are {judged}"
    if min((preferences > 0.5).sum(), (preferences < 0.5).sum()) < LEAST_A_SIDE:
        return "almost all judgements are the same, whatever the lengths"
    if min((difference > 0).sum(), (difference < 0).sum()) < LEAST_A_SIDE:
        return (
            "one of the two wrote the longer answer to almost every prompt, so what length is "
            "worth cannot be told from what it is worth"
        )
    return None


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(values / 2))
