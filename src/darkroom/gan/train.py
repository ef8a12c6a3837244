"""Training of the class-conditional GAN."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from darkroom.archive import save_model
from darkroom.data.metadata import DatasetInfo
from darkroom.data.splits import Split, read_split
from darkroom.errors import DataError, TrainingError
from darkroom.files import write_json
from darkroom.gan.config import GanConfig
from darkroom.gan.losses import discriminator_loss, generator_loss
from darkroom.gan.model import DISCRIMINATOR_NAME, GENERATOR_NAME, build_discriminator, build_generator
from darkroom.gan.samples import generate, grid_labels, save_grid, to_pixels
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

# A discriminator that is right on all but one image in a thousand for a whole epoch, and gives generated images a
# probability of e^-8 (three in ten thousand): no sample passes any more, and the generator follows noise. Healthy runs
# stay below 0.97 and 3 nats, first epochs included, on Fashion-MNIST, a subset of 2,400 of it, and digits.
_COLLAPSED_ACCURACY = 0.999
_COLLAPSED_GENERATOR_LOSS = 8.0

METRICS = ("generator_loss", "discriminator_loss", "discriminator_accuracy")

TrainStep = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class GanTrainingResult:
    """What training returns; the models are in files.

    history: per metric, one mean per epoch; metrics: the last epoch's.
    """

    history: dict[str, list[float]]
    metrics: dict[str, float]


@dataclass(frozen=True)
class Gan:
    """The networks in training. `averaged` is the moving average of `generator`, and what is kept."""

    generator: keras.Model
    discriminator: keras.Model
    averaged: keras.Model


def train(
    splits: Path,
    config: GanConfig,
    model_dir: Path,
    history_dir: Path,
    *,
    on_epoch: OnEpoch = ignore_epoch,
    on_batch: OnBatch = ignore_batch,
) -> GanTrainingResult:
    """Train on the training split; write the models to `model_dir`, history and sample grids to `history_dir`.

    The models are written when training has ended well, the history and one sample grid after every epoch.

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
    gan = build_gan(split.image_shape, len(split.info.classes), config)
    train_step = make_train_step(gan, config)
    history: dict[str, list[float]] = {name: [] for name in METRICS}
    for epoch in range(1, config.epochs + 1):
        metrics = train_epoch(train_step, split, config, epoch, on_batch)
        for name, value in metrics.items():
            history[name].append(value)
        write_history(history, history_dir)
        write_samples(gan.averaged, split.info, config, history_dir / "samples" / f"epoch-{epoch:03d}.png", epoch)
        check_not_collapsed(metrics, epoch)
        on_epoch(epoch, config.epochs, metrics)
    save_model(gan.averaged, model_dir / GENERATOR_NAME)
    save_model(gan.discriminator, model_dir / DISCRIMINATOR_NAME)
    return GanTrainingResult(history=history, metrics={name: values[-1] for name, values in history.items()})


def build_gan(image_shape: tuple[int, int, int], classes: int, config: GanConfig) -> Gan:
    """Build the three networks; `averaged` starts as a copy of `generator`."""
    generator = build_generator(image_shape, classes, config)
    averaged = build_generator(image_shape, classes, config)
    averaged.set_weights(generator.get_weights())
    return Gan(generator, build_discriminator(image_shape, classes, config), averaged)


def make_train_step(gan: Gan, config: GanConfig) -> TrainStep:
    """Compile `train_step`, with the state of one Adam optimizer per network."""
    generator_optimizer = make_optimizer("adam", config.generator_learning_rate, beta_1=config.beta1)
    discriminator_optimizer = make_optimizer("adam", config.discriminator_learning_rate, beta_1=config.beta1)
    # Built here: a tf.function may not create variables after its first trace.
    generator_optimizer.build(gan.generator.trainable_variables)
    discriminator_optimizer.build(gan.discriminator.trainable_variables)

    @tf.function
    def train_step(pixels: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Update both networks once and move the average.

        Both gradients come from one pass of each network, at the weights before the step (simultaneous, not
        alternating, gradient descent): a second pass would cost a third more time.

        Args:
            pixels: [B, H, W, C] uint8, real images.
            labels: [B] int64, their classes, and those of the generated images.
            step: scalar int64, counts from 0 over the whole training.

        Returns:
            [3] float32, the step's `METRICS`.
        """
        real = tf.cast(pixels, tf.float32) / 127.5 - 1.0
        latent = tf.random.stateless_normal((tf.shape(real)[0], config.latent_size), [config.seed, step])
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            fake = gan.generator([latent, labels], training=True)
            real_logits = gan.discriminator([real, labels], training=True)
            fake_logits = gan.discriminator([fake, labels], training=True)
            loss_d = discriminator_loss(real_logits, fake_logits)
            loss_g = generator_loss(fake_logits)
        _descend(discriminator_optimizer, discriminator_tape, loss_d, gan.discriminator.trainable_variables)
        _descend(generator_optimizer, generator_tape, loss_g, gan.generator.trainable_variables)
        move_average(gan.averaged, gan.generator, config.ema_decay, step)
        return tf.stack([loss_g, loss_d, discriminator_accuracy(real_logits, fake_logits)])

    step_function: TrainStep = train_step
    return step_function


def move_average(averaged: keras.Model, generator: keras.Model, decay: float, step: tf.Tensor) -> None:
    """Move every weight of `averaged` towards `generator`: w' <- d w' + (1 - d) w.

    d = min(decay, (1 + step) / (10 + step)), so that the random start is forgotten early.
    """
    count = tf.cast(step, tf.float32)
    rate = 1.0 - tf.minimum(decay, (1.0 + count) / (10.0 + count))
    for target, source in zip(averaged.trainable_variables, generator.trainable_variables, strict=True):
        target.assign_add(rate * (source - target))


def discriminator_accuracy(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """Share of real and generated images that the discriminator tells right, in [0, 1]; 0.5 by guessing."""
    right_on_real = tf.reduce_mean(tf.cast(real_logits > 0, tf.float32))
    right_on_fake = tf.reduce_mean(tf.cast(fake_logits < 0, tf.float32))
    return (right_on_real + right_on_fake) / 2


def train_epoch(
    train_step: TrainStep, split: Split, config: GanConfig, epoch: int, on_batch: OnBatch
) -> dict[str, float]:
    """Train on every full batch of the split once, in an order that depends on seed and epoch.

    Returns:
        The epoch's mean of each of `METRICS`.

    Raises:
        TrainingError: a loss is NaN or infinite.
    """
    # The last partial batch is left out: a GAN's step is tuned to its batch size, and the order changes every epoch.
    stream = batches(
        split.images,
        split.labels,
        config.batch_size,
        seed=config.seed + epoch,
        shuffle=True,
        drop_remainder=True,
    )
    count = int(stream.cardinality())
    throttle = Throttle()
    totals = np.zeros(len(METRICS))
    for batch, (pixels, labels) in enumerate(stream, start=1):
        step = tf.constant((epoch - 1) * count + batch - 1, tf.int64)
        values = train_step(pixels, labels, step).numpy()
        for name, value in zip(METRICS, values, strict=True):
            check_finite(name, float(value), epoch=epoch, batch=batch)
        totals += values
        if throttle.is_due():
            on_batch(epoch, config.epochs, batch, count, _named(totals / batch))
    return _named(totals / count)


def check_not_collapsed(metrics: dict[str, float], epoch: int) -> None:
    """Stop when the discriminator has collapsed into certainty, from which the generator learns nothing.

    Raises:
        TrainingError: over the whole epoch it told real from generated images nearly always and gave the generated
            ones nearly no chance.
    """
    accuracy, loss = metrics["discriminator_accuracy"], metrics["generator_loss"]
    if accuracy >= _COLLAPSED_ACCURACY and loss >= _COLLAPSED_GENERATOR_LOSS:
        raise TrainingError(
            f"training diverged: the discriminator collapsed in epoch {epoch}: it tells {accuracy:.2%} of real and "
            f"generated images apart (limit {_COLLAPSED_ACCURACY:.2%}) and the generator's loss is {loss:.3g} (limit "
            f"{_COLLAPSED_GENERATOR_LOSS:g}); lower discriminator_learning_rate"
        )


def write_samples(generator: keras.Model, info: DatasetInfo, config: GanConfig, path: Path, epoch: int) -> None:
    """Save the epoch's sample grid; the noise is the same in every epoch.

    Raises:
        TrainingError: the generator's weights are no numbers any more.
    """
    images = generate(generator, grid_labels(len(info.classes), config.samples_per_class), config.seed)
    if not np.isfinite(images).all():
        raise TrainingError(f"training diverged: the generator makes NaN pixels after epoch {epoch}")
    save_grid(to_pixels(images), info.classes, path, f"{info.title}: generated, epoch {epoch}")


def write_history(history: dict[str, list[float]], folder: Path) -> None:
    """Write history.json ({metric: [per epoch]}) and its plot, history.png."""
    write_json(folder / "history.json", history)
    epochs = range(1, len(history["generator_loss"]) + 1)
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    losses, accuracy = figure.subplots(1, 2)
    losses.plot(epochs, history["generator_loss"], marker="o", label="generator")
    losses.plot(epochs, history["discriminator_loss"], marker="o", label="discriminator")
    losses.set(xlabel="epoch", ylabel="loss (nats)", title="Losses", ylim=(0, None))
    losses.legend()
    accuracy.plot(epochs, history["discriminator_accuracy"], marker="o", color="tab:green")
    accuracy.axhline(0.5, linestyle="--", color="grey", label="guessing")
    accuracy.set(xlabel="epoch", ylabel="accuracy", title="Discriminator: real or generated", ylim=(0.4, 1.0))
    accuracy.legend()
    for axes in (losses, accuracy):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    figure.savefig(folder / "history.png", dpi=120)


def _descend(optimizer: keras.Optimizer, tape: tf.GradientTape, loss: tf.Tensor, weights: list[keras.Variable]) -> None:
    optimizer.apply(tape.gradient(loss, weights), weights)


def _named(values: np.ndarray) -> dict[str, float]:
    return {name: float(value) for name, value in zip(METRICS, values, strict=True)}
