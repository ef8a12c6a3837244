"""What is recorded: the run of a whole pipeline run, and of each of its steps."""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from darkroom.tracking.courier import Courier, TrackingWarning
from darkroom.tracking.environment import TrackingSettings
from darkroom.tracking.parents import PARENT_TAG, STEP_TAG, find_or_open_parent, leave_parent

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
Metrics = Mapping[str, float]

INTERRUPTED_PATIENCE = 3.0
MAX_PARAMETERS_PER_CALL = 100
# Opens the experiment on the pages for training runs; MLflow's pages show those for language models otherwise.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


class StepRun:
    """What a step records into. No method waits for MLflow or raises because of it.

    `run_id` is None where nothing is recorded; `settings` say where the run would have gone.
    """

    def __init__(self, courier: Courier, run_id: str | None) -> None:
        self.run_id = run_id
        self.settings = courier.settings
        self._courier = courier

    def log_epoch(self, epoch: int, metrics: Metrics) -> None:
        """Record the metrics of one epoch, which counts from 1 and becomes MLflow's step."""
        self._log_numbers(metrics, step=epoch)

    def log_metrics(self, metrics: Metrics) -> None:
        """Record final figures. A value that is not a finite number is left out, with a warning that names it."""
        self._log_numbers(metrics, step=0)

    def log_files(self, path: Path, artifact_path: str | None = None) -> None:
        """Copy a file, or what is in a folder, to `artifact_path` among the run's artifacts."""
        if path.is_dir():
            self._send(lambda client, run: client.log_artifacts(run, str(path), artifact_path))
        else:
            self._send(lambda client, run: client.log_artifact(run, str(path), artifact_path))

    def log_dataset(self, name: str, md5: str, source: str) -> None:
        """Record the dataset that the step read; the digest by which MLflow finds runs on the same data is its md5."""

        def send(client: Any, run: str) -> None:
            from mlflow.entities import Dataset, DatasetInput

            dataset = Dataset(name=name, digest=md5, source_type="dvc", source=source)
            client.log_inputs(run, [DatasetInput(dataset, [])])

        self._send(send)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self._send(lambda client, run: _log_values(client, run, tags=_tags(tags)))

    def _log_parameters(self, parameters: Mapping[str, Any], recorded: Mapping[str, str]) -> None:
        """Record parameters. What an earlier attempt `recorded` cannot be changed: a warning names what differs now."""
        values = {name: str(value) for name, value in _flatten(parameters, "cfg").items()}
        changed = [
            f"{name} = {value} (recorded: {recorded[name]})"
            for name, value in values.items()
            if recorded.get(name, value) != value
        ]
        if changed:
            _warn(f"parameters differ from those of an earlier attempt, which stay: {', '.join(changed)}")
        new = {name: value for name, value in values.items() if name not in recorded}
        self._send(lambda client, run: _log_values(client, run, parameters=new))

    def _log_numbers(self, metrics: Metrics, step: int) -> None:
        numbers, now = _finite(metrics), _milliseconds()
        self._send(lambda client, run: _log_values(client, run, metrics=numbers, timestamp=now, step=step))

    def _terminate(self, status: RunStatus) -> None:
        self._send(lambda client, run: client.set_terminated(run, status))

    def _send(self, request: Callable[..., None]) -> None:
        run_id = self.run_id
        if run_id is not None:
            self._courier.send(lambda client: request(client, run_id))


@contextmanager
def step_run(
    step: str, settings: TrackingSettings, *, parameters: Mapping[str, Any], tags: Mapping[str, str]
) -> Iterator[StepRun]:
    """Open (or resume) the MLflow run of one step and close it with the status that the body earned.

    Parameters get the prefix `cfg.`, nested ones dots: Kubeflow logs its own under bare names. The status becomes
    FINISHED, FAILED when the body raises, KILLED when it is interrupted.
    """
    courier = Courier(settings)

    def open_run(client: Any) -> tuple[str, dict[str, str]]:
        opened = _open_step_run(client, step, settings, _tags(tags))
        if courier.gave_up and settings.run_id is None:
            # The answer comes too late: nobody will write to this run or close it.
            client.delete_run(opened.info.run_id)
            _leave_parent(client, settings, opened.info.run_id)
        return str(opened.info.run_id), dict(opened.data.params)

    run_id, recorded = courier.ask(open_run) or (None, {})
    run = StepRun(courier, run_id)
    status: RunStatus = "FINISHED"
    try:
        run._log_parameters(parameters, recorded)
        yield run
    except KeyboardInterrupt:
        status = "KILLED"
        courier.patience = min(courier.patience, INTERRUPTED_PATIENCE)
        raise
    except BaseException:
        status = "FAILED"
        raise
    finally:
        run._terminate(status)
        run._send(lambda client, run_id: _leave_parent(client, settings, run_id))
        courier.close()


def open_parent(
    settings: TrackingSettings,
    name: str,
    *,
    experiment: str,
    parameters: Mapping[str, Any],
    tags: Mapping[str, str],
) -> str | None:
    """Open the run of a whole pipeline run and leave it running. Returns its id, None when MLflow could not be reached.

    A new SQLite store is created here, before steps that run side by side would each try to.
    """

    def create(client: Any) -> str:
        identifier = experiment_id(client, experiment, settings.artifact_root)
        return str(client.create_run(identifier, run_name=name, tags=_tags(tags)).info.run_id)

    courier = Courier(settings)
    run = StepRun(courier, courier.ask(create))
    run._log_parameters(parameters, {})
    courier.close()
    return run.run_id


def close_parent(settings: TrackingSettings, run_id: str | None, status: RunStatus, metrics: Metrics) -> None:
    """Record the pipeline's final figures and close the run that `open_parent` opened; nothing to do for None."""
    if run_id is None:
        return
    courier = Courier(settings)
    run = StepRun(courier, run_id)
    run.log_metrics(metrics)
    run._terminate(status)
    courier.close()


def log_cached_step(
    settings: TrackingSettings, parent: str | None, step: str, original_run_id: str | None
) -> str | None:
    """Record a step that came from the cache: a nested run with the figures of the run that once computed it.

    Last values of metrics, parameters and tags are copied from `original_run_id`; the tags `darkroom.cached` and
    `darkroom.cached_from` tell the copy from the original. Returns the new run's id, None when nothing was recorded.
    """
    if parent is None or original_run_id is None:
        return None

    def copy(client: Any) -> str:
        original = client.get_run(original_run_id).data
        kept = {key: value for key, value in original.tags.items() if not key.startswith("mlflow.")}
        cached = {"darkroom.cached": "true", "darkroom.cached_from": original_run_id}
        run_id = str(_create_nested_run(client, step, parent, _tags(kept | cached)).info.run_id)
        _log_values(client, run_id, parameters=original.params, metrics=original.metrics, timestamp=_milliseconds())
        client.set_terminated(run_id, "FINISHED")
        return run_id

    courier = Courier(settings)
    run_id = courier.ask(copy)
    courier.close()
    return run_id


def experiment_id(client: Any, name: str, artifact_root: Path | None) -> str:
    """The id of the experiment `name`, which is created when there is none, with its files under `artifact_root`."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        location = None if artifact_root is None else artifact_root.as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS))
        except MlflowException:  # another process was faster; if it was not, the next line says what is wrong
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _open_step_run(client: Any, step: str, settings: TrackingSettings, tags: Mapping[str, str]) -> Any:
    tags = {**tags, STEP_TAG: step}
    if settings.run_id is not None:
        client.update_run(settings.run_id, status="RUNNING")
        _log_values(client, settings.run_id, tags=tags)
        return client.get_run(settings.run_id)
    if settings.parent_run_id is not None:
        return _create_nested_run(client, step, settings.parent_run_id, tags)
    identifier = experiment_id(client, settings.experiment, settings.artifact_root)
    if settings.pipeline_run is not None:
        parent = find_or_open_parent(client, identifier, settings.pipeline_run, tags)
        return _create_nested_run(client, step, parent, tags)
    return client.create_run(identifier, run_name=step, tags=tags)


def _leave_parent(client: Any, settings: TrackingSettings, run_id: str) -> None:
    if settings.run_id is None and settings.parent_run_id is None and settings.pipeline_run is not None:
        leave_parent(client, settings.pipeline_run, run_id)


def _create_nested_run(client: Any, step: str, parent_run_id: str, tags: Mapping[str, str]) -> Any:
    parent = client.get_run(parent_run_id)
    return client.create_run(parent.info.experiment_id, run_name=step, tags={**tags, PARENT_TAG: parent_run_id})


def _log_values(
    client: Any,
    run_id: str,
    *,
    parameters: Mapping[str, str] | None = None,
    metrics: Metrics | None = None,
    timestamp: int = 0,
    step: int = 0,
    tags: Mapping[str, str] | None = None,
) -> None:
    from mlflow.entities import Metric, Param, RunTag

    params = [Param(name, value) for name, value in (parameters or {}).items()]
    for start in range(0, len(params), MAX_PARAMETERS_PER_CALL):
        client.log_batch(run_id, params=params[start : start + MAX_PARAMETERS_PER_CALL])
    numbers = [Metric(name, value, timestamp, step) for name, value in (metrics or {}).items()]
    labels = [RunTag(key, value) for key, value in (tags or {}).items()]
    if numbers or labels:
        client.log_batch(run_id, metrics=numbers, tags=labels)


def _flatten(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}"
        flat |= _flatten(value, name) if isinstance(value, Mapping) else {name: value}
    return flat


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    """`tags`, and the commit once more under the name that MLflow's pages show as the version of the source."""
    commit = tags.get("darkroom.git_commit")
    return dict(tags) if commit is None else {**tags, "mlflow.source.git.commit": commit}


def _finite(metrics: Metrics) -> dict[str, float]:
    lost = {name: value for name, value in metrics.items() if not math.isfinite(value)}
    if lost:
        named = ", ".join(f"{name} = {value}" for name, value in lost.items())
        _warn(f"not recorded in MLflow, not a finite number: {named}")
    return {name: float(value) for name, value in metrics.items() if name not in lost}


def _warn(message: str) -> None:
    warnings.warn(message, TrackingWarning, stacklevel=5)


def _milliseconds() -> int:
    return int(time.time() * 1000)
