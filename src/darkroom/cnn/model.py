"""The classifiers, by name.

Every network takes raw images, [B, H, W, C] uint8, and normalises them itself, so that nobody who serves one can
normalise differently. Its head is logits or softmax, as `Network.from_logits` says, and the loss follows. What is
saved is always `inference_model(network)`: raw images in, class probabilities out.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from darkroom.cnn.backbone import extract_features
from darkroom.cnn.config import Architecture, CnnConfig
from darkroom.cnn.normalization import FusedBatchNormalization
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
    """A network to train: images [B, H, W, C] uint8 to [B, classes], logits or probabilities.

    backbone: the part of it that came with weights, where there is one.
    """

    model: keras.Model
    from_logits: bool
    backbone: keras.Model | None = None


@dataclass(frozen=True)
class _Design:
    body: Callable[[keras.KerasTensor, type[keras.Layer]], keras.KerasTensor]
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
    config: CnnConfig,
    image_shape: tuple[int, int, int],
    classes: int,
    pixels: PixelStatistics,
    *,
    policy: str = "float32",
    for_training: bool = False,
) -> Network:
    """Build an untrained network; its initial weights come from Keras's global seed, a backbone's from its file.

    `image_shape` is height, width, channels; `pixels` are the statistics of the training images; `policy` is Keras's
    dtype policy, such as mixed_bfloat16. A network `for_training` has faster layers and a backbone with its weights;
    otherwise there are layers of Keras alone, to be given the weights of a trained network, which are as many.

    Raises:
        ConfigError: the images are too small for the architecture, or a backbone's weights cannot be had.
    """
    with dtype_policy(policy):
        images = keras.Input(image_shape, dtype="uint8", name="images")
        if config.backbone is not None:
            features, backbone = extract_features(images, config.backbone, pretrained=for_training)
            return Network(_with_head(images, features, classes, config, from_logits=True), True, backbone)
        design = _DESIGNS[config.architecture]
        _check_size(config.architecture, design, image_shape)
        normalization = FusedBatchNormalization if for_training else layers.BatchNormalization
        features = design.body(design.normalise(pixels)(images), normalization)
        return Network(
            _with_head(images, features, classes, config, from_logits=design.from_logits), design.from_logits
        )


def _with_head(
    images: keras.KerasTensor, features: keras.KerasTensor, classes: int, config: CnnConfig, *, from_logits: bool
) -> keras.Model:
    if config.dropout:
        features = layers.Dropout(config.dropout, seed=config.seed)(features)
    # In float32 under every policy: a softmax in less precision loses small probabilities.
    head = layers.Dense(classes, activation=None if from_logits else "softmax", dtype="float32", name="head")
    return keras.Model(images, head(features), name=config.architecture)


def _check_size(architecture: str, design: _Design, image_shape: tuple[int, int, int]) -> None:
    height, width, _ = image_shape
    if min(height, width) < design.smallest_side:
        raise ConfigError(
            f"architecture: {architecture} needs images of at least {design.smallest_side} x {design.smallest_side} "
            f"pixels, got {height} x {width}"
        )


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Build layers under one of Keras's dtype policies."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def inference_model(network: Network) -> keras.Model:
    """The model to save: images [B, H, W, C] uint8 to class probabilities [B, classes] float32.

    It shares the network's weights. A head of logits gets a softmax layer behind it.
    """
    if not network.from_logits:
        return network.model
    probabilities = layers.Softmax(name="probabilities")(network.model.output)
    return keras.Model(network.model.input, probabilities, name=network.model.name)


def _tutorial_body(images: keras.KerasTensor, normalization: type[keras.Layer]) -> keras.KerasTensor:
    """The tutorial's network, which normalises nothing."""
    features = layers.Conv2D(32, 3, activation="relu")(images)
    features = layers.MaxPooling2D()(features)
    features = layers.Conv2D(64, 3, activation="relu")(features)
    features = layers.MaxPooling2D()(features)
    features = layers.Conv2D(64, 3, activation="relu")(features)
    return layers.Dense(64, activation="relu")(layers.Flatten()(features))


def _darkroom_body(images: keras.KerasTensor, normalization: type[keras.Layer]) -> keras.KerasTensor:
    """Most of the arithmetic happens at a quarter of the resolution, which is what makes it quick on a CPU."""
    features = _convolution(images, 16, normalization, stride=2)
    features = _convolution(features, 32, normalization, stride=2)
    features = _convolution(features, 64, normalization)
    features = layers.MaxPooling2D(padding="same")(features)
    features = _convolution(features, 128, normalization)
    features = layers.MaxPooling2D(padding="same")(features)
    return layers.Flatten()(features)


def _residual_body(images: keras.KerasTensor, normalization: type[keras.Layer]) -> keras.KerasTensor:
    """One residual block (He et al. 2016) at each of three resolutions, for those who have an hour."""
    features = _convolution(images, 32, normalization)
    for filters in (64, 128, 256):
        features = _convolution(features, filters, normalization, stride=2)
        change = _convolution(features, filters, normalization)
        change = normalization(momentum=_BATCH_NORM_MOMENTUM)(_linear_convolution(change, filters))
        features = layers.ReLU()(layers.Add()([features, change]))
    return layers.GlobalAveragePooling2D()(features)


def _convolution(
    features: keras.KerasTensor, filters: int, normalization: type[keras.Layer], *, stride: int = 1
) -> keras.KerasTensor:
    features = normalization(momentum=_BATCH_NORM_MOMENTUM)(_linear_convolution(features, filters, stride=stride))
    return layers.ReLU()(features)


def _linear_convolution(features: keras.KerasTensor, filters: int, *, stride: int = 1) -> keras.KerasTensor:
    return layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(features)


def _to_unit_range(pixels: PixelStatistics) -> keras.Layer:
    return layers.Rescaling(1 / 255, name="to_unit_range")


def _standardise(pixels: PixelStatistics) -> keras.Layer:
    return layers.Normalization(mean=pixels.mean, variance=pixels.variance, name="standardise")


# Three convolutions without padding and two halvings leave one pixel of eighteen.
_DESIGNS: dict[Architecture, _Design] = {
    "darkroom_cnn": _Design(_darkroom_body, _standardise, from_logits=True, smallest_side=8),
    "darkroom_resnet": _Design(_residual_body, _standardise, from_logits=True, smallest_side=8),
    "mnist_cnn": _Design(_tutorial_body, _to_unit_range, from_logits=False, smallest_side=18),
    "cifar_cnn": _Design(_tutorial_body, _to_unit_range, from_logits=True, smallest_side=18),
}
