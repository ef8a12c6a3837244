"""Registered models as MLflow stores them: versions, tags, aliases and, in the model's tags, the journal."""

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from darkroom import tracking
from darkroom.registry.transaction import all_or_nothing

CHAMPION = "champion"
CHALLENGER = "challenger"
JOURNAL_PREFIX = "darkroom.journal."


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model as it stands: version numbers by alias, and its journal from old to new."""

    name: str
    aliases: dict[str, int]
    journal: list[dict[str, Any]]

    @property
    def champion(self) -> int | None:
        """The version that is served."""
        return self.aliases.get(CHAMPION)

    @property
    def champions(self) -> list[int]:
        """The champions so far, without those that were rolled back; the last one is the present one."""
        stack: list[int] = []
        for entry in self.journal:
            if entry["event"] == "promoted":
                stack.append(entry["version"])
            elif entry["event"] == "rolled_back":
                while stack and stack[-1] != entry["version"]:
                    stack.pop()
        return stack

    def was_champion(self, version: int) -> bool:
        """Whether this version was promoted once, rolled back or not."""
        return any(entry["event"] == "promoted" and entry["version"] == version for entry in self.journal)


class Store:
    """The calls to MLflow's registry for one registered model."""

    def __init__(self, settings: tracking.TrackingSettings, name: str) -> None:
        self.name = name
        self.settings = settings

    def connect(self) -> None:
        """Open the client; a server that does not answer shows here."""
        self.client = tracking.connect(self.settings.tracking_uri)

    def read(self) -> RegisteredModel:
        """The model's aliases and journal, without what was withdrawn."""
        found = self.client.get_registered_model(self.name)
        entries = {key: json.loads(text) for key, text in sorted(found.tags.items()) if key.startswith(JOURNAL_PREFIX)}
        withdrawn = {entry["withdraws"] for entry in entries.values() if entry["event"] == "withdrawn"}
        journal = [entry for key, entry in entries.items() if entry["event"] != "withdrawn" and key not in withdrawn]
        return RegisteredModel(self.name, {alias: int(version) for alias, version in found.aliases.items()}, journal)

    def create(self) -> bool:
        """Give the model a name in the registry; False when it has one."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_ALREADY_EXISTS":
                return False
            raise
        return True

    def delete_if_empty(self) -> None:
        """Take the model's name away, unless somebody has registered a version meanwhile."""
        if not self.client.search_model_versions(f"name = '{self.name}'", max_results=1):
            self.client.delete_registered_model(self.name)

    def find(self, alternatives: Iterable[Mapping[str, str]]) -> int | None:
        """The first version that has all tags of one of the alternatives, if there is one."""
        found: list[int] = []
        for tags in alternatives:
            wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
            versions = self.client.search_model_versions(f"name = '{self.name}' and {wanted}")
            found += (int(item.version) for item in versions)
        return min(found, default=None)

    def get(self, version: int) -> Any | None:
        """A version as MLflow has it; None when it is gone."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_model_version(self.name, str(version))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def tags(self, version: int) -> dict[str, str]:
        """A version's tags."""
        return dict(self.client.get_model_version(self.name, str(version)).tags)

    def set_tags(self, version: int, tags: Mapping[str, str]) -> None:
        """Add tags to a version, or replace them."""
        for key, value in tags.items():
            self.client.set_model_version_tag(self.name, str(version), key, value)

    def aliases(self, version: int) -> list[str]:
        """A version's aliases, sorted."""
        return sorted(alias for alias, number in self.read().aliases.items() if number == version)

    def set_alias(self, alias: str, version: int | None) -> None:
        """Move an alias to a version, or take it away."""
        if version is None:
            self.client.delete_registered_model_alias(self.name, alias)
        else:
            self.client.set_registered_model_alias(self.name, alias, str(version))

    def write_journal(self, event: str, **values: Any) -> str:
        """Append an event. Its key is new each time, so that two writers cannot overwrite each other."""
        now = datetime.now(UTC)
        entry = {"event": event, "time": now.isoformat(timespec="milliseconds"), **values}
        key = f"{JOURNAL_PREFIX}{now:%Y%m%dT%H%M%S.%fZ}-{uuid.uuid4().hex[:8]}"
        self.client.set_registered_model_tag(self.name, key, json.dumps(entry))
        return key

    def download(self, version: int, path: str, destination: Path) -> Path:
        """Fetch one file or folder of a version."""
        from mlflow.artifacts import download_artifacts

        # The stored address, because MLflow looks models:/<name> up in the process's default store.
        source = self.client.get_model_version(self.name, str(version)).source.rstrip("/")
        address = f"{source}/{path}".rstrip("/")
        return Path(download_artifacts(address, dst_path=str(destination), tracking_uri=self.settings.tracking_uri))


def list_models(settings: tracking.TrackingSettings) -> list[RegisteredModel]:
    """All registered models, by name.

    Raises:
        RegistryError: MLflow failed.
    """
    with all_or_nothing(f"models at {settings.tracking_uri}: not listed"):
        names = sorted(model.name for model in tracking.connect(settings.tracking_uri).search_registered_models())
        stores = [Store(settings, name) for name in names]
        for store in stores:
            store.connect()
        return [store.read() for store in stores]
