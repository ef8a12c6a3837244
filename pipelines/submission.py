"""What a cluster is sent: the compiled pipeline of one commit, and where the cluster gets that commit's data from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from darkroom.errors import ConfigError
from pipelines.cluster import compile_for_cluster, version_name
from pipelines.config import RunConfig
from pipelines.pipeline import NAME
from pipelines.placement import ClusterPlacement
from pipelines.resources import load_profile
from pipelines.workspace import Workspace

FOLDER_NAME = "build"
DIRTY = "-dirty"
SHORT = 12
# What git takes without a scheme, such as git@git.example.org:team/darkroom.git.
# A single letter before the colon is a drive of Windows.
SCP_ADDRESS = re.compile(r"([\w.-]+@)?[\w.-]{2,}:[^/].*")


@dataclass(frozen=True)
class Source:
    """A commit that a cluster can get by itself, and the md5 of the data that it pins."""

    repository: str
    commit: str
    data_md5: str

    def arguments(self, config: RunConfig) -> dict[str, Any]:
        """All arguments of the pipeline for one configuration."""
        origin = {"repository": self.repository, "revision": self.commit, "data_md5": self.data_md5}
        return {**origin, **config.arguments()}


@dataclass(frozen=True)
class Step:
    """One task of a compiled pipeline: its image and the accelerators that its pod asks for, in words."""

    name: str
    image: str
    accelerator: str = ""


@dataclass(frozen=True)
class Package:
    """A compiled pipeline. Its version's name holds the images' tag and a digest: the same content has one name."""

    file: Path
    version: str
    steps: Mapping[str, Step]


def find_source(workspace: Workspace, repository: str = "") -> Source:
    """The commit that is checked out, at `repository` or at the checkout's remote `origin`.

    Raises:
        ConfigError: there is no commit, or a cluster could not get it or its data there.
        DataError: the commit's DVC settings, or its pin, cannot be read.
    """
    commit = workspace.git_commit.removesuffix(DIRTY)
    if commit == "none":
        raise ConfigError(f"{workspace.root}: has no commit yet; a cluster fetches the data that a commit pins")
    address = _checked_repository(repository, "--repository") if repository else _find_origin(workspace, commit)
    _check_data_remote(workspace, commit)
    return Source(address, commit, workspace.pinned_md5)


def build_package(workspace: Workspace, profile: str, images: str, tag: str = "") -> Package:
    """Compile the pipeline for one profile. The defaults are compiled in; what differs is an argument of each run.

    Raises:
        ConfigError: there is no such profile, no such images can be, or what the profile asks for cannot run.
    """
    commit = workspace.git_commit
    place = ClusterPlacement(load_profile(profile), images, tag or commit, commit)
    draft = workspace.root / FOLDER_NAME / f"{NAME}-draft.yaml"
    compile_for_cluster(place, RunConfig(), workspace.pinned_md5, draft)
    version = version_name(place.tag, draft.read_bytes())
    file = draft.rename(draft.with_name(f"{version}.yaml"))
    documents = yaml.load_all(file.read_text(encoding="utf-8"), yaml.CSafeLoader)
    return Package(file, version, read_steps(next(each for each in documents if "deploymentSpec" in each)))


def read_steps(specification: Mapping[str, Any]) -> dict[str, Step]:
    """The steps of a compiled pipeline by the name that Kubeflow gives their tasks, such as `register-model-2`."""
    executors = specification["deploymentSpec"]["executors"]
    steps = {}
    for task, definition in specification["root"]["dag"]["tasks"].items():
        component = specification["components"][definition["componentRef"]["name"]]
        container = executors[component["executorLabel"]]["container"]
        steps[task] = Step(_name(task, definition), container["image"], _accelerator(container.get("resources", {})))
    return steps


def _name(task: str, definition: Mapping[str, Any]) -> str:
    """The name as a local run shows it: registration is one component in both branches, told apart by its kind."""
    parameters = definition.get("inputs", {}).get("parameters", {})
    kind = parameters.get("kind", {}).get("runtimeValue", {}).get("constant")
    return f"{re.sub(r'-[0-9]+$', '', task)}_{kind}".replace("-", "_") if kind else task.replace("-", "_")


def _accelerator(resources: Mapping[str, Any]) -> str:
    accelerator = resources.get("accelerator", {})
    return f"{accelerator['resourceCount']} x {accelerator['resourceType']}" if accelerator else ""


def _find_origin(workspace: Workspace, commit: str) -> str:
    origin = workspace.origin
    if not origin:
        raise ConfigError(f"{workspace.root}: has no remote origin; name the repository to clone with --repository")
    checked = _checked_repository(origin, "remote origin")
    if not workspace.is_pushed(commit):
        raise ConfigError(f"commit {commit[:SHORT]}: is on no branch of origin that this checkout knows; push it first")
    return checked


def _check_data_remote(workspace: Workspace, commit: str) -> None:
    """A clone holds no data: the cluster has it from the DVC remote that the commit names, or not at all."""
    address, where = workspace.data_remote(commit), f".dvc/config at commit {commit[:SHORT]}"
    if not address:
        raise ConfigError(
            f"{where}: names no default remote for the cluster to get the data from; "
            "`dvc remote add --default NAME URL`, commit, `dvc push`"
        )
    if "://" not in address or address.startswith("file:"):
        raise ConfigError(f"{where}: the remote must be an address that the cluster can reach, got {address!r}")


def _checked_repository(address: str, source: str) -> str:
    """An address that another machine can clone, and that anybody may read in the run's parameters."""
    parts = urlsplit(address) if "://" in address else None
    if parts and (parts.password or (parts.scheme in ("http", "https") and parts.username)):
        shown = f"{parts.scheme}://...@{parts.hostname}{parts.path}"
        raise ConfigError(f"{source}: must hold no credentials, they would show in every run, got {shown}")
    remote = parts.scheme != "file" and bool(parts.hostname) if parts else bool(SCP_ADDRESS.fullmatch(address))
    if not remote:
        raise ConfigError(f"{source}: must be an address that the cluster can clone, not a path here, got {address!r}")
    return address
