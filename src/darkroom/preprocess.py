"""Turn a raw dataset into train, validation and test splits that training reads by memory map.

Rows keep their order in the source file within each split: reading stays sequential, and a manifest can be compared
with its source by eye. Training shuffles.
"""

import hashlib
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from darkroom.config import StepConfig
from darkroom.data.idx import RawSplit, load_raw
from darkroom.data.mapped import release_pages
from darkroom.data.metadata import DatasetInfo, write_info
from darkroom.data.sampling import draw_per_class, share_per_class
from darkroom.data.splits import SplitName
from darkroom.errors import DataError

_CHUNK_ROWS = 4096
_ROW_GROUP = 65_536


class PreprocessConfig(StepConfig):
    """How a raw dataset is split."""

    validation_fraction: float = Field(
        default=0.1,
        ge=0.01,
        le=0.5,
        description="share of each class of the training data that is held out for validation",
    )
    images_per_class: int | None = Field(
        default=None,
        ge=2,
        description="training images of each class to keep before the validation split; all when empty",
    )
    test_images_per_class: int | None = Field(
        default=None, ge=1, description="test images of each class to keep; all when empty"
    )
    seed: int = Field(default=0, ge=0)


def preprocess(raw: Path, config: PreprocessConfig, destination: Path) -> dict[str, int]:
    """Write the splits that `darkroom.data.splits` describes and return the number of images in each.

    Each `manifest.parquet` has one row per image: `index` (its row in the source file), `source` (train or test),
    `label`, `class_name` and `sha256` of its pixels.

    Raises:
        DataError: the raw dataset breaks a rule (see `load_raw`), has fewer images of a class than asked for, or too
            few to split; or the destination cannot be written, and then nothing is left there.
    """
    dataset = load_raw(raw)
    classes = dataset.info.classes
    # One stream of random numbers for each draw: a smaller test split does not change the training split.
    subset_rng, validation_rng, test_rng = (
        np.random.default_rng(child) for child in np.random.SeedSequence(config.seed).spawn(3)
    )
    kept = _draw_subset(dataset.train.labels, config.images_per_class, classes, "images_per_class", subset_rng)
    train, validation = _split_off(dataset.train.labels, kept, config.validation_fraction, classes, validation_rng)
    test = _draw_subset(dataset.test.labels, config.test_images_per_class, classes, "test_images_per_class", test_rng)

    plan: tuple[tuple[SplitName, str, RawSplit, NDArray[np.int64]], ...] = (
        ("train", "train", dataset.train, train),
        ("validation", "train", dataset.train, validation),
        ("test", "test", dataset.test, test),
    )
    try:
        for name, source, split, rows in plan:
            _write_split(destination / name, source, split, rows, dataset.info)
        write_info(dataset.info, destination)
    except OSError as error:
        shutil.rmtree(destination, ignore_errors=True)
        raise DataError(f"{destination}: cannot be written: {error.strerror or error}") from error
    return {name: len(rows) for name, _, _, rows in plan}


def _draw_subset(
    labels: NDArray[np.uint8], per_class: int | None, classes: list[str], field: str, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Row indices of `per_class` images of every class, of all images when None."""
    if per_class is None:
        return np.arange(len(labels))
    counts = np.bincount(labels, minlength=len(classes))
    smallest = int(counts.argmin())
    if counts[smallest] < per_class:
        raise DataError(
            f"{field}: class {smallest} ({classes[smallest]}) has {counts[smallest]} images, asked for {per_class}"
        )
    return draw_per_class(labels, dict.fromkeys(range(len(classes)), per_class), rng)


def _split_off(
    labels: NDArray[np.uint8],
    rows: NDArray[np.int64],
    fraction: float,
    classes: list[str],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide `rows` into training and validation rows, the same share of every class."""
    chosen = labels[rows]
    shares = share_per_class(chosen, fraction)
    for label, share in shares.items():
        images = int((chosen == label).sum())
        if not 0 < share < images:
            raise DataError(
                f"validation_fraction: class {label} ({classes[label]}) has {images} training images, too few "
                f"to hold out {fraction:g} of them: both sides need at least one"
            )
    held_out = rows[draw_per_class(chosen, shares, rng)]
    return np.setdiff1d(rows, held_out, assume_unique=True), held_out


def _write_split(folder: Path, source: str, split: RawSplit, rows: NDArray[np.int64], info: DatasetInfo) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    labels = split.labels[rows].astype(np.int64)
    np.save(folder / "labels.npy", labels)
    digests = _write_images(folder / "images.npy", split.images, rows)
    _write_manifest(folder / "manifest.parquet", source, rows, labels, info.classes, digests)


def _write_images(path: Path, images: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.bytes_]:
    """Copy rows of `images` into a .npy file, a chunk in memory at a time, and return the sha256 of each: [N] hex.

    Written, not memory-mapped: a full disk raises an error here, where a mapped write would kill the process (SIGBUS).
    """
    # Half of what a list of Python strings takes.
    digests = np.empty(len(rows), "S64")
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), *images.shape[1:])}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(rows), _CHUNK_ROWS):
            chunk = np.ascontiguousarray(images[rows[start : start + _CHUNK_ROWS]])
            release_pages(images)
            file.write(chunk.data)
            digests[start : start + len(chunk)] = [hashlib.sha256(image.data).hexdigest() for image in chunk]
    return digests


def _write_manifest(
    path: Path,
    source: str,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    classes: list[str],
    digests: NDArray[np.bytes_],
) -> None:
    # Imported here: the command line reads PreprocessConfig's defaults, and must not wait for pyarrow.
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = {
        "index": pa.int64(),
        "source": pa.string(),
        "label": pa.int64(),
        "class_name": pa.string(),
        "sha256": pa.string(),
    }
    names = pa.array(classes)
    with pq.ParquetWriter(path, pa.schema(fields)) as writer:
        for start in range(0, len(rows), _ROW_GROUP):
            part = slice(start, start + _ROW_GROUP)
            columns = {
                "index": rows[part],
                "source": pa.repeat(source, len(rows[part])),
                "label": labels[part],
                "class_name": names.take(pa.array(labels[part])),
                "sha256": pa.array(digests[part]).cast(pa.string()),
            }
            writer.write_table(pa.table(columns))
