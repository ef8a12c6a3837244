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
import importlib, json, sys, time

from darkroom.memory import peak_rss_mb

module, _, name = sys.argv[1].partition(":")
imported = time.perf_counter()
function = getattr(importlib.import_module(module), name)
started = time.perf_counter()
value = function(*sys.argv[2:])
ended = time.perf_counter()
seconds = {"seconds": ended - started, "imports": started - imported}
print(json.dumps({"value": value, **seconds, "peak_rss_mb": peak_rss_mb()}))
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
