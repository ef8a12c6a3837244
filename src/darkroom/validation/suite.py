"""The expectation suite: `suite.yaml` read, its placeholders filled in, made into Great Expectations objects."""

import re
from collections.abc import Mapping
from importlib import resources
from typing import Any, Literal

import pandas as pd
import yaml
from pydantic import Field

from darkroom.config import StepConfig
from darkroom.validation.config import ValidateConfig
from darkroom.validation.gx import Column, Expectation, ExpectationConfiguration, ExpectationSuite
from darkroom.validation.report import Severity, as_text
from darkroom.validation.table import COLUMNS, NOT_VALIDATED

_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")


class Entry(StepConfig):
    """One entry of `suite.yaml`, which explains the fields."""

    id: str = Field(pattern=r"^[a-z]+(-[a-z]+)*$")
    expectation: str = Field(pattern="^expect_")
    columns: tuple[str, ...] = ()
    rows: Literal["train", "test"] | None = None
    kwargs: dict[str, Any] = Field(default_factory=dict)
    tolerance: float | str = 0.0
    severity: Severity
    why: str


def read_entries() -> list[Entry]:
    """Read `suite.yaml`, in its order, placeholders as they stand."""
    text = resources.files(__package__).joinpath("suite.yaml").read_text(encoding="utf-8")
    return [Entry.parse(values) for values in yaml.safe_load(text)]


def dataset_facts(table: pd.DataFrame, images: int, classes: list[str], config: ValidateConfig) -> dict[str, Any]:
    """Collect what placeholders may name: the limits, and facts of the dataset.

    `images` is the number of images that the files hold. The sizes are those of the first image; `train_mean` is the
    mean intensity of the training images, in levels.
    """
    first = table.iloc[0]
    train_mean = float(table.loc[table["source"] == "train", "mean"].mean())
    return {
        **config.model_dump(),
        "columns": [name for name in COLUMNS if name != NOT_VALIDATED],
        "classes": classes,
        "labels": list(range(len(classes))),
        "images": images,
        **{name: int(first[name]) for name in ("width", "height", "channels")},
        "train_mean": train_mean,
        "train_mean_low": train_mean - config.max_intensity_shift,
        "train_mean_high": train_mean + config.max_intensity_shift,
    }


def build_suite(name: str, facts: Mapping[str, Any]) -> ExpectationSuite:
    """Make the suite; every expectation carries its `id` and `why` in `meta`."""
    return ExpectationSuite(
        name=name,
        expectations=[expectation for entry in read_entries() for expectation in _expectations(entry, facts)],
    )


def _expectations(entry: Entry, facts: Mapping[str, Any]) -> list[Expectation]:
    kwargs = resolve(entry.kwargs, facts)
    if entry.rows is not None:
        kwargs["row_condition"] = Column("source") == entry.rows
    if entry.tolerance != 0.0:
        # Rounding removes the subtraction's error (1 - 0.9 is not 0.1): a dataset exactly at its limit passes.
        kwargs["mostly"] = round(1 - resolve(entry.tolerance, facts), 12)
    if not entry.columns:
        return [_expectation(entry, entry.id, kwargs, facts)]
    suffixes = [f".{column}" if len(entry.columns) > 1 else "" for column in entry.columns]
    return [
        _expectation(entry, entry.id + suffix, {"column": column, **kwargs}, facts)
        for column, suffix in zip(entry.columns, suffixes, strict=True)
    ]


def _expectation(entry: Entry, name: str, kwargs: dict[str, Any], facts: Mapping[str, Any]) -> Expectation:
    why = resolve(entry.why, facts)
    return ExpectationConfiguration(
        type=entry.expectation,
        kwargs=kwargs,
        severity=entry.severity,
        # Data Docs shows the description in place of a sentence of its own, in which neither id nor reason occurs.
        description=f"{name} ({entry.severity}): {why}",
        meta={"id": name, "why": why},
    ).to_domain_obj()


def resolve(value: Any, facts: Mapping[str, Any]) -> Any:
    """Fill in `${name}`: a value that is nothing but one placeholder keeps the fact's type, others become text.

    Raises:
        KeyError: no such fact.
    """
    if isinstance(value, dict):
        return {key: resolve(item, facts) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, facts) for item in value]
    if not isinstance(value, str):
        return value
    alone = _PLACEHOLDER.fullmatch(value)
    if alone:
        return facts[alone[1]]
    return _PLACEHOLDER.sub(lambda match: as_text(facts[match[1]]), value)
