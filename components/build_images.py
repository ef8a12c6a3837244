"""Builds the container images: `python -m components.build_images`.

An image's tag is the git commit. The tag is all that a cluster and Kubeflow's cache know of the code inside, so it must
name one content: a checkout that differs from its commit is refused unless `--tag` gives the result another name, and
`latest` is refused always.

`--export` writes archives for clusters without a registry: `kind load image-archive FILE`, `ctr images import FILE`.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import typer

from components.engines import Docker, ImageError, choose_engine
from components.images import DEFAULT_REPOSITORY, Target
from components.index_settings import write_secrets
from darkroom.errors import message_for_user

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

ROOT = Path(__file__).parents[1]
REPOSITORY = re.compile(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
# A tag after the last slash (before it, a colon is that of a port), or a digest.
PINNED = re.compile(r"[^@]+(:(?!latest$)[A-Za-z0-9_][A-Za-z0-9._-]*|@sha256:[0-9a-f]{64})")


@dataclass(frozen=True)
class Recipe:
    """How one image is made: the Dockerfile, its target (the last one where empty) and the image's name."""

    dockerfile: str
    stage: str
    name: str


RECIPES = {target: Recipe("components/Dockerfile", target, f"python-{target}") for target in get_args(Target)} | {
    "mlflow-server": Recipe("mlflow/Dockerfile", "", "mlflow-server")
}


@dataclass(frozen=True)
class Order:
    """What is to be built, checked before anything is built. The tag is the git commit unless it is given.

    Raises:
        ImageError: a target is unknown or lacks its Dockerfile, a name is not one, a tag does not pin anything, or the
            commit is to be the tag and the checkout differs from it.
    """

    targets: Sequence[str]
    repository: str = DEFAULT_REPOSITORY
    tag: str = ""
    base: str = ""
    source: str = ""
    apt_sources: Path | None = None

    def __post_init__(self) -> None:
        """Check every field, and fill in the tag."""
        for target in self.targets:
            if target not in RECIPES:
                raise ImageError(f"--target: must be one of {', '.join(RECIPES)}, got {target!r}")
            if not (ROOT / RECIPES[target].dockerfile).is_file():
                raise ImageError(f"{RECIPES[target].dockerfile}: no such file; the image {target} is built from it")
        if not REPOSITORY.fullmatch(self.repository):
            raise ImageError(
                f"--repository: must be lower-case, as in registry.example.org/team, got {self.repository!r}"
            )
        if self.tag and (self.tag == "latest" or not TAG.fullmatch(self.tag)):
            rule = "must name one content, in up to 128 letters, digits, '.', '_' and '-'"
            raise ImageError(f"--tag: {rule}, got {self.tag!r}")
        if self.base and not PINNED.fullmatch(self.base.rpartition("/")[2]):
            raise ImageError(f"--base: must carry a version's tag or a digest, got {self.base!r}")
        if self.apt_sources is not None and not (self.apt_sources.suffix == ".sources" and self.apt_sources.is_file()):
            raise ImageError(f"--apt-sources: must be a file that ends in .sources, got {self.apt_sources}")
        if not self.tag:
            object.__setattr__(self, "tag", commit_tag())

    def image(self, target: str) -> str:
        """The full name of one of the images."""
        return f"{self.repository}/{RECIPES[target].name}:{self.tag}"


def build_images(engine: Docker, order: Order) -> None:
    """Build every image of the order; the machine's package index settings are mounted meanwhile.

    Raises:
        ImageError: a build failed; images built before it stay.
    """
    with tempfile.TemporaryDirectory(prefix="darkroom-index-") as folder:
        secrets = write_secrets(Path(folder))
        if order.apt_sources is not None:
            secrets["apt-sources"] = order.apt_sources
        for target in order.targets:
            engine.build(_arguments(order, target, secrets))


def _arguments(order: Order, target: str, secrets: dict[str, Path]) -> list[str]:
    recipe = RECIPES[target]
    arguments = ["--file", str(ROOT / recipe.dockerfile), "--tag", order.image(target)]
    arguments += ["--target", recipe.stage] if recipe.stage else []
    arguments += ["--build-arg", f"BASE={order.base}"] if order.base else []
    arguments += ["--build-arg", f"REVISION={revision()}"]
    arguments += ["--label", f"org.opencontainers.image.source={order.source}"] if order.source else []
    for name, file in secrets.items():
        arguments += ["--secret", f"id={name},src={file}"]
    return [*arguments, str(ROOT)]


def export_images(engine: Docker, order: Order, folder: Path) -> list[Path]:
    """Write one archive per image; one that is there already is replaced once the new one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    archives = []
    for target in order.targets:
        archive = folder / f"{RECIPES[target].name}.tar"
        unfinished = archive.with_suffix(".part")
        unfinished.unlink(missing_ok=True)
        engine.save(order.image(target), unfinished)
        archives.append(unfinished.replace(archive))
    return archives


def revision() -> str:
    """The commit checked out, with `-dirty` where any file that git does not ignore differs from it."""
    return _git("rev-parse", "HEAD") + ("-dirty" if _git("status", "--porcelain") else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ImageError(f"{ROOT}: not a git checkout, so no commit names the images: {done.stderr.strip()}")
    return done.stdout.strip()


def commit_tag() -> str:
    """The tag of images that hold what was committed.

    Raises:
        ImageError: the checkout differs from its commit.
    """
    commit, _, dirty = revision().partition("-")
    if dirty:
        raise ImageError(
            f"the checkout differs from its commit {commit[:12]}, by which Kubeflow's cache knows the code: commit the "
            "changes, or give the images another name with --tag"
        )
    return commit


@app.command()
def build(
    targets: Annotated[
        list[str] | None, typer.Option("--target", help=f"One of {', '.join(RECIPES)}; repeatable. All by default.")
    ] = None,
    engine: Annotated[str, typer.Option(help="docker, podman or buildah. By default the first that works.")] = "",
    repository: Annotated[str, typer.Option(help="What stands before the images' names.")] = DEFAULT_REPOSITORY,
    tag: Annotated[str, typer.Option(help="The images' tag. By default the git commit.")] = "",
    base: Annotated[str, typer.Option(help="Debian with Python 3.11. By default what the Dockerfiles name.")] = "",
    source: Annotated[str, typer.Option(metavar="URL", help="Where the source code is, for a label.")] = "",
    apt_sources: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Debian mirrors of this network, in a .sources file.")
    ] = None,
    export: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write an archive of each image here.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Time what each step imports when it starts.")] = False,
) -> None:
    """Build the container images, and say their names and sizes."""
    order = Order(
        targets=targets or list(RECIPES),
        repository=repository,
        tag=tag,
        base=base,
        source=source,
        apt_sources=apt_sources,
    )
    chosen = choose_engine(engine)
    build_images(chosen, order)
    for target in order.targets:
        typer.echo(f"{order.image(target)}  {chosen.size(order.image(target)) / 1e6:,.0f} MB")
    if export is not None:
        for archive in export_images(chosen, order, export):
            typer.echo(f"{archive}  {archive.stat().st_size / 1e6:,.0f} MB")
    if measure:
        from components.startup import measure_startup  # imports KFP, which costs two seconds

        for target in order.targets:
            for line in measure_startup(chosen, target, order.image(target)):
                typer.echo(line)


def main() -> None:
    """Run the command line: what a person can mend is one message and a status of 1, a defect a traceback."""
    try:
        app()
    except Exception as error:
        message = message_for_user(error)
        if message is None:
            raise
        typer.echo(f"Error {message}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
