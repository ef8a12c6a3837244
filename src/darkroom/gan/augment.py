"""Differentiable augmentation of what the discriminator sees (Zhao et al. 2020).

Real and generated images are changed alike, and the generator's gradient goes through the change; so it learns the
distribution of unchanged images, while a discriminator with few real images cannot learn these by heart.

Throughout: images are [B, H, W, C] float32 in [-1, 1], and each is changed by a draw of its own from `seed`, [2] int.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from darkroom.gan.config import Augmentation

_BRIGHTNESS = 0.5
_SHIFT = 1 / 8
_HOLE = 1 / 2


def augment(images: tf.Tensor, names: Sequence[Augmentation], seed: tf.Tensor) -> tf.Tensor:
    """Apply the named augmentations, always in the order brightness, translation, cutout."""
    for number, (name, change) in enumerate(_AUGMENTATIONS.items()):
        if name in names:
            images = change(images, tf.random.experimental.stateless_fold_in(seed, number))
    return images


def change_brightness(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Add a number from [-0.5, 0.5) to all of an image; what leaves [-1, 1] is not cut off."""
    offsets = tf.random.stateless_uniform((tf.shape(images)[0], 1, 1, 1), seed, -_BRIGHTNESS, _BRIGHTNESS)
    return images + offsets


def translate(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Shift by whole pixels, up to an eighth of the side in each direction; what comes in is black, -1."""
    size, height, width = tf.unstack(tf.shape(images)[:3])
    of_rows, of_columns = _two_seeds(seed)
    rows = _shift_matrices(size, height, of_rows)
    columns = _shift_matrices(size, width, of_columns)
    # As products of matrices, which have derivatives of every order and deterministic kernels on every device.
    return tf.einsum("bij,bjkc,blk->bilc", rows, images + 1.0, columns) - 1.0


def cut_out(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Make a square of half the side mid-grey, 0; its centre is anywhere in the image."""
    size, height, width = tf.unstack(tf.shape(images)[:3])
    of_rows, of_columns = _two_seeds(seed)
    rows, columns = _hole(size, height, of_rows), _hole(size, width, of_columns)
    inside = rows[:, :, tf.newaxis] & columns[:, tf.newaxis, :]
    return tf.where(inside[..., tf.newaxis], 0.0, images)


def _shift_matrices(size: tf.Tensor, side: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """[B, side, side] float32: entry (i, j) is 1 where pixel j goes to place i."""
    reach = tf.cast(tf.round(tf.cast(side, tf.float32) * _SHIFT), tf.int32)
    shifts = tf.random.stateless_uniform((size, 1, 1), seed, -reach, reach + 1, tf.int32)
    places = tf.range(side)
    return tf.cast(places[:, tf.newaxis] == places + shifts, tf.float32)


def _hole(size: tf.Tensor, side: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """[B, side] bool: which rows, or columns, the square covers."""
    half = tf.cast(tf.cast(side, tf.float32) * _HOLE / 2, tf.int32)
    centres = tf.random.stateless_uniform((size, 1), seed, 0, side, tf.int32)
    places = tf.range(side)
    return (places >= centres - half) & (places < centres + half)


def _two_seeds(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    fold = tf.random.experimental.stateless_fold_in
    return fold(seed, 0), fold(seed, 1)


_AUGMENTATIONS: dict[Augmentation, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "brightness": change_brightness,
    "translation": translate,
    "cutout": cut_out,
}
