"""Data versions: which bytes `data.dvc` pins, whether they are there, and how to get them. The only module on DVC.

DVC checks less than it seems to: a truncated object is pulled without complaint unless the remote verifies, and an
altered object in the cache passes as up to date as long as it is read-only. So everything is hashed again here.

DVC is imported inside functions, because it takes half a second and most callers want a hash or a pin.
"""

import configparser
import hashlib
import io
import json
import logging
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from darkroom.errors import DarkroomError, DataError

FOLDER = "data"
PIN = "data.dvc"

_DEFAULT_CACHE = ".dvc/cache/files/md5"

# Copies, never links: with links the files in data/ would be read-only, or an edit would damage the cache.
_CACHE_TYPES = ["reflink", "copy"]
_DVC_CONFIG = """\
[core]
    analytics = false
    autostage = false
    check_update = false
[cache]
    type = "reflink,copy"
"""


@dataclass(frozen=True)
class DataVersion:
    """What a `.dvc` file says of a folder: `md5` (ends in `.dir`), number of files, bytes in all, path beside it."""

    md5: str
    nfiles: int
    size: int
    path: str


def read_pin(dvc_file: Path) -> DataVersion:
    """Read the `.dvc` file of a folder.

    Raises:
        DataError: the file is missing or does not pin exactly one folder.
    """
    try:
        text = Path(dvc_file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{dvc_file}: no such file; it pins the version of the data (see `dvc add`)") from None
    return _parse_pin(text, str(dvc_file))


def _parse_pin(text: str, where: str) -> DataVersion:
    try:
        (out,) = yaml.safe_load(text)["outs"]
        version = DataVersion(str(out["md5"]), int(out["nfiles"]), int(out["size"]), str(out["path"]))
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        raise DataError(f"{where}: must be written by `dvc add` and pin exactly one folder") from None
    if not version.md5.endswith(".dir"):
        raise DataError(f"{where}: must pin a folder (an md5 that ends in .dir), got {version.md5}")
    return version


def hash_folder(folder: Path) -> dict[str, str]:
    """The md5 of every file below `folder`, by its path relative to it in POSIX form, sorted."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _md5(path) for path in files}


def folder_md5(hashes: Mapping[str, str]) -> str:
    """DVC's md5 of a folder: that of its listing as JSON, sorted by path, with the suffix `.dir`."""
    listing = [{"md5": md5, "relpath": path} for path, md5 in sorted(hashes.items())]
    return hashlib.md5(json.dumps(listing).encode(), usedforsecurity=False).hexdigest() + ".dir"


def verify(
    folder: Path, version: DataVersion, expected: Mapping[str, str] | None = None, *, name: str = ""
) -> dict[str, str]:
    """Hash every file in `folder` and compare with `version`.

    `expected`: md5 by path; unless given, it is read from the DVC cache beside the folder. Where neither knows, an
    altered file cannot be told from the others, and the message lists all of them. `name`: what messages call the
    folder, its path unless given. Returns the md5 by path.

    Raises:
        DataError: names each file that is altered, missing or extra, with what was expected.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; data.dvc pins {version.nfiles} files there")
    actual = hash_folder(folder)
    if expected is None:
        expected = _read_listing(folder.parent / _DEFAULT_CACHE, version.md5)
    name = name or str(folder)
    problems = [] if expected is None else _compare(folder, actual, expected, name)
    if not problems and folder_md5(actual) != version.md5:
        problems = [f"{name}/{path}: {_size(folder / path)} bytes, md5 {md5}" for path, md5 in actual.items()]
    if problems:
        size = sum(_size(folder / path) for path in actual)
        expectation = f"{version.md5} ({version.nfiles} files, {version.size} bytes)"
        reality = f"{folder_md5(actual)} ({len(actual)} files, {size} bytes)"
        raise DataError("\n".join([f"{name}: expected md5 {expectation}, got {reality}", *problems]))
    return actual


def _compare(folder: Path, actual: Mapping[str, str], expected: Mapping[str, str], name: str) -> list[str]:
    problems = []
    for path in sorted(actual.keys() | expected.keys()):
        if path not in actual:
            problems.append(f"{name}/{path}: missing, expected md5 {expected[path]}")
        elif path not in expected:
            problems.append(f"{name}/{path}: not part of the pinned data, md5 {actual[path]}")
        elif actual[path] != expected[path]:
            got = f"{actual[path]} ({_size(folder / path)} bytes)"
            problems.append(f"{name}/{path}: altered or truncated: expected md5 {expected[path]}, got {got}")
    return problems


def commit(repository: Path) -> DataVersion:
    """Put the files in the data folder into DVC's cache, so that `dvc status` is clean.

    The files must be the pinned ones. A damaged object in the cache is replaced. Nothing is written when all is well.

    Raises:
        DataError: the files are not what `data.dvc` pins.
    """
    pin = Path(repository) / PIN
    version = read_pin(pin)
    with _open(repository) as repo:
        cache = Path(repo.cache.local.path)
        hashes = verify(pin.parent / version.path, version, _read_listing(cache, version.md5))
        objects = [_object_path(cache, md5) for md5 in (*hashes.values(), version.md5)]
        if _drop_damaged(objects) or not all(path.is_file() for path in objects):
            repo.commit(str(pin), force=True)
    return version


def add(repository: Path) -> DataVersion:
    """Pin what is in the data folder now as a new version: writes `data.dvc` and fills the cache."""
    # On a terminal, adding shows a spinner that no setting of DVC turns off.
    with _open(repository) as repo, redirect_stdout(io.StringIO()):
        repo.add([str(Path(repository) / FOLDER)])
    return commit(repository)


def has_remote(repository: Path) -> bool:
    """Whether a default DVC remote is configured."""
    if not (Path(repository) / ".dvc").is_dir():
        return False
    with _open(repository) as repo:
        return bool(repo.config["core"].get("remote"))


def shared_remote(repository: Path, revision: str) -> str:
    """The address of the default DVC remote that a commit names for everybody; empty where it names none.

    That is what stands in its `.dvc/config`: no other machine has a `config.local`, or a person's own settings.

    Raises:
        DataError: that file cannot be read.
    """
    command = ["git", "-C", str(repository), "show", f"{revision}:.dvc/config"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read_string(shown.stdout if shown.returncode == 0 else "")
    except configparser.Error as error:
        raise DataError(f".dvc/config at {revision}: {error}") from error
    name = config.get("core", "remote", fallback="")
    return config.get(f"'remote \"{name}\"'", "url", fallback="")


def pull(repository: Path, destination: Path) -> DataVersion:
    """Fetch the pinned objects from the default remote into the cache and copy them to `destination`, a new folder.

    Raises:
        DataError: the remote cannot be read, or hands out damaged objects; those are removed from the cache and named.
    """
    pin = Path(repository) / PIN
    version = read_pin(pin)
    with _open(repository) as repo:
        repo.fetch([str(pin)])
        cache = Path(repo.cache.local.path)
    listing = _read_listing(cache, version.md5)
    if listing is None:
        _drop_damaged([_object_path(cache, version.md5)])
        raise DataError(f"{version.md5}: the remote's listing of the folder is missing or damaged")
    damaged = _drop_damaged([_object_path(cache, md5) for md5 in listing.values()])
    for path, md5 in listing.items():
        if _object_path(cache, md5) in damaged:
            raise DataError(f"{version.path}/{path}: the remote's object {md5} is altered or truncated")
        (destination / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_object_path(cache, md5), destination / path)
    verify(destination, version, listing)
    return version


def make_repository(path: Path) -> DataVersion:
    """Make `path`, whose folder `data` holds a dataset, a git repository in which DVC tracks that folder.

    Nothing is committed, so no git identity is needed. Repeating it pins the folder's present content.
    """
    from dvc.repo import Repo

    path = Path(path)
    if not (path / ".git").exists():
        _run_git_init(path)
    if not (path / ".dvc").is_dir():
        with _dvc(str(path)):
            Repo.init(str(path)).close()
        (path / ".dvc" / "config").write_text(_DVC_CONFIG, encoding="utf-8")
    return add(path)


def _run_git_init(path: Path) -> None:
    try:
        subprocess.run(["git", "init", "--quiet", str(path)], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise DataError("git: not found; install it") from None
    except subprocess.CalledProcessError as error:
        raise DataError(f"{path}: git init failed: {error.stderr.strip()}") from None


def get(repository: str, revision: str | None, destination: Path) -> tuple[DataVersion, dict[str, str]]:
    """Copy the data folder as it is at `revision` of a git repository (path or URL) to `destination`, a new folder.

    With no revision the working tree is read, or the default branch of a URL. Returns the pin at that revision and the
    md5 that DVC expects of each file. The copies are not checked: see `verify`.

    Raises:
        DataError: not a git repository, no such revision, no `data.dvc` in it, or its objects cannot be found.
    """
    _check_repository(repository)
    where = f"{repository} at {revision}" if revision else repository
    with _dvc(where):
        from dvc.api import DVCFileSystem
        from dvc.repo.open_repo import clean_repos
        from dvc_data.index import DataIndexDirError

        # DVC would link the copies to the cache where the repository's own settings say so.
        config = {"cache": {"type": _CACHE_TYPES}}
        try:
            with closing(DVCFileSystem(repository, rev=revision or None, config=config)) as files:
                version = _parse_pin(_read_tracked_pin(files, where), f"{where}: {PIN}")
                try:
                    found = files.find(version.path, detail=True)
                    files.get(version.path, str(destination), recursive=True)
                except (FileNotFoundError, DataIndexDirError) as error:
                    raise DataError(
                        f"{where}: the data that {PIN} pins ({version.md5}) is in neither the DVC cache nor a remote: "
                        f"{error}; `make data` puts it into the cache, `dvc push` onto the remote"
                    ) from error
        finally:
            clean_repos()
    known = {name: info["dvc_info"]["md5"] for name, info in found.items() if "dvc_info" in info}
    return version, {name.removeprefix(f"{version.path}/"): md5 for name, md5 in known.items()}


def _read_tracked_pin(files: Any, where: str) -> str:
    try:
        return str(files.read_text(PIN))
    except FileNotFoundError:
        raise DataError(f"{where}: no {PIN} there; it pins the version of the data (see `dvc add`)") from None


def _check_repository(repository: str) -> None:
    """Refuse a folder on this machine that is no git repository, before DVC tries to clone it."""
    path = Path(repository)
    if "://" in repository or (not path.exists() and ":" in repository):
        return
    is_bare = (path / "HEAD").is_file() and (path / "objects").is_dir()
    if not (path / ".git").exists() and not is_bare:
        raise DataError(
            f"{repository}: not a git repository: `git init` and `dvc init` make one, `dvc add data` pins data"
        )


def _read_listing(cache: Path, md5: str) -> dict[str, str] | None:
    """The md5 of each file of the folder `md5`, from its listing in the cache; None when missing or damaged."""
    path = _object_path(cache, md5)
    if not path.is_file() or _md5(path) != md5.removesuffix(".dir"):
        return None
    return {entry["relpath"]: entry["md5"] for entry in json.loads(path.read_text(encoding="utf-8"))}


def _drop_damaged(objects: list[Path]) -> set[Path]:
    """Delete those cache objects whose content is not what their name says; DVC would go on trusting them."""
    damaged = {path for path in objects if path.is_file() and _md5(path) != path.parent.name + path.stem}
    for path in damaged:
        path.unlink()
    return damaged


def _object_path(cache: Path, md5: str) -> Path:
    return cache / md5[:2] / md5[2:]


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size


@contextmanager
def _open(repository: Path) -> Iterator[Any]:
    """DVC's view of a repository, as `dvc.repo.Repo`."""
    with _dvc(str(repository)):
        from dvc.repo import Repo

        with Repo(str(repository)) as repo:
            yield repo


@contextmanager
def _dvc(where: str) -> Iterator[None]:
    """Keep DVC silent (its log level also rules its progress bars) and turn what it raises into a DataError."""
    import dvc.logger  # noqa: F401 - importing it sets the log level, so that comes first

    loggers = {logger: logger.level for logger in map(logging.getLogger, ("dvc", "dvc_data", "dvc_objects"))}
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    except DarkroomError:
        raise
    # DVC's storage plugins raise whatever their client library does, so there is no narrower class.
    except Exception as error:
        raise DataError(f"{where}: DVC: {error}") from error
    finally:
        for logger, level in loggers.items():
            logger.setLevel(level)
