"""Transfer learning: networks of keras.applications as feature extractors."""

import warnings
from pathlib import Path
from urllib.error import URLError

import keras
from keras import layers

from darkroom.cnn.config import BackboneConfig
from darkroom.errors import ConfigError

_COLOURS = 3


def extract_features(
    images: keras.KerasTensor, config: BackboneConfig, *, pretrained: bool
) -> tuple[keras.KerasTensor, keras.Model]:
    """Resize raw images [B, H, W, C] uint8, give grey ones three channels, and extract features [B, F].

    Resizing and colours are layers of the network, so what is served takes images of the dataset's own size. The
    backbone's batch statistics stay those of its own training, frozen or not.

    Returns:
        The features and the backbone.

    Raises:
        ConfigError: the weights cannot be had, or belong to another network; or the images have neither one nor
            three channels.
    """
    channels = images.shape[-1]
    if channels not in (1, _COLOURS):
        raise ConfigError(f"backbone: takes images of 1 or {_COLOURS} channels, got {channels}")
    resized = layers.Resizing(config.size, config.size, name="resize")(images)
    coloured = resized if channels == _COLOURS else layers.Concatenate(name="colours")([resized] * _COLOURS)
    backbone = _load(config) if pretrained else _build(config, None)
    return backbone(coloured, training=False), backbone


def _load(config: BackboneConfig) -> keras.Model:
    if config.weights == "random":
        return _build(config, None)
    if config.weights == "imagenet":
        try:
            return _build(config, "imagenet")
        # Keras passes the reason of a failed download on as a plain Exception.
        except Exception as error:
            if not isinstance(error, URLError | OSError) and "URL fetch failure" not in str(error):
                raise
            raise ConfigError(
                f"backbone.weights: {config.weights} weights of {config.name} cannot be downloaded ({error}); give the "
                f"path of a .weights.h5 file instead"
            ) from None
    path = Path(config.weights)
    if not path.is_file():
        raise ConfigError(f"backbone.weights: {path}: no such file")
    backbone = _build(config, None)
    try:
        backbone.load_weights(path)
    except Exception as error:  # h5py and Keras fail each in their own way.
        raise ConfigError(f"backbone.weights: {path}: not weights of {config.name} without its head: {error}") from None
    return backbone


def _build(config: BackboneConfig, weights: str | None) -> keras.Model:
    network = getattr(keras.applications, config.name)
    shape = (config.size, config.size, _COLOURS)
    with warnings.catch_warnings():
        # Weights of convolutions fit every size; MobileNet says that they come from images of 224 x 224.
        warnings.filterwarnings("ignore", message="`input_shape` is undefined or non-square")
        model: keras.Model = network(input_shape=shape, include_top=False, pooling="avg", weights=weights)
    return model
