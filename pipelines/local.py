"""A run on this machine: start the engine, show what it does, stop it when asked, and sum up."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from pipelines.job import ENGINE_LOG_NAME, EVENTS_NAME, LOGS_NAME, Job
from pipelines.live import LiveView
from pipelines.quiet import QUIET

POLL_SECONDS = 0.1
GRACE_SECONDS = 10.0


def run_locally(job: Job, run: Path, view: LiveView) -> int:
    """Execute a job in a process group of its own and show its events; returns the engine's exit code.

    Raises:
        KeyboardInterrupt: the person stopped the run; every process of it has ended.
    """
    job.write(run)
    # KFP and its steps leave temporary folders behind; here they go with the run.
    with (
        tempfile.TemporaryDirectory(prefix="darkroom-") as scratch,
        (run / LOGS_NAME / ENGINE_LOG_NAME).open("wb") as log,
        _terminable(),
    ):
        engine = subprocess.Popen(
            [sys.executable, "-m", "pipelines.engine", str(run)],
            cwd=job.root,
            env={**QUIET, **os.environ, "TMPDIR": scratch},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with view.showing():
                for event in _follow(run / EVENTS_NAME, engine):
                    view.handle(event)
            return engine.wait()
        finally:
            _end_group(engine)


def _follow(path: Path, process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """Yield events as they are written, until the process has ended and all are read."""
    path.touch()
    with path.open(encoding="utf-8") as file:
        rest = ""
        while True:
            ended = process.poll() is not None
            *lines, rest = (rest + file.read()).split("\n")
            yield from map(json.loads, lines)
            if ended:
                return
            time.sleep(POLL_SECONDS)


def _end_group(engine: subprocess.Popen[bytes]) -> None:
    """End whatever is left of the engine's process group: first politely, so that MLflow runs are closed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(engine.pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and _group_exists(engine):
            time.sleep(POLL_SECONDS)


def _group_exists(engine: subprocess.Popen[bytes]) -> bool:
    engine.poll()
    try:
        os.killpg(engine.pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def _terminable() -> Iterator[None]:
    """Let a polite kill of the command line end the run as Ctrl-C does."""

    def interrupt(signum: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
