"""The rule for names: what an object refers to exists."""

from collections.abc import Iterator

from infra.check.manifests import Manifest, containers, templates, title
from infra.check.secrets import SECRETS


def references_exist(objects: list[Manifest]) -> Iterator[str]:
    """What a pod refers to is among the objects, or a listed secret with that key."""
    present = {(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]): each for each in objects}
    for owner, template in templates(objects):
        namespace = owner["metadata"]["namespace"]
        for kind, name, key in _references(owner, template["spec"]):
            if kind == "Secret":
                if name not in SECRETS or (key and key not in SECRETS[name]):
                    yield f"{title(owner)}: secret {name} with key {key} is not in the list of secrets"
                continue
            target = present.get((kind, namespace, name))
            if target is None:
                yield f"{title(owner)}: {kind} {name} does not exist"
            elif key and key not in target.get("data", {}):
                yield f"{title(owner)}: {kind} {name} has no key {key}"
    for manifest in objects:
        if manifest["kind"] == "RoleBinding":
            namespace = manifest["metadata"]["namespace"]
            wanted = [(manifest["roleRef"]["kind"], namespace, manifest["roleRef"]["name"])]
            wanted += [(each["kind"], each["namespace"], each["name"]) for each in manifest["subjects"]]
            for kind, space, name in wanted:
                if (kind, space, name) not in present:
                    yield f"{title(manifest)}: {kind} {space}/{name} does not exist"


def _references(owner: Manifest, pod: Manifest) -> Iterator[tuple[str, str, str]]:
    """What a pod refers to: kind, name and, where one is named, key."""
    yield "ServiceAccount", pod.get("serviceAccountName", "default"), ""
    claims = {each["metadata"]["name"] for each in owner["spec"].get("volumeClaimTemplates", [])}
    volumes = {each["name"]: each for each in pod.get("volumes", [])}
    for volume in volumes.values():
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"], ""
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"], ""
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], ""
    for secret in pod.get("imagePullSecrets", []):
        yield "Secret", secret["name"], ""
    for container in containers(pod):
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in claims | set(volumes):
                yield "PersistentVolumeClaim", mount["name"], ""
        for source in container.get("envFrom", []):
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if field in source:
                    yield kind, source[field]["name"], ""
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if field in source:
                    yield kind, source[field]["name"], source[field]["key"]
