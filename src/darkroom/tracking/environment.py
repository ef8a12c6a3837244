"""Where a process records: resolved from its environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DATABASE_NAME = "mlflow.db"
ARTIFACTS_NAME = "mlartifacts"
SERVER_PATIENCE = 10.0
# A new database is migrated when it is first opened: 3 s on two idle cores, several times that on busy ones.
DATABASE_PATIENCE = 60.0


@dataclass(frozen=True)
class TrackingSettings:
    """Where runs go. `run_id` names a run that exists and is resumed; `parent_run_id` one to open nested runs below.

    `pipeline_run` is the pipeline run's id in Kubeflow; where no parent is named, the runs of its steps find theirs by
    it. `patience` is the longest time in seconds that one step waits for MLflow in all. With `enabled` false nothing is
    recorded.
    """

    tracking_uri: str
    run_id: str | None = None
    parent_run_id: str | None = None
    pipeline_run: str | None = None
    experiment: str = "darkroom"
    patience: float = SERVER_PATIENCE
    enabled: bool = True

    @property
    def artifact_root(self) -> Path | None:
        """Where a new experiment of an SQLite store keeps its files: beside the database; None for a server."""
        database = self.tracking_uri.removeprefix("sqlite:///")
        return None if database == self.tracking_uri else Path(database).absolute().parent / ARTIFACTS_NAME


def settings(environment: Mapping[str, str], directory: Path | None = None) -> TrackingSettings:
    """Resolve where this process records, from the variables in `environment`, in this order.

    1. `MLFLOW_RUN_ID`: Kubeflow's own MLflow integration opened the run; it is resumed.
    2. `MLFLOW_TRACKING_URI`: a run is opened, nested below `DARKROOM_PARENT_RUN_ID` where that is set, and otherwise
       below the run that stands for the pipeline run `DARKROOM_KFP_RUN_ID`, which the first step makes.
    3. Otherwise an SQLite database in `directory`, by default the working directory.

    `MLFLOW_EXPERIMENT_NAME` names the experiment of runs that have no parent. `DARKROOM_TRACKING=off` records nothing.
    """
    folder = Path() if directory is None else directory
    uri = environment.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.absolute() / DATABASE_NAME}"
    return TrackingSettings(
        tracking_uri=uri,
        run_id=environment.get("MLFLOW_RUN_ID") or None,
        parent_run_id=environment.get("DARKROOM_PARENT_RUN_ID") or None,
        pipeline_run=environment.get("DARKROOM_KFP_RUN_ID") or None,
        experiment=environment.get("MLFLOW_EXPERIMENT_NAME") or TrackingSettings.experiment,
        patience=DATABASE_PATIENCE if uri.startswith("sqlite:") else SERVER_PATIENCE,
        enabled=environment.get("DARKROOM_TRACKING", "").lower() != "off",
    )
