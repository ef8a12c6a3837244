from decimal import Decimal
from pathlib import Path
from typing import get_args

import pytest

from darkroom.errors import ConfigError
from pipelines.placement import IMAGES
from pipelines.resources import PROFILES, Step, bundled_profiles, load_profile, parse_quantity


def profile_file(folder: Path, text: str) -> str:
    file = folder / "own.yaml"
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500m", "0.5"),
        ("2", "2"),
        ("1.5", "1.5"),
        ("4Gi", "4294967296"),
        ("4G", "4000000000"),
        ("1k", "1000"),
        ("250u", "0.00025"),
        ("7Ei", str(7 * 1024**6)),
    ],
)
def test_quantities_are_read_as_kubernetes_does(text: str, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "4GB", "4K", "-1", "Gi", "1 Gi", "0x10", "1.Gi", "nan", "4gi"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a Kubernetes quantity") as error:
        parse_quantity(text)
    assert repr(text) in str(error.value)


def test_the_bundled_profiles_open_with_their_command_and_purpose() -> None:
    assert bundled_profiles() == ["a100", "cpu", "h100", "mig", "t4"]
    for name in bundled_profiles():
        command, empty, purpose = (PROFILES / f"{name}.yaml").read_text().splitlines()[:3]
        assert command.startswith(f"# darkroom compile --profile {name} --images ")
        assert empty == "#"
        assert purpose.startswith("# ")


def test_every_step_has_an_image() -> None:
    assert set(get_args(Step)) == set(IMAGES)


@pytest.mark.parametrize("name", ["a100", "cpu", "h100", "mig", "t4"])
def test_requests_are_within_limits_and_limits_within_the_stated_node(name: str) -> None:
    profile = load_profile(name)
    for step in get_args(Step):
        pod = profile.pod(step)
        assert parse_quantity(pod.cpu.request) <= parse_quantity(pod.cpu.limit) <= parse_quantity(pod.node["cpu"])
        request, limit = parse_quantity(pod.memory.request), parse_quantity(pod.memory.limit)
        assert request <= limit <= parse_quantity(pod.node["memory"])
        assert parse_quantity(pod.shared_memory or "0") < request
        if pod.accelerator:
            assert parse_quantity(pod.node[pod.accelerator.resource]) >= pod.accelerator.count
            assert pod.tolerations
            assert pod.node_affinity


def test_a_step_replaces_defaults_field_by_field(tmp_path: Path) -> None:
    profile = load_profile(
        profile_file(
            tmp_path,
            "defaults: {timeout_seconds: 600, labels: {team: vision}}\nsteps: {train_cnn: {labels: {queue: gpu}}}",
        )
    )
    assert profile.pod("train_cnn").labels == {"queue": "gpu"}
    assert profile.pod("train_cnn").timeout_seconds == 600
    assert profile.pod("preprocess").labels == {"team": "vision"}


def test_a_profile_extends_a_bundled_one(tmp_path: Path) -> None:
    own = load_profile(
        profile_file(
            tmp_path,
            "extends: t4\n"
            "defaults: {environment: {MLFLOW_TRACKING_URI: https://mlflow.example.org}}\n"
            "steps: {train_gan: {memory: {request: 6Gi, limit: 10Gi}}, preprocess: {cpu: {request: 3, limit: 4}}}",
        )
    )
    t4 = load_profile("t4")
    assert own.pod("train_gan").memory.request == "6Gi"
    assert own.pod("train_gan").accelerator == t4.pod("train_gan").accelerator
    assert own.pod("train_cnn").memory == t4.pod("train_cnn").memory
    assert own.pod("preprocess").cpu.request == "3"
    for step in get_args(Step):
        assert own.pod(step).environment == {"MLFLOW_TRACKING_URI": "https://mlflow.example.org"}
        assert own.pod(step).secrets == t4.pod(step).secrets


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defaults: {cpu: {request: 1, limit: 2 cores}}", "defaults.cpu.limit: must be CPUs such as 500m, 2 or 1.5"),
        ("defaults: {memory: {request: 4GB, limit: 4Gi}}", "defaults.memory.request: must be memory such as 512Mi"),
        ("defaults: {memory: {request: true, limit: 4Gi}}", "such as 512Mi or 4Gi, got True"),
        ("defaults: {user: 0}", "defaults.user: Input should be greater than or equal to 1, got 0"),
        ("defaults: {retries: {count: -1}}", "defaults.retries.count: Input should be greater than or equal to 0"),
        ("defaults: {retries: {factor: 1.5}}", "defaults.retries.factor: Input should be a valid integer"),
        ("steps: {train_cnn: {gpus: 1}}", "steps.train_cnn.gpus: unknown parameter; known here: accelerator,"),
        ("defaults: {tolerations: [{kee: a, key: b}]}", "defaults.tolerations.0.kee: unknown parameter; known here:"),
        ("steps: {train_rnn: {}}", "or 'register_model', got 'train_rnn'"),
        ("steps: {train_cnn: {accelerator: {resource: gpu}}}", "steps.train_cnn.accelerator.resource: String should"),
        ("defaults: {tolerations: [{key: a, value: b}]}", "the operator Exists, which is the default, takes no value"),
        ("defaults: {node_affinity: [{key: a}]}", "defaults.node_affinity.0: Value error, the operator In takes one"),
        ("defaults: {node_affinity: [{key: a, operator: Exists, values: [b]}]}", "the operator Exists takes no values"),
        ("defaults: {node_affinity: [{key: a, operator: Gt, values: [b]}]}", "the operator Gt takes one whole number"),
        ("defaults: {labels: {queue: a b}}", "defaults.labels.queue: String should match pattern"),
        ("extends: h200", "extends: must be one of the bundled profiles a100, cpu, h100, mig, t4, got 'h200'"),
        ("- cpu", "must be a mapping of defaults and steps, got ['cpu']"),
        ("defaults: [", "not readable as YAML"),
    ],
)
def test_a_bad_profile_is_named_with_the_field_the_rule_and_the_value(tmp_path: Path, text: str, message: str) -> None:
    file = profile_file(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_profile(file)
    assert message in str(error.value)
    assert file in str(error.value)


def test_a_variable_that_only_sounds_secret_is_allowed(tmp_path: Path) -> None:
    profile = load_profile(profile_file(tmp_path, "defaults: {environment: {TOKENIZERS_PARALLELISM: 'false'}}"))
    assert profile.pod("train_cnn").environment == {"TOKENIZERS_PARALLELISM": "false"}


def test_an_unknown_profile_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError) as error:
        load_profile("v100")
    assert "--profile v100: must be one of the bundled profiles a100, cpu, h100, mig, t4 or" in str(error.value)


@pytest.mark.parametrize(
    "variable", ["MLFLOW_TRACKING_PASSWORD: pa55", "aws_secret_access_key: pa55", "DATA: 'https://me:pa55@example.org'"]
)
def test_a_secret_in_plain_words_is_refused_and_not_repeated(tmp_path: Path, variable: str) -> None:
    with pytest.raises(ConfigError, match="must hold no secret") as error:
        load_profile(profile_file(tmp_path, f"steps: {{train_cnn: {{environment: {{{variable}}}}}}}"))
    assert f"steps.train_cnn.environment.{variable.partition(':')[0]}" in str(error.value)
    assert "pa55" not in str(error.value)
