"""Several processes that register the same work at the same moment, each with a model of other bits."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from darkroom import tracking

from .shop import Shop

MODULE = "tests.darkroom.race"
ROOT = Path(__file__).parents[2]


def race(shop: Shop, *, processes: int, rounds: int, environment: Mapping[str, str]) -> list[list[dict[str, Any]]]:
    """Let all register once a round, each round another model name. Returns what each got, by round."""
    job = {
        "settings": [shop.settings.tracking_uri, shop.settings.experiment],
        "splits": str(shop.splits),
        "networks": str(shop.networks),
        "folder": str(shop.folder),
        "suffix": shop.suffix,
        "processes": processes,
        "rounds": rounds,
    }
    commands = [[sys.executable, "-m", MODULE, json.dumps(job), str(number)] for number in range(processes)]
    with ThreadPoolExecutor(processes) as pool:
        done = list(pool.map(lambda command: run_to_end(command, environment), commands))
    errors = [process.stderr for process in done if process.returncode != 0]
    assert not errors, "\n".join(errors)
    results = [[json.loads(line) for line in process.stdout.splitlines()] for process in done]
    return [list(of_round) for of_round in zip(*results, strict=True)]


def run_to_end(command: list[str], environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=ROOT, env=dict(environment), capture_output=True, text=True, timeout=250)


def of_round(shop: Shop, number: int) -> Shop:
    """The same shop under the round's own model name."""
    return Shop(shop.settings, shop.splits, shop.networks, shop.folder, f"{shop.suffix}-{number}")


def check_round(shop: Shop, results: list[dict[str, Any]]) -> None:
    """One version, one champion, one entry in the journal, and everybody knows it."""
    (version,) = shop.client.search_model_versions(f"name = '{shop.name()}'")
    number = int(version.version)
    assert [result["version"] for result in results] == [number] * len(results)
    assert sum(result["created"] for result in results) == 1
    assert {result["decision"] for result in results} == {"promoted"}
    assert shop.aliases() == {"champion": number, "challenger": number}
    assert shop.journal() == [("promoted", number)]
    experiment = shop.client.get_experiment_by_name(shop.settings.experiment)
    logged = shop.client.search_logged_models([experiment.experiment_id], f"name = '{shop.name()}'")
    assert [model.artifact_location for model in logged] == [version.source]


def main(job: dict[str, Any], number: int) -> None:
    folder = Path(job["folder"], f"process-{number}")
    folder.mkdir()
    settings = tracking.TrackingSettings(job["settings"][0], experiment=job["settings"][1], patience=60)
    shop = Shop(settings, Path(job["splits"]), Path(job["networks"]), folder, job["suffix"])
    tracking.connect(settings.tracking_uri)
    for round_ in range(job["rounds"]):
        model = shop.make(origin="the same")
        wait_for_others(Path(job["folder"]), f"round-{round_}", number, job["processes"])
        result = of_round(shop, round_).register(model, scheduled_at="2026-03-01T02:00:00Z")
        sys.stdout.write(json.dumps(result.as_dict()) + "\n")


def wait_for_others(folder: Path, name: str, number: int, processes: int) -> None:
    (folder / f"{name}-{number}").touch()
    end = time.monotonic() + 100
    while len(list(folder.glob(f"{name}-*"))) < processes:
        assert time.monotonic() < end, "the other processes did not come"
        time.sleep(0.001)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]))
