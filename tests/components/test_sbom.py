import json
import re
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from components.build_images import RECIPES, ROOT
from components.sbom import locked, write_sbom


def test_the_bill_of_materials_lists_the_locked_versions(tmp_path: Path) -> None:
    text = write_sbom("registry", tmp_path / "new").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    listed = {component["name"]: component["version"] for component in bill["components"]}
    pinned = (ROOT / "requirements" / "registry.txt").read_text()
    assert len(listed) > 80
    assert all(f"{name}=={version} " in pinned for name, version in listed.items())
    assert listed["mlflow"] == "3.17.2"
    assert bill["metadata"]["component"]["name"] == "darkroom"


@pytest.mark.parametrize("target", RECIPES)
def test_what_is_locked_for_other_platforms_is_left_out(target: str) -> None:
    names = [re.split("==| ", line)[0] for line in locked(target)]
    assert len(set(names)) == len(names)
    assert "pywin32" not in names
    assert all("--hash=sha256:" in line for line in locked(target))
    tensorflow = {name for name in names if name.startswith("tensorflow")}
    assert bool(tensorflow) is target.startswith("train")
