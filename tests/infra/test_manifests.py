from pathlib import Path

import pytest

from infra.check.__main__ import check
from infra.check.manifests import HERE, OVERLAYS, local_kustomizations, remote_kustomizations, render


@pytest.mark.parametrize("folder", local_kustomizations(), ids=lambda folder: str(folder.relative_to(HERE)))
def test_every_local_kustomization_renders_and_is_clean(folder: Path) -> None:
    assert check(folder, render(folder)) == []


def test_every_kustomization_is_known() -> None:
    everything = {file.parent for file in HERE.rglob("kustomization.yaml")}
    local, remote = set(local_kustomizations()), set(remote_kustomizations())

    assert local | remote == everything
    assert {folder.name for folder in local if folder.parent == OVERLAYS} == {"kind", "production"}
    assert {folder.relative_to(HERE).parts for folder in remote} == {
        ("kubeflow", "base"),
        ("kubeflow", "kind"),
        ("kubeflow", "production"),
    }


def test_a_broken_kustomization_is_named(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [missing.yaml]\n")

    with pytest.raises(RuntimeError, match=rf"{tmp_path}: kubectl cannot render it: .*missing\.yaml"):
        render(tmp_path)
