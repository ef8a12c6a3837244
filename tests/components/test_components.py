"""The light components called as KFP calls them, on real artifacts; the local run's test covers the others."""

import json
from pathlib import Path

import pytest
from kfp.dsl import HTML, Artifact, Dataset, Metrics

from components.fetch_data.component import fetch_data
from components.preprocess.component import preprocess
from components.validate_data.component import validate_data
from darkroom.data.digits import write_digits
from darkroom.data.splits import read_split
from darkroom.data.versions import make_repository


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder with tracking off: the local run's test looks at MLflow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARKROOM_TRACKING", "off")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("repository")
    write_digits(path / "data")
    return path, make_repository(path).md5


def test_fetch_data_hands_over_the_dataset_and_its_md5(repository: tuple[Path, str], tmp_path: Path) -> None:
    dataset, metrics = Dataset(uri=str(tmp_path / "dataset")), Metrics(uri=str(tmp_path / "metrics"))
    path, pinned = repository
    md5 = fetch_data.python_func(str(path), "", pinned, dataset, metrics)
    assert md5 == pinned
    assert dataset.metadata == {"name": "digits", "md5": pinned}
    assert metrics.metadata["files"] == 5
    record = json.loads(Path(metrics.path).read_text())
    assert (record["step"], record["metrics"]["files"], record["outputs"]) == ("fetch_data", 5, str(tmp_path))
    assert record["seconds"] > 0


def test_fetch_data_of_another_version_than_expected_exits_with_one_message(
    repository: tuple[Path, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, metrics = Dataset(uri=str(tmp_path / "dataset")), Metrics(uri=str(tmp_path / "metrics"))
    expected = "0" * 32 + ".dir"
    with pytest.raises(SystemExit) as exit_:
        fetch_data.python_func(str(repository[0]), "", expected, dataset, metrics)
    assert exit_.value.code == 1
    assert not Path(dataset.path).exists()
    assert not Path(metrics.path).exists()


def test_validate_data_keeps_its_report_when_it_stops_the_pipeline(
    repository: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = tmp_path / "events.jsonl"
    monkeypatch.setenv("DARKROOM_EVENTS", str(events))
    dataset = Dataset(uri=str(repository[0] / "data"))
    report, docs = Artifact(uri=str(tmp_path / "report")), HTML(uri=str(tmp_path / "docs.html"))
    with pytest.raises(SystemExit):
        validate_data.python_func(
            dataset, repository[1], {"min_images_per_class": 10_000}, report, docs, Metrics(uri=str(tmp_path / "m"))
        )
    assert Path(docs.path).read_text().lower().startswith("<!doctype html")
    assert json.loads((tmp_path / "report" / "result.json").read_text())["success"] is False
    failed = json.loads(events.read_text().splitlines()[-1])
    assert (failed["event"], failed["step"]) == ("failed", "validate_data")
    assert "10000" in failed["message"]


def test_a_wrong_option_is_named_with_its_step(repository: tuple[Path, str], tmp_path: Path) -> None:
    dataset, splits = Dataset(uri=str(repository[0] / "data")), Dataset(uri=str(tmp_path / "splits"))
    events = tmp_path / "events.jsonl"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setenv("DARKROOM_EVENTS", str(events))
        preprocess.python_func(
            dataset, repository[1], 0, {"validation_fraction": 0.9}, splits, Metrics(uri=str(tmp_path / "m"))
        )
    assert "preprocess.validation_fraction" in json.loads(events.read_text().splitlines()[-1])["message"]


def test_preprocess_writes_the_splits(repository: tuple[Path, str], tmp_path: Path) -> None:
    dataset, splits = Dataset(uri=str(repository[0] / "data")), Dataset(uri=str(tmp_path / "splits"))
    metrics = Metrics(uri=str(tmp_path / "metrics"))
    # KFP hands integers inside a structure over as floats.
    preprocess.python_func(dataset, repository[1], 3, {"images_per_class": 50.0}, splits, metrics)
    assert metrics.metadata["train"] + metrics.metadata["validation"] == 500
    assert len(read_split(Path(splits.path), "train")) == metrics.metadata["train"]
