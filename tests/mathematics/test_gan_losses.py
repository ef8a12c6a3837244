"""The games of the GAN on four possible images, of which real ones have probabilities P and generated ones Q."""

import math

import numpy as np
import pytest
import tensorflow as tf

from darkroom.gan import losses
from tests.mathematics import by_hand

# In tenths, so that ten images of each kind stand for the whole distribution.
P, Q = np.array([4, 3, 2, 1]) / 10, np.array([1, 2, 3, 4]) / 10


def shown(logits: np.ndarray, share: np.ndarray) -> tf.Tensor:
    """The logits of ten images, each possible image as often as its share says: [10, 1]."""
    return tf.constant(np.repeat(logits, np.rint(10 * share).astype(int))[:, None])


def value(logits: np.ndarray, q: np.ndarray = Q) -> float:
    """V(D, G), by hand."""
    return float((P * np.log(by_hand.sigmoid(logits))).sum() + (q * np.log(1 - by_hand.sigmoid(logits))).sum())


def test_the_discriminators_loss_is_minus_the_value():
    logits = np.array([0.5, -1.0, 2.0, 0.0])
    assert float(losses.discriminator_loss(shown(logits, P), shown(logits, Q))) == pytest.approx(-value(logits))


def test_the_best_discriminator_knows_the_ratio_of_densities():
    best = np.log(P / Q)
    np.testing.assert_allclose(by_hand.sigmoid(best), P / (P + Q))
    assert value(best) == pytest.approx(-math.log(4) + 2 * by_hand.js(P, Q))
    variable = tf.Variable(best)
    with tf.GradientTape() as tape:
        real = tf.gather(variable, np.repeat(range(4), [4, 3, 2, 1]))
        fake = tf.gather(variable, np.repeat(range(4), [1, 2, 3, 4]))
        loss = losses.discriminator_loss(real, fake)
    np.testing.assert_allclose(tf.convert_to_tensor(tape.gradient(loss, variable)), 0, atol=1e-12)
    random = np.random.default_rng(0)
    assert all(value(best + random.normal(0, 0.1, 4)) < value(best) for _ in range(100))


def test_equal_distributions_are_the_optimum_of_the_generator():
    assert by_hand.js(P, P) == 0
    undecided = np.zeros(4)
    assert float(losses.discriminator_loss(shown(undecided, P), shown(undecided, P))) == pytest.approx(math.log(4))
    assert float(losses.generator_loss(shown(undecided, P))) == pytest.approx(math.log(2))
    random = np.random.default_rng(0)
    for q in random.dirichlet(np.ones(4), 100):
        assert value(np.log(P / q), q) > -math.log(4)


@pytest.mark.parametrize("logit", [-30.0, -5.0, 0.0, 5.0])
def test_the_saturating_loss_has_no_slope_where_samples_are_rejected(logit):
    fake = tf.Variable([[logit]], dtype=tf.float64)
    with tf.GradientTape(persistent=True) as tape:
        minimax = -losses.discriminator_loss(tf.constant([[0.0]], tf.float64), fake)
        non_saturating = losses.generator_loss(fake)
    d = by_hand.sigmoid(logit)
    assert float(tape.gradient(minimax, fake)[0, 0]) == pytest.approx(-d, abs=1e-12)
    assert float(tape.gradient(non_saturating, fake)[0, 0]) == pytest.approx(-(1 - d), abs=1e-12)


def test_what_the_non_saturating_loss_descends():
    """Against the best discriminator: KL(Q || P) - 2 JSD(P || Q), by moving each parameter of Q a little."""
    parameters, step = np.log(Q), 1e-6

    def slopes(function) -> np.ndarray:
        moves = step * np.eye(4)
        return np.array([(function(parameters + move) - function(parameters - move)) / (2 * step) for move in moves])

    frozen = np.log(P / Q)
    by_loss = slopes(lambda theta: -(by_hand.softmax(theta) * np.log(by_hand.sigmoid(frozen))).sum())

    def divergence(theta: np.ndarray) -> float:
        q = by_hand.softmax(theta)
        return by_hand.kl(q, P) - 2 * by_hand.js(P, q)

    np.testing.assert_allclose(by_loss, slopes(divergence), atol=1e-8)


def test_hinge_by_hand():
    real, fake = np.array([2.0, 0.5, -1.0, 1.0]), np.array([-2.0, 0.5, -0.5, -1.0])
    expected = np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()
    assert expected == pytest.approx((0 + 0.5 + 2 + 0) / 4 + (0 + 1.5 + 0.5 + 0) / 4)
    assert float(losses.hinge_discriminator_loss(real[:, None], fake[:, None])) == pytest.approx(expected)
    assert float(losses.linear_generator_loss(fake[:, None])) == pytest.approx(-fake.mean())


def test_the_best_hinge_discriminator_leaves_the_total_variation():
    def loss(logits: np.ndarray) -> float:
        return float(losses.hinge_discriminator_loss(shown(logits, P), shown(logits, Q)))

    best = np.sign(P - Q)
    assert loss(best) == pytest.approx(2 - np.abs(P - Q).sum())
    random = np.random.default_rng(0)
    assert all(loss(logits) >= loss(best) - 1e-12 for logits in random.normal(0, 2, (200, 4)))


def test_the_wasserstein_loss_of_a_critic_of_slope_one_is_a_distance():
    """On a line, at places 0 to 3: the distance is the area between the distribution functions."""
    places = np.arange(4.0)
    distance = np.abs(np.cumsum(P) - np.cumsum(Q))[:-1].sum()
    critic = -places  # real images lie further left
    loss = float(losses.wasserstein_discriminator_loss(shown(critic, P), shown(critic, Q)))
    assert -loss == pytest.approx(distance)
    from scipy.stats import wasserstein_distance

    assert distance == pytest.approx(wasserstein_distance(places, places, P, Q))


def test_penalties_by_hand():
    gradients = np.random.default_rng(0).normal(0, 0.2, (5, 4, 4, 2))
    norms = np.sqrt((gradients**2).sum(axis=(1, 2, 3)))
    assert float(losses.gradient_penalty(tf.constant(gradients))) == pytest.approx(((norms - 1) ** 2).mean())
    assert float(losses.r1_penalty(tf.constant(gradients))) == pytest.approx((norms**2).mean() / 2)


def test_the_factors_that_turn_one_networks_gradient_into_the_others():
    logits = np.array([[-20.0], [-3.0], [0.0], [4.0]])
    real, fake = tf.zeros_like(logits), tf.constant(logits)
    non_saturating = losses.turning_factors(losses.LOSSES["non_saturating"], real, fake)
    expected = (by_hand.sigmoid(logits) - 1) / by_hand.sigmoid(logits)
    np.testing.assert_allclose(non_saturating, expected, rtol=1e-6)
    np.testing.assert_allclose(expected, -np.exp(-logits), rtol=1e-6)
    np.testing.assert_allclose(losses.turning_factors(losses.LOSSES["wgan_gp"], real, fake), -1)
