"""What a model takes on a worker, and what the worker has, by ``router.capacity``."""

import math
from collections.abc import Sequence

from protos.contract.models.kv_cache import kv_cache_bytes
from protos.contract.models.quantization import BY_NAME, canonical
from protos.contract.worker import Hardware, ModelInstance
from router.capacity.engines import ENGINES
from router.capacity.fit import Plan, memory
from router.capacity.machines import machine_of
from router.capacity.recommendations import shape_of


def usable_bytes(hardware: Hardware, engine: str, limit_bytes: int) -> float:
    """That all models of one worker may take together. Infinite where neither hardware nor owner says."""
    runs = ENGINES.get(engine)
    machine = machine_of(hardware)
    usable = runs.usable_bytes(machine) if runs is not None else float(machine.hardware.usable_memory_bytes)
    return min(usable or math.inf, float(limit_bytes) or math.inf)


def needs_bytes(
    facts: Sequence[ModelInstance],
    quantization: str,
    *,
    context_tokens: int,
    slots: int,
    hardware: Hardware,
    engine: str,
) -> float:
    """Of one model with so many sequences of such a context. ``facts``: what is known of it, the nearest first.

    Infinite where too little is known: then it fits only where nothing is counted.
    """
    shape, fmt = shape_of(tuple(facts)), BY_NAME.get(canonical(quantization))
    if shape is None or fmt is None:
        return math.inf
    runs = ENGINES.get(engine)
    plan = Plan(context_tokens=min(context_tokens, shape.context_tokens or context_tokens), batch=slots)
    if runs is None:
        stored = float(shape.weights_bytes) or shape.parameters * fmt.bits_per_weight / 8
        return stored + kv_cache_bytes(shape, plan.context_tokens, sequences=slots)
    return memory(shape, fmt, plan, runs, machine_of(hardware)).needed_bytes
