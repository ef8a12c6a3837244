"""The data that the cluster fetches: the manifest holds what our rules ask for, and what it serves can be fetched."""

import functools
import http.server
import io
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from darkroom.fetch_data import FetchConfig, fetch
from infra.check.__main__ import OBJECT_RULES
from infra.check.manifests import OVERLAYS, render
from infra.check.network import policies_match, services_find_pods
from tests.e2e import data

from ..servers import free_ports, running

ARCHIVE_LIMIT = 200_000  # a ConfigMap takes 1 MiB


def test_the_pod_that_serves_meets_every_rule_of_ours() -> None:
    objects = data.server_objects(b"archive", "registry.example.org/team", "1f0c2ab", "Never")

    assert [finding for rule in OBJECT_RULES for finding in rule(objects)] == []
    whole = [*render(OVERLAYS / "kind"), *objects]
    assert [finding for rule in (services_find_pods, policies_match) for finding in rule(whole)] == []
    pod = objects[1]["spec"]["template"]["spec"]
    images = {each["image"] for each in (*pod["initContainers"], *pod["containers"])}
    assert images == {"registry.example.org/team/python-data:1f0c2ab"}
    assert {each["imagePullPolicy"] for each in (*pod["initContainers"], *pod["containers"])} == {"Never"}


def test_a_step_fetches_what_the_pod_serves(tmp_path: Path) -> None:
    git, http_ = free_ports(2)
    root = tmp_path / "digits"
    version = data.make_data(root, "0a1b2c3d", f"http://127.0.0.1:{http_}/objects")
    archive = data.pack(root)
    assert len(archive) < ARCHIVE_LIMIT
    served = tmp_path / "srv"
    with tarfile.open(fileobj=io.BytesIO(archive)) as content:
        content.extractall(served, filter="data")
    commit = subprocess.check_output(["git", "-C", str(root), "rev-parse", "HEAD"], text=True).strip()
    # The command of the pod, on loopback.
    command = ["git", "daemon", "--export-all", f"--base-path={served}", f"--port={git}", "--listen=127.0.0.1"]

    with serving(served, http_), running([*command, str(served)], tmp_path):
        time.sleep(0.5)
        config = FetchConfig(repository=f"git://127.0.0.1:{git}/data.git", revision=commit, data_md5=version.md5)
        result = fetch(config, tmp_path / "fetched")

    assert (result.md5, result.name, result.files) == (version.md5, "digits", 5)
    assert "for the test 0a1b2c3d" in (tmp_path / "fetched" / "dataset.yaml").read_text()


def test_every_test_has_data_of_its_own(tmp_path: Path) -> None:
    """KFP's cache would find the data of an earlier test, whose artifacts are gone."""
    assert data.make_data(tmp_path / "a", "0a1b").md5 != data.make_data(tmp_path / "b", "2c3d").md5


@contextmanager
def serving(folder: Path, port: int) -> Iterator[None]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
