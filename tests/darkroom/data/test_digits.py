from pathlib import Path

import numpy as np

from darkroom.data.digits import write_digits
from darkroom.data.idx import load_raw
from darkroom.data.versions import hash_folder


def test_digits_are_a_raw_dataset_with_a_fifth_of_each_class_for_test(tmp_path: Path) -> None:
    write_digits(tmp_path)
    raw = load_raw(tmp_path)
    assert raw.train.images.shape[1:] == (8, 8, 1)
    assert len(raw.train) + len(raw.test) == 1797
    train, test = np.bincount(raw.train.labels), np.bincount(raw.test.labels)
    np.testing.assert_array_less(np.abs(test - 0.2 * (train + test)), 0.51)
    assert (raw.train.images.min(), raw.train.images.max()) == (0, 255)
    assert not raw.info.horizontal_flip


def test_every_call_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_digits(tmp_path / name)
    assert hash_folder(tmp_path / "one") == hash_folder(tmp_path / "two")
