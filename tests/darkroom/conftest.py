"""Small, real data for the tests of the pure code."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from darkroom import tracking
from darkroom.data.metadata import DatasetInfo, SplitFiles, write_info

from ..servers import free_port, running, wait_until_healthy

TINY_SIZES = {"train": 600, "validation": 100, "test": 200}


def pytest_configure(config: pytest.Config) -> None:
    # TensorFlow 2.21's tensors do not take NumPy 2's copy argument; Keras meets this whenever it saves a model.
    config.addinivalue_line(
        "filterwarnings", "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    )
    # MLflow about its own type hints when it is imported, SQLAlchemy about MLflow when it opens an SQLite store, pandas
    # about MLflow when it looks at a data frame's index.
    config.addinivalue_line("filterwarnings", "ignore:.*Any type hint is inferred as AnyType:UserWarning")
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy is deprecated")
    config.addinivalue_line("filterwarnings", "ignore:Operation with range is deprecated")


@pytest.fixture(scope="session")
def tiny_splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A splits folder of scikit-learn's digits as 28 x 28 grey images: learnable within seconds. Read only."""
    folder = tmp_path_factory.mktemp("tiny-splits")
    write_info(
        DatasetInfo(
            name="tiny-digits",
            title="Tiny digits",
            licence="CC-BY-4.0",
            source="scikit-learn",
            classes=[str(digit) for digit in range(10)],
            horizontal_flip=False,
            train=SplitFiles(images="train-images-idx3-ubyte", labels="train-labels-idx1-ubyte"),
            test=SplitFiles(images="t10k-images-idx3-ubyte", labels="t10k-labels-idx1-ubyte"),
        ),
        folder,
    )
    digits = load_digits()
    enlarged = np.kron(digits.images, np.ones((3, 3)))
    framed = np.pad(enlarged, ((0, 0), (2, 2), (2, 2)))
    images = (framed[..., None] / 16 * 255).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    start = 0
    for name, size in TINY_SIZES.items():
        rows = order[start : start + size]
        start += size
        (folder / name).mkdir()
        np.save(folder / name / "images.npy", images[rows])
        np.save(folder / name / "labels.npy", digits.target[rows].astype(np.int64))
    return folder


@pytest.fixture(scope="session")
def tiny_networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained `model.keras` and `generator.keras` for `tiny_splits`. Read only."""
    import keras
    from keras import layers

    folder = tmp_path_factory.mktemp("tiny-networks")
    images = layers.Input((28, 28, 1), dtype="uint8")
    probabilities = layers.Dense(10, activation="softmax")(layers.Flatten()(layers.Rescaling(1 / 255)(images)))
    keras.Model(images, probabilities).save(folder / "model.keras")

    z, label = layers.Input((8,)), layers.Input((), dtype="int32")
    mixed = layers.multiply([z, layers.Embedding(10, 8, name="class_embedding")(label)])
    pixels = layers.Reshape((28, 28, 1))(layers.Dense(28 * 28, activation="tanh")(mixed))
    keras.Model([z, label], pixels).save(folder / "generator.keras")
    return folder


@pytest.fixture(scope="session")
def embedded_store(tmp_path_factory: pytest.TempPathFactory) -> tracking.TrackingSettings:
    """An SQLite store that the tests share: creating one takes seconds. Use names of your own in it."""
    return tracking.settings({}, tmp_path_factory.mktemp("mlflow-store"))


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real MLflow server on loopback, with the settings that `make ui` uses."""
    port = free_port()
    settings = Path(__file__).parents[2] / "mlflow" / "settings.env"
    folder = tmp_path_factory.mktemp("mlflow-server")
    command = [sys.executable, "-m", "mlflow", "--env-file", str(settings), "server", "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    with running(command, folder) as server:
        wait_until_healthy(address, server, seconds=120)
        yield address


@pytest.fixture
def fresh_python(tmp_path: Path) -> Callable[..., str]:
    """Runs code in a new interpreter, in another working directory; returns what it printed last."""

    def run(code: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().rpartition("\n")[2]

    return run


@pytest.fixture
def gateway(mlflow_server: str) -> Iterator["Gateway"]:
    """A connection to the server that a test can cut."""
    gateway = Gateway(int(mlflow_server.rpartition(":")[2]))
    yield gateway
    gateway.close()


class Gateway:
    """Forwards connections to a port of this machine until it is told to fail.

    `refuse_containing` breaks connections on which a request contains these bytes; `mode` is forward, refuse (every
    connection is broken) or hang (connections are accepted and never answered). Requests are held back for `delay`
    seconds.
    """

    def __init__(self, port: int) -> None:
        self.mode = "forward"
        self.delay = 0.0
        self.refuse_containing: bytes | None = None
        self._target = port
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        self.mode = "refuse"
        # A blocked accept is not woken by closing its socket from another thread, but by shutting it down.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(timeout=5)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Break all connections there are."""
        while self._open:
            hang_up(self._open.pop())

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            if self.mode == "refuse":
                client.close()
            elif self.mode == "forward":
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open.append(server)
                threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, requests: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if requests and self.refuse_containing is not None and self.refuse_containing in data:
                    break
                if requests:
                    time.sleep(self.delay)
                sink.sendall(data)
        hang_up(source)
        hang_up(sink)


def hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
