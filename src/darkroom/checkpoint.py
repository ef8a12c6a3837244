"""Checkpoints that survive a kill at any moment.

A checkpoint is one file. It is written under a temporary name, synced to disk and renamed, so that under its own name
there is always a whole one: the last, or the one before. It holds all that a training run needs to go on as if it had
never stopped: every variable of networks and optimizers, random states among them, and the history so far.
"""

import json
import os
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PROGRESS = "progress"


class CheckpointWarning(UserWarning):
    """A checkpoint could not be used; training starts from the beginning."""


@dataclass(frozen=True)
class TrainingState:
    """A training run between two epochs.

    arrays: by group (such as "generator", "optimizer"), the values of its variables in their order; progress: plain
    values for JSON, such as the number of finished epochs and the history.
    """

    arrays: dict[str, list[NDArray[Any]]]
    progress: dict[str, Any]


def save_checkpoint(path: Path, state: TrainingState) -> None:
    """Replace the checkpoint at `path` by `state`, as a whole or not at all.

    Raises:
        OSError: it cannot be written; the former checkpoint is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        f"{group}/{i:05d}": value for group, values in state.arrays.items() for i, value in enumerate(values)
    }
    arrays[_PROGRESS] = np.frombuffer(json.dumps(state.progress).encode(), dtype=np.uint8)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync_folder(path.parent)


def load_checkpoint(path: Path) -> TrainingState | None:
    """Read the checkpoint at `path`; None where there is none, or a damaged one, about which a warning is given."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            progress = json.loads(file[_PROGRESS].tobytes())
            arrays: dict[str, list[NDArray[Any]]] = {}
            for name in sorted(set(file.files) - {_PROGRESS}):
                arrays.setdefault(name.partition("/")[0], []).append(file[name])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        message = f"{path}: not readable as a checkpoint ({error}); training starts from the beginning"
        warnings.warn(message, CheckpointWarning, stacklevel=2)
        return None
    return TrainingState(arrays, progress)


def remove_checkpoint(path: Path) -> None:
    """Remove the checkpoint of a run that has ended well, and what killed writers have left beside it."""
    for file in (path, *path.parent.glob(f".{path.name}.*")):
        file.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
