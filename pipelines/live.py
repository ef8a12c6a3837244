"""What a person sees while a pipeline runs: the step, its progress, its warnings. No log lines."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.spinner import Spinner
from rich.text import Text

# The numbers that say most about a step; of a step that is not here the first few are shown.
KEY_METRICS = {
    "validate_data": ("images", "expectations", "warnings"),
    "train_cnn": ("val_accuracy", "val_loss"),
    "train_gan": ("generator_loss", "discriminator_loss"),
    "evaluate_cnn": ("accuracy", "macro_f1", "ece"),
    "evaluate_gan": ("frechet_distance", "class_agreement"),
}
NUMBERS_SHOWN = 3


class LiveView:
    """Follows a run's events: finished steps stay as one line each, the running one shows where it is.

    On a terminal the running step's line is redrawn in place; elsewhere an epoch's end is a line of its own.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._step: str | None = None
        self._started = 0.0
        self._progress: Progress | None = None
        self._live: Live | None = None

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Keep the terminal's last line for the running step."""
        if not self._console.is_terminal:
            yield
            return
        with Live(get_renderable=self._render, console=self._console, refresh_per_second=8, transient=True) as live:
            self._live = live
            yield

    def handle(self, event: Mapping[str, Any]) -> None:
        """Show one event."""
        match event["event"]:
            case "start":
                self._step, self._started, self._progress = event["step"], time.monotonic(), None
            case "batch":
                self._advance(event, event["epoch"] - 1 + event["batch"] / event["batches"])
            case "epoch":
                self._advance(event, event["epoch"])
                if not self._console.is_terminal:
                    numbers = in_words(event["step"], event["metrics"])
                    self._print(f"    {event['step']} epoch {event['epoch']}/{event['epochs']}  {numbers}")
            case "warning":
                self._print(f"  [yellow]![/] {event['step']}: {escape(event['message'])}")
            case "finished":
                self._end(event, "[green]✓[/]", f"{event['seconds']:6.1f} s")
            case "cached":
                self._end(event, "[cyan]=[/]", "  cached")
            case "failed":
                self._end({**event, "metrics": {}}, "[red]✗[/]", "  failed")

    def _end(self, event: Mapping[str, Any], mark: str, outcome: str) -> None:
        self._step = None
        numbers = in_words(event["step"], event["metrics"])
        self._print(f"  {mark} {event['step']:<20} {outcome}   [dim]{numbers}[/]")

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

    def _advance(self, event: Mapping[str, Any], done: float) -> None:
        if self._progress is None:
            self._progress = Progress(
                BarColumn(20), TextColumn("{task.description}"), TextColumn("left"), TimeRemainingColumn(compact=True)
            )
            self._progress.add_task("", total=event["epochs"])
        epoch = min(event["epochs"], int(done) + 1)
        words = f"epoch {epoch}/{event['epochs']}  {in_words(event['step'], event['metrics'])}"
        self._progress.update(self._progress.task_ids[0], completed=done, description=words)

    def _render(self) -> RenderableType:
        if self._step is None:
            return Text("")
        line = Spinner("dots", f" {self._step}  {time.monotonic() - self._started:.0f} s")
        return Group(line, self._progress) if self._progress else line


def in_words(step: str, metrics: Mapping[str, float], between: str = "  ") -> str:
    """The key numbers of a step as `name value`."""
    names = [name for name in KEY_METRICS.get(step, ()) if name in metrics] or list(metrics)[:NUMBERS_SHOWN]
    return between.join(f"{name} {_short(metrics[name])}" for name in names)


def _short(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() and abs(value) >= 1 else f"{value:.4g}"
