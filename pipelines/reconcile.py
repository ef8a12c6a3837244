"""Bring the recurring runs of a server to what is declared, so that being interrupted anywhere does no harm.

The API cannot change a recurring run, it can only enable, disable and delete it. So a change is: create a copy that is
paused, disable the old one, enable the new one, delete the old one. No two copies are ever enabled at once, and what to
do is always found by comparing what is declared with what is there: what an interrupted run left, the next clears up. A
copy that was paused is never enabled later: Kubeflow would at once start the latest tick that it slept through.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pipelines.kubeflow import Kubeflow, RecurringRun, Version
from pipelines.pipeline import NAME
from pipelines.schedules import Schedule
from pipelines.submission import Package

# The description marks what Darkroom made; all else in the experiment is left alone.
MARK = re.compile(r"darkroom schedule ([a-z0-9-]+): .*")


@dataclass(frozen=True)
class Wanted:
    """A declared schedule with the package and the arguments of its runs."""

    schedule: Schedule
    package: Package
    parameters: dict[str, Any]
    service_account: str

    def differences(self, copy: RecurringRun, version: Version | None) -> list[str]:
        """In words, what a copy on the server does otherwise. Whether it is enabled is another matter."""
        schedule = self.schedule
        wanted = {
            "cron": schedule.cron,
            "max_concurrency": schedule.max_concurrency,
            "catch_up": schedule.catch_up,
            "service_account": self.service_account or copy.service_account,
            **{f"parameter {name}": value for name, value in self.parameters.items()},
        }
        there: dict[str, Any] = {field.name: getattr(copy, field.name) for field in fields(copy)}
        there |= {f"parameter {name}": value for name, value in copy.parameters.items()}
        names = [*wanted, *(name for name in there if name.startswith("parameter ") and name not in wanted)]
        found = [
            f"{name}: {there.get(name)!r} on the server, {wanted.get(name)!r} declared"
            for name in names
            if there.get(name) != wanted.get(name)
        ]
        if version is None or version.id != copy.version:
            found.append(f"pipeline: another version on the server, {self.package.version} declared")
        return found


@dataclass(frozen=True)
class Change:
    """What to do about one schedule, in this order: create, disable, enable what was created, delete."""

    name: str
    reasons: list[str]
    create: Wanted | None = None
    disable: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.create or self.disable or self.delete)


def owner(copy: RecurringRun) -> str | None:
    """The schedule that a recurring run is a copy of; None when it is not Darkroom's."""
    match = MARK.fullmatch(copy.description)
    return match[1] if match and match[1] == copy.name else None


def find_changes(
    wanted: Sequence[Wanted], copies: Sequence[RecurringRun], versions: dict[str, Version | None]
) -> list[Change]:
    """Compare what is declared with what is there; `versions` holds those that are uploaded, by name."""
    names = [one.schedule.name for one in wanted]
    changes = [
        _find_change(one, [copy for copy in copies if owner(copy) == one.schedule.name], versions[one.package.version])
        for one in wanted
    ]
    strays = {copy.name for copy in copies if owner(copy) and copy.name not in names}
    changes += [
        Change(name, ["is no longer declared"], delete=tuple(copy.id for copy in copies if owner(copy) == name))
        for name in sorted(strays)
    ]
    return [change for change in changes if not change.is_empty]


def _find_change(wanted: Wanted, copies: list[RecurringRun], version: Version | None) -> Change:
    name, enabled = wanted.schedule.name, wanted.schedule.enabled
    alike = [copy for copy in copies if not wanted.differences(copy, version)]
    # An enabled copy can be paused, a paused one not be enabled.
    kept = next((copy for copy in alike if copy.enabled), None) or next((copy for copy in alike if not enabled), None)
    others = [copy for copy in copies if copy is not kept]
    reasons: list[str] = []
    if kept is None:
        shown = next((copy for copy in copies if copy.enabled), copies[-1] if copies else None)
        reasons = (wanted.differences(shown, version) if shown else []) or [
            "is paused on the server, enabled in the file" if shown else "is not on the server"
        ]
    elif kept.enabled and not enabled:
        reasons = ["is enabled on the server, paused in the file"]
    if kept and others:
        reasons.append(f"has {len(others)} more on the server")
    return Change(
        name,
        reasons,
        create=None if kept else wanted,
        disable=tuple(copy.id for copy in copies if copy.enabled and (copy is not kept or not enabled)),
        delete=tuple(copy.id for copy in others),
    )


def apply_changes(kubeflow: Kubeflow, experiment: str, changes: Sequence[Change], say: Callable[[str], None]) -> None:
    """Make the changes, one after the other; each is whole before the next begins.

    Raises:
        ClusterError: the server failed on the way; applying again takes up from there.
    """
    if not changes:
        return
    # Of a file without a schedule, nothing is left to put into an experiment.
    wanted = [change.create for change in changes if change.create]
    place = kubeflow.make_experiment(experiment) if wanted else ""
    packages = {one.package.version: one.package for one in wanted}
    versions = {name: kubeflow.upload(NAME, name, package.file) for name, package in packages.items()}
    for change in changes:
        say(f"[bold]{change.name}[/] {change.reasons[0]}")
        made = _create(kubeflow, place, change.create, versions) if change.create else None
        for copy in change.disable:
            kubeflow.disable(copy)
        if made and change.create and change.create.schedule.enabled:
            kubeflow.enable(made)
        for copy in change.delete:
            kubeflow.delete(copy)


def _create(kubeflow: Kubeflow, experiment: str, wanted: Wanted, versions: dict[str, Version]) -> str:
    schedule = wanted.schedule
    return kubeflow.create_recurring_run(
        schedule.name,
        f"darkroom schedule {schedule.name}: declared in a file, made by `darkroom schedules apply`",
        experiment,
        versions[wanted.package.version],
        cron=schedule.cron,
        parameters=wanted.parameters,
        max_concurrency=schedule.max_concurrency,
        catch_up=schedule.catch_up,
        service_account=wanted.service_account,
    )
