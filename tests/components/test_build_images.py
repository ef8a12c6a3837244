"""The tool that builds images, as far as it goes without an engine; tests/images builds them."""

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from components import build_images
from components.build_images import RECIPES, Order
from components.engines import ENGINES, ImageError, choose_engine
from components.images import Target, image
from components.index_settings import write_secrets
from components.startup import step_modules, steps_of
from pipelines.placement import IMAGES

DIGEST = "sha256:" + "0" * 64


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "components.build_images", *arguments],
        env={"PATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one commit, in which the tool looks for its Dockerfiles and the commit."""
    root = tmp_path / "checkout"
    (root / "components").mkdir(parents=True)
    (root / "components" / "Dockerfile").write_text("FROM scratch\n")
    git(tmp_path, "init", "--quiet", str(root))
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "One")
    monkeypatch.setattr(build_images, "ROOT", root)
    return root


@pytest.mark.parametrize("target", get_args(Target))
def test_what_is_built_has_the_name_that_a_task_asks_for(target: Target) -> None:
    order = Order(targets=[target], repository="registry.example.org/team", tag="1f0c2ab")
    assert order.image(target) == image(target, "registry.example.org/team", "1f0c2ab")


def test_the_server_is_one_more_image() -> None:
    assert RECIPES["mlflow-server"].dockerfile == "mlflow/Dockerfile"
    assert list(RECIPES) == [*get_args(Target), "mlflow-server"]


def test_the_tag_is_the_commit(checkout: Path) -> None:
    assert Order(targets=["data"]).image("data") == f"darkroom/python-data:{git(checkout, 'rev-parse', 'HEAD')}"


@pytest.mark.parametrize("file", ["components/Dockerfile", "src/untracked.py"])
def test_a_checkout_that_differs_from_its_commit_does_not_get_its_name(checkout: Path, file: str) -> None:
    (checkout / file).parent.mkdir(exist_ok=True)
    (checkout / file).write_text("FROM other\n")
    with pytest.raises(ImageError, match=f"differs from its commit {git(checkout, 'rev-parse', 'HEAD')[:12]}, .*--tag"):
        Order(targets=["data"])
    assert Order(targets=["data"], tag="mine").image("data") == "darkroom/python-data:mine"


def test_a_missing_dockerfile_is_named(checkout: Path) -> None:
    with pytest.raises(ImageError, match=r"^mlflow/Dockerfile: no such file"):
        Order(targets=["data", "mlflow-server"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"targets": ["data", "trian"]},
            "--target: must be one of data, train, train-gpu, registry, mlflow-server, got 'trian'",
        ),
        ({"repository": "Team"}, "--repository: must be lower-case, as in registry.example.org/team, got 'Team'"),
        (
            {"tag": "latest"},
            "--tag: must name one content, in up to 128 letters, digits, '.', '_' and '-', got 'latest'",
        ),
        ({"tag": "a/b"}, "--tag: must name one content, in up to 128 letters, digits, '.', '_' and '-', got 'a/b'"),
        ({"base": "python"}, "--base: must carry a version's tag or a digest, got 'python'"),
        ({"base": "mirror:5000/python"}, "--base: must carry a version's tag or a digest, got 'mirror:5000/python'"),
        ({"base": "python:latest"}, "--base: must carry a version's tag or a digest, got 'python:latest'"),
        ({"apt_sources": Path("no.list")}, "--apt-sources: must be a file that ends in .sources, got no.list"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_built(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ImageError) as raised:
        Order(**{"targets": ["data"], "tag": "x", **wrong})
    assert str(raised.value) == message


def test_an_unknown_engine_is_one_message_and_status_1() -> None:
    done = command("--target", "data", "--tag", "x", "--engine", "kaniko")
    message = "Error --engine: must be one of docker, podman, buildah, got 'kaniko'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


def test_without_an_engine_every_one_of_them_is_named_with_its_reason() -> None:
    done = command("--target", "data", "--tag", "x")
    first, *reasons = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert first == "Error nothing here builds images; install one of these, or start it:"
    assert reasons == [f"{name}: not installed" for name in ENGINES]


def test_an_engine_that_does_not_work_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, script in (("docker", "echo no daemon >&2; exit 1"), ("podman", "exit 125"), ("buildah", "exit 0")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert choose_engine().name == "buildah"
    with pytest.raises(ImageError, match=r"docker: `docker buildx version`: no daemon$"):
        choose_engine("docker")
    with pytest.raises(ImageError, match=r"podman: `podman info`: exit status 125$"):
        choose_engine("podman")


@pytest.mark.parametrize("base", ["python:3.11.14-slim-bookworm", f"mirror:5000/python@{DIGEST}", "localhost/base:1"])
def test_a_pinned_base_is_taken(base: str) -> None:
    assert Order(targets=["data"], tag="x", base=base).base == base


def test_index_settings_of_pip_reach_pip_and_uv(tmp_path: Path) -> None:
    certificates = tmp_path / "certificates.pem"
    certificates.write_text("")
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://user:p'w@index.example.org/simple\n"
        "extra-index-url =\n    https://one.example.org/simple\n    https://two.example.org/simple\n"
        f"cert = {certificates}\n[install]\ntrusted-host = weaker.example.org\n"
    )
    environment = {
        "PIP_CONFIG_FILE": str(config),
        "PIP_TRUSTED_HOST": "index.example.org",
        "UV_INDEX": "https://uv.example.org",
    }
    secrets = write_secrets(tmp_path, environment)
    assert secrets == {"index": tmp_path / "index", "certificates": certificates}
    assert secrets["index"].stat().st_mode & 0o777 == 0o600
    read = subprocess.run(
        ["/bin/sh", "-ac", f". {secrets['index']}; env"], env={}, capture_output=True, text=True, check=True
    ).stdout
    values = dict(line.split("=", 1) for line in read.splitlines())
    extra = "https://one.example.org/simple https://two.example.org/simple"
    assert {name: value for name, value in values.items() if name.startswith(("PIP_", "UV_"))} == {
        "PIP_INDEX_URL": "https://user:p'w@index.example.org/simple",
        "UV_DEFAULT_INDEX": "https://user:p'w@index.example.org/simple",
        "PIP_EXTRA_INDEX_URL": extra,
        "UV_INDEX": "https://uv.example.org",
        "PIP_TRUSTED_HOST": "index.example.org",
        "UV_INSECURE_HOST": "index.example.org",
    }


def test_certificates_that_do_not_exist_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^/nowhere/ca.pem: no such file"):
        write_secrets(tmp_path, {"PIP_CERT": "/nowhere/ca.pem"})


def test_every_step_starts_in_one_image() -> None:
    assert {step: target for target in ("data", "train", "registry") for step in steps_of(target)} == dict(IMAGES)
    assert steps_of("train-gpu") == steps_of("train")
    assert not steps_of("mlflow-server")


def test_what_a_step_imports_is_read_from_its_component() -> None:
    assert step_modules("fetch_data") == ["darkroom.steps", "darkroom.fetch_data"]
    assert step_modules("register_model") == ["darkroom.files", "darkroom.steps", "darkroom.gate", "darkroom.registry"]
