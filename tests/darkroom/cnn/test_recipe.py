import math

import keras
import numpy as np
import pytest

from darkroom.cnn.config import CnnConfig
from darkroom.cnn.recipe import (
    Phase,
    activation_bytes,
    balanced_weights,
    fit_batch_size,
    make_loss,
    make_phases,
    make_schedule,
    scale_learning_rate,
)


def test_one_cycle_rises_to_its_peak_and_falls_to_zero():
    schedule = make_schedule(CnnConfig(schedule="one_cycle"), 0.01, steps=100)
    rates = [float(schedule(step)) for step in range(101)]
    assert rates[0] == pytest.approx(0.001)
    assert max(rates) == rates[20] == pytest.approx(0.01)
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[60] == pytest.approx(0.005)
    assert rates[100] == pytest.approx(0, abs=1e-9)


def test_a_constant_schedule_is_its_number():
    assert make_schedule(CnnConfig(schedule="constant"), 0.02, steps=10) == 0.02


def test_a_single_step_has_a_schedule():
    schedule = make_schedule(CnnConfig(schedule="one_cycle"), 0.01, steps=1)
    assert math.isfinite(float(schedule(0)))


def test_loss_with_and_without_smoothing_by_hand():
    labels = np.array([0, 1])
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], dtype=np.float32))
    plain = make_loss(label_smoothing=0.0, from_logits=True)(labels, logits)
    assert float(plain) == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2)
    smoothed = np.asarray(make_loss(label_smoothing=0.3, from_logits=True)(labels, logits))
    assert smoothed == pytest.approx(
        [
            -(0.8 * math.log(0.5) + 0.1 * math.log(0.25) + 0.1 * math.log(0.25)),
            -(0.8 * math.log(0.8) + 0.2 * math.log(0.1)),
        ]
    )
    probabilities = make_loss(label_smoothing=0.3, from_logits=False)(labels, np.exp(logits))
    assert np.asarray(probabilities) == pytest.approx(smoothed, rel=1e-5)


def test_cosine_falls_from_its_peak_to_zero():
    schedule = make_schedule(CnnConfig(schedule="cosine"), 0.01, steps=100)
    assert [float(schedule(step)) for step in (0, 50, 100)] == pytest.approx([0.01, 0.005, 0.0], abs=1e-9)


def test_balanced_weights_give_every_class_the_same_weight():
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 3, 3])
    weights = balanced_weights(labels, 4)
    assert weights == pytest.approx({0: 10 / 24, 1: 10 / 8, 2: 0.0, 3: 10 / 8})
    totals = [weights[label] * (labels == label).sum() for label in (0, 1, 3)]
    assert totals == pytest.approx([2.5] * 3)


def test_activations_are_counted_with_their_gradients():
    images = keras.Input((8, 8, 1))
    features = keras.layers.Conv2D(4, 3, padding="same")(images)
    model = keras.Model(images, keras.layers.Dense(10)(keras.layers.Flatten()(features)))
    assert activation_bytes(model) == 3 * 4 * (64 + 256 + 256 + 10)


@pytest.mark.parametrize(
    ("batch_size", "budget", "images", "expected"),
    [
        (128, 128_000, 60_000, 128),  # just fits
        (128, 127_999, 60_000, 64),
        (128, 600_000, 60_000, 512),
        (128, 1e12, 60_000, 4096),
        (128, 1e12, 5_000, 256),  # ten steps of 500
        (128, 1e12, 100, 128),  # few images do not shrink what was asked for
        (3, 10, 100, 1),  # one image at a time at least
    ],
)
def test_the_batch_size_follows_the_memory(batch_size, budget, images, expected):
    assert fit_batch_size(batch_size, 1000, budget, images) == expected


def test_the_learning_rate_follows_the_batch_size():
    assert scale_learning_rate(0.1, "sgd", 4) == pytest.approx(0.4)
    assert scale_learning_rate(0.1, "adamw", 4) == pytest.approx(0.2)
    assert scale_learning_rate(0.1, "adam", 0.25) == pytest.approx(0.05)


def test_phases():
    assert make_phases(CnnConfig(epochs=5), 0.01) == [Phase(1, 5, 0.01)]

    def phases(**backbone):
        return make_phases(CnnConfig(architecture="backbone", epochs=5, backbone=backbone), 0.01)

    assert phases(frozen_epochs=2) == [Phase(1, 2, 0.01, frozen=True), Phase(3, 5, pytest.approx(0.001))]
    assert phases(frozen_epochs=0, fine_tuning_rate=1) == [Phase(1, 5, 0.01)]
    assert phases(frozen_epochs=5) == [Phase(1, 5, 0.01, frozen=True)]
