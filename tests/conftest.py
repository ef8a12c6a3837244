from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_dvc_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep DVC's own notes out of the machine's folders, and a person's DVC settings out of the tests."""
    folder: Path = tmp_path_factory.mktemp("dvc")
    for name in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG"):
        monkeypatch.setenv(f"DVC_{name}_DIR", str(folder / name.lower()))
