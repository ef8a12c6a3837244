import inspect
from pathlib import Path

import pytest

from darkroom.cnn.config import CnnConfig
from darkroom.data.digits import write_digits
from darkroom.errors import ConfigError
from darkroom.gan.config import GanConfig
from darkroom.preprocess import preprocess
from pipelines.config import SWEPT, RunConfig, load
from pipelines.pipeline import define_pipeline

PARAMETERS = Path(__file__).parents[2] / "pipelines" / "params"
PARAMETER_FILES = sorted(PARAMETERS.glob("*.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cnn: {epoch: 3}", "cnn.epoch: unknown parameter; known here: architecture,"),
        ("cnnn: {epochs: 3}", "cnnn: unknown parameter; known here: cnn,"),
        ('cnn: {epochs: "3"}', "cnn.epochs: Input should be a valid integer, got '3'"),
        ("cnn: {epochs: 0}", "cnn.epochs: Input should be greater than or equal to 1, got 0"),
        (
            "cnn: {architecture: resnet}",
            "cnn.architecture: Input should be 'darkroom_cnn', 'darkroom_resnet', 'mnist_cnn', 'cifar_cnn' or "
            "'backbone', got 'resnet'",
        ),
        ("cnn: {optimizer: lion}", "cnn.optimizer: Input should be 'adam', 'adamw', 'rmsprop' or 'sgd', got 'lion'"),
        ("cnn: 3", "cnn: Input should be a valid dictionary or instance of CnnConfig, got 3"),
        ("- cnn", "must be a mapping of sections"),
        ("cnn: [", "not readable as YAML"),
    ],
)
def test_a_bad_parameter_file_is_named_with_the_field_the_rule_and_the_value(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(file)
    assert str(file) in str(error.value)
    assert message in str(error.value)


def test_every_problem_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("cnn: {epochs: 0}\ngan: {batch_size: 1}")
    with pytest.raises(ConfigError, match=r"cnn\.epochs(.|\n)*gan\.batch_size"):
        load(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read: No such file"):
        load(tmp_path / "absent.yaml")


@pytest.mark.parametrize("override", ["cnn.epochs", "=3", "cnn.epochs=[", "seed.x=1"])
def test_a_malformed_override_is_repeated_in_the_message(override: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(None, ["seed=1", override])
    assert override in str(error.value)


def test_overrides_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("seed: 7\ncnn: {epochs: 2, batch_size: 32}")
    config = load(file, ["cnn.epochs=3", "gan.ema_decay=0.5"])
    assert (config.seed, config.cnn.epochs, config.cnn.batch_size, config.gan.ema_decay) == (7, 3, 32, 0.5)
    assert config.cnn.optimizer == RunConfig().cnn.optimizer


def test_arguments_are_typed_where_swept_and_hold_only_changes_elsewhere() -> None:
    arguments = load(None, ["cnn.epochs=3", "cnn.label_smoothing=0.0"]).arguments()
    assert arguments["cnn_epochs"] == 3
    assert arguments["cnn_options"] == {"label_smoothing": 0.0}
    assert arguments["gan_options"] == {}


def test_an_architecture_brings_its_own_recipe() -> None:
    arguments = load(None, ["cnn.architecture=mnist_cnn"]).arguments()
    assert (arguments["cnn_epochs"], arguments["cnn_batch_size"], arguments["cnn_optimizer"]) == (5, 64, "adam")


def test_an_override_reaches_into_nested_sections() -> None:
    config = load(None, ["cnn.architecture=backbone", "cnn.backbone.size=64", "cnn.backbone.weights=random"]).cnn
    assert config.backbone is not None
    assert (config.backbone.size, config.backbone.weights, config.backbone.name) == (64, "random", "MobileNetV3Small")
    with pytest.raises(ConfigError, match=r"cnn\.backbone\.sise: unknown parameter; known here: fine_tuning_rate,"):
        load(None, ["cnn.architecture=backbone", "cnn.backbone.sise=64"])


@pytest.mark.parametrize(
    "overrides",
    [
        ["cnn.architecture=mnist_cnn", f"cnn.dropout={CnnConfig().dropout}"],
        ["cnn.architecture=backbone", "cnn.backbone.size=64"],
        ["gan.loss=hinge", "gan.augmentations=[cutout]"],
    ],
)
def test_a_step_rebuilds_the_configuration_from_its_arguments(overrides: list[str]) -> None:
    config = load(None, overrides)
    arguments = config.arguments()
    for section, model in (("cnn", CnnConfig), ("gan", GanConfig)):
        swept = {field: arguments[f"{section}_{field}"] for field in SWEPT[section]}
        rebuilt = model.parse({**arguments[f"{section}_options"], **swept, "seed": 0})
        assert rebuilt == getattr(config, section)


def test_the_pipeline_takes_every_argument_and_has_the_same_defaults() -> None:
    pipeline = define_pipeline(lambda task: task)
    parameters = inspect.signature(pipeline.pipeline_func).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    from_caller = {"repository", "revision", "data_md5"}
    assert {name: value for name, value in defaults.items() if name not in from_caller} == RunConfig().arguments()


@pytest.mark.parametrize("file", PARAMETER_FILES, ids=lambda file: file.name)
def test_the_parameter_files_load_and_open_with_their_command(file: Path) -> None:
    load(file)
    assert "darkroom run --params" in file.read_text().splitlines()[0] or "make run" in file.read_text().splitlines()[0]


def test_the_smoke_run_fits_the_digits_that_a_run_may_fall_back_on(tmp_path: Path) -> None:
    write_digits(tmp_path / "raw")
    config = load(PARAMETERS / "smoke.yaml").preprocess
    counts = preprocess(tmp_path / "raw", config, tmp_path / "splits")
    assert counts["train"] + counts["validation"] == 10 * (config.images_per_class or 0)
