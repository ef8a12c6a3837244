import struct
from pathlib import Path

import numpy as np
import pytest

from darkroom.data.digits import INFO
from darkroom.data.idx import load_raw, read_idx, write_idx
from darkroom.data.metadata import write_info
from darkroom.errors import DataError

CLASSES = len(INFO.classes)


def write_raw(folder: Path, train_labels: list[int] | None = None, images: int = 2 * CLASSES) -> Path:
    """A dataset of 2 training and 1 test image per class."""
    write_info(INFO, folder)
    rng = np.random.default_rng(0)
    labels = [*range(CLASSES), *range(CLASSES)] if train_labels is None else train_labels
    write_idx(folder / INFO.train.images, rng.integers(0, 256, (images, 4, 5), np.uint8))
    write_idx(folder / INFO.train.labels, np.array(labels, np.uint8))
    write_idx(folder / INFO.test.images, rng.integers(0, 256, (CLASSES, 4, 5), np.uint8))
    write_idx(folder / INFO.test.labels, np.arange(CLASSES, dtype=np.uint8))
    return folder


@pytest.mark.parametrize("shape", [(7,), (3, 4, 5), (2, 4, 5, 3)])
def test_what_is_written_is_read_back_without_copying(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    write_idx(tmp_path / "file", array)
    read = read_idx(tmp_path / "file")
    np.testing.assert_array_equal(read, array)
    assert isinstance(read, np.memmap)
    assert not read.flags.writeable


def test_layout_is_that_of_mnist(tmp_path: Path) -> None:
    write_idx(tmp_path / "labels", np.array([7, 2], np.uint8))
    assert (tmp_path / "labels").read_bytes() == bytes.fromhex("00000801 00000002 0702")


def test_only_bytes_are_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be uint8, got int64"):
        write_idx(tmp_path / "file", np.zeros(3, np.int64))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated: an IDX file opens with 4 bytes of magic number, got 0"),
        (b"PK\x03\x04", "wrong magic number: must open with 0x0000, got 0x504b0304"),
        (b"\x1f\x8b\x08\x00", r"wrong magic number: .* got 0x1f8b0800 \(gzip: decompress it first\)"),
        (b"\0\0\x0d\x01", r"values must be uint8 .* got 0x0d \(float32\)"),
        (b"\0\0\x77\x01", r"values must be uint8 .* got 0x77 \(unknown to IDX\)"),
        (struct.pack(">BBBB2I", 0, 0, 8, 2, 1, 1) + b"x", "must have 1 or 3 dimensions, got 2"),
        (b"\0\0\x08\x00", "must have 1 or 3 dimensions, got 0"),
        (b"\0\0\x08\x03\0\0", "truncated: 3 dimensions need a header of 16 bytes"),
        (struct.pack(">BBBBI", 0, 0, 8, 1, 5) + b"abc", r"truncated: shape \(5,\) needs 13 bytes, got 11"),
        (struct.pack(">BBBBI", 0, 0, 8, 1, 2) + b"abc", r"trailing bytes: shape \(2,\) needs 10 bytes, got 11"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=f"{tmp_path / 'file'}: .*{message}"):
        read_idx(tmp_path / "file", dimensions=(1, 3))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file"):
        read_idx(tmp_path / "nowhere")


def test_grey_images_get_a_channel_and_stay_mapped(tmp_path: Path) -> None:
    raw = load_raw(write_raw(tmp_path))
    assert raw.train.images.shape == (2 * CLASSES, 4, 5, 1)
    assert isinstance(raw.train.images, np.memmap)
    assert len(raw.test) == CLASSES


def test_images_and_labels_must_be_equal_in_number(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"equal in number, got 19 in train-images-.* and 20 in train-labels-"):
        load_raw(write_raw(tmp_path, images=19))


def test_first_label_outside_the_class_list_is_named(tmp_path: Path) -> None:
    labels = [*range(CLASSES), 10, 11, *range(2, CLASSES)]
    with pytest.raises(DataError, match=r"train-labels-.*0\.\.9 \(10 classes\); 2 are not, the first at index 10: 10"):
        load_raw(write_raw(tmp_path, labels))


def test_empty_class_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train-labels-.*every class needs an image; none for class 3 \(3\), 7 \(7\)"):
        load_raw(write_raw(tmp_path, [0, 1, 2, 2, 4, 5, 6, 6, 8, 9] * 2))


def test_splits_must_agree_in_shape(tmp_path: Path) -> None:
    write_raw(tmp_path)
    write_idx(tmp_path / INFO.test.images, np.zeros((CLASSES, 4, 5, 3), np.uint8))
    with pytest.raises(DataError, match=r"agree in shape, got \(4, 5, 1\) in train.* and \(4, 5, 3\) in t10k"):
        load_raw(tmp_path)


def test_folder_without_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.yaml: no such file"):
        load_raw(tmp_path)
