"""`report.html`: one self-contained page about a run, pictures included, readable without any server."""

import base64
import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipelines.job import Job
from pipelines.summary import Summary

REPORT_NAME = "report.html"
FRACTION = re.compile(r"-?\d+\.\d+(e-?\d+)?")
TEMPLATE_NAME = "report.html.j2"


@dataclass(frozen=True)
class Picture:
    """One picture: the step and the file that it comes from, relative to the step's outputs, and what it shows."""

    step: str
    file: str
    caption: str


PICTURES = (
    Picture("train_cnn", "history/history.png", "Classifier: accuracy and loss per epoch"),
    Picture("evaluate_cnn", "evaluation/predictions.png", "Classifier: test images with true and predicted labels"),
    Picture("evaluate_cnn", "evaluation/confusion.png", "Classifier: confusion matrix on the test split"),
    Picture("evaluate_cnn", "evaluation/hardest.png", "Classifier: test images with the highest loss"),
    Picture(
        "evaluate_cnn", "evaluation/calibration.png", "Classifier: reliability, as it is and at a fitted temperature"
    ),
    Picture("evaluate_cnn", "evaluation/corruptions.png", "Classifier: accuracy under corruptions"),
    Picture("evaluate_cnn", "evaluation/slices.png", "Classifier: accuracy by class and by what images look like"),
    Picture("evaluate_gan", "evaluation/samples.png", "Generator: samples, one row per class"),
    Picture("evaluate_gan", "evaluation/nearest_neighbours.png", "Generator: samples nearest to a training image"),
    Picture("train_gan", "history/history.png", "Generator: losses per epoch"),
)


def write_report(summary: Summary, job: Job, run: Path) -> Path:
    """Render the page into the run's folder and return its path. Pictures of steps that did not finish are left out."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template(TEMPLATE_NAME).render(
        summary=summary,
        arguments={name: value for name, value in job.arguments.items() if value not in ({}, "")},
        pictures=list(_pictures(summary)),
        per_class=_table(summary, "evaluate_cnn", "evaluation/per_class.csv"),
        corruptions=_table(summary, "evaluate_cnn", "evaluation/corruptions.csv"),
        statistics=_table(summary, "validate_data", "report/statistics.csv"),
        generator=_table(summary, "evaluate_gan", "evaluation/intervals.csv"),
        scarce_data=_answer(summary),
    )
    path = run / REPORT_NAME
    path.write_text(page, encoding="utf-8")
    return path


def _pictures(summary: Summary) -> Iterator[tuple[str, str]]:
    """Caption and data address of every picture that exists."""
    for picture in PICTURES:
        file = _output(summary, picture.step, picture.file)
        if file:
            yield picture.caption, "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()


def _table(summary: Summary, step: str, name: str) -> list[list[str]]:
    """The rows of a CSV file, header first; empty when the step did not write it."""
    file = _output(summary, step, name)
    if file is None:
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        return [[_shown(cell) for cell in row] for row in csv.reader(lines)]


def _answer(summary: Summary) -> str:
    """Whether generated images help where real ones are scarce; empty when that was not found out."""
    file = _output(summary, "evaluate_gan", "evaluation/scarce_data.json")
    return "" if file is None else str(json.loads(file.read_text(encoding="utf-8"))["answer"])


def _shown(cell: str) -> str:
    """A cell as a person reads it: fractions with four significant digits, all else as it is."""
    return f"{float(cell):.4g}" if FRACTION.fullmatch(cell) else cell


def _output(summary: Summary, step: str, name: str) -> Path | None:
    found = summary.step(step)
    if found is None or found.outputs is None:
        return None
    file = Path(found.outputs, name)
    return file if file.is_file() else None
