"""Planted faults: each is caught by the expectation that is meant for it, and the message says where."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from darkroom.data.idx import RawDataset, RawSplit, write_idx
from darkroom.data.metadata import DatasetInfo, SplitFiles, write_info
from darkroom.errors import DataError
from darkroom.validation.config import ValidateConfig
from darkroom.validation.report import ValidationReport
from darkroom.validation.validate import check, validate, validate_dataset

CLASSES = ["circle", "square", "<i>star</i>"]


def make_split(per_class: int, seed: int, size: tuple[int, int, int] = (8, 8, 1)) -> RawSplit:
    """Noise images, all different, classes in turn."""
    labels = np.tile(np.arange(len(CLASSES), dtype=np.uint8), per_class)
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), *size), dtype=np.uint8)
    return RawSplit(images, labels)


@pytest.fixture
def dataset() -> RawDataset:
    info = DatasetInfo(
        name="shapes",
        title="Shapes",
        licence="CC0-1.0",
        source="made up",
        classes=CLASSES,
        horizontal_flip=True,
        train=SplitFiles(images="train-images", labels="train-labels"),
        test=SplitFiles(images="test-images", labels="test-labels"),
    )
    return RawDataset(info, make_split(50, seed=1), make_split(30, seed=2))


def write_raw(dataset: RawDataset, folder: Path) -> Path:
    folder.mkdir()
    write_info(dataset.info, folder)
    for files, split in ((dataset.info.train, dataset.train), (dataset.info.test, dataset.test)):
        write_idx(folder / files.images, split.images)
        write_idx(folder / files.labels, split.labels)
    return folder


def failed_ids(report: ValidationReport, severity: Any) -> list[str]:
    return [outcome.id for outcome in report.failures(severity)]


def test_clean_data_pass(dataset: RawDataset, tmp_path: Path) -> None:
    report = validate(write_raw(dataset, tmp_path / "raw"), ValidateConfig(), tmp_path / "report")

    assert report.passed
    assert all(outcome.success for outcome in report.results)
    assert (report.dataset, report.images) == ("shapes", 240)
    check(report)


def test_report_folder_holds_three_files(
    dataset: RawDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = write_raw(dataset, tmp_path / "raw")
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.chdir(working)
    report = validate(raw, ValidateConfig(), tmp_path / "runs" / "report")

    folder = tmp_path / "runs" / "report"
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "result.json", "statistics.csv"]
    assert list(working.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    result = json.loads((folder / "result.json").read_text())
    assert result["success"] is True
    assert [entry["expectation_config"]["meta"]["id"] for entry in result["results"]] == [
        outcome.id for outcome in report.results
    ]
    for path in folder.iterdir():
        assert str(tmp_path) not in path.read_text()
    with (folder / "statistics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["source"], row["class_name"], row["images"]) for row in rows] == [
        *(("train", name, "50") for name in CLASSES),
        *(("test", name, "30") for name in CLASSES),
    ]


def test_page_needs_no_other_file_and_escapes_names(dataset: RawDataset, tmp_path: Path) -> None:
    dataset.train.images[2] = 0  # of the class <i>star</i>
    validate_dataset(dataset, ValidateConfig(), tmp_path)

    page = (tmp_path / "index.html").read_text()
    assert "train[2] &lt;i&gt;star&lt;/i&gt; (std 0)" in page
    assert "<i>star" not in page
    for reference in ("http:", "https:", "src=", "href=", "@import", "url(", "<script"):
        assert reference not in page


def plant_duplicates(train: NDArray[np.uint8], test: NDArray[np.uint8]) -> None:
    train[3:9:3] = train[0]


def plant_leakage(train: NDArray[np.uint8], test: NDArray[np.uint8]) -> None:
    test[4] = train[7]


def plant_conflict(train: NDArray[np.uint8], test: NDArray[np.uint8]) -> None:
    train[11] = train[10]


def plant_blank(train: NDArray[np.uint8], test: NDArray[np.uint8]) -> None:
    test[5] = 77


@pytest.mark.parametrize(
    ("plant", "critical", "says"),
    [
        (plant_duplicates, ["duplicates"], "2 of 150 images (1.3333%); for example train[3] circle, train[6] circle"),
        (plant_leakage, ["leakage"], "1 of 90 images (1.1111%); for example test[4] square"),
        (
            plant_conflict,
            ["conflicting-labels"],
            "2 of 240 images (0.8333%); for example train[10] square, train[11] <i>star</i>",
        ),
        (plant_blank, ["blank-images"], "1 of 240 images (0.4167%); for example test[5] <i>star</i> (std 0)"),
    ],
)
def test_planted_pixels_stop(dataset: RawDataset, tmp_path: Path, plant: Any, critical: list[str], says: str) -> None:
    plant(dataset.train.images, dataset.test.images)
    report = validate_dataset(dataset, ValidateConfig(), tmp_path)

    assert failed_ids(report, "critical") == critical
    with pytest.raises(DataError) as error:
        check(report)
    assert f"dataset shapes: 1 critical expectation does not hold\n  {critical[0]}: " in str(error.value)
    assert says in str(error.value)
    assert json.loads((tmp_path / "result.json").read_text())["success"] is False
    assert "Failed:" in (tmp_path / "index.html").read_text()


def test_class_imbalance_stops(dataset: RawDataset, tmp_path: Path) -> None:
    keep = np.flatnonzero((dataset.train.labels != 1) | (np.arange(150) < 60))  # squares 1, 4, ... 58
    train = RawSplit(dataset.train.images[keep], dataset.train.labels[keep])
    unbalanced = RawDataset(dataset.info, train, dataset.test)
    report = validate_dataset(unbalanced, ValidateConfig(max_class_imbalance=2), tmp_path)

    assert failed_ids(report, "critical") == ["class-balance"]
    with pytest.raises(DataError, match=r"20 of 210 images .*train\[1\] square \(class_imbalance 2.5\)"):
        check(report)


def test_small_class_stops(dataset: RawDataset, tmp_path: Path) -> None:
    report = validate_dataset(dataset, ValidateConfig(min_images_per_class=31), tmp_path)

    with pytest.raises(DataError, match=r"images-per-class: .* 90 of 240 .*test\[0\] circle \(class_images 30\)"):
        check(report)


def test_label_outside_the_class_list_stops(dataset: RawDataset, tmp_path: Path) -> None:
    dataset.train.labels[6] = 3
    report = validate_dataset(dataset, ValidateConfig(), tmp_path)

    assert "label-set" in failed_ids(report, "critical")
    with pytest.raises(DataError, match=r"label-set: .* 1 of 240 images .*train\[6\] unknown \(label 3\)"):
        check(report)


def test_absent_class_stops(dataset: RawDataset, tmp_path: Path) -> None:
    keep = dataset.test.labels != 1
    test = RawSplit(dataset.test.images[keep], dataset.test.labels[keep])
    report = validate_dataset(RawDataset(dataset.info, dataset.train, test), ValidateConfig(), tmp_path)

    assert failed_ids(report, "critical") == ["class-presence-test"]
    with pytest.raises(DataError, match="Observed: missing: square"):
        check(report)


def test_image_size_stops(dataset: RawDataset, tmp_path: Path) -> None:
    wide = RawDataset(dataset.info, dataset.train, make_split(30, seed=3, size=(8, 9, 1)))
    report = validate_dataset(wide, ValidateConfig(), tmp_path)

    assert failed_ids(report, "critical") == ["image-width"]
    with pytest.raises(DataError, match=r"8 pixels. Observed: 90 of 240 .*test\[0\] circle \(width 9\)"):
        check(report)


def test_pixels_on_another_scale_stop(dataset: RawDataset, tmp_path: Path) -> None:
    np.floor_divide(dataset.test.images, 16, out=dataset.test.images)
    report = validate_dataset(dataset, ValidateConfig(), tmp_path)

    assert failed_ids(report, "critical") == ["peak-intensity-test"]
    with pytest.raises(DataError, match=r"peak-intensity-test: .* Observed: 15"):
        check(report)


def test_pixel_type_and_range_stop(dataset: RawDataset, tmp_path: Path) -> None:
    images: Any = dataset.test.images.astype(np.uint16) * 2
    deep = RawDataset(dataset.info, dataset.train, RawSplit(images, dataset.test.labels))
    report = validate_dataset(deep, ValidateConfig(), tmp_path)

    assert failed_ids(report, "critical") == ["pixel-type", "intensity-range.mean", "intensity-range.maximum"]


def test_warning_is_listed_and_does_not_stop(dataset: RawDataset, tmp_path: Path) -> None:
    dataset.test.images[:] = dataset.test.images // 2 + 64  # brighter or darker by no more than the mean's shift
    dataset.train.images[8] = 100
    dataset.train.images[8, 0, 0, 0] = 101
    dataset.train.images[9] = dataset.train.images[6]
    report = validate_dataset(dataset, ValidateConfig(), tmp_path)

    assert report.passed
    assert failed_ids(report, "warning") == ["copies.is_duplicate", "low-contrast"]
    assert report.failures("warning")[1].examples[0]["index"] == 8
    check(report)


def test_shifted_intensity_is_a_warning(dataset: RawDataset, tmp_path: Path) -> None:
    np.maximum(dataset.test.images, 100, out=dataset.test.images)
    report = validate_dataset(dataset, ValidateConfig(), tmp_path)

    assert failed_ids(report, "warning") == ["intensity-shift"]
    check(report)


def test_a_dataset_exactly_at_its_limit_passes(dataset: RawDataset, tmp_path: Path) -> None:
    dataset.test.images[:9] = dataset.train.images[:9]

    at_limit = validate_dataset(dataset, ValidateConfig(max_leakage_share=0.1), tmp_path)
    assert at_limit.passed
    below = validate_dataset(dataset, ValidateConfig(max_leakage_share=0.09), tmp_path)
    assert failed_ids(below, "critical") == ["leakage"]


def test_report_stays_small_when_every_image_fails(dataset: RawDataset, tmp_path: Path) -> None:
    dataset.train.images[:] = 9
    report = validate_dataset(dataset, ValidateConfig(), tmp_path)

    assert all(len(outcome.examples) <= 5 for outcome in report.results)
    assert (tmp_path / "result.json").stat().st_size < 100_000


def test_damage_is_the_readers_to_refuse(dataset: RawDataset, tmp_path: Path) -> None:
    raw = write_raw(dataset, tmp_path / "raw")
    (raw / "train-labels").unlink()

    with pytest.raises(DataError, match="train-labels: no such file"):
        validate(raw, ValidateConfig(), tmp_path / "report")
