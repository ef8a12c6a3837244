"""Pictures of the classifier's training and evaluation, written as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from darkroom.cnn.corruptions import Robustness
from darkroom.cnn.metrics import CalibrationBin, expected_calibration_error
from darkroom.cnn.slices import Slice

_DOTS_PER_INCH = 120
_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#1f5fa8", "#d9730d", "#1a7f37", "#b42318", "#8a8f98"
_GRID_SIDE = 5
_LONGEST_NAME = 18


def plot_history(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw accuracy and loss per epoch, training beside validation.

    `history` holds accuracy, val_accuracy, loss and val_loss, one value per epoch.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle("Training history")
    epochs = range(1, len(history["loss"]) + 1)
    for axes, name in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        axes.plot(epochs, history[name], marker="o", color=_BLUE, label="training")
        axes.plot(epochs, history[f"val_{name}"], marker="s", color=_ORANGE, label="validation")
        axes.set(title=name.capitalize(), xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def plot_confusion(confusion: NDArray[np.int64], classes: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix [K, K] (rows: true class): counts as text, the share of the true class as shade."""
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = 3 + 0.6 * len(classes)
    figure = Figure(figsize=(side, side - 0.8), layout="constrained")
    axes = figure.subplots()
    shades = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusion):
        colour = "white" if shares[row, column] > 0.5 else "black" if count else _GREY
        axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    positions = range(len(classes))
    axes.set_xticks(positions, classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(positions, classes)
    axes.set(title="Confusion matrix on the test split", xlabel="predicted class", ylabel="true class")
    figure.colorbar(shades, label="share of the true class", shrink=0.8)
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def plot_calibration(
    bins: Sequence[CalibrationBin], calibrated: Sequence[CalibrationBin], temperature: float, path: Path
) -> None:
    """Draw reliability diagrams (accuracy against confidence) as the model is and at a fitted temperature."""
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    reliability, shares = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
    panels = ((bins, "as it is"), (calibrated, f"at the temperature {temperature:.3f}"))
    for (entries, name), upper, lower in zip(panels, reliability, shares, strict=True):
        _draw_reliability(entries, upper, lower)
        upper.set_title(f"Calibration {name}: expected error {expected_calibration_error(entries):.4f}")
    reliability[0].set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    reliability[0].legend(loc="upper left")
    shares[0].set(ylabel="share of images")
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _draw_reliability(bins: Sequence[CalibrationBin], reliability: Axes, shares: Axes) -> None:
    filled = [entry for entry in bins if entry.count]
    centres = [(entry.lower + entry.upper) / 2 for entry in filled]
    width = 0.9 * (bins[0].upper - bins[0].lower)
    total = sum(entry.count for entry in bins)
    reliability.bar(centres, [entry.accuracy for entry in filled], width, color=_BLUE, label="accuracy in the bin")
    reliability.plot([0, 1], [0, 1], "--", color=_GREY, label="perfect calibration")
    confidences, accuracies = [entry.confidence for entry in filled], [entry.accuracy for entry in filled]
    reliability.plot(confidences, accuracies, "o", color=_ORANGE, label="at the bin's mean confidence")
    shares.bar(centres, [entry.count / total for entry in filled], width, color=_GREY)
    shares.set(xlabel="confidence of the predicted class")
    for axes in (reliability, shares):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)


def plot_predictions(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    predictions: NDArray[np.int64],
    classes: Sequence[str],
    path: Path,
) -> None:
    """Draw up to 25 images [N, H, W, C] in a 5 x 5 grid with true and predicted class; mistakes in red and in words."""
    wrong = int(np.sum(labels != predictions))
    titles = [
        f"true: {_shorten(classes[label])}\npredicted: {_shorten(classes[prediction])}"
        for label, prediction in zip(labels, predictions, strict=True)
    ]
    title = f"{len(labels)} test images, {wrong} predicted wrong"
    _draw_grid(images, titles, labels == predictions, title, path)


def plot_hardest(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    classes: Sequence[str],
    path: Path,
) -> None:
    """Draw up to 25 images [N, H, W, C] with both classes and their probabilities [N, K], hardest first."""
    predictions = probabilities.argmax(axis=1)
    titles = [
        f"true: {_shorten(classes[label])} {row[label]:.0%}\npredicted: {_shorten(classes[prediction])} {row.max():.0%}"
        for label, prediction, row in zip(labels, predictions, probabilities, strict=True)
    ]
    _draw_grid(images, titles, labels == predictions, "Test images with the highest loss", path)


def plot_slices(slices: Sequence[Slice], accuracy: float, path: Path) -> None:
    """Draw the accuracy of each slice with its interval, beside that of all images."""
    figure = Figure(figsize=(8, 0.3 * len(slices) + 1.5), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(slices))[::-1]
    values = np.array([part.tally.accuracy for part in slices])
    ends = np.array([part.tally.interval for part in slices])
    axes.errorbar(values, places, xerr=np.abs(ends - values[:, None]).T, fmt="o", color=_BLUE, capsize=3)
    axes.axvline(accuracy, linestyle="--", color=_GREY, label=f"all images: {accuracy:.4f}")
    axes.set_yticks(places, labels=[f"{part.group}: {part.name} ({part.tally.images})" for part in slices])
    axes.set(title="Accuracy by slice, with 95% intervals", xlabel="accuracy")
    axes.legend(loc="lower left")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def plot_corruptions(found: Sequence[Robustness], clean: float, path: Path) -> None:
    """Draw the accuracy against severity, a line for each corruption; `clean`: without any."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name in dict.fromkeys(entry.corruption for entry in found):
        entries = [entry for entry in found if entry.corruption == name]
        values = [clean, *(entry.tally.accuracy for entry in entries)]
        axes.plot([0, *(entry.severity for entry in entries)], values, "o-", label=name)
    axes.set(title="Accuracy under corruptions", xlabel="severity", ylabel="accuracy", ylim=(0, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _draw_grid(
    images: NDArray[np.uint8], titles: Sequence[str], right: NDArray[np.bool_], title: str, path: Path
) -> None:
    figure = Figure(figsize=(9, 10.5), layout="constrained")
    figure.suptitle(title, fontsize=14)
    grid = figure.subplots(_GRID_SIDE, _GRID_SIDE).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, image, name, is_right in zip(grid, images, titles, right, strict=False):
        colour = _GREEN if is_right else _RED
        axes.axis("on")
        axes.set(xticks=[], yticks=[])
        axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(name, fontsize=8.5, color=colour)
        if not is_right:
            box = {"facecolor": _RED, "edgecolor": "none"}
            axes.text(0.03, 0.96, "WRONG", transform=axes.transAxes, va="top", fontsize=8, color="white", bbox=box)
        for spine in axes.spines.values():
            spine.set(color=colour, linewidth=1 if is_right else 3)
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _shorten(name: str) -> str:
    """A class name that fits above a small image."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"
