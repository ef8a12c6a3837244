"""The gate: may this model be served, and may it replace the one that is served now?

Two questions, answered apart. A model *passes* when its own figures keep to fixed thresholds. It is *promoted* when it
passes and, where a champion exists, is shown to be no worse than the champion on the same test images.

Why not "significantly better": a schedule retrains on the newest data, and an equal model that knows the newest data
is worth having. Why not merely "not significantly worse": on a small test set nothing is significant, and a bad model
would slip through for lack of evidence. So the classifier's rule is a test of non-inferiority: the lower confidence
bound of the paired accuracy difference must lie above `-max_accuracy_drop`. McNemar's exact test is reported beside it
and can only veto: a model that is worse beyond chance is not promoted even within the margin. Many small drops in a row
are stopped by the thresholds, which do not move with the champion.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from darkroom.config import StepConfig
from darkroom.errors import DataError

# Drawn test sets; with these many the bound's own error is a hundredth of its distance to the difference.
_RESAMPLES = 20_000


class GateConfig(StepConfig):
    """Thresholds of the gate. Rates lie in [0, 1]; a Frechet distance is not negative and None sets no limit."""

    cnn_min_accuracy: float = Field(0.85, ge=0, le=1, description="lowest test accuracy")
    cnn_min_macro_f1: float = Field(0.85, ge=0, le=1, description="lowest mean of the classes' F1")
    cnn_min_recall: float = Field(0.50, ge=0, le=1, description="lowest recall of any class")
    cnn_max_ece: float = Field(0.10, ge=0, le=1, description="highest expected calibration error")
    max_accuracy_drop: float = Field(0.005, ge=0, le=1, description="margin of non-inferiority to the champion")
    significance: float = Field(0.05, gt=0, lt=0.5, description="one-sided error of the comparison with the champion")
    gan_min_class_agreement: float = Field(
        0.70, ge=0, le=1, description="lowest share of samples that the fixed classifier assigns to the requested class"
    )
    gan_max_frechet_distance: float | None = Field(None, ge=0, description="highest Frechet distance, in its units")
    max_agreement_drop: float = Field(0.02, ge=0, le=1, description="largest loss of class agreement to the champion")
    max_frechet_increase: float = Field(0.05, ge=0, description="largest increase over the champion, as a share of it")


@dataclass(frozen=True)
class Predictions:
    """What a classifier said about the test split, in its order.

    probabilities: [N, K] float32, rows sum to 1; labels: [N] int64 in [0, K).
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read `predictions.npz` as `evaluate_cnn` writes it.

        Raises:
            DataError: the file is missing, damaged or lacks an array.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(probabilities=file["probabilities"], labels=file["labels"])
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DataError(f"{path}: not readable as predictions: {error}") from None

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the most probable class is the true one: [N]."""
        right: NDArray[np.bool_] = self.probabilities.argmax(axis=1) == self.labels
        return right


@dataclass(frozen=True)
class Decision:
    """`passed`: keeps to its own thresholds; `promote`: may become champion; `reasons`: why, in numbers."""

    passed: bool
    promote: bool
    reasons: list[str] = field(default_factory=list)


def check(kind: Literal["cnn", "gan"], metrics: Mapping[str, float], config: GateConfig) -> tuple[bool, list[str]]:
    """Whether a model keeps to its own thresholds, and why. A metric that is missing or NaN fails."""
    if kind == "cnn":
        return _check(
            metrics,
            [
                ("accuracy", "accuracy", _at_least, config.cnn_min_accuracy),
                ("macro_f1", "macro F1", _at_least, config.cnn_min_macro_f1),
                ("lowest_recall", "lowest recall of a class", _at_least, config.cnn_min_recall),
                ("ece", "expected calibration error", _at_most, config.cnn_max_ece),
            ],
        )
    thresholds = [("class_agreement", "class agreement", _at_least, config.gan_min_class_agreement)]
    if config.gan_max_frechet_distance is not None:
        thresholds.append(("frechet_distance", "Frechet distance", _at_most, config.gan_max_frechet_distance))
    return _check(metrics, thresholds)


def decide_cnn(
    candidate_metrics: Mapping[str, float], candidate: Predictions, champion: Predictions | None, config: GateConfig
) -> Decision:
    """Decide about a classifier. `champion` holds the champion's predictions for the same images; None: no champion."""
    passed, reasons = check("cnn", candidate_metrics, config)
    if champion is None:
        return _without_champion(passed, reasons)
    not_inferior, comparison = compare_accuracy(candidate, champion, config)
    return Decision(passed, passed and not_inferior, [*reasons, *comparison])


def decide_gan(
    candidate_metrics: Mapping[str, float], champion_metrics: Mapping[str, float] | None, config: GateConfig
) -> Decision:
    """Decide about a generator. `champion_metrics` were measured on the same test split; None: no champion.

    Samples of two generators cannot be paired, so point estimates are compared, with margins.
    """
    passed, reasons = check("gan", candidate_metrics, config)
    if champion_metrics is None:
        return _without_champion(passed, reasons)
    agreement = champion_metrics.get("class_agreement", math.nan) - config.max_agreement_drop
    distance = champion_metrics.get("frechet_distance", math.nan) * (1 + config.max_frechet_increase)
    not_inferior, comparison = _check(
        candidate_metrics,
        [
            ("class_agreement", "against the champion: class agreement", _at_least, agreement),
            ("frechet_distance", "against the champion: Frechet distance", _at_most, distance),
        ],
    )
    return Decision(passed, passed and not_inferior, [*reasons, *comparison])


def compare_accuracy(candidate: Predictions, champion: Predictions, config: GateConfig) -> tuple[bool, list[str]]:
    """Whether the candidate is not inferior to the champion, from paired predictions, and why.

    With b images that only the champion gets right and c that only the candidate does, McNemar's exact one-sided test
    asks whether b out of b + c is more than half (McNemar 1947, Psychometrika 12). The lower bound of the difference
    (c - b) / N is a quantile of its paired bootstrap distribution (Efron and Tibshirani 1993, chapter 13): test images
    are drawn anew, each with both models' answers. As an image adds -1, 0 or 1, that is a draw from a multinomial.

    Raises:
        DataError: the two were not asked about the same images.
    """
    from scipy.stats import binomtest

    if not np.array_equal(candidate.labels, champion.labels):
        raise DataError("candidate and champion were evaluated on different test images; they cannot be paired")
    images = len(candidate.labels)
    only_champion = int((champion.correct & ~candidate.correct).sum())
    only_candidate = int((candidate.correct & ~champion.correct).sum())
    discordant = only_champion + only_candidate
    p_worse = float(binomtest(only_champion, discordant, alternative="greater").pvalue) if discordant else 1.0

    bound = bootstrap_lower_bound(only_candidate, only_champion, images, config.significance)
    difference = (only_candidate - only_champion) / images
    not_inferior = bound > -config.max_accuracy_drop
    worse = p_worse < config.significance
    confidence = f"{100 * (1 - config.significance):g}%"
    reasons = [
        f"accuracy minus the champion's on the same {images} images: {difference:+.4f}, lower {confidence} bound of "
        f"its bootstrap {bound:+.4f}, which is {'above' if not_inferior else 'not above'} the margin "
        f"{-config.max_accuracy_drop:g}",
        f"McNemar's exact test: {only_candidate} images right only here, {only_champion} only for the champion, "
        f"p = {p_worse:.3g} for worse, {'significant' if worse else 'not significant'} at {config.significance:g}",
    ]
    return not_inferior and not worse, reasons


def bootstrap_lower_bound(only_candidate: int, only_champion: int, images: int, significance: float) -> float:
    """The `significance` quantile of the accuracies' difference over resampled test images; the same each time."""
    same = images - only_candidate - only_champion
    shares = np.array([only_candidate, only_champion, same]) / images
    draws = np.random.default_rng(0).multinomial(images, shares, size=_RESAMPLES)
    return float(np.quantile((draws[:, 0] - draws[:, 1]) / images, significance))


_Rule = Callable[[float, float], tuple[bool, str]]


def _at_least(value: float, limit: float) -> tuple[bool, str]:
    return value >= limit, "at least"


def _at_most(value: float, limit: float) -> tuple[bool, str]:
    return value <= limit, "at most"


def _check(metrics: Mapping[str, float], thresholds: Sequence[tuple[str, str, _Rule, float]]) -> tuple[bool, list[str]]:
    passed = True
    reasons = []
    for key, name, rule, limit in thresholds:
        value = metrics.get(key, math.nan)
        kept, relation = rule(value, limit)
        kept = kept and math.isfinite(value)  # NaN fails every comparison by itself; infinity would not
        passed = passed and kept
        shown = f"{value:.4f}" if key in metrics else "missing"
        reasons.append(f"{name} {shown} {'is' if kept else 'is not'} {relation} {limit:.4g}")
    return passed, reasons


def _without_champion(passed: bool, reasons: list[str]) -> Decision:
    return Decision(passed, passed, [*reasons, "there is no champion to compare with"])
