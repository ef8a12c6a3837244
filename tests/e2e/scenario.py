"""The test's steps, in order. What a step makes goes onto the stack of what is taken back, before or as it is made."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from darkroom.errors import ClusterError, DarkroomError
from pipelines.connection import SERVER_NAMESPACE, Options, connect
from pipelines.kubeflow import Kubeflow
from pipelines.submission import Step, read_steps
from pipelines.watch import ENDED, SUCCEEDED, RunView, wait_for_run
from tests.e2e import checks, data, kfp
from tests.e2e.kubectl import Kubectl, Object
from tests.e2e.settings import Settings
from tests.e2e.stores import Artifacts, Tracking

ROOT = Path(__file__).parents[2]
NAMESPACE = "darkroom"
SUBMITTER = "darkroom-submitter"
AUDIENCE = "pipelines.kubeflow.org"
WORKLOADS = "deployments,statefulsets"
SIMULATED_GPUS = "2"
CAPACITY = f"/status/capacity/{checks.GPU.replace('/', '~1')}"
# A kubelet looks at its node's capacity every ten seconds.
GPU_SECONDS = 120.0
# The first tick comes within a minute; its run is from the cache but for registration.
TICK_SECONDS = 120.0
PARENT_SECONDS = 60.0
POLL_SECONDS = 3.0
# To compile, check and send a pipeline; it takes ten seconds where the machine has nothing else to do.
COMMAND_SECONDS = 300.0
# What kfp.local writes into a step's folder besides its artifacts.
BESIDE_ARTIFACTS = ("executor_output.json",)

Findings = list[str]


class OutOfTimeError(DarkroomError):
    """Something did not happen within its bound."""


class Scenario:
    """One test of one cluster. Each step returns its findings; where the rest makes no sense after it, it raises.

    Raises:
        DarkroomError: the cluster cannot be used, or a run failed; every step does.
        OutOfTimeError: something took longer than its bound.
    """

    def __init__(self, settings: Settings, console: Console, undo: ExitStack) -> None:
        self._settings = settings
        self._console = console
        self._undo = undo
        self._kubectl = Kubectl()
        self._folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="darkroom-e2e-")))
        self._repository = self._folder / "digits"
        self._environment = dict(os.environ)
        self._has_gpu = False
        self._md5 = ""
        self._run = ""
        self._steps: dict[str, Step] = {}
        self._records: dict[str, Object] = {}
        self._decisions: list[Object] = []
        self._artifacts: dict[str, list[str]] = {}

    @property
    def steps(self) -> list[tuple[str, Callable[[], Findings]]]:
        """What is done, in order, by the names that the closing table shows."""
        return [
            ("the cluster answers", self._look),
            ("the overlay is installed and ready", self._install),
            ("KFP answers", self._connect),
            ("a node has a GPU", self._provide_gpu),
            ("the data are served in the cluster", self._serve_data),
            ("the smoke pipeline succeeds", self._submit_first),
            ("every step's pod is restricted", self._check_pods),
            ("the training pods got a GPU", self._check_gpus),
            ("artifacts are in S3", self._check_artifacts),
            ("MLflow has the parent and the nested runs", self._check_tracking),
            ("MLflow has the models", self._check_models),
            ("a second run comes from the cache", self._submit_again),
            ("a schedule fires and registers nothing twice", self._schedule),
            ("a local run gives the same", self._compare),
        ]

    def _look(self) -> Findings:
        version = json.loads(self._kubectl.run("version", "--output", "json"))["serverVersion"]["gitVersion"]
        nodes = self._kubectl.items("nodes")
        self._say(
            f"Kubernetes {version}, {len(nodes)} nodes, with GPUs: {', '.join(checks.gpu_nodes(nodes)) or 'none'}"
        )
        commit = _git("rev-parse", "HEAD") + ("-dirty" if _git("status", "--porcelain", "-uno") else "")
        if commit != self._settings.tag:
            self._say(f"the images are of {self._settings.tag[:12]}, this checkout is {commit[:18]}")
        return []

    def _install(self) -> Findings:
        settings = self._settings
        found_there = self._kubectl.exists("namespace", NAMESPACE)
        if found_there:
            self._say(f"the namespace {NAMESPACE} is there already, so it stays at the end")
        elif settings.keep:
            self._say("--keep: the overlay stays at the end")
        else:
            self._undo.callback(self._remove_overlay)
        command = [str(ROOT / "infra" / "install"), settings.overlay, settings.images, settings.tag]
        command += ["--kubeflow"] if settings.with_kubeflow else []
        self._say(" ".join(command[1:]))
        try:
            status, _, said = _run(command, settings.ready_seconds, ROOT, self._environment)
        except subprocess.TimeoutExpired:
            raise OutOfTimeError(f"not ready within {settings.ready_seconds:.0f} s\n{self._why_not()}") from None
        if status:
            raise ClusterError(f"infra/install: {said.strip()}\n{self._why_not()}")
        workloads = self._kubectl.items(WORKLOADS, NAMESPACE)
        self._say(f"{', '.join(map(checks.name_of, workloads))}: ready" if workloads else "nothing to wait for")
        return checks.find_unready(workloads)

    def _connect(self) -> Findings:
        endpoint = self._settings.endpoint or self._forward(SERVER_NAMESPACE, "ml-pipeline", 8888)
        self._environment |= {"KFP_ENDPOINT": endpoint, "KFP_NAMESPACE": NAMESPACE, "COLUMNS": "200"}
        if "KFP_TOKEN" not in self._environment:
            token = self._kubectl.run(
                "--namespace", NAMESPACE, "create", "token", SUBMITTER, f"--audience={AUDIENCE}", "--duration=6h"
            )
            self._environment["KFP_TOKEN"] = token.strip()
        self._kubeflow = Kubeflow(connect(Options(), self._environment))
        self._say(f"KFP at {endpoint}")
        return []

    def _provide_gpu(self) -> Findings:
        nodes = self._kubectl.items("nodes")
        self._has_gpu = bool(checks.gpu_nodes(nodes))
        if self._has_gpu:
            return []
        if not self._settings.simulate_gpu:
            self._say("no node has one and --simulate-gpu is not given: the training pods will wait for one")
            return []
        node = checks.name_of(nodes[0])
        self._undo.callback(self._remove_gpus, node)
        self._kubectl.patch_node(node, {"op": "add", "path": CAPACITY, "value": SIMULATED_GPUS})
        self._say(f"node {node} has {SIMULATED_GPUS} simulated GPUs until the end")
        self._wait("the simulated GPUs are allocatable", self._gpu_is_there, GPU_SECONDS)
        self._has_gpu = True
        return []

    def _serve_data(self) -> Findings:
        settings = self._settings
        self._md5 = data.make_data(self._repository, settings.identity).md5
        archive = data.pack(self._repository)
        objects = data.server_objects(archive, settings.images, settings.tag, settings.pull_policy)
        self._undo.callback(self._kubectl.delete, objects)
        self._kubectl.apply(objects)
        limit = f"--timeout={GPU_SECONDS:.0f}s"
        try:
            self._kubectl.run(
                "--namespace", NAMESPACE, "rollout", "status", limit, "deployment/e2e-data", seconds=GPU_SECONDS + 10
            )
        except ClusterError as error:
            raise ClusterError(f"{error}\n{self._why_not()}") from None
        self._say(f"{len(archive) / 1000:.0f} kB of data, version {self._md5}")
        return []

    def _submit_first(self) -> Findings:
        for experiment in (self._settings.experiment, self._settings.schedules):
            self._undo.callback(kfp.delete_experiment, self._kubeflow, experiment)
        self._run = self._submit()
        run = self._follow(self._run)
        return checks.check_steps_ran(self._pods(), self._steps) if run == SUCCEEDED else [f"the run {run.lower()}"]

    def _check_pods(self) -> Findings:
        return checks.check_restricted(self._pods())

    def _check_gpus(self) -> Findings:
        pods = self._pods()
        for pod in checks.steps_of(pods):
            if pod["metadata"]["labels"][checks.NAME_LABEL] in checks.TRAINING:
                self._say(f"{checks.name_of(pod)} on {pod['spec'].get('nodeName', 'no node')}")
        return checks.check_gpus(pods, self._kubectl.items("nodes"))

    def _check_artifacts(self) -> Findings:
        address = self._settings.object_store or self._forward(NAMESPACE, "object-store", 8333)
        store = Artifacts(address, self._settings.bucket, self._kubectl.secret(NAMESPACE, "object-store-credentials"))
        found = checks.artifacts_of(store.keys(), self._run)
        self._say(f"{len(found)} artifacts, {sum(map(len, found.values()))} objects")
        specification = self._kubeflow.get_specification(self._kubeflow.get_run(self._run))
        for (task, artifact), keys in found.items():
            name = self._steps[task].name
            self._artifacts.setdefault(name, []).append(artifact)
            if artifact == "metrics":
                self._records[name] = store.read_json(keys[0])
            if artifact == "decision":
                self._decisions.append(store.read_json(keys[0]))
        return checks.check_artifacts(found, checks.expected_artifacts(specification))

    def _check_tracking(self) -> Findings:
        address = self._settings.mlflow or self._forward(NAMESPACE, "mlflow", 5000)
        self._tracking = Tracking(address, self._kubectl.secret(NAMESPACE, "mlflow-credentials"))
        self._undo.callback(self._tracking.delete, self._settings.models, self._md5)
        ids = [record.get("mlflow_run_id", "") for record in self._records.values()]
        end = time.monotonic() + PARENT_SECONDS
        # KFP closes the parent after the run has ended.
        while checks.check_tracking(self._records, runs := self._tracking.runs(ids)) and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        self._say(f"{len(runs)} runs, {sum(not run['parent'] for run in runs.values())} of them on top")
        return checks.check_tracking(self._records, runs)

    def _check_models(self) -> Findings:
        for each in self._decisions:
            self._say(f"{each['name']} version {each['version']}: {each['decision']}")
        return checks.check_models(self._decisions, self._tracking.versions(self._settings.models))

    def _submit_again(self) -> Findings:
        run = self._submit()
        state = self._follow(run)
        pods = self._pods(run)
        self._say(f"{len(checks.steps_of(pods))} of {len(self._steps)} steps had a pod")
        found = [] if state == SUCCEEDED else [f"the run {state.lower()}"]
        return found + checks.check_cached(pods, self._steps)

    def _schedule(self) -> Findings:
        before = self._tracking.versions(self._settings.models)
        declared = {
            "name": "e2e-every-minute",
            "cron": "0 * * * * *",
            "time_zone": "UTC",
            "profile": str(self._profile()),
            "params": str(self._settings.params),
            "set": list(self._settings.all_overrides),
        }
        self._apply_schedules([declared])
        limit = TICK_SECONDS + self._settings.run_seconds

        def states() -> list[str]:
            return [str(run.state) for run in kfp.runs_of(self._kubeflow, self._settings.schedules)]

        self._wait("a run of the schedule ends", lambda: bool(ENDED & set(states())), limit)
        self._apply_schedules([])
        self._wait("the schedule's runs end", lambda: set(states()) <= ENDED, self._settings.run_seconds)
        self._say(f"{len(states())} runs of the schedule")
        return checks.check_schedule(states(), before, self._tracking.versions(self._settings.models))

    def _compare(self) -> Findings:
        summary = json.loads((self._settings.summary or self._run_locally()).read_text(encoding="utf-8"))
        local = {
            "metrics": {step["name"]: list(step["metrics"]) for step in summary["steps"]},
            "artifacts": {
                step["name"]: [
                    path.name for path in Path(step["outputs"]).iterdir() if path.name not in BESIDE_ARTIFACTS
                ]
                for step in summary["steps"]
                if step["outputs"]
            },
            "verdicts": {model["kind"]: model["decision"] for model in summary["models"]},
        }
        cluster = {
            "metrics": {step: list(record["metrics"]) for step, record in self._records.items()},
            "artifacts": self._artifacts,
            "verdicts": {decision["kind"]: decision["decision"] for decision in self._decisions},
        }
        found = checks.compare_runs(local, cluster)
        self._say("the same metric names, artifacts and verdicts" if not found else "they differ")
        return found

    def _submit(self) -> str:
        settings = self._settings
        command = ["submit", "--no-wait", "--params", str(settings.params), "--profile", str(self._profile())]
        command += ["--images", settings.images, "--tag", settings.tag, "--repository", data.REPOSITORY]
        command += ["--experiment", settings.experiment]
        command += [part for override in settings.all_overrides for part in ("--set", override)]
        command += ["--side-loaded"] if settings.pull_policy != "Always" else []
        # The preflight would refuse to let a pod wait for a GPU, which is to be seen here.
        kubeconfig = os.environ.get("KUBECONFIG", "")
        if self._has_gpu and Path(kubeconfig).is_file():
            command += ["--kubeconfig", kubeconfig]
        said = self._darkroom(*command)
        match = re.search(r"runs/details/([0-9a-f-]+)", said)
        if match is None:
            raise ClusterError(f"darkroom submit named no run:\n{said}")
        return match[1]

    def _follow(self, run: str) -> str:
        """Wait for a run and return its state; say of each pod that cannot be scheduled why."""
        self._steps = read_steps(self._kubeflow.get_specification(self._kubeflow.get_run(run)))
        view = _PodsView(self._console, self._steps, run, partial(self._pods, run))
        state = wait_for_run(self._kubeflow, run, view, self._settings.run_seconds)
        if state is None:
            waiting = checks.find_unschedulable(self._pods(run))
            reasons = [f"{pod} waits: {why}" for pod, why in waiting.items()] or [self._why_not()]
            raise OutOfTimeError("\n".join([f"the run is not done after {self._settings.run_seconds:.0f} s", *reasons]))
        if state != SUCCEEDED:
            self._say(self._why_not(f"pipeline/runid={run}"))
        return state

    def _apply_schedules(self, schedules: Sequence[Mapping[str, Any]]) -> None:
        file = self._folder / "schedules.yaml"
        declaration = {"experiment": self._settings.schedules, "schedules": list(schedules)}
        file.write_text(yaml.safe_dump(declaration), encoding="utf-8")
        settings = self._settings
        command = ["schedules", "apply", "--file", str(file), "--images", settings.images, "--tag", settings.tag]
        command += ["--side-loaded"] if settings.pull_policy != "Always" else []
        self._darkroom(*command, "--repository", data.REPOSITORY)

    def _run_locally(self) -> Path:
        command = ["run", "--params", str(self._settings.params)]
        command += [part for override in self._settings.all_overrides for part in ("--set", override)]
        # Nothing of the cluster's MLflow: the run is recorded beside the data.
        clean = {key: value for key, value in self._environment.items() if not key.startswith("MLFLOW_TRACKING")}
        self._darkroom(*command, seconds=self._settings.run_seconds, environment=clean)
        return self._repository / "runs" / "latest" / "summary.json"

    def _darkroom(
        self, *arguments: str, seconds: float = COMMAND_SECONDS, environment: Mapping[str, str] | None = None
    ) -> str:
        """Run the command line in the repository of the digits and show what it says."""
        command = [sys.executable, "-m", "pipelines.cli", *arguments]
        try:
            status, said, errors = _run(command, seconds, self._repository, environment or self._environment)
        except subprocess.TimeoutExpired:
            raise OutOfTimeError(f"darkroom {arguments[0]}: not done within {seconds:.0f} s") from None
        for line in said.splitlines():
            self._say(line)
        if status:
            raise ClusterError(f"darkroom {arguments[0]} ended with status {status}: {errors.strip()}")
        return said

    def _profile(self) -> Path:
        """The profile with the pull policy that was asked for."""
        values = yaml.safe_load(Path(__file__).with_name("profile.yaml").read_text(encoding="utf-8"))
        values["defaults"]["image_pull_policy"] = self._settings.pull_policy
        file = self._folder / "profile.yaml"
        file.write_text(yaml.safe_dump(values), encoding="utf-8")
        return file

    def _pods(self, run: str = "") -> list[Object]:
        return self._kubectl.items("pods", NAMESPACE, f"pipeline/runid={run or self._run}")

    def _gpu_is_there(self) -> bool:
        return bool(checks.gpu_nodes(self._kubectl.items("nodes")))

    def _remove_gpus(self, name: str) -> None:
        node = next(each for each in self._kubectl.items("nodes") if checks.name_of(each) == name)
        if checks.GPU in node["status"]["capacity"]:
            self._kubectl.patch_node(name, {"op": "remove", "path": CAPACITY})

    def _why_not(self, selector: str = "") -> str:
        """What Kubernetes says about the pods that are not ready."""
        pods, events = self._kubectl.items("pods", NAMESPACE, selector), self._kubectl.items("events", NAMESPACE)
        return "\n".join(checks.explain_pods(pods, events)) or "Kubernetes says nothing about it"

    def _remove_overlay(self) -> None:
        self._kubectl.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=300s", seconds=310)

    def _forward(self, namespace: str, service: str, port: int) -> str:
        return self._undo.enter_context(self._kubectl.forwarded(namespace, service, port))

    def _wait(self, what: str, holds: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                raise OutOfTimeError(f"not within {seconds:.0f} s: {what}")
            time.sleep(POLL_SECONDS)

    def _say(self, text: str) -> None:
        self._console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)


class _PodsView(RunView):
    """The view of `darkroom submit`, which besides says of each pod that no node can take why that is."""

    def __init__(self, console: Console, steps: Mapping[str, Step], run: str, pods: Callable[[], list[Object]]) -> None:
        super().__init__(console, steps, run)
        self._pods = pods
        self._told: set[str] = set()

    def handle(self, run: Any) -> None:
        """Show what is new."""
        super().handle(run)
        for pod, why in checks.find_unschedulable(self._pods()).items():
            if pod not in self._told:
                self._told.add(pod)
                self._print(f"  [yellow]![/] {pod} waits: {why}")


def _run(command: Sequence[str], seconds: float, folder: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
    """Status, output and errors of a command; what it started ends with it when time is up or the test is stopped."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            said, errors = process.communicate(timeout=seconds)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
    return process.returncode, said, errors


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()
