"""checkov, in an environment of its own: its requirements do not fit beside ours."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from infra.check.manifests import HERE

UV = Path(sys.executable).with_name("uv")
VERSION = "3.3.30"


def scan(folder: Path) -> Iterator[str]:
    """What checkov has against the manifests in a folder; infra/checkov.yaml and annotations say what it skips and why.

    Yields:
        The whole report as one finding, or what kept checkov from running.
    """
    command = [str(UV), "tool", "run", "--quiet", "--from", f"checkov=={VERSION}", "checkov"]
    command += ["--config-file", str(HERE / "checkov.yaml"), "--directory", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        yield f"checkov {VERSION} ended with {result.returncode}:\n{result.stdout}{result.stderr}".rstrip()
    elif "Passed checks:" not in result.stdout:
        yield f"checkov {VERSION} checked nothing:\n{result.stdout}{result.stderr}".rstrip()
