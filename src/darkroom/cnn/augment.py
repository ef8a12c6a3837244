"""Augmentation as Keras layers, on raw uint8 images, at training time only.

The layers wrap the network for training and are never part of the saved model.
"""

from typing import Any

import keras
import tensorflow as tf


class RandomCrop(keras.Layer):  # type: ignore[misc]  # Keras has no types
    """Pads each image with zeros and cuts the original size out again, at an offset of its own.

    Shifts by up to `padding` pixels in each direction. Keras's own RandomCrop draws one offset for the whole batch.
    Inputs and outputs: [B, H, W, C] of any type. Outside training the images pass unchanged.
    """

    def __init__(self, padding: int, *, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self.padding = padding
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Crop `images`."""
        if not training:
            return images
        size, height, width = keras.ops.shape(images)[:3]
        border = self.padding
        padded = keras.ops.pad(images, ((0, 0), (border, border), (border, border), (0, 0)))
        offsets = keras.random.randint((size, 2, 1), 0, 2 * border + 1, seed=self.seed_generator)
        rows = offsets[:, 0] + keras.ops.arange(height)
        columns = offsets[:, 1] + keras.ops.arange(width)
        return tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


class RandomFlip(keras.Layer):  # type: ignore[misc]  # Keras has no types
    """Mirrors half of the images left to right.

    Keras's own RandomFlip works in floating point, which costs a fifth of a training step on a CPU. Inputs and outputs:
    [B, H, W, C] of any type. Outside training the images pass unchanged.
    """

    def __init__(self, *, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Mirror some of `images`."""
        if not training:
            return images
        size = keras.ops.shape(images)[0]
        mirrored = keras.random.uniform((size, 1, 1, 1), seed=self.seed_generator) < 0.5
        # A slice of step -1 says the same and takes twice as long.
        return tf.where(mirrored, tf.reverse(images, [2]), images)


class Cutout(keras.Layer):  # type: ignore[misc]  # Keras has no types
    """Blackens a square of each image, at a place of its own (DeVries and Taylor 2017).

    The square's centre is anywhere in the image, so that part of the square may lie outside. Inputs and outputs:
    [B, H, W, C] of any type. Outside training the images pass unchanged.
    """

    def __init__(self, side: int, *, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self.side = side
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Blacken a part of `images`."""
        if not training:
            return images
        size, height, width = keras.ops.shape(images)[:3]
        rows = self._covered(size, height)[:, :, tf.newaxis, tf.newaxis]
        columns = self._covered(size, width)[:, tf.newaxis, :, tf.newaxis]
        return tf.where(rows & columns, tf.zeros((), images.dtype), images)

    def _covered(self, size: tf.Tensor, length: int) -> tf.Tensor:
        """[B, length] bool: which rows, or columns, the square covers."""
        centres = keras.random.randint((size, 1), 0, length, seed=self.seed_generator)
        first = centres - self.side // 2
        places = keras.ops.arange(length)
        return (places >= first) & (places < first + self.side)


def augmentation_layers(*, crop_padding: int, horizontal_flip: bool, cutout: int, seed: int) -> list[keras.Layer]:
    """The layers to put before a network that takes raw uint8 images; none where all are off."""
    layers: list[keras.Layer] = []
    if crop_padding:
        layers.append(RandomCrop(crop_padding, seed=seed, dtype="uint8"))
    if horizontal_flip:
        # Another seed than the crop's: with the same one, an image's mirroring would follow from its shift.
        layers.append(RandomFlip(seed=seed + 1, dtype="uint8"))
    if cutout:
        layers.append(Cutout(cutout, seed=seed + 2, dtype="uint8"))
    return layers
