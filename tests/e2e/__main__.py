"""`make e2e`: prove an installation on a cluster, and clean up.

Status 0: everything holds; 1: a check found something, or the cluster could not be used; 124: something took longer
than its bound; 130: interrupted.
"""

import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from darkroom.errors import DarkroomError
from pipelines.cluster_cli import TIMEOUT_EXIT
from pipelines.terminal import INTERRUPTED_EXIT
from tests.e2e.scenario import OutOfTimeError, Scenario
from tests.e2e.settings import Settings, read_settings

MARKS = {"passed": "[green]passed[/]", "failed": "[red]failed[/]", "not run": "[yellow]not run[/]"}


@dataclass
class Outcome:
    """What became of one step."""

    name: str
    status: str = "not run"
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)


def run(settings: Settings, console: Console) -> int:
    """Run all steps, take back what they made whatever happens, show the table and return the exit status."""
    status = 0
    outcomes: list[Outcome] = []
    cleaning = Outcome("everything is taken back")
    try:
        with ExitStack() as undo:
            try:
                status = _run_steps(Scenario(settings, console, undo), outcomes, console)
            except KeyboardInterrupt:
                status = INTERRUPTED_EXIT
            console.print("\n[bold]Taking back what was made[/] (Ctrl-C again leaves the rest)")
            started = time.monotonic()
            cleaning.status = "passed"
        cleaning.seconds = time.monotonic() - started
    except (DarkroomError, KeyboardInterrupt) as error:
        cleaning.status = "failed"
        cleaning.findings = [str(error) or "interrupted"]
        status = status or 1
    _show([*outcomes, cleaning], console)
    return status


def _run_steps(scenario: Scenario, outcomes: list[Outcome], console: Console) -> int:
    outcomes += [Outcome(name) for name, _ in scenario.steps]
    for outcome, (_, step) in zip(outcomes, scenario.steps, strict=True):
        console.print(f"\n[bold]{outcome.name}[/]")
        started = time.monotonic()
        try:
            outcome.findings = step()
        except DarkroomError as error:
            outcome.findings = str(error).splitlines()
            return TIMEOUT_EXIT if isinstance(error, OutOfTimeError) else 1
        except KeyboardInterrupt:
            outcome.findings = ["interrupted"]
            raise
        finally:
            outcome.seconds = time.monotonic() - started
            outcome.status = "failed" if outcome.findings else "passed"
            for finding in outcome.findings:
                console.print(f"  [red]✗[/] {escape(finding)}", highlight=False, soft_wrap=True)
    return 1 if any(outcome.findings for outcome in outcomes) else 0


def _show(outcomes: list[Outcome], console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("step", "outcome", "seconds", "found"):
        table.add_column(title)
    for outcome in outcomes:
        first = escape(outcome.findings[0]) if outcome.findings else ""
        more = f" (and {len(outcome.findings) - 1} more)" if len(outcome.findings) > 1 else ""
        table.add_row(outcome.name, MARKS[outcome.status], f"{outcome.seconds:.0f}", first + more)
    console.print()
    console.print(table)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run(read_settings(), Console(highlight=False)))
