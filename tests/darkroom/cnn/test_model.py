from dataclasses import replace

import keras
import numpy as np
import pytest

from darkroom.cnn import model
from darkroom.cnn.config import CnnConfig
from darkroom.cnn.model import Network, PixelStatistics, build_network, inference_model, pixel_statistics
from darkroom.errors import ConfigError

GREY = PixelStatistics((70.0,), (8000.0,))
COLOUR = PixelStatistics((70.0, 80.0, 90.0), (8000.0, 7000.0, 6000.0))


def raw_images(shape: tuple[int, int, int], count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.uint8)


def layer_names(network: Network) -> list[str]:
    return [type(layer).__name__ for layer in network.model.layers]


TUTORIAL_LAYERS = [
    "InputLayer",
    "Rescaling",
    *["Conv2D", "MaxPooling2D"] * 2,
    "Conv2D",
    "Flatten",
    "Dense",
    "Dense",
]


def test_mnist_cnn_is_the_tutorial_network():
    network = build_network(CnnConfig(architecture="mnist_cnn"), (28, 28, 1), 10, GREY)
    assert layer_names(network) == TUTORIAL_LAYERS
    convolutions = [layer for layer in network.model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [32, 64, 64]
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert network.model.layers[-1].activation is keras.activations.softmax
    assert not network.from_logits
    # 320 + 18,496 + 36,928 for the convolutions, 36,928 and 650 for the dense layers.
    assert network.model.count_params() == 93_322


def test_cifar_cnn_is_the_tutorial_network_with_logits():
    network = build_network(CnnConfig(architecture="cifar_cnn"), (32, 32, 3), 10, COLOUR)
    assert layer_names(network) == TUTORIAL_LAYERS
    assert network.model.layers[-1].activation is keras.activations.linear
    assert network.from_logits
    assert network.model.count_params() == 122_570


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [
        ("darkroom_cnn", (8, 8, 1)),
        ("darkroom_cnn", (28, 28, 1)),
        ("darkroom_cnn", (32, 32, 3)),
        ("darkroom_cnn", (9, 13, 1)),
        ("darkroom_resnet", (8, 8, 1)),
        ("darkroom_resnet", (28, 28, 1)),
        ("darkroom_resnet", (9, 13, 3)),
        ("mnist_cnn", (18, 18, 1)),
        ("cifar_cnn", (32, 32, 3)),
    ],
)
def test_the_saved_model_takes_raw_images_and_gives_probabilities(architecture, shape, tmp_path):
    network = build_network(CnnConfig(architecture=architecture), shape, 10, GREY if shape[-1] == 1 else COLOUR)
    inference_model(network).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images = raw_images(shape)
    probabilities = loaded.predict(images, verbose=0)
    assert loaded.input.dtype == "uint8"
    assert probabilities.shape == (5, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    outputs = network.model.predict(images, verbose=0)
    expected = keras.ops.softmax(outputs) if network.from_logits else outputs
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


@pytest.mark.parametrize("architecture", ["mnist_cnn", "cifar_cnn"])
def test_images_too_small_for_the_tutorial_networks_are_refused(architecture):
    with pytest.raises(ConfigError, match=rf"{architecture} needs images of at least 18 x 18 pixels, got 8 x 20"):
        build_network(CnnConfig(architecture=architecture), (8, 20, 1), 10, GREY)


def test_the_tutorial_networks_leave_nothing_of_a_smaller_image(monkeypatch):
    monkeypatch.setitem(model._DESIGNS, "mnist_cnn", replace(model._DESIGNS["mnist_cnn"], smallest_side=1))
    with pytest.raises(ValueError, match="output size"):
        build_network(CnnConfig(architecture="mnist_cnn"), (17, 17, 1), 10, GREY)


def test_pixel_statistics_are_those_of_each_channel():
    images = raw_images((5, 4, 3), count=5000)
    statistics = pixel_statistics(images)
    np.testing.assert_allclose(statistics.mean, images.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(statistics.variance, images.var(axis=(0, 1, 2)))


def test_darkroom_cnn_standardises_with_the_given_statistics():
    network = build_network(CnnConfig(), (8, 8, 1), 10, GREY)
    standardised = network.model.get_layer("standardise")(np.full((1, 8, 8, 1), 70, dtype=np.uint8))
    np.testing.assert_allclose(np.asarray(standardised), 0, atol=1e-6)
