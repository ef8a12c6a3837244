import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from darkroom.cnn import metrics

LABELS = np.array([0, 0, 1, 1, 2, 2], dtype=np.int64)
PREDICTIONS = np.array([0, 1, 1, 1, 0, 1], dtype=np.int64)


@pytest.fixture
def random_case() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 7, 500)
    logits = generator.normal(size=(500, 7)) * 2
    logits[np.arange(500), labels] += 1.5
    exponentials = np.exp(logits)
    return labels, exponentials / exponentials.sum(axis=1, keepdims=True)


def test_scores_of_a_case_computed_by_hand():
    confusion = metrics.confusion_matrix(LABELS, PREDICTIONS, 3)
    assert confusion.tolist() == [[1, 1, 0], [0, 2, 0], [1, 1, 0]]
    scores = metrics.class_scores(confusion)
    assert scores.precision.tolist() == [1 / 2, 2 / 4, 0]
    assert scores.recall.tolist() == [1 / 2, 1, 0]
    assert scores.f1.tolist() == pytest.approx([1 / 2, 2 / 3, 0])
    assert scores.support.tolist() == [2, 2, 2]
    assert metrics.macro_f1(confusion) == pytest.approx((1 / 2 + 2 / 3) / 3)
    assert metrics.accuracy(LABELS, PREDICTIONS) == 0.5


def test_log_loss_by_hand_is_finite_after_a_sure_mistake():
    labels = np.array([0, 1])
    assert metrics.log_loss(labels, np.array([[0.5, 0.5], [0.75, 0.25]])) == pytest.approx(
        (math.log(2) + math.log(4)) / 2
    )
    sure = metrics.log_loss(labels, np.array([[1, 0], [1, 0]], dtype=np.float32))
    assert sure == pytest.approx(-math.log(np.finfo(np.float32).eps) / 2)


def test_calibration_error_by_hand():
    # Two predictions in (0.5, 0.75], one of them right; two in (0.75, 1], both right.
    probabilities = np.array([[0.6, 0.4], [0.3, 0.7], [0.9, 0.1], [0.0, 1.0]])
    bins = metrics.calibration_bins(np.array([0, 0, 0, 1]), probabilities, 4)
    assert [entry.count for entry in bins] == [0, 0, 2, 2]
    assert (bins[2].confidence, bins[2].accuracy) == (pytest.approx(0.65), 0.5)
    assert (bins[3].confidence, bins[3].accuracy) == (pytest.approx(0.95), 1.0)
    assert metrics.expected_calibration_error(bins) == pytest.approx(0.5 * 0.15 + 0.5 * 0.05)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    bins = metrics.calibration_bins(np.array([0]), np.array([[0.5, 0.5]]), 2)
    assert [entry.count for entry in bins] == [1, 0]


def test_perfect_predictions_score_perfectly():
    probabilities = np.eye(4, dtype=np.float32)
    labels = np.arange(4)
    assert metrics.log_loss(labels, probabilities) == 0
    assert metrics.expected_calibration_error(metrics.calibration_bins(labels, probabilities, 15)) == 0
    assert metrics.macro_f1(metrics.confusion_matrix(labels, labels, 4)) == 1


def test_scores_agree_with_scikit_learn(random_case):
    labels, probabilities = random_case
    predictions = probabilities.argmax(axis=1)
    confusion = metrics.confusion_matrix(labels, predictions, 7)
    assert (confusion == sklearn.metrics.confusion_matrix(labels, predictions)).all()
    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(labels, predictions)
    scores = metrics.class_scores(confusion)
    np.testing.assert_allclose(scores.precision, precision)
    np.testing.assert_allclose(scores.recall, recall)
    np.testing.assert_allclose(scores.f1, f1)
    assert (scores.support == support).all()
    assert metrics.accuracy(labels, predictions) == sklearn.metrics.accuracy_score(labels, predictions)
    assert metrics.macro_f1(confusion) == pytest.approx(sklearn.metrics.f1_score(labels, predictions, average="macro"))
    assert metrics.log_loss(labels, probabilities) == pytest.approx(sklearn.metrics.log_loss(labels, probabilities))


@pytest.mark.parametrize(("successes", "trials"), [(0, 20), (20, 20), (7, 20), (9204, 10_000)])
def test_the_interval_agrees_with_scipy(successes, trials):
    expected = scipy.stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert metrics.wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_interval_says_nothing_without_trials_and_less_than_all_with_them():
    assert metrics.wilson_interval(0, 0) == (0, 1)
    lower, upper = metrics.wilson_interval(1, 1)
    assert 0 < lower < upper == 1


def test_the_interval_covers_the_truth_as_often_as_it_says():
    trials, share = 200, 0.9
    hits = np.random.default_rng(0).binomial(trials, share, 4000)
    bounds = [metrics.wilson_interval(int(hit), trials) for hit in hits]
    covered = np.mean([lower <= share <= upper for lower, upper in bounds])
    # Exactly 0.9563 for these numbers, by the binomial distribution; four standard errors of 4,000 draws.
    assert covered == pytest.approx(0.9563, abs=4 * math.sqrt(0.05 * 0.95 / 4000))


def test_the_hardest_class_is_the_first_of_the_lowest_recall_with_images():
    assert metrics.hardest_class(np.array([[8, 2, 0], [3, 7, 0], [0, 1, 9]])) == 1
    assert metrics.hardest_class(np.array([[8, 2, 0], [0, 0, 0], [3, 0, 12]])) == 0
    assert metrics.hardest_class(np.array([[0, 2], [2, 0]])) == 0


def test_a_class_without_images_counts_in_the_macro_mean():
    confusion = metrics.confusion_matrix(np.array([0, 1]), np.array([0, 1]), 3)
    assert metrics.macro_f1(confusion) == pytest.approx(2 / 3)


def test_single_precision_sums_of_confidence_fill_every_bin(random_case):
    labels, probabilities = random_case
    bins = metrics.calibration_bins(labels, probabilities.astype(np.float32), 15)
    assert sum(entry.count for entry in bins) == len(labels)
    assert all(entry.lower <= entry.confidence <= entry.upper + 1e-7 for entry in bins if entry.count)
