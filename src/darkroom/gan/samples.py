"""Drawing images from a generator, and showing them."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

_BATCH_SIZE = 500
_GAP = 2
_INCHES_PER_PIXEL = 1 / 50


def draw_latent(count: int, latent_size: int, seed: int) -> NDArray[np.float32]:
    """Draw z ~ N(0, I): [count, latent_size] float32, the same for the same seed."""
    return np.random.default_rng(seed).standard_normal((count, latent_size), dtype=np.float32)


def generate(generator: keras.Model, labels: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    """Generate one image per label: [N, H, W, C] float32 in [-1, 1]."""
    latent = draw_latent(len(labels), generator.inputs[0].shape[-1], seed)
    starts = range(0, len(labels), _BATCH_SIZE)
    chunks = [generator([latent[i : i + _BATCH_SIZE], labels[i : i + _BATCH_SIZE]], training=False) for i in starts]
    return np.concatenate([np.asarray(chunk) for chunk in chunks])


def to_pixels(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round images in [-1, 1] to the grey levels 0 to 255 that real images have."""
    pixels: NDArray[np.uint8] = np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)
    return pixels


def grid_labels(classes: int, per_class: int) -> NDArray[np.int64]:
    """Labels of a sample grid, row by row: [classes * per_class] int64."""
    return np.repeat(np.arange(classes, dtype=np.int64), per_class)


def save_grid(images: NDArray[np.uint8], class_names: Sequence[str], path: Path, title: str) -> None:
    """Save a picture with one row per class, the class's name at its left.

    Args:
        images: [classes * columns, H, W, C] uint8, row by row.
        class_names: one per row.
        path: of the PNG file.
        title: stands above the grid.
    """
    rows = len(class_names)
    mosaic = _tile(images, rows)
    height, width = mosaic.shape[:2]
    figure = Figure(figsize=(width * _INCHES_PER_PIXEL + 2, height * _INCHES_PER_PIXEL + 1), layout="constrained")
    axes = figure.add_subplot()
    # Grey images lose the channel axis: matplotlib takes [H, W] or [H, W, 3].
    axes.imshow(mosaic.squeeze(-1) if mosaic.shape[-1] == 1 else mosaic, cmap="gray", vmin=0, vmax=255)
    axes.set_yticks([(row + 0.5) * height / rows for row in range(rows)], labels=list(class_names))
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title)
    figure.savefig(path, dpi=100)


def _tile(images: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    """[rows * columns, H, W, C] -> [rows * (H + gap), columns * (W + gap), C], with a white gap around each image."""
    half = _GAP // 2
    framed = np.pad(images, ((0, 0), (half, half), (half, half), (0, 0)), constant_values=255)
    count, height, width, channels = framed.shape
    columns = count // rows
    mosaic = framed.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return mosaic.reshape(rows * height, columns * width, channels)
