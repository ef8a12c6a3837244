"""Train the classifier."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from darkroom.archive import save_model
from darkroom.cnn.augment import augmentation_layers
from darkroom.cnn.config import CnnConfig
from darkroom.cnn.model import Network, build_network, inference_model, pixel_statistics
from darkroom.cnn.plots import plot_history
from darkroom.data.splits import Split, read_split
from darkroom.files import write_json
from darkroom.training import (
    OnBatch,
    OnEpoch,
    Throttle,
    batches,
    check_finite,
    ignore_batch,
    ignore_epoch,
    make_optimizer,
    seed_everything,
)

# (labels [B] int64, outputs [B, classes]) to a loss.
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

MODEL_FILE = "model.keras"
# A one-cycle run rises for this share of its steps, from this share of the peak.
_WARMUP_SHARE = 0.2
_START_SHARE = 0.1


@dataclass(frozen=True)
class TrainingResult:
    """What a training run came to.

    history: loss, accuracy, val_loss, val_accuracy, one value per epoch; metrics: those of the last epoch, whose
    weights are the ones saved; seconds: wall time of the epochs; parameters: number of trained weights.
    """

    history: dict[str, list[float]]
    metrics: dict[str, float]
    epochs: int
    seconds: float
    parameters: int


def train(
    splits: Path,
    config: CnnConfig,
    model_dir: Path,
    history_dir: Path,
    *,
    on_epoch: OnEpoch = ignore_epoch,
    on_batch: OnBatch = ignore_batch,
) -> TrainingResult:
    """Train on the training split, and measure each epoch on the whole validation split.

    Writes `model.keras` (raw uint8 images in, probabilities out) into `model_dir`, `history.json` and `history.png`
    into `history_dir`.

    Raises:
        DataError: a split is missing or damaged.
        ConfigError: the images do not suit the architecture.
        TrainingError: the loss became NaN or infinite.
        OSError: a folder cannot be written; found out before training.
    """
    train_split, validation_split = read_split(splits, "train"), read_split(splits, "validation")
    for folder in (model_dir, history_dir):
        folder.mkdir(parents=True, exist_ok=True)
    seed_everything(config.seed)
    network = build_network(
        config.architecture,
        train_split.image_shape,
        len(train_split.info.classes),
        pixel_statistics(train_split.images),
    )
    progress = _Progress(config.epochs, on_epoch, on_batch)
    started = time.monotonic()
    history = _fit(network, train_split, validation_split, config, progress)
    seconds = time.monotonic() - started

    save_model(inference_model(network), model_dir / MODEL_FILE)
    write_json(history_dir / "history.json", history)
    plot_history(history, history_dir / "history.png")
    return TrainingResult(
        history=history,
        metrics={name: values[-1] for name, values in history.items()},
        epochs=config.epochs,
        seconds=seconds,
        parameters=sum(int(weight.value.shape.num_elements()) for weight in network.model.trainable_weights),
    )


def make_schedule(config: CnnConfig, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate over `steps` optimizer steps: a number, or a warm-up and cosine decay (one cycle).

    One cycle follows Smith and Topin 2018, with the cosine that became usual instead of their straight descent.
    """
    if config.schedule == "constant":
        return config.learning_rate
    warmup = max(1, round(_WARMUP_SHARE * steps))
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=_START_SHARE * config.learning_rate,
        warmup_target=config.learning_rate,
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


def _fit(
    network: Network, train_split: Split, validation_split: Split, config: CnnConfig, progress: "_Progress"
) -> dict[str, list[float]]:
    train_batches = batches(train_split.images, train_split.labels, config.batch_size, seed=config.seed, shuffle=True)
    augmentation = augmentation_layers(
        crop_padding=config.crop_padding,
        horizontal_flip=config.horizontal_flip and train_split.info.horizontal_flip,
        seed=config.seed,
    )
    trainer = keras.Sequential([keras.Input(train_split.image_shape, dtype="uint8"), *augmentation, network.model])
    schedule = make_schedule(config, config.epochs * len(train_batches))
    trainer.compile(
        make_optimizer(config.optimizer, schedule, weight_decay=config.weight_decay),
        make_loss(label_smoothing=config.label_smoothing, from_logits=network.from_logits),
        metrics=["accuracy"],
    )
    history = trainer.fit(
        train_batches,
        epochs=config.epochs,
        validation_data=batches(validation_split.images, validation_split.labels, config.batch_size),
        shuffle=False,  # the batches are
        callbacks=[progress],
        verbose=0,
    )
    return {name: [float(value) for value in values] for name, values in history.history.items()}


class _Progress(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Watches for divergence and hands Keras's progress on."""

    def __init__(self, epochs: int, on_epoch: OnEpoch, on_batch: OnBatch) -> None:
        super().__init__()
        self._epochs = epochs
        self._epoch = 0
        self._on_epoch = on_epoch
        self._on_batch = on_batch
        self._throttle = Throttle()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Remember the epoch, which Keras does not tell batches."""
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Check the mean loss of the epoch so far, in which a single NaN stays, and report it now and then."""
        metrics = dict(logs or {})
        check_finite("loss", metrics["loss"], epoch=self._epoch, batch=batch + 1)
        if self._throttle.is_due():
            self._on_batch(self._epoch, self._epochs, batch + 1, self.params["steps"], metrics)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Report the epoch with its validation."""
        self._on_epoch(epoch + 1, self._epochs, dict(logs or {}))
