"""The pipeline and registration against the servers of compose.yaml."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from darkroom import tracking
from darkroom.data.digits import write_digits
from darkroom.data.versions import make_repository

from ..darkroom.race import check_round, of_round, race
from ..darkroom.shop import Shop
from ..pipelines.conftest import Checkout
from .conftest import ObjectStore, Server

pytestmark = pytest.mark.slow

STEPS = {"fetch_data", "validate_data", "preprocess", "train_cnn", "evaluate_cnn", "train_gan", "evaluate_gan"}
REGISTERING = {"register_model_cnn", "register_model_gan"}
NO_GATE = (
    "gate.cnn_min_accuracy=0.0",
    "gate.cnn_min_macro_f1=0.0",
    "gate.cnn_min_recall=0.0",
    "gate.cnn_max_ece=1.0",
    "gate.gan_min_class_agreement=0.0",
)
PREDICT = """
import json, mlflow, numpy as np
classifier = mlflow.pyfunc.load_model("models:/digits-cnn@champion")
answer = classifier.predict(np.zeros((3, 8, 8, 1), np.uint8))
print(json.dumps([len(answer), sorted(answer.columns)]))
"""


@pytest.fixture
def as_client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLflow's client in this process, with the server's account."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return tracking.connect(server.address)


@pytest.mark.timeout(600)
def test_the_pipeline_leaves_runs_in_postgresql_files_in_s3_and_champions(
    server: Server, object_store: ObjectStore, as_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "checkout"
    write_digits(root / "data")
    make_repository(root)
    # The account and nothing else: no step holds a key of the S3 store.
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    checkout = Checkout(root, server.environment)
    done = checkout.run(NO_GATE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "promoted" in done.stdout
    assert not (root / "mlflow.db").exists()
    assert not (root / "mlartifacts").exists()

    experiment = as_client.get_experiment_by_name("digits")
    assert experiment.artifact_location.startswith("mlflow-artifacts:")
    runs = as_client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    below = {run.info.run_name: run for run in runs if run is not parent}
    assert below.keys() == STEPS | REGISTERING
    assert {run.data.tags["mlflow.parentRunId"] for run in below.values()} == {parent.info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert below["train_cnn"].data.params["cfg.epochs"] == "1"

    kept = object_store.keys()
    prefix = f"{experiment.experiment_id}/{below['evaluate_cnn'].info.run_id}/artifacts/evaluation/"
    assert prefix + "metrics.json" in kept
    for kind in ("cnn", "gan"):
        model = as_client.get_registered_model(f"digits-{kind}")
        assert {alias: int(version) for alias, version in model.aliases.items()} == {"champion": 1, "challenger": 1}
        source = as_client.get_model_version(model.name, "1").source
        folder = source.removeprefix("mlflow-artifacts:/").rstrip("/")
        assert {f"{folder}/MLmodel", f"{folder}/evaluation/metrics.json"} <= kept

    environment = {**os.environ, **server.environment}
    answer = subprocess.check_output([sys.executable, "-c", PREDICT], cwd=tmp_path, env=environment, text=True)
    assert json.loads(answer.splitlines()[-1]) == [3, ["class_name", "label", "probabilities"]]


def test_four_processes_that_register_the_same_work_at_once_make_one_version(
    server: Server, as_client: Any, tiny_splits: Path, tiny_networks: Path, tmp_path: Path
) -> None:
    settings = tracking.TrackingSettings(server.address, experiment="race")
    shop = Shop(settings, tiny_splits, tiny_networks, tmp_path, "-race")
    for number, results in enumerate(race(shop, processes=4, rounds=5, environment=os.environ)):
        check_round(of_round(shop, number), results)
