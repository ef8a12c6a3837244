"""Whether images exist, asked of their registries by the HTTP API that all of them speak.

Credentials are those that `docker login` stored in `config.json`; a credential helper is not asked.
"""

import base64
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import requests

from darkroom.errors import ConfigError

TIMEOUT_SECONDS = 15
MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
DOCKER_HUB = "docker.io"
# RFC 2606 and 6761: nothing is ever reached by these names.
_RESERVED_HOST = re.compile(r"(^|\.)(example|example\.(com|net|org)|invalid|test)(:\d+)?$")


@dataclass(frozen=True)
class Reference:
    """An image's full name in its parts: `host/path:version`, where the version is a tag or a digest."""

    host: str
    path: str
    version: str

    @classmethod
    def parse(cls, image: str) -> "Reference":
        """Split a name as container engines do: without a host it is Docker Hub's, without a version `latest`."""
        name, _, digest = image.partition("@")
        first, slash, rest = name.partition("/")
        has_host = bool(slash) and (first == "localhost" or "." in first or ":" in first)
        host, path = (first, rest) if has_host else (DOCKER_HUB, name)
        path, _, tag = path.partition(":")
        if host == DOCKER_HUB and "/" not in path:
            path = f"library/{path}"
        return cls(host, path, digest or tag or "latest")

    @property
    def address(self) -> str:
        """Where the registry has the image's manifest. As in container engines, loopback needs no TLS."""
        host = "registry-1.docker.io" if self.host == DOCKER_HUB else self.host
        scheme = "http" if re.match(r"(localhost|127\.[0-9.]+)(:|$)", host) else "https"
        return f"{scheme}://{host}/v2/{self.path}/manifests/{self.version}"


def missing_images(images: Iterable[str]) -> dict[str, str]:
    """Why images cannot be pulled, by image; those that can are left out."""
    found = {image: _why_missing(Reference.parse(image)) for image in sorted(set(images))}
    return {image: why for image, why in found.items() if why}


def _why_missing(reference: Reference) -> str:
    if _RESERVED_HOST.search(reference.host):
        return f"must name your registry; {reference.host} is a name for examples"
    try:
        with requests.Session() as session:
            session.headers["Accept"] = MANIFESTS
            answer = _ask(session, reference)
    except requests.RequestException as error:
        return f"must be in a registry that answers; {reference.host} does not ({type(error).__name__})"
    if answer.ok:
        return ""
    if answer.status_code == requests.codes.not_found:
        return f"must have been pushed; {reference.host} has no such image"
    if answer.status_code in (requests.codes.unauthorized, requests.codes.forbidden):
        return (
            f"must be readable from here; {reference.host} answers {answer.status_code}: docker login, or no such image"
        )
    return f"must be in a registry that works; {reference.host} answers {answer.status_code}"


def _ask(session: requests.Session, reference: Reference) -> requests.Response:
    answer = session.head(reference.address, timeout=TIMEOUT_SECONDS, allow_redirects=True)
    if answer.status_code != requests.codes.unauthorized:
        return answer
    credentials = _credentials(reference.host)
    scheme, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
    if scheme.lower() == "bearer":
        asked = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        grant = session.get(asked.pop("realm", ""), params=asked, auth=credentials, timeout=TIMEOUT_SECONDS)
        if not grant.ok:
            return grant
        granted = grant.json()
        session.headers["Authorization"] = f"Bearer {granted.get('token') or granted.get('access_token')}"
    elif credentials is None:
        return answer
    else:
        session.auth = credentials
    return session.head(reference.address, timeout=TIMEOUT_SECONDS, allow_redirects=True)


def _credentials(host: str) -> tuple[str, str] | None:
    """User and password of a registry, as `docker login` keeps them."""
    folder = os.environ.get("DOCKER_CONFIG")
    file = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
    if not file.is_file():
        return None
    try:
        stored = json.loads(file.read_text(encoding="utf-8")).get("auths", {})
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read as JSON: {error}") from None
    key = "https://index.docker.io/v1/" if host == DOCKER_HUB else host
    encoded = (stored.get(key) or stored.get(f"https://{host}") or {}).get("auth")
    if not encoded:
        return None
    user, _, password = base64.b64decode(encoded).decode().partition(":")
    return user, password
