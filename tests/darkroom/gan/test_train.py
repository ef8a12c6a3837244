import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from darkroom.data.splits import read_split
from darkroom.errors import ConfigError, DataError, TrainingError
from darkroom.gan.config import GanConfig
from darkroom.gan.train import (
    METRICS,
    build_gan,
    check_not_collapsed,
    discriminator_accuracy,
    make_train_step,
    move_average,
    train,
)
from darkroom.training import seed_everything

SMALL = GanConfig(
    epochs=2, batch_size=100, latent_size=8, generator_filters=8, discriminator_filters=8, samples_per_class=3
)


def test_files_history_and_progress(tiny_splits: Path, tmp_path: Path) -> None:
    epochs: list[tuple[int, int, dict[str, float]]] = []
    positions: list[tuple[int, int, int, int]] = []
    result = train(
        tiny_splits,
        SMALL,
        tmp_path / "model",
        tmp_path / "history",
        on_epoch=lambda *report: epochs.append(report),
        on_batch=lambda *report: positions.append(report[:4]),
    )

    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {
        "model/generator.keras",
        "model/discriminator.keras",
        "history/history.json",
        "history/history.png",
        "history/samples/epoch-001.png",
        "history/samples/epoch-002.png",
    }
    assert json.loads((tmp_path / "history/history.json").read_text()) == result.history
    assert [report[:2] for report in epochs] == [(1, 2), (2, 2)]
    assert epochs[-1][2] == result.metrics == {name: result.history[name][-1] for name in METRICS}
    assert 0 <= result.metrics["discriminator_accuracy"] <= 1
    assert positions[0] == (1, 2, 1, 6)

    generator = keras.saving.load_model(tmp_path / "model/generator.keras", safe_mode=True)
    images = np.asarray(generator([np.zeros((2, 8), np.float32), np.array([0, 9])]))
    assert images.shape == (2, 28, 28, 1)
    assert images.dtype == np.float32


def test_two_processes_train_the_same_generator(tiny_splits: Path, tmp_path: Path) -> None:
    code = (
        "import sys, hashlib; from pathlib import Path; import keras;"
        "from darkroom.gan.config import GanConfig; from darkroom.gan.train import train;"
        "config = GanConfig.parse({'epochs': 1, 'latent_size': 8, 'generator_filters': 16, 'seed': int(sys.argv[3])});"
        "train(Path(sys.argv[1]), config, Path(sys.argv[2]), Path(sys.argv[2]));"
        "model = keras.saving.load_model(sys.argv[2] + '/generator.keras');"
        "print(hashlib.sha256(b''.join(weight.tobytes() for weight in model.get_weights())).hexdigest())"
    )

    def run(name: str, seed: str) -> str:
        command = [sys.executable, "-c", code, str(tiny_splits), str(tmp_path / name), seed]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert run("first", "1") == run("second", "1")


def test_another_seed_trains_another_generator() -> None:
    def weights(seed: int) -> list[np.ndarray]:
        seed_everything(seed)
        networks: list[np.ndarray] = build_gan((8, 8, 1), 2, SMALL).generator.get_weights()
        return networks

    assert np.array_equal(weights(1)[0], weights(1)[0])
    assert not np.array_equal(weights(1)[0], weights(2)[0])


def test_a_step_moves_both_networks_and_lowers_the_loss_on_a_fixed_batch(tiny_splits: Path) -> None:
    split = read_split(tiny_splits, "train")
    seed_everything(0)
    gan = build_gan(split.image_shape, 10, SMALL)
    train_step = make_train_step(gan, SMALL)
    before = [weight.copy() for weight in gan.generator.get_weights()]
    pixels, labels = tf.constant(split.images[:100]), tf.constant(split.labels[:100])
    metrics = [train_step(pixels, labels, tf.constant(step, tf.int64)).numpy() for step in range(20)]
    assert all(not np.array_equal(a, b) for a, b in zip(before, gan.generator.get_weights(), strict=True))
    discriminator_losses = [values[METRICS.index("discriminator_loss")] for values in metrics]
    assert discriminator_losses[-1] < discriminator_losses[0]


def test_moving_average_by_hand() -> None:
    def network(value: float) -> keras.Model:
        model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        model.set_weights([np.array([[value]])])
        return model

    averaged, generator = network(1), network(3)
    move_average(averaged, generator, 0.999, tf.constant(0, tf.int64))  # d = 1/10
    assert averaged.get_weights()[0].item() == pytest.approx(0.1 * 1 + 0.9 * 3)
    averaged = network(1)
    move_average(averaged, generator, 0.75, tf.constant(10**6, tf.int64))
    assert averaged.get_weights()[0].item() == pytest.approx(0.75 * 1 + 0.25 * 3)


def test_no_network_keeps_moving_statistics() -> None:
    gan = build_gan((8, 8, 1), 2, SMALL)
    assert gan.generator.non_trainable_variables == []


def test_accuracy_of_the_discriminator_by_hand() -> None:
    real, fake = tf.constant([[2.0], [-1.0]]), tf.constant([[-2.0], [-1.0]])
    assert float(discriminator_accuracy(real, fake)) == pytest.approx(0.75)


def test_absurd_learning_rate_of_the_discriminator_stops_the_run(tiny_splits: Path, tmp_path: Path) -> None:
    config = SMALL.model_copy(
        update={"epochs": 20, "discriminator_learning_rate": 1.0, "generator_learning_rate": 1e-9}
    )
    with pytest.raises(TrainingError, match="the discriminator collapsed in epoch"):
        train(tiny_splits, config, tmp_path / "model", tmp_path / "history")
    assert not list((tmp_path / "model").iterdir())
    assert (tmp_path / "history/history.json").is_file()


def test_overflowing_learning_rate_stops_the_run(tiny_splits: Path, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"discriminator_learning_rate": 1e30})
    with pytest.raises(TrainingError, match=r"training diverged: \w+ is (nan|inf) in epoch 1, batch \d"):
        train(tiny_splits, config, tmp_path / "model", tmp_path / "history")
    assert not list((tmp_path / "model").iterdir())


@pytest.mark.parametrize(
    ("accuracy", "loss", "collapsed"),
    [(0.9995, 9.0, True), (0.9995, 4.0, False), (0.95, 9.0, False), (0.5, 0.69, False)],
)
def test_collapse_takes_certainty_and_rejection_together(accuracy: float, loss: float, collapsed: bool) -> None:
    metrics = {"discriminator_accuracy": accuracy, "generator_loss": loss, "discriminator_loss": 0.0}
    if not collapsed:
        check_not_collapsed(metrics, epoch=3)
        return
    with pytest.raises(TrainingError, match="collapsed in epoch 3"):
        check_not_collapsed(metrics, epoch=3)


def test_fewer_images_than_a_batch(tiny_splits: Path, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"batch_size": 1000})
    with pytest.raises(DataError, match="600 images are less than one batch of 1000"):
        train(tiny_splits, config, tmp_path, tmp_path)


def test_missing_splits(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images\.npy: no such file"):
        train(tmp_path, SMALL, tmp_path, tmp_path)


def test_images_of_unsuitable_size(tiny_splits: Path, tmp_path: Path) -> None:
    split = read_split(tiny_splits, "train")
    (tmp_path / "train").mkdir()
    np.save(tmp_path / "train/images.npy", split.images[:, :27])
    np.save(tmp_path / "train/labels.npy", split.labels)
    (tmp_path / "dataset.yaml").write_bytes((tiny_splits / "dataset.yaml").read_bytes())
    with pytest.raises(ConfigError, match="images of 27 x 28 x 1"):
        train(tmp_path, SMALL, tmp_path / "model", tmp_path / "history")
