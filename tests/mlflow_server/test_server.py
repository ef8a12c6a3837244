"""The server as it is deployed: who may come in, and what it does not do."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from .conftest import ObjectStore, Server

pytestmark = pytest.mark.slow


def status(request: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 # loopback
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_dbg(server: Server, object_store: ObjectStore) -> None:
    print(server.log.read_text())
    print(status(urllib.request.Request(server.address + "/api/2.0/mlflow/experiments/search?max_results=1")))
    print(status(urllib.request.Request(server.address + "/health", headers={"Host": "evil.example.org"})))
    print(
        status(
            urllib.request.Request(
                server.address + "/api/2.0/mlflow/experiments/search?max_results=1",
                headers={"Host": "evil.example.org"},
            )
        )
    )
    assert 0
