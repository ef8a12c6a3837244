from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from darkroom.cnn.metrics import calibration_bins
from darkroom.cnn.plots import plot_calibration, plot_confusion, plot_history, plot_predictions

CLASSES = ["cat", "dog", "a class with a rather long name"]


def drawn(path: Path) -> np.ndarray:
    """Which pixels of a picture are not white: [H, W]."""
    return (matplotlib.image.imread(path)[..., :3] < 0.99).any(axis=-1)


def touches_an_edge(path: Path) -> bool:
    ink = drawn(path)
    return bool(ink[0].any() or ink[-1].any() or ink[:, 0].any() or ink[:, -1].any())


@pytest.mark.parametrize(("count", "channels"), [(25, 1), (25, 3), (7, 1)])
def test_predictions_show_every_image_and_colour_the_mistakes(count, channels, tmp_path):
    images = np.full((count, 8, 8, channels), 60, dtype=np.uint8)
    labels = np.arange(count) % 3
    predictions = labels.copy()
    predictions[0] = 2
    path = tmp_path / "predictions.png"
    plot_predictions(images, labels, predictions, CLASSES, path)
    pixels = np.round(matplotlib.image.imread(path)[..., :3] * 255).astype(int)
    shown = (pixels == 60).all(axis=-1)
    # The label on the mistake, which is the first image, hides some of it.
    one_image = shown[: shown.shape[0] // 4, : shown.shape[1] // 5].sum()
    assert shown.sum() == pytest.approx(count * one_image, rel=0.1)
    red = (pixels == (0xB4, 0x23, 0x18)).all(axis=-1)
    assert red[:, : red.shape[1] // 5].any()
    assert not red[:, red.shape[1] // 4 :].any()
    assert not touches_an_edge(path)


def test_confusion_keeps_long_class_names_whole(tmp_path):
    path = tmp_path / "confusion.png"
    plot_confusion(np.array([[5, 1, 0], [0, 0, 0], [2, 0, 9]]), CLASSES, path)
    assert drawn(path).mean() > 0.1
    assert not touches_an_edge(path)


def test_calibration_draws_with_empty_bins(tmp_path):
    bins = calibration_bins(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]), 15)
    path = tmp_path / "calibration.png"
    plot_calibration(bins, bins, 1.0, path)
    assert drawn(path).mean() > 0.01
    assert not touches_an_edge(path)


@pytest.mark.parametrize("epochs", [1, 12])
def test_history_draws_both_panels(epochs, tmp_path):
    path = tmp_path / "history.png"
    plot_history({name: [0.5] * epochs for name in ("loss", "val_loss", "accuracy", "val_accuracy")}, path)
    ink = drawn(path)
    left, right = np.array_split(ink, 2, axis=1)
    assert min(left.mean(), right.mean()) > 0.01
    assert not touches_an_edge(path)
