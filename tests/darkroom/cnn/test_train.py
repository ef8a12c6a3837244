import json
import math
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from darkroom.cnn.config import CnnConfig
from darkroom.cnn.train import make_loss, make_schedule, train
from darkroom.data.splits import read_split
from darkroom.errors import ConfigError, DataError, TrainingError

# Enough steps for the moving averages of batch normalisation to forget their start.
QUICK = CnnConfig(epochs=6, batch_size=16, learning_rate=0.005, horizontal_flip=False)


def test_training_learns_and_leaves_model_history_and_plot(tiny_splits: Path, tmp_path: Path):
    epochs, reported = [], []
    result = train(
        tiny_splits,
        QUICK,
        tmp_path / "model",
        tmp_path / "deep" / "history",
        on_epoch=lambda *event: epochs.append(event),
        on_batch=lambda *event: reported.append(event),
    )
    assert result.metrics["val_accuracy"] > 0.8
    assert result.history["loss"][-1] < result.history["loss"][0]
    assert {name: len(values) for name, values in result.history.items()} == dict.fromkeys(
        ["loss", "accuracy", "val_loss", "val_accuracy"], 6
    )
    assert result.epochs == 6
    assert result.seconds > 0
    assert json.loads((tmp_path / "deep" / "history" / "history.json").read_text()) == result.history
    assert (tmp_path / "deep" / "history" / "history.png").stat().st_size > 10_000

    assert [(epoch, of) for epoch, of, _ in epochs] == [(epoch, 6) for epoch in range(1, 7)]
    assert epochs[-1][2] == result.metrics
    assert reported[0][:4] == (1, 6, 1, 38)

    model = keras.saving.load_model(tmp_path / "model" / "model.keras")
    assert not any("Random" in type(layer).__name__ for layer in model.layers)
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == result.parameters
    validation = read_split(tiny_splits, "validation")
    predictions = model.predict(validation.images, verbose=0).argmax(axis=1)
    assert np.mean(predictions == validation.labels) == pytest.approx(result.metrics["val_accuracy"])


def test_a_fresh_process_with_the_same_seed_trains_the_same_weights(tiny_splits: Path, tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from darkroom.cnn.config import CnnConfig; "
        "from darkroom.cnn.train import train; out = Path(sys.argv[2]); "
        "train(Path(sys.argv[1]), CnnConfig(epochs=1, batch_size=64), out, out)"
    )
    here, there = tmp_path / "here", tmp_path / "there"
    train(tiny_splits, CnnConfig(epochs=1, batch_size=64), here, here)
    subprocess.run([sys.executable, "-c", code, tiny_splits, there], check=True, capture_output=True)
    first, second = (keras.saving.load_model(output / "model.keras").get_weights() for output in (here, there))
    assert all((one == other).all() for one, other in zip(first, second, strict=True))
    assert (here / "history.json").read_text() == (there / "history.json").read_text()


@pytest.mark.parametrize("architecture", ["mnist_cnn", "cifar_cnn"])
def test_the_tutorial_architectures_train(architecture, tiny_splits: Path, tmp_path: Path):
    config = CnnConfig(architecture=architecture, epochs=2)
    assert train(tiny_splits, config, tmp_path, tmp_path).metrics["val_accuracy"] > 0.5


def test_divergence_stops_with_the_epoch_and_batch(tiny_splits: Path, tmp_path: Path):
    config = CnnConfig(
        optimizer="sgd", schedule="constant", learning_rate=10, weight_decay=1, epochs=30, crop_padding=0
    )
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) in epoch \d+, batch \d+"):
        train(tiny_splits, config, tmp_path, tmp_path)
    assert not (tmp_path / "model.keras").exists()


def test_small_images_are_refused_before_training(tmp_path: Path, tiny_splits: Path):
    for name in ("train", "validation"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "images.npy", np.zeros((4, 8, 8, 1), dtype=np.uint8))
        np.save(tmp_path / name / "labels.npy", np.zeros(4, dtype=np.int64))
    (tmp_path / "dataset.yaml").write_text((tiny_splits / "dataset.yaml").read_text())
    with pytest.raises(ConfigError, match="mnist_cnn needs images of at least 18 x 18 pixels, got 8 x 8"):
        train(tmp_path, CnnConfig(architecture="mnist_cnn"), tmp_path / "model", tmp_path / "history")


def test_missing_splits_are_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"train/images\.npy: no such file"):
        train(tmp_path, QUICK, tmp_path / "model", tmp_path / "history")


def test_an_output_that_cannot_be_a_folder_is_found_before_training(tiny_splits: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        train(tiny_splits, QUICK, tmp_path / "file" / "model", tmp_path)


def test_one_cycle_rises_to_its_peak_and_falls_to_zero():
    schedule = make_schedule(CnnConfig(learning_rate=0.01, schedule="one_cycle"), steps=100)
    rates = [float(schedule(step)) for step in range(101)]
    assert rates[0] == pytest.approx(0.001)
    assert max(rates) == rates[20] == pytest.approx(0.01)
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[60] == pytest.approx(0.005)
    assert rates[100] == pytest.approx(0, abs=1e-9)


def test_a_constant_schedule_is_its_number():
    assert make_schedule(CnnConfig(learning_rate=0.02, schedule="constant"), steps=10) == 0.02


def test_a_single_step_has_a_schedule():
    schedule = make_schedule(CnnConfig(schedule="one_cycle"), steps=1)
    assert math.isfinite(float(schedule(0)))


def test_loss_with_and_without_smoothing_by_hand():
    labels = np.array([0, 1])
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], dtype=np.float32))
    plain = make_loss(label_smoothing=0.0, from_logits=True)(labels, logits)
    assert float(plain) == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2)
    smoothed = np.asarray(make_loss(label_smoothing=0.3, from_logits=True)(labels, logits))
    assert smoothed == pytest.approx(
        [
            -(0.8 * math.log(0.5) + 0.1 * math.log(0.25) + 0.1 * math.log(0.25)),
            -(0.8 * math.log(0.8) + 0.2 * math.log(0.1)),
        ]
    )
    probabilities = make_loss(label_smoothing=0.3, from_logits=False)(labels, np.exp(logits))
    assert np.asarray(probabilities) == pytest.approx(smoothed, rel=1e-5)
