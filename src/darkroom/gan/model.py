"""A class-conditional DCGAN (Radford et al. 2016) of standard Keras layers, so that it loads without custom objects.

Two choices differ from the paper, both for the sake of a training run of minutes on two cores:

- The generator normalises by root mean square over channels, as the pixel norm of Karras et al. (2018) does, not by
  batch. It holds no moving statistics, so averaged weights need none that fit them, and a sample does not depend on its
  neighbours in the batch.
- The discriminator has no normalisation: real and generated images pass it separately, and alike in training and after.
"""

from collections.abc import Sequence
from pathlib import Path

import keras
from keras import layers

from darkroom.errors import ConfigError, DataError
from darkroom.gan.config import GanConfig
from darkroom.training import load_model

GENERATOR_NAME = "generator.keras"
DISCRIMINATOR_NAME = "discriminator.keras"

_CLASS_EMBEDDING = "class_embedding"
_STRIDE = 2
_SMALLEST_SIDE = 8
_LARGEST_SIDE = 64


def build_generator(image_shape: tuple[int, int, int], classes: int, config: GanConfig) -> keras.Model:
    """Build G: (z [B, latent_size] float32, label [B] int32) -> images [B, H, W, C] float32 in [-1, 1].

    A quarter-size feature map is doubled twice by transposed convolutions. The class enters as an embedding beside z.

    Raises:
        ConfigError: the image's size does not suit; see `check_image_shape`.
    """
    check_image_shape(image_shape)
    height, width, channels = image_shape
    filters = config.generator_filters
    latent = layers.Input((config.latent_size,), name="latent")
    label = layers.Input((), dtype="int32", name="label")
    base = (height // _STRIDE**2, width // _STRIDE**2, filters)
    embedding = layers.Embedding(classes, config.latent_size, name=_CLASS_EMBEDDING)(label)
    x = layers.Concatenate()([latent, embedding])
    x = layers.Dense(base[0] * base[1] * base[2], use_bias=False)(x)
    x = layers.ReLU()(layers.RMSNormalization()(layers.Reshape(base)(x)))
    x = layers.Conv2DTranspose(filters // 2, 4, _STRIDE, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.RMSNormalization()(x))
    images = layers.Conv2DTranspose(channels, 4, _STRIDE, padding="same", activation="tanh")(x)
    return keras.Model([latent, label], images, name="generator")


def build_discriminator(image_shape: tuple[int, int, int], classes: int, config: GanConfig) -> keras.Model:
    """Build D: (images [B, H, W, C] float32 in [-1, 1], label [B] int32) -> logit [B, 1] float32, positive for real.

    A projection discriminator (Miyato and Koyama 2018, equation 5): the logit is psi(h) + <embedding(label), h> for
    features h. It costs one inner product, where a label concatenated to the image would widen the dearest layer.
    With `spectral_normalization`, every weight matrix has the largest singular value one (Miyato et al. 2018); Keras's
    layer holds the weights themselves there, where the paper divides by it in each pass.

    Raises:
        ConfigError: the image's size does not suit; see `check_image_shape`.
    """
    check_image_shape(image_shape)
    image = layers.Input(image_shape, name="image")
    label = layers.Input((), dtype="int32", name="label")
    bounded = layers.SpectralNormalization if config.spectral_normalization else _as_it_is
    x = image
    for filters in (config.discriminator_filters, 2 * config.discriminator_filters):
        x = bounded(layers.Conv2D(filters, 4, _STRIDE, padding="same"))(x)
        x = layers.LeakyReLU(0.2)(x)
    features = layers.Flatten()(x)
    embedding = _embed(label, classes, features.shape[-1], config)
    logit = layers.Add()([bounded(layers.Dense(1))(features), layers.Dot(axes=1)([embedding, features])])
    return keras.Model([image, label], logit, name="discriminator")


def check_image_shape(image_shape: Sequence[int]) -> None:
    """Refuse images that two strides of 2 do not divide, and those too small or too large for this network.

    Raises:
        ConfigError: states the rule and the shape.
    """
    height, width, channels = image_shape
    sides_fit = all(side % _STRIDE**2 == 0 and _SMALLEST_SIDE <= side <= _LARGEST_SIDE for side in (height, width))
    if not sides_fit or channels not in (1, 3):
        raise ConfigError(
            f"images of {height} x {width} x {channels}: the GAN needs sides that are multiples of {_STRIDE**2} "
            f"between {_SMALLEST_SIDE} and {_LARGEST_SIDE} pixels, and 1 or 3 channels"
        )


def load_generator(model_dir: Path) -> keras.Model:
    """Read `generator.keras`, which `train_gan` wrote.

    Raises:
        DataError: the file is missing, is no Keras model, or is no conditional generator of images.
    """
    path = model_dir / GENERATOR_NAME
    generator = load_model(path)
    takes = [tensor.shape for tensor in generator.inputs]
    knows_classes = any(layer.name == _CLASS_EMBEDDING for layer in generator.layers)
    if [len(shape) for shape in takes] != [2, 1] or len(generator.output_shape) != 4 or not knows_classes:
        raise DataError(
            f"{path}: not a conditional generator: takes {takes}, gives {generator.output_shape}; it must take "
            f"(z [B, latent], label [B]), give images [B, H, W, C] and have a layer {_CLASS_EMBEDDING!r}"
        )
    return generator


def count_classes(generator: keras.Model) -> int:
    """How many classes a generator was built for."""
    return int(generator.get_layer(_CLASS_EMBEDDING).input_dim)


def _as_it_is(layer: keras.Layer) -> keras.Layer:
    return layer


def _embed(label: keras.KerasTensor, classes: int, size: int, config: GanConfig) -> keras.KerasTensor:
    if not config.spectral_normalization:
        return layers.Embedding(classes, size, embeddings_initializer="glorot_uniform")(label)
    # Keras's SpectralNormalization gives its output the type of its input, integers here. This is the same table.
    one_hot = layers.CategoryEncoding(classes, output_mode="one_hot")(layers.Reshape((1,))(label))
    return layers.SpectralNormalization(layers.Dense(size, use_bias=False))(one_hot)
