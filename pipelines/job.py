"""The folder of one local run, as the command line and the engine share it.

job.json        what to run
events.jsonl    what happens, one JSON object per line
logs/           one file per step, and engine.log
artifacts/      what the steps wrote
summary.json, report.html
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from darkroom.files import write_json

JOB_NAME = "job.json"
EVENTS_NAME = "events.jsonl"
LOGS_NAME = "logs"
ARTIFACTS_NAME = "artifacts"
ENGINE_LOG_NAME = "engine.log"
# Beside the cache: what a stopped run leaves there is for the next one.
CHECKPOINTS_NAME = ".checkpoints"


@dataclass(frozen=True)
class Job:
    """What one local run executes: the pipeline's arguments, and where they come from."""

    root: str
    cache: str
    dataset: str
    git_commit: str
    arguments: dict[str, Any]

    def write(self, run: Path) -> None:
        """Save into the run's folder."""
        write_json(run / JOB_NAME, asdict(self))

    @classmethod
    def read(cls, run: Path) -> Self:
        """Load from the run's folder."""
        return cls(**json.loads((run / JOB_NAME).read_text(encoding="utf-8")))


def read_events(run: Path) -> list[dict[str, Any]]:
    """All events of a run so far."""
    path = run / EVENTS_NAME
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
