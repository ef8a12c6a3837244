"""Modes: kinds of images within a class, and which of them a generator makes. NumPy and SciPy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2, vq

from darkroom.gan.bootstrap import Selections

_ITERATIONS = 20
# A mode that gets less than a tenth of the images that it has among real ones is as good as dropped.
_FOUND = 0.1


@dataclass(frozen=True)
class Modes:
    """centres: [K, F] in feature space; shares: [K], of the real images that are nearest to each."""

    centres: NDArray[np.float64]
    shares: NDArray[np.float64]


def fit_modes(features: NDArray[np.float64], labels: NDArray[np.int64], per_class: int, seed: int) -> Modes:
    """Divide each class of real training images into `per_class` clusters by k-means on features [N, F].

    A class with fewer different images has as many modes as images. Clusters of training images as bins for samples are
    the idea of Richardson and Weiss (2018); here each class has its own, so that no class goes without.
    """
    rng = np.random.default_rng(seed)
    centres = np.concatenate([_cluster(features[labels == label], per_class, rng) for label in np.unique(labels)])
    return Modes(centres, np.bincount(vq(features, centres)[0], minlength=len(centres)) / len(features))


def count_found(modes: Modes, features: NDArray[np.float64], selections: Selections) -> NDArray[np.float64]:
    """How many modes are found in each selection of generated features [M, F]: [S].

    An image belongs to the mode with the nearest centre, whatever class it was asked for. A mode is found when it gets
    at least one image, and at least a tenth of the share that it has among real training images.
    """
    nearest = vq(features, modes.centres)[0]
    counts = np.array([np.bincount(nearest[chosen], minlength=len(modes.centres)) for chosen in selections])
    enough = np.maximum(_FOUND * modes.shares * selections.sum(axis=1)[:, None], 1)
    found: NDArray[np.float64] = (counts >= enough).sum(axis=1).astype(np.float64)
    return found


def _cluster(features: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    different = np.unique(features, axis=0)
    if len(different) <= count:
        return different
    centres: NDArray[np.float64] = kmeans2(features, count, iter=_ITERATIONS, minit="++", rng=rng)[0]
    return centres
