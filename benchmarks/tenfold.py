"""A step on the real dataset and on ten times as many images: how time and memory grow."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from benchmarks.process import ROOT, Measurement, measure
from benchmarks.table import Claim, Table
from darkroom.data.idx import load_raw, read_idx
from darkroom.data.metadata import read_info, write_info

TIMES = 10
ROUNDS = 3

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Side:
    """What one size of the dataset took: mean seconds and largest peak memory over the rounds."""

    images: int
    seconds: float
    peak_rss_mb: float


def compare_sizes(title: str, notes: str, function: str) -> Table:
    """Alternate `function` between both sizes, each time in a process of its own, and say how time and memory grow.

    `function` is a `module:name` that takes a raw dataset's folder and returns its own seconds, imports not counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        raws = (ROOT / "data", repeat_dataset(ROOT / "data", TIMES, Path(folder)))
        rounds = [tuple(measure(function, str(raw)) for raw in raws) for _ in range(ROUNDS)]
        once, tenfold = (_summarise(raw, list(side)) for raw, side in zip(raws, zip(*rounds, strict=True), strict=True))
    growth, memory = tenfold.seconds / (TIMES * once.seconds), tenfold.peak_rss_mb / once.peak_rss_mb
    return Table(
        title=title,
        notes=(
            f"{notes}\n"
            f"Means of {ROUNDS} rounds, imports not counted. The larger dataset is the real one {TIMES} times,\n"
            "with one pixel of each image altered each time. Memory is the process's peak, imports included."
        ),
        columns=("images", "seconds", "images a second", "peak memory (MB)"),
        rows=[
            (f"{side.images:,}", f"{side.seconds:.2f}", f"{side.images / side.seconds:,.0f}", f"{side.peak_rss_mb:.0f}")
            for side in (once, tenfold)
        ],
        claims=(
            Claim(
                f"time grows with the number of images, no faster: at most 12 times for {TIMES} times the images",
                f"{TIMES * growth:.1f} times",
                growth <= 1.2,
            ),
            Claim(
                f"pixels are not held: less than twice the memory for {TIMES} times the images",
                f"{memory:.2f} times, {_bytes_per_image(once, tenfold):.0f} bytes for each further image",
                memory < 2,
            ),
        ),
    )


def _summarise(raw: Path, side: list[Measurement]) -> Side:
    dataset = load_raw(raw)
    return Side(
        images=len(dataset.train) + len(dataset.test),
        seconds=mean(float(measured.value) for measured in side),
        peak_rss_mb=max(measured.peak_rss_mb for measured in side),
    )


def _bytes_per_image(once: Side, tenfold: Side) -> float:
    return 1e6 * (tenfold.peak_rss_mb - once.peak_rss_mb) / (tenfold.images - once.images)


def repeat_dataset(raw: Path, times: int, destination: Path) -> Path:
    """Write a raw dataset with every image and label of `raw` that many times, in blocks; returns `destination`.

    Each repetition adds its number, from 0, to the first pixel of every image: no two images become equal that were
    not, so that data validation finds no duplicates.
    """
    info = read_info(raw)
    destination.mkdir(parents=True, exist_ok=True)
    write_info(info, destination)
    for files in (info.train, info.test):
        _repeat_file(raw / files.images, times, destination / files.images, alter=True)
        _repeat_file(raw / files.labels, times, destination / files.labels, alter=False)
    return destination


def _repeat_file(source: Path, times: int, target: Path, *, alter: bool) -> None:
    values = read_idx(source)
    # The first length in the header, after the magic number, counts the rows.
    with source.open("rb") as file:
        header = file.read(4 + 4 * values.ndim)
    with target.open("wb") as file:
        file.write(header[:4] + (times * len(values)).to_bytes(4, "big") + header[8:])
        for repetition in range(times):
            for start in range(0, len(values), _ROWS_AT_ONCE):
                block = np.array(values[start : start + _ROWS_AT_ONCE])
                if alter:
                    _alter(block, repetition)
                file.write(block.data)


def _alter(images: NDArray[np.uint8], repetition: int) -> None:
    images.reshape(len(images), -1)[:, 0] += np.uint8(repetition)
