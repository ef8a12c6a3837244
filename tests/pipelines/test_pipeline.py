import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from darkroom.errors import ConfigError
from pipelines.config import load
from pipelines.pipeline import compile_pipeline
from pipelines.placement import IMAGES, ClusterPlacement
from pipelines.resources import load_profile

TRAINING = {"train-cnn", "train-gan"}
OWN_PROFILE = """
extends: t4
defaults:
  environment: {MLFLOW_TRACKING_URI: http://mlflow.vision.svc:5000}
  image_pull_policy: Always
  image_pull_secrets: [registry-login]
  user: 1001
  group: 2000
steps:
  train_gan:
    accelerator: {resource: nvidia.com/gpu, count: 2}
    node_selector: {pool: gpu}
    node_affinity:
      - {key: nvidia.com/gpu.memory, operator: Gt, values: ["15000"]}
      - {key: nvidia.com/gpu.family, values: [turing]}
    labels: {kueue.x-k8s.io/queue-name: gpu}
    checkpoints: darkroom-checkpoints
    retries: {count: 0}
"""


def compiled(folder: Path, profile: str = "t4") -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline spec, and what the platform spec says of each task."""
    output = folder / "build" / "darkroom.yaml"
    place = ClusterPlacement(load_profile(profile), "registry.example.org/team", "0123abc")
    compile_pipeline(place, load(None, ["cnn.epochs=3"]), "f" * 32 + ".dir", output)
    spec, platform = yaml.safe_load_all(output.read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return spec, {name.removeprefix("exec-"): config for name, config in executors.items()}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    return compiled(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="module")
def spec(package: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return package[0]


@pytest.fixture(scope="module")
def pods(package: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return package[1]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.yaml").write_text(OWN_PROFILE)
    return compiled(folder, str(folder / "own.yaml"))


def containers(spec: dict[str, Any]) -> dict[str, Any]:
    executors = spec["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): executor["container"] for name, executor in executors.items()}


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["env"]}


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
            assert "train-gpu" not in container["image"]


def test_training_goes_to_the_nodes_with_the_card_and_nothing_else_may(pods: dict[str, Any]) -> None:
    for name, pod in pods.items():
        if name in TRAINING:
            products = {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["Tesla-T4", "Tesla-T4-SHARED"]}
            assert pod["nodeAffinity"] == [{"matchExpressions": [products]}]
            assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
            (shared,) = pod["emptyDirMounts"]
            assert (shared["mountPath"], shared["medium"], shared["sizeLimit"]) == ("/dev/shm", "Memory", "1Gi")  # noqa: S108
        else:
            assert pod.keys().isdisjoint({"nodeAffinity", "tolerations", "emptyDirMounts"})


def test_which_steps_get_which_accelerator_is_data(tmp_path: Path) -> None:
    spec, _ = compiled(tmp_path, "mig")
    asked = {
        name: each["resources"].get("accelerator", {}).get("resourceType") for name, each in containers(spec).items()
    }
    sliced = {*TRAINING, "evaluate-cnn", "evaluate-gan"}
    assert {name for name, accelerator in asked.items() if accelerator == "nvidia.com/mig-1g.10gb"} == sliced
    assert {accelerator for name, accelerator in asked.items() if name not in sliced} == {None}


def test_without_gpus_training_runs_on_the_cpu_image(tmp_path: Path) -> None:
    container = containers(compiled(tmp_path, "cpu")[0])["train-cnn"]
    assert "accelerator" not in container["resources"]
    assert container["image"].endswith("/python-train:0123abc")


def test_every_task_has_requests_limits_a_timeout_retries_and_labels(
    spec: dict[str, Any], pods: dict[str, Any]
) -> None:
    assert len(containers(spec)) == len(IMAGES) + 1 == len(pods)
    wanted = {"resourceCpuRequest", "resourceCpuLimit", "resourceMemoryRequest", "resourceMemoryLimit"}
    for name, container in containers(spec).items():
        assert wanted <= container["resources"].keys()
        assert 600 <= int(pods[name]["activeDeadlineSeconds"]) <= 4 * 3600
        retries = spec["root"]["dag"]["tasks"][name]["retryPolicy"]
        assert retries["maxRetryCount"] == (4 if name in TRAINING else 2)
        assert retries["backoffDuration"] == ("60s" if name in TRAINING else "30s")
        assert retries["backoffFactor"] == 2
        # Counted from the first attempt's start, so it must hold all attempts and the waiting between them.
        window = int(retries["backoffMaxDuration"].removesuffix("s"))
        assert window > 5 * int(pods[name]["activeDeadlineSeconds"]) + 3600
        labels = pods[name]["podMetadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == re.sub(r"-\d$", "", name)
        assert labels["app.kubernetes.io/part-of"] == "darkroom"


def test_every_pod_meets_what_can_be_said_of_the_restricted_standard(pods: dict[str, Any]) -> None:
    # KFP's backend adds the rest to every container: no privilege escalation, no capabilities, the runtime's seccomp.
    for pod in pods.values():
        assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": "1000", "runAsGroup": "1000"}
        assert pod.keys() <= {
            *("activeDeadlineSeconds", "emptyDirMounts", "fieldPathAsEnv", "imagePullPolicy", "nodeAffinity"),
            *("podMetadata", "secretAsEnv", "securityContext", "tolerations"),
        }


def test_steps_learn_the_tracking_server_and_its_credentials_from_a_secret(
    spec: dict[str, Any], pods: dict[str, Any]
) -> None:
    for name, container in containers(spec).items():
        given = variables(container)
        assert given["MLFLOW_TRACKING_URI"] == "http://mlflow.darkroom.svc.cluster.local:5000"
        assert (given["MLFLOW_DISABLE_TELEMETRY"], given["GX_ANALYTICS_ENABLED"]) == ("true", "false")
        assert (given["DARKROOM_GIT_COMMIT"], given["DARKROOM_IMAGE"]) == ("0123abc", container["image"])
        secret, *others = pods[name]["secretAsEnv"]
        assert (secret["secretName"], secret["optional"]) == ("mlflow-credentials", True)
        assert {each["secretKey"]: each["envVar"] for each in secret["keyToEnv"]} == {
            "username": "MLFLOW_TRACKING_USERNAME",
            "password": "MLFLOW_TRACKING_PASSWORD",
        }
        assert bool(others) == (name == "fetch-data")


def test_the_keys_of_the_store_are_for_the_step_that_fetches(pods: dict[str, Any]) -> None:
    keys = pods["fetch-data"]["secretAsEnv"][1]
    assert (keys["secretName"], keys["optional"]) == ("object-store-credentials", True)
    assert {each["secretKey"]: each["envVar"] for each in keys["keyToEnv"]} == {
        "access-key": "AWS_ACCESS_KEY_ID",
        "secret-key": "AWS_SECRET_ACCESS_KEY",
    }


def test_steps_learn_the_pipeline_run_from_their_pod_so_that_no_cache_key_holds_it(
    spec: dict[str, Any], pods: dict[str, Any]
) -> None:
    for name, pod in pods.items():
        (found,) = pod["fieldPathAsEnv"]
        assert found == {"name": "DARKROOM_KFP_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"}
        assert "DARKROOM_KFP_RUN_ID" not in variables(containers(spec)[name])


def test_a_profile_of_ones_own_reaches_the_pods(own: tuple[dict[str, Any], dict[str, Any]]) -> None:
    spec, pods = own
    for name, pod in pods.items():
        assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": "1001", "runAsGroup": "2000"}
        assert pod["imagePullPolicy"] == "Always"
        assert [each["secretName"] for each in pod["imagePullSecret"]] == ["registry-login"]
        assert variables(containers(spec)[name])["MLFLOW_TRACKING_URI"] == "http://mlflow.vision.svc:5000"
    gan = pods["train-gan"]
    assert containers(spec)["train-gan"]["resources"]["accelerator"]["resourceCount"] == "2"
    assert gan["nodeSelector"] == {"labels": {"pool": "gpu"}}
    (term,) = gan["nodeAffinity"]
    assert [each["operator"] for each in term["matchExpressions"]] == ["Gt", "In"]
    assert gan["podMetadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpu"
    # Not left out: without a policy of its own a task would get the backend's.
    assert spec["root"]["dag"]["tasks"]["train-gan"]["retryPolicy"].get("maxRetryCount", 0) == 0


def test_checkpoints_outlive_the_pod_on_a_claim(own: tuple[dict[str, Any], dict[str, Any]]) -> None:
    spec, pods = own
    (mount,) = pods["train-gan"]["pvcMount"]
    assert mount["constant"] == "darkroom-checkpoints"
    assert variables(containers(spec)["train-gan"])["DARKROOM_CHECKPOINTS"] == mount["mountPath"]
    assert "pvcMount" not in pods["train-cnn"]
    assert "DARKROOM_CHECKPOINTS" not in variables(containers(spec)["train-cnn"])


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("0123abc-dirty", "tracked files differ from commit 0123abc: images are tagged by commit, and no image holds"),
        ("none", "nothing is committed yet"),
        ("latest", "--tag: must be the tag of one image, not latest"),
        ("a b", "got 'a b'"),
        ("", "got ''"),
        ("v" * 129, "letters, digits"),
    ],
)
def test_a_tag_that_no_image_has_is_refused(tag: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        ClusterPlacement(load_profile("cpu"), "registry.example.org/team", tag)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "repository", ["registry.example.org/team/", "https://registry.example.org", "Team", "a b", ""]
)
def test_a_repository_that_no_image_can_be_in_is_refused(repository: str) -> None:
    with pytest.raises(ConfigError, match="--images: must be a registry and a path such as") as error:
        ClusterPlacement(load_profile("cpu"), repository, "0123abc")
    assert repr(repository) in str(error.value)


def test_an_accelerator_for_a_step_that_has_no_use_for_it_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("steps: {preprocess: {accelerator: {resource: nvidia.com/gpu}}}")
    with pytest.raises(ConfigError, match=r"preprocess\.accelerator: the image python-data has no use for one"):
        ClusterPlacement(load_profile(str(file)), "registry.example.org/team", "0123abc")


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
