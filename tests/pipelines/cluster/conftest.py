import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import kfp_server_api
import pytest

from pipelines import cli, connection, watch
from pipelines.connection import Options, connect
from pipelines.kubeflow import Kubeflow
from tests.kfp_server.server import KfpServer

LIVE = os.environ.get("KFP_ENDPOINT", "")
ORIGIN = "https://git.example.org/team/darkroom.git"

Run = Callable[..., int]


@pytest.fixture(autouse=True)
def no_cluster_of_the_person(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the machine's own cluster out of the tests, unless KFP_ENDPOINT says that it is meant."""
    if not LIVE:
        for name in [name for name in os.environ if name.startswith(("KFP_", "KF_PIPELINES_", "KUBERNETES_"))]:
            monkeypatch.delenv(name)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "no-kubeconfig"))
    monkeypatch.setattr(watch, "POLL_SECONDS", 3.0 if LIVE else 0.02)


@pytest.fixture
def server() -> Iterator[KfpServer]:
    """The local server, for tests that steer it or look into it: no cluster can stand in for it there."""
    if LIVE:
        pytest.skip("steers the local server; KFP_ENDPOINT names a cluster")
    with KfpServer().running() as running:
        yield running


@pytest.fixture
def address(request: pytest.FixtureRequest) -> str:
    """The cluster that KFP_ENDPOINT names, or the local server."""
    return LIVE or request.getfixturevalue("server").address


@pytest.fixture
def kubeflow(address: str) -> Kubeflow:
    return Kubeflow(connect(Options(endpoint=address)))


@pytest.fixture
def experiment(kubeflow: Kubeflow) -> Iterator[str]:
    """The name of an experiment that is the test's own, and gone after it."""
    name = f"darkroom-test-{uuid.uuid4()}"
    yield name
    if LIVE and (id_ := kubeflow.find_experiment(name)):
        for run in kubeflow.list_recurring_runs(name):
            kubeflow.delete(run.id)
        client = kubeflow.connection.client
        runs = kfp_server_api.RunServiceApi(client)
        for started in runs.run_service_list_runs(experiment_id=id_).runs or ():
            if started.state not in watch.ENDED:
                runs.run_service_terminate_run(started.run_id)
        kfp_server_api.ExperimentServiceApi(client).experiment_service_archive_experiment(id_)


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with one commit that is on its origin, as far as the checkout knows."""
    root = tmp_path_factory.mktemp("committed")
    (root / "data.dvc").write_text(
        f"outs:\n- md5: {'5' * 32}.dir\n  size: 54950445\n  nfiles: 5\n  hash: md5\n  path: data\n"
    )
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text(
        "[core]\n    remote = store\n['remote \"store\"']\n    url = s3://darkroom/dvc\n"
    )
    (root / ".gitignore").write_text("/build/\n/schedules.yaml\n")
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "config", "user.name", "Tester")
    git(root, "config", "user.email", "tester@example.org")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message=Pin the data")
    git(root, "remote", "add", "origin", ORIGIN)
    git(root, "update-ref", "refs/remotes/origin/main", "HEAD")
    return root


@pytest.fixture
def checkout(committed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of the above that is the test's own, and its working directory."""
    root = tmp_path / "checkout"
    git(tmp_path, "clone", "--quiet", str(committed), str(root))
    git(root, "remote", "set-url", "origin", ORIGIN)
    monkeypatch.chdir(root)
    return root


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def darkroom(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line, in this process; gives its exit status."""

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["darkroom", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return int(exit_.value.code or 0)

    return run


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a tenth of a second where a person would wait seconds."""
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.2)
