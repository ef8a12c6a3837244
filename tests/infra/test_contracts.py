"""What must be the same in several places: settings, addresses, the bucket, the names that Python code uses."""

import json
from pathlib import Path

import pytest
import yaml

from infra.check.manifests import REMOTE, Manifest
from infra.check.secrets import SECRETS
from tests.infra.objects import environment, pod_of, the

ROOT = REMOTE.parents[1]
DOCKERFILE = ROOT / "mlflow" / "Dockerfile"


def kubeflow_patch(overlay: str, file: str) -> Manifest:
    """One of the patches of KFP: the overlay's own where it has one, else the base's."""
    own = REMOTE / overlay / file
    manifest: Manifest = yaml.safe_load((own if own.exists() else REMOTE / "base" / file).read_text())
    return manifest


def store(objects: list[Manifest]) -> tuple[str, str, str]:
    """Scheme, endpoint and bucket of the object store, as MLflow uses it."""
    settings = environment(pod_of(objects, "Deployment", "mlflow"))
    scheme, _, endpoint = settings["MLFLOW_S3_ENDPOINT_URL"].partition("://")
    return scheme, endpoint, settings["MLFLOW_ARTIFACTS_DESTINATION"].split("/")[2]


@pytest.fixture(params=["kind", "production"])
def overlay(request: pytest.FixtureRequest) -> tuple[str, list[Manifest]]:
    return request.param, request.getfixturevalue(request.param)


def test_the_server_runs_with_the_settings_of_the_folder_mlflow(overlay: tuple[str, list[Manifest]]) -> None:
    """The image carries settings.env; the deployment may change addresses, and no line that keeps the server safe."""
    lines = (ROOT / "mlflow" / "settings.env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    changed = set(settings) & set(environment(pod_of(overlay[1], "Deployment", "mlflow")))

    assert changed == {"MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_ARTIFACTS_DESTINATION"}
    assert settings["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert settings["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_no_python_file_lies_in_the_folder_mlflow() -> None:
    assert not list((ROOT / "mlflow").rglob("*.py"))


def test_mlflow_asks_for_a_password_and_ships_none(overlay: tuple[str, list[Manifest]]) -> None:
    container = pod_of(overlay[1], "Deployment", "mlflow")["containers"][0]
    secrets = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in container["env"] if "valueFrom" in each}

    (entry_point,) = (line for line in DOCKERFILE.read_text().splitlines() if line.startswith("ENTRYPOINT "))
    assert container["command"] == json.loads(entry_point.removeprefix("ENTRYPOINT "))
    assert container["command"][-3:] == ["server", "--app-name", "basic-auth"]
    assert secrets["MLFLOW_AUTH_ADMIN_PASSWORD"] == {"name": "mlflow-credentials", "key": "password"}
    assert secrets["MLFLOW_FLASK_SERVER_SECRET_KEY"] == {"name": "mlflow-server", "key": "flask-secret-key"}
    assert secrets["PGPASSWORD"] == {"name": "postgres-credentials", "key": "password"}


def test_mlflow_knows_the_names_that_it_is_called_by(overlay: tuple[str, list[Manifest]]) -> None:
    allowed = environment(pod_of(overlay[1], "Deployment", "mlflow"))["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    plugin = json.loads((REMOTE / "base" / "config.json").read_text())["plugins"]["mlflow"]

    assert plugin["endpoint"] == "http://mlflow.darkroom.svc.cluster.local:5000"
    assert plugin["endpoint"].removeprefix("http://") in allowed
    assert "*" not in allowed


def test_one_bucket_holds_what_mlflow_kfp_and_argo_write(overlay: tuple[str, list[Manifest]]) -> None:
    name, objects = overlay
    scheme, endpoint, bucket = store(objects)
    launcher = the(objects, "ConfigMap", "kfp-launcher")["data"]
    provider = yaml.safe_load(launcher["providers"])["s3"]["default"]
    argo = yaml.safe_load(kubeflow_patch(name, "workflow-controller.yaml")["data"]["artifactRepository"])["s3"]
    server = environment(kubeflow_patch(name, "api-server.yaml")["spec"]["template"]["spec"])
    pages = environment(kubeflow_patch(name, "ui.yaml")["spec"]["template"]["spec"])
    host, _, port = endpoint.partition(":")

    assert launcher["defaultPipelineRoot"] == f"s3://{bucket}/kfp"
    assert (provider["endpoint"], provider["disableSSL"]) == (endpoint, scheme == "http")
    assert (argo["endpoint"], argo["bucket"], argo["insecure"]) == (endpoint, bucket, scheme == "http")
    assert kubeflow_patch(name, "install-config.yaml")["data"]["bucketName"] == bucket
    assert (server["OBJECTSTORECONFIG_HOST"], server["OBJECTSTORECONFIG_PORT"]) == (host, port or "443")
    assert server.get("OBJECTSTORECONFIG_SECURE", "false") == str(scheme == "https").lower()
    assert (pages["AWS_S3_ENDPOINT"], pages["AWS_SSL"]) == (host, str(scheme == "https").lower())
    assert not port or pages["MINIO_ENDPOINT_REWRITE"] == f"{host}={endpoint}"
    for reference in (argo["accessKeySecret"], argo["secretKeySecret"]):
        assert reference["key"] in SECRETS["darkroom"][reference["name"]]
    secret = provider["credentials"]["secretRef"]
    assert {secret["accessKeyKey"], secret["secretKeyKey"]} == SECRETS["darkroom"][secret["secretName"]]


def test_a_run_may_read_the_secret_and_the_settings_that_it_needs_and_no_other(kind: list[Manifest]) -> None:
    rules = {each["resources"][0]: each for each in the(kind, "Role", "darkroom-runner")["rules"]}
    provider = yaml.safe_load(the(kind, "ConfigMap", "kfp-launcher")["data"]["providers"])["s3"]["default"]

    assert rules["secrets"]["resourceNames"] == [provider["credentials"]["secretRef"]["secretName"]]
    assert rules["configmaps"]["resourceNames"] == ["kfp-launcher"]


def test_kfp_hands_steps_their_mlflow_run(overlay: tuple[str, list[Manifest]]) -> None:
    settings = json.loads(the(overlay[1], "ConfigMap", "kfp-launcher")["data"]["plugins.mlflow"])["settings"]
    plugin = json.loads((REMOTE / "base" / "config.json").read_text())["plugins"]["mlflow"]["settings"]

    assert settings["injectUserEnvVars"] is True
    assert set(settings["credentialSecretRef"].values()) == SECRETS["darkroom"]["kfp-mlflow-credentials"]
    assert plugin == {"authType": "basic-auth", "workspacesEnabled": False}
    assert kubeflow_patch(overlay[0], "api-server.yaml")["metadata"]["name"] == "ml-pipeline"


def test_kfp_is_pinned_and_its_public_passwords_are_gone() -> None:
    kustomization = yaml.safe_load((REMOTE / "base" / "kustomization.yaml").read_text())
    (remote,) = [each for each in kustomization["resources"] if each.startswith("https://")]

    assert "?ref=2.17.0&" in remote
    assert any(
        patch.get("target") == {"kind": "Secret"} and "$patch: delete" in patch["patch"]
        for patch in kustomization["patches"]
    )


def test_the_quota_refuses_no_single_pod(kind: list[Manifest]) -> None:
    """Every server's containers have limits, which a quota of limits demands."""
    quota = the(kind, "ResourceQuota", "darkroom")["spec"]["hard"]
    limits = the(kind, "LimitRange", "darkroom")["spec"]["limits"][0]

    assert {"limits.cpu", "limits.memory", "requests.nvidia.com/gpu"} <= set(quota)
    assert {"cpu", "memory"} == set(limits["default"]) == set(limits["defaultRequest"])


def test_the_namespace_enforces_the_restricted_standard_of_a_pinned_version(kind: list[Manifest]) -> None:
    kubeflow = yaml.safe_load(Path(REMOTE / "base" / "namespace.yaml").read_text())

    for namespace in (the(kind, "Namespace", "darkroom"), kubeflow):
        labels = namespace["metadata"]["labels"]
        for mode in ("enforce", "audit", "warn"):
            assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"
            assert labels[f"pod-security.kubernetes.io/{mode}-version"] == "v1.33"
