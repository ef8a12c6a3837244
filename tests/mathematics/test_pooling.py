import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.mathematics import by_hand


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("size", [4, 7])
def test_pooling_is_what_keras_computes(size, padding):
    # Negative everywhere: a padding of zeros would win.
    x = -np.random.default_rng(0).uniform(1, 2, (2, size, size, 3))
    pooled = layers.MaxPooling2D(padding=padding, dtype="float64")(x)
    np.testing.assert_array_equal(pooled, by_hand.max_pool(x, padding=padding))


def test_the_gradient_goes_to_the_largest():
    random = np.random.default_rng(0)
    x, gradient = random.normal(size=(2, 6, 6, 3)), random.normal(size=(2, 3, 3, 3))
    variable = tf.Variable(x)
    with tf.GradientTape() as tape:
        pooled = tf.nn.max_pool2d(variable, 2, 2, "VALID")
    by_tape = tape.gradient(pooled, variable, output_gradients=gradient)
    np.testing.assert_array_equal(by_tape, by_hand.max_pool_gradient(x, gradient))
