"""What surrounds a step's pure code: progress, timing, tracking and the report of failure.

A component's body opens `step(...)` and does its work inside. On a cluster that gives log lines and an MLflow run. A
local run sets two variables besides, and gets more:

- `DARKROOM_EVENTS`: a file to which every step appends one JSON object per line, for the live view;
- `DARKROOM_LOGS`: a folder in which each step's output goes to a file of its own.

`DARKROOM_CHECKPOINTS` names a folder that outlives a killed step, in which training keeps its state. A local run sets
it; on a cluster it is where a volume is mounted.
"""

import gc
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol, TypeVar

from darkroom import tracking
from darkroom.config import StepConfig
from darkroom.data.metadata import read_info
from darkroom.errors import message_for_user
from darkroom.files import write_json
from darkroom.memory import peak_rss_mb
from darkroom.origin import describe_origin, digest_of

logger = logging.getLogger("darkroom")

EVENTS_VARIABLE = "DARKROOM_EVENTS"
LOGS_VARIABLE = "DARKROOM_LOGS"
CHECKPOINTS_VARIABLE = "DARKROOM_CHECKPOINTS"

Config = TypeVar("Config", bound=StepConfig)


class MetricsArtifact(Protocol):
    """The part of `kfp.dsl.Metrics` that a step uses."""

    path: str

    def log_metric(self, metric: str, value: float) -> None:
        """Show one number on the step's page in KFP."""


class Step:
    """A running step: what its code says about itself goes to the live view, to MLflow and to KFP."""

    def __init__(self, name: str, artifact: MetricsArtifact, events: "Events", stack: ExitStack) -> None:
        self.name = name
        self.metrics: dict[str, float] = {}
        self._run: tracking.StepRun | None = None
        self._artifact = artifact
        self._events = events
        self._stack = stack

    @property
    def run(self) -> tracking.StepRun:
        """The step's MLflow run, which `configure` opens."""
        if self._run is None:
            raise RuntimeError(f"{self.name}: configure() comes before anything is recorded")
        return self._run

    def configure(self, model: type[Config], data_md5: str, options: Mapping[str, Any], /, **values: Any) -> Config:
        """Build the step's configuration and open its MLflow run, with every parameter on it.

        `values` are the typed pipeline parameters, `options` the remaining fields.

        Raises:
            ConfigError: names the field, the rule and the value.
        """
        config = model.parse({**options, **values}, where=self.name)
        parameters = config.model_dump()
        origin = {"step": self.name, "data_md5": data_md5}
        if "seed" in parameters:
            origin["seed"] = str(parameters["seed"])
        origin |= provenance()
        tags = {f"darkroom.{name}": value for name, value in origin.items()}
        self._run = self._stack.enter_context(
            tracking.step_run(self.name, tracking.settings(os.environ), parameters=parameters, tags=tags)
        )
        gc.freeze()
        gc.enable()
        return config

    def origin(self, config: StepConfig, splits: str | Path, data_md5: str) -> dict[str, Any]:
        """What the model that this step trains comes from: configuration, images, data version and code.

        Raises:
            DataError: the splits are not whole.
        """
        code = os.environ.get("DARKROOM_CODE_DIGEST") or provenance()["git_commit"]
        parameters = config.model_dump(mode="json")
        return describe_origin(self.name, parameters, Path(splits), data_md5=data_md5, code=code)

    def checkpoint(self, origin: Mapping[str, Any]) -> Path | None:
        """The file that keeps a training run's state; None where no folder outlives this process.

        Its name holds a digest of the model's origin, so that only the same training finds it again.
        """
        folder = os.environ.get(CHECKPOINTS_VARIABLE)
        if not folder:
            return None
        path = Path(folder, f"{self.name}-{digest_of(origin)[:16]}.npz")
        if path.is_file():
            self.warn(f"an interrupted training is continued, from {path}")
        return path

    def on_batch(self, epoch: int, epochs: int, batch: int, batches: int, metrics: Mapping[str, float]) -> None:
        """Report progress within an epoch."""
        self._events.write("batch", epoch=epoch, epochs=epochs, batch=batch, batches=batches, metrics=dict(metrics))

    def on_epoch(self, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
        """Report a finished epoch."""
        self.run.log_epoch(epoch, metrics)
        self._events.write("epoch", epoch=epoch, epochs=epochs, metrics=dict(metrics))
        logger.info("epoch %d/%d %s", epoch, epochs, _in_words(metrics))

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Record the step's final numbers."""
        self.metrics.update(metrics)
        for name, value in metrics.items():
            self._artifact.log_metric(name, value)
        self.run.log_metrics(metrics)
        logger.info("%s: %s", self.name, _in_words(metrics))

    def log_files(self, path: str | Path, folder: str) -> None:
        """Keep a file, or all files of a folder, in the MLflow run under `folder`."""
        self.run.log_files(Path(path), folder)

    def log_dataset(self, folder: str | Path, data_md5: str) -> None:
        """Name the dataset in `folder`, raw or preprocessed, in the MLflow run; the DVC md5 is its digest."""
        self.run.log_dataset(read_info(Path(folder)).name, data_md5, str(folder))

    def warn(self, message: str) -> None:
        """Tell the person who runs the pipeline something that does not stop it."""
        self._events.write("warning", message=message)
        logger.warning("%s: %s", self.name, message)


@contextmanager
def step(name: str, artifact: MetricsArtifact) -> Iterator[Step]:
    """Surround the body of a component.

    `artifact` receives the final numbers, and its file the step's record. An error that a person can mend ends the
    process with its message alone; any other exception is a defect and leaves its traceback.
    """
    events = Events(os.environ.get(EVENTS_VARIABLE), name)
    _log_to_own_file(name)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True)
    before = signal.signal(signal.SIGTERM, _interrupt)
    started = time.monotonic()
    events.write("start")
    # Until the step is configured it imports: much is allocated and little becomes garbage. Looking for it costs a
    # second of six where TensorFlow is imported, and two more when the process ends.
    gc.disable()
    try:
        with ExitStack() as stack:
            running = Step(name, artifact, events, stack)
            yield running
    except BaseException as error:
        message = message_for_user(error)
        events.write("failed", message=message or "".join(traceback.format_exception_only(error)).strip())
        logger.error("%s failed: %s", name, message or traceback.format_exc())
        if message:
            sys.exit(1)
        raise
    finally:
        gc.enable()
        signal.signal(signal.SIGTERM, before)
    record = {
        "step": name,
        "seconds": round(time.monotonic() - started, 3),
        "peak_rss_mb": peak_rss_mb(),
        "metrics": running.metrics,
        "mlflow_run_id": running.run.run_id,
        "outputs": str(Path(artifact.path).resolve().parent),
    }
    # KFP keeps metrics in an artifact's metadata and makes no file; kfp.local's cache counts the artifact as lost then.
    write_json(Path(artifact.path), record)
    events.write("finished", **record)


class Events:
    """Appends events to a file, one JSON object per line; without a file it does nothing."""

    def __init__(self, path: str | None, step: str = "") -> None:
        self._path = path
        self._step = step

    def write(self, event: str, **values: Any) -> None:
        """Append one event; the line is written at once and whole."""
        if self._path is None:
            return
        line = json.dumps({"event": event, "step": self._step, "time": time.time(), **values})
        with Path(self._path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def provenance() -> dict[str, str]:
    """Which code this process runs: the git commit and the image, as the pipeline or the image states them.

    Where the run's seed is stated too, steps that draw no random numbers carry it as well; on a cluster, the id of the
    pipeline run.
    """
    stated = {
        "git_commit": os.environ.get("DARKROOM_GIT_COMMIT", "unknown"),
        "image": os.environ.get("DARKROOM_IMAGE", "unknown"),
    }
    where_known = {"seed": "DARKROOM_SEED", "kfp_run_id": "DARKROOM_KFP_RUN_ID"}
    return stated | {name: os.environ[variable] for name, variable in where_known.items() if os.environ.get(variable)}


def _log_to_own_file(name: str) -> None:
    folder = os.environ.get(LOGS_VARIABLE)
    if folder is None:
        return
    log = os.open(Path(folder) / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    # At the level of descriptors, so that what C++ code prints goes there too.
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _in_words(metrics: Mapping[str, float]) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in metrics.items())
