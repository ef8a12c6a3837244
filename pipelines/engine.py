"""The process that executes a local run: kfp.local, one MLflow parent run, and events for whoever watches.

It is a process of its own, the leader of its process group, so that stopping a run is one signal to that group, and so
that everything kfp.local and the steps print goes to a file.

    python -m pipelines.engine <run folder>
"""

import json
import logging
import os
import re
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from kfp import local

from darkroom import tracking
from darkroom.steps import CHECKPOINTS_VARIABLE, EVENTS_VARIABLE, LOGS_VARIABLE, Events
from pipelines.job import ARTIFACTS_NAME, CHECKPOINTS_NAME, EVENTS_NAME, LOGS_NAME, Job, read_events
from pipelines.pipeline import BRANCHES, Branch, define_pipeline
from pipelines.placement import LaptopPlacement

PARENT_VARIABLE = "DARKROOM_PARENT_RUN_ID"


class CacheHits(logging.Handler):
    """Turns kfp.local's log line about a cache hit into an event with the record of the step that ran earlier.

    kfp.local tells of a hit in no other way. The line holds the start of the cache key, and the key is the name of the
    file with the outputs, among them the step's record.
    """

    pattern = re.compile(r"Task (?P<task>\S+) cache hit \(key=(?P<key>\w+)\)")

    def __init__(self, cache: Path, events: Events, settings: tracking.TrackingSettings) -> None:
        super().__init__(logging.INFO)
        self._cache = cache
        self._events = events
        self._settings = settings
        self._seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the event once per step and run."""
        match = self.pattern.match(record.getMessage())
        if match is None or match["task"] in self._seen:
            return
        self._seen.add(match["task"])
        (entry,) = self._cache.glob(f"{match['key']}*.json")
        outputs = json.loads(entry.read_text(encoding="utf-8"))
        earlier = json.loads(Path(outputs["metrics"]["uri"]).read_text(encoding="utf-8"))
        self._events.write("cached", **earlier)
        tracking.log_cached_step(
            self._settings, os.environ.get(PARENT_VARIABLE), earlier["step"], earlier["mlflow_run_id"]
        )


def execute(run: Path) -> bool:
    """Run the pipeline of one job; True when every step succeeded.

    A failure in one branch does not lose the other: the pipeline runs once more with the other branch alone, and finds
    the shared steps in the cache.
    """
    job = Job.read(run)
    os.environ[EVENTS_VARIABLE] = str(run / EVENTS_NAME)
    os.environ[LOGS_VARIABLE] = str(run / LOGS_NAME)
    os.environ.setdefault(CHECKPOINTS_VARIABLE, str(Path(job.cache).with_name(CHECKPOINTS_NAME)))
    os.environ["DARKROOM_GIT_COMMIT"] = job.git_commit
    os.environ["DARKROOM_IMAGE"] = "local"
    os.environ["DARKROOM_SEED"] = str(job.arguments["seed"])
    events = Events(str(run / EVENTS_NAME))
    settings = tracking.settings(os.environ)
    parent = tracking.open_parent(
        settings,
        run.name,
        experiment=job.dataset,
        parameters=job.arguments,
        tags={
            "darkroom.git_commit": job.git_commit,
            "darkroom.data_md5": job.arguments["data_md5"],
            "darkroom.seed": str(job.arguments["seed"]),
            "darkroom.image": "local",
            "darkroom.run_folder": str(run),
        },
    )
    if parent:
        os.environ[PARENT_VARIABLE] = parent
    logging.getLogger().addHandler(CacheHits(Path(job.cache), events, settings))
    logging.getLogger().setLevel(logging.INFO)
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(run / ARTIFACTS_NAME),
        enable_caching=True,
        cache_root=job.cache,
    )
    status: tracking.RunStatus = "FAILED"
    try:
        succeeded = _run_branches(job, run)
        if succeeded:
            status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracking.close_parent(settings, parent, status, _final_metrics(run))
    return succeeded


def _run_branches(job: Job, run: Path) -> bool:
    place = LaptopPlacement()
    try:
        define_pipeline(place)(**job.arguments)
    except RuntimeError as error:
        logging.error("%s", error)
    else:
        return True
    for branch in _untouched(run):
        try:
            define_pipeline(place, (branch,))(**job.arguments)
        except RuntimeError as error:
            logging.error("%s", error)
    return False


def _untouched(run: Path) -> list[Branch]:
    """The branches that did not get to their end because the other one failed; none when a shared step failed."""
    happened = [(event["step"], event["event"]) for event in read_events(run)]
    failed = {step for step, event in happened if event == "failed"}
    if not any(step.endswith(branch) for step in failed for branch in BRANCHES):
        return []
    ended = {step for step, event in happened if event in ("finished", "failed")}
    return [
        branch
        for branch in BRANCHES
        if not any(step.endswith(branch) for step in failed) and f"register_model_{branch}" not in ended
    ]


def _final_metrics(run: Path) -> dict[str, float]:
    """The numbers that one compares runs by, on the parent run: `cnn.accuracy`, `gan.class_agreement` and the like."""
    return {
        f"{event['step'].removeprefix('evaluate_')}.{name}": value
        for event in read_events(run)
        if event["event"] in ("finished", "cached") and event["step"].startswith("evaluate_")
        for name, value in event["metrics"].items()
    }


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        sys.exit(0 if execute(Path(sys.argv[1])) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
