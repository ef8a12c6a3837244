import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from darkroom.data.mapped import read_blocks, release_pages

# 100 MB of zeros, summed up; prints by how many MB the peak memory rose.
CHILD = """
import json, sys
import numpy as np
from darkroom.data.mapped import read_blocks
from darkroom.memory import peak_rss_mb
images = np.memmap(sys.argv[1], np.uint8, mode="r", shape=(1000, 100_000))[..., np.newaxis]
before = peak_rss_mb()
total = sum(int(block.sum()) for block in (read_blocks(images, 20) if sys.argv[2] == "blocks" else [images]))
print(json.dumps(peak_rss_mb() - before))
"""


@pytest.mark.parametrize(("way", "low", "high"), [("blocks", 0, 20), ("at once", 90, 130)])
def test_a_pass_in_blocks_holds_one_of_them(tmp_path: Path, way: str, low: float, high: float):
    with (tmp_path / "zeros").open("wb") as file:
        file.truncate(100_000_000)
    command = [sys.executable, "-c", CHILD, str(tmp_path / "zeros"), way]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert low <= json.loads(done.stdout) < high


@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_blocks_are_the_array(tmp_path: Path, rows: int):
    expected = np.random.default_rng(0).integers(0, 256, (7, 2000), dtype=np.uint8)
    expected.tofile(tmp_path / "file")
    mapped = np.memmap(tmp_path / "file", np.uint8, mode="r", shape=expected.shape)
    for array in (expected, mapped, mapped[:, :], mapped[2:], expected[:0]):
        blocks = list(read_blocks(array, rows))
        assert all(len(block) == rows for block in blocks[:-1])
        np.testing.assert_array_equal(np.concatenate([array[:0], *blocks]), array)


def test_changes_that_no_file_has_are_kept(tmp_path: Path):
    (tmp_path / "file").write_bytes(bytes(5000))
    changed = np.memmap(tmp_path / "file", np.uint8, mode="c")
    changed[:] = 7
    release_pages(changed)
    assert (changed == 7).all()
