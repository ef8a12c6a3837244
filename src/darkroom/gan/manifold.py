"""Precision, recall, density and coverage: do samples lie where real images do, and everywhere they do? NumPy only.

A set's manifold is estimated by balls: one around each of its images, with the distance to its k-th nearest neighbour
in the set as radius. All four depend on the number of images and on the features; compare only where these are the
same.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.gan.bootstrap import Selections

# The papers' own choices.
PRECISION_NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5

# Neighbours that are remembered of each image. In a random half, fewer than five of 48 are chosen once in 10^8 times.
_REMEMBERED = 48
_BLOCK = 1000


@dataclass(frozen=True)
class ManifoldScores:
    """One value per selection, [S].

    precision: share of generated images inside a real ball; recall: share of real images inside a generated ball
    (Kynkaanniemi et al. 2019, equations 2 and 3, k = 3). Both in [0, 1].

    density: real balls around a generated image, on average and as a share of k; 1 for real images, more where samples
    crowd. coverage: share of real balls with a generated image inside, in [0, 1] (Naeem et al. 2020, equations 3 and 4,
    k = 5).
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    density: NDArray[np.float64]
    coverage: NDArray[np.float64]


@dataclass(frozen=True)
class _Neighbours:
    """Each image's nearest others, nearest first: squared distances and rows, [N, K]."""

    distances: NDArray[np.float64]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class _Pairs:
    """Pairs of a real and a generated image that are near enough for one to lie in the other's ball: [P] each."""

    real: NDArray[np.int32]
    generated: NDArray[np.int32]
    distances: NDArray[np.float64]


def manifold_scores(
    real: NDArray[np.float64], generated: NDArray[np.float64], of_real: Selections, of_generated: Selections
) -> ManifoldScores:
    """Score each selection of real features [N, F] and generated features [M, F]: balls and images alike.

    of_real: [S, N]; of_generated: [S, M]; row 0 selects everything. Distances are measured once. A ball that is looked
    for in a selection has at most the radius of the farthest neighbour remembered.

    Raises:
        ValueError: a selection has too few images for a k-th neighbour.
    """
    fewest = min(of_real.sum(axis=1).min(), of_generated.sum(axis=1).min())
    if fewest <= DENSITY_NEIGHBOURS:
        raise ValueError(f"balls need more than {DENSITY_NEIGHBOURS} images in every selection, got {fewest}")
    near_real, near_generated = _nearest_others(real), _nearest_others(generated)
    cross = squared_distances(real, generated)
    in_real = _pairs(cross, near_real.distances[:, -1:])
    in_generated = _pairs(cross, near_generated.distances[:, -1])
    del cross
    rows = [
        _score(near_real, near_generated, in_real, in_generated, chosen, drawn)
        for chosen, drawn in zip(of_real, of_generated, strict=True)
    ]
    return ManifoldScores(*np.array(rows).T)


def squared_distances(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """|a - b|^2 of each pair of rows [N, F] and [M, F]: [N, M], never negative."""
    products = a @ b.T
    products *= -2
    products += np.sum(a * a, axis=1)[:, None]
    products += np.sum(b * b, axis=1)
    return np.maximum(products, 0, out=products)


def _score(
    near_real: _Neighbours,
    near_generated: _Neighbours,
    in_real: _Pairs,
    in_generated: _Pairs,
    chosen: NDArray[np.bool_],
    drawn: NDArray[np.bool_],
) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage of the chosen real and the drawn generated images."""
    precise, dense = _radii(near_real, chosen, PRECISION_NEIGHBOURS), _radii(near_real, chosen, DENSITY_NEIGHBOURS)
    recalling = _radii(near_generated, drawn, PRECISION_NEIGHBOURS)
    present = drawn[in_real.generated]
    within = present & (in_real.distances < precise[in_real.real])
    densely = present & (in_real.distances < dense[in_real.real])
    recalled = chosen[in_generated.real] & (in_generated.distances < recalling[in_generated.generated])
    inside, found, covered = np.zeros(len(drawn), bool), np.zeros(len(chosen), bool), np.zeros(len(chosen), bool)
    inside[in_real.generated[within]] = True
    found[in_generated.real[recalled]] = True
    covered[in_real.real[densely]] = True
    return (
        inside.sum() / drawn.sum(),
        found.sum() / chosen.sum(),
        densely.sum() / (DENSITY_NEIGHBOURS * drawn.sum()),
        covered.sum() / chosen.sum(),
    )


def _nearest_others(features: NDArray[np.float64]) -> _Neighbours:
    count = min(_REMEMBERED, len(features) - 1)
    distances, rows = np.empty((len(features), count)), np.empty((len(features), count), np.int64)
    for start in range(0, len(features), _BLOCK):
        block = slice(start, start + _BLOCK)
        squared = squared_distances(features[block], features)
        # No image is its own neighbour.
        np.fill_diagonal(squared[:, start:], np.inf)
        nearest = np.argpartition(squared, count - 1, axis=1)[:, :count]
        found = np.take_along_axis(squared, nearest, axis=1)
        order = found.argsort(axis=1, kind="stable")
        distances[block] = np.take_along_axis(found, order, axis=1)
        rows[block] = np.take_along_axis(nearest, order, axis=1)
    return _Neighbours(distances, rows)


def _radii(near: _Neighbours, chosen: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    """Squared distance to the k-th nearest other image that is chosen: [N]; 0, an empty ball, where none is around."""
    reached = np.cumsum(chosen[near.rows], axis=1, dtype=np.int8) >= k
    # Where fewer than k are remembered, the farthest of them stands for the k-th.
    position = np.where(reached[:, -1], reached.argmax(axis=1), near.rows.shape[1] - 1)
    radii = np.take_along_axis(near.distances, position[:, None], axis=1)[:, 0]
    return np.where(chosen, radii, 0)


def _pairs(cross: NDArray[np.floating], reach: NDArray[np.float64]) -> _Pairs:
    real, generated = np.nonzero(cross <= reach)
    return _Pairs(real.astype(np.int32), generated.astype(np.int32), cross[real, generated].astype(np.float64))
