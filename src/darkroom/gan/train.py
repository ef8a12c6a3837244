"""Training of the class-conditional GAN."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from darkroom.archive import save_model
from darkroom.checkpoint import TrainingState, load_checkpoint, remove_checkpoint, save_checkpoint
from darkroom.data.metadata import DatasetInfo
from darkroom.data.splits import Split, read_split
from darkroom.errors import DataError, TrainingError
from darkroom.files import write_json
from darkroom.gan.config import GanConfig
from darkroom.gan.losses import LOSSES
from darkroom.gan.model import DISCRIMINATOR_NAME, GENERATOR_NAME
from darkroom.gan.plots import plot_history
from darkroom.gan.samples import generate, grid_labels, save_grid, to_pixels
from darkroom.gan.step import METRICS, Gan, build_gan, make_optimizers, make_train_step
from darkroom.training import (
    OnBatch,
    OnEpoch,
    Throttle,
    assign,
    batches,
    check_finite,
    ignore_batch,
    ignore_epoch,
    seed_everything,
)

# A discriminator that is right on all but one image in a thousand for a whole epoch, while the generator's loss says
# that no sample passes any more (see losses.LOSSES): the generator follows noise. Healthy runs stay below 0.97 and 3
# nats, first epochs included, on Fashion-MNIST, a subset of 2,400 of it, and digits.
_COLLAPSED_ACCURACY = 0.999


@dataclass(frozen=True)
class GanTrainingResult:
    """What training returns; the models are in files.

    history: per metric, one mean per epoch; metrics: the last epoch's.
    """

    history: dict[str, list[float]]
    metrics: dict[str, float]


def train(
    splits: Path,
    config: GanConfig,
    model_dir: Path,
    history_dir: Path,
    *,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch = ignore_epoch,
    on_batch: OnBatch = ignore_batch,
) -> GanTrainingResult:
    """Train on the training split; write the models to `model_dir`, history and sample grids to `history_dir`.

    The models are written when training has ended well, the history and one sample grid after every epoch. With
    `checkpoint`, the state after each epoch is kept in that file until the end, and a run that finds it there goes on
    from it, with the same models and history as one that was never stopped; only the grids of earlier epochs are not
    drawn again.

    Raises:
        ConfigError: the images' size does not suit the network.
        DataError: the split is missing or damaged, or is smaller than one batch.
        TrainingError: training diverged; see `check_not_collapsed` and `darkroom.training.check_finite`.
        OSError: a folder cannot be written; found out before training.
    """
    split = read_split(splits, "train")
    if len(split) < config.batch_size:
        raise DataError(f"{splits / 'train'}: {len(split)} images are less than one batch of {config.batch_size}")
    for folder in (model_dir, history_dir / "samples"):
        folder.mkdir(parents=True, exist_ok=True)
    seed_everything(config.seed)
    training = _Training(split, config, on_batch)
    if checkpoint is not None:
        training.restore(checkpoint)
    while training.epoch < config.epochs:
        metrics = training.train_epoch()
        epoch = training.epoch
        write_history(training.history, config, history_dir)
        path = history_dir / "samples" / f"epoch-{epoch:03d}.png"
        write_samples(training.gan, split.info, config, path, epoch)
        check_not_collapsed(metrics, epoch, config)
        if checkpoint is not None:
            training.save(checkpoint)
        on_epoch(epoch, config.epochs, metrics)
    write_history(training.history, config, history_dir)
    save_model(training.gan.averaged, model_dir / GENERATOR_NAME)
    save_model(training.gan.discriminator, model_dir / DISCRIMINATOR_NAME)
    if checkpoint is not None:
        remove_checkpoint(checkpoint)
    return GanTrainingResult(training.history, training.metrics(training.epoch))


class _Training:
    """A training run: networks, optimizers and history, which a checkpoint keeps between epochs."""

    def __init__(self, split: Split, config: GanConfig, on_batch: OnBatch) -> None:
        self._split = split
        self._config = config
        self._on_batch = on_batch
        self.gan = build_gan(split.image_shape, len(split.info.classes), config)
        self._optimizers = make_optimizers(self.gan, config)
        self._step = make_train_step(self.gan, self._optimizers, config)
        self.history: dict[str, list[float]] = {name: [] for name in METRICS}

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return len(self.history[METRICS[0]])

    def metrics(self, epoch: int) -> dict[str, float]:
        """The means of a finished epoch."""
        return {name: values[epoch - 1] for name, values in self.history.items()}

    def train_epoch(self) -> dict[str, float]:
        """Train on every full batch of the split once, in an order that depends on seed and epoch.

        Returns:
            The mean of each of `METRICS`.

        Raises:
            TrainingError: one of them is no number any more.
        """
        epoch = self.epoch + 1
        # The seed alone changes, not the dataset's own reshuffling: an epoch is the same in a run that goes on from it.
        stream = batches(
            self._split.images,
            self._split.labels,
            self._config.batch_size,
            seed=self._config.seed + epoch,
            shuffle=True,
            drop_remainder=True,
        )
        count = int(stream.cardinality())
        throttle = Throttle()
        totals = np.zeros(len(METRICS))
        for batch, (pixels, labels) in enumerate(stream, start=1):
            step = tf.constant((epoch - 1) * count + batch - 1, tf.int64)
            values = self._step(pixels, labels, step).numpy()
            for name, value in zip(METRICS, values, strict=True):
                check_finite(name, float(value), epoch=epoch, batch=batch)
            totals += values
            if throttle.is_due():
                self._on_batch(epoch, self._config.epochs, batch, count, _named(totals / batch))
        metrics = _named(totals / count)
        for name, value in metrics.items():
            self.history[name].append(value)
        return metrics

    def save(self, checkpoint: Path) -> None:
        """Keep everything that the next epoch depends on."""
        arrays = {group: [variable.numpy() for variable in variables] for group, variables in self._variables().items()}
        save_checkpoint(checkpoint, TrainingState(arrays, {"history": self.history}))

    def restore(self, checkpoint: Path) -> None:
        """Go on from a checkpoint, where there is one."""
        state = load_checkpoint(checkpoint)
        if state is None:
            return
        for group, variables in self._variables().items():
            assign(variables, state.arrays[group])
        self.history = state.progress["history"]

    def _variables(self) -> dict[str, list[Any]]:
        return {
            "generator": self.gan.generator.variables,
            "discriminator": self.gan.discriminator.variables,
            "averaged": self.gan.averaged.variables,
            "generator_optimizer": self._optimizers.generator.variables,
            "discriminator_optimizer": self._optimizers.discriminator.variables,
        }


def check_not_collapsed(metrics: dict[str, float], epoch: int, config: GanConfig) -> None:
    """Stop when the discriminator has collapsed into certainty, from which the generator learns nothing.

    Raises:
        TrainingError: over the whole epoch it told real from generated images nearly always and gave the generated
            ones nearly no chance.
    """
    limit = LOSSES[config.loss].collapsed
    accuracy, loss = metrics["discriminator_accuracy"], metrics["generator_loss"]
    if limit is not None and accuracy >= _COLLAPSED_ACCURACY and loss >= limit:
        raise TrainingError(
            f"training diverged: the discriminator collapsed in epoch {epoch}: it tells {accuracy:.2%} of real and "
            f"generated images apart (limit {_COLLAPSED_ACCURACY:.2%}) and the generator's loss is {loss:.3g} (limit "
            f"{limit:g}); lower discriminator_learning_rate"
        )


def write_history(history: dict[str, list[float]], config: GanConfig, folder: Path) -> None:
    """Write history.json ({metric: [per epoch]}) and its plot, history.png."""
    write_json(folder / "history.json", history)
    plot_history(history, folder / "history.png", config.loss)


def write_samples(gan: Gan, info: DatasetInfo, config: GanConfig, path: Path, epoch: int) -> None:
    """Save the epoch's sample grid; the noise is the same in every epoch.

    Raises:
        TrainingError: the generator's weights are no numbers any more.
    """
    images = generate(gan.averaged, grid_labels(len(info.classes), config.samples_per_class), config.seed)
    if not np.isfinite(images).all():
        raise TrainingError(f"training diverged: the generator makes NaN pixels after epoch {epoch}")
    save_grid(to_pixels(images), info.classes, path, f"{info.title}: generated, epoch {epoch}")


def _named(values: NDArray[np.floating]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(METRICS, values, strict=True)}
