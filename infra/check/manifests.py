"""Kustomizations and the objects that they render to."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

HERE = Path(__file__).resolve().parents[1]
KUBECTL = Path(sys.executable).with_name("kubectl")
# These fetch KFP's own manifests from GitHub; everything else renders without a network.
REMOTE = HERE / "kubeflow"
OVERLAYS = HERE / "overlays"


def local_kustomizations(root: Path = HERE) -> list[Path]:
    """Every folder below `root` that renders without a network."""
    folders = sorted(file.parent for file in root.rglob("kustomization.yaml"))
    return [folder for folder in folders if not folder.is_relative_to(root / REMOTE.name)]


def remote_kustomizations() -> list[Path]:
    """The folders that fetch what they stand on."""
    return sorted(file.parent for file in REMOTE.rglob("kustomization.yaml"))


def render(folder: Path) -> list[Manifest]:
    """The objects of one kustomization.

    Raises:
        RuntimeError: kubectl cannot render it; the message holds what kubectl said.
    """
    command = [str(KUBECTL), "kustomize", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{folder}: kubectl cannot render it: {result.stderr.strip()}")
    return [document for document in yaml.safe_load_all(result.stdout) if document]


def title(manifest: Manifest) -> str:
    """How messages name an object: `Deployment darkroom/mlflow`."""
    metadata = manifest["metadata"]
    namespace = f"{metadata['namespace']}/" if "namespace" in metadata else ""
    return f"{manifest['kind']} {namespace}{metadata['name']}"


def pod_template(manifest: Manifest) -> Manifest | None:
    """Labels and spec of the pods that an object starts, `{"metadata": ..., "spec": ...}`; None if it starts none."""
    kind, spec = manifest["kind"], manifest.get("spec", {})
    if kind == "Pod":
        return {"metadata": manifest["metadata"], "spec": spec}
    if kind in {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"}:
        return dict(spec["template"])
    if kind == "CronJob":
        return dict(spec["jobTemplate"]["spec"]["template"])
    if kind == "InferenceService":
        labels = {"serving.kserve.io/inferenceservice": manifest["metadata"]["name"]}
        return {"metadata": {"labels": labels}, "spec": spec["predictor"]}
    return None


def templates(objects: list[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Every object that starts pods, with its template."""
    for manifest in objects:
        template = pod_template(manifest)
        if template is not None:
            yield manifest, template


def containers(pod: Manifest) -> list[Manifest]:
    """All containers of a pod's spec, init and ephemeral ones too."""
    return [each for kind in ("initContainers", "containers", "ephemeralContainers") for each in pod.get(kind, [])]
