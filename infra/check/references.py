"""The rule for names: what an object refers to exists."""

from collections.abc import Iterator

from infra.check.manifests import Manifest, containers, templates, title
from infra.check.secrets import MADE_BY_KFP, SECRETS


def references_exist(objects: list[Manifest]) -> Iterator[str]:
    """What a pod refers to is among the objects, or a listed secret with that key."""
    present = {(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]): each for each in objects}
    for owner, template in templates(objects):
        namespace = owner["metadata"]["namespace"]
        for kind, name, key in _references(owner, template["spec"]):
            if kind == "Secret":
                keys = SECRETS[namespace].get(name, frozenset())
                if name not in MADE_BY_KFP and (not keys or (key and key not in keys)):
                    yield f"{title(owner)}: secret {name}, key {key or 'any'}, is not in the list of secrets"
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
            accounts = [each for each in manifest["subjects"] if each["kind"] == "ServiceAccount"]
            wanted += [("ServiceAccount", each.get("namespace", "none"), each["name"]) for each in accounts]
            for kind, space, name in wanted:
                if (kind, space, name) not in present:
                    yield f"{title(manifest)}: {kind} {space}/{name} does not exist"


def _references(owner: Manifest, pod: Manifest) -> Iterator[tuple[str, str, str]]:
    """What a pod needs: kind, name and, where one is named, key. What it calls optional is not among it."""
    if "serviceAccountName" in pod:
        yield "ServiceAccount", pod["serviceAccountName"], ""
    claims = {each["metadata"]["name"] for each in owner["spec"].get("volumeClaimTemplates", [])}
    volumes = {each["name"]: each for each in pod.get("volumes", [])}
    for volume in volumes.values():
        if "configMap" in volume and not volume["configMap"].get("optional"):
            yield "ConfigMap", volume["configMap"]["name"], ""
        if "secret" in volume and not volume["secret"].get("optional"):
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
                if field in source and not source[field].get("optional"):
                    yield kind, source[field]["name"], ""
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if field in source and not source[field].get("optional"):
                    yield kind, source[field]["name"], source[field]["key"]
