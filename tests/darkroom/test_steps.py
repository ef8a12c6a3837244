import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

STEPS_WITHOUT_TENSORFLOW = {
    "fetch_data": "from darkroom.fetch_data import fetch; from darkroom.data import versions; import dvc.api",
    "validate_data": "from darkroom.validation.validate import validate",
    "preprocess": "from darkroom.preprocess import preprocess",
    "register_model": "from darkroom.registry import register; import mlflow",
}


def run_step(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run a step whose body is `body` in a process of its own, as KFP does."""
    code = f"""
import errno, os, signal
from pathlib import Path
from darkroom.config import StepConfig
from darkroom.errors import DataError
from darkroom.steps import step

class Config(StepConfig):
    seed: int = 4

class Artifact:
    path = {str(folder / "metrics")!r}
    logged = {{}}
    def log_metric(self, metric, value):
        self.logged[metric] = value

with step("probe", Artifact()) as running:
    config = running.configure(Config, "f" * 32 + ".dir", {{}})
{textwrap.indent(textwrap.dedent(body), "    ")}
"""
    environment = {
        **os.environ,
        "DARKROOM_EVENTS": str(folder / "events.jsonl"),
        "DARKROOM_LOGS": str(folder),
        "DARKROOM_TRACKING": "off",
    }
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=folder)


def events(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_a_step_reports_its_start_progress_and_end(tmp_path: Path) -> None:
    done = run_step(tmp_path, "running.on_epoch(1, 2, {'loss': 0.5})\nrunning.log_metrics({'accuracy': 0.9})")
    assert done.returncode == 0
    assert [event["event"] for event in events(tmp_path)] == ["start", "epoch", "finished"]
    assert events(tmp_path)[-1]["metrics"] == {"accuracy": 0.9}
    assert json.loads((tmp_path / "metrics").read_text())["metrics"] == {"accuracy": 0.9}


def test_all_output_of_a_step_goes_to_its_own_file(tmp_path: Path) -> None:
    done = run_step(tmp_path, "print('from python')\nos.system('echo from a child')")
    assert (done.stdout, done.stderr) == ("", "")
    log = (tmp_path / "probe.log").read_text()
    assert "from python" in log
    assert "from a child" in log


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise DataError('labels: no such file')", "labels: no such file"),
        ("raise OSError(errno.ENOSPC, 'x', '/full/disk/file')", "/full/disk/file: No space left on device"),
        ("raise PermissionError(errno.EACCES, 'x', '/sealed/file')", "/sealed/file: Permission denied"),
    ],
)
def test_an_error_that_a_person_can_mend_is_a_message_without_a_traceback(
    tmp_path: Path, body: str, message: str
) -> None:
    done = run_step(tmp_path, body)
    assert done.returncode == 1
    assert message in str(events(tmp_path)[-1]["message"])
    assert "Traceback" not in (tmp_path / "probe.log").read_text()
    assert not (tmp_path / "metrics").exists()


def test_a_defect_keeps_its_traceback_in_the_log_alone(tmp_path: Path) -> None:
    done = run_step(tmp_path, "1 / 0")
    assert done.returncode == 1
    assert events(tmp_path)[-1]["message"] == "ZeroDivisionError: division by zero"
    assert "Traceback" in (tmp_path / "probe.log").read_text()


def test_a_polite_kill_ends_a_step_like_an_interruption(tmp_path: Path) -> None:
    done = run_step(tmp_path, "os.kill(os.getpid(), signal.SIGTERM)\nimport time; time.sleep(20)")
    assert done.returncode in (130, -signal.SIGINT)
    assert events(tmp_path)[-1]["event"] == "failed"


@pytest.mark.parametrize("step", sorted(STEPS_WITHOUT_TENSORFLOW))
def test_steps_that_train_nothing_do_not_import_tensorflow(step: str) -> None:
    code = f"{STEPS_WITHOUT_TENSORFLOW[step]}; import sys; print(sorted({{'tensorflow', 'keras'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
