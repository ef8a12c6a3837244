"""Against a registry that speaks the part of the distribution API that is used, and refuses everything else."""

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from darkroom.errors import ConfigError
from pipelines.registries import Reference, missing_images

USER, PASSWORD = "robot", "a:b"


class Registry(ThreadingHTTPServer):
    """Holds the tags in `pushed`. `scheme` says how it is logged in to: not at all, by a token, or by a password."""

    def __init__(self, scheme: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = scheme
        self.pushed: set[tuple[str, str]] = set()
        self.broken = False
        self.requests: list[str] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def login(self) -> str:
        return base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Handler(BaseHTTPRequestHandler):
    server: Registry

    def log_message(self, *arguments: Any) -> None:
        pass

    def answer(self, status: int, body: dict[str, Any] | None = None, **headers: str) -> None:
        content = json.dumps(body).encode() if body else b""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.server.requests.append(self.path)
        parts = self.path.split("/")
        if len(parts) < 5 or parts[1] != "v2" or parts[-2] != "manifests":
            return self.answer(404)
        if "application/vnd.oci.image.index.v1+json" not in self.headers.get("Accept", ""):
            return self.answer(406)
        if self.server.broken:
            return self.answer(503)
        name, version = "/".join(parts[2:-2]), parts[-1]
        wanted = {"": None, "basic": f"Basic {self.server.login}", "token": f"Bearer token-for-{name}"}[
            self.server.scheme
        ]
        if wanted is not None and self.headers.get("Authorization") != wanted:
            realm = f'Bearer realm="http://{self.server.host}/token",service="stub",scope="repository:{name}:pull"'
            return self.answer(401, WWW_Authenticate='Basic realm="stub"' if self.server.scheme == "basic" else realm)
        return self.answer(200 if (name, version) in self.server.pushed else 404)

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        asked = parse_qs(address.query)
        if address.path != "/token" or asked.keys() != {"service", "scope"} or asked["service"] != ["stub"]:
            return self.answer(404)
        if self.headers.get("Authorization") != f"Basic {self.server.login}":
            return self.answer(401)
        return self.answer(200, {"token": f"token-for-{asked['scope'][0].split(':')[1]}"})


def serve(scheme: str) -> Iterator[Registry]:
    with Registry(scheme) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def registry(request: pytest.FixtureRequest) -> Iterator[Registry]:
    yield from serve(getattr(request, "param", ""))


@pytest.fixture(autouse=True)
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `docker login` would write; nobody is logged in."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


@pytest.mark.parametrize(
    ("image", "host", "path", "version"),
    [
        ("registry.internal/team/python-data:1f0c", "registry.internal", "team/python-data", "1f0c"),
        ("localhost:5000/python-data", "localhost:5000", "python-data", "latest"),
        ("localhost/python-data:1", "localhost", "python-data", "1"),
        ("darkroom/python-data:1f0c", "docker.io", "darkroom/python-data", "1f0c"),
        ("python:3.11", "docker.io", "library/python", "3.11"),
        ("ghcr.io/a/b/c:1@sha256:00ff", "ghcr.io", "a/b/c", "sha256:00ff"),
    ],
)
def test_names_are_split_as_container_engines_do(image: str, host: str, path: str, version: str) -> None:
    assert Reference.parse(image) == Reference(host, path, version)


def test_loopback_needs_no_tls_and_docker_hub_has_a_host_of_its_own() -> None:
    assert Reference.parse("127.0.0.1:5000/a:1").address == "http://127.0.0.1:5000/v2/a/manifests/1"
    assert Reference.parse("registry.internal/a:1").address == "https://registry.internal/v2/a/manifests/1"
    assert Reference.parse("a/b:1").address == "https://registry-1.docker.io/v2/a/b/manifests/1"
    assert Reference.parse("127.0.0.1.nip.io/a:1").address.startswith("https:")


def test_images_that_are_there_pass_and_each_is_asked_for_once(registry: Registry) -> None:
    registry.pushed = {("team/python-data", "1f0c"), ("team/python-train", "1f0c")}
    images = [f"{registry.host}/team/python-{name}:1f0c" for name in ("data", "train", "data")]
    assert missing_images(images) == {}
    assert len(registry.requests) == 2


def test_an_image_that_was_never_pushed_is_told(registry: Registry) -> None:
    registry.pushed = {("team/python-data", "1f0c")}
    data, train = (f"{registry.host}/team/python-{name}:1f0c" for name in ("data", "train"))
    assert missing_images([data, train]) == {train: f"must have been pushed; {registry.host} has no such image"}


@pytest.mark.parametrize("registry", ["basic", "token"], indirect=True)
def test_credentials_of_docker_login_are_used(registry: Registry, login: Path) -> None:
    registry.pushed = {("team/python-data", "1f0c")}
    pushed, missing = (f"{registry.host}/team/python-{name}:1f0c" for name in ("data", "train"))
    login.write_text(json.dumps({"auths": {registry.host: {"auth": registry.login}}}))
    assert missing_images([pushed, missing]) == {missing: f"must have been pushed; {registry.host} has no such image"}


@pytest.mark.parametrize("registry", ["basic", "token"], indirect=True)
@pytest.mark.parametrize("auth", ["", base64.b64encode(b"robot:wrong").decode()])
def test_without_a_login_it_is_the_login_that_is_named(registry: Registry, login: Path, auth: str) -> None:
    registry.pushed = {("team/python-data", "1f0c")}
    image = f"{registry.host}/team/python-data:1f0c"
    login.write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
    assert missing_images([image]) == {
        image: f"must be readable from here; {registry.host} answers 401: docker login, or no such image"
    }


def test_a_registry_that_is_down_or_broken_is_named(registry: Registry) -> None:
    with Registry() as gone:
        pass
    broken, absent = f"{registry.host}/a:1", f"{gone.host}/a:1"
    registry.broken = True
    assert missing_images([broken, absent]) == {
        broken: f"must be in a registry that works; {registry.host} answers 503",
        absent: f"must be in a registry that answers; {gone.host} does not (ConnectionError)",
    }


@pytest.mark.parametrize(
    "host", ["registry.example.org", "example.com:5000", "registry.invalid", "a.test", "b.example"]
)
def test_a_host_that_only_examples_have_is_not_asked(host: str) -> None:
    assert missing_images([f"{host}/team/python-data:1"]) == {
        f"{host}/team/python-data:1": f"must name your registry; {host} is a name for examples"
    }


def test_a_damaged_login_file_is_named(registry: Registry, login: Path) -> None:
    registry.scheme = "basic"
    login.write_text("{")
    with pytest.raises(ConfigError) as error:
        missing_images([f"{registry.host}/a:1"])
    assert f"{login}: cannot be read as JSON" in str(error.value)
