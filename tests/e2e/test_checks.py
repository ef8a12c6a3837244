"""Each check with something good and with everything that it is there to find."""

from copy import deepcopy
from typing import Any

import pytest

from tests.e2e import checks

GPU = checks.GPU


def node(name: str = "worker", gpus: str | None = None) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"allocatable": {"cpu": "4", **({GPU: gpus} if gpus else {})}}}


def pod(step: str, *, gpus: str = "", bound: str = "worker", phase: str = "Succeeded") -> dict[str, Any]:
    """A step's pod as KFP 2.17 makes it with our profile."""
    confined = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    limits = {"cpu": "2", **({GPU: gpus} if gpus else {})}
    return {
        "metadata": {"name": f"darkroom-{step}", "labels": {checks.NAME_LABEL: step}},
        "spec": {
            "nodeName": bound,
            "containers": [
                {"name": "main", "securityContext": {**confined, "runAsUser": 1000}, "resources": {"limits": limits}},
                {"name": "wait", "securityContext": {**confined, "runAsUser": 65532}},
            ],
        },
        "status": {"phase": phase},
    }


@pytest.mark.parametrize(
    ("nodes", "able"),
    [([], []), ([node()], []), ([node(gpus="0")], []), ([node(), node("gpu-1", "2")], ["gpu-1"])],
)
def test_nodes_with_a_gpu(nodes: list[dict[str, Any]], able: list[str]) -> None:
    assert checks.gpu_nodes(nodes) == able


def workload(ready: int | None, wanted: int = 1) -> dict[str, Any]:
    status = {} if ready is None else {"readyReplicas": ready}
    return {"kind": "Deployment", "metadata": {"name": "mlflow"}, "spec": {"replicas": wanted}, "status": status}


def test_workloads_that_are_not_ready() -> None:
    assert checks.find_unready([workload(1)]) == []
    assert checks.find_unready([workload(None)]) == ["Deployment mlflow: 0 of 1 replicas are ready"]
    assert checks.find_unready([workload(1, 2)]) == ["Deployment mlflow: 1 of 2 replicas are ready"]
    assert checks.find_unready([]) == ["there is no deployment and no stateful set"]


def test_a_pod_that_is_not_ready_is_explained_in_the_words_of_kubernetes() -> None:
    ready = {"type": "Ready", "status": "True"}
    fine = {"metadata": {"name": "postgres-0"}, "status": {"phase": "Running", "conditions": [ready]}}
    done = {"metadata": {"name": "step"}, "status": {"phase": "Succeeded", "conditions": []}}
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
    bad = {
        "metadata": {"name": "mlflow-0"},
        "status": {
            "phase": "Pending",
            "conditions": [{"type": "Ready", "status": "False", "message": "containers with unready status: [mlflow]"}],
            "containerStatuses": [{"name": "mlflow", "state": {"waiting": waiting}}],
        },
    }
    events = [{"type": "Warning", "involvedObject": {"name": "mlflow-0"}, "message": "not found in the registry"}]

    assert checks.explain_pods([fine, done, bad], events) == [
        "pod mlflow-0: containers with unready status: [mlflow]; "
        "mlflow ImagePullBackOff Back-off pulling image; not found in the registry"
    ]


def test_pods_that_no_node_can_take() -> None:
    why = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    waiting = pod("train-cnn", phase="Pending")
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}
    waiting["status"]["conditions"] = [condition]
    gated = pod("train-gan", phase="Pending")
    gated["status"]["conditions"] = [{**condition, "reason": "SchedulingGated"}]

    assert checks.find_unschedulable([pod("preprocess"), waiting, gated]) == {"darkroom-train-cnn": why}


def test_every_task_had_a_pod_that_succeeded() -> None:
    pods = [pod("train-cnn"), pod("register-model"), pod("register-model")]
    driver = {"metadata": {"name": "driver", "labels": {}}, "status": {"phase": "Succeeded"}}
    tasks = ["train-cnn", "register-model", "register-model-2"]

    assert checks.check_steps_ran([*pods, driver], tasks) == []
    assert checks.check_steps_ran(pods[:2], tasks) == ["register-model: 1 pods succeeded, 2 were expected"]
    failed = [pod("train-cnn", phase="Failed"), *pods[1:]]
    assert checks.check_steps_ran(failed, tasks) == ["train-cnn: 0 pods succeeded, 1 were expected"]


def test_restricted_pods() -> None:
    assert checks.check_restricted([pod("train-cnn")]) == []
    assert checks.check_restricted([]) == ["the run has no pod left to look at"]


@pytest.mark.parametrize(
    ("field", "value", "finding"),
    [
        ("allowPrivilegeEscalation", True, "container main: allowPrivilegeEscalation must be false"),
        ("capabilities", {"drop": []}, "container main: capabilities must drop ALL"),
        ("seccompProfile", None, "container main: seccompProfile must be RuntimeDefault or Localhost"),
        ("runAsNonRoot", None, "container main: runAsNonRoot must be true"),
        ("runAsUser", 0, "must run as a user other than root, got 0"),
        ("runAsUser", None, "must run as a user other than root, got None"),
    ],
)
def test_a_pod_that_is_not_restricted_is_found(field: str, value: Any, finding: str) -> None:
    bad = pod("train-cnn")
    bad["spec"]["containers"][0]["securityContext"][field] = value

    assert any(finding in found for found in checks.check_restricted([pod("preprocess"), bad]))


def test_the_user_may_stand_on_the_pod() -> None:
    good = pod("train-cnn")
    del good["spec"]["containers"][0]["securityContext"]["runAsUser"]
    good["spec"]["securityContext"] = {"runAsUser": 1000}
    assert checks.check_restricted([good]) == []


def test_trainings_on_a_gpu() -> None:
    nodes = [node("worker", "1"), node("other")]
    good = [pod("train-cnn", gpus="1"), pod("train-gan", gpus="1"), pod("evaluate-cnn")]

    assert checks.check_gpus(good, nodes) == []
    assert checks.check_gpus(good[:1], nodes) == ["train-gan: has no pod"]
    assert checks.check_gpus([pod("train-cnn"), *good[1:]], nodes) == [f"darkroom-train-cnn: asks for no {GPU}"]
    elsewhere = [pod("train-cnn", gpus="1", bound="other"), *good[1:]]
    assert checks.check_gpus(elsewhere, nodes) == [f"darkroom-train-cnn: is bound to other, which has no {GPU}"]
    unbound = [pod("train-cnn", gpus="1", bound=""), *good[1:]]
    assert checks.check_gpus(unbound, nodes) == [f"darkroom-train-cnn: is bound to no node, which has no {GPU}"]


def test_artifacts_by_task() -> None:
    keys = [
        "kfp/darkroom/1f0c/train-cnn/salt/model/model.keras",
        "kfp/darkroom/1f0c/train-cnn/salt/metrics",
        "kfp/darkroom/2e1d/train-cnn/salt/history/history.json",
        "mlflow/1/artifacts/model.keras",
    ]
    found = checks.artifacts_of(keys, "1f0c")
    assert found == {("train-cnn", "model"): [keys[0]], ("train-cnn", "metrics"): [keys[1]]}

    assert checks.check_artifacts(found, {("train-cnn", "model"), ("train-cnn", "metrics")}) == []
    assert checks.check_artifacts(found, {("train-cnn", "model"), ("train-cnn", "history")}) == [
        "train-cnn: its artifact history is not in S3"
    ]


RECORDS = {"train_cnn": {"mlflow_run_id": "a"}, "evaluate_cnn": {"mlflow_run_id": "b"}}
RUNS = {
    "a": {"status": "FINISHED", "parent": "p"},
    "b": {"status": "FINISHED", "parent": "p"},
    "p": {"status": "FINISHED", "parent": ""},
}


@pytest.mark.parametrize(
    ("change", "findings"),
    [
        ({}, []),
        ({"a": None}, ["train_cnn: has no run in MLflow"]),
        ({"a": ("FAILED", "p")}, ["train_cnn: its run in MLflow is FAILED, not FINISHED"]),
        ({"a": ("FINISHED", "")}, ["train_cnn: its run in MLflow lies below no other"]),
        (
            {"a": ("FINISHED", "q"), "q": ("FINISHED", "")},
            ["the steps must lie below one run, got 2"],
        ),
        ({"p": None}, ["the parent p is not in MLflow"]),
        (
            {"p": ("RUNNING", "")},
            ["the parent p must be on top and FINISHED, got {'status': 'RUNNING', 'parent': ''}"],
        ),
    ],
)
def test_runs_in_mlflow(change: dict[str, tuple[str, str] | None], findings: list[str]) -> None:
    runs = deepcopy(RUNS)
    for id_, values in change.items():
        if values is None:
            del runs[id_]
        else:
            runs[id_] = {"status": values[0], "parent": values[1]}
    assert checks.check_tracking(RECORDS, runs) == findings


def test_nothing_tracked_at_all_is_found() -> None:
    assert checks.check_tracking({}, {}) == ["the steps must lie below one run, got 0"]


def decision(kind: str, version: int = 1) -> dict[str, Any]:
    return {"kind": kind, "name": f"digits-{kind}", "version": version}


def test_registered_models() -> None:
    both = [decision("cnn"), decision("gan")]
    assert checks.check_models(both, {"digits-cnn": [1], "digits-gan": [1]}) == []
    assert checks.check_models(both[:1], {"digits-cnn": [1]}) == ["a cnn and a gan must be registered, got cnn"]
    assert checks.check_models(both, {"digits-cnn": [1, 2], "digits-gan": []}) == [
        "digits-cnn: must have version 1 alone, has [1, 2]",
        "digits-gan: must have version 1 alone, has none",
    ]


def test_a_run_from_the_cache() -> None:
    tasks = ["train-cnn", "register-model", "register-model-2"]
    good = [pod("register-model"), pod("register-model")]
    assert checks.check_cached(good, tasks) == []
    assert checks.check_cached([*good, pod("train-cnn", phase="Failed")], tasks) == [
        "train-cnn: ran again in darkroom-train-cnn instead of coming from the cache"
    ]
    assert checks.check_cached([], tasks) == ["register-model: 0 pods succeeded, 2 were expected"]


def test_a_schedule_that_fired() -> None:
    before = {"digits-cnn": [1], "digits-gan": [1]}
    assert checks.check_schedule(["SUCCEEDED"], before, before) == []
    assert checks.check_schedule([], before, before) == ["no run of the schedule succeeded: none began"]
    assert checks.check_schedule(["FAILED"], before, before) == ["no run of the schedule succeeded: FAILED"]
    assert checks.check_schedule(["SUCCEEDED"], before, {**before, "digits-gan": [1, 2]}) == [
        "digits-gan: had versions [1], has [1, 2]"
    ]


def test_parity() -> None:
    run: dict[str, dict[str, Any]] = {
        "metrics": {"evaluate_cnn": ["accuracy", "ece"]},
        "artifacts": {"evaluate_cnn": ["evaluation", "metrics"]},
        "verdicts": {"cnn": "promoted"},
    }
    assert checks.compare_runs(run, deepcopy(run)) == []
    other = deepcopy(run)
    other["metrics"]["evaluate_cnn"] = ["accuracy", "macro_f1"]
    other["artifacts"]["evaluate_gan"] = ["evaluation"]
    other["verdicts"]["cnn"] = "rejected"
    assert checks.compare_runs(run, other) == [
        "metrics of evaluate_cnn: only on this machine: ece",
        "metrics of evaluate_cnn: only on the cluster: macro_f1",
        "artifacts of evaluate_gan: nothing on this machine, ['evaluation'] on the cluster",
        "verdicts of cnn: promoted on this machine, rejected on the cluster",
    ]
