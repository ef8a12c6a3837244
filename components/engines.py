"""The programs that build container images, and how each is spoken to.

Docker comes first because most machines that build images have it, then podman, which needs no daemon, then buildah.
All three build one Dockerfile alike, mounts of secrets and caches included. Docker needs its plugin buildx for that.
"""

import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from darkroom.errors import DarkroomError


class ImageError(DarkroomError):
    """An image could not be built, kept or run."""


class Docker:
    """Docker, and the command line that podman shares with it."""

    name = "docker"
    probes: Sequence[tuple[str, ...]] = (("docker", "buildx", "version"), ("docker", "version"))
    building: tuple[str, ...] = ("docker", "buildx", "build", "--load")

    def why_not(self) -> str:
        """Why it does not work on this machine, in one line; empty where it does."""
        for probe in self.probes:
            try:
                done = subprocess.run(probe, capture_output=True, text=True, timeout=60, check=False)
            except FileNotFoundError:
                return f"{self.name}: not installed"
            except subprocess.TimeoutExpired:
                return f"{self.name}: `{' '.join(probe)}` does not answer"
            if done.returncode != 0:
                lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
                return f"{self.name}: `{' '.join(probe)}`: {lines[0]}"
        return ""

    def build(self, arguments: Iterable[str]) -> None:
        """Build one image; the engine's own output goes to the terminal.

        Raises:
            ImageError: the build failed.
        """
        command = [*self.building, *arguments]
        status = subprocess.run(command, check=False).returncode
        if status != 0:
            raise ImageError(f"`{' '.join(self.building)}` failed with exit status {status}; its output is above")

    def save(self, image: str, file: Path) -> None:
        """Write an image to a new archive under its full name, as `kind load` and containerd take it."""
        self._ask("image", "save", "--output", str(file), image)

    def size(self, image: str) -> int:
        """Bytes of an image's layers, unpacked."""
        return int(self._ask("image", "inspect", "--format", "{{.Size}}", image))

    def execute(self, image: str, command: Sequence[str]) -> str:
        """Run a command in a new container without a network; returns what it printed."""
        return self._ask("run", "--rm", "--network=none", image, *command)

    def _ask(self, *arguments: str) -> str:
        done = subprocess.run([self.name, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ImageError(f"`{self.name} {' '.join(arguments[:2])}` failed: {done.stderr.strip()}")
        return done.stdout.strip()


class Podman(Docker):
    """Podman, which calls an image without a host `localhost/...` unless it is told the name to archive it under."""

    name = "podman"
    probes = (("podman", "info"),)
    building: tuple[str, ...] = ("podman", "build")

    def save(self, image: str, file: Path) -> None:
        """Write an image to a new archive under its full name."""
        self._ask("push", image, f"docker-archive:{file}:{image}")


class Buildah(Podman):
    """Buildah with its simplest isolation: it works in containers and wherever nothing else may start any."""

    name = "buildah"
    probes = (("buildah", "info"),)
    building = ("buildah", "build", "--isolation", "chroot")

    def size(self, image: str) -> int:
        """Bytes of an image's layers, unpacked."""
        manifest = json.loads(json.loads(self._ask("inspect", "--type", "image", image))["Manifest"])
        return sum(layer["size"] for layer in manifest["layers"])

    def execute(self, image: str, command: Sequence[str]) -> str:
        """Run a command in a new container; chroot isolation has the machine's network."""
        container = self._ask("from", "--pull=never", image)
        try:
            return self._ask("run", "--isolation", "chroot", container, "--", *command)
        finally:
            self._ask("rm", container)


ENGINES: dict[str, Docker] = {engine.name: engine for engine in (Docker(), Podman(), Buildah())}


def choose_engine(name: str = "") -> Docker:
    """The engine of this name or, where none is given, the first that works.

    Raises:
        ImageError: the engine is unknown or does not work, or none does; says why for each.
    """
    if name and name not in ENGINES:
        raise ImageError(f"--engine: must be one of {', '.join(ENGINES)}, got {name!r}")
    reasons = []
    for engine in [ENGINES[name]] if name else ENGINES.values():
        reason = engine.why_not()
        if not reason:
            return engine
        reasons.append(reason)
    raise ImageError("\n".join(["nothing here builds images; install one of these, or start it:", *reasons]))
