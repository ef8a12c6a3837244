"""scikit-learn's bundled digits as a raw dataset: 1,797 real 8 x 8 grey images that need no download."""

from pathlib import Path

import numpy as np

from darkroom.data.idx import write_idx
from darkroom.data.metadata import DatasetInfo, SplitFiles, write_info
from darkroom.data.sampling import draw_per_class, share_per_class

TEST_FRACTION = 0.2
# A fixed seed: the split is part of the dataset, as it is in MNIST, and not a parameter of a run.
_SPLIT_SEED = 0

INFO = DatasetInfo(
    name="digits",
    title="Optical recognition of handwritten digits",
    licence="CC BY 4.0",
    source="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    classes=[str(digit) for digit in range(10)],
    horizontal_flip=False,
    train=SplitFiles(images="train-images-idx3-ubyte", labels="train-labels-idx1-ubyte"),
    test=SplitFiles(images="t10k-images-idx3-ubyte", labels="t10k-labels-idx1-ubyte"),
)


def write_digits(destination: Path) -> None:
    """Write the digits as `dataset.yaml` and four IDX files; every call writes the same bytes.

    scikit-learn's values 0..16 become 0..255, a fifth of each class becomes the test split.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    test = draw_per_class(labels, share_per_class(labels, TEST_FRACTION), np.random.default_rng(_SPLIT_SEED))
    train = np.setdiff1d(np.arange(len(labels)), test)

    destination.mkdir(parents=True, exist_ok=True)
    for files, rows in ((INFO.train, train), (INFO.test, test)):
        write_idx(destination / files.images, images[rows])
        write_idx(destination / files.labels, labels[rows])
    write_info(INFO, destination)
