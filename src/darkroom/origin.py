"""What a trained model comes from: its configuration, images, data version and code.

Two trainings of the same origin make the same model. On a GPU its bits may differ all the same, because sums there are
formed in any order; so the origin, not the model's hash, says whether the same work was done twice.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darkroom.errors import DataError
from darkroom.files import sha256_of

ORIGIN_FILE = "origin.json"


def describe_origin(step: str, config: Mapping[str, Any], splits: Path, *, data_md5: str, code: str) -> dict[str, Any]:
    """The origin of a model that `step` trains on `splits`; their manifests hold the hash of every image.

    Raises:
        DataError: a manifest is missing.
    """
    from darkroom.data.splits import SPLIT_NAMES  # here, because every step imports this module, and few need NumPy

    manifests = [splits / name / "manifest.parquet" for name in SPLIT_NAMES]
    for manifest in manifests:
        if not manifest.is_file():
            raise DataError(f"{manifest}: no such file; it is written by the step preprocess")
    return {
        "step": step,
        "config": dict(config),
        "splits_sha256": sha256_of(*manifests),
        "data_md5": data_md5,
        "code": code,
    }


def digest_of(origin: Mapping[str, Any]) -> str:
    """The sha256 of an origin, in hexadecimal."""
    return hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()
