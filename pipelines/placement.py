"""Where each step runs: its image, and on a laptop the code digest, on a cluster the resources that it asks for."""

from collections.abc import Mapping
from pathlib import Path

from kfp.dsl import PipelineTask

import components
from components.images import Target, image
from darkroom.config import StepConfig
from pipelines.code_digest import code_digest

IMAGES: Mapping[str, Target] = {
    "fetch_data": "data",
    "validate_data": "data",
    "preprocess": "data",
    "train_cnn": "train",
    "train_gan": "train",
    "evaluate_cnn": "train",
    "evaluate_gan": "train",
    "register_model": "registry",
}


class Resources(StepConfig):
    """What one step asks a cluster for, in Kubernetes' notation."""

    cpu_request: str
    cpu_limit: str
    memory_request: str
    memory_limit: str
    trains: bool = False


LIGHT = Resources(cpu_request="1", cpu_limit="2", memory_request="2Gi", memory_limit="4Gi")
TRAINING = Resources(cpu_request="2", cpu_limit="4", memory_request="4Gi", memory_limit="8Gi", trains=True)
REGISTERING = Resources(cpu_request="500m", cpu_limit="2", memory_request="1Gi", memory_limit="4Gi")

RESOURCES: Mapping[str, Resources] = {
    "fetch_data": LIGHT,
    "validate_data": LIGHT,
    "preprocess": LIGHT,
    "train_cnn": TRAINING,
    "train_gan": TRAINING,
    "evaluate_cnn": LIGHT.model_copy(update={"memory_request": "4Gi"}),
    "evaluate_gan": LIGHT.model_copy(update={"memory_request": "4Gi"}),
    "register_model": REGISTERING,
}


class LaptopPlacement:
    """Every step runs in this environment; its cache key holds a digest of the code and the locked requirements."""

    def __call__(self, task: PipelineTask) -> PipelineTask:
        """Give one task its cache key's code digest."""
        step = step_name(task)
        task.set_container_image(image(IMAGES[step]))
        return task.set_env_variable("DARKROOM_CODE_DIGEST", step_digest(step))


class ClusterPlacement:
    """Steps run in pods: images by git commit, requests and limits on each, GPUs for training."""

    def __init__(self, tag: str, repository: str, accelerator: str, gpus: int) -> None:
        self._tag = tag
        self._repository = repository
        self._accelerator = accelerator
        self._gpus = gpus

    def __call__(self, task: PipelineTask) -> PipelineTask:
        """Give one task its image, its resources and what its MLflow run says of its origin."""
        step = step_name(task)
        resources = RESOURCES[step]
        on_gpu = resources.trains and self._gpus > 0
        target: Target = "train-gpu" if on_gpu else IMAGES[step]
        full_name = image(target, self._repository, self._tag)
        task.set_container_image(full_name)
        task.set_env_variable("DARKROOM_GIT_COMMIT", self._tag)
        task.set_env_variable("DARKROOM_IMAGE", full_name)
        task.set_cpu_request(resources.cpu_request).set_cpu_limit(resources.cpu_limit)
        task.set_memory_request(resources.memory_request).set_memory_limit(resources.memory_limit)
        if on_gpu:
            task.set_accelerator_type(self._accelerator).set_accelerator_limit(self._gpus)
        return task


def step_digest(step: str) -> str:
    """The digest of all code that a step runs: its modules of `darkroom` and its image's locked requirements."""
    source = Path(components.__file__).parent
    lock = source.parent / "requirements" / f"{IMAGES[step]}.txt"
    return code_digest(source / step / "component.py", lock)


def step_name(task: PipelineTask) -> str:
    """The step of a task: KFP turns underscores into dashes and numbers repeated tasks."""
    return str(task.component_spec.name).replace("-", "_")
