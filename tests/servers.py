"""Servers that tests start: real ones, on loopback, on ports that are free, ended by their process ids."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_ports(count: int) -> list[int]:
    """Several at once, so that they differ."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@contextmanager
def running(
    command: Sequence[str],
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server in a process group of its own until the block ends; what it prints goes to `folder/server.log`."""
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            list(command), cwd=folder, env=environment, user=user, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(server.pid, stop)
        server.wait(timeout=30)


def wait_until_healthy(address: str, server: "subprocess.Popen[bytes]", seconds: float, page: str = "health") -> None:
    """Wait until a server answers, and fail at once when it has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, f"the server for {address} ended; see server.log in the test's folder"
        try:
            urllib.request.urlopen(f"{address}/{page}", timeout=5).close()  # noqa: S310 # loopback
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"no server at {address} within {seconds} s")
