"""Slices: where among the images a classifier is weak. NumPy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.cnn.metrics import Labels, Tally

_QUARTERS = ("lowest", "second", "third", "highest")
# A value that is no background any more, in grey levels of 255.
_INK = 25
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Slice:
    """Some of the images: what divides them, which part this is, and how many are right."""

    group: str
    name: str
    tally: Tally


def slice_accuracy(
    images: NDArray[np.uint8], labels: Labels, right: NDArray[np.bool_], classes: Sequence[str]
) -> list[Slice]:
    """The accuracy by class, and by quarters of what images look like; right: [N], whether each image's class is found.

    Images [N, H, W, C] are divided by their mean intensity, by their contrast (the standard deviation of their values)
    and by their ink (the share of values above a tenth of white). Classes without images are left out. Images of the
    same value may be more than a quarter; they stay together.
    """
    slices = [
        Slice("class", name, Tally.of(right[labels == label]))
        for label, name in enumerate(classes)
        if np.any(labels == label)
    ]
    for group, values in _statistics(images).items():
        quarter = np.searchsorted(np.quantile(values, [0.25, 0.5, 0.75]), values)
        slices += [
            Slice(group, name, Tally.of(right[quarter == number]))
            for number, name in enumerate(_QUARTERS)
            if np.any(quarter == number)
        ]
    return slices


def _statistics(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Per image: mean, standard deviation and share of ink, a few thousand of the mapped images at a time."""
    rows = []
    for start in range(0, len(images), _ROWS_AT_ONCE):
        block = np.asarray(images[start : start + _ROWS_AT_ONCE])
        flat = block.reshape(len(block), -1)
        rows.append(np.stack([flat.mean(axis=1), flat.std(axis=1), (flat > _INK).mean(axis=1)]))
    mean, deviation, ink = np.concatenate(rows, axis=1)
    return {"mean intensity": mean, "contrast": deviation, "ink": ink}
