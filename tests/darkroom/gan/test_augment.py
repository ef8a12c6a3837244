import numpy as np
import pytest
import tensorflow as tf

from darkroom.gan.augment import augment, change_brightness, cut_out, translate

SEED = tf.constant([3, 4], tf.int64)


def random_images(size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (size, 16, 16, 3)).astype(np.float32)


def test_without_names_nothing_changes() -> None:
    images = random_images()
    assert np.array_equal(augment(tf.constant(images), [], SEED), images)


@pytest.mark.parametrize("name", ["brightness", "translation", "cutout"])
def test_a_seed_fixes_the_change_and_each_image_has_its_own(name: str) -> None:
    images = tf.constant(np.repeat(random_images(1), 64, axis=0))
    first = np.asarray(augment(images, [name], SEED))
    assert np.array_equal(first, augment(images, [name], SEED))
    assert not np.array_equal(first, augment(images, [name], SEED + 1))
    assert len(np.unique(first.reshape(64, -1), axis=0)) > 10


def test_brightness_adds_one_number_to_an_image() -> None:
    images = random_images()
    added = np.asarray(change_brightness(tf.constant(images), SEED)) - images
    assert added.reshape(64, -1).std(axis=1) == pytest.approx(0, abs=1e-6)
    offsets = added[:, 0, 0, 0]
    assert -0.5 <= offsets.min() < -0.3
    assert 0.3 < offsets.max() < 0.5


def test_translation_shifts_by_up_to_an_eighth_and_fills_with_black() -> None:
    images = random_images()
    shifted = np.asarray(translate(tf.constant(images), SEED))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=-1)
    seen = set()
    for image, source in zip(shifted, padded, strict=True):
        found = [
            (y, x) for y in range(5) for x in range(5) if np.allclose(image, source[y : y + 16, x : x + 16], atol=1e-5)
        ]
        assert len(found) == 1
        seen.update(found)
    assert {y for y, _ in seen} == {x for _, x in seen} == set(range(5))


def test_cutout_greys_a_square_of_half_the_side() -> None:
    images = random_images() + 2
    grey = np.asarray(cut_out(tf.constant(images), SEED)) == 0
    assert (grey.all(axis=3) == grey.any(axis=3)).all()
    rows, columns = grey[..., 0].any(axis=2).sum(axis=1), grey[..., 0].any(axis=1).sum(axis=1)
    assert rows.max() == columns.max() == 8
    assert rows.min() >= 4
    assert np.array_equal(grey[..., 0].sum(axis=(1, 2)), rows * columns)


def test_gradients_of_both_orders_pass_through() -> None:
    images = tf.constant(random_images(2))
    with tf.GradientTape() as outer:
        outer.watch(images)
        with tf.GradientTape() as inner:
            inner.watch(images)
            cubes = tf.reduce_sum(augment(images, ["brightness", "translation", "cutout"], SEED) ** 3)
        first = inner.gradient(cubes, images)
        squares = tf.reduce_sum(first**2)
    second = outer.gradient(squares, images)
    assert np.isfinite(first).all()
    assert float(tf.reduce_max(tf.abs(second))) > 0
