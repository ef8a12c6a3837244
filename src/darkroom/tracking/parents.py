"""The run of a whole pipeline run, on a cluster where Kubeflow's own integration does not open one.

Every step knows the pipeline run's id in Kubeflow, and none is sure to be the first: a step from the cache starts no
pod, and branches start at the same moment. MLflow cannot create a run "unless there is one". So a step that finds no
parent makes one and looks again. Where there are several then, everybody chooses the same, the earliest; what lies
below another one is moved there, and the other one is deleted. A step looks once more when it ends, when all that
started beside it have long become visible.
"""

from collections.abc import Mapping
from typing import Any

PIPELINE_TAG = "darkroom.pipeline_run"
PARENT_TAG = "mlflow.parentRunId"
STEP_TAG = "darkroom.step"


def find_or_open_parent(client: Any, experiment: str, pipeline_run: str, tags: Mapping[str, str]) -> str:
    """The id of the run that stands for `pipeline_run`, open; made where there is none.

    It gets those of a step's `tags` that hold for the whole pipeline run, each from the first step that knows it.
    """
    common = {key: value for key, value in tags.items() if key not in (STEP_TAG, "darkroom.image")}
    parent = _settle(client, experiment, pipeline_run)
    if parent is None:
        made = client.create_run(experiment, run_name=pipeline_run, tags={**common, PIPELINE_TAG: pipeline_run})
        parent = _settle(client, experiment, pipeline_run) or made
    for key, value in common.items():
        if not parent.data.tags.get(key):
            client.set_tag(parent.info.run_id, key, value)
    if parent.info.status != "RUNNING":
        client.update_run(parent.info.run_id, status="RUNNING")
    return str(parent.info.run_id)


def leave_parent(client: Any, pipeline_run: str, step_run: str) -> None:
    """After a step's run has ended: see that it lies below the right parent, and close that when it was the last.

    The parent's status follows from the newest run of each step: a step that failed and was tried again counts by its
    last attempt.
    """
    ended = client.get_run(step_run)
    experiment = ended.info.experiment_id
    parent = _settle(client, experiment, pipeline_run)
    if parent is None:
        return
    if ended.data.tags.get(PARENT_TAG) != parent.info.run_id:
        client.set_tag(step_run, PARENT_TAG, parent.info.run_id)
    newest: dict[str, Any] = {}
    for run in sorted(_below(client, experiment, parent.info.run_id), key=_age):
        newest[run.data.tags.get(STEP_TAG, run.info.run_id)] = run
    statuses = {run.info.status for run in newest.values()}
    if "RUNNING" not in statuses:
        status = next((status for status in ("FAILED", "KILLED") if status in statuses), "FINISHED")
        client.set_terminated(parent.info.run_id, status)


def _settle(client: Any, experiment: str, pipeline_run: str) -> Any | None:
    """The one parent, once no other is left; None where there is none."""
    found = sorted(client.search_runs([experiment], f"tags.`{PIPELINE_TAG}` = '{pipeline_run}'"), key=_age)
    for other in found[1:]:
        for run in _below(client, experiment, other.info.run_id):
            client.set_tag(run.info.run_id, PARENT_TAG, found[0].info.run_id)
        client.delete_run(other.info.run_id)
    return found[0] if found else None


def _below(client: Any, experiment: str, parent: str) -> list[Any]:
    return list(client.search_runs([experiment], f"tags.`{PARENT_TAG}` = '{parent}'"))


def _age(run: Any) -> tuple[int, str]:
    return run.info.start_time, run.info.run_id
