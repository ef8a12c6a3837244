import math

import numpy as np
import pytest

from darkroom.errors import ConfigError, DataError
from darkroom.gate import GateConfig, Predictions, bootstrap_lower_bound, compare_accuracy, decide_cnn, decide_gan

GOOD_CNN = {"accuracy": 0.91, "macro_f1": 0.91, "lowest_recall": 0.7, "ece": 0.02}
GOOD_GAN = {"class_agreement": 0.8, "frechet_distance": 10.0}
CONFIG = GateConfig()


def predictions(right: np.ndarray) -> Predictions:
    """Answers of a two-class model that is right where `right` says so; every label is 1."""
    probabilities = np.where(right[:, None], [[0.2, 0.8]], [[0.7, 0.3]]).astype(np.float32)
    return Predictions(probabilities, np.ones(len(right), dtype=np.int64))


def pair(images: int, only_champion: int, only_candidate: int) -> tuple[Predictions, Predictions]:
    candidate, champion = np.ones(images, dtype=bool), np.ones(images, dtype=bool)
    candidate[:only_champion] = False
    champion[only_champion : only_champion + only_candidate] = False
    return predictions(candidate), predictions(champion)


def test_first_good_model_is_promoted_on_its_thresholds_alone() -> None:
    decision = decide_cnn(GOOD_CNN, pair(10, 0, 0)[0], None, CONFIG)
    assert (decision.passed, decision.promote) == (True, True)
    assert decision.reasons[0] == "accuracy 0.9100 is at least 0.85"
    assert decision.reasons[-1] == "there is no champion to compare with"


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("accuracy", 0.5),
        ("accuracy", math.nan),
        ("accuracy", math.inf),
        ("macro_f1", 0.5),
        ("macro_f1", math.nan),
        ("lowest_recall", 0.49),
        ("lowest_recall", math.nan),
        ("ece", 0.5),
        ("ece", math.nan),
        ("ece", -math.inf),
    ],
)
def test_one_bad_metric_closes_the_gate(metric: str, value: float) -> None:
    decision = decide_cnn(GOOD_CNN | {metric: value}, pair(10, 0, 0)[0], None, CONFIG)
    assert (decision.passed, decision.promote) == (False, False)
    assert sum(" is not " in reason for reason in decision.reasons) == 1


def test_a_missing_metric_closes_the_gate_and_says_so() -> None:
    metrics = {name: value for name, value in GOOD_CNN.items() if name != "ece"}
    decision = decide_cnn(metrics, pair(10, 0, 0)[0], None, CONFIG)
    assert not decision.passed
    assert "expected calibration error missing is not at most 0.1" in decision.reasons


def test_a_better_model_below_its_thresholds_is_not_promoted() -> None:
    decision = decide_cnn(GOOD_CNN | {"accuracy": 0.6}, *pair(1000, 0, 100), CONFIG)
    assert (decision.passed, decision.promote) == (False, False)


def test_an_equal_model_is_promoted_when_there_are_enough_images_to_show_it() -> None:
    decision = decide_cnn(GOOD_CNN, *pair(10_000, 100, 100), CONFIG)
    assert (decision.passed, decision.promote) == (True, True)


def test_an_equal_model_is_not_promoted_for_lack_of_evidence() -> None:
    decision = decide_cnn(GOOD_CNN, *pair(200, 5, 5), CONFIG)
    assert (decision.passed, decision.promote) == (True, False)
    assert "not above the margin -0.005" in " ".join(decision.reasons)


def test_figures_of_the_comparison_agree_with_hand_computation() -> None:
    # 10 discordant images, 8 of them right for the champion only: P(X >= 8 | 10, 1/2) = (45 + 10 + 1) / 1024.
    _, reasons = compare_accuracy(*pair(100, 8, 2), CONFIG)
    assert "-0.0600" in reasons[0]
    assert f"bootstrap {bootstrap_lower_bound(2, 8, 100, 0.05):+.4f}, which is not above" in reasons[0]
    assert f"p = {56 / 1024:.3g}" in reasons[1]


@pytest.mark.parametrize(("gained", "lost"), [(2, 8), (0, 40), (150, 150), (300, 200)])
def test_the_bootstrap_bound_is_a_quantile_of_resampled_images(gained: int, lost: int) -> None:
    # By resampling the images themselves, and for many of them by the normal approximation.
    images, rng = 1000, np.random.default_rng(1)
    outcomes = np.repeat([1, -1, 0], [gained, lost, images - gained - lost])
    resampled = [rng.choice(outcomes, images).mean() for _ in range(4000)]
    bound = bootstrap_lower_bound(gained, lost, images, 0.05)
    assert bound == pytest.approx(np.quantile(resampled, 0.05), abs=0.0015)
    deviation = math.sqrt((gained + lost) / images - ((gained - lost) / images) ** 2) / math.sqrt(images)
    assert bound == pytest.approx((gained - lost) / images - 1.644854 * deviation, abs=0.0015)


def test_identical_models_have_nothing_to_compare() -> None:
    promote, reasons = compare_accuracy(*pair(10_000, 0, 0), CONFIG)
    assert promote
    assert "p = 1 " in reasons[1]


def test_a_model_that_is_worse_beyond_chance_is_vetoed_within_the_margin() -> None:
    generous = GateConfig(max_accuracy_drop=0.2)
    promote, reasons = compare_accuracy(*pair(1000, 30, 5), generous)
    assert not promote
    assert "is above the margin" in reasons[0]
    assert "significant at 0.05" in reasons[1]


def test_predictions_for_other_images_are_refused() -> None:
    candidate, champion = pair(100, 0, 0)[0], pair(90, 0, 0)[1]
    with pytest.raises(DataError, match="different test images"):
        compare_accuracy(candidate, champion, CONFIG)


def test_generator_without_champion_needs_agreement_only() -> None:
    assert decide_gan(GOOD_GAN, None, CONFIG).promote
    assert not decide_gan(GOOD_GAN | {"class_agreement": 0.69}, None, CONFIG).passed
    assert not decide_gan(GOOD_GAN | {"class_agreement": math.nan}, None, CONFIG).passed


def test_generator_distance_counts_when_it_has_a_limit() -> None:
    assert not decide_gan(GOOD_GAN, None, GateConfig(gan_max_frechet_distance=9)).passed
    assert decide_gan(GOOD_GAN, None, GateConfig(gan_max_frechet_distance=11)).passed


@pytest.mark.parametrize(
    ("champion", "promote"),
    [
        ({"class_agreement": 0.81, "frechet_distance": 9.8}, True),
        ({"class_agreement": 0.90, "frechet_distance": 9.8}, False),
        ({"class_agreement": 0.81, "frechet_distance": 8.0}, False),
        ({"class_agreement": 0.81}, False),
    ],
)
def test_generator_replaces_a_champion_unless_it_is_much_worse(champion: dict[str, float], promote: bool) -> None:
    decision = decide_gan(GOOD_GAN, champion, CONFIG)
    assert (decision.passed, decision.promote) == (True, promote)


@pytest.mark.parametrize("field", [{"cnn_min_accuracy": 1.1}, {"significance": 0}, {"accuracy": 0.9}])
def test_thresholds_out_of_range_or_unknown_are_refused(field: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"gate.{next(iter(field))}"):
        GateConfig.parse(field, where="gate")
