"""`dataset.yaml`: what a dataset is called, under which licence, in which files and with which classes."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from darkroom.config import StepConfig
from darkroom.errors import ConfigError, DataError

FILE_NAME = "dataset.yaml"


class SplitFiles(StepConfig):
    """The two IDX files of one split, relative to the dataset's folder."""

    images: str
    labels: str


class DatasetInfo(StepConfig):
    """The content of `dataset.yaml`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    licence: str
    source: str
    format: Literal["idx"] = "idx"
    classes: list[str] = Field(min_length=2)
    horizontal_flip: bool = Field(description="whether a mirrored image keeps its class: true for clothes, not digits")
    train: SplitFiles
    test: SplitFiles


def read_info(folder: Path) -> DatasetInfo:
    """Read `dataset.yaml` in `folder`.

    Raises:
        DataError: the file is missing, is not YAML, or breaks a rule, which is named.
    """
    path = folder / FILE_NAME
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; a dataset is a folder with a {FILE_NAME}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(values, dict):
        raise DataError(f"{path}: must be a mapping, got {type(values).__name__}")
    try:
        return DatasetInfo.parse(values)
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from None


def write_info(info: DatasetInfo, folder: Path) -> None:
    """Write `dataset.yaml` into `folder`, in field order."""
    text = yaml.safe_dump(info.model_dump(), sort_keys=False, allow_unicode=True)
    (folder / FILE_NAME).write_text(text, encoding="utf-8")
