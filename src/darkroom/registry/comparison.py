"""The candidate against the champion: both on the same test images, and a generator under the same judge."""

import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.errors import DataError, RegistryError
from darkroom.files import sha256_of
from darkroom.gate import Decision, GateConfig, Predictions, check, decide_cnn, decide_gan
from darkroom.registry.candidate import Candidate, read_json
from darkroom.registry.package import NETWORK_FILES, image_schema
from darkroom.registry.store import Store

IMAGES_PER_CALL = 1000
# The generator itself, its noise, and what concerns pictures, intervals and measures that the gate does not compare.
_NOT_JUDGING = frozenset(
    {
        *("model_sha256", "seed", "samples_per_class", "resamples", "confidence", "modes_per_class"),
        *("memorisation_samples", "classifier_steps", "scarce_images_per_class", "scarce_seeds"),
    }
)


def compare_with_champion(store: Store, champion: int | None, candidate: Candidate, gate: GateConfig) -> Decision:
    """Ask the gate, with the champion's figures for the candidate's own test images."""
    with tempfile.TemporaryDirectory(prefix="darkroom-") as scratch:
        try:
            if candidate.kind == "cnn":
                predictions = Predictions.read(candidate.evaluation / "predictions.npz")
                opponent = None if champion is None else _champion_predictions(store, champion, candidate, scratch)
                return decide_cnn(candidate.metrics, predictions, opponent, gate)
            figures = None if champion is None else _champion_metrics(store, champion, candidate, scratch)
            return decide_gan(candidate.metrics, figures, gate)
        except _NotComparableError as error:
            passed, reasons = check(candidate.kind, candidate.metrics, gate)
            return Decision(passed, False, [*reasons, f"not compared with champion version {champion}: {error}"])


class _NotComparableError(Exception):
    """The champion cannot be measured on the candidate's test images; the message says why."""


def _champion_predictions(store: Store, champion: int, candidate: Candidate, scratch: str) -> Predictions:
    """The champion's stored predictions for these test images, or new ones when it was evaluated on others."""
    tags = store.tags(champion)
    if tags.get("darkroom.test_sha256") == candidate.identity["darkroom.test_sha256"]:
        return Predictions.read(store.download(champion, "evaluation/predictions.npz", Path(scratch)))
    _require_keras()
    from mlflow import pyfunc

    model = pyfunc.load_model(str(store.download(champion, "", Path(scratch))))
    if model.metadata.signature.inputs != image_schema(candidate.test):
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


def _champion_metrics(store: Store, champion: int, candidate: Candidate, scratch: str) -> dict[str, float]:
    """The champion's stored metrics if they rest on the same data and judge, or new ones."""
    stored = store.download(champion, "evaluation", Path(scratch))
    same_data = store.tags(champion).get("darkroom.data_md5") == candidate.identity["darkroom.data_md5"]
    if same_data and _judge(read_json(stored / "evaluation.json")) == _judge(candidate.rests_on):
        return read_json(stored / "metrics.json")
    _require_keras()
    from darkroom.gan.config import EvaluateGanConfig
    from darkroom.gan.evaluate import evaluate

    network = store.download(champion, f"artifacts/{NETWORK_FILES['gan']}", Path(scratch) / "network")
    if sha256_of(network) != store.tags(champion).get("darkroom.model_sha256"):
        raise RegistryError(f"{store.name}: the file of version {champion} is not the one that was registered")
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
    """What the compared metrics of a generator rest on but for the generator: the data, the judge, how many samples."""
    return {key: rests_on[key] for key in rests_on if key not in _NOT_JUDGING}
