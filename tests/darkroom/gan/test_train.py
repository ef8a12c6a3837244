import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from darkroom.data.splits import read_split
from darkroom.errors import ConfigError, DataError, TrainingError
from darkroom.gan.config import GanConfig, LossName
from darkroom.gan.step import METRICS
from darkroom.gan.train import check_not_collapsed, train

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


class StoppedError(Exception):
    """Stands for whatever ends a process between two epochs."""


@pytest.mark.parametrize(
    "changes", [{}, {"loss": "hinge", "spectral_normalization": True, "r1": 1.0, "augmentations": ["translation"]}]
)
def test_a_stopped_run_goes_on_to_the_same_models(tiny_splits: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    config = GanConfig.parse({**SMALL.model_dump(), "epochs": 3, **changes})
    checkpoint = tmp_path / "checkpoint.npz"

    def stop(epoch: int, epochs: int, metrics: dict[str, float]) -> None:
        if epoch == 2:
            raise StoppedError

    whole = train(tiny_splits, config, tmp_path / "whole", tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(tiny_splits, config, tmp_path / "stopped", tmp_path / "stopped", checkpoint=checkpoint, on_epoch=stop)
    trained: list[int] = []
    again = train(
        tiny_splits,
        config,
        tmp_path / "stopped",
        tmp_path / "stopped",
        checkpoint=checkpoint,
        on_epoch=lambda epoch, epochs, metrics: trained.append(epoch),
    )
    assert trained == [3]
    assert again == whole
    for name in ("generator.keras", "discriminator.keras"):
        resumed, undisturbed = (keras.saving.load_model(tmp_path / run / name) for run in ("stopped", "whole"))
        for a, b in zip(resumed.get_weights(), undisturbed.get_weights(), strict=True):
            assert np.array_equal(a, b)
    assert json.loads((tmp_path / "stopped/history.json").read_text()) == whole.history
    assert not checkpoint.exists()


TRAIN = """
import sys
from pathlib import Path
from darkroom.gan.config import GanConfig
from darkroom.gan.train import train

splits, out, checkpoint = map(Path, sys.argv[1:])
config = GanConfig(epochs=8, batch_size=32, latent_size=8, generator_filters=16, discriminator_filters=8)
report = lambda epoch, epochs, metrics: print(epoch, flush=True)
train(splits, config, out, out, checkpoint=checkpoint, on_epoch=report)
"""


@pytest.mark.slow
def test_killed_at_random_moments_training_ends_with_the_same_models(tiny_splits: Path, tmp_path: Path) -> None:
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
    for name in ("generator.keras", "discriminator.keras", "history.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


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
    ("loss", "accuracy", "value", "collapsed"),
    [
        ("non_saturating", 0.9995, 9.0, True),
        ("non_saturating", 0.9995, 4.0, False),
        ("non_saturating", 0.95, 9.0, False),
        ("non_saturating", 0.5, 0.69, False),
        ("hinge", 0.9995, 9.0, True),
        ("wgan_gp", 0.9995, 9.0, False),
    ],
)
def test_collapse_takes_certainty_and_rejection_together(
    loss: LossName, accuracy: float, value: float, collapsed: bool
) -> None:
    metrics = {"discriminator_accuracy": accuracy, "generator_loss": value, "discriminator_loss": 0.0}
    config = GanConfig(loss=loss)
    if not collapsed:
        check_not_collapsed(metrics, epoch=3, config=config)
        return
    with pytest.raises(TrainingError, match="collapsed in epoch 3"):
        check_not_collapsed(metrics, epoch=3, config=config)


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
