"""Principal components and silhouettes, held against scikit-learn's."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from openchat_local.finetune.evaluation.conditions.projection import (
    principal_components,
    silhouette,
    umap,
)
from openchat_local.models.errors import OpenChatError

SKLEARN = "set up with TORCH=no"


def clouds(apart: float, *, count: int = 40, width: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """(2 · count, width) float32 of two classes whose centres are `apart`, and their labels."""
    random = np.random.default_rng(7)
    vectors = random.normal(size=(2 * count, width))
    vectors[count:, 3] += apart
    return vectors.astype(np.float32) + 50, np.repeat([0, 1], count)


def test_principal_components_are_those_of_scikit_learn_but_for_their_signs() -> None:
    decomposition = pytest.importorskip("sklearn.decomposition", reason=SKLEARN)
    vectors, _ = clouds(3.0)

    plane = principal_components(vectors)

    pca = decomposition.PCA(n_components=2, svd_solver="full").fit(vectors.astype(np.float64))
    assert np.allclose(np.abs(plane.points), np.abs(pca.transform(vectors)), rtol=0, atol=1e-6)
    assert plane.shares == pytest.approx(tuple(pca.explained_variance_ratio_))


def test_an_axis_points_the_same_way_however_the_vectors_are_ordered() -> None:
    vectors, _ = clouds(3.0)

    there, back = principal_components(vectors), principal_components(vectors[::-1])

    assert np.allclose(there.points, back.points[::-1])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_or_equal_vectors_have_a_place_too(count: int) -> None:
    plane = principal_components(np.ones((count, 3), np.float32))

    assert np.allclose(plane.points, np.zeros((count, 2)))
    assert plane.shares == (0.0, 0.0)


@pytest.mark.parametrize("apart", [0.0, 2.0, 9.0])
def test_the_silhouette_is_that_of_scikit_learn(apart: float) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason=SKLEARN)
    vectors, labels = clouds(apart)
    labels[:3] = [2, 3, 3]  # classes of one and of two

    found = silhouette(vectors, labels)

    assert found is not None
    expected = metrics.silhouette_score(vectors.astype(np.float64), labels)
    assert found.mean == pytest.approx(expected, abs=1e-6)


def test_classes_that_lie_apart_do_not_do_so_by_chance() -> None:
    near, far = silhouette(*clouds(0.0)), silhouette(*clouds(9.0))

    assert near is not None
    assert far is not None
    assert near.by_chance > 0.05
    assert far.by_chance == 0.001
    assert far.mean > 0.3 > near.mean


@pytest.mark.parametrize("labels", [[], [0], [0, 1], [0, 0, 0], [0, 1, 2]], ids=str)
def test_a_silhouette_that_would_say_nothing_is_none(labels: list[int]) -> None:
    assert silhouette(np.arange(2.0 * len(labels)).reshape(-1, 2), labels) is None


def test_equal_vectors_have_a_silhouette_of_nothing() -> None:
    found = silhouette(np.ones((4, 3), np.float32), [0, 0, 1, 1])

    assert found is not None
    assert found.mean == 0.0
    assert found.by_chance == 1.0


@pytest.mark.skipif(importlib.util.find_spec("umap") is not None, reason="umap-learn is there")
def test_umap_that_is_not_installed_is_asked_for_by_its_name() -> None:
    with pytest.raises(OpenChatError, match="pip install umap-learn"):
        umap(clouds(1.0)[0])
