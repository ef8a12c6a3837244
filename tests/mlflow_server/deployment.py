"""What mlflow/Dockerfile and mlflow/compose.yaml say, so that the tests start just that."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "mlflow"
IN_IMAGE = "/etc/mlflow/"


def dockerfile() -> list[str]:
    """The final stage's instructions, one a line."""
    text = re.sub(r"\\\n\s*", " ", (FOLDER / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    last = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
    return lines[last:]


def instruction(name: str) -> str:
    (found,) = (line.removeprefix(f"{name} ") for line in dockerfile() if line.startswith(f"{name} "))
    return found


def image_environment() -> dict[str, str]:
    """The image's own variables, with its folder of settings replaced by this one's."""
    pairs = (pair.partition("=") for pair in instruction("ENV").split())
    return {name: value.replace(IN_IMAGE, f"{FOLDER}/") for name, _, value in pairs if name not in ("PATH", "HOME")}


def start_command() -> list[str]:
    """The image's entry point, run by this interpreter."""
    program, *arguments = json.loads(instruction("ENTRYPOINT"))
    return [sys.executable, "-m", program, *(part.replace(IN_IMAGE, f"{FOLDER}/") for part in arguments)]


def service(name: str) -> dict[str, Any]:
    """One service of compose.yaml."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"][name]
    return found


def service_environment(name: str, values: Mapping[str, str]) -> dict[str, str]:
    """A service's variables, with `values` for those that compose takes from mlflow/.env."""
    return {
        key: re.sub(r"\$\{(\w+):\?[^}]*}", lambda match: values[match[1]], text)
        for key, text in service(name)["environment"].items()
    }


def variables_of_example() -> set[str]:
    lines = (FOLDER / "env.example").read_text().splitlines()
    return {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
