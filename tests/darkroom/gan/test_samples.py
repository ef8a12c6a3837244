from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from darkroom.gan.config import GanConfig
from darkroom.gan.model import build_generator
from darkroom.gan.samples import draw_latent, generate, grid_labels, save_grid, to_pixels


def test_the_same_seed_draws_the_same_noise() -> None:
    assert np.array_equal(draw_latent(5, 3, seed=1), draw_latent(5, 3, seed=1))
    assert not np.array_equal(draw_latent(5, 3, seed=1), draw_latent(5, 3, seed=2))


def test_more_images_than_one_batch_keep_their_order() -> None:
    generator = build_generator((8, 8, 1), 3, GanConfig(latent_size=4, generator_filters=8))
    labels = np.arange(1100) % 3
    images = generate(generator, labels, seed=0)
    assert images.shape == (1100, 8, 8, 1)
    latent = draw_latent(1100, 4, seed=0)
    np.testing.assert_allclose(images[900:], np.asarray(generator([latent[900:], labels[900:]])), atol=1e-5)


def test_pixels_cover_the_whole_range() -> None:
    images = np.array([-1.0, -0.0001, 0.0, 0.999, 1.0], np.float32)
    assert to_pixels(images).tolist() == [0, 127, 128, 255, 255]


def test_every_real_pixel_survives_the_round_trip() -> None:
    pixels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_pixels(pixels.astype(np.float32) / 127.5 - 1), pixels)


def test_grid_labels_go_row_by_row() -> None:
    assert grid_labels(3, 2).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 8, 1), (32, 32, 3)])
def test_grid_has_a_row_per_class(shape: tuple[int, int, int], tmp_path: Path) -> None:
    images = np.zeros((6, *shape), np.uint8)
    images[:3] = 128
    save_grid(images, ["grey", "black"], tmp_path / "grid.png", "title")
    picture = imread(tmp_path / "grid.png")[..., :3]
    grey = (abs(picture - 128 / 255) < 0.01).all(axis=-1)
    black = (picture == 0).all(axis=-1)
    rows_of_grey, rows_of_black = np.flatnonzero(grey.sum(axis=1) > 20), np.flatnonzero(black.sum(axis=1) > 20)
    assert rows_of_grey.max() < rows_of_black.min()
