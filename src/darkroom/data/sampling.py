"""Stratified draws: the same share, or the same number, of every class."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def draw_per_class(
    labels: NDArray[np.integer], counts: Mapping[int, int], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw `counts[label]` rows of each class without replacement.

    labels: [N]. Returns row indices in ascending order, so that what is read with them is read in source order.
    """
    drawn = [rng.choice(np.flatnonzero(labels == label), count, replace=False) for label, count in counts.items()]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def share_per_class(labels: NDArray[np.integer], fraction: float) -> dict[int, int]:
    """How many rows of each class make up `fraction` of it, to the nearest row."""
    values, counts = np.unique(labels, return_counts=True)
    return {int(label): round(int(count) * fraction) for label, count in zip(values, counts, strict=True)}
