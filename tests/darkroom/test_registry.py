import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from darkroom.errors import ConfigError, DataError, RegistryError
from darkroom.gate import Decision, GateConfig
from darkroom.registry import Kind, RegisterConfig, Store, comparison, rollback
from darkroom.tracking import TrackingSettings, TrackingWarning

from .race import check_round, of_round, race
from .shop import Shop

STRICT = GateConfig(cnn_min_accuracy=0.999, gan_min_class_agreement=0.999)


@pytest.fixture
def shop(
    embedded_store: TrackingSettings,
    tiny_splits: Path,
    tiny_networks: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Shop:
    suffix = "-" + re.sub("[^a-z0-9]+", "-", request.node.name)
    return Shop(embedded_store, tiny_splits, tiny_networks, tmp_path, suffix)


@pytest.mark.parametrize("kind", ["cnn", "gan"])
def test_the_first_good_model_becomes_champion(shop: Shop, kind: Kind) -> None:
    result = shop.register(shop.make(kind), kind)
    assert (result.version, result.decision, result.created) == (1, "promoted", True)
    assert result.aliases == ["challenger", "champion"]
    assert result.as_dict()["name"] == shop.name(kind)
    assert shop.journal(kind) == [("promoted", 1)]

    version = shop.client.get_model_version(shop.name(kind), "1")
    assert version.run_id
    assert version.tags["darkroom.git_commit"] == "c0ffee"
    assert version.tags["darkroom.data_md5"] == "1" * 32
    assert version.tags["darkroom.seed"] == "1"
    assert version.tags["darkroom.decision"] == "promoted"
    assert version.tags["darkroom.reasons"].splitlines() == result.reasons


def test_the_version_holds_signature_input_example_and_evaluation(shop: Shop, tmp_path: Path) -> None:
    from mlflow.models import Model

    shop.register(shop.make())
    stored = Store(shop.settings, shop.name())
    stored.connect()
    source = stored.download(1, "", tmp_path / "copy")
    model = Model.load(str(source))
    assert str(model.signature.inputs) == "[Tensor('uint8', (-1, 28, 28, 1))]"
    assert [column.name for column in model.signature.outputs] == ["label", "class_name", "probabilities"]
    assert model.load_input_example(str(source)).shape == (2, 28, 28, 1)
    assert (source / "evaluation" / "predictions.npz").is_file()


def test_the_same_model_is_registered_once(shop: Shop) -> None:
    folder = shop.make()
    shop.register(folder)
    again = shop.register(folder)
    assert (again.version, again.decision, again.created) == (1, "promoted", False)
    assert again.aliases == ["challenger", "champion"]
    assert len(shop.client.search_model_versions(f"name = '{shop.name()}'")) == 1
    assert shop.journal() == [("promoted", 1)]


@pytest.mark.parametrize("tick", [{"scheduled_at": "2026-03-01T02:00:00Z"}, {"kfp_run_id": "7d1c"}])
def test_other_bits_of_the_same_work_on_the_same_tick_are_registered_once(shop: Shop, tick: dict[str, str]) -> None:
    first = shop.register(shop.make(origin="o", accuracy=0.95), **tick)
    # The figures that count are those of the model that is registered, not those of the one that is thrown away.
    again = shop.register(shop.make(origin="o", accuracy=0.10), **tick)
    assert (again.version, again.decision, again.created) == (1, "promoted", False)
    assert first.reasons[0] == again.reasons[0]
    assert len(shop.client.search_model_versions(f"name = '{shop.name()}'")) == 1
    assert shop.journal() == [("promoted", 1)]


def test_other_work_or_another_tick_is_another_version(shop: Shop) -> None:
    first, second = {"scheduled_at": "2026-03-01T02:00:00Z"}, {"scheduled_at": "2026-03-02T02:00:00Z"}
    assert shop.register(shop.make(origin="o"), **first).version == 1
    assert shop.register(shop.make(origin="other parameters"), **first).version == 2
    assert shop.register(shop.make(origin="o"), **second).version == 3
    # Without a schedule and a pipeline run, on a laptop, the model's hash alone decides.
    assert shop.register(shop.make(origin="o")).version == 4


def test_two_processes_that_register_the_same_work_at_once_make_one_version(shop: Shop, mlflow_server: str) -> None:
    shop.settings = TrackingSettings(mlflow_server, experiment=shop.suffix)
    for number, results in enumerate(race(shop, processes=2, rounds=3, environment=os.environ)):
        check_round(of_round(shop, number), results)


def test_a_version_whose_maker_died_before_deciding_is_decided_by_the_next(shop: Shop) -> None:
    folder = shop.make(origin="o")
    shop.register(folder, scheduled_at="2026-03-01T02:00:00Z")
    client = shop.client
    client.delete_registered_model_alias(shop.name(), "champion")
    client.delete_registered_model_alias(shop.name(), "challenger")
    client.delete_model_version_tag(shop.name(), "1", "darkroom.decision")
    for key in client.get_registered_model(shop.name()).tags:
        client.delete_registered_model_tag(shop.name(), key)
    result = shop.register(shop.make(origin="o", accuracy=0.1), scheduled_at="2026-03-01T02:00:00Z")
    assert (result.version, result.decision, result.created) == (1, "promoted", False)
    assert shop.journal() == [("promoted", 1)]


def test_a_promotion_that_died_between_journal_and_alias_is_finished_by_the_next(shop: Shop) -> None:
    shop.register(shop.make(accuracy=0.90))
    better = shop.make(accuracy=0.95)
    shop.register(better)
    shop.client.set_registered_model_alias(shop.name(), "champion", "1")
    shop.client.delete_model_version_tag(shop.name(), "2", "darkroom.decision")
    assert shop.register(better).decision == "promoted"
    assert shop.aliases() == {"challenger": 2, "champion": 2}
    assert rollback(shop.name(), shop.settings, "complaints") == 1


def test_a_champion_that_a_person_replaced_does_not_come_back_by_itself(shop: Shop) -> None:
    shop.register(shop.make(accuracy=0.90))
    better = shop.make(accuracy=0.95)
    shop.register(better)
    shop.client.set_registered_model_alias(shop.name(), "champion", "1")
    result = shop.register(better)
    assert (result.decision, result.aliases) == ("challenger", ["challenger"])
    assert "version 2 was champion before and was replaced" in result.reasons[-1]


@pytest.mark.parametrize("kind", ["cnn", "gan"])
def test_a_closed_gate_registers_the_model_without_an_alias(shop: Shop, kind: Kind) -> None:
    folder = shop.make(kind)
    result = shop.register(folder, kind, STRICT)
    assert (result.version, result.decision, result.aliases) == (1, "rejected", [])
    assert any("is not at least 0.999" in reason for reason in result.reasons)
    assert shop.aliases(kind) == {}
    assert shop.journal(kind) == [("rejected", 1)]


def test_a_closed_gate_leaves_the_champion_where_it_is(shop: Shop) -> None:
    shop.register(shop.make())
    assert shop.register(shop.make(accuracy=0.5)).decision == "rejected"
    assert shop.aliases() == {"challenger": 1, "champion": 1}


def test_a_model_that_was_rejected_is_decided_again_when_the_gate_opens(shop: Shop) -> None:
    folder = shop.make()
    shop.register(folder, gate=STRICT)
    result = shop.register(folder)
    assert (result.version, result.decision, result.created) == (1, "promoted", False)
    assert shop.journal() == [("rejected", 1), ("promoted", 1)]


def test_a_champion_that_a_stricter_gate_rejects_stays_and_is_told_so(shop: Shop) -> None:
    folder = shop.make()
    shop.register(folder)
    result = shop.register(folder, gate=STRICT)
    assert (result.decision, result.aliases) == ("rejected", ["champion"])
    assert "stays champion" in result.reasons[-1]


def test_a_better_model_replaces_the_champion(shop: Shop) -> None:
    shop.register(shop.make(accuracy=0.90))
    assert shop.register(shop.make(accuracy=0.97)).decision == "promoted"
    assert shop.aliases() == {"challenger": 2, "champion": 2}


def test_a_model_that_passes_but_is_worse_challenges_only(shop: Shop) -> None:
    shop.register(shop.make(accuracy=0.97))
    result = shop.register(shop.make(accuracy=0.90))
    assert (result.decision, result.aliases) == ("challenger", ["challenger"])
    assert any("McNemar" in reason for reason in result.reasons)
    assert shop.aliases() == {"challenger": 2, "champion": 1}
    assert shop.journal() == [("promoted", 1), ("challenger", 2)]


def test_a_champion_of_other_test_images_is_evaluated_on_the_present_ones(shop: Shop) -> None:
    shop.register(shop.make(accuracy=1.0, test_sha256="0" * 64))
    result = shop.register(shop.make(accuracy=0.95))
    # The champion claimed to be perfect elsewhere; its untrained network guesses here.
    assert result.decision == "promoted"
    difference = next(reason for reason in result.reasons if reason.startswith("accuracy minus the champion's"))
    assert float(difference.split(": ")[1].split(",")[0]) > 0.5


def test_without_keras_a_champion_of_other_test_images_is_not_replaced(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "find_spec", lambda name: None)
    shop.register(shop.make(test_sha256="0" * 64))
    result = shop.register(shop.make())
    assert result.decision == "challenger"
    assert "keras is not installed" in result.reasons[-1]


def test_generators_are_compared_under_the_same_judge(shop: Shop) -> None:
    judge = {"samples": 100, "reference_seed": 0, "reference_epochs": 1}
    shop.register(shop.make("gan", accuracy=0.95, **judge, seed=1), "gan")
    assert shop.register(shop.make("gan", accuracy=0.80, **judge, seed=2), "gan").decision == "challenger"

    # Under another judge the champion's stored figures count for nothing. Its untrained generator is measured again.
    another = shop.make("gan", accuracy=0.80, distance=0.001, **judge | {"samples": 200}, seed=2)
    assert shop.register(another, "gan").decision == "promoted"


def test_rollback_goes_back_one_champion_at_a_time(shop: Shop) -> None:
    folders = [shop.make(accuracy=accuracy) for accuracy in (0.86, 0.92, 0.98)]
    for folder in folders:
        assert shop.register(folder).decision == "promoted"
    assert rollback(shop.name(), shop.settings, "slow in production") == 2
    assert shop.aliases()["champion"] == 2
    assert rollback(shop.name(), shop.settings, "that one too") == 1
    assert shop.journal()[-2:] == [("rolled_back", 2), ("rolled_back", 1)]
    with pytest.raises(RegistryError, match="version 1 is the first champion"):
        rollback(shop.name(), shop.settings, "again")

    # A scheduled run that finds nothing changed must not undo what a person decided.
    result = shop.register(folders[2])
    assert (result.decision, result.created) == ("challenger", False)
    assert "was champion before" in result.reasons[-1]
    assert shop.aliases()["champion"] == 1


def test_rollback_of_an_unknown_model_says_so(shop: Shop) -> None:
    with pytest.raises(RegistryError, match="not rolled back"):
        rollback(shop.name(), shop.settings, "no reason")


def test_a_champion_that_changes_during_the_decision_is_decided_about_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for accuracy in (0.86, 0.87):
        shop.register(shop.make(accuracy=accuracy))
    decide, asked = comparison.decide_cnn, []

    def decide_while_another_promotes(*arguments: Any) -> Decision:
        asked.append(1)
        if len(asked) == 1:
            shop.client.set_registered_model_alias(shop.name(), "champion", "1")
        return decide(*arguments)

    monkeypatch.setattr(comparison, "decide_cnn", decide_while_another_promotes)
    assert shop.register(shop.make(accuracy=0.97)).decision == "promoted"
    assert len(asked) == 2
    last = max(shop.client.get_registered_model(shop.name()).tags.items())
    assert json.loads(last[1])["champion_before"] == 1


def test_a_dead_server_is_one_clear_error_within_seconds(gateway: Any, shop: Shop) -> None:
    gateway.mode = "refuse"
    shop.settings = TrackingSettings(gateway.address, patience=1)
    start = time.monotonic()
    with pytest.warns(TrackingWarning), pytest.raises(RegistryError) as caught:
        shop.register(shop.make())
    assert time.monotonic() - start < 30
    assert str(caught.value) == f"{shop.name()} at {gateway.address}: not registered: the server does not answer"


@pytest.mark.parametrize(
    "request_path", [b"mlflow-artifacts/artifacts", b"model-versions/create", b"registered-models/alias"]
)
def test_a_failure_half_way_leaves_nothing_behind(
    gateway: Any, mlflow_server: str, shop: Shop, request_path: bytes
) -> None:
    shop.settings = TrackingSettings(mlflow_server, experiment=shop.suffix)
    shop.register(shop.make(accuracy=0.90))
    before = shop.journal()
    better = shop.make(accuracy=0.98)

    shop.settings = TrackingSettings(gateway.address, experiment=shop.suffix)
    gateway.refuse_containing = request_path
    with pytest.raises(RegistryError, match="not registered"):
        shop.register(better)

    shop.settings = TrackingSettings(mlflow_server, experiment=shop.suffix)
    versions = shop.client.search_model_versions(f"name = '{shop.name()}'")
    assert [version.version for version in versions] == ["1"]
    experiment = shop.client.get_experiment_by_name(shop.suffix)
    assert len(shop.client.search_logged_models([experiment.experiment_id])) == 1
    assert shop.aliases() == {"challenger": 1, "champion": 1}
    withdrawn = [("promoted", 2), ("withdrawn", None)] if b"alias" in request_path else []
    assert shop.journal() == before + withdrawn

    # And the next attempt works.
    assert shop.register(better).decision == "promoted"
    assert shop.aliases()["champion"] == shop.aliases()["challenger"]


def test_a_first_registration_that_fails_leaves_no_model(gateway: Any, mlflow_server: str, shop: Shop) -> None:
    shop.settings = TrackingSettings(gateway.address, experiment=shop.suffix)
    gateway.refuse_containing = b"model-versions/create"
    with pytest.raises(RegistryError):
        shop.register(shop.make())
    shop.settings = TrackingSettings(mlflow_server)
    assert not shop.client.search_registered_models(f"name = '{shop.name()}'")


def test_evaluation_of_another_model_is_refused(shop: Shop) -> None:
    folder, other = shop.make(), shop.make()
    shutil.copy(other / "model.keras", folder)
    with pytest.raises(DataError, match="its model_sha256 is not that of"):
        shop.register(folder)


@pytest.mark.parametrize("file", ["model.keras", "origin.json", "metrics.json", "evaluation.json", "predictions.npz"])
def test_a_missing_file_is_named_and_nothing_is_registered(shop: Shop, file: str) -> None:
    folder = shop.make()
    (folder / file).unlink()
    with pytest.raises(DataError, match=file):
        shop.register(folder)
    assert not shop.client.search_registered_models(f"name = '{shop.name()}'")


def test_a_suffix_that_is_no_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="name_suffix"):
        RegisterConfig.parse({"name_suffix": "/latest"})


def test_registering_does_not_import_tensorflow_and_the_champion_answers_elsewhere(
    shop: Shop, fresh_python: Callable[..., str]
) -> None:
    folder = shop.make()
    code = f"""
import sys
from pathlib import Path
from darkroom import tracking
from darkroom.gate import GateConfig
from darkroom.registry import RegisterConfig, register
settings = tracking.TrackingSettings({shop.settings.tracking_uri!r}, patience=60)
folder = Path({str(folder)!r})
with tracking.step_run("register", settings, parameters={{}}, tags={{}}) as run:
    config = RegisterConfig(name_suffix={shop.suffix!r})
    register("cnn", folder, folder, Path({str(shop.splits)!r}), GateConfig(), config, run=run, provenance={{}})
print([name for name in ("tensorflow", "keras") if name in sys.modules])
"""
    assert fresh_python(code) == "[]"
    code = f"""
import mlflow, numpy
model = mlflow.pyfunc.load_model("models:/{shop.name()}@champion")
print(model.predict(numpy.zeros((3, 28, 28, 1), numpy.uint8)).shape)
"""
    assert fresh_python(code, MLFLOW_TRACKING_URI=shop.settings.tracking_uri) == "(3, 3)"
