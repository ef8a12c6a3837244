"""Rules for rights: as few as possible."""

from collections.abc import Iterator

from infra.check.manifests import Manifest, title


def roles_are_narrow(objects: list[Manifest]) -> Iterator[str]:
    """No wildcards, no cluster-wide roles, no secrets but by name, and no verb that leads to more rights."""
    for manifest in objects:
        if manifest["kind"] in {"ClusterRole", "ClusterRoleBinding"}:
            yield f"{title(manifest)}: rights end at the namespace"
        for rule in (manifest.get("rules") or []) if manifest["kind"] in {"Role", "ClusterRole"} else []:
            for field in ("apiGroups", "resources", "verbs", "nonResourceURLs"):
                if any("*" in each for each in rule.get(field, [])):
                    yield f"{title(manifest)}: {field} must not hold a wildcard"
            if "secrets" in rule.get("resources", []) and (not rule.get("resourceNames") or rule["verbs"] != ["get"]):
                yield f"{title(manifest)}: secrets may only be read, by name"
            for verb in sorted({"escalate", "bind", "impersonate"} & set(rule["verbs"])):
                yield f"{title(manifest)}: verb {verb} leads to more rights"
