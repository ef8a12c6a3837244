"""Each demand of the restricted standard, against a pod that breaks it alone."""

from collections.abc import Callable

import pytest

from infra.check.manifests import Manifest
from infra.check.pod_security import restricted_findings
from tests.infra.objects import pod_of


def pod_context(**fields: object) -> Callable[[Manifest], None]:
    return lambda pod: pod["securityContext"].update(fields)


def container_context(**fields: object) -> Callable[[Manifest], None]:
    return lambda pod: pod["containers"][0]["securityContext"].update(fields)


def container(**fields: object) -> Callable[[Manifest], None]:
    return lambda pod: pod["containers"][0].update(fields)


def drop(field: str) -> Callable[[Manifest], None]:
    return lambda pod: pod["containers"][0]["securityContext"].pop(field)


def volume(**source: object) -> Callable[[Manifest], None]:
    return lambda pod: pod["volumes"].append({"name": "planted", **source})


def init_container(**fields: object) -> Callable[[Manifest], None]:
    return lambda pod: pod.update(initContainers=[{"name": "planted", "image": "planted:1", **fields}])


PLANTS: list[tuple[Callable[[Manifest], object], list[str]]] = [
    (lambda pod: pod.update(hostNetwork=True), ["hostNetwork must not be set"]),
    (lambda pod: pod.update(hostPID=True), ["hostPID must not be set"]),
    (lambda pod: pod.update(hostIPC=True), ["hostIPC must not be set"]),
    (volume(hostPath={"path": "/"}), ["volume planted: hostPath is not among the allowed types"]),
    (volume(nfs={"server": "a", "path": "/"}), ["volume planted: nfs is not among the allowed types"]),
    (pod_context(runAsNonRoot=False), ["the pod: runAsNonRoot must not be false", "runAsNonRoot must be true"]),
    (lambda pod: pod["securityContext"].pop("runAsNonRoot"), ["container mlflow: runAsNonRoot must be true"]),
    (pod_context(runAsUser=0), ["the pod: runAsUser must not be 0"]),
    (container_context(runAsUser=0), ["container mlflow: runAsUser must not be 0"]),
    (container_context(runAsNonRoot=False), ["runAsNonRoot must not be false", "runAsNonRoot must be true"]),
    (lambda pod: pod["securityContext"].pop("seccompProfile"), ["container mlflow: seccompProfile must be"]),
    (pod_context(seccompProfile={"type": "Unconfined"}), ["the pod: seccompProfile must be"]),
    (container_context(seccompProfile={"type": "Unconfined"}), ["container mlflow: seccompProfile must be"]),
    (pod_context(sysctls=[{"name": "kernel.msgmax", "value": "1"}]), ["sysctl kernel.msgmax"]),
    (pod_context(seLinuxOptions={"type": "spc_t"}), ["the pod: seLinuxOptions"]),
    (container_context(seLinuxOptions={"user": "system_u"}), ["container mlflow: seLinuxOptions"]),
    (container_context(appArmorProfile={"type": "Unconfined"}), ["container mlflow: appArmorProfile"]),
    (container_context(windowsOptions={"hostProcess": True}), ["container mlflow: hostProcess"]),
    (drop("allowPrivilegeEscalation"), ["container mlflow: allowPrivilegeEscalation must be false"]),
    (container_context(allowPrivilegeEscalation=True), ["container mlflow: allowPrivilegeEscalation must be false"]),
    (container_context(privileged=True), ["container mlflow: privileged must not be set"]),
    (container_context(procMount="Unmasked"), ["container mlflow: procMount must be Default"]),
    (drop("capabilities"), ["container mlflow: capabilities must drop ALL"]),
    (container_context(capabilities={"drop": ["NET_RAW"]}), ["container mlflow: capabilities must drop ALL"]),
    (container_context(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}), ["capability SYS_ADMIN"]),
    (container(ports=[{"containerPort": 80, "hostPort": 80}]), ["container mlflow: hostPort 80"]),
    (container(livenessProbe={"httpGet": {"port": 80, "host": "10.0.0.1"}}), ["httpGet.host"]),
    (container(lifecycle={"preStop": {"tcpSocket": {"port": 80, "host": "10.0.0.1"}}}), ["tcpSocket.host"]),
    (init_container(), ["container planted: allowPrivilegeEscalation", "container planted: capabilities"]),
]


@pytest.mark.parametrize(("plant", "expected"), PLANTS, ids=[expected[0] for _, expected in PLANTS])
def test_each_demand_is_made(kind: list[Manifest], plant: Callable[[Manifest], object], expected: list[str]) -> None:
    pod = pod_of(kind, "Deployment", "mlflow")
    assert list(restricted_findings(pod)) == []

    plant(pod)

    findings = list(restricted_findings(pod))
    assert len(findings) == len(expected)
    for finding, part in zip(findings, expected, strict=True):
        assert part in finding


def test_what_the_standard_allows_is_allowed(kind: list[Manifest]) -> None:
    pod = pod_of(kind, "Deployment", "mlflow")
    pod["securityContext"].pop("runAsNonRoot")
    container_context(
        runAsNonRoot=True,
        seccompProfile={"type": "Localhost", "localhostProfile": "a.json"},
        capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    )(pod)
    volume(persistentVolumeClaim={"claimName": "a"})(pod)

    assert list(restricted_findings(pod)) == []
