"""A step that does what no step should, for the tests of the benchmarks."""

from pathlib import Path

from darkroom.data.idx import load_raw


def hold(raw: str) -> float:
    """Hold 10 kB for each image; a second for each thousand, it says."""
    images = len(load_raw(Path(raw)).train)
    held = b"x" * 10_000 * images
    return len(held) / 1e7


def look_twice(raw: str) -> float:
    """Say a time that grows with the square of the number of images."""
    return float(len(load_raw(Path(raw)).train) ** 2)
