from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from darkroom.data.splits import read_split
from darkroom.gan.config import GanConfig
from darkroom.gan.losses import LOSSES, gradient_penalty
from darkroom.gan.step import (
    METRICS,
    Optimizers,
    build_gan,
    discriminator_accuracy,
    make_optimizers,
    make_train_step,
    move_average,
)
from darkroom.training import seed_everything

SMALL = GanConfig(batch_size=100, latent_size=8, generator_filters=8, discriminator_filters=8)


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
    train_step = make_train_step(gan, make_optimizers(gan, SMALL), SMALL)
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


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "hinge"},
        {"loss": "hinge", "spectral_normalization": True, "augmentations": ["brightness", "translation", "cutout"]},
        {"loss": "non_saturating", "r1": 1.0, "augmentations": ["translation"]},
        {"loss": "non_saturating", "spectral_normalization": True, "r1": 0.1},
        {"loss": "wgan_gp"},
        {"loss": "wgan_gp", "augmentations": ["cutout"]},
    ],
)
def test_every_loss_trains_with_its_options(changes: dict[str, Any]) -> None:
    config = GanConfig.parse({**SMALL.model_dump(), **changes})
    seed_everything(0)
    gan = build_gan((8, 8, 1), 2, config)
    train_step = make_train_step(gan, make_optimizers(gan, config), config)
    before = gan.generator.get_weights(), gan.discriminator.get_weights()
    # Black images of class 0, white ones of class 1: what the generator makes of them is plain to see.
    labels = tf.constant(np.repeat([0, 1], 50))
    pixels = tf.cast(tf.broadcast_to(255 * labels[:, None, None, None], (100, 8, 8, 1)), tf.uint8)
    values = [train_step(pixels, labels, tf.constant(step, tf.int64)).numpy() for step in range(150)]
    assert np.isfinite(values).all()
    after = gan.generator.get_weights(), gan.discriminator.get_weights()
    still = [
        sum(np.array_equal(a, b) for a, b in zip(old, new, strict=True)) for old, new in zip(before, after, strict=True)
    ]
    # A critic's last bias is in both of its terms and cancels out.
    assert still == [0, config.loss == "wgan_gp"]
    made = np.asarray(gan.generator([np.zeros((2, 8), np.float32), np.array([0, 1])]))
    assert made[0].mean() < made[1].mean() - 0.2


@pytest.mark.parametrize("name", ["non_saturating", "hinge", "wgan_gp"])
def test_both_networks_descend_their_own_loss(name: Any) -> None:
    """The step's updates are those of plain gradient descent on each loss, with a pass of its own for each."""
    config = GanConfig.parse({**SMALL.model_dump(), "loss": name, "ema_decay": 0.0})
    seed_everything(0)
    gan, twin = build_gan((8, 8, 1), 2, config), build_gan((8, 8, 1), 2, config)
    # Large weights, for logits on both sides of the hinge's margin.
    gan.discriminator.set_weights([3 * weight for weight in gan.discriminator.get_weights()])
    for one, other in ((gan.generator, twin.generator), (gan.discriminator, twin.discriminator)):
        other.set_weights(one.get_weights())
    rate = 1.0
    optimizers = Optimizers(keras.optimizers.SGD(rate), keras.optimizers.SGD(rate))
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1), dtype=np.uint8))
    labels = tf.constant(np.resize([0, 1], 100))
    make_train_step(gan, optimizers, config)(pixels, labels, tf.constant(0, tf.int64))

    real, loss = tf.cast(pixels, tf.float32) / 127.5 - 1.0, LOSSES[config.loss]
    latent = tf.random.stateless_normal((100, config.latent_size), (config.seed, 0))
    with tf.GradientTape() as of_generator, tf.GradientTape() as of_discriminator:
        fake = twin.generator([latent, labels])
        fake_logits = twin.discriminator([fake, labels])
        loss_g = loss.generator(fake_logits)
        loss_d = loss.discriminator(twin.discriminator([real, labels]), fake_logits)
        if config.loss == "wgan_gp":
            seed = tf.random.experimental.stateless_fold_in(tf.constant([config.seed, 0], tf.int64), 3)
            share = tf.random.stateless_uniform((100, 1, 1, 1), seed)
            between = share * real + (1.0 - share) * tf.stop_gradient(fake)
            with tf.GradientTape() as tape:
                tape.watch(between)
                logits = twin.discriminator([between, labels])
            loss_d += config.gradient_penalty * gradient_penalty(tape.gradient(logits, between))
    if name == "hinge":
        assert 0 < int(tf.reduce_sum(tf.cast(fake_logits < -1, tf.int32))) < 100
    for tape, value, network, trained in (
        (of_generator, loss_g, twin.generator, gan.generator),
        (of_discriminator, loss_d, twin.discriminator, gan.discriminator),
    ):
        before = [np.asarray(variable) for variable in network.trainable_variables]
        gradients = tape.gradient(value, network.trainable_variables)
        assert tf.linalg.global_norm(gradients) > 0.01
        for start, gradient, after in zip(before, gradients, trained.trainable_variables, strict=True):
            gradient = tf.convert_to_tensor(gradient)  # an embedding's is sparse
            np.testing.assert_allclose(np.asarray(after), start - rate * gradient, rtol=1e-4, atol=2e-6)


def test_spectral_normalization_bounds_every_layer() -> None:
    config = GanConfig.parse({**SMALL.model_dump(), "spectral_normalization": True})
    seed_everything(0)
    network = build_gan((8, 8, 1), 2, config).discriminator
    for _ in range(60):
        network([np.zeros((1, 8, 8, 1), np.float32), np.zeros(1, np.int32)], training=True)
    bounded = [layer for layer in network.layers if isinstance(layer, keras.layers.SpectralNormalization)]
    assert len(bounded) == 4
    for layer in bounded:
        matrix = np.asarray(layer.kernel).reshape(-1, layer.kernel.shape[-1])
        assert np.linalg.svd(matrix, compute_uv=False)[0] == pytest.approx(1, abs=0.02)


def test_the_penalty_on_real_images_lowers_the_slope_there() -> None:
    def slope(r1: float) -> float:
        config = GanConfig.parse({**SMALL.model_dump(), "r1": r1})
        seed_everything(0)
        gan = build_gan((8, 8, 1), 2, config)
        train_step = make_train_step(gan, make_optimizers(gan, config), config)
        pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1), dtype=np.uint8))
        labels = tf.zeros(100, tf.int64)
        for step in range(60):
            train_step(pixels, labels, tf.constant(step, tf.int64))
        real = tf.cast(pixels, tf.float32) / 127.5 - 1.0
        with tf.GradientTape() as tape:
            tape.watch(real)
            logits = gan.discriminator([real, labels])
        return float(tf.reduce_mean(tf.norm(tf.reshape(tape.gradient(logits, real), (100, -1)), axis=1)))

    assert slope(10.0) < 0.5 * slope(0.0)
