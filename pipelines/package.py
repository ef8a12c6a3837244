"""What a compiled package asks a cluster for, task by task, as plain values.

A package is KFP's pipeline spec and, as a second YAML document, its platform spec; or the same two inside of a
`PipelineVersion` resource.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from darkroom.errors import ConfigError
from pipelines.yaml_file import read_yaml

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """One task's pod. Quantities are as written, and empty where nothing is asked for.

    secrets: the keys that must exist, by the name of the secret; claims: persistent volume claims that are mounted.
    """

    name: str
    image: str
    cpu_request: str
    cpu_limit: str
    memory_request: str
    memory_limit: str
    accelerator: str
    accelerator_count: str
    shared_memory: str
    node_selector: Mapping[str, str]
    node_affinity: tuple[Document, ...]
    tolerations: tuple[Document, ...]
    secrets: Mapping[str, frozenset[str]]
    pull_secrets: tuple[str, ...]
    claims: tuple[str, ...]


def read_package(package: Path) -> list[Task]:
    """Read every task of a compiled package.

    Raises:
        ConfigError: the file cannot be read or is no compiled pipeline.
    """
    documents = read_yaml(package, lambda text: list(yaml.load_all(text, yaml.CSafeLoader)))
    try:
        pipeline, platform = _specs(documents)
        containers = {label: each["container"] for label, each in pipeline["deploymentSpec"]["executors"].items()}
        configs = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if platform else {}
        labels = {
            name: pipeline["components"][task["componentRef"]["name"]]["executorLabel"]
            for name, task in pipeline["root"]["dag"]["tasks"].items()
        }
        return [_task(name, containers[label], configs.get(label, {})) for name, label in labels.items()]
    except (AttributeError, KeyError, TypeError):
        raise ConfigError(f"{package}: must be a pipeline that `darkroom compile` wrote") from None


def _specs(documents: Iterable[Any]) -> tuple[Document, Document]:
    """The pipeline spec and the platform spec, whichever of the two forms the file has."""
    pipeline: Document = {}
    platform: Document = {}
    for document in filter(None, documents):
        if document.get("kind") == "PipelineVersion":
            return document["spec"]["pipelineSpec"], document["spec"].get("platformSpec", {})
        if "deploymentSpec" in document:
            pipeline = document
        elif "platforms" in document:
            platform = document
    return pipeline, platform


def _task(name: str, container: Document, config: Document) -> Task:
    resources = container.get("resources", {})
    accelerator = resources.get("accelerator", {})
    in_memory = [mount for mount in config.get("emptyDirMounts", ()) if mount.get("medium") == "Memory"]
    return Task(
        name=name,
        image=container["image"],
        cpu_request=resources.get("resourceCpuRequest", ""),
        cpu_limit=resources.get("resourceCpuLimit", ""),
        memory_request=resources.get("resourceMemoryRequest", ""),
        memory_limit=resources.get("resourceMemoryLimit", ""),
        accelerator=accelerator.get("resourceType", ""),
        accelerator_count=accelerator.get("resourceCount", ""),
        shared_memory=next((mount.get("sizeLimit", "") for mount in in_memory), ""),
        node_selector=config.get("nodeSelector", {}).get("labels", {}),
        # What has a weight is a wish, not a condition.
        node_affinity=tuple(term for term in config.get("nodeAffinity", ()) if "weight" not in term),
        tolerations=tuple(config.get("tolerations", ())),
        secrets=_required_secrets(config),
        pull_secrets=tuple(secret["secretName"] for secret in config.get("imagePullSecret", ())),
        claims=tuple(mount["constant"] for mount in config.get("pvcMount", ())),
    )


def _required_secrets(config: Document) -> dict[str, frozenset[str]]:
    required: dict[str, frozenset[str]] = {}
    for secret in config.get("secretAsEnv", ()):
        if not secret.get("optional"):
            keys = {each["secretKey"] for each in secret["keyToEnv"]}
            required[secret["secretName"]] = required.get(secret["secretName"], frozenset()) | keys
    return required
