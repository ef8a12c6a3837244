"""The images of the light steps: what is in them, what is not, and every component of theirs at work inside."""

import json
import re
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from kfp.dsl import PipelineTask
from packaging.utils import canonicalize_name

from components.images import image
from components.sbom import locked
from components.startup import steps_of
from darkroom.data.digits import write_digits
from darkroom.data.versions import make_repository
from pipelines.config import RunConfig
from pipelines.pipeline import compile_pipeline
from pipelines.placement import IMAGES, step_name
from tests.images.launcher import SCRATCH, Artifact, Outputs, Task, artifact, on_disk
from tests.images.workshop import (
    CERTIFICATE_MARK,
    MIRROR_MARK,
    PASSWORD,
    REPOSITORY,
    SOURCE,
    TAG,
    TARGETS,
    USER,
    Images,
    PackageIndex,
    Workshop,
    full_name,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

COMMIT = "0123abc"
EACH = pytest.mark.parametrize("target", TARGETS)


def test_the_tool_says_names_and_sizes(images: Images) -> None:
    for target in TARGETS:
        (size,) = re.findall(rf"^{re.escape(full_name(target))}  ([\d,]+) MB$", images.printed, re.MULTILINE)
        assert 200 < int(size.replace(",", "")) < 2000


def test_the_tool_says_how_long_a_step_imports(images: Images) -> None:
    ((whole, kfp),) = re.findall(
        r"^register_model: (\d+\.\d\d) s, of which KFP (\d+\.\d\d) s$", images.printed, re.MULTILINE
    )
    assert 0 < float(kfp) < float(whole) < 120


def test_the_archive_holds_the_image_under_its_full_name(images: Images) -> None:
    with tarfile.open(images.archive) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        (image_,) = json.load(manifest)
        assert image_["RepoTags"] == [full_name("registry")]
        assert image_["Config"] in archive.getnames()


@EACH
def test_the_labels_say_what_it_is_and_where_it_comes_from(images: Images, target: str) -> None:
    labels = images.configurations[target]["config"]["Labels"]
    labels = {key.removeprefix("org.opencontainers.image."): text for key, text in labels.items()}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert labels["revision"].removesuffix("-dirty") == commit
    assert (labels["title"], labels["licenses"], labels["source"]) == (f"python-{target}", "Apache-2.0", SOURCE)
    assert all(step in labels["description"] for step in steps_of(target))


@EACH
def test_the_user_is_not_root_and_may_write_the_home_and_tmp(workshop: Workshop, images: Images, target: str) -> None:
    assert images.configurations[target]["config"]["User"] == "1000:1000"
    with workshop.container(full_name(target)) as container:
        seen = workshop.run(container, "sh", "-c", "id -u; pwd; mktemp -d; mktemp -d -p $HOME; command -v python3")
        uid, directory, scratch, at_home, python = seen.stdout.split()
        assert (uid, directory, python) == ("1000", "/home/darkroom", "/opt/darkroom/bin/python3")
        assert [str(Path(folder).parent) for folder in (scratch, at_home)] == ["/tmp", "/home/darkroom"]  # noqa: S108
        for read_only in ("/opt/darkroom", "/etc", "/"):
            assert workshop.run(container, "touch", f"{read_only}/file").returncode != 0


@EACH
def test_the_environment_is_what_the_lock_file_and_the_bill_of_materials_say(images: Images, target: str) -> None:
    found = metadata.distributions(path=[str(images.site_packages(target))])
    installed = {canonicalize_name(each.metadata["Name"]): each.version for each in found}
    wanted = dict(line.partition(" ")[0].split("==") for line in locked(target))
    assert installed == {canonicalize_name(name): version for name, version in wanted.items()} | {
        "darkroom": metadata.version("darkroom")
    }
    assert not {"tensorflow", "tensorflow-cpu", "keras", "pip", "uv", "pytest"} & installed.keys()


@EACH
def test_nothing_is_left_of_the_build(images: Images, target: str) -> None:
    root = images.roots[target]
    assert (root / "usr/bin/git").exists() is (target == "data")
    for tool in ("cc", "gcc", "make", "pip", "uv", "hatchling", "darkroom"):
        assert not [
            folder for folder in ("usr/bin", "usr/local/bin", "opt/darkroom/bin") if (root / folder / tool).exists()
        ]
    assert not (root / "opt/tools").exists()
    assert not (root / "build").exists()
    for folder in ("root/.cache", "var/lib/apt/lists", "var/cache/apt/archives", "home/darkroom", "tmp", "run/secrets"):
        assert not [path for path in (root / folder).rglob("*") if path.is_file() and path.name != "lock"]
    assert {path.name for path in images.site_packages(target).joinpath("darkroom").iterdir()} > {
        "steps.py",
        "registry",
    }
    assert not images.site_packages(target).joinpath("pipelines").exists()


@EACH
def test_everything_is_compiled(images: Images, target: str) -> None:
    for folder in (images.site_packages(target), images.roots[target] / "usr/lib/python3.11/json"):
        sources = list(folder.rglob("*.py"))
        compiled = [source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc" for source in sources]
        missing = [source for source, file in zip(sources, compiled, strict=True) if not file.is_file()]
        assert len(sources) > 4
        assert not missing


@EACH
def test_the_building_machine_leaves_no_trace(
    images: Images, package_index: PackageIndex, target: str, tmp_path: Path
) -> None:
    assert package_index.credentials == {f"{USER}:{PASSWORD}"}
    marks = tmp_path / "marks"
    home = str(Path(__file__).parents[2])
    marks.write_text("\n".join([PASSWORD, CERTIFICATE_MARK, MIRROR_MARK, "building-machine", home]))
    # rc 1: nothing found
    command = ["grep", "--recursive", "--files-with-matches", "--fixed-strings", "--file", str(marks), "--devices=skip"]
    search = subprocess.run([*command, str(images.roots[target])], capture_output=True, text=True, check=False)
    assert (search.returncode, search.stdout) == (1, "")
    texts = json.dumps(images.configurations[target])
    assert not [mark for mark in marks.read_text().splitlines() if mark in texts]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The compiled pipeline, whose tasks run in the images that were built."""

    def place(task: PipelineTask) -> PipelineTask:
        full_name = image(IMAGES[step_name(task)], REPOSITORY, TAG)
        task.set_env_variable("DARKROOM_GIT_COMMIT", COMMIT).set_env_variable("DARKROOM_IMAGE", full_name)
        return task.set_container_image(full_name)

    file = tmp_path_factory.mktemp("compiled") / "darkroom.yaml"
    compile_pipeline(place, RunConfig(), "", file)
    compiled: dict[str, Any] = next(yaml.safe_load_all(file.read_text()))
    return compiled


class Cluster:
    """Runs each task in a container of its own, as pods with an object store, a DVC remote and an MLflow store."""

    def __init__(self, workshop: Workshop, spec: dict[str, Any], folder: Path) -> None:
        self._workshop, self._spec = workshop, spec
        self.folder = folder
        self.ran: list[str] = []
        for name in ("store", "remote", "mlflow"):
            (folder / name).mkdir()
            (folder / name).chmod(0o777)

    def run(self, name: str, parameters: dict[str, Any], artifacts: dict[str, Artifact], user: int = 1000) -> Outputs:
        task = Task.of(self._spec, name, parameters, artifacts)
        task.prepare(self.store, user)
        target = task.container["image"].rpartition("/python-")[2].partition(":")[0]
        volumes = {self.store: SCRATCH, self.folder / "remote": "/remote", self.folder / "mlflow": "/mlflow"}
        options = [f"--volume={host}:{inside}" for host, inside in volumes.items()]
        environment = {"MLFLOW_TRACKING_URI": "sqlite:////mlflow/mlflow.db", **task.environment}
        options += [f"--env={variable}={value}" for variable, value in environment.items()]
        options += [] if user == 1000 else [f"--user={user}:0"]
        with self._workshop.container(full_name(target)) as container:
            done = self._workshop.run(container, *task.command, options=tuple(options))
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        self.ran.append(name.replace("-", "_"))
        return task.outputs(self.store)

    @property
    def store(self) -> Path:
        return self.folder / "store"


@pytest.fixture(scope="module")
def cluster(
    workshop: Workshop, images: Images, spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Cluster:
    return Cluster(workshop, spec, tmp_path_factory.mktemp("cluster"))


@pytest.fixture(scope="module")
def repository(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a git repository that pins the digits, and their md5; the data is in the DVC remote alone."""
    root = tmp_path_factory.mktemp("git") / "digits"
    write_digits(root / "data")
    pin = make_repository(root)

    def call(*command: str) -> None:
        subprocess.run(command, cwd=root, check=True, capture_output=True)

    dvc = (sys.executable, "-m", "dvc")
    call(*dvc, "remote", "add", "--default", "store", "/remote")
    call(*dvc, "remote", "modify", "--local", "store", "url", str(cluster.folder / "remote"))
    call(*dvc, "push")
    call("git", "add", "--all")
    call("git", "-c", "user.name=Test", "-c", "user.email=test@example.org", "commit", "--message", "Pin the digits")
    call("git", "branch", "-M", "main")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["git", "daemon", "--export-all", "--listen=127.0.0.1", f"--port={port}", f"--base-path={root.parent}"]
    server = subprocess.Popen(
        [*command, "--reuseaddr", str(root)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port)
        yield f"git://127.0.0.1:{port}/digits", pin.md5
    finally:
        server.terminate()
        server.wait(timeout=20)


def _wait_for(port: int) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)


# MLflow about its own type hints when it is imported, SQLAlchemy about MLflow when it opens an SQLite store.
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
def test_every_component_runs_in_its_image(cluster: Cluster, repository: tuple[str, str]) -> None:
    address, md5 = repository
    fetched = cluster.run("fetch-data", {"repository": address, "revision": "main", "data_md5": md5}, {})
    dataset = fetched.artifacts["dataset"]
    assert fetched.parameters == {"Output": md5}
    assert dataset["metadata"] == {"name": "digits", "md5": md5}
    assert fetched.artifacts["metrics"]["metadata"]["files"] == 5

    validated = cluster.run("validate-data", {"data_md5": md5, "options": {}}, {"dataset": dataset})
    report = on_disk(cluster.store, validated.artifacts["report"]["uri"])
    assert json.loads((report / "result.json").read_text())["success"] is True
    assert validated.artifacts["metrics"]["metadata"]["images"] == 1797

    arguments = {"data_md5": md5, "seed": 1, "options": {"images_per_class": 60}}
    split = cluster.run("preprocess", arguments, {"dataset": dataset})
    splits = on_disk(cluster.store, split.artifacts["splits"]["uri"])
    pixels = {name: np.load(splits / name / "images.npy") for name in ("train", "validation", "test")}
    assert pixels["train"].shape[1:] == (8, 8, 1)
    assert sum(len(part) for part in pixels.values()) == sum(
        split.artifacts["metrics"]["metadata"][name] for name in pixels
    )

    model = artifact("train-cnn", "model", "system.Model")
    evaluation = artifact("evaluate-cnn", "evaluation", "system.Artifact")
    train_and_evaluate(splits, on_disk(cluster.store, model["uri"]), on_disk(cluster.store, evaluation["uri"]))
    gate = {"cnn_min_accuracy": 0, "cnn_min_macro_f1": 0, "cnn_min_recall": 0, "cnn_max_ece": 1}
    registered = cluster.run(
        "register-model",
        {"kind": "cnn", "data_md5": md5, "seed": 1, "scheduled_at": "", "gate": gate, "options": {}},
        {"model": model, "evaluation": evaluation, "splits": split.artifacts["splits"]},
    )
    decision = json.loads(on_disk(cluster.store, registered.artifacts["decision"]["uri"]).read_text())
    assert (decision["name"], decision["version"], decision["decision"]) == ("digits-cnn", 1, "promoted")
    assert registered.artifacts["metrics"]["metadata"] == {"version": 1, "promoted": 1}
    assert sorted(cluster.ran) == sorted([*steps_of("data"), *steps_of("registry")])
    check_mlflow(cluster.folder / "mlflow" / "mlflow.db", md5)


def train_and_evaluate(splits: Path, model: Path, evaluation: Path) -> None:
    """What the images with TensorFlow do, in a process of this environment."""
    code = """
import sys
from pathlib import Path
from darkroom.cnn.config import CnnConfig, EvaluateCnnConfig
from darkroom.cnn.evaluate import evaluate
from darkroom.cnn.train import train
from darkroom.files import write_json
from darkroom.origin import ORIGIN_FILE, describe_origin

splits, model, evaluation = map(Path, sys.argv[1:])
train(splits, CnnConfig(epochs=1), model, evaluation.parent / "history")
write_json(model / ORIGIN_FILE, describe_origin("train_cnn", {}, splits, data_md5="", code=""))
evaluate(model, splits, evaluation, EvaluateCnnConfig())
"""
    command = [sys.executable, "-c", code, str(splits), str(model), str(evaluation)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def check_mlflow(database: Path, md5: str) -> None:
    """Each step has a finished run; the version says where it comes from."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    experiment = client.get_experiment_by_name("darkroom")
    runs = client.search_runs([experiment.experiment_id])
    assert {(run.info.run_name, run.info.status) for run in runs} == {
        (name, "FINISHED") for name in ("fetch_data", "validate_data", "preprocess", "register_model_cnn")
    }
    version = client.get_model_version_by_alias("digits-cnn", "champion")
    tags = {key.removeprefix("darkroom."): value for key, value in version.tags.items()}
    assert (tags["git_commit"], tags["data_md5"], tags["seed"]) == (COMMIT, md5, "1")
    assert tags["image"] == full_name("registry")


def test_a_component_runs_as_whatever_user_the_cluster_assigns(
    workshop: Workshop, spec: dict[str, Any], repository: tuple[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    other = Cluster(workshop, spec, tmp_path)
    (tmp_path / "remote").rmdir()
    (tmp_path / "remote").symlink_to(cluster.folder / "remote")
    address, md5 = repository
    fetched = other.run("fetch-data", {"repository": address, "revision": "", "data_md5": ""}, {}, user=54321)
    assert fetched.parameters == {"Output": md5}
