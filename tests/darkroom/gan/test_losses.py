import math
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

from darkroom.gan.config import LossName
from darkroom.gan.losses import (
    LOSSES,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    hinge_discriminator_loss,
    linear_generator_loss,
    r1_penalty,
    wasserstein_discriminator_loss,
)


def logits(*values: float) -> tf.Tensor:
    return tf.constant([[value] for value in values], tf.float32)


def test_undecided_discriminator() -> None:
    assert float(discriminator_loss(logits(0), logits(0))) == pytest.approx(2 * math.log(2))
    assert float(generator_loss(logits(0))) == pytest.approx(math.log(2))


def test_values_by_hand() -> None:
    # D(x) = 3/4 and 1/2; D(G(z)) = 1/5 and 1/3.
    real = logits(math.log(3), 0)
    fake = logits(-math.log(4), -math.log(2))
    expected = -(math.log(3 / 4) + math.log(1 / 2)) / 2 - (math.log(4 / 5) + math.log(2 / 3)) / 2
    assert float(discriminator_loss(real, fake)) == pytest.approx(expected, rel=1e-6)
    assert float(generator_loss(fake)) == pytest.approx(-(math.log(1 / 5) + math.log(1 / 3)) / 2, rel=1e-6)


def test_batches_of_different_size_weigh_the_same() -> None:
    assert float(discriminator_loss(logits(0, 0, 0), logits(0))) == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize("size", [100.0, 1e4, 1e30])
def test_large_logits_stay_finite(size: float) -> None:
    assert float(discriminator_loss(logits(size), logits(-size))) == 0
    assert float(discriminator_loss(logits(-size), logits(size))) == pytest.approx(2 * size)
    assert float(generator_loss(logits(-size))) == pytest.approx(size)
    assert float(generator_loss(logits(size))) == 0


@pytest.mark.parametrize("value", [-1e4, -3.0, 0.0, 3.0, 1e4])
def test_gradients(value: float) -> None:
    real, fake = logits(value), logits(value)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([real, fake])
        of_discriminator = discriminator_loss(real, fake)
        of_generator = generator_loss(fake)
    probability = 1 / (1 + np.exp(-np.float64(max(value, -700))))
    by_real, by_fake = tape.gradient(of_discriminator, [real, fake])
    assert float(by_real[0, 0]) == pytest.approx(probability - 1, abs=1e-6)
    assert float(by_fake[0, 0]) == pytest.approx(probability, abs=1e-6)
    assert float(tape.gradient(of_generator, fake)[0, 0]) == pytest.approx(probability - 1, abs=1e-6)


def test_generator_still_learns_when_every_sample_is_rejected() -> None:
    fake = logits(-50)
    with tf.GradientTape() as tape:
        tape.watch(fake)
        loss = generator_loss(fake)
    assert float(tape.gradient(loss, fake)[0, 0]) == pytest.approx(-1)


def test_every_name_has_a_loss() -> None:
    assert set(LOSSES) == set(get_args(LossName))


def test_hinge_by_hand() -> None:
    # Beyond the margin an image costs nothing: 2 and -3 here.
    loss = hinge_discriminator_loss(logits(2, 0.25, -1), logits(-3, 0.5))
    assert float(loss) == pytest.approx((0 + 0.75 + 2) / 3 + (0 + 1.5) / 2)
    assert float(hinge_discriminator_loss(logits(0), logits(0))) == pytest.approx(2)
    assert float(linear_generator_loss(logits(2, -5))) == pytest.approx(1.5)


def test_wasserstein_by_hand() -> None:
    assert float(wasserstein_discriminator_loss(logits(3, 1), logits(-2, 1))) == pytest.approx(-0.5 - 2)


def test_penalties_by_hand() -> None:
    gradients = tf.reshape(tf.constant([[3.0, 4, 0, 0], [0, 0, 0, 1]]), (2, 2, 2, 1))  # of length 5 and 1
    assert float(gradient_penalty(gradients)) == pytest.approx((4**2 + 0) / 2)
    assert float(r1_penalty(gradients)) == pytest.approx((25 + 1) / 2 / 2)


def test_the_penalty_of_no_slope_has_a_gradient() -> None:
    gradients = tf.zeros((1, 2, 2, 1))
    with tf.GradientTape() as tape:
        tape.watch(gradients)
        penalty = gradient_penalty(gradients)
    assert float(penalty) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(tape.gradient(penalty, gradients)).all()
