"""The connection to a Kubeflow Pipelines API server: where it is, who asks, and what its errors mean to a person.

`kfp.Client` prints, keeps settings in the home directory and takes half a minute to give up on a server that is not
there. The generated API below it, `kfp_server_api`, does none of that and is used here directly.
"""

import json
import logging
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kfp_server_api
import kubernetes.config
import urllib3
from kfp.client import ServiceAccountTokenVolumeCredentials
from urllib3 import exceptions as http

from darkroom.errors import ClusterError, ConfigError

# Where KFP's own manifests install the API server.
SERVER_NAMESPACE = "kubeflow"
IN_CLUSTER = f"http://ml-pipeline.{SERVER_NAMESPACE}.svc.cluster.local:8888"
THROUGH_KUBERNETES = f"/api/v1/namespaces/{SERVER_NAMESPACE}/services/ml-pipeline:http/proxy"
FORWARDED_UI = "http://localhost:8080"
FORWARD_UI = f"kubectl port-forward --namespace {SERVER_NAMESPACE} service/ml-pipeline-ui 8080:80"

NO_EXPLANATION = "no explanation"
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 30.0
# Only reading is repeated after the request was sent: a second POST could make a second run.
RETRIES = urllib3.Retry(
    connect=2,
    read=2,
    status=2,
    redirect=0,
    other=0,
    backoff_factor=0.2,
    allowed_methods=("GET",),
    status_forcelist=(502, 503, 504),
    raise_on_status=False,
    raise_on_redirect=False,
)

Environment = Mapping[str, str]


@dataclass(frozen=True)
class Options:
    """What the command line says about the server; what it leaves out comes from the environment or the kubeconfig."""

    endpoint: str = ""
    namespace: str = ""
    token_file: Path | None = None
    ca_cert: Path | None = None
    kubeconfig: Path | None = None


class Connection:
    """An API server, reached with one configuration. `call` is the only way in: every error is explained there."""

    def __init__(self, configuration: Any, credentials: str, namespace: str, ui: str) -> None:
        """`ui` is the address of the web page; empty where a browser has no way to it yet."""
        self.endpoint: str = configuration.host
        self.namespace = namespace
        self.ui = ui or FORWARDED_UI
        self.ui_needs = "" if ui else f"   (after {FORWARD_UI})"
        self._credentials = credentials
        self._configuration = configuration
        configuration.retries = RETRIES
        # A retry is not worth a line on the terminal. The level of urllib3 itself is reset by every generated object.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        self.client = kfp_server_api.ApiClient(configuration)

    def call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call one method of the generated API.

        Raises:
            ClusterError: the server cannot be reached, is no KFP API server, or refuses; the message says why.
        """
        try:
            answer = method(*arguments, **options, _request_timeout=(CONNECT_SECONDS, ANSWER_SECONDS))
        except kfp_server_api.ApiException as error:
            raise self._refused(error) from None
        except http.HTTPError as error:
            raise self._unreachable(error) from None
        kind = self.client.last_response.getheader("content-type", "")
        if "json" not in kind:
            raise ClusterError(
                f"{self.endpoint}: answers, but is not a Kubeflow Pipelines API server: "
                f"expected JSON, got {kind or 'no content type'}"
            )
        return answer

    def _unreachable(self, error: http.HTTPError) -> ClusterError:
        cause = error.reason if isinstance(error, http.MaxRetryError) else error
        if isinstance(cause, http.SSLError):
            return ClusterError(
                f"{self.endpoint}: no secure connection: {_last_words(cause)}; "
                "--ca-cert or KFP_CA_CERT names the certificate authority of the server"
            )
        match cause:
            case http.NameResolutionError():
                reason = "its host name is not known"
            case http.NewConnectionError():
                reason = _last_words(cause)
            case http.ConnectTimeoutError():
                reason = f"no connection within {CONNECT_SECONDS:.0f} s"
            case http.ReadTimeoutError():
                reason = f"no answer within {ANSWER_SECONDS:.0f} s"
            case _:
                reason = _last_words(cause)
        return ClusterError(f"{self.endpoint}: the Kubeflow API server cannot be reached: {reason}")

    def _refused(self, error: Any) -> ClusterError:
        status: int = error.status
        said = self._without_token(_server_message(error.body, status))
        match status:
            case 401 | 302 | 303 | 307:
                reason = f"wants a login; the token ({self._credentials}) is missing, expired or for another audience"
            case 403:
                place = f"namespace {self.namespace}" if self.namespace else "here"
                reason = (
                    f"no permission in {place}: the namespace does not exist, "
                    f"or the token ({self._credentials}) has no rights in it"
                )
            case _:
                reason = "the server failed" if status >= 500 else "refused"
        return ClusterError(f"{self.endpoint}: {reason} (HTTP {status}: {said})", status)

    def _without_token(self, text: str) -> str:
        token = self._configuration.api_key.get("authorization", "").removeprefix("Bearer ")
        return text.replace(token, "***") if token else text


def connect(options: Options, environment: Environment = os.environ) -> Connection:
    """Find the server and what to show it. Nothing is sent yet.

    The address is the option's, else that of `KFP_ENDPOINT` (or of `KF_PIPELINES_ENDPOINT`, which kfp reads), else
    KFP's service when this is a pod, else KFP's service through the Kubernetes API server of the kubeconfig.

    Raises:
        ConfigError: an address, a token file or a certificate is unusable.
        ClusterError: there is no address at all.
    """
    endpoint = options.endpoint or environment.get("KFP_ENDPOINT") or environment.get("KF_PIPELINES_ENDPOINT") or ""
    namespace = options.namespace or environment.get("KFP_NAMESPACE", "")
    configuration = kfp_server_api.Configuration()
    credentials = "none given"
    if endpoint:
        configuration.host = _checked_address(endpoint)
    elif "KUBERNETES_SERVICE_HOST" in environment:
        configuration.host = IN_CLUSTER
        credentials = "of this pod's service account"
        _use(configuration, _pod_token)
    else:
        _load_kubeconfig(configuration, options.kubeconfig)
        credentials = "of the kubeconfig"
    if options.token_file or environment.get("KFP_TOKEN"):
        credentials = str(options.token_file or "KFP_TOKEN")
        _use(configuration, _token_reader(options.token_file, environment))
    certificate = options.ca_cert or environment.get("KFP_CA_CERT")
    if certificate:
        configuration.ssl_ca_cert = _checked_certificate(Path(certificate))
    ui = environment.get("KF_PIPELINES_UI_ENDPOINT") or endpoint
    return Connection(configuration, credentials, namespace, ui.rstrip("/"))


def _checked_address(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        usable = False
    if not usable:
        raise ConfigError(f"endpoint: must be an address such as https://kubeflow.example.org, got {endpoint!r}")
    if parts.username or parts.password:
        raise ConfigError(f"endpoint: must hold no credentials; give a token instead, got one for {parts.hostname}")
    if parts.query or parts.fragment:
        raise ConfigError(f"endpoint: must end with the path, got {endpoint!r}")
    return endpoint.rstrip("/")


def _checked_certificate(path: Path) -> str:
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{path}: not usable as a certificate authority: {error.strerror or error}") from None
    return str(path)


def _token_reader(path: Path | None, environment: Environment) -> Callable[[], str]:
    """Reads the token once for every request: a cluster renews the tokens that it mounts as files."""

    def read() -> str:
        if path is None:
            return _checked_token(environment["KFP_TOKEN"], "KFP_TOKEN")
        try:
            return _checked_token(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ConfigError(f"{path}: the token cannot be read: {reason}") from None

    read()
    return read


def _checked_token(text: str, source: str) -> str:
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"{source}: must hold one token and nothing else, got {len(text)} characters")
    return token


def _pod_token() -> str:
    configuration = kfp_server_api.Configuration()
    try:
        ServiceAccountTokenVolumeCredentials().refresh_api_key_hook(configuration)
    except OSError as error:
        raise ConfigError(
            f"{error.filename}: this pod has no token for Kubeflow: {error.strerror}; name one with --token-file"
        ) from None
    return str(configuration.api_key["authorization"])


def _use(configuration: Any, read: Callable[[], str]) -> None:
    def refresh(current: Any) -> None:
        current.api_key["authorization"] = read()

    configuration.api_key_prefix["authorization"] = "Bearer"
    # The hook runs only where a key is there to be replaced.
    configuration.api_key["authorization"] = ""
    configuration.refresh_api_key_hook = refresh


def _load_kubeconfig(configuration: Any, path: Path | None) -> None:
    try:
        kubernetes.config.load_kube_config(str(path) if path else None, client_configuration=configuration)
    except (kubernetes.config.ConfigException, OSError) as error:
        raise ClusterError(
            "no Kubeflow API server is named: give --endpoint, set KFP_ENDPOINT, or have a kubeconfig "
            f"({str(error).rstrip('.')})"
        ) from None
    configuration.host = configuration.host.rstrip("/") + THROUGH_KUBERNETES


def _server_message(body: str | None, status: int) -> str:
    """What the server says in its google.rpc.Status: the part meant for people, or all of it when the server failed."""
    text = (body or "").strip()
    try:
        answer = json.loads(text)
    except json.JSONDecodeError:
        # A proxy in between, perhaps. A line of its text is worth reading, a page is not.
        return text if text and "\n" not in text and not text.startswith("<") else NO_EXPLANATION
    if not isinstance(answer, dict):
        return NO_EXPLANATION
    for_people = [detail["message"] for detail in answer.get("details") or () if detail.get("message")]
    whole = answer.get("message") or answer.get("error_message") or answer.get("error")
    chosen = for_people[0] if for_people and status < 500 else whole
    return str(chosen or NO_EXPLANATION).strip()


def _last_words(error: Any) -> str:
    """The cause in an exception of urllib3, which repeats the host and its own names in front of it."""
    text = str(error.args[-1] if error.args else error)
    return text.rpartition("Errno ")[2].partition("] ")[2] or text
