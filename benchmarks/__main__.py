"""Run the benchmarks, all or those that are named, and write their results: `python -m benchmarks [name ...]`.

Results are kept one file per benchmark under `runs/bench`, so that one of them can be repeated alone;
`benchmarks/results.md` is put together from what is there.
"""

import argparse
import importlib
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.md"
KEPT = ROOT / "runs" / "bench"
# In the order of the page. Each module has a function run() -> Table.
NAMES = ("time_to_accuracy", "gan", "pipeline", "validation", "preprocessing")


def main() -> int:
    """Run the named benchmarks and rewrite the page. Returns the process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(NAMES)}; all by default")
    names = parser.parse_args().names or NAMES
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; known: {', '.join(NAMES)}")
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        started = time.monotonic()
        section = importlib.import_module(f"benchmarks.{name}").run().markdown()
        origin = f"{time.monotonic() - started:.0f} s, at commit {_commit()}"
        (KEPT / f"{name}.md").write_text(f"{section}\n`python -m benchmarks {name}`: {origin}.\n", encoding="utf-8")
        print(section, flush=True)
    RESULTS.write_text(page(), encoding="utf-8")
    return 0


def page() -> str:
    """The whole page, from the results that are kept."""
    sections = [KEPT / f"{name}.md" for name in NAMES if (KEPT / f"{name}.md").is_file()]
    head = (
        "# Benchmarks\n\n"
        f"Written by `make bench`, on {_machine()}. Timings on shared machines are noisy: the sides of a comparison\n"
        "alternate within one run, and ratios are what counts.\n"
    )
    return "\n".join([head, *(section.read_text(encoding="utf-8") for section in sections)])


def _machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(os.sched_getaffinity(0))} cores of {models[0] if models else platform.machine()}, without a GPU"


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
