"""Work in a process of its own, measured: seconds without imports, and the largest resident set."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "GX_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "true"}

_CHILD = """
import importlib, json, resource, sys, time

module, _, name = sys.argv[1].partition(":")
imported = time.perf_counter()
function = getattr(importlib.import_module(module), name)
started = time.perf_counter()
value = function(*sys.argv[2:])
ended = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
print(json.dumps({"value": value, "seconds": ended - started, "imports": started - imported, "peak_rss_mb": peak}))
"""


@dataclass(frozen=True)
class Measurement:
    """What a call came to: its value, wall seconds of the call and of its module's imports, and peak memory in MB."""

    value: Any
    seconds: float
    imports: float
    peak_rss_mb: float


def measure(function: str, *arguments: str) -> Measurement:
    """Call `module:function` with strings in a fresh interpreter; it returns something that JSON can hold.

    Raises:
        RuntimeError: the process failed; holds what it wrote to standard error.
    """
    command = [sys.executable, "-c", _CHILD, function, *arguments]
    done = subprocess.run(command, cwd=ROOT, env={**QUIET, **os.environ}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{function} failed with exit status {done.returncode}:\n{done.stderr}")
    return Measurement(**json.loads(done.stdout.strip().rpartition("\n")[2]))
