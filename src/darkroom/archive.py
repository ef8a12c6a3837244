"""Saving a Keras model so that equal models are equal files.

Keras writes the time of saving and memory addresses (as ids of shared objects) into a `.keras` archive. Two trainings
that end in the same weights would then look like two models, to the registry among others.
"""

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

_EPOCH = (1980, 1, 1, 0, 0, 0)


def save_model(model: Any, path: Path) -> None:
    """Save a Keras model to `path`, a `.keras` file whose bytes depend on the model alone.

    Raises:
        OSError: it cannot be written; names `path`.
    """
    try:
        _save(model, path)
    except OSError as error:  # A full disk shows in writing, and such an error names no file.
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _save(model: Any, path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as scratch:
        saved, clean = Path(scratch, "saved.keras"), Path(scratch, "clean.keras")
        model.save(saved)
        with zipfile.ZipFile(saved) as source, zipfile.ZipFile(clean, "w") as target:
            for name in source.namelist():
                target.writestr(zipfile.ZipInfo(name, _EPOCH), _without_traces(name, source.read(name)))
        clean.replace(path)


def _without_traces(name: str, content: bytes) -> bytes:
    if name == "metadata.json":
        metadata = json.loads(content)
        del metadata["date_saved"]
        return json.dumps(metadata).encode()
    if name == "config.json":
        return json.dumps(_renumber(json.loads(content), {})).encode()
    return content


def _renumber(value: Any, numbers: dict[int, int]) -> Any:
    """Replace the ids of shared objects, which are memory addresses, by their order of appearance."""
    if isinstance(value, list):
        return [_renumber(item, numbers) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: numbers.setdefault(item, len(numbers)) if key == "shared_object_id" else _renumber(item, numbers)
        for key, item in value.items()
    }
