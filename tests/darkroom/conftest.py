"""Small, real data for the tests of the pure code."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from darkroom.data.metadata import DatasetInfo, SplitFiles, write_info

TINY_SIZES = {"train": 600, "validation": 100, "test": 200}


def pytest_configure(config: pytest.Config) -> None:
    # TensorFlow 2.21's tensors do not take NumPy 2's copy argument; Keras meets this whenever it saves a model.
    config.addinivalue_line(
        "filterwarnings", "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    )


@pytest.fixture(scope="session")
def tiny_splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A splits folder of scikit-learn's digits as 28 x 28 grey images: learnable within seconds. Read only."""
    folder = tmp_path_factory.mktemp("tiny-splits")
    write_info(
        DatasetInfo(
            name="tiny-digits",
            title="Tiny digits",
            licence="CC-BY-4.0",
            source="scikit-learn",
            classes=[str(digit) for digit in range(10)],
            horizontal_flip=False,
            train=SplitFiles(images="train-images-idx3-ubyte", labels="train-labels-idx1-ubyte"),
            test=SplitFiles(images="t10k-images-idx3-ubyte", labels="t10k-labels-idx1-ubyte"),
        ),
        folder,
    )
    digits = load_digits()
    enlarged = np.kron(digits.images, np.ones((3, 3)))
    framed = np.pad(enlarged, ((0, 0), (2, 2), (2, 2)))
    images = (framed[..., None] / 16 * 255).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    start = 0
    for name, size in TINY_SIZES.items():
        rows = order[start : start + size]
        start += size
        (folder / name).mkdir()
        np.save(folder / name / "images.npy", images[rows])
        np.save(folder / name / "labels.npy", digits.target[rows].astype(np.int64))
    return folder
