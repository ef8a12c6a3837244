"""A Kubernetes API server on loopback, for kubectl: it keeps objects and runs none of them.

It is strict where that says something: a group, kind or parameter that it does not know is an error, apply must be
server-side with strict validation, a secret is made once, JSON patches must fit. Workloads are ready at once, unless
`unready` names them.
"""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import RLock, Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

Object = dict[str, Any]
Key = tuple[str, str, str]

# Kind by resource, of every group and version that the overlay uses.
CLUSTERED = {"namespaces": "Namespace", "nodes": "Node"}
GROUPS: dict[str, dict[str, str]] = {
    "api/v1": {
        **CLUSTERED,
        "configmaps": "ConfigMap",
        "events": "Event",
        "limitranges": "LimitRange",
        "pods": "Pod",
        "resourcequotas": "ResourceQuota",
        "secrets": "Secret",
        "serviceaccounts": "ServiceAccount",
        "services": "Service",
    },
    "apis/apps/v1": {"deployments": "Deployment", "statefulsets": "StatefulSet"},
    "apis/networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
    "apis/rbac.authorization.k8s.io/v1": {"roles": "Role", "rolebindings": "RoleBinding"},
}
PARAMETERS = {
    "timeout", "timeoutSeconds", "limit", "labelSelector", "fieldSelector", "fieldManager", "fieldValidation", "force",
    "watch", "resourceVersion", "resourceVersionMatch", "sendInitialEvents", "allowWatchBookmarks", "continue",
}  # fmt: skip
TOKEN = "token-of-the-submitter"  # noqa: S105 - of the stub


class KubernetesServer:
    """The server, as a test fills it and looks into it. `writes` are method and path, in order."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.objects: dict[Key, Object] = {}
        self.writes: list[str] = []
        self.unready: set[str] = set()
        self.address = ""
        self._version = 0
        self._serving = True
        self.put(
            "nodes",
            "",
            {"metadata": {"name": "worker"}, "spec": {}, "status": _capacity({"cpu": "4", "memory": "16Gi"})},
        )

    def put(self, resource: str, namespace: str, thing: Object) -> Object:
        """Keep an object, as a controller would."""
        with self.lock:
            self._version += 1
            name = thing["metadata"]["name"]
            kind = next(group[resource] for group in GROUPS.values() if resource in group)
            version = next(path for path, group in GROUPS.items() if resource in group).partition("/")[2]
            metadata = {
                "uid": f"uid-{name}",
                "creationTimestamp": "2026-03-01T00:00:00Z",
                **thing["metadata"],
                **({"namespace": namespace} if namespace else {}),
                "resourceVersion": str(self._version),
                "generation": 1,
            }
            kept = {"apiVersion": version, "kind": kind, **thing, "metadata": metadata}
            if resource in ("deployments", "statefulsets"):
                # The API server fills in what is left out.
                kept["spec"] = {"updateStrategy": {"type": "RollingUpdate"}, **kept["spec"]}
                kept["status"] = _rolled_out(kept, name not in self.unready)
            self.objects[resource, namespace, name] = kept
            return kept

    def all(self, resource: str, namespace: str = "") -> list[Object]:
        with self.lock:
            return [
                thing for (kind, place, _), thing in self.objects.items() if kind == resource and place == namespace
            ]

    @contextmanager
    def running(self) -> Iterator["KubernetesServer"]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        self.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            self._serving = False
            server.shutdown()
            thread.join()
            server.server_close()

    def discover(self, path: str) -> Object | None:
        """What kubectl asks to learn which kinds there are and how they are validated."""
        if path == "version":
            return {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
        if path == "api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "apis":
            names = [group.split("/")[1:] for group in GROUPS if group.startswith("apis/")]
            versions = [(name, {"groupVersion": f"{name}/{version}", "version": version}) for name, version in names]
            groups = [{"name": name, "versions": [each], "preferredVersion": each} for name, each in versions]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        if path in GROUPS:
            resources = [
                {"name": name, "singularName": kind.lower(), "kind": kind, "namespaced": name not in CLUSTERED}
                | {"verbs": ["create", "delete", "get", "list", "patch", "watch"]}
                for name, kind in GROUPS[path].items()
            ]
            if path == "api/v1":
                resources.append({"name": "nodes/status", "singularName": "", "kind": "Node", "namespaced": False})
                resources[-1]["verbs"] = ["get", "patch"]
                token = {"name": "serviceaccounts/token", "singularName": "", "kind": "TokenRequest"}
                resources.append({**token, "namespaced": True, "verbs": ["create"], "group": "authentication.k8s.io"})
                resources[-1]["version"] = "v1"
            group = path.partition("/")[2]
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": resources}
        if path == "openapi/v3":
            return {"paths": {group: {"serverRelativeURL": f"/openapi/v3/{group}"} for group in GROUPS}}
        if path.removeprefix("openapi/v3/") in GROUPS:
            return _openapi(path.removeprefix("openapi/v3/"))
        return None

    def answer(self, method: str, path: str, query: dict[str, str], kind: str, body: bytes) -> tuple[int, Object]:
        """Status and body of anything but a watch."""
        if unknown := query.keys() - PARAMETERS:
            return _refuse(400, "BadRequest", f"unknown parameters: {', '.join(sorted(unknown))}")
        found = self.discover(path) if method == "GET" else None
        if found is not None:
            return 200, found
        place = _locate(path)
        if place is None:
            return _refuse(404, "NotFound", f"the server could not find {path}")
        resource, namespace, name, part = place
        with self.lock:
            if method != "GET":
                self.writes.append(f"{method} {path}")
            match method, part:
                case "GET", "" | "status":
                    return self._get(resource, namespace, name, query)
                case "POST", "token" if resource == "serviceaccounts":
                    audiences = _audiences(body)
                    return 201, {
                        "kind": "TokenRequest",
                        "apiVersion": "authentication.k8s.io/v1",
                        "metadata": {"name": name},
                        "spec": {"audiences": audiences},
                        "status": {"token": TOKEN, "expirationTimestamp": "2100-01-01T00:00:00Z"},
                    }
                case "POST", "" if resource == "secrets" and not name:
                    made = _secret(body)
                    if (resource, namespace, made["metadata"]["name"]) in self.objects:
                        return _refuse(409, "AlreadyExists", f"{resource} {made['metadata']['name']} already exists")
                    return 201, self.put(resource, namespace, made)
                case "PATCH", "" if kind == "application/apply-patch+yaml":
                    if query.get("fieldValidation") != "Strict" or not query.get("fieldManager"):
                        return _refuse(400, "BadRequest", "apply must validate strictly and name its manager")
                    return 200, self.put(resource, namespace, yaml.safe_load(body))
                case "PATCH", "status" if kind == "application/json-patch+json" and resource == "nodes":
                    return self._patch(name, json.loads(body))
                case "DELETE", "" if name:
                    return self._delete(resource, namespace, name)
        return _refuse(405, "MethodNotAllowed", f"{method} {path} as {kind}")

    def watch(self, path: str, query: dict[str, str]) -> Iterator[Object]:
        """Everything there is, as added, and the mark after it; then nothing until the client has seen enough."""
        place = _locate(path)
        for thing in self._select(*place[:2], query) if place else ():
            yield {"type": "ADDED", "object": thing}
        annotations = {"k8s.io/initial-events-end": "true"}
        metadata = {"resourceVersion": str(self._version), "annotations": annotations}
        if place:
            group = next(path for path, kinds in GROUPS.items() if place[0] in kinds)
            mark = {"apiVersion": group.partition("/")[2], "kind": GROUPS[group][place[0]], "metadata": metadata}
            yield {"type": "BOOKMARK", "object": mark}

    def _get(self, resource: str, namespace: str, name: str, query: dict[str, str]) -> tuple[int, Object]:
        if not name:
            items = self._select(resource, namespace, query)
            kind = next(group[resource] for group in GROUPS.values() if resource in group)
            return 200, {
                "kind": f"{kind}List",
                "apiVersion": "v1",
                "metadata": {"resourceVersion": "1"},
                "items": items,
            }
        found = self.objects.get((resource, namespace, name))
        return (200, found) if found else _refuse(404, "NotFound", f'{resource} "{name}" not found')

    def _select(self, resource: str, namespace: str, query: dict[str, str]) -> list[Object]:
        labels = dict(each.split("=", 1) for each in query.get("labelSelector", "").split(",") if each)
        names = dict(each.split("=", 1) for each in query.get("fieldSelector", "").split(",") if each)
        return [
            thing
            for thing in self.all(resource, namespace)
            if labels.items() <= thing["metadata"].get("labels", {}).items()
            and names.get("metadata.name", thing["metadata"]["name"]) == thing["metadata"]["name"]
        ]

    def _patch(self, name: str, operations: list[Object]) -> tuple[int, Object]:
        node = self.objects["nodes", "", name]
        capacity = dict(node["status"]["capacity"])
        for operation in operations:
            match = re.fullmatch("/status/capacity/(.+)", operation["path"])
            if match is None:
                return _refuse(422, "Invalid", f"path {operation['path']}")
            key = match[1].replace("~1", "/")
            if operation["op"] == "remove" and key in capacity:
                del capacity[key]
            elif operation["op"] == "add":
                capacity[key] = operation["value"]
            else:
                return _refuse(422, "Invalid", f"cannot {operation['op']} {key}")
        return 200, self.put("nodes", "", {**node, "status": _capacity(capacity)})

    def _delete(self, resource: str, namespace: str, name: str) -> tuple[int, Object]:
        gone = self.objects.pop((resource, namespace, name), None)
        if gone is None:
            return _refuse(404, "NotFound", f'{resource} "{name}" not found')
        if resource == "namespaces":
            for key in [key for key in self.objects if key[1] == name]:
                del self.objects[key]
        return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}


def _locate(path: str) -> tuple[str, str, str, str] | None:
    """Resource, namespace, name and subresource of a path; None where the group or the resource is not served."""
    for group, resources in GROUPS.items():
        parts = path.removeprefix(f"{group}/").split("/")
        if not path.startswith(f"{group}/"):
            continue
        namespace = ""
        if parts[0] == "namespaces" and len(parts) > 2:
            namespace, parts = parts[1], parts[2:]
        if parts[0] in resources and len(parts) <= 3:
            resource, name, part = [*parts, "", ""][:3]
            return resource, namespace, name, part
    return None


def _openapi(group: str) -> Object:
    """Of a group's description, what kubectl looks for: whether PATCH knows the parameter fieldValidation."""
    name, _, version = group.partition("/")[2].rpartition("/")
    parameters = [{"name": "fieldValidation", "in": "query"}]
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.34.0"},
        "components": {"schemas": {}},
        "paths": {
            f"/{group}/{resource}/{{name}}": {
                "patch": {
                    "parameters": parameters,
                    "responses": {},
                    "x-kubernetes-action": "patch",
                    "x-kubernetes-group-version-kind": {"group": name, "version": version, "kind": kind},
                }
            }
            for resource, kind in GROUPS[group].items()
        },
    }


def _message(content: bytes) -> dict[int, list[bytes]]:
    """The fields of a message of protobuf that are texts or messages, by number; numbers are passed over."""
    fields: dict[int, list[bytes]] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            value |= (content[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if content[at - 1] < 0x80:
                return value

    while at < len(content):
        field, kind = divmod(number(), 8)
        size = number()
        if kind == 2:
            fields.setdefault(field, []).append(content[at : at + size])
            at += size
        elif kind != 0:
            raise ValueError(f"field {field} is of kind {kind}")
    return fields


def _unwrap(body: bytes) -> dict[int, list[bytes]]:
    """What kubectl sends to create something: four bytes, and a message in a message."""
    if body[:4] != b"k8s\0":
        raise ValueError("not in Kubernetes' protobuf")
    return _message(_message(body[4:])[2][0])


def _secret(body: bytes) -> Object:
    """Metadata is field 1, with the name as its 1; data are field 2, pairs of key and value."""
    fields = _unwrap(body)
    pairs = [_message(pair) for pair in fields[2]]
    data = {pair[1][0].decode(): base64.b64encode(pair[2][0]).decode() for pair in pairs}
    return {"metadata": {"name": _message(fields[1][0])[1][0].decode()}, "data": data}


def _audiences(body: bytes) -> list[str]:
    return [each.decode() for each in _message(_unwrap(body)[2][0])[1]]


def _capacity(values: dict[str, str]) -> Object:
    # A kubelet makes allocatable what is in its capacity.
    return {"capacity": values, "allocatable": dict(values)}


def _rolled_out(workload: Object, ready: bool) -> Object:
    wanted = workload["spec"].get("replicas", 1)
    count = wanted if ready else 0
    counts = dict.fromkeys(("readyReplicas", "availableReplicas", "updatedReplicas", "currentReplicas"), count)
    revisions = {"currentRevision": "1", "updateRevision": "1"} if workload["kind"] == "StatefulSet" else {}
    return {"observedGeneration": 1, "replicas": wanted, **counts, **revisions}


def _refuse(status: int, reason: str, message: str) -> tuple[int, Object]:
    failure = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
    return status, {**failure, "reason": reason, "message": message, "code": status}


def _handler(server: KubernetesServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            query, path = dict(parse_qsl(parts.query, keep_blank_values=True)), parts.path.strip("/")
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if query.get("watch") in ("true", "1"):
                self._watch(path, query)
                return
            kind = (self.headers.get("content-type") or "").partition(";")[0]
            status, answer = server.answer(self.command, path, query, kind, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _watch(self, path: str, query: dict[str, str]) -> None:
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            for event in server.watch(path, query):
                self.wfile.write(json.dumps(event).encode() + b"\n")
            self.wfile.flush()
            # kubectl hangs up when it has seen enough.
            self.rfile.read(1)

        def __getattr__(self, name: str) -> Any:
            """All of do_GET, do_POST, do_PATCH and do_DELETE."""
            if name.startswith("do_"):
                return self._serve
            raise AttributeError(name)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing: the test looks at `writes`."""

    return Handler
