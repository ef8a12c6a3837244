"""Rules for secrets: none is written down, and each that a pod asks for comes from somewhere."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra.check.manifests import Manifest, containers, templates, title

# Secrets that no manifest holds, by namespace: made by infra/install on kind, read from a vault in production.
SECRETS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "darkroom": {
        "mlflow-credentials": frozenset({"username", "password"}),
        "kfp-mlflow-credentials": frozenset({"username", "password"}),
        "mlflow-server": frozenset({"flask-secret-key"}),
        "postgres-credentials": frozenset({"username", "password"}),
        "object-store-credentials": frozenset({"access-key", "secret-key"}),
    },
    "kubeflow": {
        "mysql-secret": frozenset({"username", "password"}),
        "mlpipeline-minio-artifact": frozenset({"accesskey", "secretkey"}),
    },
}

# The certificate of a webhook, which KFP's cache-deployer makes by itself.
MADE_BY_KFP = {"webhook-server-tls"}

SECRET_NAME = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|ACCESS_KEY|PRIVATE_KEY|CREDENTIAL", re.IGNORECASE)
PASSWORD_IN_ADDRESS = re.compile(r"://[^/@\s:]+:[^/@\s]+@")
ASSIGNMENT = re.compile(r"[\"']?([\w.-]+)[\"']?[ \t]*[:=][ \t]*[\"']?([^\s\"',{}\[\]]+)")
# Fields that name a secret or a key of it, in KFP's and Argo's configuration.
REFERENCES = {"secretName", "accessKeyKey", "secretKeyKey", "usernameKey", "passwordKey", "tokenKey"}


def nothing_is_secret(objects: list[Manifest]) -> Iterator[str]:
    """No Secret object, no variable or setting that looks like a secret and has a value, no password in an address."""
    for manifest in objects:
        if manifest["kind"] == "Secret":
            yield f"{title(manifest)}: secrets are made at install or read from a vault, never written here"
        for text in _strings(manifest):
            if PASSWORD_IN_ADDRESS.search(text):
                yield f"{title(manifest)}: an address holds a password"
        if manifest["kind"] == "ConfigMap":
            for key, text in manifest.get("data", {}).items():
                for name, value in [(key, text), *ASSIGNMENT.findall(text)]:
                    if "\n" not in value and name not in REFERENCES and SECRET_NAME.search(name):
                        yield f"{title(manifest)}: {name} looks like a secret and has a value"
    for owner, template in templates(objects):
        for container in containers(template["spec"]):
            for variable in container.get("env", []):
                names_a_file = variable["name"].endswith("_FILE")
                if SECRET_NAME.search(variable["name"]) and variable.get("value") and not names_a_file:
                    yield f"{title(owner)}: {variable['name']} has a value; take it from a secret"


def vault_gives_every_secret(objects: list[Manifest]) -> Iterator[str]:
    """Where a namespace's secrets come from a vault, all that are listed do, with their keys."""
    external = [manifest for manifest in objects if manifest["kind"] == "ExternalSecret"]
    for namespace in sorted({each["metadata"]["namespace"] for each in external}):
        given = {
            each["spec"]["target"]["name"]: {item["secretKey"] for item in each["spec"]["data"]}
            for each in external
            if each["metadata"]["namespace"] == namespace
        }
        for name, keys in SECRETS[namespace].items():
            found = given.get(name, set())
            if found != keys:
                yield f"ExternalSecret {namespace}/{name}: must give {sorted(keys)}, gives {sorted(found)}"


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
