"""Rules for traffic: every selector matches something, and what no policy allows is denied."""

from collections.abc import Iterator, Mapping

from infra.check.manifests import Manifest, containers, templates, title

# Pods that KFP starts, and pods outside the namespace, by the namespace's name or label. Policies may name these.
RUN_PODS = {"pipelines.kubeflow.org/v2_component": "true"}
OUTSIDE: Mapping[tuple[str, str], tuple[Mapping[str, str], ...]] = {
    ("kubernetes.io/metadata.name", "kube-system"): ({"k8s-app": "kube-dns"},),
    ("kubernetes.io/metadata.name", "kubeflow"): (
        {"app": "ml-pipeline"},
        {"app": "ml-pipeline-ui"},
        {"component": "metadata-grpc-server"},
    ),
    ("darkroom.io/gateway", "true"): ({},),
}


def services_find_pods(objects: list[Manifest]) -> Iterator[str]:
    """A Service's selector matches a workload that has its target ports; so does a disruption budget's."""
    for manifest in objects:
        if manifest["kind"] == "Service":
            selected = _selected(objects, manifest["metadata"]["namespace"], manifest["spec"]["selector"])
            if not selected:
                yield f"{title(manifest)}: its selector matches no workload"
            ports = {value for pod in selected for value in _ports(pod)}
            for port in manifest["spec"]["ports"] if selected else []:
                if port.get("targetPort", port["port"]) not in ports:
                    yield f"{title(manifest)}: no container has the port {port.get('targetPort', port['port'])}"
        if manifest["kind"] == "PodDisruptionBudget":
            labels = manifest["spec"]["selector"]["matchLabels"]
            if not _selected(objects, manifest["metadata"]["namespace"], labels):
                yield f"{title(manifest)}: its selector matches no workload"


def policies_match(objects: list[Manifest]) -> Iterator[str]:
    """Each selector of a policy matches a workload, a run's pods or a listed pod outside; the default is to deny."""
    policies = [manifest for manifest in objects if manifest["kind"] == "NetworkPolicy"]
    for namespace in sorted({owner["metadata"]["namespace"] for owner, _ in templates(objects)}):
        own = [policy["spec"] for policy in policies if policy["metadata"]["namespace"] == namespace]
        if not any(_denies_all(spec) for spec in own):
            yield f"namespace {namespace}: no NetworkPolicy denies everything by default"
    for policy in policies:
        namespace, spec = policy["metadata"]["namespace"], policy["spec"]
        if not _matches_pod(objects, namespace, spec["podSelector"]):
            yield f"{title(policy)}: podSelector matches no pod"
        peers = [peer for rule in spec.get("ingress", []) for peer in rule.get("from", [])]
        peers += [peer for rule in spec.get("egress", []) for peer in rule.get("to", [])]
        for peer in peers:
            if "ipBlock" in peer:
                continue
            if "namespaceSelector" not in peer:
                found = _matches_pod(objects, namespace, peer["podSelector"])
            else:
                found = _matches_outside(peer["namespaceSelector"], peer.get("podSelector", {}))
            if not found:
                yield f"{title(policy)}: a peer matches no pod: {peer}"
        for direction, field in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(direction, []):
                if not rule.get(field) or not rule.get("ports"):
                    yield f"{title(policy)}: an {direction} rule must name peers and ports"


def _ports(pod: Manifest) -> Iterator[int | str]:
    for container in containers(pod):
        for port in container.get("ports", []):
            yield port["containerPort"]
            if "name" in port:
                yield port["name"]


def _selected(objects: list[Manifest], namespace: str, labels: Mapping[str, str]) -> list[Manifest]:
    return [
        template["spec"]
        for owner, template in templates(objects)
        if owner["metadata"]["namespace"] == namespace
        and labels.items() <= template["metadata"].get("labels", {}).items()
    ]


def _denies_all(spec: Manifest) -> bool:
    both = set(spec.get("policyTypes", [])) == {"Ingress", "Egress"}
    return spec["podSelector"] == {} and both and not spec.get("ingress") and not spec.get("egress")


def _matches_pod(objects: list[Manifest], namespace: str, selector: Manifest) -> bool:
    pods = [
        template["metadata"].get("labels", {})
        for owner, template in templates(objects)
        if owner["metadata"]["namespace"] == namespace
    ]
    return _all_values_match(selector, [*pods, RUN_PODS])


def _matches_outside(namespace: Manifest, pod: Manifest) -> bool:
    known = OUTSIDE.get(next(iter(namespace.get("matchLabels", {}).items()), ("", "")))
    return known is not None and _all_values_match(pod, list(known))


def _all_values_match(selector: Manifest, pods: list[Mapping[str, str]]) -> bool:
    """Whether some pod has the labels, and each value of an `In` expression some pod that has it."""
    labels = selector.get("matchLabels", {})
    if not any(labels.items() <= pod.items() for pod in pods):
        return False
    expressions = selector.get("matchExpressions", [])
    return all(
        each["operator"] == "In" and all(any(pod.get(each["key"]) == value for pod in pods) for value in each["values"])
        for each in expressions
    )
