import keras
import numpy as np
import pytest
import tensorflow as tf

from darkroom.gan.step import move_average


def networks() -> tuple[keras.Model, keras.Model]:
    made = [keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)]) for _ in range(2)]
    return made[0], made[1]


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_the_average_is_a_weighted_sum_of_all_weights(decay):
    averaged, generator = networks()
    history = np.random.default_rng(0).normal(size=(30, 2, 1)).astype(np.float32)
    averaged.set_weights([history[0]])
    for step, weights in enumerate(history[1:]):
        generator.set_weights([weights])
        move_average(averaged, generator, decay, tf.constant(step, tf.int64))
    steps = np.arange(len(history) - 1)
    d = np.minimum(decay, (1 + steps) / (10 + steps))
    # Weights that came in at a step are multiplied by the decay of each step after it.
    shares = np.concatenate([[1.0], 1 - d]) * np.concatenate([np.cumprod(d[::-1])[::-1], [1.0]])
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(averaged.get_weights()[0], np.tensordot(shares, history, 1), rtol=1e-4, atol=1e-6)


def test_the_random_start_is_forgotten_early():
    averaged, generator = networks()
    averaged.set_weights([np.ones((2, 1))])
    generator.set_weights([np.zeros((2, 1))])
    left = []
    for step in range(10):
        move_average(averaged, generator, 0.999, tf.constant(step, tf.int64))
        left.append(float(averaged.get_weights()[0][0, 0]))
    assert left[0] == pytest.approx(0.1)
    assert left[1] == pytest.approx(0.1 * 2 / 11)
    assert left[9] < 2e-5
