"""Rules for pods: the restricted standard, and what it leaves open."""

from collections.abc import Iterator

from infra.check.manifests import Manifest, containers, templates, title
from infra.check.pod_security import restricted_findings


def pods_are_restricted(objects: list[Manifest]) -> Iterator[str]:
    """Every pod meets the restricted Pod Security Standard."""
    for owner, template in templates(objects):
        for finding in restricted_findings(template["spec"]):
            yield f"{title(owner)}: {finding}"


def pods_are_careful(objects: list[Manifest]) -> Iterator[str]:
    """Beyond the standard: limits, a read-only root, no token that nobody uses, images of one version."""
    for owner, template in templates(objects):
        if template["spec"].get("automountServiceAccountToken") is not False:
            yield f"{title(owner)}: automountServiceAccountToken must be false"
        for container in containers(template["spec"]):
            name = f"{title(owner)}: container {container['name']}"
            resources = container.get("resources", {})
            for kind in ("requests", "limits"):
                for resource in ("cpu", "memory"):
                    if resource not in resources.get(kind, {}):
                        yield f"{name}: resources.{kind}.{resource} is missing"
            if not (container.get("securityContext") or {}).get("readOnlyRootFilesystem"):
                yield f"{name}: readOnlyRootFilesystem must be true"
            for finding in image_findings(container["image"]):
                yield f"{name}: {finding}"


def image_findings(image: str) -> Iterator[str]:
    """An image needs a tag or a digest, and never `latest`."""
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if not digest and tag in {"", "latest"}:
        yield f"image {image} must have a version, not '{tag or 'none'}'"
