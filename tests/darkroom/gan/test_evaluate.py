import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from darkroom.data.metadata import read_info
from darkroom.data.splits import read_split
from darkroom.errors import DataError
from darkroom.gan.config import EvaluateGanConfig, GanConfig
from darkroom.gan.evaluate import agreement_per_class, evaluate
from darkroom.gan.model import GENERATOR_NAME, build_generator

SMALL = EvaluateGanConfig(
    samples=150, samples_per_class=2, reference_epochs=2, resamples=20, classifier_steps=3, memorisation_samples=100
)
MEASURES = {
    *("frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage", "class_agreement"),
    *("modes", "memorisation", "classification_accuracy_score", "scarce_data_gain"),
}


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """An untrained generator: enough for everything but quality."""
    folder = tmp_path / "model"
    folder.mkdir()
    build_generator((28, 28, 1), 10, GanConfig(latent_size=4, generator_filters=8)).save(folder / GENERATOR_NAME)
    return folder


def test_agreement_per_class_by_hand(tiny_splits: Path) -> None:
    info = read_info(tiny_splits)
    table = agreement_per_class(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 7, 2]), info)
    assert table["samples"].tolist() == [4, 1] + [0] * 8
    assert table["agreement"].tolist()[:2] == [0.75, 0.0]
    assert table["agreement"][2:].isna().all()
    assert table["assigned_most_often"].tolist()[:3] == ["0", "2", ""]


def test_files_and_metrics_and_the_same_again(tiny_splits: Path, model_dir: Path, tmp_path: Path) -> None:
    epochs: list[int] = []
    metrics = evaluate(
        model_dir, tiny_splits, tmp_path / "first", SMALL, on_epoch=lambda epoch, *_: epochs.append(epoch)
    )
    assert set(metrics) == MEASURES | {"reference_accuracy"}
    assert epochs == [1, 2]
    assert json.loads((tmp_path / "first/metrics.json").read_text()) == metrics
    assert metrics["frechet_distance"] > 0

    test = tiny_splits / "test"
    expected = hashlib.sha256((test / "labels.npy").read_bytes() + (test / "images.npy").read_bytes()).hexdigest()
    evaluation = json.loads((tmp_path / "first/evaluation.json").read_text())
    assert evaluation["test_sha256"] == expected
    assert (evaluation["samples"], evaluation["seed"]) == (150, 0)

    table = pd.read_csv(tmp_path / "first/agreement.csv")
    assert table["samples"].sum() == 150
    weighted = (table["agreement"] * table["samples"]).sum() / 150
    assert weighted == pytest.approx(metrics["class_agreement"])

    intervals = pd.read_csv(tmp_path / "first/intervals.csv").set_index("measure")
    assert set(intervals.index) == MEASURES
    for name in MEASURES:
        assert intervals["value"][name] == pytest.approx(metrics[name])
        assert intervals["lower"][name] <= intervals["value"][name] <= intervals["upper"][name]
    scarce = json.loads((tmp_path / "first/scarce_data.json").read_text())
    gains = np.subtract(scarce["with_samples"], scarce["without"])
    assert len(gains) == 3
    assert metrics["scarce_data_gain"] == pytest.approx(gains.mean())
    assert "a classifier that has 20 real images a class: test accuracy" in scarce["answer"]

    assert evaluate(model_dir, tiny_splits, tmp_path / "second", SMALL) == metrics
    for name in ("metrics.json", "intervals.csv", "agreement.csv", "samples.png", "nearest_neighbours.png"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_generator_of_another_size(tiny_splits: Path, tmp_path: Path) -> None:
    build_generator((8, 8, 1), 10, GanConfig(latent_size=4, generator_filters=8)).save(tmp_path / GENERATOR_NAME)
    with pytest.raises(DataError, match=r"generator\.keras: generates images of shape \(8, 8, 1\)"):
        evaluate(tmp_path, tiny_splits, tmp_path / "evaluation", SMALL)


def test_generator_of_fewer_classes(tiny_splits: Path, tmp_path: Path) -> None:
    build_generator((28, 28, 1), 3, GanConfig(latent_size=4, generator_filters=8)).save(tmp_path / GENERATOR_NAME)
    with pytest.raises(DataError, match=r"generator\.keras: .* in 3 classes, but .* in 10 classes"):
        evaluate(tmp_path, tiny_splits, tmp_path / "evaluation", SMALL)


def test_generator_with_damaged_weights(tiny_splits: Path, tmp_path: Path) -> None:
    generator = build_generator((28, 28, 1), 10, GanConfig(latent_size=4, generator_filters=8))
    generator.set_weights([np.full_like(weight, np.nan) for weight in generator.get_weights()])
    generator.save(tmp_path / GENERATOR_NAME)
    with pytest.raises(DataError, match=r"generator\.keras: generates NaN"):
        evaluate(tmp_path, tiny_splits, tmp_path / "evaluation", SMALL)
    assert not list((tmp_path / "evaluation").iterdir())


def test_splits_without_test(tiny_splits: Path, model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/dataset.yaml").write_bytes((tiny_splits / "dataset.yaml").read_bytes())
    (tmp_path / "splits/train").symlink_to(tiny_splits / "train")
    with pytest.raises(DataError, match=r"test/images\.npy: no such file"):
        evaluate(model_dir, tmp_path / "splits", tmp_path / "evaluation", SMALL)


def test_the_test_split_alone_is_compared_with(tiny_splits: Path, model_dir: Path, tmp_path: Path) -> None:
    labels = read_split(tiny_splits, "test").labels
    evaluate(model_dir, tiny_splits, tmp_path / "evaluation", SMALL)
    table = pd.read_csv(tmp_path / "evaluation/agreement.csv")
    assert table["samples"].tolist() == np.bincount(labels[:150], minlength=10).tolist()
