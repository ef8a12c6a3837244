import numpy as np
import pytest
from prdc import compute_prdc

from darkroom.gan.bootstrap import select_halves
from darkroom.gan.manifold import ManifoldScores, manifold_scores, squared_distances


def score(real: np.ndarray, generated: np.ndarray) -> dict[str, float]:
    everything = np.ones((1, len(real)), bool), np.ones((1, len(generated)), bool)
    scores = manifold_scores(real, generated, *everything)
    return {name: float(getattr(scores, name)[0]) for name in ("precision", "recall", "density", "coverage")}


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.4, 0.7), (2.0, 1.5)])
def test_scores_agree_with_an_independent_implementation(shift: float, scale: float) -> None:
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(400, 6)), rng.normal(shift, scale, size=(300, 6))
    # Its k counts other images too; precision and recall come from k = 3, density and coverage from k = 5.
    three, five = (compute_prdc(real_features=real, fake_features=generated, nearest_k=k) for k in (3, 5))
    expected = {name: three[name] for name in ("precision", "recall")}
    expected |= {name: five[name] for name in ("density", "coverage")}
    assert score(real, generated) == pytest.approx(expected)


def test_scores_of_halves_are_those_of_the_halves_alone() -> None:
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(300, 4)), rng.normal(0.3, 1, size=(200, 4))
    of_real, of_generated = (select_halves(np.zeros(count, int), 5, rng) for count in (300, 200))
    scores = manifold_scores(real, generated, of_real, of_generated)
    for number, (chosen, drawn) in enumerate(zip(of_real, of_generated, strict=True)):
        alone = score(real[chosen], generated[drawn])
        assert alone == pytest.approx({name: getattr(scores, name)[number] for name in alone})


def test_planted_cases() -> None:
    rng = np.random.default_rng(0)
    real, held_out = rng.normal(size=(500, 8)), rng.normal(size=(500, 8))
    control = score(real, held_out)
    one_mode = score(real, rng.normal(1.0, 0.05, size=(500, 8)))
    noise = score(real, rng.uniform(-8, 8, size=(500, 8)))
    assert min(control["precision"], control["recall"]) > 0.7
    assert control["density"] == pytest.approx(1, abs=0.1)
    assert control["coverage"] > 0.9
    assert one_mode["recall"] < 0.05
    assert one_mode["coverage"] < 0.3
    assert noise["precision"] < 0.05
    assert noise["density"] < 0.05
    assert noise["coverage"] < 0.1


def test_too_few_images_for_a_neighbour() -> None:
    with pytest.raises(ValueError, match="more than 5 images in every selection, got 5"):
        score(np.zeros((5, 2)), np.zeros((50, 2)))


def test_squared_distances_by_hand() -> None:
    distances = squared_distances(np.array([[0.0, 0.0], [3.0, 0.0]]), np.array([[0.0, 4.0]]))
    assert distances == pytest.approx(np.array([[16.0], [25.0]]))
    assert ManifoldScores.__annotations__.keys() == {"precision", "recall", "density", "coverage"}
