"""Memorisation: do samples lie nearer to images that the generator was trained on than to images it never saw?

Distances are Euclidean in pixels. A copy is then at distance zero, whatever the judge thinks of it; and the judge's own
features will not do, because it was trained on the same images as the generator, and sees these more clearly.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.gan.bootstrap import Selections
from darkroom.gan.manifold import squared_distances

# Nearest real images that are remembered of each sample. In a random half, none of 16 is chosen once in 65,000 times.
_REMEMBERED = 16
_BLOCK = 4000


@dataclass(frozen=True)
class NearestReal:
    """The real images nearest to each sample, nearest first.

    rows: [M, K] int64, below `trained` a row of the training images, from there on one of the held-out images;
    distances: [M, K] float32, squared, of pixels in [0, 1].
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float32]
    trained: int


def find_nearest(samples: NDArray[np.uint8], training: NDArray[np.uint8], held_out: NDArray[np.uint8]) -> NearestReal:
    """Find the real images nearest to each sample; all are [*, H, W, C]. A few thousand are in memory at a time."""
    flat = _flatten(samples)
    rows = np.empty((len(flat), 0), np.int64)
    distances = np.empty((len(flat), 0), np.float32)
    for first, images in ((0, training), (len(training), held_out)):
        for start in range(0, len(images), _BLOCK):
            squared = squared_distances(flat, _flatten(images[start : start + _BLOCK])).astype(np.float32)
            count = min(_REMEMBERED, squared.shape[1])
            nearest = np.argpartition(squared, count - 1, axis=1)[:, :count]
            distances = np.concatenate([distances, np.take_along_axis(squared, nearest, axis=1)], axis=1)
            rows = np.concatenate([rows, first + start + nearest], axis=1)
            order = distances.argsort(axis=1, kind="stable")[:, :_REMEMBERED]
            distances, rows = np.take_along_axis(distances, order, axis=1), np.take_along_axis(rows, order, axis=1)
    return NearestReal(rows, distances, len(training))


def memorisation_scores(
    nearest: NearestReal, of_training: Selections, of_held_out: Selections, of_samples: Selections
) -> NDArray[np.float64]:
    """How much likelier a sample's nearest real image is a training image than chance has it, in each selection: [S].

    With T training and H held-out images of one distribution, and samples that depend on neither, the nearest one is a
    training image with probability p = T / (T + H). The score is (share - p) / (1 - p): 0 on average without
    memorisation, whatever the samples' quality, and 1 when every sample is nearer to a training image than to any
    held-out one, as copies are. Samples that avoid training images score below 0.

    The three sets are those of Meehan et al. (2020); comparing which of two sets is nearest, instead of distances,
    follows the nearest-neighbour test of Lopez-Paz and Oquab (2017). All training images take part rather than as many
    as are held out, or a copy of one that is left out would go unseen. Both splits need the same mix of classes.
    """
    real = np.concatenate([of_training, of_held_out], axis=1)
    chance = of_training.sum(axis=1) / real.sum(axis=1)
    share = np.array([_share(nearest, chosen, drawn) for chosen, drawn in zip(real, of_samples, strict=True)])
    scores: NDArray[np.float64] = (share - chance) / (1 - chance)
    return scores


def most_suspicious(nearest: NearestReal, count: int) -> NDArray[np.int64]:
    """Rows of the samples that are closest to a training image, closest first."""
    to_training = np.where(nearest.rows < nearest.trained, nearest.distances, np.inf).min(axis=1)
    suspects: NDArray[np.int64] = to_training.argsort(kind="stable")[:count]
    return suspects


def _share(nearest: NearestReal, chosen: NDArray[np.bool_], drawn: NDArray[np.bool_]) -> float:
    """The share of drawn samples whose nearest chosen image is a training image."""
    present = chosen[nearest.rows[drawn]]
    first = np.take_along_axis(nearest.rows[drawn], present.argmax(axis=1)[:, None], axis=1)[:, 0]
    return float(np.mean(first[present.any(axis=1)] < nearest.trained))


def _flatten(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
