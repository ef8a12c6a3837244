from copy import deepcopy

import pytest

from infra.check.manifests import OVERLAYS, Manifest, render


@pytest.fixture(scope="session")
def rendered_kind() -> list[Manifest]:
    return render(OVERLAYS / "kind")


@pytest.fixture(scope="session")
def rendered_production() -> list[Manifest]:
    return render(OVERLAYS / "production")


@pytest.fixture
def kind(rendered_kind: list[Manifest]) -> list[Manifest]:
    """The kind overlay, to plant something bad in."""
    return deepcopy(rendered_kind)


@pytest.fixture
def production(rendered_production: list[Manifest]) -> list[Manifest]:
    return deepcopy(rendered_production)
