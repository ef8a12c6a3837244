"""PostgreSQL, an S3 store and MLflow as mlflow/compose.yaml puts them together, started here without containers."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..darkroom.conftest import tiny_networks, tiny_splits  # noqa: F401 # fixtures
from ..servers import free_port, free_ports, running, wait_until_healthy
from .deployment import image_environment, service, service_environment, start_command

BUCKET = "mlflow"


def pytest_configure(config: pytest.Config) -> None:
    # TensorFlow 2.21 about NumPy 2 when Keras saves a model, MLflow about its own type hints when it is imported,
    # pandas about MLflow when it looks at a data frame's index.
    config.addinivalue_line(
        "filterwarnings", "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    )
    config.addinivalue_line("filterwarnings", "ignore:.*Any type hint is inferred as AnyType:UserWarning")
    config.addinivalue_line("filterwarnings", "ignore:Operation with range is deprecated")


@dataclass(frozen=True)
class Database:
    """A PostgreSQL server, as libpq's environment variables tell of it."""

    port: int
    password: str

    @property
    def environment(self) -> dict[str, str]:
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "mlflow", "PGPASSWORD": self.password}

    def connect(self, name: str) -> Any:
        import psycopg2

        return psycopg2.connect(
            host="127.0.0.1", port=self.port, user="mlflow", password=self.password, dbname=name, connect_timeout=5
        )


@dataclass(frozen=True)
class ObjectStore:
    """An S3 server and the keys to it."""

    address: str
    access_key: str
    secret_key: str

    def keys(self, prefix: str = "") -> set[str]:
        """The keys of all objects in MLflow's bucket."""
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=self.address,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
        )
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return {item["Key"] for page in pages for item in page.get("Contents", ())}


@dataclass(frozen=True)
class Server:
    """MLflow's server, and what its clients need in their environment."""

    address: str
    username: str
    password: str
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "MLFLOW_TRACKING_URI": self.address,
            "MLFLOW_TRACKING_USERNAME": self.username,
            "MLFLOW_TRACKING_PASSWORD": self.password,
        }


@pytest.fixture(scope="session")
def database() -> Iterator[Database]:
    """PostgreSQL on loopback with a password, and an empty database in it."""
    programs = postgresql()
    # PostgreSQL refuses to run as root, and its own account may not enter pytest's folders.
    user = "postgres" if os.geteuid() == 0 else None
    database = Database(free_port(), secrets.token_hex(16))
    with tempfile.TemporaryDirectory(prefix="darkroom-postgres-") as scratch:
        folder = Path(scratch)
        (folder / "password").write_text(database.password)
        if user is not None:
            for path in (folder, folder / "password"):
                os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        make = [programs / "initdb", "--pgdata=data", "--username=mlflow", "--pwfile=password", "--no-sync"]
        make += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        subprocess.run(make, cwd=folder, user=user, check=True, stdout=subprocess.DEVNULL)
        options = {
            "listen_addresses": "127.0.0.1",
            "port": database.port,
            "unix_socket_directories": "",
            "fsync": "off",
        }
        command = [str(programs / "postgres"), "-D", "data", *(f"--{key}={value}" for key, value in options.items())]
        # SIGINT is its fast shutdown, which does not wait for clients.
        with running(command, folder, user=user, stop=signal.SIGINT) as server:
            wait_until_listening(database.port, server)
            with closing(database.connect("postgres")) as connection:
                connection.autocommit = True
                connection.cursor().execute("CREATE DATABASE mlflow")
            yield database


def postgresql() -> Path:
    """The folder of PostgreSQL's programs, which Debian does not put on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("postgres")
    if not found and on_path is None:
        pytest.fail("postgres is not installed; Debian's package is postgresql")
    return found[-1].parent if found else Path(str(on_path)).parent


def wait_until_listening(port: int, server: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert server.poll() is None, "PostgreSQL ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("PostgreSQL does not listen after 60 s")


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """SeaweedFS with the flags of compose.yaml, but for its folder, its addresses and its ports."""
    roles = ("master", "volume", "filer", "s3")
    ports = dict(zip([f"{role}.port{kind}" for role in roles for kind in ("", ".grpc")], free_ports(8), strict=True))
    store = ObjectStore(f"http://127.0.0.1:{ports['s3.port']}", secrets.token_hex(10), secrets.token_hex(20))
    flags = [flag for flag in service("s3")["command"] if not flag.startswith(("-dir=", "-ip=", "-ip.bind="))]
    command = [str(Path(sys.executable).with_name("weed")), *service("s3")["entrypoint"][1:], *flags]
    command += ["-dir=.", "-ip=127.0.0.1", *(f"-{name}={port}" for name, port in ports.items())]
    keys = service_environment("s3", {"S3_ACCESS_KEY": store.access_key, "S3_SECRET_KEY": store.secret_key})
    folder = tmp_path_factory.mktemp("s3")
    # A polite end takes it a quarter of a minute; what is in it is thrown away.
    with running(command, folder, environment={**os.environ, **keys}, stop=signal.SIGKILL) as server:
        wait_until_healthy(store.address, server, seconds=60, page="healthz")
        yield store


@pytest.fixture(scope="session")
def server(database: Database, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """MLflow with the image's entry point and variables and those of compose.yaml, but on loopback."""
    port = free_port()
    folder = tmp_path_factory.mktemp("mlflow")
    server = Server(f"http://127.0.0.1:{port}", "darkroom", secrets.token_hex(16), folder / "server.log")
    with running(start_command(), folder, environment=container_environment(server, database, object_store)) as process:
        wait_until_healthy(server.address, process, seconds=180)
        yield server


def container_environment(server: Server, database: Database, object_store: ObjectStore) -> dict[str, str]:
    """All variables that the container has, with the addresses of this machine."""
    from_file = {
        "POSTGRES_PASSWORD": database.password,
        "S3_ACCESS_KEY": object_store.access_key,
        "S3_SECRET_KEY": object_store.secret_key,
        "MLFLOW_USERNAME": server.username,
        "MLFLOW_PASSWORD": server.password,
        "MLFLOW_SECRET_KEY": secrets.token_hex(24),
    }
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DARKROOM_", "AWS_"))},
        **image_environment(),
        **service_environment("mlflow", from_file),
        **database.environment,
        "MLFLOW_S3_ENDPOINT_URL": object_store.address,
        "MLFLOW_HOST": "127.0.0.1",
        "MLFLOW_PORT": server.address.rpartition(":")[2],
    }
