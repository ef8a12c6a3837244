import keras
import numpy as np
import pytest
import tensorflow as tf

from darkroom.adam import FusedAdam, FusedAdamW

PAIRS = [(FusedAdam, keras.optimizers.Adam), (FusedAdamW, keras.optimizers.AdamW)]


def descend(optimizer: keras.Optimizer, *, dense: bool) -> list[np.ndarray]:
    """What given gradients make of a kernel and of a table, some rows of which are looked up twice and some never."""
    draw = np.random.default_rng(0)
    table = keras.Variable(np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2))
    kernel = keras.Variable(np.linspace(0.5, 2, 6, dtype=np.float32).reshape(2, 3))
    optimizer.build([table, kernel])
    for rows in ([0, 1], [1, 1], [4, 0], [3, 1]):
        values = tf.constant(draw.normal(size=(2, 2)), tf.float32)
        of_table = tf.IndexedSlices(values, tf.constant(rows), tf.constant([6, 2]))
        of_kernel = tf.constant(draw.normal(size=(2, 3)), tf.float32)
        optimizer.apply([tf.convert_to_tensor(of_table) if dense else of_table, of_kernel], [table, kernel])
    return [variable.numpy() for variable in (table, kernel, *optimizer.variables)]


@pytest.mark.parametrize(("fused", "usual"), PAIRS)
def test_the_update_is_that_of_kerass_optimizer(fused, usual):
    options = {"learning_rate": 0.1, "beta_1": 0.5, "epsilon": 1e-3, "weight_decay": 0.1}
    found, expected = descend(fused(**options), dense=False), descend(usual(**options), dense=True)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("fused", "usual"), PAIRS)
def test_a_schedule_and_accumulated_gradients_are_heeded(fused, usual):
    options = {"learning_rate": keras.optimizers.schedules.CosineDecay(0.1, 4), "gradient_accumulation_steps": 2}
    found, expected = descend(fused(**options), dense=True), descend(usual(**options), dense=True)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
