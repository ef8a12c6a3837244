"""Where each step runs: its image, and on a laptop the code digest, on a cluster all that its pod asks for."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from kfp import kubernetes
from kfp.dsl import PipelineTask

import components
from components.images import Target, image
from darkroom.errors import ConfigError
from darkroom.steps import CHECKPOINTS_VARIABLE
from pipelines.code_digest import code_digest
from pipelines.quiet import QUIET
from pipelines.resources import PodConfig, Profile, Step

IMAGES: Mapping[Step, Target] = {
    "fetch_data": "data",
    "validate_data": "data",
    "preprocess": "data",
    "train_cnn": "train",
    "train_gan": "train",
    "evaluate_cnn": "train",
    "evaluate_gan": "train",
    "register_model": "registry",
}

CHECKPOINTS_PATH = "/checkpoints"
SHARED_MEMORY_PATH = "/dev/shm"  # noqa: S108 - in the pod
# The backend counts it from the first attempt's start, time in a queue included, and ends what is beyond. The number
# of attempts and the timeout of each bound a step already.
RETRY_WINDOW = f"{7 * 24 * 3600}s"


class LaptopPlacement:
    """Every step runs in this environment; its cache key holds a digest of the code and the locked requirements."""

    def __call__(self, task: PipelineTask) -> PipelineTask:
        """Give one task its cache key's code digest."""
        step = step_name(task)
        task.set_container_image(image(IMAGES[step]))
        return task.set_env_variable("DARKROOM_CODE_DIGEST", step_digest(step))


class ClusterPlacement:
    """Steps run in pods, as a profile says; their images are tagged by git commit.

    `git_commit` is what the runs record; by default that is the tag, which is another where images were built by hand.

    Raises:
        ConfigError: no image can be in this repository or have this tag, or the profile gives an accelerator to a step
            whose image has no use for one.
    """

    def __init__(self, profile: Profile, repository: str, tag: str, git_commit: str = "") -> None:
        if re.fullmatch(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*", repository) is None:
            raise ConfigError(f"--images: must be a registry and a path such as ghcr.io/team, got {repository!r}")
        self.profile = profile
        self.tag = _checked(tag)
        self._repository = repository
        self._git_commit = git_commit or tag
        for step, target in IMAGES.items():
            if profile.pod(step).accelerator and target != "train":
                raise ConfigError(f"{step}.accelerator: the image python-{target} has no use for one; leave it out")

    def __call__(self, task: PipelineTask) -> PipelineTask:
        """Give one task its image, its resources, its place and its environment."""
        step = step_name(task)
        pod = self.profile.pod(step)
        target: Target = "train-gpu" if pod.accelerator else IMAGES[step]
        full_name = image(target, self._repository, self.tag)
        task.set_container_image(full_name)
        environment = {
            **QUIET,
            **pod.environment,
            "DARKROOM_GIT_COMMIT": self._git_commit,
            "DARKROOM_IMAGE": full_name,
        }
        for variable, value in environment.items():
            task.set_env_variable(variable, value)
        # From the pod's label, not as a value: what stands in the package would be part of the cache key.
        kubernetes.use_field_path_as_env(task, "DARKROOM_KFP_RUN_ID", "metadata.labels['pipeline/runid']")
        _ask_for_resources(task, pod)
        _choose_node(task, pod)
        _secure(task, pod)
        for label, value in {**_own_labels(step), **pod.labels}.items():
            kubernetes.add_pod_label(task, label, value)
        return task


def step_digest(step: Step) -> str:
    """The digest of all code that a step runs: its modules of `darkroom` and its image's locked requirements."""
    source = Path(components.__file__).parent
    lock = source.parent / "requirements" / f"{IMAGES[step]}.txt"
    return code_digest(source / step / "component.py", lock)


def step_name(task: PipelineTask) -> Step:
    """The step of a task: KFP turns underscores into dashes and numbers repeated tasks."""
    return cast(Step, str(task.component_spec.name).replace("-", "_"))


def _checked(tag: str) -> str:
    """Refuse a tag that no pushed image can have, before a cluster looks for it."""
    if tag.endswith("-dirty"):
        raise ConfigError(
            f"tracked files differ from commit {tag.removesuffix('-dirty')[:12]}: images are tagged by commit, and no "
            "image holds these changes; commit them, or name the tag of images that you built with --tag"
        )
    if tag == "none":
        raise ConfigError("nothing is committed yet, and images are tagged by commit; commit, or use --tag")
    if tag == "latest" or re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", tag) is None:
        raise ConfigError(
            f"--tag: must be the tag of one image, not latest, of letters, digits, _, . and -, got {tag!r}"
        )
    return tag


def _ask_for_resources(task: PipelineTask, pod: PodConfig) -> None:
    task.set_cpu_request(pod.cpu.request).set_cpu_limit(pod.cpu.limit)
    task.set_memory_request(pod.memory.request).set_memory_limit(pod.memory.limit)
    if pod.accelerator:
        task.set_accelerator_type(pod.accelerator.resource).set_accelerator_limit(pod.accelerator.count)
    if pod.shared_memory:
        kubernetes.empty_dir_mount(task, "shared-memory", SHARED_MEMORY_PATH, "Memory", pod.shared_memory)
    if pod.checkpoints:
        kubernetes.mount_pvc(task, pod.checkpoints, CHECKPOINTS_PATH)
        task.set_env_variable(CHECKPOINTS_VARIABLE, CHECKPOINTS_PATH)
    kubernetes.set_timeout(task, pod.timeout_seconds)
    task.set_retry(pod.retries.count, f"{pod.retries.backoff_seconds}s", pod.retries.factor, RETRY_WINDOW)


def _choose_node(task: PipelineTask, pod: PodConfig) -> None:
    for label, value in pod.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    if pod.node_affinity:
        # One call: the requirements of one term hold together, those of two terms as alternatives.
        kubernetes.add_node_affinity(task, match_expressions=[each.model_dump() for each in pod.node_affinity])
    for each in pod.tolerations:
        kubernetes.add_toleration(task, each.key, each.operator, each.value, each.effect)


def _secure(task: PipelineTask, pod: PodConfig) -> None:
    """What the SDK can say of the `restricted` standard; the backend adds the rest to every container by itself."""
    kubernetes.set_security_context(task, run_as_user=pod.user, run_as_group=pod.group, run_as_non_root=True)
    for secret in pod.secrets:
        kubernetes.use_secret_as_env(task, secret.name, dict(secret.keys), optional=secret.optional)
    kubernetes.set_image_pull_policy(task, pod.image_pull_policy)
    if pod.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(pod.image_pull_secrets))


def _own_labels(step: Step) -> dict[str, str]:
    return {"app.kubernetes.io/name": step.replace("_", "-"), "app.kubernetes.io/part-of": "darkroom"}
