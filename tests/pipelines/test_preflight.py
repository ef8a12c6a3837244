"""Against an API server that serves nodes, secrets and claims over HTTP as Kubernetes does, and refuses the rest."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from darkroom.errors import ConfigError
from pipelines.config import load
from pipelines.pipeline import compile_pipeline
from pipelines.placement import ClusterPlacement
from pipelines.preflight import preflight
from pipelines.resources import load_profile

TOKEN = "t0ken"  # noqa: S105 - of the stub
Edit = Callable[[dict[str, Any], dict[str, Any]], object]


class ApiServer(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.nodes: list[dict[str, Any]] = []
        self.secrets: dict[tuple[str, str], dict[str, str]] = {}
        self.claims: set[tuple[str, str]] = set()
        self.forbidden: set[str] = set()


class Handler(BaseHTTPRequestHandler):
    server: ApiServer

    def log_message(self, *arguments: Any) -> None:
        pass

    def answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def refuse(self, status: int, reason: str) -> None:
        self.answer(
            status, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": status}
        )

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.refuse(401, "Unauthorized")
        if "application/json" not in self.headers.get("Accept", ""):
            return self.refuse(406, "NotAcceptable")
        if address.query:
            return self.refuse(400, "BadRequest")
        match address.path.strip("/").split("/"):
            case ["api", "v1", "nodes"]:
                return self.answer(200, {"kind": "NodeList", "apiVersion": "v1", "items": self.server.nodes})
            case ["api", "v1", "namespaces", namespace, ("secrets" | "persistentvolumeclaims") as kind, name]:
                return self.one(kind, namespace, name)
        return self.refuse(404, "NotFound")

    def one(self, kind: str, namespace: str, name: str) -> None:
        metadata = {"name": name, "namespace": namespace}
        if kind in self.server.forbidden:
            return self.refuse(403, "Forbidden")
        if kind == "persistentvolumeclaims" and (namespace, name) in self.server.claims:
            return self.answer(200, {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "metadata": metadata})
        if kind == "secrets" and (namespace, name) in self.server.secrets:
            data = self.server.secrets[namespace, name]
            return self.answer(200, {"kind": "Secret", "apiVersion": "v1", "metadata": metadata, "data": data})
        return self.refuse(404, "NotFound")


def node(
    name: str, *, taints: tuple[str, ...] = (), labels: dict[str, str] | None = None, **has: str
) -> dict[str, Any]:
    """A node; a taint is written as kubectl does, `key=value:effect` or `key:effect`."""
    parsed = []
    for taint in taints:
        key, _, effect = taint.partition(":")
        parsed.append({"key": key.partition("=")[0], "value": key.partition("=")[2] or None, "effect": effect})
    has = {
        "cpu": "3920m",
        "memory": "15842Mi",
        **{key.replace("gpu", "nvidia.com/gpu"): value for key, value in has.items()},
    }
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": {"taints": parsed} if parsed else {},
        "status": {"allocatable": has},
    }


def t4_node(name: str = "gpu-1", **has: str) -> dict[str, Any]:
    labels = {"nvidia.com/gpu.product": "Tesla-T4"}
    return node(name, taints=("nvidia.com/gpu=present:NoSchedule",), labels=labels, **{"gpu": "1", **has})


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        server.nodes = [node("cpu-1"), t4_node()]
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def write_kubeconfig(folder: Path, address: str, token: str = TOKEN, namespace: str = "darkroom") -> Path:
    file = folder / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "stub",
        "clusters": [{"name": "stub", "cluster": {"server": address}}],
        "users": [{"name": "me", "user": {"token": token}}],
        "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "me", "namespace": namespace}}],
    }
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture
def kubeconfig(tmp_path: Path, server: ApiServer) -> Path:
    return write_kubeconfig(tmp_path, f"http://127.0.0.1:{server.server_port}")


def compiled(folder: Path, profile: str = "t4") -> Path:
    place = ClusterPlacement(load_profile(profile), "registry.internal/team", "1f0c2ab")
    compile_pipeline(place, load(None), "f" * 32 + ".dir", folder / "darkroom.yaml")
    return folder / "darkroom.yaml"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A compiled package without the components' code, which is nine tenths of it and slow to parse."""
    spec, platform = yaml.load_all(compiled(tmp_path_factory.mktemp("package")).read_text(), yaml.CSafeLoader)
    for executor in spec["deploymentSpec"]["executors"].values():
        del executor["container"]["command"], executor["container"]["args"]
    return yaml.safe_dump_all([spec, platform])


@pytest.fixture
def package(tmp_path: Path, pristine: str) -> Path:
    file = tmp_path / "darkroom.yaml"
    file.write_text(pristine)
    return file


def edit(package: Path, change: Edit, task: str = "train-cnn") -> None:
    """Change what one task's container and its platform spec say."""
    spec, platform = yaml.safe_load_all(package.read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    change(spec["deploymentSpec"]["executors"][f"exec-{task}"]["container"], executors[f"exec-{task}"])
    package.write_text(yaml.safe_dump_all([spec, platform]))


def findings(package: Path, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as error:
        preflight(package, **options)
    return str(error.value).splitlines()


@pytest.mark.parametrize("name", ["a100", "cpu", "h100", "mig", "t4"])
def test_every_bundled_profile_passes_on_its_own_nodes(tmp_path: Path, name: str) -> None:
    preflight(compiled(tmp_path, name), profile=load_profile(name))


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (
            lambda container, pod: container["resources"]["accelerator"].pop("resourceType"),
            "train-cnn: accelerator must have a type and a count, such as nvidia.com/gpu and 1, got 1",
        ),
        (
            lambda container, pod: container["resources"]["accelerator"].pop("resourceCount"),
            "train-cnn: accelerator must have a type and a count, such as nvidia.com/gpu and 1, got nvidia.com/gpu",
        ),
        (
            lambda container, pod: container["resources"].update(resourceMemoryRequest="13Gi"),
            "train-cnn: memory request must not be above the limit of 12Gi, got 13Gi",
        ),
        (
            lambda container, pod: container["resources"].update(resourceCpuRequest="4001m"),
            "train-cnn: cpu request must not be above the limit of 4, got 4001m",
        ),
        (
            lambda container, pod: container["resources"].update(resourceMemoryLimit="12GB"),
            "train-cnn: memory limit must be a Kubernetes quantity such as 500m, 2 or 4Gi, got '12GB'",
        ),
        (
            lambda container, pod: container["resources"].pop("resourceCpuLimit"),
            "train-cnn: cpu limit must be given, got none",
        ),
        (
            lambda container, pod: pod["emptyDirMounts"][0].update(sizeLimit="16Gi"),
            "train-cnn: shared memory must not be above the limit of 12Gi, got 16Gi",
        ),
        (
            lambda container, pod: container.update(image="registry.internal/team/python-train-gpu:latest"),
            "train-cnn: image must have a tag that always means the same image, not latest, got registry.internal/team/"
            "python-train-gpu:latest",
        ),
        (
            lambda container, pod: container.update(image="registry.internal:5000/python-train-gpu"),
            "train-cnn: image must have a tag that always means the same image, not latest, got registry.internal:5000/"
            "python-train-gpu",
        ),
        (
            lambda container, pod: container.update(image="darkroom/python-train-gpu:local"),
            "train-cnn: image must have the tag of an image that was built, such as a git commit, got darkroom/"
            "python-train-gpu:local",
        ),
    ],
)
def test_what_no_cluster_can_run_is_told_without_one(package: Path, change: Edit, finding: str) -> None:
    edit(package, change)
    assert findings(package) == [finding]


def test_an_image_by_digest_needs_no_tag(package: Path) -> None:
    edit(package, lambda container, pod: container.update(image=f"registry.internal/train@sha256:{'0' * 64}"))
    preflight(package)


def test_every_finding_is_told_at_once(package: Path) -> None:
    edit(package, lambda container, pod: container["resources"].update(resourceMemoryRequest="13Gi"))
    edit(package, lambda container, pod: container.update(image="a:latest"), "preprocess")
    told = findings(package)
    assert [line.partition(":")[0] for line in told] == ["preprocess", "train-cnn"]


def test_memory_over_the_profiles_node_is_refused_before_a_cluster_sees_it(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("extends: t4\nsteps: {evaluate_gan: {memory: {request: 20Gi, limit: 32Gi}}}")
    assert findings(compiled(tmp_path, str(own)), profile=load_profile(str(own))) == [
        "evaluate-gan: memory request must not be above the 14Gi of the profile's node, got 20Gi"
    ]


def test_more_cards_than_the_profiles_node_has_are_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("extends: t4\nsteps: {train_gan: {accelerator: {resource: nvidia.com/gpu, count: 2}}}")
    assert findings(compiled(tmp_path, str(own)), profile=load_profile(str(own))) == [
        "train-gan: nvidia.com/gpu request must not be above the 1 of the profile's node, got 2"
    ]


def test_a_cluster_that_has_everything_passes(package: Path, kubeconfig: Path) -> None:
    preflight(package, kubeconfig=kubeconfig)


def test_a_cluster_without_the_card_says_which_label_it_lacks(
    package: Path, kubeconfig: Path, server: ApiServer
) -> None:
    server.nodes = [node("cpu-1"), node("cpu-2")]
    reason = "must run on a node with nvidia.com/gpu.product In (Tesla-T4, Tesla-T4-SHARED), which none of 2 nodes has"
    assert findings(package, kubeconfig=kubeconfig) == [f"train-cnn: {reason}", f"train-gan: {reason}"]


def test_a_taint_that_is_not_tolerated_is_named(package: Path, kubeconfig: Path, server: ApiServer) -> None:
    server.nodes[1]["spec"]["taints"].append({"key": "team", "value": "speech", "effect": "NoExecute"})
    edit(package, lambda container, pod: pod["tolerations"].append({"key": "team", "value": "speech"}), "train-gan")
    assert findings(package, kubeconfig=kubeconfig) == [
        "train-cnn: must tolerate the taints of a node that it may run on, got no toleration of team=speech:NoExecute"
    ]


def test_a_cordoned_cluster_takes_nothing(package: Path, kubeconfig: Path, server: ApiServer) -> None:
    server.nodes = [node("cpu-1", taints=("node.kubernetes.io/unschedulable:NoSchedule",)), t4_node()]
    told = findings(package, kubeconfig=kubeconfig)
    assert len(told) == 7
    assert all("node.kubernetes.io/unschedulable:NoSchedule" in line for line in told)


def test_a_taint_that_only_advises_keeps_nothing_away(package: Path, kubeconfig: Path, server: ApiServer) -> None:
    server.nodes[0] = node("cpu-1", taints=("old:PreferNoSchedule",))
    preflight(package, kubeconfig=kubeconfig)


def test_what_is_larger_than_every_node_is_told_with_the_largest(
    package: Path, kubeconfig: Path, server: ApiServer
) -> None:
    server.nodes = [node("cpu-1"), t4_node("gpu-1", memory="7Gi"), t4_node("gpu-2", memory="7900Mi", gpu="0")]
    edit(package, lambda container, pod: container["resources"]["accelerator"].update(resourceCount="2"))
    assert findings(package, kubeconfig=kubeconfig) == [
        "train-cnn: memory request must not be above the 7900Mi of gpu-2, got 8Gi",
        "train-cnn: nvidia.com/gpu request must not be above the 1 of gpu-1, got 2",
        "train-gan: memory request must not be above the 7900Mi of gpu-2, got 8Gi",
    ]


def test_enough_of_each_on_different_nodes_is_not_enough(package: Path, kubeconfig: Path, server: ApiServer) -> None:
    server.nodes = [node("cpu-1"), t4_node("gpu-1", memory="4Gi"), t4_node("gpu-2", gpu="0")]
    reason = (
        "must find all it asks for on one node, got cpu 2, memory 8Gi, nvidia.com/gpu 1, which no node has together"
    )
    assert findings(package, kubeconfig=kubeconfig) == [f"train-cnn: {reason}", f"train-gan: {reason}"]


@pytest.mark.parametrize(
    ("affinity", "fits"),
    [
        ([{"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}], True),
        ([{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}], False),
        ([{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}], True),
        ([{"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}], False),
        ([{"matchExpressions": [{"key": "memory", "operator": "Gt", "values": ["15000"]}]}], True),
        ([{"matchExpressions": [{"key": "memory", "operator": "Lt", "values": ["15000"]}]}], False),
        ([{"matchExpressions": [{"key": "zone", "operator": "Gt", "values": ["1"]}]}], False),
        ([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gpu-1"]}]}], True),
        ([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["cpu-1"]}]}], False),
        # Terms are alternatives, and one with a weight is only a wish.
        (
            [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]},
            ],
            True,
        ),
        ([{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}], "weight": 5}], True),
    ],
)
def test_affinity_means_what_it_means_to_the_scheduler(
    package: Path, kubeconfig: Path, server: ApiServer, affinity: list[dict[str, Any]], fits: bool
) -> None:
    server.nodes[1]["metadata"]["labels"] |= {"zone": "b", "memory": "15360"}
    edit(package, lambda container, pod: pod.update(nodeAffinity=affinity, nodeSelector={"labels": {"zone": "b"}}))
    if fits:
        preflight(package, kubeconfig=kubeconfig)
    else:
        (finding,) = findings(package, kubeconfig=kubeconfig)
        assert finding.startswith("train-cnn: must run on a node with zone=b and ")


def test_secrets_and_claims_must_exist_in_the_runs_namespace(
    tmp_path: Path, kubeconfig: Path, server: ApiServer
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "defaults: {image_pull_secrets: [registry-login]}\n"
        "steps:\n"
        "  fetch_data:\n"
        "    secrets:\n"
        "      - {name: object-store-credentials, keys: {access-key: AWS_ACCESS_KEY_ID}}\n"
        "      - {name: object-store-credentials, keys: {secret-key: AWS_SECRET_ACCESS_KEY}}\n"
        "  train_cnn: {checkpoints: darkroom-checkpoints}\n"
    )
    package = compiled(tmp_path, str(own))
    server.secrets["darkroom", "registry-login"] = {".dockerconfigjson": "e30="}
    server.secrets["other", "object-store-credentials"] = {"access-key": "YQ=="}
    assert findings(package, kubeconfig=kubeconfig) == [
        "fetch-data: secret must exist in namespace darkroom, got none that is called object-store-credentials",
        "train-cnn: persistent volume claim must exist in namespace darkroom, got none that is called "
        "darkroom-checkpoints",
    ]
    server.secrets["darkroom", "object-store-credentials"] = {"secret-key": "YQ=="}
    server.claims.add(("darkroom", "darkroom-checkpoints"))
    assert findings(package, kubeconfig=kubeconfig) == [
        "fetch-data: secret object-store-credentials in namespace darkroom must have the key access-key"
    ]
    server.secrets["darkroom", "object-store-credentials"] = {"access-key": "YQ==", "secret-key": "YQ=="}
    preflight(package, kubeconfig=kubeconfig)
    elsewhere = findings(package, kubeconfig=kubeconfig, namespace="other")
    assert sum("secret must exist in namespace other" in line for line in elsewhere) == 9
    assert sum("persistent volume claim must exist in namespace other" in line for line in elsewhere) == 1
    assert "fetch-data: secret object-store-credentials in namespace other must have the key secret-key" in elsewhere


def test_an_optional_secret_may_be_missing(package: Path, kubeconfig: Path, server: ApiServer) -> None:
    assert "mlflow-credentials" in package.read_text()
    assert not server.secrets
    preflight(package, kubeconfig=kubeconfig)


def test_a_cluster_that_refuses_or_is_gone_is_one_message(package: Path, tmp_path: Path, server: ApiServer) -> None:
    address = f"http://127.0.0.1:{server.server_port}"
    refused = findings(package, kubeconfig=write_kubeconfig(tmp_path, address, "expired"))
    assert refused == [f"{address}: nodes: refused with 401 Unauthorized"]
    with ApiServer() as gone:
        pass
    address = f"http://127.0.0.1:{gone.server_port}"
    (told,) = findings(package, kubeconfig=write_kubeconfig(tmp_path, address))
    assert told.startswith(f"{address}: nodes: the API server does not answer (")


def test_a_role_that_may_not_read_secrets_is_told_which_one(
    tmp_path: Path, kubeconfig: Path, server: ApiServer
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("defaults: {image_pull_secrets: [registry-login]}")
    server.forbidden.add("secrets")
    (told,) = findings(compiled(tmp_path, str(own)), kubeconfig=kubeconfig)
    assert told.endswith("secret registry-login in namespace darkroom: refused with 403 Forbidden")


@pytest.mark.parametrize("content", [None, "", "[", "apiVersion: v1\nkind: Config\n"])
def test_a_kubeconfig_that_cannot_be_used_is_named(package: Path, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "broken"
    if content is not None:
        file.write_text(content)
    (told, *_) = findings(package, kubeconfig=file)
    assert told.startswith(f"--kubeconfig {file}: ")


def test_images_are_asked_for_only_when_wanted(package: Path) -> None:
    with ApiServer() as gone:
        pass
    host = f"127.0.0.1:{gone.server_port}"
    package.write_text(package.read_text().replace("registry.internal", host))
    preflight(package)
    told = findings(package, check_images=True)
    assert len(told) == 9
    assert (
        f"train-cnn: image must be in a registry that answers; {host} does not (ConnectionError), "
        f"got {host}/team/python-train-gpu:1f0c2ab"
    ) in told


@pytest.mark.parametrize("content", ["", "a: 1", "- 1", "deploymentSpec: {}", "3"])
def test_what_is_no_package_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(content)
    assert findings(file) == [f"{file}: must be a pipeline that `darkroom compile` wrote"]


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    assert findings(tmp_path / "absent.yaml") == [
        f"{tmp_path / 'absent.yaml'}: cannot be read: No such file or directory"
    ]
