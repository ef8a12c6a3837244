"""Where this machine gets packages from, as files that a build mounts and that stay out of the image.

pip's settings count whether they stand in its files or in PIP_* variables; what uv has of its own in UV_* variables
wins for uv. The machine's certificates are those that pip or Python is told to trust. `install.sh` reads all of it.
"""

import ast
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from components.engines import ImageError

# What uv calls pip's settings. Folders of packages (find-links) are not passed on: a build does not have them.
UV_NAMES = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "trusted-host": "UV_INSECURE_HOST"}
UV_OWN = (*UV_NAMES.values(), "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def write_secrets(folder: Path, environment: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """Write the settings into files that only this user reads; returns them by the secret's name.

    Raises:
        ImageError: the file of certificates that the machine is set to does not exist.
    """
    settings = _pip_settings(environment)
    secrets = {"index": folder / "index"}
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in _variables(settings, environment).items()]
    secrets["index"].touch(mode=0o600)
    secrets["index"].write_text("".join(lines), encoding="utf-8")
    named = [settings.get("cert", ""), *(environment.get(name, "") for name in CERTIFICATE_VARIABLES)]
    certificates = next((Path(path) for path in named if path), None)
    if certificates is not None:
        if not certificates.is_file():
            raise ImageError(
                f"{certificates}: no such file; pip or SSL_CERT_FILE names it as the certificates to trust"
            )
        secrets["certificates"] = certificates
    return secrets


def _variables(settings: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    variables = {}
    for name, uv_name in UV_NAMES.items():
        if name in settings:
            # pip separates several values by spaces or line ends.
            value = " ".join(settings[name].split())
            variables[f"PIP_{name.upper().replace('-', '_')}"] = value
            variables[uv_name] = value
    return variables | {name: environment[name] for name in UV_OWN if environment.get(name)}


def _pip_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What `pip install` is set to here: a later one of pip's files wins, a section `install`, and then a variable."""
    listed: dict[str, str] = {}
    for files in ("--global", "--user", "--site"):
        listed |= _list_settings(files, environment)
    settings: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        found = {key.removeprefix(f"{section}."): value for key, value in listed.items() if key.startswith(section)}
        settings |= found
    return settings


def _list_settings(files: str, environment: Mapping[str, str]) -> dict[str, str]:
    command = [sys.executable, "-m", "pip", "config", files, "list"]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ImageError(f"`pip config {files} list` failed: {done.stderr.strip()}")
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return {key: str(ast.literal_eval(value)) for key, _, value in pairs}
