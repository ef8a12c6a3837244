"""The tick of a schedule reaches registration, and nothing that is cached."""

from pathlib import Path
from typing import Any

import yaml
from kfp import dsl

from pipelines.config import load
from pipelines.pipeline import compile_pipeline


def test_only_registration_gets_the_schedules_tick(tmp_path: Path) -> None:
    output = tmp_path / "darkroom.yaml"
    compile_pipeline(lambda task: task, load(None), "f" * 32 + ".dir", output)
    tasks: dict[str, Any] = yaml.safe_load(output.read_text())["root"]["dag"]["tasks"]
    registering = {name for name in tasks if name.startswith("register-model")}
    assert len(registering) == 2
    for name, task in tasks.items():
        values = task["inputs"]["parameters"]
        # KFP's driver replaces the placeholder only where it is the whole value of a task's input.
        placeholders = [key for key, value in values.items() if placeholder_of(value)]
        assert placeholders == (["scheduled_at"] if name in registering else [])
    assert output.read_text().count(dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER) == len(registering)


def placeholder_of(value: dict[str, Any]) -> bool:
    return bool(value.get("runtimeValue", {}).get("constant") == dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER)
