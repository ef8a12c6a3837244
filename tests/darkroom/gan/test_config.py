import subprocess
import sys
from typing import Any

import pytest

from darkroom.errors import ConfigError
from darkroom.gan.config import EvaluateGanConfig, GanConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "gan.epochs"),
        ({"batch_size": 1}, "gan.batch_size"),
        ({"generator_learning_rate": 0}, "gan.generator_learning_rate"),
        ({"discriminator_learning_rate": float("nan")}, "gan.discriminator_learning_rate"),
        ({"beta1": 1.0}, "gan.beta1"),
        ({"ema_decay": 1.0}, "gan.ema_decay"),
        ({"generator_filters": 33}, "gan.generator_filters"),
        ({"seed": -1}, "gan.seed"),
        ({"epoch": 3}, "gan.epoch: unknown parameter"),
        ({"loss": "lsgan"}, "gan.loss: Input should be 'non_saturating', 'hinge' or 'wgan_gp', got 'lsgan'"),
        ({"augmentations": ["flip"]}, "gan.augmentations.0: Input should be 'brightness', 'translation' or 'cutout'"),
        ({"augmentations": ["cutout", "cutout"]}, "augmentations names one of them twice: cutout, cutout"),
        ({"r1": -1}, "gan.r1"),
        ({"loss": "wgan_gp", "r1": 1.0}, "r1 pulls the slope .* set one of them"),
        ({"loss": "wgan_gp", "spectral_normalization": True}, "spectral_normalization and wgan_gp both bound"),
        ({"gradient_penalty": 1.0}, "gradient_penalty belongs to the loss wgan_gp, not to non_saturating"),
    ],
)
def test_values_out_of_range_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GanConfig.parse(values, where="gan")


def test_too_few_samples_to_judge() -> None:
    with pytest.raises(ConfigError, match=r"evaluate_gan\.samples"):
        EvaluateGanConfig.parse({"samples": 99}, where="evaluate_gan")


def test_importing_the_parameters_does_not_import_tensorflow() -> None:
    code = "import sys, darkroom.gan.config; print('tensorflow' in sys.modules or 'keras' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
