"""Every gradient of a small network, by the formulas, by Keras and TensorFlow, and by moving each number a little."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from darkroom.cnn.recipe import make_loss
from tests.mathematics import by_hand

CLASSES = 3
SMOOTHING = 0.1
LABELS = np.array([2, 0])
NAMES = ("kernel", "bias", "weights", "offsets")
STEP = 1e-6


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    """Images [2, 6, 6, 2], a 3x3 convolution to 4 channels, a dense layer to 3 classes."""
    random = np.random.default_rng(4)
    shapes = {
        "images": (2, 6, 6, 2),
        "kernel": (3, 3, 2, 4),
        "bias": (4,),
        "weights": (16, CLASSES),
        "offsets": (CLASSES,),
    }
    return {name: random.normal(size=shape) for name, shape in shapes.items()}


def forward(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    z = by_hand.convolve(values["images"], values["kernel"], values["bias"])
    a = np.maximum(z, 0)
    h = by_hand.max_pool(a).reshape(len(a), -1)
    logits = h @ values["weights"] + values["offsets"]
    targets = by_hand.smoothed_targets(LABELS, CLASSES, SMOOTHING)
    return {"z": z, "a": a, "h": h, "logits": logits, "loss": by_hand.cross_entropy(targets, logits).mean()}


def backward(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The gradients as docs/mathematics.md derives them, from the loss back to the images."""
    x, kernel, weights = values["images"], values["kernel"], values["weights"]
    state = forward(values)
    targets = by_hand.smoothed_targets(LABELS, CLASSES, SMOOTHING)
    by_logits = (by_hand.softmax(state["logits"]) - targets) / len(x)
    by_h = by_logits @ weights.T
    by_a = by_hand.max_pool_gradient(state["a"], by_h.reshape(len(x), 2, 2, 4))
    by_z = by_a * (state["z"] > 0)
    by_kernel = np.zeros_like(kernel)
    for u, v, c, f in np.ndindex(kernel.shape):
        by_kernel[u, v, c, f] = (by_z[..., f] * x[:, u : u + 4, v : v + 4, c]).sum()
    return {
        "images": by_hand.convolve_transposed(by_z, kernel, (6, 6), 1, "valid"),
        "kernel": by_kernel,
        "bias": by_z.sum(axis=(0, 1, 2)),
        "weights": state["h"].T @ by_logits,
        "offsets": by_logits.sum(axis=0),
    }


def keras_network(values: dict[str, np.ndarray]) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2), dtype="float64"),
            layers.Conv2D(4, 3, activation="relu", dtype="float64"),
            layers.MaxPooling2D(dtype="float64"),
            layers.Flatten(dtype="float64"),
            layers.Dense(CLASSES, dtype="float64"),
        ]
    )
    model.set_weights([values[name] for name in NAMES])
    return model


def test_gradients_are_those_of_keras(values):
    model, images = keras_network(values), tf.Variable(values["images"])
    loss_of = make_loss(label_smoothing=SMOOTHING, from_logits=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(loss_of(tf.constant(LABELS), model(images)))
    assert float(loss) == pytest.approx(forward(values)["loss"], rel=1e-6)
    gradients = tape.gradient(loss, [images, *model.trainable_variables])
    expected = backward(values)
    for name, gradient in zip(("images", *NAMES), gradients, strict=True):
        # The loss smooths its targets in float32.
        np.testing.assert_allclose(gradient, expected[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["images", *NAMES])
def test_gradients_are_slopes(values, name):
    expected = backward(values)[name]
    places = np.random.default_rng(0).permutation(expected.size)[:12]
    for place in places:
        index = np.unravel_index(place, expected.shape)
        losses = []
        for step in (-STEP, STEP):
            moved = {**values, name: values[name].copy()}
            moved[name][index] += step
            losses.append(forward(moved)["loss"])
        assert (losses[1] - losses[0]) / (2 * STEP) == pytest.approx(expected[index], abs=1e-8)
