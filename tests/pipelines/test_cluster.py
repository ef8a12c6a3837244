"""`darkroom compile` and `darkroom preflight`, as a person types them in a checkout."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from darkroom.errors import ConfigError
from pipelines.cluster import compile_for_cluster, version_name
from pipelines.config import load
from pipelines.placement import ClusterPlacement
from pipelines.preflight import preflight
from pipelines.resources import load_profile

from .conftest import Checkout

IMAGES = ("--images", "registry.example.org/team")
# What the custom resource definitions of KFP 2.17 allow in a spec; pipelineSpec is required.
PIPELINE_FIELDS = {"description", "displayName", "tags"}
VERSION_FIELDS = {
    *("codeSourceURL", "description", "displayName", "pipelineName", "pipelineSpec", "pipelineSpecURI", "platformSpec"),
    *("tags", "versionName"),
}
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def git(checkout: Checkout, *arguments: str) -> str:
    identity = ("-c", "user.name=Tests", "-c", "user.email=tests@localhost", "-c", "commit.gpgsign=false")
    command = ["git", *identity, *arguments]
    done = subprocess.run(command, cwd=checkout.root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def committed(checkout: Checkout) -> Checkout:
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "The digits")
    return checkout


def read(file: Path) -> list[dict[str, Any]]:
    return list(yaml.load_all(file.read_text(), yaml.CSafeLoader))


def resources(checkout: Checkout, name: str, *options: str) -> tuple[dict[str, Any], dict[str, Any]]:
    output = checkout.root / "build" / f"{name}.yaml"
    done = checkout.darkroom("compile", "--kubernetes", "--output", str(output), *IMAGES, *options)
    assert done.returncode == 0, done.stderr
    pipeline, version = read(output)
    assert version["metadata"]["name"] in done.stdout
    return pipeline, version


def test_the_package_is_written_with_the_commit_as_tag_and_no_secret_of_the_environment(committed: Checkout) -> None:
    secrets = {
        "MLFLOW_TRACKING_USERNAME": "user-f00d",
        "MLFLOW_TRACKING_PASSWORD": "password-f00d",
        "MLFLOW_TRACKING_TOKEN": "token-f00d",
        "AWS_SECRET_ACCESS_KEY": "key-f00d",
        "MLFLOW_TRACKING_URI": "https://me:uri-f00d@mlflow.example.org",
    }
    done = subprocess.run(
        committed.command("compile", "--profile", "t4", *IMAGES),
        cwd=committed.root,
        env={**committed.environment, **secrets},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    commit = git(committed, "rev-parse", "HEAD")
    assert f"registry.example.org/team/*:{commit[:12]}" in done.stdout
    text = (committed.root / "build" / "darkroom.yaml").read_text()
    assert f"registry.example.org/team/python-train-gpu:{commit}" in text
    assert "f00d" not in text
    assert sorted(path.name for path in (committed.root / "build").iterdir() if path.name.startswith(".")) == []


def test_the_resources_are_what_kfps_definitions_allow(committed: Checkout) -> None:
    pipeline, version = resources(committed, "crd", "--namespace", "vision", "--profile", "t4")
    assert pipeline.keys() == version.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert {each["apiVersion"] for each in (pipeline, version)} == {"pipelines.kubeflow.org/v2beta1"}
    assert (pipeline["kind"], version["kind"]) == ("Pipeline", "PipelineVersion")
    for resource in (pipeline, version):
        assert resource["metadata"].keys() == {"name", "namespace"}
        assert resource["metadata"]["namespace"] == "vision"
        assert SUBDOMAIN.fullmatch(resource["metadata"]["name"])
        assert len(resource["metadata"]["name"]) <= 253
    assert pipeline["spec"].keys() <= PIPELINE_FIELDS
    assert version["spec"].keys() <= VERSION_FIELDS
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"] == "darkroom"
    spec = version["spec"]["pipelineSpec"]
    assert spec["pipelineInfo"]["name"] == "darkroom"
    assert spec["schemaVersion"] == "2.1.0"
    assert version["spec"]["platformSpec"]["platforms"].keys() == {"kubernetes"}
    preflight(committed.root / "build" / "crd.yaml")


def test_a_version_is_named_by_commit_and_content(committed: Checkout) -> None:
    name = resources(committed, "first")[1]["metadata"]["name"]
    assert name.startswith(f"darkroom-{git(committed, 'rev-parse', 'HEAD')[:12]}-")
    assert resources(committed, "again")[1]["metadata"]["name"] == name
    other = resources(committed, "other", "--set", "cnn.epochs=3")[1]
    assert other["metadata"]["name"] != name
    parameters = other["spec"]["pipelineSpec"]["root"]["inputDefinitions"]["parameters"]
    assert parameters["cnn_epochs"]["defaultValue"] == 3


@pytest.mark.parametrize("tag", ["v1.2_RC", "UPPER", "_", "0" * 40, "a" * 128])
def test_any_tag_gives_a_name_that_kubernetes_takes(tag: str) -> None:
    assert SUBDOMAIN.fullmatch(version_name(tag, b"package"))


def test_a_dirty_checkout_needs_the_tag_of_images_built_from_it(committed: Checkout) -> None:
    ignored = committed.root / ".dvcignore"
    before = ignored.read_text()
    output = committed.root / "build" / "dirty.yaml"
    try:
        ignored.write_text("# changed\n")
        refused = committed.darkroom("compile", "--output", str(output), *IMAGES)
        assert refused.returncode == 1
        assert "tracked files differ from commit" in refused.stderr
        assert "--tag" in refused.stderr
        assert not output.exists()
        assert committed.darkroom("compile", "--output", str(output), *IMAGES, "--tag", "try-1").returncode == 0
    finally:
        ignored.write_text(before)
    container = read(output)[0]["deploymentSpec"]["executors"]["exec-train-cnn"]["container"]
    assert container["image"] == "registry.example.org/team/python-train:try-1"
    commit = git(committed, "rev-parse", "HEAD")
    assert {"name": "DARKROOM_GIT_COMMIT", "value": f"{commit}-dirty"} in container["env"]


def test_what_the_profiles_node_cannot_take_is_refused_and_nothing_is_written(
    committed: Checkout, tmp_path: Path
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "extends: cpu\n"
        "steps:\n"
        "  train_gan: {memory: {request: 64Gi, limit: 64Gi}}\n"
        "  preprocess: {cpu: {request: 3, limit: 2}}\n"
    )
    output = tmp_path / "package.yaml"
    output.write_text("as before")
    refused = committed.darkroom("compile", "--profile", str(own), "--output", str(output), *IMAGES)
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [
        "Error preprocess: cpu request must not be above the limit of 2, got 3",
        "train-gan: memory request must not be above the 14Gi of the profile's node, got 64Gi",
    ]
    assert output.read_text() == "as before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.yaml", "package.yaml"]


def test_an_unknown_profile_is_one_message(committed: Checkout, tmp_path: Path) -> None:
    refused = committed.darkroom("compile", "--profile", "v100", "--output", str(tmp_path / "package.yaml"))
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error --profile v100: must be one of the bundled profiles a100, cpu, h100, mig,")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("namespace", ["", "Vision", "a_b", "-a"])
def test_a_namespace_that_can_be_none_is_refused(tmp_path: Path, namespace: str) -> None:
    place = ClusterPlacement(load_profile("cpu"), "darkroom", "0123abc")
    with pytest.raises(ConfigError, match="--namespace: must be of at most 63") as error:
        compile_for_cluster(place, load(None), "f" * 32 + ".dir", tmp_path / "package.yaml", namespace)
    assert repr(namespace) in str(error.value)


def test_the_preflight_is_a_command(committed: Checkout, tmp_path: Path) -> None:
    package = tmp_path / "package.yaml"
    assert committed.darkroom("compile", "--output", str(package), *IMAGES).returncode == 0
    passed = committed.darkroom("preflight", str(package), "--side-loaded")
    assert (passed.returncode, passed.stdout) == (0, f"{package}: nothing stands against running it\n")
    refused = committed.darkroom("preflight", str(package))
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 9
    assert "image must name your registry; registry.example.org is a name for examples" in refused.stderr
