"""How tests reach into rendered objects."""

from infra.check.manifests import Manifest


def the(objects: list[Manifest], kind: str, name: str) -> Manifest:
    """The one object of this kind whose name is, or starts with, `name`: generated names end in a hash."""
    (found,) = [
        each
        for each in objects
        if each["kind"] == kind
        and (each["metadata"]["name"] == name or each["metadata"]["name"].startswith(f"{name}-"))
    ]
    return found


def pod_of(objects: list[Manifest], kind: str, name: str) -> Manifest:
    spec: Manifest = the(objects, kind, name)["spec"]["template"]["spec"]
    return spec


def environment(pod: Manifest) -> dict[str, str]:
    """The variables of a pod's first container that have a value."""
    return {each["name"]: each["value"] for each in pod["containers"][0]["env"] if "value" in each}
