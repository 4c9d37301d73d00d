"""Copies on nodes where workers are started instead of joining: a worker for each, where what it takes is free."""

import math

from protos.contract.models.model_name import quantization_in
from protos.contract.models.quantization import canonical
from protos.contract.worker import ModelInstance
from router.fleet.desired.values import DesiredModel, Source
from router.fleet.node_runner import RayNode, WorkerSpec
from router.fleet.planning.board import Board
from router.fleet.planning.memory import needs_bytes
from router.fleet.planning.ray_nodes import hardware_of, why_not_on
from router.fleet.planning.steps import StartWorker
from router.fleet.planning.ways import order_of, wanted_quantization

DEFAULT_ENGINE = "vllm"
"""Where a model names none: nodes with GPUs of their own are what it is for."""


def start_somewhere(board: Board, model: DesiredModel, *, why: str) -> dict[str, str]:
    """One step on the best node; else the reason of each, empty where there are no such nodes."""
    reasons: dict[str, str] = {}
    source = next((one for one in model.sources if one.path or one.repo), None)
    for node in sorted(board.observed.ray_nodes, key=lambda one: (one.free_gpus, one.node_id)):
        why_not = (
            "its model names no path to start a worker with" if source is None else _why_not(board, model, source, node)
        )
        if why_not or source is None:
            reasons[node.name] = why_not
            continue
        board.start(StartWorker(spec=_spec(board, model, source, node), why=why))
        return {}
    return reasons


def _why_not(board: Board, model: DesiredModel, source: Source, node: RayNode) -> str:
    if why_not := why_not_on(model, node):
        return why_not
    gpus = gpus_of(model)
    if node.free_gpus < gpus:
        return f"has {node.free_gpus} of {node.gpus} GPUs free, {gpus} are needed"
    if not board.free_ray_node(node.node_id):
        return "later: it starts something else"
    quantization = _quantization(source)
    if not wanted_quantization(model, quantization):
        return f"{quantization or 'a file of unknown quantization'} is not wanted"
    needs, usable = _needs(model, source, node), float(node.memory_bytes * max(1, gpus)) or math.inf
    if math.isfinite(needs) and needs > usable:
        return f"{quantization} needs {needs / 2**30:.2f} GiB of {usable / 2**30:.2f}"
    return ""


def gpus_of(model: DesiredModel) -> int:
    """That one worker of it takes: none where its engine computes on processors, or nowhere."""
    return (
        model.tensor_parallel if (model.engine or DEFAULT_ENGINE) == "vllm" and "cpu" not in model.where.lower() else 0
    )


def _needs(model: DesiredModel, source: Source, node: RayNode) -> float:
    """By its name alone: nothing is told of files on such nodes before a worker reads them."""
    return needs_bytes(
        [ModelInstance(model=model.name, quantization="")],
        _quantization(source),
        context_tokens=model.context,
        slots=model.slots,
        hardware=hardware_of(node),
        engine=model.engine or DEFAULT_ENGINE,
    )


def _quantization(source: Source) -> str:
    return canonical(source.quantization or quantization_in(source.path or source.file))


def _spec(board: Board, model: DesiredModel, source: Source, node: RayNode) -> WorkerSpec:
    quantization, path = _quantization(source), source.path or f"{source.repo}/{source.file}"
    return WorkerSpec(
        name=board.free_worker_name(f"{model.name}@{quantization}"),
        node_id=node.node_id,
        engine=model.engine or DEFAULT_ENGINE,
        model=model.name,
        quantization=quantization,
        path=path,
        context_tokens=model.context,
        slots=model.slots,
        gpus=gpus_of(model),
        labels=model.labels,
        order=order_of(model, path),
    )
