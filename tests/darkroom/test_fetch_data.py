import os
import shutil
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from darkroom.data.digits import INFO, write_digits
from darkroom.data.versions import PIN, add, hash_folder, make_repository, read_pin, shared_remote
from darkroom.errors import ConfigError, DataError
from darkroom.fetch_data import FetchConfig, fetch

from ..mlflow_server.conftest import ObjectStore, object_store  # noqa: F401 # fixture

# pygtrie, which DVC walks its folders with, deprecates an attribute that it reads itself.

IMAGES = INFO.train.images


@pytest.fixture(autouse=True)
def own_dvc_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep DVC's own notes out of the machine's folders, and a person's DVC settings out of the tests."""
    folder = tmp_path_factory.mktemp("dvc")
    for name in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG"):
        monkeypatch.setenv(f"DVC_{name}_DIR", str(folder / name.lower()))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_digits(tmp_path / "repository" / "data")
    make_repository(tmp_path / "repository")
    return tmp_path / "repository"


def commit_all(repository: Path, *, tag: str) -> None:
    identity = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")
    for command in (("add", "--all"), ("commit", "--quiet", "--message", tag), ("tag", tag)):
        subprocess.run(["git", *identity, *command], cwd=repository, check=True)


def object_of(repository: Path, name: str) -> Path:
    md5 = hash_folder(repository / "data")[name]
    return repository / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]


def make_bucket(store: ObjectStore, name: str) -> None:
    keys = {"aws_access_key_id": store.access_key, "aws_secret_access_key": store.secret_key}
    boto3.client("s3", endpoint_url=store.address, region_name="us-east-1", **keys).create_bucket(Bucket=name)


def assert_refused(config: FetchConfig, destination: Path, message: str) -> None:
    """The fetch fails with `message` and leaves nothing in the destination's folder."""
    before = sorted(destination.parent.iterdir())
    with pytest.raises(DataError, match=message):
        fetch(config, destination)
    assert sorted(destination.parent.iterdir()) == before


def test_working_tree_without_a_commit_is_fetched(repository: Path, tmp_path: Path) -> None:
    version = read_pin(repository / PIN)
    result = fetch(FetchConfig(repository=str(repository), data_md5=version.md5), tmp_path / "deep" / "raw")
    assert (result.md5, result.name, result.files) == (version.md5, "digits", 5)
    assert result.bytes == sum(path.stat().st_size for path in (tmp_path / "deep" / "raw").iterdir())
    assert hash_folder(tmp_path / "deep" / "raw") == hash_folder(repository / "data")


def test_each_revision_gives_its_own_data(repository: Path, tmp_path: Path) -> None:
    commit_all(repository, tag="first")
    first = hash_folder(repository / "data")
    with (repository / "data" / IMAGES).open("r+b") as file:
        file.seek(100)
        file.write(b"\x55")
    add(repository)
    commit_all(repository, tag="second")

    for tag, expected in (("first", first), ("second", hash_folder(repository / "data"))):
        fetch(FetchConfig(repository=str(repository), revision=tag), tmp_path / tag)
        assert hash_folder(tmp_path / tag) == expected
    assert_refused(FetchConfig(repository=str(repository), revision="third"), tmp_path / "third", "at third: .*third")


def test_unexpected_version_is_refused(repository: Path, tmp_path: Path) -> None:
    message = f"data_md5: expected 0123.dir, but .* pins {read_pin(repository / PIN).md5}"
    assert_refused(FetchConfig(repository=str(repository), data_md5="0123.dir"), tmp_path / "raw", message)


@pytest.mark.parametrize("length", [100, 20_000])
def test_altered_or_truncated_file_of_the_working_tree_is_named(repository: Path, tmp_path: Path, length: int) -> None:
    path = repository / "data" / IMAGES
    path.write_bytes(path.read_bytes()[:length])
    assert_refused(
        FetchConfig(repository=str(repository)),
        tmp_path / "raw",
        rf"{IMAGES}: altered or truncated: expected md5 \w+, got \w+ \({length} bytes\)",
    )


def test_damaged_object_that_dvc_calls_up_to_date_is_named(repository: Path, tmp_path: Path) -> None:
    commit_all(repository, tag="first")
    kept = object_of(repository, IMAGES)
    content = bytearray(kept.read_bytes())
    content[-1] ^= 0xFF
    for damaged in (bytes(content), bytes(content[:-1])):
        kept.chmod(0o644)
        kept.write_bytes(damaged)
        kept.chmod(0o444)
        message = rf"{IMAGES}: altered or truncated: expected md5 \w+, got \w+ \({len(damaged)} bytes\)"
        assert_refused(FetchConfig(repository=str(repository), revision="first"), tmp_path / "raw", message)


def test_data_that_is_nowhere_is_an_error(repository: Path, tmp_path: Path) -> None:
    md5 = read_pin(repository / PIN).md5
    shutil.rmtree(repository / ".dvc" / "cache")
    shutil.rmtree(repository / "data")
    message = f"the data that data.dvc pins \\({md5}\\) is in neither the DVC cache nor a remote"
    assert_refused(FetchConfig(repository=str(repository)), tmp_path / "raw", message)


def test_a_bucket_that_only_the_cluster_knows_is_read_with_the_keys_of_the_environment(
    repository: Path,
    tmp_path: Path,
    object_store: ObjectStore,  # noqa: F811 # fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dvc = [sys.executable, "-m", "dvc"]
    keys = {"AWS_ACCESS_KEY_ID": object_store.access_key, "AWS_SECRET_ACCESS_KEY": object_store.secret_key}
    make_bucket(object_store, "data")
    address = "s3://data/dvc"
    for command in (
        ["remote", "add", "--default", "cluster", address],
        ["remote", "modify", "cluster", "endpointurl", "http://object-store.invalid:8333"],
        ["remote", "modify", "--local", "cluster", "endpointurl", object_store.address],
    ):
        subprocess.run([*dvc, *command], cwd=repository, check=True, capture_output=True)
    assert shared_remote(repository, "HEAD") == ""
    commit_all(repository, tag="first")
    assert shared_remote(repository, "first") == address
    environment = {**os.environ, **keys}
    subprocess.run([*dvc, "push"], cwd=repository, check=True, capture_output=True, env=environment)
    # What a cluster clones, where the committed address leads to the store.
    subprocess.run(
        [*dvc, "remote", "modify", "cluster", "endpointurl", object_store.address], cwd=repository, check=True
    )
    commit_all(repository, tag="second")
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(repository), str(bare)], check=True)
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    config = FetchConfig(repository=f"file://{bare}", revision="second", data_md5=read_pin(repository / PIN).md5)
    assert fetch(config, tmp_path / "raw").name == "digits"
    assert hash_folder(tmp_path / "raw") == hash_folder(repository / "data")


def test_no_git_repository(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert_refused(FetchConfig(repository=str(tmp_path / "folder")), tmp_path / "raw", "folder: not a git repository")
    assert_refused(FetchConfig(repository=str(tmp_path / "none")), tmp_path / "raw", "none: not a git repository")
    assert_refused(FetchConfig(repository=f"file://{tmp_path}/none"), tmp_path / "raw", "none: DVC: ")


def test_repository_without_pinned_data(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "empty")], check=True)
    assert_refused(FetchConfig(repository=str(tmp_path / "empty")), tmp_path / "raw", r"empty: no data\.dvc there")


def test_destination_in_use_is_refused(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mine").write_text("keep")
    assert_refused(FetchConfig(repository=str(repository)), tmp_path / "raw", "raw: must be new or empty")
    assert (tmp_path / "raw" / "mine").read_text() == "keep"


def test_empty_destination_is_used(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    assert fetch(FetchConfig(repository=str(repository)), tmp_path / "raw").files == 5


def test_repository_must_be_named() -> None:
    with pytest.raises(ConfigError, match="repository"):
        FetchConfig.parse({"repository": ""})


def test_configuration_is_had_without_importing_dvc() -> None:
    code = "import sys, darkroom.fetch_data; sys.exit('dvc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
