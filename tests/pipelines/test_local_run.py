"""The whole pipeline on scikit-learn's digits, through the command line, as a person runs it."""

import json
import shutil
import signal
import subprocess
import sys
import time
from html import escape
from pathlib import Path
from typing import Any

import psutil
import pytest

from darkroom.data import versions
from darkroom.data.digits import write_digits
from darkroom.data.metadata import read_info, write_info
from darkroom.data.versions import make_repository
from pipelines.report import PICTURES

from .conftest import SMALL, Checkout

SHARED = ("fetch_data", "validate_data", "preprocess")
CNN = ("train_cnn", "evaluate_cnn", "register_model_cnn")
GAN = ("train_gan", "evaluate_gan", "register_model_gan")
NO_GATE = (
    "gate.cnn_min_accuracy=0.0",
    "gate.cnn_min_macro_f1=0.0",
    "gate.cnn_min_recall=0.0",
    "gate.cnn_max_ece=1.0",
    "gate.gan_min_class_agreement=0.0",
)

READ_STORE = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient("sqlite:///mlflow.db")
experiments = [experiment.experiment_id for experiment in client.search_experiments()]
runs = client.search_runs(experiments, max_results=1000)
print(json.dumps({
    "runs": [{"name": run.info.run_name, "status": run.info.status, "tags": run.data.tags,
              "params": run.data.params, "metrics": run.data.metrics, "id": run.info.run_id,
              "inputs": [entry.dataset.digest for entry in run.inputs.dataset_inputs]} for run in runs],
    "models": {model.name: {"aliases": dict(model.aliases),
                            "versions": len(client.search_model_versions(f"name='{model.name}'"))}
               for model in client.search_registered_models()},
}))
"""

PREDICT = """
import mlflow, numpy as np
mlflow.set_tracking_uri("sqlite:///{root}/mlflow.db")
classifier = mlflow.pyfunc.load_model("models:/digits-cnn@champion")
print(np.asarray(classifier.predict(np.zeros((3, 8, 8, 1), np.uint8))).shape[0])
generator = mlflow.pyfunc.load_model("models:/digits-gan@champion")
print(generator.metadata.signature is not None)
"""


def store(checkout: Checkout) -> dict[str, Any]:
    """What MLflow's SQLite store holds, read by a process of its own."""
    output = subprocess.check_output([sys.executable, "-c", READ_STORE], cwd=checkout.root, text=True)
    content: dict[str, Any] = json.loads(output.splitlines()[-1])
    return content


@pytest.fixture(scope="module")
def first(checkout: Checkout) -> subprocess.CompletedProcess[str]:
    """The first run, whose gate lets everything pass."""
    return checkout.run(NO_GATE)


@pytest.fixture(scope="module")
def after_first(checkout: Checkout, first: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert first.returncode == 0, first.stdout + first.stderr
    return {"summary": checkout.summary, "store": store(checkout), "run": (checkout.root / "runs/latest").resolve()}


def test_a_run_ends_well_and_says_what_it_did(
    first: subprocess.CompletedProcess[str], after_first: dict[str, Any]
) -> None:
    for step in (*SHARED, *CNN, *GAN):
        assert step in first.stdout
    assert "digits-cnn version 1: promoted (challenger, champion)" in first.stdout
    assert "report.html" in first.stdout
    assert "Traceback" not in first.stdout + first.stderr
    assert len(first.stdout.splitlines()) < 60


def test_the_summary_holds_the_same_for_machines(after_first: dict[str, Any]) -> None:
    summary = after_first["summary"]
    assert (summary["dataset"], summary["status"]) == ("digits", "succeeded")
    assert summary["data_md5"].endswith(".dir")
    assert {step["name"] for step in summary["steps"]} == {*SHARED, *CNN, *GAN}
    assert all(step["seconds"] > 0 and 0 < step["peak_rss_mb"] < 3000 for step in summary["steps"])
    assert {"accuracy", "macro_f1", "log_loss", "ece"} <= summary["cnn"].keys()
    assert {"frechet_distance", "class_agreement"} <= summary["gan"].keys()
    assert {model["name"]: model["decision"] for model in summary["models"]} == {
        "digits-cnn": "promoted",
        "digits-gan": "promoted",
    }


def test_the_report_stands_alone(after_first: dict[str, Any]) -> None:
    page = (after_first["run"] / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(PICTURES)
    assert all(escape(picture.caption) in page for picture in PICTURES)
    for outside in ('src="http', 'href="http', "url(", "<script"):
        assert outside not in page


def test_mlflow_holds_a_parent_and_a_nested_run_per_step(after_first: dict[str, Any]) -> None:
    runs = {run["name"]: run for run in after_first["store"]["runs"]}
    parent = runs.pop(after_first["summary"]["run"])
    assert runs.keys() == {*SHARED, *CNN, *GAN}
    for run in (parent, *runs.values()):
        assert run["status"] == "FINISHED"
        assert run["tags"]["darkroom.git_commit"] == after_first["summary"]["git_commit"]
        assert run["tags"]["darkroom.seed"] == "0"
        assert run["tags"]["darkroom.image"] == "local"
        assert run["tags"]["darkroom.data_md5"] == after_first["summary"]["data_md5"]
    for run in runs.values():
        assert run["tags"]["mlflow.parentRunId"] == parent["id"]
        assert run["inputs"] == [after_first["summary"]["data_md5"]]
    assert runs["train_cnn"]["params"]["cfg.epochs"] == "1"
    assert parent["metrics"]["cnn.accuracy"] == after_first["summary"]["cnn"]["accuracy"]


def test_the_champion_predicts_in_a_fresh_process_elsewhere(
    checkout: Checkout, after_first: dict[str, Any], tmp_path: Path
) -> None:
    code = PREDICT.format(root=checkout.root)
    output = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True, stderr=subprocess.DEVNULL)
    assert output.split() == ["3", "True"]


def test_an_unchanged_run_takes_all_but_registration_from_the_cache(
    checkout: Checkout, after_first: dict[str, Any]
) -> None:
    before = store(checkout)["models"]
    again = checkout.run(NO_GATE)
    assert again.returncode == 0, again.stdout + again.stderr
    outcomes = checkout.outcomes()
    registered = {"register_model_cnn", "register_model_gan"}
    assert {name for name, outcome in outcomes.items() if outcome != "cached"} == registered
    assert checkout.summary["cnn"] == after_first["summary"]["cnn"]
    models = store(checkout)["models"]
    assert models == before, "the same model is registered once"
    cached = [run for run in store(checkout)["runs"] if run["tags"].get("darkroom.cached") == "true"]
    assert {run["name"] for run in cached} == {*SHARED, "train_cnn", "evaluate_cnn", "train_gan", "evaluate_gan"}


@pytest.mark.slow
def test_a_parameter_of_one_branch_reruns_that_branch_alone_and_the_gate_may_say_no(
    checkout: Checkout, after_first: dict[str, Any]
) -> None:
    before = store(checkout)["models"]["digits-cnn"]["aliases"]
    changed = checkout.run((*NO_GATE, "cnn.learning_rate=0.0001", "gate.cnn_min_accuracy=1.0"))
    assert changed.returncode == 0, changed.stdout + changed.stderr
    outcomes = checkout.outcomes()
    assert {name for name, outcome in outcomes.items() if outcome == "cached"} == {*SHARED, "train_gan", "evaluate_gan"}
    decisions = {model["name"]: model for model in checkout.summary["models"]}
    assert decisions["digits-cnn"]["decision"] == "rejected"
    assert decisions["digits-cnn"]["aliases"] == []
    assert "rejected (no alias)" in changed.stdout
    assert store(checkout)["models"]["digits-cnn"]["aliases"] == before


@pytest.mark.slow
def test_a_branch_that_fails_does_not_lose_the_other(checkout: Checkout, after_first: dict[str, Any]) -> None:
    # Its unpadded convolutions and pools leave nothing of 8 x 8 pixels.
    failed = checkout.run(("cnn.architecture=mnist_cnn", "seed=5"))
    assert failed.returncode == 1
    outcomes = checkout.outcomes()
    assert outcomes["train_cnn"] == "failed"
    assert {outcomes[step] for step in GAN} == {"succeeded"}
    assert "register_model_cnn" not in outcomes
    assert "train_cnn failed" in failed.stdout
    assert "train_cnn.log" in failed.stdout
    assert "Traceback" not in failed.stdout + failed.stderr
    assert [model["name"] for model in checkout.summary["models"]] == ["digits-gan"]


@pytest.mark.slow
def test_an_interrupted_run_leaves_no_process_and_the_next_one_works(
    checkout: Checkout, after_first: dict[str, Any]
) -> None:
    settings = [argument for override in (*SMALL, "cnn.epochs=50", "seed=6") for argument in ("--set", override)]
    runs = set((checkout.root / "runs").iterdir())
    command = subprocess.Popen(
        checkout.command("run", *settings),
        cwd=checkout.root,
        env=checkout.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    processes = wait_for_training(command, checkout, runs)
    command.send_signal(signal.SIGINT)
    output, _ = command.communicate(timeout=60)
    assert command.returncode == 130, output
    assert "Stopped." in output
    assert "Traceback" not in output
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert alive == []
    assert checkout.summary["status"] == "interrupted"
    assert not [run for run in store(checkout)["runs"] if run["status"] == "RUNNING"]
    assert checkout.run(NO_GATE).returncode == 0


def wait_for_training(command: "subprocess.Popen[str]", checkout: Checkout, before: set[Path]) -> list[psutil.Process]:
    """Wait until a training step reports a batch, and return all processes of the run."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and command.poll() is None:
        for run in set((checkout.root / "runs").iterdir()) - before:
            events = run / "events.jsonl"
            if events.is_file() and '"event": "epoch", "step": "train_' in events.read_text():
                return psutil.Process(command.pid).children(recursive=True)
        time.sleep(0.2)
    command.kill()
    raise AssertionError(f"no training began: {command.communicate()[0]}")


def test_a_changed_byte_stops_the_run_until_it_is_pinned_and_then_reruns_everything(
    checkout: Checkout, after_first: dict[str, Any], tmp_path: Path
) -> None:
    # A copy with the first run's cache and store: pinning other data here must not disturb the other tests.
    shutil.copytree(checkout.root, tmp_path / "copy", symlinks=True)
    checkout = Checkout(tmp_path / "copy")
    labels = checkout.root / "data" / read_info(checkout.root / "data").train.labels
    before, versions_before = labels.read_bytes(), store(checkout)["models"]
    try:
        labels.write_bytes(before[:-1])
        refused = checkout.run(NO_GATE)
        assert refused.returncode == 1
        assert labels.name in refused.stderr
        assert "altered or truncated" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert store(checkout)["models"] == versions_before
    finally:
        labels.write_bytes(before)
    info = read_info(checkout.root / "data")
    write_info(info.model_copy(update={"title": "Digits, second edition"}), checkout.root / "data")
    assert versions.folder_md5(versions.hash_folder(checkout.root / "data")) != after_first["summary"]["data_md5"]
    assert checkout.darkroom("data", "add").returncode == 0
    stopped = checkout.run((*NO_GATE, "validation.min_images_per_class=100000"))
    assert stopped.returncode == 1
    assert checkout.outcomes() == {"fetch_data": "succeeded", "validate_data": "failed"}
    assert store(checkout)["models"] == versions_before


def test_outside_of_a_repository_the_message_says_so(tmp_path: Path, checkout: Checkout) -> None:
    failed = subprocess.run(
        checkout.command("run"), cwd=tmp_path, env=checkout.environment, capture_output=True, text=True, timeout=60
    )
    assert failed.returncode == 1
    assert "not in a git repository" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_runs_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write_digits(tmp_path / "data")
    make_repository(tmp_path)
    (tmp_path / "runs").write_text("in the way")
    failed = Checkout(tmp_path).run()
    assert failed.returncode == 1
    assert f"{tmp_path / 'runs'}" in failed.stderr
    assert "Not a directory" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_an_unknown_parameter_fails_before_anything_starts(checkout: Checkout) -> None:
    failed = checkout.darkroom("run", "--set", "cnn.architecture=resnet")
    assert failed.returncode == 1
    assert "cnn.architecture" in failed.stderr
    assert "'resnet'" in failed.stderr
