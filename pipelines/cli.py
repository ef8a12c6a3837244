"""The command line. Every command says what it did and where to look next; errors are one message and a status."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.panel import Panel

from components.images import DEFAULT_REPOSITORY
from darkroom.errors import message_for_user
from pipelines import cluster_cli
from pipelines.outcome import show_outcome
from pipelines.terminal import INTERRUPTED_EXIT, Overrides, Parameters, err, out
from pipelines.terminal import say as _say
from pipelines.workspace import Workspace

app = typer.Typer(
    help="Develop image models on Kubeflow: a versioned dataset in; a gated, registered CNN and GAN out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Get, check and pin the dataset.", no_args_is_help=True)
app.add_typer(data_app, name="data")
models_app = typer.Typer(help="See registered models, and go back to an earlier one.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(cluster_cli.schedules_app, name="schedules")


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Take the options of every command; `main` reads --debug, wherever it stands."""


@app.command()
def run(params: Parameters = None, overrides: Overrides = None) -> None:
    """Run the whole pipeline on this machine and show what came out."""
    from pipelines.config import load
    from pipelines.job import Job
    from pipelines.live import LiveView
    from pipelines.local import run_locally
    from pipelines.report import write_report
    from pipelines.summary import summarise

    config = load(params, overrides or ())
    workspace = Workspace.find(Path.cwd())
    dataset = workspace.get_data_or_digits(_say, _warn_of_digits)
    folder = workspace.new_run()
    job = Job(
        root=str(workspace.root),
        cache=str(workspace.cache),
        dataset=dataset.name,
        git_commit=workspace.git_commit,
        arguments={"repository": str(dataset.repository), "data_md5": dataset.md5, **config.arguments()},
    )
    _say(f"[bold]{dataset.title}[/]   data {dataset.md5}   commit {job.git_commit[:12]}")
    started = time.monotonic()
    try:
        status = "succeeded" if run_locally(job, folder, LiveView(out)) == 0 else "failed"
    except KeyboardInterrupt:
        status = "interrupted"
    summary = summarise(folder, status=status, wall_seconds=time.monotonic() - started, job=job)
    summary.write(folder)
    report = write_report(summary, job, folder)
    show_outcome(out, summary, folder, report)
    if status != "succeeded":
        raise typer.Exit(INTERRUPTED_EXIT if status == "interrupted" else 1)


@app.command(name="compile")
def compile_(
    params: Parameters = None,
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option(dir_okay=False, help="Where the compiled pipeline goes.")] = Path(
        "build/darkroom.yaml"
    ),
    profile: Annotated[str, typer.Option(metavar="NAME|FILE", help="What each step asks the cluster for.")] = "cpu",
    images: Annotated[str, typer.Option(help="Repository of the images.")] = DEFAULT_REPOSITORY,
    tag: Annotated[str, typer.Option(help="Tag of the images; by default the git commit.")] = "",
    kubernetes: Annotated[
        bool, typer.Option("--kubernetes", help="Write resources for kubectl apply instead.")
    ] = False,
    namespace: Annotated[str, typer.Option(help="Of those resources.")] = "darkroom",
) -> None:
    """Compile the pipeline for a Kubeflow cluster and check that it can be scheduled."""
    from pipelines.cluster import compile_for_cluster
    from pipelines.config import load
    from pipelines.placement import ClusterPlacement
    from pipelines.resources import load_profile

    config = load(params, overrides or ())
    workspace = Workspace.find(Path.cwd())
    commit = workspace.git_commit
    place = ClusterPlacement(load_profile(profile), images, tag or commit, commit)
    version = compile_for_cluster(place, config, workspace.pinned_md5, output, namespace if kubernetes else None)
    _say(f"Compiled to {output} with profile {profile}, images {images}/*:{place.tag[:12]}")
    if version:
        _say(f"Pipeline and PipelineVersion {version}: kubectl apply -f {output}")


@app.command(name="preflight")
def preflight_(
    package: Annotated[Path, typer.Argument(help="What `darkroom compile` wrote.")],
    kubeconfig: Annotated[Path | None, typer.Option(help="Check the nodes and secrets of its cluster, too.")] = None,
    namespace: Annotated[str, typer.Option(help="Of the run; by default the kubeconfig's own.")] = "",
    side_loaded: Annotated[
        bool, typer.Option("--side-loaded", help="The images are loaded from archives: ask no registry for them.")
    ] = False,
) -> None:
    """Check that a cluster can run a compiled pipeline: resources, nodes, secrets and images."""
    from pipelines.preflight import preflight

    preflight(package, kubeconfig=kubeconfig, namespace=namespace, check_images=not side_loaded)
    _say(f"{package}: nothing stands against running it")


app.command()(cluster_cli.submit)
app.command()(cluster_cli.status)


@app.command()
def ui(port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000) -> None:
    """Start MLflow's web page on this machine, on the runs and models made here."""
    from pipelines.ui import HOST, check_port, serve

    workspace = Workspace.find(Path.cwd())
    check_port(port)
    _say(f"MLflow is at [bold]http://{HOST}:{port}[/]   (Ctrl-C stops it)")
    serve(workspace.root, port)


@data_app.command()
def get(
    force: Annotated[bool, typer.Option("--force", help="Replace files that differ from their pin.")] = False,
) -> None:
    """Put Fashion-MNIST under data/ and check it against data.dvc."""
    dataset = Workspace.find(Path.cwd()).get_data(_say, force=force)
    _say(f"[bold]{dataset.title}[/] is in place and matches data.dvc ({dataset.md5})")


@data_app.command()
def check() -> None:
    """Hash every file under data/ again and compare with data.dvc."""
    dataset = Workspace.find(Path.cwd()).check_data()
    _say(f"[bold]{dataset.title}[/] matches data.dvc ({dataset.md5})")


@data_app.command()
def add() -> None:
    """Pin what is under data/ now as a new version of the dataset."""
    dataset = Workspace.find(Path.cwd()).add_data()
    _say(f"data.dvc now pins [bold]{dataset.title}[/] as {dataset.md5}; commit data.dvc to keep this version")


@models_app.command(name="list")
def list_() -> None:
    """Show each registered model, its aliases and what happened to its champion."""
    from darkroom.registry import list_models
    from darkroom.tracking import settings

    for model in list_models(settings(os.environ, Workspace.find(Path.cwd()).root)):
        aliases = ", ".join(f"{alias}: version {version}" for alias, version in sorted(model.aliases.items()))
        _say(f"[bold]{model.name}[/]  {aliases or 'no alias'}")
        for entry in model.journal:
            _say(f"  [dim]{entry['time']}[/] {entry['event'].replace('_', ' ')} version {entry['version']}")


@models_app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="Name of the registered model, such as fashion-mnist-cnn.")],
    reason: Annotated[str, typer.Option(help="Why; goes into the model's journal.")],
) -> None:
    """Make the champion before the present one champion again."""
    from darkroom import registry
    from darkroom.tracking import settings

    version = registry.rollback(name, settings(os.environ, Workspace.find(Path.cwd()).root), reason)
    _say(f"[bold]{name}[/]: version {version} is the champion again")


def main() -> None:
    """Run the command line: an expected error is one message and a status of 1, a defect a traceback."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(arguments)
    except Exception as error:
        message = message_for_user(error)
        if message is None or len(arguments) < len(sys.argv) - 1:
            raise
        err.print(f"[bold red]Error[/] {escape(message)}", highlight=False, soft_wrap=True)
        sys.exit(1)


def _warn_of_digits(reason: str) -> None:
    out.print(
        Panel(
            f"{escape(reason)}\n\n[bold]This run uses scikit-learn's 1,797 digits of 8 x 8 pixels instead.[/]\n"
            "Its numbers say nothing about Fashion-MNIST.",
            title="The dataset could not be had",
            border_style="bold yellow",
        )
    )


if __name__ == "__main__":
    main()
