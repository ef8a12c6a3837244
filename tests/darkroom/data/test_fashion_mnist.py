import gzip
import hashlib
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from darkroom.data import fashion_mnist as subject
from darkroom.data.digits import INFO, write_digits
from darkroom.data.fashion_mnist import DebianPackage, FilePin, PinnedDataset, Source, download, fashion_mnist
from darkroom.data.versions import hash_folder
from darkroom.errors import DataError

FILES = (INFO.train.images, INFO.train.labels, INFO.test.images, INFO.test.labels)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    write_digits(tmp_path / "original")
    return tmp_path / "original"


@pytest.fixture
def dataset(original: Path, tmp_path: Path) -> PinnedDataset:
    """Digits, pinned as Fashion-MNIST is."""
    pins = {
        name: FilePin(sha256=hashlib.sha256((original / name).read_bytes()).hexdigest(), upstream_md5="0" * 32)
        for name in FILES
    }
    debian = DebianPackage(package="dataset-digits", folder=tmp_path / "not-installed")
    return PinnedDataset(
        info=INFO, files=pins, debian=debian, dvc_md5="0" * 32 + ".dir", upstream="http://localhost:9/"
    )


def compress(original: Path, folder: Path, level: int) -> Source:
    """A source that holds .gz files of its own making."""
    folder.mkdir()
    for name in FILES:
        (folder / f"{name}.gz").write_bytes(gzip.compress((original / name).read_bytes(), level, mtime=level))
    return Source(folder.name, lambda scratch: folder)


def refuse(reason: str, scratch: Path) -> Path:
    raise DataError(reason)


def test_every_encoding_gives_the_same_bytes(original: Path, dataset: PinnedDataset, tmp_path: Path) -> None:
    sources = [compress(original, tmp_path / f"level-{level}", level) for level in (1, 9)]
    first, second = (tmp_path / source.name / f"{FILES[0]}.gz" for source in sources)
    assert first.read_bytes() != second.read_bytes()
    for source in (*sources, Source("plain", lambda scratch: original)):
        assert download(tmp_path / "to" / source.name, dataset=dataset, sources=[source]) == source.name
        assert hash_folder(tmp_path / "to" / source.name) == hash_folder(original)


def test_sources_are_tried_in_order_and_a_damaged_one_is_passed_over(
    original: Path, dataset: PinnedDataset, tmp_path: Path
) -> None:
    altered, cut, good = (compress(original, tmp_path / name, 6) for name in ("altered", "cut", "good"))
    (tmp_path / "altered" / f"{FILES[1]}.gz").write_bytes(gzip.compress(b"another file"))
    whole = (tmp_path / "cut" / f"{FILES[1]}.gz").read_bytes()
    (tmp_path / "cut" / f"{FILES[1]}.gz").write_bytes(whole[:-20])
    never = Source("never", partial(refuse, "must not be reached"))
    heard: list[str] = []

    sources = [Source("absent", partial(refuse, "not there")), altered, cut, good, never]
    assert download(tmp_path / "data", dataset=dataset, sources=sources, on_source=heard.append) == "good"
    assert heard == ["absent", "altered", "cut", "good"]
    assert hash_folder(tmp_path / "data") == hash_folder(original)


def test_all_sources_failing_tells_what_was_tried_and_what_to_do(
    original: Path, dataset: PinnedDataset, tmp_path: Path
) -> None:
    damaged = compress(original, tmp_path / "damaged", 6)
    (tmp_path / "damaged" / f"{FILES[0]}.gz").write_bytes(gzip.compress(b"another file"))
    with pytest.raises(DataError) as caught:
        download(tmp_path / "data", dataset=dataset, sources=[Source("absent", partial(refuse, "not there")), damaged])
    message = str(caught.value)
    assert "- absent: not there" in message
    assert (
        f"- damaged: {FILES[0]}: damaged or another file: expected sha256 {dataset.files[FILES[0]].sha256}" in message
    )
    assert f"decompress these files into {tmp_path / 'data'}" in message
    assert all(f"- {name} (sha256 {pin.sha256})" in message for name, pin in dataset.files.items())
    assert list((tmp_path / "data").iterdir()) == []


def test_what_is_in_place_is_left_alone_and_only_what_lacks_is_fetched(
    original: Path, dataset: PinnedDataset, tmp_path: Path
) -> None:
    good = compress(original, tmp_path / "good", 6)
    download(tmp_path / "data", dataset=dataset, sources=[good])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()}
    assert download(tmp_path / "data", dataset=dataset, sources=[]) == subject.IN_PLACE

    (tmp_path / "data" / FILES[3]).unlink()
    assert download(tmp_path / "data", dataset=dataset, sources=[good]) == "good"
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()}
    assert {path.name for path in before if before[path] != after[path]} == {FILES[3]}


@pytest.mark.parametrize("name", [FILES[1], "dataset.yaml"])
def test_altered_file_in_place_is_named_and_replaced_only_on_demand(
    original: Path, dataset: PinnedDataset, tmp_path: Path, name: str
) -> None:
    shutil.copytree(original, tmp_path / "data")
    (tmp_path / "data" / name).write_bytes(b"mine")
    actual = hashlib.sha256(b"mine").hexdigest()
    good = compress(original, tmp_path / "good", 6)
    with pytest.raises(DataError, match=rf"{name}: not the pinned file: expected sha256 \w+, got {actual}"):
        download(tmp_path / "data", dataset=dataset, sources=[good])
    assert (tmp_path / "data" / name).read_bytes() == b"mine"

    download(tmp_path / "data", dataset=dataset, sources=[good], force=True)
    assert hash_folder(tmp_path / "data") == hash_folder(original)


def test_destination_that_cannot_be_written_is_named(dataset: PinnedDataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=f"{tmp_path / 'file' / 'data'}: cannot be written"):
        download(tmp_path / "file" / "data", dataset=dataset, sources=[])


def test_sources_that_this_machine_lacks_give_a_reason(dataset: PinnedDataset, tmp_path: Path) -> None:
    remote, installed, *_ = subject.default_sources(dataset, tmp_path)
    with pytest.raises(DataError, match="none is configured"):
        remote.fetch(tmp_path)
    with pytest.raises(DataError, match=r"not-installed does not exist; `apt-get install dataset-digits`"):
        installed.fetch(tmp_path)


def test_upstream_out_of_reach_gives_a_reason(dataset: PinnedDataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^http://localhost:9/{FILES[0]}\.gz: the server cannot be reached$"):
        subject.download_upstream(dataset, tmp_path)


def test_package_is_unpacked_without_installing_it(original: Path, tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: dataset-digits\nVersion: 1\nArchitecture: all\n"
        "Maintainer: Nobody <nobody@example.org>\nDescription: digits\n"
    )
    compress(original, tree / "digits", 6)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    subprocess.run(["dpkg-deb", "--build", tree, scratch / "dataset-digits.deb"], check=True, capture_output=True)
    folder = subject.unpack_package(scratch, Path("/digits"))
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.gz" for name in FILES)


def test_fashion_mnist_is_pinned() -> None:
    dataset = fashion_mnist()
    assert dataset.info.name == "fashion-mnist"
    assert dataset.info.horizontal_flip
    assert len(dataset.info.classes) == 10
    assert set(dataset.files) == set(FILES)
