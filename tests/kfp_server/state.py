"""What the server remembers and does, apart from HTTP."""

import itertools
import re
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from tests.kfp_server.errors import exists, internal, invalid, not_found
from tests.kfp_server.listing import select

Record = dict[str, Any]
EPOCH = "1970-01-01T00:00:00Z"
NAMES = ("display_name", "name", "description", "created_at")
LONGEST = {"experiment": 128, "pipeline": 128, "pipeline version": 127}
# The JSON kinds that the server takes for each kind of parameter; numbers of both kinds are one.
PARAMETER_KINDS: Mapping[str, tuple[type, ...]] = {
    "NUMBER_DOUBLE": (int, float),
    "NUMBER_INTEGER": (int, float),
    "STRING": (str,),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}
ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
# Fields of cron with least and greatest value, as robfig/cron 1.2 takes them; the last may be missing.
CRON = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))

DEFAULT_ACCOUNT = "pipeline-runner"


class State:
    """Experiments, pipelines and their versions, runs and recurring runs."""

    def __init__(self) -> None:
        self.experiments: dict[str, Record] = {}
        self.pipelines: dict[str, Record] = {}
        self.versions: dict[str, Record] = {}
        self.runs: dict[str, Record] = {}
        self.recurring: dict[str, Record] = {}
        self.orphans: list[str] = []
        # The most recurring runs of one name that were ever enabled together.
        self.most_enabled: dict[str, int] = defaultdict(int)
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)

    def create_experiment(self, wanted: Record, namespace: str) -> Record:
        name = self._named(wanted, "experiment")
        if any(one["display_name"] == name for one in self._of(self.experiments, namespace)):
            raise exists(
                f"Failed to create a new experiment. The name {name} already exists. Please specify a new name"
            )
        made = {
            **self._made("experiment_id", wanted, namespace),
            "storage_state": "AVAILABLE",
            "last_run_created_at": EPOCH,
        }
        return self._keep(self.experiments, "experiment_id", made)

    def archive_experiment(self, experiment: str) -> None:
        self._get(self.experiments, "Experiment", experiment)["storage_state"] = "ARCHIVED"
        for one in self.recurring.values():
            if one["experiment_id"] == experiment:
                one.update(_mode(False))

    def delete_experiment(self, experiment: str) -> None:
        self._get(self.experiments, "Experiment", experiment)
        del self.experiments[experiment]

    def list_experiments(self, query: Mapping[str, str], namespace: str) -> Record:
        keys = (*NAMES, "experiment_id", "namespace", "storage_state")
        return self._page("experiments", self._of(self.experiments, namespace), query, keys)

    def create_pipeline(self, wanted: Record, namespace: str) -> Record:
        wanted = {**wanted, "name": wanted.get("name") or wanted.get("display_name", "")}
        name = self._named({"display_name": wanted["name"]}, "pipeline")
        if any(one["name"] == name for one in self._of(self.pipelines, namespace)):
            raise exists(f"Failed to create a new pipeline. The name {name} already exist. Please specify a new name")
        wanted["display_name"] = wanted.get("display_name") or name
        return self._keep(self.pipelines, "pipeline_id", self._made("pipeline_id", wanted, namespace))

    def list_pipelines(self, query: Mapping[str, str], namespace: str) -> Record:
        keys = (*NAMES, "pipeline_id", "namespace")
        return self._page("pipelines", self._of(self.pipelines, namespace), query, keys)

    def upload_version(self, pipeline: str, name: str, package: bytes) -> Record:
        self._get(self.pipelines, "Pipeline", pipeline)
        self._named({"display_name": name}, "pipeline version")
        try:
            documents = list(yaml.safe_load_all(package))
            specification = documents[0]
            specification["root"]["dag"]["tasks"]
        except (yaml.YAMLError, KeyError, TypeError, IndexError) as error:
            raise invalid(f"unknown template format: {error}") from None
        if any(one["pipeline_id"] == pipeline and one["name"] == name for one in self.versions.values()):
            raise exists(f"Failed to create a new pipeline version. The name {name} already exist. Specify a new name")
        # A second document is the platform's; the server gives both back by name.
        whole = {"pipeline_spec": documents[0], "platform_spec": documents[1]} if documents[1:] else specification
        made = self._made("pipeline_version_id", {"name": name, "display_name": name, "pipeline_id": pipeline}, "")
        return self._keep(self.versions, "pipeline_version_id", {**made, "pipeline_spec": whole})

    def list_versions(self, pipeline: str, query: Mapping[str, str]) -> Record:
        versions = [one for one in self.versions.values() if one["pipeline_id"] == pipeline]
        return self._page("pipeline_versions", versions, query, (*NAMES, "pipeline_version_id"))

    def get_version(self, pipeline: str, version: str) -> Record:
        found = self._get(self.versions, "PipelineVersion", version)
        if found["pipeline_id"] != pipeline:
            raise not_found("PipelineVersion", version)
        return found

    def create_run(self, wanted: Record, namespaces: Sequence[str] | None) -> Record:
        experiment = self._start(wanted, "run")
        self._demand_namespace(experiment, namespaces, "workflow")
        made = {
            **self._made("run_id", wanted, ""),
            "service_account": wanted.get("service_account") or DEFAULT_ACCOUNT,
            "storage_state": "AVAILABLE",
            "state": "PENDING",
            "scheduled_at": _now(),
            "finished_at": EPOCH,
        }
        return self._keep(self.runs, "run_id", made)

    def terminate_run(self, run: str) -> None:
        found = self._get(self.runs, "Run", run)
        if found["state"] in ENDED:
            raise invalid(f"Failed to terminate a run {run}. Row not found")
        found["state"] = "CANCELING"

    def delete_run(self, run: str) -> None:
        self._get(self.runs, "Run", run)
        del self.runs[run]

    def list_runs(self, query: Mapping[str, str]) -> Record:
        runs = [one for one in self.runs.values() if query.get("experiment_id") in (None, one.get("experiment_id"))]
        return self._page("runs", runs, query, (*NAMES, "run_id", "state"))

    def create_recurring_run(self, wanted: Record, namespaces: Sequence[str] | None) -> Record:
        experiment = self._start(wanted, "recurring run")
        if wanted.get("namespace", "") not in ("", experiment.get("namespace", "")) and namespaces is not None:
            raise invalid(f"Experiment {experiment['experiment_id']} belongs to another namespace")
        self._demand_namespace(experiment, namespaces, "scheduled workflow")
        concurrency = int(wanted.get("max_concurrency") or 0)
        if not 1 <= concurrency <= 10:
            raise invalid(
                f"Max concurrency of a recurring run must be at least 1 and at most 10. Received {concurrency}"
            )
        schedule = wanted.get("trigger", {}).get("cron_schedule")
        if schedule is not None:
            _check_cron(schedule.get("cron", ""))
        enabled = wanted.get("mode") == "ENABLE"
        made = {
            **self._made("recurring_run_id", wanted, ""),
            "service_account": wanted.get("service_account") or DEFAULT_ACCOUNT,
            "max_concurrency": str(concurrency),
            # Where there is one namespace, the server names its own.
            "namespace": experiment.get("namespace") or "kubeflow",
            "updated_at": _now(),
            **_mode(enabled),
        }
        kept = self._keep(self.recurring, "recurring_run_id", made)
        self._watch()
        return kept

    def switch(self, recurring_run: str, enabled: bool) -> None:
        self._get(self.recurring, "Job", recurring_run).update(_mode(enabled), updated_at=_now())
        self._watch()

    def list_recurring_runs(self, query: Mapping[str, str]) -> Record:
        experiment = query.get("experiment_id")
        runs = [one for one in self.recurring.values() if experiment in (None, "", one.get("experiment_id"))]
        return self._page("recurringRuns", runs, query, (*NAMES, "recurring_run_id", "updated_at"))

    def delete_recurring_run(self, recurring_run: str, propagation: str) -> None:
        self._get(self.recurring, "Job", recurring_run)
        del self.recurring[recurring_run]
        for run in self.runs.values():
            if run.get("recurring_run_id") == recurring_run and run["state"] not in ENDED:
                if propagation == "ORPHAN":
                    self.orphans.append(run["run_id"])
                else:  # Kubernetes collects the workflows of the schedule.
                    run["state"] = "FAILED"

    def tick(self, moment: datetime) -> list[Record]:
        """Start a run of every enabled recurring run, as its controller does when the time has come."""
        started = []
        for one in self.recurring.values():
            active = [run for run in self._of_recurring(one) if run["state"] not in ENDED]
            if one["mode"] == "ENABLE" and len(active) < int(one["max_concurrency"]):
                made = {
                    **self._made("run_id", {"display_name": f"{one['display_name']}-{next(self._numbers)}"}, ""),
                    **{name: one[name] for name in ("experiment_id", "pipeline_version_reference", "runtime_config")},
                    "recurring_run_id": one["recurring_run_id"],
                    "state": "PENDING",
                    "storage_state": "AVAILABLE",
                    "scheduled_at": moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "finished_at": EPOCH,
                }
                started.append(self._keep(self.runs, "run_id", made))
        return started

    def get(self, kind: str, id_: str) -> Record:
        records = {"Experiment": self.experiments, "Pipeline": self.pipelines, "Run": self.runs, "Job": self.recurring}
        return self._get(records[kind], kind, id_)

    def _start(self, wanted: Record, kind: str) -> Record:
        """Check what runs and recurring runs have in common, and return their experiment."""
        if not wanted.get("display_name"):
            raise internal(f"{kind} name cannot be empty")
        if not wanted.get("experiment_id"):
            raise invalid("Experiment id can not be empty in multi-user mode")
        experiment = self._get(self.experiments, "Experiment", wanted["experiment_id"])
        reference = wanted.get("pipeline_version_reference", {})
        version = self._get(self.versions, "PipelineVersion", reference.get("pipeline_version_id", ""))
        if version["pipeline_id"] != reference.get("pipeline_id"):
            raise invalid("the pipeline version is of another pipeline")
        whole = version["pipeline_spec"]
        _check_parameters(whole.get("pipeline_spec", whole), wanted.get("runtime_config", {}).get("parameters", {}))
        return experiment

    @staticmethod
    def _demand_namespace(experiment: Record, namespaces: Sequence[str] | None, thing: str) -> None:
        namespace = experiment.get("namespace", "")
        if namespaces is not None and namespace not in namespaces:
            raise internal(f'Failed to create a {thing} for (darkroom-): namespaces "{namespace}" not found')

    def _named(self, wanted: Record, kind: str) -> str:
        name = str(wanted.get("display_name", ""))
        if not name:
            raise internal(f"{kind} must have a non-empty name")
        if len(name) > LONGEST[kind]:
            raise invalid(f"{kind}.Name length cannot exceed {LONGEST[kind]}")
        return name

    def _made(self, id_field: str, wanted: Record, namespace: str) -> Record:
        record = {**wanted, id_field: str(uuid.uuid4()), "created_at": _now()}
        return {**record, "namespace": namespace} if namespace else record

    @staticmethod
    def _keep(records: dict[str, Record], id_field: str, made: Record) -> Record:
        # An answer leaves out what is empty, false or zero.
        kept = {name: value for name, value in made.items() if value not in ("", None, False)}
        records[kept[id_field]] = kept
        return kept

    @staticmethod
    def _get(records: dict[str, Record], kind: str, id_: str) -> Record:
        if id_ not in records:
            raise not_found(kind, id_)
        return records[id_]

    @staticmethod
    def _of(records: dict[str, Record], namespace: str) -> list[Record]:
        return [one for one in records.values() if one.get("namespace", "") == namespace]

    def _of_recurring(self, recurring: Record) -> Iterator[Record]:
        return (run for run in self.runs.values() if run.get("recurring_run_id") == recurring["recurring_run_id"])

    @staticmethod
    def _page(field: str, items: Sequence[Record], query: Mapping[str, str], keys: Sequence[str]) -> Record:
        page, token = select(items, query, keys)
        answer = {field: page, "total_size": len(items), "next_page_token": token}
        return {name: value for name, value in answer.items() if value}

    def _watch(self) -> None:
        enabled = [one["display_name"] for one in self.recurring.values() if one["mode"] == "ENABLE"]
        for name in enabled:
            self.most_enabled[name] = max(self.most_enabled[name], enabled.count(name))


def _mode(enabled: bool) -> Record:
    return {"mode": "ENABLE", "status": "ENABLED"} if enabled else {"mode": "DISABLE", "status": "DISABLED"}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_parameters(specification: Record, given: Record) -> None:
    known = specification["root"].get("inputDefinitions", {}).get("parameters", {})
    for name, parameter in known.items():
        if name not in given:
            if not parameter.get("isOptional") and "defaultValue" not in parameter:
                raise invalid(
                    f"parameter {name} is not optional, yet has neither default value nor user provided value"
                )
            continue
        kinds = PARAMETER_KINDS[parameter["parameterType"]]
        if not isinstance(given[name], kinds) or (isinstance(given[name], bool) and bool not in kinds):
            raise invalid(f"input parameter {name} requires type {parameter['parameterType'].lower()}")
    extra = [name for name in given if name not in known]
    if extra:
        raise invalid(f"parameter(s) provided are not required by pipeline: {', '.join(extra)}")


def _check_cron(expression: str) -> None:
    texts = expression.split()
    problem = f"Expected 5 to 6 fields, found {len(texts)}: {expression}" if len(texts) not in (5, 6) else ""
    for text, (least, most) in zip(texts, CRON, strict=False):
        for item in re.split("[,-]", text):
            if item.isdecimal() and not least <= int(item) <= most:
                problem = problem or f"End of range ({item}) above maximum ({most}): {text}"
    if problem:
        raise invalid(
            f"Schedule cron is not a supported format(https://godoc.org/github.com/robfig/cron). Error: {problem}"
        )
