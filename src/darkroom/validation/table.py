"""The image table: one row per image, what data validation looks at instead of pixels."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray

from darkroom.data.idx import RawDataset, RawSplit, load_raw
from darkroom.data.mapped import read_blocks

UNKNOWN_CLASS = "unknown"

# No expectation could say anything about a digest, and Great Expectations takes a fingerprint of all text by way of
# Python objects: with this column in it, ten times the images would take three times the memory.
NOT_VALIDATED = "sha256"
# What one image is, what is in it, and how it stands among the others: `table_of` explains each.
COLUMNS = (
    *("source", "index", "file", "label", "class_name", "sha256"),
    *("width", "height", "channels", "dtype", "mean", "std", "minimum", "maximum"),
    *("is_duplicate", "in_other_source", "has_conflicting_label", "class_images", "class_imbalance"),
)

# Pixels are read in blocks of this many values, so that the working memory (float64 temporaries: eight times as many
# bytes) stays the same for any number of images.
_BLOCK_VALUES = 2**21


def image_table(raw: Path) -> pd.DataFrame:
    """Describe every image of a raw dataset; `table_of` names the columns.

    Raises:
        DataError: the reader refuses the dataset, see `load_raw`.
    """
    return table_of(load_raw(raw))


def table_of(dataset: RawDataset) -> pd.DataFrame:
    """Describe every image of an open dataset, in source order, training images first.

    Columns of one image:
        source: `train` or `test`; index: its position there; file: name of the file that holds it
        label: int64; class_name: `unknown` where the label is outside the class list
        sha256: hex digest of the pixels; width, height, channels: int64; dtype: of the pixels
        mean, std, minimum, maximum: over all pixels and channels, in intensity levels

    Columns that set it against the others:
        is_duplicate: an earlier image of the same source has the same pixels
        in_other_source: an image of the other source has the same pixels
        has_conflicting_label: an image of either source has the same pixels and another label
        class_images: images of its class in its source
        class_imbalance: images of the largest class in its source over `class_images`

    Nothing is judged here: labels, shapes and types that `load_raw` would refuse are described as they are.
    """
    classes = dataset.info.classes
    table = pd.concat(
        [
            _describe_split("train", dataset.info.train.images, dataset.train, classes),
            _describe_split("test", dataset.info.test.images, dataset.test, classes),
        ],
        ignore_index=True,
    )
    digests = np.concatenate([_hash_images(split.images) for split in (dataset.train, dataset.test)])
    return _compare_images(table, digests)


def _describe_split(source: str, file: str, split: RawSplit, classes: list[str]) -> pd.DataFrame:
    count, height, width, channels = split.images.shape
    labels = np.asarray(split.labels, np.int64)
    known = (labels >= 0) & (labels < len(classes))
    return pd.DataFrame(
        {
            "source": _repeat(source, count),
            "index": np.arange(count, dtype=np.int64),
            "file": _repeat(file, count),
            "label": labels,
            "class_name": _strings([*classes, UNKNOWN_CLASS]).take(np.where(known, labels, len(classes))),
            "width": np.full(count, width, np.int64),
            "height": np.full(count, height, np.int64),
            "channels": np.full(count, channels, np.int64),
            "dtype": _repeat(str(split.images.dtype), count),
            **_measure_images(split.images),
        }
    )


def _strings(values: list[str]) -> ExtensionArray:
    # Not by way of Python objects: one for each image would take more memory than the table.
    return pd.array(values, dtype="str")


def _repeat(value: str, count: int) -> ExtensionArray:
    return _strings([value]).repeat(count)


def _blocks(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield `images` [N, H, W, C] as blocks [n, H * W * C]."""
    for block in read_blocks(images, max(1, _BLOCK_VALUES // max(1, images[:1].size))):
        yield block.reshape(len(block), -1)


def _hash_images(images: NDArray[Any]) -> NDArray[np.bytes_]:
    """The SHA-256 of each image's pixels: [N], 32 bytes each."""
    digests = np.empty(len(images), "S32")
    start = 0
    for block in _blocks(images):
        for row, pixels in enumerate(block, start):
            digests[row] = hashlib.sha256(pixels.tobytes()).digest()
        start += len(block)
    return digests


def _measure_images(images: NDArray[Any]) -> dict[str, NDArray[Any]]:
    columns = {name: np.empty(len(images)) for name in ("mean", "std")}
    columns |= {name: np.empty(len(images), np.int64) for name in ("minimum", "maximum")}
    start = 0
    for block in _blocks(images):
        rows = slice(start, start + len(block))
        columns["mean"][rows] = block.mean(axis=1, dtype=np.float64)
        columns["std"][rows] = block.std(axis=1, dtype=np.float64)
        columns["minimum"][rows] = block.min(axis=1)
        columns["maximum"][rows] = block.max(axis=1)
        start = rows.stop
    return columns


def _compare_images(table: pd.DataFrame, digests: NDArray[np.bytes_]) -> pd.DataFrame:
    is_train = (table["source"] == "train").to_numpy()
    # Images of equal pixels get the same number.
    distinct, pixels = np.unique(digests, return_inverse=True)
    in_train, in_test = (np.bincount(pixels[rows], minlength=len(distinct)) > 0 for rows in (is_train, ~is_train))
    labellings = pd.DataFrame({"pixels": pixels, "label": table["label"]}).drop_duplicates()
    labels_of_pixels = np.bincount(labellings["pixels"], minlength=len(distinct))
    class_images = table.groupby(["source", "label"])["index"].transform("size").astype(np.int64)
    return table.assign(
        sha256=_as_text(digests),
        is_duplicate=pd.DataFrame({"is_train": is_train, "pixels": pixels}).duplicated(),
        in_other_source=np.where(is_train, in_test[pixels], in_train[pixels]),
        has_conflicting_label=labels_of_pixels[pixels] > 1,
        class_images=class_images,
        class_imbalance=class_images.groupby(table["source"]).transform("max") / class_images,
    )[list(COLUMNS)]


def _as_text(digests: NDArray[np.bytes_]) -> ExtensionArray:
    """Hexadecimal, by way of one buffer for all."""
    text = np.frombuffer(digests.tobytes().hex().encode("ascii"), "S64")
    strings: ExtensionArray = pd.array(pa.array(text, pa.binary(64)).cast(pa.large_string()), dtype="str")
    return strings
