"""Tracking: one MLflow run per pipeline run, one nested run per step. Best effort by design.

A step must neither fail nor wait for minutes because a tracking server is slow or gone. So everything that a step
records is handed to one background thread that sends it in order; the step itself waits only when its run is opened
and when it is closed, and never longer than `TrackingSettings.patience` seconds in all. When that is used up, or MLflow
answers with an error, a `TrackingWarning` says so once and the step goes on with a run that accepts everything and
records nothing.

Only MLflow's client interface is used, never `mlflow.start_run`: there is no active run in the process, so MLflow has
nothing to take `MLFLOW_RUN_ID` from, nor a stray run to open.
"""

from darkroom.tracking.courier import TrackingWarning, connect
from darkroom.tracking.environment import ARTIFACTS_NAME, DATABASE_NAME, TrackingSettings, settings
from darkroom.tracking.failures import in_words
from darkroom.tracking.runs import (
    RunStatus,
    StepRun,
    close_parent,
    experiment_id,
    log_cached_step,
    open_parent,
    step_run,
)

__all__ = [
    "ARTIFACTS_NAME",
    "DATABASE_NAME",
    "RunStatus",
    "StepRun",
    "TrackingSettings",
    "TrackingWarning",
    "close_parent",
    "connect",
    "experiment_id",
    "in_words",
    "log_cached_step",
    "open_parent",
    "settings",
    "step_run",
]
