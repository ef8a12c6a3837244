"""IDX, the format of MNIST and its descendants, and the raw dataset folder that is made of it.

An IDX file is four bytes of magic number (0, 0, type code, number of dimensions), one big-endian 32-bit length per
dimension, then the values in C order. A raw dataset is a folder with `dataset.yaml` and four such files.
"""

import math
import os
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.data.metadata import DatasetInfo, SplitFiles, read_info
from darkroom.errors import DataError

_UINT8 = 0x08
_TYPE_NAMES = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class RawSplit:
    """One split in source order, read by memory map.

    images: [N, H, W, C] uint8; labels: [N] uint8, each inside the class list.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class RawDataset:
    """A raw dataset whose files agree with each other and with the class list."""

    info: DatasetInfo
    train: RawSplit
    test: RawSplit


def read_idx(path: Path, dimensions: Collection[int] = ()) -> NDArray[np.uint8]:
    """Map an IDX file of bytes into memory, read-only.

    `dimensions`: the numbers of dimensions to accept; any number when empty.

    Raises:
        DataError: no such file, wrong magic number, values that are not uint8, a number of dimensions that is not
            accepted, fewer or more bytes than the header announces.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            shape = _read_header(file.read(4), file.read(4 * 255), path, dimensions)
            actual = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    offset = 4 + 4 * len(shape)
    expected = offset + math.prod(shape)
    if actual != expected:
        problem = "truncated" if actual < expected else "has trailing bytes"
        raise DataError(f"{path}: {problem}: shape {shape} needs {expected} bytes, got {actual}")
    if expected == offset:
        return np.empty(shape, np.uint8)  # an empty file range cannot be mapped
    return np.memmap(path, np.uint8, mode="r", offset=offset, shape=shape)


def _read_header(magic: bytes, lengths: bytes, path: Path, dimensions: Collection[int]) -> tuple[int, ...]:
    """Check the magic number and return the shape."""
    if len(magic) < 4:
        raise DataError(f"{path}: truncated: an IDX file opens with 4 bytes of magic number, got {len(magic)}")
    if magic[:2] != b"\0\0":
        hint = " (gzip: decompress it first)" if magic[:2] == _GZIP_MAGIC else ""
        raise DataError(f"{path}: wrong magic number: must open with 0x0000, got 0x{magic.hex()}{hint}")
    code, count = magic[2], magic[3]
    if code != _UINT8:
        name = _TYPE_NAMES.get(code, "unknown to IDX")
        raise DataError(f"{path}: values must be uint8 (type code 0x{_UINT8:02x}), got 0x{code:02x} ({name})")
    if count == 0 or (dimensions and count not in dimensions):
        wanted = " or ".join(str(number) for number in sorted(dimensions)) or "at least 1"
        raise DataError(f"{path}: must have {wanted} dimensions, got {count}")
    if len(lengths) < 4 * count:
        raise DataError(f"{path}: truncated: {count} dimensions need a header of {4 + 4 * count} bytes")
    return struct.unpack(f">{count}I", lengths[: 4 * count])


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    """Write an array of uint8 as an IDX file.

    Raises:
        DataError: the array is not uint8.
    """
    if array.dtype != np.uint8:
        raise DataError(f"{path}: values must be uint8, got {array.dtype}")
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, _UINT8, array.ndim, *array.shape)
    with Path(path).open("wb") as file:
        file.write(header)
        file.write(np.ascontiguousarray(array).data)


def load_raw(folder: Path) -> RawDataset:
    """Open a raw dataset by memory map; images without a channel dimension get one.

    Raises:
        DataError: a file is missing or damaged, images and labels differ in number, a label is outside the class list,
            a class has no image in a split, or training and test images differ in shape.
    """
    folder = Path(folder)
    info = read_info(folder)
    train, test = (_load_split(folder, files, info.classes) for files in (info.train, info.test))
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"{folder}: training and test images must agree in shape, "
            f"got {train.images.shape[1:]} in {info.train.images} and {test.images.shape[1:]} in {info.test.images}"
        )
    return RawDataset(info, train, test)


def _load_split(folder: Path, files: SplitFiles, classes: list[str]) -> RawSplit:
    images = read_idx(folder / files.images, dimensions=(3, 4))
    labels = read_idx(folder / files.labels, dimensions=(1,))
    if len(images) != len(labels):
        raise DataError(
            f"{folder}: images and labels must be equal in number, "
            f"got {len(images)} in {files.images} and {len(labels)} in {files.labels}"
        )
    _check_labels(folder / files.labels, labels, classes)
    return RawSplit(images if images.ndim == 4 else images[..., np.newaxis], labels)


def _check_labels(path: Path, labels: NDArray[np.uint8], classes: list[str]) -> None:
    outside = np.flatnonzero(labels >= len(classes))
    if len(outside):
        first = int(outside[0])
        raise DataError(
            f"{path}: labels must be in 0..{len(classes) - 1} ({len(classes)} classes); "
            f"{len(outside)} are not, the first at index {first}: {labels[first]}"
        )
    counts = np.bincount(labels, minlength=len(classes))
    empty = [f"{label} ({classes[label]})" for label in np.flatnonzero(counts == 0)]
    if empty:
        raise DataError(f"{path}: every class needs an image; none for class {', '.join(empty)}")
