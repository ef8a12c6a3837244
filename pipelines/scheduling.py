"""Which nodes can take a task's pod, by the rules of Kubernetes' scheduler, and in words why none can."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from pipelines.package import Document, Task
from pipelines.resources import parse_quantity


@dataclass(frozen=True)
class Taint:
    """What keeps pods from a node that do not tolerate it."""

    key: str
    effect: str
    value: str = ""

    def __str__(self) -> str:
        """As kubectl writes it."""
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


@dataclass(frozen=True)
class Node:
    """A node as the scheduler sees it; `allocatable` holds quantities as written."""

    name: str
    allocatable: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Taint] = ()


def demands(task: Task) -> dict[str, str]:
    """What a node must have free for the task: its requests and, where it names only a limit, that."""
    wanted = {
        "cpu": task.cpu_request or task.cpu_limit,
        "memory": task.memory_request or task.memory_limit,
        task.accelerator: task.accelerator_count,
    }
    return {resource: amount for resource, amount in wanted.items() if resource and amount}


def misfits(task: Task, nodes: Sequence[Node]) -> list[str]:
    """Why no node can take the task, each reason with its rule and value; nothing when one can."""
    labelled = [node for node in nodes if _has_labels(task, node)]
    if not labelled:
        return [f"must run on a node with {_wanted_labels(task)}, which none of {len(nodes)} nodes has"]
    open_to_it = [node for node in labelled if not _untolerated(task, node)]
    if not open_to_it:
        taints = ", ".join(sorted({str(taint) for node in labelled for taint in _untolerated(task, node)}))
        return [f"must tolerate the taints of a node that it may run on, got no toleration of {taints}"]
    return shortfalls(task, open_to_it)


def shortfalls(task: Task, nodes: Sequence[Node]) -> list[str]:
    """What the task asks for beyond what these nodes have."""
    wanted = demands(task)
    reasons = []
    for resource, amount in wanted.items():
        largest = max(nodes, key=lambda node: _has(node, resource))
        if parse_quantity(amount) > _has(largest, resource):
            has = largest.allocatable.get(resource, "0")
            reasons.append(f"{resource} request must not be above the {has} of {largest.name}, got {amount}")
    if reasons or any(all(parse_quantity(wanted[each]) <= _has(node, each) for each in wanted) for node in nodes):
        return reasons
    together = ", ".join(f"{resource} {amount}" for resource, amount in wanted.items())
    return [f"must find all it asks for on one node, got {together}, which no node has together"]


def _has(node: Node, resource: str) -> Decimal:
    return parse_quantity(node.allocatable.get(resource, "0"))


def _has_labels(task: Task, node: Node) -> bool:
    if any(node.labels.get(label) != value for label, value in task.node_selector.items()):
        return False
    return not task.node_affinity or any(_meets(term, node) for term in task.node_affinity)


def _meets(term: Document, node: Node) -> bool:
    names = {"metadata.name": node.name}
    return all(_holds(each, node.labels) for each in term.get("matchExpressions", ())) and all(
        _holds(each, names) for each in term.get("matchFields", ())
    )


def _holds(requirement: Document, labels: Mapping[str, str]) -> bool:
    values: list[str] = requirement.get("values", [])
    value = labels.get(requirement["key"])
    operator = str(requirement["operator"])
    if operator in ("Exists", "DoesNotExist"):
        return (value is not None) == (operator == "Exists")
    if operator in ("In", "NotIn"):
        return (value in values) == (operator == "In")
    if value is None or not value.isdigit():
        return False
    return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])


def _wanted_labels(task: Task) -> str:
    selected = [f"{label}={value}" for label, value in task.node_selector.items()]
    terms = [
        " and ".join(_in_words(each) for each in (*term.get("matchExpressions", ()), *term.get("matchFields", ())))
        for term in task.node_affinity
    ]
    return " and ".join([*selected, " or ".join(terms)] if terms else selected) or "any labels"


def _in_words(requirement: Document) -> str:
    values = ", ".join(requirement.get("values", []))
    return f"{requirement['key']} {requirement['operator']}{f' ({values})' if values else ''}"


def _untolerated(task: Task, node: Node) -> list[Taint]:
    """A node's taints that keep the task away; `PreferNoSchedule` only advises against it."""
    return [
        taint
        for taint in node.taints
        if taint.effect != "PreferNoSchedule" and not any(_tolerates(each, taint) for each in task.tolerations)
    ]


def _tolerates(toleration: Document, taint: Taint) -> bool:
    if toleration.get("effect", "") not in ("", taint.effect):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key", "") in ("", taint.key)
    return (toleration.get("key", ""), toleration.get("value", "")) == (taint.key, taint.value)
