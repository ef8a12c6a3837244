"""Adam in one kernel for each variable."""

from typing import Any

import keras
import tensorflow as tf


class _InOneKernel:
    """The update of Keras's Adam by TensorFlow's kernel for it; for a subclass of that without `amsgrad`.

    Keras 3 composes the update of some ten operations, each of which goes through the memory. The formula is the same,
    that of Kingma and Ba 2015, section 2, with epsilon outside the corrected root.
    """

    def update_step(self: Any, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Update one variable and its two moments."""
        step = tf.cast(self.iterations + 1, tf.float32)
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            # Of an embedding, it comes as the rows that were looked up; where Keras squares each of equal rows, these
            # are summed first, as the formula has it.
            grad=tf.convert_to_tensor(gradient),
        )


class FusedAdam(_InOneKernel, keras.optimizers.Adam):  # type: ignore[misc]  # Keras has no types
    """Keras's Adam, faster. Its variables are those of Keras's; weights are float32, as under every dtype policy."""


class FusedAdamW(_InOneKernel, keras.optimizers.AdamW):  # type: ignore[misc]  # Keras has no types
    """Keras's AdamW, faster."""
