"""Small things done to files in more than one step."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def sha256_of(*paths: Path) -> str:
    """The SHA-256, in hexadecimal, of the contents of these files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object that a person can read, too."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
