import numpy as np

from darkroom.gan.modes import count_found, fit_modes

CENTRES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def draw(modes: list[int], rng: np.random.Generator) -> np.ndarray:
    return CENTRES[modes] + rng.normal(0, 0.3, (len(modes), 2))


def test_modes_are_found_where_samples_are() -> None:
    rng = np.random.default_rng(0)
    which = np.tile([0, 1, 2, 3], 50)
    modes = fit_modes(draw(which, rng), which // 2, 2, seed=0)  # two classes of two modes each
    assert len(modes.centres) == 4
    assert np.allclose(modes.shares, 0.25)

    def found(samples: list[int]) -> float:
        return float(count_found(modes, draw(samples, rng), np.ones((1, len(samples)), bool))[0])

    assert found([0, 1, 2, 3] * 25) == 4
    assert found([2] * 100) == 1
    assert found([0] * 50 + [3] * 50) == 2
    # A mode of a quarter of the real images that gets two of a hundred samples is as good as dropped; three will do.
    assert found([0] * 98 + [1] * 2) == 1
    assert found([0] * 97 + [1] * 3) == 2


def test_a_class_of_few_different_images_has_as_many_modes() -> None:
    features = np.array([[0.0], [0.0], [1.0], [5.0]])
    assert len(fit_modes(features, np.array([0, 0, 0, 1]), 10, seed=0).centres) == 3
