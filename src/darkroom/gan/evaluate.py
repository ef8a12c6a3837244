"""Judgement of generated images by a fixed classifier of real ones."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from darkroom.data.metadata import DatasetInfo
from darkroom.data.splits import Split, hash_test_split, read_split
from darkroom.errors import DataError
from darkroom.files import sha256_of, write_json
from darkroom.gan.bootstrap import Interval, Selections, means, select_halves
from darkroom.gan.config import EvaluateGanConfig
from darkroom.gan.distances import frechet_distances, kernel_distances
from darkroom.gan.manifold import manifold_scores
from darkroom.gan.memorisation import find_nearest, memorisation_scores, most_suspicious
from darkroom.gan.model import GENERATOR_NAME, count_classes, load_generator
from darkroom.gan.modes import count_found, fit_modes
from darkroom.gan.reference import FEATURES, Judgement, judge, train_reference
from darkroom.gan.samples import generate, grid_labels, save_grid, to_pixels
from darkroom.gan.usefulness import Samples, measure_usefulness
from darkroom.training import OnEpoch, ignore_epoch

# Columns of the picture of nearest neighbours.
_PICTURED = 10


def evaluate(
    model_dir: Path,
    splits: Path,
    destination: Path,
    config: EvaluateGanConfig,
    *,
    on_epoch: OnEpoch = ignore_epoch,
) -> dict[str, float]:
    """Judge the generator in `model_dir` and write the evaluation to `destination`.

    Generated images are compared with the held-out test split, which neither the generator nor the classifier that
    judges has seen: against training images, a generator that copies them would win. They ask for the test split's
    classes in its proportions, so that the mix of classes adds nothing to the distance.

    Returns:
        Measured in the features of the classifier, between samples and real test images (`distances`, `manifold`):
        frechet_distance, kernel_distance: 0 is best. precision, recall, coverage: in [0, 1]; density. All of these
            depend on the dataset, on the classifier and on the number of images; compare only where these are the same.
        class_agreement: share of samples that the classifier assigns to the requested class, in [0, 1].
        modes: how many clusters of real training images the samples reach (`modes`).
        memorisation: 0 without, 1 for copies of training images (`memorisation`).
        classification_accuracy_score, scarce_data_gain: what samples are worth as training data (`usefulness`).
        reference_accuracy: of the classifier on the test split, in [0, 1].

        Files: metrics.json (the above), intervals.csv (all but the last, with intervals), evaluation.json (provenance),
        agreement.csv (per class), scarce_data.json, samples.png, nearest_neighbours.png.

    Raises:
        DataError: a file is missing or damaged, the generator does not fit the splits, or it makes NaN pixels.
        TrainingError: the classifier's training diverged.
        OSError: `destination` cannot be written.
    """
    destination.mkdir(parents=True, exist_ok=True)
    generator, path = load_generator(model_dir), model_dir / GENERATOR_NAME
    train, test = read_split(splits, "train"), read_split(splits, "test")
    check_fits(generator, test, path)
    requested = np.resize(test.labels, config.samples)
    samples = Samples(make_images(generator, requested, config.seed, path), requested)

    reference = train_reference(train, config, on_epoch=on_epoch)
    on_real, on_samples = judge(reference, test.images), judge(reference, samples.images)
    halves = _halves(test.labels, requested, config)
    intervals = {
        **_measure_features(on_real, on_samples, requested, halves, config),
        "modes": _count_modes(judge(reference, train.images), train.labels, on_samples, halves[1], config),
        "memorisation": _measure_memorisation(samples, train, test, config, destination),
    }
    usefulness = measure_usefulness(samples, train, test, halves[0], config)
    intervals |= {"classification_accuracy_score": usefulness.accuracy_score, "scarce_data_gain": usefulness.gain}
    metrics = {name: interval.value for name, interval in intervals.items()}
    metrics["reference_accuracy"] = float(np.mean(on_real.labels == test.labels))

    write_json(destination / "metrics.json", metrics)
    write_json(destination / "evaluation.json", provenance(path, splits, test.info, config))
    write_json(destination / "scarce_data.json", usefulness.as_json())
    _write_table(intervals_table(intervals), destination / "intervals.csv")
    _write_table(agreement_per_class(requested, on_samples.labels, test.info), destination / "agreement.csv")
    shown = grid_labels(len(test.info.classes), config.samples_per_class)
    picture = make_images(generator, shown, config.seed, path)
    save_grid(picture, test.info.classes, destination / "samples.png", f"{test.info.title}: generated")
    return metrics


def check_fits(generator: keras.Model, split: Split, path: Path) -> None:
    """Refuse a generator that was trained on images of another shape, or on other classes.

    Raises:
        DataError: names the file and what differs.
    """
    actual = (tuple(generator.output_shape[1:]), count_classes(generator))
    expected = (split.image_shape, len(split.info.classes))
    if actual != expected:
        raise DataError(
            f"{path}: generates images of shape {actual[0]} in {actual[1]} classes, but the splits hold images of "
            f"shape {expected[0]} in {expected[1]} classes"
        )


def make_images(generator: keras.Model, labels: NDArray[np.int64], seed: int, path: Path) -> NDArray[np.uint8]:
    """Generate one image per label: [N, H, W, C] uint8, rounded to grey levels as real images are.

    Raises:
        DataError: the generator's weights are no numbers.
    """
    images = generate(generator, labels, seed)
    if not np.isfinite(images).all():
        raise DataError(f"{path}: generates NaN or infinite pixels; its weights are damaged")
    return to_pixels(images)


def agreement_per_class(requested: NDArray[np.int64], assigned: NDArray[np.int64], info: DatasetInfo) -> pd.DataFrame:
    """Per class: its name, how many samples were requested, the share assigned to it, and the class taken most often.

    A class without requested samples has an empty agreement.
    """
    rows = []
    for label, name in enumerate(info.classes):
        seen = assigned[requested == label]
        counts = np.bincount(seen, minlength=len(info.classes))
        rows.append(
            {
                "label": label,
                "class": name,
                "samples": len(seen),
                "agreement": counts[label] / len(seen) if len(seen) else np.nan,
                "assigned_most_often": info.classes[int(counts.argmax())] if len(seen) else "",
            }
        )
    return pd.DataFrame(rows)


def provenance(generator_path: Path, splits: Path, info: DatasetInfo, config: EvaluateGanConfig) -> dict[str, Any]:
    """What the metrics rest on: the data, the generator, and how samples and classifier were made."""
    return {
        "dataset": info.name,
        "test_sha256": hash_test_split(splits),
        "model_sha256": sha256_of(generator_path),
        "reference_features": FEATURES,
        "keras": keras.__version__,
        **config.model_dump(),
    }


def intervals_table(intervals: Mapping[str, Interval]) -> pd.DataFrame:
    """One row per measure: its value and both ends of its interval."""
    return pd.DataFrame([{"measure": name, **asdict(interval)} for name, interval in intervals.items()])


def _halves(
    real: NDArray[np.int64], requested: NDArray[np.int64], config: EvaluateGanConfig
) -> tuple[Selections, Selections]:
    """The halves of real images and of samples, by class."""
    rng = np.random.default_rng(config.seed)
    return select_halves(real, config.resamples, rng), select_halves(requested, config.resamples, rng)


def _measure_features(
    real: Judgement,
    samples: Judgement,
    requested: NDArray[np.int64],
    halves: tuple[Selections, Selections],
    config: EvaluateGanConfig,
) -> dict[str, Interval]:
    def interval(values: NDArray[np.float64], least: float = 0.0, most: float = math.inf) -> Interval:
        return Interval.of(values, config.confidence, least=least, most=most)

    scores = manifold_scores(real.features, samples.features, *halves)
    return {
        "frechet_distance": interval(frechet_distances(real.features, samples.features, *halves)),
        "kernel_distance": interval(kernel_distances(real.features, samples.features, *halves), least=-math.inf),
        "precision": interval(scores.precision, most=1.0),
        "recall": interval(scores.recall, most=1.0),
        "density": interval(scores.density),
        "coverage": interval(scores.coverage, most=1.0),
        "class_agreement": interval(means(samples.labels == requested, halves[1]), most=1.0),
    }


def _count_modes(
    training: Judgement, labels: NDArray[np.int64], samples: Judgement, halves: Selections, config: EvaluateGanConfig
) -> Interval:
    modes = fit_modes(training.features, np.asarray(labels), config.modes_per_class, config.reference_seed)
    found = count_found(modes, samples.features, halves)
    return Interval.of(found, config.confidence, least=0, most=len(modes.centres))


def _measure_memorisation(
    samples: Samples, train: Split, test: Split, config: EvaluateGanConfig, destination: Path
) -> Interval:
    count = min(config.memorisation_samples, len(samples.labels))
    nearest = find_nearest(samples.images[:count], train.images, test.images)
    rng = np.random.default_rng(config.seed)
    labels = (train.labels, test.labels, samples.labels[:count])
    scores = memorisation_scores(nearest, *(select_halves(part, config.resamples, rng) for part in labels))
    _picture_nearest(samples.images[most_suspicious(nearest, _PICTURED)], train, test, destination)
    return Interval.of(scores, config.confidence, most=1.0)


def _picture_nearest(suspects: NDArray[np.uint8], train: Split, test: Split, destination: Path) -> None:
    """Draw the samples that are closest to a training image, that image, and the closest one never trained on."""
    trained = find_nearest(suspects, train.images, test.images[:0]).rows[:, 0]
    unseen = find_nearest(suspects, train.images[:0], test.images).rows[:, 0]
    save_grid(
        np.concatenate([suspects, train.images[trained], test.images[unseen]]),
        ["generated", "nearest in training", "nearest held out"],
        destination / "nearest_neighbours.png",
        "Samples closest to a training image",
    )


def _write_table(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, lineterminator="\n")
