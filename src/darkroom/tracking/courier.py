"""The way to MLflow: one client, one background thread, and a limit on how long anybody waits."""

import logging
import os
import queue
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from darkroom.tracking.environment import TrackingSettings
from darkroom.tracking.failures import in_words

_PROCESS_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

_T = TypeVar("_T")


class TrackingWarning(UserWarning):
    """Something was not recorded in MLflow; the step itself goes on."""


def connect(tracking_uri: str) -> Any:
    """A `mlflow.MlflowClient` that does not wait for minutes for a server that is gone."""
    import_mlflow()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri)


def import_mlflow() -> None:
    """Import MLflow, which costs 1.8 s and so is not done at the top, with limits and without telemetry.

    MLflow takes these settings from the process environment alone, and by default it retries a request for four
    minutes. What a person has set there wins.
    """
    for variable, value in _PROCESS_DEFAULTS.items():
        os.environ.setdefault(variable, value)
    import mlflow  # noqa: F401

    for chatty in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class Courier:
    """Sends requests to MLflow, in order, from a thread of its own; gives up for good at the first failure."""

    def __init__(self, settings: TrackingSettings) -> None:
        self.patience = settings.patience
        self.settings = settings
        self._requests: queue.SimpleQueue[tuple[Callable[[Any], Any], Future[Any]] | None] = queue.SimpleQueue()
        self.gave_up = not settings.enabled
        if settings.enabled:
            import_mlflow()  # here, so that the time it takes is not held against the server
            # A daemon: a request that hangs must not keep the process of a finished step alive.
            threading.Thread(target=self._deliver, name="darkroom-tracking", daemon=True).start()

    def send(self, request: Callable[[Any], _T]) -> Future[_T]:
        """Queue a request, which gets the client."""
        answer: Future[_T] = Future()
        if not self.gave_up:
            self._requests.put((request, answer))
        return answer

    def ask(self, request: Callable[[Any], _T]) -> _T | None:
        """Queue a request and wait for its answer; None, and a warning, when there is none within the patience left."""
        answer = self.send(request)
        if self.gave_up:
            return None
        start = time.monotonic()
        try:
            return answer.result(self.patience)
        except TimeoutError:
            self._give_up(f"no answer within {self.settings.patience:g} s")
        except Exception as failure:  # whatever MLflow, its database or its artifact store raise
            self._give_up(in_words(failure))
        finally:
            self.patience = max(0.0, self.patience - (time.monotonic() - start))
        return None

    def close(self) -> None:
        """Wait until everything is sent, as far as patience goes."""
        self.ask(lambda client: None)
        self._requests.put(None)

    def _give_up(self, why: str) -> None:
        self.gave_up = True
        message = f"MLflow at {self.settings.tracking_uri}: {why}. Nothing more of this run is recorded there."
        warnings.warn(message, TrackingWarning, stacklevel=2)

    def _deliver(self) -> None:
        client = None
        failure: Exception | None = None
        while (item := self._requests.get()) is not None:
            request, answer = item
            try:
                if failure is None:
                    client = client or connect(self.settings.tracking_uri)
                    answer.set_result(request(client))
            except Exception as error:
                failure = error
            if failure is not None:
                answer.set_exception(failure)
