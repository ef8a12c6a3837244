"""The commands that talk to a Kubeflow cluster: `submit`, `status` and `schedules`."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from components.images import DEFAULT_REPOSITORY
from darkroom.errors import ClusterError
from pipelines.terminal import INTERRUPTED_EXIT, Overrides, Parameters, out, say
from pipelines.workspace import Workspace

if TYPE_CHECKING:  # they import kfp, which takes seconds
    from collections.abc import Mapping

    from pipelines.connection import Options
    from pipelines.kubeflow import Kubeflow
    from pipelines.reconcile import Change, Wanted
    from pipelines.schedules import Declaration
    from pipelines.submission import Step

# As `timeout` does, which is the usual way to put an end to a command.
TIMEOUT_EXIT = 124
# 1 is an error; a drift is none.
DRIFT_EXIT = 2
# What infra/ sets up for the pods of runs.
SERVICE_ACCOUNT = "darkroom-runner"

schedules_app = typer.Typer(
    help="Keep a cluster's schedules as infra/schedules.yaml declares them.", no_args_is_help=True
)

Images = Annotated[str, typer.Option(help="Repository of the images.")]
Tag = Annotated[str, typer.Option(help="Tag of the images; by default the git commit.")]
Repository = Annotated[str, typer.Option(help="Git address that the cluster clones; the remote origin by default.")]
Account = Annotated[str, typer.Option(help="Service account of the run's pods; empty for Kubeflow's own.")]
SideLoaded = Annotated[
    bool, typer.Option("--side-loaded", help="The images are loaded from archives: ask no registry for them.")
]
Endpoint = Annotated[str, typer.Option(help="Address of Kubeflow Pipelines; else KFP_ENDPOINT, else the kubeconfig.")]
Namespace = Annotated[str, typer.Option(help="Namespace on a cluster of many users; else KFP_NAMESPACE.")]
TokenFile = Annotated[Path | None, typer.Option(help="File that holds the access token; else KFP_TOKEN.")]
Certificate = Annotated[
    Path | None, typer.Option("--ca-cert", help="The server's certificate authority; else KFP_CA_CERT.")
]
Kubeconfig = Annotated[Path | None, typer.Option(help="Check the nodes and secrets of its cluster first.")]
File = Annotated[Path | None, typer.Option(help="The declared schedules; infra/schedules.yaml by default.")]


def submit(
    params: Parameters = None,
    overrides: Overrides = None,
    profile: Annotated[str, typer.Option(metavar="NAME|FILE", help="What each step asks the cluster for.")] = "cpu",
    images: Images = DEFAULT_REPOSITORY,
    tag: Tag = "",
    repository: Repository = "",
    experiment: Annotated[str, typer.Option(help="Experiment that the run belongs to.")] = "darkroom",
    service_account: Account = SERVICE_ACCOUNT,
    side_loaded: SideLoaded = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the run to end.")] = False,
    timeout: Annotated[float | None, typer.Option(min=1, metavar="SECONDS", help="Wait no longer than this.")] = None,
    endpoint: Endpoint = "",
    namespace: Namespace = "",
    token_file: TokenFile = None,
    ca_cert: Certificate = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Run the pipeline on a Kubeflow cluster and wait for it: status 0 when it succeeded, 1 failed, 124 out of time."""
    from pipelines.config import load
    from pipelines.connection import Options, connect
    from pipelines.kubeflow import Kubeflow
    from pipelines.pipeline import NAME
    from pipelines.preflight import preflight
    from pipelines.submission import build_package, find_source

    config = load(params, overrides or ())
    connection = connect(Options(endpoint, namespace, token_file, ca_cert, kubeconfig))
    workspace = Workspace.find(Path.cwd())
    source = find_source(workspace, repository)
    package = build_package(workspace, profile, images, tag)
    preflight(package.file, kubeconfig=kubeconfig, namespace=connection.namespace, check_images=not side_loaded)
    kubeflow = Kubeflow(connection)
    place = kubeflow.make_experiment(experiment)
    version = kubeflow.upload(NAME, package.version, package.file)
    name = f"{NAME}-{datetime.now():%Y-%m-%d-%H%M%S}"
    run = kubeflow.start_run(name, place, version, source.arguments(config), service_account)
    say(f"[bold]{name}[/]   version {package.version}   data {source.data_md5}")
    say(f"  {kubeflow.address(run)}")
    if no_wait:
        _point_to(run)
    else:
        follow(kubeflow, run, package.steps, timeout)


def status(
    run: Annotated[str, typer.Argument(help="Id of the run.")],
    endpoint: Endpoint = "",
    namespace: Namespace = "",
    token_file: TokenFile = None,
    ca_cert: Certificate = None,
) -> None:
    """Show where a run on a cluster is; the status is 0 unless it failed."""
    from pipelines.connection import Options, connect
    from pipelines.kubeflow import Kubeflow
    from pipelines.submission import read_steps
    from pipelines.watch import ENDED, SUCCEEDED, RunView

    kubeflow = Kubeflow(connect(Options(endpoint, namespace, token_file, ca_cert)))
    found = kubeflow.get_run(run)
    RunView(out, read_steps(kubeflow.get_specification(found)), run).handle(found)
    say(f"[bold]{escape(found.display_name)}[/] {found.state.lower()}")
    say(f"  {kubeflow.address(run)}")
    if found.state in ENDED and found.state != SUCCEEDED:
        raise typer.Exit(1)


@schedules_app.command()
def apply(
    file: File = None,
    images: Images = DEFAULT_REPOSITORY,
    tag: Tag = "",
    repository: Repository = "",
    service_account: Account = SERVICE_ACCOUNT,
    side_loaded: SideLoaded = False,
    endpoint: Endpoint = "",
    namespace: Namespace = "",
    token_file: TokenFile = None,
    ca_cert: Certificate = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Bring the cluster's schedules to what the file declares; a second time, nothing is written."""
    from pipelines.connection import Options, connect
    from pipelines.kubeflow import Kubeflow
    from pipelines.preflight import preflight
    from pipelines.reconcile import apply_changes

    connection = connect(Options(endpoint, namespace, token_file, ca_cert, kubeconfig))
    declaration, wanted = _prepare(file, images, tag, repository, service_account)
    for package in {one.package.version: one.package.file for one in wanted}.values():
        preflight(package, kubeconfig=kubeconfig, namespace=connection.namespace, check_images=not side_loaded)
    kubeflow = Kubeflow(connection)
    changes = _find_changes(kubeflow, declaration, wanted)
    apply_changes(kubeflow, declaration.experiment, changes, say)
    say("The schedules are as declared" if changes else "The schedules were as declared; nothing was written")


@schedules_app.command()
def diff(
    file: File = None,
    images: Images = DEFAULT_REPOSITORY,
    tag: Tag = "",
    repository: Repository = "",
    service_account: Account = SERVICE_ACCOUNT,
    endpoint: Endpoint = "",
    namespace: Namespace = "",
    token_file: TokenFile = None,
    ca_cert: Certificate = None,
) -> None:
    """Show what `apply` would change, and change nothing: status 0 when nothing, 2 when something."""
    from pipelines.connection import Options

    declaration, wanted = _prepare(file, images, tag, repository, service_account)
    changes = _find_changes(_open(Options(endpoint, namespace, token_file, ca_cert)), declaration, wanted)
    for change in changes:
        say(f"[bold]{change.name}[/]")
        for reason in change.reasons:
            say(f"  {escape(reason)}")
    if changes:
        raise typer.Exit(DRIFT_EXIT)
    say("The schedules are as declared")


@schedules_app.command(name="list")
def list_(
    file: File = None,
    endpoint: Endpoint = "",
    namespace: Namespace = "",
    token_file: TokenFile = None,
    ca_cert: Certificate = None,
) -> None:
    """Show every recurring run in the schedules' experiment, whoever made it."""
    from pipelines.connection import Options
    from pipelines.reconcile import owner

    declaration = _read(Workspace.find(Path.cwd()), file)
    kubeflow = _open(Options(endpoint, namespace, token_file, ca_cert))
    copies = kubeflow.list_recurring_runs(declaration.experiment)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("schedule", "cron", "state", "at once", "made by"):
        table.add_column(title)
    for copy in copies:
        state = "[green]enabled[/]" if copy.enabled else "[yellow]paused[/]"
        maker = "Darkroom" if owner(copy) else "somebody else"
        table.add_row(escape(copy.name), escape(copy.cron), state, str(copy.max_concurrency), maker)
    if copies:
        out.print(table)
    else:
        say(f"There is no recurring run in experiment {escape(declaration.experiment)}")


def _read(workspace: Workspace, file: Path | None) -> "Declaration":
    from pipelines.schedules import FILE_NAME, read_declaration

    return read_declaration(file or workspace.root / FILE_NAME, workspace.root)


def _open(options: "Options") -> "Kubeflow":
    from pipelines.connection import connect
    from pipelines.kubeflow import Kubeflow

    return Kubeflow(connect(options))


def _prepare(
    file: Path | None, images: str, tag: str, repository: str, service_account: str
) -> "tuple[Declaration, list[Wanted]]":
    """Read, check and compile everything, before any server is asked."""
    from pipelines.reconcile import Wanted
    from pipelines.submission import build_package, find_source

    workspace = Workspace.find(Path.cwd())
    declaration = _read(workspace, file)
    source = find_source(workspace, repository)
    profiles = {declared.schedule.profile for declared in declaration.schedules}
    packages = {profile: build_package(workspace, profile, images, tag) for profile in profiles}
    wanted = [
        Wanted(each.schedule, packages[each.schedule.profile], source.arguments(each.config), service_account)
        for each in declaration.schedules
    ]
    return declaration, wanted


def _find_changes(kubeflow: "Kubeflow", declaration: "Declaration", wanted: "list[Wanted]") -> "list[Change]":
    from pipelines.pipeline import NAME
    from pipelines.reconcile import find_changes

    names = {one.package.version for one in wanted}
    versions = {name: kubeflow.find_version(NAME, name) for name in names}
    return find_changes(wanted, kubeflow.list_recurring_runs(declaration.experiment), versions)


def follow(kubeflow: "Kubeflow", run: str, steps: "Mapping[str, Step]", timeout: float | None = None) -> None:
    """Wait for a run, show it and end with a status by its outcome."""
    from pipelines.watch import SUCCEEDED, RunView, wait_for_run

    try:
        state = wait_for_run(kubeflow, run, RunView(out, steps, run), timeout)
    except KeyboardInterrupt:
        say("[yellow]Stopped waiting.[/] The run goes on.")
        _point_to(run)
        raise typer.Exit(INTERRUPTED_EXIT) from None
    except ClusterError as error:
        raise ClusterError(f"{error}\nThe run goes on: darkroom status {run}", error.status) from None
    if state is None:
        say(f"[yellow]Not done after {timeout:.0f} s.[/] The run goes on.")
        _point_to(run)
        raise typer.Exit(TIMEOUT_EXIT)
    if state != SUCCEEDED:
        say(f"[red]The run {state.lower()}.[/]")
        say(f"  [dim]logs  [/] kubectl logs --all-containers --prefix -l pipeline/runid={run}")
        raise typer.Exit(1)
    say("[green]The run succeeded.[/]")


def _point_to(run: str) -> None:
    say(f"  [dim]look[/]  darkroom status {run}")
