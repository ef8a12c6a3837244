"""What both training steps share: seeds, optimizers, batches from disk, divergence checks and progress."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from darkroom.adam import FusedAdam, FusedAdamW
from darkroom.errors import DataError, TrainingError
from darkroom.optimizers import OptimizerName

# Batches made ready while the last one trains. Two hide the reading; more only hold memory.
_PREFETCHED_BATCHES = 2

_OPTIMIZERS: dict[OptimizerName, type[keras.Optimizer]] = {
    "adam": FusedAdam,
    "adamw": FusedAdamW,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}


# (epoch, epochs, metrics), after each epoch; epochs count from 1.
OnEpoch = Callable[[int, int, dict[str, float]], None]
# (epoch, epochs, batch, batches, metrics), about twice a second; epochs and batches count from 1.
OnBatch = Callable[[int, int, int, int, dict[str, float]], None]


def ignore_epoch(epoch: int, epochs: int, metrics: dict[str, float]) -> None:
    """Report nothing: the default `on_epoch`."""


def ignore_batch(epoch: int, epochs: int, batch: int, batches: int, metrics: dict[str, float]) -> None:
    """Report nothing: the default `on_batch`."""


class Throttle:
    """Lets one call in `seconds` through, so that progress reports cost nothing."""

    def __init__(self, seconds: float = 0.5) -> None:
        self._seconds = seconds
        self._next = 0.0

    def is_due(self) -> bool:
        """Whether a report is due; asking when it is starts the next interval."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and Keras, and let TensorFlow use deterministic kernels only.

    Two processes on the same machine then compute the same weights. The switch to deterministic kernels holds for the
    rest of the process.
    """
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def make_optimizer(
    name: OptimizerName,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    *,
    weight_decay: float = 0.0,
    **options: Any,
) -> keras.Optimizer:
    """Build an optimizer by name.

    `weight_decay` is decoupled from the gradient (Loshchilov and Hutter 2019) and spares biases and normalisation
    parameters. `options` go to the Keras class as they are (`beta_1=0.5`, `momentum=0.9`, `nesterov=True`).
    """
    # Keras switches decay off with None; AdamW alone multiplies by the value, and takes zero.
    decay = weight_decay if weight_decay or name == "adamw" else None
    optimizer = _OPTIMIZERS[name](learning_rate=learning_rate, weight_decay=decay, **options)
    if decay is not None:
        optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer


def batches(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    batch_size: int,
    *,
    seed: int = 0,
    shuffle: bool = False,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """Stream batches from memory-mapped arrays; only the pixels of a few batches are copied at a time.

    With `shuffle`, every pass over the dataset has a new order, and the sequence of orders depends on `seed` alone.
    Without, the order is that of the arrays. The last batch is smaller unless `drop_remainder`, which suits a loss
    over fixed-size batches but never evaluation.

    Returns:
        A dataset of (images [B, H, W, C] uint8, labels [B] int64) with a known number of batches.
    """

    def gather(rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        return np.ascontiguousarray(images[rows]), labels[rows]

    def load(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch_images, batch_labels = tf.numpy_function(gather, [rows], (tf.uint8, tf.int64))
        batch_images.set_shape([*rows.shape, *images.shape[1:]])
        batch_labels.set_shape(rows.shape)
        return batch_images, batch_labels

    rows = tf.data.Dataset.range(len(labels))
    if shuffle:
        rows = rows.shuffle(len(labels), seed=seed, reshuffle_each_iteration=True)
    stream = rows.batch(batch_size, drop_remainder=drop_remainder).map(load).prefetch(_PREFETCHED_BATCHES)
    return stream.with_options(_untuned())


def predict(model: keras.Model, images: NDArray[np.uint8], batch_size: int) -> Any:
    """What `model` gives for images [N, H, W, C], in their order: an array [N, ...] for each of its outputs.

    Keras's own way from an array to batches is one that TensorFlow tunes; see `_untuned`.
    """
    stream = batches(images, np.zeros(len(images), np.int64), batch_size)
    return model.predict(stream.map(lambda batch, _: batch), verbose=0)


def _untuned() -> tf.data.Options:
    """Leave nothing of a dataset to TensorFlow's tuning, whose thread sleeps for ever longer.

    An iterator that is given up waits for that thread to wake: at 2.5, 5.1, 10.2 or 20.5 seconds of its life. Epochs of
    some ten seconds lost several to that.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def check_finite(name: str, value: float, *, epoch: int, batch: int) -> None:
    """Stop a training run whose loss is no number any more.

    Raises:
        TrainingError: `value` is NaN or infinite; names the loss, the epoch and the batch, both counted from 1.
    """
    if not math.isfinite(value):
        raise TrainingError(
            f"training diverged: {name} is {value} in epoch {epoch}, batch {batch}; a lower learning rate may help"
        )


def assign(variables: Sequence[keras.Variable], values: Sequence[NDArray[Any]]) -> None:
    """Give variables the values that a checkpoint holds for them, in the same order."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def load_model(path: Path) -> keras.Model:
    """Load a `.keras` file, refusing code in it (Keras's safe mode).

    Raises:
        DataError: the file is missing, or is not a whole `.keras` file.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; a training step writes it")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # A damaged archive fails in zipfile, json, h5py or Keras, each in its own way.
        raise DataError(f"{path}: not readable as a Keras model: {error}") from error
