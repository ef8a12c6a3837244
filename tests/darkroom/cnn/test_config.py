import subprocess
import sys

import pytest

from darkroom.cnn.config import RECIPES, CnnConfig, EvaluateCnnConfig
from darkroom.errors import ConfigError


def test_the_tutorial_architectures_bring_their_own_recipe():
    mnist = CnnConfig(architecture="mnist_cnn")
    assert (mnist.optimizer, mnist.epochs, mnist.batch_size) == ("adam", 5, 64)
    assert (mnist.crop_padding, mnist.horizontal_flip, mnist.label_smoothing) == (0, False, 0)
    cifar = CnnConfig(architecture="cifar_cnn")
    assert (cifar.optimizer, cifar.epochs, cifar.batch_size) == ("adam", 10, 32)


def test_a_given_value_wins_over_the_recipe():
    config = CnnConfig.parse({"architecture": "mnist_cnn", "epochs": 2}, strict=True)
    assert (config.epochs, config.batch_size) == (2, 64)


def test_recipes_name_every_architecture_and_known_fields_only():
    for architecture, recipe in RECIPES.items():
        whole = {**CnnConfig().model_dump(), **recipe, "architecture": architecture}
        assert CnnConfig(architecture=architecture) == CnnConfig(**whole)


def test_a_dumped_config_reads_back_the_same():
    config = CnnConfig(architecture="cifar_cnn", optimizer="sgd")
    assert CnnConfig.parse(config.model_dump()) == config


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "architecture",
            "resnet",
            r"cnn\.architecture: .*'mnist_cnn', 'cifar_cnn' or 'backbone', got 'resnet'",
        ),
        ("optimizer", "lion", r"cnn\.optimizer: .*'adam', 'adamw', 'rmsprop' or 'sgd', got 'lion'"),
        ("architecture", ["mnist_cnn"], r"cnn\.architecture: "),
        ("epochs", 0, r"cnn\.epochs: .*greater than or equal to 1, got 0"),
        ("epochs", "3", r"cnn\.epochs: .*valid integer, got '3'"),
        ("learning_rate", 0.0, r"cnn\.learning_rate: .*greater than 0"),
        ("learning_rate", float("nan"), r"cnn\.learning_rate: "),
        ("label_smoothing", 1.0, r"cnn\.label_smoothing: .*less than 1"),
        ("crop_padding", -1, r"cnn\.crop_padding: "),
        ("momentum", 0.5, r"cnn\.momentum: unknown parameter; known here: architecture, "),
    ],
)
def test_a_wrong_value_is_named_with_its_rule(field, value, message):
    with pytest.raises(ConfigError, match=message):
        CnnConfig.parse({field: value}, where="cnn", strict=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backbone": {}}, "backbone belongs to the architecture backbone, and to no other"),
        ({"architecture": "backbone", "backbone": None}, "backbone belongs to the architecture backbone"),
        (
            {"architecture": "backbone", "epochs": 2, "backbone": {"frozen_epochs": 3}},
            "frozen_epochs must not exceed epochs, which is 2",
        ),
        ({"architecture": "backbone", "backbone": {"name": "VGG16"}}, r"cnn\.backbone\.name: .*got 'VGG16'"),
        ({"architecture": "backbone", "backbone": {"sise": 64}}, r"cnn\.backbone\.sise: unknown parameter"),
    ],
)
def test_a_combination_that_cannot_work_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        CnnConfig.parse(values, where="cnn", strict=True)


def test_evaluation_refuses_a_single_calibration_bin():
    with pytest.raises(ConfigError, match="calibration_bins"):
        EvaluateCnnConfig.parse({"calibration_bins": 1})


def test_configuration_imports_no_tensorflow():
    code = "import sys, darkroom.cnn.config; sys.exit(any(m in sys.modules for m in ('tensorflow', 'keras', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
