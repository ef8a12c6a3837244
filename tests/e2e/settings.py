"""What the command line says about the cluster and the test."""

import argparse
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PARAMS = Path(__file__).parents[2] / "pipelines" / "params" / "smoke.yaml"


@dataclass(frozen=True)
class Settings:
    """One test. `identity` is in the name of everything that it makes and in its data."""

    overlay: str
    with_kubeflow: bool
    images: str
    tag: str
    pull_policy: str
    simulate_gpu: bool
    keep: bool
    endpoint: str
    mlflow: str
    object_store: str
    bucket: str
    params: Path
    overrides: tuple[str, ...]
    summary: Path | None
    ready_seconds: float
    run_seconds: float
    identity: str

    @property
    def experiment(self) -> str:
        """Name of the experiment of the runs that are submitted."""
        return f"darkroom-e2e-{self.identity}"

    @property
    def schedules(self) -> str:
        """Name of the experiment of the schedule's runs."""
        return f"{self.experiment}-schedules"

    @property
    def models(self) -> tuple[str, str]:
        """Names of the models that the test registers."""
        return f"digits-cnn-e2e-{self.identity}", f"digits-gan-e2e-{self.identity}"

    @property
    def all_overrides(self) -> tuple[str, ...]:
        """The overrides of the command line, and the test's own."""
        return (*self.overrides, f"registration.name_suffix=-e2e-{self.identity}")


def read_settings(arguments: Sequence[str] | None = None) -> Settings:
    """Read the command line; ends the process with status 2 where it cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.e2e",
        description="Prove an installation on the cluster of KUBECONFIG. KFP_ENDPOINT and KFP_TOKEN are optional.",
    )
    add = parser.add_argument
    add("--images", required=True, help="repository of the images")
    add("--tag", required=True, help="their tag, a git commit")
    add("--pull-policy", choices=("Always", "IfNotPresent", "Never"), default="IfNotPresent")
    add("--overlay", choices=("kind", "production"), default="kind", help="overlay that infra/install installs")
    add("--with-kubeflow", action="store_true", help="let infra/install install KFP as well")
    add("--simulate-gpu", action="store_true", help="give a node GPUs in name where no node has one")
    add("--keep", action="store_true", help="leave the overlay in place at the end")
    add("--mlflow", default="", help="address of MLflow; by default a port is forwarded")
    add("--object-store", default="", help="address of the S3 store; by default a port is forwarded")
    add("--bucket", default="darkroom", help="its bucket in which KFP keeps artifacts")
    add("--params", type=Path, default=PARAMS, help="parameter file of the runs")
    add("--set", action="append", default=[], dest="overrides", metavar="SECTION.FIELD=VALUE")
    add("--summary", type=Path, help="summary.json of a local run to compare with; by default one is made")
    add("--ready-seconds", type=float, default=900.0, help="bound for the installation")
    add("--run-seconds", type=float, default=3600.0, help="bound for each pipeline run")
    values = vars(parser.parse_args(arguments))
    for option in ("params", "summary"):
        if values[option] is not None:
            values[option] = values[option].resolve()
            if not values[option].is_file():
                parser.error(f"--{option} {values[option]}: no such file")
    values["overrides"] = tuple(values["overrides"])
    return Settings(**values, endpoint=os.environ.get("KFP_ENDPOINT", ""), identity=uuid.uuid4().hex[:8])
