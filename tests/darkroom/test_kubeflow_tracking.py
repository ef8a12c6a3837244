"""Tracking on a cluster: with the variables that Kubeflow 2.17's MLflow integration injects, and without them."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from darkroom import tracking
from darkroom.tracking import TrackingSettings, TrackingWarning

STEP = """
from darkroom.config import StepConfig
from darkroom.steps import step

class Config(StepConfig):
    epochs: int = 2

class Artifact:
    path = "metrics"
    def log_metric(self, metric, value):
        pass

with step({name!r}, Artifact()) as running:
    running.configure(Config, "f" * 32 + ".dir", {{}}, **{values!r})
{body}
"""


@dataclass
class Kubeflow:
    """What Kubeflow does to MLflow, through MLflow's own client: runs are made before a step and ended after it."""

    address: str
    experiment: str
    folder: Path

    @property
    def client(self) -> Any:
        return tracking.connect(self.address)

    @property
    def experiment_id(self) -> str:
        return tracking.experiment_id(self.client, self.experiment, None)

    def open_pipeline(self, run_id: str) -> str:
        tags = {"kfp.pipeline_run_id": run_id, "kfp.pipeline_run_url": ""}
        return str(self.client.create_run(self.experiment_id, run_name="darkroom 1", tags=tags).info.run_id)

    def open_task(self, task: str, parent: str) -> dict[str, str]:
        """Make a task's nested run as the driver does, and return what the driver injects into the container."""
        tags = {"mlflow.parentRunId": parent}
        nested = self.client.create_run(self.experiment_id, run_name=task, tags=tags).info.run_id
        return {
            "MLFLOW_RUN_ID": nested,
            "MLFLOW_TRACKING_URI": self.address,
            "MLFLOW_EXPERIMENT_ID": self.experiment_id,
        }

    def close_task(self, run_id: str, parameters: dict[str, Any], metrics: dict[str, float], status: str) -> None:
        """What the launcher logs at the end of each attempt: inputs as JSON, scalars at time 0, and the end."""
        from mlflow.entities import Metric, Param

        self.client.log_batch(
            run_id,
            metrics=[Metric(name, value, 0, 0) for name, value in metrics.items()],
            params=[Param(name, json.dumps(value)) for name, value in parameters.items()],
        )
        self.client.set_terminated(run_id, status, end_time=int(time.time() * 1000))

    def step(
        self, environment: dict[str, str], body: str = "", name: str = "train_cnn", **values: Any
    ) -> "subprocess.CompletedProcess[str]":
        """Run a step in a process of its own, as a pod would."""
        code = STEP.format(name=name, values=values, body=textwrap.indent(textwrap.dedent(body), "    "))
        return subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", "-c", code],
            cwd=self.folder,
            env={**clean_environment(), "DARKROOM_GIT_COMMIT": "c0ffee", "DARKROOM_IMAGE": "python-train:c0ffee"}
            | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def runs(self) -> dict[str, Any]:
        """All runs of the experiment by name, which must be different ones."""
        found = self.client.search_runs([self.experiment_id])
        names = [run.info.run_name for run in found]
        assert len(set(names)) == len(names), names
        return dict(zip(names, found, strict=True))


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DARKROOM_"))}


@pytest.fixture
def kubeflow(mlflow_server: str, request: pytest.FixtureRequest, tmp_path: Path) -> Kubeflow:
    return Kubeflow(mlflow_server, request.node.name, tmp_path)


def test_a_step_resumes_the_run_that_kubeflow_opened_and_nothing_else(kubeflow: Kubeflow) -> None:
    parent = kubeflow.open_pipeline("7d1c")
    injected = kubeflow.open_task("train-cnn", parent) | {"DARKROOM_KFP_RUN_ID": "7d1c"}
    done = kubeflow.step(injected, "running.log_metrics({'accuracy': 0.9})", epochs=3)
    assert done.returncode == 0, done.stderr
    kubeflow.close_task(injected["MLFLOW_RUN_ID"], {"epochs": 3, "cnn_options": {}}, {"accuracy": 0.9}, "FINISHED")

    assert kubeflow.runs().keys() == {"darkroom 1", "train-cnn"}
    run = kubeflow.runs()["train-cnn"]
    assert run.info.run_id == injected["MLFLOW_RUN_ID"]
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"accuracy": 0.9}
    # Kubeflow's bare parameters beside Darkroom's own, under names that cannot clash.
    assert run.data.params == {"cfg.epochs": "3", "epochs": "3", "cnn_options": "{}"}
    expected = {"git_commit": "c0ffee", "image": "python-train:c0ffee", "kfp_run_id": "7d1c", "step": "train_cnn"}
    assert {key: run.data.tags.get(f"darkroom.{key}") for key in expected} == expected
    assert run.data.tags["darkroom.data_md5"] == "f" * 32 + ".dir"
    assert run.data.tags["mlflow.parentRunId"] == parent
    # The pipeline's run is Kubeflow's to end.
    assert kubeflow.runs()["darkroom 1"].info.status == "RUNNING"


def test_a_second_attempt_goes_on_in_the_run_of_the_first(kubeflow: Kubeflow) -> None:
    injected = kubeflow.open_task("train-cnn", kubeflow.open_pipeline("7d1c"))
    run_id = injected["MLFLOW_RUN_ID"]
    failed = kubeflow.step(injected, "running.log_metrics({'loss': 7.0})\n1 / 0")
    assert failed.returncode == 1
    assert kubeflow.runs()["train-cnn"].info.status == "FAILED"
    kubeflow.close_task(run_id, {"epochs": 2}, {}, "FAILED")

    done = kubeflow.step(injected, "running.log_metrics({'loss': 0.5})")
    assert done.returncode == 0, done.stderr
    kubeflow.close_task(run_id, {"epochs": 2}, {"loss": 0.5}, "FINISHED")
    run = kubeflow.runs()["train-cnn"]
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 0.5})
    assert run.data.params == {"cfg.epochs": "2", "epochs": "2"}
    assert "Warning" not in done.stderr


def test_parameters_of_an_earlier_attempt_stay_and_the_rest_is_recorded(kubeflow: Kubeflow) -> None:
    injected = kubeflow.open_task("train-cnn", kubeflow.open_pipeline("7d1c"))
    assert kubeflow.step(injected, "1 / 0", epochs=2).returncode == 1
    done = kubeflow.step(injected, "running.log_metrics({'loss': 0.5})", epochs=5)
    assert done.returncode == 0
    assert "cfg.epochs = 5 (recorded: 2)" in done.stderr
    run = kubeflow.runs()["train-cnn"]
    assert (run.info.status, run.data.metrics, run.data.params) == ("FINISHED", {"loss": 0.5}, {"cfg.epochs": "2"})


def test_a_server_that_is_down_when_a_step_starts_does_not_stop_it(kubeflow: Kubeflow, gateway: Any) -> None:
    injected = kubeflow.open_task("train-cnn", kubeflow.open_pipeline("7d1c"))
    gateway.mode = "refuse"
    through = {**injected, "MLFLOW_TRACKING_URI": gateway.address}
    done = kubeflow.step(through, "running.log_metrics({'loss': 0.5})")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("TrackingWarning") == 1
    # Kubeflow's launcher finds the server back, and ends the run by itself.
    kubeflow.close_task(injected["MLFLOW_RUN_ID"], {"epochs": 2}, {"loss": 0.5}, "FINISHED")
    assert kubeflow.runs().keys() == {"darkroom 1", "train-cnn"}

    gateway.mode = "forward"
    later = kubeflow.open_task("evaluate-cnn", "p") | {"MLFLOW_TRACKING_URI": gateway.address}
    assert kubeflow.step(later, name="evaluate_cnn").returncode == 0
    assert kubeflow.runs()["evaluate-cnn"].info.status == "FINISHED"


@pytest.mark.parametrize("pipeline_run", [None, "7d1c"])
def test_an_answer_that_comes_too_late_leaves_no_stray_run(
    kubeflow: Kubeflow, gateway: Any, pipeline_run: str | None
) -> None:
    assert kubeflow.experiment_id
    gateway.delay = 0.6
    settings = TrackingSettings(
        gateway.address, experiment=kubeflow.experiment, pipeline_run=pipeline_run, patience=0.5
    )
    with pytest.warns(TrackingWarning), tracking.step_run("train_cnn", settings, parameters={}, tags={}) as run:
        assert run.run_id is None
        wait_until(lambda: "train_cnn" in kubeflow.runs())
        wait_until(lambda: "train_cnn" not in kubeflow.runs())
    wait_until(lambda: {run.info.status for run in kubeflow.runs().values()} <= {"FINISHED"})
    assert kubeflow.runs().keys() == ({pipeline_run} if pipeline_run else set())


def without_integration(kubeflow: Kubeflow, pipeline_run: str = "7d1c") -> dict[str, str]:
    return {
        "MLFLOW_TRACKING_URI": kubeflow.address,
        "MLFLOW_EXPERIMENT_NAME": kubeflow.experiment,
        "DARKROOM_KFP_RUN_ID": pipeline_run,
    }


def test_without_the_integration_the_first_step_makes_the_parent_and_the_last_one_ends_it(kubeflow: Kubeflow) -> None:
    first = kubeflow.step(without_integration(kubeflow), name="fetch_data")
    assert first.returncode == 0, first.stderr
    parent = kubeflow.runs()["7d1c"]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["darkroom.git_commit"] == "c0ffee"
    assert parent.data.tags["darkroom.data_md5"] == "f" * 32 + ".dir"

    body = """
        from darkroom import tracking
        import os
        settings = tracking.settings(os.environ)
        parents = tracking.connect(settings.tracking_uri).search_runs(
            [{experiment!r}], "tags.`darkroom.pipeline_run` = '7d1c'"
        )
        assert [parent.info.status for parent in parents] == ["RUNNING"]
        assert {fails!r} is False
    """
    for fails, expected in ((True, "FAILED"), (False, "FINISHED")):
        text = body.format(experiment=kubeflow.experiment_id, fails=fails)
        done = kubeflow.step(without_integration(kubeflow), text, name=f"preprocess_{fails}")
        assert (done.returncode == 0) is not fails, done.stderr
        assert kubeflow.runs()[f"preprocess_{fails}"].info.status == expected
        # One step has failed, so the pipeline has; a later step that succeeds does not change that.
        assert kubeflow.runs()["7d1c"].info.status == "FAILED"
    assert {run.data.tags.get("mlflow.parentRunId") for run in kubeflow.runs().values()} == {None, parent.info.run_id}
    assert all(run.data.tags["darkroom.kfp_run_id"] == "7d1c" for run in kubeflow.runs().values())


def test_a_step_that_succeeds_at_its_second_attempt_counts_as_a_success(kubeflow: Kubeflow) -> None:
    settings = tracking.settings(without_integration(kubeflow))
    with pytest.raises(ZeroDivisionError), tracking.step_run("train_cnn", settings, parameters={}, tags={}):
        raise ZeroDivisionError
    with tracking.step_run("train_cnn", settings, parameters={}, tags={}) as run:
        pass
    client = kubeflow.client
    parent = client.get_run(run.run_id).data.tags["mlflow.parentRunId"]
    below = client.search_runs([kubeflow.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert sorted(nested.info.status for nested in below) == ["FAILED", "FINISHED"]
    assert client.get_run(parent).info.status == "FINISHED"


def test_steps_that_start_at_the_same_moment_share_one_parent(kubeflow: Kubeflow) -> None:
    assert kubeflow.experiment_id
    for attempt in range(3):
        settings = tracking.settings(without_integration(kubeflow, f"run-{attempt}"))
        barrier = threading.Barrier(6)

        def step(number: int, settings: TrackingSettings = settings, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            with tracking.step_run(f"step-{number}", settings, parameters={}, tags={"darkroom.seed": "1"}):
                pass

        threads = [threading.Thread(target=step, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = kubeflow.client.search_runs([kubeflow.experiment_id])
        (parent,) = (run for run in found if run.data.tags.get("darkroom.pipeline_run") == f"run-{attempt}")
        below = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        assert sorted(run.info.run_name for run in below) == [f"step-{number}" for number in range(6)]
        assert {run.info.status for run in (parent, *below)} == {"FINISHED"}
        assert parent.data.tags["darkroom.seed"] == "1"
    assert len(found) == 3 * 7


def test_a_parent_that_became_visible_late_is_merged_when_the_step_ends(kubeflow: Kubeflow) -> None:
    settings = tracking.settings(without_integration(kubeflow))
    with tracking.step_run("train_cnn", settings, parameters={}, tags={}):
        # Somebody's clock is an hour behind: this parent is the earlier one, and the step could not know of it.
        other = kubeflow.client.create_run(
            kubeflow.experiment_id,
            start_time=int((time.time() - 3600) * 1000),
            run_name="other",
            tags={"darkroom.pipeline_run": "7d1c"},
        )
    runs = kubeflow.runs()
    assert runs.keys() == {"other", "train_cnn"}
    assert runs["train_cnn"].data.tags["mlflow.parentRunId"] == other.info.run_id
    assert runs["other"].info.status == "FINISHED"


def wait_until(happened: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
