"""Follow a run on a cluster: what the API server tells, in the look of a local run's live view."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.text import Text

from darkroom.errors import ClusterError
from pipelines.kubeflow import Kubeflow
from pipelines.submission import Step

POLL_SECONDS = 3.0
# How long a server may be away, restarting or behind a broken port-forward, before waiting ends.
AWAY_SECONDS = 60.0
# A pod that starts takes seconds; one that waits longer waits for something.
PENDING_SECONDS = 60.0

SUCCEEDED = "SUCCEEDED"
ENDED = frozenset({SUCCEEDED, "SKIPPED", "FAILED", "CANCELED"})
MARKS = {SUCCEEDED: "[green]✓[/]", "SKIPPED": "[cyan]=[/]", "FAILED": "[red]✗[/]", "CANCELED": "[yellow]-[/]"}
DRIVER = "-driver"
POD = re.compile(r"executor(\([0-9]+\))?")


class RunView:
    """Shows a run by its snapshots: a line for each step that ended, and on a terminal one for those that run."""

    def __init__(self, console: Console, steps: Mapping[str, Step], run: str) -> None:
        self._console = console
        self._steps = steps
        self._run = run
        self._shown: set[str] = set()
        self._running: list[str] = []
        self._pending_since: float | None = None
        self._warned: frozenset[str] = frozenset()
        self._started = time.monotonic()

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Keep the terminal's last line for the running steps."""
        if not self._console.is_terminal:
            yield
            return
        with Live(get_renderable=self._render, console=self._console, refresh_per_second=8, transient=True):
            yield

    def handle(self, run: Any) -> None:
        """Show what is new in a snapshot of the run."""
        tasks = {task.display_name: task for task in _tasks(run)}
        ended = [task for name, task in tasks.items() if name in self._steps and task.state in ENDED]
        for task in sorted(ended, key=lambda task: _seconds(task.end_time)):
            if task.display_name not in self._shown:
                self._shown.add(task.display_name)
                name = self._steps[task.display_name].name
                self._print(f"  {MARKS[task.state]} {name:<20} {_duration(task)}{_outcome(task.state)}")
        self._running = [name for name in self._steps if name in tasks and tasks[name].state == "RUNNING"]
        self._warn(run)

    def _warn(self, run: Any) -> None:
        """Say what a pod that has been pending for long asks for: the API tells that it waits, not for what."""
        waiting = self._waiting(run)
        if not waiting:
            self._pending_since = None
            return
        self._pending_since = self._pending_since or time.monotonic()
        new = waiting - self._warned
        if time.monotonic() - self._pending_since < PENDING_SECONDS or not new:
            return
        self._warned |= new
        for step in (self._steps[name] for name in sorted(new)):
            asks = f"asks for {step.accelerator}, " if step.accelerator else ""
            self._print(f"  [yellow]![/] {step.name} waits for its pod: {asks}runs image {escape(step.image)}")
        self._print(f"    [dim]why[/]  kubectl describe pod --all-namespaces -l pipeline/runid={self._run}")

    def _waiting(self, run: Any) -> frozenset[str]:
        """The steps whose pod may be the pending one: the API names drivers after their step, but all pods alike."""
        pending = [task.display_name for task in _tasks(run) if task.state == "PENDING"]
        drivers = {name.removesuffix(DRIVER) for name in pending if name.endswith(DRIVER)}
        pods = self._running if any(POD.fullmatch(name) for name in pending) else []
        return frozenset(drivers & self._steps.keys()) | frozenset(pods)

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        names = ", ".join(self._steps[name].name for name in self._running)
        elapsed = f"{time.monotonic() - self._started:.0f} s"
        return Spinner("dots", f" {names}  {elapsed}") if names else Text(f"  waiting for the cluster  {elapsed}")


def wait_for_run(kubeflow: Kubeflow, run: str, view: RunView, timeout: float | None) -> str | None:
    """Follow a run to its end and return its state; None when the time is up first.

    Raises:
        ClusterError: the server refuses, or has been away for too long. The run is not touched.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    away_since: float | None = None
    with view.showing():
        while True:
            try:
                snapshot = kubeflow.get_run(run)
                away_since = None
            except ClusterError as error:
                away_since = away_since or time.monotonic()
                refused = error.status is not None and error.status < 500
                if refused or time.monotonic() - away_since > AWAY_SECONDS:
                    raise
            else:
                view.handle(snapshot)
                if snapshot.state in ENDED:
                    return str(snapshot.state)
            if deadline is not None and time.monotonic() + POLL_SECONDS > deadline:
                return None
            time.sleep(POLL_SECONDS)


def _tasks(run: Any) -> list[Any]:
    return list(run.run_details.task_details or ()) if run.run_details else []


def _duration(task: Any) -> str:
    started, ended = _seconds(task.start_time), _seconds(task.end_time)
    return f"{ended - started:6.0f} s" if started and ended else " " * 8


def _seconds(moment: datetime | None) -> float:
    """Seconds since 1970; 0 for a time that has not come, as which the server writes that year's first second."""
    return moment.timestamp() if moment else 0.0


def _outcome(state: str) -> str:
    return "" if state == SUCCEEDED else f"   {state.lower()}"
