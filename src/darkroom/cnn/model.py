"""The classifiers, by name.

Every network takes raw images, [B, H, W, C] uint8, and normalises them itself, so that nobody who serves one can
normalise differently. Its head is logits or softmax, as `Network.from_logits` says, and the loss follows. What is
saved is always `inference_model(network)`: raw images in, class probabilities out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from darkroom.cnn.config import Architecture
from darkroom.errors import ConfigError

# Keras's 0.99 remembers some 100 steps; a short run then ends with statistics of weights long gone.
_BATCH_NORM_MOMENTUM = 0.9

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class PixelStatistics:
    """Mean and variance of each channel over a set of images, in units of the raw pixel values."""

    mean: tuple[float, ...]
    variance: tuple[float, ...]


@dataclass(frozen=True)
class Network:
    """A network to train: images [B, H, W, C] uint8 to [B, classes], logits or probabilities."""

    model: keras.Model
    from_logits: bool


@dataclass(frozen=True)
class _Design:
    body: Callable[[keras.KerasTensor], keras.KerasTensor]
    normalise: Callable[[PixelStatistics], keras.Layer]
    from_logits: bool
    smallest_side: int


def pixel_statistics(images: NDArray[np.uint8]) -> PixelStatistics:
    """Mean and variance of each channel of memory-mapped images [N, H, W, C], a few thousand images at a time."""
    # A table of how often each value occurs makes the sums exact, whatever the number of pixels.
    values = np.arange(256)
    counts = np.zeros((images.shape[-1], 256), dtype=np.int64)
    for start in range(0, len(images), _ROWS_AT_ONCE):
        chunk = images[start : start + _ROWS_AT_ONCE]
        for channel, count in enumerate(counts):
            count += np.bincount(chunk[..., channel].ravel(), minlength=256)
    mean = counts @ values / counts.sum(axis=1)
    variance = counts @ values**2 / counts.sum(axis=1) - mean**2
    return PixelStatistics(tuple(mean.tolist()), tuple(variance.tolist()))


def build_network(
    architecture: Architecture, image_shape: tuple[int, int, int], classes: int, pixels: PixelStatistics
) -> Network:
    """Build an untrained network; its initial weights come from Keras's global seed.

    `image_shape` is height, width, channels; `pixels` are the statistics of the training images.

    Raises:
        ConfigError: the images are too small for the architecture.
    """
    design = _DESIGNS[architecture]
    height, width, _ = image_shape
    if min(height, width) < design.smallest_side:
        raise ConfigError(
            f"architecture: {architecture} needs images of at least {design.smallest_side} x {design.smallest_side} "
            f"pixels, got {height} x {width}"
        )
    images = keras.Input(image_shape, dtype="uint8", name="images")
    features = design.body(design.normalise(pixels)(images))
    head = layers.Dense(classes, activation=None if design.from_logits else "softmax", name="head")
    return Network(keras.Model(images, head(features), name=architecture), design.from_logits)


def inference_model(network: Network) -> keras.Model:
    """The model to save: images [B, H, W, C] uint8 to class probabilities [B, classes] float32.

    It shares the network's weights. A head of logits gets a softmax layer behind it.
    """
    if not network.from_logits:
        return network.model
    probabilities = layers.Softmax(name="probabilities")(network.model.output)
    return keras.Model(network.model.input, probabilities, name=network.model.name)


def _tutorial_body(images: keras.KerasTensor) -> keras.KerasTensor:
    features = layers.Conv2D(32, 3, activation="relu")(images)
    features = layers.MaxPooling2D()(features)
    features = layers.Conv2D(64, 3, activation="relu")(features)
    features = layers.MaxPooling2D()(features)
    features = layers.Conv2D(64, 3, activation="relu")(features)
    return layers.Dense(64, activation="relu")(layers.Flatten()(features))


def _darkroom_body(images: keras.KerasTensor) -> keras.KerasTensor:
    """Most of the arithmetic happens at a quarter of the resolution, which is what makes it quick on a CPU."""
    features = _convolution(images, 32, kernel=5, stride=2)
    features = _convolution(features, 64, stride=2)
    features = _convolution(features, 64)
    features = layers.MaxPooling2D(padding="same")(features)
    features = _convolution(features, 128)
    return layers.Flatten()(features)


def _convolution(features: keras.KerasTensor, filters: int, *, kernel: int = 3, stride: int = 1) -> keras.KerasTensor:
    features = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False)(features)
    return layers.ReLU()(layers.BatchNormalization(momentum=_BATCH_NORM_MOMENTUM)(features))


def _to_unit_range(pixels: PixelStatistics) -> keras.Layer:
    return layers.Rescaling(1 / 255, name="to_unit_range")


def _standardise(pixels: PixelStatistics) -> keras.Layer:
    return layers.Normalization(mean=pixels.mean, variance=pixels.variance, name="standardise")


# Three convolutions without padding and two halvings leave one pixel of eighteen.
_DESIGNS: dict[Architecture, _Design] = {
    "darkroom_cnn": _Design(_darkroom_body, _standardise, from_logits=True, smallest_side=8),
    "mnist_cnn": _Design(_tutorial_body, _to_unit_range, from_logits=False, smallest_side=18),
    "cifar_cnn": _Design(_tutorial_body, _to_unit_range, from_logits=True, smallest_side=18),
}
