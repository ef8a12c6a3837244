import numpy as np
import pytest

from darkroom.cnn.corruptions import (
    CORRUPTIONS,
    add_noise,
    blur,
    choose_rows,
    measure_robustness,
    occlude,
    reduce_contrast,
    translate,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 20, 24, 3), dtype=np.uint8)


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_severity_damages_more_and_the_same_each_time(name: str) -> None:
    corruption = CORRUPTIONS[name]
    damage = []
    for amount in corruption.amounts:
        corrupted = corruption.apply(IMAGES, amount, rng())
        assert corrupted.dtype == np.uint8
        assert corrupted.shape == IMAGES.shape
        assert np.array_equal(corrupted, corruption.apply(IMAGES, amount, rng()))
        damage.append(np.abs(corrupted.astype(int) - IMAGES).mean())
    assert damage[0] > 0
    # Pixels of noise have no neighbours to be like: shifting them further changes nothing on average.
    assert name == "translation" or damage == sorted(damage)


def test_noise_has_the_deviation_that_is_asked_for() -> None:
    grey = np.full((200, 16, 16, 1), 128, np.uint8)
    noisy = add_noise(grey, 16.0, rng())
    assert noisy.std() == pytest.approx(16, rel=0.01)
    assert noisy.mean() == pytest.approx(128, abs=0.2)


def test_blur_spreads_a_point_and_keeps_images_and_channels_apart() -> None:
    points = np.zeros((2, 25, 25, 2), np.uint8)
    points[0, 12, 12, 0] = 255
    blurred = blur(points, 0.04, rng())
    assert blurred[0, 12, 12, 0] == round(255 / (2 * np.pi))  # a Gaussian of one pixel at its centre
    assert blurred[0, ..., 1].max() == blurred[1].max() == 0


def test_contrast_by_hand() -> None:
    image = np.array([[0, 100], [200, 100]], np.uint8).reshape(1, 2, 2, 1)
    assert reduce_contrast(image, 0.2, rng()).ravel().tolist() == [80, 100, 120, 100]


def test_occlusion_covers_one_rectangle_in_each_image() -> None:
    covered = (occlude(np.zeros_like(IMAGES), 0.5, rng()) == 128).all(axis=3)
    assert set(covered.sum(axis=(1, 2))) == {10 * 12}
    assert set(covered.any(axis=2).sum(axis=1)) == {10}
    assert len({tuple(np.argwhere(image)[0]) for image in covered}) > 20


def test_translation_shifts_and_fills_with_black() -> None:
    images = np.maximum(IMAGES, 1)
    shifted = translate(images, 0.1, rng())  # 2 rows, 2 columns
    seen = set()
    for image, source in zip(shifted, images, strict=True):
        padded = np.pad(source, ((2, 2), (2, 2), (0, 0)))
        found = [(y, x) for y in (0, 2, 4) for x in (0, 2, 4) if np.array_equal(image, padded[y : y + 20, x : x + 24])]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == 8
    assert (2, 2) not in seen


def test_robustness_of_a_classifier_of_brightness() -> None:
    # It tells dark from bright images: noise, blur and less contrast leave the mean as it is, so it stays right.
    images = np.concatenate([np.full((30, 8, 8, 1), 60, np.uint8), np.full((30, 8, 8, 1), 190, np.uint8)])
    labels = np.repeat([0, 1], 30)

    def predict(shown: np.ndarray) -> np.ndarray:
        bright = shown.mean(axis=(1, 2, 3)) > 128
        return np.stack([~bright, bright], axis=1).astype(np.float32)

    found = {
        (entry.corruption, entry.severity): entry.tally.accuracy
        for entry in measure_robustness(predict, images, labels, 0)
    }
    assert len(found) == 15
    assert all(found[name, severity] == 1 for name in ("noise", "blur", "contrast") for severity in (1, 2, 3))
    always_dark = measure_robustness(lambda shown: np.tile([1.0, 0.0], (len(shown), 1)), images, labels, 0)
    assert {entry.tally.accuracy for entry in always_dark} == {0.5}


def test_rows_are_of_all_classes_alike() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 3])
    rows = choose_rows(labels, 60, 0)
    assert np.bincount(labels[rows]).tolist() == [20, 20, 3]
    assert np.array_equal(rows, np.unique(rows))
    assert np.array_equal(rows, choose_rows(labels, 60, 0))
