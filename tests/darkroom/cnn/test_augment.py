import numpy as np
import pytest

from darkroom.cnn.augment import Cutout, RandomCrop, augmentation_layers


def one_bright_pixel(count: int, side: int = 9) -> np.ndarray:
    images = np.zeros((count, side, side, 1), dtype=np.uint8)
    images[:, side // 2, side // 2] = 255
    return images


def shifts(images: np.ndarray) -> list[tuple[int, int]]:
    centre = images.shape[1] // 2
    rows, columns = np.nonzero(images[..., 0])[1:]
    return list(zip((rows - centre).tolist(), (columns - centre).tolist(), strict=True))


def test_each_image_gets_a_shift_of_its_own_within_the_padding():
    cropped = RandomCrop(2, seed=0, dtype="uint8")(one_bright_pixel(200), training=True).numpy()
    assert cropped.dtype == np.uint8
    assert cropped.shape == (200, 9, 9, 1)
    assert len(shifts(cropped)) == 200
    assert set(shifts(cropped)) == {(row, column) for row in range(-2, 3) for column in range(-2, 3)}


def test_crops_bring_zeros_in_from_outside():
    cropped = RandomCrop(1, seed=0, dtype="uint8")(np.full((50, 4, 4, 3), 9, dtype=np.uint8), training=True).numpy()
    assert set(np.unique(cropped)) == {0, 9}


def test_augmentation_repeats_with_its_seed():
    def augment(seed: int) -> np.ndarray:
        images = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3)).astype(np.uint8)
        for layer in augmentation_layers(crop_padding=2, horizontal_flip=True, cutout=4, seed=seed):
            images = layer(images, training=True)
        return np.asarray(images)

    assert (augment(1) == augment(1)).all()
    assert (augment(1) != augment(2)).any()


def test_flips_mirror_about_half_of_the_images():
    images = np.random.default_rng(0).integers(0, 256, (200, 4, 5, 1)).astype(np.uint8)
    (flip,) = augmentation_layers(crop_padding=0, horizontal_flip=True, cutout=0, seed=0)
    flipped = np.asarray(flip(images, training=True))
    assert flipped.dtype == np.uint8
    mirrored = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (mirrored | (flipped == images).all(axis=(1, 2, 3))).all()
    assert 70 < mirrored.sum() < 130


@pytest.mark.parametrize("training", [False, None])
def test_nothing_changes_outside_training(training):
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 1)).astype(np.uint8)
    for layer in augmentation_layers(crop_padding=3, horizontal_flip=True, cutout=2, seed=0):
        assert (np.asarray(layer(images, training=training)) == images).all()


def test_a_square_is_blackened_at_a_place_of_its_own():
    images = np.full((300, 9, 11, 2), 7, dtype=np.uint8)
    cut = np.asarray(Cutout(4, seed=0, dtype="uint8")(images, training=True))
    assert cut.dtype == np.uint8
    black = (cut == 0).all(axis=-1)
    assert (black == (cut == 0).any(axis=-1)).all()
    rows, columns = black.any(axis=2), black.any(axis=1)
    assert (black == rows[:, :, None] & columns[:, None, :]).all()
    # A centre is in the image, so at least a half of the side is.
    assert (rows.sum(axis=1).min(), rows.sum(axis=1).max()) == (2, 4)
    assert (columns.sum(axis=1).min(), columns.sum(axis=1).max()) == (2, 4)
    assert black.any(axis=0).all()
    assert len(np.unique(black, axis=0)) > 60


def test_no_layers_where_all_are_off():
    assert augmentation_layers(crop_padding=0, horizontal_flip=False, cutout=0, seed=0) == []
