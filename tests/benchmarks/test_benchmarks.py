import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as frame
from benchmarks import tenfold
from benchmarks.preprocessing import preprocess_folder
from benchmarks.process import measure
from benchmarks.table import Claim, Table
from benchmarks.validation import validate_folder
from darkroom.data.digits import write_digits
from darkroom.data.idx import load_raw
from darkroom.errors import DataError


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


def test_a_repeated_dataset_has_the_same_images_but_no_copies(tmp_path: Path):
    write_digits(tmp_path / "digits")
    source = load_raw(tmp_path / "digits")
    repeated = load_raw(tenfold.repeat_dataset(tmp_path / "digits", 3, tmp_path / "repeated"))
    assert repeated.info == source.info
    for once, thrice in ((source.train, repeated.train), (source.test, repeated.test)):
        np.testing.assert_array_equal(thrice.labels, np.tile(once.labels, 3))
        parts = thrice.images.reshape(3, *once.images.shape)
        np.testing.assert_array_equal(parts[0], once.images)
        for number, part in enumerate(parts):
            difference = part - once.images
            assert (difference[:, 0, 0] == number).all()
            assert np.count_nonzero(difference) == (len(once) if number else 0)


def test_steps_are_timed_on_a_folder_and_a_dataset_must_pass(tmp_path: Path):
    write_digits(tmp_path / "digits")
    assert 0 < preprocess_folder(str(tmp_path / "digits")) < 60
    assert 0 < validate_folder(str(tmp_path / "digits")) < 60
    write_digits(tmp_path / "copies")
    train = tmp_path / "copies" / load_raw(tmp_path / "copies").info.train.images
    header, image = train.read_bytes()[:16], train.read_bytes()[16:80]
    train.write_bytes(header + image * ((train.stat().st_size - 16) // 64))
    with pytest.raises(DataError, match="duplicates"):
        validate_folder(str(tmp_path / "copies"))


@pytest.mark.parametrize(
    ("function", "holds", "times"),
    [("hold", [True, False], "10.0 times"), ("look_twice", [False, True], "100.0 times")],
)
def test_a_step_that_does_not_scale_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function, holds, times):
    write_digits(tmp_path / "data")
    monkeypatch.setattr(tenfold, "ROOT", tmp_path)
    monkeypatch.setattr(tenfold, "ROUNDS", 1)
    table = tenfold.compare_sizes("Title", "Notes.", f"tests.benchmarks.greedy:{function}")
    assert [row[0] for row in table.rows] == ["1,797", "17,970"]
    assert [claim.holds for claim in table.claims] == holds
    assert table.claims[0].measured == times


def test_a_training_that_starves_is_seen():
    assert measure("tests.benchmarks.starving:starved").value > 0.5
    assert measure("tests.benchmarks.starving:fed").value < 0.5
