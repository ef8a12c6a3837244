"""Registering a model: a new version, or the one that is there already, and the decision about it."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from darkroom import tracking
from darkroom.config import StepConfig
from darkroom.gate import GateConfig
from darkroom.registry.candidate import Candidate, read_candidate
from darkroom.registry.package import Kind, save_pyfunc
from darkroom.registry.promotion import Outcome, decide_and_promote, record_decision
from darkroom.registry.store import Store
from darkroom.registry.transaction import Undo, all_or_nothing

EVALUATION_FILES = ("metrics.json", "evaluation.json", "predictions.npz")


class RegisterConfig(StepConfig):
    """How a model is registered."""

    name_suffix: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]*$", description="appended to <dataset>-cnn and <dataset>-gan, such as -smoke"
    )


@dataclass(frozen=True)
class Registration:
    """What became of a model. `created` is false when the same model was registered before and is used again."""

    kind: Kind
    name: str
    version: int
    aliases: list[str]
    decision: Outcome
    reasons: list[str]
    created: bool

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values, for JSON."""
        return asdict(self)


def register(
    kind: Kind,
    model: Path,
    evaluation: Path,
    splits: Path,
    gate: GateConfig,
    config: RegisterConfig,
    *,
    run: tracking.StepRun,
    provenance: Mapping[str, str],
) -> Registration:
    """Register a model with its evaluation, decide about it and move the aliases.

    The same network, evaluated on the same test images and data version, is registered once: a repetition finds its
    version and decides again, but a version that was champion once does not become it again by itself.

    Args:
        kind: Classifier or generator.
        model: Folder with `model.keras` or `generator.keras`.
        evaluation: Folder with `metrics.json`, `evaluation.json` and, for a classifier, `predictions.npz`.
        splits: The preprocessed splits; a champion that was evaluated on other test images is evaluated on these.
        gate: Thresholds.
        config: Naming.
        run: The step's MLflow run. Where it is a null run, the version is registered without one.
        provenance: Becomes tags of the version, prefixed with `darkroom.`: data_md5, git_commit, image, seed.

    Raises:
        DataError: a file is missing or damaged, or model, evaluation and splits do not belong together.
        RegistryError: MLflow failed; nothing was left half-registered.
    """
    candidate = read_candidate(kind, model, evaluation, splits, provenance)
    store = Store(run.settings, f"{candidate.test.info.name}-{kind}{config.name_suffix}")
    with all_or_nothing(f"{store.name} at {run.settings.tracking_uri}: not registered") as undo:
        store.connect()
        version = store.find(candidate.identity)
        created = version is None
        if version is None:
            version = _create_version(store, candidate, run, undo)
        outcome, reasons = decide_and_promote(store, candidate, version, gate, undo)
        record_decision(store, version, outcome, reasons, undo)
        aliases = store.aliases(version)
    return Registration(kind, store.name, version, aliases, outcome, reasons, created)


def _create_version(store: Store, candidate: Candidate, run: tracking.StepRun, undo: list[Undo]) -> int:
    """Upload the model and its evaluation, and only then create the version."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    client = store.client
    if not store.exists():
        client.create_registered_model(store.name)
        undo.append(lambda: client.delete_registered_model(store.name))
    logged = client.create_logged_model(
        _experiment_id(client, run),
        name=store.name,
        source_run_id=run.run_id,
        tags=candidate.tags,
        model_type=candidate.kind,
    )
    undo.append(lambda: client.delete_logged_model(logged.model_id))
    with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
        folder = Path(scratch) / "model"
        save_pyfunc(candidate.kind, candidate.network, candidate.test, folder, model_id=logged.model_id)
        (folder / "evaluation").mkdir()
        for name in EVALUATION_FILES:
            if (candidate.evaluation / name).is_file():
                shutil.copy(candidate.evaluation / name, folder / "evaluation")
        client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    created = client.create_model_version(
        store.name,
        # Not models:/<id>: MLflow would look that up in the process's default store, which may be another one.
        logged.artifact_location,
        run_id=run.run_id,
        tags=candidate.tags,
        model_id=logged.model_id,
    )
    undo.append(lambda: client.delete_model_version(store.name, created.version))
    if run.run_id is not None:
        client.log_outputs(run.run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return int(created.version)


def _experiment_id(client: Any, run: tracking.StepRun) -> str:
    if run.run_id is not None:
        return str(client.get_run(run.run_id).info.experiment_id)
    return tracking.experiment_id(client, run.settings.experiment, run.settings.artifact_root)
