"""Writes what is in each image, as CycloneDX: `python -m components.sbom`.

An image's environment holds what its lock file says for the image's platform and nothing else, so the list is made from
the lock file: that needs no image, and a test compares the two. What the base image brings is not in it.
"""

import platform
import subprocess
import sys
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement

from components.build_images import RECIPES, ROOT
from components.engines import ImageError

FOLDER = ROOT / "build" / "sbom"


def locked(target: str) -> list[str]:
    """What the lock file of an image installs on Linux and this machine's processor: `name==version --hash=...`."""
    machine = {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
    linux = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux", "platform_machine": machine}
    environment = {**default_environment(), **linux}
    text = (ROOT / "requirements" / f"{target}.txt").read_text(encoding="utf-8").replace("\\\n", "")
    lines = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        requirement, *hashes = line.split(" --hash=")
        parsed = Requirement(requirement)
        if parsed.marker is None or parsed.marker.evaluate(environment):  # type: ignore[arg-type]  # its default's type
            lines.append(" --hash=".join((f"{parsed.name}{parsed.specifier}", *(digest.strip() for digest in hashes))))
    return lines


def write_sbom(target: str, folder: Path) -> Path:
    """Write the bill of materials of one image, which cyclonedx-py checks against the schema.

    Raises:
        ImageError: cyclonedx-py failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{target}.cdx.json"
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--output-reproducible", "--validate"]
    command += ["--pyproject", str(ROOT / "pyproject.toml")] if RECIPES[target].stage else []
    command += ["--output-file", str(file), "-"]
    done = subprocess.run(command, input="\n".join(locked(target)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ImageError(f"{file}: not written: {done.stderr.strip()}")
    return file


if __name__ == "__main__":
    for name in RECIPES:
        write_sbom(name, FOLDER)
