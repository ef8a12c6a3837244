"""What a cluster has, asked of its API server with a kubeconfig: nodes, and whether secrets and claims exist.

Secrets are read one by one, by name, so that a role can be limited to those names; of a secret only the names of its
keys are kept.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from darkroom.errors import ConfigError
from pipelines.scheduling import Node, Taint

TIMEOUT_SECONDS = (5, 20)

_T = TypeVar("_T")


class Cluster:
    """Questions to one cluster, about one namespace: the one that is named, or else the kubeconfig's own.

    Raises:
        ConfigError: the kubeconfig cannot be used, or the API server does not answer or refuses; every method does.
    """

    def __init__(self, kubeconfig: Path, namespace: str = "") -> None:
        from kubernetes import client, config

        if not kubeconfig.is_file():
            raise ConfigError(f"--kubeconfig {kubeconfig}: no such file")
        settings = client.Configuration()
        try:
            config.load_kube_config(str(kubeconfig), client_configuration=settings)
            context = config.list_kube_config_contexts(str(kubeconfig))[1]
        except Exception as error:  # whatever is wrong with the file: its YAML, its contexts, its certificates
            first_line = str(error).strip().partition("\n")[0]
            raise ConfigError(f"--kubeconfig {kubeconfig}: cannot be used: {first_line}") from None
        settings.retries = False
        self.namespace = namespace or context["context"].get("namespace") or "default"
        self._server = settings.host
        self._api = client.CoreV1Api(client.ApiClient(settings))

    def nodes(self) -> list[Node]:
        """Every node."""
        return [
            Node(
                name=node.metadata.name,
                allocatable=node.status.allocatable or {},
                labels=node.metadata.labels or {},
                taints=[Taint(each.key, each.effect, each.value or "") for each in node.spec.taints or ()],
            )
            for node in self._ask("nodes", lambda: self._api.list_node(_request_timeout=TIMEOUT_SECONDS)).items
        ]

    def secret_keys(self, name: str) -> frozenset[str] | None:
        """The names of a secret's keys; None where there is no such secret."""
        found = self._find(f"secret {name}", self._api.read_namespaced_secret, name)
        return None if found is None else frozenset(found.data or ())

    def has_claim(self, name: str) -> bool:
        """Whether a persistent volume claim exists."""
        claim = f"persistent volume claim {name}"
        return self._find(claim, self._api.read_namespaced_persistent_volume_claim, name) is not None

    def _find(self, what: str, read: Callable[..., Any], name: str) -> Any | None:
        from kubernetes.client import ApiException

        def look() -> Any | None:
            try:
                return read(name, self.namespace, _request_timeout=TIMEOUT_SECONDS)
            except ApiException as error:
                if error.status == 404:
                    return None
                raise

        return self._ask(f"{what} in namespace {self.namespace}", look)

    def _ask(self, what: str, request: Callable[[], _T]) -> _T:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return request()
        except ApiException as error:
            raise ConfigError(f"{self._server}: {what}: refused with {error.status} {error.reason}") from None
        except HTTPError as error:
            raise ConfigError(
                f"{self._server}: {what}: the API server does not answer ({type(error).__name__})"
            ) from None
