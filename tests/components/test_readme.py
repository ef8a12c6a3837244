from pathlib import Path

import pytest

from components.readme import FOLDER, STEPS, readme


@pytest.mark.parametrize("step", STEPS)
def test_the_readme_says_what_the_docstring_says(step: str) -> None:
    assert (FOLDER / step / "README.md").read_text(encoding="utf-8") == readme(step)


@pytest.mark.parametrize("step", STEPS)
def test_every_input_and_output_is_described(step: str) -> None:
    lines = Path(FOLDER, step, "README.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) > 4
    assert not [row for row in rows if row.endswith("|  |")]
