"""Preprocessing of the real dataset and of ten times as many images."""

import tempfile
import time
from pathlib import Path

from benchmarks.table import Table
from benchmarks.tenfold import compare_sizes


def run() -> Table:
    """Preprocess both sizes in turn; see `compare_sizes`."""
    notes = "`darkroom.preprocess` with its default configuration: splits, manifests and a digest of every image."
    return compare_sizes("Preprocessing: ten times the images", notes, "benchmarks.preprocessing:preprocess_folder")


def preprocess_folder(raw: str) -> float:
    """Preprocess a raw dataset into a temporary folder; the seconds that it took."""
    import pyarrow.parquet  # noqa: F401 # preprocess imports it on first use, and imports do not count

    from darkroom.preprocess import PreprocessConfig, preprocess

    with tempfile.TemporaryDirectory() as splits:
        started = time.perf_counter()
        preprocess(Path(raw), PreprocessConfig(), Path(splits))
        return time.perf_counter() - started
