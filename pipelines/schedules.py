"""The declared schedules: `infra/schedules.yaml`, read and checked as a whole before anything is sent anywhere."""

import difflib
import functools
import re
import zoneinfo
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from darkroom.config import StepConfig
from darkroom.errors import ConfigError
from pipelines import cron
from pipelines.config import RunConfig, load
from pipelines.resources import load_profile
from pipelines.yaml_file import read_yaml

FILE_NAME = Path("infra", "schedules.yaml")
NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
# Two zones count as one when their clocks agree for two years: changes of clocks come every year.
DAYS_COMPARED = 730

Read = TypeVar("Read")


class Schedule(StepConfig):
    """One schedule as it is declared."""

    name: str = Field(max_length=63, description="lower-case letters, digits and hyphens; unique in the file")
    cron: str = Field(description="six fields, seconds first")
    time_zone: str = Field(description="IANA name of the zone that `cron` is written in")
    profile: str = Field(description="name or file of the resource profile")
    params: str = Field("", description="parameter file, relative to the root of the checkout; empty for the defaults")
    set: list[str] = Field([], description="overrides, as for --set: section.field=value")
    enabled: bool = Field(True, description="whether it starts runs")
    max_concurrency: int = Field(1, ge=1, le=10, description="runs of it at the same time")
    catch_up: bool = Field(False, description="start every tick that was missed, not only the latest")


class ScheduleFile(StepConfig):
    """The whole file. Everything of Darkroom's in `experiment` that the file does not declare is deleted."""

    experiment: str = Field("darkroom-schedules", min_length=1, max_length=128)
    cluster_time_zone: str = Field("UTC", description="the zone that KFP runs every cron in: `cronScheduleTimezone`")
    schedules: list[dict[str, Any]]


@dataclass(frozen=True)
class Declared:
    """A schedule that holds in itself, and the parameters of its runs."""

    schedule: Schedule
    config: RunConfig


@dataclass(frozen=True)
class Declaration:
    """A file without a finding."""

    file: Path
    experiment: str
    schedules: list[Declared]


def read_declaration(file: Path, root: Path) -> Declaration:
    """Read a file of schedules; paths of parameter files start at `root`.

    Raises:
        ConfigError: every finding of the file, one a line: the schedule, the field, the rule and the value.
    """
    values = _read_mapping(file)
    findings: list[str] = []
    whole = _collect(findings, "", lambda: ScheduleFile.parse(values, strict=True))
    zone = values.get("cluster_time_zone", ScheduleFile.model_fields["cluster_time_zone"].default)
    if isinstance(zone, str) and _unknown_zone(zone):
        findings.append(f"cluster_time_zone: {_unknown_zone(zone)}")
        zone = None
    entries = values.get("schedules")
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    declared = [_read_schedule(entry, place, root, zone, findings) for place, entry in enumerate(entries, start=1)]
    names = Counter(str(entry["name"]) for entry in entries if entry.get("name"))
    findings += [f"{name}: name: must be unique, got it {count} times" for name, count in names.items() if count > 1]
    if findings or whole is None:
        raise ConfigError("\n".join(f"{file}: {finding}" for finding in findings))
    return Declaration(file, whole.experiment, [schedule for schedule in declared if schedule])


def _read_mapping(file: Path) -> Mapping[str, Any]:
    values = read_yaml(file)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{file}: must be a mapping with schedules in it, got {values!r}")
    return values


def _read_schedule(
    entry: Mapping[str, Any], place: int, root: Path, cluster_zone: object, findings: list[str]
) -> Declared | None:
    """One entry, or None and what is wrong with it: fields are looked at one by one, so that none hides another."""
    label = f"{entry.get('name') or f'schedule {place}'}: "
    schedule = _collect(findings, label, lambda: Schedule.parse(entry, strict=True))
    name, expression, zone, profile = (entry.get(field) for field in ("name", "cron", "time_zone", "profile"))
    if isinstance(name, str) and not NAME.fullmatch(name):
        findings.append(f"{label}name: must be lower-case letters, digits and inner hyphens, got {name!r}")
    if isinstance(expression, str):
        findings += [f"{label}cron: {problem}" for problem in cron.find_problems(expression)]
    if isinstance(zone, str):
        problem = _unknown_zone(zone) or (isinstance(cluster_zone, str) and _other_clock(zone, cluster_zone))
        findings += [f"{label}time_zone: {problem}"] if problem else []
    if isinstance(profile, str):
        _collect(findings, label, lambda: load_profile(profile))
    params, overrides = entry.get("params") or "", entry.get("set") or []
    if not isinstance(params, str) or not isinstance(overrides, list):
        return None
    config = _collect(findings, label, lambda: load(root / params if params else None, map(str, overrides)))
    return Declared(schedule, config) if schedule and config else None


def _collect(findings: list[str], label: str, read: Callable[[], Read]) -> Read | None:
    """What `read` gives; where it finds something wrong, each line of that, labelled, goes to the findings."""
    try:
        return read()
    except ConfigError as error:
        # Some messages speak of an option; its name is the field's, too.
        findings += [f"{label}{line.removeprefix('--')}" for line in str(error).splitlines()]
        return None


_known_zones = functools.cache(zoneinfo.available_timezones)


def _unknown_zone(name: str) -> str:
    """Why there is no such time zone; empty when there is one."""
    known = _known_zones()
    if name in known:
        return ""
    close = difflib.get_close_matches(name, known, n=1)
    return f"must be a name of the IANA time zone database{f', perhaps {close[0]}' if close else ''}, got {name!r}"


def _other_clock(name: str, cluster: str) -> str:
    """Why a schedule cannot be in that zone: KFP 2.17 has one for all, and the hour would be wrong."""
    here, there = zoneinfo.ZoneInfo(name), zoneinfo.ZoneInfo(cluster)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = (today + timedelta(days=day) for day in range(DAYS_COMPARED))
    if all(day.astimezone(here).utcoffset() == day.astimezone(there).utcoffset() for day in days):
        return ""
    return f"must keep the clock of cluster_time_zone, {cluster}, in which Kubeflow reads every cron, got {name!r}"
