import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import sqrtm

from darkroom.data.metadata import read_info
from darkroom.data.splits import read_split
from darkroom.errors import DataError
from darkroom.gan.config import EvaluateGanConfig, GanConfig
from darkroom.gan.evaluate import agreement_per_class, evaluate, frechet_distance, gaussian_frechet_distance
from darkroom.gan.model import GENERATOR_NAME, build_generator

SMALL = EvaluateGanConfig(samples=150, samples_per_class=2, reference_epochs=2)


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """An untrained generator: enough for everything but quality."""
    folder = tmp_path / "model"
    folder.mkdir()
    build_generator((28, 28, 1), 10, GanConfig(latent_size=4, generator_filters=8)).save(folder / GENERATOR_NAME)
    return folder


def test_distance_of_one_dimensional_gaussians() -> None:
    # (m_a - m_b)^2 + (s_a - s_b)^2 with means 1 and 4, standard deviations 2 and 7.
    one = np.ones(1)
    distance = gaussian_frechet_distance(1 * one, np.array([[4.0]]), 4 * one, np.array([[49.0]]))
    assert distance == pytest.approx(3**2 + 5**2)


def test_distance_of_diagonal_gaussians() -> None:
    deviations_a, deviations_b = np.array([1.0, 2.0, 0.0]), np.array([3.0, 2.0, 5.0])
    mean_a, mean_b = np.array([0.0, 1.0, 0.0]), np.array([0.0, -1.0, 2.0])
    distance = gaussian_frechet_distance(mean_a, np.diag(deviations_a**2), mean_b, np.diag(deviations_b**2))
    assert distance == pytest.approx((4 + 4) + (2**2 + 0 + 5**2))


@pytest.mark.parametrize("rank", [20, 5])
def test_distance_agrees_with_the_general_matrix_root(rank: int) -> None:
    random = np.random.default_rng(0)
    real = random.normal(size=(400, 20)) @ random.normal(size=(20, 20))
    generated = random.normal(size=(300, rank)) @ random.normal(size=(rank, 20)) + 0.5
    cov_real, cov_generated = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    root = sqrtm(cov_real @ cov_generated)
    gap = real.mean(axis=0) - generated.mean(axis=0)
    expected = gap @ gap + np.trace(cov_real) + np.trace(cov_generated) - 2 * np.trace(root).real
    assert frechet_distance(real, generated) == pytest.approx(expected, rel=1e-5)


def test_distance_to_itself_is_zero_even_with_dead_features() -> None:
    features = np.random.default_rng(0).normal(size=(50, 8))
    features[:, 3] = 0
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)


def test_distance_is_symmetric_and_grows_with_the_shift() -> None:
    random = np.random.default_rng(0)
    real, generated = random.normal(size=(200, 6)), 2 * random.normal(size=(100, 6))
    assert frechet_distance(real, generated) == pytest.approx(frechet_distance(generated, real))
    assert frechet_distance(real, real + 1) == pytest.approx(6)


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="two rows"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))


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
    assert set(metrics) == {"frechet_distance", "class_agreement", "reference_accuracy"}
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

    assert evaluate(model_dir, tiny_splits, tmp_path / "second", SMALL) == metrics
    for name in ("metrics.json", "evaluation.json", "agreement.csv", "samples.png"):
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
