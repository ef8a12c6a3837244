"""What is asked of KFP beyond `pipelines.kubeflow`: the runs of an experiment, and to delete what the test made."""

from typing import Any

import kfp_server_api as api

from pipelines.kubeflow import Kubeflow
from pipelines.watch import ENDED


def runs_of(kubeflow: Kubeflow, experiment: str) -> list[Any]:
    """All runs of an experiment, by its name; none where there is no such experiment."""
    id_ = kubeflow.find_experiment(experiment)
    if id_ is None:
        return []
    list_ = api.RunServiceApi(kubeflow.connection.client).run_service_list_runs
    return list(kubeflow.connection.call(list_, experiment_id=id_, page_size=100).runs or ())


def delete_experiment(kubeflow: Kubeflow, experiment: str) -> None:
    """Delete an experiment with its recurring runs and runs; those under way are ended first."""
    call, client = kubeflow.connection.call, kubeflow.connection.client
    id_ = kubeflow.find_experiment(experiment)
    if id_ is None:
        return
    for recurring in kubeflow.list_recurring_runs(experiment):
        kubeflow.delete(recurring.id)
    runs = api.RunServiceApi(client)
    for run in runs_of(kubeflow, experiment):
        if run.state not in ENDED:
            call(runs.run_service_terminate_run, run.run_id)
        call(runs.run_service_delete_run, run.run_id)
    call(api.ExperimentServiceApi(client).experiment_service_delete_experiment, id_)
