"""`make infra-check`: render every kustomization, then hold the objects against schemas, our own rules and checkov.

`--remote` renders KFP's too, which are fetched from GitHub, and checks that its pods meet the restricted standard.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from infra.check.access import roles_are_narrow
from infra.check.checkov import scan
from infra.check.manifests import (
    HERE,
    OVERLAYS,
    Manifest,
    local_kustomizations,
    remote_kustomizations,
    render,
    templates,
)
from infra.check.network import policies_match, services_find_pods
from infra.check.pods import pods_are_careful, pods_are_restricted
from infra.check.references import references_exist
from infra.check.schemas import match_schemas, passed_over
from infra.check.secrets import nothing_is_secret, vault_gives_every_secret

Rule = Callable[[list[Manifest]], Iterator[str]]

# Each object by itself.
OBJECT_RULES: tuple[Rule, ...] = (
    match_schemas,
    pods_are_restricted,
    pods_are_careful,
    nothing_is_secret,
    roles_are_narrow,
)
# Whether the parts fit each other: for whole overlays.
WHOLE_RULES: tuple[Rule, ...] = (services_find_pods, policies_match, references_exist, vault_gives_every_secret)
# KFP's own manifests are not ours to judge, but for what our namespaces would refuse and our patches may have broken.
REMOTE_RULES: tuple[Rule, ...] = (
    pods_are_restricted,
    nothing_is_secret,
    services_find_pods,
    references_exist,
    vault_gives_every_secret,
)


def rules_for(folder: Path) -> tuple[Rule, ...]:
    """Which rules hold for what a kustomization renders to."""
    if folder in remote_kustomizations():
        return REMOTE_RULES
    return OBJECT_RULES + WHOLE_RULES if folder.parent == OVERLAYS else OBJECT_RULES


def check(folder: Path, objects: list[Manifest]) -> list[str]:
    """Everything that the rules find in one rendered kustomization."""
    return [finding for rule in rules_for(folder) for finding in rule(objects)]


def run(folders: list[Path]) -> int:
    """Print a line per kustomization and every finding; 1 if there is one, else 0."""
    found, without_schema = 0, Counter[str]()
    with tempfile.TemporaryDirectory() as rendered:
        for number, folder in enumerate(folders):
            objects = render(folder)
            findings = check(folder, objects)
            pods = sum(1 for _ in templates(objects))
            name = folder.relative_to(HERE) if folder.is_relative_to(HERE) else folder
            _say(f"{name}: {len(objects)} objects, {pods} kinds of pods, {len(findings)} findings", findings)
            found += len(findings)
            if folder not in remote_kustomizations():
                without_schema += passed_over(objects)
                Path(rendered, f"{number}-{folder.name}.yaml").write_text(yaml.safe_dump_all(objects))
        report = list(scan(Path(rendered)))
        _say(f"checkov: {'refused' if report else 'passed'}", report)
    for group, count in sorted(without_schema.items()):
        _say(f"without a schema: {count} objects of {group}", [])
    return 1 if found or report else 0


def main() -> int:
    """Check what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m infra.check", description=__doc__)
    parser.add_argument("--remote", action="store_true", help="also what is fetched from GitHub")
    remote = remote_kustomizations() if parser.parse_args().remote else []
    return run(local_kustomizations() + remote)


def _say(line: str, findings: list[str]) -> None:
    sys.stdout.write("\n".join([line, *(f"  {finding}" for finding in findings)]) + "\n")


if __name__ == "__main__":
    sys.exit(main())
