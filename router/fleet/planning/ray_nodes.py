"""Whether a node on which workers are started is one for a model: what it is, not what is free on it."""

from protos.contract.worker import Hardware
from router.fleet.desired.values import DesiredModel
from router.fleet.desired.wishes import parse_wish
from router.fleet.node_runner import RayNode


def why_not_on(model: DesiredModel, node: RayNode) -> str:
    """One line; empty: it is one. What serves there goes elsewhere as soon as there is a reason."""
    if node.draining:
        return "is being drained"
    lacking = [f"{key}={value}" for key, value in model.labels.items() if node.labels.get(key) != value]
    if lacking:
        return f"lacks the label {', '.join(lacking)}"
    if unmet := parse_wish(model.where).unmet(hardware_of(node)):
        return f"is not what is wished for: {unmet}"
    return ""


def hardware_of(node: RayNode) -> Hardware:
    """As far as the cluster tells."""
    memory = node.memory_bytes * max(1, node.gpus)
    kind = "nvidia" if node.gpus else "cpu"
    return Hardware(kind=kind, name=node.hardware or node.name, count=max(1, node.gpus), memory_bytes=memory)
