import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics

from darkroom.cnn.calibration import calibrate, fit_temperature
from darkroom.cnn.config import CnnConfig, EvaluateCnnConfig
from darkroom.cnn.evaluate import evaluate, predict, read_confusion
from darkroom.cnn.metrics import log_loss
from darkroom.cnn.model import PixelStatistics, build_network, inference_model
from darkroom.data.splits import read_split
from darkroom.errors import DataError
from darkroom.training import load_model

CONFIG = EvaluateCnnConfig(batch_size=64, corrupted_images=40)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model, and a sure one."""
    folder = tmp_path_factory.mktemp("untrained")
    network = build_network(CnnConfig(), (28, 28, 1), 10, PixelStatistics((40.0,), (5000.0,)))
    head = network.model.get_layer("head")
    head.kernel.assign(4 * head.kernel)
    inference_model(network).save(folder / "model.keras")
    return folder


def test_evaluation_measures_every_test_image(model_dir: Path, tiny_splits: Path, tmp_path: Path):
    values = evaluate(model_dir, tiny_splits, tmp_path / "evaluation", CONFIG)
    folder = tmp_path / "evaluation"
    assert set(values) == {
        *("accuracy", "accuracy_lower", "accuracy_upper", "macro_f1", "lowest_recall", "log_loss", "ece"),
        *("temperature", "log_loss_calibrated", "ece_calibrated", "corrupted_accuracy"),
    }
    assert json.loads((folder / "metrics.json").read_text()) == values

    labels = read_split(tiny_splits, "test").labels
    with np.load(folder / "predictions.npz") as saved:
        assert (saved["labels"] == labels).all()
        assert saved["labels"].dtype == np.int64
        probabilities = saved["probabilities"]
    assert probabilities.shape == (200, 10)
    assert probabilities.dtype == np.float32
    predictions = probabilities.argmax(axis=1)
    assert values["accuracy"] == sklearn.metrics.accuracy_score(labels, predictions)
    assert values["macro_f1"] == pytest.approx(
        sklearn.metrics.f1_score(labels, predictions, average="macro", zero_division=0)
    )

    classes, confusion = read_confusion(folder)
    assert classes == [str(digit) for digit in range(10)]
    assert confusion == sklearn.metrics.confusion_matrix(labels, predictions, labels=range(10)).tolist()
    with (folder / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == classes
    assert [int(row["support"]) for row in rows] == np.bincount(labels, minlength=10).tolist()
    noted = [row for row in rows if row["note"] == "lowest recall"]
    assert [float(row["recall"]) for row in noted] == [values["lowest_recall"]]
    assert values["lowest_recall"] == min(float(row["recall"]) for row in rows)
    with (folder / "corruptions.csv").open() as file:
        clean, *corrupted = csv.DictReader(file)
    assert clean["images"] == "40"
    assert [row["severity"] for row in corrupted] == ["1", "2", "3"] * 5
    assert values["corrupted_accuracy"] == pytest.approx(np.mean([float(row["accuracy"]) for row in corrupted]))
    with (folder / "slices.csv").open() as file:
        slices = list(csv.DictReader(file))
    by_class = [row for row in slices if row["by"] == "class"]
    assert [float(row["accuracy"]) for row in by_class] == pytest.approx([float(row["recall"]) for row in rows])
    for group in ("class", "mean intensity", "contrast", "ink"):
        assert sum(int(row["images"]) for row in slices if row["by"] == group) == 200
    for name in ("confusion", "calibration", "predictions", "hardest", "slices", "corruptions"):
        picture = f"{name}.png"
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


def test_evaluation_names_its_data_and_model(model_dir: Path, tiny_splits: Path, tmp_path: Path):
    evaluate(model_dir, tiny_splits, tmp_path, CONFIG)
    provenance = json.loads((tmp_path / "evaluation.json").read_text())
    test = tiny_splits / "test"
    data = (test / "labels.npy").read_bytes() + (test / "images.npy").read_bytes()
    assert provenance["test_sha256"] == hashlib.sha256(data).hexdigest()
    assert provenance["model_sha256"] == hashlib.sha256((model_dir / "model.keras").read_bytes()).hexdigest()
    assert (provenance["dataset"], provenance["test_images"]) == ("tiny-digits", 200)


def test_the_batch_size_does_not_change_the_result(model_dir: Path, tiny_splits: Path):
    model, split = load_model(model_dir / "model.keras"), read_split(tiny_splits, "test")
    np.testing.assert_allclose(predict(model, split.images, 33), predict(model, split.images, 200), atol=1e-6)


def test_the_temperature_comes_from_the_validation_split(model_dir: Path, tiny_splits: Path, tmp_path: Path):
    # A validation split whose labels are what the model says: it asks for more sureness, and the test split for less.
    splits = tmp_path / "splits"
    shutil.copytree(tiny_splits, splits)
    validation = read_split(splits, "validation")
    probabilities = predict(load_model(model_dir / "model.keras"), validation.images, 64)
    labels = probabilities.argmax(axis=1)
    np.save(splits / "validation/labels.npy", labels)
    values = evaluate(model_dir, splits, tmp_path, CONFIG)
    assert values["temperature"] == pytest.approx(fit_temperature(labels, probabilities), rel=1e-3)
    assert values["temperature"] < 1
    with np.load(tmp_path / "predictions.npz") as saved:
        calibrated = log_loss(saved["labels"], calibrate(saved["probabilities"], values["temperature"]))
    assert values["log_loss_calibrated"] == pytest.approx(calibrated)
    assert calibrated > values["log_loss"]


def test_an_untrained_model_is_told_to_be_less_sure(model_dir: Path, tiny_splits: Path, tmp_path: Path):
    values = evaluate(model_dir, tiny_splits, tmp_path, CONFIG)
    assert values["temperature"] > 1
    assert values["log_loss_calibrated"] < values["log_loss"]
    assert values["ece_calibrated"] < values["ece"]


def test_a_missing_model_is_named(tiny_splits: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere/model\.keras: no such file"):
        evaluate(tmp_path / "nowhere", tiny_splits, tmp_path / "evaluation", CONFIG)


def test_a_damaged_model_is_named(tiny_splits: Path, tmp_path: Path):
    (tmp_path / "model.keras").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(DataError, match=r"model\.keras: not readable as a Keras model"):
        evaluate(tmp_path, tiny_splits, tmp_path / "evaluation", CONFIG)


def test_a_model_for_other_images_is_refused(tiny_splits: Path, tmp_path: Path):
    network = build_network(CnnConfig(), (8, 8, 1), 3, PixelStatistics((40.0,), (5000.0,)))
    inference_model(network).save(tmp_path / "model.keras")
    with pytest.raises(DataError, match=r"takes images of shape \(8, 8, 1\) and knows 3 classes, the test split"):
        evaluate(tmp_path, tiny_splits, tmp_path / "evaluation", CONFIG)
