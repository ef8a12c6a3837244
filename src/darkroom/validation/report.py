"""What data validation found, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["critical", "warning"]

ROW_NAMES = ("source", "index", "class_name")


@dataclass(frozen=True)
class ExpectationOutcome:
    """What came out of one expectation.

    examples: up to five rows that break it, each with source, index, class_name and the offending value; empty where it
    holds, and for an expectation on the table as a whole.
    """

    id: str
    severity: Severity
    success: bool
    why: str
    observed: str
    examples: tuple[Mapping[str, Any], ...] = ()

    def __str__(self) -> str:
        rows = self.example_text
        return f"{self.id}: {self.why} Observed: {self.observed}" + (f"; for example {rows}" if rows else "")

    @property
    def example_text(self) -> str:
        """The example rows as one line, such as `train[40] Shirt (std 0)`."""
        return ", ".join(_describe_row(row) for row in self.examples)


@dataclass(frozen=True)
class ClassStatistics:
    """One class of one source: counts of images and of faults; moments of the images' mean intensity, in levels."""

    source: str
    label: int
    class_name: str
    images: int
    share: float
    duplicates: int
    in_other_source: int
    conflicting_labels: int
    blank: int
    mean_intensity: float
    std_intensity: float


@dataclass(frozen=True)
class ValidationReport:
    """The outcome of every expectation, in the suite's order, and the statistics of every class."""

    dataset: str
    images: int
    results: tuple[ExpectationOutcome, ...]
    statistics: tuple[ClassStatistics, ...]

    @property
    def passed(self) -> bool:
        """Whether every critical expectation holds; warnings do not count."""
        return not self.failures("critical")

    @property
    def metrics(self) -> dict[str, float]:
        """Counts: images, expectations, and those of each severity that do not hold."""
        return {
            "images": self.images,
            "expectations": len(self.results),
            "critical_failures": len(self.failures("critical")),
            "warnings": len(self.failures("warning")),
        }

    def failures(self, severity: Severity) -> list[ExpectationOutcome]:
        """List the expectations of one severity that do not hold."""
        return [outcome for outcome in self.results if outcome.severity == severity and not outcome.success]


def as_text(value: Any) -> str:
    """Write a value for a message: real numbers with six significant digits."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _describe_row(row: Mapping[str, Any]) -> str:
    # A flag that is set says no more than the expectation's name.
    values = ", ".join(
        f"{name} {as_text(value)}" for name, value in row.items() if name not in ROW_NAMES and value is not True
    )
    return f"{row['source']}[{row['index']}] {row['class_name']}" + (f" ({values})" if values else "")
