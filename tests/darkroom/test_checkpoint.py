import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from darkroom.checkpoint import (
    CheckpointWarning,
    TrainingState,
    load_checkpoint,
    remove_checkpoint,
    save_checkpoint,
)


def state(epoch: int) -> TrainingState:
    arrays = {"network": [np.full((2, 3), epoch, np.float32), np.array(epoch)], "optimizer": [np.arange(epoch)]}
    return TrainingState(arrays, {"epoch": epoch, "history": {"loss": [0.1] * epoch}})


def test_a_checkpoint_gives_back_what_was_saved(tmp_path: Path):
    path = tmp_path / "deep" / "training.npz"
    save_checkpoint(path, state(1))
    save_checkpoint(path, state(3))
    loaded = load_checkpoint(path)
    assert loaded is not None
    assert loaded.progress == state(3).progress
    for group, values in state(3).arrays.items():
        for value, expected in zip(loaded.arrays[group], values, strict=True):
            np.testing.assert_array_equal(value, expected)
            assert value.dtype == expected.dtype
    assert list(path.parent.iterdir()) == [path]


def test_variables_keep_their_order_beyond_ten(tmp_path: Path):
    path = tmp_path / "training.npz"
    save_checkpoint(path, TrainingState({"network": [np.array(i) for i in range(120)]}, {}))
    loaded = load_checkpoint(path)
    assert loaded is not None
    assert [int(value) for value in loaded.arrays["network"]] == list(range(120))


def test_no_checkpoint_is_none(tmp_path: Path):
    assert load_checkpoint(tmp_path / "training.npz") is None


def test_a_damaged_checkpoint_is_named_and_not_used(tmp_path: Path):
    path = tmp_path / "training.npz"
    save_checkpoint(path, state(2))
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole.replace(b"history", b"hxxxory")):
        path.write_bytes(damaged)
        with pytest.warns(CheckpointWarning, match=r"training\.npz: not readable as a checkpoint"):
            assert load_checkpoint(path) is None


def test_a_failed_write_leaves_the_former_checkpoint(tmp_path: Path):
    path = tmp_path / "training.npz"
    save_checkpoint(path, state(1))
    with pytest.raises(TypeError):
        save_checkpoint(path, TrainingState({}, {"epoch": object()}))
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        save_checkpoint(path, TrainingState({"network": [np.array([object()])]}, {}))
    loaded = load_checkpoint(path)
    assert loaded is not None
    assert loaded.progress["epoch"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_removal_takes_along_what_a_killed_writer_left(tmp_path: Path):
    path = tmp_path / "training.npz"
    save_checkpoint(path, state(1))
    (tmp_path / ".training.npz.4711").write_bytes(b"half")
    (tmp_path / "other.npz").write_bytes(b"")
    remove_checkpoint(path)
    assert [file.name for file in tmp_path.iterdir()] == ["other.npz"]
    remove_checkpoint(path)


WRITER = """
import sys
from pathlib import Path
import numpy as np
from darkroom.checkpoint import TrainingState, save_checkpoint

epoch = 0
while True:
    epoch += 1
    save_checkpoint(Path(sys.argv[1]), TrainingState({"network": [np.full(200_000, epoch)]}, {"epoch": epoch}))
"""


def test_a_killed_writer_leaves_a_whole_checkpoint(tmp_path: Path):
    path = tmp_path / "training.npz"
    moments = np.random.default_rng(0)
    for _ in range(8):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], env={**os.environ})
        try:
            while not path.exists():
                time.sleep(0.01)
            time.sleep(float(moments.uniform(0.0, 0.1)))
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        loaded = load_checkpoint(path)
        assert loaded is not None
        assert (loaded.arrays["network"][0] == loaded.progress["epoch"]).all()
        remove_checkpoint(path)
        assert list(tmp_path.iterdir()) == []
