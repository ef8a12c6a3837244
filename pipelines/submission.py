"""What a cluster is sent: the compiled pipeline of one commit, and where the cluster gets that commit's data from."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from darkroom.errors import ConfigError
from pipelines.config import RunConfig
from pipelines.pipeline import NAME, Place, compile_pipeline
from pipelines.placement import ClusterPlacement
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
    """A compiled pipeline. Its version's name holds the commit and a digest: the same content has one name."""

    file: Path
    version: str
    steps: Mapping[str, Step]


def find_source(workspace: Workspace, repository: str = "") -> Source:
    """The commit that is checked out, at `repository` or at the checkout's remote `origin`.

    Raises:
        ConfigError: the commit is not what is checked out, or a cluster could not get it there.
    """
    commit = workspace.git_commit
    if commit.endswith(DIRTY):
        raise ConfigError(
            f"{workspace.root}: tracked files differ from commit {commit.removesuffix(DIRTY)[:SHORT]}; a cluster runs "
            "images and data of a commit: commit the changes first"
        )
    if commit == "none":
        raise ConfigError(f"{workspace.root}: has no commit yet; a cluster runs images and data of a commit")
    if repository:
        return Source(_checked_repository(repository, "--repository"), commit, workspace.pinned_md5)
    origin = workspace.origin
    if not origin:
        raise ConfigError(f"{workspace.root}: has no remote origin; name the repository to clone with --repository")
    checked = _checked_repository(origin, "remote origin")
    if not workspace.is_pushed(commit):
        raise ConfigError(f"commit {commit[:SHORT]}: is on no branch of origin that this checkout knows; push it first")
    return Source(checked, commit, workspace.pinned_md5)


def build_package(workspace: Workspace, source: Source, profile: str, images: str) -> Package:
    """Compile the pipeline for one profile. The defaults are compiled in; what differs is an argument of each run.

    Raises:
        ConfigError: there is no such profile, or what it asks for cannot run.
    """
    draft = workspace.root / FOLDER_NAME / f"{NAME}-draft.yaml"
    compile_pipeline(placement(profile, images, source.commit), RunConfig(), source.data_md5, draft)
    version = f"{source.commit[:SHORT]}-{hashlib.sha256(draft.read_bytes()).hexdigest()[:SHORT]}"
    file = draft.rename(draft.with_name(f"{NAME}-{version}.yaml"))
    # A second document, if there is one, holds settings for Kubernetes.
    specification = next(iter(yaml.safe_load_all(file.read_text(encoding="utf-8"))))
    return Package(file, version, read_steps(specification))


def placement(profile: str, images: str, tag: str) -> Place:
    """Where each task runs under a profile."""
    gpus = {"cpu": 0, "t4": 1}
    if profile not in gpus:
        raise ConfigError(f"profile: must be one of {', '.join(gpus)}, got {profile!r}")
    return ClusterPlacement(tag, images, "nvidia.com/gpu", gpus[profile])


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
    count = accelerator.get("resourceCount") or accelerator.get("count")
    return f"{count} x {accelerator.get('resourceType') or accelerator.get('type')}" if count else ""


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
