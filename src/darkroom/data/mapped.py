"""Reading a memory-mapped array from end to end without holding it.

The kernel counts every mapped page that was touched as this process's memory until it is short of it. In a container
with a limit, a pass over a large file then looks like a leak, and crowds out what the process needs.
"""

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_blocks(array: NDArray[Any], rows: int) -> Iterator[NDArray[Any]]:
    """Yield `array` in blocks of that many rows, each let go of when the next one is asked for."""
    for start in range(0, len(array), rows):
        yield array[start : start + rows]
        release_pages(array)


def release_pages(array: NDArray[Any]) -> None:
    """Let go of the pages of the file that `array` is a view of; what is used again is read again.

    An array that is not mapped read-only is left alone: its pages may hold changes that no file has.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray):
        mapped, owner = owner, owner.base
    if isinstance(owner, mmap.mmap) and isinstance(mapped, np.memmap) and mapped.mode == "r":
        owner.madvise(mmap.MADV_DONTNEED)
