"""The server of the tests is itself tested: what it lets through, the real one must too."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import kfp.client
import pytest
import urllib3

from tests.kfp_server.server import KfpServer
from tests.kfp_server.wire import InvalidMessageError, check

PACKAGE = """\
deploymentSpec: {executors: {}}
root:
  dag: {tasks: {}}
  inputDefinitions:
    parameters:
      repository: {parameterType: STRING}
      epochs: {parameterType: NUMBER_INTEGER, defaultValue: 3, isOptional: true}
"""


@pytest.fixture
def server() -> Iterator[KfpServer]:
    with KfpServer().running() as running:
        yield running


def ask(server: KfpServer, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    with urllib3.PoolManager() as pool:
        answer = pool.request(
            method,
            f"{server.address}/apis/v2beta1/{path}",
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/json"},
            retries=False,
        )
        return answer.status, answer.json()


def refusal(server: KfpServer, method: str, path: str, body: Any = None) -> tuple[int, str]:
    """Status and the text for people, in the shape of a google.rpc.Status."""
    status, answer = ask(server, method, path, body)
    (detail,) = answer["details"]
    assert answer["code"] == detail["code"]
    assert answer["message"] == answer["error"]
    return status, detail["message"]


@pytest.fixture
def run(server: KfpServer) -> dict[str, Any]:
    """A good run of a pipeline that is uploaded."""
    _, experiment = ask(server, "POST", "experiments", {"display_name": "x"})
    _, pipeline = ask(server, "POST", "pipelines", {"display_name": "darkroom"})
    version = server.state.upload_version(pipeline["pipeline_id"], "one", PACKAGE.encode())
    return {
        "display_name": "nightly",
        "experiment_id": experiment["experiment_id"],
        "pipeline_version_reference": {
            "pipeline_id": pipeline["pipeline_id"],
            "pipeline_version_id": version["pipeline_version_id"],
        },
        "runtime_config": {"parameters": {"repository": "https://git.example.org/x.git"}},
    }


def test_unknown_fields_are_refused_at_any_depth(server: KfpServer, run: dict[str, Any]) -> None:
    assert refusal(server, "POST", "experiments", {"display_name": "y", "colour": "red"}) == (
        400,
        'proto: unknown field "colour" in V2beta1Experiment',
    )
    run["runtime_config"]["colour"] = "red"
    assert refusal(server, "POST", "runs", run) == (400, 'proto: unknown field "colour" in V2beta1RuntimeConfig')


def test_types_enumerations_and_exclusive_fields_are_checked(server: KfpServer, run: dict[str, Any]) -> None:
    assert "must be str" in refusal(server, "POST", "experiments", {"display_name": 3})[1]
    assert "must be one of" in refusal(server, "POST", "recurringruns", {**run, "mode": "ON"})[1]
    assert (
        "must be dict(str, object)" in refusal(server, "POST", "runs", {**run, "runtime_config": {"parameters": 1}})[1]
    )
    assert "oneof is already set" in refusal(server, "POST", "runs", {**run, "pipeline_spec": {}})[1]
    with pytest.raises(InvalidMessageError, match="must be datetime"):
        check({"created_at": "yesterday"}, "V2beta1Run")


def test_what_a_run_needs_is_demanded(server: KfpServer, run: dict[str, Any]) -> None:
    assert ask(server, "POST", "runs", run)[0] == 200
    for field in ("display_name", "experiment_id", "pipeline_version_reference", "runtime_config"):
        assert ask(server, "POST", "runs", {name: value for name, value in run.items() if name != field})[0] >= 400
    for parameters, message in (
        ({}, "parameter repository is not optional, yet has neither default value nor user provided value"),
        ({"repository": 1}, "input parameter repository requires type string"),
        ({"repository": "x", "epochs": True}, "input parameter epochs requires type number_integer"),
        ({"repository": "x", "epoch": 1}, "parameter(s) provided are not required by pipeline: epoch"),
    ):
        assert refusal(server, "POST", "runs", {**run, "runtime_config": {"parameters": parameters}}) == (400, message)


def test_what_a_recurring_run_needs_is_demanded(server: KfpServer, run: dict[str, Any]) -> None:
    good = {**run, "max_concurrency": "1", "trigger": {"cron_schedule": {"cron": "0 0 2 * * *"}}}
    assert ask(server, "POST", "recurringruns", good)[1]["mode"] == "DISABLE"
    for change, message in (
        ({"max_concurrency": "11"}, "at least 1 and at most 10. Received 11"),
        ({"max_concurrency": "0"}, "Received 0"),
        ({"trigger": {"cron_schedule": {"cron": "2 * *"}}}, "Expected 5 to 6 fields, found 3"),
        ({"trigger": {"cron_schedule": {"cron": "0 0 24 * * *"}}}, "above maximum (23)"),
    ):
        status, text = refusal(server, "POST", "recurringruns", {**good, **change})
        assert (status, message in text) == (400, True)


def test_names_are_unique_where_the_real_server_wants_it(server: KfpServer, run: dict[str, Any]) -> None:
    assert refusal(server, "POST", "experiments", {"display_name": "x"})[0] == 409
    assert refusal(server, "POST", "pipelines", {"name": "darkroom"})[0] == 409
    assert ask(server, "POST", "runs", run)[0] == ask(server, "POST", "runs", run)[0] == 200


def test_what_is_not_there_is_404_and_an_unknown_address_too(server: KfpServer) -> None:
    for path in ("runs/none", "experiments/none", "recurringruns/none", "pipelines/none/versions/none"):
        assert refusal(server, "GET", path)[0] == 404
    for method, path in (("GET", "nothing"), ("PUT", "runs"), ("DELETE", "runs/none")):
        with urllib3.PoolManager() as pool:
            address = f"{server.address}/apis/v2beta1/{path}"
            assert pool.request(method, address, retries=False).status in (404, 501)


def test_parameters_of_an_address_are_checked(server: KfpServer) -> None:
    assert "unknown parameter in the address: colour" in refusal(server, "GET", "experiments?colour=red")[1]


@pytest.mark.parametrize(
    ("predicate", "message"),
    [
        ({"operation": "EQUALS", "key": "colour", "string_value": "x"}, 'filtering on unrecognized field "colour"'),
        ({"operation": "LIKE", "key": "name", "string_value": "x"}, "failed to parse valid filter"),
        ({"operation": "EQUALS", "key": "name", "text": "x"}, "failed to parse valid filter"),
        ({"operation": "EQUALS", "key": "name"}, "invalid predicate operation"),
    ],
)
def test_filters_are_checked(predicate: dict[str, str], message: str, server: KfpServer) -> None:
    text = quote(json.dumps({"predicates": [predicate]}))
    status, found = refusal(server, "GET", f"experiments?filter={text}")
    assert (status, message in found) == (400, True)


def test_empty_fields_are_left_out_of_answers(server: KfpServer) -> None:
    assert ask(server, "GET", "experiments") == (200, {})
    _, made = ask(server, "POST", "experiments", {"display_name": "x", "description": ""})
    assert "description" not in made


def test_pages_hold_what_they_promise(server: KfpServer) -> None:
    for number in range(25):
        ask(server, "POST", "experiments", {"display_name": f"x{number}"})
    _, first = ask(server, "GET", "experiments")
    assert (len(first["experiments"]), first["total_size"]) == (20, 25)
    _, second = ask(server, "GET", f"experiments?page_token={first['next_page_token']}")
    assert len(second["experiments"]) == 5
    assert "next_page_token" not in second
    assert refusal(server, "GET", "experiments?page_token=nonsense") == (400, "Invalid page token")
    other = f"experiments?page_token={first['next_page_token']}&filter=%7B%7D"
    assert "page token does not match" in refusal(server, "GET", other)[1]
    assert "greater than 0" in refusal(server, "GET", "experiments?page_size=-1")[1]


def test_the_projects_own_client_is_understood(
    server: KfpServer, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """kfp.Client writes operations as numbers and `stringValue`; what it can do here, it can do there."""
    monkeypatch.setattr(kfp.client.Client, "_LOCAL_KFP_CONTEXT", "/nowhere/context.json")
    with pytest.warns(FutureWarning):
        client = kfp.client.Client(host=server.address)
    experiment = client.get_experiment(experiment_name="x")
    assert experiment.experiment_id == run["experiment_id"]
    reference = run["pipeline_version_reference"]
    started = client.run_pipeline(
        experiment.experiment_id,
        "by hand",
        pipeline_id=reference["pipeline_id"],
        version_id=reference["pipeline_version_id"],
        params={"repository": "x"},
    )
    assert client.get_run(started.run_id).state == "PENDING"
    assert client.get_pipeline_id("darkroom") == reference["pipeline_id"]
