import numpy as np
import pytest

from darkroom.gan.memorisation import find_nearest, memorisation_scores, most_suspicious


def draw(count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)


def score(samples: np.ndarray, training: np.ndarray, held_out: np.ndarray) -> float:
    nearest = find_nearest(samples, training, held_out)
    everything = [np.ones((1, len(part)), bool) for part in (training, held_out, samples)]
    return float(memorisation_scores(nearest, *everything)[0])


def test_nearest_images_by_hand() -> None:
    def images(*values: int) -> np.ndarray:
        return np.array(values, np.uint8).reshape(-1, 1, 1, 1)

    nearest = find_nearest(images(0, 100, 255), images(10, 90), images(250))
    assert nearest.rows[:, 0].tolist() == [0, 1, 2]
    assert nearest.distances[:, 0] == pytest.approx((np.array([10, 10, 5]) / 255) ** 2, rel=1e-4)
    assert most_suspicious(nearest, 2).tolist() in ([0, 1], [1, 0])


def test_planted_cases() -> None:
    rng = np.random.default_rng(0)
    training, held_out = draw(600, rng), draw(200, rng)
    assert score(training[:300], training, held_out) == 1  # copies
    assert score(held_out, training, held_out) < -2  # copies of what was never trained on
    honest = score(draw(2000, rng), training, held_out)
    assert abs(honest) < 0.15  # three standard errors of a share of 0.75 among 2,000, divided by 0.25
    noisy = training[:300].astype(int) + rng.integers(-10, 11, (300, 4, 4, 1))
    assert score(np.clip(noisy, 0, 255).astype(np.uint8), training, held_out) > 0.95  # copies with noise


def test_a_tenth_of_copies_is_seen() -> None:
    rng = np.random.default_rng(0)
    training, held_out = draw(600, rng), draw(600, rng)
    samples = np.concatenate([training[:200], draw(1800, rng)])
    assert score(samples, training, held_out) == pytest.approx(0.1, abs=0.07)


def test_each_selection_compares_with_its_own_images() -> None:
    rng = np.random.default_rng(0)
    training, held_out, samples = draw(40, rng), draw(20, rng), draw(30, rng)
    nearest = find_nearest(samples, training, held_out)
    choices = [rng.random((3, len(part))) < 0.7 for part in (training, held_out, samples)]
    scores = memorisation_scores(nearest, *choices)
    for number in range(3):
        chosen, seen, drawn = (
            part[choice[number]] for part, choice in zip((training, held_out, samples), choices, strict=True)
        )
        assert scores[number] == pytest.approx(score(drawn, chosen, seen))
