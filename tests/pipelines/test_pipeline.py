from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.config import load
from pipelines.pipeline import compile_pipeline
from pipelines.placement import IMAGES, ClusterPlacement

TRAINING = {"train-cnn", "train-gan"}


def compiled(folder: Path, gpus: int = 1, accelerator: str = "nvidia.com/gpu") -> dict[str, Any]:
    output = folder / "build" / "darkroom.yaml"
    place = ClusterPlacement("0123abc", "registry.example.org/team", accelerator, gpus)
    compile_pipeline(place, load(None, ["cnn.epochs=3"]), "f" * 32 + ".dir", output)
    spec: dict[str, Any] = yaml.safe_load(output.read_text())
    return spec


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return compiled(tmp_path_factory.mktemp("compiled"))


def containers(spec: dict[str, Any]) -> dict[str, Any]:
    executors = spec["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): executor["container"] for name, executor in executors.items()}


def upstream(spec: dict[str, Any], task: str) -> set[str]:
    direct = set(spec["root"]["dag"]["tasks"][task].get("dependentTasks", ()))
    return direct.union(*(upstream(spec, other) for other in direct))


def test_training_asks_for_a_gpu_and_nothing_else_does(spec: dict[str, Any]) -> None:
    for name, container in containers(spec).items():
        accelerator = container["resources"].get("accelerator")
        if name in TRAINING:
            assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("nvidia.com/gpu", "1")
            assert container["image"] == "registry.example.org/team/python-train-gpu:0123abc"
        else:
            assert accelerator is None


def test_the_accelerator_is_a_parameter(tmp_path: Path) -> None:
    spec = compiled(tmp_path, gpus=2, accelerator="nvidia.com/mig-1g.10gb")
    accelerator = containers(spec)["train-gan"]["resources"]["accelerator"]
    assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("nvidia.com/mig-1g.10gb", "2")


def test_without_gpus_training_runs_on_the_cpu_image(tmp_path: Path) -> None:
    container = containers(compiled(tmp_path, gpus=0))["train-cnn"]
    assert "accelerator" not in container["resources"]
    assert container["image"].endswith("/python-train:0123abc")


def test_every_task_has_cpu_and_memory_requests_and_limits(spec: dict[str, Any]) -> None:
    assert len(containers(spec)) == len(IMAGES) + 1
    for container in containers(spec).values():
        wanted = {"resourceCpuRequest", "resourceCpuLimit", "resourceMemoryRequest", "resourceMemoryLimit"}
        assert wanted <= container["resources"].keys()


def test_no_image_is_latest_and_nothing_is_installed_at_the_start(spec: dict[str, Any]) -> None:
    for container in containers(spec).values():
        assert container["image"].endswith(":0123abc")
        assert "pip" not in " ".join(container["command"][:3])


def test_the_branches_are_independent(spec: dict[str, Any]) -> None:
    tasks = spec["root"]["dag"]["tasks"]
    cnn = {"train-cnn", "evaluate-cnn"}
    gan = {"train-gan", "evaluate-gan"}
    for task in tasks:
        assert not (cnn <= upstream(spec, task) and gan & upstream(spec, task))
    assert upstream(spec, "evaluate-gan").isdisjoint(cnn)
    assert upstream(spec, "evaluate-cnn").isdisjoint(gan)


def test_nothing_is_trained_before_the_data_is_valid(spec: dict[str, Any]) -> None:
    for task in TRAINING:
        assert {"fetch-data", "validate-data", "preprocess"} <= upstream(spec, task)


def test_only_registration_is_never_cached(spec: dict[str, Any]) -> None:
    for name, task in spec["root"]["dag"]["tasks"].items():
        cached = task.get("cachingOptions", {}).get("enableCache", False)
        assert cached is not name.startswith("register-model")


def test_the_configuration_becomes_the_parameters_defaults(spec: dict[str, Any]) -> None:
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert parameters["cnn_epochs"]["defaultValue"] == 3
    assert parameters["data_md5"]["defaultValue"] == "f" * 32 + ".dir"
