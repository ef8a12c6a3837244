"""checkov itself, in the environment that `make infra-check` runs it in."""

from pathlib import Path

import pytest
import yaml

from infra.check.checkov import scan
from infra.check.manifests import HERE, OVERLAYS, Manifest, render
from tests.infra.objects import pod_of


@pytest.mark.slow
def test_checkov_passes_the_overlay_and_refuses_what_is_planted(kind: list[Manifest], tmp_path: Path) -> None:
    rendered = tmp_path / "kind.yaml"
    rendered.write_text(yaml.safe_dump_all(kind))
    assert list(scan(tmp_path)) == []

    pod_of(kind, "Deployment", "mlflow")["containers"][0]["securityContext"]["privileged"] = True
    rendered.write_text(yaml.safe_dump_all(kind))
    (report,) = scan(tmp_path)

    assert "CKV_K8S_16" in report
    assert "Deployment.darkroom.mlflow" in report
    assert "Failed checks: 1" in report


@pytest.mark.slow
def test_checkov_that_sees_nothing_is_a_finding(tmp_path: Path) -> None:
    (finding,) = scan(tmp_path)

    assert "checked nothing" in finding


def test_every_skip_has_a_reason() -> None:
    lines = (HERE / "checkov.yaml").read_text().splitlines()
    skips = [number for number, line in enumerate(lines) if line.strip().startswith("- CKV")]

    assert skips
    assert all(lines[number - 1].strip().startswith("#") for number in skips)
    for overlay in ("kind", "production"):
        for manifest in render(OVERLAYS / overlay):
            for name, skip in manifest["metadata"].get("annotations", {}).items():
                if name.startswith("checkov.io/skip"):
                    assert len(skip.partition("=")[2].split()) > 3, f"{name}: {skip}"
