from pathlib import Path

import pytest

from darkroom.errors import ConfigError, DataError
from pipelines.config import load
from pipelines.submission import build_package, find_source
from pipelines.workspace import Workspace
from tests.pipelines.cluster.conftest import ORIGIN, git


@pytest.fixture
def workspace(checkout: Path) -> Workspace:
    return Workspace.find(checkout)


def test_the_source_is_the_commit_at_its_origin(workspace: Workspace) -> None:
    source = find_source(workspace)
    assert source.repository == ORIGIN
    assert source.commit == git(workspace.root, "rev-parse", "HEAD")
    arguments = source.arguments(load(None, ["cnn.epochs=3"]))
    assert arguments["revision"] == source.commit
    assert arguments["data_md5"] == "5" * 32 + ".dir"
    assert arguments["cnn_epochs"] == 3


def test_changes_that_are_not_committed_are_in_no_image(workspace: Workspace) -> None:
    (workspace.root / ".gitignore").write_text("/build/\n# changed\n")
    commit = git(workspace.root, "rev-parse", "HEAD")
    with pytest.raises(ConfigError, match=f"tracked files differ from commit {commit[:12]}: .* with --tag"):
        build_package(workspace, "cpu", "team")
    assert build_package(workspace, "cpu", "team", tag="mine").version.startswith("darkroom-mine-")
    assert find_source(workspace).commit == commit


def test_a_checkout_without_a_commit_has_no_data_to_fetch(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "data.dvc").write_text("outs: []\n")
    with pytest.raises(ConfigError, match="has no commit yet; a cluster fetches the data that a commit pins"):
        find_source(Workspace.find(tmp_path))


def test_a_commit_that_was_not_pushed_is_refused(workspace: Workspace) -> None:
    git(workspace.root, "-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "x", "--allow-empty")
    with pytest.raises(ConfigError, match=r"commit [0-9a-f]{12}: is on no branch of origin .*; push it first"):
        find_source(workspace)
    assert find_source(workspace, "ssh://git@git.example.org/x.git").repository == "ssh://git@git.example.org/x.git"


def test_a_checkout_without_an_origin_says_how_to_name_a_repository(workspace: Workspace) -> None:
    git(workspace.root, "remote", "remove", "origin")
    with pytest.raises(ConfigError, match="has no remote origin; name the repository to clone with --repository"):
        find_source(workspace)


@pytest.mark.parametrize(
    "address", ["/srv/git/darkroom", "../darkroom", "darkroom", "file:///srv/git", "C:\\git", "https://"]
)
def test_a_path_on_this_machine_is_no_repository(address: str, workspace: Workspace) -> None:
    with pytest.raises(ConfigError) as error:
        find_source(workspace, address)
    assert str(error.value) == (
        f"--repository: must be an address that the cluster can clone, not a path here, got {address!r}"
    )
    git(workspace.root, "remote", "set-url", "origin", address)
    with pytest.raises(ConfigError, match="remote origin: must be an address"):
        find_source(workspace)


@pytest.mark.parametrize(
    "address",
    ["https://git.example.org/x.git", "git@git.example.org:team/x.git", "git.example.org:x", "git://host:9418/x"],
)
def test_what_another_machine_can_clone_is_a_repository(address: str, workspace: Workspace) -> None:
    assert find_source(workspace, address).repository == address


@pytest.mark.parametrize("user", ["me:ghp_secret", "ghp_secret", "x-access-token:ghp_secret"])
def test_credentials_in_a_repository_are_refused_and_not_repeated(user: str, workspace: Workspace) -> None:
    git(workspace.root, "remote", "set-url", "origin", f"https://{user}@git.example.org/x.git")
    with pytest.raises(ConfigError) as error:
        find_source(workspace)
    assert str(error.value) == (
        "remote origin: must hold no credentials, they would show in every run, got https://...@git.example.org/x.git"
    )


def test_a_commit_that_names_no_remote_leaves_the_cluster_without_data(workspace: Workspace) -> None:
    git(workspace.root, "rm", "--quiet", ".dvc/config")
    commit = commit_changes(workspace)
    # What only this machine knows does not count.
    (workspace.root / ".dvc").mkdir(exist_ok=True)
    (workspace.root / ".dvc" / "config").write_text("[core]\n    remote = s\n['remote \"s\"']\n    url = s3://b/x\n")
    with pytest.raises(ConfigError) as error:
        find_source(workspace, ORIGIN)
    assert str(error.value) == (
        f".dvc/config at commit {commit[:12]}: names no default remote for the cluster to get the data from; "
        "`dvc remote add --default NAME URL`, commit, `dvc push`"
    )


@pytest.mark.parametrize("url", ["../store", "/srv/store", "file:///srv/store", "C:\\store"])
def test_a_folder_of_this_machine_is_no_remote_for_a_cluster(url: str, workspace: Workspace) -> None:
    config = workspace.root / ".dvc" / "config"
    config.write_text(config.read_text().replace("s3://darkroom/dvc", url))
    commit = commit_changes(workspace)
    with pytest.raises(ConfigError) as error:
        find_source(workspace, ORIGIN)
    assert str(error.value) == (
        f".dvc/config at commit {commit[:12]}: the remote must be an address that the cluster can reach, got {url!r}"
    )


def test_a_damaged_config_is_named(workspace: Workspace) -> None:
    (workspace.root / ".dvc" / "config").write_text("remote = s\n")
    commit_changes(workspace)
    with pytest.raises(DataError, match=r"\.dvc/config at [0-9a-f]{40}: File contains no section headers"):
        find_source(workspace, ORIGIN)


def commit_changes(workspace: Workspace) -> str:
    author = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    git(workspace.root, *author, "commit", "--quiet", "--all", "--message=Change the remote")
    return git(workspace.root, "rev-parse", "HEAD")


def test_the_same_content_has_one_version_name(workspace: Workspace) -> None:
    first = build_package(workspace, "cpu", "registry.example.org/team")
    again = build_package(workspace, "cpu", "registry.example.org/team")
    other = build_package(workspace, "t4", "registry.example.org/team")
    assert first == again
    assert first.version.startswith(f"darkroom-{git(workspace.root, 'rev-parse', 'HEAD')[:12]}-")
    assert other.version != first.version
    names = [file.name for file in (workspace.root / "build").iterdir()]
    assert sorted(names) == sorted([f"{first.version}.yaml", f"{other.version}.yaml"])


def test_the_steps_are_named_as_a_local_run_names_them(workspace: Workspace) -> None:
    steps = build_package(workspace, "t4", "team", tag="0123abc").steps
    assert {task: step.name for task, step in steps.items()} == {
        "fetch-data": "fetch_data",
        "validate-data": "validate_data",
        "preprocess": "preprocess",
        "train-cnn": "train_cnn",
        "evaluate-cnn": "evaluate_cnn",
        "register-model": "register_model_cnn",
        "train-gan": "train_gan",
        "evaluate-gan": "evaluate_gan",
        "register-model-2": "register_model_gan",
    }
    assert steps["train-gan"].accelerator == "1 x nvidia.com/gpu"
    assert steps["train-gan"].image == "team/python-train-gpu:0123abc"
    assert steps["evaluate-gan"].accelerator == ""


def test_an_unknown_profile_is_named(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="abacus"):
        build_package(workspace, "abacus", "team")
