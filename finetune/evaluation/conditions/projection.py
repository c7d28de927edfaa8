"""Vectors in a plane, and how far apart classes lie."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openchat_local.models.errors import OpenChatError

SHUFFLES = 999
_AT_ONCE = 200_000  # vectors of shuffled classes
UMAP_NEIGHBOURS = 15


@dataclass(frozen=True, slots=True)
class Plane:
    """`points` (vectors, 2) float64; `shares` of the spread that each axis holds, None where
    the method knows none."""

    points: np.ndarray
    shares: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Silhouette:
    """How much closer vectors are to their own class than to the next one, from -1 to 1, `each`
    (vectors,) float64; and the share of random classes of the same sizes that are as far apart
    in the mean, `by_chance`."""

    each: np.ndarray
    by_chance: float

    @property
    def mean(self) -> float:
        """The score of all vectors together."""
        return float(self.each.mean())


def principal_components(vectors: np.ndarray) -> Plane:
    """The two directions in which `vectors` (vectors, width) are spread most, by a singular
    value decomposition of what is left when their mean is taken away (Pearson 1901; Jolliffe,
    Principal Component Analysis, 2nd edition, section 3.5).

    An axis points where its largest weight is positive, so that a picture comes again.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    total = float((values**2).sum())
    points = np.zeros((len(vectors), 2))
    shares = [0.0, 0.0]
    for index, (value, axis) in enumerate(zip(values[:2], axes[:2], strict=True)):
        sign = 1.0 if axis[np.argmax(np.abs(axis))] >= 0 else -1.0
        points[:, index] = centred @ (sign * axis)
        shares[index] = float(value) ** 2 / total if total else 0.0
    return Plane(points, (shares[0], shares[1]))


def require_umap() -> None:
    """Raise OpenChatError unless the package umap-learn is there."""
    if importlib.util.find_spec("umap") is None:
        raise OpenChatError(
            "--umap needs the package umap-learn: python -m pip install umap-learn; or leave "
            "--umap out, and the picture is made of principal components."
        )


def umap(vectors: np.ndarray) -> Plane:
    """The plane that keeps neighbours together (McInnes, Healy and Melville, arXiv 1802.03426);
    distances between groups mean little in it. Raises OpenChatError where it is not installed,
    or there are too few vectors for it."""
    require_umap()
    if len(vectors) < 5:
        raise OpenChatError(
            f"--umap needs at least 5 answers and there are {len(vectors)}: leave it out."
        )
    from umap import UMAP

    neighbours = min(UMAP_NEIGHBOURS, len(vectors) - 1)
    # One seed, and so one thread: the same picture comes again.
    reducer = UMAP(n_neighbors=neighbours, random_state=0, n_jobs=1)
    return Plane(np.asarray(reducer.fit_transform(vectors), dtype=np.float64), None)


def silhouette(vectors: np.ndarray, labels: Sequence[int] | np.ndarray) -> Silhouette | None:
    """The silhouettes of `vectors` (vectors, width) in the classes `labels` (vectors,), by
    Euclidean distances: of each vector (b - a) / max(a, b), where a is the mean distance to the
    others of its class, b the smallest mean distance to all of another class; 0 for one alone in
    its class (Rousseeuw 1987, Silhouettes, J. Comput. Appl. Math. 20).

    None where it says nothing: for fewer than 3 vectors, fewer than two classes, or as many
    classes as vectors.
    """
    _, classes = np.unique(np.asarray(labels), return_inverse=True)
    count = len(classes)
    if count < 3 or not 1 < int(classes.max(initial=0)) + 1 < count:
        return None
    distances = _distances(vectors.astype(np.float64))
    (each,) = _silhouettes(distances, classes[None])
    random = np.random.default_rng(0)
    reached, left = 0, SHUFFLES
    while left:
        some = min(left, max(1, _AT_ONCE // count))
        shuffled = random.permuted(np.tile(classes, (some, 1)), axis=1)
        means = _silhouettes(distances, shuffled).mean(axis=1)
        reached += int(np.count_nonzero(means >= each.mean() - 1e-12))
        left -= some
    # The classes as they are count among the random ones (Davison and Hinkley 1997, section 4.3).
    return Silhouette(each, (reached + 1) / (SHUFFLES + 1))


def _distances(vectors: np.ndarray) -> np.ndarray:
    centred = vectors - vectors.mean(axis=0)  # smaller numbers lose fewer digits
    squares = (centred**2).sum(axis=1)
    found = np.maximum(squares[:, None] + squares[None, :] - 2 * centred @ centred.T, 0.0)
    np.fill_diagonal(found, 0.0)
    return np.asarray(np.sqrt(found), dtype=np.float64)


def _silhouettes(distances: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(divisions, vectors): of each way to divide the vectors into `classes` of that shape."""
    members = np.eye(int(classes.max()) + 1)[classes]  # (divisions, vectors, classes)
    sizes = members.sum(axis=1, keepdims=True)
    sums = distances @ members
    own = classes[..., None]
    own_size = np.take_along_axis(np.broadcast_to(sizes, sums.shape), own, 2)[..., 0]
    within = np.take_along_axis(sums, own, 2)[..., 0] / np.maximum(own_size - 1, 1)
    between = sums / sizes
    np.put_along_axis(between, own, np.inf, 2)
    nearest = between.min(axis=2)
    larger = np.maximum(within, nearest)
    values: np.ndarray = np.divide(
        nearest - within, larger, out=np.zeros_like(larger), where=larger > 0
    )
    values[own_size == 1] = 0.0
    return values
