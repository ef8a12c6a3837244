"""The model registry: register a version, let the gate decide, move the champion, go back.

Unlike tracking, registration is not best effort: what cannot be done whole is undone and raises `RegistryError`.

A version is created last, when all its files are uploaded, and carries as tags what was decided and why. The alias
`challenger` is the newest version that passed its own thresholds, `champion` the one that is served. MLflow moves an
alias without a history, and the last writer wins. So a promotion here reads the champion, decides, reads the champion
again, writes the decision to the journal and only then moves the alias; what remains open is the moment between the
second reading and the move. The journal is a set of tags of the registered model, one per event, never rewritten, with
keys that sort by time.
"""

import hashlib
import json
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from darkroom import tracking
from darkroom.config import StepConfig
from darkroom.data.splits import Split, read_split
from darkroom.errors import DarkroomError, DataError, RegistryError
from darkroom.gate import Decision, GateConfig, Predictions, check, decide_cnn, decide_gan

Kind = Literal["cnn", "gan"]
Outcome = Literal["promoted", "challenger", "rejected"]

CHAMPION = "champion"
CHALLENGER = "challenger"
NETWORK_FILES: dict[Kind, str] = {"cnn": "model.keras", "gan": "generator.keras"}
SERVING_CODE = Path(__file__).with_name("serving.py")
EVALUATION_FILES = ("metrics.json", "evaluation.json", "predictions.npz")
JOURNAL_PREFIX = "darkroom.journal."
PROMOTION_ATTEMPTS = 3
IMAGES_PER_CALL = 1000

_Undo = Callable[[], object]


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
    candidate = _read_candidate(kind, model, evaluation, splits, provenance)
    registry = _Registry(run.settings, f"{candidate.test.info.name}-{kind}{config.name_suffix}")
    with _all_or_nothing(f"{registry.name} at {run.settings.tracking_uri}: not registered") as undo:
        registry.connect()
        version = registry.find(candidate.identity)
        created = version is None
        if version is None:
            version = _create_version(registry, candidate, run, undo)
        outcome, reasons = _decide_and_promote(registry, candidate, version, gate, undo)
        _record(registry, version, outcome, reasons, undo)
        aliases = registry.aliases(version)
    return Registration(kind, registry.name, version, aliases, outcome, reasons, created)


def rollback(name: str, settings: tracking.TrackingSettings, reason: str) -> int:
    """Make the champion before the present one champion again, and write that to the journal. Returns its version.

    Called again, it goes one champion further back.

    Raises:
        RegistryError: there is no such model or no earlier champion, or MLflow failed.
    """
    registry = _Registry(settings, name)
    with _all_or_nothing(f"{name} at {settings.tracking_uri}: not rolled back") as undo:
        registry.connect()
        state = registry.read()
        if state.champion is None:
            raise RegistryError(f"{name}: has no champion to roll back from")
        earlier = [version for version in state.champions if version != state.champion]
        if not earlier:
            raise RegistryError(f"{name}: version {state.champion} is the first champion; there is none to go back to")
        _move_champion(registry, "rolled_back", earlier[-1], state.champion, [reason], undo)
    return earlier[-1]


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model as it stands: version numbers by alias, and its journal from old to new."""

    name: str
    aliases: dict[str, int]
    journal: list[dict[str, Any]]


def list_models(settings: tracking.TrackingSettings) -> list[RegisteredModel]:
    """All registered models, by name.

    Raises:
        RegistryError: MLflow failed.
    """
    with _all_or_nothing(f"models at {settings.tracking_uri}: not listed"):
        names = sorted(model.name for model in tracking.connect(settings.tracking_uri).search_registered_models())
        models = []
        for name in names:
            registry = _Registry(settings, name)
            registry.connect()
            state = registry.read()
            models.append(RegisteredModel(name, state.aliases, state.journal))
        return models


@dataclass(frozen=True)
class _Candidate:
    """A model that asks to be registered, with what its decision rests on."""

    kind: Kind
    network: Path
    evaluation: Path
    metrics: dict[str, float]
    rests_on: dict[str, Any]
    test: Split
    splits: Path
    identity: dict[str, str]
    tags: dict[str, str]


@dataclass(frozen=True)
class _State:
    """A registered model as it stands: version numbers by alias, and its journal from old to new."""

    aliases: dict[str, int]
    journal: list[dict[str, Any]]

    @property
    def champion(self) -> int | None:
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
        return any(entry["event"] == "promoted" and entry["version"] == version for entry in self.journal)


class _Registry:
    """The calls to MLflow's registry for one registered model."""

    def __init__(self, settings: tracking.TrackingSettings, name: str) -> None:
        self.name = name
        self.settings = settings

    def connect(self) -> None:
        self.client = tracking.connect(self.settings.tracking_uri)

    def exists(self) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            self.client.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        return True

    def read(self) -> _State:
        """The model's aliases and journal, without what was withdrawn."""
        found = self.client.get_registered_model(self.name)
        entries = {key: json.loads(text) for key, text in sorted(found.tags.items()) if key.startswith(JOURNAL_PREFIX)}
        withdrawn = {entry["withdraws"] for entry in entries.values() if entry["event"] == "withdrawn"}
        journal = [entry for key, entry in entries.items() if entry["event"] != "withdrawn" and key not in withdrawn]
        return _State({alias: int(version) for alias, version in found.aliases.items()}, journal)

    def find(self, identity: Mapping[str, str]) -> int | None:
        """The newest version with these tags, if there is one."""
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in identity.items())
        found = self.client.search_model_versions(f"name = '{self.name}' and {wanted}")
        return max((int(item.version) for item in found), default=None)

    def tags(self, version: int) -> dict[str, str]:
        return dict(self.client.get_model_version(self.name, str(version)).tags)

    def set_tags(self, version: int, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self.client.set_model_version_tag(self.name, str(version), key, value)

    def aliases(self, version: int) -> list[str]:
        return sorted(alias for alias, number in self.read().aliases.items() if number == version)

    def set_alias(self, alias: str, version: int | None) -> None:
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


def _read_candidate(
    kind: Kind, model: Path, evaluation: Path, splits: Path, provenance: Mapping[str, str]
) -> _Candidate:
    network = model / NETWORK_FILES[kind]
    if not network.is_file():
        raise DataError(f"{network}: no such file; it is written by the step train_{kind}")
    rests_on = _read_json(evaluation / "evaluation.json")
    if "test_sha256" not in rests_on:
        raise DataError(f"{evaluation / 'evaluation.json'}: lacks test_sha256, the hash of the test split")
    if rests_on.get("model_sha256") != _sha256(network):
        raise DataError(f"{evaluation / 'evaluation.json'}: its model_sha256 is not that of {network}")
    tags = {f"darkroom.{key.removeprefix('darkroom.')}": value for key, value in provenance.items()}
    identity = {
        "darkroom.model_sha256": _sha256(network),
        "darkroom.test_sha256": str(rests_on["test_sha256"]),
        "darkroom.data_md5": tags.get("darkroom.data_md5", "unknown"),
    }
    test = read_split(splits, "test")
    if kind == "cnn" and not np.array_equal(Predictions.read(evaluation / "predictions.npz").labels, test.labels):
        raise DataError(f"{evaluation / 'predictions.npz'}: its labels are not those of the test split in {splits}")
    return _Candidate(
        kind=kind,
        network=network,
        evaluation=evaluation,
        metrics=_read_json(evaluation / "metrics.json"),
        rests_on=rests_on,
        test=test,
        splits=splits,
        identity=identity,
        tags=tags | identity,
    )


def _create_version(registry: _Registry, candidate: _Candidate, run: tracking.StepRun, undo: list[_Undo]) -> int:
    """Upload the model and its evaluation, and only then create the version."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    client = registry.client
    if not registry.exists():
        client.create_registered_model(registry.name)
        undo.append(lambda: client.delete_registered_model(registry.name))
    logged = client.create_logged_model(
        _experiment_id(client, run),
        name=registry.name,
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
        registry.name,
        # Not models:/<id>: MLflow would look that up in the process's default store, which may be another one.
        logged.artifact_location,
        run_id=run.run_id,
        tags=candidate.tags,
        model_id=logged.model_id,
    )
    undo.append(lambda: client.delete_model_version(registry.name, created.version))
    if run.run_id is not None:
        client.log_outputs(run.run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return int(created.version)


def save_pyfunc(kind: Kind, network: Path, test: Split, folder: Path, *, model_id: str | None = None) -> None:
    """Write an MLflow pyfunc model of `network` to the new `folder`, without loading the network.

    `test` supplies the shape of an image, the classes and, for a classifier, two images as input example.
    """
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    images = _image_schema(test)
    if kind == "cnn":
        answer = [
            ColSpec(DataType.long, "label"),
            ColSpec(DataType.string, "class_name"),
            ColSpec(Array(DataType.double), "probabilities"),
        ]
        signature = ModelSignature(inputs=images, outputs=Schema(answer))
        example: Any = np.array(test.images[:2])
    else:
        request = [ColSpec(DataType.long, "label"), ColSpec(DataType.long, "seed", required=False)]
        signature = ModelSignature(inputs=Schema(request), outputs=images)
        example = pd.DataFrame({"label": [0, 1], "seed": [0, 0]})
    pyfunc.save_model(
        path=str(folder),
        mlflow_model=Model(model_id=model_id),
        python_model=str(SERVING_CODE),
        artifacts={"network": str(network)},
        model_config={"kind": kind, "sha256": _sha256(network), "classes": test.info.classes},
        signature=signature,
        input_example=example,
        pip_requirements=serving_requirements(),
    )


def serving_requirements() -> list[str]:
    """What an environment that serves a model installs, pinned.

    Keras and TensorFlow need not be installed where a model is registered, so their pins come from the metadata of the
    package `darkroom`, extra `train`.
    """
    from packaging.requirements import Requirement

    pinned = []
    for line in metadata.requires("darkroom") or []:
        requirement = Requirement(line)
        wanted = requirement.marker is not None and requirement.marker.evaluate({"extra": "train"})
        if wanted and requirement.name in ("keras", "tensorflow", "tensorflow-cpu"):
            pinned.append(f"{requirement.name}{requirement.specifier}")
    return [*(f"{name}=={metadata.version(name)}" for name in ("mlflow", "numpy", "pandas")), *sorted(pinned)]


def _decide_and_promote(
    registry: _Registry, candidate: _Candidate, version: int, gate: GateConfig, undo: list[_Undo]
) -> tuple[Outcome, list[str]]:
    for _ in range(PROMOTION_ATTEMPTS):
        state = registry.read()
        outcome, reasons = _decide(registry, state, candidate, version, gate)
        if outcome != "promoted" or state.champion == version:
            return outcome, reasons
        if registry.read().champion == state.champion:
            _move_champion(registry, "promoted", version, state.champion, reasons, undo)
            return outcome, reasons
    raise RegistryError(
        f"{registry.name}: the champion changed {PROMOTION_ATTEMPTS} times while version {version} was compared with it"
    )


def _decide(
    registry: _Registry, state: _State, candidate: _Candidate, version: int, gate: GateConfig
) -> tuple[Outcome, list[str]]:
    if state.champion == version:
        passed, reasons = check(candidate.kind, candidate.metrics, gate)
        if passed:
            return "promoted", [*reasons, f"version {version} is the champion already"]
        return "rejected", [*reasons, f"version {version} stays champion until another one replaces it"]
    decision = _compare(registry, state.champion, candidate, gate)
    if decision.promote and state.was_champion(version):
        again = f"version {version} was champion before and was replaced; registering it again does not bring it back"
        return "challenger", [*decision.reasons, again]
    if decision.promote:
        return "promoted", decision.reasons
    return ("challenger" if decision.passed else "rejected"), decision.reasons


def _compare(registry: _Registry, champion: int | None, candidate: _Candidate, gate: GateConfig) -> Decision:
    """Ask the gate, with the champion's figures for the candidate's own test images."""
    with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
        try:
            if candidate.kind == "cnn":
                predictions = Predictions.read(candidate.evaluation / "predictions.npz")
                opponent = None if champion is None else _champion_predictions(registry, champion, candidate, scratch)
                return decide_cnn(candidate.metrics, predictions, opponent, gate)
            figures = None if champion is None else _champion_metrics(registry, champion, candidate, scratch)
            return decide_gan(candidate.metrics, figures, gate)
        except _NotComparableError as error:
            passed, reasons = check(candidate.kind, candidate.metrics, gate)
            return Decision(passed, False, [*reasons, f"not compared with champion version {champion}: {error}"])


class _NotComparableError(Exception):
    """The champion cannot be measured on the candidate's test images; the message says why."""


def _champion_predictions(registry: _Registry, champion: int, candidate: _Candidate, scratch: str) -> Predictions:
    """The champion's stored predictions for these test images, or new ones when it was evaluated on others."""
    tags = registry.tags(champion)
    if tags.get("darkroom.test_sha256") == candidate.identity["darkroom.test_sha256"]:
        return Predictions.read(registry.download(champion, "evaluation/predictions.npz", Path(scratch)))
    _require_keras()
    from mlflow import pyfunc

    model = pyfunc.load_model(str(registry.download(champion, "", Path(scratch))))
    if model.metadata.signature.inputs != _image_schema(candidate.test):
        raise _NotComparableError(f"it takes images of another shape than {candidate.test.image_shape}")
    if model.model_config["classes"] != candidate.test.info.classes:
        raise _NotComparableError("it knows other classes")
    images = candidate.test.images
    answers = [
        model.predict(np.array(images[start : start + IMAGES_PER_CALL]))["probabilities"]
        for start in range(0, len(images), IMAGES_PER_CALL)
    ]
    probabilities = np.array([row for answer in answers for row in answer], dtype=np.float32)
    return Predictions(probabilities, candidate.test.labels)


def _champion_metrics(registry: _Registry, champion: int, candidate: _Candidate, scratch: str) -> dict[str, float]:
    """The champion's stored metrics if they rest on the same data and judge, or new ones."""
    stored = registry.download(champion, "evaluation", Path(scratch))
    same_data = registry.tags(champion).get("darkroom.data_md5") == candidate.identity["darkroom.data_md5"]
    if same_data and _judge(_read_json(stored / "evaluation.json")) == _judge(candidate.rests_on):
        return _read_json(stored / "metrics.json")
    _require_keras()
    from darkroom.gan.config import EvaluateGanConfig
    from darkroom.gan.evaluate import evaluate

    network = registry.download(champion, f"artifacts/{NETWORK_FILES['gan']}", Path(scratch) / "network")
    if _sha256(network) != registry.tags(champion).get("darkroom.model_sha256"):
        raise RegistryError(f"{registry.name}: the file of version {champion} is not the one that was registered")
    fields = {key: value for key, value in candidate.rests_on.items() if key in EvaluateGanConfig.model_fields}
    try:
        return evaluate(network.parent, candidate.splits, Path(scratch) / "again", EvaluateGanConfig.parse(fields))
    except DataError as error:
        raise _NotComparableError(str(error)) from None


def _require_keras() -> None:
    if find_spec("keras") is None:
        raise _NotComparableError(
            "it was evaluated on other test images, and keras is not installed to repeat that here"
        )


def _judge(rests_on: Mapping[str, Any]) -> dict[str, Any]:
    """What a generator's metrics rest on but for the generator: not its file, its noise or the size of its pictures."""
    return {key: rests_on[key] for key in rests_on if key not in ("model_sha256", "seed", "samples_per_class")}


def _move_champion(
    registry: _Registry, event: str, version: int, before: int | None, reasons: list[str], undo: list[_Undo]
) -> None:
    """Write the journal, then move the alias; both are taken back when a later part of the transaction fails."""
    key = registry.write_journal(event, version=version, champion_before=before, reasons=reasons)
    undo.append(lambda: registry.write_journal("withdrawn", withdraws=key))
    registry.set_alias(CHAMPION, version)
    undo.append(lambda: registry.set_alias(CHAMPION, before))


def _record(registry: _Registry, version: int, outcome: Outcome, reasons: list[str], undo: list[_Undo]) -> None:
    """Store the outcome with the version, keep `challenger` on the newest version that passed, and journal changes."""
    previous = registry.tags(version).get("darkroom.decision")
    state = registry.read()
    challenger = state.aliases.get(CHALLENGER)
    if outcome == "rejected":
        if challenger == version:
            registry.set_alias(CHALLENGER, None)
    elif challenger is None or challenger < version:
        registry.set_alias(CHALLENGER, version)
        undo.append(lambda: registry.set_alias(CHALLENGER, challenger))
    registry.set_tags(version, {"darkroom.decision": outcome, "darkroom.reasons": "\n".join(reasons)})
    if outcome not in ("promoted", previous):
        registry.write_journal(outcome, version=version, champion_before=state.champion, reasons=reasons)


@contextmanager
def _all_or_nothing(what: str) -> Iterator[list[_Undo]]:
    """Collects what takes the body's work back, and does so, last first, when the body fails.

    Raises:
        RegistryError: for every failure but Darkroom's own errors and interrupts, which are passed on.
    """
    undo: list[_Undo] = []
    try:
        yield undo
    except BaseException as error:
        left = _take_back(undo)
        if isinstance(error, DarkroomError) or not isinstance(error, Exception):
            raise
        raise RegistryError(f"{what}: {_in_words(error)}{left}") from error


def _take_back(undo: list[_Undo]) -> str:
    """Run the actions, last first. What is left when one fails, in words: a dead server is not asked again."""
    for action in reversed(undo):
        try:
            action()
        except Exception as error:
            return f" (cleaning up failed as well: {_in_words(error)}; registering again completes what is left)"
    return ""


def _in_words(error: BaseException) -> str:
    """One line for a failure of MLflow, of its connection or of its artifact store."""
    from urllib3.exceptions import ProtocolError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionError | ProtocolError | TimeoutError | socket.gaierror):
            return "the server does not answer"
        cause = cause.__cause__ or cause.__context__
    first_line = str(error).strip().partition("\n")[0]
    return first_line or type(error).__name__


def _experiment_id(client: Any, run: tracking.StepRun) -> str:
    if run.run_id is not None:
        return str(client.get_run(run.run_id).info.experiment_id)
    return tracking.experiment_id(client, run.settings.experiment, run.settings.artifact_root)


def _image_schema(test: Split) -> Any:
    from mlflow.types import Schema, TensorSpec

    return Schema([TensorSpec(np.dtype(np.uint8), (-1, *test.image_shape))])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable: {error}") from None
    if not isinstance(values, dict):
        raise DataError(f"{path}: must be an object, got {type(values).__name__}")
    return values


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
