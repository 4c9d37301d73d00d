"""Fleets as the planner sees them, small enough to be read."""

from collections.abc import Iterable, Mapping
from typing import Any

from protos.contract.ids import WorkerId
from protos.contract.worker import Hardware, InstanceState, ModelInstance
from router.fleet.desired.values import Copies, DesiredModel, DesiredState, Rules
from router.fleet.planning.memory import needs_bytes
from router.fleet.planning.observed import Copy, Demand, Node, Observed
from router.fleet.planning.ways import order_of

GIB = 2**30
CPU = Hardware(kind="cpu", name="AMD EPYC", memory_bytes=64 * GIB, usable_memory_bytes=64 * GIB)
CONTEXT, SLOTS = 2048, 2


def file_of(model: str, quantization: str = "q8_0", gib: float = 1.0) -> ModelInstance:
    """A model file as its header tells."""
    bits = {"q8_0": 8.5, "q4_k_m": 4.85, "fp16": 16.0}[quantization]
    return ModelInstance(
        model=model, quantization=quantization, format="gguf", weights_bytes=int(gib * GIB),
        parameters=int(gib * GIB * 8 / bits), layers=16, kv_heads=4, head_dim_k=64, head_dim_v=64,
        context_tokens=8192, file=f"{model}-{quantization}.gguf", state=InstanceState.UNLOADED,
    )  # fmt: skip


def wanted(name: str, least: int = 1, most: int | None = None, **more: Any) -> DesiredModel:
    """One model of a state."""
    copies = Copies(min=least, max=max(1, least) if most is None else most)
    return DesiredModel(name=name, copies=copies, context=CONTEXT, slots=SLOTS, **more)


def state_of(*models: DesiredModel, **rules: float) -> DesiredState:
    """What is wanted."""
    return DesiredState(models=models, rules=Rules(**rules))


def takes(file: ModelInstance, hardware: Hardware = CPU) -> float:
    """Bytes that a file takes once it is loaded as ``wanted`` says."""
    return needs_bytes(
        [file], file.quantization, context_tokens=CONTEXT, slots=SLOTS, hardware=hardware, engine="llama.cpp"
    )


def copy_of(file: ModelInstance, *, model: DesiredModel | None = None, state: str = "ready", **more: Any) -> Copy:
    """Loaded as ``wanted`` says; ``model`` None: its owner chose it."""
    order = "" if model is None else order_of(model, file.file)
    facts = {name: getattr(file, name) for name in file.__dataclass_fields__}
    instance = ModelInstance(**{**facts, "state": InstanceState(state), "ordered": order})
    return Copy(instance=instance, needs_bytes=takes(file), **{"resident_s": 1e4, "unused_s": 0.0, **more})


def node_of(name: str, files: Iterable[ModelInstance] = (), copies: Iterable[Copy] = (), **more: Any) -> Node:
    """A machine that takes models."""
    given = {"takes_models": True, "engine": "llama.cpp", "hardware": CPU, "usable_bytes": 64.0 * GIB, **more}
    return Node(worker_id=WorkerId(name), node=name, files=tuple(files), copies=tuple(copies), **given)


def observed(*nodes: Node, demand: Mapping[str, tuple[int, float]] | None = None, **more: Any) -> Observed:
    """The fleet. ``demand``: how many wait for a model, and since how many seconds."""
    waiting = {name: Demand(waiting=count, oldest_s=age) for name, (count, age) in (demand or {}).items()}
    return Observed(nodes=nodes, demand=waiting, **more)
