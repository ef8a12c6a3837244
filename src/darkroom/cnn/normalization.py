"""Batch normalisation in one kernel, for training."""

import keras
import tensorflow as tf
from keras import layers


class FusedBatchNormalization(layers.BatchNormalization):  # type: ignore[misc]  # Keras has no types
    """Computes in training what Keras's layer computes, with TensorFlow's fused kernel.

    Keras 3 composes the normalisation of some ten operations, each of which goes through the memory, and in float32
    under every policy; the fused kernel takes 16-bit activations as they are. Inputs and outputs: [B, H, W, C]. It has
    the weights of Keras's layer, which takes its place in what is saved.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> tf.Tensor:
        """Normalise each channel, in training by the batch's own mean and variance."""
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        gamma, beta = keras.ops.cast(self.gamma, "float32"), keras.ops.cast(self.beta, "float32")
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, gamma, beta, epsilon=self.epsilon, is_training=True
        )
        # The kernel gives the unbiased variance; Keras keeps that of the batch.
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
        self._follow(self.moving_mean, mean)
        self._follow(self.moving_variance, variance * (count - 1.0) / count)
        return outputs

    def _follow(self, moving: keras.Variable, value: tf.Tensor) -> None:
        moving.assign_add((value - keras.ops.cast(moving, "float32")) * (1.0 - self.momentum))
