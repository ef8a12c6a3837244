"""The checks, as pure functions over plain values: objects as Kubernetes gives them, tasks, keys, runs and records.

Each returns its findings, one sentence each: none means that it holds.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from infra.check.pod_security import restricted_findings

Object = Mapping[str, Any]

GPU = "nvidia.com/gpu"
NAME_LABEL = "app.kubernetes.io/name"
TRAINING = ("train-cnn", "train-gan")
REGISTRATION = "register-model"
# KFP keeps the container of a step under this name, beside Argo's own.
MAIN = "main"


def gpu_nodes(nodes: Iterable[Object]) -> list[str]:
    """The nodes that can give a GPU to a pod."""
    return [name_of(node) for node in nodes if int(node["status"].get("allocatable", {}).get(GPU, "0")) > 0]


def name_of(thing: Object) -> str:
    """An object's name."""
    return str(thing["metadata"]["name"])


def find_unready(workloads: Iterable[Object]) -> list[str]:
    """Deployments and stateful sets that lack a replica, or of which there are none at all."""
    workloads = list(workloads)
    findings = [] if workloads else ["there is no deployment and no stateful set"]
    for each in workloads:
        wanted, ready = each["spec"].get("replicas", 1), each.get("status", {}).get("readyReplicas", 0)
        if ready < wanted:
            findings.append(f"{each['kind']} {name_of(each)}: {ready} of {wanted} replicas are ready")
    return findings


def explain_pods(pods: Iterable[Object], events: Iterable[Object]) -> list[str]:
    """Why pods are not ready, in Kubernetes' own words: conditions, containers that wait, the newest warning."""
    warnings = {
        event["involvedObject"].get("name"): event.get("message", "")
        for event in events
        if event.get("type") == "Warning"
    }
    found = []
    for pod in pods:
        status = pod.get("status", {})
        conditions = status.get("conditions", ())
        if status.get("phase") == "Succeeded" or any(
            c["type"] == "Ready" and c["status"] == "True" for c in conditions
        ):
            continue
        said = [c["message"] for c in conditions if c["status"] == "False" and c.get("message")]
        for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            waiting = container.get("state", {}).get("waiting")
            if waiting:
                said.append(f"{container['name']} {waiting.get('reason', '')} {waiting.get('message', '')}".strip())
        if warnings.get(name_of(pod)):
            said.append(warnings[name_of(pod)])
        found.append(f"pod {name_of(pod)}: {'; '.join(dict.fromkeys(said)) or status.get('phase', 'no status')}")
    return found


def find_unschedulable(pods: Iterable[Object]) -> dict[str, str]:
    """Pods that no node can take, and why, as the scheduler says."""
    return {
        name_of(pod): condition.get("message", "")
        for pod in pods
        for condition in pod.get("status", {}).get("conditions", ())
        if condition["type"] == "PodScheduled"
        and condition["status"] == "False"
        and condition.get("reason") == "Unschedulable"
    }


def steps_of(pods: Iterable[Object]) -> list[Object]:
    """Those of a run's pods that run a step; the others are KFP's drivers."""
    return [pod for pod in pods if NAME_LABEL in pod["metadata"].get("labels", {})]


def check_steps_ran(pods: Iterable[Object], tasks: Collection[str]) -> list[str]:
    """Every task had a pod that succeeded. KFP numbers repeated tasks, so `register-model-2` is one more pod."""
    wanted = Counter(re.sub(r"-\d+$", "", task) for task in tasks)
    ran = Counter(
        pod["metadata"]["labels"][NAME_LABEL]
        for pod in steps_of(pods)
        if pod.get("status", {}).get("phase") == "Succeeded"
    )
    return [
        f"{step}: {ran[step]} pods succeeded, {count} were expected"
        for step, count in wanted.items()
        if ran[step] != count
    ]


def check_restricted(pods: Iterable[Object]) -> list[str]:
    """Every pod of a run meets the restricted standard, and its step runs as a user that is known and not root."""
    pods = list(pods)
    findings = [] if pods else ["the run has no pod left to look at"]
    for pod in pods:
        findings += [f"{name_of(pod)}: {finding}" for finding in restricted_findings(dict(pod["spec"]))]
    for pod in steps_of(pods):
        outer = pod["spec"].get("securityContext") or {}
        for container in pod["spec"]["containers"]:
            user = (container.get("securityContext") or {}).get("runAsUser", outer.get("runAsUser"))
            if container["name"] == MAIN and not user:
                findings.append(f"{name_of(pod)}: its step must run as a user other than root, got {user}")
    return findings


def check_gpus(pods: Iterable[Object], nodes: Iterable[Object]) -> list[str]:
    """The training pods asked for a GPU and were bound to a node that has one."""
    able = gpu_nodes(nodes)
    training = [pod for pod in steps_of(pods) if pod["metadata"]["labels"][NAME_LABEL] in TRAINING]
    there = {pod["metadata"]["labels"][NAME_LABEL] for pod in training}
    findings = [f"{step}: has no pod" for step in TRAINING if step not in there]
    for pod in training:
        limits = [each.get("resources", {}).get("limits", {}) for each in pod["spec"]["containers"]]
        node = pod["spec"].get("nodeName", "")
        if not any(int(each.get(GPU, "0")) > 0 for each in limits):
            findings.append(f"{name_of(pod)}: asks for no {GPU}")
        if node not in able:
            findings.append(f"{name_of(pod)}: is bound to {node or 'no node'}, which has no {GPU}")
    return findings


def artifacts_of(keys: Iterable[str], run: str) -> dict[tuple[str, str], list[str]]:
    """A run's objects by task and artifact: KFP puts them under `<root>/<run>/<task>/<salt>/<artifact>`."""
    pattern = re.compile(rf"(?:.*/)?{re.escape(run)}/([^/]+)/[^/]+/([^/]+)(/.*)?")
    found: dict[tuple[str, str], list[str]] = {}
    for key in sorted(keys):
        if match := pattern.fullmatch(key):
            found.setdefault((match[1], match[2]), []).append(key)
    return found


def expected_artifacts(specification: Object) -> set[tuple[str, str]]:
    """Task and artifact of everything that a compiled pipeline writes."""
    return {
        (task, artifact)
        for task, definition in specification["root"]["dag"]["tasks"].items()
        for artifact in specification["components"][definition["componentRef"]["name"]]
        .get("outputDefinitions", {})
        .get("artifacts", {})
    }


def check_artifacts(found: Collection[tuple[str, str]], expected: Collection[tuple[str, str]]) -> list[str]:
    """Everything that the pipeline says it writes is in the object store."""
    return [f"{task}: its artifact {artifact} is not in S3" for task, artifact in sorted(set(expected) - set(found))]


def check_tracking(records: Mapping[str, Object], runs: Mapping[str, Object]) -> list[str]:
    """Every step's MLflow run is there, has ended well, and lies below one parent, which has too.

    records: what each step wrote about itself, by step. runs: status and parent (empty for none), by MLflow's run id.
    """
    findings = []
    parents: set[str] = set()
    for step, record in records.items():
        run = runs.get(record.get("mlflow_run_id") or "")
        if run is None:
            findings.append(f"{step}: has no run in MLflow")
            continue
        if run["status"] != "FINISHED":
            findings.append(f"{step}: its run in MLflow is {run['status']}, not FINISHED")
        if run["parent"]:
            parents.add(run["parent"])
        else:
            findings.append(f"{step}: its run in MLflow lies below no other")
    if len(parents) != 1:
        findings.append(f"the steps must lie below one run, got {len(parents)}")
    for parent in parents:
        if parent not in runs:
            findings.append(f"the parent {parent} is not in MLflow")
        elif runs[parent]["status"] != "FINISHED" or runs[parent]["parent"]:
            findings.append(f"the parent {parent} must be on top and FINISHED, got {dict(runs[parent])}")
    return findings


def check_models(decisions: Sequence[Object], versions: Mapping[str, Sequence[int]]) -> list[str]:
    """What registration says it registered is in the registry: a classifier and a generator, one version each."""
    kinds = sorted(decision["kind"] for decision in decisions)
    findings = (
        [] if kinds == ["cnn", "gan"] else [f"a cnn and a gan must be registered, got {', '.join(kinds) or 'none'}"]
    )
    for decision in decisions:
        there = list(versions.get(decision["name"], ()))
        if there != [decision["version"]]:
            findings.append(f"{decision['name']}: must have version {decision['version']} alone, has {there or 'none'}")
    return findings


def check_cached(pods: Iterable[Object], tasks: Collection[str]) -> list[str]:
    """Registration alone had pods: for a step from the cache KFP starts none, and calls it succeeded."""
    pods = steps_of(pods)
    findings = [
        f"{pod['metadata']['labels'][NAME_LABEL]}: ran again in {name_of(pod)} instead of coming from the cache"
        for pod in pods
        if pod["metadata"]["labels"][NAME_LABEL] != REGISTRATION
    ]
    return findings + check_steps_ran(pods, [task for task in tasks if task.startswith(REGISTRATION)])


def check_schedule(
    states: Sequence[str], before: Mapping[str, Sequence[int]], after: Mapping[str, Sequence[int]]
) -> list[str]:
    """A schedule has started a run that succeeded, and no model has a version more than before."""
    findings = (
        [] if "SUCCEEDED" in states else [f"no run of the schedule succeeded: {', '.join(states) or 'none began'}"]
    )
    for model in sorted({*before, *after}):
        if list(before.get(model, ())) != list(after.get(model, ())):
            findings.append(f"{model}: had versions {list(before.get(model, ()))}, has {list(after.get(model, ()))}")
    return findings


def compare_runs(local: Object, cluster: Object) -> list[str]:
    """What differs between a run on this machine and one on the cluster, but for the figures.

    Both hold `metrics` (names by step), `artifacts` (kinds by step) and `verdicts` (decision by kind of model).
    """
    return [
        line for part in ("metrics", "artifacts", "verdicts") for line in _differences(part, local[part], cluster[part])
    ]


def _differences(part: str, local: Mapping[str, Any], cluster: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*local, *cluster}):
        here, there = local.get(key), cluster.get(key)
        if isinstance(here, Collection) and isinstance(there, Collection) and not isinstance(here, str):
            only_here, only_there = sorted(set(here) - set(there)), sorted(set(there) - set(here))
            if only_here:
                yield f"{part} of {key}: only on this machine: {', '.join(only_here)}"
            if only_there:
                yield f"{part} of {key}: only on the cluster: {', '.join(only_there)}"
        elif here != there:
            yield f"{part} of {key}: {here or 'nothing'} on this machine, {there or 'nothing'} on the cluster"
