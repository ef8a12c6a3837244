"""MLflow's web page on this machine."""

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from darkroom.errors import DarkroomError

HOST = "127.0.0.1"
SETTINGS = Path("mlflow", "settings.env")


def check_port(port: int) -> None:
    """See that nothing listens on a port of this machine.

    Raises:
        DarkroomError: something does.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise DarkroomError(f"port {port} of {HOST} is taken; choose another with --port")


def serve(root: Path, port: int) -> NoReturn:
    """Become the MLflow server, on loopback, with the settings in `mlflow/settings.env` and the store in `root`."""
    os.chdir(root)
    command = [sys.executable, "-m", "mlflow", "--env-file", str(SETTINGS), "server"]
    os.execve(
        sys.executable,
        command,
        {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HOST": HOST, "MLFLOW_PORT": str(port)},
    )
