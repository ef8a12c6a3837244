"""The classifier against the tutorial script: how soon it is as accurate, and how accurate it is in the same time."""

import math
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.process import ROOT, measure
from benchmarks.table import Claim, Table

SEEDS = (0, 1, 2)
TUTORIAL_EPOCHS = 5


def run() -> Table:
    """Alternate the tutorial script and darkroom_cnn's recipe, each in a process of its own, for each seed."""
    from darkroom.preprocess import PreprocessConfig, preprocess

    with tempfile.TemporaryDirectory() as folder:
        preprocess(ROOT / "data", PreprocessConfig(), Path(folder))
        rounds = [_round(folder, str(seed)) for seed in SEEDS]
    share = mean(_share(tutorial, quick) for tutorial, quick, _ in rounds)
    gains = [100 * (same["accuracy"] - tutorial["accuracy"]) for tutorial, _, same in rounds]
    waiting = measure_waiting()
    return Table(
        title="Classifier: time to accuracy",
        notes=(
            f"The tutorial script is `mnist_cnn` with plain Keras: Adam, batch 64, {TUTORIAL_EPOCHS} epochs of `fit`\n"
            "on all 60,000 training images. Darkroom trains `darkroom_cnn` with its default recipe on the 54,000\n"
            "that validation leaves, for as many epochs as it takes to be as accurate on the 10,000 test images, and\n"
            "for as many as fit into the script's time. Seconds are those of `fit`, or of Darkroom's whole `train`,\n"
            "validation and saving included; imports count on neither side."
        ),
        columns=("seed", "tutorial script", "Darkroom, as accurate", "share of time", "Darkroom, same time", "points"),
        rows=[
            (str(seed), _cell(tutorial), _cell(quick), f"{_share(tutorial, quick):.2f}", _cell(same), f"{gain:+.2f}")
            for seed, (tutorial, quick, same), gain in zip(SEEDS, rounds, gains, strict=True)
        ],
        claims=(
            Claim("the script's test accuracy in at most 0.4 of its time", f"{share:.2f} on average", share <= 0.4),
            Claim(
                "at least 1.5 points more accurate in the script's time",
                f"{mean(gains):+.2f} points on average",
                mean(gains) >= 1.5,
            ),
            Claim("training waits for data less than 3% of its time", f"{waiting:.2%}", waiting < 0.03),
        ),
    )


def measure_waiting() -> float:
    """The share of one epoch's time for which training waits for the next batch."""
    with tempfile.TemporaryDirectory() as folder:
        from darkroom.preprocess import PreprocessConfig, preprocess

        preprocess(ROOT / "data", PreprocessConfig(), Path(folder))
        return float(measure("benchmarks.time_to_accuracy:wait_for_data", folder).value)


def tutorial(splits: str, seed: str) -> dict[str, float]:
    """The tutorial script: train, and measure on the test split."""
    import keras
    import numpy as np

    from darkroom.data.splits import read_split

    parts = [read_split(Path(splits), "train"), read_split(Path(splits), "validation")]
    images = np.concatenate([part.images for part in parts]).astype("float32") / 255
    labels = np.concatenate([part.labels for part in parts])
    keras.utils.set_random_seed(int(seed))
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    started = time.perf_counter()
    model.fit(images, labels, batch_size=64, epochs=TUTORIAL_EPOCHS, verbose=0)
    seconds = time.perf_counter() - started
    test = read_split(Path(splits), "test")
    predictions = model.predict(test.images.astype("float32") / 255, verbose=0).argmax(axis=1)
    return {"epochs": TUTORIAL_EPOCHS, "seconds": seconds, "accuracy": float(np.mean(predictions == test.labels))}


def darkroom(splits: str, seed: str, epochs: str) -> dict[str, float]:
    """Darkroom's default recipe for that many epochs, measured on the test split."""
    import numpy as np

    from darkroom.cnn.config import CnnConfig
    from darkroom.cnn.train import MODEL_FILE, train
    from darkroom.data.splits import read_split
    from darkroom.training import load_model

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        started = time.perf_counter()
        train(Path(splits), CnnConfig(seed=int(seed), epochs=int(epochs)), out, out)
        seconds = time.perf_counter() - started
        test = read_split(Path(splits), "test")
        predictions = load_model(out / MODEL_FILE).predict(test.images, verbose=0).argmax(axis=1)
    return {"epochs": int(epochs), "seconds": seconds, "accuracy": float(np.mean(predictions == test.labels))}


def wait_for_data(splits: str) -> float:
    """Train one epoch of the default recipe; see `share_of_waiting`."""
    from darkroom.cnn.config import CnnConfig
    from darkroom.cnn.model import build_network, pixel_statistics
    from darkroom.cnn.recipe import make_loss
    from darkroom.data.splits import read_split
    from darkroom.training import batches, make_optimizer

    config, split = CnnConfig(), read_split(Path(splits), "train")
    pixels = pixel_statistics(split.images)
    model = build_network(config, split.image_shape, len(split.info.classes), pixels, for_training=True).model
    model.compile(make_optimizer(config.optimizer, 1e-3), make_loss(label_smoothing=0.05, from_logits=True))
    return share_of_waiting(model, batches(split.images, split.labels, config.batch_size, shuffle=True))


def share_of_waiting(model: Any, stream: Any) -> float:
    """Train a compiled model on every batch but the first, and give the share of the time that it waits for batches.

    As in `fit`, the batch is taken within the compiled step; the clock is read there, right before and right after.
    """
    import tensorflow as tf

    iterator = iter(stream)

    def take_step() -> Any:
        asked = tf.timestamp()
        with tf.control_dependencies([asked]):
            batch = next(iterator)
        with tf.control_dependencies(tf.nest.flatten(batch)):
            waited = tf.timestamp() - asked
        model.train_step(batch)
        return waited

    step = tf.function(take_step)
    step()  # compiles
    started = time.perf_counter()
    waited = sum(float(step()) for _ in range(len(stream) - 1))
    return waited / (time.perf_counter() - started)


def _round(splits: str, seed: str) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    def ours(epochs: int) -> dict[str, float]:
        value: dict[str, float] = measure("benchmarks.time_to_accuracy:darkroom", splits, seed, str(epochs)).value
        return value

    reference: dict[str, float] = measure("benchmarks.time_to_accuracy:tutorial", splits, seed).value
    quick = ours(1)
    while quick["accuracy"] < reference["accuracy"]:
        quick = ours(int(quick["epochs"]) + 1)
    fitting = math.floor(reference["seconds"] / quick["seconds"] * quick["epochs"])
    return reference, quick, ours(max(1, fitting))


def _share(reference: dict[str, float], result: dict[str, float]) -> float:
    return result["seconds"] / reference["seconds"]


def _cell(result: dict[str, float]) -> str:
    return f"{result['accuracy']:.4f} in {result['seconds']:.1f} s ({int(result['epochs'])} epochs)"
