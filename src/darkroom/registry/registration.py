"""Registering a model: a new version, or the one that is there already, and the decision about it."""

import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from darkroom import tracking
from darkroom.config import StepConfig
from darkroom.errors import RegistryError
from darkroom.gate import GateConfig
from darkroom.registry.candidate import Candidate, read_candidate, read_json
from darkroom.registry.package import Kind, save_pyfunc
from darkroom.registry.promotion import Outcome, decide_and_promote, record_decision
from darkroom.registry.store import Store
from darkroom.registry.transaction import Undo, all_or_nothing, take_back

EVALUATION_FILES = ("metrics.json", "evaluation.json", "predictions.npz")
REGISTRATION_ATTEMPTS = 3
# Deciding may mean to measure the champion again, which takes a minute; who decides no longer after this has died.
DECISION_PATIENCE = 180.0


class RegisterConfig(StepConfig):
    """How a model is registered."""

    name_suffix: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]*$", description="appended to <dataset>-cnn and <dataset>-gan, such as -smoke"
    )


@dataclass(frozen=True)
class Registration:
    """What became of a model. `created` is false when the same work was registered before, and that version is used."""

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

    The same work is registered once (see `Candidate.same_work`), even by two processes at the same moment: a repetition
    finds the version that is there and decides about it again, by that version's own evaluation. A version that was
    champion once does not become it again by itself.

    Args:
        kind: Classifier or generator.
        model: Folder with `model.keras` or `generator.keras`, and `origin.json`.
        evaluation: Folder with `metrics.json`, `evaluation.json` and, for a classifier, `predictions.npz`.
        splits: The preprocessed splits; a champion that was evaluated on other test images is evaluated on these.
        gate: Thresholds.
        config: Naming.
        run: The step's MLflow run. Where it is a null run, the version is registered without one.
        provenance: Becomes tags of the version, prefixed with `darkroom.`: data_md5, git_commit, image, seed, and on a
            cluster kfp_run_id and scheduled_at.

    Raises:
        DataError: a file is missing or damaged, or model, evaluation and splits do not belong together.
        RegistryError: MLflow failed; nothing was left half-registered.
    """
    candidate = read_candidate(kind, model, evaluation, splits, provenance)
    store = Store(run.settings, f"{candidate.test.info.name}-{kind}{config.name_suffix}")
    with (
        all_or_nothing(f"{store.name} at {run.settings.tracking_uri}: not registered") as undo,
        tempfile.TemporaryDirectory(prefix="darkroom-") as scratch,
    ):
        store.connect()
        version, created = _find_or_create(store, candidate, run, undo)
        if not created:
            candidate = _as_registered(store, version, candidate, Path(scratch))
        outcome, reasons = decide_and_promote(store, candidate, version, gate, undo)
        record_decision(store, version, outcome, reasons, undo)
        aliases = store.aliases(version)
    return Registration(kind, store.name, version, aliases, outcome, reasons, created)


def _find_or_create(store: Store, candidate: Candidate, run: tracking.StepRun, undo: list[Undo]) -> tuple[int, bool]:
    """The one version of this work, and whether it is a new one.

    MLflow numbers versions in the order in which they come into being, and whoever has made one sees all with lower
    numbers. So of several that were made at the same moment the lowest stays; the others are removed by those who made
    them, who then wait for the decision about the one that stays.
    """
    for _ in range(REGISTRATION_ATTEMPTS):
        version = store.find(candidate.same_work)
        if version is None:
            before = len(undo)
            made, model_id = _create_version(store, candidate, run, undo)
            version = store.find(candidate.same_work)
            if version == made:
                _name_output(store, run, model_id)
                return made, True
            if left := take_back(undo[before:]):
                raise RegistryError(f"{store.name}: version {made} is one too many{left}")
            del undo[before:]
        if version is not None:
            _wait_for_decision(store, version, run)
            if store.find(candidate.same_work) == version:
                return version, False
    raise RegistryError(
        f"{store.name}: {REGISTRATION_ATTEMPTS} times other processes registered this work and took it back"
    )


def _wait_for_decision(store: Store, version: int, run: tracking.StepRun) -> None:
    """Wait while another process decides about a version, or takes it back."""
    end = time.monotonic() + DECISION_PATIENCE
    while (found := store.get(version)) is not None:
        by_this_run = run.run_id is not None and found.run_id == run.run_id  # an earlier attempt of this very step
        by_ended_run = bool(found.run_id) and store.client.get_run(found.run_id).info.status != "RUNNING"
        if "darkroom.decision" in found.tags or by_this_run or by_ended_run or time.monotonic() > end:
            return
        time.sleep(0.5)


def _as_registered(store: Store, version: int, candidate: Candidate, scratch: Path) -> Candidate:
    """The candidate as a decision about `version` needs it: with that version's evaluation, where the bits differ."""
    tags = store.tags(version)
    if all(tags.get(key) == value for key, value in candidate.identity.items()):
        return candidate
    evaluation = store.download(version, "evaluation", scratch)
    return replace(
        candidate,
        evaluation=evaluation,
        metrics=read_json(evaluation / "metrics.json"),
        rests_on=read_json(evaluation / "evaluation.json"),
        identity={key: tags.get(key, "") for key in candidate.identity},
    )


def _create_version(store: Store, candidate: Candidate, run: tracking.StepRun, undo: list[Undo]) -> tuple[int, str]:
    """Upload the model and its evaluation, and only then create the version. Returns it and the logged model's id."""
    from mlflow.entities import LoggedModelStatus

    client = store.client
    if store.create():
        undo.append(store.delete_if_empty)
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
    return int(created.version), str(logged.model_id)


def _name_output(store: Store, run: tracking.StepRun, model_id: str) -> None:
    from mlflow.entities import LoggedModelOutput

    if run.run_id is not None:
        store.client.log_outputs(run.run_id, [LoggedModelOutput(model_id, step=0)])


def _experiment_id(client: Any, run: tracking.StepRun) -> str:
    if run.run_id is not None:
        return str(client.get_run(run.run_id).info.experiment_id)
    return tracking.experiment_id(client, run.settings.experiment, run.settings.artifact_root)
