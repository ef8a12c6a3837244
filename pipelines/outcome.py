"""The end of a run on the terminal: what each step took, what was decided, and where to look next."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.job import LOGS_NAME
from pipelines.live import in_words
from pipelines.summary import SUMMARY_NAME, Summary

# Columns of a terminal in which a step's key metrics fit on one line.
WIDE = 110
STYLES = {"succeeded": "green", "failed": "red", "interrupted": "yellow"}
DECISIONS = {"promoted": "green", "challenger": "yellow", "rejected": "red"}


def show_outcome(console: Console, summary: Summary, run: Path, report: Path) -> None:
    """Print the table of steps, the gate's decisions, what failed and why, and the paths to go to."""
    console.print()
    console.print(_steps(summary, between="  " if console.width >= WIDE else "\n"))
    for model in summary.models:
        aliases = ", ".join(model["aliases"]) or "no alias"
        style = DECISIONS[model["decision"]]
        console.print(
            f"[bold]{model['name']}[/] version {model['version']}: [{style}]{model['decision']}[/] ({aliases})",
            highlight=False,
        )
        for reason in model["reasons"]:
            console.print(f"  {escape(reason)}", highlight=False)
    for step in summary.steps:
        if step.message:
            console.print(f"\n[red]{step.name} failed[/]\n{escape(step.message)}", highlight=False, soft_wrap=True)
            _point(console, "log", run / LOGS_NAME / f"{step.name}.log")
    if summary.status == "failed" and not any(step.message for step in summary.steps):
        console.print("\n[red]The run failed outside of its steps.[/]")
        _point(console, "log", run / LOGS_NAME / "engine.log")
    if summary.status == "interrupted":
        console.print("\n[yellow]Stopped.[/] All its processes have ended; the next run takes up what is finished.")
    console.print()
    _point(console, "report", report)
    _point(console, "summary", run / SUMMARY_NAME)
    console.print("  [dim]compare  make ui[/]", highlight=False)


def _steps(summary: Summary, between: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("step", min_width=len("register_model_cnn"))
    table.add_column("outcome", min_width=len("interrupted"))
    table.add_column("seconds", min_width=len("seconds"), justify="right")
    table.add_column("peak MB", min_width=len("peak MB"), justify="right")
    table.add_column("key metrics")
    for step in summary.steps:
        outcome = "cached" if step.cached else step.status
        table.add_row(
            step.name,
            f"[{STYLES[step.status]}]{outcome}[/]",
            "" if step.seconds is None or step.cached else f"{step.seconds:.1f}",
            "" if step.peak_rss_mb is None else f"{step.peak_rss_mb:.0f}",
            in_words(step.name, step.metrics, between),
        )
    table.add_section()
    table.add_row("whole run", f"[{STYLES[summary.status]}]{summary.status}[/]", f"{summary.wall_seconds:.1f}", "", "")
    return table


def _point(console: Console, what: str, path: Path) -> None:
    """One path, relative to the working directory where that is shorter, on one line so that it can be copied."""
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    console.print(f"  [dim]{what:<8} [/] {shown}", highlight=False, soft_wrap=True)
