"""The checkout that a person works in: its root, its commit, its dataset, and the folder of runs."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from darkroom.data import digits, fashion_mnist, versions
from darkroom.data.idx import load_raw
from darkroom.data.metadata import read_info
from darkroom.errors import DarkroomError, DataError

DATA_NAME = "data"
PIN_NAME = "data.dvc"
RUNS_NAME = "runs"
LATEST_NAME = "latest"
DIGITS_NAME = "digits"

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Dataset:
    """A dataset that is in place and checked: the repository that pins it, its name and its DVC md5."""

    repository: Path
    name: str
    title: str
    md5: str


@dataclass(frozen=True)
class Workspace:
    """A git checkout with a `data.dvc` at its root."""

    root: Path

    @classmethod
    def find(cls, start: Path) -> "Workspace":
        """The checkout around `start`.

        Raises:
            DarkroomError: `start` is in no git repository, or its root has no data.dvc.
        """
        found = _git(start, "rev-parse", "--show-toplevel")
        if found.returncode != 0:
            raise DarkroomError(f"{start}: not in a git repository; every run records the commit that it ran")
        root = Path(found.stdout.strip())
        if not (root / PIN_NAME).is_file():
            raise DarkroomError(f"{root / PIN_NAME}: no such file; it pins the dataset")
        return cls(root)

    @property
    def git_commit(self) -> str:
        """The commit checked out, with `-dirty` where tracked files differ from it."""
        commit = _git(self.root, "rev-parse", "HEAD")
        if commit.returncode != 0:
            return "none"
        dirty = _git(self.root, "status", "--porcelain", "--untracked-files=no").stdout.strip()
        return commit.stdout.strip() + ("-dirty" if dirty else "")

    @property
    def origin(self) -> str:
        """The address of the remote `origin`; empty when there is none."""
        return _git(self.root, "config", "--get", "remote.origin.url").stdout.strip()

    def is_pushed(self, commit: str) -> bool:
        """Whether a commit is on a branch of `origin`, as far as this checkout knows."""
        return bool(_git(self.root, "branch", "--remotes", "--contains", commit, "--list", "origin/*").stdout.strip())

    def data_remote(self, commit: str) -> str:
        """The address of the DVC remote that a commit names; empty when there is none."""
        return versions.shared_remote(self.root, commit)

    @property
    def data(self) -> Path:
        """The dataset's folder."""
        return self.root / DATA_NAME

    @property
    def pin(self) -> Path:
        """The file that pins the dataset."""
        return self.root / PIN_NAME

    @property
    def runs(self) -> Path:
        """The folder of local runs and their cache."""
        return self.root / RUNS_NAME

    @property
    def cache(self) -> Path:
        """The folder in which local runs keep what steps wrote, by cache key."""
        return self.runs / ".cache"

    @property
    def pinned_md5(self) -> str:
        """The DVC md5 that data.dvc pins."""
        return versions.read_pin(self.pin).md5

    def new_run(self) -> Path:
        """Make the folder of a new run and let `runs/latest` point at it."""
        run = self.runs / datetime.now().strftime("%Y-%m-%d-%H%M%S-%f")[:-3]
        (run / "logs").mkdir(parents=True)
        pointer = self.runs / f".{LATEST_NAME}"
        pointer.unlink(missing_ok=True)
        pointer.symlink_to(run.name)
        pointer.replace(self.runs / LATEST_NAME)
        return run

    def get_data(self, notify: Notify, *, force: bool = False) -> Dataset:
        """Put the pinned dataset in place where it is missing, and check every file of it.

        Raises:
            DataError: a file differs from its pin, or no source could provide it.
        """
        if self.pinned_md5 == fashion_mnist.fashion_mnist().dvc_md5:
            source = fashion_mnist.download(self.data, repository=self.root, force=force, on_source=notify)
            if source != fashion_mnist.IN_PLACE:
                notify(f"got it from: {source}")
        elif not self.data.exists():
            versions.pull(self.root, self.data)
        return self.check_data()

    def check_data(self) -> Dataset:
        """Hash every file of the dataset, compare with the pin, and see to it that DVC's cache has them.

        Raises:
            DataError: names each file that is altered, missing or extra.
        """
        return _dataset(self.root, versions.commit(self.root))

    def add_data(self) -> Dataset:
        """Pin the dataset's folder as it is now; `data.dvc` changes.

        Raises:
            DataError: the folder is no dataset that the pipeline can read.
        """
        load_raw(self.data)
        return _dataset(self.root, versions.add(self.root))

    def get_digits(self) -> Dataset:
        """Scikit-learn's bundled digits in a DVC repository of their own, for a machine that can get nothing else."""
        repository = (self.runs / DIGITS_NAME).resolve()  # DVC refuses a path through a symbolic link
        if not (repository / PIN_NAME).is_file():
            digits.write_digits(repository / DATA_NAME)
            versions.make_repository(repository)
        return _dataset(repository, versions.commit(repository))

    def get_data_or_digits(self, notify: Notify, warn: Notify) -> Dataset:
        """The pinned dataset or, where it is missing and cannot be had, the digits, after a warning.

        Raises:
            DataError: the dataset is in place but damaged; nothing falls back on other data then.
        """
        try:
            return self.get_data(notify)
        except DataError as error:
            if self.data.exists() and any(self.data.iterdir()):
                raise
            warn(str(error))
        return self.get_digits()


def _dataset(repository: Path, version: versions.DataVersion) -> Dataset:
    info = read_info(repository / DATA_NAME)
    return Dataset(repository, info.name, info.title, version.md5)


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
