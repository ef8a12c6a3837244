import numpy as np
import pytest

from darkroom.data.idx import RawDataset, RawSplit
from darkroom.data.metadata import DatasetInfo, SplitFiles
from darkroom.validation.config import ValidateConfig
from darkroom.validation.suite import build_suite, dataset_facts, read_entries, resolve
from darkroom.validation.table import COLUMNS, NOT_VALIDATED, table_of

FACTS = {"share": 0.25, "images": 70_000, "names": ["a", "b"]}


@pytest.fixture(scope="module")
def facts() -> dict[str, object]:
    files = SplitFiles(images="images", labels="labels")
    info = DatasetInfo(
        name="pair",
        title="Pair",
        licence="CC0-1.0",
        source="made up",
        classes=["a", "b"],
        horizontal_flip=False,
        train=files,
        test=files,
    )
    split = RawSplit(np.full((2, 4, 5, 3), 10, np.uint8), np.array([0, 1], np.uint8))
    dataset = RawDataset(info, split, split)
    return dataset_facts(table_of(dataset), 4, info.classes, ValidateConfig())


def test_entries_are_unique_and_say_why() -> None:
    entries = read_entries()
    assert len({entry.id for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.why.endswith("."), entry.id
        assert set(entry.columns) <= set(COLUMNS), entry.id


def test_every_placeholder_resolves(facts: dict[str, object]) -> None:
    suite = build_suite("pair", facts)

    ids = [expectation.meta["id"] for expectation in suite.expectations]
    assert len(set(ids)) == len(ids)
    assert "${" not in str(suite.to_json_dict())
    assert {expectation.severity.value for expectation in suite.expectations} == {"critical", "warning"}


def test_every_limit_is_used() -> None:
    text = " ".join(entry.model_dump_json() for entry in read_entries())
    used_by_code = {"max_intensity_shift"}  # dataset_facts turns it into train_mean_low and train_mean_high
    assert {name for name in ValidateConfig.model_fields if f"${{{name}}}" not in text} <= used_by_code


def test_every_column_has_its_type_checked() -> None:
    typed = [column for entry in read_entries() if entry.id.startswith("schema-") for column in entry.columns]
    assert sorted(typed) == sorted(set(COLUMNS) - {NOT_VALIDATED})


def test_tolerance_becomes_mostly(facts: dict[str, object]) -> None:
    suite = build_suite("pair", {**facts, "max_leakage_share": 0.9})
    mostly = {expectation.meta["id"]: getattr(expectation, "mostly", None) for expectation in suite.expectations}
    assert mostly["leakage"] == 0.1
    assert mostly["copies.is_duplicate"] == 1


def test_facts_of_the_dataset(facts: dict[str, object]) -> None:
    assert facts["images"] == 4
    assert facts["labels"] == [0, 1]
    assert (facts["width"], facts["height"], facts["channels"]) == (5, 4, 3)
    assert (facts["train_mean_low"], facts["train_mean_high"]) == (0, 20)


def test_resolve_keeps_types_and_fills_text() -> None:
    assert resolve({"value_set": "${names}", "min": ["${share}", 1]}, FACTS) == {
        "value_set": ["a", "b"],
        "min": [0.25, 1],
    }
    assert resolve("${share} of ${images} images", FACTS) == "0.25 of 70000 images"


def test_resolve_refuses_an_unknown_name() -> None:
    with pytest.raises(KeyError, match="share_of_what"):
        resolve("at most ${share_of_what}", FACTS)
