"""The dataset that the cluster fetches: scikit-learn's digits in a DVC repository, which a pod of the cluster serves.

A cluster of any kind has it without a network to the outside: the repository and DVC's objects are 60 kB, travel in a
ConfigMap, and are served by the programs of the image python-data. The data are the test's own version, because KFP's
cache outlives what it refers to: after an earlier test had been cleared away, the same data would be found in the cache
and not in the object store.
"""

import base64
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import yaml

from components.images import image
from darkroom.data.digits import INFO, write_digits
from darkroom.data.metadata import write_info
from darkroom.data.versions import DataVersion, make_repository
from tests.e2e.kubectl import Object

HOST = "e2e-data.darkroom.svc.cluster.local"
REPOSITORY = f"git://{HOST}:9418/data.git"
OBJECTS = f"http://{HOST}:8080/objects"
MANIFEST = Path(__file__).with_name("data_server.yaml")


def make_data(root: Path, identity: str, objects: str = OBJECTS) -> DataVersion:
    """Make `root` a git repository with one commit, in which DVC tracks the digits and finds them at `objects`."""
    write_digits(root / "data")
    write_info(INFO.model_copy(update={"title": f"{INFO.title}, for the test {identity}"}), root / "data")
    version = make_repository(root)
    (root / ".gitignore").write_text("/data\n/runs\n/build\n/mlflow.db\n/mlartifacts\n", encoding="utf-8")
    remote = [sys.executable, "-m", "dvc", "remote", "add", "--quiet", "--default", "served", objects]
    subprocess.run(remote, cwd=root, check=True)
    author = ["-c", "user.name=Darkroom", "-c", "user.email=darkroom@localhost"]
    for command in (["add", "."], [*author, "commit", "--quiet", f"--message=Pin the digits for the test {identity}"]):
        subprocess.run(["git", "-C", str(root), *command], check=True)
    return version


def pack(root: Path) -> bytes:
    """What the pod serves, as a compressed archive: `data.git`, a bare clone, and `objects`, DVC's cache."""
    bare = root.with_name(f"{root.name}.git")
    subprocess.run(["git", "clone", "--quiet", "--bare", str(root), str(bare)], check=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(bare, "data.git", filter=_without_hooks)
        archive.add(root / ".dvc" / "cache", "objects")
    return buffer.getvalue()


def server_objects(archive: bytes, repository: str, tag: str, pull_policy: str) -> list[Object]:
    """What is applied to the cluster so that it serves an archive."""
    objects: list[Object] = list(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")))
    pod = objects[0]["spec"]["template"]["spec"]
    for container in (*pod["initContainers"], *pod["containers"]):
        container |= {"image": image("data", repository, tag), "imagePullPolicy": pull_policy}
    seed = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "e2e-data", "namespace": "darkroom"},
        "binaryData": {"data.tar.gz": base64.b64encode(archive).decode()},
    }
    return [seed, *objects]


def _without_hooks(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "/hooks/" in entry.name else entry
