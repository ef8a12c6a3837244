import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from darkroom.cnn.normalization import FusedBatchNormalization

IMAGES = np.random.default_rng(0).normal(3, 2, (6, 4, 5, 3)).astype(np.float32)


def built(layer: type[layers.BatchNormalization], **options: str) -> layers.BatchNormalization:
    normalization = layer(momentum=0.8, **options)
    normalization.build(IMAGES.shape)
    weights = [np.array(values, np.float32) for values in ([1, 2, 3], [0, -1, 1], [2, 3, 4], [1, 2, 3])]
    normalization.set_weights(weights)
    return normalization


def test_training_is_that_of_kerass_layer() -> None:
    """Outputs, gradients of inputs and weights, and moving statistics."""
    targets = np.random.default_rng(1).normal(size=IMAGES.shape).astype(np.float32)
    found = []
    for kind in (FusedBatchNormalization, layers.BatchNormalization):
        layer, images = built(kind), tf.constant(IMAGES)
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=True)
            loss = tf.reduce_mean((outputs - targets) ** 2)
        gradients = tape.gradient(loss, [images, *layer.trainable_variables])
        found.append([np.asarray(value) for value in (outputs, *gradients, *layer.get_weights())])
    for fused, keras_value in zip(*found, strict=True):
        np.testing.assert_allclose(fused, keras_value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("trainable", [True, False])
def test_outside_training_and_when_frozen_the_moving_statistics_count(trainable: bool) -> None:
    fused, plain = built(FusedBatchNormalization), built(layers.BatchNormalization)
    fused.trainable = plain.trainable = trainable
    for training in (False, not trainable):
        np.testing.assert_allclose(fused(IMAGES, training=training), plain(IMAGES, training=training), rtol=1e-6)
    np.testing.assert_array_equal(fused.get_weights()[2], plain.get_weights()[2])


def test_sixteen_bit_activations_stay_sixteen_bit_and_statistics_do_not() -> None:
    fused, plain = built(FusedBatchNormalization, dtype="mixed_bfloat16"), built(layers.BatchNormalization)
    outputs = fused(IMAGES, training=True)
    expected = plain(IMAGES, training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    np.testing.assert_allclose(tf.cast(outputs, tf.float32), expected, rtol=0.02, atol=0.03)
    assert all(weight.dtype == "float32" for weight in fused.weights)
    np.testing.assert_allclose(fused.get_weights()[2], plain.get_weights()[2], rtol=0.01)
