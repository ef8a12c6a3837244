from collections.abc import Callable

import pytest

from infra.check.manifests import Manifest
from infra.check.schemas import VERSIONS, match_schemas, passed_over
from tests.infra.objects import the

PLANTS: list[tuple[str, Callable[[Manifest], object]]] = [
    (
        "spec.template.spec.containers.0: ",
        lambda it: it["spec"]["template"]["spec"]["containers"][0].update(imagePolicy="Always"),
    ),
    ("spec.replicas: 'two' is not of type", lambda it: it["spec"].update(replicas="two")),
    ("the object: Additional properties", lambda it: it.update(specs={})),
    ("Couldn't find schema for kind Deployments", lambda it: it.update(kind="Deployments")),
]


@pytest.mark.parametrize(("expected", "plant"), PLANTS, ids=[expected for expected, _ in PLANTS])
def test_each_version_refuses_what_is_planted(
    kind: list[Manifest], expected: str, plant: Callable[[Manifest], object]
) -> None:
    deployment = the(kind, "Deployment", "mlflow")
    plant(deployment)

    found = list(match_schemas([deployment]))

    assert len(found) == len(VERSIONS)
    assert all(expected in finding for finding in found), found


def test_an_unknown_group_is_refused_even_where_its_first_word_is_known(kind: list[Manifest]) -> None:
    deployment = the(kind, "Deployment", "mlflow")
    deployment["apiVersion"] = "apps.example.org/v1"

    assert list(match_schemas([deployment])) == [
        "Deployment darkroom/mlflow: the API group of apps.example.org/v1 is not a known one"
    ]


def test_what_has_no_schema_is_counted(production: list[Manifest]) -> None:
    assert passed_over(production) == {"external-secrets.io": 5}
