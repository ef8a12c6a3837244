import keras
import numpy as np
import pytest
import tensorflow as tf

from darkroom.cnn.metrics import log_loss
from darkroom.cnn.recipe import make_loss
from tests.mathematics import by_hand

LOGITS = np.array([[2.0, 1.0, 0.0], [-3.0, 4.0, 0.5]])
LABELS = np.array([0, 2])


def test_softmax_of_two_one_zero():
    np.testing.assert_allclose(by_hand.softmax(LOGITS)[0], [0.665, 0.245, 0.090], atol=5e-4)
    np.testing.assert_allclose(keras.ops.softmax(LOGITS), by_hand.softmax(LOGITS), rtol=1e-12)


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_softmax_does_not_see_a_shift_and_does_not_overflow(shift):
    shifted = by_hand.softmax(LOGITS + shift)
    np.testing.assert_allclose(shifted, by_hand.softmax(LOGITS), rtol=1e-9)
    np.testing.assert_allclose(keras.ops.softmax(LOGITS + shift), shifted, rtol=1e-9)
    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        naive = np.exp(LOGITS + shift) / np.exp(LOGITS + shift).sum(axis=1, keepdims=True)
    assert np.isnan(naive).all()


def test_the_derivative_of_softmax():
    z = tf.Variable(LOGITS[0])
    with tf.GradientTape() as tape:
        p = tf.nn.softmax(z)
    p_by_hand = by_hand.softmax(LOGITS[0])
    expected = np.diag(p_by_hand) - np.outer(p_by_hand, p_by_hand)
    np.testing.assert_allclose(tape.jacobian(p, z), expected, atol=1e-12)
    np.testing.assert_allclose(expected.sum(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.05, 0.3])
def test_cross_entropy_is_the_loss_of_training(smoothing):
    loss = make_loss(label_smoothing=smoothing, from_logits=True)
    by_darkroom = np.mean(loss(tf.constant(LABELS), tf.constant(LOGITS)))
    targets = by_hand.smoothed_targets(LABELS, 3, smoothing)
    np.testing.assert_allclose(targets.sum(axis=1), 1)
    assert by_darkroom == pytest.approx(by_hand.cross_entropy(targets, LOGITS).mean(), rel=1e-6)


def test_cross_entropy_without_smoothing_is_log_loss():
    expected = by_hand.cross_entropy(np.eye(3)[LABELS], LOGITS).mean()
    assert log_loss(LABELS, by_hand.softmax(LOGITS)) == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx((0.408 + 3.531) / 2, abs=1e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.05])
def test_the_gradient_is_probability_minus_target(smoothing):
    z = tf.Variable(LOGITS)
    loss = make_loss(label_smoothing=smoothing, from_logits=True)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(loss(tf.constant(LABELS), z)) / (1 if smoothing else 0.5)
    targets = by_hand.smoothed_targets(LABELS, 3, smoothing)
    np.testing.assert_allclose(tape.gradient(value, z), by_hand.softmax(LOGITS) - targets, atol=1e-6)


def test_smoothing_has_its_optimum_at_a_finite_gap_of_logits():
    classes, smoothing = 10, 0.05
    (targets,) = by_hand.smoothed_targets(np.array([3]), classes, smoothing)
    gap = np.log(1 + classes * (1 - smoothing) / smoothing)
    assert gap == pytest.approx(5.252, abs=1e-3)
    best = np.where(np.arange(classes) == 3, gap, 0.0)
    np.testing.assert_allclose(by_hand.softmax(best), targets, rtol=1e-12)
    entropy = -(targets * np.log(targets)).sum()
    assert by_hand.cross_entropy(targets, best) == pytest.approx(entropy, rel=1e-12)
    assert entropy == pytest.approx(0.282, abs=1e-3)
    for other in (gap - 0.1, gap + 0.1):
        assert by_hand.cross_entropy(targets, best / gap * other) > entropy
