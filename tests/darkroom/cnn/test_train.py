import json
import math
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from darkroom.checkpoint import load_checkpoint
from darkroom.cnn.config import CnnConfig
from darkroom.cnn.train import train
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


def test_a_run_stopped_between_epochs_goes_on_as_if_it_never_was(tiny_splits: Path, tmp_path: Path):
    class StoppedError(Exception):
        pass

    def stop_after_two(epoch, epochs, metrics):
        if epoch == 2:
            raise StoppedError

    checkpoint = tmp_path / "checkpoints" / "training.npz"
    config = QUICK.model_copy(update={"epochs": 3, "horizontal_flip": True, "dropout": 0.2})
    whole = train(tiny_splits, config, tmp_path / "whole", tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(tiny_splits, config, tmp_path / "model", tmp_path, checkpoint=checkpoint, on_epoch=stop_after_two)
    assert checkpoint.is_file()
    seen = []
    result = train(
        tiny_splits, config, tmp_path / "model", tmp_path, checkpoint=checkpoint, on_epoch=lambda *e: seen.append(e[0])
    )
    assert seen == [3]
    assert result.history == whole.history
    weights = [keras.saving.load_model(tmp_path / name / "model.keras").get_weights() for name in ("whole", "model")]
    assert all((one == other).all() for one, other in zip(*weights, strict=True))
    assert not checkpoint.exists()


TRAIN = """
import sys
import time
from pathlib import Path
from darkroom.checkpoint import load_checkpoint
from darkroom.cnn.config import CnnConfig
from darkroom.cnn.train import train

splits, out, checkpoint = map(Path, sys.argv[1:])
config = CnnConfig(epochs=8, batch_size=32, patience=6)
train(splits, config, out, out, checkpoint=checkpoint, on_epoch=lambda epoch, *rest: print(epoch, flush=True))
"""


@pytest.mark.slow
def test_killed_at_random_moments_training_ends_with_the_same_model(tiny_splits: Path, tmp_path: Path):
    moments = np.random.default_rng()
    checkpoint = tmp_path / "checkpoint.npz"

    def start(out: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", TRAIN, tiny_splits, out, checkpoint]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    with start(tmp_path / "whole") as undisturbed:
        assert undisturbed.communicate()[0].split() == [str(epoch) for epoch in range(1, 9)]
    for _ in range(3):
        with start(tmp_path / "killed") as process:
            assert process.stdout is not None
            assert process.stdout.readline()  # one epoch at least is done, so that every attempt gets further
            time.sleep(float(moments.uniform(0, 0.6)))
            process.kill()
        assert checkpoint.is_file()
    with start(tmp_path / "killed") as last:
        assert 0 < len(last.communicate()[0].split()) < 6
    for name in ("model.keras", "history.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_patience_stops_training_and_keeps_the_best_epoch(tiny_splits: Path, tmp_path: Path):
    config = QUICK.model_copy(update={"epochs": 40, "patience": 2, "schedule": "constant", "learning_rate": 0.02})
    result = train(tiny_splits, config, tmp_path, tmp_path)
    losses = result.history["val_loss"]
    assert result.epochs == len(losses) < 40
    best = losses.index(min(losses))
    assert best == len(losses) - 3
    assert result.metrics["val_loss"] == losses[best]
    model = keras.saving.load_model(tmp_path / "model.keras")
    validation = read_split(tiny_splits, "validation")
    accuracy = np.mean(model.predict(validation.images, verbose=0).argmax(axis=1) == validation.labels)
    assert accuracy == pytest.approx(result.metrics["val_accuracy"])


def saved_in_float32(folder: Path) -> bool:
    model = keras.saving.load_model(folder / "model.keras")
    return {layer.compute_dtype for layer in model.layers if layer.weights} == {"float32"}


def test_bfloat16_learns_and_saves_a_float32_model(tiny_splits: Path, tmp_path: Path):
    result = train(tiny_splits, QUICK.model_copy(update={"precision": "bfloat16"}), tmp_path, tmp_path)
    assert result.metrics["val_accuracy"] > 0.8
    assert saved_in_float32(tmp_path)
    assert keras.config.dtype_policy().name == "float32"


def test_float16_scales_its_loss(tiny_splits: Path, tmp_path: Path):
    # A CPU has no fast kernels for it, so this is the smallest network and few images.
    for name in ("train", "validation"):
        split = read_split(tiny_splits, name)
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "images.npy", split.images[:64])
        np.save(tmp_path / name / "labels.npy", split.labels[:64])
    (tmp_path / "dataset.yaml").write_text((tiny_splits / "dataset.yaml").read_text())
    checkpoint = tmp_path / "checkpoint.npz"
    states = []
    config = CnnConfig(architecture="mnist_cnn", epochs=2, batch_size=16, precision="float16")
    result = train(
        tmp_path,
        config,
        tmp_path,
        tmp_path,
        checkpoint=checkpoint,
        on_epoch=lambda *event: states.append(load_checkpoint(checkpoint)),
    )
    assert result.history["loss"][1] < result.history["loss"][0]
    assert saved_in_float32(tmp_path)
    scales = [float(value) for value in states[-1].arrays["optimizer"] if value.shape == () and value > 1000]
    assert scales == [2.0**15]


def test_accumulated_gradients_make_the_updates_of_the_larger_batch(tiny_splits: Path, tmp_path: Path):
    plain = {"architecture": "mnist_cnn", "epochs": 1, "optimizer": "sgd", "learning_rate": 0.1}
    large = train(tiny_splits, CnnConfig(**plain, batch_size=100), tmp_path / "large", tmp_path)
    small = CnnConfig(**plain, batch_size=50, gradient_accumulation=2)
    train(tiny_splits, small, tmp_path / "small", tmp_path)
    weights = [keras.saving.load_model(tmp_path / name / "model.keras").get_weights() for name in ("large", "small")]
    assert large.batch_size == 100
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)  # a single update moves some of them by 0.1


def test_the_batch_grows_with_the_memory_it_may_take(tiny_splits: Path, tmp_path: Path):
    config = CnnConfig(epochs=1, batch_size=10, batch_memory_share=0.5)
    result = train(tiny_splits, config, tmp_path, tmp_path)
    assert result.batch_size == 40  # 60 images are the most that leave ten steps of 600 images
    assert result.learning_rate == pytest.approx(2 * config.learning_rate)


def test_balanced_classes_weigh_rare_images_more(tiny_splits: Path, tmp_path: Path):
    train_split = read_split(tiny_splits, "train")
    rare = train_split.labels == 3
    kept = np.flatnonzero(~rare | (np.cumsum(rare) <= 5))
    for name in ("train", "validation"):
        (tmp_path / "splits" / name).mkdir(parents=True)
        rows = kept if name == "train" else slice(None)
        split = read_split(tiny_splits, name)
        np.save(tmp_path / "splits" / name / "images.npy", split.images[rows])
        np.save(tmp_path / "splits" / name / "labels.npy", split.labels[rows])
    (tmp_path / "splits" / "dataset.yaml").write_text((tiny_splits / "dataset.yaml").read_text())

    def recall(class_weights: str) -> float:
        config = QUICK.model_copy(update={"epochs": 4, "class_weights": class_weights})
        train(tmp_path / "splits", config, tmp_path / class_weights, tmp_path)
        model = keras.saving.load_model(tmp_path / class_weights / "model.keras")
        probabilities = model.predict(train_split.images[rare], verbose=0)
        return float(probabilities[:, 3].mean())

    assert recall("balanced") > recall("equal")


def test_a_backbone_trains_its_head_then_all_of_it_and_serves_raw_images(tiny_splits: Path, tmp_path: Path):
    backbone = {"weights": "random", "size": 32, "frozen_epochs": 1}
    config = CnnConfig(architecture="backbone", backbone=backbone, epochs=2, batch_size=100, crop_padding=0)
    result = train(tiny_splits, config, tmp_path, tmp_path)
    assert len(result.history["loss"]) == 2
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert model.input_shape == (None, 28, 28, 1)
    assert model.predict(read_split(tiny_splits, "test").images[:3], verbose=0).sum() == pytest.approx(3, abs=1e-4)
