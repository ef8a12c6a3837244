"""Fetch one version of a dataset from a git repository, and trust none of its bytes before they are hashed."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from darkroom.config import StepConfig
from darkroom.data.metadata import read_info
from darkroom.data.versions import get, verify
from darkroom.errors import DataError


class FetchConfig(StepConfig):
    """Which version of which data."""

    repository: str = Field(min_length=1, description="git repository with a data.dvc: a path or a URL")
    revision: str = Field(default="", description="branch, tag or commit; empty for the working tree of a path")
    data_md5: str = Field(
        default="", description="DVC's md5 of the data folder that is expected; empty for what data.dvc pins"
    )


@dataclass(frozen=True)
class FetchResult:
    """What was fetched: DVC's md5 of the folder, the dataset's name, number of files and bytes in all."""

    md5: str
    name: str
    files: int
    bytes: int


def fetch(config: FetchConfig, destination: Path) -> FetchResult:
    """Copy the data folder to `destination` and hash every file of the copy.

    Raises:
        DataError: no such repository, revision or data; a file is altered, truncated, missing or extra, which is named;
            the md5 is not `data_md5`; `destination` holds something or cannot be written. Nothing is left behind.
    """
    destination = Path(destination)
    if destination.exists() and any(destination.iterdir()):
        raise DataError(f"{destination}: must be new or empty")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        # Beside the destination, so that the last step is a rename: whoever sees the folder sees all of it.
        scratch = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    except OSError as error:
        raise DataError(f"{destination}: cannot be written: {error.strerror}") from error
    try:
        result = _fetch_checked(config, scratch / "data")
        (scratch / "data").replace(destination)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return result


def _fetch_checked(config: FetchConfig, folder: Path) -> FetchResult:
    version, expected = get(config.repository, config.revision, folder)
    if config.data_md5 and config.data_md5 != version.md5:
        raise DataError(f"data_md5: expected {config.data_md5}, but {config.repository} pins {version.md5}")
    source = f"{config.repository} at {config.revision}" if config.revision else config.repository
    verify(folder, version, expected, name=f"{source}: {version.path}")
    return FetchResult(md5=version.md5, name=read_info(folder).name, files=version.nfiles, bytes=version.size)
