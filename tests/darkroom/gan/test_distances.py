import numpy as np
import pytest
from scipy.linalg import sqrtm

from darkroom.gan.bootstrap import Interval, select_halves
from darkroom.gan.distances import frechet_distance, frechet_distances, gaussian_frechet_distance, kernel_distances


def test_distance_of_one_dimensional_gaussians() -> None:
    # (m_a - m_b)^2 + (s_a - s_b)^2 with means 1 and 4, standard deviations 2 and 7.
    one = np.ones(1)
    distance = gaussian_frechet_distance(1 * one, np.array([[4.0]]), 4 * one, np.array([[49.0]]))
    assert distance == pytest.approx(3**2 + 5**2)


def test_distance_of_diagonal_gaussians() -> None:
    deviations_a, deviations_b = np.array([1.0, 2.0, 0.0]), np.array([3.0, 2.0, 5.0])
    mean_a, mean_b = np.array([0.0, 1.0, 0.0]), np.array([0.0, -1.0, 2.0])
    distance = gaussian_frechet_distance(mean_a, np.diag(deviations_a**2), mean_b, np.diag(deviations_b**2))
    assert distance == pytest.approx((4 + 4) + (2**2 + 0 + 5**2))


@pytest.mark.parametrize("rank", [20, 5])
def test_distance_agrees_with_the_general_matrix_root(rank: int) -> None:
    random = np.random.default_rng(0)
    real = random.normal(size=(400, 20)) @ random.normal(size=(20, 20))
    generated = random.normal(size=(300, rank)) @ random.normal(size=(rank, 20)) + 0.5
    cov_real, cov_generated = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    root = sqrtm(cov_real @ cov_generated)
    gap = real.mean(axis=0) - generated.mean(axis=0)
    expected = gap @ gap + np.trace(cov_real) + np.trace(cov_generated) - 2 * np.trace(root).real
    assert frechet_distance(real, generated) == pytest.approx(expected, rel=1e-5)


def test_distance_to_itself_is_zero_even_with_dead_features() -> None:
    features = np.random.default_rng(0).normal(size=(50, 8))
    features[:, 3] = 0
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)


def test_distance_is_symmetric_and_grows_with_the_shift() -> None:
    random = np.random.default_rng(0)
    real, generated = random.normal(size=(200, 6)), 2 * random.normal(size=(100, 6))
    assert frechet_distance(real, generated) == pytest.approx(frechet_distance(generated, real))
    assert frechet_distance(real, real + 1) == pytest.approx(6)


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="two rows"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))


def kernel(x: np.ndarray, y: np.ndarray) -> float:
    return float((x @ y / len(x) + 1) ** 3)


def test_kernel_distance_agrees_with_its_definition() -> None:
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(30, 4)), rng.normal(0.5, 1, size=(20, 4))
    of_real = select_halves(np.zeros(30, int), 2, rng)
    of_generated = select_halves(np.zeros(20, int), 2, rng)
    expected = []
    for chosen, drawn in zip(of_real, of_generated, strict=True):
        x, y = real[chosen], generated[drawn]
        within_x = np.mean([kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
        within_y = np.mean([kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
        across = np.mean([kernel(a, b) for a in x for b in y])
        expected.append(within_x + within_y - 2 * across)
    assert kernel_distances(real, generated, of_real, of_generated) == pytest.approx(expected)


def test_kernel_distance_of_equal_distributions_is_zero_on_average() -> None:
    rng = np.random.default_rng(0)
    everything = np.ones((1, 200), bool)
    values = [
        kernel_distances(rng.normal(size=(200, 8)), rng.normal(size=(200, 8)), everything, everything)[0]
        for _ in range(200)
    ]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    shifted = kernel_distances(rng.normal(size=(200, 8)), rng.normal(0.5, 1, (200, 8)), everything, everything)[0]
    assert shifted > np.max(values)


def test_the_interval_of_a_frechet_distance_holds_that_of_many_images() -> None:
    # Two Gaussians whose distance is known: d^2 = F * 0.3^2 for equal covariances.
    rng = np.random.default_rng(0)
    strata = np.zeros(2000, int)
    real, generated = rng.normal(size=(2000, 4)), rng.normal(0.3, 1, size=(2000, 4))
    halves = select_halves(strata, 100, rng), select_halves(strata, 100, rng)
    interval = Interval.of(frechet_distances(real, generated, *halves), 0.95)
    assert interval.value == frechet_distance(real, generated)
    assert interval.lower < 4 * 0.3**2 < interval.upper
    assert interval.upper - interval.lower < 0.25
