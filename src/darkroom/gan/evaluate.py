"""Judgement of generated images by a fixed classifier of real ones."""

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
from darkroom.gan.config import EvaluateGanConfig
from darkroom.gan.model import GENERATOR_NAME, count_classes, load_generator
from darkroom.gan.reference import FEATURES, judge, train_reference
from darkroom.gan.samples import generate, grid_labels, save_grid, to_pixels
from darkroom.training import OnEpoch, ignore_epoch


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
        frechet_distance: between generated and real test images; 0 is best. It depends on the dataset, on the
            classifier and on the number of samples; compare only where these are the same.
        class_agreement: share of generated images that the classifier assigns to the requested class, in [0, 1].
        reference_accuracy: of the classifier on the test split, in [0, 1].

        Files: metrics.json (the above), evaluation.json (provenance), agreement.csv (per class), samples.png.

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
    generated = make_images(generator, requested, config.seed, path)

    reference = train_reference(train, config, on_epoch=on_epoch)
    on_generated, on_real = judge(reference, generated), judge(reference, test.images)
    metrics = {
        "frechet_distance": frechet_distance(on_real.features, on_generated.features),
        "class_agreement": float(np.mean(on_generated.labels == requested)),
        "reference_accuracy": float(np.mean(on_real.labels == test.labels)),
    }

    write_json(destination / "metrics.json", metrics)
    write_json(destination / "evaluation.json", provenance(path, splits, test.info, config))
    table = agreement_per_class(requested, on_generated.labels, test.info)
    table.to_csv(destination / "agreement.csv", index=False, lineterminator="\n")
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


def frechet_distance(real: NDArray[np.float64], generated: NDArray[np.float64]) -> float:
    """Frechet distance between the Gaussians fitted to two sets of features (Heusel et al. 2017, equation 6).

    d^2 = |m_r - m_g|^2 + Tr(C_r + C_g - 2 (C_r C_g)^(1/2)), where m and C are mean and covariance. As in that paper,
    what is reported is d^2. It is not the Frechet Inception Distance, whose features come from an Inception network.

    Args:
        real: [N, F] features of real images.
        generated: [M, F] features of generated images.

    Raises:
        ValueError: fewer than two rows, from which no covariance can be estimated.
    """
    if min(len(real), len(generated)) < 2:
        raise ValueError(f"a covariance needs two rows of features, got {len(real)} and {len(generated)}")
    return gaussian_frechet_distance(
        real.mean(axis=0), _covariance(real), generated.mean(axis=0), _covariance(generated)
    )


def gaussian_frechet_distance(
    mean_a: NDArray[np.float64], cov_a: NDArray[np.float64], mean_b: NDArray[np.float64], cov_b: NDArray[np.float64]
) -> float:
    """Frechet distance of two Gaussians, with means [F] and covariances [F, F] (Dowson and Landau 1982).

    C_a C_b is not symmetric, and its numerical square root may come out complex. C_a^(1/2) C_b C_a^(1/2) is symmetric
    and has the same eigenvalues; the trace of the root is the sum of their roots. Eigenvalues that rounding made
    negative count as zero.
    """
    root_a = _symmetric_root(cov_a)
    eigenvalues = np.linalg.eigvalsh(root_a @ cov_b @ root_a)
    trace_of_root = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    distance = np.sum((mean_a - mean_b) ** 2) + np.trace(cov_a) + np.trace(cov_b) - 2 * trace_of_root
    return max(float(distance), 0.0)


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


def _covariance(features: NDArray[np.float64]) -> NDArray[np.float64]:
    # np.cov gives a scalar for one feature.
    return np.atleast_2d(np.cov(features, rowvar=False))


def _symmetric_root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    eigenvalues, vectors = np.linalg.eigh(matrix)
    root: NDArray[np.float64] = (vectors * np.sqrt(np.clip(eigenvalues, 0, None))) @ vectors.T
    return root
