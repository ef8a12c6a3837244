import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as frame
from benchmarks.process import measure
from benchmarks.table import Claim, Table


def test_a_table_is_markdown_with_its_claims():
    table = Table("Speed", "Notes.", ("a", "b"), [("1", "2")], (Claim("fast", "1 s", True), Claim("cheap", "9", False)))
    assert table.markdown() == (
        "## Speed\n\nNotes.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n"
        "- Holds: fast. Measured: 1 s.\n- Does not hold: cheap. Measured: 9.\n"
    )


def test_the_page_is_put_together_from_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frame, "KEPT", tmp_path)
    for name in reversed(frame.NAMES):
        (tmp_path / f"{name}.md").write_text(f"## {name}\n")
    (tmp_path / "other.md").write_text("## other\n")
    page = frame.page()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [f"## {name}" for name in frame.NAMES]


@pytest.mark.parametrize("name", frame.NAMES)
def test_every_benchmark_has_a_run(name):
    assert importlib.import_module(f"benchmarks.{name}").run.__annotations__["return"] is Table


def test_an_unknown_benchmark_is_refused():
    done = subprocess.run([sys.executable, "-m", "benchmarks", "speed"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown benchmark speed; known: time_to_accuracy" in done.stderr


def test_a_call_is_measured_in_a_process_of_its_own():
    measured = measure("os.path:join", "a", "b")
    assert measured.value == "a/b"
    assert 0 <= measured.seconds < 1
    assert 5 < measured.peak_rss_mb < 200


def test_a_failing_call_is_told():
    with pytest.raises(RuntimeError, match=r"os:chdir failed with exit status 1(.|\n)*No such file"):
        measure("os:chdir", "absent")
