"""The step validate_data: hold a raw dataset against the expectation suite and write a report for a person to read."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from darkroom.data.idx import RawDataset, load_raw
from darkroom.errors import DataError
from darkroom.validation.config import ValidateConfig
from darkroom.validation.docs import render_page
from darkroom.validation.gx import (
    DataContextConfig,
    ExpectationSuiteValidationResult,
    ExpectationValidationResult,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
    convert_to_json_serializable,
    get_context,
)
from darkroom.validation.report import ROW_NAMES, ClassStatistics, ExpectationOutcome, ValidationReport, as_text
from darkroom.validation.suite import build_suite, dataset_facts
from darkroom.validation.table import NOT_VALIDATED, table_of

RESULT_FILE = "result.json"
PAGE_FILE = "index.html"
STATISTICS_FILE = "statistics.csv"

_EXAMPLES = 5


def validate(raw: Path, config: ValidateConfig, report: Path) -> ValidationReport:
    """Validate the raw dataset in `raw` and write the report into the folder `report`, whatever the outcome.

    The folder receives `result.json` (Great Expectations' result), `index.html` (its Data Docs page, self-contained)
    and `statistics.csv` (one row per source and class).

    Raises:
        DataError: the reader refuses the dataset, see `load_raw`. An expectation that does not hold raises nothing
            here: see `check`.
    """
    return validate_dataset(load_raw(raw), config, report)


def validate_dataset(dataset: RawDataset, config: ValidateConfig, report: Path) -> ValidationReport:
    """Validate a dataset that is open already; otherwise as `validate`."""
    table = table_of(dataset)
    facts = dataset_facts(table, len(dataset.train) + len(dataset.test), dataset.info.classes, config)
    result = _run_suite(table, dataset.info.name, facts)
    outcome = ValidationReport(
        dataset=dataset.info.name,
        images=len(table),
        results=tuple(_outcome(entry) for entry in result.results),
        statistics=_class_statistics(table),
    )
    _write_report(report, result, outcome)
    return outcome


def check(report: ValidationReport) -> None:
    """Stop on a dataset that is not fit to train on.

    Raises:
        DataError: a critical expectation does not hold; names each by id, with its reason, the observed value and
            example rows.
    """
    failures = report.failures("critical")
    if failures:
        number = f"{len(failures)} critical expectation{'s do' if len(failures) > 1 else ' does'} not hold"
        raise DataError("\n  ".join([f"dataset {report.dataset}: {number}", *map(str, failures)]))


def _run_suite(table: pd.DataFrame, name: str, facts: Mapping[str, Any]) -> ExpectationSuiteValidationResult:
    """Run the suite in memory: no project folder, no telemetry, no progress bar; results in the suite's order."""
    project = DataContextConfig(
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
        store_backend_defaults=InMemoryStoreBackendDefaults(),
    )
    context = get_context(mode="ephemeral", project_config=project)
    asset = context.data_sources.add_pandas(name).add_dataframe_asset("image_table")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch(
        {"dataframe": table.drop(columns=NOT_VALIDATED)}
    )
    suite = build_suite(name, facts)
    order = {expectation.meta["id"]: position for position, expectation in enumerate(suite.expectations)}
    # SUMMARY keeps the first few offending rows; COMPLETE would write every one of them into the report.
    result = batch.validate(
        suite,
        result_format={
            "result_format": "SUMMARY",
            "partial_unexpected_count": _EXAMPLES,
            "unexpected_index_column_names": list(ROW_NAMES),
        },
    )
    for entry in result.results:
        # The page's number format reads repr(), which NumPy 2 writes as `np.float64(73.1)`: plain values only.
        entry.result = json.loads(json.dumps(convert_to_json_serializable(entry.result)))
    result.results.sort(key=lambda entry: order[entry.expectation_config.meta["id"]])
    return result


def _outcome(entry: ExpectationValidationResult) -> ExpectationOutcome:
    configuration = entry.expectation_config
    return ExpectationOutcome(
        id=configuration.meta["id"],
        severity=configuration.severity.value,
        success=entry.success,
        why=configuration.meta["why"],
        observed=_observed(entry),
        examples=tuple(entry.result.get("partial_unexpected_index_list") or ()),
    )


def _observed(entry: ExpectationValidationResult) -> str:
    """Say in words what an expectation saw, for each of the forms that a result takes."""
    errors = list(_exceptions(entry.exception_info))
    if errors:
        return f"could not be evaluated: {'; '.join(errors)}"
    result = entry.result
    if "partial_missing_list" in result:
        return f"missing: {', '.join(map(str, result['partial_missing_list'])) or 'none'}"
    if result.get("observed_value") is not None:
        return as_text(result["observed_value"])
    count, total = result["unexpected_count"], result["element_count"]
    return f"{count} of {total} images ({count / max(1, total):.4%})"


def _exceptions(info: Mapping[str, Any]) -> Iterator[str]:
    """Yield the messages in `info`: one record, or one for each metric that failed."""
    for record in [info] if "raised_exception" in info else info.values():
        if record["raised_exception"]:
            yield str(record["exception_message"])


def _class_statistics(table: pd.DataFrame) -> tuple[ClassStatistics, ...]:
    table = table.assign(is_blank=table["std"] == 0)
    frame = table.groupby(["source", "label", "class_name"], as_index=False).agg(
        images=("index", "size"),
        duplicates=("is_duplicate", "sum"),
        in_other_source=("in_other_source", "sum"),
        conflicting_labels=("has_conflicting_label", "sum"),
        blank=("is_blank", "sum"),
        mean_intensity=("mean", "mean"),
        std_intensity=("mean", "std"),
    )
    frame["share"] = frame["images"] / frame.groupby("source")["images"].transform("sum")
    frame = frame.sort_values(["source", "label"], ascending=[False, True])
    return tuple(
        ClassStatistics(**{str(name): value for name, value in record.items()}) for record in frame.to_dict("records")
    )


def _write_report(folder: Path, result: ExpectationSuiteValidationResult, report: ValidationReport) -> None:
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result.to_json_dict(), indent=2, allow_nan=False)
    (folder / RESULT_FILE).write_text(text + "\n", encoding="utf-8")
    (folder / PAGE_FILE).write_text(render_page(result, report), encoding="utf-8")
    rows = pd.DataFrame([asdict(row) for row in report.statistics])
    rows.to_csv(folder / STATISTICS_FILE, index=False, float_format="%.6g", encoding="utf-8")
