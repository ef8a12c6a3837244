"""Makes models with chosen results, and registers them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from darkroom import tracking
from darkroom.data.splits import hash_test_split, read_split
from darkroom.files import sha256_of, write_json
from darkroom.gate import GateConfig
from darkroom.origin import ORIGIN_FILE
from darkroom.registry import NETWORK_FILES, Kind, RegisterConfig, Registration, register
from darkroom.registry.store import JOURNAL_PREFIX
from darkroom.tracking import TrackingSettings

# 200 test images cannot show equality within half a percent.
LENIENT = GateConfig(max_accuracy_drop=0.05)


@dataclasses.dataclass
class Shop:
    """Makes models with chosen results, and registers them under a name of the test's own."""

    settings: TrackingSettings
    splits: Path
    networks: Path
    folder: Path
    suffix: str
    made: int = 0

    def name(self, kind: Kind = "cnn") -> str:
        return f"tiny-digits-{kind}{self.suffix}"

    def make(
        self,
        kind: Kind = "cnn",
        *,
        accuracy: float = 0.95,
        distance: float = 10.0,
        test_sha256: str | None = None,
        origin: str | None = None,
        **rests_on: Any,
    ) -> Path:
        """A new folder with a network of its own bytes, its evaluation, and its origin, by default one of its own."""
        self.made += 1
        folder = self.folder / f"model-{self.made}"
        folder.mkdir()
        network = folder / NETWORK_FILES[kind]
        # A comment at the end of a zip archive changes its hash and nothing else.
        network.write_bytes(append_comment((self.networks / network.name).read_bytes(), str(folder).encode()))
        write_json(folder / ORIGIN_FILE, {"origin": origin or str(folder)})
        labels = read_split(self.splits, "test").labels
        wrong = np.arange(len(labels)) >= round(accuracy * len(labels))
        probabilities = np.full((len(labels), 10), 0.01, dtype=np.float32)
        probabilities[np.arange(len(labels)), (labels + wrong) % 10] = 0.91
        np.savez(folder / "predictions.npz", probabilities=probabilities, labels=labels)
        figures = {"accuracy": accuracy, "macro_f1": accuracy, "lowest_recall": 0.7, "ece": 0.02}
        figures |= {"class_agreement": accuracy, "frechet_distance": distance}
        (folder / "metrics.json").write_text(json.dumps(figures))
        basis = {"test_sha256": test_sha256 or hash_test_split(self.splits), "model_sha256": sha256_of(network)}
        (folder / "evaluation.json").write_text(json.dumps(basis | rests_on))
        return folder

    def register(
        self, folder: Path, kind: Kind = "cnn", gate: GateConfig = LENIENT, md5: str = "1" * 32, **of_cluster: str
    ) -> Registration:
        tags = {"data_md5": md5, "darkroom.git_commit": "c0ffee", "image": "local", "seed": "1", **of_cluster}
        config = RegisterConfig(name_suffix=self.suffix)
        with tracking.step_run(f"register_model_{kind}", self.settings, parameters={}, tags={}) as run:
            return register(kind, folder, folder, self.splits, gate, config, run=run, provenance=tags)

    @property
    def client(self) -> Any:
        return tracking.connect(self.settings.tracking_uri)

    def aliases(self, kind: Kind = "cnn") -> dict[str, int]:
        aliases = self.client.get_registered_model(self.name(kind)).aliases
        return {alias: int(version) for alias, version in aliases.items()}

    def journal(self, kind: Kind = "cnn") -> list[tuple[str, int]]:
        tags = sorted(self.client.get_registered_model(self.name(kind)).tags.items())
        entries = [json.loads(text) for key, text in tags if key.startswith(JOURNAL_PREFIX)]
        return [(entry["event"], entry.get("version")) for entry in entries]


def append_comment(archive: bytes, comment: bytes) -> bytes:
    assert archive[-2:] == b"\0\0"
    return archive[:-2] + len(comment).to_bytes(2, "little") + comment
