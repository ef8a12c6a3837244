import shutil
import subprocess
from pathlib import Path

import pytest
from dvc.repo import Repo

from darkroom.data.versions import (
    PIN,
    DataVersion,
    add,
    commit,
    folder_md5,
    get,
    has_remote,
    hash_folder,
    make_repository,
    pull,
    read_pin,
    verify,
)
from darkroom.errors import DataError

# pygtrie, which DVC walks its folders with, deprecates an attribute that it reads itself.


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with three small files under data/, one of them in a folder of its own."""
    data = tmp_path / "repository" / "data"
    (data / "deep").mkdir(parents=True)
    (data / "images").write_bytes(b"pixels" * 1000)
    (data / "deep" / "labels").write_bytes(bytes(10))
    (data / "Note").write_text("ä note\n")
    make_repository(data.parent)
    return data.parent


def object_of(repository: Path, name: str) -> Path:
    """The object in DVC's cache of one file under data/."""
    md5 = hash_folder(repository / "data")[name]
    return repository / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]


def alter(path: Path, content: bytes) -> None:
    """Change a cache object and leave it read-only, so that DVC does not notice."""
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)


def dvc_status(repository: Path) -> dict[str, object]:
    with Repo(str(repository)) as repo:
        status: dict[str, object] = repo.status()
    return status


def git(repository: Path, *command: str) -> str:
    identity = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")
    result = subprocess.run(["git", *identity, *command], cwd=repository, check=True, capture_output=True, text=True)
    return result.stdout.strip()


def test_folder_md5_is_that_of_dvc(repository: Path) -> None:
    version = read_pin(repository / PIN)
    hashes = hash_folder(repository / "data")
    assert list(hashes) == ["Note", "deep/labels", "images"]
    assert folder_md5(hashes) == version.md5
    assert version == DataVersion(version.md5, nfiles=3, size=6000 + 10 + len("ä note\n".encode()), path="data")


def test_new_repository_is_clean_and_needs_no_commit(repository: Path) -> None:
    assert dvc_status(repository) == {}
    assert "/data" in (repository / ".gitignore").read_text().splitlines()
    assert make_repository(repository) == read_pin(repository / PIN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("outs: []", "pin exactly one folder"),
        ("outs: [{md5: a.dir, nfiles: 1, size: 1, path: a}, {md5: b.dir}]", "pin exactly one folder"),
        ("[", "pin exactly one folder"),
        ("outs: [{md5: abc, nfiles: 1, size: 1, path: data}]", r"ends in \.dir\), got abc"),
    ],
)
def test_pin_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / PIN).write_text(text)
    with pytest.raises(DataError, match=rf"data\.dvc: .*{message}"):
        read_pin(tmp_path / PIN)


def test_missing_pin_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.dvc: no such file"):
        read_pin(tmp_path / PIN)


def test_every_problem_is_named_with_what_was_expected(repository: Path) -> None:
    data = repository / "data"
    before = hash_folder(data)
    (data / "images").write_bytes(b"pixels" * 999)
    (data / "Note").unlink()
    (data / "new").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        verify(data, read_pin(repository / PIN))
    message = str(caught.value)
    assert "(3 files, 6018 bytes), got " in message
    assert f"{data / 'images'}: altered or truncated: expected md5 {before['images']}, got " in message
    assert "(5994 bytes)" in message
    assert f"{data / 'Note'}: missing, expected md5 {before['Note']}" in message
    assert f"{data / 'new'}: not part of the pinned data" in message
    assert "labels" not in message


def test_without_a_cache_the_folders_are_compared(repository: Path) -> None:
    shutil.rmtree(repository / ".dvc" / "cache")
    version = read_pin(repository / PIN)
    assert verify(repository / "data", version) == hash_folder(repository / "data")
    (repository / "data" / "images").write_bytes(b"")
    with pytest.raises(DataError, match=rf"expected md5 {version.md5} .*\n(.*\n)*.*images: 0 bytes, md5 d41d8cd9"):
        verify(repository / "data", version)


def test_missing_folder_is_named(repository: Path) -> None:
    shutil.rmtree(repository / "data")
    with pytest.raises(DataError, match=r"data: no such folder; data\.dvc pins 3 files"):
        verify(repository / "data", read_pin(repository / PIN))


def test_fresh_clone_is_clean_after_commit(repository: Path, tmp_path: Path) -> None:
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "Pin data")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(repository), str(clone))
    assert not (clone / "data").exists()
    shutil.copytree(repository / "data", clone / "data")
    assert list(dvc_status(clone).values()) == [[{"changed outs": {"data": "not in cache"}}]]

    assert commit(clone) == read_pin(repository / PIN)
    assert dvc_status(clone) == {}
    assert git(clone, "status", "--short") == ""
    assert (clone / "data" / "images").stat().st_mode & 0o200, "files in data/ stay writable"


def test_commit_refuses_what_is_not_pinned(repository: Path) -> None:
    (repository / "data" / "images").write_bytes(b"new pixels")
    pin = (repository / PIN).read_text()
    with pytest.raises(DataError, match="images: altered or truncated"):
        commit(repository)
    assert (repository / PIN).read_text() == pin


def test_commit_replaces_a_damaged_object_that_dvc_trusts(repository: Path) -> None:
    damaged = object_of(repository, "images")
    alter(damaged, b"pixels")
    assert dvc_status(repository) == {}
    commit(repository)
    assert damaged.read_bytes() == (repository / "data" / "images").read_bytes()


def test_add_pins_a_new_version(repository: Path) -> None:
    old = read_pin(repository / PIN)
    (repository / "data" / "images").write_bytes(b"new pixels")
    new = add(repository)
    assert new != old
    assert new.md5 == folder_md5(hash_folder(repository / "data"))
    assert dvc_status(repository) == {}


def add_remote(repository: Path, remote: Path) -> None:
    with Repo(str(repository)) as repo:
        with repo.config.edit("repo") as config:
            config["remote"]["store"] = {"url": str(remote)}
            config["core"]["remote"] = "store"
        repo.config.load()
        repo.push()


def test_pull_gets_the_pinned_files_from_the_remote(repository: Path, tmp_path: Path) -> None:
    assert not has_remote(repository)
    add_remote(repository, tmp_path / "remote")
    assert has_remote(repository)
    before = hash_folder(repository / "data")
    shutil.rmtree(repository / ".dvc" / "cache")
    shutil.rmtree(repository / "data")
    assert pull(repository, tmp_path / "pulled") == read_pin(repository / PIN)
    assert hash_folder(tmp_path / "pulled") == before


def test_pull_names_a_truncated_object_and_does_not_keep_it(repository: Path, tmp_path: Path) -> None:
    add_remote(repository, tmp_path / "remote")
    kept = object_of(repository, "images")
    alter(tmp_path / "remote" / "files" / "md5" / kept.parent.name / kept.name, b"pix")
    shutil.rmtree(repository / ".dvc" / "cache")
    with pytest.raises(DataError, match=f"data/images: the remote's object {kept.parent.name}{kept.name} is altered"):
        pull(repository, tmp_path / "pulled")
    assert not kept.exists()


def test_get_reads_the_revision_and_never_links_to_the_cache(repository: Path, tmp_path: Path) -> None:
    with Repo(str(repository)) as repo, repo.config.edit("repo") as config:
        config["cache"]["type"] = ["symlink"]
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "First")
    old = read_pin(repository / PIN)
    (repository / "data" / "images").unlink()
    (repository / "data" / "images").write_bytes(b"new pixels")
    add(repository)

    version, hashes = get(str(repository), "HEAD", tmp_path / "old")
    assert version == old
    assert (tmp_path / "old" / "images").read_bytes() == b"pixels" * 1000
    assert not (tmp_path / "old" / "images").is_symlink()
    assert hash_folder(tmp_path / "old") == hashes
    assert (tmp_path / "old" / "images").stat().st_mode & 0o200
