"""Put Fashion-MNIST in place: the same bytes whichever source can be reached, each file checked against its pin."""

import functools
import gzip
import hashlib
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import yaml
from pydantic import Field

from darkroom.config import StepConfig
from darkroom.data import versions
from darkroom.data.metadata import FILE_NAME, DatasetInfo, write_info
from darkroom.errors import DataError
from darkroom.files import sha256_of

IN_PLACE = "already in place"

_APT_LIMITS = ("-qq", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20", "-o", "Acquire::Retries=1")
_APT_UPDATE_SECONDS = 120
_APT_DOWNLOAD_SECONDS = 300
_UPSTREAM_SECONDS = 30


class FilePin(StepConfig):
    """The sha256 of a decompressed file, and the authors' md5 of their .gz of it."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    upstream_md5: str = Field(pattern=r"^[0-9a-f]{32}$")


class DebianPackage(StepConfig):
    """A package and the folder where it installs the .gz files."""

    package: str
    folder: Path


class PinnedDataset(StepConfig):
    """A dataset whose every byte is known beforehand, and the public places that have it."""

    info: DatasetInfo
    files: dict[str, FilePin]
    debian: DebianPackage
    dvc_md5: str = Field(pattern=r"^[0-9a-f]{32}\.dir$")
    upstream: str


@dataclass(frozen=True)
class Source:
    """A place to get the files from.

    `fetch` takes an empty folder to work in and returns the folder that holds the files, each plain or as .gz. When it
    cannot, it raises a DataError with the reason.
    """

    name: str
    fetch: Callable[[Path], Path]


@functools.cache
def fashion_mnist() -> PinnedDataset:
    """What `fashion_mnist.yaml` says."""
    text = Path(__file__).with_name("fashion_mnist.yaml").read_text(encoding="utf-8")
    return PinnedDataset.parse(yaml.safe_load(text))


def default_sources(dataset: PinnedDataset, repository: Path) -> list[Source]:
    """The sources in order: nearest first."""
    package, folder = dataset.debian.package, dataset.debian.folder
    return [
        Source("DVC remote", partial(pull_from_remote, repository)),
        Source(f"Debian package {package}, installed", partial(find_installed, package, folder)),
        Source(f"Debian package {package}, downloaded", partial(download_package, package, folder)),
        Source(f"upstream, {dataset.upstream}", partial(download_upstream, dataset)),
    ]


def download(
    destination: Path,
    *,
    repository: Path | None = None,
    dataset: PinnedDataset | None = None,
    sources: Sequence[Source] | None = None,
    force: bool = False,
    on_source: Callable[[str], None] = lambda name: None,
) -> str:
    """Put the dataset's files and its `dataset.yaml` into `destination`, unless they are there.

    `repository`: whose DVC remote is asked first; the parent of `destination` unless given. `dataset` is Fashion-MNIST
    and `sources` its default sources unless given. `on_source` hears the name of each source before it is tried.
    Returns the name of the source, or `IN_PLACE`.

    Raises:
        DataError: a file that is there is not the pinned one (`force` replaces it instead); every source failed; or
            `destination` cannot be written.
    """
    destination = Path(destination)
    dataset = dataset or fashion_mnist()
    if sources is None:
        sources = default_sources(dataset, repository or destination.parent)
    try:
        destination.mkdir(parents=True, exist_ok=True)
        missing = [name for name, pin in dataset.files.items() if not _in_place(destination / name, pin.sha256, force)]
        used = _fetch_missing(destination, dataset, missing, sources, on_source) if missing else IN_PLACE
        _place_info(destination, dataset.info, force)
    except OSError as error:
        raise DataError(f"{destination}: cannot be written: {error.strerror or error}") from error
    return used


def _in_place(path: Path, sha256: str, force: bool) -> bool:
    if not path.exists():
        return False
    actual = sha256_of(path)
    if actual != sha256 and not force:
        raise DataError(
            f"{path}: not the pinned file: expected sha256 {sha256}, got {actual}; it is left as it is, "
            "delete it to have it fetched again"
        )
    return actual == sha256


def _place_info(destination: Path, info: DatasetInfo, force: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        write_info(info, Path(scratch))
        text = (Path(scratch) / FILE_NAME).read_bytes()
    if not _in_place(destination / FILE_NAME, hashlib.sha256(text).hexdigest(), force):
        (destination / FILE_NAME).write_bytes(text)


def _fetch_missing(
    destination: Path,
    dataset: PinnedDataset,
    missing: list[str],
    sources: Sequence[Source],
    on_source: Callable[[str], None],
) -> str:
    """Try one source after the other; return the name of the one that had every missing file intact."""
    reasons = []
    for source in sources:
        on_source(source.name)
        with tempfile.TemporaryDirectory() as scratch:
            try:
                folder = source.fetch(Path(scratch))
                for name in missing:
                    _place(folder, name, dataset.files[name].sha256, destination)
            except DataError as error:
                reasons.append(f"- {source.name}: {error}")
            else:
                return source.name
    raise DataError(_explain_failure(destination, dataset, missing, reasons))


def _place(folder: Path, name: str, sha256: str, destination: Path) -> None:
    """Decompress one file beside its place, check it, and rename it into place."""
    part = destination / f".{name}.part"
    try:
        with _open_plain(folder, name) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        actual = sha256_of(part)
        if actual != sha256:
            raise DataError(f"{name}: damaged or another file: expected sha256 {sha256}, got {actual}")
        part.replace(destination / name)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{name}.gz: damaged: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _open_plain(folder: Path, name: str) -> BinaryIO | gzip.GzipFile:
    if (folder / name).is_file():
        return (folder / name).open("rb")
    if (folder / f"{name}.gz").is_file():
        return gzip.open(folder / f"{name}.gz", "rb")
    raise DataError(f"neither {name} nor {name}.gz in {folder}")


def _explain_failure(destination: Path, dataset: PinnedDataset, missing: list[str], reasons: Iterable[str]) -> str:
    return "\n".join(
        [
            f"{dataset.info.title}: no source had it. Tried:",
            *reasons,
            f"To put it in place by hand, decompress these files into {destination} and run the same command again:",
            *(f"- {name} (sha256 {dataset.files[name].sha256})" for name in missing),
            f"Their .gz are at {dataset.upstream} and in the Debian package {dataset.debian.package}.",
        ]
    )


def pull_from_remote(repository: Path, scratch: Path) -> Path:
    """Get the files from the repository's DVC remote."""
    if not versions.has_remote(repository):
        raise DataError("none is configured")
    versions.pull(repository, scratch)
    return scratch


def find_installed(package: str, folder: Path, scratch: Path) -> Path:
    """Use the files of the installed Debian package."""
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist; `apt-get install {package}` would make it")
    return folder


def download_package(package: str, folder: Path, scratch: Path) -> Path:
    """Download the Debian package and unpack it without installing it; works without root.

    Where this machine has no package lists, they are fetched into a private folder; the system's stay untouched.
    """
    try:
        _run(["apt-get", *_APT_LIMITS, "download", package], scratch, _APT_DOWNLOAD_SECONDS)
    except DataError:
        private = _private_apt(scratch)
        _run(["apt-get", *_APT_LIMITS, *private, "update"], scratch, _APT_UPDATE_SECONDS)
        _run(["apt-get", *_APT_LIMITS, *private, "download", package], scratch, _APT_DOWNLOAD_SECONDS)
    return unpack_package(scratch, folder)


def unpack_package(scratch: Path, folder: Path) -> Path:
    """Unpack the one .deb file in `scratch` there; return where its `folder` went."""
    (archive,) = scratch.glob("*.deb")
    _run(["dpkg-deb", "-x", archive.name, "unpacked"], scratch, _APT_DOWNLOAD_SECONDS)
    return scratch / "unpacked" / folder.relative_to("/")


def _private_apt(scratch: Path) -> list[str]:
    """Options that keep apt's lists and cache below `scratch`."""
    state, cache = scratch / "apt-state", scratch / "apt-cache"
    (state / "lists" / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    return ["-o", f"Dir::State={state}", "-o", f"Dir::Cache={cache}"]


def _run(command: list[str], folder: Path, seconds: float) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, timeout=seconds, capture_output=True, text=True)
    except FileNotFoundError:
        raise DataError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise DataError(f"{command[0]} took longer than {seconds:g} s") from None
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
        raise DataError(f"{command[0]}: {lines[-1]}") from None


def download_upstream(dataset: PinnedDataset, scratch: Path) -> Path:
    """Download the authors' own .gz files, checked against their md5 sums."""
    import pooch

    pooch.get_logger().setLevel("ERROR")
    for name, pin in dataset.files.items():
        address = f"{dataset.upstream}{name}.gz"
        try:
            pooch.retrieve(
                address,
                known_hash=f"md5:{pin.upstream_md5}",
                fname=f"{name}.gz",
                path=scratch,
                downloader=pooch.HTTPDownloader(timeout=_UPSTREAM_SECONDS),
            )
        except ValueError as error:  # a checksum that differs
            raise DataError(f"{address}: {error}") from error
        except OSError as error:
            raise DataError(f"{address}: {_download_failure(error)}") from error
    return scratch


def _download_failure(error: OSError) -> str:
    """In a few words: requests spells the whole stack of a failed connection out."""
    from requests import ConnectionError, Timeout

    if isinstance(error, Timeout):
        return f"no answer within {_UPSTREAM_SECONDS} seconds"
    if isinstance(error, ConnectionError):
        return "the server cannot be reached"
    return str(error)
