"""Images built for real where no container engine can run: buildah's chroot isolation over a Debian root file system.

Everything, buildah's storage included, lies under build/images; `make clean` removes it. The base image is kept there
between runs, the images are built anew. All of it needs root, as debootstrap does.
"""

import base64
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import certifi
import pytest

from tests.images.workshop import (
    CERTIFICATE_MARK,
    FOLDER,
    MIRROR_MARK,
    PASSWORD,
    REPOSITORY,
    ROOT,
    SOURCE,
    TAG,
    TARGETS,
    USER,
    Images,
    PackageIndex,
    Workshop,
    full_name,
)

# Debian 12 has Python 3.11.
SUITE = "bookworm"
PACKAGES = ("python3", "python3-venv")


@pytest.fixture(scope="session")
def workshop() -> Workshop:
    assert os.geteuid() == 0, "the images are built as root: debootstrap makes the base's root file system"
    (FOLDER / "tmp").mkdir(parents=True, exist_ok=True)
    places = f'graphroot = "{FOLDER / "storage"}"\nrunroot = "{FOLDER / "run"}"'
    (FOLDER / "storage.conf").write_text(f'[storage]\ndriver = "overlay"\n{places}\n')
    settings = {"CONTAINERS_STORAGE_CONF": str(FOLDER / "storage.conf"), "TMPDIR": str(FOLDER / "tmp")}
    return Workshop({**os.environ, **settings})


@pytest.fixture(scope="session")
def base(workshop: Workshop) -> str:
    """The base image, from Debian's packages."""
    name = f"localhost/darkroom-base:{SUITE}"
    if name in workshop.buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines():
        return name
    root = FOLDER / "base"
    shutil.rmtree(root, ignore_errors=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    with tarfile.open(FOLDER / "base.tar", "w") as archive:
        archive.add(root, ".", filter=_without_leftovers)
    container = workshop.buildah("from", "scratch")
    workshop.buildah("add", container, str(FOLDER / "base.tar"), "/")
    workshop.buildah("commit", "--rm", container, name)
    shutil.rmtree(root)
    (FOLDER / "base.tar").unlink()
    return name


def _without_leftovers(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what debootstrap downloaded and logged, and devices, which engines make themselves."""
    unwanted = ("./dev/", "./var/cache/apt/", "./var/lib/apt/lists/", "./var/log/")
    return None if member.name.startswith(unwanted) else member


@pytest.fixture(scope="session")
def package_index() -> Iterator[PackageIndex]:
    index = PackageIndex("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            scheme, _, value = self.headers.get("Authorization", "").partition(" ")
            if scheme == "Basic":
                index.credentials.add(base64.b64decode(value).decode())
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index.address = f"http://{USER}:{PASSWORD}@127.0.0.1:{server.server_port}/simple"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield index
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def images(
    workshop: Workshop, base: str, package_index: PackageIndex, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Images]:
    """The images `data` and `registry`, built by `python -m components.build_images` as on a machine with an index."""
    folder = tmp_path_factory.mktemp("building-machine")
    certificates = folder / "certificates.pem"
    trusted = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or certifi.where()
    certificates.write_text(f"{CERTIFICATE_MARK}\n{Path(trusted).read_text()}")
    # The mirror that debootstrap took; a comment tells this file from the base's own.
    mirrors = folder / "mirrors.sources"
    lines = ["Types: deb", f"URIs: {_mirror(workshop, base)}", f"Suites: {SUITE}", "Components: main"]
    signed = "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg"
    mirrors.write_text("\n".join([MIRROR_MARK, *lines, signed, ""]))
    settings = {"PIP_CERT": str(certificates), "PIP_EXTRA_INDEX_URL": package_index.address}
    command = [sys.executable, "-m", "components.build_images", "--engine", "buildah", "--base", base]
    command += ["--repository", REPOSITORY, "--tag", TAG, "--source", SOURCE, "--apt-sources", str(mirrors)]
    archives = tmp_path_factory.mktemp("archives")
    printed = ""
    for options in (["--target=data"], ["--target=registry", f"--export={archives}", "--measure"]):
        done = subprocess.run(
            [*command, *options],
            cwd=ROOT,
            env=workshop.environment | settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=1200,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        printed += done.stdout
    with ExitStack() as stack:
        containers = {target: stack.enter_context(workshop.container(full_name(target))) for target in TARGETS}
        yield Images(
            printed=printed,
            archive=archives / "python-registry.tar",
            configurations={target: workshop.inspect(full_name(target)) for target in TARGETS},
            roots={target: Path(workshop.buildah("mount", container)) for target, container in containers.items()},
        )
    for target in TARGETS:
        workshop.buildah("rmi", full_name(target))
    (archives / "python-registry.tar").unlink()


def _mirror(workshop: Workshop, base: str) -> str:
    with workshop.container(base) as container:
        words = workshop.run(container, "cat", "/etc/apt/sources.list").stdout.split()
    return next(word for word in words if word.startswith("http"))
