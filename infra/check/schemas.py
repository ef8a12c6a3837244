"""Rules for fields: objects of Kubernetes itself match its schemas, with no field beside them."""

from collections import Counter
from collections.abc import Iterator

import kubernetes_validate  # type: ignore[import-untyped]

from infra.check.manifests import Manifest, title

# The version that the namespaces pin, and the newest that the schemas know.
VERSIONS = ("1.33", "1.37")
STANDARD = {"", "apps", "batch", "networking.k8s.io", "policy", "rbac.authorization.k8s.io"}
# No schemas of these are at hand; the check counts what it passes over, and any other group is a finding.
CUSTOM = {"external-secrets.io", "kueue.x-k8s.io", "serving.kserve.io"}


def group(manifest: Manifest) -> str:
    """The API group: `apps` of `apps/v1`, nothing of `v1`."""
    return str(manifest["apiVersion"]).rpartition("/")[0]


def match_schemas(objects: list[Manifest]) -> Iterator[str]:
    """Every object of Kubernetes itself is valid in all versions; every other one is of a listed group."""
    for manifest in objects:
        # By name, because kubernetes-validate looks at the first word of a group alone.
        if group(manifest) not in STANDARD | CUSTOM:
            yield f"{title(manifest)}: the API group of {manifest['apiVersion']} is not a known one"
        for version in VERSIONS if group(manifest) in STANDARD else ():
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                place = ".".join(str(part) for part in error.path) or "the object"
                yield f"{title(manifest)}: Kubernetes {version}: {place}: {error.message}"
            except kubernetes_validate.SchemaNotFoundError as error:
                yield f"{title(manifest)}: {error.message}"


def passed_over(objects: list[Manifest]) -> Counter[str]:
    """How many objects of each group have no schema."""
    return Counter(group(manifest) for manifest in objects if group(manifest) in CUSTOM)
