"""What asks to be registered: a model and its evaluation, read and checked to belong together."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.data.splits import Split, read_split
from darkroom.errors import DataError
from darkroom.files import sha256_of
from darkroom.gate import Predictions
from darkroom.origin import ORIGIN_FILE, digest_of
from darkroom.registry.package import NETWORK_FILES, Kind


@dataclass(frozen=True)
class Candidate:
    """A model that asks to be registered, with what its decision rests on."""

    kind: Kind
    network: Path
    evaluation: Path
    metrics: dict[str, float]
    rests_on: dict[str, Any]
    test: Split
    splits: Path
    identity: dict[str, str]
    tags: dict[str, str]

    @property
    def same_work(self) -> list[dict[str, str]]:
        """Sets of tags by which a version of the same work is known: all of one of them.

        Either the model has the same bits; or it has the same origin and was made by the same pipeline run, or by one
        for the same tick of a schedule. Kubeflow may start a tick twice, and on a GPU the bits differ then.
        """
        origin = self.tags["darkroom.origin"]
        of_one_tick = [
            {"darkroom.origin": origin, key: self.tags[key]}
            for key in ("darkroom.kfp_run_id", "darkroom.scheduled_at")
            if self.tags.get(key)
        ]
        return [self.identity, *of_one_tick]


def read_candidate(kind: Kind, model: Path, evaluation: Path, splits: Path, provenance: Mapping[str, str]) -> Candidate:
    """Read what `register` was given.

    Raises:
        DataError: a file is missing or damaged, or model, evaluation and splits do not belong together.
    """
    network = model / NETWORK_FILES[kind]
    if not network.is_file():
        raise DataError(f"{network}: no such file; it is written by the step train_{kind}")
    rests_on = read_json(evaluation / "evaluation.json")
    if "test_sha256" not in rests_on:
        raise DataError(f"{evaluation / 'evaluation.json'}: lacks test_sha256, the hash of the test split")
    if rests_on.get("model_sha256") != sha256_of(network):
        raise DataError(f"{evaluation / 'evaluation.json'}: its model_sha256 is not that of {network}")
    tags = {f"darkroom.{key.removeprefix('darkroom.')}": value for key, value in provenance.items() if value}
    identity = {
        "darkroom.model_sha256": sha256_of(network),
        "darkroom.test_sha256": str(rests_on["test_sha256"]),
        "darkroom.data_md5": tags.get("darkroom.data_md5", "unknown"),
    }
    test = read_split(splits, "test")
    if kind == "cnn" and not np.array_equal(Predictions.read(evaluation / "predictions.npz").labels, test.labels):
        raise DataError(f"{evaluation / 'predictions.npz'}: its labels are not those of the test split in {splits}")
    return Candidate(
        kind=kind,
        network=network,
        evaluation=evaluation,
        metrics=read_json(evaluation / "metrics.json"),
        rests_on=rests_on,
        test=test,
        splits=splits,
        identity=identity,
        tags=tags | identity | {"darkroom.origin": digest_of(read_json(model / ORIGIN_FILE))},
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: the file is missing or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable: {error}") from None
    if not isinstance(values, dict):
        raise DataError(f"{path}: must be an object, got {type(values).__name__}")
    return values
