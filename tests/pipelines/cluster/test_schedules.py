from pathlib import Path
from typing import Any

import pytest
import yaml

from darkroom.errors import ConfigError
from pipelines.schedules import FILE_NAME, read_declaration

ROOT = Path(__file__).parents[3]
GOOD: dict[str, Any] = {"name": "nightly", "cron": "0 0 2 * * *", "time_zone": "UTC", "profile": "cpu"}


def write(folder: Path, *schedules: Any, **top: Any) -> Path:
    file = folder / "schedules.yaml"
    file.write_text(yaml.safe_dump({**top, "schedules": list(schedules)}))
    return file


def findings(file: Path, root: Path = ROOT) -> list[str]:
    with pytest.raises(ConfigError) as error:
        read_declaration(file, root)
    lines = str(error.value).splitlines()
    assert all(line.startswith(f"{file}: ") for line in lines)
    return [line.removeprefix(f"{file}: ") for line in lines]


def test_the_file_that_the_project_ships_is_valid() -> None:
    declaration = read_declaration(ROOT / FILE_NAME, ROOT)
    smoke, full = declaration.schedules
    assert smoke.config.registration.name_suffix == "-smoke"
    assert smoke.schedule.profile == "cpu"
    assert full.schedule.profile == "t4"
    assert not any(declared.schedule.catch_up for declared in declaration.schedules)


def test_defaults_are_careful(tmp_path: Path) -> None:
    (declared,) = read_declaration(write(tmp_path, GOOD), ROOT).schedules
    schedule = declared.schedule
    assert (schedule.enabled, schedule.max_concurrency, schedule.catch_up) == (True, 1, False)


def test_parameters_come_from_a_file_and_from_overrides(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("cnn: {epochs: 2}\n")
    file = write(tmp_path, {**GOOD, "params": "small.yaml", "set": ["gan.epochs=1", "seed=5"]})
    (declared,) = read_declaration(file, tmp_path).schedules
    config = declared.config
    assert (config.cnn.epochs, config.gan.epochs, config.seed) == (2, 1, 5)


def test_every_finding_of_a_file_is_in_one_error(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        {**GOOD, "cron": "0 2 * * *", "time_zone": "Europe/Berln", "colour": "red"},
        {**GOOD, "name": "Weekly!", "cron": "0 0 2 * * * 2026", "set": ["cnn.epoch=3", "gan.epochs=0"]},
        {**GOOD, "profile": "abacus", "max_concurrency": 11, "params": "nowhere.yaml"},
        {"cron": "0 0 25 * * *"},
        owner="me",
    )
    found = "\n".join(findings(file))
    for expected in (
        "owner: unknown parameter; known here: cluster_time_zone, experiment, schedules",
        "nightly: colour: unknown parameter; known here: catch_up, cron, enabled, max_concurrency, name, params,",
        "nightly: cron: must have 6 fields (second, minute, hour, day of the month, month, day of the week), got 5 in",
        "nightly: time_zone: must be a name of the IANA time zone database, perhaps Europe/Berlin, got 'Europe/Berln'",
        "Weekly!: name: must be lower-case letters, digits and inner hyphens, got 'Weekly!'",
        "Weekly!: cron: must have 6 fields",
        "got 7 in '0 0 2 * * * 2026'",
        "Weekly!: cnn.epoch: unknown parameter; known here: ",
        "Weekly!: gan.epochs: ",
        "nightly: max_concurrency: Input should be less than or equal to 10, got 11",
        "nightly: profile abacus: must be one of the bundled profiles a100, cpu, ",
        f"nightly: {ROOT / 'nowhere.yaml'}: cannot be read: No such file or directory",
        "schedule 4: name: Field required",
        "schedule 4: cron: hour: must be 0 to 23, got '25'",
        "nightly: name: must be unique, got it 2 times",
    ):
        assert expected in found


def test_a_zone_with_another_clock_than_the_cluster_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, {**GOOD, "time_zone": "Europe/Berlin"})
    assert findings(file) == [
        "nightly: time_zone: must keep the clock of cluster_time_zone, UTC, in which Kubeflow reads every cron, "
        "got 'Europe/Berlin'"
    ]
    # London has Greenwich's clock in winter only.
    assert "Europe/London" in findings(write(tmp_path, {**GOOD, "time_zone": "Europe/London"}))[0]


def test_a_zone_that_keeps_the_clusters_clock_is_as_good(tmp_path: Path) -> None:
    file = write(tmp_path, {**GOOD, "time_zone": "Europe/Berlin"}, cluster_time_zone="Europe/Paris")
    assert read_declaration(file, ROOT).schedules[0].schedule.time_zone == "Europe/Berlin"


def test_an_unknown_zone_of_the_cluster_is_one_finding(tmp_path: Path) -> None:
    (found,) = findings(write(tmp_path, GOOD, cluster_time_zone="Moon/Tranquility"))
    assert found.startswith("cluster_time_zone: must be a name of the IANA time zone database")


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("- a\n- b\n", "must be a mapping with schedules in it, got ['a', 'b']"),
        ("schedules: [\n", "not readable as YAML: "),
        ("{}", "schedules: Field required"),
        ("schedules: nightly\n", "schedules: Input should be a valid list, got 'nightly'"),
        ("schedules: [nightly]\n", "schedules.0: Input should be a valid dictionary, got 'nightly'"),
    ],
)
def test_a_file_of_another_shape_is_named(text: str, finding: str, tmp_path: Path) -> None:
    file = tmp_path / "schedules.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_declaration(file, ROOT)
    assert f"{file}: {finding}" in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert findings(tmp_path / "missing.yaml") == ["cannot be read: No such file or directory"]
