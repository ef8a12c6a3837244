import math

import numpy as np
import pytest
import scipy.special

from darkroom.cnn.calibration import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE, calibrate, fit_temperature
from darkroom.cnn.metrics import calibration_bins, expected_calibration_error, log_loss

ROWS = 20_000


def draw(temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(z), and the probabilities softmax(temperature * z) of a model that misjudges them."""
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 2, (ROWS, 5))
    labels = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1)
    return labels, scipy.special.softmax(temperature * logits, axis=1)


def test_scaling_by_hand():
    # softmax(log p / 2) is proportional to the square roots.
    calibrated = calibrate(np.array([[0.64, 0.36], [0.5, 0.5]]), 2.0)
    np.testing.assert_allclose(calibrated, [[0.8 / 1.4, 0.6 / 1.4], [0.5, 0.5]])


def test_scaling_probabilities_is_scaling_logits():
    logits = np.random.default_rng(0).normal(0, 3, (50, 10))
    calibrated = calibrate(scipy.special.softmax(logits, axis=1), 1.7)
    np.testing.assert_allclose(calibrated, scipy.special.softmax(logits / 1.7, axis=1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_spoilt_the_probabilities_is_found(temperature):
    labels, probabilities = draw(temperature)
    found = fit_temperature(labels, probabilities)
    # The estimate's standard error is below 1% with this many rows.
    assert found == pytest.approx(temperature, rel=0.03)
    calibrated = calibrate(probabilities, found)
    assert expected_calibration_error(calibration_bins(labels, calibrated, 15)) < 0.01


def test_no_temperature_beside_the_fitted_one_has_a_lower_loss():
    labels, probabilities = draw(2.0)
    found = fit_temperature(labels, probabilities)
    losses = [log_loss(labels, calibrate(probabilities, found * factor)) for factor in (0.98, 1, 1.02)]
    assert min(losses) == losses[1]


def test_overconfidence_is_what_scaling_lowers():
    labels, probabilities = draw(3.0)
    before = expected_calibration_error(calibration_bins(labels, probabilities, 15))
    after = calibrate(probabilities, fit_temperature(labels, probabilities))
    assert before > 0.1
    assert expected_calibration_error(calibration_bins(labels, after, 15)) < before / 10
    assert (after.argmax(axis=1) == probabilities.argmax(axis=1)).all()


def test_sure_answers_stay_finite_and_the_search_stays_within_its_bounds():
    labels = np.array([0, 1, 2])
    right = np.eye(3, dtype=np.float32)
    # Below 0.45 the loss of these is zero in double precision: all temperatures there are as good.
    assert LOWEST_TEMPERATURE <= fit_temperature(labels, right) < 0.45
    wrong = np.roll(right, 1, axis=1)
    assert fit_temperature(labels, wrong) == pytest.approx(HIGHEST_TEMPERATURE, rel=1e-3)
    calibrated = calibrate(wrong, 2.0)
    assert calibrated.dtype == np.float32
    assert np.isfinite(calibrated).all()
    assert math.isfinite(log_loss(labels, calibrated))
