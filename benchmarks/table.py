"""What a benchmark returns: rows of figures, and the claims that they bear out or do not."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Claim:
    """A figure that was aimed at, in words, and what was measured."""

    text: str
    measured: str
    holds: bool


@dataclass(frozen=True)
class Table:
    """One section of `results.md`. `notes` say what was measured, and how."""

    title: str
    notes: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    claims: Sequence[Claim] = field(default_factory=tuple)

    def markdown(self) -> str:
        """The section as Markdown."""
        lines = [f"## {self.title}", "", self.notes, ""]
        lines += [_row(self.columns), _row(["---"] * len(self.columns)), *map(_row, self.rows), ""]
        for claim in self.claims:
            lines.append(f"- {'Holds' if claim.holds else 'Does not hold'}: {claim.text}. Measured: {claim.measured}.")
        return "\n".join(lines).rstrip() + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
