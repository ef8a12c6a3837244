"""How the classifier is trained: learning rates, losses, batch sizes and phases, from its configuration."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from darkroom.cnn.config import CnnConfig
from darkroom.optimizers import OptimizerName

# (labels [B] int64, outputs [B, classes]) to a loss.
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

# A one-cycle run rises for this share of its steps, from this share of the peak.
_WARMUP_SHARE = 0.2
_START_SHARE = 0.1
_LARGEST_BATCH = 4096
_FEWEST_STEPS = 10
# An activation is kept for the backward pass, has a gradient of its size, and is copied once more by some kernels.
_COPIES_PER_ACTIVATION = 3


@dataclass(frozen=True)
class Phase:
    """Epochs `first` to `last`, counted from 1, that share one optimizer. `frozen`: only the head is trained."""

    first: int
    last: int
    learning_rate: float
    frozen: bool = False


def make_phases(config: CnnConfig, learning_rate: float) -> list[Phase]:
    """One phase, or for a backbone two: its head first, then all of it at a fraction of the learning rate."""
    if config.backbone is None:
        return [Phase(1, config.epochs, learning_rate)]
    frozen = config.backbone.frozen_epochs
    head = Phase(1, frozen, learning_rate, frozen=True)
    whole = Phase(frozen + 1, config.epochs, learning_rate * config.backbone.fine_tuning_rate)
    return [phase for phase in (head, whole) if phase.first <= phase.last]


def make_schedule(
    config: CnnConfig, learning_rate: float, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate over `steps` batches: a number, a half cosine, or a warm-up before it (one cycle).

    One cycle follows Smith and Topin 2018, with the cosine that became usual instead of their straight descent.
    """
    if config.schedule == "constant":
        return learning_rate
    if config.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(learning_rate, max(1, steps))
    warmup = max(1, round(_WARMUP_SHARE * steps))
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=_START_SHARE * learning_rate,
        warmup_target=learning_rate,
        warmup_steps=warmup,
        decay_steps=max(1, steps - warmup),
    )


def make_loss(*, label_smoothing: float, from_logits: bool) -> Loss:
    """Cross-entropy of integer labels [B] with outputs [B, classes], logits or probabilities; one value per image.

    With smoothing e over K classes the target is 1 - e + e / K for the label and e / K for every other class
    (Szegedy et al. 2016, section 7).
    """
    if not label_smoothing:
        sparse_cross_entropy: Loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
        return sparse_cross_entropy

    def smoothed_cross_entropy(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        targets = keras.ops.one_hot(keras.ops.reshape(labels, (-1,)), outputs.shape[-1])
        return keras.losses.categorical_crossentropy(
            targets, outputs, from_logits=from_logits, label_smoothing=label_smoothing
        )

    return smoothed_cross_entropy


def balanced_weights(labels: NDArray[np.int64], classes: int) -> dict[int, float]:
    """The weight of each class, N / (K N_k), so that all classes weigh the same and the mean weight is 1.

    A class without images has weight 0.
    """
    counts = np.bincount(labels, minlength=classes)
    return {label: len(labels) / (classes * int(count)) if count else 0.0 for label, count in enumerate(counts)}


def activation_bytes(model: keras.Model) -> int:
    """An estimate of the memory, in bytes, that one image takes in training: of all layers' outputs, with gradients."""
    elements = 0
    for layer in model._flatten_layers(include_self=False):
        for tensor in layer.output if isinstance(layer.output, Sequence) else [layer.output]:
            elements += int(np.prod([side or 1 for side in tensor.shape[1:]]))
    return _COPIES_PER_ACTIVATION * np.dtype(np.float32).itemsize * elements


def fit_batch_size(batch_size: int, bytes_per_image: int, budget_bytes: float, images: int) -> int:
    """`batch_size` times a power of two, as large as fits into `budget_bytes`, at least 1.

    It stays small enough for ten steps an epoch over that many `images`, and is never above 4,096.
    """
    largest = min(_LARGEST_BATCH, max(batch_size, images // _FEWEST_STEPS))
    while batch_size * 2 <= largest and batch_size * 2 * bytes_per_image <= budget_bytes:
        batch_size *= 2
    while batch_size > 1 and batch_size * bytes_per_image > budget_bytes:
        batch_size //= 2
    return batch_size


def scale_learning_rate(learning_rate: float, optimizer: OptimizerName, factor: float) -> float:
    """The learning rate for a batch `factor` times as large.

    SGD: times the factor (Goyal et al. 2017, the linear scaling rule); optimizers that divide by the gradient's size:
    times its square root (Malladi et al. 2022).
    """
    return float(learning_rate * (factor if optimizer == "sgd" else factor**0.5))
