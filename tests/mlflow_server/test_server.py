"""The server as it is deployed: who may come in, and what it does not do."""

import base64
import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from darkroom import tracking
from darkroom.errors import RegistryError
from darkroom.registry import list_models
from darkroom.tracking import TrackingWarning

from ..servers import free_port
from .conftest import ObjectStore, Server
from .deployment import FOLDER, image_environment, start_command

pytestmark = pytest.mark.slow

SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


def answer(address: str, **headers: str) -> tuple[int, str]:
    """Status and text of one request."""
    return send(urllib.request.Request(address, headers=headers))  # noqa: S310 # loopback


def send(request: urllib.request.Request) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310 # loopback
            return int(reply.status), reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def account(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def test_only_who_knows_the_password_comes_in(server: Server) -> None:
    assert answer(server.address + SEARCH)[0] == 401
    assert answer(server.address + SEARCH, Authorization=account(server.username, "wrong"))[0] == 401
    assert answer(server.address + SEARCH, Authorization=account(server.username, server.password))[0] == 200
    assert answer(server.address + "/health") == (200, "OK")


def test_a_foreign_host_is_refused_and_the_probe_of_a_cluster_is_not(server: Server) -> None:
    known = account(server.username, server.password)
    assert answer(server.address + SEARCH, Authorization=known, Host="mlflow.example.org")[0] == 403
    assert answer(server.address + SEARCH, Authorization=known, Host="mlflow.example.org:5000")[0] == 403
    assert answer(server.address + "/health", Host="10.1.2.3:5000") == (200, "OK")


def test_neither_pickles_nor_jobs_are_on(server: Server) -> None:
    (process,) = (psutil.Process(pid) for pid in pids_listening(server))
    environment = process.environ()
    assert environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    request = urllib.request.Request(  # noqa: S310 # loopback
        f"{server.address}/ajax-api/3.0/jobs/",
        data=json.dumps({"job_name": "invoke_scorer", "params": {}}).encode(),
        headers={
            "Authorization": account(server.username, server.password),
            "Content-Type": "application/json",
        },
    )
    status, text = send(request)
    assert status >= 400
    assert "MLFLOW_SERVER_ENABLE_JOB_EXECUTION" in text


def pids_listening(server: Server) -> set[int]:
    """The processes that the server consists of and that answer requests."""
    port = int(server.address.rpartition(":")[2])
    return {
        found.pid
        for found in psutil.net_connections("inet")
        if found.pid and found.status == psutil.CONN_LISTEN and found.laddr.port == port
    }


def test_a_wrong_password_is_a_warning_for_tracking_and_an_error_for_registration(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (server.environment | {"MLFLOW_TRACKING_PASSWORD": "wrong"}).items():
        monkeypatch.setenv(name, value)
    settings = tracking.settings(os.environ)
    with (
        pytest.warns(TrackingWarning) as caught,
        tracking.step_run("train_cnn", settings, parameters={"seed": 1}, tags={}) as run,
    ):
        run.log_metrics({"loss": 0.5})
    assert run.run_id is None
    assert len(caught) == 1
    assert "MLFLOW_TRACKING_PASSWORD" in str(caught[0].message)
    with pytest.raises(RegistryError, match="not listed: the server wants another account"):
        list_models(settings)


def test_without_a_password_the_server_does_not_start(tmp_path: Path) -> None:
    accounts = (FOLDER / "basic_auth.ini").read_text().replace("postgresql+psycopg2:///mlflow", "sqlite:///auth.db")
    (tmp_path / "basic_auth.ini").write_text(accounts)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment = {
        **kept,
        **image_environment(),
        "MLFLOW_BACKEND_STORE_URI": "sqlite:///mlflow.db",
        "MLFLOW_AUTH_CONFIG_PATH": "basic_auth.ini",
        "MLFLOW_HOST": "127.0.0.1",
        "MLFLOW_PORT": str(free_port()),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "k" * 32,
        "MLFLOW_AUTH_ADMIN_USERNAME": "darkroom",
    }
    done = subprocess.run(start_command(), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "MLFLOW_AUTH_ADMIN_PASSWORD" in done.stderr


def test_the_store_behind_the_server_lets_nobody_in_without_its_keys(object_store: ObjectStore) -> None:
    assert answer(f"{object_store.address}/mlflow")[0] == 403
