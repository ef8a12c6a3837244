import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from darkroom.data.digits import write_digits
from darkroom.data.versions import make_repository

SMALL = (
    "preprocess.images_per_class=40",
    "cnn.epochs=1",
    "gan.epochs=1",
    "gan.generator_filters=8",
    "gan.discriminator_filters=8",
    "evaluate_gan.samples=100",
    "evaluate_gan.reference_epochs=1",
    "evaluate_gan.resamples=20",
    "evaluate_gan.classifier_steps=2",
)


class Checkout:
    """A git repository with the digits pinned in it, and the command line run inside of it as a person would.

    `variables` are what the person has set; nothing else of MLflow's or Darkroom's is in the environment.
    """

    def __init__(self, root: Path, variables: Mapping[str, str] = MappingProxyType({})) -> None:
        self.root = root
        self.variables = variables

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pipelines.cli", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DARKROOM_"))}
        return {**kept, "COLUMNS": "120", **self.variables}

    def darkroom(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=280
        )

    def run(self, overrides: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        settings = [argument for override in (*SMALL, *overrides) for argument in ("--set", override)]
        return self.darkroom("run", *settings)

    @property
    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads((self.root / "runs" / "latest" / "summary.json").read_text())
        return summary

    def outcomes(self) -> dict[str, str]:
        return {step["name"]: "cached" if step["cached"] else step["status"] for step in self.summary["steps"]}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    root = tmp_path_factory.mktemp("checkout")
    write_digits(root / "data")
    make_repository(root)
    return Checkout(root)
