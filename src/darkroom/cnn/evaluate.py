"""Evaluate the classifier on the test split."""

import csv
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from darkroom.cnn import metrics, plots
from darkroom.cnn.calibration import calibrate, fit_temperature
from darkroom.cnn.config import EvaluateCnnConfig
from darkroom.cnn.corruptions import choose_rows, measure_robustness
from darkroom.cnn.slices import slice_accuracy
from darkroom.cnn.train import MODEL_FILE
from darkroom.data.splits import Split, hash_test_split, read_split
from darkroom.errors import DataError
from darkroom.files import sha256_of, write_json
from darkroom.training import load_model, predict

_PICTURED_IMAGES = 25
_CONFUSION_FILE = "confusion.csv"
_TALLY_COLUMNS = ("images", "accuracy", "lower", "upper")


@dataclass(frozen=True)
class Evaluation:
    """Everything measured on one split of N images and K classes.

    probabilities: [N, K] float32; confusion: [K, K], rows are true classes; bins and calibrated_bins: of the
    probabilities as they are and at the fitted temperature.
    """

    probabilities: NDArray[np.float32]
    confusion: NDArray[np.int64]
    bins: list[metrics.CalibrationBin]
    calibrated_bins: list[metrics.CalibrationBin]
    values: dict[str, float]


def evaluate(model_dir: Path, splits: Path, destination: Path, config: EvaluateCnnConfig) -> dict[str, float]:
    """Measure `model.keras` in `model_dir` on every image of the test split.

    Writes into `destination`:
    - metrics.json: the returned numbers;
    - evaluation.json: on which data and with which model they were measured;
    - per_class.csv: precision, recall, F1 and support, and a note at the class with the lowest recall;
    - confusion.csv: true classes by row, predicted by column;
    - slices.csv: accuracy with its interval by class and by quarters of image statistics (see `slices`);
    - corruptions.csv: the same under each corruption at each severity (see `corruptions`);
    - confusion.png, calibration.png, slices.png, corruptions.png, predictions.png, and hardest.png, the test images of
      which the classifier was most sure that they are something else;
    - predictions.npz: probabilities [N, K] float32 and labels [N] int64, in the order of the split.

    The temperature is fitted on the validation split, which the test metrics at that temperature have not seen.

    Returns:
        accuracy with its 95% interval accuracy_lower to accuracy_upper, macro_f1, lowest_recall (of all classes),
        log_loss (nats) and ece (expected calibration error), both as the model is and, as log_loss_calibrated and
        ece_calibrated, at the fitted temperature; corrupted_accuracy, the mean over corruptions and severities, where
        there are any.

    Raises:
        DataError: the model or the split is missing or damaged, or they do not belong together.
        OSError: `destination` cannot be written.
    """
    destination.mkdir(parents=True, exist_ok=True)
    model_path = model_dir / MODEL_FILE
    model, split = load_model(model_path), read_split(splits, "test")
    _check_match(model, model_path, split)
    validation = read_split(splits, "validation")
    temperature = fit_temperature(validation.labels, predict(model, validation.images, config.batch_size))
    evaluation = measure(predict(model, split.images, config.batch_size), split.labels, temperature, config)
    values = dict(evaluation.values)
    _write_tables(evaluation, split, destination)
    _write_pictures(evaluation, split, config, destination)
    _write_slices(evaluation, split, destination)
    if config.corrupted_images:
        values["corrupted_accuracy"] = _write_corruptions(model, split, config, destination)
    write_json(destination / "metrics.json", values)
    provenance = {
        "dataset": split.info.name,
        "test_images": len(split),
        "test_sha256": hash_test_split(splits),
        "model_sha256": sha256_of(model_path),
        "parameters": model.count_params(),
        "keras": keras.__version__,
        "config": config.model_dump(),
    }
    write_json(destination / "evaluation.json", provenance)
    return values


def measure(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], temperature: float, config: EvaluateCnnConfig
) -> Evaluation:
    """Compute every metric of probabilities [N, K] against labels [N], also at a temperature."""
    predictions = probabilities.argmax(axis=1)
    confusion = metrics.confusion_matrix(labels, predictions, probabilities.shape[1])
    lower, upper = metrics.wilson_interval(int(np.trace(confusion)), len(labels))
    calibrated = calibrate(probabilities, temperature)
    bins = metrics.calibration_bins(labels, probabilities, config.calibration_bins)
    calibrated_bins = metrics.calibration_bins(labels, calibrated, config.calibration_bins)
    values = {
        "accuracy": metrics.accuracy(labels, predictions),
        "accuracy_lower": lower,
        "accuracy_upper": upper,
        "macro_f1": metrics.macro_f1(confusion),
        "lowest_recall": float(metrics.class_scores(confusion).recall[metrics.hardest_class(confusion)]),
        "log_loss": metrics.log_loss(labels, probabilities),
        "ece": metrics.expected_calibration_error(bins),
        "temperature": temperature,
        "log_loss_calibrated": metrics.log_loss(labels, calibrated),
        "ece_calibrated": metrics.expected_calibration_error(calibrated_bins),
    }
    return Evaluation(probabilities, confusion, bins, calibrated_bins, values)


def read_confusion(evaluation: Path) -> tuple[list[str], list[list[int]]]:
    """Class names and rows of the confusion matrix that `evaluate` wrote, as KFP's ClassificationMetrics takes them."""
    with (evaluation / _CONFUSION_FILE).open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return header[1:], [[int(count) for count in row[1:]] for row in rows]


def _check_match(model: keras.Model, path: Path, split: Split) -> None:
    expected = (split.image_shape, len(split.info.classes))
    actual = (tuple(model.input_shape[1:]), model.output_shape[-1])
    if actual != expected:
        raise DataError(
            f"{path}: takes images of shape {actual[0]} and knows {actual[1]} classes, "
            f"the test split has shape {expected[0]} and {expected[1]} classes"
        )


def _write_tables(evaluation: Evaluation, split: Split, destination: Path) -> None:
    classes = split.info.classes
    scores = metrics.class_scores(evaluation.confusion)
    notes = [""] * len(classes)
    notes[metrics.hardest_class(evaluation.confusion)] = "lowest recall"
    rows = zip(classes, scores.precision, scores.recall, scores.f1, scores.support, notes, strict=True)
    with (destination / "per_class.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "precision", "recall", "f1", "support", "note"])
        writer.writerows(rows)
    with (destination / _CONFUSION_FILE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["true class", *classes])
        writer.writerows([name, *counts] for name, counts in zip(classes, evaluation.confusion.tolist(), strict=True))
    np.savez_compressed(destination / "predictions.npz", probabilities=evaluation.probabilities, labels=split.labels)


def _write_pictures(evaluation: Evaluation, split: Split, config: EvaluateCnnConfig, destination: Path) -> None:
    classes = split.info.classes
    plots.plot_confusion(evaluation.confusion, classes, destination / "confusion.png")
    plots.plot_calibration(
        evaluation.bins, evaluation.calibrated_bins, evaluation.values["temperature"], destination / "calibration.png"
    )
    count = min(_PICTURED_IMAGES, len(split))
    rows = np.sort(np.random.default_rng(config.seed).choice(len(split), count, replace=False))
    plots.plot_predictions(
        split.images[rows],
        split.labels[rows],
        evaluation.probabilities[rows].argmax(axis=1),
        classes,
        destination / "predictions.png",
    )
    own = evaluation.probabilities[np.arange(len(split)), split.labels]
    hardest = own.argsort(kind="stable")[:count]
    plots.plot_hardest(
        split.images[hardest],
        split.labels[hardest],
        evaluation.probabilities[hardest],
        classes,
        destination / "hardest.png",
    )


def _write_slices(evaluation: Evaluation, split: Split, destination: Path) -> None:
    right = evaluation.probabilities.argmax(axis=1) == split.labels
    slices = slice_accuracy(split.images, split.labels, right, split.info.classes)
    with (destination / "slices.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["by", "part", *_TALLY_COLUMNS])
        writer.writerows([part.group, part.name, *_tally_cells(part.tally)] for part in slices)
    plots.plot_slices(slices, evaluation.values["accuracy"], destination / "slices.png")


def _write_corruptions(model: keras.Model, split: Split, config: EvaluateCnnConfig, destination: Path) -> float:
    """Measure robustness on some of the test images, write it down, and return the mean accuracy."""
    rows = choose_rows(split.labels, config.corrupted_images, config.seed)
    images, labels = np.asarray(split.images[rows]), np.asarray(split.labels[rows])

    def answer(corrupted: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(predict(model, corrupted, config.batch_size))

    clean = metrics.Tally.of(answer(images).argmax(axis=1) == labels)
    found = measure_robustness(answer, images, labels, config.seed)
    with (destination / "corruptions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["corruption", "severity", "amount", "unit", *_TALLY_COLUMNS])
        writer.writerow(["none", 0, "", "", *_tally_cells(clean)])
        writer.writerows(
            [entry.corruption, entry.severity, entry.amount, entry.unit, *_tally_cells(entry.tally)] for entry in found
        )
    plots.plot_corruptions(found, clean.accuracy, destination / "corruptions.png")
    return float(np.mean([entry.tally.accuracy for entry in found]))


def _tally_cells(tally: metrics.Tally) -> list[float]:
    return [tally.images, tally.accuracy, *tally.interval]
