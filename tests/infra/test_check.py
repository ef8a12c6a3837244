"""The command as a whole, on a kustomization with three things wrong."""

from pathlib import Path

import pytest
import yaml

from infra.check.__main__ import run
from infra.check.manifests import Manifest
from tests.infra.objects import pod_of, the


@pytest.mark.slow
def test_the_command_names_what_is_wrong_and_fails(
    kind: list[Manifest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pod_of(kind, "Deployment", "mlflow")["hostNetwork"] = True
    the(kind, "Service", "mlflow")["spec"]["port"] = 5000
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump_all(kind))
    (tmp_path / "kustomization.yaml").write_text("resources: [objects.yaml]\n")

    status = run([tmp_path])

    printed = capsys.readouterr().out
    assert status == 1
    assert f"{tmp_path}: {len(kind)} objects, 3 kinds of pods, 3 findings" in printed
    assert "  Deployment darkroom/mlflow: hostNetwork must not be set" in printed
    assert "  Service darkroom/mlflow: Kubernetes 1.33: spec: Additional properties" in printed
    assert "checkov: refused" in printed
    assert "CKV_K8S_19" in printed


@pytest.mark.slow
def test_the_command_passes_what_is_right(
    kind: list[Manifest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump_all(kind))
    (tmp_path / "kustomization.yaml").write_text("resources: [objects.yaml]\n")

    assert run([tmp_path]) == 0
    assert "checkov: passed" in capsys.readouterr().out
