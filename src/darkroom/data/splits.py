"""The preprocessed splits: what `preprocess` writes and every later step reads.

    <splits>/dataset.yaml
    <splits>/<name>/images.npy        [N, H, W, C] uint8
    <splits>/<name>/labels.npy        [N] int64
    <splits>/<name>/manifest.parquet  one row per image

with name one of train, validation, test.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from darkroom.data.metadata import DatasetInfo, read_info
from darkroom.errors import DataError
from darkroom.files import sha256_of

SplitName = Literal["train", "validation", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """One split, read by memory map: pixels are paged in when they are used.

    images: [N, H, W, C] uint8; labels: [N] int64 in [0, classes).
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    info: DatasetInfo

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels


def read_split(splits: Path, name: SplitName) -> Split:
    """Open one split of the folder that `preprocess` wrote.

    Raises:
        DataError: a file is missing, or images and labels differ in length.
    """
    folder = Path(splits) / name
    for file in ("images.npy", "labels.npy"):
        if not (folder / file).is_file():
            raise DataError(f"{folder / file}: no such file; it is written by the step preprocess")
    images = np.load(folder / "images.npy", mmap_mode="r")
    labels = np.load(folder / "labels.npy")
    if len(images) != len(labels):
        raise DataError(f"{folder}: images.npy has {len(images)} images, labels.npy has {len(labels)} labels")
    return Split(images=images, labels=labels, info=read_info(Path(splits)))


def hash_test_split(splits: Path) -> str:
    """What identifies the test split: the SHA-256, in hexadecimal, of labels.npy followed by images.npy."""
    return sha256_of(splits / "test" / "labels.npy", splits / "test" / "images.npy")
