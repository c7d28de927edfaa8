"""The optimizer against the same formulas in NumPy float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from openchat_local.finetune.backends.mlx.adamw import Moments, adamw, squares
from openchat_local.finetune.backends.trainer import OptimizerConfig

import mlx.core as mx  # isort: skip  # after the package that loads OpenBLAS


def test_updates_are_those_of_adamw_in_float64() -> None:
    config = OptimizerConfig(betas=(0.9, 0.95), epsilon=1e-6, weight_decay=0.1)
    rate, random = 1e-2, np.random.default_rng(0)
    value = random.standard_normal((5, 7))
    mean, square = np.zeros_like(value), np.zeros_like(value)
    parameters = {"a": mx.array(value.astype(np.float32))}
    moments = Moments.none(parameters)
    for step in range(1, 6):
        slope = random.standard_normal(value.shape)
        mean = 0.9 * mean + 0.1 * slope
        square = 0.95 * square + 0.05 * slope**2
        value = value - rate * 0.1 * value
        value -= rate * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.95**step)) + 1e-6)
        given = {"a": mx.array(slope.astype(np.float32))}
        parameters, moments = adamw(parameters, given, moments, config, rate)
        np.testing.assert_allclose(np.array(parameters["a"]), value, rtol=1e-5, atol=1e-6)
    assert moments.steps == 5


def test_the_norm_is_over_all_arrays() -> None:
    gradients = {"a": mx.array([3.0]), "b": mx.array([[0.0, 4.0]])}
    assert math.sqrt(squares(gradients.values()).sum()) == pytest.approx(5)
