import numpy as np
import pytest

from darkroom.gan.bootstrap import Interval, means, select_halves


def test_halves_take_half_of_every_class_once_and_the_first_selection_takes_all() -> None:
    labels = np.repeat([0, 1, 2], [10, 21, 4])
    selections = select_halves(labels, 200, np.random.default_rng(0))
    assert selections.shape == (201, 35)
    assert selections[0].all()
    counts = np.array([[row[labels == label].sum() for label in range(3)] for row in selections[1:]])
    assert set(counts[:, 0]) == {5}
    assert set(counts[:, 1]) == {10, 11}
    assert counts[:, 1].mean() == pytest.approx(10.5, abs=0.15)
    assert set(counts[:, 2]) == {2}
    assert selections[1:].mean(axis=0).min() > 0.3


def test_means_by_hand_and_of_nothing() -> None:
    selections = np.array([[True, True, True], [True, False, True], [False, False, False]])
    values = means(np.array([1.0, 2.0, 6.0]), selections)
    assert values[:2] == pytest.approx([3.0, 3.5])
    assert np.isnan(values[2])


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=4000)
    selections = select_halves(np.zeros(4000, int), 1000, rng)
    interval = Interval.of(means(values, selections), 0.95)
    assert interval.value == pytest.approx(values.mean())
    expected = 2 * 1.96 * values.std() / np.sqrt(4000)
    assert interval.upper - interval.lower == pytest.approx(expected, rel=0.1)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        values = rng.random(300) < 0.8
        interval = Interval.of(means(values, select_halves(np.zeros(300, int), 200, rng)), 0.9)
        covered += interval.lower <= 0.8 <= interval.upper
    assert 0.84 <= covered / 200 <= 0.96


def test_an_interval_ends_at_the_range_of_its_statistic() -> None:
    values = np.array([0.99, 0.9, 1.0, 0.95, 1.0])
    interval = Interval.of(values, 0.9, most=1.0)
    assert interval.upper == 1.0
    assert interval.lower < 0.99
