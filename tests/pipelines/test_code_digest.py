from pathlib import Path

import pytest

from pipelines.code_digest import PACKAGE, code_digest, reachable
from pipelines.placement import IMAGES

COMPONENTS = Path(__file__).parents[2] / "components"


def modules(step: str) -> set[str]:
    return {str(file.relative_to(PACKAGE)) for file in reachable(COMPONENTS / step / "component.py")}


def test_the_branches_do_not_reach_each_other() -> None:
    for step in ("train_gan", "evaluate_gan"):
        assert not {name for name in modules(step) if name.startswith("cnn/")}
    for step in ("train_cnn", "evaluate_cnn"):
        assert not {name for name in modules(step) if name.startswith("gan/")}


@pytest.mark.parametrize("step", sorted(IMAGES))
def test_each_step_reaches_its_own_code_and_the_frame_around_it(step: str) -> None:
    assert {"__init__.py", "steps.py", "tracking/runs.py", "config.py", "errors.py"} <= modules(step)


def test_imports_inside_functions_are_followed(tmp_path: Path) -> None:
    source = tmp_path / "component.py"
    source.write_text("def f():\n    from darkroom.cnn.train import train\n")
    assert {PACKAGE / "cnn" / "train.py", PACKAGE / "cnn" / "model.py", PACKAGE / "training.py"} <= reachable(source)


def test_a_change_in_the_source_of_a_reached_file_changes_the_digest(tmp_path: Path) -> None:
    source, lock = tmp_path / "component.py", tmp_path / "lock.txt"
    source.write_text("from darkroom import errors\n")
    lock.write_text("numpy==1")
    before = code_digest(source, lock)
    assert code_digest(source, lock) == before
    lock.write_text("numpy==2")
    assert code_digest(source, lock) != before


def test_data_files_beside_a_module_count(tmp_path: Path) -> None:
    source = tmp_path / "component.py"
    source.write_text("from darkroom.validation.suite import build_suite\n")
    suite = PACKAGE / "validation" / "suite.yaml"
    assert suite.is_file()
    digest = code_digest(source)
    text = suite.read_bytes()
    try:
        suite.write_bytes(text + b"\n# changed\n")
        assert code_digest(source) != digest
    finally:
        suite.write_bytes(text)
