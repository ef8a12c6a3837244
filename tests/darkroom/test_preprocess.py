import hashlib
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from darkroom.data.digits import write_digits
from darkroom.data.idx import load_raw
from darkroom.data.splits import SPLIT_NAMES, read_split
from darkroom.data.versions import hash_folder
from darkroom.errors import ConfigError, DataError
from darkroom.preprocess import PreprocessConfig, preprocess


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_digits(folder)
    return folder


def test_counts_are_those_of_the_files(raw: Path, tmp_path: Path) -> None:
    counts = preprocess(raw, PreprocessConfig(), tmp_path)
    assert counts == {name: len(read_split(tmp_path, name)) for name in SPLIT_NAMES}
    source = load_raw(raw)
    assert counts["train"] + counts["validation"] == len(source.train)
    assert counts["test"] == len(source.test)
    assert read_split(tmp_path, "train").info == source.info


def test_validation_takes_the_same_share_of_every_class(raw: Path, tmp_path: Path) -> None:
    preprocess(raw, PreprocessConfig(validation_fraction=0.25), tmp_path)
    whole = np.bincount(load_raw(raw).train.labels)
    held_out = np.bincount(read_split(tmp_path, "validation").labels)
    np.testing.assert_array_less(np.abs(held_out - 0.25 * whole), 0.51)


def test_manifest_leads_every_image_back_to_its_source(raw: Path, tmp_path: Path) -> None:
    preprocess(raw, PreprocessConfig(), tmp_path)
    source = load_raw(raw)
    rows: dict[str, list[int]] = {"train": [], "test": []}
    for name in SPLIT_NAMES:
        split = read_split(tmp_path, name)
        manifest = pq.read_table(tmp_path / name / "manifest.parquet").to_pydict()
        assert list(manifest) == ["index", "source", "label", "class_name", "sha256"]
        original = source.test if name == "test" else source.train
        assert set(manifest["source"]) == {"test" if name == "test" else "train"}
        assert manifest["index"] == sorted(manifest["index"])
        np.testing.assert_array_equal(split.images, original.images[manifest["index"]])
        assert split.images.dtype == np.uint8
        assert manifest["label"] == split.labels.tolist() == original.labels[manifest["index"]].tolist()
        assert manifest["class_name"] == [source.info.classes[label] for label in split.labels]
        assert manifest["sha256"] == [hashlib.sha256(image.tobytes()).hexdigest() for image in split.images]
        rows[manifest["source"][0]] += manifest["index"]
    assert sorted(rows["train"]) == list(range(len(source.train)))
    assert sorted(rows["test"]) == list(range(len(source.test)))


def test_seed_alone_decides_the_split(raw: Path, tmp_path: Path) -> None:
    config = PreprocessConfig(seed=3)
    for name, chosen in (("a", config), ("b", config), ("other", PreprocessConfig(seed=4))):
        preprocess(raw, chosen, tmp_path / name)
    assert hash_folder(tmp_path / "a") == hash_folder(tmp_path / "b")
    assert (tmp_path / "a/validation/images.npy").read_bytes() != (
        tmp_path / "other/validation/images.npy"
    ).read_bytes()


def test_subset_has_the_same_number_of_every_class(raw: Path, tmp_path: Path) -> None:
    config = PreprocessConfig(images_per_class=20, validation_fraction=0.2, test_images_per_class=7)
    assert preprocess(raw, config, tmp_path) == {"train": 160, "validation": 40, "test": 70}
    for name, number in (("train", 16), ("validation", 4), ("test", 7)):
        assert np.bincount(read_split(tmp_path, name).labels).tolist() == [number] * 10  # type: ignore[arg-type]


def test_size_of_the_test_subset_does_not_change_the_others(raw: Path, tmp_path: Path) -> None:
    preprocess(raw, PreprocessConfig(images_per_class=20), tmp_path / "all")
    preprocess(raw, PreprocessConfig(images_per_class=20, test_images_per_class=5), tmp_path / "few")
    assert hash_folder(tmp_path / "all" / "train") == hash_folder(tmp_path / "few" / "train")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PreprocessConfig(images_per_class=150), r"^images_per_class: class 8 \(8\) has 139 images, asked for 150"),
        (PreprocessConfig(test_images_per_class=36), r"^test_images_per_class: class 2 .* has 35 images, asked for 36"),
        (PreprocessConfig(images_per_class=4), r"^validation_fraction: class 0 \(0\) has 4 training images, too few"),
    ],
)
def test_too_few_images_is_an_error_and_writes_nothing(
    raw: Path, tmp_path: Path, config: PreprocessConfig, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        preprocess(raw, config, tmp_path / "splits")
    assert not (tmp_path / "splits").exists()


def test_disk_that_is_full_leaves_nothing(raw: Path, tmp_path: Path) -> None:
    # The largest file that this process may write stands for what a disk has left.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(DataError, match=r"splits: cannot be written: File too large"):
            preprocess(raw, PreprocessConfig(), tmp_path / "splits")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "splits").exists()


@pytest.mark.parametrize("fraction", [0.0, 0.009, 0.51, 1.0])
def test_validation_fraction_has_bounds(fraction: float) -> None:
    with pytest.raises(ConfigError, match="validation_fraction"):
        PreprocessConfig.parse({"validation_fraction": fraction})


def test_import_is_cheap() -> None:
    code = "import sys, darkroom.preprocess; sys.exit(any(m in sys.modules for m in ('pandas', 'sklearn', 'pyarrow')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
