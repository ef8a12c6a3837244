from pathlib import Path

import keras
import numpy as np
import pytest

from darkroom.errors import ConfigError, DataError
from darkroom.gan.config import GanConfig
from darkroom.gan.model import GENERATOR_NAME, build_discriminator, build_generator, load_generator

SHAPES = [(28, 28, 1), (8, 8, 1), (32, 32, 3), (16, 24, 3)]


@pytest.fixture
def config() -> GanConfig:
    return GanConfig(latent_size=6, generator_filters=8, discriminator_filters=8)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_and_ranges(shape: tuple[int, int, int], config: GanConfig) -> None:
    latent = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    labels = np.arange(5, dtype=np.int64)
    images = np.asarray(build_generator(shape, 5, config)([latent, labels]))
    assert images.shape == (5, *shape)
    assert abs(images).max() <= 1
    assert build_discriminator(shape, 5, config)([images, labels]).shape == (5, 1)


@pytest.mark.parametrize("shape", [(30, 28, 1), (4, 4, 1), (68, 64, 3), (28, 28, 2)])
def test_unsuitable_sizes_are_refused(shape: tuple[int, int, int], config: GanConfig) -> None:
    for build in (build_generator, build_discriminator):
        with pytest.raises(ConfigError, match=f"images of {shape[0]} x {shape[1]} x {shape[2]}: .* multiples of 4"):
            build(shape, 10, config)


def test_both_networks_use_the_label(config: GanConfig) -> None:
    keras.utils.set_random_seed(0)
    latent = np.ones((2, 6), np.float32)
    labels = np.array([0, 1])
    images = np.asarray(build_generator((8, 8, 1), 2, config)([latent, labels]))
    assert not np.allclose(images[0], images[1])
    same = np.repeat(images[:1], 2, axis=0)
    logits = np.asarray(build_discriminator((8, 8, 1), 2, config)([same, labels]))
    assert not np.allclose(logits[0], logits[1])


def test_saved_networks_load_in_safe_mode_without_custom_objects(tmp_path: Path, config: GanConfig) -> None:
    latent, labels = np.ones((3, 6), np.float32), np.array([0, 1, 2])
    generator = build_generator((8, 8, 1), 3, config)
    generator.save(tmp_path / GENERATOR_NAME)
    images = np.asarray(generator([latent, labels]))
    assert np.array_equal(load_generator(tmp_path)([latent, labels]), images)
    discriminator = build_discriminator((8, 8, 1), 3, config)
    discriminator.save(tmp_path / "discriminator.keras")
    loaded = keras.saving.load_model(tmp_path / "discriminator.keras", safe_mode=True)
    assert np.array_equal(loaded([images, labels]), discriminator([images, labels]))


def test_missing_generator_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"generator\.keras: no such file"):
        load_generator(tmp_path)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_truncated_generator_is_named(keep: float, tmp_path: Path, config: GanConfig) -> None:
    path = tmp_path / GENERATOR_NAME
    build_generator((8, 8, 1), 3, config).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(DataError, match=r"generator\.keras: not readable as a Keras model"):
        load_generator(tmp_path)


def test_another_model_is_no_generator(tmp_path: Path, config: GanConfig) -> None:
    build_discriminator((8, 8, 1), 3, config).save(tmp_path / GENERATOR_NAME)
    with pytest.raises(DataError, match="not a conditional generator"):
        load_generator(tmp_path)
