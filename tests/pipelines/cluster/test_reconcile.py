from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.config import load
from pipelines.kubeflow import Kubeflow, RecurringRun
from pipelines.pipeline import NAME
from pipelines.reconcile import Wanted, apply_changes, find_changes, owner
from pipelines.schedules import read_declaration
from pipelines.submission import Package, Source, build_package
from pipelines.workspace import Workspace
from tests.kfp_server.server import Fault, KfpServer
from tests.pipelines.cluster.conftest import ORIGIN, Run

NIGHTLY: dict[str, Any] = {"name": "nightly", "cron": "0 0 2 * * *", "time_zone": "UTC", "profile": "cpu"}
WEEKLY: dict[str, Any] = {**NIGHTLY, "name": "weekly", "cron": "0 0 3 * * SUN", "set": ["cnn.epochs=3"]}

Apply = Callable[..., list[str]]


@pytest.fixture(scope="module")
def package(committed: Path) -> Package:
    return build_package(Workspace.find(committed), "cpu", "team")


def source() -> Source:
    return Source(ORIGIN, "0123456789abcdef", "5" * 32 + ".dir")


def wanted(folder: Path, package: Package, schedules: Sequence[Any]) -> list[Wanted]:
    file = folder / "schedules.yaml"
    file.write_text(yaml.safe_dump({"schedules": list(schedules)}))
    return [
        Wanted(declared.schedule, package, source().arguments(declared.config), "darkroom-runner")
        for declared in read_declaration(file, folder).schedules
    ]


@pytest.fixture
def apply(kubeflow: Kubeflow, experiment: str, package: Package, tmp_path: Path) -> Apply:
    """Compare and apply as the command does; gives the names of what changed."""

    def run(*schedules: Any) -> list[str]:
        versions = {package.version: kubeflow.find_version(NAME, package.version)}
        copies = kubeflow.list_recurring_runs(experiment)
        changes = find_changes(wanted(tmp_path, package, schedules), copies, versions)
        apply_changes(kubeflow, experiment, changes, lambda _: None)
        return [change.name for change in changes]

    return run


@pytest.fixture
def copies(kubeflow: Kubeflow, experiment: str) -> Callable[[], list[RecurringRun]]:
    """What is on the server now."""

    return lambda: kubeflow.list_recurring_runs(experiment)


def test_what_is_declared_is_there_and_a_second_time_nothing_is_to_be_done(apply: Apply, copies: Any) -> None:
    assert apply(NIGHTLY, WEEKLY) == ["nightly", "weekly"]
    nightly, weekly = sorted(copies(), key=lambda copy: str(copy.name))
    assert (nightly.cron, nightly.enabled, nightly.max_concurrency, nightly.catch_up) == ("0 0 2 * * *", True, 1, False)
    assert weekly.parameters["cnn_epochs"] == 3
    assert weekly.parameters["repository"] == ORIGIN
    assert weekly.service_account == "darkroom-runner"
    assert owner(weekly) == "weekly"
    assert apply(NIGHTLY, WEEKLY) == []


@pytest.mark.parametrize(
    "change",
    [
        {"cron": "0 30 2 * * *"},
        {"set": ["cnn.epochs=4"]},
        {"set": ["cnn.weight_decay=0.5"]},
        {"max_concurrency": 2},
        {"catch_up": True},
    ],
)
def test_a_changed_schedule_is_replaced(change: dict[str, Any], apply: Apply, copies: Any) -> None:
    apply(NIGHTLY)
    (before,) = copies()
    assert apply({**NIGHTLY, **change}) == ["nightly"]
    (after,) = copies()
    assert after.id != before.id
    assert after.enabled
    assert apply({**NIGHTLY, **change}) == []


def test_a_schedule_deleted_by_hand_comes_back(apply: Apply, copies: Any, kubeflow: Kubeflow) -> None:
    apply(NIGHTLY)
    kubeflow.delete(copies()[0].id)
    assert apply(NIGHTLY) == ["nightly"]
    assert [copy.enabled for copy in copies()] == [True]


def test_a_schedule_paused_by_hand_is_made_anew_so_that_no_missed_tick_starts(
    apply: Apply, copies: Any, kubeflow: Kubeflow
) -> None:
    apply(NIGHTLY)
    (before,) = copies()
    kubeflow.disable(before.id)
    assert apply(NIGHTLY) == ["nightly"]
    (after,) = copies()
    assert after.enabled
    assert after.id != before.id


def test_a_schedule_declared_paused_stays_where_it_is(apply: Apply, copies: Any) -> None:
    apply(NIGHTLY)
    (before,) = copies()
    assert apply({**NIGHTLY, "enabled": False}) == ["nightly"]
    (after,) = copies()
    assert (after.id, after.enabled) == (before.id, False)
    assert apply({**NIGHTLY, "enabled": False}) == []


def test_a_schedule_that_is_no_longer_declared_goes(apply: Apply, copies: Any) -> None:
    apply(NIGHTLY, WEEKLY)
    assert apply(WEEKLY) == ["nightly"]
    assert [copy.name for copy in copies()] == ["weekly"]
    assert apply() == ["weekly"]
    assert copies() == []


def test_what_somebody_else_made_is_left_alone(
    apply: Apply, copies: Any, kubeflow: Kubeflow, experiment: str, package: Package
) -> None:
    place = kubeflow.make_experiment(experiment)
    version = kubeflow.upload(NAME, package.version, package.file)
    for name, description in (
        ("nightly", "mine"),
        ("Clone of weekly", "darkroom schedule weekly: copied with the rest"),
    ):
        kubeflow.create_recurring_run(
            name,
            description,
            place,
            version,
            cron="0 0 2 * * *",
            parameters={"repository": ORIGIN},
            max_concurrency=1,
            catch_up=False,
            service_account="",
        )
    apply(NIGHTLY)
    assert apply() == ["nightly"]
    assert sorted(copy.name for copy in copies()) == ["Clone of weekly", "nightly"]
    assert not any(owner(copy) for copy in copies())


def test_more_schedules_than_a_page_are_all_seen(server: KfpServer, apply: Apply, copies: Any) -> None:
    many = [{**NIGHTLY, "name": f"schedule-{number}"} for number in range(105)]
    apply(*many)
    assert len(copies()) == 105
    before = len(server.writes)
    assert apply(*many) == []
    assert len(server.writes) == before
    assert any("page_token=ey" in target for _, target in server.requests)


def test_the_writes_are_in_the_order_that_never_enables_two(server: KfpServer, apply: Apply) -> None:
    apply(NIGHTLY)
    assert server.writes == [
        "POST create_experiment",
        "POST create_pipeline",
        "POST upload_version",
        "POST create_recurring_run",
        "POST enable_recurring_run",
    ]
    server.writes.clear()
    apply({**NIGHTLY, "cron": "0 30 2 * * *"})
    assert server.writes == [
        "POST create_recurring_run",
        "POST disable_recurring_run",
        "POST enable_recurring_run",
        "DELETE delete_recurring_run",
    ]
    server.writes.clear()
    apply({**NIGHTLY, "cron": "0 30 2 * * *"})
    assert server.writes == []


@pytest.mark.parametrize("fault", ["before", "after", "lost"])
@pytest.mark.parametrize("write", range(1, 13))
def test_an_apply_that_breaks_off_anywhere_is_mended_by_the_next(
    write: int, fault: Fault, server: KfpServer, apply: Apply, copies: Any
) -> None:
    """The first apply takes seven writes, the second five."""
    changed = {**NIGHTLY, "cron": "0 30 2 * * *"}
    server.fail_write = (write, fault)
    broken = 0
    for declared in ((NIGHTLY, WEEKLY), (changed,)):
        try:
            apply(*declared)
        except Exception as error:
            assert "HTTP 50" in str(error) or "cannot be reached" in str(error)
            broken += 1
    assert broken == 1
    apply(changed)
    (left,) = copies()
    assert (left.name, left.cron, left.enabled) == ("nightly", "0 30 2 * * *", True)
    assert set(server.state.most_enabled.values()) == {1}
    assert apply(changed) == []


def test_a_copy_that_somebody_enabled_as_well_is_disabled_before_the_kept_one_goes_on(
    server: KfpServer, apply: Apply, copies: Any
) -> None:
    apply(NIGHTLY)
    twin = {**next(iter(server.state.recurring.values())), "recurring_run_id": "twin"}
    server.state.recurring["twin"] = twin
    assert apply(NIGHTLY) == ["nightly"]
    assert [copy.enabled for copy in copies()] == [True]
    assert server.writes[-2:] == ["POST disable_recurring_run", "DELETE delete_recurring_run"]


def test_replacing_a_schedule_lets_its_runs_go_on(server: KfpServer, apply: Apply) -> None:
    apply(NIGHTLY)
    (run,) = server.state.tick(datetime(2026, 3, 1, 2, tzinfo=UTC))
    apply({**NIGHTLY, "cron": "0 30 2 * * *"})
    assert server.state.orphans == [run["run_id"]]
    assert server.state.runs[run["run_id"]]["state"] == "PENDING"


def test_only_what_is_enabled_ticks_and_no_more_at_once_than_declared(server: KfpServer, apply: Apply) -> None:
    apply(NIGHTLY, {**WEEKLY, "enabled": False})
    moment = datetime(2026, 3, 1, 2, tzinfo=UTC)
    (run,) = server.state.tick(moment)
    assert run["runtime_config"]["parameters"]["revision"] == source().commit
    assert server.state.tick(moment) == []


@pytest.fixture
def declare(checkout: Path, experiment: str) -> Callable[..., None]:
    def write(*schedules: Any) -> None:
        (checkout / "infra").mkdir(exist_ok=True)
        text = yaml.safe_dump({"experiment": experiment, "schedules": list(schedules)})
        (checkout / "infra" / "schedules.yaml").write_text(text)

    return write


def test_the_commands_show_the_drift_then_mend_it(
    darkroom: Run, declare: Any, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    declare(NIGHTLY, {**WEEKLY, "enabled": False})
    assert darkroom("schedules", "diff", "--endpoint", address) == 2
    assert capsys.readouterr().out == "nightly\n  is not on the server\nweekly\n  is not on the server\n"
    assert darkroom("schedules", "apply", "--side-loaded", "--endpoint", address) == 0
    assert darkroom("schedules", "diff", "--endpoint", address) == 0
    capsys.readouterr()
    assert darkroom("schedules", "apply", "--side-loaded", "--endpoint", address) == 0
    assert capsys.readouterr().out == "The schedules were as declared; nothing was written\n"
    assert darkroom("schedules", "list", "--endpoint", address) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert sorted(rows) == [
        ["nightly", "0", "0", "2", "*", "*", "*", "enabled", "1", "Darkroom"],
        ["weekly", "0", "0", "3", "*", "*", "SUN", "paused", "1", "Darkroom"],
    ]
    declare({**NIGHTLY, "cron": "0 30 2 * * *", "set": ["cnn.epochs=40"]})
    assert darkroom("schedules", "diff", "--endpoint", address) == 2
    usual = load(None).cnn.epochs
    assert capsys.readouterr().out == (
        "nightly\n"
        "  cron: '0 0 2 * * *' on the server, '0 30 2 * * *' declared\n"
        f"  parameter cnn_epochs: {usual} on the server, 40 declared\n"
        "weekly\n"
        "  is no longer declared\n"
    )


def test_nothing_is_written_while_anything_is_wrong(
    server: KfpServer, darkroom: Run, declare: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    declare(NIGHTLY, {**WEEKLY, "cron": "0 2 * * *"}, {**WEEKLY, "profile": "abacus"})
    server.requests.clear()
    assert darkroom("schedules", "apply", "--endpoint", server.address) == 1
    error = capsys.readouterr().err
    assert "weekly: cron: must have 6 fields" in error
    assert "weekly: profile abacus: must be one of the bundled profiles" in error
    assert server.requests == []
