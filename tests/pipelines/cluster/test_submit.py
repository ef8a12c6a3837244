import io
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import kfp_server_api
import pytest
import typer
from rich.console import Console

from darkroom.errors import ClusterError
from pipelines import cluster_cli, watch
from pipelines.connection import Options, connect
from pipelines.kubeflow import Kubeflow
from pipelines.submission import Package, Step, build_package
from pipelines.watch import RunView
from pipelines.workspace import Workspace
from tests.kfp_server.server import KfpServer
from tests.pipelines.cluster.conftest import ORIGIN, Run, git

Start = Callable[..., str]
Follow = Callable[..., int]
Show = Callable[..., str]

STEPS = {
    "fetch-data": Step("fetch_data", "team/python-data:0123abc"),
    "train-cnn": Step("train_cnn", "team/python-train-gpu:0123abc", "1 x nvidia.com/gpu"),
    "train-gan": Step("train_gan", "team/python-train-gpu:0123abc", "1 x nvidia.com/gpu"),
}


def task(name: str, state: str, start: int = 0, end: int = 0) -> dict[str, Any]:
    """A task as the server tells of it: a time that has not come is the first second of 1970."""
    return {"display_name": name, "state": state, "start_time": moment(start), "end_time": moment(end)}


def moment(second: int) -> str:
    return f"2026-03-01T02:{second // 60:02}:{second % 60:02}Z" if second else "1970-01-01T00:00:00Z"


def snapshot(state: str, *tasks: dict[str, Any]) -> dict[str, Any]:
    return {"state": state, "run_details": {"task_details": list(tasks)}}


FETCHED = (
    task("darkroom-x7k2p", "RUNNING", 1),
    task("root-driver", "SUCCEEDED", 1, 5),
    task("fetch-data-driver", "SUCCEEDED", 5, 9),
    task("fetch-data", "SUCCEEDED", 9, 51),
    task("executor", "SUCCEEDED", 9, 51),
)
DONE = [
    snapshot("PENDING"),
    snapshot("RUNNING", *FETCHED),
    snapshot("RUNNING", *FETCHED, task("train-cnn", "RUNNING", 60)),
    snapshot("SUCCEEDED", *FETCHED, task("train-cnn", "SUCCEEDED", 60, 660), task("train-gan", "SKIPPED", 60, 61)),
]
FAILED = [snapshot("FAILED", *FETCHED, task("train-cnn", "FAILED", 60, 61))]


@pytest.fixture(scope="module")
def package(committed: Path) -> Package:
    return build_package(Workspace.find(committed), "cpu", "team")


@pytest.fixture
def start(kubeflow: Kubeflow, experiment: str, package: Package, server: KfpServer) -> Callable[..., str]:
    """Start a run that goes through these snapshots; gives its id."""

    def run(*plan: dict[str, Any]) -> str:
        server.plan = [*plan]
        version = kubeflow.upload("darkroom", package.version, package.file)
        return kubeflow.start_run("test", kubeflow.make_experiment(experiment), version, {"repository": ORIGIN}, "")

    return run


@pytest.fixture
def follow(kubeflow: Kubeflow, package: Package) -> Callable[..., int]:
    """Wait for a run as the command does; gives its exit status."""

    def run(id_: str, timeout: float | None = None) -> int:
        try:
            cluster_cli.follow(kubeflow, id_, package.steps, timeout)
        except typer.Exit as exit_:
            return exit_.exit_code
        return 0

    return run


@pytest.fixture
def submit(darkroom: Run, address: str, experiment: str) -> Run:
    def run(*arguments: str) -> int:
        return darkroom("submit", "--side-loaded", "--endpoint", address, "--experiment", experiment, *arguments)

    return run


def test_a_run_is_started_and_can_be_looked_at_later(
    submit: Run, darkroom: Run, kubeflow: Kubeflow, address: str, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        submit("--no-wait", "--set", "cnn.epochs=3", "--set", "cnn.weight_decay=0.5", "--images", "r.example.org/t")
        == 0
    )
    out = capsys.readouterr().out
    run = out.split("darkroom status ")[1].strip()
    assert f"  {address}/#/runs/details/{run}\n" in out
    found = kubeflow.get_run(run)
    parameters = found.runtime_config.parameters
    assert parameters["repository"] == ORIGIN
    assert parameters["revision"] == git(checkout, "rev-parse", "HEAD")
    assert (parameters["cnn_epochs"], parameters["cnn_options"]) == (3, {"weight_decay": 0.5})
    assert found.service_account == "darkroom-runner"
    specification = kubeflow.get_specification(found)
    images = {one["container"]["image"] for one in specification["deploymentSpec"]["executors"].values()}
    assert f"r.example.org/t/python-data:{parameters['revision']}" in images
    assert darkroom("status", run, "--endpoint", address) == 0
    assert f"/#/runs/details/{run}" in capsys.readouterr().out


def test_the_same_content_is_uploaded_once(submit: Run, server: KfpServer) -> None:
    assert submit("--no-wait") == 0
    assert submit("--no-wait", "--set", "cnn.epochs=3") == 0
    assert submit("--no-wait", "--profile", "t4") == 0
    assert [write.split()[1] for write in server.writes] == [
        *("create_experiment", "create_pipeline", "upload_version", "create_run"),
        "create_run",
        *("upload_version", "create_run"),
    ]
    assert [pipeline["name"] for pipeline in server.state.pipelines.values()] == ["darkroom"]


def test_a_run_is_followed_to_its_end(submit: Run, server: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.plan = [*DONE]
    assert submit() == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "  ✓ fetch_data               42 s",
        "  = train_gan                 1 s   skipped",
        "  ✓ train_cnn               600 s",
        "The run succeeded.",
    ]


def test_a_failed_run_is_an_error_that_says_where_the_logs_are(
    start: Start, follow: Follow, darkroom: Run, server: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start(*FAILED)
    assert follow(run) == 1
    out = capsys.readouterr().out
    assert "  ✗ train_cnn                 1 s   failed\nThe run failed.\n" in out
    assert f"kubectl logs --all-containers --prefix -l pipeline/runid={run}" in out
    assert darkroom("status", run, "--endpoint", server.address) == 1
    assert "✗ train_cnn" in capsys.readouterr().out


def test_a_cancelled_run_is_an_error(start: Start, follow: Follow, capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(start(snapshot("RUNNING", *FETCHED), snapshot("CANCELED", *FETCHED))) == 1
    assert "The run canceled." in capsys.readouterr().out


def test_out_of_time_has_a_status_of_its_own_and_leaves_the_run_alone(
    start: Start, follow: Follow, server: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start(snapshot("RUNNING", *FETCHED))
    assert follow(run, 0.3) == 124
    assert f"Not done after 0 s. The run goes on.\n  look  darkroom status {run}" in capsys.readouterr().out
    assert server.state.runs[run]["state"] == "RUNNING"


def test_interrupting_stops_the_waiting_and_not_the_run(
    start: Start, follow: Follow, server: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start(snapshot("RUNNING", *FETCHED))

    def interrupt() -> None:
        while not any(target.endswith(f"/runs/{run}") for _, target in server.requests):
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert follow(run) == 130
    thread.join()
    assert f"Stopped waiting. The run goes on.\n  look  darkroom status {run}" in capsys.readouterr().out
    assert server.state.runs[run]["state"] == "RUNNING"


def test_a_server_that_is_away_for_a_moment_does_not_end_the_waiting(
    start: Start, follow: Follow, server: KfpServer
) -> None:
    run = start(*DONE)
    server.fail_reads = 9
    assert follow(run) == 0
    assert server.fail_reads == 0


def test_a_token_that_expires_on_the_way_is_one_message_and_the_run_goes_on(
    start: Start, follow: Follow, server: KfpServer
) -> None:
    run = start(snapshot("RUNNING", *FETCHED))
    server.token = "renewed"  # noqa: S105 - a test's own
    with pytest.raises(ClusterError, match="wants a login") as error:
        follow(run)
    assert str(error.value).endswith(f"\nThe run goes on: darkroom status {run}")


def test_a_server_that_stays_away_ends_the_waiting(
    start: Start, follow: Follow, server: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "AWAY_SECONDS", 0.1)
    run = start(*DONE)
    server.fail_reads = 1000
    with pytest.raises(ClusterError, match=r"the server failed \(HTTP 500: InternalServerError") as error:
        follow(run)
    assert str(error.value).endswith(f"\nThe run goes on: darkroom status {run}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "cnn.epoch=3"), "cnn.epoch: unknown parameter; known here: "),
        (("--profile", "abacus"), "--profile abacus: must be one of the bundled profiles"),
        (("--repository", "/srv/git"), "--repository: must be an address that the cluster can clone"),
        (("--kubeconfig", "/nowhere"), "--kubeconfig /nowhere: no such file"),
        (("--token-file", "/nowhere"), "/nowhere: the token cannot be read: No such file or directory"),
        (
            ("--endpoint", "kubeflow"),
            "endpoint: must be an address such as https://kubeflow.example.org, got 'kubeflow'",
        ),
    ],
)
def test_bad_input_is_one_message_and_nothing_is_sent(
    arguments: Sequence[str], message: str, submit: Run, server: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.requests.clear()
    assert submit(*arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("Error ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert captured.out == ""
    assert server.requests == []


def test_a_namespace_that_is_no_more_than_a_name_is_told(darkroom: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """An administrator may name any namespace; that there is none shows when the run is to be put there."""
    with KfpServer(allowed=["ghost"], existing=["darkroom"]).running() as server:
        where = ("--endpoint", server.address, "--namespace", "ghost")
        assert darkroom("submit", "--side-loaded", "--no-wait", *where) == 1
        assert 'namespaces "ghost" not found' in capsys.readouterr().err
        assert server.state.runs == {}


def test_status_of_a_run_that_is_not_there(darkroom: Run, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    missing = "00000000-0000-0000-0000-000000000000"
    assert darkroom("status", missing, "--endpoint", address) == 1
    assert f"refused (HTTP 404: Run {missing} not found)" in capsys.readouterr().err


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Iterator[Show]:
    """Show snapshots and give all that was printed; a clock that stands still but where it is told to go on."""
    clock = [100.0]
    monkeypatch.setattr("pipelines.watch.time.monotonic", lambda: clock[0])
    output = io.StringIO()
    view = RunView(Console(file=output, width=120), STEPS, "run-1")

    def run(*tasks: dict[str, Any], after: float = 0.0) -> str:
        clock[0] += after
        view.handle(as_model(snapshot("RUNNING", *tasks)))
        return output.getvalue()

    yield run


def as_model(record: dict[str, Any]) -> Any:
    client = kfp_server_api.ApiClient()
    return client._ApiClient__deserialize(record, "V2beta1Run")  # type: ignore[attr-defined]


def test_a_pod_that_waits_for_long_is_told_with_what_it_asks_for(show: Show) -> None:
    waiting = (*FETCHED, task("train-cnn", "RUNNING", 60), task("executor", "PENDING", 60))
    before = show(*waiting)
    assert "waits" not in before
    assert show(*waiting, after=59) == before
    told = show(*waiting, after=2).removeprefix(before)
    assert told == (
        "  ! train_cnn waits for its pod: asks for 1 x nvidia.com/gpu, runs image team/python-train-gpu:0123abc\n"
        "    why  kubectl describe pod --all-namespaces -l pipeline/runid=run-1\n"
    )
    assert show(*waiting, after=100) == before + told


def test_a_driver_that_waits_is_told_by_its_step(show: Show) -> None:
    show(task("fetch-data-driver", "PENDING", 5))
    assert "! fetch_data waits for its pod: runs image" in show(task("fetch-data-driver", "PENDING", 5), after=61)


def test_a_pod_that_starts_in_time_is_not_worth_a_line(show: Show) -> None:
    pending = (task("fetch-data", "RUNNING", 9), task("executor", "PENDING", 9))
    running = (task("fetch-data", "RUNNING", 9), task("executor", "RUNNING", 9))
    show(*pending)
    show(*running, after=59)
    show(*pending, after=59)
    assert show(*pending, after=59) == ""


def test_a_retried_pod_counts_too(show: Show) -> None:
    waiting = (task("train-gan", "RUNNING", 60), task("executor", "RUNNING", 60), task("executor(1)", "PENDING", 70))
    show(*waiting)
    assert "! train_gan waits for its pod" in show(*waiting, after=61)


def test_on_a_terminal_the_last_line_names_the_running_steps() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100)
    view = RunView(console, STEPS, "run-1")
    with view.showing():
        view.handle(as_model(DONE[1]))
        view.handle(as_model(snapshot("RUNNING", *FETCHED, task("train-cnn", "RUNNING"), task("train-gan", "RUNNING"))))
        time.sleep(0.2)
    assert "train_cnn, train_gan" in output.getvalue()
    assert "fetch_data" in output.getvalue()


def test_the_commands_are_in_the_menu(darkroom: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert darkroom("--help") == 0
    assert {"submit", "status", "schedules"} <= set(capsys.readouterr().out.split())
    assert cluster_cli.DRIFT_EXIT == 2


def test_an_image_that_was_never_pushed_is_told_before_anything_is_sent(
    darkroom: Run, server: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        registry = f"127.0.0.1:{reserved.getsockname()[1]}"
        assert darkroom("submit", "--endpoint", server.address, "--images", f"{registry}/team") == 1
    assert f"fetch-data: image must be in a registry that answers; {registry} does not" in capsys.readouterr().err
    assert server.requests == []


def test_a_version_that_somebody_else_uploads_meanwhile_is_used(
    kubeflow: Kubeflow, server: KfpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package.yaml"
    package.write_text("root: {dag: {tasks: {}}}\ndeploymentSpec: {executors: {}}\n")
    first = kubeflow.upload("darkroom", "one", package)
    list_versions, unseen = server.state.list_versions, [{}]
    monkeypatch.setattr(server.state, "list_versions", lambda *given: unseen.pop() if unseen else list_versions(*given))
    assert kubeflow.upload("darkroom", "one", package) == first
    assert unseen == []
    assert len(server.state.versions) == 1


def test_many_users_are_served_by_namespace() -> None:
    with KfpServer(allowed=["darkroom"]).running() as server:
        kubeflow = Kubeflow(connect(Options(server.address, "darkroom")))
        assert kubeflow.make_experiment("x + 100%") == kubeflow.make_experiment("x + 100%")
        assert server.writes == ["POST create_experiment"]
