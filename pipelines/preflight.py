"""The preflight: what a compiled package asks for and a cluster cannot give, told before the cluster is asked.

A pod that no node can take waits for ever and says so only to those who look at its events. Each finding here is one
line with the task, the rule and the value, and all of them are told at once.
"""

from collections.abc import Sequence
from pathlib import Path

from darkroom.errors import ConfigError
from pipelines.kubeconfig import Cluster
from pipelines.package import Task, read_package
from pipelines.registries import missing_images
from pipelines.resources import Profile, parse_quantity, step_of
from pipelines.scheduling import Node, misfits, shortfalls

# The tags that components carry until the pipeline is compiled for a cluster, and what stands for no commit.
PLACEHOLDER_TAGS = ("local", "none", "unknown")


def preflight(
    package: Path,
    *,
    kubeconfig: Path | None = None,
    namespace: str = "",
    profile: Profile | None = None,
    check_images: bool = False,
) -> None:
    """Refuse a package whose tasks cannot be scheduled or started.

    Args:
        package: What `darkroom compile` wrote.
        kubeconfig: Of a cluster, whose nodes, secrets and claims are then looked at.
        namespace: Of the run; by default the kubeconfig's own.
        profile: The profile that the package was compiled with, for the size of its nodes.
        check_images: Ask the registries for every image. Not for a cluster whose images are loaded from archives.

    Raises:
        ConfigError: every finding, one a line; or something could not be asked.
    """
    tasks = read_package(package)
    sound = [task for task in tasks if not malformed(task)]
    findings = [finding for task in tasks for finding in check_task(task)]
    if profile is not None:
        findings += [finding for task in sound for finding in check_node_of_profile(task, profile)]
    if kubeconfig is not None:
        cluster = Cluster(kubeconfig, namespace)
        findings += check_nodes(sound, cluster.nodes())
        findings += check_names(tasks, cluster)
    if check_images:
        missing = missing_images(task.image for task in tasks)
        findings += [
            f"{task.name}: image {missing[task.image]}, got {task.image}" for task in tasks if task.image in missing
        ]
    if findings:
        raise ConfigError("\n".join(findings))


def malformed(task: Task) -> list[str]:
    """Quantities that are missing or that Kubernetes cannot read."""
    wanted = {
        "cpu request": task.cpu_request,
        "cpu limit": task.cpu_limit,
        "memory request": task.memory_request,
        "memory limit": task.memory_limit,
    }
    wanted |= {"shared memory": task.shared_memory} if task.shared_memory else {}
    wanted |= {"accelerator count": task.accelerator_count} if task.accelerator_count else {}
    findings = []
    for name, text in wanted.items():
        try:
            parse_quantity(text)
        except ValueError as error:
            findings.append(f"{task.name}: {name} {error}" if text else f"{task.name}: {name} must be given, got none")
    return findings


def check_task(task: Task) -> list[str]:
    """What is wrong with a task by itself, on any cluster."""
    unreadable = malformed(task)
    findings = unreadable or [f"{task.name}: {finding}" for finding in _contradictions(task)]
    if bool(task.accelerator) != bool(task.accelerator_count):
        got = task.accelerator or task.accelerator_count
        findings.append(
            f"{task.name}: accelerator must have a type and a count, such as nvidia.com/gpu and 1, got {got}"
        )
    return [*findings, *(f"{task.name}: image {finding}, got {task.image}" for finding in _bad_names(task.image))]


def check_node_of_profile(task: Task, profile: Profile) -> list[str]:
    """What is too much for the kind of node that the profile is meant for, where it states one."""
    size = profile.pod(step_of(task.name)).node
    node = Node("the profile's node", size)
    return [f"{task.name}: {finding}" for finding in (shortfalls(task, [node]) if size else ())]


def check_nodes(tasks: Sequence[Task], nodes: Sequence[Node]) -> list[str]:
    """Which tasks no node of the cluster can take."""
    return [f"{task.name}: {finding}" for task in tasks for finding in misfits(task, nodes)]


def check_names(tasks: Sequence[Task], cluster: Cluster) -> list[str]:
    """Which secrets, keys of secrets and volume claims the namespace lacks."""
    names = {name for task in tasks for name in (*task.secrets, *task.pull_secrets)}
    keys = {name: cluster.secret_keys(name) for name in sorted(names)}
    claims = {name: cluster.has_claim(name) for name in sorted({name for task in tasks for name in task.claims})}
    where = f"in namespace {cluster.namespace}"
    findings = []
    for task in tasks:
        for name in (*task.secrets, *task.pull_secrets):
            if keys[name] is None:
                findings.append(f"{task.name}: secret must exist {where}, got none that is called {name}")
            elif lacking := task.secrets.get(name, frozenset()) - (keys[name] or frozenset()):
                findings.append(f"{task.name}: secret {name} {where} must have the key {', '.join(sorted(lacking))}")
        for name in task.claims:
            if not claims[name]:
                findings.append(
                    f"{task.name}: persistent volume claim must exist {where}, got none that is called {name}"
                )
    return findings


def _contradictions(task: Task) -> list[str]:
    findings = []
    for name, request, limit in (
        ("cpu request", task.cpu_request, task.cpu_limit),
        ("memory request", task.memory_request, task.memory_limit),
        ("shared memory", task.shared_memory or "0", task.memory_limit),
    ):
        if parse_quantity(request) > parse_quantity(limit):
            findings.append(f"{name} must not be above the limit of {limit}, got {request}")
    return findings


def _bad_names(image: str) -> list[str]:
    if "@" in image:
        return []
    tag = image.rpartition("/")[2].partition(":")[2]
    if tag in ("", "latest"):
        return ["must have a tag that always means the same image, not latest"]
    if tag in PLACEHOLDER_TAGS or tag.endswith("-dirty"):
        return ["must have the tag of an image that was built, such as a git commit"]
    return []
