"""The pipeline around the steps: what a whole run costs beyond their own work, and a run in which nothing changed."""

import json
import subprocess
import sys
import time
from typing import Any

from benchmarks.process import ROOT
from benchmarks.table import Claim, Table

PARAMETERS = "pipelines/params/default.yaml"


def run() -> Table:
    """Run the default pipeline with a seed that no run had before, so that nothing is cached, and then once more."""
    seed = str(int(time.time()) % 2**31)
    first, first_seconds = _run(seed)
    again, again_seconds = _run(seed)
    work = sum(step["seconds"] for step in first["steps"])
    overhead = first_seconds - work
    cached = [step["name"] for step in again["steps"] if step["cached"]]
    expected = [step["name"] for step in again["steps"] if not step["name"].startswith("register_model")]
    return Table(
        title="Pipeline: overhead and cache",
        notes=(
            f"`darkroom run --params {PARAMETERS}` with a new seed, and the same again. The steps' own seconds are\n"
            "those between a step's start and end, imports within it included; overhead is all else: the command\n"
            "line, the engine, starting processes, MLflow's parent run, summary and report."
        ),
        columns=("run", "seconds", "steps' own seconds", "overhead", "share", "steps from the cache"),
        rows=[
            ("first", f"{first_seconds:.1f}", f"{work:.1f}", f"{overhead:.1f}", f"{overhead / first_seconds:.1%}", "0"),
            ("again", f"{again_seconds:.1f}", "", "", "", f"{len(cached)} of {len(again['steps'])}"),
        ],
        claims=(
            Claim("overhead under 10% and under 15 s", f"{overhead:.1f} s", overhead < min(15, first_seconds / 10)),
            Claim(
                "every step but registration from the cache, in under 15 s",
                f"{len(cached)} of {len(expected)} in {again_seconds:.1f} s",
                cached == expected and again_seconds < 15,
            ),
        ),
    )


def _run(seed: str) -> tuple[dict[str, Any], float]:
    command = [sys.executable, "-m", "pipelines.cli", "run", "--params", PARAMETERS, "--set", f"seed={seed}"]
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    summary: dict[str, Any] = json.loads((ROOT / "runs" / "latest" / "summary.json").read_text(encoding="utf-8"))
    return summary, seconds
