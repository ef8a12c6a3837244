import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import pytest

from darkroom import tracking
from darkroom.tracking import TrackingSettings, TrackingWarning


def runs_of(settings: TrackingSettings) -> dict[str, Any]:
    client = tracking.connect(settings.tracking_uri)
    experiment = client.get_experiment_by_name(settings.experiment)
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


@pytest.fixture
def store(embedded_store: TrackingSettings, request: pytest.FixtureRequest) -> TrackingSettings:
    return dataclasses.replace(embedded_store, experiment=request.node.name)


def test_without_variables_runs_go_to_sqlite_beside_their_files(tmp_path: Path) -> None:
    settings = tracking.settings({}, tmp_path)
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert settings.artifact_root == tmp_path / "mlartifacts"
    assert (settings.run_id, settings.parent_run_id) == (None, None)


def test_a_tracking_server_gets_nested_runs_and_keeps_their_files() -> None:
    settings = tracking.settings({"MLFLOW_TRACKING_URI": "http://mlflow:5000", "DARKROOM_PARENT_RUN_ID": "abc"})
    assert (settings.tracking_uri, settings.parent_run_id) == ("http://mlflow:5000", "abc")
    assert settings.artifact_root is None


def test_a_run_of_kubeflow_is_resumed() -> None:
    assert tracking.settings({"MLFLOW_TRACKING_URI": "http://m:1", "MLFLOW_RUN_ID": "abc"}).run_id == "abc"


def test_a_step_records_parameters_epochs_figures_files_and_dataset(store: TrackingSettings, tmp_path: Path) -> None:
    (tmp_path / "plot.txt").write_text("a plot")
    md5 = "0123456789abcdef0123456789abcdef.dir"
    parent = tracking.open_parent(store, "pipeline", experiment=store.experiment, parameters={"seed": 1}, tags={})
    step_settings = dataclasses.replace(store, parent_run_id=parent)
    tags = {"darkroom.git_commit": "c0ffee"}
    parameters = {"epochs": 2, "augment": {"crop": 4}}
    with tracking.step_run("train_cnn", step_settings, parameters=parameters, tags=tags) as run:
        run.log_epoch(1, {"loss": 0.7})
        run.log_epoch(2, {"loss": 0.5})
        run.log_metrics({"accuracy": 0.9})
        run.log_files(tmp_path, "evaluation")
        run.log_dataset("digits", md5, "data.dvc")
        run.set_tags({"note": "yes"})
    tracking.close_parent(store, parent, "FINISHED", {"cnn.accuracy": 0.9})

    client = tracking.connect(store.tracking_uri)
    found = client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"cfg.epochs": "2", "cfg.augment.crop": "4"}
    assert found.data.metrics == {"loss": 0.5, "accuracy": 0.9}
    assert [(metric.step, metric.value) for metric in client.get_metric_history(run.run_id, "loss")] == [
        (1, 0.7),
        (2, 0.5),
    ]
    assert found.inputs.dataset_inputs[0].dataset.digest == md5
    assert found.data.tags["mlflow.parentRunId"] == parent
    assert found.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert found.data.tags["note"] == "yes"
    assert store.artifact_root is not None
    assert (store.artifact_root / run.run_id / "artifacts" / "evaluation" / "plot.txt").read_text() == "a plot"
    pipeline = client.get_run(parent)
    assert (pipeline.info.status, pipeline.data.metrics) == ("FINISHED", {"cnn.accuracy": 0.9})
    assert pipeline.data.params == {"cfg.seed": "1"}


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("no"), "FAILED"), (SystemExit(1), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_the_status_says_how_the_step_ended(store: TrackingSettings, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), tracking.step_run("step", store, parameters={}, tags={}):
        raise error
    assert runs_of(store)["step"].info.status == status


def test_what_is_not_finite_is_left_out_loudly(store: TrackingSettings) -> None:
    told = pytest.warns(TrackingWarning, match="not a finite number: loss = nan")
    with told, tracking.step_run("step", store, parameters={}, tags={}) as run:
        run.log_metrics({"loss": math.nan, "accuracy": 0.5})
    assert runs_of(store)["step"].data.metrics == {"accuracy": 0.5}


def test_a_cached_step_appears_with_the_figures_of_its_original(store: TrackingSettings) -> None:
    with tracking.step_run("train_gan", store, parameters={"epochs": 3}, tags={}) as original:
        original.log_metrics({"loss": 0.5})
    parent = tracking.open_parent(store, "second", experiment=store.experiment, parameters={}, tags={})
    copy = tracking.log_cached_step(store, parent, "train_gan", original.run_id)

    found = tracking.connect(store.tracking_uri).get_run(copy)
    assert found.info.status == "FINISHED"
    assert (found.data.metrics, found.data.params) == ({"loss": 0.5}, {"cfg.epochs": "3"})
    assert found.data.tags["darkroom.cached_from"] == original.run_id
    assert found.data.tags["mlflow.parentRunId"] == parent
    assert tracking.log_cached_step(store, None, "train_gan", original.run_id) is None


def test_tracking_that_is_off_records_nothing_and_costs_nothing(tmp_path: Path) -> None:
    settings = tracking.settings({"DARKROOM_TRACKING": "off"}, tmp_path)
    with tracking.step_run("step", settings, parameters={}, tags={}) as run:
        record_everything(run, tmp_path)
    assert run.run_id is None
    assert list(tmp_path.iterdir()) == []


def record_everything(run: tracking.StepRun, folder: Path) -> None:
    run.log_epoch(1, {"loss": 1.0})
    run.log_metrics({"accuracy": 0.5})
    run.log_files(folder, "files")
    run.log_dataset("digits", "0" * 32, "data.dvc")
    run.set_tags({"note": "yes"})


@pytest.mark.parametrize("mode", ["refuse", "hang"])
def test_a_server_that_is_gone_costs_a_step_seconds_and_one_warning(gateway: Any, tmp_path: Path, mode: str) -> None:
    gateway.mode = mode
    settings = TrackingSettings(gateway.address, patience=2)
    start = time.monotonic()
    with pytest.warns(TrackingWarning) as caught, tracking.step_run("step", settings, parameters={}, tags={}) as run:
        record_everything(run, tmp_path)
    assert time.monotonic() - start < 6
    assert run.run_id is None
    assert len(caught) == 1
    assert gateway.address in str(caught[0].message)


@pytest.mark.parametrize("mode", ["refuse", "hang"])
def test_a_server_that_dies_during_a_step_does_not_fail_it(gateway: Any, tmp_path: Path, mode: str) -> None:
    settings = TrackingSettings(gateway.address, experiment=f"dying-{mode}", patience=3)
    with pytest.warns(TrackingWarning) as caught:
        start = time.monotonic()
        with tracking.step_run("step", settings, parameters={"seed": 1}, tags={}) as run:
            gateway.mode = mode
            gateway.cut()
            record_everything(run, tmp_path)
        assert time.monotonic() - start < 8
    assert run.run_id is not None
    assert len(caught) == 1


def test_a_parent_without_a_server_is_none_and_can_be_closed(gateway: Any) -> None:
    gateway.mode = "refuse"
    settings = TrackingSettings(gateway.address, patience=2)
    with pytest.warns(TrackingWarning):
        parent = tracking.open_parent(settings, "p", experiment="e", parameters={}, tags={})
    assert parent is None
    tracking.close_parent(settings, parent, "FAILED", {})


def test_importing_the_module_does_not_import_mlflow(fresh_python: Any) -> None:
    assert fresh_python("import sys, darkroom.tracking, darkroom.registry; print('mlflow' in sys.modules)") == "False"
