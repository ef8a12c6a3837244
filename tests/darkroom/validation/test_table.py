import hashlib

import numpy as np
import pytest

from darkroom.data.idx import RawDataset, RawSplit
from darkroom.data.metadata import DatasetInfo, SplitFiles
from darkroom.validation import table as table_module
from darkroom.validation.table import COLUMNS, UNKNOWN_CLASS, table_of

INFO = DatasetInfo(
    name="pair",
    title="Pair",
    licence="CC0-1.0",
    source="made up",
    classes=["cat", "dog"],
    horizontal_flip=True,
    train=SplitFiles(images="train-images", labels="train-labels"),
    test=SplitFiles(images="test-images", labels="test-labels"),
)


def make_dataset(train_labels: list[int], test_labels: list[int]) -> RawDataset:
    """Colour images of random pixels, 4 high and 5 wide."""
    random = np.random.default_rng(0)

    def split(labels: list[int]) -> RawSplit:
        images = random.integers(0, 256, (len(labels), 4, 5, 3), dtype=np.uint8)
        return RawSplit(images, np.array(labels, np.uint8))

    return RawDataset(INFO, split(train_labels), split(test_labels))


@pytest.mark.parametrize("block_values", [1, 130, 2**21])
def test_each_image_is_described(monkeypatch: pytest.MonkeyPatch, block_values: int) -> None:
    monkeypatch.setattr(table_module, "_BLOCK_VALUES", block_values)
    dataset = make_dataset([0, 1, 1, 0, 1], [1, 0])
    table = table_of(dataset)

    assert tuple(table.columns) == COLUMNS
    assert list(table["source"]) == ["train"] * 5 + ["test"] * 2
    assert list(table["index"]) == [0, 1, 2, 3, 4, 0, 1]
    assert list(table["file"]) == ["train-images"] * 5 + ["test-images"] * 2
    assert list(table["class_name"]) == ["cat", "dog", "dog", "cat", "dog", "dog", "cat"]
    pixels = np.concatenate([dataset.train.images, dataset.test.images]).reshape(7, -1)
    np.testing.assert_allclose(table["mean"], pixels.mean(axis=1))
    np.testing.assert_allclose(table["std"], pixels.std(axis=1))
    assert list(table["minimum"]) == list(pixels.min(axis=1))
    assert list(table["maximum"]) == list(pixels.max(axis=1))
    assert list(table["sha256"]) == [
        hashlib.sha256(image.tobytes()).hexdigest() for split in (dataset.train, dataset.test) for image in split.images
    ]
    assert str(table["sha256"].dtype) == "str"
    assert table[["width", "height", "channels", "dtype"]].to_numpy().tolist() == [[5, 4, 3, "uint8"]] * 7


@pytest.mark.parametrize("block_values", [1, 130, 2**21])
def test_images_are_set_against_each_other(monkeypatch: pytest.MonkeyPatch, block_values: int) -> None:
    monkeypatch.setattr(table_module, "_BLOCK_VALUES", block_values)
    dataset = make_dataset([0, 1, 1, 1], [1, 0])
    dataset.train.images[2] = dataset.train.images[1]  # a duplicate, same label
    dataset.test.images[1] = dataset.train.images[3]  # leaked, other label
    table = table_of(dataset)

    assert table.index[table["is_duplicate"]].tolist() == [2]
    assert table.index[table["in_other_source"]].tolist() == [3, 5]
    assert table.index[table["has_conflicting_label"]].tolist() == [3, 5]
    assert table["class_images"].tolist() == [1, 3, 3, 3, 1, 1]
    assert table["class_imbalance"].tolist() == [3, 1, 1, 1, 1, 1]


def test_a_blank_image_has_no_deviation_at_all() -> None:
    dataset = make_dataset([0, 1], [0, 1])
    dataset.train.images[1] = 77
    assert table_of(dataset)["std"][1] == 0.0


def test_a_label_outside_the_class_list_is_described_as_it_is() -> None:
    table = table_of(make_dataset([0, 2, 255], [1, 0]))
    assert table["label"].tolist() == [0, 2, 255, 1, 0]
    assert table["class_name"].tolist() == ["cat", UNKNOWN_CLASS, UNKNOWN_CLASS, "dog", "cat"]
