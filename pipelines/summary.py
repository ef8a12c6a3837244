"""`summary.json`: what a run did, for machines; the same numbers fill the closing table and the report."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from darkroom.files import write_json
from pipelines.job import Job, read_events

SUMMARY_NAME = "summary.json"


@dataclass(frozen=True)
class StepSummary:
    """One step: seconds of its own work (of the run that computed it, when cached) and its memory's peak."""

    name: str
    status: str
    seconds: float | None = None
    peak_rss_mb: float | None = None
    cached: bool = False
    metrics: dict[str, float] = field(default_factory=dict)
    outputs: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class Summary:
    """One run. `cnn` and `gan` hold the test metrics; `models` what was registered and why."""

    run: str
    status: str
    dataset: str
    data_md5: str
    git_commit: str
    seed: int
    wall_seconds: float
    steps: list[StepSummary]
    cnn: dict[str, float]
    gan: dict[str, float]
    models: list[dict[str, Any]]

    def step(self, name: str) -> StepSummary | None:
        """The step of that name, if it took place."""
        return next((step for step in self.steps if step.name == name), None)

    def write(self, run: Path) -> None:
        """Save as `summary.json` in the run's folder."""
        write_json(run / SUMMARY_NAME, asdict(self))


def summarise(run: Path, *, status: str, wall_seconds: float, job: Job) -> Summary:
    """Sum up a run from its events and from what its steps wrote."""
    steps = _steps(read_events(run))
    metrics = {step.name: step.metrics for step in steps}
    return Summary(
        run=run.name,
        status=status,
        dataset=job.dataset,
        data_md5=job.arguments["data_md5"],
        git_commit=job.git_commit,
        seed=job.arguments["seed"],
        wall_seconds=round(wall_seconds, 2),
        steps=steps,
        cnn=metrics.get("evaluate_cnn", {}),
        gan=metrics.get("evaluate_gan", {}),
        models=[model for step in steps if (model := _registered(step))],
    )


def _steps(events: list[dict[str, Any]]) -> list[StepSummary]:
    steps: dict[str, StepSummary] = {}
    for event in events:
        name = event["step"]
        match event["event"]:
            case "start":
                steps[name] = StepSummary(name, "interrupted")
            case "finished" | "cached" as outcome:
                # A step that this run computed stays computed when a second pass finds it in the cache.
                if name in steps and steps[name].status == "succeeded":
                    continue
                steps[name] = StepSummary(
                    name,
                    "succeeded",
                    seconds=event["seconds"],
                    peak_rss_mb=event["peak_rss_mb"],
                    cached=outcome == "cached",
                    metrics=event["metrics"],
                    outputs=event["outputs"],
                )
            case "failed":
                steps[name] = StepSummary(name, "failed", message=event["message"])
    return list(steps.values())


def _registered(step: StepSummary) -> dict[str, Any] | None:
    if not step.name.startswith("register_model") or step.outputs is None:
        return None
    decision: dict[str, Any] = json.loads(Path(step.outputs, "decision").read_text(encoding="utf-8"))
    return decision
