from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from darkroom.data.splits import read_split
from darkroom.gan.bootstrap import Interval, select_halves
from darkroom.gan.config import EvaluateGanConfig
from darkroom.gan.usefulness import Samples, Usefulness, measure_usefulness, student_interval

CONFIG = EvaluateGanConfig(classifier_steps=25, scarce_images_per_class=1, resamples=20)


def usefulness(splits: Path, samples: Samples) -> Usefulness:
    train, test = read_split(splits, "train"), read_split(splits, "test")
    halves = select_halves(test.labels, CONFIG.resamples, np.random.default_rng(0))
    return measure_usefulness(samples, train, test, halves, CONFIG)


def test_real_images_are_useful_and_wrong_labels_are_not(tiny_splits: Path) -> None:
    train = read_split(tiny_splits, "train")
    real = Samples(np.array(train.images), np.array(train.labels))
    wrong = Samples(real.images, (real.labels + 1) % 10)
    good, bad = usefulness(tiny_splits, real), usefulness(tiny_splits, wrong)
    assert good.without == bad.without
    assert good.accuracy_score.value > 0.9
    assert bad.accuracy_score.value < 0.05
    assert good.accuracy_score.lower <= good.accuracy_score.value <= good.accuracy_score.upper
    assert good.gain.value > bad.gain.value + 0.3
    assert usefulness(tiny_splits, real) == good


def test_the_interval_of_a_few_values_is_students() -> None:
    values = np.array([0.1, 0.3, 0.4])
    interval = student_interval(values, 0.95)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (interval.lower, interval.upper) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (Interval(0.1, 0.05, 0.15), "Generated images help a classifier that has 20 real images a class"),
        (Interval(-0.1, -0.15, -0.05), "Generated images do harm"),
        (Interval(0.1, -0.05, 0.25), "No difference is shown"),
    ],
)
def test_the_answer_is_given_either_way(gain: Interval, words: str) -> None:
    result = Usefulness(Interval(0.5, 0.4, 0.6), gain, [0.6, 0.7], [0.7, 0.8], 20)
    answer = result.as_json()["answer"]
    assert answer.startswith(words)
    assert "0.7500 with them and 0.6500 without" in answer
