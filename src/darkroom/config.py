"""The base of every step's configuration."""

from collections.abc import Mapping
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from darkroom.errors import ConfigError


class StepConfig(BaseModel):
    """A frozen set of parameters: unknown keys are refused, defaults stand here and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, where: str = "", strict: bool = False) -> Self:
        """Build the configuration from plain values.

        `where` prefixes field names in the message (`cnn` gives `cnn.epochs`). `strict` refuses conversions: a person
        who writes `epochs: "3"` made a mistake, while KFP hands an integer inside a struct over as `3.0`.

        Raises:
            ConfigError: names each offending field, the rule and the value.
        """
        try:
            return cls.model_validate(dict(values), strict=strict)
        except ValidationError as error:
            raise ConfigError("\n".join(_describe(cls, problem, where) for problem in error.errors())) from None


def _describe(model: type[BaseModel], problem: Any, where: str) -> str:
    name = ".".join(str(part) for part in (where, *problem["loc"]) if part != "")
    if problem["type"] == "extra_forbidden":
        known = ", ".join(sorted(_section(model, problem["loc"][:-1]).model_fields))
        return f"{name}: unknown parameter; known here: {known}"
    return f"{name}: {problem['msg']}, got {problem['input']!r}"


def _section(model: type[BaseModel], path: tuple[str | int, ...]) -> type[BaseModel]:
    """The model of a nested section: the one that a problem's location leads to."""
    for part in path:
        if part not in model.model_fields:
            continue  # the key of a mapping or the index in a list, whose model is reached already
        annotation = model.model_fields[str(part)].annotation
        # A section that may be absent is a union with None.
        for kind in (annotation, *get_args(annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return model
