import json
from pathlib import Path
from typing import Any

import pytest

from darkroom.data.digits import write_digits
from darkroom.errors import DataError
from darkroom.files import write_json
from darkroom.origin import ORIGIN_FILE, describe_origin, digest_of
from darkroom.preprocess import PreprocessConfig, preprocess


def split(raw: Path, folder: Path, **config: Any) -> Path:
    preprocess(raw, PreprocessConfig(images_per_class=20, **config), folder)
    return folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_digits(folder)
    return folder


def test_an_origin_is_the_same_for_the_same_work_and_for_no_other(raw: Path, tmp_path: Path) -> None:
    first, same = split(raw, tmp_path / "first"), split(raw, tmp_path / "same")
    other_seed, other_test = (
        split(raw, tmp_path / "seed", seed=1),
        split(raw, tmp_path / "test", test_images_per_class=9),
    )

    def digest(splits: Path, step: str = "train_cnn", epochs: int = 3, md5: str = "a.dir", code: str = "c0ffee") -> str:
        return digest_of(describe_origin(step, {"epochs": epochs, "sizes": (1, 2)}, splits, data_md5=md5, code=code))

    assert digest(first) == digest(same)
    others = [digest(other_seed), digest(other_test), digest(first, epochs=4), digest(first, md5="b.dir")]
    others += [digest(first, code="bead"), digest(first, step="train_gan")]
    assert len({digest(first), *others}) == 7


def test_the_digest_survives_the_file(raw: Path, tmp_path: Path) -> None:
    config = {"learning_rate": 1e-3, "sizes": (1, 2)}
    origin = describe_origin("train_cnn", config, split(raw, tmp_path), data_md5="a.dir", code="c0ffee")
    write_json(tmp_path / ORIGIN_FILE, origin)
    assert digest_of(json.loads((tmp_path / ORIGIN_FILE).read_text())) == digest_of(origin)


def test_splits_that_are_not_whole_are_named(raw: Path, tmp_path: Path) -> None:
    splits = split(raw, tmp_path)
    (splits / "validation" / "manifest.parquet").unlink()
    with pytest.raises(DataError, match=r"validation/manifest.parquet: no such file"):
        describe_origin("train_cnn", {}, splits, data_md5="a.dir", code="c0ffee")
