"""Robustness: how accurate a classifier stays when images get worse. NumPy and SciPy only.

Five of the kinds of damage that Hendrycks and Dietterich (2019) ask about, each at three severities. Throughout: images
are [N, H, W, C] uint8, before and after; `rng` draws what is random, for each image anew.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.cnn.metrics import Labels, Probabilities, Tally

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Corruption:
    """One kind of damage: how it is done, the amount at severities 1, 2 and 3, and the unit of the amount."""

    apply: Callable[[Images, float, np.random.Generator], Images]
    amounts: tuple[float, float, float]
    unit: str


@dataclass(frozen=True)
class Robustness:
    """What remains of the accuracy under one corruption at one severity."""

    corruption: str
    severity: int
    amount: float
    unit: str
    tally: Tally


def add_noise(images: Images, deviation: float, rng: np.random.Generator) -> Images:
    """Add Gaussian noise to every value; deviation in grey levels of 255."""
    return _to_uint8(images + rng.normal(0, deviation, images.shape))


def blur(images: Images, deviation: float, rng: np.random.Generator) -> Images:
    """Blur with a Gaussian; deviation as a share of the side."""
    from scipy.ndimage import gaussian_filter

    sigma = deviation * images.shape[1], deviation * images.shape[2]
    return _to_uint8(gaussian_filter(images.astype(np.float32), (0, *sigma, 0)))


def reduce_contrast(images: Images, remaining: float, rng: np.random.Generator) -> Images:
    """Draw all values of an image towards their mean; remaining: the share of their distance that is left."""
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    return _to_uint8(mean + remaining * (images - mean))


def occlude(images: Images, side: float, rng: np.random.Generator) -> Images:
    """Cover a rectangle with mid-grey; its sides as a share of the image's, its place random."""
    height, width = images.shape[1:3]
    tall, wide = round(side * height), round(side * width)
    tops = rng.integers(0, height - tall + 1, (len(images), 1))
    lefts = rng.integers(0, width - wide + 1, (len(images), 1))
    rows, columns = np.arange(height) - tops, np.arange(width) - lefts
    rows_hit, columns_hit = (rows >= 0) & (rows < tall), (columns >= 0) & (columns < wide)
    covered = rows_hit[:, :, None] & columns_hit[:, None, :]
    return np.where(covered[..., None], np.uint8(128), images)


def translate(images: Images, distance: float, rng: np.random.Generator) -> Images:
    """Shift by whole pixels in one of eight directions; distance as a share of the side. What comes in is black."""
    height, width = images.shape[1:3]
    down, right = round(distance * height), round(distance * width)
    padded = np.pad(images, ((0, 0), (down, down), (right, right), (0, 0)))
    directions = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)])
    chosen = directions[rng.integers(0, len(directions), len(images))]
    shifted = np.empty_like(images)
    for y, x in directions:
        rows = (chosen == (y, x)).all(axis=1)
        top, left = down * (1 - y), right * (1 - x)
        shifted[rows] = padded[rows, top : top + height, left : left + width]
    return shifted


CORRUPTIONS: dict[str, Corruption] = {
    "noise": Corruption(add_noise, (16.0, 32.0, 64.0), "grey levels"),
    "blur": Corruption(blur, (0.02, 0.04, 0.06), "of the side"),
    "contrast": Corruption(reduce_contrast, (0.6, 0.4, 0.2), "remaining"),
    "occlusion": Corruption(occlude, (0.2, 0.35, 0.5), "of the side"),
    "translation": Corruption(translate, (0.04, 0.08, 0.12), "of the side"),
}


def measure_robustness(
    predict: Callable[[Images], Probabilities], images: Images, labels: Labels, seed: int
) -> list[Robustness]:
    """The accuracy under every corruption at every severity; `predict` gives probabilities [N, K] of images."""
    found = []
    for number, (name, corruption) in enumerate(CORRUPTIONS.items()):
        for severity, amount in enumerate(corruption.amounts, start=1):
            rng = np.random.default_rng([seed, number, severity])
            predictions = predict(corruption.apply(images, amount, rng)).argmax(axis=1)
            found.append(Robustness(name, severity, amount, corruption.unit, Tally.of(predictions == labels)))
    return found


def choose_rows(labels: Labels, count: int, seed: int) -> NDArray[np.int64]:
    """About `count` rows, as many of each class, or all of a class that has fewer; in ascending order."""
    rng = np.random.default_rng(seed)
    classes = np.unique(labels)
    each = max(1, count // len(classes))
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:each] for label in classes]
    return np.sort(np.concatenate(chosen))


def _to_uint8(values: NDArray[np.floating]) -> Images:
    rounded: Images = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded
