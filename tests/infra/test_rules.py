"""Each rule of our own, against an overlay with one thing wrong."""

from collections.abc import Callable

import pytest

from infra.check.__main__ import OBJECT_RULES, WHOLE_RULES
from infra.check.manifests import Manifest
from infra.check.schemas import match_schemas
from tests.infra.objects import pod_of, the

Plant = Callable[[list[Manifest]], object]


def first_container(kind: str, name: str, **fields: object) -> Plant:
    return lambda objects: pod_of(objects, kind, name)["containers"][0].update(fields)


def variable(**fields: object) -> Plant:
    return lambda objects: pod_of(objects, "Deployment", "mlflow")["containers"][0]["env"].append(fields)


def spec(kind: str, name: str, **fields: object) -> Plant:
    return lambda objects: the(objects, kind, name)["spec"].update(fields)


def rule(**fields: list[str]) -> Plant:
    return lambda objects: the(objects, "Role", "darkroom-runner")["rules"].append(
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], **fields}
    )


def data(name: str, **fields: str) -> Plant:
    return lambda objects: the(objects, "ConfigMap", name)["data"].update(fields)


def add(kind: str, name: str, **fields: object) -> Plant:
    metadata = {"name": name, "namespace": "darkroom"}
    versions = {"Secret": "v1", "NetworkPolicy": "networking.k8s.io/v1", "PodDisruptionBudget": "policy/v1"}
    version = versions.get(kind, "rbac.authorization.k8s.io/v1")
    return lambda objects: objects.append({"apiVersion": version, "kind": kind, "metadata": metadata, **fields})


def remove(kind: str, name: str) -> Plant:
    return lambda objects: objects.remove(the(objects, kind, name))


def nested(kind: str, name: str, *path: str | int, value: object) -> Plant:
    def plant(objects: list[Manifest]) -> None:
        place = the(objects, kind, name)
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return plant


SECRET_REF = {"name": "OTHER", "valueFrom": {"secretKeyRef": {"name": "mlflow-credentials", "key": "pin"}}}
UNKNOWN_REF = {"name": "OTHER", "valueFrom": {"secretKeyRef": {"name": "unheard-of", "key": "key"}}}
TEMPLATE = ("spec", "template", "spec")

PLANTS: list[tuple[str, Plant]] = [
    # pods
    (
        "Deployment darkroom/mlflow: hostNetwork must not be set",
        nested("Deployment", "mlflow", *TEMPLATE, "hostNetwork", value=True),
    ),
    (
        "StatefulSet darkroom/postgres: automountServiceAccountToken",
        nested("StatefulSet", "postgres", *TEMPLATE, "automountServiceAccountToken", value=True),
    ),
    (
        "container seaweedfs: resources.limits.memory is missing",
        first_container(
            "StatefulSet", "object-store", resources={"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1"}}
        ),
    ),
    ("image postgres:latest must have a version", first_container("StatefulSet", "postgres", image="postgres:latest")),
    (
        "image example.org:5000/team/a must have a version",
        first_container("StatefulSet", "postgres", image="example.org:5000/team/a"),
    ),
    (
        "readOnlyRootFilesystem must be true",
        nested(
            "Deployment", "mlflow", *TEMPLATE, "containers", 0, "securityContext", "readOnlyRootFilesystem", value=False
        ),
    ),
    # secrets
    ("Secret darkroom/planted: secrets are made at install", add("Secret", "planted", stringData={"a": "b"})),
    ("PGPASSWORD has a value; take it from a secret", variable(name="PGPASSWORD", value="hunter2")),
    ("an address holds a password", variable(name="STORE", value="postgresql://mlflow:hunter2@postgres/mlflow")),
    ("secret_key looks like a secret", data("kfp-launcher", providers="s3:\n  secret_key: hunter2\n")),
    (
        "admin_password looks like a secret",
        data("kfp-launcher", **{"basic_auth.ini": "[mlflow]\nadmin_password = hunter2\n"}),
    ),
    ("clientSecret looks like a secret", data("kfp-launcher", **{"plugins.mlflow": '{"clientSecret": "hunter2"}'})),
    ("AWS_SECRET_ACCESS_KEY looks like a secret", data("kfp-launcher", **{"AWS_SECRET_ACCESS_KEY": "hunter2"})),
    # access
    ("verbs must not hold a wildcard", rule(verbs=["*"])),
    ("resources must not hold a wildcard", rule(resources=["pods/*"])),
    ("apiGroups must not hold a wildcard", rule(apiGroups=["*"])),
    ("secrets may only be read, by name", rule(resources=["secrets"])),
    ("secrets may only be read, by name", rule(resources=["secrets"], resourceNames=["a"], verbs=["get", "list"])),
    ("verb impersonate leads to more rights", rule(resources=["serviceaccounts"], verbs=["impersonate"])),
    ("rights end at the namespace", add("ClusterRole", "planted", rules=[])),
    # network
    (
        "Service darkroom/mlflow: its selector matches no workload",
        nested("Service", "mlflow", "spec", "selector", value={"app": "mlflow"}),
    ),
    (
        "Service darkroom/postgres: no container has the port 5433",
        nested("Service", "postgres", "spec", "ports", 0, "targetPort", value=5433),
    ),
    (
        "PodDisruptionBudget darkroom/planted: its selector matches no workload",
        add("PodDisruptionBudget", "planted", spec={"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}),
    ),
    ("namespace darkroom: no NetworkPolicy denies everything", remove("NetworkPolicy", "default-deny")),
    (
        "namespace darkroom: no NetworkPolicy denies everything",
        spec("NetworkPolicy", "default-deny", policyTypes=["Ingress"]),
    ),
    ("namespace darkroom: no NetworkPolicy denies everything", spec("NetworkPolicy", "default-deny", egress=[{}])),
    (
        "NetworkPolicy darkroom/postgres: podSelector matches no pod",
        nested("NetworkPolicy", "postgres", "spec", "podSelector", value={"matchLabels": {"app": "postgres"}}),
    ),
    (
        "NetworkPolicy darkroom/postgres: a peer matches no pod",
        nested(
            "NetworkPolicy",
            "postgres",
            "spec",
            "ingress",
            0,
            "from",
            value=[{"podSelector": {"matchLabels": {"app": "mlflow"}}}],
        ),
    ),
    (
        "NetworkPolicy darkroom/dns: a peer matches no pod",
        nested(
            "NetworkPolicy",
            "dns",
            "spec",
            "egress",
            0,
            "to",
            0,
            "namespaceSelector",
            value={"matchLabels": {"kubernetes.io/metadata.name": "kube-sytem"}},
        ),
    ),
    (
        "NetworkPolicy darkroom/object-store: a peer matches no pod",
        nested(
            "NetworkPolicy",
            "object-store",
            "spec",
            "ingress",
            0,
            "from",
            2,
            "podSelector",
            "matchExpressions",
            0,
            "values",
            value=["ml-pipeline", "ml-pipline-ui"],
        ),
    ),
    (
        "NetworkPolicy darkroom/postgres: an ingress rule must name peers and ports",
        nested("NetworkPolicy", "postgres", "spec", "ingress", 0, "ports", value=[]),
    ),
    # references
    ("ServiceAccount mlflow does not exist", remove("ServiceAccount", "mlflow")),
    (
        "Deployment darkroom/mlflow: ConfigMap settings does not exist",
        first_container("Deployment", "mlflow", envFrom=[{"configMapRef": {"name": "settings"}}]),
    ),
    (
        "Deployment darkroom/mlflow: ConfigMap kfp-launcher has no key pin",
        variable(name="OTHER", valueFrom={"configMapKeyRef": {"name": "kfp-launcher", "key": "pin"}}),
    ),
    ("secret mlflow-credentials, key pin, is not in the list", variable(**SECRET_REF)),
    ("secret unheard-of, key key, is not in the list", variable(**UNKNOWN_REF)),
    ("PersistentVolumeClaim data does not exist", spec("StatefulSet", "postgres", volumeClaimTemplates=[])),
    (
        "RoleBinding darkroom/darkroom-runner: ServiceAccount darkroom/darkroom-runner does not exist",
        remove("ServiceAccount", "darkroom-runner"),
    ),
    (
        "RoleBinding darkroom/darkroom-runner: Role darkroom/darkroom-runner does not exist",
        remove("Role", "darkroom-runner"),
    ),
]


def findings(objects: list[Manifest]) -> list[str]:
    """Of all rules but the schemas', which take a second and have a test of their own."""
    rules = [each for each in OBJECT_RULES + WHOLE_RULES if each is not match_schemas]
    return [finding for each in rules for finding in each(objects)]


@pytest.mark.parametrize(("expected", "plant"), PLANTS, ids=[expected for expected, _ in PLANTS])
def test_each_rule_finds_what_is_planted(kind: list[Manifest], expected: str, plant: Plant) -> None:
    plant(kind)

    found = findings(kind)

    assert any(expected in finding for finding in found), found
    assert len(found) <= 4  # some plants break a second rule too


def test_a_secret_that_the_vault_does_not_give_is_found(production: list[Manifest]) -> None:
    the(production, "ExternalSecret", "mlflow-server")["spec"]["data"][0]["secretKey"] = "secret-key"
    production.remove(the(production, "ExternalSecret", "postgres-credentials"))

    assert findings(production) == [
        "ExternalSecret darkroom/mlflow-server: must give ['flask-secret-key'], gives ['secret-key']",
        "ExternalSecret darkroom/postgres-credentials: must give ['password', 'username'], gives []",
    ]
