"""What Darkroom asks a Kubeflow Pipelines API server to do: one method per thing, nothing remembered."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import kfp_server_api as api

from darkroom.errors import ClusterError, ConfigError
from pipelines.connection import Connection

PAGE = 100
EXISTS = 409
MISSING = 404

Found = TypeVar("Found")


@dataclass(frozen=True)
class Version:
    """One version of a pipeline on the server."""

    pipeline: str
    id: str


@dataclass(frozen=True)
class RecurringRun:
    """One recurring run on the server: what it starts, when, and whether it does. `description` says who made it."""

    id: str
    name: str
    description: str
    enabled: bool
    cron: str
    max_concurrency: int
    catch_up: bool
    version: str
    parameters: dict[str, Any]
    service_account: str


class Kubeflow:
    """An API server. Its namespaces matter only where it serves many users; else it has one and takes no other."""

    def __init__(self, connection: Connection) -> None:
        """Ask the server whether it is there.

        Raises:
            ClusterError: it is not.
            ConfigError: it serves many users and no namespace is named.
        """
        self._call = connection.call
        self.connection = connection
        health = self._call(api.HealthzServiceApi(connection.client).healthz_service_get_healthz)
        self._namespace: dict[str, str] = {}
        if health.multi_user:
            if not connection.namespace:
                raise ConfigError(f"{connection.endpoint}: serves many users; give --namespace or set KFP_NAMESPACE")
            self._namespace = {"namespace": connection.namespace}
        self._experiments = api.ExperimentServiceApi(connection.client)
        self._pipelines = api.PipelineServiceApi(connection.client)
        self._uploads = api.PipelineUploadServiceApi(connection.client)
        self._runs = api.RunServiceApi(connection.client)
        self._recurring = api.RecurringRunServiceApi(connection.client)

    def address(self, run: str) -> str:
        """Where a browser shows a run, and what opens the way to it where there is none."""
        return f"{self.connection.ui}/#/runs/details/{run}" + self.connection.ui_needs

    def find_experiment(self, name: str) -> str | None:
        """The id of an experiment, if there is one of that name."""
        list_ = self._experiments.experiment_service_list_experiments
        found = self._all("experiments", list_, filter=_named("display_name", name), **self._namespace)
        return next((experiment.experiment_id for experiment in found), None)

    def make_experiment(self, name: str) -> str:
        """The id of the experiment of that name, which is made when there is none."""
        wanted = api.V2beta1Experiment(display_name=name, **self._namespace)
        return self._find_or_make(
            lambda: self.find_experiment(name),
            lambda: str(self._call(self._experiments.experiment_service_create_experiment, wanted).experiment_id),
        )

    def find_version(self, pipeline: str, name: str) -> Version | None:
        """A version of a pipeline by both their names, if it was uploaded."""
        pipeline_id = self._find_pipeline(pipeline)
        return self._find_version(pipeline_id, name) if pipeline_id else None

    def upload(self, pipeline: str, name: str, package: Path) -> Version:
        """The version of that name, which is uploaded when there is none."""
        wanted = api.V2beta1Pipeline(name=pipeline, display_name=pipeline, **self._namespace)
        pipeline_id = self._find_or_make(
            lambda: self._find_pipeline(pipeline),
            lambda: str(self._call(self._pipelines.pipeline_service_create_pipeline, wanted).pipeline_id),
        )

        def upload() -> Version:
            made = self._call(self._uploads.upload_pipeline_version, str(package), name=name, pipelineid=pipeline_id)
            return Version(pipeline_id, made.pipeline_version_id)

        return self._find_or_make(lambda: self._find_version(pipeline_id, name), upload)

    def start_run(
        self, name: str, experiment: str, version: Version, parameters: dict[str, Any], service_account: str
    ) -> str:
        """Start a run of a version and return its id."""
        run = api.V2beta1Run(
            display_name=name,
            experiment_id=experiment,
            pipeline_version_reference=_reference(version),
            runtime_config=api.V2beta1RuntimeConfig(parameters=parameters),
            service_account=service_account or None,
        )
        return str(self._call(self._runs.run_service_create_run, run).run_id)

    def get_run(self, run: str) -> Any:
        """A run as the generated API has it."""
        return self._call(self._runs.run_service_get_run, run)

    def get_specification(self, run: Any) -> dict[str, Any]:
        """The compiled pipeline of a run."""
        source = run.pipeline_version_reference
        if source is None:
            raise ClusterError(f"run {run.run_id}: was not started from a pipeline version, so not by Darkroom")
        get = self._pipelines.pipeline_service_get_pipeline_version
        whole: dict[str, Any] = self._call(get, source.pipeline_id, source.pipeline_version_id).pipeline_spec
        # With settings for Kubernetes in it, the package is two documents, and the server gives both by name.
        return dict(whole.get("pipeline_spec", whole))

    def list_recurring_runs(self, experiment: str) -> list[RecurringRun]:
        """All recurring runs in the experiment of that name; none where there is no such experiment."""
        id_ = self.find_experiment(experiment)
        if id_ is None:
            return []
        list_ = self._recurring.recurring_run_service_list_recurring_runs
        return [_recurring(run) for run in self._all("recurring_runs", list_, experiment_id=id_)]

    def create_recurring_run(
        self,
        name: str,
        description: str,
        experiment: str,
        version: Version,
        *,
        cron: str,
        parameters: dict[str, Any],
        max_concurrency: int,
        catch_up: bool,
        service_account: str,
    ) -> str:
        """Create a recurring run that does not start anything yet, and return its id."""
        run = api.V2beta1RecurringRun(
            display_name=name,
            description=description,
            experiment_id=experiment,
            pipeline_version_reference=_reference(version),
            runtime_config=api.V2beta1RuntimeConfig(parameters=parameters),
            trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=cron)),
            max_concurrency=str(max_concurrency),
            no_catchup=not catch_up,
            mode=api.RecurringRunMode.DISABLE,
            service_account=service_account or None,
            **self._namespace,
        )
        return str(self._call(self._recurring.recurring_run_service_create_recurring_run, run).recurring_run_id)

    def enable(self, recurring_run: str) -> None:
        """Let a recurring run start runs."""
        self._call(self._recurring.recurring_run_service_enable_recurring_run, recurring_run)

    def disable(self, recurring_run: str) -> None:
        """Stop a recurring run from starting runs; those under way go on."""
        self._call(self._recurring.recurring_run_service_disable_recurring_run, recurring_run)

    def delete(self, recurring_run: str) -> None:
        """Delete a recurring run. Runs under way belong to it in Kubernetes; they go on because they are orphaned."""
        try:
            self._call(
                self._recurring.recurring_run_service_delete_recurring_run,
                recurring_run,
                propagation_policy=api.V2beta1DeletePropagationPolicy.ORPHAN,
            )
        except ClusterError as error:
            if error.status != MISSING:
                raise

    def _find_pipeline(self, name: str) -> str | None:
        list_ = self._pipelines.pipeline_service_list_pipelines
        found = self._all("pipelines", list_, filter=_named("name", name), **self._namespace)
        return next((pipeline.pipeline_id for pipeline in found), None)

    def _find_version(self, pipeline: str, name: str) -> Version | None:
        list_ = self._pipelines.pipeline_service_list_pipeline_versions
        found = self._all("pipeline_versions", list_, pipeline, filter=_named("name", name))
        return next((Version(pipeline, version.pipeline_version_id) for version in found), None)

    def _find_or_make(self, find: Callable[[], Found | None], make: Callable[[], Found]) -> Found:
        """What is there, else what is made; where somebody else made it in between, what is there then."""
        found = find()
        if found is not None:
            return found
        try:
            return make()
        except ClusterError as error:
            found = find() if error.status == EXISTS else None
            if found is None:
                raise
            return found

    def _all(self, field: str, list_: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
        """Every item of a listing, page after page. The server wants the filter again with each page, or none."""
        token = ""
        while True:
            answer = self._call(list_, *arguments, page_size=PAGE, page_token=token, **options)
            yield from getattr(answer, field) or ()
            token = answer.next_page_token or ""
            if not token:
                return


def _named(field: str, value: str) -> str:
    """The filter of a listing by a name."""
    predicate = {"operation": "EQUALS", "key": field, "string_value": value}
    # The server decodes a filter once more than the rest of the address.
    return quote(json.dumps({"predicates": [predicate]}))


def _reference(version: Version) -> Any:
    return api.V2beta1PipelineVersionReference(pipeline_id=version.pipeline, pipeline_version_id=version.id)


def _recurring(run: Any) -> RecurringRun:
    """Fields that the server leaves out are empty, false or zero: it sends no others."""
    trigger = run.trigger.cron_schedule if run.trigger else None
    source = run.pipeline_version_reference
    return RecurringRun(
        id=run.recurring_run_id,
        name=run.display_name,
        description=run.description or "",
        enabled=run.mode == api.RecurringRunMode.ENABLE,
        cron=trigger.cron if trigger else "",
        max_concurrency=int(run.max_concurrency or 0),
        catch_up=not run.no_catchup,
        version=source.pipeline_version_id if source else "",
        parameters=dict(run.runtime_config.parameters or {}) if run.runtime_config else {},
        service_account=run.service_account or "",
    )
