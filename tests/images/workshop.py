"""Where the tests build images, and what they get to see of them."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "images"
REPOSITORY = "registry.example.org/team"
TAG = "under-test"
TARGETS = ("data", "registry")
SOURCE = "https://git.example.org/team/darkroom"
# Traces of the building machine, to look for in the images afterwards.
USER, PASSWORD = "builder", "swordfish-in-the-index-address"
CERTIFICATE_MARK = "# swordfish among the certificates"
MIRROR_MARK = "# swordfish among the mirrors"


@dataclass
class Workshop:
    """Runs buildah and the project's own tool on a storage of their own."""

    environment: dict[str, str]

    def buildah(self, *arguments: str) -> str:
        done = subprocess.run(
            ["buildah", *arguments], env=self.environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextmanager
    def container(self, image: str) -> Iterator[str]:
        """A new container, whose changes go with it."""
        container = self.buildah("from", "--pull=never", image)
        try:
            yield container
        finally:
            self.buildah("rm", container)

    def inspect(self, image: str) -> dict[str, Any]:
        """An image's configuration and history, as the OCI defines them."""
        found: dict[str, Any] = json.loads(self.buildah("inspect", "--type", "image", image))["OCIv1"]
        return found

    def run(self, container: str, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command in a container as the image's user and with its environment."""
        whole = ["buildah", "run", "--isolation", "chroot", *options, container, "--", *command]
        return subprocess.run(whole, env=self.environment, capture_output=True, text=True, check=False, timeout=600)


@dataclass
class PackageIndex:
    """An index on loopback that has no package and remembers who asked."""

    address: str
    credentials: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Images:
    """The built images: what the tool printed, one's archive, and of each the configuration and the root as built."""

    printed: str
    archive: Path
    configurations: Mapping[str, dict[str, Any]]
    roots: Mapping[str, Path]

    def site_packages(self, target: str) -> Path:
        return self.roots[target] / "opt/darkroom/lib/python3.11/site-packages"


def full_name(target: str) -> str:
    return f"{REPOSITORY}/python-{target}:{TAG}"
