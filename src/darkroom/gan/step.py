"""One training step of the GAN: the networks, their optimizers, and what one batch does to them."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

from darkroom.gan.augment import augment
from darkroom.gan.config import GanConfig
from darkroom.gan.losses import LOSSES, gradient_penalty, r1_penalty, turning_factors
from darkroom.gan.model import build_discriminator, build_generator
from darkroom.training import make_optimizer

METRICS = ("generator_loss", "discriminator_loss", "discriminator_accuracy")

# (pixels [B, H, W, C] uint8, labels [B] int64, step scalar int64) to [3] float32, the step's `METRICS`.
TrainStep = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]

# Different streams of random numbers in one step; its noise vectors use the seed itself.
_ON_REAL, _ON_FAKE, _BETWEEN = 1, 2, 3


@dataclass(frozen=True)
class Gan:
    """The networks in training. `averaged` is the moving average of `generator`, and what is kept."""

    generator: keras.Model
    discriminator: keras.Model
    averaged: keras.Model


@dataclass(frozen=True)
class Optimizers:
    """One Adam for each network."""

    generator: keras.Optimizer
    discriminator: keras.Optimizer


def build_gan(image_shape: tuple[int, int, int], classes: int, config: GanConfig) -> Gan:
    """Build the three networks; `averaged` starts as a copy of `generator`."""
    generator = build_generator(image_shape, classes, config)
    averaged = build_generator(image_shape, classes, config)
    averaged.set_weights(generator.get_weights())
    return Gan(generator, build_discriminator(image_shape, classes, config), averaged)


def make_optimizers(gan: Gan, config: GanConfig) -> Optimizers:
    """Build both optimizers with their state: a tf.function may not create variables after its first trace."""
    generator = make_optimizer("adam", config.generator_learning_rate, beta_1=config.beta1)
    discriminator = make_optimizer("adam", config.discriminator_learning_rate, beta_1=config.beta1)
    generator.build(gan.generator.trainable_variables)
    discriminator.build(gan.discriminator.trainable_variables)
    return Optimizers(generator, discriminator)


def make_train_step(gan: Gan, optimizers: Optimizers, config: GanConfig) -> TrainStep:
    """Compile `train_step`."""
    loss = LOSSES[config.loss]

    @tf.function
    def train_step(pixels: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Update both networks once and move the average.

        Both gradients come from one pass of each network, at the weights before the step (simultaneous, not
        alternating, gradient descent): a second pass would cost a third more time. For the same reason the critic of
        wgan_gp is trained once per step, not five times as in its paper.

        Args:
            pixels: [B, H, W, C] uint8, real images.
            labels: [B] int64, their classes, and those of the generated images.
            step: scalar int64, counts from 0 over the whole training. With the seed it determines all random numbers.

        Returns:
            [3] float32, the step's `METRICS`; the discriminator's loss without penalties.
        """
        real = tf.cast(pixels, tf.float32) / 127.5 - 1.0
        seed = tf.stack([tf.constant(config.seed, tf.int64), step])
        latent = tf.random.stateless_normal((tf.shape(real)[0], config.latent_size), seed)
        with tf.GradientTape() as generator_tape:
            fake = gan.generator([latent, labels], training=True)
            shown_fake = augment(fake, config.augmentations, _fold(seed, _ON_FAKE))
        with tf.GradientTape(persistent=not loss.one_pass) as discriminator_tape:
            discriminator_tape.watch(shown_fake)
            with tf.GradientTape() as real_tape:
                real_tape.watch(real)
                shown_real = augment(real, config.augmentations, _fold(seed, _ON_REAL))
                real_logits = gan.discriminator([shown_real, labels], training=True)
            fake_logits = gan.discriminator([shown_fake, labels], training=True)
            loss_d = loss.discriminator(real_logits, fake_logits)
            loss_g = loss.generator(fake_logits)
            penalised = loss_d
            if config.r1:
                penalised += config.r1 * r1_penalty(real_tape.gradient(real_logits, real))
            if config.loss == "wgan_gp":
                slopes = _slopes_between(gan.discriminator, real, fake, labels, _fold(seed, _BETWEEN))
                penalised += config.gradient_penalty * gradient_penalty(slopes)
        weights = gan.discriminator.trainable_variables
        *of_weights, of_fake = discriminator_tape.gradient(penalised, [*weights, shown_fake])
        if loss.one_pass:
            of_fake *= turning_factors(loss, real_logits, fake_logits)[:, tf.newaxis, tf.newaxis]
        else:
            of_fake = discriminator_tape.gradient(loss_g, shown_fake)
        optimizers.discriminator.apply(of_weights, weights)
        weights = gan.generator.trainable_variables
        optimizers.generator.apply(generator_tape.gradient(shown_fake, weights, output_gradients=of_fake), weights)
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


def _slopes_between(
    discriminator: keras.Model, real: tf.Tensor, fake: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
    """The logits' gradients at random places between a real and a generated image of the same class: [B, H, W, C]."""
    share = tf.random.stateless_uniform((tf.shape(real)[0], 1, 1, 1), seed)
    between = share * real + (1.0 - share) * tf.stop_gradient(fake)
    with tf.GradientTape() as tape:
        tape.watch(between)
        logits = discriminator([between, labels], training=True)
    return tape.gradient(logits, between)


def _fold(seed: tf.Tensor, stream: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(seed, stream)
