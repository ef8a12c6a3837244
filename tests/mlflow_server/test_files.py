"""The files under mlflow/, as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .deployment import FOLDER, IN_IMAGE, image_environment, instruction, service, start_command, variables_of_example

SERVICES = ("postgres", "s3", "mlflow")


def test_no_python_file_lies_in_the_folder() -> None:
    assert [path.name for path in FOLDER.rglob("*.py*")] == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined_pinned_and_watched(name: str) -> None:
    found = service(name)
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["read_only"] is True
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", found["user"])
    assert found["healthcheck"]["test"][0] == "CMD"
    assert re.search(r":(?!latest)[\w.-]+$", found["image"])


def test_only_mlflow_is_reachable_and_from_this_machine_alone() -> None:
    assert [service(name).get("ports") for name in SERVICES] == [None, None, ["127.0.0.1:5000:5000"]]


def test_every_secret_is_asked_for_and_none_has_a_default() -> None:
    asked = set()
    for name in SERVICES:
        for variable, value in service(name)["environment"].items():
            secret = re.search("PASSWORD|SECRET|ACCESS_KEY", variable)
            match = re.fullmatch(r"\$\{(\w+):\?set (\w+) in mlflow/\.env}", value)
            assert match is not None if secret else not re.search("PASSWORD|SECRET|ACCESS_KEY", value)
            if match:
                assert match[1] == match[2]
                asked.add(match[1])
    assert asked == variables_of_example()
    values = [line.partition("=")[2] for line in (FOLDER / "env.example").read_text().splitlines() if "=" in line]
    assert [value for value in values if value and not value.startswith(" ")] == ["darkroom"]
    git = ["git", "-C", str(FOLDER.parent), "check-ignore", "--quiet", "mlflow/.env"]
    assert subprocess.run(git, check=False).returncode == 0


def test_the_image_runs_as_a_number_and_keeps_no_secret() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", instruction("USER"))
    assert not [name for name in image_environment() if re.search("PASSWORD|SECRET|KEY|TOKEN", name)]
    copied = [line for line in (FOLDER / "Dockerfile").read_text().splitlines() if line.startswith("COPY mlflow/")]
    assert copied == [f"COPY mlflow/settings.env mlflow/basic_auth.ini {IN_IMAGE}"]
    assert start_command()[-2:] == ["--app-name", "basic-auth"]


def test_the_dockerfile_passes_hadolint() -> None:
    command = [str(Path(sys.executable).with_name("hadolint")), str(FOLDER / "Dockerfile")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")
