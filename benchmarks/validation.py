"""Data validation on the real dataset and on ten times as many images."""

import tempfile
import time
from pathlib import Path

from benchmarks.table import Table
from benchmarks.tenfold import compare_sizes


def run() -> Table:
    """Validate both sizes in turn; see `compare_sizes`."""
    notes = (
        "`darkroom.validation.validate` with its default limits, report included; the dataset must pass. An image has\n"
        "784 bytes of pixels; what remains of it in memory is a row of the image table, and its copies within Great\n"
        "Expectations."
    )
    return compare_sizes("Validation: ten times the images", notes, "benchmarks.validation:validate_folder")


def validate_folder(raw: str) -> float:
    """Validate a raw dataset; the seconds that it took.

    Raises:
        DataError: it does not pass.
    """
    from darkroom.validation.config import ValidateConfig
    from darkroom.validation.validate import check, validate

    with tempfile.TemporaryDirectory() as report:
        started = time.perf_counter()
        check(validate(Path(raw), ValidateConfig(), Path(report)))
        return time.perf_counter() - started
