"""The whole command against servers on loopback that take real requests: KFP's, Kubernetes', S3 and MLflow.

No pod runs here. In place of Kubeflow, `Stage` runs the pipeline once on this machine, records it in the MLflow server,
copies what its steps wrote to where KFP puts artifacts, and makes the pods that the compiled package describes.
"""

import base64
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from pipelines.submission import read_steps
from tests.e2e.kubernetes_server import TOKEN, KubernetesServer
from tests.kfp_server.server import KfpServer

from ..mlflow_server.conftest import BUCKET, ObjectStore, Server, database, object_store, server  # noqa: F401 # fixtures
from ..pipelines.conftest import SMALL

ROOT = Path(__file__).parents[2]
GPU = "nvidia.com/gpu"
TAG = "1f0c2ab"
CAPACITY = {"cpu": "4", "memory": "16Gi"}


class Stage:
    """What a cluster would do: it looks at KFP's runs and lets each happen."""

    def __init__(self, kfp: KfpServer, kubernetes: KubernetesServer, store: ObjectStore, tracking: Server) -> None:
        self.kfp, self.kubernetes, self.store, self.tracking = kfp, kubernetes, store, tracking
        self.folder = Path()
        # What goes wrong, by name.
        self.faults: set[str] = set()
        self.error: BaseException | None = None
        self._ended = threading.Event()

    @contextmanager
    def playing(self, folder: Path) -> Iterator["Stage"]:
        self.folder = folder
        thread = threading.Thread(target=self._play)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()
            if self.error:
                raise self.error

    def _play(self) -> None:
        try:
            while not self._ended.wait(0.2):
                with self.kfp.state.lock:
                    if self.kfp.state.recurring and not self._scheduled():
                        self.kfp.state.tick(datetime.now(UTC))
                    waiting = [run for run in self.kfp.state.runs.values() if run["state"] == "PENDING"]
                for run in waiting:
                    self._happen(run)
        except BaseException as error:  # the test's own thread raises it again
            self.error = error
            with self.kfp.state.lock:
                for run in self.kfp.state.runs.values():
                    run["state"] = "FAILED"

    def _scheduled(self) -> bool:
        return any("recurring_run_id" in run for run in self.kfp.state.runs.values())

    def _happen(self, run: dict[str, Any]) -> None:
        whole = self.kfp.state.versions[run["pipeline_version_reference"]["pipeline_version_id"]]["pipeline_spec"]
        tasks = read_steps(whole["pipeline_spec"])
        first = not (self.folder / "done").exists()
        if first:
            if not self._pods(run, whole, tasks, list(tasks)):
                return
            self._run_pipeline(run["runtime_config"]["parameters"])
            self._copy_artifacts(run["run_id"], {step.name: task for task, step in tasks.items()})
            (self.folder / "done").touch()
        else:
            again = [task for task in tasks if task.startswith("register-model") or "no cache" in self.faults]
            self._pods(run, whole, tasks, again)
        with self.kfp.state.lock:
            run.update(state="SUCCEEDED", run_details={"task_details": []})

    def _pods(self, run: dict[str, Any], whole: dict[str, Any], tasks: dict[str, Any], ran: list[str]) -> bool:
        """Make the pods of some tasks, as the package describes them; false where one finds no node."""
        node = self.kubernetes.all("nodes")[0]
        specification, platform = whole["pipeline_spec"], whole["platform_spec"]["platforms"]["kubernetes"]
        for task in ran:
            label = specification["components"][specification["root"]["dag"]["tasks"][task]["componentRef"]["name"]][
                "executorLabel"
            ]
            settings = platform["deploymentSpec"]["executors"][label]
            context = settings["securityContext"]
            asked = tasks[task].accelerator.partition(" x ")
            limits = {asked[2]: asked[0]} if asked[2] else {}
            security = {
                "runAsUser": 0 if "root" in self.faults else int(context["runAsUser"]),
                "runAsNonRoot": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }
            container = {"name": "main", "image": tasks[task].image, "securityContext": security}
            fits = all(int(node["status"]["allocatable"].get(name, 0)) >= int(n) for name, n in limits.items())
            why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            message = f"0/1 nodes are available: 1 Insufficient {GPU}."
            self.kubernetes.put(
                "pods",
                "darkroom",
                {
                    "metadata": {
                        "name": f"{task}-{run['run_id'][:8]}",
                        "labels": {**settings["podMetadata"]["labels"], "pipeline/runid": run["run_id"]},
                    },
                    "spec": {
                        "containers": [{**container, "resources": {"limits": limits}}],
                        **({"nodeName": "worker"} if fits else {}),
                    },
                    "status": {"phase": "Succeeded"}
                    if fits
                    else {"phase": "Pending", "conditions": [{**why, "message": message}]},
                },
            )
            if not fits:
                return False
        return True

    def _run_pipeline(self, parameters: dict[str, Any]) -> None:
        """Run the pipeline on the data that the cluster was given to serve."""
        seed = self.kubernetes.objects["configmaps", "darkroom", "e2e-data"]["binaryData"]["data.tar.gz"]
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(seed))) as archive:
            archive.extractall(self.folder / "srv", filter="data")
        checkout = self.folder / "checkout"
        git = ["git", "clone", "--quiet", str(self.folder / "srv" / "data.git"), str(checkout)]
        subprocess.run(git, check=True)
        subprocess.run(["git", "-C", str(checkout), "checkout", "-q", parameters["revision"]], check=True)
        (self.folder / "srv" / "objects").rename(checkout / ".dvc" / "cache")
        subprocess.run([sys.executable, "-m", "dvc", "checkout", "--quiet"], cwd=checkout, check=True)
        suffix = f"registration.name_suffix={parameters['registration_options']['name_suffix']}"
        command = [sys.executable, "-m", "pipelines.cli", "run"]
        command += [part for override in (*SMALL, suffix) for part in ("--set", override)]
        environment = {**os.environ, **self.tracking.environment}
        subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)

    def _copy_artifacts(self, run: str, tasks: dict[str, str]) -> None:
        client = boto3.client(
            "s3",
            endpoint_url=self.store.address,
            aws_access_key_id=self.store.access_key,
            aws_secret_access_key=self.store.secret_key,
            region_name="us-east-1",
        )
        summary = yaml.safe_load((self.folder / "checkout" / "runs" / "latest" / "summary.json").read_text())
        for step in summary["steps"]:
            if step["name"] == "evaluate_gan" and "lost artifact" in self.faults:
                continue
            folder = Path(step["outputs"])
            for file in (path for path in folder.rglob("*") if path.is_file() and path.name != "executor_output.json"):
                key = f"kfp/darkroom/{run}/{tasks[step['name']]}/salt/{file.relative_to(folder)}"
                client.upload_file(str(file), BUCKET, key)


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[KubernetesServer]:
    with KubernetesServer().running() as running:
        cluster = {"name": "stub", "cluster": {"server": running.address}}
        context = {"name": "stub", "context": {"cluster": "stub", "user": "me"}}
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "stub", "clusters": [cluster]}
        config |= {"contexts": [context], "users": [{"name": "me", "user": {}}]}
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
        yield running


@pytest.fixture
def kfp() -> Iterator[KfpServer]:
    with KfpServer(token=TOKEN, allowed=["darkroom"]).running() as running:
        yield running


@contextmanager
def start(tmp_path: Path, kfp: KfpServer, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """The command, as `make e2e` runs it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "KFP_"))}
    environment |= {
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
        "KFP_ENDPOINT": kfp.address,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "tests.e2e", "--images", "registry.example.org/team", "--tag", TAG]
    command += ["--pull-policy", "Never", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def rows(output: str) -> dict[str, str]:
    """Outcome by step, from the closing table."""
    table = output.rpartition("outcome")[2].splitlines()[1:]
    return {
        line.partition("  ")[0]: next(word for word in ("passed", "failed", "not run") if f"  {word}" in line)
        for line in table
        if line.strip()
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_everything_holds_and_nothing_is_left(
    tmp_path: Path,
    kfp: KfpServer,
    kubernetes: KubernetesServer,
    object_store: ObjectStore,  # noqa: F811
    server: Server,  # noqa: F811
) -> None:
    (tmp_path / "params.yaml").write_text("")
    stage = Stage(kfp, kubernetes, object_store, server)
    secrets = {
        "object-store-credentials": {"access-key": object_store.access_key, "secret-key": object_store.secret_key},
        "mlflow-credentials": {"username": server.username, "password": server.password},
    }
    plant(kubernetes, secrets)
    options = ["--simulate-gpu", "--params", str(tmp_path / "params.yaml"), "--mlflow", server.address]
    options += [
        "--object-store",
        object_store.address,
        "--bucket",
        BUCKET,
        *(part for each in SMALL for part in ("--set", each)),
    ]

    with stage.playing(tmp_path), start(tmp_path, kfp, *options) as process:
        output = process.communicate(timeout=800)[0]

    assert process.returncode == 0, output
    assert set(rows(output).values()) == {"passed"}, output
    assert len(rows(output)) == 15
    assert (kfp.state.runs, kfp.state.recurring, kfp.state.experiments) == ({}, {}, {})
    assert kubernetes.all("nodes")[0]["status"]["capacity"] == CAPACITY
    assert ("configmaps", "darkroom", "e2e-data") not in kubernetes.objects
    # The namespace was there before, so it stays.
    assert ("namespaces", "", "darkroom") in kubernetes.objects
    os.environ.update(server.environment)
    import mlflow

    client = mlflow.MlflowClient(server.address, registry_uri=server.address)
    assert [model.name for model in client.search_registered_models() if "-e2e-" in model.name] == []


@pytest.mark.slow
def test_without_a_gpu_it_says_that_it_waits_for_one_and_cleans_up(
    tmp_path: Path, kfp: KfpServer, kubernetes: KubernetesServer
) -> None:
    unused = ObjectStore("", "", "")
    stage = Stage(kfp, kubernetes, unused, Server("", "", "", tmp_path))
    with stage.playing(tmp_path), start(tmp_path, kfp, "--run-seconds", "12") as process:
        output = process.communicate(timeout=280)[0]

    assert process.returncode == 124, output
    assert "no node has one and --simulate-gpu is not given" in output
    assert f"waits: 0/1 nodes are available: 1 Insufficient {GPU}." in output, output
    table = rows(output)
    assert table["the smoke pipeline succeeds"] == "failed"
    assert table["artifacts are in S3"] == "not run"
    assert table["everything is taken back"] == "passed", output
    assert (kfp.state.runs, kfp.state.experiments) == ({}, {})
    # It installed the overlay itself, so that goes as well.
    assert {namespace for _, namespace, _ in kubernetes.objects} == {""}
    assert ("namespaces", "", "darkroom") not in kubernetes.objects


@pytest.mark.slow
def test_ctrl_c_takes_everything_back(tmp_path: Path, kfp: KfpServer, kubernetes: KubernetesServer) -> None:
    with start(tmp_path, kfp, "--simulate-gpu") as process:
        end = time.monotonic() + 200
        # Nobody lets the run happen.
        while not kfp.state.runs and time.monotonic() < end and process.poll() is None:
            time.sleep(0.2)
        assert kubernetes.all("nodes")[0]["status"]["capacity"] == {**CAPACITY, GPU: "2"}
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=120)[0]

    assert process.returncode == 130, output
    assert rows(output)["everything is taken back"] == "passed"
    assert (kfp.state.runs, kfp.state.experiments) == ({}, {})
    assert kubernetes.all("nodes")[0]["status"]["capacity"] == CAPACITY
    assert {namespace for _, namespace, _ in kubernetes.objects} == {""}


@pytest.mark.slow
def test_a_workload_that_is_not_ready_is_explained(
    tmp_path: Path, kfp: KfpServer, kubernetes: KubernetesServer
) -> None:
    kubernetes.unready.add("mlflow")
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    kubernetes.put(
        "pods",
        "darkroom",
        {
            "metadata": {"name": "mlflow-1"},
            "spec": {"containers": []},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "mlflow", "state": {"waiting": waiting}}]},
        },
    )

    with start(tmp_path, kfp, "--ready-seconds", "15") as process:
        output = process.communicate(timeout=120)[0]

    assert process.returncode == 124, output
    assert "not ready within 15 s" in output
    assert "pod mlflow-1: mlflow ImagePullBackOff no such image" in output
    assert ("namespaces", "", "darkroom") not in kubernetes.objects


def test_a_cluster_that_does_not_answer_is_one_message(tmp_path: Path, kfp: KfpServer) -> None:
    (tmp_path / "kubeconfig").write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
        "clusters: [{name: a, cluster: {server: 'http://127.0.0.1:9'}}]\n"
        "users: [{name: a}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n"
    )
    with start(tmp_path, kfp) as process:
        output = process.communicate(timeout=120)[0]

    assert process.returncode == 1
    assert "127.0.0.1:9" in output
    assert "Traceback" not in output
    assert kfp.writes == []


def plant(kubernetes: KubernetesServer, secrets: dict[str, dict[str, str]]) -> None:
    """What an installation before this one made: the namespace, and secrets that are kept."""
    kubernetes.put("namespaces", "", {"metadata": {"name": "darkroom"}})
    for name, values in secrets.items():
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        kubernetes.put("secrets", "darkroom", {"metadata": {"name": name}, "data": encoded})
