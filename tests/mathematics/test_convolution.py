import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from darkroom.cnn.config import CnnConfig
from darkroom.cnn.model import PixelStatistics, build_network
from darkroom.gan.config import GanConfig
from darkroom.gan.model import build_generator
from tests.mathematics import by_hand

COUNTING = np.arange(1.0, 10.0).reshape(1, 3, 3, 1)
EDGES = np.array([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])[:, :, None, None]
SIZES = [(5, 1, 1), (6, 3, 1), (7, 3, 2), (6, 3, 2), (8, 4, 2), (7, 4, 3), (7, 5, 2), (4, 2, 3)]


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


def test_a_kernel_over_an_input_of_its_own_size():
    valid = by_hand.convolve(COUNTING, EDGES, np.zeros(1))
    same = by_hand.convolve(COUNTING, EDGES, np.zeros(1), padding="same")
    assert valid[0, ..., 0].tolist() == [[-8]]
    assert same[0, ..., 0].tolist() == [[-9, -6, 9], [-20, -8, 20], [-21, -6, 21]]
    for padding, expected in (("valid", valid), ("same", same)):
        np.testing.assert_allclose(tf.nn.conv2d(COUNTING, EDGES, 1, padding.upper()), expected)


def test_true_convolution_turns_the_kernel():
    turned = EDGES[::-1, ::-1]
    assert by_hand.convolve(COUNTING, turned, np.zeros(1)).item() == 8
    from scipy.signal import convolve2d

    assert convolve2d(COUNTING[0, ..., 0], EDGES[..., 0, 0], mode="valid").item() == 8


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "kernel", "stride"), SIZES)
def test_convolution_is_what_keras_computes(size, kernel, stride, padding):
    x, w, bias = random(2, size, size + 1, 2), random(kernel, kernel, 2, 3), random(3)
    layer = layers.Conv2D(3, kernel, stride, padding=padding, dtype="float64")
    layer.build(x.shape)
    layer.set_weights([w, bias])
    y = layer(x)
    sides = [by_hand.output_size(side, kernel, stride, padding) for side in x.shape[1:3]]
    assert y.shape == (2, *sides, 3)
    np.testing.assert_allclose(y, by_hand.convolve(x, w, bias, stride, padding), atol=1e-12)
    assert layer.count_params() == kernel**2 * 2 * 3 + 3


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "before", "after", "output"),
    [
        (3, 3, 1, "valid", 0, 0, 1),
        (3, 3, 1, "same", 1, 1, 3),
        (28, 3, 1, "valid", 0, 0, 26),
        (28, 3, 2, "same", 0, 1, 14),
        (28, 4, 2, "same", 1, 1, 14),
        (14, 3, 2, "same", 0, 1, 7),
        (7, 3, 1, "same", 1, 1, 7),
        (7, 2, 2, "same", 0, 1, 4),
        (7, 2, 2, "valid", 0, 0, 3),
    ],
)
def test_worked_sizes(size, kernel, stride, padding, before, after, output):
    assert by_hand.padding_before(size, kernel, stride, padding) == (before, after)
    assert by_hand.output_size(size, kernel, stride, padding) == output
    # With the padding written out, 'same' is 'valid' on a larger image.
    assert by_hand.output_size(size + before + after, kernel, stride, "valid") == output


@pytest.mark.parametrize(("size", "kernel", "stride"), [(8, 4, 2), (6, 3, 1), (9, 3, 3), (8, 2, 2)])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_transposed_convolution_is_what_keras_computes(size, kernel, stride, padding):
    small = by_hand.output_size(size, kernel, stride, padding)
    y, w = random(2, small, small, 3), random(kernel, kernel, 2, 3)
    layer = layers.Conv2DTranspose(2, kernel, stride, padding=padding, use_bias=False, dtype="float64")
    layer.build(y.shape)
    layer.set_weights([w])
    np.testing.assert_allclose(layer(y), by_hand.convolve_transposed(y, w, (size, size), stride, padding), atol=1e-12)


@pytest.mark.parametrize(("size", "kernel", "stride"), SIZES)
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_transposed_convolution_is_the_adjoint(size, kernel, stride, padding):
    x, w = random(1, size, size, 2), random(kernel, kernel, 2, 3)
    forward = by_hand.convolve(x, w, np.zeros(3), stride, padding)
    y = random(*forward.shape)
    backward = by_hand.convolve_transposed(y, w, (size, size), stride, padding)
    assert (forward * y).sum() == pytest.approx((x * backward).sum(), rel=1e-10)


def test_strides_that_divide_the_kernel_touch_every_pixel_alike():
    def touched(kernel: int) -> np.ndarray:
        spread = by_hand.convolve_transposed(
            np.ones((1, 6, 6, 1)), np.ones((kernel, kernel, 1, 1)), (12, 12), 2, "same"
        )
        return np.unique(spread[0, 2:-2, 2:-2])

    assert touched(4).tolist() == [4]
    assert touched(3).tolist() == [1, 2, 4]


def test_a_transposed_convolution_of_ones():
    y = np.array([[1.0, 2], [3, 4]]).reshape(1, 2, 2, 1)
    spread = by_hand.convolve_transposed(y, np.ones((4, 4, 1, 1)), (4, 4), 2, "same")
    assert spread[0, ..., 0].tolist() == [[1, 3, 3, 2], [4, 10, 10, 6], [4, 10, 10, 6], [3, 7, 7, 4]]


def spatial_layers(model: keras.Model) -> list[keras.Layer]:
    return [layer for layer in model.layers if isinstance(layer, (layers.Conv2D, layers.MaxPooling2D))]


@pytest.mark.parametrize(
    ("architecture", "sides", "features"),
    [("mnist_cnn", [26, 13, 11, 5, 3], 576), ("darkroom_cnn", [14, 7, 7, 4, 4, 2], 512)],
)
def test_sizes_through_the_classifiers(architecture, sides, features):
    config = CnnConfig(architecture=architecture)
    model = build_network(config, (28, 28, 1), 10, PixelStatistics((0.0,), (1.0,))).model
    assert [layer.output.shape[1] for layer in spatial_layers(model)] == sides
    side = 28
    for layer, expected in zip(spatial_layers(model), sides, strict=True):
        kernel = layer.kernel_size if isinstance(layer, layers.Conv2D) else layer.pool_size
        side = by_hand.output_size(side, kernel[0], layer.strides[0], layer.padding)
        assert side == expected
    (flat,) = (layer for layer in model.layers if isinstance(layer, layers.Flatten))
    assert flat.output.shape[1] == features


def test_sizes_through_the_generator():
    generator = build_generator((28, 28, 1), 10, GanConfig())
    doubling = [layer for layer in generator.layers if isinstance(layer, layers.Conv2DTranspose)]
    assert [layer.input.shape[1] for layer in doubling] == [7, 14]
    assert [layer.output.shape[1] for layer in doubling] == [14, 28]
    assert {(layer.kernel_size, layer.strides, layer.padding) for layer in doubling} == {((4, 4), (2, 2), "same")}
