"""How good a classifier is. NumPy only.

Throughout: labels and predictions are [N] int64 in [0, K), probabilities are [N, K] and each row sums to one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Probabilities = NDArray[np.floating]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Tally:
    """How many of some images are classified correctly."""

    right: int
    images: int

    @classmethod
    def of(cls, right: NDArray[np.bool_]) -> Self:
        """Count; right: [N]."""
        return cls(int(right.sum()), len(right))

    @property
    def accuracy(self) -> float:
        """The share that is right; NaN of no images."""
        return self.right / self.images if self.images else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The accuracy's `wilson_interval`."""
        return wilson_interval(self.right, self.images)


@dataclass(frozen=True)
class ClassScores:
    """Scores of each class, [K]; one that divides by zero, as the precision of a class never predicted does, is 0."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


@dataclass(frozen=True)
class CalibrationBin:
    """The predictions whose confidence lies in (lower, upper]; means are 0 where count is 0."""

    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


def accuracy(labels: Labels, predictions: Labels) -> float:
    """The share of predictions that are right."""
    return float(np.mean(labels == predictions))


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The two-sided 95% confidence interval of a share.

    Wilson 1927, Journal of the American Statistical Association 22.
    It stays within [0, 1] and keeps its width when all or none succeed; without trials it is all of [0, 1].
    """
    if not trials:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    # Where all or none succeed, one end is exactly 1 or 0; rounding may miss it.
    return max(centre - half, 0.0), min(centre + half, 1.0)


def confusion_matrix(labels: Labels, predictions: Labels, classes: int) -> NDArray[np.int64]:
    """How often each true class (row) was predicted as each class (column): [K, K]."""
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def class_scores(confusion: NDArray[np.int64]) -> ClassScores:
    """Precision, recall, F1 and support of each class, from a confusion matrix [K, K]."""
    hits = np.diag(confusion)
    predicted, support = confusion.sum(axis=0), confusion.sum(axis=1)
    return ClassScores(
        precision=_divide(hits, predicted),
        recall=_divide(hits, support),
        f1=_divide(2 * hits, predicted + support),
        support=support,
    )


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """The unweighted mean of the classes' F1."""
    return float(class_scores(confusion).f1.mean())


def hardest_class(confusion: NDArray[np.int64]) -> int:
    """The class with the lowest recall, the first of equals; classes without images have none and do not count."""
    scores = class_scores(confusion)
    return int(np.where(scores.support > 0, scores.recall, np.inf).argmin())


def log_loss(labels: Labels, probabilities: Probabilities) -> float:
    """The mean of -log(probability of the true class), in nats.

    A probability of zero counts as the machine epsilon of its type, so that one sure mistake does not make it infinite.
    """
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.mean(np.log(np.maximum(chosen, np.finfo(chosen.dtype).eps), dtype=np.float64)))


def calibration_bins(labels: Labels, probabilities: Probabilities, bins: int) -> list[CalibrationBin]:
    """Confidence and accuracy in `bins` equal-width intervals of confidence, the largest probability of a row."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    # Intervals are open below and closed above; rounding may push a certain prediction past one.
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    mean_confidence = _divide(np.bincount(index, weights=confidence, minlength=bins), count)
    mean_accuracy = _divide(np.bincount(index, weights=right, minlength=bins), count)
    return [
        CalibrationBin(
            float(edges[i]), float(edges[i + 1]), int(count[i]), float(mean_confidence[i]), float(mean_accuracy[i])
        )
        for i in range(bins)
    ]


def expected_calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """ECE: the mean over bins of |accuracy - confidence|, weighted by count (Guo et al. 2017, equation 3)."""
    total = sum(entry.count for entry in bins)
    return sum(entry.count / total * abs(entry.accuracy - entry.confidence) for entry in bins)


def _divide(numerator: NDArray[np.generic], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    result = np.zeros(len(denominator))
    np.divide(numerator, denominator, out=result, where=denominator != 0)
    return result
