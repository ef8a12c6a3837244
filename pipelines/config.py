"""The parameters of one run: every step's configuration, a parameter file and what the command line overrides.

What a person sweeps is a typed pipeline parameter, so that it shows in KFP and MLflow. The other fields of a step's
configuration travel together, as one structured parameter that holds only those that differ from their defaults.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from darkroom.cnn.config import CnnConfig, EvaluateCnnConfig
from darkroom.config import StepConfig
from darkroom.errors import ConfigError
from darkroom.gan.config import EvaluateGanConfig, GanConfig
from darkroom.gate import GateConfig
from darkroom.preprocess import PreprocessConfig
from darkroom.registry import RegisterConfig
from darkroom.validation.config import ValidateConfig
from pipelines.yaml_file import read_yaml

SWEPT = {
    "cnn": ("architecture", "optimizer", "epochs", "batch_size", "learning_rate"),
    "gan": ("epochs", "batch_size", "generator_learning_rate", "discriminator_learning_rate"),
}


class RunConfig(StepConfig):
    """Everything that a run's result depends on, besides the data and the code."""

    seed: int = Field(0, ge=0, lt=2**31, description="the seed of every step")
    validation: ValidateConfig = ValidateConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    cnn: CnnConfig = CnnConfig()
    evaluate_cnn: EvaluateCnnConfig = EvaluateCnnConfig()
    gan: GanConfig = GanConfig()
    evaluate_gan: EvaluateGanConfig = EvaluateGanConfig()
    gate: GateConfig = GateConfig()
    registration: RegisterConfig = RegisterConfig()

    def arguments(self) -> dict[str, Any]:
        """The pipeline's arguments: `seed`, `<section>_<field>` for what is swept, `<section>_options` for the rest."""
        arguments: dict[str, Any] = {"seed": self.seed}
        for section, config in self:
            if not isinstance(config, StepConfig):
                continue
            swept = {field: getattr(config, field) for field in SWEPT.get(section, ())}
            arguments |= {f"{section}_{field}": value for field, value in swept.items()}
            # Not against the fields' defaults: an architecture brings its own.
            usual = type(config).parse(swept).model_dump()
            arguments[f"{section}_options"] = {
                field: value
                for field, value in config.model_dump(exclude={*swept, "seed"}).items()
                if value != usual[field]
            }
        return arguments


def load(file: Path | None, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a parameter file and apply overrides of the form `section.field=value`, the value as YAML.

    Raises:
        ConfigError: names the file or the override, the field, the rule and the value.
    """
    values = _read(file) if file else {}
    for override in overrides:
        _apply(override, values)
    source = f"{file}: " if file else ""
    try:
        return RunConfig.parse(values, strict=True)
    except ConfigError as error:
        raise ConfigError(f"{source}{error}") from None


def _read(file: Path) -> dict[str, Any]:
    values = read_yaml(file)
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{file}: must be a mapping of sections, got {values!r}")
    return {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _apply(override: str, values: dict[str, Any]) -> None:
    path, equals, text = override.partition("=")
    *sections, field = path.strip().split(".")
    if not equals or not all([*sections, field]):
        raise ConfigError(f"--set {override}: write it as section.field=value, for example cnn.epochs=3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: the value {text!r} is not readable as YAML") from None
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override}: {section} has no fields")
    values[field] = value
