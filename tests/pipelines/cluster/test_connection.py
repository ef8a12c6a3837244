import datetime
import ipaddress
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from darkroom.errors import ClusterError, ConfigError
from pipelines.connection import Options, connect
from pipelines.kubeflow import Kubeflow
from tests.kfp_server.server import KfpServer

PAGE = "<html>hello</html>"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.very.secret"  # noqa: S105 - a test's own


def test_the_option_goes_before_the_environment_and_a_slash_at_the_end_is_none() -> None:
    environment = {"KFP_ENDPOINT": "http://environment:1", "KFP_NAMESPACE": "theirs"}
    assert connect(Options("http://option:2/kfp/", "mine"), environment).endpoint == "http://option:2/kfp"
    assert connect(Options("http://option:2", "mine"), environment).namespace == "mine"
    assert connect(Options(), environment).endpoint == "http://environment:1"
    assert connect(Options(), environment).namespace == "theirs"


def test_the_variables_that_kfp_reads_count_too() -> None:
    environment = {"KF_PIPELINES_ENDPOINT": "http://api:1", "KF_PIPELINES_UI_ENDPOINT": "https://ui.example.org/"}
    connection = connect(Options(), environment)
    assert (connection.endpoint, connection.ui, connection.ui_needs) == ("http://api:1", "https://ui.example.org", "")


def test_a_kubeconfig_leads_through_the_kubernetes_api_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "https://kubernetes.example.org:6443"}}
    user = {"name": "u", "user": {"token": TOKEN}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    whole = {"clusters": [cluster], "users": [user], "contexts": [context], "current-context": "x"}
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **whole}))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    connection = connect(Options(), {})
    assert connect(Options(kubeconfig=path), {}).endpoint == connection.endpoint
    assert connection.ui == "http://localhost:8080"
    assert "kubectl port-forward --namespace kubeflow service/ml-pipeline-ui 8080:80" in connection.ui_needs
    assert connection.endpoint == (
        "https://kubernetes.example.org:6443/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy"
    )
    assert connection.client.configuration.get_api_key_with_prefix("authorization") == f"Bearer {TOKEN}"


def test_a_pod_finds_the_service_and_shows_its_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    connection = connect(Options(), {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert connection.endpoint == "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
    assert connection.client.configuration.get_api_key_with_prefix("authorization") == f"Bearer {TOKEN}"


def test_without_any_address_the_message_lists_the_ways_to_name_one() -> None:
    with pytest.raises(ClusterError, match="give --endpoint, set KFP_ENDPOINT, or have a kubeconfig"):
        connect(Options(), {})


@pytest.mark.parametrize(
    ("endpoint", "rule"),
    [
        ("kubeflow.example.org", "must be an address such as"),
        ("ftp://kubeflow", "must be an address such as"),
        ("http://", "must be an address such as"),
        ("http://kubeflow:port", "must be an address such as"),
        ("http://kubeflow/?x=1", "must end with the path"),
    ],
)
def test_an_endpoint_that_is_no_address_is_refused(endpoint: str, rule: str) -> None:
    with pytest.raises(ConfigError) as error:
        connect(Options(endpoint), {})
    assert rule in str(error.value)
    assert endpoint in str(error.value)


def test_credentials_in_the_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as error:
        connect(Options(f"https://me:{TOKEN}@kubeflow.example.org"), {})
    assert "must hold no credentials" in str(error.value)
    assert TOKEN not in str(error.value)


def test_a_token_file_is_read_anew_for_every_request(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    with KfpServer(token="second").running() as server:  # noqa: S106 - a test's own
        kubeflow = Kubeflow(connect(Options(server.address, token_file=path), {}))
        with pytest.raises(ClusterError, match="wants a login") as error:
            kubeflow.find_experiment("x")
        assert error.value.status == 401
        path.write_text("second\n")
        assert kubeflow.find_experiment("x") is None


@pytest.mark.parametrize("text", ["", "two words", "line\nline", "naïve"])
def test_a_file_that_holds_no_token_is_refused_and_not_repeated(text: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(ConfigError, match="must hold one token and nothing else") as error:
        connect(Options("http://kubeflow", token_file=path), {})
    assert str(path) in str(error.value)
    assert not text or text not in str(error.value)


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing: the token cannot be read: No such file or directory"):
        connect(Options("http://kubeflow", token_file=tmp_path / "missing"), {})


def test_an_expired_token_is_one_message_without_the_token(caplog: pytest.LogCaptureFixture) -> None:
    with KfpServer(token="the right one").running() as server:  # noqa: S106 - a test's own
        kubeflow = Kubeflow(connect(Options(server.address), {"KFP_TOKEN": TOKEN}))
        with pytest.raises(ClusterError) as error:
            kubeflow.find_experiment("x")
    message = str(error.value)
    assert message == (
        f"{server.address}: wants a login; the token (KFP_TOKEN) is missing, expired or for another audience "
        "(HTTP 401: Review.Status.Authenticated is false. Error token has expired)"
    )
    assert TOKEN not in message + caplog.text
    assert "\n" not in message


def test_a_server_that_repeats_the_token_does_not_get_it_into_a_message() -> None:
    with _answering(500, "application/json", f'{{"message": "bad token {TOKEN}"}}') as address:
        connection = connect(Options(address), {"KFP_TOKEN": TOKEN})
        with pytest.raises(ClusterError, match=r"the server failed \(HTTP 500: bad token \*\*\*\)"):
            Kubeflow(connection)


def test_a_namespace_without_permission_is_named() -> None:
    with KfpServer(allowed=["darkroom"]).running() as server:
        kubeflow = Kubeflow(connect(Options(server.address, "elsewhere"), {}))
        with pytest.raises(ClusterError) as error:
            kubeflow.make_experiment("x")
        assert error.value.status == 403
        assert "no permission in namespace elsewhere: the namespace does not exist, or" in str(error.value)
        assert server.writes == []


def test_a_server_of_many_users_wants_a_namespace() -> None:
    with KfpServer(allowed=["darkroom"]).running() as server:
        with pytest.raises(ConfigError, match="serves many users; give --namespace or set KFP_NAMESPACE"):
            Kubeflow(connect(Options(server.address), {}))
        kubeflow = Kubeflow(connect(Options(server.address), {"KFP_NAMESPACE": "darkroom"}))
        assert kubeflow.make_experiment("x") == kubeflow.find_experiment("x")
        assert [one["namespace"] for one in server.state.experiments.values()] == ["darkroom"]


def test_nobody_at_the_address_is_one_message_within_seconds() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(ClusterError) as error:
            Kubeflow(connect(Options(f"http://127.0.0.1:{port}"), {}))
    assert str(error.value) == (
        f"http://127.0.0.1:{port}: the Kubeflow API server cannot be reached: Connection refused"
    )
    assert time.monotonic() - started < 5


def test_an_unknown_host_is_one_message() -> None:
    with pytest.raises(ClusterError, match=r"http://kubeflow\.invalid: .* its host name is not known"):
        Kubeflow(connect(Options("http://kubeflow.invalid"), {}))


@pytest.mark.usefixtures("impatient")
def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ClusterError, match="cannot be reached: no answer within 0 s"):
            Kubeflow(connect(Options(f"http://127.0.0.1:{silent.getsockname()[1]}"), {}))


@pytest.mark.parametrize(
    ("status", "kind", "body", "message"),
    [
        (200, "text/html", PAGE, "answers, but is not a Kubeflow Pipelines API server: expected JSON, got text/html"),
        (404, "text/html", PAGE, r"refused \(HTTP 404: no explanation\)"),
        (302, "text/html", PAGE, r"wants a login; the token \(none given\) is missing"),
        (503, "text/plain", "", r"the server failed \(HTTP 503: no explanation\)"),
        (504, "text/plain", "upstream is away", r"the server failed \(HTTP 504: upstream is away\)"),
    ],
)
def test_some_other_server_is_told_apart(status: int, kind: str, body: str, message: str) -> None:
    with (
        _answering(status, kind, body) as address,
        pytest.raises(ClusterError, match=f"{address}: {message}"),
    ):
        Kubeflow(connect(Options(address), {}))


def test_a_certificate_of_an_unknown_authority_is_refused_and_a_known_one_is_not(tmp_path: Path) -> None:
    certificate, context = _certificate(tmp_path, "127.0.0.1")
    with KfpServer().running(context) as server:
        with pytest.raises(ClusterError) as error:
            Kubeflow(connect(Options(server.address), {}))
        assert str(error.value).startswith(f"{server.address}: no secure connection: ")
        assert "certificate verify failed" in str(error.value)
        assert "--ca-cert or KFP_CA_CERT" in str(error.value)
        assert Kubeflow(connect(Options(server.address, ca_cert=certificate), {})).find_experiment("x") is None
        assert (
            Kubeflow(connect(Options(server.address), {"KFP_CA_CERT": str(certificate)})).find_experiment("x") is None
        )


def test_a_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    certificate, context = _certificate(tmp_path, "127.0.0.2")
    with (
        KfpServer().running(context) as server,
        pytest.raises(ClusterError, match=r"no secure connection: .*127\.0\.0\.1"),
    ):
        Kubeflow(connect(Options(server.address, ca_cert=certificate), {}))


@pytest.mark.parametrize("text", [None, "not a certificate"])
def test_an_unusable_certificate_file_is_named(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"ca\.pem: not usable as a certificate authority: "):
        connect(Options("https://kubeflow", ca_cert=path), {})


def test_reading_is_tried_again_and_writing_is_not(server: KfpServer) -> None:
    kubeflow = Kubeflow(connect(Options(server.address), {}))
    server.fail_write = (1, "after")
    with pytest.raises(ClusterError, match=r"the server failed \(HTTP 503: the server is restarting\)"):
        kubeflow.make_experiment("x")
    assert server.writes == ["POST create_experiment"]
    assert kubeflow.find_experiment("x")


def _answering(status: int, kind: str, body: str) -> "_Answering":
    return _Answering(status, kind, body)


class _Answering:
    """A web server with one answer for everything."""

    def __init__(self, status: int, kind: str, body: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Location", "/login")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _certificate(folder: Path, host: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate that vouches for itself, and the server's side of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "server.pem", folder / "server.key"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context
