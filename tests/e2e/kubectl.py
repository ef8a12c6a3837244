"""What is asked of Kubernetes, through kubectl: a person can type every line of it again."""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import yaml

from darkroom.errors import ClusterError

Object = dict[str, Any]

SECONDS = 120.0


class Kubectl:
    """The cluster of the environment's kubeconfig.

    Raises:
        ClusterError: kubectl is missing or refused, or the cluster did not answer in time; every method does.
    """

    def run(self, *arguments: str, given: str = "", seconds: float = SECONDS) -> str:
        """Run one command and return what it prints."""
        command = ["kubectl", *arguments]
        try:
            done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds, check=True)
        except FileNotFoundError:
            raise ClusterError("kubectl: not found; `make setup` puts it into .venv/bin") from None
        except subprocess.TimeoutExpired:
            raise ClusterError(f"{' '.join(command)}: no answer within {seconds:.0f} s") from None
        except subprocess.CalledProcessError as error:
            raise ClusterError(f"{' '.join(command)}: {error.stderr.strip()}") from None
        return done.stdout

    def items(self, kind: str, namespace: str = "", selector: str = "") -> list[Object]:
        """All objects of a kind, of a namespace or with certain labels."""
        where = ["--namespace", namespace] if namespace else []
        which = ["--selector", selector] if selector else []
        found: list[Object] = json.loads(self.run("get", kind, *where, *which, "--output", "json"))["items"]
        return found

    def exists(self, kind: str, name: str) -> bool:
        """Whether there is an object of that name outside of all namespaces."""
        return bool(self.run("get", kind, name, "--ignore-not-found", "--output", "name").strip())

    def secret(self, namespace: str, name: str) -> dict[str, str]:
        """A secret's values, still in base64."""
        data: dict[str, str] = json.loads(
            self.run("--namespace", namespace, "get", "secret", name, "--output", "json")
        )["data"]
        return data

    def apply(self, objects: Sequence[Object]) -> None:
        """Bring objects to what they say."""
        self.run("apply", "--server-side", "--force-conflicts", "--filename", "-", given=_documents(objects))

    def delete(self, objects: Sequence[Object]) -> None:
        """Delete objects; those that are gone already are no error."""
        self.run("delete", "--ignore-not-found", "--wait=false", "--filename", "-", given=_documents(objects))

    def patch_node(self, name: str, operation: Object) -> None:
        """Change a node's status by one operation of a JSON patch."""
        patch = json.dumps([operation])
        self.run("patch", "node", name, "--subresource=status", "--type=json", "--patch", patch)

    @contextmanager
    def forwarded(self, namespace: str, service: str, port: int) -> Iterator[str]:
        """The address on this machine at which a service of the cluster answers."""
        command = ["kubectl", "--namespace", namespace, "port-forward", f"service/{service}", f":{port}"]
        # A session of its own, so that Ctrl-C leaves the way open for cleaning up.
        forward = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=os.environ
        )
        try:
            line = forward.stdout.readline() if forward.stdout else ""
            match = re.match(r"Forwarding from (127\.0\.0\.1:\d+)", line)
            if match is None:
                raise ClusterError(f"{' '.join(command)}: {line.strip() or 'ended'}")
            yield f"http://{match[1]}"
        finally:
            forward.terminate()
            forward.wait(timeout=10)


def _documents(objects: Sequence[Object]) -> str:
    return yaml.safe_dump_all(objects)
