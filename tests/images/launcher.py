"""What Kubeflow does with one task, as far as its container can see.

The driver works out the executor's input: parameters, artifacts with their addresses in the object store, and where
outputs go. The launcher puts input artifacts on the local disk, makes folders for the outputs, replaces the placeholder
for that input in the component's command, runs it, and keeps what the outputs' paths hold. Here the object store is the
folder that is mounted at /minio, under which the launcher keeps local copies, so nothing is copied.
(kubeflow/pipelines 2.17: backend/src/v2/driver/driver.go, backend/src/v2/component/launcher_v2.go.)
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUTPUT_PARAMETERS = "/tmp/kfp/outputs"  # noqa: S108 - the driver's choice
PIPELINE_ROOT = "minio://mlpipeline/v2/artifacts/darkroom/0000"
SCRATCH = "/minio"

Artifact = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One task of a compiled pipeline and the values that it gets."""

    name: str
    container: dict[str, Any]
    input: dict[str, Any]

    @classmethod
    def of(
        cls, spec: Mapping[str, Any], name: str, parameters: Mapping[str, Any], artifacts: Mapping[str, Artifact]
    ) -> "Task":
        """The task `name` (as in fetch-data) of a compiled pipeline, with a value for each of its inputs."""
        component = spec["components"][f"comp-{name}"]
        container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        wanted = component["inputDefinitions"]
        assert parameters.keys() == wanted.get("parameters", {}).keys()
        assert artifacts.keys() == wanted.get("artifacts", {}).keys()
        root = f"{PIPELINE_ROOT}/{name}"
        outputs = component["outputDefinitions"]
        executor_input = {
            "inputs": {
                "parameterValues": dict(parameters),
                "artifacts": {key: {"artifacts": [artifact]} for key, artifact in artifacts.items()},
            },
            "outputs": {
                "parameters": {
                    key: {"outputFile": f"{OUTPUT_PARAMETERS}/{key}"} for key in outputs.get("parameters", {})
                },
                "artifacts": {
                    key: {
                        "artifacts": [
                            {"name": key, "uri": f"{root}/{key}", "type": artifact["artifactType"], "metadata": {}}
                        ]
                    }
                    for key, artifact in outputs.get("artifacts", {}).items()
                },
                "outputFile": f"{local_path(root)}/output_metadata.json",
            },
        }
        return cls(name, container, executor_input)

    @property
    def command(self) -> list[str]:
        """What the launcher executes."""
        words = [*self.container["command"], *self.container["args"]]
        return [word.replace("{{$}}", json.dumps(self.input)) for word in words]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the pipeline sets on the task."""
        return {variable["name"]: variable["value"] for variable in self.container.get("env", [])}

    def prepare(self, store: Path, user: int) -> None:
        """Make the folders that the launcher makes, as the pod's user."""
        folder = on_disk(store, f"{PIPELINE_ROOT}/{self.name}")
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder, *folder.parents):
            os.chown(path, user, -1)
            if path == store:
                break

    def outputs(self, store: Path) -> "Outputs":
        """What the component reported through KFP's executor."""
        reported = json.loads(on_disk(store, f"{PIPELINE_ROOT}/{self.name}/output_metadata.json").read_text())
        artifacts = {}
        for key, declared in self.input["outputs"]["artifacts"].items():
            (artifact,) = declared["artifacts"]
            artifacts[key] = artifact | reported["artifacts"][key]["artifacts"][0]
        return Outputs(reported.get("parameterValues", {}), artifacts)


@dataclass(frozen=True)
class Outputs:
    """Parameters and artifacts that a task handed over."""

    parameters: dict[str, Any]
    artifacts: dict[str, Artifact]


def artifact(task: str, key: str, schema: str) -> Artifact:
    """An artifact that another image's step would have written."""
    type_ = {"schemaTitle": schema, "schemaVersion": "0.0.1"}
    return {"name": key, "uri": f"{PIPELINE_ROOT}/{task}/{key}", "type": type_, "metadata": {}}


def local_path(uri: str) -> str:
    """Where the launcher keeps an artifact in the pod."""
    return f"{SCRATCH}/{uri.removeprefix('minio://')}"


def on_disk(store: Path, uri: str) -> Path:
    """The same place in the folder that is mounted there."""
    return store / uri.removeprefix("minio://")
