import numpy as np
import tensorflow as tf
from keras import layers

from darkroom.cnn.config import CnnConfig
from darkroom.cnn.model import PixelStatistics, build_network
from darkroom.gan.config import GanConfig
from darkroom.gan.model import build_generator

AXES = (0, 1, 2)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(3.0, 2.0, shape)


def classifier_normalisation() -> layers.BatchNormalization:
    model = build_network(CnnConfig(), (28, 28, 1), 10, PixelStatistics((0.0,), (1.0,))).model
    return next(layer for layer in model.layers if isinstance(layer, layers.BatchNormalization))


def batch_norm() -> tuple[layers.BatchNormalization, np.ndarray, np.ndarray]:
    """One with the classifier's momentum and epsilon; its scale and shift."""
    like = classifier_normalisation()
    layer = layers.BatchNormalization(momentum=like.momentum, epsilon=like.epsilon, dtype="float64")
    layer.build((None, 4, 5, 3))
    scale, shift = np.array([0.5, 1.0, 2.0]), np.array([-1.0, 0.0, 1.0])
    layer.set_weights([scale, shift, np.zeros(3), np.ones(3)])
    return layer, scale, shift


def test_a_batch_is_normalised_by_itself_and_remembered():
    layer, scale, shift = batch_norm()
    x = random(8, 4, 5, 3)
    mean, variance = x.mean(AXES), x.var(AXES)
    normalised = (x - mean) / np.sqrt(variance + layer.epsilon)
    np.testing.assert_allclose(layer(x, training=True), scale * normalised + shift, atol=1e-9)
    assert layer.momentum == 0.9
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance, rtol=1e-6)


def test_after_training_it_is_one_multiplication_and_one_addition():
    layer, scale, shift = batch_norm()
    layer(random(8, 4, 5, 3), training=True)
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    slope = scale / np.sqrt(variance + layer.epsilon)
    x = random(1, 2, 2, 3)
    np.testing.assert_allclose(layer(x, training=False), slope * x + (shift - slope * mean), atol=1e-9)


def test_the_gradient_of_batch_normalisation():
    layer, scale, _ = batch_norm()
    x, gradient = random(8, 4, 5, 3), np.random.default_rng(1).normal(size=(8, 4, 5, 3))
    variable = tf.Variable(x)
    with tf.GradientTape() as tape:
        y = layer(variable, training=True)
    deviation = np.sqrt(x.var(AXES) + layer.epsilon)
    normalised = (x - x.mean(AXES)) / deviation
    mean_gradient, correlation = gradient.mean(AXES), (gradient * normalised).mean(AXES)
    by_formula = scale / deviation * (gradient - mean_gradient - normalised * correlation)
    np.testing.assert_allclose(tape.gradient(y, variable, output_gradients=gradient), by_formula, atol=1e-9)


def test_the_generator_normalises_each_pixel_by_itself():
    generator = build_generator((28, 28, 1), 10, GanConfig())
    like = next(layer for layer in generator.layers if isinstance(layer, layers.RMSNormalization))
    layer = layers.RMSNormalization(axis=like.axis, epsilon=like.epsilon, dtype="float64")
    layer.build((None, 4, 5, 3))
    layer.set_weights([np.array([0.5, 1.0, 2.0])])
    x = random(2, 4, 5, 3)
    root = np.sqrt((x**2).mean(axis=-1, keepdims=True) + like.epsilon)
    np.testing.assert_allclose(layer(x), [0.5, 1.0, 2.0] * x / root, rtol=1e-6)
